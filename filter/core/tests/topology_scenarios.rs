//! Proves that each trouble that Sentinels can have (failovers in a row, `RESET`, `TILT`, a manual promotion …) has the
//! outcome that DESIGN.md states, whole story by whole story; `support/script.rs` explains the notation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use support::script::play;

/// Several failovers in a row: each is fenced and followed; late words of the one before change nothing.
#[test]
fn several_failovers_in_a_row() {
    play(
        "0    s123 A@0 => A@0
         100  s1 +selected-slave A B => A@0 fenced : Fenced
         160  s1 +failover-state-send-slaveof-noone A B => A@0 fenced :
         1000 s1 +promoted-slave A B => B@1 : PromotedEvent
         1080 s23 +switch-master A B => B@1 :
         1100 s123 B@1 => B@1 :
         2000 s1 +switch-master A B => B@1 :
         3000 s2 +selected-slave B A => B@1 fenced : Fenced
         3900 s2 +promoted-slave B A => A@2 : PromotedEvent
         3950 s13 +switch-master B A => A@2 :
         4000 s123 A@2 => A@2 :
         5000 s3 +selected-slave A C => A@2 fenced : Fenced
         5900 s3 +promoted-slave A C => C@3 : PromotedEvent
         5901 s1 A@2 => C@3 : Stale
         6000 s123 C@3 => C@3 :",
    );
}

/// A failover during a failover: the second leader's candidate counts, its switch ends the one fence.
#[test]
fn a_failover_during_a_failover() {
    let topology = play(
        "0    s123 A@0 => A@0
         100  s1 +selected-slave A B => A@0 fenced : Fenced
         900  s2 +selected-slave A C => A@0 fenced :
         # The first leader gives up: it is not its fence any more.
         950  s1 -failover-abort-slave-timeout A => A@0 fenced : ",
    );
    assert_eq!(topology.candidate(), Some(&support::node('C')));
    play(
        "0    s123 A@0 => A@0
         100  s1 +selected-slave A B => A@0 fenced
         900  s2 +selected-slave A C => A@0 fenced
         1900 s2 +promoted-slave A C => C@1 : PromotedEvent
         # The first leader promotes as well, of a master that is history; the higher epoch decides.
         2000 s1 +promoted-slave A B => C@1 :
         2100 s2 C@2 => C@2 :
         2200 s1 B@1 => C@2 : Stale
         2300 s3 C@2 => C@2 :
         2400 s1 C@2 => C@2 :",
    );
}

/// A chosen replica that is promoted by nobody: one fence, its bound, and traffic goes on where it was.
#[test]
fn a_leader_that_dies_before_the_promotion() {
    play(
        "0    s123 A@0 => A@0
         100  s1 +selected-slave A B => A@0 fenced : Fenced
         3100 tick => A@0 : FenceExpired
         3200 s23 A@0 => A@0 :
         9000 s2 +selected-slave A C => A@0 fenced : Fenced
         9900 s2 +promoted-slave A C => C@1 : PromotedEvent",
    );
}

/// The leader dies after `+promoted-slave`, before any other Sentinel heard of it: the others are followed, to the old
/// master if they insist on it, to the next one when they promote it.
#[test]
fn a_leader_that_dies_after_the_promotion() {
    play(
        "0     s123 A@0 => A@0
         1000  s1 +promoted-slave A B => B@1 : PromotedEvent
         1010  s1 B@1 => B@1 :
         1500  s23 A@0 => B@1 : Stale, Stale
         4500  s23 A@0 => B@1 :
         5500  s23 A@0 => B@1 :
         6500  s23 A@0 => A@0 : EpochReset
         9000  s2 +promoted-slave A C => C@1 : PromotedEvent
         9100  s23 C@2 => C@2",
    );
}

