//! The conversation with the Sentinels over the health checker's heartbeat.

use std::time::Duration;

use redis_sentinel_tests::host::Heartbeat;
use serde_json::json;

use crate::site::{MASTER, NAME, Plan, Site};

#[test]
fn every_sentinel_is_watched_and_the_heartbeats_are_answered() {
    let site = Plan::default().settled();
    site.process.advance_ms(10_000);
    for (slot, heartbeat) in site.heartbeats.iter().enumerate() {
        assert!(
            heartbeat.healthy() && heartbeat.failures() <= 1,
            "slot {slot}: {}",
            site.story()
        );
        assert_eq!(heartbeat.stray(), b"", "slot {slot}");
    }
    for sentinel in &site.sentinels {
        assert_eq!(sentinel.connections(), 1, "{}", site.story());
        let polls = sentinel
            .state()
            .commands
            .iter()
            .filter(|c| c.contains("GET-MASTER-ADDR"))
            .count();
        assert!((10..=13).contains(&polls), "{polls} polls in 10 s");
    }
    assert_eq!(
        site.process.logged("watching").len(),
        site.process.logged("watching Sentinel 10.0.0").len()
    );
}

/// The health checker looks for "." anywhere in what it gets, and every address has one.
#[test]
fn pushes_between_heartbeats_never_reach_the_health_checker() {
    let site = Plan::default().settled();
    for i in 0..200 {
        for sentinel in &site.sentinels {
            sentinel.publish(
                &site.process,
                "+sdown",
                &format!("slave 10.0.1.2:6379 10.0.1.2 6379 @ {NAME} 10.0.1.1 6379"),
            );
        }
        site.process.advance(Duration::from_millis(i % 40));
    }
    assert!(
        site.heartbeats
            .iter()
            .all(|h| h.stray().is_empty() && h.healthy())
    );
    assert_eq!(
        site.sentinels
            .iter()
            .map(|s| s.connections())
            .sum::<usize>(),
        3
    );
}

#[test]
fn an_old_sentinel_or_one_that_forbids_subscribe_is_polled() {
    let mut site = Plan::default().build();
    site.sentinels[0].edit().knows_hello = false;
    site.sentinels[1].edit().may_subscribe = false;
    site.watch();
    site.process.advance_ms(5_000);
    assert!(
        site.heartbeats.iter().all(Heartbeat::healthy),
        "{}",
        site.story()
    );
    assert_eq!(
        site.process
            .logged("by polls alone: ERR unknown command")
            .len(),
        1
    );
    assert_eq!(site.client(0).upstream().as_deref(), Some(MASTER));
}

#[test]
fn that_subscribe_is_forbidden_is_told() {
    let mut site = Plan::default().build();
    site.sentinels[1].edit().may_subscribe = false;
    site.watch();
    site.process.advance_ms(5_000);
    assert_eq!(site.process.logged("NOPERM").len(), 1, "{}", site.story());
}

#[test]
fn a_sentinel_that_hangs_is_given_up_and_used_again() {
    let site = Plan::default().settled();
    site.sentinels[1].edit().hung = true;
    site.process.advance_ms(10_000);
    let told = site.process.logged("given up: it did not answer in time");
    assert!(told[0].text.contains("10.0.0."), "{}", site.story());
    assert!(told.len() <= 2, "told again and again: {}", site.story());
    assert!(told[0].at < Duration::from_secs(3), "{:?}", told[0]);
    site.sentinels[1].edit().hung = false;
    site.process.advance_ms(12_000);
    assert_eq!(
        site.sentinels[1].subscribers("+switch-master"),
        1,
        "{}",
        site.story()
    );
    assert!(site.heartbeats.iter().all(Heartbeat::healthy));
}

#[test]
fn sentinels_that_crash_are_replaced_and_the_last_master_stays() {
    let site = Plan::default().settled();
    for sentinel in &site.sentinels {
        site.process.refuse(&sentinel.state().address);
        sentinel.drop_connections(&site.process);
    }
    site.process.advance_ms(20_000);
    assert!(site.heartbeats.iter().all(|h| !h.healthy()));
    assert_eq!(
        site.client(1).upstream().as_deref(),
        Some(MASTER),
        "{}",
        site.story()
    );
    for sentinel in &site.sentinels {
        site.process.restore(&sentinel.state().address);
    }
    site.process.advance_ms(15_000);
    assert!(
        site.heartbeats.iter().all(Heartbeat::healthy),
        "{}",
        site.story()
    );
    assert!(
        site.sentinels.iter().all(|s| s.connections() == 1),
        "{}",
        site.story()
    );
}

