//! What host names resolve to: a name is asked for when somebody wants to dial it, not before and not for ever.
//!
//! An answer serves for its TTL, but for five seconds at most: what comes back under its name after a restart has another
//! address. An old answer serves on while a new one is under way, and while there is none to be had: a DNS server that is
//! down must not end connections to a Redis that is not.

use crate::{
    address::{self, Address},
    time::Timestamp,
};
use core::{net::IpAddr, time::Duration};
use std::collections::BTreeMap;

/// Most names that are kept.
pub const MAX_HOSTS: usize = 256;
/// Most addresses of one answer that are looked at.
pub const MAX_ANSWERS: usize = 32;
/// How long an answer serves, whatever its TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// How soon a name is asked for again that did not resolve.
const RETRY: Duration = Duration::from_millis(500);
/// A question that has no answer by then was lost.
const LOST: Duration = Duration::from_secs(60);

/// One address that a name resolved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Where.
    pub ip: IpAddr,
    /// For how long, in seconds.
    pub ttl: u32,
}

/// The names that somebody wanted to dial.
#[derive(Debug, Default)]
pub struct Hosts {
    names: BTreeMap<String, Name>,
}

#[derive(Debug, Default)]
struct Name {
    /// The one of its addresses that is dialled.
    ip: Option<IpAddr>,
    wanted_at: Timestamp,
    ask_again_at: Timestamp,
    asked_at: Option<Timestamp>,
    failed: bool,
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Dial this address from now on.
    Now(IpAddr),
    /// It does not resolve; told once.
    Unresolved,
}

impl Hosts {
    /// Where to dial a node now; `None` while its name has never resolved.
    pub fn lookup(&mut self, now: Timestamp, node: &Address) -> Option<Address> {
        if !node.is_name() {
            return Some(node.clone());
        }
        let host = node.host();
        if !self.names.contains_key(&host) {
            self.make_room();
        }
        let name = self.names.entry(host).or_default();
        name.wanted_at = now;
        Some(node.at(name.ip?))
    }

    /// Whether the name of this node is to be asked for; it then counts as asked.
    pub fn must_ask(&mut self, now: Timestamp, node: &Address) -> bool {
        let Some(name) = self.names.get_mut(&node.host()).filter(|_| node.is_name()) else {
            return false;
        };
        let under_way = name.asked_at.is_some_and(|at| now.since(at) < LOST);
        if under_way || now < name.ask_again_at {
            return false;
        }
        name.asked_at = Some(now);
        true
    }

    /// When to look at this node's name again; `None` while a question is under way.
    #[must_use]
    pub fn next_due(&self, node: &Address) -> Option<Timestamp> {
        let name = self.names.get(&node.host())?;
        match name.asked_at {
            Some(at) => Some(at.after(LOST)),
            None => Some(name.ask_again_at),
        }
    }

    /// The answer to a question; an empty one is a failure.
    pub fn answer(&mut self, now: Timestamp, host: &str, answers: &[Resolved]) -> Option<News> {
        let name = self.names.get_mut(host)?;
        name.asked_at = None;
        // The same rules for what a name resolves to as for an address that is announced itself.
        let usable = || {
            let answers = answers.iter().take(MAX_ANSWERS);
            answers.filter_map(|answer| {
                let ip = address::dialable(answer.ip).ok()?;
                Some(Resolved { ip, ..*answer })
            })
        };
        let Some(first) = usable().next() else {
            name.ask_again_at = now.after(RETRY);
            let told = core::mem::replace(&mut name.failed, true);
            return (!told).then_some(News::Unresolved);
        };
        // The least, because it is the one to look for when that address goes.
        let ttl = usable().map(|answer| answer.ttl).min().unwrap_or(0);
        let serves = Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST);
        name.ask_again_at = now.after(serves);
        name.failed = false;
        // A name of several addresses keeps the one that is in use.
        if name
            .ip
            .is_some_and(|ip| usable().any(|answer| answer.ip == ip))
        {
            return None;
        }
        name.ip = Some(first.ip);
        Some(News::Now(first.ip))
    }

    /// Forgets the name that nobody has wanted for the longest time, if there are as many as may be.
    fn make_room(&mut self) {
        if self.names.len() < MAX_HOSTS {
            return;
        }
        let oldest = self.names.iter().min_by_key(|(_, name)| name.wanted_at);
        if let Some(host) = oldest.map(|(host, _)| host.clone()) {
            self.names.remove(&host);
        }
    }
}
