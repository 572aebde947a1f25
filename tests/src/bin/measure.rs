//! `make measure` and `make marathon`: many failovers under load, as minimum, median and maximum.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use redis_sentinel_tests::fault::Fault;
use redis_sentinel_tests::outcome::Outcome;
use redis_sentinel_tests::trial::Trial;
use redis_sentinel_tests::wait;

const CLIENTS: usize = 50;

/// `measure [--early-switch] [--strict] [RUNS [HOW...]]`
struct Options {
    early_switch: bool,
    /// Whether a failover that a client noticed by more than one close is an error.
    strict: bool,
    runs: usize,
    faults: Vec<Fault>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (flags, others): (Vec<_>, Vec<_>) = arguments.partition(|text| text.starts_with("--"));
        let mut options = Self {
            early_switch: false,
            strict: false,
            runs: 10,
            faults: Fault::ALL.to_vec(),
        };
        for flag in flags {
            match flag.as_str() {
                "--early-switch" => options.early_switch = true,
                "--strict" => options.strict = true,
                other => anyhow::bail!("no option is called {other}"),
            }
        }
        if let Some((runs, faults)) = others.split_first() {
            options.runs = runs.parse().context("RUNS is a number")?;
            if !faults.is_empty() {
                let faults = faults.iter().map(|text| text.parse());
                options.faults = faults.collect::<Result<_>>()?;
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    match measure() {
        Err(error) => {
            eprintln!("measure: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn measure() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let options = Options::parse(std::env::args().skip(1))?;
    for &fault in &options.faults {
        let outcomes = repeat(fault, &options)?;
        print_table(fault, &options, &outcomes);
        for outcome in outcomes.iter().filter(|_| options.strict) {
            // What only the killed master knew is gone with it; a planned failover has no excuse.
            let lost = fault == Fault::Planned && outcome.lost > 0;
            ensure!(
                !lost && outcome.is_transparent(),
                "not transparent: {outcome}"
            );
            ensure!(outcome.rate >= 1000, "too little load: {outcome}");
        }
    }
    Ok(())
}

fn repeat(fault: Fault, options: &Options) -> Result<Vec<Outcome>> {
    let runs = options.runs;
    let mut outcomes = Vec::new();
    let mut trial = None;
    for run in 1..=runs {
        // Planned failovers go on in one cluster. After a real one Sentinel refuses the next for twice its timeout: a
        // new cluster is quicker.
        let mut current = match trial.take() {
            Some(trial) => trial,
            None => Trial::start_early(options.early_switch)?,
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

fn print_table(fault: Fault, options: &Options, outcomes: &[Outcome]) {
    let ms =
        |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let (mode, promotion) = if options.early_switch {
        (", early_switch", "the replica's ROLE turned")
    } else {
        ("", "`+promoted-slave`")
    };
    println!(
        "\n| {fault}{mode}, {} times, {CLIENTS} connections | min | median | max |\n|---|---|---|---|",
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
    row(&format!("of it not ours, until {promotion}, ms"), &|o| {
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
