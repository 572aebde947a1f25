//! The machines.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::json;

use crate::envoy::Envoy;
use crate::net::{Host, Network};
use crate::ports::PortBlock;
use crate::process::Process;
use crate::render::Config;
use crate::resp::Value;
use crate::scratch::Scratch;
use crate::sentinel::MASTER;
use crate::{redis, tools, wait};

/// Where the first Sentinel listens; the others on the ports after it.
pub(super) const SENTINEL_PORT: u16 = 26001;

/// A machine with one server on it.
pub struct Machine {
    /// The machine.
    pub host: Host,
    /// Where its server listens. No two have the same, so that clients can tell who answered.
    pub port: u16,
    // Ends with the value.
    _process: Process,
}

impl Machine {
    fn start(host: Host, port: u16, program: &str, text: &str, scratch: &Scratch) -> Result<Self> {
        let file = scratch.file(&format!("{}.conf", host.name()));
        let dir = scratch.path().display();
        fs::write(
            &file,
            format!("bind 0.0.0.0\nprotected-mode no\nport {port}\ndir {dir}\n{text}"),
        )?;
        let mut command = host.command(tools::redis(program));
        let process = host.start(command.arg(&file), &file.with_extension("log"))?;
        let machine = Self {
            host,
            port,
            _process: process,
        };
        wait::until_true("a server to answer", wait::LONG, || {
            machine.call(&["PING"]).is_ok()
        })?;
        Ok(machine)
    }

    /// One command, asked on the machine itself: no cut is in the way.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        self.host.enter(|| redis::call(self.port, command))?
    }

    /// Of a Sentinel: the port of the master that it names.
    pub fn master(&self) -> Option<u16> {
        let reply = self.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        reply.ok()?.items().get(1)?.text()?.parse().ok()
    }

    fn replication(&self, field: &str) -> Option<String> {
        let info = self.call(&["INFO", "replication"]).ok()?.text()?;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    fn follows(&self, master: u16) -> bool {
        self.replication("master_port") == Some(master.to_string())
            && self.replication("master_link_status").as_deref() == Some("up")
    }
}

/// All of them. The proxy's machine is the one that the calling thread is on.
pub struct System {
    /// The proxy, on this thread's machine.
    pub envoy: Envoy,
    /// The Redis nodes; the first one begins as the master.
    pub nodes: Vec<Machine>,
    /// The Sentinels.
    pub sentinels: Vec<Machine>,
    /// What is between them.
    pub network: Network,
    _ports: PortBlock,
    _scratch: Scratch,
}

impl System {
    /// Starts it all and waits until it is in step. `redis` are lines of every node's configuration.
    pub fn start(network: &Network, redis: &str) -> Result<Self> {
        let (scratch, mut ports) = (Scratch::new()?, PortBlock::claim()?);
        let mut nodes: Vec<Machine> = vec![];
        for (index, port) in (6001..=6003).enumerate() {
            // Replicas join at once instead of after 5 s.
            let mut text = format!(
                "save \"\"\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n{redis}\n"
            );
            if let Some(master) = nodes.first() {
                text += &format!("replicaof {} {}\n", master.host.address(), master.port);
            }
            let host = network.host(&format!("redis-{index}"))?;
            nodes.push(Machine::start(host, port, "redis-server", &text, &scratch)?);
        }
        let hosts = (0..3).map(|index| network.host(&format!("sentinel-{index}")));
        let hosts = hosts.collect::<Result<Vec<_>>>()?;
        let places: Vec<_> = hosts
            .iter()
            .map(Host::address)
            .zip(SENTINEL_PORT..)
            .collect();
        let mut sentinels = vec![];
        for (host, (address, port)) in hosts.into_iter().zip(places.clone()) {
            let others = places.iter().filter(|(other, _)| *other != address);
            let text = sentinel_text(port, &nodes, others);
            sentinels.push(Machine::start(
                host,
                port,
                "redis-sentinel",
                &text,
                &scratch,
            )?);
        }
        let mut config = Config::from_shipped("envoy/redis.yaml", &mut ports)?;
        let place = |(address, port): &(Ipv4Addr, u16)| json!({ "endpoint": { "address": { "socket_address": { "address": address.to_string(), "port_value": port } } } });
        config.item("clusters", "sentinel_seeds")?["load_assignment"]["endpoints"] =
            json!([{ "lb_endpoints": places.iter().map(place).collect::<Vec<_>>() }]);
        let envoy = Envoy::start(config, scratch.path())?;
        envoy.wait_until_ready()?;
        let system = Self {
            envoy,
            nodes,
            sentinels,
            network: network.clone(),
            _ports: ports,
            _scratch: scratch,
        };
        system.wait_until_settled()?;
        Ok(system)
    }

    /// Where the Sentinels are, for clients that ask them.
    pub fn sentinel_places(&self) -> Vec<String> {
        let place = |s: &Machine| format!("{}:{}", s.host.address(), s.port);
        self.sentinels.iter().map(place).collect()
    }

    /// The master that most Sentinels name.
    pub fn master(&self) -> Option<u16> {
        let named: Vec<_> = self.sentinels.iter().filter_map(Machine::master).collect();
        let votes = |port: &u16| named.iter().filter(|other| *other == port).count();
        named.iter().copied().find(|port| votes(port) >= 2)
    }

    /// The node on this port.
    pub fn node(&self, port: u16) -> Result<&Machine> {
        let node = self.nodes.iter().find(|node| node.port == port);
        node.with_context(|| format!("no Redis on port {port}"))
    }

    /// Waits until all Sentinels name one master, and all other nodes follow it. Nobody helps: a master that comes back
    /// from a partition is turned by Sentinel alone.
    pub fn wait_until_settled(&self) -> Result<u16> {
        wait::until("one master and its replicas", 3 * wait::LONG, || {
            let master = self.master()?;
            let agree = self
                .sentinels
                .iter()
                .all(|sentinel| sentinel.master() == Some(master));
            let mut replicas = self.nodes.iter().filter(|node| node.port != master);
            (agree && replicas.all(|node| node.follows(master))).then_some(master)
        })
    }
}

fn sentinel_text<'a>(
    port: u16,
    nodes: &[Machine],
    others: impl Iterator<Item = &'a (Ipv4Addr, u16)>,
) -> String {
    let (master, replicas) = (&nodes[0], &nodes[1..]);
    let mut text = format!(
        "sentinel myid {port:040x}\n\
         sentinel monitor {MASTER} {} {} 2\n\
         sentinel down-after-milliseconds {MASTER} 1000\n\
         sentinel failover-timeout {MASTER} 5000\n",
        master.host.address(),
        master.port
    );
    for replica in replicas {
        let (address, port) = (replica.host.address(), replica.port);
        text += &format!("sentinel known-replica {MASTER} {address} {port}\n");
    }
    for (address, port) in others {
        text += &format!("sentinel known-sentinel {MASTER} {address} {port} {port:040x}\n");
    }
    text
}
