//! Which address is the master, and by which evidence. One [`Topology`] per master name; the watches write it, the
//! routers read its [`Route`].
//!
//! The rules, in the order in which they apply:
//!
//! 1. **A promotion that a Sentinel announces is taken at once**: `+promoted-slave` and `+switch-master`, if the master
//!    that they replace is the one in use. Events carry no epoch; the new one is at least one higher (`sentinel.c`,
//!    `sentinelStartFailover`: `failover_epoch = ++current_epoch`), which is enough to outrank every answer from before.
//! 2. **A higher config-epoch wins.** Sentinel itself decides so (`sentinelProcessHelloMessage`).
//! 3. **The same config-epoch and another address** is settled by the majority of the watched Sentinels.
//! 4. **A lower config-epoch never wins**, except that a majority that keeps agreeing on it for `epoch_reset_delay` is
//!    followed, loudly: Sentinels rebuilt from scratch start at epoch 0. It takes six times as long while a Sentinel still
//!    stands by the epoch in use: one that lies, or a leader that the others do not hear. What was overruled so does not
//!    come back by rule 2.
//! 5. Nobody's silence changes the master: with all Sentinels away the last known one stays in use.
//!
//! A **fence** keeps clients' bytes back from the first sign of a promotion until it is confirmed, aborted, or its
//! bound has passed. One fence per failover: what expired is not renewed by the same Sentinel's same failover.

mod evidence;
mod fence;
mod replicas;

use crate::{
    address::Address,
    config::WatchConfig,
    event::{Event, EventKind},
    fact::{Cause, Fact, Unfence},
    reply::{MasterAddress, MasterState, Replica, Role},
    time::Timestamp,
};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Most Sentinels whose reports are kept for one master.
pub const MAX_REPORTS: usize = 32;
/// Most replicas that are kept for one master.
pub const MAX_REPLICAS: usize = 64;
/// A Sentinel that was not heard for so long no longer counts as watched.
const REPORT_KEPT: Duration = Duration::from_secs(600);

/// Within this time of the first answer every slot has asked for a seat.
const SLOTS_APPEAR: Duration = Duration::from_secs(10);
/// The least difference of two times.
const TICK: Duration = Duration::from_millis(1);
/// How many times `epoch_reset_delay` a majority must insist while a Sentinel still stands by the epoch in use.
const BACKED_PATIENCE: u32 = 6;

/// The times of [`WatchConfig`] that the rules need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A report older than this no longer speaks for its Sentinel.
    pub report_ttl: Duration,
    /// Bound of a fence; zero turns it off.
    pub fence_timeout: Duration,
    /// How long a majority must keep naming a lower epoch.
    pub epoch_reset_delay: Duration,
    /// How far a replica may lag behind the most advanced one, in bytes; 0 is no bound.
    pub max_replica_lag: u64,
}

impl From<&WatchConfig> for Rules {
    fn from(config: &WatchConfig) -> Self {
        Self {
            report_ttl: config
                .poll_interval
                .0
                .saturating_mul(2)
                .saturating_add(config.reply_timeout.0.saturating_mul(2)),
            fence_timeout: config.fence_timeout.0,
            epoch_reset_delay: config.epoch_reset_delay.0,
            max_replica_lag: config.max_replica_lag_bytes,
        }
    }
}

/// All that is known about one master. Lives in shared data, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Rises whenever [`Topology::route`] may give another answer.
    pub generation: u64,
    master: Option<Claim>,
    fence: Option<Fence>,
    /// The Sentinel whose failover has used up its fence.
    spent: Option<String>,
    /// The master says that it is a replica.
    demoted: bool,
    /// Most watched Sentinels flag it down.
    down: bool,
    reports: Vec<Report>,
    /// Replicas that keep their readers, and those of them that get new ones.
    readable: Vec<Address>,
    replicas: Vec<Address>,
    /// Rule 4: a claim that a majority has voted down.
    overruled: Option<Claim>,
    /// Rule 4: what a majority has been naming.
    dissent: Option<Dissent>,
    /// The node that does not let the probe ask, so that it is told once and asked no more.
    unprobed: Option<Address>,
    /// When the first answer came.
    began: Option<Timestamp>,
    /// The number of Sentinels of which was told that they are more than slots.
    unwatched: u32,
    /// The highest watch slot seen, counted from 1: how many Sentinels can be watched at all.
    slots: u32,
}

