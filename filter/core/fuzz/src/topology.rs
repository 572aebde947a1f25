//! A topology that hears anything in any order.

use crate::script::Script;
use sentinel_core::{
    address::AddressError,
    event::{Event, EventKind},
    fact::{Cause, Fact},
    reply::{MasterAddress, MasterState, Replica, Role},
    time::Timestamp,
    topology::{Answer, Route, Rules, Topology},
};
use std::time::Duration;

/// Most bytes of one topology in shared data: 32 reports with 64 replicas each.
const MOST_STORED: usize = 256 * 1024;
/// How long a fence stands at most.
const FENCE: Duration = Duration::from_secs(3);

fn rules() -> Rules {
    Rules {
        report_ttl: Duration::from_secs(4),
        fence_timeout: FENCE,
        epoch_reset_delay: Duration::from_secs(5),
        max_replica_lag: 1000,
    }
}

/// See the crate's table.
pub fn run(input: &[u8]) {
    go_on(Topology::default(), &mut Script::new(input));
}

/// A topology as it was read from shared data, and what happens to it from then on.
pub(crate) fn go_on(mut topology: Topology, script: &mut Script<'_>) {
    let (rules, mut now) = (rules(), Timestamp(1000));
    let stored = topology.route().fenced_until;
    let mut fenced_since = stored.map(|until| (until, until));
    while !script.is_over() {
        now = script.later(now);
        let before = topology.clone();
        let facts = step(&mut topology, &rules, now, script);
        check(&before, &topology, &facts);
        fenced_since = match (topology.route().fenced_until, fenced_since) {
            (None, _) => None,
            (Some(until), Some((same, since))) if until == same => Some((same, since)),
            (Some(until), _) => Some((until, now)),
        };
        let (ticked, told) = tick(&topology, &rules, now);
        assert_eq!(told, [], "what a tick has to tell was told");
        assert_eq!(ticked, topology, "a tick changes nothing at once");
        if let Some((until, since)) = fenced_since {
            assert!(until <= since.after(FENCE), "a fence beyond its bound");
            let (ticked, _) = tick(&topology, &rules, until);
            let ended = ticked.route().fenced_until.is_none();
            assert!(ended || ticked.route().master.is_none(), "a fence ends");
        }
        if let Some(due) = topology.next_due(&rules).filter(|_| stored.is_none()) {
            assert!(due > now, "what is due was done");
        }
    }
}

fn tick(topology: &Topology, rules: &Rules, now: Timestamp) -> (Topology, Vec<Fact>) {
    let mut topology = topology.clone();
    let told = topology.tick(now, rules);
    (topology, told)
}

fn step(
    topology: &mut Topology,
    rules: &Rules,
    now: Timestamp,
    script: &mut Script<'_>,
) -> Vec<Fact> {
    let mut facts = topology.tick(now, rules);
    let again = topology.clone();
    facts.extend(match script.below(8) {
        0..=2 => {
            let (sentinel, slot) = (script.sentinel(), u32::from(script.byte() % 8));
            let answer = answer(script);
            topology.report(now, rules, &sentinel, slot, &answer)
        }
        3..=5 => {
            let (sentinel, event) = (script.sentinel(), event(script));
            let facts = topology.event(now, rules, &sentinel, &event);
            if event.master.is_some() && event.master != again.route().master {
                assert_eq!(
                    topology.route(),
                    again.route(),
                    "an event about another master"
                );
            }
            facts
        }
        6 => {
            let address = script.address();
            let role = if script.flag() {
                Role::Master
            } else {
                Role::Replica
            };
            let mut told = topology.role(&address, role, script.flag());
            check(&again, topology, &told);
            // Who may be read from is voted on again with the next report, or when time has passed.
            told.extend(topology.tick(now, rules));
            told
        }
        _ => topology.unprobed(&script.address(), "NOAUTH"),
    });
    facts
}

fn answer(script: &mut Script<'_>) -> Answer {
    let address = match script.below(16) {
        0 => MasterAddress::UnknownName,
        1 => MasterAddress::Unusable("0.0.0.0:1".to_owned(), AddressError::Unspecified),
        2 => MasterAddress::Refused("ERR".to_owned()),
        _ => MasterAddress::Known(script.address()),
    };
    let flags = script.byte();
    let state = (flags & 0x0f != 0x0f).then(|| MasterState {
        config_epoch: script.pick(&[0, 1, 2, 3, 4, 5, 6, u64::MAX]),
        down: flags & 1 != 0,
        promoting: flags & 2 != 0,
        failover: flags & 4 != 0,
        sentinels: script.pick(&[3, 1, 2, 5, 40, u32::MAX]),
    });
    let replicas = (flags & 16 != 0).then(|| {
        let count = script.below(5) * script.below(40);
        (0..count).map(|_| replica(script)).collect()
    });
    Answer {
        address,
        state,
        replicas,
    }
}

fn replica(script: &mut Script<'_>) -> Replica {
    let address = script.address();
    let flags = script.byte();
    Replica {
        address,
        up: flags & 1 == 0,
        linked: flags & 2 == 0,
        link_down_ms: if flags & 4 == 0 { 0 } else { u64::MAX },
        offset: u64::from(flags) * 100,
    }
}

fn event(script: &mut Script<'_>) -> Event {
    let (master, other) = (script.address(), script.address());
    let kind = match script.below(8) {
        0 => EventKind::Promoting(other),
        1 => EventKind::Promoted(other),
        2 => EventKind::Switched(other),
        3 => EventKind::Aborted,
        4 => EventKind::Down,
        5 => EventKind::Up,
        tilt => EventKind::Tilt(tilt == 6),
    };
    let of_a_master = !matches!(kind, EventKind::Tilt(_));
    Event {
        master_name: if of_a_master {
            "mymaster".to_owned()
        } else {
            String::new()
        },
        master: of_a_master.then_some(master),
        kind,
    }
}

fn check(before: &Topology, after: &Topology, facts: &[Fact]) {
    let (old, new) = (before.route(), after.route());
    let reset = |fact: &Fact| {
        matches!(
            fact,
            Fact::Master {
                cause: Cause::EpochReset,
                ..
            }
        )
    };
    assert!(
        after.config_epoch() >= before.config_epoch() || facts.iter().any(reset),
        "back to a lower epoch"
    );
    assert!(
        new.master.is_some() || old.master.is_none(),
        "a master is forgotten"
    );
    if old != new || before.candidate() != after.candidate() {
        assert!(after.generation > before.generation, "nobody is told");
    }
    if old.master != new.master {
        let last = facts.iter().rev().find_map(|fact| match fact {
            Fact::Master { address, .. } => Some(address),
            _ => None,
        });
        assert_eq!(last, new.master.as_ref(), "a switch that is not told");
    }
    // What was stored may be anything; what follows from it may not make it worse.
    let apart = |route: &Route| {
        !route
            .master
            .iter()
            .any(|master| route.readable.contains(master))
    };
    assert!(apart(&new) || !apart(&old), "reads from the master");
    let keeps = |route: &Route| {
        route
            .replicas
            .iter()
            .all(|replica| route.readable.contains(replica))
    };
    assert!(
        keeps(&new) || !keeps(&old),
        "new readers where none may stay"
    );
    let stored = serde_json::to_vec(after).expect("JSON");
    assert!(stored.len() <= MOST_STORED, "{} bytes stored", stored.len());
    let read = serde_json::from_slice::<Topology>(&stored).expect("what was written");
    assert_eq!(read, *after, "through shared data");
    facts
        .iter()
        .for_each(|fact| crate::script::assert_printable(&fact.to_string()));
}
