//! Between the choice of the replica and its promotion: clients' bytes wait, none is lost, none overtakes another.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Peer};
use serde_json::json;

use crate::site::{MASTER, NAME, Plan, REPLICA, Site};

/// Numbered commands, a few at a time: what arrives shows what was lost or reordered.
struct Writer {
    conn: Conn,
    sent: Vec<u8>,
    next: u32,
}

impl Writer {
    fn new(site: &Site, worker: usize) -> Self {
        Self {
            conn: site.client(worker),
            sent: Vec::new(),
            next: 0,
        }
    }

    fn write(&mut self, commands: u32) {
        for _ in 0..commands {
            self.next += 1;
            let command = format!("APPEND log {}\r\n", self.next);
            self.conn.send(command.as_bytes());
            self.sent.extend(command.bytes());
        }
    }
}

fn fenced(site: &Site) -> Vec<Writer> {
    let mut writers: Vec<_> = (0..4)
        .map(|i| Writer::new(site, i % site.sides.len()))
        .collect();
    writers.iter_mut().for_each(|w| w.write(3));
    site.publish_selected(1);
    site.process.advance_ms(1);
    for writer in &mut writers {
        assert_eq!(writer.conn.forwarded(), writer.sent);
        let before = writer.sent.clone();
        writer.write(5);
        assert_eq!(writer.conn.forwarded(), before, "fenced: {}", site.story());
        assert!(writer.conn.paused());
    }
    writers
}

#[test]
fn replies_still_arrive_while_requests_wait() {
    let site = Plan::default().settled();
    let writers = fenced(&site);
    writers[0].conn.upstream_send(b":1\r\n:2\r\n");
    assert_eq!(writers[0].conn.received(), b":1\r\n:2\r\n");
}

#[test]
fn a_switch_ends_it_and_no_fenced_byte_reaches_the_old_master() {
    let site = Plan::default().settled();
    let writers = fenced(&site);
    let newcomer = site.client(0);
    assert!(newcomer.held());
    let at_the_fence: Vec<_> = writers.iter().map(|w| w.conn.forwarded()).collect();
    site.process.advance_ms(900);
    site.publish_promoted(1);
    site.process.advance_ms(2);
    for (writer, before) in writers.iter().zip(at_the_fence) {
        assert_eq!(writer.conn.closed(), Some(Peer::Local), "{}", site.story());
        assert_eq!(writer.conn.forwarded(), before);
        assert_eq!(writer.conn.close_calls(), (1, 1));
    }
    assert_eq!(
        newcomer.upstream().as_deref(),
        Some(REPLICA),
        "{}",
        site.story()
    );
}

#[test]
fn an_abort_ends_it_without_loss() {
    let site = Plan::default().settled();
    let mut writers = fenced(&site);
    let newcomer = site.client(1);
    site.publish_aborted(1);
    site.process.advance_ms(2);
    for writer in &mut writers {
        assert_eq!(writer.conn.forwarded(), writer.sent, "{}", site.story());
        writer.write(2);
        assert_eq!(writer.conn.forwarded(), writer.sent);
        assert!(writer.conn.closed().is_none());
    }
    assert_eq!(
        newcomer.upstream().as_deref(),
        Some(MASTER),
        "{}",
        site.story()
    );
}

#[test]
fn its_bound_ends_it_without_loss() {
    let site = Plan::default().settled();
    let mut writers = fenced(&site);
    // The leader stays in the middle of its failover and says nothing more.
    site.process.advance_ms(2_900);
    assert!(writers.iter().all(|w| w.conn.paused()), "{}", site.story());
    site.process.advance_ms(200);
    for writer in &mut writers {
        assert_eq!(writer.conn.forwarded(), writer.sent, "{}", site.story());
        writer.write(2);
        assert_eq!(
            writer.conn.forwarded(),
            writer.sent,
            "not fenced again by the same failover: {}",
            site.story()
        );
    }
    site.process.advance_ms(10_000);
    assert!(writers.iter().all(|w| !w.conn.paused()), "{}", site.story());
    assert_eq!(
        site.process.metric("redis_sentinel.mymaster.fences_total"),
        1,
        "{}",
        site.story()
    );
}

