//! What was aimed at, and by how much it was met or missed.

use crate::contenders::{FILTER, PLAIN, POOLED};
use crate::cpu::Cell;
use crate::report::cost::pairs;
use crate::report::relay::{name, quotient, setup_quotient};
use crate::report::text::{factor, heads, number, spread, table};
use crate::results::Results;
use crate::stats::Spread;

/// One aim.
struct Target {
    what: String,
    aim: String,
    measured: String,
    /// How far beyond the aim, as a share of it; below 0 is met with room.
    beyond: f64,
}

impl Target {
    fn at_most(what: String, aim: f64, unit: &str, value: f64, measured: String) -> Self {
        Self {
            what,
            aim: format!("≤ {}{unit}", number(aim)),
            measured,
            beyond: value / aim - 1.0,
        }
    }

    fn verdict(&self) -> String {
        let percent = number(self.beyond.abs() * 100.0);
        if self.beyond <= 0.0 {
            format!("met, with {percent} % to spare")
        } else {
            format!("**missed** by {percent} %")
        }
    }
}

/// The table.
pub fn section(results: &Results) -> String {
    let parts = [
        relay(results),
        setup(results),
        pooled(results),
        switch(results),
        memory(results),
        module(results),
    ];
    let rows: Vec<_> = parts
        .into_iter()
        .flatten()
        .map(|target| {
            let verdict = target.verdict();
            vec![target.what, target.aim, target.measured, verdict]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "## Targets\n\n{}",
        table(&heads(["", "target", "measured", ""]), &rows)
    )
}

fn cells(results: &Results) -> &[Cell] {
    results
        .cpu
        .as_ref()
        .map_or(&[], |part| part.data.as_slice())
}

fn relay(results: &Results) -> Vec<Target> {
    let target = |cell: &Cell| {
        let quotient = quotient(cell, FILTER, PLAIN, |sample| sample.cpu)?;
        let what = format!("CPU per command, filter ÷ `tcp_proxy`: {}", name(cell));
        Some(Target::at_most(
            what,
            1.02,
            "×",
            quotient.median,
            factor(Some(quotient)),
        ))
    };
    let mut targets: Vec<_> = cells(results).iter().filter_map(target).collect();
    let all = cells(results)
        .iter()
        .filter_map(|cell| quotient(cell, FILTER, PLAIN, |s| s.cpu));
    if let Some(all) = Spread::of(all.map(|quotient| quotient.median)) {
        let what = "The same, the middle of all these loads".to_owned();
        targets.push(Target::at_most(
            what,
            1.02,
            "×",
            all.median,
            factor(Some(all)),
        ));
    }
    targets
}

fn setup(results: &Results) -> Vec<Target> {
    let Some(quotient) = setup_quotient(results, FILTER, |sample| sample.cpu) else {
        return vec![];
    };
    let what = "Connection set-up, CPU, filter ÷ `tcp_proxy`".to_owned();
    vec![Target::at_most(
        what,
        1.05,
        "×",
        quotient.median,
        factor(Some(quotient)),
    )]
}

fn pooled(results: &Results) -> Vec<Target> {
    let single = cells(results)
        .iter()
        .filter(|cell| cell.pipeline == 1 && cell.size < 1024);
    let target = |cell: &Cell| {
        let quotient = quotient(cell, POOLED, PLAIN, |sample| Some(sample.rate))?;
        Some(Target {
            what: format!("Throughput, pooled ÷ `tcp_proxy`: {}", name(cell)),
            aim: "≥ 1.5×".to_owned(),
            measured: factor(Some(quotient)),
            beyond: 1.0 - quotient.median / 1.5,
        })
    };
    single.filter_map(target).collect()
}

fn switch(results: &Results) -> Vec<Target> {
    let Some(part) = &results.switch else {
        return vec![];
    };
    let size = part
        .data
        .iter()
        .map(|sample| sample.connections)
        .max()
        .unwrap_or(0);
    let target = |what: &str, value: fn(&crate::switch::Sample) -> f64| {
        let found = Spread::of(part.data.iter().map(value))?;
        let what = format!(
            "{} live connections {what} after Sentinel's word",
            number(size as f64)
        );
        Some(Target::at_most(
            what,
            200.0,
            " ms",
            found.median,
            format!("{} ms", spread(Some(found))),
        ))
    };
    [
        target("closed", |sample| sample.closed[2]),
        target("answered by the new master", |sample| sample.answered[2]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn memory(results: &Results) -> Vec<Target> {
    let Some(part) = &results.memory else {
        return vec![];
    };
    let target = |(plain, with): (&crate::memory::Sample, &crate::memory::Sample)| {
        let mb = (with.idle.rss as f64 - plain.idle.rss as f64) / 1_048_576.0;
        let what = format!("Memory of the filter, {} workers", with.workers);
        Target::at_most(what, 15.0, " MB", mb, format!("{} MB", number(mb)))
    };
    pairs(&part.data).into_iter().map(target).collect()
}

fn module(results: &Results) -> Vec<Target> {
    let machines = [
        results.memory.as_ref().map(|part| &part.machine),
        results.cpu.as_ref().map(|part| &part.machine),
    ];
    let Some(machine) = machines.into_iter().flatten().next() else {
        return vec![];
    };
    let kb = machine.module_bytes as f64 / 1024.0;
    vec![Target::at_most(
        "Size of the module".to_owned(),
        250.0,
        " KB",
        kb,
        format!("{} KB", number(kb)),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_says_by_how_much() {
        let target =
            |value: f64| Target::at_most(String::new(), 200.0, " ms", value, String::new());
        assert_eq!(target(100.0).verdict(), "met, with 50.0 % to spare");
        assert_eq!(target(200.0).verdict(), "met, with 0 % to spare");
        assert_eq!(target(230.0).verdict(), "**missed** by 15.0 %");
    }
}