/// Two slots at one Sentinel are of no use, and of no harm: what must not be is that they chase each other.
#[test]
fn more_slots_than_sentinels_come_to_rest() {
    let mut site = Plan::default().build();
    site.watch();
    for slot in 3..6 {
        let root = &site.sides[0].watch;
        let address = format!("@redis-sentinel-watch-{slot}");
        site.heartbeats
            .push(Heartbeat::start(&site.process, root, &address));
    }
    site.process.advance_ms(60_000);
    assert!(
        site.sentinels.iter().all(|s| s.connections() >= 1),
        "{}",
        site.story()
    );
    let lines = site.process.log().len();
    assert!(lines < 20, "{lines} lines: {}", site.story());
}

#[test]
fn without_a_discovered_cluster_the_seeds_are_enough() {
    let mut site = Plan {
        watch: json!({ "masters": [NAME] }),
        ..Plan::default()
    }
    .build();
    site.watch();
    site.process.advance_ms(5_000);
    assert!(
        site.heartbeats.iter().all(Heartbeat::healthy),
        "{}",
        site.story()
    );
    assert_eq!(site.client(0).upstream().as_deref(), Some(MASTER));
}

#[test]
fn a_sentinel_that_wants_a_password_is_told_apart_from_a_dead_one() {
    let mut site = Plan::default().build();
    site.sentinels
        .iter()
        .for_each(|s| s.edit().password = Some("secret".to_owned()));
    site.watch();
    site.process.advance_ms(5_000);
    assert!(
        !site.process.logged("refuses the credentials").is_empty(),
        "{}",
        site.story()
    );
    assert!(
        site.process
            .log()
            .iter()
            .all(|l| !l.text.contains("secret"))
    );
}

#[test]
fn the_wall_clock_may_jump() {
    let site = Plan::default().settled();
    for seconds in [3_600, -86_400, 1_000_000] {
        site.process.jump_wall_clock(seconds);
        site.process.advance_ms(3_000);
    }
    assert!(
        site.heartbeats
            .iter()
            .all(|h| h.healthy() && h.failures() <= 1),
        "{}",
        site.story()
    );
    assert_eq!(site.process.logged("given up").len(), 0, "{}", site.story());
}

/// An idle module does nothing but poll: it wakes for that and hardly for anything else.
#[test]
fn an_idle_module_wakes_rarely() {
    let watch = json!({ "masters": [NAME], "discovered_cluster": "sentinel_discovered" });
    let site = Plan {
        watch,
        ..Plan::default()
    }
    .settled();
    let _clients: Vec<_> = (0..10).map(|i| site.client(i % 2)).collect();
    site.process.advance_ms(15_000);
    let before: u64 = site.sides.iter().map(|s| s.worker.ticks()).sum();
    site.process.advance_ms(60_000);
    let ticks = site.sides.iter().map(|s| s.worker.ticks()).sum::<u64>() - before;
    assert!(ticks <= 60 * 4, "{ticks} ticks of two workers in a minute");
}

/// How often the health checker had to connect anew.
fn reconnects(site: &Site) -> u64 {
    site.heartbeats.iter().map(Heartbeat::failures).sum()
}

/// Where only seeds can be dialled, and chance says which: two slots that met at one Sentinel part, and where one is dead
/// they do not try forever at full speed.
#[test]
fn from_seeds_alone_each_sentinel_is_watched_and_a_dead_one_is_not_asked_for_all_the_time() {
    let mut site = Plan {
        watch: json!({ "masters": [NAME] }),
        ..Plan::default()
    }
    .build();
    site.watch();
    let watched = |site: &Site| {
        let all = site.sentinels.iter();
        all.filter(|sentinel| sentinel.subscribers("+switch-master") > 0)
            .count()
    };
    let all = site
        .process
        .advance_until(Duration::from_secs(60), || watched(&site) == 3);
    assert!(all, "{} of 3: {}", watched(&site), site.story());
    site.process.advance_ms(5_000);
    let before = reconnects(&site);
    site.process.advance_ms(60_000);
    assert_eq!(reconnects(&site), before, "they stay: {}", site.story());

    site.process.refuse("10.0.0.3:26379");
    site.sentinels[2].drop_connections(&site.process);
    site.process.advance_ms(60_000);
    assert_eq!(watched(&site), 2, "{}", site.story());
    let before = reconnects(&site);
    site.process.advance_ms(60_000);
    let often = reconnects(&site) - before;
    assert!(often <= 60, "{often} connections in a minute");

    site.process.restore("10.0.0.3:26379");
    let all = site
        .process
        .advance_until(Duration::from_secs(60), || watched(&site) == 3);
    assert!(all, "{} of 3: {}", watched(&site), site.story());
}
