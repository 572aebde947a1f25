//! `make idle`: the CPU of an Envoy that follows Sentinels and has no clients, beside the same Envoy that follows nobody.

use std::fs;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redis_sentinel_tests::cluster::Cluster;
use redis_sentinel_tests::envoy::Envoy;
use redis_sentinel_tests::plain::without_module;
use redis_sentinel_tests::ports::PortBlock;
use redis_sentinel_tests::render::Config;
use redis_sentinel_tests::wait;

/// Both run all the time; the whole is cut into windows so that a disturbance shows.
const WINDOWS: u32 = 6;
/// After the last health check's and the last discovery's first, quicker round.
const CALM: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    match measure() {
        Err(error) => {
            eprintln!("idle: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn measure() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let seconds = std::env::args().nth(1).map_or(Ok(60), |text| text.parse());
    let window = Duration::from_secs(seconds.context("SECONDS is a number")?) / WINDOWS;
    let mut ports = PortBlock::claim()?;
    let cluster = Cluster::start(&mut ports, 3, 3)?;
    let sentinels = cluster.sentinel_ports();
    let shipped =
        |ports: &mut PortBlock| Config::from_shipped("envoy/redis.yaml", ports)?.seeds(&sentinels);
    let dir = cluster.scratch.path();
    let mut ours = Envoy::start(shipped(&mut ports)?, dir)?;
    let mut other_ports = PortBlock::claim()?;
    let plain_dir = cluster.scratch.file("plain");
    fs::create_dir_all(&plain_dir)?;
    let mut plain = Envoy::start(without_module(shipped(&mut other_ports)?)?, &plain_dir)?;
    ours.wait_until_ready()?;
    sleep(CALM);
    let processes = [ours.process().pid(), plain.process().pid()];
    println!("| % of a core | following | plain | difference |\n|---|---|---|---|");
    let mut total = [0.0, 0.0];
    for number in 1..=WINDOWS {
        let shares = shares(processes, window)?;
        total[0] += shares[0];
        total[1] += shares[1];
        print_row(&format!("window {number}, {window:?}"), shares);
    }
    print_row("mean", total.map(|sum| sum / f64::from(WINDOWS)));
    Ok(())
}

fn print_row(name: &str, [ours, plain]: [f64; 2]) {
    println!("| {name} | {ours:.3} | {plain:.3} | {:.3} |", ours - plain);
}

/// How much of a core each process used while `window` passed, in percent.
fn shares(processes: [u32; 2], window: Duration) -> Result<[f64; 2]> {
    let begun = Instant::now();
    let before = [on_cpu(processes[0])?, on_cpu(processes[1])?];
    sleep(window);
    let after = [on_cpu(processes[0])?, on_cpu(processes[1])?];
    let share = |index: usize| {
        let used = after[index].saturating_sub(before[index]);
        used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0
    };
    Ok([share(0), share(1)])
}

/// The time that all threads of a process have run, to the nanosecond; a process' own account counts in ticks of 10 ms.
fn on_cpu(pid: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran = text.split_whitespace().next().context("schedstat")?;
        sum += Duration::from_nanos(ran.parse()?);
    }
    Ok(sum)
}
