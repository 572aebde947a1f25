//! The shared data: one [`Topology`] per master, one [`Roster`] per watch. Written by compare-and-swap from whatever
//! worker learnt something, read by all.

use crate::{host, metrics, vm};
use sentinel_core::{
    fact::{Fact, Severity},
    json,
    roster::Roster,
    time::Timestamp,
    topology::Topology,
};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;

/// How often a lost race for a value is run again. Losers go on at their next poll.
const MAX_RACES: usize = 16;

/// The topology of one master as it is now, if it is newer than `generation`.
///
/// The value starts with its generation and a line feed, so that nobody parses what has not changed.
pub fn topology_newer_than(master_name: &str, generation: Option<u64>) -> Option<Topology> {
    let (value, _) = host::shared_data(&topology_key(master_name)).ok()?;
    if split(&value).map(|(head, _)| head) == generation {
        return None;
    }
    parse(&value)
}

/// The topology of a value; `None` for one that nobody here wrote.
fn parse(value: &[u8]) -> Option<Topology> {
    const MOST: u64 = u64::MAX / 2; // beyond it there would soon be no next one
    let (head, body) = split(value)?;
    let topology: Topology = json::read(body).ok()?;
    (topology.generation == head && head <= MOST).then_some(topology)
}

/// A topology that begins, at a generation that none had before: who follows must not take it for the one that it saw last.
fn begin(now: Timestamp) -> Topology {
    let mut topology = Topology::default();
    topology.generation = now.0;
    topology
}

/// Changes the topology of one master; tells, counts and spreads what came of it.
pub fn update_topology(
    now: Timestamp,
    master_name: &str,
    change: impl Fn(&mut Topology) -> Vec<Fact>,
) {
    let key = topology_key(master_name);
    for _ in 0..MAX_RACES {
        let (mut topology, cas) = match host::shared_data(&key) {
            Ok((value, cas)) => (parse(&value).unwrap_or_else(|| begin(now)), cas),
            Err(_) => (begin(now), host::CREATE),
        };
        let before = topology.clone();
        let facts = change(&mut topology);
        if topology == before {
            return;
        }
        let mut value = format!("{}\n", topology.generation).into_bytes();
        if serde_json::to_writer(&mut value, &topology).is_err() {
            return;
        }
        match host::set_shared_data(&key, &value, cas) {
            Err(host::CAS_MISMATCH) => continue,
            _ => {
                if topology.generation != before.generation {
                    vm::wake_all(now);
                }
                let fenced = match (before.fenced_since(), topology.fenced_since()) {
                    (Some(since), None) => Some(now.since(since)),
                    _ => None,
                };
                tell(master_name, &facts, fenced);
                if topology.config_epoch() != before.config_epoch() {
                    let epoch = topology.config_epoch().unwrap_or(0);
                    metrics::set(master_name, "config_epoch", epoch);
                }
                show(master_name, &before, &topology, fenced);
                return;
            }
        }
    }
}

/// The roster of one watch as it is now.
pub fn roster(watch: &str) -> Roster {
    let value = host::shared_data(&roster_key(watch)).ok();
    value
        .and_then(|(value, _)| json::read(&value).ok())
        .unwrap_or_default()
}

/// Changes the roster of one watch; returns what `change` returned the last time it was run.
pub fn update_roster<T>(watch: &str, change: impl Fn(&mut Roster) -> T) -> Option<T> {
    update(&roster_key(watch), change)
}

fn update<V: Serialize + DeserializeOwned + Default + Clone + PartialEq, T>(
    key: &str,
    change: impl Fn(&mut V) -> T,
) -> Option<T> {
    for _ in 0..MAX_RACES {
        let (mut value, cas) = match host::shared_data(key) {
            Ok((bytes, cas)) => (json::read::<V>(&bytes).unwrap_or_default(), cas),
            Err(_) => (V::default(), host::CREATE),
        };
        let before = value.clone();
        let result = change(&mut value);
        if value == before {
            return Some(result);
        }
        let bytes = serde_json::to_vec(&value).ok()?;
        match host::set_shared_data(key, &bytes, cas) {
            Err(host::CAS_MISMATCH) => continue,
            _ => return Some(result),
        }
    }
    None
}

/// What a change of the topology means for its metrics. `fenced`: for how long a fence stood that is over now.
fn show(master_name: &str, before: &Topology, topology: &Topology, fenced: Option<Duration>) {
    let (old, new) = (before.route().master, topology.route().master);
    if old != new {
        for (node, value) in [(old, 0), (new, 1)] {
            if let Some(node) = node {
                let node = node.to_string();
                let name = metrics::at(master_name, "node", &node, "current_master");
                metrics::set(master_name, &name, value);
            }
        }
    }
    if let Some(lasted) = fenced {
        let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        metrics::sample(master_name, "fence_duration_ms", lasted);
    }
}

fn tell(master_name: &str, facts: &[Fact], fenced: Option<Duration>) {
    for fact in facts {
        let level = match fact.severity() {
            Severity::Debug => log::Level::Debug,
            Severity::Info => log::Level::Info,
            Severity::Warn => log::Level::Warn,
        };
        match fenced.filter(|_| fact.ends_a_fence()) {
            Some(lasted) => log::log!(level, "{master_name}: {fact}, fenced for {lasted:?}"),
            None => log::log!(level, "{master_name}: {fact}"),
        }
        match (fact.counter(), fact) {
            (Some(counter), Fact::Master { cause, .. }) => {
                metrics::count(master_name, &metrics::by("cause", cause.word(), counter));
            }
            (Some(counter), _) => metrics::count(master_name, counter),
            (None, _) => {}
        }
    }
}

fn roster_key(watch: &str) -> String {
    format!("redis_sentinel/roster/{watch}")
}

fn topology_key(master_name: &str) -> String {
    format!("redis_sentinel/topology/{master_name}")
}

fn split(value: &[u8]) -> Option<(u64, &[u8])> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let head = core::str::from_utf8(value.get(..end)?).ok()?.parse().ok()?;
    Some((head, value.get(end.saturating_add(1)..)?))
}
