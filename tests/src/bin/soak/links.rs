//! A network of this process's own, in which whoever listens on a port can be made unreachable.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// The network namespace that this process, and so whatever it starts, is in.
pub struct Links;

impl Links {
    /// Moves this process to a network of its own; none where that is not allowed. Before any thread is started.
    pub fn own() -> Option<Self> {
        unshare(CloneFlags::CLONE_NEWNET).ok()?;
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(
            up.is_ok_and(|status| status.success()),
            "a network without a loopback device"
        );
        nft("add table inet soak\nadd chain inet soak input { type filter hook input priority 0; }\n").ok()?;
        Some(Self)
    }

    /// Nothing gets to or from this port any more, and nobody is told.
    pub fn cut(&self, port: u16) -> Result<()> {
        nft(&format!(
            "add rule inet soak input tcp dport {port} drop\nadd rule inet soak input tcp sport {port} drop\n"
        ))
    }

    /// Ends all cuts.
    pub fn heal(&self) -> Result<()> {
        nft("flush chain inet soak input\n")
    }
}

fn nft(script: &str) -> Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft")?;
    nft.stdin
        .take()
        .context("no input")?
        .write_all(script.as_bytes())?;
    ensure!(nft.wait()?.success(), "nft refuses {script}");
    Ok(())
}
