//! The fence: clients' bytes wait from the first sign of a promotion until it is confirmed, aborted, or its bound has
//! passed.

use super::{Claim, Fence, Rules, Topology};
use crate::{
    address::Address,
    fact::{Fact, Unfence},
    reply::MasterState,
    time::Timestamp,
};

impl Topology {
    pub(super) fn fence(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        candidate: Option<Address>,
        facts: &mut Vec<Fact>,
    ) {
        let Some(master) = &self.master else { return };
        if rules.fence_timeout.is_zero() || self.spent.as_deref() == Some(sentinel) {
            return;
        }
        if let Some(fence) = &mut self.fence {
            // `+failover-state-send-slaveof-noone` follows `+selected-slave`: the same failover.
            sentinel.clone_into(&mut fence.by);
            if candidate.is_some() && fence.candidate != candidate {
                // `early_switch` asks the candidate.
                fence.candidate = candidate;
                self.generation = self.generation.saturating_add(1);
            }
            return;
        }
        facts.push(Fact::Fenced {
            master: master.address.clone(),
            candidate: candidate.clone(),
            by: sentinel.to_owned(),
            at_most: rules.fence_timeout,
        });
        self.fence = Some(Fence {
            by: sentinel.to_owned(),
            candidate,
            since: now,
            until: now.after(rules.fence_timeout),
        });
        self.generation = self.generation.saturating_add(1);
    }

    pub(super) fn unfence(&mut self, sentinel: &str, why: Unfence, facts: &mut Vec<Fact>) {
        if self.spent.as_deref() == Some(sentinel) {
            self.spent = None;
        }
        // Another Sentinel's abort (it lost the election) says nothing about this failover.
        if self
            .fence
            .as_ref()
            .is_some_and(|fence| fence.by == sentinel)
        {
            self.fence = None;
            self.generation = self.generation.saturating_add(1);
            facts.extend(self.master.as_ref().map(|master| Fact::Unfenced {
                master: master.address.clone(),
                why,
                by: sentinel.to_owned(),
            }));
        }
    }

    /// The fallback where Pub/Sub is not to be had, and the end of a fence whose abort was missed.
    pub(super) fn fence_by_poll(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        claim: &Claim,
        state: &MasterState,
        facts: &mut Vec<Fact>,
    ) {
        if self
            .master
            .as_ref()
            .is_none_or(|master| master.address != claim.address)
        {
            return;
        }
        if state.promoting {
            self.fence(now, rules, sentinel, None, facts);
        } else if !state.failover {
            self.unfence(sentinel, Unfence::FailoverGone, facts);
        }
    }
}
