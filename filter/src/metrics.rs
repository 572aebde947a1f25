//! Counters in Envoy's stats: `wasmcustom.redis_sentinel.<master>.<name>`.

use crate::host::{self, MetricKind};
use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// Names are a fixed set per configured master, so this is bounded.
    static DEFINED: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
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

fn metric(kind: MetricKind, master_name: &str, name: &str) -> Option<u32> {
    let name = format!("redis_sentinel.{master_name}.{name}");
    DEFINED.with_borrow_mut(|defined| match defined.get(&name) {
        Some(metric) => Some(*metric),
        None => {
            let metric = host::define_metric(kind, &name).ok()?;
            defined.insert(name, metric);
            Some(metric)
        }
    })
}
