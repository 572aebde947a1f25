//! What happens to each connection of an application: hold, dial, fence, close, refuse.
//!
//! ```text
//!            master known            upstream answers        another master
//!  Held ───────────────────► Dialled ───────────────► Live ───────────────► (closed)
//!   │ hold_timeout, too many    │ another master: dials it instead
//!   ▼                           ▼ not connected within hold_timeout
//!  Refused: -MASTERDOWN, closed
//! ```
//!
//! [`Admission`] is one listener's connections on one worker. It changes only its own books and returns what is to be
//! done as [`Action`]s; the caller does them after the books are closed, because Envoy calls back while it does them.

mod refusal;

pub use refusal::{Refusal, WORDS as REFUSALS};

use crate::{
    address::Address,
    config::{ListenerRole, RouterConfig},
    time::Timestamp,
    topology::Route,
};
use core::time::Duration;
use std::collections::BTreeMap;

/// Envoy's id of a connection's filter context.
pub type StreamId = u32;

/// What is to be done with one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Let `tcp_proxy` dial this address.
    Dial(StreamId, Address),
    /// It belongs to another node than the one to use: if its upstream is connected, close it; if it still dials, let
    /// its next attempt go to this address.
    Move(StreamId, Option<Address>),
    /// Let bytes that were kept back go on.
    Resume(StreamId),
    /// Answer `-MASTERDOWN` and close.
    Refuse(StreamId, Refusal),
    /// It has been dialling for too long: refuse it if it is still not connected.
    RefuseUnlessConnected(StreamId, Refusal),
}

/// What a new connection may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Dial this address now.
    Dial(Address),
    /// Wait.
    Hold,
    /// Be told why not.
    Refuse(Refusal),
}

/// A connection, with what only its state knows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stream {
    Held {
        since: Timestamp,
        /// The proxy's own address that the client connected to.
        listener: Option<Address>,
    },
    Dialled {
        to: Address,
        since: Timestamp,
        paused: bool,
    },
    Live {
        to: Address,
        paused: bool,
    },
    Refused {
        told: bool,
        why: Refusal,
    },
}

/// See the [module's text](self).
#[derive(Debug)]
pub struct Admission {
    config: RouterConfig,
    route: Route,
    streams: BTreeMap<StreamId, Stream>,
    held: u32,
    /// How long those were held who no longer are, until somebody asks.
    waits: Vec<Duration>,
    /// Connections per address, to give a replica to the one that has the fewest.
    load: BTreeMap<Address, u32>,
}

impl Admission {
    /// No connections, no master known.
    #[must_use]
    pub fn new(config: RouterConfig) -> Self {
        Self {
            config,
            route: Route::default(),
            streams: BTreeMap::new(),
            held: 0,
            waits: Vec::new(),
            load: BTreeMap::new(),
        }
    }

    /// How it was configured.
    #[must_use]
    pub fn config(&self) -> &RouterConfig {
        &self.config
    }

    /// Connections that wait for a master.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Connections whose clients' bytes the fence keeps back; `None` where there is no fence.
    #[must_use]
    pub fn fenced(&self) -> Option<u32> {
        self.route.fenced_until?;
        let fenced = self.streams.values().filter(|stream| {
            matches!(
                stream,
                Stream::Dialled { paused: true, .. } | Stream::Live { paused: true, .. }
            )
        });
        Some(u32::try_from(fenced.count()).unwrap_or(u32::MAX))
    }

    /// How long connections were held that have been led on or refused since the last time that this was asked.
    pub fn take_waits(&mut self) -> Vec<Duration> {
        core::mem::take(&mut self.waits)
    }

