//! A new master: who is closed, who is led there, on every worker.

use std::time::Duration;

use redis_sentinel_tests::host::{Heartbeat, Opinion, Peer};
use serde_json::json;

use crate::site::{MASTER, NAME, OTHER_REPLICA, Plan, REPLICA, REPLICA_LISTENER};

#[test]
fn a_switch_closes_every_connection_of_every_worker_exactly_once() {
    let site = Plan {
        workers: 4,
        ..Plan::default()
    }
    .settled();
    let clients: Vec<_> = (0..100).map(|i| site.client(i % 4)).collect();
    clients.iter().for_each(|c| c.send(b"INCR n\r\n"));
    site.publish_promoted(0);
    site.process.advance_ms(2);
    for (i, client) in clients.iter().enumerate() {
        assert_eq!(
            client.closed(),
            Some(Peer::Local),
            "client {i} of worker {}: {}",
            i % 4,
            site.story()
        );
        assert_eq!(client.close_calls(), (1, 1));
    }
    for worker in 0..4 {
        assert_eq!(site.client(worker).upstream().as_deref(), Some(REPLICA));
    }
    let late: Vec<_> = (0..4).map(|worker| site.client(worker)).collect();
    site.publish_switch(1);
    site.publish_switch(2);
    site.publish_switch(0);
    site.process.advance_ms(10_000);
    assert!(
        late.iter().all(|c| c.closed().is_none()),
        "nothing is closed twice: {}",
        site.story()
    );
    assert_eq!(
        site.process
            .metric("redis_sentinel.mymaster.switches_total"),
        1
    );
    assert_eq!(
        site.process
            .metric("redis_sentinel.mymaster.connections_closed_by_switch_total"),
        100
    );
}

#[test]
fn a_switch_is_followed_by_polls_alone() {
    let mut site = Plan::default().build();
    site.sentinels
        .iter()
        .for_each(|s| s.edit().may_subscribe = false);
    site.watch();
    site.process.advance_ms(2_000);
    let client = site.client(1);
    assert_eq!(client.upstream().as_deref(), Some(MASTER));
    site.all(|o| {
        REPLICA.clone_into(&mut o.address);
        o.epoch = 2;
    });
    site.process.advance_ms(1_100);
    assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
    assert_eq!(site.client(0).upstream().as_deref(), Some(REPLICA));
}

#[test]
fn one_sentinel_that_lags_or_lies_changes_nothing() {
    let site = Plan::default().settled();
    let client = site.client(0);
    site.sentinels[2].change(NAME, |o| {
        OTHER_REPLICA.clone_into(&mut o.address);
        o.epoch = 0;
    });
    site.process.advance_ms(30_000);
    assert!(
        client.closed().is_none(),
        "a lower epoch never wins: {}",
        site.story()
    );
    site.sentinels[2].change(NAME, |o| o.epoch = 1);
    site.process.advance_ms(30_000);
    assert!(
        client.closed().is_none(),
        "the same epoch needs a majority: {}",
        site.story()
    );
}

#[test]
fn sentinels_rebuilt_from_scratch_are_followed_after_a_while() {
    let site = Plan::default().settled();
    site.publish_promoted(0);
    site.publish_switch(1);
    site.publish_switch(2);
    site.process.advance_ms(3_000);
    let client = site.client(0);
    assert_eq!(client.upstream().as_deref(), Some(REPLICA));
    site.all(|o| {
        OTHER_REPLICA.clone_into(&mut o.address);
        o.reported = None;
        o.epoch = 0;
    });
    site.process.advance_ms(3_000);
    assert!(client.closed().is_none(), "not at once: {}", site.story());
    site.process.advance_ms(7_000);
    assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
    assert_eq!(site.client(0).upstream().as_deref(), Some(OTHER_REPLICA));
    assert!(
        site.process.logged("LOWER").iter().all(|l| l.level == 3),
        "{}",
        site.story()
    );
}

/// The leader has promoted the replica and cannot tell the others. Sentinel's own rule is that the highest epoch wins.
#[test]
fn followers_that_lag_for_long_do_not_bring_the_old_master_back() {
    let site = Plan::default().settled();
    site.publish_selected(0);
    site.publish_promoted(0);
    site.process.advance_ms(10);
    let client = site.client(1);
    site.process.advance_ms(30_000);
    assert!(client.closed().is_none(), "{}", site.story());
    assert_eq!(client.upstream().as_deref(), Some(REPLICA));
}

#[test]
fn a_connection_that_still_dials_is_moved_not_closed() {
    let site = Plan::default().settled();
    site.process.refuse(MASTER);
    let client = site.client(0);
    client.send(b"SET k v\r\n");
    site.process.advance_ms(500);
    assert!(client.dialing());
    site.publish_promoted(0);
    site.process.advance_ms(300);
    assert_eq!(
        client.upstream().as_deref(),
        Some(REPLICA),
        "{}",
        site.story()
    );
    assert_eq!(client.forwarded(), b"SET k v\r\n");
    assert!(client.closed().is_none());
}

