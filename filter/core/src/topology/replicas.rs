//! Which replicas may serve reads.
//!
//! A replica that is up, in step, and has its link to the master gets new readers. One that lost its link keeps the ones
//! it has for a while: after every failover each replica re-attaches, and closing its readers would only move them twice.

use super::{MAX_REPLICAS, Report, Rules, Topology};
use crate::{address::Address, reply::Replica, time::Timestamp};
use serde::{Deserialize, Serialize};

/// How long a replica without its link to the master may keep its readers, in milliseconds.
const LINK_DOWN_TOLERATED_MS: u64 = 30_000;

/// A replica that one Sentinel would leave its readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Readable {
    address: Address,
    /// It may get new ones, too.
    in_step: bool,
}

/// What one Sentinel's list comes to.
pub(super) fn readable(replicas: &[Replica], max_lag: u64) -> Vec<Readable> {
    let most_advanced = replicas
        .iter()
        .filter(|replica| replica.up && replica.linked)
        .map(|replica| replica.offset)
        .max()
        .unwrap_or(0);
    let near =
        |replica: &Replica| max_lag == 0 || most_advanced.saturating_sub(replica.offset) <= max_lag;
    let usable = |replica: &&Replica| {
        replica.up
            && near(replica)
            && (replica.linked || replica.link_down_ms < LINK_DOWN_TOLERATED_MS)
    };
    replicas
        .iter()
        .filter(usable)
        .map(|replica| Readable {
            address: replica.address.clone(),
            in_step: replica.linked,
        })
        .take(MAX_REPLICAS)
        .collect()
}

impl Topology {
    /// Replicas that at least half of the Sentinels that agree on the master would leave their readers (first) and give
    /// new ones (second), in the order of their addresses.
    ///
    /// While nobody agrees, nobody's list counts: a moment after every switch, or when all Sentinels are silent. What was
    /// known stays in use then.
    pub(super) fn vote_on_replicas(
        &self,
        now: Timestamp,
        rules: &Rules,
        master: &Address,
    ) -> (Vec<Address>, Vec<Address>) {
        let agreeing: Vec<&Report> = self
            .fresh(now, rules)
            .filter(|report| {
                report
                    .claim
                    .as_ref()
                    .is_some_and(|claim| claim.address == *master)
            })
            .collect();
        if agreeing.is_empty() {
            return (self.readable.clone(), self.replicas.clone());
        }
        let elect = |counts: &dyn Fn(&Readable) -> bool| {
            let listed = agreeing.iter().flat_map(|report| report.replicas.iter());
            let mut elected: Vec<Address> = listed
                .filter(|replica| counts(replica) && replica.address != *master)
                .map(|replica| replica.address.clone())
                .collect();
            elected.sort_unstable();
            elected.dedup();
            elected.retain(|address| {
                let votes = agreeing.iter().filter(|report| {
                    let mut listed = report.replicas.iter();
                    listed.any(|replica| replica.address == *address && counts(replica))
                });
                votes.count().saturating_mul(2) >= agreeing.len()
            });
            elected.truncate(MAX_REPLICAS);
            elected
        };
        (elect(&|_| true), elect(&|replica| replica.in_step))
    }
}
