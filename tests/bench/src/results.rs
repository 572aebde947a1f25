//! Everything that was measured, as one file.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::{Machine, Occasion};
use crate::plan::Plan;
use crate::{cpu, latency, load, memory, race, setup, switch, tune};

/// One measurement, and when it was made: parts can be measured again one by one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured<T> {
    /// When, and on which code.
    pub occasion: Occasion,
    /// How long it took, seconds.
    pub took: f64,
    /// How much of it.
    pub plan: Plan,
    /// On what.
    pub machine: Machine,
    /// All samples.
    pub data: T,
}

impl<T> Measured<T> {
    /// Does it.
    pub fn by(plan: &Plan, measure: impl FnOnce() -> Result<T>) -> Result<Self> {
        let (occasion, machine, begun) = (Occasion::now(), Machine::this()?, Instant::now());
        let data = measure()?;
        Ok(Self {
            occasion,
            took: begun.elapsed().as_secs_f64(),
            plan: plan.clone(),
            machine,
            data,
        })
    }
}

/// `results.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// CPU per command and throughput.
    pub cpu: Option<Measured<Vec<cpu::Cell>>>,
    /// Latency at a fixed rate.
    pub latency: Option<Measured<latency::Latency>>,
    /// Connections that come and go.
    pub setup: Option<Measured<Vec<setup::Sample>>>,
    /// Thousands of connections through a failover.
    pub switch: Option<Measured<Vec<switch::Sample>>>,
    /// One failover, several ways.
    pub race: Option<Measured<race::Race>>,
    /// Memory.
    pub memory: Option<Measured<Vec<memory::Sample>>>,
    /// Idle cost, and the Sentinels' part.
    pub load: Option<Measured<load::Load>>,
    /// Settings of plain Envoy.
    pub tune: Option<Measured<Vec<tune::Tuned>>>,
}

impl Results {
    /// What `dir` has, or nothing yet.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("results.json");
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&file)?;
        serde_json::from_str(&text).with_context(|| file.display().to_string())
    }

    /// Writes it to `dir`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(dir.join("results.json"), text)?)
    }
}
