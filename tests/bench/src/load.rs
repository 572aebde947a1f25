//! What following the Sentinels costs: the proxy that has no clients, and the Sentinels.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::plain::without_module;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::sentinel::Sentinel;
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};

use crate::conversation::{Crowd, Words};
use crate::plan::Plan;
use crate::switch::many_files;
use crate::usage;

/// The time of an idle measurement is cut into so many windows, so that a disturbance shows.
const WINDOWS: u32 = 6;

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// CPU of an Envoy that follows, and of one that does not, each without clients: ms per minute, window by window.
    pub idle: Vec<[f64; 2]>,
    /// What each Sentinel did for no, one, and several real proxies with three slots.
    pub sidecars: Vec<Asked>,
    /// What a single Sentinel did for many conversations like those.
    pub conversations: Vec<Asked>,
    /// Bytes that a slot says at first, and each five seconds.
    pub said: [usize; 2],
}

/// What Sentinels did for so many of something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Asked {
    /// Sidecars, or conversations.
    pub by: usize,
    /// Each Sentinel.
    pub sentinels: Vec<Work>,
    /// The longest of some PINGs to the first Sentinel meanwhile, ms.
    pub ping: f64,
}

/// What one Sentinel did, by its own INFO.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Work {
    /// Connections.
    pub connections: f64,
    /// Commands per second.
    pub commands: f64,
    /// Bytes per second that it received,
    pub received: f64,
    /// and that it sent.
    pub sent: f64,
    /// CPU, ms per minute.
    pub cpu: f64,
}

/// Measures it.
pub fn measure(plan: &Plan) -> Result<Load> {
    let most = plan.conversations.iter().copied().max().unwrap_or(0);
    many_files(2 * most as u64 + 2_000)?;
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let all: Vec<_> = cluster.sentinels.iter().collect();
    sleep(plan.idle_calm);
    eprintln!("load: the Sentinels by themselves");
    let mut sidecars = vec![asked(0, &all, plan.idle_time)?];
    let (first, first_ports) = sidecar(&cluster, 0, Ok)?;
    let (plain, plain_ports) = sidecar(&cluster, 1, without_module)?;
    let mut pair = [first, plain];
    sleep(plan.idle_calm);
    eprintln!("load: one sidecar");
    let (idle, one) = idle(&mut pair, &all, plan.idle_time)?;
    sidecars.push(one);
    let [first, _] = pair;
    drop(plain_ports);
    let mut crowd = vec![(first, first_ports)];
    for number in 1..plan.sidecars {
        ensure!(!wait::interrupted(), "interrupted");
        crowd.push(sidecar(&cluster, number + 1, Ok)?);
    }
    sleep(plan.idle_calm);
    eprintln!("load: {} sidecars", crowd.len());
    sidecars.push(asked(crowd.len(), &all, plan.idle_time)?);
    drop(crowd);
    let words = Words::of(&cluster)?;
    let mut conversations = vec![];
    for &size in &plan.conversations {
        eprintln!("load: {size} conversations with one Sentinel");
        let crowd = Crowd::start(&words, cluster.sentinels[0].port, size)?;
        sleep(plan.idle_calm / 2);
        conversations.push(asked(size, &all[..1], plan.idle_time / 2)?);
        crowd.stop()?;
    }
    Ok(Load {
        idle,
        sidecars,
        conversations,
        said: [words.greeting.len(), words.poll.len()],
    })
}

/// Another Envoy that follows these Sentinels, with one worker and three slots.
fn sidecar(
    cluster: &Cluster,
    number: usize,
    change: impl FnOnce(Config) -> Result<Config>,
) -> Result<(Envoy, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
        .seeds(&cluster.sentinel_ports())?
        .watch_slots(3)?;
    let dir = cluster.scratch.file(&format!("sidecar-{number}"));
    fs::create_dir_all(&dir)?;
    let envoy = Envoy::start_with_workers(change(config)?, &dir, "1")?;
    Ok((envoy, ports))
}

