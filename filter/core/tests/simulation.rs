//! Proves the invariants that no table can: many runs of simulated Sentinels, Redis nodes, networks and clients, each from
//! one seed, none of which may break
//!
//! 1. neither the topology nor what a worker is told goes back to a lower config-epoch, except by `Cause::EpochReset`;
//! 2. every held connection is dialled, refused or closed within `hold_timeout`, every other one is at the master;
//! 3. within [`HEALED_WITHIN`] of the Sentinels' agreement all workers lead where they say, and each Sentinel is watched;
//! 4. a fence ends within `fence_timeout`, and nobody is kept back without one;
//! 5. no event or answer about one master changes another, nor does a stranger's with the same addresses;
//! 6. what is stored is bounded, reads back equal, and a route that changes raises the generation;
//! 7. while nothing leads anybody astray, each promotion is followed exactly once, in order: no flapping.
//!
//! `tests/mutations` breaks the core in as many ways and expects this to fail.
//!
//! `SEED=storm-17 cargo test -p redis-sentinel-core --test simulation -- --nocapture` replays one run and tells its
//! story; `SEEDS=100000` runs so many, `FIRST=5000` from there on.
//!
//! [`HEALED_WITHIN`]: support::sim::world::HEALED_WITHIN

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::{
    collections::BTreeMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};
use support::sim::world::{Weather, World};

/// One run; what it was worth, and its story if that is wanted.
fn run(name: &str, weather: Weather, seed: u64, trace: bool) -> World {
    let mut world = World::new(seed, weather, trace);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        world
            .trace
            .iter()
            .flatten()
            .for_each(|line| println!("{line}"));
        eprintln!(
            "replay with SEED={name}-{seed} cargo test -p redis-sentinel-core --test simulation -- --nocapture"
        );
        resume_unwind(panic);
    }
    world
}

fn runs(name: &str, weather: Weather, seeds: u64) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let number = |name, otherwise| env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let (mut first, mut seeds) = (number("FIRST", 0), number("SEEDS", seeds));
    let chosen = env::var("SEED").ok();
    if let Some(chosen) = &chosen {
        let own = chosen
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('-'));
        (first, seeds) = own.map_or((0, 0), |seed| (seed.parse().unwrap(), 1));
    }
    for seed in first..first.wrapping_add(seeds) {
        let world = run(name, weather, seed, chosen.is_some());
        world
            .trace
            .iter()
            .flatten()
            .for_each(|line| println!("{line}"));
        for (what, count) in world.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{name}: {counts:?}");
    counts
}

/// Failovers of every kind in a row, lagging hellos, aborts, TILT: followed exactly.
#[test]
fn calm() {
    let counts = runs("calm", Weather::Calm, 1500);
    if env::var("SEED").is_err() && env::var("SEEDS").is_err() {
        for what in [
            "planned failover",
            "node killed",
            "tilt",
            "fence",
            "stranger",
        ] {
            assert!(counts[what] > 500, "{what} hardly ever happens");
        }
    }
}

/// Leaders that die with their knowledge, a network that splits, Sentinels that hang, are replaced and rebuilt: never lost
/// for good.
#[test]
fn storm() {
    let counts = runs("storm", Weather::Storm, 1500);
    if env::var("SEED").is_err() && env::var("SEEDS").is_err() {
        for what in [
            "sentinel dies",
            "epoch reset",
            "fence expired",
            "rebuilt",
            "split",
            "hung",
            "replaced",
        ] {
            assert!(counts[what] > 50, "{what} hardly ever happens");
        }
    }
}

/// A seed that fails is worth something only if it fails again: the same to the line.
#[test]
fn a_seed_is_a_run() {
    for (name, weather) in [("calm", Weather::Calm), ("storm", Weather::Storm)] {
        for seed in 0..10 {
            let trace = || run(name, weather, seed, true).trace.unwrap();
            let first = trace();
            assert!(first.len() > 20, "{} lines", first.len());
            assert_eq!(first, trace(), "{name}-{seed}");
        }
        let other = |seed| run(name, weather, seed, true).trace;
        assert_ne!(other(0), other(1));
    }
}
