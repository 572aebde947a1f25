//! Why a client is refused, in its own words and for people.

use crate::{address::Address, config::RouterConfig, topology::Hold};
use core::fmt;

/// Why a client is told `-MASTERDOWN`: the prefix on which clients retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No Sentinel has answered within the bound.
    Unknown,
    /// Sentinels answer, but none has named a usable master.
    UnknownToAll,
    /// The master is flagged down, or says that it is a replica.
    Held(Address, Hold),
    /// A promotion was not confirmed within the bound.
    Fenced(Address),
    /// The node does not accept connections.
    Unreachable(Address),
    /// The Sentinels name this very proxy as the master.
    Loop(Address),
    /// The master is announced by a host name that does not resolve.
    Unresolved(Address),
    /// This listener leads to replicas alone, and none may serve reads.
    NoReplica,
    /// More connections wait than may.
    TooManyHeld(u32),
}

impl Refusal {
    /// In a sentence, for the client and the log.
    #[must_use]
    pub fn explain(&self, config: &RouterConfig) -> String {
        Explained(config, self).to_string()
    }
}

struct Explained<'a>(&'a RouterConfig, &'a Refusal);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(config, why) = self;
        let (name, waited) = (&config.master_name, config.hold_timeout.0);
        match why {
            Refusal::Unknown => write!(
                f,
                "no Sentinel was reached within {waited:?} to name the master of '{name}'"
            ),
            Refusal::UnknownToAll => {
                write!(
                    f,
                    "the Sentinels answer, but none has named a usable master of '{name}' within {waited:?}"
                )
            }
            Refusal::Held(master, Hold::Down) => {
                write!(
                    f,
                    "the Sentinels see the master of '{name}', {master}, down, and named no other within {waited:?}"
                )
            }
            Refusal::Held(master, Hold::NotMaster) => {
                write!(
                    f,
                    "{master}, named as the master of '{name}', has said for {waited:?} that it is a replica"
                )
            }
            Refusal::Fenced(master) => {
                write!(
                    f,
                    "the promotion that replaces {master}, the master of '{name}', took longer than {waited:?}"
                )
            }
            Refusal::Unreachable(address) => {
                write!(
                    f,
                    "{address}, the node of '{name}' to use, has not accepted a connection within {waited:?}"
                )
            }
            Refusal::Loop(address) => write!(
                f,
                "the Sentinels name {address} for '{name}', which is this proxy itself"
            ),
            Refusal::Unresolved(address) => write!(
                f,
                "{address}, the master of '{name}', is announced by a host name that has not resolved within {waited:?}"
            ),
            Refusal::NoReplica => write!(
                f,
                "no replica of '{name}' may serve reads, and the listener has waited for one for {waited:?}"
            ),
            Refusal::TooManyHeld(limit) => write!(
                f,
                "{limit} connections wait for the master of '{name}' already"
            ),
        }
    }
}

/// All the words below.
pub const WORDS: [&str; 10] = [
    "down",
    "fenced",
    "loop",
    "no_replica",
    "no_sentinel",
    "not_master",
    "too_many_held",
    "unknown_name",
    "unreachable",
    "unresolved",
];

/// One word for each, the name of its counter.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no_sentinel",
            Self::UnknownToAll => "unknown_name",
            Self::Held(_, Hold::Down) => "down",
            Self::Held(_, Hold::NotMaster) => "not_master",
            Self::Fenced(_) => "fenced",
            Self::Unreachable(_) => "unreachable",
            Self::Loop(_) => "loop",
            Self::Unresolved(_) => "unresolved",
            Self::NoReplica => "no_replica",
            Self::TooManyHeld(_) => "too_many_held",
        })
    }
}
