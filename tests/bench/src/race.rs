//! One failover, several ways through it at the same time.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::{redis, wait};
use serde::{Deserialize, Serialize};

use crate::contenders::{FILTER, HAPROXY, POOLED};
use crate::judge::{Seen, Times, judge};
use crate::peers;
use crate::plan::Plan;
use crate::racer::{self, Aware, Event, Manner, Plain};

/// `envoy/redis.yaml` with `early_switch`, which is off by default.
pub const FILTER_EARLY: &str = "filter, early_switch";
/// HAProxy with `on-marked-down shutdown-sessions`.
pub const HAPROXY_STRICT: &str = "haproxy, sessions shut";
/// A client that asks Sentinel itself.
pub const REDIS_PY: &str = "redis-py";

const MANNER: Manner = Manner {
    clients: 8,
    pause: Duration::from_millis(20),
    // As many libraries do.
    timeout: Duration::from_secs(5),
};

/// All failovers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Race {
    /// Those that went as they should.
    pub runs: Vec<Run>,
    /// Those that could not be judged, and why: Sentinel did not promote anybody, a client could not be started.
    pub failed: Vec<String>,
}

/// One failover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// `planned`, `kill`, `hang`.
    pub fault: String,
    /// From the fault to Sentinel's `+promoted-slave`, ms.
    pub promoted: f64,
    /// What the clients of each contender saw.
    pub seen: BTreeMap<String, Seen>,
}

/// More failures than this are no accident.
const FAILURES: usize = 3;

/// Measures it.
pub fn measure(plan: &Plan) -> Result<Race> {
    let mut race = Race::default();
    for fault in Fault::ALL {
        let mut track = None;
        for number in 1..=plan.race_runs {
            let name = format!("{fault} {number} of {}", plan.race_runs);
            match one(&mut track, fault, plan) {
                Ok(run) => {
                    eprintln!("race: {name}: {}", summary(&run));
                    race.runs.push(run);
                }
                Err(error) => {
                    eprintln!("race: {name}: {error:#}");
                    track = None;
                    race.failed.push(format!("{name}: {error:#}"));
                    ensure!(race.failed.len() <= FAILURES, "too many failures");
                }
            }
        }
    }
    Ok(race)
}

fn one(track: &mut Option<Track>, fault: Fault, plan: &Plan) -> Result<Run> {
    ensure!(!wait::interrupted(), "interrupted");
    // Planned failovers go on in one system. After a real one Sentinel refuses the next for twice its timeout: a new system is
    // quicker.
    let mut current = match track.take() {
        Some(track) => {
            track.trial.settle()?;
            track
        }
        None => Track::start(plan)?,
    };
    let run = current.run(fault, plan.race_window)?;
    if fault == Fault::Planned {
        *track = Some(current);
    }
    Ok(run)
}

