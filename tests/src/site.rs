//! Systems as people really run them: with passwords, certificates, host names, IPv6, several masters. [`crate::cluster`]
//! is the plain one; here every node's and Sentinel's configuration can be added to.

use anyhow::{Context, Result};

use crate::ports::PortBlock;
use crate::scratch::Scratch;
use crate::server::{Kind, Server};
use crate::wait;

/// What to start.
#[derive(Clone)]
pub struct Plan {
    /// The masters' names, each with `nodes` nodes of its own.
    pub masters: Vec<String>,
    /// Nodes per master.
    pub nodes: usize,
    /// How many Sentinels watch all of them.
    pub sentinels: usize,
    /// How node number n (of all nodes) is announced.
    pub host: fn(usize) -> String,
    /// How every Sentinel is announced.
    pub sentinel_host: String,
    /// What a Redis and a Sentinel are told beyond the usual, as lines of their configuration; `{n}` is the node's number.
    pub redis: String,
    /// See `redis`.
    pub sentinel: String,
    /// Lines of a Sentinel's configuration that begin `sentinel <word> <master's name>`: the word, and the rest.
    pub per_master: Vec<(String, String)>,
    /// What the tests themselves say first to a Redis and to a Sentinel (`AUTH …`); empty is nothing.
    pub redis_login: Vec<String>,
    /// See `redis_login`.
    pub sentinel_login: Vec<String>,
    /// Clients and Sentinels use `tls-port`; the plain port is for the tests' own questions.
    pub tls: bool,
    /// A command in front of each program: a mount namespace with another `/etc/hosts`.
    pub wrapper: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            masters: vec!["mymaster".into()],
            nodes: 3,
            sentinels: 3,
            host: |_| "127.0.0.1".into(),
            sentinel_host: "127.0.0.1".into(),
            redis: String::new(),
            sentinel: String::new(),
            per_master: vec![],
            redis_login: vec![],
            sentinel_login: vec![],
            tls: false,
            wrapper: vec![],
        }
    }
}

/// The running system. The first fields are dropped, and so stopped, first.
pub struct Site {
    /// The Sentinels.
    pub sentinels: Vec<Server>,
    /// The nodes: those of the first master, then those of the second. The first one of each begins as the master.
    pub nodes: Vec<Server>,
    /// Configurations and logs.
    pub scratch: Scratch,
    plan: Plan,
}

impl Site {
    /// Starts it all and waits until it is in step.
    pub fn start(ports: &mut PortBlock, plan: Plan) -> Result<Self> {
        Self::start_in(Scratch::new()?, ports, plan)
    }

    /// The same in a directory that exists: with certificates or a hosts file in it.
    pub fn start_in(scratch: Scratch, ports: &mut PortBlock, plan: Plan) -> Result<Self> {
        let mut site = Self {
            sentinels: vec![],
            nodes: vec![],
            scratch,
            plan,
        };
        for index in 0..site.plan.masters.len() * site.plan.nodes {
            let node = site.node(index, ports)?;
            site.nodes.push(node);
        }
        for master in 0..site.plan.masters.len() {
            let group = site.group(master);
            wait::until_true("the replicas to be in step", wait::LONG, || {
                group[1..]
                    .iter()
                    .all(|replica| replica.follows(group[0].port))
            })?;
        }
        let sentinels: Vec<_> = (0..site.plan.sentinels).map(|_| ports.take()).collect();
        for &port in &sentinels {
            let text = site.sentinel_text(port, &sentinels);
            let host = site.plan.sentinel_host.clone();
            let sentinel = site.server(Kind::Sentinel, host, port, ports, &text)?;
            site.sentinels.push(sentinel);
        }
        for name in site.plan.masters.clone() {
            site.wait_until_settled(&name)?;
        }
        Ok(site)
    }

