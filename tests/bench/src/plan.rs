//! How much of everything: enough for medians that hold, or just enough to see that every part works.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The size of a whole bench.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Whether this is the short one, whose figures mean nothing.
    pub quick: bool,
    /// Envoy's and HAProxy's worker threads.
    pub workers: usize,
    /// Rounds in which each contender is measured, for values of 64 B, of 4 KB and of 1 MB.
    pub cpu_rounds: [usize; 3],
    /// How long one of these measurements shall take.
    pub cpu_time: Duration,
    /// Rounds of the latency measurement, and how long each lasts.
    pub latency_rounds: usize,
    /// See `latency_rounds`.
    pub latency_time: Duration,
    /// Commands per second, over `latency_connections`.
    pub latency_rate: u32,
    /// See `latency_rate`.
    pub latency_connections: usize,
    /// Rounds of the connection set-up, and how many connections each.
    pub setup_rounds: usize,
    /// See `setup_rounds`.
    pub setup_connections: usize,
    /// Planned failovers under `switch_connections`.
    pub switch_runs: usize,
    /// See `switch_runs`.
    pub switch_connections: usize,
    /// Failovers of each kind in the race.
    pub race_runs: usize,
    /// How long after the promotion the race goes on.
    pub race_window: Duration,
    /// The numbers of workers whose memory is measured.
    pub memory_workers: Vec<usize>,
    /// How many connections are held open for it.
    pub memory_connections: usize,
    /// How long idle processes are watched, after they became calm.
    pub idle_time: Duration,
    /// See `idle_time`.
    pub idle_calm: Duration,
    /// How many real sidecars are put on the Sentinels.
    pub sidecars: usize,
    /// How many conversations are played to a single Sentinel.
    pub conversations: Vec<usize>,
    /// Rounds of the comparison of plain Envoy's settings.
    pub tune_rounds: usize,
}

impl Plan {
    /// Some twenty minutes.
    pub fn full() -> Self {
        Self {
            quick: false,
            workers: 2,
            cpu_rounds: [7, 4, 3],
            cpu_time: Duration::from_millis(600),
            latency_rounds: 5,
            latency_time: Duration::from_secs(2),
            latency_rate: 5_000,
            latency_connections: 50,
            setup_rounds: 9,
            setup_connections: 3_000,
            switch_runs: 5,
            switch_connections: 5_000,
            race_runs: 10,
            race_window: Duration::from_secs(4),
            memory_workers: vec![1, 2, 4],
            memory_connections: 1_000,
            idle_time: Duration::from_secs(20),
            idle_calm: Duration::from_secs(8),
            sidecars: 20,
            conversations: vec![1_000, 3_000, 9_000],
            tune_rounds: 5,
        }
    }

    /// Some two minutes: every part once.
    pub fn quick() -> Self {
        Self {
            quick: true,
            cpu_rounds: [1, 1, 1],
            cpu_time: Duration::from_millis(80),
            latency_rounds: 1,
            latency_time: Duration::from_millis(500),
            setup_rounds: 1,
            setup_connections: 200,
            switch_runs: 1,
            race_runs: 1,
            race_window: Duration::from_secs(2),
            memory_workers: vec![2],
            idle_time: Duration::from_secs(3),
            idle_calm: Duration::from_secs(1),
            sidecars: 2,
            conversations: vec![200],
            tune_rounds: 1,
            ..Self::full()
        }
    }
}