/// An address and the version of the opinion that it is the master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    address: Address,
    config_epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Dissent {
    claim: Claim,
    since: Timestamp,
    /// When the majority was last seen to agree.
    last: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Fence {
    by: String,
    candidate: Option<Address>,
    since: Timestamp,
    until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    sentinel: String,
    at: Timestamp,
    claim: Option<Claim>,
    down: bool,
    tilt: bool,
    /// `num-other-sentinels` + 1, as this Sentinel counts.
    sentinels: u32,
    replicas: Vec<replicas::Readable>,
    /// The last problem told about this Sentinel, so that it is told once.
    problem: Option<String>,
    /// It was told for those who debug only.
    quiet: bool,
}

/// One Sentinel's complete answer to one poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `SENTINEL GET-MASTER-ADDR-BY-NAME`.
    pub address: MasterAddress,
    /// `SENTINEL MASTER`; `None` if refused.
    pub state: Option<MasterState>,
    /// `SENTINEL REPLICAS`; `None` if not asked.
    pub replicas: Option<Vec<Replica>>,
}

/// What a router has to know, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The master; `None` before the first answer.
    pub master: Option<Address>,
    /// Keep clients' bytes back until then, unless the route changes before.
    pub fenced_until: Option<Timestamp>,
    /// Let new connections wait, and why.
    pub hold: Option<Hold>,
    /// Replicas that get new readers.
    pub replicas: Vec<Address>,
    /// Replicas that keep the readers they have.
    pub readable: Vec<Address>,
    /// Sentinels answer, but none of them has named a usable master.
    pub unknown_to_all: bool,
    /// The master is announced by a host name that has never resolved; `master` is then `None`.
    pub unresolved: Option<Address>,
}

impl Route {
    /// The same with addresses in the place of names, as far as they resolve.
    #[must_use]
    pub fn resolved(self, mut resolve: impl FnMut(&Address) -> Option<Address>) -> Self {
        let master = self.master.as_ref().and_then(&mut resolve);
        let mut each = |nodes: Vec<Address>| nodes.iter().filter_map(&mut resolve).collect();
        Self {
            unresolved: self.master.filter(|_| master.is_none()),
            master,
            replicas: each(self.replicas),
            readable: each(self.readable),
            ..self
        }
    }

    /// Every node that is named.
    pub fn nodes(&self) -> impl Iterator<Item = &Address> {
        self.master
            .iter()
            .chain(&self.readable)
            .chain(&self.replicas)
    }
}

/// Why new connections wait although a master is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Most watched Sentinels flag it down.
    Down,
    /// It says itself that it is a replica.
    NotMaster,
}

impl Topology {
    /// What the routers do now.
    #[must_use]
    pub fn route(&self) -> Route {
        Route {
            master: self.master.as_ref().map(|master| master.address.clone()),
            fenced_until: self.fence.as_ref().map(|fence| fence.until),
            hold: match (self.down, self.demoted) {
                (true, _) => Some(Hold::Down),
                (false, true) => Some(Hold::NotMaster),
                (false, false) => None,
            },
            replicas: self.replicas.clone(),
            readable: self.readable.clone(),
            unknown_to_all: self.master.is_none() && !self.reports.is_empty(),
            unresolved: None,
        }
    }

    /// The master's config-epoch.
    #[must_use]
    pub fn config_epoch(&self) -> Option<u64> {
        self.master.as_ref().map(|master| master.config_epoch)
    }

    /// Since when clients' bytes are kept back, if they are.
    #[must_use]
    pub fn fenced_since(&self) -> Option<Timestamp> {
        self.fence.as_ref().map(|fence| fence.since)
    }

    /// The replica that is being promoted right now, if one is.
    #[must_use]
    pub fn candidate(&self) -> Option<&Address> {
        self.fence
            .as_ref()
            .and_then(|fence| fence.candidate.as_ref())
    }