fn summary(run: &Run) -> String {
    let one = |(name, seen): (&String, &Seen)| {
        format!("{name} {:.0} ms, {} lost", seen.silence, seen.lost)
    };
    run.seen.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// A system with all contenders on it. The first fields are dropped, and so stopped, first.
struct Track {
    proxies: Vec<(&'static str, u16)>,
    _haproxy: Process,
    _envoys: [Envoy; 2],
    trial: Trial,
    _ports: [PortBlock; 2],
}

impl Track {
    fn start(plan: &Plan) -> Result<Self> {
        let mut trial = Trial::start()?;
        let sentinels = trial.cluster.sentinel_ports();
        let mut ports = [PortBlock::claim()?, PortBlock::claim()?];
        let early = Config::from_shipped("envoy/redis.yaml", &mut ports[0])?
            .seeds(&sentinels)?
            .plugin("early_switch", "enabled", &true.into());
        let early = follow(early, &trial, FILTER_EARLY)?;
        let mut pooled =
            Config::from_shipped("envoy/redis-pooled.yaml", &mut ports[1])?.seeds(&sentinels)?;
        let pooled_port = pooled.port("redis_pooled")?;
        let pooled = follow(pooled, &trial, POOLED)?;
        let nodes: Vec<_> = trial.cluster.redis.iter().map(|node| node.port).collect();
        let scratch = trial.cluster.scratch.path().to_owned();
        let haproxy = peers::haproxy(&mut trial.ports, &nodes, plan.workers, &scratch)?;
        Ok(Self {
            proxies: vec![
                (FILTER, trial.envoy.port),
                (FILTER_EARLY, early.port),
                (POOLED, pooled_port),
                (HAPROXY, haproxy.port),
                (HAPROXY_STRICT, haproxy.strict_port),
            ],
            _haproxy: haproxy.process,
            _envoys: [early, pooled],
            trial,
            _ports: ports,
        })
    }

    fn run(&mut self, fault: Fault, window: Duration) -> Result<Run> {
        ensure!(!wait::interrupted(), "interrupted");
        let old = self.trial.cluster.master().context("no master")?;
        // HAProxy takes every node for a master until its first check, and learns of a failover at the next: ask often enough
        // to be led to each node in turn.
        wait::until_true("all proxies to lead to the master", wait::LONG, || {
            let often = |port| (0..9).all(|_| racer::leads_to(port) == Some(old));
            self.proxies.iter().all(|(_, port)| often(*port))
        })?;
        let clients = self.clients(old)?;
        sleep(Duration::from_secs(1)); // of steady load
        let (struck, begun) = (racer::now(), Instant::now());
        self.trial.strike(fault, old)?;
        let promoted = self.trial.events.wait_for("+promoted-slave", begun)?.at;
        let new = self.trial.cluster.wait_for_master_after(old)?;
        sleep((promoted + window).saturating_duration_since(Instant::now()));
        let times = Times {
            struck,
            promoted: struck + promoted.saturating_duration_since(begun).as_secs_f64(),
            ended: racer::now(),
        };
        let seen = clients.seen()?;
        let judged = seen.iter().map(|(name, events)| {
            let has = |client| counter(new, name, client);
            Ok(((*name).to_owned(), judge(events, times, new, has)?))
        });
        Ok(Run {
            fault: fault.to_string(),
            promoted: (times.promoted - times.struck) * 1e3,
            seen: judged.collect::<Result<_>>()?,
        })
    }

    /// All of them, writing to the master.
    fn clients(&self, master: u16) -> Result<Clients> {
        let aware = Aware::start(&self.trial.cluster.sentinel_ports(), MANNER)?;
        let start =
            |(name, port): &(&'static str, u16)| Ok((*name, Plain::start(name, *port, MANNER)?));
        let plain = self.proxies.iter().map(start).collect::<Result<Vec<_>>>()?;
        let clients = Clients { plain, aware };
        let before = aware_counters(master);
        let missing = || -> Vec<&str> {
            let grown = aware_counters(master);
            let aware = grown.iter().zip(&before).all(|(now, then)| now > then);
            let plain = clients.plain.iter();
            let waits = plain.filter(|(_, clients)| !clients.all_write_to(master));
            let mut missing: Vec<_> = waits.map(|(name, _)| *name).collect();
            missing.extend((!aware).then_some(REDIS_PY));
            missing
        };
        wait::until_true("all clients to write", wait::LONG, || missing().is_empty())
            .with_context(|| format!("{:?} do not", missing()))?;
        Ok(clients)
    }
}

/// Another Envoy of the same system, once it knows the master.
fn follow(config: Config, trial: &Trial, name: &str) -> Result<Envoy> {
    let dir = trial.cluster.scratch.file(name);
    fs::create_dir_all(&dir)?;
    let envoy = Envoy::start(config, &dir)?;
    envoy.wait_until_ready()?;
    Ok(envoy)
}

/// A contender, and what each of its clients saw.
type Told = (&'static str, Vec<Vec<Event>>);

struct Clients {
    plain: Vec<(&'static str, Plain)>,
    aware: Aware,
}

impl Clients {
    /// Ends them all, and then asks.
    fn seen(self) -> Result<Vec<Told>> {
        for (_, clients) in &self.plain {
            clients.end();
        }
        let mut seen = vec![(REDIS_PY, self.aware.seen()?)];
        seen.extend(
            self.plain
                .into_iter()
                .map(|(name, clients)| (name, clients.seen())),
        );
        Ok(seen)
    }
}

fn aware_counters(master: u16) -> Vec<i64> {
    let of = |client| counter(master, REDIS_PY, client).unwrap_or(0);
    (0..MANNER.clients).map(of).collect()
}

/// What the node has of a client's counter.
fn counter(node: u16, contender: &str, client: usize) -> Result<i64> {
    let value = redis::call(node, &["GET", &racer::key(contender, client)])?.text();
    Ok(value.and_then(|text| text.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_redis_py_have_the_keys_that_are_looked_at() {
        let script = include_str!("../redis_py.py");
        let key = racer::key(REDIS_PY, 7).replace('7', "{index}");
        assert!(script.contains(&key), "{key}");
    }
}
