//! Sentinel's Pub/Sub events (the list in the Sentinel documentation under "Pub/Sub messages", as `sentinelEvent`
//! in `sentinel.c` writes them).
//!
//! ```text
//! +switch-master          <name> <old-ip> <old-port> <new-ip> <new-port>
//! master events           master <name> <ip> <port> [...]
//! replica events          slave <id> <ip> <port> @ <name> <ip> <port> [...]
//! +tilt, -tilt            #tilt mode entered / exited
//! +sentinel               sentinel <run id> <ip> <port> @ <name> <ip> <port>
//! ```

use crate::{
    address::Address,
    reply::{Peer, clip},
};

/// The channels that a watch subscribes to, one by one: an ACL can allow these and nothing else.
pub const CHANNELS: [&str; 14] = [
    "+switch-master",
    "+promoted-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-not-elected",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+tilt",
    "-tilt",
    "+sentinel",
];

/// One event about one master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The master's name; empty for TILT, which concerns the Sentinel itself.
    pub master_name: String,
    /// The master's address as the event names it (the old one for a switch); `None` for TILT.
    pub master: Option<Address>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// `+selected-slave`, `+failover-state-send-slaveof-noone`: within about 60 ms this replica gets `REPLICAOF NO ONE`.
    Promoting(Address),
    /// `+promoted-slave`: the leader saw the replica's role change.
    Promoted(Address),
    /// `+switch-master`: this Sentinel's configuration names a new master.
    Switched(Address),
    /// `-failover-abort-*`.
    Aborted,
    /// `+sdown` or `+odown` of the master.
    Down,
    /// `-sdown` or `-odown` of the master.
    Up,
    /// `+tilt` (true) and `-tilt` (false): this Sentinel does not trust its own clock.
    Tilt(bool),
}

/// Reads one message; `None` for events about other things (`+sdown sentinel …`) and for shapes that are not Sentinel's.
#[must_use]
pub fn parse(channel: &str, payload: &str) -> Option<Event> {
    let words: Vec<&str> = payload.split(' ').take(16).collect();
    match channel {
        "+switch-master" => {
            let [name, old_host, old_port, new_host, new_port] = words[..] else {
                return None;
            };
            let new = Address::new(new_host, new_port).ok()?;
            about_master(name, old_host, old_port, EventKind::Switched(new))
        }
        "+promoted-slave" => about_replica(&words, EventKind::Promoted),
        "+selected-slave" | "+failover-state-send-slaveof-noone" => {
            about_replica(&words, EventKind::Promoting)
        }
        "+sdown" | "+odown" => master_event(&words, EventKind::Down),
        "-sdown" | "-odown" => master_event(&words, EventKind::Up),
        "+tilt" => Some(Event {
            master_name: String::new(),
            master: None,
            kind: EventKind::Tilt(true),
        }),
        "-tilt" => Some(Event {
            master_name: String::new(),
            master: None,
            kind: EventKind::Tilt(false),
        }),
        _ if channel.starts_with("-failover-abort-") => master_event(&words, EventKind::Aborted),
        _ => None,
    }
}

/// Reads `+sentinel`: a Sentinel has met another one. `None` for other channels, shapes and masters.
#[must_use]
pub fn parse_peer(channel: &str, payload: &str) -> Option<Peer> {
    let words: Vec<&str> = payload.split(' ').take(16).collect();
    match (channel, &words[..]) {
        ("+sentinel", ["sentinel", run_id, host, port, "@", ..]) => Some(Peer {
            address: Address::new(host, port).ok()?,
            run_id: clip(run_id),
        }),
        _ => None,
    }
}

fn master_event(words: &[&str], kind: EventKind) -> Option<Event> {
    match words {
        ["master", name, host, port, ..] => about_master(name, host, port, kind),
        _ => None,
    }
}

fn about_replica(words: &[&str], kind: impl FnOnce(Address) -> EventKind) -> Option<Event> {
    match words {
        [
            "slave",
            _,
            host,
            port,
            "@",
            name,
            master_host,
            master_port,
            ..,
        ] => about_master(
            name,
            master_host,
            master_port,
            kind(Address::new(host, port).ok()?),
        ),
        _ => None,
    }
}

fn about_master(name: &str, host: &str, port: &str, kind: EventKind) -> Option<Event> {
    // An empty name stands for the Sentinel itself (TILT); no master has one.
    if name.is_empty() {
        return None;
    }
    Some(Event {
        master_name: name.to_owned(),
        master: Some(Address::new(host, port).ok()?),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn what_sentinel_7_writes() {
        let replica = "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7001";
        let master = Some(address("127.0.0.1:7001"));
        for (channel, payload, kind) in [
            (
                "+selected-slave",
                replica,
                EventKind::Promoting(address("127.0.0.1:7002")),
            ),
            (
                "+failover-state-send-slaveof-noone",
                replica,
                EventKind::Promoting(address("127.0.0.1:7002")),
            ),
            (
                "+promoted-slave",
                replica,
                EventKind::Promoted(address("127.0.0.1:7002")),
            ),
            (
                "+switch-master",
                "mymaster 127.0.0.1 7001 127.0.0.1 7002",
                EventKind::Switched(address("127.0.0.1:7002")),
            ),
            (
                "+odown",
                "master mymaster 127.0.0.1 7001 #quorum 2/2",
                EventKind::Down,
            ),
            (
                "-failover-abort-no-good-slave",
                "master mymaster 127.0.0.1 7001",
                EventKind::Aborted,
            ),
        ] {
            let event = parse(channel, payload).unwrap();
            assert_eq!(
                event,
                Event {
                    master_name: "mymaster".into(),
                    master: master.clone(),
                    kind
                },
                "{channel}"
            );
        }
        assert_eq!(
            parse("+tilt", "#tilt mode entered").unwrap().kind,
            EventKind::Tilt(true)
        );
    }

    #[test]
    fn a_sentinel_that_was_met() {
        let payload = "sentinel 5d5d 127.0.0.1 26380 @ mymaster 127.0.0.1 7001";
        let peer = parse_peer("+sentinel", payload).unwrap();
        assert_eq!(
            (peer.address, peer.run_id.as_str()),
            (address("127.0.0.1:26380"), "5d5d")
        );
        assert_eq!(parse_peer("+sdown", payload), None);
        assert_eq!(parse_peer("+sentinel", replica_down()), None);
    }

    #[test]
    fn what_does_not_concern_a_master() {
        for (channel, payload) in [
            ("+sdown", replica_down()),
            (
                "+sdown",
                "sentinel 5d 127.0.0.1 26380 @ mymaster 127.0.0.1 7001",
            ),
            ("+switch-master", "mymaster 127.0.0.1 7001 0.0.0.0 7002"),
            ("+switch-master", "mymaster"),
            ("+promoted-slave", ""),
            ("__sentinel__:hello", "x"),
        ] {
            assert_eq!(parse(channel, payload), None, "{channel} {payload}");
        }
    }

    fn replica_down() -> &'static str {
        "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7001"
    }
}
