//! postStart and preStop.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::container::Running;
use super::probe::ask;
use super::spec::{Action, Container};

/// A hook, at most until `end`.
pub fn perform(
    action: &Action,
    container: &Container,
    running: &Running,
    address: Ipv4Addr,
    end: Instant,
    hard: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    match action {
        Action::Exec { command } => {
            let mut process = running.execute(command)?;
            while Instant::now() < end && !hard() {
                if let Some(status) = process.exited() {
                    ensure!(status.success(), "{status}: {}", process.log().trim_end());
                    return Ok(());
                }
                sleep(Duration::from_millis(10));
            }
            bail!(
                "no end within the grace period: {}",
                process.log().trim_end()
            )
        }
        Action::Sleep { seconds } => {
            let end = end.min(Instant::now() + Duration::from_secs(*seconds));
            while Instant::now() < end && !hard() {
                sleep(Duration::from_millis(10));
            }
            Ok(())
        }
        action => ask(action, container, address, Duration::from_secs(5)),
    }
}
