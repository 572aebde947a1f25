//! Envoy's own changes under load: new configuration by xDS, a new module, a hot restart.

mod xds;

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::events::Events;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::resp::Connection;
use redis_sentinel_tests::tools;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;
use redis_sentinel_tests::workload::{Record, Workload};
use serde_json::json;

use self::xds::{Xds, each_object};

/// How long Envoy lets connections of what was replaced live on: 600 s unless it is told otherwise.
const DRAIN: Duration = Duration::from_secs(3);
const CLIENTS: usize = 20;

/// A trial whose Envoy takes listeners and clusters from files.
fn start() -> Result<(Trial, Xds)> {
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let events = Events::of(&cluster.sentinel_ports())?;
    let mut config =
        Config::from_shipped("envoy/redis.yaml", &mut ports)?.seeds(&cluster.sentinel_ports())?;
    let port = config.port("redis")?;
    let xds = Xds::take(&mut config, cluster.scratch.path())?;
    let envoy = Envoy::start_by(config, cluster.scratch.path(), |mut command| {
        command
            .arg("--drain-time-s")
            .arg(DRAIN.as_secs().to_string());
        command
    })?;
    let mut trial = Trial {
        events,
        envoy,
        cluster,
        ports,
        early_switch: false,
    };
    trial.envoy.port = port;
    wait::until_true("the proxy to answer", wait::LONG, || {
        trial.answers().is_ok()
    })?;
    Ok((trial, xds))
}

fn sum(records: &[Record], count: fn(&Record) -> usize) -> usize {
    records.iter().map(count).sum()
}

/// Nobody was refused or told anything, and each client saw at most that many closes.
fn assert_calm(what: &str, records: &[Record], closes: usize) {
    let most = records.iter().map(|r| r.closes.len()).max().unwrap_or(0);
    println!(
        "{what}: {} closes of {} clients",
        sum(records, |r| r.closes.len()),
        records.len()
    );
    let failed =
        |r: &Record| r.refused.len() + r.unanswered.len() + r.errors.len() + r.timeouts.len();
    assert_eq!(sum(records, failed), 0, "{what}: {records:?}");
    assert!(most <= closes, "{what}: {most} closes of one client");
    assert_eq!(records.iter().map(|r| r.lost).sum::<i64>(), 0, "{what}");
}

fn loaded(trial: &Trial) -> Result<Workload> {
    let master = trial.cluster.master().context("no master")?;
    let load = trial.load(CLIENTS)?;
    wait::until_true("the clients to write", wait::LONG, || {
        load.all_write_to(master)
    })?;
    Ok(load)
}

/// New clients all the time, beside those that stay.
struct Newcomers {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Newcomers {
    fn start(port: u16) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut failed, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let reply = Connection::open(port, wait::LONG).and_then(|mut c| c.call(&["PING"]));
                let served = matches!(&reply, Ok(reply) if reply.text().as_deref() == Some("PONG"));
                failed += usize::from(!served);
                longest = longest.max(begun.elapsed());
                sleep(Duration::from_millis(10));
            }
            (failed, longest)
        });
        Self { stop, thread }
    }

    /// How many were not served, and the longest wait of one.
    fn stop(self) -> Result<(usize, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("panicked")
    }
}

fn assert_transparent(what: &str, trial: &mut Trial) -> Result<()> {
    let outcome = trial.fail(Fault::Planned, 10)?;
    println!("{what}: {outcome}");
    let log = trial.envoy.log();
    assert!(
        outcome.is_transparent() && outcome.lost == 0,
        "{what}: {outcome}\n{log}"
    );
    Ok(())
}

/// Old connections keep the old configuration while they drain: they too are fenced and switched.
#[test]
fn a_new_configuration_of_the_filters() -> Result<()> {
    let (mut trial, mut xds) = start()?;
    let new = Newcomers::start(trial.envoy.port);
    let load = loaded(&trial)?;
    xds.change("redis_router", "hold_timeout", json!("9s"))?;
    xds.change("sentinel_watch", "poll_interval", json!("2s"))?;
    assert_transparent("while the old ones drain", &mut trial)?;
    sleep(DRAIN);
    // By the failover and by the end of the drain: which comes first, and so whether one close is for both, is chance.
    assert_calm("the old ones", &load.stop(), 2);
    trial.settle()?;
    let updated = trial.envoy.stats("listener_in_place_updated")?;
    assert!(
        updated.into_values().sum::<u64>() >= 3,
        "nothing was reloaded"
    );
    assert_transparent("with the new one", &mut trial)?;
    let (failed, longest) = new.stop()?;
    println!("{failed} new clients were not served, the longest waited {longest:?}");
    // One that was led to the old master in the moment of a fence is closed by the switch.
    assert!(failed <= 4, "{failed}");
    Ok(())
}

