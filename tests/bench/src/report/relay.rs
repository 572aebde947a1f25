//! Relaying: CPU, throughput, latency, set-up, settings.

use crate::contenders::{DIRECT, EMPTY, FILTER, HAPROXY, NUTCRACKER, PLAIN, POOLED};
use crate::cpu::{Cell, Sample};
use crate::report::text::{bytes, factor, heads, number, spread, table};
use crate::results::Results;
use crate::stats::{Spread, paired};
use crate::tune::{AGAIN, Tuned};

/// In every table in this order.
pub const ORDER: [&str; 7] = [DIRECT, PLAIN, EMPTY, FILTER, POOLED, HAPROXY, NUTCRACKER];

/// A contender's rounds.
pub fn rounds(
    cell: &Cell,
    contender: &str,
    value: fn(&Sample) -> Option<f64>,
) -> Vec<(usize, f64)> {
    let theirs = cell
        .samples
        .iter()
        .filter(|sample| sample.contender == contender);
    theirs
        .filter_map(|sample| Some((sample.round, value(sample)?)))
        .collect()
}

fn of(cell: &Cell, contender: &str, value: fn(&Sample) -> Option<f64>) -> Option<Spread> {
    Spread::of(
        rounds(cell, contender, value)
            .into_iter()
            .map(|(_, value)| value),
    )
}

/// CPU per command of one contender in units of another's, round by round.
pub fn quotient(
    cell: &Cell,
    ours: &str,
    theirs: &str,
    value: fn(&Sample) -> Option<f64>,
) -> Option<Spread> {
    paired(&rounds(cell, ours, value), &rounds(cell, theirs, value))
}

/// `SET 64 B, pipeline 16`.
pub fn name(cell: &Cell) -> String {
    let (command, size) = (cell.command.to_uppercase(), bytes(cell.size));
    format!("{command} {size}, pipeline {}", cell.pipeline)
}

/// CPU and throughput.
pub fn cpu(results: &Results) -> String {
    let Some(part) = &results.cpu else {
        return String::new();
    };
    let cells = &part.data;
    let head = |last: &str| {
        let mut head = vec!["load".to_owned()];
        head.extend(
            ORDER
                .iter()
                .skip(usize::from(!last.is_empty()))
                .map(|name| (*name).to_owned()),
        );
        head.extend((!last.is_empty()).then(|| last.to_owned()));
        head
    };
    let used = cells.iter().map(|cell| {
        let mut row = vec![name(cell)];
        row.extend(
            ORDER[1..]
                .iter()
                .map(|who| spread(of(cell, who, |s| Some(s.cpu? / 1e3)))),
        );
        row.push(factor(quotient(cell, FILTER, PLAIN, |s| s.cpu)));
        row
    });
    let used = table(&head("filter ÷ tcp_proxy"), &used.collect::<Vec<_>>());
    let rates = cells.iter().map(|cell| {
        let mut row = vec![name(cell)];
        row.extend(
            ORDER
                .iter()
                .map(|who| spread(of(cell, who, |s| Some(s.rate)))),
        );
        row
    });
    let rates = table(&head(""), &rates.collect::<Vec<_>>());
    let clients = cells.iter().map(|cell| cell.clients).max().unwrap_or(0);
    let few = cells.iter().map(|cell| cell.clients).min().unwrap_or(0);
    format!(
        "## CPU per command, and throughput\n\n`redis-benchmark` with {clients} connections ({few} for values of 1 MB).\n\n\
         ![CPU per command](cpu.svg)\n\nThe proxy's own CPU, µs per command. `filter ÷ tcp_proxy`: what the filter adds.\n\n{used}\n\
         {}\n\nCommands per second, while the proxy shares {} processors with Redis and the clients:\n\n{rates}",
        cpu_means(cells),
        part.machine.processors,
    )
}

/// What the figures say, in words.
fn cpu_means(cells: &[Cell]) -> String {
    let small = cells.iter().filter(|cell| cell.size < 1024);
    let against = |ours: &'static str, theirs: &'static str| {
        let quotients = small
            .clone()
            .filter_map(|cell| quotient(cell, ours, theirs, |s| s.cpu));
        Spread::of(quotients.map(|quotient| quotient.median))
    };
    let (Some(filter), Some(empty), Some(haproxy), Some(pooled)) = (
        against(FILTER, PLAIN),
        against(EMPTY, PLAIN),
        against(PLAIN, HAPROXY),
        against(POOLED, PLAIN),
    ) else {
        return String::new();
    };
    format!(
        "What this means: for small values the filter costs {:.1} % to {:.1} % of a plain relay's CPU on top of it; a module that does \
         nothing but let everything pass costs {:.1} % to {:.1} %, which is Envoy's price for its two calls per command. Most of the cost is \
         Envoy's own: plain `tcp_proxy` takes {:.2} to {:.2} times HAProxy's CPU. Pooled mode reads every command, which takes {:.2} to \
         {:.2} times a plain relay's CPU, and saves Redis most of its connections.",
        (filter.min - 1.0) * 100.0,
        (filter.max - 1.0) * 100.0,
        (empty.min - 1.0) * 100.0,
        (empty.max - 1.0) * 100.0,
        haproxy.min,
        haproxy.max,
        pooled.min,
        pooled.max
    )
}

