//! Proves each rule of `topology.rs`, one short story per rule; `support/script.rs` explains the notation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use sentinel_core::{
    reply::Role,
    time::Timestamp,
    topology::{Hold, MAX_REPLICAS, MAX_REPORTS, Topology},
};
use support::{
    node, replica, rules, rules_of, says,
    script::{play, play_with},
};

/// Rule 1: an announced promotion is taken at once, and only if it replaces the master in use.
#[test]
fn announced_promotions() {
    play(
        "0  s1 A@4                   => A@4 : FirstAnswer
         10 s2 +promoted-slave A B   => B@5 : PromotedEvent
         20 s3 +switch-master A B    => B@5 :
         30 s1 +promoted-slave A C   => B@5 :
         35 s1 B@5                   => B@5
         40 s1 +switch-master B C    => C@6 : SwitchEvent
         # The true epoch is told later and outranks the guess; the guess outranks what was.
         50 s2 C@9                   => C@9 :
         60 s3 B@8                   => C@9 : Stale",
    );
}

/// Rule 2: a higher config-epoch wins, whoever says so.
#[test]
fn a_higher_epoch_wins() {
    play(
        "0 s123 A@1 => A@1
         1 s3 B@2   => B@2 : NewerEpoch
         2 s2 C@7   => C@7 : NewerEpoch
         3 s1 C@8   => C@8 :",
    );
}

/// Rule 3: another address of the same epoch needs the majority, of the known as well as of the heard.
#[test]
fn the_same_epoch_is_settled_by_majority() {
    play(
        "0 s12 A@1  => A@1
         1 s3 B@1   => A@1 : Disputed
         2 s3 B@1   => A@1 :
         3 s2 B@1   => B@1 : Disputed, Majority",
    );
    play(
        // Three are known and three slots watch them: one alone is no majority, even if the others are silent.
        "0     s123 A@1 => A@1
         60000 s3 B@1   => A@1 : Disputed
         60001 s2 B@1   => B@1 : Disputed, Majority",
    );
}

/// Rule 4: a lower epoch never wins by itself; a Sentinel that lags is told about once and never flaps.
#[test]
fn a_lagging_sentinel_never_flaps() {
    let mut story = "0 s123 A@1 => A@1\n1 s1 B@2 => B@2 : NewerEpoch\n2 s2 B@2 => B@2\n".to_owned();
    for second in 1..200 {
        let told = if second == 1 { "Stale" } else { "" };
        story += &format!("{second}000 s3 A@1 => B@2 : {told}\n{second}001 s12 B@2 => B@2 :\n");
    }
    play(&story);
}

/// Rule 4: a majority that insists on a lower epoch is followed after `epoch_reset_delay`, not before.
#[test]
fn a_majority_of_rebuilt_sentinels_is_followed() {
    play(
        "0     s123 A@7 => A@7
         1000  s12 B@0  => A@7 : Stale, Stale
         3000  s12 B@0  => A@7 :
         # Until now Sentinel 3 stood by the old epoch: from here on nobody does.
         3001  s3 B@0   => A@7 : Stale
         5999  s12 B@0  => A@7 :
         6000  s1 B@0   => B@0 : EpochReset
         # What was overruled does not come back by rule 2, whatever is higher does.
         6001  s3 A@7   => B@0
         6002  s3 C@8   => C@8 : NewerEpoch",
    );
}

/// Rule 4: while one Sentinel stands by the higher epoch (a liar, or a leader not yet heard) it takes six times as long.
#[test]
fn a_liar_with_a_higher_epoch_is_voted_down_and_stays_down() {
    let mut story = "0 s123 A@1 => A@1\n1000 s3 C@99 => C@99 : NewerEpoch\n".to_owned();
    for second in 2..32 {
        story += &format!("{second}000 s3 C@99 => C@99 :\n{second}001 s12 A@1 => C@99\n");
    }
    // The first of them dissented 30 s ago.
    story += "32000 s3 C@99 => C@99 :\n32001 s1 A@1 => A@1 : EpochReset\n";
    for second in 33..120 {
        story += &format!("{second}000 s3 C@99 => A@1\n{second}001 s12 A@1 => A@1\n");
    }
    play(&story);
}

