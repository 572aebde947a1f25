//! A directory for one cluster: data, configurations, logs. Kept, and shown, when the test fails.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::wait;

/// Removed on drop, unless the thread is panicking or has waited in vain.
pub struct Scratch(Option<TempDir>);

impl Scratch {
    /// A new directory under the system's temporary one.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("redis-sentinel-")
            .tempdir()
            .context("scratch directory")?;
        Ok(Self(Some(dir)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_ref().map_or(Path::new("."), TempDir::path)
    }

    /// A path inside.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(dir) = self.0.take() else { return };
        if !std::thread::panicking() && !wait::in_vain() {
            return; // TempDir removes it
        }
        let path = dir.keep();
        eprintln!("\nlogs and configurations are kept in {}", path.display());
        for name in ["envoy.log", "sentinel-0.log"] {
            if let Ok(log) = fs::read_to_string(path.join(name)) {
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(40)..].join("\n");
                eprintln!("---- the end of {name}\n{tail}");
            }
        }
    }
}