#[test]
fn new_clusters() -> Result<()> {
    let (mut trial, mut xds) = start()?;
    let load = loaded(&trial)?;
    for cluster in xds.clusters.as_array_mut().context("clusters")? {
        cluster["connect_timeout"] = json!("0.9s");
    }
    xds.publish()?;
    wait::until_true("the new clusters", wait::LONG, || {
        let modified = trial.envoy.stats("cluster_manager.cluster_modified");
        modified.is_ok_and(|stats| stats.into_values().sum::<u64>() >= 8)
    })?;
    sleep(DRAIN);
    assert_calm("live clients", &load.stop(), 0);
    assert_transparent("after the change", &mut trial)
}

/// Envoy takes a module from another file without a restart; what is known lies in shared data, outside of it.
#[test]
fn a_new_module() -> Result<()> {
    let (mut trial, mut xds) = start()?;
    let module = trial.cluster.scratch.file("new.wasm");
    // Other bytes, or it would be the same VM: a custom section without a meaning at the end.
    let mut bytes = fs::read(tools::module())?;
    bytes.extend([0, 2, 1, b'x']);
    fs::write(&module, bytes)?;
    let created = |trial: &Trial| -> Result<u64> {
        Ok(trial
            .envoy
            .stats("wasm.runtime.v8.created")?
            .into_values()
            .sum())
    };
    let before = created(&trial)?;
    let (new, load) = (Newcomers::start(trial.envoy.port), loaded(&trial)?);
    each_object(&mut xds.listeners, &mut |object| {
        if object.contains_key("filename") {
            object["filename"] = json!(module);
        }
    });
    xds.publish()?;
    wait::until_true("the new module", wait::LONG, || {
        created(&trial).is_ok_and(|now| now > before)
    })?;
    sleep(Duration::from_secs(1));
    let (failed, longest) = new.stop()?;
    println!("{failed} new clients were not served, the longest waited {longest:?}");
    assert_eq!(failed, 0);
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_transparent("while the old module drains", &mut trial)?;
    sleep(DRAIN);
    // By the failover and by the end of the drain: which comes first, and so whether one close is for both, is chance.
    assert_calm("clients of the old module", &load.stop(), 2);
    trial.settle()?;
    assert_transparent("with the new module", &mut trial)
}

/// The same command line for another epoch.
fn epoch(command: &Command, base: u16, epoch: u32) -> Command {
    let mut hot = Command::new(command.get_program());
    hot.args(
        command
            .get_args()
            .filter(|argument| *argument != "--disable-hot-restart"),
    );
    if let Some(dir) = command.get_current_dir() {
        hot.current_dir(dir);
    }
    hot.args([
        "--base-id",
        &base.to_string(),
        "--restart-epoch",
        &epoch.to_string(),
    ]);
    hot.args(["--drain-time-s", "2", "--parent-shutdown-time-s", "4"]);
    hot
}

/// Each epoch has socket names of its own: under the same ones the new Envoy's health checkers would speak to the old
/// Envoy's module for as long as that one lives, and the new module would know nothing.
#[test]
fn a_hot_restart() -> Result<()> {
    let mut ports = PortBlock::claim()?;
    let base = ports.take();
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let events = Events::of(&cluster.sentinel_ports())?;
    let config =
        Config::from_shipped("envoy/redis.yaml", &mut ports)?.seeds(&cluster.sentinel_ports())?;
    let mut second = None;
    let envoy = Envoy::start_by(config, cluster.scratch.path(), |command| {
        second = Some(epoch(&command, base, 1));
        epoch(&command, base, 0)
    })?;
    let mut trial = Trial {
        events,
        envoy,
        cluster,
        ports,
        early_switch: false,
    };
    trial.envoy.wait_until_ready()?;
    let (new, load) = (Newcomers::start(trial.envoy.port), loaded(&trial)?);

    let file = trial.cluster.scratch.file("envoy.json");
    let prefix = trial.ports.socket_prefix();
    let text =
        fs::read_to_string(&file)?.replace(&format!("@{prefix}-"), &format!("@{prefix}-epoch-1-"));
    fs::write(&file, text)?;
    let log = trial.cluster.scratch.file("envoy-1.log");
    let child = Process::start(&mut second.context("no command")?, &log)?;
    wait::until_true("the first Envoy to end", wait::LONG, || {
        trial.envoy.process().exited().is_some()
    })
    .with_context(|| child.log())?;
    sleep(Duration::from_secs(1));
    let (failed, longest) = new.stop()?;
    println!("{failed} new clients were not served, the longest waited {longest:?}");
    assert_calm("those that stayed", &load.stop(), 1);
    assert_eq!(failed, 0, "{}", child.log());
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    assert_transparent("the new Envoy", &mut trial)
}
