//! What a running `make run` tells `make failover`: target/run/state.json.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::tools;

/// The processes of a `make run`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The process id of `run` itself.
    pub run: u32,
    /// Its temporary directory.
    pub dir: PathBuf,
    /// Redis' process ids by port.
    pub redis: BTreeMap<u16, u32>,
}

impl State {
    /// Of the `make run` that runs, if one does.
    pub fn of_running() -> Option<Self> {
        Self::load(&path()).filter(|state| is_process(state.run, "run"))
    }

    /// Of a `make run` that was killed and could not clean up.
    pub fn left_behind() -> Option<Self> {
        Self::load(&path()).filter(|state| !is_process(state.run, "run"))
    }

    /// Writes it down, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let redis: BTreeMap<_, _> = self
            .redis
            .iter()
            .map(|(port, pid)| (port.to_string(), pid))
            .collect();
        let json = json!({ "run": self.run, "dir": self.dir, "redis": redis });
        let path = path();
        let new = path.with_extension("new");
        fs::create_dir_all(path.parent().context("no directory")?)?;
        fs::write(&new, json.to_string())?;
        Ok(fs::rename(&new, &path)?)
    }

    /// Forgets it.
    pub fn remove() {
        let _ = fs::remove_file(path());
    }

    fn load(path: &Path) -> Option<Self> {
        let json: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let redis = json["redis"]
            .as_object()?
            .iter()
            .filter_map(|(port, pid)| Some((port.parse().ok()?, number(pid)?)));
        Some(Self {
            run: number(&json["run"])?,
            dir: json["dir"].as_str()?.into(),
            redis: redis.collect(),
        })
    }
}

/// Whether process `pid` lives and is called `name`: process ids are used again.
pub fn is_process(pid: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

fn path() -> PathBuf {
    tools::root().join("target/run/state.json")
}
