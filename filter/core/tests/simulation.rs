//! Proves the invariants that no table can: many runs of simulated Sentinels, links and clients, each from one
//! seed, none of which may break
//!
//! - the topology never goes back to a lower config-epoch, except by `Cause::EpochReset`;
//! - a route that changes raises the generation; what is stored reads back equal; its size is bounded;
//! - a fence ends within `fence_timeout`, and nobody is kept back without one;
//! - every held connection is dialled, refused or closed within `hold_timeout`, every other one is at the master;
//! - once the network has healed, all workers lead to the master of the Sentinels within [`HEALED_WITHIN`];
//! - while nothing leads anybody astray, each promotion is followed exactly once, in order: no flapping.
//!
//! `SEED=storm-17 cargo test -p redis-sentinel-core --test simulation -- --nocapture` replays one run and tells its
//! story; `SEEDS=100000` runs so many.

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

fn runs(name: &str, weather: Weather, seeds: u64) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    let chosen = env::var("SEED").ok();
    let seeds = env::var("SEEDS").map_or(seeds, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let label = format!("{name}-{seed}");
        if chosen.as_ref().is_some_and(|chosen| *chosen != label) {
            continue;
        }
        let mut world = World::new(seed, weather, chosen.is_some());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
            eprintln!(
                "replay with SEED={label} cargo test -p redis-sentinel-core --test simulation -- --nocapture"
            );
            resume_unwind(panic);
        }
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
    let counts = runs("calm", Weather::Calm, 150);
    if env::var("SEED").is_err() {
        for what in ["planned failover", "failover", "tilt", "fence"] {
            assert!(counts[what] > 50, "{what} hardly ever happens");
        }
    }
}

/// Leaders that die with their knowledge, links that break and stall, Sentinels that are rebuilt: never lost for good.
#[test]
fn storm() {
    let counts = runs("storm", Weather::Storm, 150);
    if env::var("SEED").is_err() {
        for what in ["sentinel dies", "epoch reset", "fence expired", "rebuilt"] {
            assert!(counts[what] > 5, "{what} hardly ever happens");
        }
    }
}
