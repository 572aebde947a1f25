//! Envoy's stats: `wasmcustom.redis_sentinel.<master>[.<label>=<value>].<name>`.
//!
//! A stat has one name and no labels; Envoy's `stats_config.stats_tags` takes the master's name and the label out of it
//! again, for Prometheus. A label stands last before the name, because its value may have dots in it.

use crate::host::{self, MetricKind};
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// Names are a fixed set per configured master, and labelled ones at most [`MAX_LABELLED`].
    static DEFINED: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// Most names with the address of a node or a Sentinel in them: a Sentinel may invent as many as it likes.
const MAX_LABELLED: usize = 128;
const OTHER: &str = "other";
/// How such names can be told from the rest.
const ADDRESSES: [&str; 2] = [".node=", ".sentinel="];

/// A name with a label whose values are a fixed set.
pub fn by(label: &str, value: &str, name: &str) -> String {
    format!("{label}={value}.{name}")
}

/// A name with an address as its label; the addresses beyond [`MAX_LABELLED`] share one.
pub fn at(master_name: &str, label: &str, address: &str, name: &str) -> String {
    let own = by(label, address, name);
    let full = full_name(master_name, &own);
    let of_address = |known: &&String| ADDRESSES.iter().any(|label| known.contains(label));
    let known = DEFINED.with_borrow(|defined| {
        defined.contains_key(&full) || defined.keys().filter(of_address).count() < MAX_LABELLED
    });
    if known { own } else { by(label, OTHER, name) }
}

/// Shows a counter from now on, with 0: Prometheus does not see the first step of one that begins with 1.
pub fn declare(master_name: &str, name: &str) {
    let _ = metric(MetricKind::Counter, master_name, name);
}

/// Adds one to a counter of this master.
pub fn count(master_name: &str, name: &str) {
    if let Some(metric) = metric(MetricKind::Counter, master_name, name) {
        let _ = host::increment_metric(metric, 1);
    }
}

/// Adds to a gauge that all workers share, such as the number of held connections.
pub fn shift(master_name: &str, name: &str, offset: i64) {
    if let Some(metric) = metric(MetricKind::Gauge, master_name, name).filter(|_| offset != 0) {
        let _ = host::increment_metric(metric, offset);
    }
}

/// Sets a gauge.
pub fn set(master_name: &str, name: &str, value: u64) {
    if let Some(metric) = metric(MetricKind::Gauge, master_name, name) {
        let _ = host::record_metric(metric, value);
    }
}

/// Adds a sample to a histogram.
pub fn sample(master_name: &str, name: &str, value: u64) {
    if let Some(metric) = metric(MetricKind::Histogram, master_name, name) {
        let _ = host::record_metric(metric, value);
    }
}

fn full_name(master_name: &str, name: &str) -> String {
    format!("redis_sentinel.{master_name}.{name}")
}

fn metric(kind: MetricKind, master_name: &str, name: &str) -> Option<u32> {
    let name = full_name(master_name, name);
    DEFINED.with_borrow_mut(|defined| match defined.get(&name) {
        Some(metric) => Some(*metric),
        None => {
            let metric = host::define_metric(kind, &name).ok()?;
            defined.insert(name, metric);
            Some(metric)
        }
    })
}
