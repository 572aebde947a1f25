//! The plots, made of the results alone.

mod bars;
mod latency;
mod timeline;

use std::fs;
use std::path::Path;

use anyhow::Result;
use plotters::style::RGBColor;

use crate::contenders::{DIRECT, EMPTY, FILTER, HAPROXY, NUTCRACKER, PLAIN, POOLED};
use crate::plot::bars::{Bars, Group};
use crate::race::{FILTER_EARLY, HAPROXY_STRICT, REDIS_PY};
use crate::report::{cost, failover, relay};
use crate::results::Results;
use crate::stats::Spread;

/// One colour for each contender in all plots; they differ for most who see few colours.
fn colour(contender: &str) -> RGBColor {
    match contender {
        DIRECT => RGBColor(150, 150, 150),
        PLAIN => RGBColor(86, 180, 233),
        EMPTY => RGBColor(120, 150, 200),
        FILTER => RGBColor(0, 114, 178),
        POOLED => RGBColor(0, 158, 115),
        FILTER_EARLY => RGBColor(60, 90, 230),
        HAPROXY => RGBColor(213, 94, 0),
        HAPROXY_STRICT => RGBColor(230, 159, 0),
        NUTCRACKER => RGBColor(204, 121, 167),
        REDIS_PY => RGBColor(100, 60, 130),
        _ => RGBColor(0, 0, 0),
    }
}

/// Writes all of them.
pub fn write(results: &Results, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    cpu(results, &out.join("cpu.svg"))?;
    memory(results, &out.join("memory.svg"))?;
    silence(results, &out.join("race-silence.svg"))?;
    if let Some(part) = &results.latency {
        latency::draw(&part.data, &out.join("latency.svg"))?;
    }
    if let Some(part) = &results.race {
        timeline::draw(&part.data.runs, &out.join("race-timeline.svg"))?;
    }
    Ok(())
}

/// CPU per command for small values: large ones would need another axis.
fn cpu(results: &Results, file: &Path) -> Result<()> {
    let Some(part) = &results.cpu else {
        return Ok(());
    };
    let cells = part.data.iter().filter(|cell| cell.size < 1 << 20);
    let group = |cell| Group {
        name: relay::name(cell).replace("pipeline ", "P="),
        bars: relay::ORDER[1..]
            .iter()
            .map(|who| {
                let used = relay::rounds(cell, who, |sample| sample.cpu);
                (*who, Spread::of(used.into_iter().map(|(_, ns)| ns / 1e3)))
            })
            .collect(),
    };
    let bars = Bars {
        title: "The proxy's CPU per command, µs (median, smallest and largest round)",
        groups: cells.map(group).collect(),
    };
    bars.draw(file)
}

fn memory(results: &Results, file: &Path) -> Result<()> {
    let Some(part) = &results.memory else {
        return Ok(());
    };
    let mb = |bytes: u64| Spread::of([bytes as f64 / 1_048_576.0]);
    let group = |(plain, with): (&crate::memory::Sample, &crate::memory::Sample)| Group {
        name: format!("{} workers", with.workers),
        bars: vec![(PLAIN, mb(plain.idle.rss)), (FILTER, mb(with.idle.rss))],
    };
    let bars = Bars {
        title: "Envoy's memory without clients (RSS), MB",
        groups: cost::pairs(&part.data).into_iter().map(group).collect(),
    };
    bars.draw(file)
}

fn silence(results: &Results, file: &Path) -> Result<()> {
    let Some(part) = &results.race else {
        return Ok(());
    };
    let group = |(fault, _): &(&str, &str)| {
        let runs = failover::of(&part.data.runs, fault);
        let of = |who: &'static str| {
            let seen = failover::seen(&runs, who);
            (who, Spread::of(seen.iter().map(|seen| seen.silence_of_one)))
        };
        Group {
            name: (*fault).to_owned(),
            bars: failover::ORDER.map(of).to_vec(),
        }
    };
    let bars = Bars {
        title: "Longest silence of one client in a failover, ms (median, shortest and longest)",
        groups: failover::FAULTS.iter().map(group).collect(),
    };
    bars.draw(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_colour_of_its_own() {
        let all = [
            DIRECT,
            PLAIN,
            FILTER,
            FILTER_EARLY,
            POOLED,
            HAPROXY,
            HAPROXY_STRICT,
            NUTCRACKER,
            REDIS_PY,
        ];
        let colours: std::collections::BTreeSet<_> = all
            .iter()
            .map(|who| {
                let RGBColor(red, green, blue) = colour(who);
                (red, green, blue)
            })
            .collect();
        assert_eq!(colours.len(), all.len());
        assert!(!colours.contains(&(0, 0, 0)));
    }
}
