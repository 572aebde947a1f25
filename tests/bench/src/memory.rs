//! Memory of an Envoy with and without the filter, and of the connections through it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::plain::to_node;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::wait;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::plan::Plan;
use crate::usage::{self, Memory};

/// Until a process that just started or just took a crowd has its memory.
const CALM: Duration = Duration::from_secs(2);

/// One Envoy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// Whether the filter is in it.
    pub filter: bool,
    /// Worker threads.
    pub workers: usize,
    /// Without clients.
    pub idle: Memory,
    /// How many connections were then opened.
    pub connections: usize,
    /// With as many connections that had an answer.
    pub live: Memory,
    /// Of another one, while no master is to be had: before the connections, and while they wait.
    pub held: Option<[Memory; 2]>,
}

/// Measures it.
pub fn measure(plan: &Plan) -> Result<Vec<Sample>> {
    let mut ports = PortBlock::claim()?;
    let mut cluster = Cluster::start(&mut ports, 3, 3)?;
    let mut samples = vec![];
    for &workers in &plan.memory_workers {
        for filter in [false, true] {
            eprintln!("memory: {workers} workers, filter {filter}");
            samples.push(live(&cluster, filter, workers, plan.memory_connections)?);
        }
    }
    // Nobody to promote: a master that hangs is away until it goes on.
    for replica in &mut cluster.redis[1..] {
        replica.process().kill();
    }
    for sample in samples.iter_mut().filter(|sample| sample.filter) {
        eprintln!("memory: {} workers, connections held", sample.workers);
        sample.held = Some(held(&mut cluster, sample.workers, sample.connections)?);
    }
    Ok(samples)
}

fn live(cluster: &Cluster, filter: bool, workers: usize, connections: usize) -> Result<Sample> {
    let (mut envoy, _ports) = start(cluster, filter, workers)?;
    sleep(CALM);
    let pid = envoy.process().pid();
    let idle = usage::memory(pid)?;
    let mut crowd = open(envoy.port, connections)?;
    for stream in &mut crowd {
        let mut reply = [0; 7];
        stream.read_exact(&mut reply)?;
        ensure!(&reply == b"+PONG\r\n", "an answer that is not +PONG");
    }
    sleep(CALM);
    Ok(Sample {
        filter,
        workers,
        idle,
        connections,
        live: usage::memory(pid)?,
        held: None,
    })
}

fn held(cluster: &mut Cluster, workers: usize, connections: usize) -> Result<[Memory; 2]> {
    let (mut envoy, _ports) = start(cluster, true, workers)?;
    let master = cluster.master().context("no master")?;
    let counter = |envoy: &Envoy, name: &str| -> u64 {
        let stats = envoy.stats(&format!("redis_sentinel.*{name}"));
        stats.map_or(0, |stats| stats.values().sum())
    };
    let hang = |cluster: &mut Cluster, signal| cluster.node(master)?.process().signal(signal);
    hang(cluster, Signal::SIGSTOP)?;
    wait::until_true("new connections to wait", wait::LONG, || {
        counter(&envoy, "master_down_total") > 0
    })?;
    sleep(CALM);
    let pid = envoy.process().pid();
    let before = usage::memory(pid)?;
    let crowd = open(envoy.port, connections)?;
    wait::until_true("the crowd to be held", wait::LONG, || {
        counter(&envoy, "held_connections") >= connections as u64
    })?;
    sleep(CALM);
    let while_held = usage::memory(pid)?;
    hang(cluster, Signal::SIGCONT)?;
    drop(crowd);
    wait::until_true("the master to be back", wait::LONG, || {
        let up = |sentinel: &redis_sentinel_tests::sentinel::Sentinel| {
            sentinel.master_field("flags").as_deref() == Some("master")
        };
        cluster.sentinels.iter().all(up)
    })?;
    Ok([before, while_held])
}

fn start(cluster: &Cluster, filter: bool, workers: usize) -> Result<(Envoy, PortBlock)> {
    let mut ports = PortBlock::claim()?;
    let config = Config::from_shipped("envoy/redis.yaml", &mut ports)?
        .seeds(&cluster.sentinel_ports())?
        .plugin("redis_router", "hold_timeout", &json!("60s"));
    let config = if filter {
        config
    } else {
        to_node(config, cluster.master().context("no master")?)?
    };
    let dir = cluster.scratch.file(&format!("memory-{filter}-{workers}"));
    fs::create_dir_all(&dir)?;
    let envoy = Envoy::start_with_workers(config, &dir, &workers.to_string())?;
    if filter {
        envoy.wait_until_ready()?;
    }
    Ok((envoy, ports))
}

fn open(port: u16, connections: usize) -> Result<Vec<TcpStream>> {
    let connect = |_| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(wait::LONG))?;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
        Ok(stream)
    };
    (0..connections).map(connect).collect()
}
