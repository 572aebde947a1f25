//! Failover after failover in one cluster, by Sentinel's word and by the replica's own; `make marathon` runs more of them.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::events::Events;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::{Plan, Workload};

const CLIENTS: usize = 50;

fn three_in_a_row(early_switch: bool) -> Result<()> {
    let mut trial = Trial::start_early(early_switch)?;
    for _ in 0..3 {
        let outcome = trial.fail(Fault::Planned, CLIENTS)?;
        println!("{outcome}");
        assert_eq!(outcome.lost, 0, "{outcome}");
        assert!(outcome.is_transparent(), "{outcome}");
        assert!(outcome.ours_all < Duration::from_secs(2), "{outcome}");
        trial.settle()?;
    }
    assert_eq!(trial.counter("switches_total")?, 3, "{}", trial.envoy.log());
    let by_role = trial.envoy.log().contains("the replica's own ROLE");
    assert_eq!(by_role, early_switch, "{}", trial.envoy.log());
    Ok(())
}

#[test]
fn three_planned_failovers_lose_nothing() -> Result<()> {
    three_in_a_row(false)
}

#[test]
fn three_planned_failovers_with_early_switch_lose_nothing() -> Result<()> {
    three_in_a_row(true)
}

#[test]
fn a_kill_and_a_hang_with_early_switch_cost_one_close() -> Result<()> {
    for fault in [Fault::Kill, Fault::Hang] {
        let outcome = Trial::start_early(true)?.fail(fault, CLIENTS)?;
        println!("{fault}: {outcome}");
        assert!(outcome.is_transparent(), "{fault}: {outcome}");
        assert!(
            outcome.ours_all < Duration::from_secs(2),
            "{fault}: {outcome}"
        );
    }
    Ok(())
}

#[test]
fn every_worker_follows() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let events = Events::of(&cluster.sentinel_ports())?;
    let config =
        Config::from_shipped("envoy/redis.yaml", &mut ports)?.seeds(&cluster.sentinel_ports())?;
    let envoy = Envoy::start_with_workers(config, cluster.scratch.path(), "4")?;
    envoy.wait_until_ready()?;
    let old = cluster.master().context("no master")?;
    let load = Workload::start(Plan {
        port: envoy.port,
        clients: 400,
        pause: Duration::from_millis(200),
        timeout: wait::LONG,
    })?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(old)
    })?;
    let of_workers = envoy.stats(&format!(
        "listener.127.0.0.1_{}.worker_.*downstream_cx_active",
        envoy.port
    ))?;
    assert_eq!(of_workers.len(), 4, "{of_workers:?}");
    assert!(
        of_workers.values().all(|connections| *connections > 0),
        "a worker without connections proves nothing: {of_workers:?}"
    );

    // Beside clients that are busy, some that only wait: theirs is the time of the close itself.
    let waiting = (0..40).map(|_| Connection::open(envoy.port, wait::LONG));
    let mut waiting = waiting.collect::<std::io::Result<Vec<_>>>()?;
    for connection in &mut waiting {
        connection.call(&["PING"])?;
    }
    let waiting = waiting.into_iter().map(|mut connection| {
        thread::spawn(move || (connection.receive().is_err(), Instant::now()))
    });
    let waiting: Vec<_> = waiting.collect();

    let begun = Instant::now();
    cluster.fail_over()?;
    let promoted = events.wait_for("+promoted-slave", begun)?.at;
    let new = cluster.wait_for_master_after(old)?;
    wait::until_true("the clients to write again", wait::LONG, || {
        load.all_write_to(new)
    })?;
    sleep(Duration::from_secs(1)); // a second close would come with the later events of the same failover
    let records = load.stop();
    for record in &records {
        assert_eq!(record.closes.len(), 1, "{record:?}");
        assert!(record.refused.is_empty() && record.unanswered.is_empty());
        assert!(record.errors.is_empty() && record.timeouts.is_empty());
    }
    let closes = records.iter().flat_map(|record| &record.closes);
    report("400 busy clients", promoted, closes.copied().collect())?;
    let waited = waiting.into_iter().filter_map(|thread| thread.join().ok());
    let closes: Vec<_> = waited.filter(|(closed, _)| *closed).collect();
    assert_eq!(closes.len(), 40);
    let closes = closes.into_iter().map(|(_, at)| at).collect();
    report("40 waiting clients", promoted, closes)
}

/// Tells how long after the promotion the closes came.
fn report(who: &str, promoted: Instant, mut closes: Vec<Instant>) -> Result<()> {
    closes.sort_unstable();
    let after = |at: Option<&Instant>| {
        let at = at.context("nobody was closed")?;
        anyhow::Ok(at.saturating_duration_since(promoted))
    };
    let (first, last) = (after(closes.first())?, after(closes.last())?);
    println!("{who} of 4 workers, from +promoted-slave: first close {first:?}, last {last:?}");
    assert!(last < Duration::from_secs(2), "{last:?}");
    Ok(())
}
