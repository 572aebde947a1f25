//! A real Redis.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::resp::{Connection, Value};
use crate::{tools, wait};

const TIMEOUT: Duration = Duration::from_secs(5);

/// One Redis on 127.0.0.1, with its data in a directory of its own.
pub struct Redis {
    /// Where it listens.
    pub port: u16,
    process: Process,
    dir: PathBuf,
}

impl Redis {
    /// Starts one, as a replica of the Redis at port `master` if given, and waits until it answers.
    pub fn start(port: u16, master: Option<u16>, dir: &Path) -> Result<Self> {
        let dir = dir.join(format!("redis-{port}"));
        fs::create_dir_all(&dir)?;
        let mut node = Self {
            port,
            process: launch(port, master, &dir)?,
            dir,
        };
        node.wait_until_it_answers()?;
        Ok(node)
    }

    /// Starts it again after a kill, with the data it had saved (none).
    pub fn restart(&mut self, master: Option<u16>) -> Result<()> {
        self.process.kill();
        self.process = launch(self.port, master, &self.dir)?;
        self.wait_until_it_answers()
    }

    /// The process, to kill or to hang it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// One command over a connection of its own.
    pub fn call(&self, command: &[&str]) -> Result<Value> {
        call(self.port, command)
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> Option<String> {
        let info = self.call(&["INFO"]).ok()?.text()?;
        let value = info
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(value.trim().to_owned())
    }

    /// Whether it says that it is a master.
    pub fn is_master(&self) -> bool {
        self.info("role").as_deref() == Some("master")
    }

    /// Whether it is a replica of `master`, in step with it.
    pub fn follows(&self, master: u16) -> bool {
        let is = |field, value: &str| self.info(field).as_deref() == Some(value);
        is("master_port", &master.to_string()) && is("master_link_status", "up")
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait::until_true("Redis to answer", wait::LONG, || {
            self.process.exited().is_some()
                || call(self.port, &["PING"]).is_ok_and(|reply| reply.text().is_some())
        })?;
        if let Some(status) = self.process.exited() {
            bail!(
                "Redis on port {} ended at once ({status}):\n{}",
                self.port,
                self.process.log()
            );
        }
        Ok(())
    }
}

fn launch(port: u16, master: Option<u16>, dir: &Path) -> Result<Process> {
    // A file, because Sentinel has the node write its new role back to it.
    let file = dir.join("redis.conf");
    let mut text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\n",
        dir.display()
    );
    // Replicas join at once instead of after 5 s, and notice a lost master as fast as Sentinel does.
    text += "repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\nenable-debug-command local\n";
    if let Some(master) = master {
        text += &format!("replicaof 127.0.0.1 {master}\n");
    }
    fs::write(&file, text)?;
    let log = dir.with_extension("log");
    Process::start(Command::new(tools::redis("redis-server")).arg(file), &log)
}

/// One command to 127.0.0.1:`port` over a connection of its own. An error reply is an error.
pub fn call(port: u16, command: &[&str]) -> Result<Value> {
    let what = || format!("{command:?} on port {port}");
    let reply = Connection::open(port, TIMEOUT)
        .and_then(|mut c| c.call(command))
        .with_context(what)?;
    match reply {
        Value::Error(text) => bail!("{}: {text}", what()),
        reply => Ok(reply),
    }
}
