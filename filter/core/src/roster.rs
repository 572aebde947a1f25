//! Which watch slot watches which Sentinel. One [`Roster`] per watch, in shared data: its slots' connections live on
//! whatever workers accepted them.
//!
//! A slot starts at a seed and learns who answers (run id) and who else there is (`SENTINEL SENTINELS`). From then on
//! each slot takes a seat of its own: no two at one Sentinel while another one is free. A Sentinel that failed is tried
//! again after a pause that doubles up to [`LONGEST_PAUSE`].

use crate::{address::Address, reply::Peer, time::Timestamp};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// Most Sentinels that are remembered.
pub const MAX_SENTINELS: usize = 32;
/// Most slots that can hold a seat.
pub const MAX_SLOTS: usize = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause before a Sentinel that failed is tried again.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same for the seeds: they are asked only while there is nobody else, and clients may be waiting.
const LONGEST_SEED_PAUSE: Duration = Duration::from_secs(1);
/// So many seeds may fail before there is a pause: another one may be alive.
const SEEDS_TRIED_AT_ONCE: u32 = 3;
/// The pause after a problem that does not go away by itself.
const LASTING_PAUSE: Duration = Duration::from_secs(30);
/// How often a slot looks whether a pause was ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A seat whose slot has not been heard of for so long is free: its worker is gone.
const SEAT_TTL: Duration = Duration::from_secs(15);
/// A Sentinel that nobody has named for so long is forgotten.
const PEER_TTL: Duration = Duration::from_secs(600);

/// Known Sentinels and the seats taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    known: Vec<Known>,
    seats: Vec<Seat>,
    /// The highest slot that ever asked for a seat.
    last_slot: u32,
    seeds: Setbacks,
    #[serde(default)]
    pauses_ended_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    address: Address,
    run_id: String,
    named_at: Timestamp,
    setbacks: Setbacks,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    slot: u32,
    at: Timestamp,
    /// The address dialled, `None` at a seed.
    address: Option<Address>,
    /// Empty until the Sentinel said who it is.
    run_id: String,
}

/// Failures in a row, of one Sentinel or of the seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Setbacks {
    count: u32,
    last: Timestamp,
    lasting: bool,
    /// It is this one's alone: that another one answers says nothing of it.
    #[serde(default)]
    own: bool,
    /// What went wrong last, so that it is told once.
    told: Option<String>,
}

/// What went wrong at a Sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem<'a> {
    /// In words.
    pub text: &'a str,
    /// It will not go away by itself (wrong credentials): trying often would only fill the Sentinel's log.
    pub lasting: bool,
}

/// At the address of one Sentinel another one answers.
const SOMEBODY_ELSE: Problem<'static> = Problem {
    text: "another Sentinel answers at its address",
    lasting: false,
};

/// What comes of it that a Sentinel said who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identified {
    /// The slot should close and take another seat: it was led to another Sentinel than the one that it wanted, or another
    /// slot watches the same one while a free one is known.
    pub move_on: bool,
    /// Slots that wait for the end of a pause should ask for a seat again.
    pub ended_pauses: bool,
}

impl Setbacks {
    /// Books how a connection ended. True: this problem has not been told yet.
    fn book(&mut self, now: Timestamp, problem: Option<Problem<'_>>) -> bool {
        self.last = now;
        let Some(problem) = problem else {
            self.count = 0;
            return false;
        };
        self.count = self.count.saturating_add(1);
        self.lasting = problem.lasting;
        self.own = problem == SOMEBODY_ELSE;
        let news = self.told.as_deref() != Some(problem.text);
        if news {
            self.told = Some(problem.text.to_owned());
        }
        news
    }