    /// The Sentinels' ports, as clients use them.
    pub fn sentinel_ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|s| s.port).collect()
    }

    /// The nodes of the master with this index.
    pub fn group(&self, master: usize) -> &[Server] {
        &self.nodes[master * self.plan.nodes..(master + 1) * self.plan.nodes]
    }

    /// The node at `port`.
    pub fn at(&mut self, port: u16) -> Result<&mut Server> {
        let node = self.nodes.iter_mut().find(|node| node.port == port);
        node.with_context(|| format!("no Redis on port {port}"))
    }

    /// The port of the named master, once a majority of the Sentinels agrees.
    pub fn master(&self, name: &str) -> Option<u16> {
        let named: Vec<_> = self
            .sentinels
            .iter()
            .filter_map(|s| s.master(name))
            .collect();
        let majority = self.sentinels.len() / 2 + 1;
        let votes = |port: u16| named.iter().filter(|other| **other == port).count();
        named.iter().copied().find(|port| votes(*port) >= majority)
    }

    /// Waits until a majority of the Sentinels names another master than `old`.
    pub fn wait_for_master_after(&self, name: &str, old: u16) -> Result<u16> {
        wait::until("another master", wait::LONG, || {
            self.master(name).filter(|port| *port != old)
        })
    }

    /// A planned failover, asked of the first Sentinel.
    pub fn fail_over(&self, name: &str) -> Result<()> {
        self.sentinels[0]
            .call(&["SENTINEL", "FAILOVER", name])
            .map(drop)
    }

    /// Waits until every Sentinel sees the master, its replicas in step with it, and the other Sentinels.
    pub fn wait_until_settled(&self, name: &str) -> Result<()> {
        let (replicas, others) = (self.plan.nodes - 1, self.sentinels.len() - 1);
        wait::until_true("the Sentinels to see it all", 2 * wait::LONG, || {
            self.sentinels
                .iter()
                .all(|s| s.is_settled(name, replicas, others))
        })
    }

    fn node(&self, index: usize, ports: &mut PortBlock) -> Result<Server> {
        let (port, host) = (ports.take(), (self.plan.host)(index));
        let first = &self.nodes.get(index / self.plan.nodes * self.plan.nodes);
        // Replicas join at once instead of after 5 s, and notice a lost master as fast as Sentinel does.
        let mut text = self.plan.redis.replace("{n}", &index.to_string())
            + "\nsave \"\"\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\nenable-debug-command local\n";
        if host != "127.0.0.1" {
            text += &format!("replica-announce-ip {host}\n");
        }
        if let Some(master) = first {
            text += &format!("replicaof {} {}\n", master.host, master.port);
        }
        self.server(Kind::Redis, host, port, ports, &text)
    }

    fn server(
        &self,
        kind: Kind,
        host: String,
        port: u16,
        ports: &mut PortBlock,
        text: &str,
    ) -> Result<Server> {
        let (control, listen) = if self.plan.tls {
            let control = ports.take();
            (control, format!("port {control}\ntls-port {port}\n"))
        } else {
            (port, format!("port {port}\n"))
        };
        let login = match kind {
            Kind::Redis => &self.plan.redis_login,
            Kind::Sentinel => &self.plan.sentinel_login,
        };
        Server::start(
            kind,
            (host, port, control),
            login.clone(),
            &self.plan.wrapper,
            &(listen + text),
            self.scratch.path(),
        )
    }

    fn sentinel_text(&self, port: u16, sentinels: &[u16]) -> String {
        // Any 40 hexadecimal digits are an id; the port makes it unique, and known to the others beforehand.
        let id = |port: u16| format!("{port:040x}");
        let mut text = format!("{}\nsentinel myid {}\n", self.plan.sentinel, id(port));
        let quorum = sentinels.len() / 2 + 1;
        for (index, name) in self.plan.masters.iter().enumerate() {
            let group = self.group(index);
            let (host, master) = (&group[0].host, group[0].port);
            text += &format!("sentinel monitor {name} {host} {master} {quorum}\n");
            text += &format!("sentinel down-after-milliseconds {name} 1000\n");
            text += &format!("sentinel failover-timeout {name} 5000\n");
            for (word, rest) in &self.plan.per_master {
                text += &format!("sentinel {word} {name} {rest}\n");
            }
            for replica in &group[1..] {
                let (host, port) = (&replica.host, replica.port);
                text += &format!("sentinel known-replica {name} {host} {port}\n");
            }
            for other in sentinels.iter().filter(|other| **other != port) {
                let (id, host) = (id(*other), &self.plan.sentinel_host);
                text += &format!("sentinel known-sentinel {name} {host} {other} {id}\n");
            }
        }
        text
    }
}
