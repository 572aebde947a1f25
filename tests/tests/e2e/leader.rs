//! The Sentinel that leads a failover dies when the replica is promoted and nobody else knows: Sentinel's own double
//! fault. The others go on with the old master and turn the replica back after some seconds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::steady::Steady;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

/// Has it happen; returns the master that the others still name.
fn strike(trial: &mut Trial) -> Result<u16> {
    let master = trial.cluster.master().context("no master")?;
    let roles = trial.roles(master);
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    let selected = trial.events.wait_for("+selected-slave", begun)?;
    roles.turned(selected.replica()?)?;
    trial.cluster.sentinels[0].process().kill();
    // The leader looks at the replica once a second, and has done so just before.
    let told = trial.events.first("+promoted-slave", begun);
    assert!(told.is_none(), "the leader was quicker: {told:?}");
    Ok(master)
}

#[test]
fn clients_wait_and_stay_with_the_master_of_the_others() -> Result<()> {
    let mut trial = Trial::start()?;
    let steady = Steady::start(trial.envoy.port, 10)?;
    let master = strike(&mut trial)?;
    let progress = steady.progress();
    wait::until_true("every client to go on", wait::LONG, || {
        steady.all_beyond(&progress)
    })?;
    trial.assert_answered_by(master, Duration::from_secs(5))?;
    let log = trial.envoy.log();
    steady.stop(master).context(log.clone())?;
    assert_eq!(trial.counter("switches_total")?, 0, "{log}");
    Ok(())
}

/// What `early_switch` risks: it has followed the replica, and must come back.
#[test]
fn an_early_switch_that_the_others_do_not_confirm_is_taken_back() -> Result<()> {
    let mut trial = Trial::start_early(true)?;
    let load = trial.load(10)?;
    let master = trial.cluster.master().context("no master")?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    strike(&mut trial)?;
    let struck = Instant::now();
    wait::until_true("the proxy to come back", 2 * wait::LONG, || {
        trial.counter("switches_total").is_ok_and(|count| count > 1)
    })
    .with_context(|| trial.envoy.log())?;
    let back = struck.elapsed();
    wait::until_true("the clients to come back", wait::LONG, || {
        load.all_write_to(master)
    })
    .with_context(|| trial.envoy.log())?;
    let records = load.stop();
    let errors: usize = records.iter().map(|record| record.errors.len()).sum();
    let lost: i64 = records.iter().map(|record| record.lost).sum();
    println!("back after {back:?}: {lost} writes lost, {errors} error replies");
    assert!(trial.envoy.log().contains("the replica's own ROLE"));
    trial.assert_answered_by(master, Duration::from_secs(2))
}
