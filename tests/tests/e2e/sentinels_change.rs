//! Sentinels that come, go, forget, start over, and a failover that meets the next one.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::redis::Redis;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::sentinel::{MASTER, Sentinel, View};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::Workload;
use serde_json::json;

const CLIENTS: usize = 10;

/// Asked each second instead of every five: what only polls tell is told sooner.
fn quick(config: Config) -> Result<Config> {
    Ok(config
        .plugin("sentinel_watch", "poll_interval", &json!("1s"))
        .plugin("redis_router", "hold_timeout", &json!("60s")))
}

/// Load on the master, which is returned with it.
fn loaded(trial: &Trial) -> Result<(Workload, u16)> {
    let master = trial.cluster.master().context("no master")?;
    let load = trial.load(CLIENTS)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    Ok((load, master))
}

/// Ends a load that nothing may have happened to.
fn assert_untouched(load: Workload, log: &str) {
    for record in load.stop() {
        let quiet = record.closes.is_empty() && record.errors.is_empty();
        let served = record.refused.is_empty() && record.unanswered.is_empty();
        assert!(
            quiet && served && record.timeouts.is_empty(),
            "{:?} {:?} {:?}\n{log}",
            record.closes,
            record.errors,
            record.unanswered
        );
    }
}

fn to_all(trial: &Trial, command: &[&str]) -> Result<()> {
    let mut sentinels = trial.cluster.sentinels.iter();
    sentinels.try_for_each(|sentinel| sentinel.call(command).map(drop))
}

fn assert_planned_failover_works(trial: &mut Trial) -> Result<()> {
    let outcome = trial.fail(Fault::Planned, CLIENTS)?;
    println!("{outcome}");
    let log = trial.envoy.log();
    assert!(outcome.is_transparent(), "{outcome}\n{log}");
    assert_eq!(outcome.lost, 0, "{outcome}\n{log}");
    Ok(())
}

