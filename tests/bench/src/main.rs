//! `make bench`: this proxy beside others.
//!
//! ```text
//! bench [--quick] [--out DIR] [PART...]     measures all or some parts, then reports
//! bench --report [--out DIR]                makes the tables and the plots of the results that are there
//! ```

mod contenders;
mod conversation;
mod cpu;
mod crowd;
mod judge;
mod latency;
mod load;
mod machine;
mod memory;
mod openloop;
mod peers;
mod plan;
mod plot;
mod race;
mod racer;
mod redis_benchmark;
mod report;
mod results;
mod setup;

mod stats;
mod switch;
mod tune;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use redis_sentinel_tests::{tools, wait};

use crate::contenders::Contenders;
use crate::plan::Plan;
use crate::results::{Measured, Results};

/// In the order in which they are measured: what a failover disturbs comes last.
const PARTS: [&str; 8] = [
    "cpu", "latency", "setup", "tune", "memory", "load", "switch", "race",
];

struct Options {
    quick: bool,
    report: bool,
    out: PathBuf,
    parts: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            quick: false,
            report: false,
            out: PathBuf::new(),
            parts: vec![],
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--report" => options.report = true,
                "--out" => options.out = arguments.next().unwrap_or_default().into(),
                part if PARTS.contains(&part) => options.parts.push(argument),
                other => bail!("no part is called {other}; these are: {}", PARTS.join(" ")),
            }
        }
        if options.out.as_os_str().is_empty() {
            // Figures of a short run must not be taken for figures.
            let place = if options.quick {
                "target/bench"
            } else {
                "docs/benchmarks"
            };
            options.out = tools::root().join(place);
        }
        if options.parts.is_empty() {
            options.parts = PARTS.map(str::to_owned).to_vec();
        }
        Ok(options)
    }

    fn wants_all(&self) -> bool {
        PARTS.iter().all(|part| self.wants(&[part]))
    }

    fn wants(&self, parts: &[&str]) -> bool {
        self.parts.iter().any(|part| parts.contains(&part.as_str()))
    }
}

fn main() -> ExitCode {
    match bench() {
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn bench() -> Result<()> {
    ctrlc::set_handler(wait::interrupt)?;
    let options = Options::parse(std::env::args().skip(1))?;
    let plan = if options.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    let mut results = match Results::read(&options.out) {
        // Of an older form of this program; all of it, or nothing of worth, is measured anew.
        Err(_) if !options.report && (options.quick || options.wants_all()) => Results::default(),
        results => results?,
    };
    let mut failed = vec![];
    if !options.report {
        for part in PARTS.iter().filter(|part| options.wants(&[part])) {
            // What was measured is not lost, and what can still be is not left out, when a part fails.
            match measure(part, &mut results, &plan) {
                Ok(()) => results.write(&options.out)?,
                Err(error) if wait::interrupted() => return Err(error),
                Err(error) => failed.push(format!("{part}: {error:#}")),
            }
        }
    }
    report(&results, &options.out)?;
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn measure(part: &str, results: &mut Results, plan: &Plan) -> Result<()> {
    // Every part has its processes to itself.
    let beside = || Contenders::start(plan.workers);
    match part {
        "cpu" => results.cpu = Some(Measured::by(plan, || cpu::measure(&beside()?, plan))?),
        "latency" => {
            results.latency = Some(Measured::by(plan, || latency::measure(&beside()?, plan))?);
        }
        "setup" => results.setup = Some(Measured::by(plan, || setup::measure(&beside()?, plan))?),
        "tune" => results.tune = Some(Measured::by(plan, || tune::measure(plan))?),
        "memory" => results.memory = Some(Measured::by(plan, || memory::measure(plan))?),
        "load" => results.load = Some(Measured::by(plan, || load::measure(plan))?),
        "switch" => results.switch = Some(Measured::by(plan, || switch::measure(plan))?),
        "race" => results.race = Some(Measured::by(plan, || race::measure(plan))?),
        other => bail!("no part is called {other}"),
    }
    Ok(())
}

fn report(results: &Results, out: &Path) -> Result<()> {
    plot::write(results, out)?;
    report::write(results, out)?;
    println!("{}", out.join("README.md").display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_does_not_overwrite_figures() {
        let parse = |text: &str| Options::parse(text.split_whitespace().map(str::to_owned));
        let all = parse("").expect("options");
        assert!(all.out.ends_with("docs/benchmarks") && all.parts.len() == PARTS.len());
        let quick = parse("--quick cpu race").expect("options");
        assert!(quick.out.ends_with("target/bench") && quick.wants(&["race"]));
        assert!(!quick.wants(&["load"]) && !quick.wants_all() && all.wants_all());
        assert!(parse("cpuu").is_err());
    }
}
