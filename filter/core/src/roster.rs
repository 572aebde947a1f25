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
            return self.sit(now, slot, Some(address.clone()), Target::Sentinel(address));
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
        self.sit(now, slot, None, Target::Seed)
    }

    fn sit(
        &mut self,
        now: Timestamp,
        slot: u32,
        address: Option<Address>,
        target: Target,
    ) -> Target {
        if self.seats.len() < MAX_SLOTS {
            self.seats.push(Seat {
                slot,
                at: now,
                address,
                run_id: String::new(),
            });
        }
        target
    }

    fn taken(&self, known: &Known) -> bool {
        self.seats.iter().any(|seat| {
            seat.address.as_ref() == Some(&known.address)
                || (!known.run_id.is_empty() && seat.run_id == known.run_id)
        })
    }

    /// The Sentinel at this slot said who it is. True: another slot watches the same one and a free one is known,
    /// so this slot should close and take another seat.
    pub fn identify(&mut self, now: Timestamp, slot: u32, run_id: &str) -> bool {
        let doubled = self
            .seats
            .iter()
            .any(|seat| seat.slot != slot && seat.run_id == run_id);
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.slot == slot) else {
            return false;
        };
        seat.at = now;
        run_id.clone_into(&mut seat.run_id);
        let address = seat.address.clone();
        if address.is_none() {
            self.seeds = Setbacks::default();
        }
        if let Some(known) = self
            .known
            .iter_mut()
            .find(|known| Some(&known.address) == address.as_ref())
        {
            known.setbacks = Setbacks::default();
            run_id.clone_into(&mut known.run_id);
        }
        self.end_pauses();
        doubled && self.has_free_seat(now)
    }

    /// One Sentinel answers: whatever kept all of them away may be over for the others, too.
    fn end_pauses(&mut self) {
        for known in &mut self.known {
            if !known.setbacks.lasting {
                known.setbacks.count = 0;
            }
        }
    }

    fn has_free_seat(&self, now: Timestamp) -> bool {
        self.known
            .iter()
            .any(|known| !self.taken(known) && known.retry_at() <= now)
    }

    /// The slot's conversation is alive. True: it shares its Sentinel with a lower slot and should leave, for a free seat
    /// or to wait for one. Where learnt Sentinels cannot be reached there is nowhere to go.
    pub fn alive(&mut self, now: Timestamp, slot: u32, learnt_reachable: bool) -> bool {
        self.forget(now);
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.slot == slot) else {
            return false;
        };
        seat.at = now;
        let run_id = seat.run_id.clone();
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
        assert!(!roster.identify(now, 0, "run1"));
        roster.learn(now, &[peer(2), peer(3)]);
        assert!(
            roster.identify(now, 1, "run1"),
            "doubled, and others are free"
        );
        roster.leave(now, 1, None);
        assert_eq!(roster.take(now, 1, true), at(2));
        assert!(!roster.identify(now, 1, "run2"));
        assert!(roster.identify(now, 2, "run1"));
        roster.leave(now, 2, None);
        assert_eq!(roster.take(now, 2, true), at(3));
        roster.learn(now, &[peer(1)]);
        assert!(!roster.alive(now, 0, true) && !roster.alive(now, 1, true));
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
            roster.alive(now, 0, true);
            assert_eq!(roster.take(now, 1, true), at(2));
            roster.leave(now, 1, SILENT);
        }
        let (soon, now) = (Timestamp(31_100), Timestamp(30_100));
        assert_eq!(roster.take(now, 1, true), Target::Wait(soon), "paused");
        roster.identify(now, 0, "run1");
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
}
