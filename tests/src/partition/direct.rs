//! Clients that know Sentinel themselves.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools;

/// Running clients, as another process.
pub struct Direct(Child);

/// What one of them saw.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Acknowledged writes.
    pub acks: u64,
    /// The last acknowledged value of its counter.
    pub counter: i64,
    /// Acknowledged writes that a later answer proves to be gone.
    pub lost: i64,
    /// The longest time without an acknowledged write.
    pub silence: Duration,
    /// What it was told instead, and how often.
    pub errors: u64,
}

impl Direct {
    /// Starts them.
    pub fn start(
        sentinels: &[String],
        clients: usize,
        pause: Duration,
        timeout: Duration,
    ) -> Result<Self> {
        let mut command = Command::new("python3");
        command
            .arg(tools::root().join("tests/clients/direct.py"))
            .arg(clients.to_string())
            .args([pause, timeout].map(|time| time.as_secs_f64().to_string()))
            .args(sentinels)
            .env("PYTHONPATH", tools::root().join("target/tools/python"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start python3")?))
    }

    /// Ends them. They end by themselves, too, when this process does: their standard input ends.
    pub fn stop(mut self) -> Result<Vec<Counted>> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().context("no output")?;
        stdout.read_to_string(&mut text)?;
        ensure!(
            self.0.wait()?.success(),
            "redis-py's clients failed: {text}"
        );
        text.lines().map(counted).collect()
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn counted(line: &str) -> Result<Counted> {
    let json: Value = serde_json::from_str(line)?;
    let number = |field: &str| json[field].as_i64().with_context(|| line.to_owned());
    let errors = json["errors"].as_object().context("errors")?;
    Ok(Counted {
        acks: json["acks"].as_u64().context("acks")?,
        counter: number("counter")?,
        lost: number("lost")?,
        silence: Duration::from_secs_f64(json["silence"].as_f64().context("silence")?),
        errors: errors.values().filter_map(Value::as_u64).sum(),
    })
}