/// Sentinels join and leave: the majority is that of those that are known and can be watched.
#[test]
fn sentinels_join_and_leave() {
    play(
        "0     s123 A@1 => A@1
         # Two more join: three of five make a majority, two do not.
         1000  s12345 A@1 of=5 => A@1
         2000  s12 A@1 of=5 down => A@1
         2100  s3 A@1 of=5 down  => A@1 down : Down
         2200  s3 A@1 of=5       => A@1 : Up
         # Three leave without a word: while the others count them in, nothing is decided by two.
         8000  s12 A@1 of=5 down => A@1
         # SENTINEL RESET made them forget: two of two.
         9000  s12 A@1 of=2 down => A@1 down",
    );
}

/// `SENTINEL RESET`: the master stays, with its epoch; replicas and Sentinels are learnt again.
#[test]
fn sentinel_reset() {
    play(
        "0    s123 A@3 replicas=BC => A@3 replicas=BC
         1000 s123 A@3 of=1 replicas= => A@3
         3000 s123 A@3 replicas=BC => A@3 replicas=BC",
    );
}

/// `SENTINEL REMOVE` and `MONITOR`: unknown for a moment, then the epoch starts at 0; the address stays in use.
#[test]
fn removed_and_monitored_again() {
    play(
        "0    s123 B@5 => B@5
         1000 s1 null => B@5 : UnknownName
         1100 s1 B@0 of=1 => B@5 : Stale
         2000 s2 null => B@5 : UnknownName
         2100 s2 B@0 => B@5 : Stale
         3000 s3 null => B@5 : UnknownName
         3100 s3 B@0 => B@5 : Stale
         # The reset is told although the address is the same: from here on epochs count from 0.
         7099 s1 B@0 => B@5 :
         7100 s2 B@0 => B@0 : EpochReset
         7200 s123 B@0 => B@0 :
         9000 s1 C@1 => C@1 : NewerEpoch",
    );
}

/// `TILT`: such a Sentinel has no say in whether the master is down; its epochs count as any other's.
#[test]
fn tilt() {
    play(
        "0    s123 A@1 => A@1
         10   s12 +tilt => A@1 :
         20   s12 A@1 down => A@1 :
         30   s3 A@1 down => A@1 :
         40   s12 -tilt => A@1 down : Down
         50   s1 +tilt => A@1 down :
         60   s1 B@2 => B@2 : NewerEpoch",
    );
}

/// A master renamed at the Sentinels: every one of them says so once, the last known address stays in use, and an event
/// about the other name never reaches this topology (the conversation drops it).
#[test]
fn a_master_renamed() {
    let topology = play(
        "0    s123 A@1 => A@1
         1000 s123 null => A@1 : UnknownName, UnknownName, UnknownName
         2000 s123 null => A@1 :
         9000 s123 null => A@1 :
         9500 s123 A@1 => A@1 : Recovered, Recovered, Recovered",
    );
    assert!(!topology.is_unsettled());
}

/// A replica promoted by hand (`REPLICAOF NO ONE`), the master made its replica: new connections wait for Sentinel, which
/// fails over or turns the nodes back.
#[test]
fn a_manual_promotion() {
    let by_hand = "0 s123 A@1 => A@1
                   100 role B master => A@1 :
                   200 role A slave => A@1 demoted : NotMaster
                   300 s123 A@1 => A@1 demoted";
    for end in [
        "400 role A master => A@1 : MasterAgain",
        "400 s1 +switch-master A B => B@2 : SwitchEvent",
        "400 s1 B@2 => B@2 : NewerEpoch",
    ] {
        play(&format!("{by_hand}\n{end}"));
    }
}

/// A push that was on its way for long: `+switch-master A B` of the first failover, after a second one went back to A.
#[test]
fn a_late_event_of_a_failover_that_is_history() {
    play(
        "0    s123 A@0 => A@0
         1000 s1 +promoted-slave A B => B@1
         1100 s12 B@1 => B@1
         3900 s1 +promoted-slave B A => A@2
         4000 s12 A@2 => A@2
         4100 s3 +switch-master A B => A@2
         4200 s3 B@1 => A@2",
    );
}
