//! Fifty clients write while their master goes away in each of the three ways.

use std::time::Duration;

use anyhow::Result;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::outcome::Outcome;
use redis_sentinel_tests::trial::Trial;

const CLIENTS: usize = 50;

/// What holds for every failover. The time is a bound against standing still, not a measurement: `make measure` is that.
fn assert_transparent(outcome: &Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.refused, 0, "{outcome}");
    assert_eq!(outcome.timeouts, 0, "{outcome}");
    assert_eq!(outcome.errors, Vec::<String>::new(), "{outcome}");
    assert_eq!(outcome.closes, 1, "a client sees one close: {outcome}");
    assert!(outcome.ours_all < Duration::from_secs(2), "{outcome}");
}

#[test]
fn a_planned_failover_loses_nothing() -> Result<()> {
    let mut trial = Trial::start()?;
    for _ in 0..2 {
        let outcome = trial.fail(Fault::Planned, CLIENTS)?;
        assert_transparent(&outcome);
        assert_eq!(outcome.lost, 0, "{outcome}");
        trial.settle()?;
    }
    Ok(())
}

#[test]
fn a_killed_master_costs_one_close() -> Result<()> {
    let mut trial = Trial::start()?;
    assert_transparent(&trial.fail(Fault::Kill, CLIENTS)?);
    Ok(())
}

#[test]
fn a_hung_master_costs_one_close() -> Result<()> {
    let mut trial = Trial::start()?;
    assert_transparent(&trial.fail(Fault::Hang, CLIENTS)?);
    Ok(())
}