/// Rule 4: a dissent ends as soon as the majority agrees with the epoch in use; the next one starts anew.
#[test]
fn a_dissent_that_ended_does_not_count() {
    play(
        "0     s123 B@2 => B@2
         1000  s12 A@1  => B@2
         3000  s12 B@2  => B@2
         7000  s12 A@1  => B@2
         11999 s12 A@1  => B@2",
    );
}

/// Rule 4: a majority *keeps* naming the lower epoch; one that fell silent in between has not kept doing so.
#[test]
fn a_dissent_that_fell_silent_does_not_count() {
    play(
        "0      s123 A@1 => A@1
         1      s3 B@2   => B@2
         2      s12 A@1  => B@2
         # Out of reach for a minute, and back before the leader's hello reaches them.
         60000  s3 B@2   => B@2
         60001  s12 A@1  => B@2",
    );
}

/// Rule 4, the other way round: what was overruled and is named by a majority again is the master.
#[test]
fn an_overruled_master_comes_back_by_majority() {
    play(
        "0      s123 A@1 => A@1
         1      s3 B@2   => B@2
         1000   s12 A@1  => B@2
         3500   s12 A@1  => B@2
         # The leader is gone: nobody stands by its epoch.
         7000   s12 A@1  => A@1
         # It is back, its hello convinced the others, and no event told of it (Sentinels watched by polls alone).
         60000  s123 B@2 => B@2",
    );
}

/// Rule 5: nobody's silence changes the master.
#[test]
fn the_last_known_master_stays() {
    play(
        "0       s123 A@1       => A@1
         5000    tick           => A@1 :
         2000000 tick           => A@1 :
         2000001 s123 null      => A@1 : UnknownName, UnknownName, UnknownName",
    );
}

/// Answers without a usable address: told once per change, never routed to.
#[test]
fn unusable_answers() {
    let topology = play(
        "0 s1 unusable  => none : Unusable
         1 s1 unusable  => none :
         2 s1 refused   => none : Refused
         3 s2 null      => none : UnknownName
         4 s2 null      => none :
         5 s1 A@1       => A@1 : Recovered, FirstAnswer
         6 s1 unusable  => A@1 : Unusable
         7 s1 A@1       => A@1 : Recovered",
    );
    assert!(!topology.route().unknown_to_all);
    assert!(play("0 s1 null => none").route().unknown_to_all);
}

/// A fence begins with the first sign and ends by a switch, an abort, a poll without a failover, or its bound.
#[test]
fn a_fence_begins_and_ends() {
    for (end, left) in [
        ("60 s1 +promoted-slave A B", "B@2 : PromotedEvent"),
        ("60 s2 +switch-master A B", "B@2 : SwitchEvent"),
        ("60 s2 B@2", "B@2 : NewerEpoch"),
        ("60 s1 -failover-abort-not-elected A", "A@1 : Aborted"),
        ("60 s1 -failover-abort-slave-timeout A", "A@1 : Aborted"),
        ("60 s1 -failover-abort-no-good-slave A", "A@1 : Aborted"),
        ("60 s1 A@1", "A@1 : FailoverGone"),
        ("3010 tick", "A@1 : FenceExpired"),
        // And by nothing else: another Sentinel's abort, its poll, a poll that shows the failover, time.
        ("60 s2 -failover-abort-not-elected A", "A@1 fenced :"),
        ("60 s2 A@1", "A@1 fenced :"),
        ("60 s1 A@1 failover", "A@1 fenced :"),
        ("3009 tick", "A@1 fenced :"),
    ] {
        play(&format!(
            "0  s123 A@1 => A@1
             10 s1 +selected-slave A B => A@1 fenced : Fenced
             20 s1 +failover-state-send-slaveof-noone A B => A@1 fenced :
             {end} => {left}"
        ));
    }
}

/// An answer to `GET-MASTER-ADDR-BY-NAME` alone (an ACL without `SENTINEL MASTER`) tells nothing about a failover.
#[test]
fn a_poll_without_state_does_not_end_a_fence() {
    play(
        "0  s1 stateless A => A@0
         10 s1 +selected-slave A B => A@0 fenced
         20 s1 stateless A => A@0 fenced :",
    );
}

