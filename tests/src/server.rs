//! A Redis or a Sentinel from a configuration that the test wrote.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::resp::{Connection, Value};
use crate::{tools, wait};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `redis-server`.
    Redis,
    /// `redis-sentinel`.
    Sentinel,
}

/// One running server.
pub struct Server {
    /// How it is announced to others.
    pub host: String,
    /// Where clients connect, and what Sentinels name.
    pub port: u16,
    control: u16,
    login: Vec<String>,
    kind: Kind,
    wrapper: Vec<String>,
    file: PathBuf,
    process: Process,
}

impl Server {
    /// Starts one with `text` as its configuration and waits until it answers on `control`.
    pub fn start(
        kind: Kind,
        (host, port, control): (String, u16, u16),
        login: Vec<String>,
        wrapper: &[String],
        text: &str,
        dir: &Path,
    ) -> Result<Self> {
        let word = if kind == Kind::Redis {
            "redis"
        } else {
            "sentinel"
        };
        let home = dir.join(format!("{word}-{port}"));
        fs::create_dir_all(&home)?;
        let file = home.join(format!("{word}.conf"));
        let bind = if text.lines().any(|line| line.starts_with("bind ")) {
            ""
        } else {
            "bind 127.0.0.1\n"
        };
        fs::write(&file, format!("{bind}dir {}\n{text}", home.display()))?;
        let mut server = Self {
            process: launch(kind, wrapper, &file)?,
            wrapper: wrapper.to_vec(),
            host,
            port,
            control,
            login,
            kind,
            file,
        };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// Starts it again, with what it wrote down before it ended.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = launch(self.kind, &self.wrapper, &self.file)?;
        self.wait_until_it_answers()
    }

    /// Starts it again on another port, from this text.
    pub fn restart_at(&mut self, port: u16, text: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        (self.port, self.control) = (port, port);
        self.restart()
    }

    /// Its configuration file, to change before a restart.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The process, to kill or to hang it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A connection of the tests' own, logged in.
    pub fn connect(&self) -> Result<Connection> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.control));
        let mut connection = Connection::open_at(address, TIMEOUT)?;
        if !self.login.is_empty()
            && let Value::Error(text) = connection.call(&self.login)?
        {
            bail!("login on port {}: {text}", self.control);
        }
        Ok(connection)
    }

    /// One command over a connection of its own. An error reply is an error.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        let what = || format!("{command:?} on port {}", self.control);
        let reply = self.connect()?.call(command).with_context(what)?;
        match reply {
            Value::Error(text) => bail!("{}: {text}", what()),
            reply => Ok(reply),
        }
    }

    /// A field of a section of `INFO`.
    pub fn info(&self, section: &str, field: &str) -> Option<String> {
        let info = self.call(&["INFO", section]).ok()?.text()?;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// How often `command` was called, with whatever success.
    pub fn calls_of(&self, command: &str) -> u64 {
        let stats = self.info("commandstats", &format!("cmdstat_{command}"));
        let number = |stats: &str, field: &str| -> Option<u64> {
            let (_, rest) = stats.split_once(field)?;
            rest.split(',').next()?.parse().ok()
        };
        stats.as_deref().map_or(0, |stats| {
            let [calls, rejected] = ["calls=", "rejected_calls="].map(|f| number(stats, f));
            calls.unwrap_or(0) + rejected.unwrap_or(0)
        })
    }

    /// Whether it says that it is a master.
    pub fn is_master(&self) -> bool {
        self.info("replication", "role").as_deref() == Some("master")
    }

    /// Whether it is a replica of the node that listens on `master`, in step with it.
    pub fn follows(&self, master: u16) -> bool {
        let is = |field, value: &str| self.info("replication", field).as_deref() == Some(value);
        is("master_port", &master.to_string()) && is("master_link_status", "up")
    }

    /// Of a Sentinel: the port of the master that it names.
    pub fn master(&self, name: &str) -> Option<u16> {
        let reply = self.call(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]);
        reply.ok()?.items().get(1)?.text()?.parse().ok()
    }

    /// Of a Sentinel: whether it sees a healthy master, its replicas in step with it, and the other Sentinels.
    pub fn is_settled(&self, name: &str, replicas: usize, others: usize) -> bool {
        let all = |what: &str, count: usize, test: &dyn Fn(&Value) -> bool| {
            self.call(&["SENTINEL", what, name])
                .is_ok_and(|reply| reply.items().len() == count && reply.items().iter().all(test))
        };
        let is = |item: &Value, field, value: &str| item.field(field).as_deref() == Some(value);
        let Some(master) = self.master(name).map(|port| port.to_string()) else {
            return false;
        };
        let state = self.call(&["SENTINEL", "MASTER", name]);
        state.is_ok_and(|state| is(&state, "flags", "master"))
            && all("REPLICAS", replicas, &|r| {
                is(r, "flags", "slave")
                    && is(r, "master-link-status", "ok")
                    && is(r, "master-port", &master)
            })
            && all("SENTINELS", others, &|s| is(s, "flags", "sentinel"))
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait::until_true("a server to answer", wait::LONG, || {
            self.process.exited().is_some() || self.call(&["PING"]).is_ok()
        })
        .with_context(|| self.process.log())?;
        if let Some(status) = self.process.exited() {
            let log = self.process.log();
            bail!("port {} ended at once ({status}):\n{log}", self.port);
        }
        Ok(())
    }
}

fn launch(kind: Kind, wrapper: &[String], file: &Path) -> Result<Process> {
    let program = tools::redis(match kind {
        Kind::Redis => "redis-server",
        Kind::Sentinel => "redis-sentinel",
    });
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.arg(file);
    if kind == Kind::Sentinel {
        command.arg("--sentinel");
    }
    Process::start(&mut command, &file.with_extension("log"))
}
