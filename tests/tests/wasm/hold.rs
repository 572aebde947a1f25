//! Connections that come before a master is known: held, led, bounded, refused.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Peer};
use serde_json::json;

use crate::site::{CLUSTER, LISTENER, MASTER, NAME, ORIGINAL_DST, Plan};

#[test]
fn the_first_connection_is_held_and_then_led_to_the_master() {
    let mut site = Plan::default().build();
    let client = site.client(1);
    client.send(b"SET k v\r\n");
    site.process.advance_ms(500);
    assert!(client.held());
    assert_eq!(client.dials(), []);

    site.watch();
    assert!(
        site.process
            .advance_until(Duration::from_millis(5), || client.upstream().is_some()),
        "{}",
        site.story()
    );
    assert_eq!(client.upstream().as_deref(), Some(MASTER));
    assert_eq!(client.forwarded(), b"SET k v\r\n");
    assert_eq!(client.dials().len(), 1, "dialed once");
    client.upstream_send(b"+OK\r\n");
    assert_eq!(client.received(), b"+OK\r\n");
}

/// The bytes that Envoy's protobuf decoder gets: 1 path, 2 value, 3 life span of the downstream connection.
#[test]
fn the_filter_state_is_this() {
    let site = Plan::default().settled();
    let client = site.client(0);
    let mut golden = b"\x0a\x33".to_vec();
    golden.extend(ORIGINAL_DST.bytes());
    golden.extend(b"\x12\x0d10.0.1.1:6379\x18\x02");
    assert_eq!(client.filter_state_calls(), [golden]);
    assert_eq!(
        client.filter_state(CLUSTER),
        None,
        "tcp_proxy's own cluster"
    );
}

/// A filter that lets one byte through while it holds has lost it: `tcp_proxy` has no upstream yet.
#[test]
fn nothing_falls_through_where_reads_begin_early() {
    let mut site = Plan::default().build();
    site.process.early_reads(true);
    let client = site.client(0);
    site.process.early_reads(false);
    for piece in [&b"SET "[..], b"k ", b"v\r\n"] {
        client.send(piece);
    }
    assert_eq!((client.fell_through(), client.buffered()), (0, 9));
    site.watch();
    site.settle();
    assert_eq!(client.forwarded(), b"SET k v\r\n");
}

#[test]
fn held_connections_are_bounded_in_number() {
    let plan = Plan {
        router: json!({ "master_name": NAME, "max_held_connections": 3 }),
        ..Plan::default()
    };
    let mut site = plan.build();
    let held: Vec<_> = (0..3).map(|_| site.client(0)).collect();
    let refused = site.client(0);
    assert!(held.iter().all(|c| c.held()));
    assert_eq!(refused.filter_state(CLUSTER).as_deref(), Some("masterdown"));
    refused.upstream_send(b"-MASTERDOWN no Redis master is known\r\n");
    let words = String::from_utf8(refused.received()).expect("text");
    assert!(
        words.starts_with("-MASTERDOWN 3 connections wait") && words.ends_with("\r\n"),
        "{words}"
    );
    assert_eq!(words.matches("\r\n").count(), 1);
    // A place that becomes free is used again.
    held[0].close();
    assert!(site.client(0).held());
    site.watch();
    site.settle();
    assert!(
        held[1..]
            .iter()
            .all(|c| c.upstream().as_deref() == Some(MASTER)),
        "{}",
        site.story()
    );
}

#[test]
fn held_connections_are_bounded_in_time() {
    let site = Plan::default().build();
    let client = site.client(0);
    client.send(b"GET k\r\n");
    site.process.advance_ms(9_900);
    assert!(client.held());
    site.process.advance_ms(200);
    let dials = client.dials();
    assert_eq!(
        (dials.len(), dials[0].cluster.as_str()),
        (1, "masterdown"),
        "{}",
        site.story()
    );
    client.upstream_send(b"-MASTERDOWN no Redis master is known\r\n");
    let words = String::from_utf8(client.received()).expect("text");
    assert!(
        words.starts_with("-MASTERDOWN ") && words.contains(NAME) && words.contains("10s"),
        "{words}"
    );
    client.upstream_fin();
    assert_eq!(
        site.process
            .metric("redis_sentinel.mymaster.reason=no_sentinel.connections_refused_total"),
        1
    );
}

