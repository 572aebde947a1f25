//! What no peer may do to Envoy: fail its VM, or fill its memory.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::envoy::Envoy;

/// Envoy as it was before the peer came.
pub struct Guard {
    pid: u32,
    before: u64,
    vms: u64,
}

impl Guard {
    /// Begins to watch.
    pub fn of(envoy: &mut Envoy) -> Result<Self> {
        let pid = envoy.process().pid();
        // Has the kernel begin a new peak: proc(5), clear_refs.
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        Ok(Self {
            pid,
            before: resident(pid)?,
            vms: vms(envoy)?,
        })
    }

    /// The most memory since then, in bytes beyond what there was.
    pub fn growth(&self) -> Result<u64> {
        Ok(status(self.pid, "VmHWM")?.saturating_sub(self.before))
    }

    /// Says how much memory it took, and judges.
    pub fn check(&self, what: &str, envoy: &Envoy, bound: u64) -> Result<()> {
        let (before, grown) = (self.before >> 20, self.growth()? >> 20);
        println!("{what}: Envoy had {before} MB and took {grown} MB more at its peak");
        self.judge(envoy, bound).with_context(|| what.to_owned())
    }

    /// An error if a VM has failed, or if more than `bound` bytes were taken.
    pub fn judge(&self, envoy: &Envoy, bound: u64) -> Result<()> {
        let grown = self.growth()?;
        ensure!(
            grown <= bound,
            "{} MB more, {} are allowed",
            grown >> 20,
            bound >> 20
        );
        let log = envoy.log();
        // What Envoy writes when one traps.
        let line = log.lines().find(|line| line.contains(": Uncaught "));
        ensure!(line.is_none(), "{line:?}");
        ensure!(vms(envoy)? == self.vms, "a VM went or came");
        Ok(())
    }
}

/// How many VMs Envoy has made so far.
fn vms(envoy: &Envoy) -> Result<u64> {
    let stats = envoy.stats("wasm.envoy.wasm.runtime.v8.created")?;
    stats.into_values().next().context("no Wasm VM")
}

/// Bytes in memory.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS")
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes
        .with_context(|| field.to_owned())?
        .parse::<u64>()?
        * 1024)
}
