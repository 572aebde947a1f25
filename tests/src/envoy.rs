//! A real Envoy with the built module in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::render::Config;
use crate::{secret, tools, wait};

/// Pages of the admin interface that hold no secret. `/config_dump` is not among them: it shows an `inline` password.
const OPEN_PAGES: [&str; 5] = ["/stats", "/clusters", "/listeners", "/certs", "/runtime"];

/// Two workers: what one learns must reach the other.
const WORKERS: &str = "2";

/// A running Envoy.
pub struct Envoy {
    /// Where clients reach the master.
    pub port: u16,
    /// Where clients reach replicas.
    pub replicas_port: u16,
    ready_port: u16,
    admin_port: u16,
    process: Process,
}

impl Envoy {
    /// Starts Envoy and waits until its listeners are open. It may not know a master yet: see [`Self::wait_until_ready`].
    pub fn start(config: Config, dir: &Path) -> Result<Self> {
        Self::start_by(config, dir, |command| command)
    }

    /// The same with a change to how it is started: its environment, its namespaces.
    pub fn start_by(
        config: Config,
        dir: &Path,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        Self::launch(config, dir, WORKERS, change)
    }

    /// The same with that many workers.
    pub fn start_with_workers(config: Config, dir: &Path, workers: &str) -> Result<Self> {
        Self::launch(config, dir, workers, |command| command)
    }

    fn launch(
        mut config: Config,
        dir: &Path,
        workers: &str,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        let file = dir.join("envoy.json");
        config.write(&file)?;
        let mut command = command(&file);
        command.args([
            "--concurrency",
            workers,
            "--log-level",
            "info",
            "--log-format",
            "%Y-%m-%d %T.%e %l %v",
        ]);
        // Not every configuration has all of these listeners.
        let mut port = |listener| config.port(listener).unwrap_or_default();
        let mut envoy = Self {
            port: port("redis"),
            replicas_port: port("redis_replicas"),
            ready_port: port("ready"),
            admin_port: config.admin_port(),
            process: Process::start(&mut change(command), &dir.join("envoy.log"))?,
        };
        envoy.wait_until_live()?;
        Ok(envoy)
    }

    /// Waits until `/ready` says that a master is known.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait::until_true("Envoy to know the master", wait::LONG, || {
            self.ready_status() == Some(200)
        })
    }

    /// The status of `GET /ready`, the one that Kubernetes asks.
    pub fn ready_status(&self) -> Option<u16> {
        Some(get(self.ready_port, "/ready").ok()?.0)
    }

    /// Where the admin interface is.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// A page of the admin interface.
    pub fn admin(&self, path: &str) -> Result<String> {
        Ok(get(self.admin_port, path)?.1)
    }

    /// The counters and gauges whose name contains `filter` (a regular expression).
    pub fn stats(&self, filter: &str) -> Result<HashMap<String, u64>> {
        let page = self.admin(&format!("/stats?filter={filter}"))?;
        let lines = page.lines().filter_map(|line| line.split_once(": "));
        Ok(lines
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// What it logged so far, without the lists of its extensions and headers: they would hide the rest where a test
    /// failed.
    pub fn log(&self) -> String {
        let log = self.process.log();
        let lines = log.split_inclusive('\n');
        lines.filter(|line| !line.contains(" info   ")).collect()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The first place that tells a secret, if one does: its log, or a page of its admin interface if that answers.
    pub fn told_secret(&self) -> Option<String> {
        let found = |place: &str, text: &str| {
            let line = secret::told(text)?;
            Some(format!("{place} tells a secret: {line}"))
        };
        let page = |path: &str| found(path, &self.admin(path).ok()?);
        found("the log", &self.process.log()).or_else(|| OPEN_PAGES.into_iter().find_map(page))
    }

    fn wait_until_live(&mut self) -> Result<()> {
        let port = self.admin_port;
        wait::until_true("Envoy to be live", wait::LONG, || {
            self.process.exited().is_some()
                || get(port, "/ready").is_ok_and(|(status, _)| status == 200)
        })
        .with_context(|| self.process.log())?;
        if let Some(status) = self.process.exited() {
            bail!("Envoy ended at once ({status}):\n{}", self.process.log());
        }
        Ok(())
    }
}

/// Every test with an Envoy is also a test that it keeps the test's secrets.
impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(told) = self.told_secret() {
            panic!("{told}");
        }
    }
}

/// Has Envoy judge a configuration without running it. The module decides as well. An error holds what Envoy said.
pub fn validate(config: &Config, dir: &Path) -> Result<()> {
    let file = dir.join("envoy.json");
    config.write(&file)?;
    let output = command(&file)
        .args(["--mode", "validate"])
        .output()
        .context("cannot start Envoy")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn command(file: &PathBuf) -> Command {
    let mut command = Command::new(tools::envoy());
    // Hot restart would have the Envoys of one machine share memory.
    command
        .arg("-c")
        .arg(file)
        .arg("--disable-hot-restart")
        .current_dir(tools::root());
    command
}

/// A GET on 127.0.0.1: status and body.
pub fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)));
    let agent = ureq::Agent::new_with_config(config.build());
    let mut response = agent.get(format!("http://127.0.0.1:{port}{path}")).call()?;
    Ok((
        response.status().as_u16(),
        response.body_mut().read_to_string()?,
    ))
}
