//! Proves what happens to each connection of an application: every transition of `admission.rs`, its bounds, and that
//! its books are exact whatever the order of callbacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use proptest::prelude::*;
use sentinel_core::{
    admission::{Action, Admission, Refusal, Verdict},
    time::Timestamp,
    topology::{Hold, Route},
};
use support::{node, router};

fn to(letter: char) -> Route {
    Route {
        master: Some(node(letter)),
        ..Route::default()
    }
}

fn fenced(letter: char, until: u64) -> Route {
    Route {
        fenced_until: Some(Timestamp(until)),
        ..to(letter)
    }
}

fn held(letter: char, hold: Hold) -> Route {
    Route {
        hold: Some(hold),
        ..to(letter)
    }
}

fn replicas(letter: char, replicas: &str) -> Route {
    Route {
        replicas: replicas.chars().map(node).collect(),
        readable: replicas.chars().map(node).collect(),
        ..to(letter)
    }
}

/// An admission that was told `route` at 0 ms.
fn given(fields: &str, route: Route) -> Admission {
    let mut admission = Admission::new(router(fields));
    assert_eq!(admission.update(Timestamp(0), route), []);
    admission
}

fn connect(admission: &mut Admission, now: u64, id: u32) -> Verdict {
    admission.connect(Timestamp(now), id, None)
}

/// A connection that its upstream has answered.
fn live(admission: &mut Admission, now: u64, id: u32) {
    assert!(matches!(connect(admission, now, id), Verdict::Dial(_)));
    assert_eq!(admission.upstream_data(id), None);
}

