//! How long an answer takes at a rate that leaves everybody room.

use anyhow::{Result, ensure};
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};

use crate::contenders::{Contenders, order};
use crate::openloop::{self, Rate};
use crate::plan::Plan;

/// Bytes of a value.
const VALUE: usize = 64;

/// All of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Latency {
    /// Commands per second.
    pub rate: u32,
    /// Connections.
    pub connections: usize,
    /// What was measured, in the order in which it was.
    pub samples: Vec<Sample>,
}

/// One contender, once; nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which round.
    pub round: usize,
    /// Who.
    pub contender: String,
    /// Commands that were counted.
    pub commands: u64,
    /// Half of them were answered within.
    pub p50: u64,
    /// 99 of 100 were.
    pub p99: u64,
    /// 999 of 1000 were.
    pub p999: u64,
    /// The last one.
    pub max: u64,
}

/// Measures it.
pub fn measure(contenders: &Contenders, plan: &Plan) -> Result<Latency> {
    let rate = Rate {
        per_second: plan.latency_rate,
        connections: plan.latency_connections,
        time: plan.latency_time,
    };
    let mut samples = vec![];
    for round in 0..plan.latency_rounds {
        eprintln!("latency: round {} of {}", round + 1, plan.latency_rounds);
        for contender in order(contenders.all(), round) {
            ensure!(!wait::interrupted(), "interrupted");
            let histogram = openloop::run(contender.port, rate, VALUE)?;
            samples.push(Sample {
                round,
                contender: contender.name.to_owned(),
                commands: histogram.len(),
                p50: histogram.value_at_quantile(0.5),
                p99: histogram.value_at_quantile(0.99),
                p999: histogram.value_at_quantile(0.999),
                max: histogram.max(),
            });
        }
    }
    Ok(Latency {
        rate: plan.latency_rate,
        connections: plan.latency_connections,
        samples,
    })
}