    /// When to try again: the pause begins after `free` failures and doubles up to `longest`.
    fn retry_at(&self, free: u32, longest: Duration) -> Timestamp {
        if self.lasting && self.count > 0 {
            return self.last.after(LASTING_PAUSE);
        }
        match self.count.checked_sub(free.saturating_add(1)) {
            Some(beyond) => self
                .last
                .after(FIRST_PAUSE.saturating_mul(1 << beyond.min(5)).min(longest)),
            None => Timestamp::default(),
        }
    }
}

/// Where a slot should connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Any of the seeds: the cluster in the configuration.
    Seed,
    /// This Sentinel.
    Sentinel(Address),
    /// Nowhere yet: all Sentinels are taken, or were tried a moment ago. Ask again then.
    Wait(Timestamp),
}

impl Roster {
    /// Takes a seat for `slot` and says where to connect. `learnt_reachable`: whether learnt addresses can be dialled at all.
    pub fn take(&mut self, now: Timestamp, slot: u32, learnt_reachable: bool) -> Target {
        self.forget(now);
        self.last_slot = self.last_slot.max(slot);
        let last = self
            .seats
            .iter()
            .find(|seat| seat.slot == slot)
            .and_then(|seat| seat.address.clone());
        self.seats.retain(|seat| seat.slot != slot);
        if !learnt_reachable || self.known.is_empty() {
            return self.seed(now, slot);
        }
        let free: Vec<&Known> = self
            .known
            .iter()
            .filter(|known| !self.taken(known))
            .collect();
        let due = |known: &&&Known| known.retry_at() <= now;
        // Its own Sentinel of before first, then the one with the fewest failures.
        let best = free
            .iter()
            .filter(due)
            .min_by_key(|known| {
                (
                    known.setbacks.count,
                    Some(&known.address) != last.as_ref(),
                    known.setbacks.last,
                )
            })
            .map(|known| known.address.clone());
        if let Some(address) = best {
            self.sit(now, slot, Some(address.clone()), "");
            return Target::Sentinel(address);
        }
        if self.seats.is_empty() {
            // Nobody is being watched and every learnt address was just tried: the seeds' names may lead to new ones.
            return self.seed(now, slot);
        }
        // Every seat is taken, or those who are not were tried a moment ago; whoever answers first ends their pauses.
        let soonest = free.iter().map(|known| known.retry_at()).min();
        Target::Wait(match soonest {
            Some(retry_at) => retry_at.min(now.after(LOOK_AGAIN)),
            None => now.after(LONGEST_PAUSE),
        })
    }

    /// A seed, unless several in a row have failed a moment ago.
    fn seed(&mut self, now: Timestamp, slot: u32) -> Target {
        let retry_at = self.seeds.retry_at(SEEDS_TRIED_AT_ONCE, LONGEST_SEED_PAUSE);
        if retry_at > now {
            return Target::Wait(retry_at);
        }
        self.sit(now, slot, None, "");
        Target::Seed
    }

    fn sit(&mut self, now: Timestamp, slot: u32, address: Option<Address>, run_id: &str) {
        if self.seats.len() < MAX_SLOTS {
            self.seats.push(Seat {
                slot,
                at: now,
                address,
                run_id: run_id.to_owned(),
            });
        }
    }

    fn taken(&self, known: &Known) -> bool {
        self.seats.iter().any(|seat| {
            seat.address.as_ref() == Some(&known.address)
                || (!known.run_id.is_empty() && seat.run_id == known.run_id)
        })
    }

