//! Redis and Sentinels on hosts with addresses and names of their own, announced by name, with passwords, as k8s/redis has them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::net::{Dns, Host, Network};
use crate::process::Process;
use crate::resp::{Connection, Value};
use crate::scratch::Scratch;
use crate::{tools, wait};

use super::istiod::SERVICE;

mod text;

/// The name under which the Sentinels know the master.
pub const MASTER: &str = "mymaster";
/// What Redis asks for.
pub const REDIS_PASSWORD: &str = "redis secret";
/// What the Sentinels ask for.
pub const SENTINEL_PASSWORD: &str = "sentinel secret";
const NODES: usize = 3;
const DOMAIN: &str = "redis.svc.cluster.local";
const SENTINELS: &str = "sentinel-nodes.redis.svc.cluster.local";
const TIMEOUT: Duration = Duration::from_secs(5);

/// One Redis or Sentinel, alone on its host.
pub struct Node {
    /// Its host.
    pub host: Host,
    /// The name that it announces.
    pub name: String,
    port: u16,
    password: &'static str,
    process: Process,
}

impl Node {
    /// The process, to kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// One command, from its own host, so that no fault of the network is in the way. An error reply is an error.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let reply = self.host.enter(|| -> Result<Value> {
            let mut connection = Connection::open_at(address, TIMEOUT)?;
            connection.call(&["AUTH", self.password])?;
            Ok(connection.call(command)?)
        })??;
        match reply {
            Value::Error(text) => bail!("{command:?} at {}: {text}", self.name),
            reply => Ok(reply),
        }
    }

    fn info(&self, field: &str) -> Option<String> {
        let info = self.call(&["INFO", "replication"]).ok()?.text()?;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    fn follows(&self, master: &str) -> bool {
        let is = |field, value: &str| self.info(field).as_deref() == Some(value);
        is("master_host", master) && is("master_link_status", "up")
    }

    fn names(&self) -> Option<String> {
        let reply = self
            .call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])
            .ok()?;
        reply.items().first()?.text()
    }

    fn is_settled(&self) -> bool {
        let all = |what: &str, count: usize, flags: &str| {
            self.call(&["SENTINEL", what, MASTER]).is_ok_and(|reply| {
                reply.items().len() == count
                    && reply
                        .items()
                        .iter()
                        .all(|item| item.field("flags").as_deref() == Some(flags))
            })
        };
        let state = self.call(&["SENTINEL", "MASTER", MASTER]);
        state.is_ok_and(|state| state.field("flags").as_deref() == Some("master"))
            && all("REPLICAS", NODES - 1, "slave")
            && all("SENTINELS", NODES - 1, "sentinel")
    }
}

/// The whole of it. The first fields are dropped, and so stopped, first.
pub struct System {
    /// The Sentinels.
    pub sentinels: Vec<Node>,
    /// The Redis nodes; number 0 begins as the master.
    pub redis: Vec<Node>,
    dns: Dns,
    /// What all of them are linked to.
    pub network: Network,
    /// Logs and configurations.
    pub scratch: Scratch,
}

impl System {
    /// Starts it and waits until all know each other and are in step. `service` is the address of Service redis.
    pub fn start(service: Ipv4Addr) -> Result<Self> {
        let scratch = Scratch::new()?;
        let network = Network::new()?;
        let dns = Dns::start(&network, Ipv4Addr::new(10, 96, 0, 10), scratch.path())?;
        let hosts = |word: &str| -> Result<Vec<_>> {
            (0..NODES)
                .map(|n| network.host(&format!("{word}-{n}")))
                .collect()
        };
        let (redis, sentinels) = (hosts("redis")?, hosts("sentinel")?);
        let names: Vec<_> = (redis.iter().map(|host| (full_name("redis", host), host)))
            .chain(
                sentinels
                    .iter()
                    .map(|host| (full_name("sentinel", host), host)),
            )
            .chain(sentinels.iter().map(|host| (SENTINELS.to_owned(), host)))
            .map(|(name, host)| (name, IpAddr::from(host.address())))
            .chain([(SERVICE.to_owned(), IpAddr::from(service))])
            .collect();
        dns.set(
            names
                .iter()
                .map(|(name, address)| (name.as_str(), *address)),
        )?;
        let mut system = Self {
            sentinels: vec![],
            redis: vec![],
            dns,
            network,
            scratch,
        };
        for host in redis {
            let node = system.node(host, "redis", 6379, REDIS_PASSWORD, text::redis)?;
            system.redis.push(node);
        }
        wait::until_true("the replicas to be in step", wait::LONG, || {
            system.redis[1..]
                .iter()
                .all(|node| node.follows(&system.redis[0].name))
        })?;
        for host in sentinels {
            let node = system.node(host, "sentinel", 26379, SENTINEL_PASSWORD, text::sentinel)?;
            system.sentinels.push(node);
        }
        system.wait_until_settled()?;
        Ok(system)
    }