    /// All connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.streams.len()
    }

    /// When [`Admission::expire`] has something to do next.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let bound = self.config.hold_timeout.0;
        let waiting = self.streams.values().filter_map(|stream| match stream {
            Stream::Held { since, .. } | Stream::Dialled { since, .. } => Some(since.after(bound)),
            Stream::Live { .. } | Stream::Refused { .. } => None,
        });
        waiting.chain(self.route.fenced_until).min()
    }

    /// A client has connected to `listener`, this proxy's own address.
    pub fn connect(&mut self, now: Timestamp, id: StreamId, listener: Option<&Address>) -> Verdict {
        let verdict = match self.target(now, listener) {
            Ok(address) => Verdict::Dial(address),
            Err(Refusal::Loop(address)) => Verdict::Refuse(Refusal::Loop(address)),
            Err(_) if self.held >= self.config.max_held_connections => {
                Verdict::Refuse(Refusal::TooManyHeld(self.config.max_held_connections))
            }
            Err(_) => Verdict::Hold,
        };
        let stream = match &verdict {
            Verdict::Dial(to) => Stream::Dialled {
                to: to.clone(),
                since: now,
                paused: false,
            },
            Verdict::Hold => Stream::Held {
                since: now,
                listener: listener.cloned(),
            },
            Verdict::Refuse(why) => Stream::Refused {
                told: false,
                why: why.clone(),
            },
        };
        self.put(id, stream);
        verdict
    }

    /// The client has sent bytes. True: keep them back.
    ///
    /// Asks for no time, as it runs for every chunk of every client: a fence stands until [`Admission::expire`] lifts it.
    /// Whoever is at a node that is no longer the one to use is about to be moved, and says nothing more to it.
    pub fn client_data(&mut self, id: StreamId) -> bool {
        let fenced = self.config.role == ListenerRole::Master && self.route.fenced_until.is_some();
        match self.streams.get_mut(&id) {
            Some(Stream::Held { .. }) => true,
            Some(Stream::Dialled { to, paused, .. } | Stream::Live { to, paused }) => {
                *paused = fenced || self.route.leads_away(&self.config, to);
                *paused
            }
            // The answer is on its way whatever the client has to say; bytes for a listener that has closed already
            // would break the connection before `tcp_proxy` has read the answer.
            Some(Stream::Refused { .. }) => true,
            None => false,
        }
    }

    /// The upstream has sent bytes. `Some`: replace them by this text.
    pub fn upstream_data(&mut self, id: StreamId) -> Option<String> {
        match self.streams.get_mut(&id)? {
            Stream::Refused { told, why } => {
                // The refusing listener's own text comes once, in one piece.
                let text = if *told {
                    String::new()
                } else {
                    format!("-MASTERDOWN {}\r\n", why.explain(&self.config))
                };
                *told = true;
                Some(text)
            }
            stream => {
                if let Stream::Dialled { to, paused, .. } = stream {
                    *stream = Stream::Live {
                        to: to.clone(),
                        paused: *paused,
                    };
                }
                None
            }
        }
    }

    /// The connection is gone. Any number of times. `Some`: it was still dialling this address.
    pub fn closed(&mut self, id: StreamId) -> Option<Address> {
        match self.take(id) {
            Some(Stream::Dialled { to, .. }) => Some(to),
            _ => None,
        }
    }

    /// The topology has changed.
    pub fn update(&mut self, now: Timestamp, route: Route) -> Vec<Action> {
        if route == self.route {
            return Vec::new();
        }
        self.route = route;
        let mut actions = Vec::new();
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            actions.extend(self.settle(now, id));
        }
        actions
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Action> {
        let fence_over = self.route.fenced_until.is_some_and(|until| now >= until);
        if fence_over {
            self.route.fenced_until = None;
        }
        let bound = self.config.hold_timeout.0;
        let mut actions = Vec::new();
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            match self.streams.get(&id) {
                Some(Stream::Held { since, .. }) if now.since(*since) >= bound && !fence_over => {
                    let waited = now.since(*since);
                    let why = self.target(now, None).err().unwrap_or(Refusal::Unknown);
                    self.waits.push(waited);
                    actions.push(self.refuse(id, why));
                }
                Some(Stream::Dialled { to, since, .. }) if now.since(*since) >= bound => {
                    actions.push(Action::RefuseUnlessConnected(
                        id,
                        Refusal::Unreachable(to.clone()),
                    ));
                }
                _ if fence_over => actions.extend(self.settle(now, id)),
                _ => {}
            }
        }
        actions
    }

    /// The answer to [`Action::Move`] and [`Action::RefuseUnlessConnected`]: its upstream was connected.
    pub fn was_connected(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Stream::Dialled { to, paused, .. } = stream
        {
            *stream = Stream::Live {
                to: to.clone(),
                paused: *paused,
            };
        }
    }

    /// The answer to [`Action::Move`]: it still dials, and does so to `to` from now on. True: let the bytes that the
    /// fence kept back go on.
    pub fn was_moved(&mut self, now: Timestamp, id: StreamId, to: Address) -> bool {
        let Some(Stream::Dialled { paused, .. }) = self.streams.get(&id) else {
            return false;
        };
        let paused = *paused;
        self.take(id);
        let stream = Stream::Dialled {
            to,
            since: now,
            paused: false,
        };
        self.put(id, stream);
        paused
    }

    /// The answer to [`Action::RefuseUnlessConnected`]: it was not connected and is being refused.
    pub fn refuse(&mut self, id: StreamId, why: Refusal) -> Action {
        self.take(id);
        self.put(
            id,
            Stream::Refused {
                told: false,
                why: why.clone(),
            },
        );
        Action::Refuse(id, why)
    }

    /// Brings one connection in line with the route.
    fn settle(&mut self, now: Timestamp, id: StreamId) -> Option<Action> {
        let listener = match self.streams.get(&id)? {
            Stream::Held { listener, .. } => listener.clone(),
            _ => None,
        };
        let target = self.target(now, listener.as_ref());
        let fenced = self.is_fenced(now);
        match self.streams.get_mut(&id)? {
            Stream::Held { since, .. } => {
                let waited = now.since(*since);
                let to = match target {
                    Ok(to) => to,
                    Err(why @ Refusal::Loop(_)) => return Some(self.refuse(id, why)),
                    Err(_) => return None,
                };
                self.waits.push(waited);
                self.take(id);
                self.put(
                    id,
                    Stream::Dialled {
                        to: to.clone(),
                        since: now,
                        paused: false,
                    },
                );
                Some(Action::Dial(id, to))
            }
            Stream::Dialled { to, .. } | Stream::Live { to, .. }
                if !self.route.serves(&self.config, to) =>
            {
                Some(Action::Move(id, target.ok()))
            }
            Stream::Dialled { paused, .. } | Stream::Live { paused, .. } if *paused && !fenced => {
                *paused = false;
                Some(Action::Resume(id))
            }
            _ => None,
        }
    }

    /// Where a new connection to this proxy's address `listener` goes, or why it goes nowhere.
    fn target(&self, now: Timestamp, listener: Option<&Address>) -> Result<Address, Refusal> {
        let is_own = |node: &Address| {
            self.config.own_addresses.contains(node) || listener.is_some_and(|own| own == node)
        };
        if self.config.role == ListenerRole::Replica {
            let load = |replica: &&Address| self.load.get(*replica).copied().unwrap_or(0);
            let replicas = self.route.replicas.iter();
            if let Some(replica) = replicas.filter(|replica| !is_own(replica)).min_by_key(load) {
                return Ok(replica.clone());
            }
            if !self.config.fallback_to_master {
                return Err(Refusal::NoReplica);
            }
        }
        let Some(master) = self.route.master.clone() else {
            return Err(match &self.route.unresolved {
                Some(name) => Refusal::Unresolved(name.clone()),
                None if self.route.unknown_to_all => Refusal::UnknownToAll,
                None => Refusal::Unknown,
            });
        };
        if is_own(&master) {
            return Err(Refusal::Loop(master));
        }
        if self.is_fenced(now) {
            return Err(Refusal::Fenced(master));
        }
        match self.route.hold {
            Some(hold) => Err(Refusal::Held(master, hold)),
            None => Ok(master),
        }
    }

    fn is_fenced(&self, now: Timestamp) -> bool {
        self.route.fenced_until.is_some_and(|until| now < until)
    }

    fn put(&mut self, id: StreamId, stream: Stream) {
        match &stream {
            Stream::Held { .. } => self.held = self.held.saturating_add(1),
            Stream::Dialled { to, .. } | Stream::Live { to, .. } => {
                let load = self.load.entry(to.clone()).or_default();
                *load = load.saturating_add(1);
            }
            Stream::Refused { .. } => {}
        }
        self.streams.insert(id, stream);
    }

    fn take(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        match &stream {
            Stream::Held { .. } => self.held = self.held.saturating_sub(1),
            Stream::Dialled { to, .. } | Stream::Live { to, .. } => {
                if let Some(load) = self.load.get_mut(to) {
                    *load = load.saturating_sub(1);
                    if *load == 0 {
                        self.load.remove(to);
                    }
                }
            }
            Stream::Refused { .. } => {}
        }
        Some(stream)
    }
}

impl Route {
    /// Whether another node than `address` is the one to use.
    fn leads_away(&self, listener: &RouterConfig, address: &Address) -> bool {
        self.master.is_some() && !self.serves(listener, address)
    }

    /// Whether a connection to `address` is where this listener leads to.
    #[must_use]
    pub fn serves(&self, listener: &RouterConfig, address: &Address) -> bool {
        let is_master = self.master.as_ref() == Some(address);
        match listener.role {
            ListenerRole::Master => is_master,
            ListenerRole::Replica => {
                let falls_back = listener.fallback_to_master && self.replicas.is_empty();
                self.readable.contains(address) || (falls_back && is_master)
            }
        }
    }
}