    /// The Sentinel at this slot said who it is.
    pub fn identify(&mut self, now: Timestamp, slot: u32, run_id: &str) -> Identified {
        let doubled = self
            .seats
            .iter()
            .any(|seat| seat.slot != slot && seat.run_id == run_id);
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.slot == slot) else {
            return Identified::default();
        };
        seat.at = now;
        run_id.clone_into(&mut seat.run_id);
        let Some(address) = seat.address.clone() else {
            let ended_pauses = self.end_pauses(now);
            return Identified {
                move_on: doubled && self.has_free_seat(now),
                ended_pauses,
            };
        };
        let elsewhere = self.known_elsewhere(&address, run_id);
        let ended_pauses = self.end_pauses(now);
        if let Some(known) = self.known.iter_mut().find(|known| known.address == address) {
            if elsewhere.is_some() {
                known.setbacks.book(now, Some(SOMEBODY_ELSE));
            } else {
                known.setbacks = Setbacks::default();
                run_id.clone_into(&mut known.run_id);
            }
        }
        let is_wrong = elsewhere.is_some();
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.slot == slot)
            && is_wrong
        {
            seat.address = elsewhere;
        }
        Identified {
            move_on: is_wrong || doubled && self.has_free_seat(now),
            ended_pauses,
        }
    }

    /// Where else the Sentinel with this run id is known to be, if a different one is expected at `address`: a name led to
    /// the address that its Sentinel had before, and another one has now.
    fn known_elsewhere(&self, address: &Address, run_id: &str) -> Option<Address> {
        let expected = self.known.iter().find(|known| known.address == *address)?;
        if expected.run_id.is_empty() || expected.run_id == run_id {
            return None;
        }
        let other = self.known.iter().find(|known| known.run_id == run_id)?;
        Some(other.address.clone())
    }

    /// One Sentinel answers: whatever kept all of them away may be over for the others, too. True: somebody may wait for
    /// the end of a pause.
    fn end_pauses(&mut self, now: Timestamp) -> bool {
        let mut ended = false;
        let known = self.known.iter_mut().map(|known| &mut known.setbacks);
        for setbacks in known.chain([&mut self.seeds]) {
            if !setbacks.lasting && !setbacks.own {
                ended |= core::mem::take(&mut setbacks.count) > 0;
            }
        }
        if ended {
            self.pauses_ended_at = now;
        }
        ended
    }

    /// When an answer last ended pauses: who has waited since before then should ask for a seat again.
    #[must_use]
    pub fn pauses_ended_at(&self) -> Timestamp {
        self.pauses_ended_at
    }

    fn has_free_seat(&self, now: Timestamp) -> bool {
        self.known
            .iter()
            .any(|known| !self.taken(known) && known.retry_at() <= now)
    }

    /// The slot's conversation with the Sentinel of this run id is alive. True: it shares its Sentinel with a lower slot and
    /// should leave, for a free seat or to wait for one. Where learnt Sentinels cannot be reached there is nowhere to go.
    ///
    /// A seat that went to somebody else meanwhile (any process of the network namespace may open a slot's socket) is taken
    /// back: a Sentinel that is watched from no seat would be given to another slot, and another one to nobody.
    pub fn alive(
        &mut self,
        now: Timestamp,
        slot: u32,
        run_id: &str,
        learnt_reachable: bool,
    ) -> bool {
        self.forget(now);
        match self.seats.iter_mut().find(|seat| seat.slot == slot) {
            Some(seat) if seat.run_id == run_id => seat.at = now,
            // It never said who it is.
            _ if run_id.is_empty() => {}
            _ => {
                self.seats.retain(|seat| seat.slot != slot);
                let known = self.known.iter().find(|known| known.run_id == run_id);
                let address = known.map(|known| known.address.clone());
                self.sit(now, slot, address, run_id);
            }
        }
        learnt_reachable
            && !self.known.is_empty()
            && !run_id.is_empty()
            && self
                .seats
                .iter()
                .any(|seat| seat.slot < slot && seat.run_id == run_id)
    }

    /// The highest slot that there is, as far as is known.
    #[must_use]
    pub fn last_slot(&self) -> u32 {
        self.last_slot
    }

    /// The slot's connection ended, with a problem or without. A Sentinel that did not answer well is put back behind
    /// the others. True: this problem has not been told yet.
    pub fn leave(&mut self, now: Timestamp, slot: u32, problem: Option<Problem<'_>>) -> bool {
        let Some(index) = self.seats.iter().position(|seat| seat.slot == slot) else {
            return false;
        };
        let seat = self.seats.remove(index);
        let address = seat.address.as_ref();
        match self
            .known
            .iter_mut()
            .find(|known| Some(&known.address) == address)
        {
            Some(known) => known.setbacks.book(now, problem),
            None => self.seeds.book(now, problem),
        }
    }

    /// A new configuration: what failed before may work now.
    pub fn forgive(&mut self) {
        self.seeds = Setbacks::default();
        for known in &mut self.known {
            known.setbacks = Setbacks::default();
        }
    }

    /// A Sentinel named the other ones.
    pub fn learn(&mut self, now: Timestamp, peers: &[Peer]) {
        for peer in peers {
            if let Some(known) = self
                .known
                .iter_mut()
                .find(|known| known.address == peer.address)
            {
                known.named_at = now;
                known.run_id.clone_from(&peer.run_id);
            } else if self.known.len() < MAX_SENTINELS {
                self.known.push(Known {
                    address: peer.address.clone(),
                    run_id: peer.run_id.clone(),
                    named_at: now,
                    setbacks: Setbacks::default(),
                });
            }
        }
        // The same Sentinel under a new address (a restarted pod): the old address is history.
        let current = self.known.clone();
        self.known.retain(|known| {
            known.run_id.is_empty()
                || !current.iter().any(|other| {
                    other.run_id == known.run_id
                        && other.address != known.address
                        && other.named_at > known.named_at
                })
        });
    }

    fn forget(&mut self, now: Timestamp) {
        self.seats.retain(|seat| now.since(seat.at) <= SEAT_TTL);
        let seated: Vec<Address> = self
            .seats
            .iter()
            .filter_map(|seat| seat.address.clone())
            .collect();
        self.known.retain(|known| {
            now.since(known.named_at) <= PEER_TTL || seated.contains(&known.address)
        });
    }
}

