//! A real Sentinel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::resp::Value;
use crate::{redis, tools, wait};

/// The name under which the Sentinels know the master.
pub const MASTER: &str = "mymaster";

/// What a Sentinel is told about the system before it starts.
#[derive(Clone)]
pub struct View {
    /// The master's port.
    pub master: u16,
    /// The replicas' and the other Sentinels' ports. Sentinels find both by themselves within seconds; told beforehand
    /// they are complete at once, as after a restart.
    pub replicas: Vec<u16>,
    /// See `replicas`.
    pub sentinels: Vec<u16>,
    /// How many must agree that the master is down.
    pub quorum: usize,
}

/// One Sentinel on 127.0.0.1.
pub struct Sentinel {
    /// Where it listens.
    pub port: u16,
    process: Process,
    file: PathBuf,
}

impl Sentinel {
    /// Whether the module has subscribed to its events.
    pub fn is_watched(&self) -> bool {
        let list = self.call(&["CLIENT", "LIST"]).ok();
        let list = list.and_then(|list| list.text()).unwrap_or_default();
        let mut ours = list
            .lines()
            .filter(|line| line.contains(" name=envoy-redis-sentinel "));
        ours.any(|line| !line.contains(" sub=0 "))
    }

    /// Starts one and waits until it answers.
    pub fn start(port: u16, view: &View, dir: &Path) -> Result<Self> {
        let file = dir.join(format!("sentinel-{port}.conf"));
        fs::write(&file, configuration(port, view, dir))?;
        let mut sentinel = Self {
            port,
            process: launch(&file)?,
            file,
        };
        sentinel.wait_until_it_answers()?;
        Ok(sentinel)
    }

    /// Starts it again with what it wrote down before it ended.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(&self.file)?;
        self.wait_until_it_answers()
    }

    /// The process, to kill or to hang it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// One command over a connection of its own.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        redis::call(self.port, command)
    }

    /// The port of the master it names.
    pub fn master(&self) -> Option<u16> {
        let reply = self
            .call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])
            .ok()?;
        reply.items().get(1)?.text()?.parse().ok()
    }

    /// What it says of the master, by name of the field.
    pub fn master_field(&self, field: &str) -> Option<String> {
        self.call(&["SENTINEL", "MASTER", MASTER])
            .ok()?
            .field(field)
    }

    /// Whether it sees a healthy master at port `master`, `replicas` healthy replicas of it and `others` Sentinels.
    pub fn is_settled(&self, master: u16, replicas: usize, others: usize) -> bool {
        let healthy = |what: &str, flags: &str, count: usize| {
            let Ok(reply) = self.call(&["SENTINEL", what, MASTER]) else {
                return false;
            };
            let flags_of = |item: &Value| item.field("flags");
            reply.items().len() == count
                && reply
                    .items()
                    .iter()
                    .all(|item| flags_of(item).as_deref() == Some(flags))
        };
        let in_step = || {
            let Ok(reply) = self.call(&["SENTINEL", "REPLICAS", MASTER]) else {
                return false;
            };
            reply.items().iter().all(|replica| {
                let is = |field, value: &str| replica.field(field).as_deref() == Some(value);
                is("master-link-status", "ok") && is("master-port", &master.to_string())
            })
        };
        self.master() == Some(master)
            && self.master_field("flags").as_deref() == Some("master")
            && healthy("REPLICAS", "slave", replicas)
            && healthy("SENTINELS", "sentinel", others)
            && in_step()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait::until_true("Sentinel to answer", wait::LONG, || {
            self.process.exited().is_some()
                || redis::call(self.port, &["PING"]).is_ok_and(|r| r.text().is_some())
        })
        .with_context(|| self.process.log())?;
        if let Some(status) = self.process.exited() {
            bail!(
                "Sentinel on port {} ended at once ({status}):\n{}",
                self.port,
                self.process.log()
            );
        }
        Ok(())
    }
}

fn launch(file: &Path) -> Result<Process> {
    let log = file.with_extension("log");
    Process::start(Command::new(tools::redis("redis-sentinel")).arg(file), &log)
}

fn configuration(port: u16, view: &View, dir: &Path) -> String {
    let View {
        master,
        replicas,
        sentinels,
        quorum,
    } = view;
    // Any 40 hexadecimal digits are an id; the port makes it unique, and known to the others beforehand.
    let id = |port: u16| format!("{port:040x}");
    let mut text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel myid {}\n",
        dir.display(),
        id(port)
    );
    text += &format!("sentinel monitor {MASTER} 127.0.0.1 {master} {quorum}\n");
    text += &format!(
        "sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 5000\n"
    );
    for replica in replicas {
        text += &format!("sentinel known-replica {MASTER} 127.0.0.1 {replica}\n");
    }
    for other in sentinels.iter().filter(|other| **other != port) {
        text += &format!(
            "sentinel known-sentinel {MASTER} 127.0.0.1 {other} {}\n",
            id(*other)
        );
    }
    text
}
