//! One failover under load, from a cluster in step to its outcome.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::envoy::Envoy;
use crate::events::Events;
use crate::fault::Fault;
use crate::outcome::Outcome;
use crate::ports::PortBlock;
use crate::render::Config;
use crate::resp::Connection;
use crate::roles::Roles;
use crate::wait;
use crate::workload::{Plan, Record, Workload};

/// A cluster behind Envoy, with an ear on every Sentinel.
pub struct Trial {
    /// What the Sentinels say.
    pub events: Events,
    /// The proxy.
    pub envoy: Envoy,
    /// What it follows.
    pub cluster: Cluster,
    /// For whatever else a test starts.
    pub ports: PortBlock,
    /// Whether Envoy switches on the replica's own word: then that is where our part of the time begins.
    pub early_switch: bool,
}

impl Trial {
    /// Three Redis, three Sentinels, Envoy with the shipped configuration; waits until the master is known.
    pub fn start() -> Result<Self> {
        Self::start_with(Ok)
    }

    /// The same with changes to the configuration.
    pub fn start_with(change: impl FnOnce(Config) -> Result<Config>) -> Result<Self> {
        Self::start_among(3, change)
    }

    /// The same with that many Sentinels.
    pub fn start_among(
        sentinels: usize,
        change: impl FnOnce(Config) -> Result<Config>,
    ) -> Result<Self> {
        let mut ports = PortBlock::claim()?;
        let cluster = Cluster::start(&mut ports, 3, sentinels)?;
        let events = Events::of(&cluster.sentinel_ports())?;
        let config = change(
            Config::from_shipped("envoy/redis.yaml", &mut ports)?
                .seeds(&cluster.sentinel_ports())?,
        )?;
        let envoy = Envoy::start(config, cluster.scratch.path())?;
        envoy.wait_until_ready()?;
        Ok(Self {
            events,
            envoy,
            cluster,
            ports,
            early_switch: false,
        })
    }

    /// The same with or without `early_switch`.
    pub fn start_early(early_switch: bool) -> Result<Self> {
        let enabled = early_switch.into();
        Ok(Self {
            early_switch,
            ..Self::start_with_plugin("early_switch", "enabled", &enabled)?
        })
    }

    /// The same with one field of the module's configuration.
    pub fn start_with_plugin(root_id: &str, field: &str, value: &Value) -> Result<Self> {
        Self::start_with(|config| Ok(config.plugin(root_id, field, value)))
    }

    /// A load of `clients` that write about 25 times a second each.
    pub fn load(&self, clients: usize) -> Result<Workload> {
        let pause = Duration::from_millis(40);
        // Longer than any failover here: a client's own time limit would hide what the proxy does.
        Workload::start(Plan {
            port: self.envoy.port,
            clients,
            pause,
            timeout: Duration::from_secs(30),
        })
    }

    /// Takes the master away under the load of `clients`, and judges what they saw once all of them write again.
    pub fn fail(&mut self, fault: Fault, clients: usize) -> Result<Outcome> {
        let old = self.cluster.master().context("no master")?;
        let load = self.load(clients)?;
        wait::until_true("every client to write", wait::LONG, || {
            load.all_write_to(old)
        })?;
        std::thread::sleep(Duration::from_secs(1)); // of steady load: the rate is counted over it
        let roles = self.early_switch.then(|| self.roles(old));
        let begun = Instant::now();
        self.strike(fault, old)?;
        let mut promoted = self.events.wait_for("+promoted-slave", begun)?.at;
        let new = self.cluster.wait_for_master_after(old)?;
        if let Some(roles) = roles {
            promoted = roles.turned(new)?;
        }
        let back = wait::until_true(
            "every client to write to the new master",
            wait::LONG,
            || load.all_write_to(new),
        );
        std::thread::sleep(Duration::from_secs(1)); // whatever still goes wrong now is part of the outcome
        let records = load.stop();
        back.with_context(|| stragglers(&records, new))?;
        Outcome::of(&records, begun, promoted, new)
    }

    /// Watches all nodes but `master` for the moment in which one becomes a master.
    pub fn roles(&self, master: u16) -> Roles {
        let nodes = self.cluster.redis.iter().map(|node| node.port);
        Roles::of(&nodes.filter(|port| *port != master).collect::<Vec<_>>())
    }

    /// The node that answers a new connection through the proxy.
    pub fn answers(&self) -> Result<u16> {
        let mut connection = Connection::open(self.envoy.port, wait::LONG)?;
        let reply = connection.call(&["CONFIG", "GET", "port"])?;
        let port = reply.field("port").with_context(|| format!("{reply:?}"))?;
        Ok(port.parse()?)
    }

    /// Asks for `time` whether every new connection is answered by `node`.
    pub fn assert_answered_by(&self, node: u16, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(self.answers()?, node);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A counter of the module.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let stats = self.envoy.stats(&format!("redis_sentinel.*{name}"))?;
        Ok(stats.values().sum())
    }

    /// Only the fault itself.
    pub fn strike(&mut self, fault: Fault, master: u16) -> Result<()> {
        match fault {
            Fault::Planned => self.cluster.fail_over(),
            Fault::Kill => {
                self.cluster.node(master)?.process().kill();
                Ok(())
            }
            Fault::Hang => self.cluster.node(master)?.process().signal(Signal::SIGSTOP),
        }
    }

    /// After a planned failover: waits for the end of it, so that the next one can begin. Sentinel leaves the old master
    /// writable for up to half a minute; it is told here.
    pub fn settle(&self) -> Result<()> {
        // Looked at anew each time: on a busy machine two Sentinels may lead a failover each, one after the other.
        wait::until_true("the end of the failover", 2 * wait::LONG, || {
            let Some(master) = self.cluster.master() else {
                return false;
            };
            let mut sentinels = self.cluster.sentinels.iter();
            let over = sentinels.all(|sentinel| {
                sentinel.master() == Some(master)
                    && sentinel.master_field("flags").as_deref() == Some("master")
            });
            let others = self.cluster.redis.iter().filter(|node| node.port != master);
            if over {
                for node in others.clone().filter(|node| node.is_master()) {
                    let _ = node.call(&["REPLICAOF", "127.0.0.1", &master.to_string()]);
                }
            }
            over && others.clone().all(|node| node.follows(master))
        })
    }
}

/// What those saw who never wrote to `master`.
fn stragglers(records: &[Record], master: u16) -> String {
    let away = |record: &&Record| record.acks.last().is_none_or(|ack| ack.node != master);
    let stragglers: Vec<_> = records
        .iter()
        .filter(away)
        .map(|record| Record {
            acks: vec![],
            ..record.clone()
        })
        .collect();
    format!(
        "{} of {} clients, the first of them {:?}",
        stragglers.len(),
        records.len(),
        stragglers.first()
    )
}
