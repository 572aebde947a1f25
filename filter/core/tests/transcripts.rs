//! Proves that real Sentinels' words lead to the right decisions: each recorded failover is played to the core, byte for
//! byte and in the order of time, and what the topology made of it is compared with what happened.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use proptest::prelude::*;
use sentinel_core::{
    address::Address,
    fact::{Cause, Fact, Unfence},
    resp::{MAX_ELEMENTS, Reader},
};
use support::replay::{Recording, Told};

/// When a fact was told, in ms after the scenario's event.
fn when(told: &[Told], wanted: impl Fn(&Fact) -> bool) -> Vec<u64> {
    told.iter()
        .filter(|told| wanted(&told.fact))
        .map(|told| told.ms)
        .collect()
}

fn masters(told: &[Told]) -> Vec<(Address, Cause)> {
    told.iter()
        .filter_map(|told| match &told.fact {
            Fact::Master { address, cause, .. } => Some((address.clone(), cause.clone())),
            _ => None,
        })
        .collect()
}

fn fences(told: &[Told]) -> Vec<u64> {
    when(told, |fact| matches!(fact, Fact::Fenced { .. }))
}

fn switches(told: &[Told]) -> Vec<u64> {
    when(told, |fact| {
        matches!(
            fact,
            Fact::Master {
                previous: Some(_),
                ..
            }
        )
    })
}

/// Facts that have no place in a failover that went well.
fn alarms(told: &[Told]) -> usize {
    let alarm = |fact: &Fact| {
        matches!(
            fact,
            Fact::FenceExpired { .. }
                | Fact::Unfenced { .. }
                | Fact::Disputed { .. }
                | Fact::UnknownName { .. }
                | Fact::Unusable { .. }
                | Fact::Refused { .. }
                | Fact::Master {
                    cause: Cause::EpochReset | Cause::Majority,
                    ..
                }
        )
    };
    when(told, alarm).len()
}

/// One fence at `+selected-slave`, one switch at `+promoted-slave`, in the very read that carried them, and never back.
#[test]
fn failovers() {
    for folder in ["planned-failover", "killed-master", "hung-master"] {
        let recording = Recording::open(folder);
        let (told, topology) = recording.play();
        let promoted = recording.published("+promoted-slave");
        let selected = recording.published("+selected-slave");
        assert_eq!(fences(&told), [selected[0].ms], "{folder}");
        assert_eq!(switches(&told), [promoted[0].ms], "{folder}");
        let new = promoted[0].replica();
        assert_eq!(
            masters(&told),
            [
                (recording.redis(0), Cause::FirstAnswer),
                (new.clone(), Cause::PromotedEvent)
            ],
            "{folder}"
        );
        assert_eq!(alarms(&told), 0, "{folder}: {told:#?}");
        let route = topology.route();
        assert_eq!(route.master, Some(new), "{folder}");
        assert_eq!((route.fenced_until, route.hold), (None, None), "{folder}");
        assert_eq!(topology.config_epoch(), Some(1), "{folder}");
        assert!(!topology.is_unsettled(), "{folder}");
        // A planned failover's master was never down; the others were until the switch, which needs no `Up`.
        let down = when(&told, |fact| matches!(fact, Fact::Down { .. }));
        let expected = usize::from(folder != "planned-failover");
        assert_eq!(down.len(), expected, "{folder}");
        assert!(down.iter().all(|ms| *ms < promoted[0].ms), "{folder}");
    }
}

/// Without events (polls alone) the switch comes with the first poll of a newer epoch, at most an interval later.
#[test]
fn failovers_by_polls_alone() {
    for folder in ["planned-failover", "killed-master", "hung-master"] {
        let recording = Recording::open(folder);
        let (told, topology) = recording.polls_alone().play();
        let promoted = recording.published("+promoted-slave");
        let switched = switches(&told);
        assert_eq!(switched.len(), 1, "{folder}: {told:#?}");
        let late = switched[0] - promoted[0].ms;
        assert!(late <= 1050, "{folder}: {late} ms after +promoted-slave");
        assert_eq!(
            masters(&told)[1],
            (promoted[0].replica(), Cause::NewerEpoch),
            "{folder}"
        );
        assert_eq!(topology.route().master, Some(promoted[0].replica()));
        assert_eq!(alarms(&told), 0, "{folder}: {told:#?}");
    }
}

