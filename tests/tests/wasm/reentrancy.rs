//! Envoy's close can call the module back while the module still runs the callback that asked for it.

use redis_sentinel_tests::host::{CloseMode, Peer};
use serde_json::json;

use crate::site::{MASTER, NAME, Plan, REPLICA};

#[test]
fn a_switch_survives_closes_that_call_back_at_once() {
    let site = Plan::default().settled();
    site.process.close_mode(CloseMode::Inline);
    let clients: Vec<_> = (0..50).map(|i| site.client(i % 2)).collect();
    clients.iter().for_each(|c| c.send(b"PING\r\n"));
    site.publish_selected(0);
    site.process.advance_ms(1);
    let held: Vec<_> = (0..10).map(|i| site.client(i % 2)).collect();
    clients.iter().for_each(|c| c.send(b"PING\r\n"));
    site.publish_promoted(0);
    site.process.advance_ms(5);
    assert!(
        clients
            .iter()
            .all(|c| c.closed() == Some(Peer::Local) && c.close_calls() == (1, 1)),
        "{}",
        site.story()
    );
    assert!(
        held.iter()
            .all(|c| c.upstream().as_deref() == Some(REPLICA)),
        "{}",
        site.story()
    );
}

#[test]
fn refusals_survive_it() {
    let router = json!({ "master_name": NAME, "masterdown_cluster": "", "hold_timeout": "1s", "max_held_connections": 2 });
    let site = Plan {
        router,
        ..Plan::default()
    }
    .build();
    site.process.close_mode(CloseMode::Inline);
    let clients: Vec<_> = (0..5).map(|_| site.client(0)).collect();
    site.process.advance_ms(1_200);
    assert!(
        clients.iter().all(|c| c.closed() == Some(Peer::Local)),
        "{}",
        site.story()
    );
}

/// Sentinels that hang, talk nonsense and come back: every one of these ends is the module's own close.
#[test]
fn the_watch_survives_it() {
    let site = Plan::default().settled();
    site.process.close_mode(CloseMode::Inline);
    for round in 0..5 {
        let sentinel = &site.sentinels[round % 3];
        sentinel.edit().hung = true;
        site.process.advance_ms(2_500);
        sentinel.edit().hung = false;
        sentinel.send_raw(&site.process, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        site.process.advance_ms(2_500);
        sentinel.drop_connections(&site.process);
        site.process.advance_ms(2_500);
    }
    site.process.advance_ms(15_000);
    assert!(
        site.heartbeats.iter().all(|h| h.healthy()),
        "{}",
        site.story()
    );
    assert_eq!(site.client(0).upstream().as_deref(), Some(MASTER));
}

#[test]
fn more_heartbeats_than_anybody_needs_are_turned_away() {
    for mode in [CloseMode::Inline, CloseMode::Deferred] {
        let site = Plan::default().settled();
        site.process.close_mode(mode);
        let strangers: Vec<_> = (0..200)
            .map(|i| site.sides[0].watch.connect(&format!("@stranger-{i}")))
            .collect();
        site.process.advance_ms(100);
        let open = strangers.iter().filter(|c| c.closed().is_none()).count();
        assert!(open <= 64, "{mode:?}: {open} stay");
        drop(strangers);
        assert!(
            site.heartbeats.iter().all(|h| h.healthy()),
            "{mode:?}: {}",
            site.story()
        );
    }
}
