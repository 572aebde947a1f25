//! A Sentinel's or a Redis node's replies, typed. Unknown fields are skipped: newer servers add some.

use crate::{
    address::{Address, AddressError},
    resp::Frame,
};

/// The text of a string frame of any kind.
#[must_use]
pub fn text(frame: &Frame) -> Option<&str> {
    match frame {
        Frame::BulkString(data) | Frame::SimpleString(data) => core::str::from_utf8(data).ok(),
        _ => None,
    }
}

/// The message of an error frame, such as `NOAUTH Authentication required.`
#[must_use]
pub fn error(frame: &Frame) -> Option<String> {
    match frame {
        Frame::Error(message) => Some(message.clone()),
        _ => None,
    }
}

/// The elements of an array.
#[must_use]
pub fn elements(frame: &Frame) -> Option<&[Frame]> {
    match frame {
        Frame::Array(data) => Some(data),
        _ => None,
    }
}

/// One `SENTINEL GET-MASTER-ADDR-BY-NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterAddress {
    /// What this Sentinel takes for the master.
    Known(Address),
    /// A null reply: this Sentinel does not monitor that name.
    UnknownName,
    /// An address that must not be dialled, as it came.
    Unusable(String, AddressError),
    /// An error reply or a shape that is not an address.
    Refused(String),
}

/// Reads the reply to `SENTINEL GET-MASTER-ADDR-BY-NAME <name>`.
#[must_use]
pub fn master_address(frame: &Frame) -> MasterAddress {
    if matches!(frame, Frame::Null) {
        return MasterAddress::UnknownName;
    }
    if let Some(message) = error(frame) {
        return MasterAddress::Refused(clip(&message));
    }
    match elements(frame) {
        Some([host, port]) => match (text(host), text(port)) {
            (Some(host), Some(port)) => match Address::new(host, port) {
                Ok(address) => MasterAddress::Known(address),
                Err(error) => MasterAddress::Unusable(clip(&format!("{host}:{port}")), error),
            },
            _ => MasterAddress::Refused("an address of an unknown shape".to_owned()),
        },
        _ => MasterAddress::Refused("an address of an unknown shape".to_owned()),
    }
}

/// What [`crate::topology`] needs of `SENTINEL MASTER <name>` (fields as `addReplySentinelRedisInstance` in
/// `sentinel.c` writes them).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterState {
    /// `config-epoch`: the version of this Sentinel's opinion.
    pub config_epoch: u64,
    /// `s_down` or `o_down` among `flags`.
    pub down: bool,
    /// A promotion is about to happen or under way: `failover-state` is `send_slaveof_noone` or `wait_promotion`.
    pub promoting: bool,
    /// A failover of any state is under way (`failover_in_progress` among `flags`).
    pub failover: bool,
    /// `num-other-sentinels` + 1.
    pub sentinels: u32,
}

/// Reads the reply to `SENTINEL MASTER <name>`; `None` for an error or another shape.
#[must_use]
pub fn master_state(frame: &Frame) -> Option<MasterState> {
    let mut state = MasterState {
        sentinels: 1,
        ..MasterState::default()
    };
    let mut seen_epoch = false;
    for_each_field(frame, |name, value| match name {
        "config-epoch" => {
            if let Ok(epoch) = value.parse() {
                state.config_epoch = epoch;
                seen_epoch = true;
            }
        }
        "flags" => {
            state.down = flags(value).any(|flag| flag == "s_down" || flag == "o_down");
            state.failover = flags(value).any(|flag| flag == "failover_in_progress");
        }
        "failover-state" => {
            state.promoting = matches!(value, "send_slaveof_noone" | "wait_promotion")
        }
        "num-other-sentinels" => {
            state.sentinels = value.parse::<u32>().unwrap_or(0).saturating_add(1)
        }
        _ => {}
    })?;
    seen_epoch.then_some(state)
}

/// Another Sentinel, as `SENTINEL SENTINELS <name>` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its announced address.
    pub address: Address,
    /// Its run id, empty while the asked Sentinel has not heard from it.
    pub run_id: String,
}

/// Reads the reply to `SENTINEL SENTINELS <name>`. An entry that cannot be used is skipped, never the whole list.
#[must_use]
pub fn peers(frame: &Frame) -> Vec<Peer> {
    let mut peers = Vec::new();
    for entry in elements(frame).unwrap_or_default() {
        let (mut host, mut port, mut run_id) = (String::new(), String::new(), String::new());
        let read = for_each_field(entry, |name, value| match name {
            "ip" => value.clone_into(&mut host),
            "port" => value.clone_into(&mut port),
            "runid" => value.clone_into(&mut run_id),
            _ => {}
        });
        if let (Some(()), Ok(address)) = (read, Address::new(&host, &port)) {
            peers.push(Peer {
                address,
                run_id: clip(&run_id),
            });
        }
    }
    peers
}

/// A replica, as `SENTINEL REPLICAS <name>` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its announced address.
    pub address: Address,
    /// No `s_down`, `o_down` or `disconnected` flag, and not being promoted.
    pub up: bool,
    /// Its link to the master: `master-link-status` is `ok`.
    pub linked: bool,
    /// `master-link-down-time`, in milliseconds.
    pub link_down_ms: u64,
    /// `slave-repl-offset`, in bytes of the replication stream.
    pub offset: u64,
}

/// Reads the reply to `SENTINEL REPLICAS <name>`. An entry that cannot be used is skipped, never the whole list.
#[must_use]
pub fn replicas(frame: &Frame) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for entry in elements(frame).unwrap_or_default() {
        let (mut host, mut port, mut offset) = (String::new(), String::new(), 0);
        let (mut up, mut linked, mut link_down_ms) = (true, false, 0);
        let read = for_each_field(entry, |name, value| match name {
            "ip" => value.clone_into(&mut host),
            "port" => value.clone_into(&mut port),
            "flags" => {
                up = !flags(value)
                    .any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected" | "promoted"))
            }
            "master-link-status" => linked = value == "ok",
            "master-link-down-time" => link_down_ms = value.parse().unwrap_or(0),
            "slave-repl-offset" => offset = value.parse().unwrap_or(0),
            _ => {}
        });
        if let (Some(()), Ok(address)) = (read, Address::new(&host, &port)) {
            replicas.push(Replica {
                address,
                up,
                linked,
                link_down_ms,
                offset,
            });
        }
    }
    replicas
}

/// A Redis node's own word about itself (the `ROLE` command).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It accepts writes.
    Master,
    /// It is, or is becoming, a replica.
    Replica,
}

/// Reads the reply to `ROLE`; `None` for an error or another shape.
#[must_use]
pub fn role(frame: &Frame) -> Option<Role> {
    match elements(frame)?.first().and_then(text)? {
        "master" => Some(Role::Master),
        "slave" => Some(Role::Replica),
        _ => None,
    }
}

fn flags(value: &str) -> impl Iterator<Item = &str> {
    value.split(',')
}

/// Walks name-value pairs: RESP2's flat array, which [`crate::resp`] makes of a RESP3 map, too.
fn for_each_field(frame: &Frame, mut field: impl FnMut(&str, &str)) -> Option<()> {
    for pair in elements(frame)?.chunks_exact(2) {
        if let [name, value] = pair
            && let (Some(name), Some(value)) = (text(name), text(value))
        {
            field(name, value);
        }
    }
    Some(())
}

/// Text from a socket, made fit for a log line: printable and short.
#[must_use]
pub fn clip(text: &str) -> String {
    const LONGEST: usize = 128;
    text.chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
