//! The same bytes in other pieces make no difference.

use std::time::Duration;

use redis_sentinel_tests::host::Process;

use crate::site::{NAME, Plan, REPLICA, Site};

/// Everything that a planned failover shows: what the Sentinels are asked, what is logged, what becomes of clients.
fn failover(site: &Site) -> (Vec<Vec<String>>, Vec<String>, Vec<String>) {
    let clients: Vec<_> = (0..4).map(|i| site.client(i % 2)).collect();
    clients
        .iter()
        .for_each(|c| c.send(b"SET some value\r\nGET some\r\n"));
    site.process.advance_ms(1_000);
    site.publish_selected(0);
    site.process.advance_ms(100);
    clients.iter().for_each(|c| c.send(b"INCR fenced\r\n"));
    let newcomer = site.client(0);
    site.publish_promoted(0);
    site.process.advance_ms(100);
    site.publish_switch(1);
    site.publish_switch(2);
    site.process.advance_ms(3_000);
    assert_eq!(
        newcomer.upstream().as_deref(),
        Some(REPLICA),
        "{}",
        site.story()
    );
    let outcome = |c: &redis_sentinel_tests::host::Conn| {
        format!(
            "{:?} {:?} {}",
            c.closed(),
            c.dials().last().map(|d| d.address.clone()),
            String::from_utf8_lossy(&c.forwarded())
        )
    };
    let asked = site.sentinels.iter().map(|s| {
        let mut commands = s.state().commands.clone();
        commands.dedup();
        commands
    });
    let log = site.process.log().into_iter().map(|l| l.text).collect();
    (asked.collect(), log, clients.iter().map(outcome).collect())
}

fn run(prepare: impl FnOnce(&Process)) -> (Vec<Vec<String>>, Vec<String>, Vec<String>) {
    let mut site = Plan::default().build();
    prepare(&site.process);
    site.watch();
    site.settle();
    assert!(site.heartbeats.iter().all(|h| h.stray().is_empty()));
    failover(&site)
}

#[test]
fn a_failover_is_the_same_in_any_chunking() {
    let whole = run(|_| ());
    for seed in 1..=40 {
        let pieces = run(|p| p.chunk(seed));
        assert_eq!(pieces, whole, "seed {seed}");
    }
}

#[test]
fn clients_bytes_arrive_in_order_in_any_chunking() {
    let sent: Vec<u8> = (0..20_000_u32).map(|i| (i * 31 % 253) as u8).collect();
    for seed in 1..=10 {
        let site = Plan::default().settled();
        site.process.chunk(seed);
        let client = site.client(0);
        for (i, part) in sent.chunks(1_500).enumerate() {
            if i % 4 == 1 {
                site.publish_selected(i % 3);
                site.process.advance(Duration::from_millis(1));
            }
            client.send(part);
            client.upstream_send(part);
            if i % 4 == 3 {
                let payload = format!("master {NAME} 10.0.1.1 6379");
                site.sentinels.iter().for_each(|s| {
                    s.publish(&site.process, "-failover-abort-no-good-slave", &payload)
                });
                site.process.advance(Duration::from_millis(1));
            }
        }
        site.process.advance_ms(5_000);
        assert!(
            client.forwarded() == sent && client.received() == sent,
            "seed {seed}: {}",
            site.story()
        );
    }
}
