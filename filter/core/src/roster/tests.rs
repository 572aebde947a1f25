//! Slots that come, share, part and are deceived.

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

/// A connection of `slot` that was led to the Sentinel of this port (0: a seed) and got no answer.
fn silent(slot: u32, port: u16) -> Call {
    Call {
        slot,
        dialled: (port != 0).then(|| peer(port).address),
        run_id: String::new(),
    }
}

/// The same with an answer.
fn heard(slot: u32, port: u16, run_id: &str) -> Call {
    Call {
        run_id: run_id.to_owned(),
        ..silent(slot, port)
    }
}

fn at(port: u16) -> Target {
    Target::Sentinel(peer(port).address)
}

/// Three slots that met at the same seed spread over the three Sentinels.
#[test]
fn slots_spread() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    for slot in 0..3 {
        assert_eq!(roster.take(now, slot, true, true), Target::Seed);
    }
    assert!(!roster.identify(now, &heard(0, 0, "run1"), true).move_on);
    roster.learn(now, &[peer(2), peer(3)]);
    assert!(
        roster.identify(now, &heard(1, 0, "run1"), true).move_on,
        "doubled, and others are free"
    );
    roster.leave(now, &heard(1, 0, "run1"), None);
    assert_eq!(roster.take(now, 1, true, true), at(2));
    assert!(!roster.identify(now, &heard(1, 2, "run2"), true).move_on);
    assert!(roster.identify(now, &heard(2, 0, "run1"), true).move_on);
    roster.leave(now, &heard(2, 0, "run1"), None);
    assert_eq!(roster.take(now, 2, true, true), at(3));
    roster.learn(now, &[peer(1)]);
    assert!(!roster.alive(now, &heard(0, 0, "run1"), true));
    assert!(!roster.alive(now, &heard(1, 2, "run2"), true));
}

#[test]
fn a_dead_sentinel_is_replaced_and_used_again_when_it_returns() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1), peer(2), peer(3)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    assert_eq!(roster.take(now, 1, true, true), at(2));
    assert!(roster.leave(now, &silent(0, 1), SILENT));
    assert_eq!(
        roster.take(now, 0, true, true),
        at(3),
        "another takes its place"
    );
    roster.leave(now, &silent(1, 2), SILENT);
    assert_eq!(
        roster.take(Timestamp(1001), 1, true, true),
        Target::Wait(Timestamp(1250)),
        "both were just tried"
    );
    let Target::Sentinel(address) = roster.take(Timestamp(1250), 1, true, true) else {
        panic!()
    };
    assert_ne!(address, peer(3).address);
}

#[test]
fn the_first_that_answers_again_ends_the_pauses_of_the_others() {
    let mut roster = Roster::default();
    roster.learn(Timestamp(0), &[peer(1), peer(2)]);
    assert_eq!(roster.take(Timestamp(0), 0, true, true), at(1));
    for now in (0..=30_000).step_by(6000).map(Timestamp) {
        roster.alive(now, &heard(0, 1, "run1"), true);
        assert_eq!(roster.take(now, 1, true, true), at(2));
        roster.leave(now, &silent(1, 2), SILENT);
    }
    let (soon, now) = (Timestamp(31_100), Timestamp(30_100));
    assert_eq!(
        roster.take(now, 1, true, true),
        Target::Wait(soon),
        "paused"
    );
    assert!(
        roster
            .identify(now, &heard(0, 1, "run1"), true)
            .ended_pauses
    );
    assert_eq!(roster.pauses_ended_at(), now);
    assert!(
        !roster
            .identify(now, &heard(0, 1, "run1"), true)
            .ended_pauses,
        "only once"
    );
    assert_eq!(roster.take(now, 1, true, true), at(2), "at once");
}

#[test]
fn with_nobody_left_the_seeds_are_asked_again() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    assert!(roster.leave(now, &silent(0, 1), SILENT));
    assert_eq!(roster.take(now, 0, true, true), Target::Seed);
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
    assert_eq!(roster.take(Timestamp(3), 0, true, true), at(9));
    assert!(matches!(
        roster.take(Timestamp(3), 1, true, true),
        Target::Contended(_)
    ));
}

/// A name that still leads to the address of before, where another Sentinel is by now.
#[test]
fn who_is_led_to_another_sentinel_moves_on_and_the_wanted_one_stays_free() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1), peer(2)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    let identified = roster.identify(now, &heard(0, 1, "run2"), true);
    assert!(identified.move_on, "although nobody else watches that one");
    assert_eq!(identified.found_at, Some(peer(2).address));
    roster.leave(now, &heard(0, 2, "run2"), None);
    assert_eq!(
        roster.take(now, 0, true, true),
        at(2),
        "that one is known to answer"
    );
    assert!(!roster.identify(now, &heard(0, 2, "run2"), true).move_on);
    let Target::Wait(until) = roster.take(now, 1, true, true) else {
        panic!("tried a moment ago");
    };
    assert_eq!(roster.take(until, 1, true, true), at(1));
}

/// A Sentinel that lost its disk has another run id under its old address.
#[test]
fn a_sentinel_with_a_new_identity_is_itself() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1), peer(2)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    assert!(!roster.identify(now, &heard(0, 1, "reborn"), true).move_on);
}

#[test]
fn another_connection_of_a_slot_takes_nothing_from_it() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1), peer(2)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    roster.identify(now, &heard(0, 1, "run1"), true);
    assert_eq!(roster.take(now, 0, true, true), at(1), "its heir, perhaps");
    roster.leave(now, &silent(0, 1), None);
    assert_eq!(roster.take(now, 1, true, true), at(2), "1 is watched");
    roster.identify(now, &heard(1, 2, "run2"), true);
    assert!(matches!(roster.take(now, 2, true, false), Target::Wait(_)));
    // Where it talks with another Sentinel of its own accord, who is alive has the seat.
    roster.identify(now, &heard(0, 2, "run2"), true);
    assert!(!roster.alive(now, &heard(0, 1, "run1"), true));
    assert!(matches!(roster.take(now, 2, true, false), Target::Wait(_)));
}

/// Whoever opens a slot's socket again and again and never says a word.
#[test]
fn squatters_keep_nobody_from_a_sentinel() {
    let mut roster = Roster::default();
    let now = Timestamp(1000);
    roster.learn(now, &[peer(1)]);
    assert_eq!(roster.take(now, 0, true, true), at(1));
    let Target::Contended(until) = roster.take(now, 1, true, true) else {
        panic!("it may be answered");
    };
    roster.leave(until, &silent(0, 1), None);
    assert_eq!(roster.take(until, 0, true, true), at(1), "again");
    assert_eq!(roster.take(until, 1, true, false), at(1));
    assert!(!roster.identify(until, &heard(1, 1, "run1"), true).move_on);
    assert!(!roster.alive(until, &heard(1, 1, "run1"), true));
    assert_eq!(
        roster.take(until, 0, true, false),
        Target::Wait(until.after(LONGEST_PAUSE)),
        "it is watched"
    );
}
