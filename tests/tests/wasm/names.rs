//! Nodes that are announced by host name: resolved by the module, waited for, followed.

use std::time::Duration;

use redis_sentinel_tests::host::{Conn, Heartbeat, Process, Sentinel};
use serde_json::json;

use crate::nodes::Redis;
use crate::site::{CLUSTER, NAME, ORIGINAL_DST, Plan, Site};

const OLD: &str = "redis-0.redis.test:6379";
const NEW: &str = "redis-1.redis.test:6379";

fn host(node: &str) -> &str {
    node.split(':').next().unwrap_or_default()
}

/// Three Sentinels that name [`OLD`]; the names are not in the DNS.
fn site() -> Site {
    let site = Plan::default().build();
    site.all(|opinion| {
        opinion.address = OLD.to_owned();
        opinion.replicas = vec![NEW.to_owned()];
    });
    let mut site = site;
    site.watch();
    site.settle();
    site
}

fn set(process: &Process, node: &str, ips: &[&str]) {
    process.resolver().set(host(node), ips, 1);
}

fn asked(process: &Process, node: &str) -> usize {
    let resolver = process.resolver();
    let questions = resolver.questions().iter();
    questions.filter(|name| *name == host(node)).count()
}

fn dialled(conn: &Conn) -> Option<String> {
    conn.filter_state(ORIGINAL_DST)
}

#[test]
fn a_client_waits_until_the_name_resolves() {
    let site = site();
    let clients = [site.client(0), site.client(1)];
    site.process.advance_ms(3_000);
    assert!(
        clients
            .iter()
            .all(|c| c.upstream().is_none() && c.closed().is_none())
    );
    set(&site.process, OLD, &["10.0.2.1"]);
    site.process.advance_ms(600);
    for client in &clients {
        assert_eq!(
            client.upstream().as_deref(),
            Some("10.0.2.1:6379"),
            "{}",
            site.story()
        );
        assert_eq!(dialled(client).as_deref(), Some("10.0.2.1:6379"));
    }
}

#[test]
fn a_client_that_waits_for_a_name_in_vain_is_told_so() {
    let site = site();
    let client = site.client(0);
    site.process.advance_ms(10_100);
    assert_eq!(client.filter_state(CLUSTER).as_deref(), Some("masterdown"));
    let why = "redis-0.redis.test:6379, the master of 'mymaster', is announced by a host name that has not resolved";
    assert!(site.story().contains(why), "{}", site.story());
    let refused = site
        .process
        .metric("redis_sentinel.mymaster.reason=unresolved.connections_refused_total");
    assert_eq!(refused, 1);
    let story = site.story();
    assert_eq!(
        story.matches("redis-0.redis.test does not resolve").count(),
        1,
        "once on the worker that has clients: {story}"
    );
}

#[test]
fn a_promoted_name_is_known_before_it_is_needed() {
    let site = site();
    set(&site.process, OLD, &["10.0.2.1"]);
    let live = site.client(0);
    site.process.advance_ms(600);
    live.send(b"INCR n\r\n");
    site.process.advance_ms(1);
    assert_eq!(live.upstream().as_deref(), Some("10.0.2.1:6379"));
    // Not in the DNS before the failover begins, and slow.
    set(&site.process, NEW, &["10.0.2.2"]);
    site.process.resolver().delay = Some(Duration::from_millis(300));
    let failover = site.failover(0, OLD, NEW);
    failover.selected();
    site.process.advance_ms(400);
    let waiting = site.client(0);
    assert_eq!(waiting.upstream(), None);
    failover.promoted();
    site.process.advance_ms(2);
    assert!(live.closed().is_some());
    assert_eq!(
        waiting.upstream().as_deref(),
        Some("10.0.2.2:6379"),
        "{}",
        site.story()
    );
}