/// What a new connection is told under each route.
#[test]
fn verdicts() {
    for (fields, route, verdict) in [
        ("", Route::default(), Verdict::Hold),
        ("", to('A'), Verdict::Dial(node('A'))),
        ("", fenced('A', 100), Verdict::Hold),
        ("", held('A', Hold::Down), Verdict::Hold),
        ("", held('A', Hold::NotMaster), Verdict::Hold),
        (
            r#""max_held_connections": 0"#,
            held('A', Hold::Down),
            Verdict::Refuse(Refusal::TooManyHeld(0)),
        ),
        (
            r#""own_addresses": ["10.0.0.1:6379"]"#,
            to('A'),
            Verdict::Refuse(Refusal::Loop(node('A'))),
        ),
        (
            r#""role": "replica""#,
            replicas('A', "BC"),
            Verdict::Dial(node('B')),
        ),
        (r#""role": "replica""#, to('A'), Verdict::Dial(node('A'))),
    ] {
        let mut admission = given(fields, Route::default());
        admission.update(Timestamp(0), route.clone());
        assert_eq!(connect(&mut admission, 1, 7), verdict, "{fields} {route:?}");
    }
}

/// The proxy's own listener is never dialled: not at once, not after a hold.
#[test]
fn a_loop_is_refused() {
    let own = node('A');
    let mut admission = given("", to('A'));
    let verdict = admission.connect(Timestamp(0), 1, Some(&own));
    assert_eq!(verdict, Verdict::Refuse(Refusal::Loop(node('A'))));
    let mut admission = given("", Route::default());
    assert_eq!(
        admission.connect(Timestamp(0), 1, Some(&own)),
        Verdict::Hold
    );
    assert_eq!(
        admission.update(Timestamp(1), to('A')),
        [Action::Refuse(1, Refusal::Loop(node('A')))]
    );
    assert_eq!((admission.held(), admission.connections()), (0, 1));
}

/// Held ones wait for the route, keep their bytes, and are dialled once.
#[test]
fn held_then_dialled() {
    for hold in [
        Route::default(),
        fenced('A', 9000),
        held('A', Hold::Down),
        held('A', Hold::NotMaster),
    ] {
        let mut admission = given("", Route::default());
        admission.update(Timestamp(0), hold);
        assert_eq!(connect(&mut admission, 0, 1), Verdict::Hold);
        assert_eq!((admission.held(), admission.client_data(1)), (1, true));
        assert_eq!(
            admission.update(Timestamp(5), to('B')),
            [Action::Dial(1, node('B'))]
        );
        assert_eq!((admission.held(), admission.client_data(1)), (0, false));
        assert_eq!(admission.update(Timestamp(6), to('B')), []);
        assert_eq!(admission.upstream_data(1), None);
    }
}

/// The number of held connections is bounded, and the bound is free again when one leaves.
#[test]
fn too_many_held() {
    let mut admission = given(r#""max_held_connections": 2"#, Route::default());
    assert_eq!(connect(&mut admission, 0, 1), Verdict::Hold);
    assert_eq!(connect(&mut admission, 0, 2), Verdict::Hold);
    let refused = Verdict::Refuse(Refusal::TooManyHeld(2));
    assert_eq!(connect(&mut admission, 0, 3), refused);
    assert_eq!(admission.held(), 2);
    admission.closed(1);
    assert_eq!(connect(&mut admission, 0, 4), Verdict::Hold);
    assert_eq!(connect(&mut admission, 0, 5), refused);
}

/// The time of a hold is bounded, and the client is told why, once.
#[test]
fn held_for_too_long() {
    let unknown = Route {
        unknown_to_all: true,
        ..Route::default()
    };
    for (route, why, words) in [
        (Route::default(), Refusal::Unknown, "no Sentinel"),
        (unknown, Refusal::UnknownToAll, "the Sentinels answer"),
        (
            held('A', Hold::Down),
            Refusal::Held(node('A'), Hold::Down),
            "down",
        ),
        (
            held('A', Hold::NotMaster),
            Refusal::Held(node('A'), Hold::NotMaster),
            "replica",
        ),
        (fenced('A', 60_000), Refusal::Fenced(node('A')), "promotion"),
    ] {
        let mut admission = Admission::new(router(r#""hold_timeout": "2s""#));
        admission.update(Timestamp(0), route);
        assert_eq!(connect(&mut admission, 10, 1), Verdict::Hold);
        assert_eq!(admission.next_due(), Some(Timestamp(2010)));
        assert_eq!(admission.expire(Timestamp(2009)), []);
        assert_eq!(admission.expire(Timestamp(2010)), [Action::Refuse(1, why)]);
        assert_eq!(admission.expire(Timestamp(2011)), []);
        assert_eq!(admission.held(), 0);
        let text = admission.upstream_data(1).unwrap();
        assert!(text.starts_with("-MASTERDOWN ") && text.ends_with("\r\n"));
        assert!(text.contains(words) && text.contains("mymaster"), "{text}");
        assert_eq!(admission.upstream_data(1).as_deref(), Some(""));
        // Its bytes go nowhere, and no route brings it back.
        assert!(admission.client_data(1));
        assert_eq!(admission.update(Timestamp(2020), to('B')), []);
    }
}

/// A dial that is not accepted within the bound is refused; one that was accepted is not.
#[test]
fn dialled_for_too_long() {
    let mut admission = given(r#""hold_timeout": "2s""#, to('A'));
    for id in 1..=3 {
        connect(&mut admission, 0, id);
    }
    admission.upstream_data(3);
    let unreachable = Refusal::Unreachable(node('A'));
    assert_eq!(
        admission.expire(Timestamp(2000)),
        [
            Action::RefuseUnlessConnected(1, unreachable.clone()),
            Action::RefuseUnlessConnected(2, unreachable.clone()),
        ]
    );
    admission.was_connected(1);
    assert_eq!(
        admission.refuse(2, unreachable.clone()),
        Action::Refuse(2, unreachable)
    );
    assert_eq!(admission.expire(Timestamp(9000)), []);
    assert_eq!(admission.next_due(), None);
}

/// A switch moves what dials and what is live, once; what has moved starts its bound anew.
#[test]
fn a_switch() {
    let mut admission = given(r#""hold_timeout": "2s""#, to('A'));
    live(&mut admission, 0, 1);
    connect(&mut admission, 0, 2);
    let there = Some(node('B'));
    assert_eq!(
        admission.update(Timestamp(1500), to('B')),
        [Action::Move(1, there.clone()), Action::Move(2, there)]
    );
    admission.closed(1);
    admission.was_moved(Timestamp(1500), 2, node('B'));
    assert_eq!(admission.expire(Timestamp(2000)), []);
    assert_eq!(admission.next_due(), Some(Timestamp(3500)));
    assert_eq!(admission.update(Timestamp(2001), held('B', Hold::Down)), []);
}

/// A move to nowhere: a switch to a master that may not be dialled closes what belongs to the old one.
#[test]
fn a_switch_to_a_master_that_is_not_to_be_dialled() {
    let mut admission = given(r#""own_addresses": ["10.0.0.2:6379"]"#, to('A'));
    live(&mut admission, 0, 1);
    assert_eq!(
        admission.update(Timestamp(1), to('B')),
        [Action::Move(1, None)]
    );
}

/// `was_moved` for one that was connected after all changes nothing: it must stay in the books to be closed later.
#[test]
fn a_live_one_cannot_be_moved() {
    let mut admission = given("", to('A'));
    live(&mut admission, 0, 1);
    assert!(!admission.was_moved(Timestamp(1), 1, node('B')));
    assert_eq!(admission.connections(), 1);
    assert_eq!(admission.update(Timestamp(2), to('B')).len(), 1);
}

/// What still dials when a fence keeps its bytes back moves to the new master, and its bytes with it.
#[test]
fn a_moved_one_gets_its_bytes_back() {
    let mut admission = given("", to('A'));
    connect(&mut admission, 0, 1);
    admission.update(Timestamp(1), fenced('A', 3000));
    assert!(admission.client_data(1));
    let actions = admission.update(Timestamp(900), to('B'));
    assert_eq!(actions, [Action::Move(1, Some(node('B')))]);
    assert!(
        admission.was_moved(Timestamp(900), 1, node('B')),
        "its bytes go on"
    );
    assert!(!admission.client_data(1));
}

/// A fence keeps back every byte of live and dialled ones, and lets them go on when it ends, whichever way.
#[test]
fn a_fence() {
    for (how, end) in [("abort", 500), ("bound", 3000)] {
        let mut admission = given("", to('A'));
        live(&mut admission, 0, 1);
        live(&mut admission, 0, 2);
        assert!(!admission.client_data(1));
        assert_eq!(admission.update(Timestamp(10), fenced('A', 3000)), []);
        assert!(admission.client_data(1), "{how}: kept back");
        assert_eq!(admission.upstream_data(1), None, "{how}: replies go on");
        assert_eq!(connect(&mut admission, 20, 3), Verdict::Hold);
        assert_eq!(admission.next_due(), Some(Timestamp(3000)));
        assert_eq!(admission.expire(Timestamp(2999)), []);
        let actions = if how == "abort" {
            admission.update(Timestamp(end), to('A'))
        } else {
            admission.expire(Timestamp(end))
        };
        // Only who had bytes kept back is resumed; who waited is dialled.
        assert_eq!(
            actions,
            [Action::Resume(1), Action::Dial(3, node('A'))],
            "{how}"
        );
        assert!(!admission.client_data(1) && !admission.client_data(2));
    }
    let mut admission = given("", to('A'));
    live(&mut admission, 0, 1);
    admission.update(Timestamp(10), fenced('A', 3000));
    admission.client_data(1);
    assert_eq!(
        admission.update(Timestamp(900), to('B')),
        [Action::Move(1, Some(node('B')))],
        "what was kept back never reaches the old master"
    );
}

/// A fence is about writes: connections to replicas go on.
#[test]
fn a_replica_that_is_the_proxy_itself_is_left_out() {
    let fields = format!(r#""role": "replica", "own_addresses": ["{}"]"#, node('b'));
    let mut admission = given(&fields, replicas('a', "bcd"));
    let listener = node('c');
    for id in 0..3 {
        let verdict = admission.connect(Timestamp(0), id, Some(&listener));
        assert_eq!(verdict, Verdict::Dial(node('d')));
    }
    let mut admission = given(&fields, replicas('a', "b"));
    assert_eq!(connect(&mut admission, 0, 1), Verdict::Dial(node('a')));
}

#[test]
fn a_listener_without_fallback_waits_for_a_replica() {
    let fields = r#""role": "replica", "fallback_to_master": false"#;
    let mut admission = given(fields, to('a'));
    assert_eq!(connect(&mut admission, 0, 1), Verdict::Hold);
    let actions = admission.update(Timestamp(1), replicas('a', "b"));
    assert_eq!(actions, [Action::Dial(1, node('b'))]);
    assert_eq!(connect(&mut admission, 2, 2), Verdict::Dial(node('b')));
    // The last replica goes: its readers have nowhere to be moved to.
    let actions = admission.update(Timestamp(3), to('a'));
    assert_eq!(actions, [Action::Move(1, None), Action::Move(2, None)]);
    assert_eq!(connect(&mut admission, 4, 3), Verdict::Hold);
    let refused = admission.expire(Timestamp(10_004));
    assert!(refused.contains(&Action::Refuse(3, Refusal::NoReplica)));
}

#[test]
fn a_name_that_does_not_resolve_is_waited_for() {
    let name = sentinel_core::address::Address::new("redis-0.test", "6379").unwrap();
    let named = Route {
        master: Some(name.clone()),
        ..Route::default()
    };
    let unresolved = named.clone().resolved(|_| None);
    assert_eq!(unresolved.unresolved, Some(name.clone()));
    let mut admission = given("", unresolved);
    assert_eq!(connect(&mut admission, 0, 1), Verdict::Hold);
    let resolved = named.resolved(|_| Some(node('a')));
    assert_eq!(resolved.unresolved, None);
    let actions = admission.update(Timestamp(1), resolved);
    assert_eq!(actions, [Action::Dial(1, node('a'))]);
    let mut admission = given("", to('a'));
    assert_eq!(connect(&mut admission, 0, 1), Verdict::Dial(node('a')));
}

#[test]
fn replicas_are_not_fenced() {
    let mut admission = given(r#""role": "replica""#, replicas('A', "B"));
    live(&mut admission, 0, 1);
    let route = Route {
        fenced_until: Some(Timestamp(3000)),
        ..replicas('A', "B")
    };
    assert_eq!(admission.update(Timestamp(1), route), []);
    assert!(!admission.client_data(1));
    assert_eq!(connect(&mut admission, 2, 2), Verdict::Dial(node('B')));
}

/// The replica with the fewest connections gets the next one; with none left, the master does.
#[test]
fn replica_balancing() {
    let mut admission = given(r#""role": "replica""#, replicas('A', "BCD"));
    let mut dialled: Vec<Verdict> = (1..=6).map(|id| connect(&mut admission, 0, id)).collect();
    let expected: Vec<Verdict> = "BCDBCD".chars().map(|c| Verdict::Dial(node(c))).collect();
    assert_eq!(dialled, expected);
    admission.closed(2);
    admission.closed(2);
    dialled = (7..=8).map(|id| connect(&mut admission, 0, id)).collect();
    assert_eq!(
        dialled,
        [Verdict::Dial(node('C')), Verdict::Dial(node('B'))]
    );
    // C is gone: its connections (5 and 7) move to one that is left.
    let moved: Vec<u32> = admission
        .update(Timestamp(1), replicas('A', "BD"))
        .iter()
        .map(|action| match action {
            Action::Move(id, Some(to)) if *to == node('D') => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(moved, [5, 7]);
    // D lost its link for a moment: its readers stay, new ones go elsewhere.
    let route = Route {
        readable: vec![node('B'), node('D')],
        ..replicas('A', "B")
    };
    let stays = admission.update(Timestamp(1), route);
    assert!(
        stays
            .iter()
            .all(|action| matches!(action, Action::Move(5 | 7, _))),
        "{stays:?}"
    );
    assert_eq!(connect(&mut admission, 1, 9), Verdict::Dial(node('B')));
    let all = admission.update(Timestamp(2), to('A'));
    assert_eq!(all.len(), 8);
    assert!(all.contains(&Action::Move(1, Some(node('A')))));
}

#[derive(Debug, Clone)]
enum Step {
    Connect(u32),
    Data(u32),
    Reply(u32),
    Close(u32),
    Connected(u32),
    Route(Route),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0_u32..12;
    let route = (
        prop::option::of(prop::sample::select(vec!['A', 'B', 'C'])),
        prop::option::of(0_u64..40_000),
        prop::option::of(prop::sample::select(vec![Hold::Down, Hold::NotMaster])),
        prop::collection::vec(prop::sample::select(vec!['D', 'E']), 0..3),
    )
        .prop_map(|(master, fence, hold, replicas)| Route {
            master: master.map(node),
            fenced_until: fence.map(Timestamp),
            hold,
            readable: replicas.iter().copied().map(node).collect(),
            replicas: replicas.into_iter().map(node).collect(),
            ..Route::default()
        });
    prop_oneof![
        id.clone().prop_map(Step::Connect),
        id.clone().prop_map(Step::Data),
        id.clone().prop_map(Step::Reply),
        id.clone().prop_map(Step::Close),
        id.prop_map(Step::Connected),
        route.prop_map(Step::Route),
        (0_u64..6000).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Any order of callbacks: the books count what is there, nobody waits past the bound, and all memory comes back.
    #[test]
    fn the_books_are_exact(steps in prop::collection::vec(step(), 0..120), replica in any::<bool>()) {
        let role = if replica { r#""role": "replica", "max_held_connections": 5"# } else { r#""max_held_connections": 5"# };
        let mut admission = Admission::new(router(role));
        let mut now = 0;
        // Stream, and since when it waits.
        let mut open = std::collections::BTreeMap::<u32, Option<u64>>::new();
        for step in steps {
            let mut actions = Vec::new();
            match step {
                // Envoy never gives out an id that is in use.
                Step::Connect(id) if open.contains_key(&id) => {}
                Step::Connect(id) => {
                    let verdict = connect(&mut admission, now, id);
                    open.insert(id, (verdict == Verdict::Hold).then_some(now));
                }
                Step::Data(id) => {
                    let kept = admission.client_data(id);
                    prop_assert!(kept || open.get(&id).copied().flatten().is_none());
                }
                Step::Reply(id) if open.get(&id).copied().flatten().is_none() => { admission.upstream_data(id); }
                Step::Close(id) => { admission.closed(id); open.remove(&id); }
                Step::Connected(id) => admission.was_connected(id),
                Step::Reply(_) => {}
                Step::Route(route) => actions = admission.update(Timestamp(now), route),
                Step::Wait(ms) => now += ms,
            }
            // A wake-up whose time has come is there at once; one may lead to the next.
            for _ in 0..3 {
                actions.extend(admission.expire(Timestamp(now)));
            }
            for action in actions {
                match action {
                    Action::Dial(id, _) => prop_assert!(open.insert(id, None).flatten().is_some()),
                    Action::Refuse(id, _) => prop_assert!(open.insert(id, None).flatten().is_some()),
                    Action::Move(id, Some(to)) if id % 2 == 0 => {
                        admission.was_moved(Timestamp(now), id, to);
                    }
                    Action::Move(id, _) => { admission.closed(id); open.remove(&id); }
                    Action::RefuseUnlessConnected(id, why) => { admission.refuse(id, why); }
                    Action::Resume(id) => prop_assert!(open.contains_key(&id)),
                }
            }
            let waiting = open.values().flatten().count();
            prop_assert_eq!(usize::try_from(admission.held()).unwrap(), waiting);
            prop_assert!(waiting <= 5);
            prop_assert!(open.values().flatten().all(|since| now - since < 10_000), "someone waits past the bound");
            prop_assert_eq!(admission.connections(), open.len());
        }
        for id in 0..12 {
            admission.closed(id);
            admission.closed(id);
        }
        prop_assert_eq!((admission.held(), admission.connections()), (0, 0));
        let empty = format!("{admission:?}");
        prop_assert!(empty.contains("streams: {}") && empty.contains("load: {}"), "{}", empty);
    }
}
