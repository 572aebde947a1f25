//! `make growth`: whether Envoy's memory grows with the number of connections that it has had.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::hostile::{come_and_go, resident};
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

/// As many as a busy day's worth of a small application.
const CONNECTIONS: u64 = 1_000_000;
/// How often memory is looked at.
const LOOKS: u64 = 20;
/// Growth per connection, over the last three quarters, that would be a leak: one entry of any of the module's tables is
/// more, and so is one of Envoy's own objects.
const LEAK: f64 = 16.0;

fn main() -> ExitCode {
    match growth() {
        Err(error) => {
            eprintln!("growth: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn growth() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let connections = match std::env::args().nth(1) {
        Some(text) => text.parse().context("CONNECTIONS is a number")?,
        None => CONNECTIONS,
    };
    let mut trial = Trial::start()?;
    let pid = trial.envoy.process().pid();
    println!("| connections so far | MB in memory | a second |\n|---|---|---|");
    let mut looks = vec![];
    for look in 1..=LOOKS {
        let begun = Instant::now();
        let wrong = come_and_go(trial.envoy.port, connections / LOOKS, 32);
        ensure!(wrong == 0, "{wrong} clients were treated badly");
        ensure!(!wait::interrupted(), "interrupted");
        let bytes = resident(pid)?;
        let rate = (connections / LOOKS) as f64 / begun.elapsed().as_secs_f64();
        let so_far = connections / LOOKS * look;
        println!(
            "| {so_far} | {:.1} | {rate:.0} |",
            bytes as f64 / f64::from(1 << 20)
        );
        looks.push((so_far as f64, bytes as f64));
    }
    let slope = slope(&looks[looks.len() / 4..]);
    println!("\n{slope:.2} bytes for each connection, over the last three quarters.");
    wait::until_true("the last connections to end", wait::LONG, || {
        let active = trial
            .envoy
            .stats("tcp.redis.downstream_cx_active|cluster.redis.upstream_cx_active");
        active.is_ok_and(|stats| stats.values().all(|active| *active <= 1))
    })?;
    ensure!(
        trial.counter("held_connections")? == 0,
        "someone is still held"
    );
    ensure!(slope < LEAK, "memory grows");
    Ok(())
}

/// Of the line through these points by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    covariance / variance
}