#[test]
fn without_a_cluster_to_say_so_the_connection_is_closed() {
    let router = json!({ "master_name": NAME, "masterdown_cluster": "", "hold_timeout": "1s", "max_held_connections": 1 });
    let site = Plan {
        router,
        ..Plan::default()
    }
    .build();
    let (client, too_many) = (site.client(0), site.client(0));
    site.process.advance_ms(10);
    assert_eq!(too_many.closed(), Some(Peer::Local));
    site.process.advance_ms(1100);
    assert_eq!(client.closed(), Some(Peer::Local));
    assert_eq!(client.dials(), []);
}

#[test]
fn a_client_that_leaves_while_held_leaves_nothing() {
    let mut site = Plan::default().build();
    let gone = site.client(0);
    gone.close();
    site.watch();
    site.settle();
    assert_eq!(gone.dials(), []);
    assert_eq!(gone.close_calls(), (1, 1));
    assert_eq!(
        site.process
            .metric("redis_sentinel.mymaster.held_connections"),
        0
    );
}

#[test]
fn an_unknown_name_is_refused_with_that_reason() {
    let mut site = Plan {
        router: json!({ "master_name": NAME, "hold_timeout": "2s" }),
        ..Plan::default()
    }
    .build();
    site.sentinels.iter().for_each(|s| s.edit().masters.clear());
    site.watch();
    let client = site.client(0);
    site.process.advance_ms(2_100);
    client.upstream_send(b"-MASTERDOWN no Redis master is known\r\n");
    let words = String::from_utf8(client.received()).expect("text");
    assert!(
        words.starts_with("-MASTERDOWN the Sentinels answer"),
        "{words}"
    );
    let told = site.process.logged("does not monitor this name").len();
    site.process.advance_ms(10_000);
    assert_eq!(
        site.process.logged("does not monitor this name").len(),
        told,
        "once per Sentinel: {}",
        site.story()
    );
}

#[test]
fn addresses_that_lead_nowhere_are_never_dialed() {
    for address in ["0.0.0.0:6379", ":::6379", "10.0.1.1:0"] {
        let client = held_until_the_sentinels_name(address);
        let clusters: Vec<_> = client.dials().into_iter().map(|d| d.cluster).collect();
        assert_eq!(clusters, ["masterdown"], "{address}");
    }
}

#[test]
fn the_proxys_own_address_is_never_dialed() {
    let mut site = Plan::default().build();
    site.all(|o| LISTENER.clone_into(&mut o.address));
    site.watch();
    site.settle();
    let client = site.client(0);
    let clusters: Vec<_> = client.dials().into_iter().map(|d| d.cluster).collect();
    assert_eq!(clusters, ["masterdown"], "{}", site.story());
}

#[test]
fn the_proxys_own_address_is_not_dialed_by_held_connections_either() {
    let client = held_until_the_sentinels_name(LISTENER);
    let clusters: Vec<_> = client.dials().into_iter().map(|d| d.cluster).collect();
    assert_eq!(clusters, ["masterdown"]);
}

fn held_until_the_sentinels_name(address: &str) -> Conn {
    let router = json!({ "master_name": NAME, "hold_timeout": "1s" });
    let mut site = Plan {
        router,
        ..Plan::default()
    }
    .build();
    site.all(|o| address.clone_into(&mut o.address));
    let client = site.client(0);
    site.watch();
    site.process.advance_ms(1_500);
    client
}

#[test]
fn a_dial_that_never_succeeds_ends_in_words() {
    let site = Plan {
        router: json!({ "master_name": NAME, "hold_timeout": "2s" }),
        ..Plan::default()
    }
    .settled();
    site.process.silence(MASTER);
    let client = site.client(0);
    // The bound, the look at it (at least every 5 s), and the attempt under way.
    site.process.advance_ms(2_000 + 5_000 + 1_100);
    assert_eq!(
        client.dials().last().map(|d| d.cluster.as_str()),
        Some("masterdown"),
        "{}",
        site.story()
    );
    client.upstream_send(b"-MASTERDOWN no Redis master is known\r\n");
    let words = String::from_utf8(client.received()).expect("text");
    assert!(words.starts_with("-MASTERDOWN 10.0.1.1:6379"), "{words}");
}