/// The CPU of both, and what the Sentinels do meanwhile.
fn idle(
    pair: &mut [Envoy; 2],
    sentinels: &[&Sentinel],
    time: Duration,
) -> Result<(Vec<[f64; 2]>, Asked)> {
    let pids = pair.each_mut().map(|envoy| envoy.process().pid());
    std::thread::scope(|scope| {
        let meanwhile = scope.spawn(|| {
            let window = |_| -> Result<[f64; 2]> {
                let begun = Instant::now();
                let before = [usage::cpu(&pids[..1])?, usage::cpu(&pids[1..])?];
                sleep(time / WINDOWS);
                let after = [usage::cpu(&pids[..1])?, usage::cpu(&pids[1..])?];
                let share =
                    |i: usize| (after[i] - before[i]).as_secs_f64() / begun.elapsed().as_secs_f64();
                Ok([0, 1].map(|index| share(index) * 60e3))
            };
            (0..WINDOWS).map(window).collect::<Result<Vec<_>>>()
        });
        let asked = asked(1, sentinels, time)?;
        let idle = meanwhile
            .join()
            .map_err(|_| anyhow::anyhow!("panicked"))??;
        Ok((idle, asked))
    })
}

fn asked(by: usize, sentinels: &[&Sentinel], time: Duration) -> Result<Asked> {
    let begun = Instant::now();
    let look = || sentinels.iter().map(|sentinel| Counters::of(sentinel));
    let before = look().collect::<Result<Vec<_>>>()?;
    let mut ping = Duration::ZERO;
    while begun.elapsed() < time {
        ensure!(!wait::interrupted(), "interrupted");
        let asked = Instant::now();
        sentinels.first().context("no Sentinel")?.call(&["PING"])?;
        ping = ping.max(asked.elapsed());
        sleep(Duration::from_millis(500));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = look().collect::<Result<Vec<_>>>()?;
    let work = after.iter().zip(&before);
    Ok(Asked {
        by,
        sentinels: work
            .map(|(after, before)| after.since(before, seconds))
            .collect(),
        ping: ping.as_secs_f64() * 1e3,
    })
}

/// What INFO counts.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counters {
    connections: f64,
    commands: f64,
    received: f64,
    sent: f64,
    /// Seconds.
    cpu: f64,
}

impl Counters {
    fn of(sentinel: &Sentinel) -> Result<Self> {
        let info = sentinel.call(&["INFO"])?.text();
        Self::parse(&info.context("INFO is no text")?)
    }

    fn parse(info: &str) -> Result<Self> {
        let field = |name: &str| -> Result<f64> {
            let value = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = value.with_context(|| format!("no {name} in INFO"))?;
            Ok(value.trim().parse()?)
        };
        Ok(Self {
            connections: field("connected_clients")?,
            commands: field("total_commands_processed")?,
            received: field("total_net_input_bytes")?,
            sent: field("total_net_output_bytes")?,
            cpu: field("used_cpu_sys")? + field("used_cpu_user")?,
        })
    }

    fn since(&self, before: &Self, seconds: f64) -> Work {
        Work {
            connections: self.connections,
            commands: (self.commands - before.commands) / seconds,
            received: (self.received - before.received) / seconds,
            sent: (self.sent - before.sent) / seconds,
            cpu: (self.cpu - before.cpu) / seconds * 60e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Clients\r\nconnected_clients:7\r\n# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:0.25\r\n\
        used_cpu_sys_children:9\r\n# Stats\r\ntotal_commands_processed:100\r\ntotal_net_input_bytes:2000\r\n\
        total_net_output_bytes:30000\r\n";

    #[test]
    fn the_difference_of_two_looks_at_a_sentinel() {
        let before = Counters::parse(INFO).expect("INFO");
        let later = INFO
            .replace("processed:100", "processed:150")
            .replace("user:0.25", "user:0.5");
        let work = Counters::parse(&later).expect("INFO").since(&before, 5.0);
        assert_eq!(
            (work.connections, work.commands, work.received),
            (7.0, 10.0, 0.0)
        );
        assert!((work.cpu - 3000.0).abs() < 1e-6, "{}", work.cpu);
        assert!(Counters::parse("connected_clients:7\r\n").is_err());
    }
}
