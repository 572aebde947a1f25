//! Rules 1 to 4: which claim becomes the master.

use super::{BACKED_PATIENCE, Claim, Dissent, Report, Rules, Topology};
use crate::{
    address::Address,
    fact::{Cause, Fact},
    time::Timestamp,
};
use core::time::Duration;

impl Topology {
    pub(super) fn fresh(&self, now: Timestamp, rules: &Rules) -> impl Iterator<Item = &Report> {
        let ttl = rules.report_ttl;
        self.reports
            .iter()
            .filter(move |report| report.claim.is_some() && now.since(report.at) <= ttl)
    }

    /// How many Sentinels make a majority: of those heard now, and of those that they know of, as far as slots reach.
    ///
    /// The second part keeps one lagging Sentinel from speaking for all when the others are out of reach.
    pub(super) fn majority(&self, now: Timestamp, rules: &Rules) -> usize {
        let heard = self.fresh(now, rules).count();
        let known = self
            .fresh(now, rules)
            .map(|report| report.sentinels)
            .max()
            .unwrap_or(0)
            .min(self.slots);
        heard.max(usize::try_from(known).unwrap_or(usize::MAX)) / 2 + 1
    }

    /// Rules 2 to 4, after `sentinel` claimed `claim`.
    pub(super) fn weigh(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        claim: &Claim,
        facts: &mut Vec<Fact>,
    ) {
        let Some(master) = self.master.clone() else {
            self.adopt(claim.clone(), Cause::FirstAnswer, sentinel, facts);
            return;
        };
        let needed = self.majority(now, rules);
        let named = self
            .fresh(now, rules)
            .filter(|report| report.claim.as_ref() == Some(claim));
        let agreed = named.count() >= needed;
        if claim.config_epoch > master.config_epoch {
            if self.overruled.as_ref() == Some(claim) && !agreed {
                return;
            }
            if claim.address == master.address {
                // The same master, now with the epoch that the event could not tell.
                self.master = Some(claim.clone());
            } else {
                self.adopt(claim.clone(), Cause::NewerEpoch, sentinel, facts);
            }
            self.dissent = None;
        } else if !agreed {
            // No rule follows a few.
        } else if claim.config_epoch < master.config_epoch {
            self.dissent(now, rules, sentinel, claim, &master, facts);
        } else if claim.address == master.address {
            self.dissent = None;
        } else {
            self.adopt(claim.clone(), Cause::Majority, sentinel, facts);
        }
    }

    /// Rule 4: a majority names a lower epoch. Counts how long it has been doing so without a break.
    fn dissent(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        claim: &Claim,
        master: &Claim,
        facts: &mut Vec<Fact>,
    ) {
        let patience = self.patience(now, rules, master);
        match &mut self.dissent {
            Some(dissent)
                if dissent.claim == *claim && now.since(dissent.last) <= rules.report_ttl =>
            {
                dissent.last = now;
                if now.since(dissent.since) >= patience {
                    self.overruled = Some(master.clone());
                    self.adopt(claim.clone(), Cause::EpochReset, sentinel, facts);
                }
            }
            _ => {
                self.dissent = Some(Dissent {
                    claim: claim.clone(),
                    since: now,
                    last: now,
                });
            }
        }
    }

    /// How long a majority must name a lower epoch: longer while a Sentinel still stands by the one in use. That may be
    /// the leader of a failover whose followers have not heard of it (each says hello every 2 s), or one that is wrong.
    pub(super) fn patience(&self, now: Timestamp, rules: &Rules, master: &Claim) -> Duration {
        let backed = self.fresh(now, rules).any(|report| {
            report.claim.as_ref().is_some_and(|claim| {
                claim.address == master.address && claim.config_epoch >= master.config_epoch
            })
        });
        if backed {
            rules.epoch_reset_delay.saturating_mul(BACKED_PATIENCE)
        } else {
            rules.epoch_reset_delay
        }
    }

    /// Why this claim will not be followed although it differs from the master in use.
    pub(super) fn opposition(&self, sentinel: &str, claim: &Claim) -> Option<Fact> {
        let master = self.master.as_ref()?;
        let by = sentinel.to_owned();
        let address = claim.address.clone();
        if claim.config_epoch < master.config_epoch {
            return Some(Fact::Stale {
                by,
                address,
                config_epoch: claim.config_epoch,
                in_use: master.config_epoch,
            });
        }
        (claim.address != master.address && claim.config_epoch == master.config_epoch)
            .then_some(Fact::Disputed { by, address })
    }

    /// Rule 1: a promotion whose epoch is not told, but is at least one higher.
    pub(super) fn succeed(
        &mut self,
        address: &Address,
        cause: Cause,
        sentinel: &str,
        facts: &mut Vec<Fact>,
    ) {
        let config_epoch = self.config_epoch().unwrap_or(0).saturating_add(1);
        self.adopt(
            Claim {
                address: address.clone(),
                config_epoch,
            },
            cause,
            sentinel,
            facts,
        );
    }

    pub(super) fn adopt(
        &mut self,
        claim: Claim,
        cause: Cause,
        sentinel: &str,
        facts: &mut Vec<Fact>,
    ) {
        let previous = self.master.take().map(|master| master.address);
        if previous.as_ref() != Some(&claim.address) || cause == Cause::EpochReset {
            facts.push(Fact::Master {
                address: claim.address.clone(),
                previous: previous.filter(|previous| *previous != claim.address),
                config_epoch: claim.config_epoch,
                cause,
                by: sentinel.to_owned(),
            });
            self.fence = None;
            self.spent = None;
            self.demoted = false;
            self.down = false;
            for report in &mut self.reports {
                // What was flagged was the old one.
                report.down = false;
            }
            // Who was read from is the master now.
            self.readable.retain(|replica| *replica != claim.address);
            self.replicas.retain(|replica| *replica != claim.address);
        }
        self.dissent = None;
        self.master = Some(claim);
        self.generation = self.generation.saturating_add(1);
    }
}
