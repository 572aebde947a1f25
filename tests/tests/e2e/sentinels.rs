//! Sentinels that are away, behind, or wrong.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::redis::Redis;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::sentinel::{Sentinel, View};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

const PATIENT: Duration = Duration::from_secs(20);

/// The node that answers a new connection through the proxy.
fn answers(port: u16) -> Result<u16> {
    let reply = Connection::open(port, PATIENT)?.call(&["CONFIG", "GET", "port"])?;
    Ok(reply
        .field("port")
        .with_context(|| format!("{reply:?}"))?
        .parse()?)
}

/// Asks for `time` whether every new connection is answered by `node`.
fn assert_answered_by(node: u16, port: u16, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert_eq!(answers(port)?, node);
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn without_any_sentinel_the_last_known_master_stays_in_use() -> Result<()> {
    let mut trial = Trial::start()?;
    let master = trial.cluster.master().context("no master")?;
    let load = trial.load(10)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    for sentinel in &mut trial.cluster.sentinels {
        sentinel.process().kill();
    }
    // Longer than any time limit of the watch: it has given up every connection by then.
    assert_answered_by(master, trial.envoy.port, Duration::from_secs(8))?;
    assert_eq!(
        trial.envoy.ready_status(),
        Some(200),
        "the master is still known"
    );
    let records = load.stop();
    assert!(
        records
            .iter()
            .all(|r| r.closes.is_empty() && r.errors.is_empty()),
        "{records:?}"
    );

    for sentinel in &mut trial.cluster.sentinels {
        sentinel.restart()?;
    }
    trial.cluster.wait_until_settled(master)?;
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert_eq!(
        (outcome.refused, outcome.closes, outcome.lost),
        (0, 1, 0),
        "the Sentinels are heard again: {outcome}"
    );
    Ok(())
}

#[test]
fn a_sentinel_that_lags_does_not_turn_anything_back() -> Result<()> {
    let mut trial = Trial::start()?;
    let old = trial.cluster.master().context("no master")?;
    // It sleeps through the failover, wakes up with the old master on its mind, and is asked at once.
    trial.cluster.sentinels[2]
        .process()
        .signal(Signal::SIGSTOP)?;
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    trial.events.wait_for("+promoted-slave", begun)?;
    let new = trial.cluster.wait_for_master_after(old)?;
    wait::until_true("the proxy to follow", wait::LONG, || {
        answers(trial.envoy.port).is_ok_and(|node| node == new)
    })?;
    let load = trial.load(10)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(new)
    })?;
    trial.cluster.sentinels[2]
        .process()
        .signal(Signal::SIGCONT)?;
    assert_answered_by(new, trial.envoy.port, Duration::from_secs(6))?;
    let records = load.stop();
    assert!(
        records
            .iter()
            .all(|r| r.closes.is_empty() && r.errors.is_empty()),
        "{records:?}"
    );
    Ok(())
}

#[test]
fn a_sentinel_with_another_master_of_that_name_is_outvoted() -> Result<()> {
    let mut ports = redis_sentinel_tests::ports::PortBlock::claim()?;
    let scratch = redis_sentinel_tests::scratch::Scratch::new()?;
    let other = Redis::start(ports.take(), None, scratch.path())?;
    let view = View {
        master: other.port,
        replicas: vec![],
        sentinels: vec![],
        quorum: 1,
    };
    let liar = Sentinel::start(ports.take(), &view, scratch.path())?;
    wait::until_true("the liar to name its master", wait::LONG, || {
        liar.master() == Some(other.port)
    })?;

    let mut trial = Trial::start_with(|config| {
        let seeds = config.seed_ports();
        config.seeds(&[liar.port, seeds[0], seeds[1]])
    })?;
    let master = trial.cluster.master().context("no master")?;
    assert_answered_by(master, trial.envoy.port, Duration::from_secs(4))?;
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{outcome}");
    assert_eq!(
        (outcome.refused, outcome.closes, outcome.lost),
        (0, 1, 0),
        "{outcome}"
    );
    let new = trial.cluster.master().context("no master")?;
    assert_answered_by(new, trial.envoy.port, Duration::from_secs(4))?;
    assert_eq!(
        other.call(&["DBSIZE"])?.text().as_deref(),
        Some("0"),
        "no client may have written there"
    );
    Ok(())
}
