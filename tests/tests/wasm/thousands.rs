//! Thousands of connections of one worker at once. Envoy does what a callback asks for after it, each from within the callbacks
//! of the one before: the test host fails the VM where that would take more stack than there is.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Peer};
use serde_json::json;

use crate::site::{MASTER, NAME, Plan, REPLICA, Site};

const MANY: usize = 3_000;

fn clients(site: &Site) -> Vec<Conn> {
    (0..MANY).map(|_| site.client(0)).collect()
}

/// Each with a command on its way.
fn live(site: &Site) -> Vec<Conn> {
    let clients = clients(site);
    clients.iter().for_each(|client| client.send(b"INCR n\r\n"));
    clients
}

#[test]
fn all_live_ones_are_switched_and_say_nothing_more_to_the_old_master() {
    let site = Plan::default().settled();
    let clients = live(&site);
    site.publish_promoted(0);
    let a_moment = Duration::from_micros(10);
    let switched = || clients.iter().any(|client| client.closed().is_some());
    while !switched() {
        site.process.advance(a_moment);
    }
    // Whoever is not closed yet speaks.
    let open = |client: &&Conn| client.closed().is_none();
    while clients.iter().any(|client| open(&client)) {
        let speakers = clients.iter().filter(open).step_by(7);
        speakers.for_each(|client| client.send(b"INCR lost\r\n"));
        site.process.advance(a_moment);
    }
    site.process.advance_ms(20);
    for client in &clients {
        assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
        assert_eq!(client.close_calls(), (1, 1));
        assert_eq!(client.forwarded(), b"INCR n\r\n");
    }
    assert_eq!(site.client(0).upstream().as_deref(), Some(REPLICA));
    let closed = "redis_sentinel.mymaster.connections_closed_by_switch_total";
    assert_eq!(site.process.metric(closed), MANY as u64);
}

#[test]
fn all_fenced_ones_go_on() {
    let site = Plan::default().settled();
    let clients = live(&site);
    site.publish_selected(1);
    site.process.advance_ms(1);
    clients.iter().for_each(|client| client.send(b"INCR m\r\n"));
    assert!(
        clients
            .iter()
            .all(|client| client.forwarded() == b"INCR n\r\n")
    );
    site.publish_aborted(1);
    site.process.advance_ms(20);
    for client in &clients {
        assert_eq!(
            client.forwarded(),
            b"INCR n\r\nINCR m\r\n",
            "{}",
            site.story()
        );
        assert_eq!(client.closed(), None);
    }
}

#[test]
fn all_held_ones_are_led_on_or_told() {
    for is_known in [true, false] {
        let mut site = Plan {
            router: json!({ "master_name": NAME, "hold_timeout": "5s", "masterdown_cluster": "masterdown" }),
            ..Plan::default()
        }
        .build();
        let clients = clients(&site);
        assert!(clients.iter().all(|client| client.upstream().is_none()));
        if is_known {
            site.watch();
        }
        site.process.advance_ms(5_200);
        for client in &clients {
            if is_known {
                assert_eq!(
                    client.upstream().as_deref(),
                    Some(MASTER),
                    "{}",
                    site.story()
                );
            } else {
                assert_eq!(
                    client.filter_state(crate::site::CLUSTER).as_deref(),
                    Some("masterdown")
                );
            }
        }
    }
}
