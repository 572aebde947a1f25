//! Proves how host names are resolved: asked for when wanted, served while nothing better is known, bounded.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

use sentinel_core::{
    address::Address,
    hosts::{Hosts, MAX_HOSTS, News, Resolved},
    time::Timestamp,
};

const HOST: &str = "redis-0.redis.test";

fn node(host: &str) -> Address {
    Address::new(host, "6379").unwrap()
}

fn answer(ips: &str, ttl: u32) -> Vec<Resolved> {
    ips.split_whitespace()
        .map(|ip| Resolved {
            ip: ip.parse().unwrap(),
            ttl,
        })
        .collect()
}

fn lookup(hosts: &mut Hosts, now: u64) -> Option<String> {
    let found = hosts.lookup(Timestamp(now), &node(HOST));
    found.map(|address| address.to_string())
}

/// Whether it is time to ask, at `now`.
fn due(hosts: &mut Hosts, now: u64) -> bool {
    hosts.must_ask(Timestamp(now), &node(HOST))
}

fn told(hosts: &mut Hosts, now: u64, ips: &str, ttl: u32) -> Option<News> {
    hosts.answer(Timestamp(now), HOST, &answer(ips, ttl))
}

#[test]
fn an_address_is_its_own_answer() {
    let mut hosts = Hosts::default();
    let ip = node("10.0.0.1");
    assert_eq!(hosts.lookup(Timestamp(0), &ip), Some(ip.clone()));
    assert!(!hosts.must_ask(Timestamp(0), &ip));
    assert_eq!(hosts.next_due(&ip), None);
}

#[test]
fn a_name_is_asked_for_once_at_a_time() {
    let mut hosts = Hosts::default();
    assert!(!due(&mut hosts, 0), "nobody wants it");
    assert_eq!(lookup(&mut hosts, 0), None);
    assert!(due(&mut hosts, 0));
    assert!(!due(&mut hosts, 59_999), "one question is under way");
    assert!(due(&mut hosts, 60_000), "it was lost");
    let news = told(&mut hosts, 60_010, "10.0.0.7 10.0.0.8", 30);
    assert_eq!(news, Some(News::Now("10.0.0.7".parse().unwrap())));
    assert_eq!(lookup(&mut hosts, 60_010).unwrap(), "10.0.0.7:6379");
}

#[test]
fn an_answer_serves_for_its_ttl_within_bounds() {
    for (ttl, serves) in [(0, 1_000), (3, 3_000), (3600, 5_000)] {
        let mut hosts = Hosts::default();
        lookup(&mut hosts, 0);
        assert!(due(&mut hosts, 0));
        told(&mut hosts, 0, "10.0.0.7", ttl);
        assert!(!due(&mut hosts, serves - 1), "TTL {ttl}");
        assert_eq!(hosts.next_due(&node(HOST)), Some(Timestamp(serves)));
        assert!(due(&mut hosts, serves), "TTL {ttl}");
        // Served on while it is asked for again.
        assert_eq!(lookup(&mut hosts, serves).unwrap(), "10.0.0.7:6379");
    }
}

#[test]
fn a_failure_keeps_what_was_known_and_is_told_once() {
    let mut hosts = Hosts::default();
    lookup(&mut hosts, 0);
    for (now, news) in [(0, Some(News::Unresolved)), (500, None), (1_000, None)] {
        assert!(due(&mut hosts, now), "{now}");
        assert_eq!(told(&mut hosts, now, "", 0), news, "{now}");
        assert!(!due(&mut hosts, now + 499), "{now}");
        assert_eq!(lookup(&mut hosts, now), None);
    }
    told(&mut hosts, 1_500, "10.0.0.7", 1);
    assert_eq!(told(&mut hosts, 3_000, "", 0), Some(News::Unresolved));
    assert_eq!(lookup(&mut hosts, 99_000).unwrap(), "10.0.0.7:6379");
    assert_eq!(told(&mut hosts, 99_000, "10.0.0.7", 1), None, "as before");
}

#[test]
fn another_address_replaces_one_that_is_gone_and_no_other() {
    let mut hosts = Hosts::default();
    lookup(&mut hosts, 0);
    told(&mut hosts, 0, "10.0.0.7", 1);
    // The order of an answer says nothing.
    assert_eq!(told(&mut hosts, 1, "10.0.0.8 10.0.0.7", 1), None);
    let news = told(&mut hosts, 2, "0.0.0.0 fd00::8", 1);
    assert_eq!(news, Some(News::Now("fd00::8".parse().unwrap())));
    assert_eq!(lookup(&mut hosts, 3).unwrap(), "[fd00::8]:6379");
    let nobody = "0.0.0.0 ::ffff:0.0.0.0 169.254.169.254";
    assert_eq!(told(&mut hosts, 4, nobody, 1), Some(News::Unresolved));
}

#[test]
fn the_table_is_bounded() {
    let mut hosts = Hosts::default();
    lookup(&mut hosts, 0);
    told(&mut hosts, 0, "10.0.0.7", 1);
    for number in 0..2 * MAX_HOSTS {
        let now = Timestamp(number as u64);
        lookup(&mut hosts, now.0);
        assert_eq!(hosts.lookup(now, &node(&format!("n{number}.test"))), None);
    }
    assert!(lookup(&mut hosts, 9_999).is_some(), "what is wanted stays");
    let known = |number: usize| hosts.next_due(&node(&format!("n{number}.test"))).is_some();
    let kept = (0..2 * MAX_HOSTS).filter(|number| known(*number)).count();
    assert_eq!(kept, MAX_HOSTS - 1);
    assert!(known(2 * MAX_HOSTS - 1));
}
