//! What must hold after every change of what the workers share, and at the end.

use super::{
    redis,
    world::{Followed, World},
};
use sentinel_core::{
    fact::{Cause, Fact},
    roster::Roster,
    time::Timestamp,
    topology::{Rules, Topology},
};

/// `fence_timeout` of [`World::rules`].
const FENCE: u64 = 3000;
/// Most bytes of one topology and of the roster in shared data, with at most five Sentinels that change their identity
/// now and then.
const TOPOLOGY: usize = 6_144;
const ROSTER: usize = 6_144;

impl World {
    /// The only place where a topology changes. As in shared data it goes through JSON.
    pub fn change(
        &mut self,
        m: usize,
        change: impl FnOnce(&mut Topology, Timestamp, &Rules) -> Vec<Fact>,
    ) {
        let before = self.masters[m].topology.clone();
        let mut after = before.clone();
        let facts = change(&mut after, Timestamp(self.now), &self.rules);
        if after == before {
            assert_eq!(facts, [], "told and not stored");
            return;
        }
        // Every report changes the time of the last one; through JSON goes what changes more, and now and then the rest.
        let told = after.generation > before.generation;
        if told || self.random.percent(5) {
            let json = serde_json::to_vec(&after).unwrap();
            let read: Topology = serde_json::from_slice(&json).unwrap();
            assert_eq!(read, after, "through JSON");
            assert!(json.len() < TOPOLOGY, "the topology grows without bound");
            after = read;
        }
        self.masters[m].topology = after;
        self.check_epoch(m, &before, &facts);
        self.check_fence(m, &before);
        let route = self.masters[m].topology.route();
        let ours = &self.masters[m].nodes;
        for address in route.nodes() {
            assert!(
                ours.contains(&redis::at(address)),
                "{address} belongs to another master"
            );
        }
        let told = self.masters[m].topology.generation > before.generation;
        assert!(
            told || before.route() == route,
            "the route changed and no worker is told"
        );
        for fact in &facts {
            self.tell(|_| format!("        {m}: {fact}"));
            match fact {
                Fact::Master {
                    cause: Cause::EpochReset,
                    ..
                } => self.note("epoch reset", String::new),
                Fact::FenceExpired { .. } => self.note("fence expired", String::new),
                _ => {}
            }
            if let Fact::Master { address, .. } = fact
                && before.route().master.as_ref() != Some(address)
            {
                self.masters[m].adopted.push(redis::at(address));
            }
        }
        self.spread(m, told);
    }

    fn check_epoch(&mut self, m: usize, before: &Topology, facts: &[Fact]) {
        let reset = |fact: &Fact| {
            matches!(
                fact,
                Fact::Master {
                    cause: Cause::EpochReset,
                    ..
                }
            )
        };
        let followed = &mut self.masters[m];
        followed.resets += facts.iter().filter(|fact| reset(fact)).count();
        assert!(
            followed.topology.config_epoch() >= before.config_epoch() || facts.iter().any(reset),
            "back to a lower epoch: {before:?}, {facts:?}"
        );
    }

    fn check_fence(&mut self, m: usize, before: &Topology) {
        let fence = self.masters[m].topology.route().fenced_until;
        let began = before.route().fenced_until;
        self.masters[m].fenced_since = match (fence, self.masters[m].fenced_since) {
            (None, _) => None,
            (Some(_), Some(since)) if began == fence => Some(since),
            (Some(_), _) => {
                self.note("fence", String::new);
                Some(self.now)
            }
        };
    }

    /// Time passes: what stands longer than it may?
    pub fn check_time(&self) {
        for followed in &self.masters {
            let since = followed.fenced_since;
            assert!(
                since.is_none_or(|since| self.now <= since + FENCE),
                "a fence stands longer than fence_timeout"
            );
        }
    }

    /// The only place where the roster changes.
    pub fn roster<T>(&mut self, change: impl FnOnce(&mut Roster) -> T) -> T {
        let result = change(&mut self.roster);
        if self.random.percent(5) {
            let json = serde_json::to_vec(&self.roster).unwrap();
            assert!(json.len() < ROSTER, "the roster grows without bound");
            let read: Roster = serde_json::from_slice(&json).unwrap();
            assert_eq!(read, self.roster, "the roster through JSON");
        }
        result
    }

    /// Every worker leads where the Sentinels agree, nobody waits, every Sentinel is watched.
    pub fn is_well(&self) -> bool {
        let follows = |m: usize| {
            let route = self.masters[m].topology.route();
            let agreed = self.ensemble.agreed(m).map(|(name, _)| redis::place(name));
            let there = self.workers.iter().filter(|worker| worker.master == m);
            route.master.is_some()
                && route.master == agreed
                && (route.fenced_until, route.hold) == (None, None)
                && there
                    .into_iter()
                    .all(|worker| worker.route == route && worker.is_calm())
        };
        (0..self.masters.len()).all(follows) && self.are_watched()
    }

    /// As many Sentinels as there are slots have one of their own.
    fn are_watched(&self) -> bool {
        let mut watched: Vec<usize> = self.slots.iter().filter_map(|slot| slot.to).collect();
        watched.sort_unstable();
        watched.dedup();
        watched.len() == self.slots.len().min(self.ensemble.all.len())
    }
}

/// Two Sentinels may be elected one after the other; their promotions lie within this time then.
const OVERLAP: u64 = 3000;

impl Followed {
    /// Each promotion was followed exactly once, in order. Where two overlap, their order is left to chance for a moment:
    /// an event does not tell its epoch. Then only where it ends counts.
    pub fn check_story(&self) {
        let mut promoted = self.promoted.clone();
        promoted.sort_by_key(|(_, epoch, _)| *epoch);
        let overlap = |a: &(char, u64, u64), b: &(char, u64, u64)| a.2.abs_diff(b.2) < OVERLAP;
        let alone = promoted.windows(2).all(|pair| !overlap(&pair[0], &pair[1]));
        let names: Vec<char> = promoted.iter().map(|(name, ..)| *name).collect();
        if alone {
            assert_eq!(self.adopted, names, "each promotion once, in order");
        } else {
            assert_eq!(self.adopted.last(), names.last(), "the last promotion");
            let promoted = |name: &char| self.promoted.iter().any(|(known, ..)| known == name);
            assert!(self.adopted.iter().all(promoted), "nobody promoted it");
        }
    }
}
