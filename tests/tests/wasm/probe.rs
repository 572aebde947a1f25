//! The master's own word: ROLE over a heartbeat of its own.

use redis_sentinel_tests::host::{Heartbeat, Peer};
use serde_json::{Value, json};

use crate::nodes::Redis;
use crate::site::{MASTER, NAME, Plan, REPLICA, Site};

fn probed(root_id: &str, configuration: Value) -> (Site, Heartbeat) {
    let site = Plan::default().settled();
    let root = site.sides[0]
        .worker
        .root(root_id, configuration)
        .expect("accepted");
    let heartbeat = Heartbeat::start(&site.process, &root, "@redis-sentinel-role-0");
    (site, heartbeat)
}

#[test]
fn the_master_is_asked_once_a_second() {
    let (site, heartbeat) = probed(
        "role_probe",
        json!({ "master_name": NAME, "interval": "1s" }),
    );
    let master = Redis::start(&site.process, MASTER, "master");
    site.process.advance_ms(10_500);
    assert!(
        heartbeat.healthy() && heartbeat.stray().is_empty(),
        "{}",
        site.story()
    );
    let asked = master.borrow().roles_asked;
    assert!((9..=12).contains(&asked), "asked {asked} times in 10 s");
}

#[test]
fn a_master_that_says_it_is_a_replica_gets_no_new_connections() {
    let (site, _heartbeat) = probed(
        "role_probe",
        json!({ "master_name": NAME, "interval": "1s" }),
    );
    let master = Redis::start(&site.process, MASTER, "master");
    site.process.advance_ms(2_000);
    let live = site.client(0);
    master.borrow_mut().role = "slave";
    site.process.advance_ms(1_200);
    let client = site.client(1);
    assert!(client.held(), "{}", site.story());
    assert!(live.closed().is_none());
    master.borrow_mut().role = "master";
    site.process.advance_ms(1_200);
    assert_eq!(
        client.upstream().as_deref(),
        Some(MASTER),
        "{}",
        site.story()
    );
}

#[test]
fn without_permission_it_steps_aside_with_one_line() {
    let (site, _heartbeat) = probed(
        "role_probe",
        json!({ "master_name": NAME, "interval": "1s" }),
    );
    Redis::start(
        &site.process,
        MASTER,
        "-NOAUTH Authentication required.\r\n",
    );
    site.process.advance_ms(30_000);
    assert_eq!(site.process.logged("NOAUTH").len(), 1, "{}", site.story());
    assert_eq!(
        site.client(0).upstream().as_deref(),
        Some(MASTER),
        "{}",
        site.story()
    );
}

#[test]
fn a_node_that_loads_or_hangs_or_talks_nonsense_changes_nothing() {
    for reply in [
        "-LOADING Redis is loading the dataset in memory\r\n",
        "",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let (site, _heartbeat) = probed(
            "role_probe",
            json!({ "master_name": NAME, "interval": "1s" }),
        );
        Redis::start(&site.process, MASTER, reply);
        let client = site.client(0);
        site.process.advance_ms(10_000);
        assert!(client.closed().is_none(), "{reply}: {}", site.story());
        assert_eq!(
            site.client(1).upstream().as_deref(),
            Some(MASTER),
            "{reply}: {}",
            site.story()
        );
    }
}

#[test]
fn early_switch_follows_the_replicas_own_word() {
    let (site, _heartbeat) = probed(
        "early_switch",
        json!({ "master_name": NAME, "enabled": true }),
    );
    Redis::start(&site.process, MASTER, "master");
    let replica = Redis::start(&site.process, REPLICA, "slave");
    site.process.advance_ms(2_000);
    let client = site.client(1);
    site.publish_selected(0);
    site.process.advance_ms(100);
    assert!(client.closed().is_none(), "{}", site.story());
    assert!(replica.borrow().roles_asked > 0, "{}", site.story());
    replica.borrow_mut().role = "master";
    site.process.advance_ms(50);
    assert_eq!(client.closed(), Some(Peer::Local), "{}", site.story());
    assert_eq!(site.client(0).upstream().as_deref(), Some(REPLICA));
}
