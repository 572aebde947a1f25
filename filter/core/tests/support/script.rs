//! A notation for stories about Sentinels, so that a table of them can be read.
//!
//! ```text
//! line   = time who says "=>" route [":" facts]        ; time in ms, `facts` lists all of them, in short
//! who    = "s" digits                                  ; s12: first Sentinel 1, then Sentinel 2, the same words
//! says   = node "@" epoch [down] [failover] [promoting] [of=n] [replicas=CD!E~]   ; a poll; D is ill, E's link is down
//!        / "null" / "refused" / "unusable"             ; a poll without a usable address
//!        / "stateless" node                            ; a poll whose SENTINEL MASTER was refused
//!        / channel [node [node]]                       ; an event: +promoted-slave A B
//! line   =/ time "role" node ("master" / "slave") ["early"] "=>" …   ; the node's own word
//! line   =/ time "tick" "=>" …
//! route  = ("none" / node "@" epoch) [fenced] [down] [demoted] [replicas=CD] [readable=CD]   ; if others
//! ```
//!
//! After each line the topology goes through JSON and back, as in shared data, and a route that changed must have
//! raised the generation: workers look at nothing else.

use super::{letter, node, replica, rules, says};
use sentinel_core::{
    event,
    fact::{Fact, Unfence},
    reply::{MasterAddress, Role},
    time::Timestamp,
    topology::{Answer, Hold, Rules, Topology},
};

/// Plays a story under the usual rules; returns what came of it, for a closer look.
pub fn play(story: &str) -> Topology {
    play_with(&rules(), story)
}

/// Plays a story under these rules.
pub fn play_with(rules: &Rules, story: &str) -> Topology {
    let mut topology = Topology::default();
    for line in story
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (left, right) = line.split_once("=>").unwrap();
        let (time, what) = left.trim().split_once(' ').unwrap();
        let now = Timestamp(time.parse().unwrap());
        let before = topology.clone();
        let facts = act(&mut topology, rules, now, what.trim());
        let json = serde_json::to_vec(&topology).unwrap();
        assert_eq!(
            serde_json::from_slice::<Topology>(&json).unwrap(),
            topology,
            "through JSON: {line}"
        );
        assert!(
            topology.route() == before.route() || topology.generation > before.generation,
            "the route changed and nobody was told: {line}"
        );
        let (route, told) = right
            .split_once(':')
            .map_or((right, None), |(a, b)| (a, Some(b)));
        assert_eq!(shown(&topology), route.trim(), "{line}\n{facts:#?}");
        if let Some(told) = told {
            let short: Vec<String> = facts.iter().map(brief).collect();
            assert_eq!(short.join(", "), told.trim(), "{line}");
        }
    }
    topology
}

fn act(topology: &mut Topology, rules: &Rules, now: Timestamp, what: &str) -> Vec<Fact> {
    let words: Vec<&str> = what.split_whitespace().collect();
    match words[..] {
        ["tick"] => topology.tick(now, rules),
        ["role", of, role, ref early @ ..] => {
            let role = match role {
                "master" => Role::Master,
                _ => Role::Replica,
            };
            topology.role(&one(of), role, early == ["early"])
        }
        [who, ref said @ ..] => who
            .strip_prefix('s')
            .unwrap()
            .chars()
            .flat_map(|digit| hear(topology, rules, now, digit, said))
            .collect(),
        [] => Vec::new(),
    }
}

fn hear(
    topology: &mut Topology,
    rules: &Rules,
    now: Timestamp,
    digit: char,
    said: &[&str],
) -> Vec<Fact> {
    let sentinel = format!("s{digit}");
    if said[0].starts_with(['+', '-']) {
        let event = event::parse(said[0], &payload(said)).unwrap();
        return topology.event(now, rules, &sentinel, &event);
    }
    let slot = digit.to_digit(10).unwrap() - 1;
    topology.report(now, rules, &sentinel, slot, &answer(said))
}

