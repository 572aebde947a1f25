//! The page, made of the results alone.

pub mod cost;
pub mod failover;
pub mod relay;
mod targets;
pub mod text;

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::machine::{Machine, Occasion};
use crate::results::{Measured, Results};

/// Writes `README.md`.
pub fn write(results: &Results, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    Ok(fs::write(out.join("README.md"), page(results))?)
}

/// All of it. What was not measured is left out.
fn page(results: &Results) -> String {
    let sections = [
        head(results),
        targets::section(results),
        relay::cpu(results),
        relay::latency(results),
        relay::setup(results),
        failover::race(results),
        failover::switch(results),
        cost::memory(results),
        cost::idle(results),
        cost::sentinels(results),
        relay::tune(results),
        METHOD.to_owned(),
    ];
    let sections = sections.iter().map(|section| section.trim());
    let told: Vec<_> = sections.filter(|section| !section.is_empty()).collect();
    told.join("\n\n") + "\n"
}

const METHOD: &str = "\
## How it is measured

`make bench` does all of it, from a fresh clone; `QUICK=1` does every part once, for a look. `results.json` holds every sample.

- All contenders run at the same time, on this one machine, with the clients and with Redis. They take turns within a round,
  each round begins with another one, and plain Envoy, the module that does nothing (`tests/bench/empty.wat`) and the filter
  have two turns per round, in either order. Quotients are
  taken within a round, and the median of these is shown: what disturbs a whole round disturbs both.
- `make bench PARTS=--report` makes this page and the plots of the results again.
- Numbers in brackets are the smallest and the largest of the rounds.
- `tcp_proxy` is the same Envoy with the same file without the module: the same listeners, buffers and socket options, led
  to the one Redis. Envoy and HAProxy have two workers each; nutcracker has one thread.
- CPU is the time that the proxy's threads ran, as the kernel counts it in nanoseconds (`/proc/<pid>/task/*/schedstat`), so it
  holds no part of Redis' or of the clients', and it holds the filter's conversation with the Sentinels. What opening and closing
  as many connections takes, with one PING each, is taken off.
- Latency counts from the moment at which a command was due, whether or not earlier ones were answered.
- HAProxy asks every node for its role once a second (`tcp-check`, `role:master`), as the charts for Redis set it up.
  \"sessions shut\" adds `on-marked-down shutdown-sessions`, which these charts do not.
- In the race each contender has 8 clients that write about 50 times a second each, wait 5 s for a reply, and reconnect after
  20 ms. redis-py's are in another process, the others in the bench's own.
";

fn head(results: &Results) -> String {
    let mut text = String::from(
        "# Benchmarks\n\nMade by `make bench` from [`results.json`](results.json); do not edit.\n",
    );
    let Some((machine, occasions)) = circumstances(results) else {
        return text + "\nNothing was measured yet.\n";
    };
    let gib = machine.memory as f64 / f64::from(1 << 30);
    let versions = machine.versions.iter();
    let versions: Vec<_> = versions
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    text += &format!(
        "\n| | |\n|---|---|\n| machine | {} × {}, {gib:.0} GiB, Linux {} |\n| programs | {} |\n| module | {} bytes, SHA-256 `{}…` |\n",
        machine.processors,
        machine.processor,
        machine.kernel,
        versions.join(", "),
        machine.module_bytes,
        machine.module_sha256.chars().take(16).collect::<String>(),
    );
    for (parts, occasion) in occasions {
        let dirty = if occasion.dirty {
            ", with changes that were not committed"
        } else {
            ""
        };
        let commit: String = occasion.commit.chars().take(12).collect();
        text += &format!(
            "| {} | {} UTC, commit `{commit}`{dirty} |\n",
            parts.join(", "),
            occasion.at
        );
    }
    text
}

type Named = (&'static str, Occasion);
/// Parts that were measured on the same commit, and when the first of them was.
type Together = (Vec<&'static str>, Occasion);

/// The newest part's machine, and which parts were measured on which commit.
fn circumstances(results: &Results) -> Option<(Machine, Vec<Together>)> {
    fn of<T>(name: &'static str, part: &Option<Measured<T>>) -> Option<(Named, Machine)> {
        let part = part.as_ref()?;
        Some(((name, part.occasion.clone()), part.machine.clone()))
    }
    let parts = [
        of("CPU", &results.cpu),
        of("latency", &results.latency),
        of("set-up", &results.setup),
        of("race", &results.race),
        of("switch", &results.switch),
        of("memory", &results.memory),
        of("idle", &results.load),
        of("settings", &results.tune),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let newest = parts.iter().max_by(|a, b| a.0.1.at.cmp(&b.0.1.at))?;
    let mut groups: Vec<Together> = vec![];
    for ((name, occasion), _) in &parts {
        let same = |group: &&mut Together| {
            group.1.commit == occasion.commit && group.1.dirty == occasion.dirty
        };
        match groups.iter_mut().find(same) {
            Some((names, first)) => {
                names.push(name);
                if occasion.at < first.at {
                    first.at.clone_from(&occasion.at);
                }
            }
            None => groups.push((vec![*name], occasion.clone())),
        }
    }
    Some((newest.1.clone(), groups))
}

#[cfg(test)]
mod tests;
