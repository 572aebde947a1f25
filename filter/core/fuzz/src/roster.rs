//! A roster whose slots come, go and lie about who answers.

use crate::script::Script;
use sentinel_core::{
    address::Address,
    reply::Peer,
    roster::{Call, MAX_SLOTS, Problem, Roster, Target},
    time::Timestamp,
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// Most bytes of one roster in shared data: 32 Sentinels and 32 seats.
const MOST_STORED: usize = 32 * 1024;
/// A seat whose slot was not heard of for longer is given away.
const SEAT_TTL: Duration = Duration::from_secs(15);

/// See the crate's table.
pub fn run(input: &[u8]) {
    go_on(Roster::default(), &mut Script::new(input));
}

/// A roster as it was read from shared data, and what happens to it from then on.
pub(crate) fn go_on(mut roster: Roster, script: &mut Script<'_>) {
    let mut now = Timestamp(1000);
    // Each slot's latest connection.
    let mut calls: BTreeMap<u32, Call> = BTreeMap::new();
    while !script.is_over() {
        now = script.later(now);
        let slot = match script.byte() {
            common @ 0..230 => u32::from(common % 5),
            rare => u32::from(rare) * 16_000_000,
        };
        let new = Call {
            slot,
            ..Call::default()
        };
        let mut call = calls.get(&slot).cloned().unwrap_or_else(|| new.clone());
        match script.below(8) {
            0 | 1 => {
                let before = seats(&roster, now);
                let patient = script.below(4) != 0;
                // The conversation of before may go on beside the new one.
                if script.below(4) != 0 {
                    call = new;
                }
                match roster.take(now, slot, script.below(4) != 0, patient) {
                    Target::Sentinel(address) => {
                        let own = before.iter().find(|seat| seat.slot == slot);
                        let is_heir = own.is_some_and(|seat| {
                            !seat.run_id.is_empty() && seat.address.as_ref() == Some(&address)
                        });
                        let is_others = |seat: &&Seat| {
                            seat.slot != slot
                                && seat.address.as_ref() == Some(&address)
                                && (patient || !seat.run_id.is_empty())
                        };
                        let other = before.iter().find(is_others);
                        assert!(is_heir || other.is_none(), "sent to the one of {other:?}");
                        call.dialled = Some(address);
                    }
                    Target::Wait(until) | Target::Contended(until) => assert!(
                        until > now && until <= now.after(Duration::from_secs(60)),
                        "waits from {now:?} until {until:?}"
                    ),
                    Target::Seed => {}
                }
            }
            2 => {
                call.run_id = format!("run{}", script.byte() % 6);
                let identified = roster.identify(now, &call, script.flag());
                assert!(identified.found_at.is_none() || identified.move_on);
                if identified.found_at.is_some() {
                    call.dialled = identified.found_at;
                }
            }
            3 => {
                roster.alive(now, &call, script.flag());
                let is_seated = seats(&roster, now).iter().any(|seat| seat.is_of(&call));
                assert!(is_seated || call.run_id.is_empty() || is_full(&roster, now));
            }
            4 | 5 => {
                let problem = Problem {
                    text: "silent",
                    lasting: script.below(4) == 0,
                };
                let others = |roster: &Roster| {
                    let mut seats = seats(roster, now);
                    seats.retain(|seat| !seat.is_of(&call));
                    seats
                };
                let before = others(&roster);
                roster.leave(now, &call, script.flag().then_some(problem));
                assert_eq!(others(&roster), before, "{call:?} took more than its own");
                call.run_id.clear();
            }
            6 => {
                let count = script.below(40);
                let peers: Vec<Peer> = (0..count).map(|_| peer(script)).collect();
                roster.learn(now, &peers);
            }
            _ => roster.forgive(),
        }
        calls.insert(slot, call);
        let stored = serde_json::to_vec(&roster).expect("JSON");
        assert!(stored.len() <= MOST_STORED, "{} bytes stored", stored.len());
        let read = serde_json::from_slice::<Roster>(&stored).expect("what was written");
        assert_eq!(read, roster, "through shared data");
    }
}

/// A seat as it is stored.
#[derive(Debug, PartialEq, Deserialize)]
struct Seat {
    slot: u32,
    at: Timestamp,
    address: Option<Address>,
    run_id: String,
}

impl Seat {
    fn is_of(&self, call: &Call) -> bool {
        let is_place = !self.run_id.is_empty() || self.address == call.dialled;
        self.slot == call.slot && self.run_id == call.run_id && is_place
    }
}

/// Those that count.
fn seats(roster: &Roster, now: Timestamp) -> Vec<Seat> {
    let mut stored = serde_json::to_value(roster).expect("JSON");
    let seats = stored["seats"].take();
    let mut seats: Vec<Seat> = serde_json::from_value(seats).expect("seats");
    seats.retain(|seat| now.since(seat.at) <= SEAT_TTL);
    seats
}

fn is_full(roster: &Roster, now: Timestamp) -> bool {
    seats(roster, now).len() >= MAX_SLOTS
}

fn peer(script: &mut Script<'_>) -> Peer {
    let address = script.address();
    let run_id = match script.below(8) {
        0 => String::new(),
        number => format!("run{number}"),
    };
    Peer { address, run_id }
}