impl Known {
    fn retry_at(&self) -> Timestamp {
        self.setbacks.retry_at(0, LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peer {
        Peer {
            address: Address::new("127.0.0.1", &port.to_string()).unwrap(),
            run_id: format!("run{port}"),
        }
    }

    const SILENT: Option<Problem<'static>> = Some(Problem {
        text: "silent",
        lasting: false,
    });

    fn at(port: u16) -> Target {
        Target::Sentinel(peer(port).address)
    }

    /// Three slots that met at the same seed spread over the three Sentinels.
    #[test]
    fn slots_spread() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        for slot in 0..3 {
            assert_eq!(roster.take(now, slot, true), Target::Seed);
        }
        assert!(!roster.identify(now, 0, "run1").move_on);
        roster.learn(now, &[peer(2), peer(3)]);
        assert!(
            roster.identify(now, 1, "run1").move_on,
            "doubled, and others are free"
        );
        roster.leave(now, 1, None);
        assert_eq!(roster.take(now, 1, true), at(2));
        assert!(!roster.identify(now, 1, "run2").move_on);
        assert!(roster.identify(now, 2, "run1").move_on);
        roster.leave(now, 2, None);
        assert_eq!(roster.take(now, 2, true), at(3));
        roster.learn(now, &[peer(1)]);
        assert!(!roster.alive(now, 0, "run1", true) && !roster.alive(now, 1, "run2", true));
    }

    #[test]
    fn a_dead_sentinel_is_replaced_and_used_again_when_it_returns() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        roster.learn(now, &[peer(1), peer(2), peer(3)]);
        assert_eq!(roster.take(now, 0, true), at(1));
        assert_eq!(roster.take(now, 1, true), at(2));
        assert!(roster.leave(now, 0, SILENT));
        assert_eq!(roster.take(now, 0, true), at(3), "another takes its place");
        roster.leave(now, 1, SILENT);
        assert_eq!(
            roster.take(Timestamp(1001), 1, true),
            Target::Wait(Timestamp(1250)),
            "both were just tried"
        );
        let Target::Sentinel(address) = roster.take(Timestamp(1250), 1, true) else {
            panic!()
        };
        assert_ne!(address, peer(3).address);
    }

    #[test]
    fn the_first_that_answers_again_ends_the_pauses_of_the_others() {
        let mut roster = Roster::default();
        roster.learn(Timestamp(0), &[peer(1), peer(2)]);
        assert_eq!(roster.take(Timestamp(0), 0, true), at(1));
        for now in (0..=30_000).step_by(6000).map(Timestamp) {
            roster.alive(now, 0, "run1", true);
            assert_eq!(roster.take(now, 1, true), at(2));
            roster.leave(now, 1, SILENT);
        }
        let (soon, now) = (Timestamp(31_100), Timestamp(30_100));
        assert_eq!(roster.take(now, 1, true), Target::Wait(soon), "paused");
        assert!(roster.identify(now, 0, "run1").ended_pauses);
        assert_eq!(roster.pauses_ended_at(), now);
        assert!(!roster.identify(now, 0, "run1").ended_pauses, "only once");
        assert_eq!(roster.take(now, 1, true), at(2), "at once");
    }

    #[test]
    fn with_nobody_left_the_seeds_are_asked_again() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        roster.learn(now, &[peer(1)]);
        assert_eq!(roster.take(now, 0, true), at(1));
        assert!(roster.leave(now, 0, SILENT));
        assert_eq!(roster.take(now, 0, true), Target::Seed);
    }

    #[test]
    fn a_sentinel_under_a_new_address_replaces_the_old_one() {
        let mut roster = Roster::default();
        roster.learn(Timestamp(1), &[peer(1)]);
        let moved = Peer {
            run_id: "run1".into(),
            ..peer(9)
        };
        roster.learn(Timestamp(2), &[moved]);
        assert_eq!(roster.take(Timestamp(3), 0, true), at(9));
        assert!(matches!(
            roster.take(Timestamp(3), 1, true),
            Target::Wait(_)
        ));
    }

    /// A name that still leads to the address of before, where another Sentinel is by now.
    #[test]
    fn who_is_led_to_another_sentinel_moves_on_and_the_wanted_one_stays_free() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        roster.learn(now, &[peer(1), peer(2)]);
        assert_eq!(roster.take(now, 0, true), at(1));
        assert!(
            roster.identify(now, 0, "run2").move_on,
            "although nobody else watches that one"
        );
        roster.leave(now, 0, None);
        assert_eq!(
            roster.take(now, 0, true),
            at(2),
            "that one is known to answer"
        );
        assert!(!roster.identify(now, 0, "run2").move_on);
        let Target::Wait(until) = roster.take(now, 1, true) else {
            panic!("tried a moment ago");
        };
        assert_eq!(roster.take(until, 1, true), at(1));
    }

    /// A Sentinel that lost its disk has another run id under its old address.
    #[test]
    fn a_sentinel_with_a_new_identity_is_itself() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        roster.learn(now, &[peer(1), peer(2)]);
        assert_eq!(roster.take(now, 0, true), at(1));
        assert!(!roster.identify(now, 0, "reborn").move_on);
    }

    #[test]
    fn a_seat_that_somebody_else_took_is_taken_back() {
        let mut roster = Roster::default();
        let now = Timestamp(1000);
        roster.learn(now, &[peer(1), peer(2)]);
        assert_eq!(roster.take(now, 0, true), at(1));
        roster.identify(now, 0, "run1");
        // Another stream of the same slot comes and goes.
        roster.take(now, 0, true);
        roster.leave(now, 0, None);
        assert!(!roster.alive(now, 0, "run1", true));
        assert_eq!(roster.take(now, 1, true), at(2), "1 is watched");
        assert!(matches!(roster.take(now, 2, true), Target::Wait(_)));
    }
}