#[test]
fn a_node_that_comes_back_elsewhere_is_followed() {
    let site = site();
    set(&site.process, OLD, &["10.0.2.1"]);
    let live = site.client(0);
    site.process.advance_ms(600);
    live.send(b"PING\r\n");
    live.upstream_send(b"+PONG\r\n");
    set(&site.process, OLD, &["10.0.2.9"]);
    site.process.advance_ms(2_000);
    assert!(live.closed().is_none(), "nobody dials, so nobody asks");
    let _ = site.client(0);
    site.process.advance_ms(10);
    assert!(live.closed().is_some(), "{}", site.story());
    assert_eq!(site.client(0).upstream().as_deref(), Some("10.0.2.9:6379"));
}

#[test]
fn a_dns_server_that_is_down_ends_nothing() {
    let site = site();
    set(&site.process, OLD, &["10.0.2.1"]);
    let live = site.client(0);
    site.process.advance_ms(600);
    live.send(b"PING\r\n");
    set(&site.process, OLD, &[]);
    for _ in 0..20 {
        site.process.advance_ms(1_000);
        assert_eq!(site.client(0).upstream().as_deref(), Some("10.0.2.1:6379"));
    }
    assert!(live.closed().is_none());
}

#[test]
fn idle_workers_leave_the_dns_server_alone() {
    let site = site();
    set(&site.process, OLD, &["10.0.2.1"]);
    let client = site.client(0);
    site.process.advance_ms(600);
    client.send(b"PING\r\n");
    client.upstream_send(b"+PONG\r\n");
    site.process.advance_ms(1_000);
    let before = asked(&site.process, OLD);
    site.process.advance_ms(60_000);
    assert_eq!(asked(&site.process, OLD), before);
}

#[test]
fn an_answer_within_the_question_serves_at_once() {
    let site = Plan::default().build();
    site.process.resolver().delay = None;
    set(&site.process, OLD, &["10.0.2.1"]);
    site.all(|opinion| opinion.address = OLD.to_owned());
    let mut site = site;
    site.watch();
    site.settle();
    assert_eq!(
        site.client(0).upstream().as_deref(),
        Some("10.0.2.1:6379"),
        "{}",
        site.story()
    );
}

#[test]
fn a_root_context_waits_for_its_answer_before_it_goes() {
    let site = site();
    site.process.resolver().delay = Some(Duration::from_secs(5));
    set(&site.process, OLD, &["10.0.2.1"]);
    let _client = site.client(0);
    site.process.advance_ms(1_000);
    // The host stops the test if it has to answer one that is gone.
    site.sides[0].router.shut_down();
    let other = site.client(1);
    site.process.advance_ms(20_000);
    assert_eq!(other.upstream().as_deref(), Some("10.0.2.1:6379"));
}

#[test]
fn the_master_is_probed_by_its_name() {
    let site = site();
    set(&site.process, OLD, &["10.0.2.1"]);
    let redis = Redis::start(&site.process, "10.0.2.1:6379", "master");
    let probe = site.sides[0]
        .worker
        .root("role_probe", json!({ "master_name": NAME }));
    let probe = probe.expect("the probe's configuration");
    let _heartbeat = Heartbeat::start(&site.process, &probe, "@redis-sentinel-role-0");
    site.process.advance_ms(8_000);
    assert!(redis.borrow().roles_asked > 0, "{}", site.story());
}

#[test]
fn sentinels_announce_names_too() {
    let site = Plan::default().build();
    let names = ["sentinel-0.test", "sentinel-1.test", "sentinel-2.test"];
    for (index, name) in names.iter().enumerate() {
        let ip = format!("10.0.0.{}", index + 1);
        site.process.resolver().set(name, &[ip.as_str()], 1);
        site.sentinels[index].edit().address = format!("{name}:26379");
    }
    Sentinel::introduce(&site.sentinels);
    // The seeds lead to the first one only: the others are reached by what it calls them.
    site.process.cluster("sentinel_seeds", &["10.0.0.1:26379"]);
    let mut site = site;
    site.watch();
    site.settle();
    assert!(
        site.story()
            .contains("watching Sentinel sentinel-1.test:26379"),
        "{}",
        site.story()
    );
}