    /// Whether something is going on that is worth a closer look: a fence, a master in doubt, Sentinels that disagree.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.fence.is_some()
            || self.down
            || self.demoted
            || self.dissent.is_some()
            || self.master.is_none()
    }

    /// When time alone changes something.
    #[must_use]
    pub fn next_due(&self, rules: &Rules) -> Option<Timestamp> {
        let fence = self.fence.as_ref().map(|fence| fence.until);
        let flags = self
            .reports
            .iter()
            .filter(|report| self.down && report.down)
            .map(|report| report.at.after(rules.report_ttl.saturating_add(TICK)));
        fence.into_iter().chain(flags).min()
    }

    /// Takes in one Sentinel's answer. `slot` is a watch slot, counted from 0: there are at least so many.
    pub fn report(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        slot: u32,
        answer: &Answer,
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.slots = self.slots.max(slot.saturating_add(1));
        let state = answer.state.clone().unwrap_or_default();
        let (claim, problem) = match &answer.address {
            MasterAddress::Known(address) => (
                Some(Claim {
                    address: address.clone(),
                    // Who does not say its epoch is taken to be up to date: then the majority settles it.
                    config_epoch: match &answer.state {
                        Some(state) => state.config_epoch,
                        None => self.config_epoch().unwrap_or(0),
                    },
                }),
                None,
            ),
            MasterAddress::UnknownName => (
                None,
                Some(Fact::UnknownName {
                    by: sentinel.to_owned(),
                }),
            ),
            MasterAddress::Unusable(text, error) => (
                None,
                Some(Fact::Unusable {
                    by: sentinel.to_owned(),
                    text: text.clone(),
                    error: *error,
                }),
            ),
            MasterAddress::Refused(message) => (
                None,
                Some(Fact::Refused {
                    by: sentinel.to_owned(),
                    message: message.clone(),
                }),
            ),
        };
        let opposed = claim
            .as_ref()
            .and_then(|claim| self.opposition(sentinel, claim));
        let Some(report) = self.report_of(sentinel) else {
            return facts;
        };
        report.at = now;
        report.claim.clone_from(&claim);
        report.down = state.down;
        report.sentinels = state.sentinels;
        if let Some(replicas) = &answer.replicas {
            report.replicas = replicas::readable(replicas, rules.max_replica_lag);
        }
        let told = problem.or(opposed);
        // Who lagged for a moment, as all but the leader do in every failover, need not be said to have caught up.
        let quiet = matches!(told, Some(Fact::Stale { .. }));
        let text = told.as_ref().map(ToString::to_string);
        if report.problem != text {
            facts.extend(told.or_else(|| {
                (!report.quiet).then(|| Fact::Recovered {
                    by: sentinel.to_owned(),
                })
            }));
            report.quiet = quiet;
            report.problem = text;
            self.generation = self.generation.saturating_add(1);
        }
        self.tell_unwatched(now, state.sentinels, &mut facts);
        if let Some(claim) = claim {
            self.weigh(now, rules, sentinel, &claim, &mut facts);
            if let Some(state) = &answer.state {
                self.fence_by_poll(now, rules, sentinel, &claim, state, &mut facts);
            }
        }
        self.refresh(now, rules, &mut facts);
        facts
    }

    /// Takes in one Pub/Sub event about this master, or a TILT of that Sentinel.
    pub fn event(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        sentinel: &str,
        event: &Event,
    ) -> Vec<Fact> {
        let mut facts = Vec::new();
        let in_use = self.master.as_ref().map(|master| master.address.clone());
        let concerns_ours = event.master.is_some() && event.master == in_use;
        match &event.kind {
            EventKind::Promoting(candidate) if concerns_ours => {
                self.fence(now, rules, sentinel, Some(candidate.clone()), &mut facts);
            }
            EventKind::Promoted(address) if concerns_ours => {
                self.succeed(address, Cause::PromotedEvent, sentinel, &mut facts)
            }
            EventKind::Switched(address) if concerns_ours && !self.lags(sentinel) => {
                self.succeed(address, Cause::SwitchEvent, sentinel, &mut facts)
            }
            EventKind::Aborted if concerns_ours => {
                self.unfence(sentinel, Unfence::Aborted, &mut facts)
            }
            EventKind::Down | EventKind::Up if concerns_ours => {
                if let Some(report) = self.heard_of(sentinel) {
                    report.down = event.kind == EventKind::Down;
                }
            }
            EventKind::Tilt(entered) => {
                if let Some(report) = self.heard_of(sentinel) {
                    report.tilt = *entered;
                }
            }
            _ => {}
        }
        self.refresh(now, rules, &mut facts);
        facts
    }

    /// Whether this Sentinel was last heard naming the master in use by an epoch of before, when it was master once
    /// already: its `+switch-master` away from it is history that it catches up with.
    fn lags(&self, sentinel: &str) -> bool {
        let report = self
            .reports
            .iter()
            .find(|report| report.sentinel == sentinel);
        let heard = report.and_then(|report| report.claim.as_ref());
        self.master
            .as_ref()
            .zip(heard)
            .is_some_and(|(master, heard)| {
                heard.address == master.address && heard.config_epoch < master.config_epoch
            })
    }

    /// Takes in a node's own word. `early_switch` lets a candidate's word alone make it the master.
    pub fn role(&mut self, address: &Address, role: Role, early_switch: bool) -> Vec<Fact> {
        let mut facts = Vec::new();
        if early_switch && role == Role::Master && self.candidate() == Some(address) {
            self.succeed(address, Cause::OwnRole, "the node itself", &mut facts);
        } else if self
            .master
            .as_ref()
            .is_some_and(|master| master.address == *address)
        {
            let demoted = role == Role::Replica;
            if demoted != self.demoted {
                self.demoted = demoted;
                self.generation = self.generation.saturating_add(1);
                let master = address.clone();
                facts.push(if demoted {
                    Fact::NotMaster { master }
                } else {
                    Fact::MasterAgain { master }
                });
            }
        }
        facts
    }

    /// This node does not let the probe ask for its role.
    pub fn unprobed(&mut self, address: &Address, message: &str) -> Vec<Fact> {
        if self.unprobed.as_ref() == Some(address) {
            return Vec::new();
        }
        self.unprobed = Some(address.clone());
        if self.demoted
            && self
                .master
                .as_ref()
                .is_some_and(|master| master.address == *address)
        {
            // What it said of itself before cannot be asked again.
            self.demoted = false;
            self.generation = self.generation.saturating_add(1);
        }
        vec![Fact::Unprobed {
            address: address.clone(),
            message: message.to_owned(),
        }]
    }

    /// Whether asking this node for its role is of any use.
    #[must_use]
    pub fn may_probe(&self, address: &Address) -> bool {
        self.unprobed.as_ref() != Some(address)
    }

    /// Says once that there are more Sentinels than slots, when the slots have had the time to show up.
    fn tell_unwatched(&mut self, now: Timestamp, sentinels: u32, facts: &mut Vec<Fact>) {
        let began = *self.began.get_or_insert(now);
        if now.since(began) >= SLOTS_APPEAR && sentinels > self.slots && self.unwatched != sentinels
        {
            self.unwatched = sentinels;
            facts.push(Fact::Unwatched {
                sentinels,
                slots: self.slots,
            });
        }
    }

    /// Lets time pass: fences end by their bound, silent Sentinels stop counting.
    pub fn tick(&mut self, now: Timestamp, rules: &Rules) -> Vec<Fact> {
        let mut facts = Vec::new();
        self.refresh(now, rules, &mut facts);
        facts
    }

    /// This Sentinel's report, if it has ever answered.
    fn heard_of(&mut self, sentinel: &str) -> Option<&mut Report> {
        self.reports
            .iter_mut()
            .find(|report| report.sentinel == sentinel)
    }

    /// This Sentinel's report, made if need be; `None` only when [`MAX_REPORTS`] is 0.
    fn report_of(&mut self, sentinel: &str) -> Option<&mut Report> {
        if let Some(index) = self
            .reports
            .iter()
            .position(|report| report.sentinel == sentinel)
        {
            return self.reports.get_mut(index);
        }
        if self.reports.len() >= MAX_REPORTS {
            let oldest = self
                .reports
                .iter()
                .enumerate()
                .min_by_key(|(_, report)| report.at)
                .map(|(index, _)| index)?;
            self.reports.remove(oldest);
        }
        self.reports.push(Report {
            sentinel: sentinel.to_owned(),
            at: Timestamp(0),
            claim: None,
            down: false,
            tilt: false,
            sentinels: 1,
            replicas: Vec::new(),
            problem: None,
            quiet: false,
        });
        self.reports.last_mut()
    }

    /// What follows from the reports and the time alone.
    fn refresh(&mut self, now: Timestamp, rules: &Rules, facts: &mut Vec<Fact>) {
        let heard = !self.reports.is_empty();
        self.reports
            .retain(|report| now.since(report.at) <= REPORT_KEPT);
        if heard && self.reports.is_empty() && self.master.is_none() {
            // "No Sentinel knows the name" is now "no Sentinel answers".
            self.generation = self.generation.saturating_add(1);
        }
        for report in &mut self.reports {
            // Nobody waits for a flag that no longer counts: what is due next would be hidden behind it.
            report.down &= now.since(report.at) <= rules.report_ttl;
        }
        let Some(master) = self.master.as_ref().map(|master| master.address.clone()) else {
            return;
        };
        if let Some(fence) = self.fence.take_if(|fence| now >= fence.until) {
            self.spent = Some(fence.by);
            self.generation = self.generation.saturating_add(1);
            facts.push(Fact::FenceExpired {
                master: master.clone(),
                candidate: fence.candidate,
            });
        }
        let needed = self.majority(now, rules);
        let ours = |report: &&Report| {
            report
                .claim
                .as_ref()
                .is_some_and(|claim| claim.address == master)
        };
        let flagging = self
            .fresh(now, rules)
            .filter(ours)
            .filter(|report| report.down && !report.tilt)
            .count();
        let down = flagging >= needed;
        if down != self.down {
            self.down = down;
            self.generation = self.generation.saturating_add(1);
            let master = master.clone();
            facts.push(if down {
                Fact::Down {
                    master,
                    flagging,
                    watched: self.fresh(now, rules).count(),
                }
            } else {
                Fact::Up { master }
            });
        }
        let (readable, replicas) = self.vote_on_replicas(now, rules, &master);
        if readable != self.readable || replicas != self.replicas {
            self.readable = readable;
            self.replicas = replicas;
            self.generation = self.generation.saturating_add(1);
        }
    }
}