#[test]
fn a_second_failover_is_fenced_again() {
    let site = Plan::default().settled();
    fenced(&site);
    site.publish_promoted(1);
    site.publish_switch(0);
    site.publish_switch(2);
    site.publish_switch(1);
    site.process.advance_ms(3_000);
    let client = site.client(0);
    assert_eq!(client.upstream().as_deref(), Some(REPLICA));
    let payload = format!("slave {MASTER} 10.0.1.1 6379 @ {NAME} 10.0.1.2 6379");
    site.sentinels[0].change(NAME, |o| {
        "master,failover_in_progress".clone_into(&mut o.flags)
    });
    site.sentinels[0].publish(&site.process, "+selected-slave", &payload);
    site.process.advance_ms(2);
    client.send(b"INCR n\r\n");
    assert_eq!(client.forwarded(), b"", "{}", site.story());
    site.sentinels[0].change(NAME, |o| {
        MASTER.clone_into(&mut o.address);
        o.epoch += 1;
    });
    site.sentinels[0].publish(&site.process, "+promoted-slave", &payload);
    site.process.advance_ms(2);
    assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
    assert_eq!(site.client(1).upstream().as_deref(), Some(MASTER));
}

#[test]
fn without_events_the_polled_failover_state_fences() {
    let watch = json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered", "poll_interval": "0.05s" });
    let mut site = Plan {
        watch,
        ..Plan::default()
    }
    .build();
    site.sentinels
        .iter()
        .for_each(|s| s.edit().may_subscribe = false);
    site.watch();
    site.process.advance_ms(2_000);
    let client = site.client(0);
    site.sentinels[0].change(NAME, |o| {
        "master,failover_in_progress".clone_into(&mut o.flags);
        o.failover_state = Some("send_slaveof_noone".to_owned());
    });
    site.process.advance_ms(150);
    client.send(b"INCR n\r\n");
    assert_eq!(client.forwarded(), b"", "{}", site.story());
    site.sentinels[0].change(NAME, |o| {
        "master".clone_into(&mut o.flags);
        o.failover_state = None;
    });
    site.process.advance_ms(150);
    assert_eq!(client.forwarded(), b"INCR n\r\n", "{}", site.story());
}

#[test]
fn it_can_be_turned_off() {
    let watch = json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered", "fence_timeout": "0s" });
    let site = Plan {
        watch,
        ..Plan::default()
    }
    .settled();
    let client = site.client(0);
    site.publish_selected(0);
    site.process.advance_ms(2);
    client.send(b"INCR n\r\n");
    assert_eq!(client.forwarded(), b"INCR n\r\n", "{}", site.story());
}

/// Envoy keeps what is fenced up to its own buffer limit; the rest stays in the client's socket.
#[test]
fn what_is_kept_per_connection_is_bounded() {
    let site = Plan::default().settled();
    let client = site.client(0);
    site.publish_selected(0);
    site.process.advance_ms(1);
    let sent: Vec<u8> = (0..2_000_000_u32).map(|i| (i % 251) as u8).collect();
    sent.chunks(16_384).for_each(|chunk| client.send(chunk));
    assert!(
        client.buffered() <= 262_144 + 16_384,
        "{}",
        client.buffered()
    );
    site.publish_aborted(0);
    site.process.advance(Duration::from_millis(5));
    client.send(b"end");
    assert!(
        client.forwarded().starts_with(&sent) && client.forwarded().ends_with(b"end"),
        "{}",
        client.forwarded().len()
    );
}

/// The fence knows nothing of RESP: it may fall anywhere in a command.
#[test]
fn a_client_that_ends_its_direction_while_fenced_loses_nothing() {
    let site = Plan::default().settled();
    let client = site.client(0);
    client.send(b"SET k ");
    site.publish_selected(2);
    site.process.advance_ms(1);
    client.send(b"v\r\n");
    client.fin();
    assert!(
        !client.forwarded_fin(),
        "a FIN must not overtake the bytes before it"
    );
    site.publish_aborted(2);
    site.process.advance_ms(2);
    assert_eq!(client.forwarded(), b"SET k v\r\n", "{}", site.story());
    assert!(client.forwarded_fin());
}
