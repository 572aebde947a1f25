//! Which replicas may serve reads.

use super::{MAX_REPLICAS, Report, Rules, Topology};
use crate::{address::Address, reply::Replica, time::Timestamp};

impl Topology {
    /// Replicas that most of the Sentinels that agree on the master call healthy.
    pub(super) fn healthy_replicas(
        &self,
        now: Timestamp,
        rules: &Rules,
        master: &Address,
    ) -> Vec<Address> {
        let agreeing: Vec<&Report> = self
            .fresh(now, rules)
            .filter(|report| {
                report
                    .claim
                    .as_ref()
                    .is_some_and(|claim| claim.address == *master)
            })
            .collect();
        let mut healthy: Vec<Address> = agreeing
            .iter()
            .flat_map(|report| report.replicas.iter().cloned())
            .collect();
        healthy.sort_unstable();
        healthy.dedup();
        healthy.retain(|address| {
            let votes = agreeing
                .iter()
                .filter(|report| report.replicas.contains(address))
                .count();
            address != master && votes.saturating_mul(2) >= agreeing.len()
        });
        healthy.truncate(MAX_REPLICAS);
        healthy
    }
}

/// The replicas that one Sentinel would let serve reads.
pub(super) fn usable(replicas: &[Replica], max_lag: u64) -> Vec<Address> {
    let healthy = || replicas.iter().filter(|replica| replica.healthy);
    let most_advanced = healthy().map(|replica| replica.offset).max().unwrap_or(0);
    let near = |replica: &&Replica| {
        max_lag == 0 || most_advanced.saturating_sub(replica.offset) <= max_lag
    };
    healthy()
        .filter(near)
        .map(|replica| replica.address.clone())
        .take(MAX_REPLICAS)
        .collect()
}