    /// Waits until every Sentinel sees a healthy master, its replicas, and the other Sentinels.
    pub fn wait_until_settled(&self) -> Result<()> {
        wait::until_true("the Sentinels to see it all", 2 * wait::LONG, || {
            self.sentinels.iter().all(Node::is_settled)
        })
    }

    /// Has `host` resolve names as a pod does.
    pub fn resolve_names(&self, host: &Host) -> Result<()> {
        let search = [
            "my-app.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
        ];
        self.dns.serve(host, &search, self.scratch.path())
    }

    /// The number of the master, once a majority of the Sentinels agrees.
    pub fn master(&self) -> Option<usize> {
        let named: Vec<_> = self.sentinels.iter().filter_map(Node::names).collect();
        let votes = |name: &String| named.iter().filter(|other| *other == name).count();
        let name = named.iter().find(|name| votes(name) > NODES / 2)?;
        self.redis.iter().position(|node| node.name == *name)
    }

    /// Waits until a majority of the Sentinels names another master than `old`.
    pub fn master_after(&self, old: usize) -> Result<usize> {
        wait::until("another master", wait::LONG, || {
            self.master().filter(|new| *new != old)
        })
    }

    /// A planned failover, asked of the first Sentinel until it agrees: not before it has heard of a replica.
    pub fn fail_over(&self) -> Result<()> {
        wait::until_true("Sentinel to agree to a failover", wait::LONG, || {
            let reply = self.sentinels[0].call(&["SENTINEL", "FAILOVER", MASTER]);
            reply.is_ok_and(|reply| reply.text().as_deref() == Some("OK"))
        })
    }

    /// The Redis pods by the name of the pod.
    pub fn pods(&self) -> Vec<(String, Ipv4Addr)> {
        self.redis
            .iter()
            .map(|node| (node.host.name().to_owned(), node.host.address()))
            .collect()
    }

    fn node(
        &self,
        host: Host,
        word: &str,
        port: u16,
        password: &'static str,
        text: impl FnOnce(&Self, &str) -> String,
    ) -> Result<Node> {
        self.resolve_names(&host)?;
        let (dir, name) = (self.scratch.file(host.name()), full_name(word, &host));
        fs::create_dir_all(&dir)?;
        let file = dir.join("node.conf");
        let common = format!(
            "port {port}\nbind 0.0.0.0\nprotected-mode no\ndir {}\nrequirepass \"{password}\"\n",
            dir.display()
        );
        fs::write(&file, common + &text(self, &name))?;
        let process = launch(&host, word, &file)?;
        let node = Node {
            host,
            name,
            port,
            password,
            process,
        };
        wait::until_true("it to answer", wait::LONG, || node.call(&["PING"]).is_ok())
            .with_context(|| node.process.log())?;
        Ok(node)
    }
}

fn launch(host: &Host, word: &str, file: &Path) -> Result<Process> {
    let program: PathBuf = tools::redis(&format!(
        "redis-{}",
        if word == "redis" { "server" } else { word }
    ));
    let mut command = host.command(program);
    command.arg(file);
    if word == "sentinel" {
        command.arg("--sentinel");
    }
    host.start(&mut command, &file.with_extension("log"))
}

fn full_name(word: &str, host: &Host) -> String {
    format!("{}.{word}-nodes.{DOMAIN}", host.name())
}