#[test]
fn a_master_that_is_down_holds_new_connections_until_the_switch() {
    let site = Plan::default().settled();
    site.all(|o| "master,s_down,o_down".clone_into(&mut o.flags));
    for sentinel in &site.sentinels {
        sentinel.publish(
            &site.process,
            "+odown",
            &format!("master {NAME} 10.0.1.1 6379 #quorum 3/2"),
        );
    }
    site.process.advance_ms(5);
    let (held, live) = (site.client(1), site.client(0));
    assert!(held.held() && live.held(), "{}", site.story());
    site.publish_promoted(1);
    site.process.advance_ms(5);
    assert_eq!(
        held.upstream().as_deref(),
        Some(REPLICA),
        "{}",
        site.story()
    );
}

#[test]
fn replicas_are_shared_out_and_left_when_they_are_gone() {
    let watch = json!({ "masters": [NAME], "poll_interval": "1s", "replicas": true });
    let site = Plan {
        watch,
        ..Plan::default()
    }
    .settled();
    let configuration = json!({ "master_name": NAME, "role": "replica" });
    let reads = site.sides[0]
        .worker
        .root("redis_router", configuration)
        .expect("accepted");
    site.process.advance_ms(2_000);
    let clients: Vec<_> = (0..10).map(|_| reads.connect(REPLICA_LISTENER)).collect();
    let at = |address| {
        clients
            .iter()
            .filter(|c| c.upstream().as_deref() == Some(address))
            .count()
    };
    assert_eq!((at(REPLICA), at(OTHER_REPLICA)), (5, 5), "{}", site.story());
    site.all(|o| o.replicas.retain(|r| r != REPLICA));
    site.process.advance_ms(2_500);
    assert_eq!(
        clients.iter().filter(|c| c.closed().is_some()).count(),
        5,
        "{}",
        site.story()
    );
    site.all(|o| o.replicas.clear());
    site.process.advance_ms(2_500);
    assert_eq!(
        reads.connect(REPLICA_LISTENER).upstream().as_deref(),
        Some(MASTER),
        "{}",
        site.story()
    );
}

#[test]
fn a_worker_that_starts_late_knows_the_master_at_once() {
    let site = Plan::default().settled();
    let late = site.process.worker();
    let router = late
        .root("redis_router", json!({ "master_name": NAME }))
        .expect("accepted");
    let client = router.connect("127.0.0.1:6379");
    assert_eq!(client.upstream().as_deref(), Some(MASTER));
    site.publish_promoted(2);
    assert!(
        site.process
            .advance_until(Duration::from_millis(10), || client.closed().is_some()),
        "{}",
        site.story()
    );
}

#[test]
fn each_master_has_a_life_of_its_own() {
    let watch = json!({ "masters": [NAME, "other"], "poll_interval": "1s" });
    let mut site = Plan {
        watch,
        ..Plan::default()
    }
    .build();
    for sentinel in &site.sentinels {
        sentinel
            .edit()
            .masters
            .insert("other".to_owned(), Opinion::new("10.0.9.1:6379", 7));
    }
    let worker = &site.sides[0].worker;
    let others = worker
        .root("redis_router", json!({ "master_name": "other" }))
        .expect("accepted");
    let held = others.connect("127.0.0.1:6390");
    site.watch();
    site.settle();
    let client = site.client(0);
    assert_eq!(
        held.upstream().as_deref(),
        Some("10.0.9.1:6379"),
        "{}",
        site.story()
    );
    site.publish_selected(0);
    site.process.advance_ms(1);
    held.send(b"PING\r\n");
    assert_eq!(
        held.forwarded(),
        b"PING\r\n",
        "the other one's fence: {}",
        site.story()
    );
    site.publish_promoted(0);
    site.process.advance_ms(2);
    assert!(
        client.closed().is_some() && held.closed().is_none(),
        "{}",
        site.story()
    );
}

/// Envoy replaces its VMs when their configuration changes; the shared data stay.
#[test]
fn new_workers_take_over_from_old_ones() {
    let mut site = Plan::default().settled();
    for side in &site.sides {
        side.router.shut_down();
        side.watch.shut_down();
    }
    site.heartbeats.iter().for_each(Heartbeat::stop);
    site.heartbeats.clear();
    site.sides = (0..2).map(|_| site.side(&Plan::default())).collect();
    assert_eq!(
        site.client(0).upstream().as_deref(),
        Some(MASTER),
        "known from before"
    );
    site.watch();
    site.settle();
    let client = site.client(1);
    site.publish_promoted(2);
    site.process.advance_ms(2);
    assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
}
