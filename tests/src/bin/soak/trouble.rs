//! What goes wrong.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use redis_sentinel_tests::hostile::come_and_go;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

use crate::links::Links;

/// Numbers by chance, the same from the same seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of `count` numbers, from 0 on.
    pub fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % count
    }
}

/// One trouble, with its length where it has one.
#[derive(Clone, Debug)]
pub enum Trouble {
    Planned,
    KillMaster,
    HangMaster(Duration),
    CutMaster(Duration),
    KillReplica,
    HangReplica(Duration),
    RestartSentinel,
    HangSentinel(Duration),
    CutSentinel(Duration),
    NoSentinels(Duration),
    ResetSentinels,
    Crowd,
}

/// Longer than this, Sentinel notices (`down-after-milliseconds` is 1000) and fails over.
const NOTICED: Duration = Duration::from_millis(2500);
/// Shorter than this, it does not.
const UNNOTICED: Duration = Duration::from_millis(600);

impl Trouble {
    /// One by chance.
    pub fn by(chance: &mut Chance, links: bool) -> Self {
        let short = UNNOTICED.mul_f64(0.2 + 0.1 * chance.below(8) as f64);
        let long = NOTICED + Duration::from_millis(500 * chance.below(10));
        loop {
            return match chance.below(15) {
                0..=2 => Self::Planned,
                3 => Self::KillMaster,
                4 => Self::HangMaster(long),
                5 => Self::HangMaster(short),
                6 if links => Self::CutMaster(long),
                7 if links => Self::CutMaster(short),
                8 => Self::KillReplica,
                9 => Self::HangReplica(long),
                10 => Self::RestartSentinel,
                11 => Self::HangSentinel(long),
                12 if links => Self::CutSentinel(long),
                13 => Self::NoSentinels(long),
                14 if chance.below(2) == 0 => Self::ResetSentinels,
                14 => Self::Crowd,
                _ => continue,
            };
        }
    }

    /// Whether another node is the master afterwards.
    pub fn moves_the_master(&self) -> bool {
        match self {
            Self::Planned | Self::KillMaster => true,
            Self::HangMaster(time) | Self::CutMaster(time) => *time >= NOTICED,
            _ => false,
        }
    }

    /// Whether clients of the master have reason to notice.
    pub fn concerns_the_master(&self) -> bool {
        matches!(
            self,
            Self::Planned | Self::KillMaster | Self::HangMaster(_) | Self::CutMaster(_)
        )
    }

    /// Whether what a master acknowledged and had not replicated may be gone with it.
    pub fn may_lose(&self) -> bool {
        self.moves_the_master() && !matches!(self, Self::Planned)
    }

    /// Does it, and ends it where it has an end. The master is on this port.
    pub fn strike(&self, trial: &mut Trial, master: u16, links: Option<&Links>) -> Result<()> {
        let replica = replica(trial, master)?;
        match self {
            Self::Planned => trial.cluster.fail_over(),
            Self::KillMaster => {
                trial.cluster.node(master)?.process().kill();
                Ok(())
            }
            Self::KillReplica => {
                trial.cluster.node(replica)?.process().kill();
                sleep(NOTICED);
                Ok(())
            }
            Self::HangMaster(time) => hang_master(trial, master, *time),
            Self::HangReplica(time) => {
                let replica = trial.cluster.node(replica)?.process();
                replica.signal(Signal::SIGSTOP)?;
                sleep(*time);
                replica.signal(Signal::SIGCONT)
            }
            Self::CutMaster(time) => cut(links, master, *time),
            Self::CutSentinel(time) => cut(links, trial.cluster.sentinels[1].port, *time),
            Self::RestartSentinel => trial.cluster.sentinels[0].restart(),
            Self::HangSentinel(time) => {
                let sentinel = trial.cluster.sentinels[2].process();
                sentinel.signal(Signal::SIGSTOP)?;
                sleep(*time);
                sentinel.signal(Signal::SIGCONT)
            }
            Self::NoSentinels(time) => {
                for sentinel in &mut trial.cluster.sentinels {
                    sentinel.process().kill();
                }
                sleep(*time);
                trial
                    .cluster
                    .sentinels
                    .iter_mut()
                    .try_for_each(|sentinel| sentinel.restart())
            }
            Self::ResetSentinels => {
                trial.cluster.sentinels[0].call(&["SENTINEL", "RESET", "*"])?;
                sleep(NOTICED);
                Ok(())
            }
            Self::Crowd => {
                let wrong = come_and_go(trial.envoy.port, 5_000, 64);
                anyhow::ensure!(wrong == 0, "{wrong} of a crowd were treated badly");
                Ok(())
            }
        }
    }

    /// Brings back what is still missing.
    pub fn clean_up(&self, trial: &mut Trial, master: u16) -> Result<()> {
        for node in &mut trial.cluster.redis {
            if node.process().exited().is_some() {
                node.restart(Some(master))?;
            }
        }
        Ok(())
    }
}

fn replica(trial: &Trial, master: u16) -> Result<u16> {
    let mut ports = trial.cluster.redis.iter().map(|node| node.port);
    ports.find(|port| *port != master).context("no replica")
}

fn hang_master(trial: &mut Trial, node: u16, time: Duration) -> Result<()> {
    trial
        .cluster
        .node(node)?
        .process()
        .signal(Signal::SIGSTOP)?;
    wait_out(trial, time);
    trial.cluster.node(node)?.process().signal(Signal::SIGCONT)
}

fn cut(links: Option<&Links>, port: u16, time: Duration) -> Result<()> {
    let links = links.context("no network of our own")?;
    links.cut(port)?;
    sleep(time);
    links.heal()
}

/// A master that comes back before the election is over would stay the master: waits for its end.
fn wait_out(trial: &Trial, time: Duration) {
    let old = trial.cluster.master();
    sleep(time);
    if time >= NOTICED {
        let _ = wait::until_true("the failover", wait::LONG, || trial.cluster.master() != old);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, time) = match self {
            Self::Planned => ("planned failover", None),
            Self::KillMaster => ("master killed", None),
            Self::HangMaster(time) => ("master hangs", Some(time)),
            Self::CutMaster(time) => ("master cut off", Some(time)),
            Self::KillReplica => ("replica killed", None),
            Self::HangReplica(time) => ("replica hangs", Some(time)),
            Self::RestartSentinel => ("Sentinel restarted", None),
            Self::HangSentinel(time) => ("Sentinel hangs", Some(time)),
            Self::CutSentinel(time) => ("Sentinel cut off", Some(time)),
            Self::NoSentinels(time) => ("no Sentinel", Some(time)),
            Self::ResetSentinels => ("SENTINEL RESET", None),
            Self::Crowd => ("5,000 connections come and go", None),
        };
        match time {
            None => f.write_str(name),
            Some(time) if *time < NOTICED => write!(f, "{name} briefly"),
            Some(_) => f.write_str(name),
        }
    }
}