/// How often Envoy's log has a line with this text.
fn said(trial: &Trial, text: &str) -> usize {
    let log = trial.envoy.log();
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn the_new_master_dies_in_the_moment_of_its_promotion() -> Result<()> {
    let mut trial = Trial::start_with(quick)?;
    let (load, old) = loaded(&trial)?;
    let begun = Instant::now();
    trial.cluster.fail_over()?;
    trial.events.wait_for("+promoted-slave", begun)?;
    let first = trial.cluster.wait_for_master_after(old)?;
    trial.cluster.node(first)?.process().kill();
    // The first failover must end before the next begins, and Sentinel waits twice its timeout between two.
    let second = wait::until("a master that lives", 3 * wait::LONG, || {
        trial.cluster.master().filter(|master| *master != first)
    })?;
    let killed = Instant::now();
    wait::until_true("the clients to write to it", wait::LONG, || {
        load.records().iter().all(|record| {
            let last = record.acks.last();
            last.is_some_and(|ack| ack.node == second && ack.at > killed)
        })
    })?;
    let log = trial.envoy.log();
    for record in load.stop() {
        assert!(
            record.refused.is_empty() && record.unanswered.is_empty(),
            "{:?} {:?}\n{log}",
            record.refused,
            record.unanswered
        );
        assert!(record.errors.is_empty(), "{:?}\n{log}", record.errors);
        assert!(
            record.closes.len() <= 2,
            "one close per failover: {:?}\n{log}",
            record.closes
        );
    }
    Ok(())
}

#[test]
fn sentinels_join_and_the_first_ones_leave() -> Result<()> {
    let mut trial = Trial::start()?;
    let (load, master) = loaded(&trial)?;
    let view = View {
        master,
        replicas: vec![],
        sentinels: trial.cluster.sentinel_ports(),
        quorum: 2,
    };
    for _ in 0..3 {
        let port = trial.ports.take();
        let sentinel = Sentinel::start(port, &view, trial.cluster.scratch.path())?;
        trial.cluster.sentinels.push(sentinel);
    }
    trial.cluster.wait_until_settled(master)?;
    // Envoy was configured with none of them. Their peers publish that they are there, and nothing shows that it heard.
    sleep(Duration::from_secs(5));

    for mut leaver in trial.cluster.sentinels.drain(..3) {
        // It closes the connection instead of an answer.
        let _ = leaver.call(&["SHUTDOWN"]);
        wait::until_true("the Sentinel to end", wait::LONG, || {
            leaver.process().exited().is_some()
        })?;
    }
    to_all(&trial, &["SENTINEL", "RESET", MASTER])?;
    trial.cluster.wait_until_settled(master)?;
    assert_untouched(load, &trial.envoy.log());
    trial.events = redis_sentinel_tests::events::Events::of(&trial.cluster.sentinel_ports())?;
    assert_planned_failover_works(&mut trial)
}

#[test]
fn a_reset_is_not_noticed() -> Result<()> {
    let mut trial = Trial::start_with(quick)?;
    let (load, master) = loaded(&trial)?;
    to_all(&trial, &["SENTINEL", "RESET", MASTER])?;
    trial.assert_answered_by(master, Duration::from_secs(3))?;
    trial.cluster.wait_until_settled(master)?;
    assert_untouched(load, &trial.envoy.log());
    assert_planned_failover_works(&mut trial)
}

#[test]
fn sentinels_that_monitor_another_master_from_epoch_0_are_followed() -> Result<()> {
    let mut trial = Trial::start_with(quick)?;
    assert_planned_failover_works(&mut trial)?; // config-epoch 1 from here on
    let other = Redis::start(trial.ports.take(), None, trial.cluster.scratch.path())?;
    let (load, _) = loaded(&trial)?;
    to_all(&trial, &["SENTINEL", "REMOVE", MASTER])?;
    let port = other.port.to_string();
    to_all(
        &trial,
        &["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port, "2"],
    )?;
    wait::until_true("the clients to write there", 3 * wait::LONG, || {
        load.all_write_to(other.port)
    })
    .with_context(|| trial.envoy.log())?;
    trial.assert_answered_by(other.port, Duration::from_secs(3))?;
    let log = trial.envoy.log();
    let warned = |line: &str| line.contains("warn") && line.contains("LOWER config-epoch");
    assert!(log.lines().any(warned), "a step back is loud:\n{log}");
    for record in load.stop() {
        assert!(record.unanswered.is_empty() && record.errors.is_empty());
        assert_eq!(record.closes.len(), 1, "one switch:\n{log}");
    }
    Ok(())
}

#[test]
fn a_sentinel_in_tilt_delays_nothing() -> Result<()> {
    let mut trial = Trial::start()?;
    let stopped = Instant::now();
    let sleeper = trial.cluster.sentinels[2].port;
    let signal = |trial: &mut Trial, signal| trial.cluster.sentinels[2].process().signal(signal);
    signal(&mut trial, Signal::SIGSTOP)?;
    sleep(Duration::from_secs(3)); // two seconds without its own timer, and it mistrusts its clock
    signal(&mut trial, Signal::SIGCONT)?;
    let tilt = trial.events.wait_for("+tilt", stopped)?;
    assert_eq!(tilt.sentinel, sleeper);
    let outcome = trial.fail(Fault::Kill, CLIENTS)?;
    println!("{outcome}");
    let log = trial.envoy.log();
    assert!(outcome.is_transparent(), "{outcome}\n{log}");
    assert!(
        outcome.ours_all < Duration::from_secs(2),
        "{outcome}\n{log}"
    );
    assert_eq!(
        trial.events.first("-tilt", stopped).map(|event| event.text),
        None,
        "it was over before the failover"
    );
    Ok(())
}

#[test]
fn a_renamed_master_stays_in_use_with_one_warning() -> Result<()> {
    let mut trial = Trial::start_with(quick)?;
    let (load, master) = loaded(&trial)?;
    let port = master.to_string();
    to_all(&trial, &["SENTINEL", "REMOVE", MASTER])?;
    to_all(
        &trial,
        &["SENTINEL", "MONITOR", "other", "127.0.0.1", &port, "2"],
    )?;
    trial.assert_answered_by(master, Duration::from_secs(8))?;
    let warnings = said(&trial, "does not monitor this name");
    let log = trial.envoy.log();
    assert_eq!(warnings, 3, "once for each Sentinel:\n{log}");
    assert!(trial.counter("unknown_name_answers_total")? >= 3);
    assert_eq!(trial.envoy.ready_status(), Some(200));

    to_all(&trial, &["SENTINEL", "REMOVE", "other"])?;
    to_all(
        &trial,
        &["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &port, "2"],
    )?;
    trial.cluster.wait_until_settled(master)?;
    wait::until_true("the Sentinels to be believed again", wait::LONG, || {
        said(&trial, "answers again") == 3
    })?;
    assert_untouched(load, &trial.envoy.log());
    assert_planned_failover_works(&mut trial)
}

/// Only the Sentinel that leads a failover says that it begins: a slot for each, and none can lead unheard.
#[test]
fn whichever_of_five_sentinels_leads_nothing_is_lost() -> Result<()> {
    let mut trial = Trial::start_among(5, |config| config.watch_slots(5))?;
    // Seeds are shared by slots for a moment, until each has a Sentinel of its own.
    wait::until_true("each Sentinel to be watched", wait::LONG, || {
        let watched = |port| said(&trial, &format!("watching Sentinel 127.0.0.1:{port}")) > 0;
        trial.cluster.sentinel_ports().into_iter().all(watched)
    })?;
    for leader in [2, 3, 4] {
        trial.cluster.sentinels.swap(0, leader);
        assert_planned_failover_works(&mut trial)?;
        trial.cluster.sentinels.swap(0, leader);
        trial.settle()?;
    }
    assert_eq!(trial.counter("fences_total")?, 3, "{}", trial.envoy.log());
    Ok(())
}
