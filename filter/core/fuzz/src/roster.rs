//! A roster whose slots come, go and lie about who answers.

use crate::script::Script;
use sentinel_core::{
    address::Address,
    reply::Peer,
    roster::{Problem, Roster, Target},
    time::Timestamp,
};
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
    // Where each slot was sent, and when it was last heard of.
    let mut sent: BTreeMap<u32, (Address, Timestamp)> = BTreeMap::new();
    // Who each slot's Sentinel said it is.
    let mut said: BTreeMap<u32, String> = BTreeMap::new();
    while !script.is_over() {
        now = script.later(now);
        let slot = match script.byte() {
            common @ 0..230 => u32::from(common % 5),
            rare => u32::from(rare) * 16_000_000,
        };
        match script.below(8) {
            0 | 1 => {
                sent.remove(&slot);
                // The conversation of before may go on beside the new one.
                if script.below(4) != 0 {
                    said.remove(&slot);
                }
                match roster.take(now, slot, script.below(4) != 0) {
                    Target::Sentinel(address) => {
                        let other = sent
                            .values()
                            .find(|(to, at)| *to == address && now.since(*at) <= SEAT_TTL);
                        assert_eq!(other, None, "two slots sent to one Sentinel");
                        if sent.len() < 16 {
                            sent.insert(slot, (address, now));
                        }
                    }
                    Target::Wait(until) => assert!(
                        until > now && until <= now.after(Duration::from_secs(60)),
                        "waits from {now:?} until {until:?}"
                    ),
                    Target::Seed => {}
                }
            }
            2 => {
                let run_id = format!("run{}", script.byte() % 6);
                said.insert(slot, run_id.clone());
                if roster.identify(now, slot, &run_id).move_on {
                    // Told to leave: the Sentinel that it was sent to may be given to another.
                    sent.remove(&slot);
                } else {
                    hear(&mut sent, now, slot);
                }
            }
            3 => {
                if let Some(run_id) = said.get(&slot) {
                    roster.alive(now, slot, run_id, script.flag());
                    // It may have been the one of before, which took its seat back.
                    sent.remove(&slot);
                } else {
                    roster.alive(now, slot, "", script.flag());
                    hear(&mut sent, now, slot);
                }
            }
            4 | 5 => {
                let problem = Problem {
                    text: "silent",
                    lasting: script.below(4) == 0,
                };
                roster.leave(now, slot, script.flag().then_some(problem));
                sent.remove(&slot);
            }
            6 => {
                let count = script.below(40);
                let peers: Vec<Peer> = (0..count).map(|_| peer(script)).collect();
                roster.learn(now, &peers);
            }
            _ => roster.forgive(),
        }
        assert!(roster.last_slot() >= sent.keys().copied().max().unwrap_or(0));
        let stored = serde_json::to_vec(&roster).expect("JSON");
        assert!(stored.len() <= MOST_STORED, "{} bytes stored", stored.len());
        let read = serde_json::from_slice::<Roster>(&stored).expect("what was written");
        assert_eq!(read, roster, "through shared data");
    }
}

fn hear(sent: &mut BTreeMap<u32, (Address, Timestamp)>, now: Timestamp, slot: u32) {
    if let Some((_, at)) = sent.get_mut(&slot) {
        *at = if now.since(*at) <= SEAT_TTL { now } else { *at };
    }
}

fn peer(script: &mut Script<'_>) -> Peer {
    let address = script.address();
    let run_id = match script.below(8) {
        0 => String::new(),
        number => format!("run{number}"),
    };
    Peer { address, run_id }
}