/// What Sentinel publishes on this channel.
fn payload(said: &[&str]) -> String {
    let master = |of: &str| format!("mymaster {} 6379", one(of).host());
    match *said {
        ["+switch-master", old, new] => {
            format!("{} {} 6379", master(old), one(new).host())
        }
        [_, old, new] => {
            let new = one(new);
            format!("slave {new} {} 6379 @ {}", new.host(), master(old))
        }
        [_, of] => format!("master {}", master(of)),
        _ => "#tilt mode".to_owned(),
    }
}

fn answer(said: &[&str]) -> Answer {
    let nobody = |address| Answer {
        address,
        state: None,
        replicas: None,
    };
    match *said {
        ["null"] => nobody(MasterAddress::UnknownName),
        ["refused"] => nobody(MasterAddress::Refused("NOPERM".into())),
        ["unusable"] => nobody(MasterAddress::Unusable(
            "0.0.0.0:6379".into(),
            sentinel_core::address::AddressError::Unspecified,
        )),
        ["stateless", of] => nobody(MasterAddress::Known(one(of))),
        [claim, ref more @ ..] => {
            let (of, epoch) = claim.split_once('@').unwrap();
            let mut answer = says(one(of), epoch.parse().unwrap(), 3);
            let state = answer.state.as_mut().unwrap();
            for word in more {
                match word.split_once('=') {
                    Some(("of", n)) => state.sentinels = n.parse().unwrap(),
                    Some(("replicas", letters)) => {
                        let letters: Vec<char> = letters.chars().collect();
                        let list = letters
                            .iter()
                            .enumerate()
                            .filter(|(_, c)| c.is_alphabetic())
                            .map(|(i, c)| {
                                let sign = letters.get(i + 1);
                                replica(node(*c), sign != Some(&'!'), sign != Some(&'~'), 0)
                            });
                        answer.replicas = Some(list.collect());
                    }
                    _ => match *word {
                        "down" => state.down = true,
                        "failover" => state.failover = true,
                        "promoting" => (state.failover, state.promoting) = (true, true),
                        other => panic!("unknown word {other}"),
                    },
                }
            }
            answer
        }
        [] => panic!("a Sentinel says nothing"),
    }
}

fn one(letter: &str) -> sentinel_core::address::Address {
    node(letter.chars().next().unwrap())
}

fn shown(topology: &Topology) -> String {
    let route = topology.route();
    let mut text = match (&route.master, topology.config_epoch()) {
        (Some(master), Some(epoch)) => format!("{}@{epoch}", letter(master)),
        _ => "none".to_owned(),
    };
    if route.fenced_until.is_some() {
        text += " fenced";
    }
    match route.hold {
        Some(Hold::Down) => text += " down",
        Some(Hold::NotMaster) => text += " demoted",
        None => {}
    }
    if !route.replicas.is_empty() {
        text += " replicas=";
        text.extend(route.replicas.iter().map(letter));
    }
    if route.readable != route.replicas {
        text += " readable=";
        text.extend(route.readable.iter().map(letter));
    }
    text
}

fn brief(fact: &Fact) -> String {
    match fact {
        Fact::Master { cause, .. } => return format!("{cause:?}"),
        Fact::Unfenced {
            why: Unfence::Aborted,
            ..
        } => "Aborted",
        Fact::Unfenced {
            why: Unfence::FailoverGone,
            ..
        } => "FailoverGone",
        Fact::Fenced { .. } => "Fenced",
        Fact::FenceExpired { .. } => "FenceExpired",
        Fact::Stale { .. } => "Stale",
        Fact::Disputed { .. } => "Disputed",
        Fact::UnknownName { .. } => "UnknownName",
        Fact::Unusable { .. } => "Unusable",
        Fact::Refused { .. } => "Refused",
        Fact::Recovered { .. } => "Recovered",
        Fact::Down { .. } => "Down",
        Fact::Up { .. } => "Up",
        Fact::NotMaster { .. } => "NotMaster",
        Fact::MasterAgain { .. } => "MasterAgain",
        Fact::Unprobed { .. } => "Unprobed",
        Fact::Unwatched { .. } => "Unwatched",
    }
    .to_owned()
}
