//! `make measure`: many failovers under load, as minimum, median and maximum.

use std::process::ExitCode;

use anyhow::{Context, Result};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::outcome::Outcome;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

const CLIENTS: usize = 50;

fn main() -> ExitCode {
    match measure() {
        Err(error) => {
            eprintln!("make measure: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn measure() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let mut arguments = std::env::args().skip(1);
    let runs: usize = arguments
        .next()
        .map_or(Ok(10), |text| text.parse())
        .context("RUNS is a number")?;
    let faults = arguments
        .map(|text| text.parse())
        .collect::<Result<Vec<Fault>>>()?;
    let faults = if faults.is_empty() {
        Fault::ALL.to_vec()
    } else {
        faults
    };
    for fault in faults {
        let outcomes = repeat(fault, runs)?;
        print_table(fault, &outcomes);
    }
    Ok(())
}

fn repeat(fault: Fault, runs: usize) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let mut trial = None;
    for run in 1..=runs {
        // Planned failovers go on in one cluster. After a real one Sentinel refuses the next for twice its timeout: a
        // new cluster is quicker.
        let mut current = match trial.take() {
            Some(trial) => trial,
            None => Trial::start()?,
        };
        let outcome = current.fail(fault, CLIENTS)?;
        eprintln!("{fault} {run}/{runs}: {outcome}");
        outcomes.push(outcome);
        if fault == Fault::Planned {
            current.settle()?;
            trial = Some(current);
        }
    }
    Ok(outcomes)
}

fn print_table(fault: Fault, outcomes: &[Outcome]) {
    let ms =
        |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    println!(
        "\n| {fault}, {} times, {CLIENTS} connections | min | median | max |\n|---|---|---|---|",
        outcomes.len()
    );
    let row = |name: &str, value: &dyn Fn(&Outcome) -> i64| {
        let mut values: Vec<_> = outcomes.iter().map(value).collect();
        values.sort_unstable();
        let (Some(min), Some(max)) = (values.first(), values.last()) else {
            return;
        };
        println!("| {name} | {min} | {} | {max} |", values[values.len() / 2]);
    };
    row("silence, ms", &|o| ms(o.silence));
    row("of it Sentinel's, until `+promoted-slave`, ms", &|o| {
        ms(o.sentinel)
    });
    row(
        "ours, from there to the first acknowledged write, ms",
        &|o| ms(o.ours),
    );
    row("ours, until every connection had one, ms", &|o| {
        ms(o.ours_all)
    });
    row("refused", &|o| count(o.refused));
    row("error replies", &|o| count(o.errors.len()));
    row("timeouts", &|o| count(o.timeouts));
    row("closes per connection, at most", &|o| count(o.closes));
    row("acknowledged writes lost", &|o| o.lost);
    row("acknowledged writes per second before", &|o| count(o.rate));
}
