//! Which watch slot watches which Sentinel. One [`Roster`] per watch, in shared data: its slots' connections live on
//! whatever workers accepted them.
//!
//! A slot starts at a seed and learns who answers (run id) and who else there is (`SENTINEL SENTINELS`). From then on
//! each slot takes a seat of its own: no two at one Sentinel while another one is free. A Sentinel that failed is tried
//! again after a pause that doubles up to [`LONGEST_PAUSE`].
//!
//! A seat is somebody's only once the Sentinel has said who it is. Any process of the network namespace may open a slot's
//! socket; who does so and says nothing delays a slot that would dial the same Sentinel, and keeps it from none.

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
    /// How often a slot has left a Sentinel that it shared for a seed, in vain.
    #[serde(default)]
    crowded: Setbacks,
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

/// One connection of a slot: a slot may have several, on different workers, and only one is the health checker's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// The number of the slot.
    pub slot: u32,
    /// The Sentinel that was dialled, `None` for a seed.
    pub dialled: Option<Address>,
    /// Who answered; empty until it has said so.
    pub run_id: String,
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

/// Two slots met at one Sentinel, and only chance can lead one of them elsewhere. Nobody is told: nothing is wrong with it.
const CROWDED: Problem<'static> = Problem {
    text: "",
    lasting: false,
};

/// What comes of it that a Sentinel said who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identified {
    /// The slot should close and take another seat: it was led to another Sentinel than the one that it wanted, or another
    /// slot watches the same one while a free one is known.
    pub move_on: bool,
    /// Where the Sentinel that answered is known to be, if that is not where it was dialled.
    pub found_at: Option<Address>,
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
    /// Nowhere yet: others have dialled whatever is free and may be answered. Ask again then, impatiently.
    Contended(Timestamp),
}

