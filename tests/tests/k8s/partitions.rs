//! A few of the partitions of `make partitions`: what the fence is worth, and what it is not.

use std::time::Duration;

use anyhow::{Context, Result};
use redis_sentinel_tests::net;
use redis_sentinel_tests::partition::{CASES, Outcome, run};

/// From the cut on: Sentinel's second to notice, an election, its second to look at the replica; the machine may be busy.
const SOON: Duration = Duration::from_secs(8);

fn outcome(name: &str) -> Result<Option<Outcome>> {
    if net::missing() {
        return Ok(None);
    }
    let case = CASES.iter().find(|case| case.name == name);
    let outcome = run(case.context("no such case")?)?;
    println!("{}\n{outcome}", Outcome::HEAD);
    Ok(Some(outcome))
}

/// The old master lives, and clients reach it: who only asks Sentinel when a connection ends writes there until it is
/// demoted. The fence ends that before the promotion.
#[test]
fn a_master_without_sentinels_gets_no_more_writes() -> Result<()> {
    let Some(outcome) = outcome("master from the Sentinels")? else {
        return Ok(());
    };
    assert!(outcome.moved, "{outcome:?}");
    assert_eq!(outcome.proxied.lost, 0, "{outcome:?}");
    assert!(outcome.proxied.silence < SOON, "{outcome:?}");
    assert!(
        outcome.direct.lost > 100,
        "the partition was none: {outcome:?}"
    );
    Ok(())
}

/// What it had not replicated is gone with it: the last moment before the cut.
#[test]
fn a_master_that_is_cut_off_is_left() -> Result<()> {
    let Some(outcome) = outcome("master from all")? else {
        return Ok(());
    };
    assert!(outcome.moved, "{outcome:?}");
    assert!(outcome.proxied.lost <= 20, "{outcome:?}");
    assert!(outcome.proxied.silence < SOON, "{outcome:?}");
    Ok(())
}

/// Clients that are cut off together with the old master write to it, and lose it: nobody on their side knows better. Redis
/// itself can bound that.
#[test]
fn the_side_of_the_minority_stops_writing_where_redis_is_told_to() -> Result<()> {
    let Some(outcome) = outcome("the same, with `min-replicas-to-write 1`")? else {
        return Ok(());
    };
    assert!(outcome.moved, "{outcome:?}");
    // Redis notices after `min-replicas-max-lag` and a second; the cut is longer than twice that.
    let share = outcome.proxied.lost as f64 / outcome.proxied.acks as f64;
    assert!(outcome.proxied.lost > 0 && share < 0.5, "{outcome:?}");
    Ok(())
}
