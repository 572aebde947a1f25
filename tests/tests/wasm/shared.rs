//! What the workers share, and what happens when they want to change it at the same time.

use redis_sentinel_tests::host::Peer;

use crate::site::{MASTER, Plan, REPLICA};

#[test]
fn a_write_that_loses_the_race_is_made_again() {
    for conflicts in [1, 3, 10] {
        let site = Plan::default().settled();
        let client = site.client(1);
        site.process.conflict(conflicts);
        site.publish_promoted(0);
        site.process.advance_ms(2);
        assert_eq!(
            client.closed(),
            Some(Peer::Local),
            "{conflicts} conflicts: {}",
            site.story()
        );
        assert!(site.process.shared_writes().0 >= conflicts);
        assert_eq!(
            site.process
                .metric("redis_sentinel.mymaster.switches_total"),
            1,
            "counted once"
        );
        assert_eq!(
            site.process.logged("was 10.0.1.1:6379").len(),
            1,
            "told once: {}",
            site.story()
        );
    }
}

#[test]
fn a_race_that_is_always_lost_ends_and_the_next_poll_repairs_it() {
    let site = Plan::default().settled();
    site.process.conflict(1_000);
    site.publish_promoted(0);
    site.process.advance_ms(100);
    site.process.conflict(0);
    site.process.advance_ms(1_500);
    assert_eq!(
        site.client(0).upstream().as_deref(),
        Some(REPLICA),
        "{}",
        site.story()
    );
}

#[test]
fn values_that_make_no_sense_are_replaced() {
    for value in [
        &b""[..],
        b"\xff\xfe\x00",
        b"1\n{}",
        b"1\n[[[[",
        b"{\"generation\":-1}",
        b"18446744073709551616\n{}",
    ] {
        let site = Plan::default().settled();
        for key in site.process.shared_keys() {
            site.process.set_shared(&key, value);
        }
        site.process.advance_ms(7_000);
        assert_eq!(
            site.client(0).upstream().as_deref(),
            Some(MASTER),
            "{value:?}: {}",
            site.story()
        );
        site.publish_promoted(0);
        site.process.advance_ms(1_500);
        assert_eq!(
            site.client(1).upstream().as_deref(),
            Some(REPLICA),
            "{value:?}: {}",
            site.story()
        );
    }
}

/// An idle process writes what it must to keep its entries alive, not at every tick.
#[test]
fn an_idle_process_hardly_writes() {
    let site = Plan::default().settled();
    let before = site.process.shared_writes().1;
    site.process.advance_ms(60_000);
    let writes = site.process.shared_writes().1 - before;
    // Three Sentinels answer once a second and each answer's time is kept; the rest is signs of life.
    assert!(writes <= 60 * 3 * 2 + 60, "{writes} writes in a minute");
    assert_eq!(site.process.queued(), 0);
}

#[test]
fn queues_of_workers_that_are_gone_do_not_fill_up() {
    let site = Plan {
        workers: 3,
        ..Plan::default()
    }
    .settled();
    let side = &site.sides[2];
    side.router.shut_down();
    side.watch.shut_down();
    site.process.advance_ms(60_000);
    for _ in 0..20 {
        site.publish_promoted(0);
        site.process.advance_ms(50);
    }
    assert!(
        site.process.queued() < 10,
        "{} messages wait for nobody",
        site.process.queued()
    );
}

#[test]
fn the_keys_are_few() {
    let site = Plan {
        workers: 4,
        ..Plan::default()
    }
    .settled();
    site.process.advance_ms(120_000);
    let keys = site.process.shared_keys();
    assert!(keys.len() <= 4, "{keys:?}");
    let bytes: usize = keys
        .iter()
        .filter_map(|k| site.process.shared(k))
        .map(|v| v.len())
        .sum();
    assert!(
        bytes < 8_192,
        "{bytes} bytes of shared data for three Sentinels"
    );
}