impl Roster {
    /// Takes a seat for `slot` and says where to connect. `learnt_reachable`: whether learnt addresses can be dialled at all.
    /// `patient`: not to dial where another slot has dialled and was not answered yet.
    pub fn take(
        &mut self,
        now: Timestamp,
        slot: u32,
        learnt_reachable: bool,
        patient: bool,
    ) -> Target {
        self.forget(now);
        self.last_slot = self.last_slot.max(slot);
        let own = self.seats.iter().find(|seat| seat.slot == slot).cloned();
        if let Some(proven) = own.as_ref().filter(|seat| seat.is_proven()) {
            // Another connection of this slot has it: this one may be its heir, and leaves the seat as it is.
            return proven
                .address
                .clone()
                .map_or_else(|| self.seed(now, slot), Target::Sentinel);
        }
        self.seats.retain(|seat| seat.slot != slot);
        let last = own.and_then(|seat| seat.address);
        if !learnt_reachable || self.known.is_empty() {
            return self.seed(now, slot);
        }
        let free: Vec<&Known> = self
            .known
            .iter()
            .filter(|known| !(self.taken(known) || patient && self.dialled(known)))
            .collect();
        // Whom nobody has dialled first, then its own Sentinel of before, then the one with the fewest failures.
        let best = free
            .iter()
            .filter(|known| known.retry_at() <= now)
            .min_by_key(|known| {
                (
                    self.dialled(known),
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
        if let Some(retry_at) = soonest {
            return Target::Wait(retry_at.min(now.after(LOOK_AGAIN)));
        }
        if self.known.iter().all(|known| self.taken(known)) {
            return Target::Wait(now.after(LONGEST_PAUSE));
        }
        Target::Contended(now.after(LOOK_AGAIN))
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
        let is_kept = |seat: &Seat| seat.slot != slot || (seat.is_proven() && run_id.is_empty());
        self.seats.retain(is_kept);
        let is_seated = self.seats.iter().any(|seat| seat.slot == slot);
        if !is_seated && self.seats.len() < MAX_SLOTS {
            self.seats.push(Seat {
                slot,
                at: now,
                address,
                run_id: run_id.to_owned(),
            });
        }
    }

    /// Whether a Sentinel answers at some slot.
    fn taken(&self, known: &Known) -> bool {
        self.seats.iter().any(|seat| {
            seat.is_proven()
                && (seat.address.as_ref() == Some(&known.address) || seat.run_id == known.run_id)
        })
    }

    /// Whether some slot has dialled it and waits for its answer.
    fn dialled(&self, known: &Known) -> bool {
        let at = |seat: &Seat| !seat.is_proven() && seat.address.as_ref() == Some(&known.address);
        self.seats.iter().any(at)
    }

    /// The Sentinel that answered `call` said who it is. `learnt_reachable` as in [`Roster::take`].
    pub fn identify(&mut self, now: Timestamp, call: &Call, learnt_reachable: bool) -> Identified {
        let Call {
            slot,
            dialled,
            run_id,
        } = call;
        let doubled = self.shares(call, |seat| seat.slot != *slot);
        let found_at = dialled
            .as_ref()
            .and_then(|dialled| self.known_elsewhere(dialled, run_id));
        let ended_pauses = self.end_pauses(now);
        let mut known = self.known.iter_mut();
        if let Some(known) = known.find(|known| Some(&known.address) == dialled.as_ref()) {
            if found_at.is_some() {
                known.setbacks.book(now, Some(SOMEBODY_ELSE));
            } else {
                known.setbacks = Setbacks::default();
                run_id.clone_into(&mut known.run_id);
            }
        }
        let address = found_at.clone().or_else(|| dialled.clone());
        self.sit(now, *slot, address, run_id);
        Identified {
            move_on: found_at.is_some() || doubled && self.may_part(now, learnt_reachable),
            found_at,
            ended_pauses,
        }
    }

    /// Whether the Sentinel of `call` answers at one of `those` seats, too.
    fn shares(&self, call: &Call, those: impl Fn(&Seat) -> bool) -> bool {
        let mut seats = self.seats.iter();
        seats.any(|seat| seat.is_proven() && seat.run_id == call.run_id && those(seat))
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

    /// Whether one of two slots at the same Sentinel should leave for a free one. Where only seeds can be dialled, and Envoy
    /// chooses which, that is tried again and again, with pauses: the free one may be dead.
    fn may_part(&mut self, now: Timestamp, learnt_reachable: bool) -> bool {
        let is_free = self.has_free_seat(now);
        if learnt_reachable || !is_free {
            return is_free;
        }
        let due = self.crowded.retry_at(SEEDS_TRIED_AT_ONCE, LONGEST_PAUSE) <= now;
        if due {
            self.crowded.book(now, Some(CROWDED));
        }
        due
    }

    /// The conversation of `call` is alive. True: it shares its Sentinel with a lower slot and should leave, for a free seat
    /// or to wait for one; where learnt Sentinels cannot be reached, to try another seed.
    ///
    /// A seat that went to another connection of the slot meanwhile is taken back: a Sentinel that is watched from no seat
    /// would be given to another slot, and another one to nobody.
    pub fn alive(&mut self, now: Timestamp, call: &Call, learnt_reachable: bool) -> bool {
        self.forget(now);
        if call.run_id.is_empty() {
            // It never said who it is.
            return false;
        }
        let mut seats = self.seats.iter_mut();
        match seats.find(|seat| seat.slot == call.slot && seat.run_id == call.run_id) {
            Some(seat) => seat.at = now,
            None => {
                let known = self.known.iter().find(|known| known.run_id == call.run_id);
                let address = known.map(|known| known.address.clone());
                self.sit(now, call.slot, address, &call.run_id);
            }
        }
        if self.crowded.count > 0 && !self.has_free_seat(now) {
            self.crowded = Setbacks::default();
        }
        !self.known.is_empty()
            && self.shares(call, |seat| seat.slot < call.slot)
            && (learnt_reachable || self.may_part(now, learnt_reachable))
    }

    /// The highest slot that there is, as far as is known.
    #[must_use]
    pub fn last_slot(&self) -> u32 {
        self.last_slot
    }

    /// `call` ended, with a problem or without. A Sentinel that did not answer well is put back behind the others. True:
    /// this problem has not been told yet.
    pub fn leave(&mut self, now: Timestamp, call: &Call, problem: Option<Problem<'_>>) -> bool {
        let is_its_own = |seat: &Seat| {
            seat.slot == call.slot
                && seat.run_id == call.run_id
                && (seat.is_proven() || seat.address == call.dialled)
        };
        self.seats.retain(|seat| !is_its_own(seat));
        let mut known = self.known.iter_mut();
        match known.find(|known| Some(&known.address) == call.dialled.as_ref()) {
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

impl Seat {
    /// Whether the Sentinel has said who it is.
    fn is_proven(&self) -> bool {
        !self.run_id.is_empty()
    }
}

impl Known {
    fn retry_at(&self) -> Timestamp {
        self.setbacks.retry_at(0, LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests;