/// A fence starts from a poll too, is never renewed by the same failover, and is by the next one.
#[test]
fn one_fence_per_failover() {
    play(
        "0    s123 A@1 => A@1
         10   s1 A@1 promoting => A@1 fenced : Fenced
         3010 tick => A@1 : FenceExpired
         3020 s1 A@1 promoting => A@1 :
         3030 s1 +failover-state-send-slaveof-noone A B => A@1 :
         # Another Sentinel's failover is another failover.
         3040 s2 +selected-slave A B => A@1 fenced : Fenced
         3050 s2 -failover-abort-slave-timeout A => A@1 : Aborted
         # The first one's is over: its next one is fenced again.
         4000 s1 A@1 => A@1 :
         4010 s1 +selected-slave A C => A@1 fenced : Fenced",
    );
    let off = rules_of(r#"{"masters": ["mymaster"], "fence_timeout": "0s"}"#);
    play_with(
        &off,
        "0  s123 A@1 => A@1
         10 s1 +selected-slave A B => A@1 :
         20 s1 A@1 promoting => A@1 :",
    );
}

/// New connections wait while a majority flags the master down; a Sentinel in TILT has no say in it.
#[test]
fn down_by_majority() {
    play(
        "0    s123 A@1 => A@1
         10   s1 +sdown A => A@1 :
         20   s2 +sdown A => A@1 down : Down
         30   s2 -sdown A => A@1 : Up
         40   s3 A@1 down => A@1 down : Down
         50   s3 +tilt    => A@1 : Up
         60   s2 A@1 down => A@1 down : Down
         70   s3 -tilt    => A@1 down :
         # Events about another node are about another node.
         80   s1 -sdown B => A@1 down :
         # What was flagged was the old one.
         90   s1 +switch-master A B => B@2 : SwitchEvent",
    );
    // Flags of Sentinels that are not heard any more are forgotten.
    play(
        "0    s123 A@1 down => A@1 down
         4001 tick => A@1 : Up",
    );
}

/// A master that says it is a replica is not dialled; only the candidate's word may make a master, if that is wanted.
#[test]
fn roles() {
    play(
        "0   s123 A@1 => A@1
         1   role B slave => A@1 :
         2   role A slave => A@1 demoted : NotMaster
         3   role A slave => A@1 demoted :
         4   role A master => A@1 : MasterAgain
         5   role B master early => A@1 :
         10  s1 +selected-slave A B => A@1 fenced
         11  role C master early => A@1 fenced :
         12  role B slave early => A@1 fenced :
         13  role B master => A@1 fenced :
         14  role B master early => B@2 : OwnRole
         15  s1 +promoted-slave A B => B@2 :
         16  s1 B@2 => B@2 :",
    );
    play(
        "0 s123 A@1 => A@1
         1 role A slave => A@1 demoted
         2 s1 B@2 => B@2 : NewerEpoch",
    );
}

/// A node that no longer lets anybody ask cannot be held to its last word.
#[test]
fn an_unprobed_master_is_not_held_to_its_word() {
    let mut topology = play("0 s123 A@1 => A@1");
    topology.role(&node('A'), Role::Replica, false);
    assert_eq!(topology.route().hold, Some(Hold::NotMaster));
    assert_eq!(topology.unprobed(&node('A'), "NOAUTH").len(), 1);
    assert_eq!(topology.unprobed(&node('A'), "NOAUTH").len(), 0);
    assert!(!topology.may_probe(&node('A')) && topology.may_probe(&node('B')));
    assert_eq!(topology.route().hold, None);
}

/// A replica serves while at least half of the Sentinels that agree on the master call it healthy.
#[test]
fn replicas_by_votes() {
    play(
        "0  s1 A@1 replicas=CB   => A@1 replicas=BC
         1  s2 A@1 replicas=BC!  => A@1 replicas=BC
         2  s3 A@1 replicas=BC!  => A@1 replicas=B
         3  s1 A@1 replicas=AB   => A@1 replicas=B
         # A poll that did not ask for replicas leaves them as they are.
         4  s1 A@1               => A@1 replicas=B
         # Whoever names another master has no say, nor has a master that was a replica.
         5  s1 +promoted-slave A B => B@2
         6  s1 B@2 replicas=C    => B@2 replicas=C
         7  s2 A@1 replicas=D    => B@2 replicas=C
         9000 tick               => B@2 replicas=C",
    );
}

/// A replica whose link to the master is down for a moment gets no new readers, and keeps the ones that it has.
#[test]
fn replicas_that_reattach() {
    play(
        "0  s123 A@1 replicas=BC   => A@1 replicas=BC
         1  s12 A@1 replicas=B~C   => A@1 replicas=C readable=BC
         2  s12 A@1 replicas=B!C   => A@1 replicas=C
         3  s12 A@1 replicas=BC    => A@1 replicas=BC",
    );
}

/// Time that changes something is announced: the end of a fence, flags that get old.
#[test]
fn what_is_due_and_unsettled() {
    let rules = rules();
    let topology = Topology::default();
    assert!(topology.is_unsettled());
    assert_eq!(topology.next_due(&rules), None);
    for (then, due) in [
        ("", None),
        ("10 s1 +selected-slave A B => A@1 fenced", Some(3010)),
        ("10 s1 A@1 down => A@1", None),
        ("10 s12 A@1 down => A@1 down", Some(4011)),
        ("10 role A slave => A@1 demoted", None),
        ("10 s1 C@2 => C@2\n 20 s23 A@1 => C@2", None),
    ] {
        let topology = play(&format!("0 s123 A@1 => A@1\n {then}"));
        assert_eq!(topology.next_due(&rules).map(|due| due.0), due, "{then}");
        let unsettled = !then.is_empty() && !then.contains("s1 A@1 down");
        assert_eq!(topology.is_unsettled(), unsettled, "{then}");
    }
}

/// Whatever is said, by however many, the memory of one topology is bounded.
#[test]
fn bounds() {
    let rules = rules();
    let mut topology = Topology::default();
    for n in 0..40_u64 {
        let mut answer = says(node('A'), 1, 3);
        let many = (0..100).map(|i| replica(host(n * 100 + i), true, true, 0));
        answer.replicas = Some(many.collect());
        topology.report(Timestamp(n), &rules, &format!("s{n}"), 0, &answer);
    }
    let stored = serde_json::to_value(&topology).unwrap();
    assert_eq!(stored["reports"].as_array().unwrap().len(), MAX_REPORTS);
    for report in stored["reports"].as_array().unwrap() {
        assert!(report["replicas"].as_array().unwrap().len() <= MAX_REPLICAS);
    }
    assert!(stored["replicas"].as_array().unwrap().len() <= MAX_REPLICAS);
    // The oldest ones went.
    assert_eq!(stored["reports"][0]["sentinel"], "s8");
    // A Sentinel that was not heard for ten minutes is forgotten.
    topology.tick(Timestamp(10_000_000), &rules);
    let stored = serde_json::to_value(&topology).unwrap();
    assert!(stored["reports"].as_array().unwrap().is_empty());
}

fn host(n: u64) -> sentinel_core::address::Address {
    sentinel_core::address::Address::new(&format!("r{n}.example"), "6379").unwrap()
}

/// The moment of a switch, and the silence of all Sentinels, take no readers away: nobody's list is not an empty list.
#[test]
fn readers_stay_while_nobody_lists_replicas() {
    play(
        "0     s123 A@1 replicas=BC  => A@1 replicas=BC
         10    s1 +promoted-slave A B => B@2 replicas=C : PromotedEvent
         20    s1 B@2 replicas=AC    => B@2 replicas=AC
         30    s23 B@2 down          => B@2 down replicas=C : Down
         9000  tick                  => B@2 replicas=C : Up",
    );
}

/// Whether Sentinels answer without naming a master shows in the route, so it must raise the generation.
#[test]
fn an_unknown_name_is_told_to_the_routers() {
    play(
        "0       s1 +tilt => none
         1       s1 null  => none : UnknownName
         700000  tick     => none",
    );
}

/// A flag of a Sentinel that is silent by now does not hide when the fence ends.
#[test]
fn what_is_due_next_lies_ahead() {
    let topology = play(
        "0    s123 A@1 of=3 down        => A@1 down
         3000 s12 A@1 of=3 down         => A@1 down
         4100 s1 +selected-slave A B    => A@1 fenced down",
    );
    assert_eq!(topology.next_due(&rules()), Some(Timestamp(7001)));
    let mut later = topology.clone();
    later.tick(Timestamp(7001), &rules());
    assert_eq!(later.next_due(&rules()), Some(Timestamp(7100)));
}
