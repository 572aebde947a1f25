//! Redis' own load generator.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::tools;

/// One run of it.
#[derive(Debug, Clone)]
pub struct Load {
    /// `set` or `get`.
    pub command: &'static str,
    /// Bytes of a value.
    pub size: usize,
    /// Commands that a client sends at once.
    pub pipeline: usize,
    /// Connections.
    pub clients: usize,
    /// Commands, of all clients together.
    pub requests: usize,
}

impl Load {
    /// Runs it against 127.0.0.1:`port` and returns the commands per second.
    pub fn run(&self, port: u16) -> Result<f64> {
        let number = |n: usize| n.to_string();
        let output = Command::new(tools::redis("redis-benchmark"))
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--csv"])
            .args(["-t", self.command, "-d", &number(self.size)])
            .args(["-P", &number(self.pipeline), "-c", &number(self.clients)])
            .args(["-n", &number(self.requests)])
            .stdin(Stdio::null())
            .output()
            .context("cannot start redis-benchmark")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "redis-benchmark: {told}{text}");
        per_second(&text).with_context(|| format!("redis-benchmark said {text}{told}"))
    }
}

/// `"SET","48309.18","0.540",…` behind a line of names.
fn per_second(csv: &str) -> Option<f64> {
    let row = csv.lines().rev().find(|line| line.starts_with('"'))?;
    let rate: f64 = row.split(',').nth(1)?.trim_matches('"').parse().ok()?;
    (rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"48309.18\",\"0.540\"\n";
        assert_eq!(per_second(csv), Some(48309.18));
        assert_eq!(per_second("\"test\",\"rps\"\n"), None);
        assert_eq!(per_second("\"SET\",\"0.00\"\n"), None);
        assert_eq!(per_second(""), None);
    }
}
