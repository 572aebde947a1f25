//! All proxies at once in front of one Redis, so that they can take turns.

use std::fs;

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::plain::{to_node, to_node_through};
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::process::Process;
use redis_sentinel_tests::render::Config;

use crate::peers;

/// Redis itself.
pub const DIRECT: &str = "direct";
/// Plain Envoy: the same file without the module, led to that Redis.
pub const PLAIN: &str = "tcp_proxy";
/// The same with a filter that does nothing: what Envoy charges for any module.
pub const EMPTY: &str = "empty module";
/// `envoy/redis.yaml`.
pub const FILTER: &str = "filter";
/// `envoy/redis-pooled.yaml`.
pub const POOLED: &str = "pooled";
/// HAProxy with `tcp-check` for `role:master`.
pub const HAPROXY: &str = "haproxy";
/// twemproxy, with that Redis as its only server.
pub const NUTCRACKER: &str = "nutcracker";

/// Somebody who can be asked for Redis' answers.
#[derive(Clone)]
pub struct Contender {
    /// Its name in every table.
    pub name: &'static str,
    /// Where clients connect.
    pub port: u16,
    /// Its processes; none for Redis itself.
    pub pids: Vec<u32>,
}

/// All of them, running. The first fields are dropped, and so stopped, first.
pub struct Contenders {
    list: Vec<Contender>,
    _peers: Vec<Process>,
    _envoys: Vec<Envoy>,
    /// What they lead to: one Redis without replicas, whose copies would take the processors that are measured.
    pub cluster: Cluster,
    _ports: Vec<PortBlock>,
}

impl Contenders {
    /// Starts them, with that many workers each where there is a choice.
    pub fn start(workers: usize) -> Result<Self> {
        let mut ports = PortBlock::claim()?;
        let cluster = Cluster::start(&mut ports, 1, 3)?;
        let redis = cluster.redis.first().context("no Redis")?.port;
        let mut contenders = Self {
            list: vec![Contender {
                name: DIRECT,
                port: redis,
                pids: vec![],
            }],
            _peers: vec![],
            _envoys: vec![],
            cluster,
            _ports: vec![],
        };
        contenders.envoy(PLAIN, workers, |config| to_node(config, redis))?;
        let empty = contenders.cluster.scratch.file("empty.wasm");
        fs::write(&empty, wat::parse_str(include_str!("../empty.wat"))?)?;
        contenders.envoy(EMPTY, workers, |config| {
            to_node_through(config, redis, &empty)
        })?;
        contenders.envoy(FILTER, workers, Ok)?;
        contenders.envoy(POOLED, workers, Ok)?;
        let scratch = contenders.cluster.scratch.path().to_owned();
        let peers = [
            (
                HAPROXY,
                peers::haproxy(&mut ports, &[redis], workers, &scratch)?,
            ),
            (NUTCRACKER, peers::nutcracker(&mut ports, redis, &scratch)?),
        ];
        for (name, peer) in peers {
            contenders.list.push(Contender {
                name,
                port: peer.port,
                pids: vec![peer.process.pid()],
            });
            contenders._peers.push(peer.process);
        }
        contenders._ports.push(ports);
        Ok(contenders)
    }

    /// All of them.
    pub fn all(&self) -> &[Contender] {
        &self.list
    }

    /// Redis itself.
    pub fn redis(&self) -> u16 {
        self.list[0].port
    }

    fn envoy(
        &mut self,
        name: &'static str,
        workers: usize,
        change: impl FnOnce(Config) -> Result<Config>,
    ) -> Result<()> {
        let mut ports = PortBlock::claim()?;
        let (file, listener) = match name {
            POOLED => ("envoy/redis-pooled.yaml", "redis_pooled"),
            _ => ("envoy/redis.yaml", "redis"),
        };
        let sentinels = self.cluster.sentinel_ports();
        let mut config = change(Config::from_shipped(file, &mut ports)?.seeds(&sentinels)?)?;
        let port = config.port(listener)?;
        let dir = self.cluster.scratch.file(name);
        fs::create_dir_all(&dir)?;
        let mut envoy = Envoy::start_with_workers(config, &dir, &workers.to_string())?;
        if ![PLAIN, EMPTY].contains(&name) {
            envoy.wait_until_ready()?;
        }
        self.list.push(Contender {
            name,
            port,
            pids: vec![envoy.process().pid()],
        });
        self._envoys.push(envoy);
        self._ports.push(ports);
        Ok(())
    }
}

/// The order of a round: everybody once, each round another one first; then those that are compared with each other once
/// more, in the other order, so that none has the better place.
pub fn order(all: &[Contender], round: usize) -> Vec<&Contender> {
    let first = round % all.len().max(1);
    let mut order: Vec<&Contender> = all[first..].iter().chain(&all[..first]).collect();
    let pair: Vec<&Contender> = order
        .iter()
        .copied()
        .filter(|contender| [PLAIN, EMPTY, FILTER].contains(&contender.name))
        .collect();
    order.extend(pair.into_iter().rev());
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_everybody_and_the_pair_twice_in_either_order() {
        let all = [DIRECT, PLAIN, FILTER, HAPROXY].map(|name| Contender {
            name,
            port: 1,
            pids: vec![],
        });
        let names = |round| -> Vec<&str> { order(&all, round).iter().map(|c| c.name).collect() };
        assert_eq!(names(0), [DIRECT, PLAIN, FILTER, HAPROXY, FILTER, PLAIN]);
        assert_eq!(names(2), [FILTER, HAPROXY, DIRECT, PLAIN, PLAIN, FILTER]);
        assert_eq!(names(4), names(0));
    }
}