/// A failover without a good replica is given up: no fence outlives it, nobody is closed, the master stays down.
#[test]
fn an_aborted_failover() {
    let recording = Recording::open("aborted-no-good-slave");
    let (told, topology) = recording.play();
    assert_eq!(
        recording.published("-failover-abort-no-good-slave").len(),
        1
    );
    assert_eq!(
        masters(&told),
        [(recording.redis(0), Cause::FirstAnswer)],
        "nobody else became master"
    );
    // Nothing was selected, so nothing was fenced.
    assert!(fences(&told).is_empty());
    let unfenced = when(&told, |fact| matches!(fact, Fact::Unfenced { .. }));
    assert!(unfenced.is_empty());
    let route = topology.route();
    assert_eq!(route.master, Some(recording.redis(0)));
    assert!(route.hold.is_some() && route.fenced_until.is_none());
}

/// The same words with a replica selected before: the abort lifts the fence in the read that carries it.
#[test]
fn an_abort_lifts_the_fence() {
    let recording = Recording::open("aborted-no-good-slave");
    let abort = recording.published("-failover-abort-no-good-slave");
    let words = format!(
        "slave {1} 127.0.0.1 {0} @ mymaster 127.0.0.1 {2}",
        recording.redis(1).port(),
        recording.redis(1),
        recording.redis(0).port()
    );
    let (told, topology) = recording
        .with_push(
            abort[0].sentinel,
            abort[0].ms - 10,
            "+selected-slave",
            &words,
        )
        .play();
    assert_eq!(fences(&told), [abort[0].ms - 10]);
    let aborted = |fact: &Fact| {
        matches!(
            fact,
            Fact::Unfenced {
                why: Unfence::Aborted,
                ..
            }
        )
    };
    assert_eq!(when(&told, aborted), [abort[0].ms]);
    assert_eq!(topology.route().fenced_until, None);
}

/// `RESET`, `REMOVE`, `MONITOR` at one Sentinel after the other: the address never changes, nothing is fenced; a hello of
/// the others lifts the epoch again before a majority could insist on 0.
#[test]
fn monitored_again() {
    let recording = Recording::open("monitored-again");
    let (told, topology) = recording.play();
    let master = topology.route().master.unwrap();
    assert_eq!(masters(&told), [(master, Cause::FirstAnswer)]);
    assert_eq!((fences(&told), switches(&told)), (vec![], vec![]));
    assert_eq!(topology.config_epoch(), Some(1));
    let stale = when(&told, |fact| matches!(fact, Fact::Stale { .. }));
    assert!(!stale.is_empty(), "epoch 0 was seen, and not followed");
}

/// A connection lasts for months: no bound of one frame may add up over many.
#[test]
fn a_connection_without_end() {
    let mut reader = Reader::default();
    for _ in 0..MAX_ELEMENTS {
        reader.push(b"*2\r\n$1\r\na\r\n:1\r\n");
        assert!(reader.next_message().unwrap().is_some());
        assert_eq!(reader.next_message(), Ok(None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However the bytes of each read are cut, the same facts come out.
    #[test]
    fn any_chunking(sizes in prop::collection::vec(1_usize..700, 1..40), folder in 0_usize..5) {
        let folder = ["planned-failover", "killed-master", "hung-master", "aborted-no-good-slave", "monitored-again"][folder];
        let recording = Recording::open(folder);
        let (whole, topology) = recording.play();
        let (cut, same) = recording.cut(&sizes).play();
        prop_assert_eq!(whole, cut);
        prop_assert_eq!(topology.route(), same.route());
    }
}
