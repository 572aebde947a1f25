//! CPU per command and throughput: redis-benchmark through each contender in turn.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};

use crate::contenders::{Contender, Contenders, PLAIN, order};
use crate::plan::Plan;
use crate::redis_benchmark::Load;
use crate::usage;

/// Bytes of the values.
const SIZES: [usize; 3] = [64, 4 << 10, 1 << 20];
/// Clients for large values: fifty times sixteen of a megabyte would measure the memory of this machine.
const FEW: usize = 8;
const MANY: usize = 50;

/// One kind of load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cell {
    /// `set` or `get`.
    pub command: String,
    /// Bytes of a value.
    pub size: usize,
    /// Commands that a client sends at once.
    pub pipeline: usize,
    /// Connections.
    pub clients: usize,
    /// Commands in one sample.
    pub requests: usize,
    /// What was measured, in the order in which it was.
    pub samples: Vec<Sample>,
}

/// One contender, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Which round.
    pub round: usize,
    /// Who.
    pub contender: String,
    /// Commands per second.
    pub rate: f64,
    /// The proxy's own CPU for one command, in ns, without what opening and closing the connections takes. Redis itself
    /// has none.
    pub cpu: Option<f64>,
}

/// All of it.
pub fn measure(contenders: &Contenders, plan: &Plan) -> Result<Vec<Cell>> {
    let mut cells = vec![];
    for (size, rounds) in SIZES.into_iter().zip(plan.cpu_rounds) {
        let clients = if size < 1 << 20 { MANY } else { FEW };
        let load = |command, pipeline, requests| Load {
            command,
            size,
            pipeline,
            clients,
            requests,
        };
        load("set", 1, clients * 2).run(contenders.redis())?; // what GET finds
        for pipeline in [1, 16] {
            for command in ["set", "get"] {
                let load = sized(
                    load(command, pipeline, clients * pipeline * 2),
                    contenders.all(),
                    plan.cpu_time,
                )?;
                eprintln!("cpu: {load:?}, {rounds} rounds");
                cells.push(Cell {
                    command: command.to_owned(),
                    size,
                    pipeline,
                    clients,
                    requests: load.requests,
                    samples: rounds_of(&load, contenders.all(), rounds)?,
                });
            }
        }
    }
    Ok(cells)
}

/// Everybody in turn, `rounds` times.
pub fn rounds_of(load: &Load, all: &[Contender], rounds: usize) -> Result<Vec<Sample>> {
    let mut samples = vec![];
    for round in 0..rounds {
        for contender in order(all, round) {
            ensure!(!wait::interrupted(), "interrupted");
            samples.push(sample(load, contender, round)?);
        }
    }
    Ok(samples)
}

/// The connections are opened and closed by each run, and that is measured elsewhere: what as many connections take that send
/// one PING each is taken off.
fn sample(load: &Load, contender: &Contender, round: usize) -> Result<Sample> {
    let opening = Load {
        command: "ping_mbulk",
        size: 64,
        pipeline: 1,
        requests: load.clients,
        ..*load
    };
    let (_, opening) = run(&opening, contender)?;
    let (rate, whole) = run(load, contender)?;
    let cpu = whole.saturating_sub(opening).as_nanos() as f64 / load.requests as f64;
    Ok(Sample {
        round,
        contender: contender.name.to_owned(),
        rate,
        cpu: (!contender.pids.is_empty()).then_some(cpu),
    })
}

/// Commands per second, and the CPU that it took the proxy.
fn run(load: &Load, contender: &Contender) -> Result<(f64, Duration)> {
    let before = usage::cpu(&contender.pids)?;
    let rate = load.run(contender.port)?;
    sleep(Duration::from_millis(10)); // the end of its connections is part of it
    Ok((rate, usage::cpu(&contender.pids)?.saturating_sub(before)))
}

/// The same load with as many requests as plain Envoy does in the time of a sample: all contenders have the same number.
pub fn sized(mut load: Load, all: &[Contender], time: Duration) -> Result<Load> {
    let Some(plain) = all.iter().find(|contender| contender.name == PLAIN) else {
        return Ok(load);
    };
    let batch = load.clients * load.pipeline;
    for time in [time / 8, time] {
        let wanted = load.run(plain.port)? * time.as_secs_f64();
        load.requests = (wanted as usize).div_ceil(batch).max(2) * batch;
    }
    Ok(load)
}