/// Latency.
pub fn latency(results: &Results) -> String {
    let Some(part) = &results.latency else {
        return String::new();
    };
    let data = &part.data;
    let rows = ORDER.iter().map(|who| {
        let theirs = || {
            data.samples
                .iter()
                .filter(|sample| sample.contender == *who)
        };
        let us = |value: fn(&crate::latency::Sample) -> u64| {
            spread(Spread::of(
                theirs().map(|sample| value(sample) as f64 / 1e3),
            ))
        };
        vec![
            (*who).to_owned(),
            us(|s| s.p50),
            us(|s| s.p99),
            us(|s| s.p999),
            us(|s| s.max),
        ]
    });
    let head = heads(["µs", "p50", "p99", "p99.9", "slowest"]);
    format!(
        "## Latency at a fixed rate\n\n{} SETs of 64 B a second over {} connections, sent when they are due.\n\n![Latency](latency.svg)\n\n{}",
        number(f64::from(data.rate)),
        data.connections,
        table(&head, &rows.collect::<Vec<_>>())
    )
}

/// The rounds of the set-up.
pub fn setup_quotient(
    results: &Results,
    whose: &str,
    value: fn(&crate::setup::Sample) -> Option<f64>,
) -> Option<Spread> {
    let samples = &results.setup.as_ref()?.data;
    let of = |who: &str| -> Vec<(usize, f64)> {
        let theirs = samples.iter().filter(|sample| sample.contender == who);
        theirs
            .filter_map(|sample| Some((sample.round, value(sample)?)))
            .collect()
    };
    paired(&of(whose), &of(PLAIN))
}

/// Connections that come and go.
pub fn setup(results: &Results) -> String {
    let Some(part) = &results.setup else {
        return String::new();
    };
    let rows = ORDER.iter().map(|who| {
        let theirs = || part.data.iter().filter(|sample| sample.contender == *who);
        let cpu: Vec<f64> = theirs()
            .filter_map(|sample| Some(sample.cpu? / 1e3))
            .collect();
        let wall = theirs().map(|sample| sample.wall / 1e3);
        vec![
            (*who).to_owned(),
            spread(Spread::of(cpu)),
            spread(Spread::of(wall)),
        ]
    });
    let head = heads(["µs per connection", "proxy's CPU", "connect, PING, close"]);
    format!(
        "## Connection set-up\n\nConnect, PING, close, by four clients at the same time. Pooled mode and nutcracker need no connection to Redis \
         for it.\n\n{}\nThe filter takes {} of plain `tcp_proxy`'s CPU, and {} of its time; a module that does nothing takes {} of the CPU.",
        table(&head, &rows.collect::<Vec<_>>()),
        factor(setup_quotient(results, FILTER, |s| s.cpu)),
        factor(setup_quotient(results, FILTER, |s| Some(s.wall))),
        factor(setup_quotient(results, EMPTY, |s| s.cpu))
    )
}

/// Settings of plain Envoy.
pub fn tune(results: &Results) -> String {
    let Some(part) = &results.tune else {
        return String::new();
    };
    let cells = part
        .data
        .iter()
        .find_map(|tuned| (!tuned.cells.is_empty()).then_some(&tuned.cells));
    let mut head = heads(["plain Envoy with", "which is"]);
    head.extend(cells.into_iter().flatten().map(name));
    let rows = part.data.iter().map(|tuned| {
        let mut row = vec![tuned.name.clone(), tuned.what.clone()];
        if let Some(why) = &tuned.failed {
            row.push(format!("not possible: {}", why.replace('|', "/")));
        }
        row.extend(
            tuned
                .cells
                .iter()
                .map(|cell| factor(quotient(cell, &tuned.name, PLAIN, |s| s.cpu))),
        );
        row.resize(head.len(), String::new());
        row
    });
    format!(
        "## What settings give back\n\nCPU per command in units of plain `tcp_proxy` with the shipped settings, measured in turn with it; below 1 is \
         cheaper.\n\n{}\n{}",
        table(&head, &rows.collect::<Vec<_>>()),
        tune_means(part.data.as_slice())
    )
}

/// Which variants help: by more than 3 % in the middle, and at least a little in every round.
fn tune_means(tuned: &[Tuned]) -> String {
    let quotients = |tuned: &Tuned| -> Vec<Spread> {
        let cells = tuned.cells.iter();
        cells
            .filter_map(|cell| quotient(cell, &tuned.name, PLAIN, |s| s.cpu))
            .collect()
    };
    let cheaper = |quotient: &Spread| quotient.median <= 0.97 && quotient.max < 1.0;
    let dearer = |quotient: &Spread| quotient.median >= 1.03 && quotient.min > 1.0;
    let names = |test: &dyn Fn(&[Spread]) -> bool| -> String {
        let variants = tuned
            .iter()
            .filter(|tuned| ![HAPROXY, AGAIN].contains(&tuned.name.as_str()));
        let fits = variants.filter(|tuned| test(&quotients(tuned)));
        let names: Vec<_> = fits.map(|tuned| tuned.name.as_str()).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    format!(
        "Of the settings, by at least 3 % in the middle and in every round: cheaper for both loads: {}; cheaper for one of them: {}; dearer for any: {}.",
        names(&|all| !all.is_empty() && all.iter().all(cheaper)),
        names(&|all| all.iter().any(cheaper) && !all.iter().all(cheaper)),
        names(&|all| all.iter().any(dearer)),
    )
}
