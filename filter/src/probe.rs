//! Root ids `role_probe` and `early_switch`: ask a node for its own role. The first asks the master, the second the
//! replica that is being promoted, if there is one.

use crate::{
    dns, filter_state::Destination, heartbeat, heartbeat::Pulse, host, metrics, secret, store, vm,
};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types;
use sentinel_core::{
    address::Address,
    config::{EarlySwitchConfig, MasterName, Period, ProbeConfig},
    conversation::Credentials,
    probe::{Finding, Probe, ProbeError},
    reply::Role,
    time::Timestamp,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// The root context's state.
pub struct Prober {
    id: u32,
    master_name: MasterName,
    subject: Subject,
    interval: Duration,
    reply_timeout: Duration,
    destination: Destination,
    credentials: Option<Credentials>,
    /// Whom to ask now.
    target: RefCell<Option<Address>>,
    generation: Cell<Option<u64>>,
    probes: RefCell<BTreeMap<u32, Asked>>,
    /// The node of which was told that its role is not known.
    unknown_told: RefCell<Option<Address>>,
}

struct Asked {
    probe: Probe,
    pulse: Pulse,
    /// `None` while there is nobody to ask.
    node: Option<Address>,
    /// Being closed, which may take until its last bytes are out.
    ended: bool,
}

/// Whom to ask.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Master,
    Candidate,
}

impl Prober {
    /// Root id `role_probe`.
    ///
    /// # Errors
    /// Credentials that are not where the configuration says.
    pub fn role_probe(id: u32, config: ProbeConfig) -> Result<Self, String> {
        Self::new(id, Subject::Master, config)
    }

    /// Root id `early_switch`; `None` where it is not enabled.
    ///
    /// # Errors
    /// As [`Prober::role_probe`].
    pub fn early_switch(id: u32, config: EarlySwitchConfig) -> Result<Option<Self>, String> {
        if !config.enabled {
            return Ok(None);
        }
        let config = ProbeConfig {
            master_name: config.master_name,
            // The pace is the health checker's: it hands over the next heartbeat as soon as one was answered.
            interval: Period(Duration::ZERO),
            reply_timeout: config.reply_timeout,
            cluster_template: config.cluster_template,
            by_name_cluster: config.by_name_cluster,
            by_address_cluster: config.by_address_cluster,
            credentials: config.credentials,
        };
        Self::new(id, Subject::Candidate, config).map(Some)
    }

    fn new(id: u32, subject: Subject, config: ProbeConfig) -> Result<Self, String> {
        Ok(Self {
            id,
            subject,
            interval: config.interval.0,
            reply_timeout: config.reply_timeout.0,
            credentials: secret::credentials(config.credentials.as_ref())?,
            destination: Destination {
                template: config.cluster_template,
                by_ip: config.by_address_cluster,
                by_name: config.by_name_cluster,
            },
            master_name: config.master_name,
            target: RefCell::default(),
            generation: Cell::new(None),
            probes: RefCell::default(),
            unknown_told: RefCell::default(),
        })
    }

    fn name(&self) -> &str {
        self.master_name.as_str()
    }

    fn attend_one(&self, now: Timestamp, id: u32) {
        let target = self.target.borrow().clone();
        let node = match self.probes.borrow().get(&id) {
            Some(asked) if !asked.ended => asked.node.clone(),
            _ => return,
        };
        match (node, target) {
            (None, Some(target)) => {
                if host::act_as(id).is_ok() && self.connect(now, id, &target) {
                    let _ = host::resume();
                }
            }
            // The health checker connects again, and then to whom it should.
            (Some(node), target) if Some(&node) != target.as_ref() => self.end(id),
            (Some(node), _) => {
                let commands = {
                    let mut probes = self.probes.borrow_mut();
                    let Some(asked) = probes.get_mut(&id) else {
                        return;
                    };
                    let late = asked.pulse.due().is_some_and(|due| due <= now);
                    if late && host::act_as(id).is_ok() && asked.pulse.is_missing(now) {
                        drop(probes);
                        self.end(id);
                        return;
                    }
                    asked.probe.check(now).map(|()| asked.probe.speak(now))
                };
                match commands {
                    Ok(Some(commands)) => heartbeat::speak(id, &commands),
                    Ok(None) => {}
                    Err(error) => {
                        self.count("silent");
                        self.tell_unknown(&node, &error);
                        self.end(id);
                    }
                }
            }
            (None, None) => {}
        }
    }

    /// Makes room for a new connection.
    fn make_room(&self) {
        let replaced = {
            let probes = self.probes.borrow();
            let open = probes.iter().filter(|(_, asked)| !asked.ended);
            let open: Vec<_> = open.map(|(id, asked)| (*id, asked.pulse)).collect();
            heartbeat::to_replace(&open)
        };
        if let Some(id) = replaced {
            self.end(id);
        }
    }

    /// Closes a connection, once. The health checker connects again.
    fn end(&self, id: u32) {
        let mut probes = self.probes.borrow_mut();
        if let Some(asked) = probes.get_mut(&id).filter(|asked| !asked.ended) {
            asked.ended = true;
            vm::close_soon(id);
        }
    }

    fn connect(&self, now: Timestamp, id: u32, target: &Address) -> bool {
        let Some(address) = self.destination.resolve(now, self.id, target) else {
            return false;
        };
        let routed = self.destination.route_to(&address).is_ok();
        if let Some(asked) = self.probes.borrow_mut().get_mut(&id).filter(|_| routed) {
            asked.node = Some(target.clone());
        }
        routed
    }

    /// Takes in a node's bytes; true when the heartbeat is to be answered.
    fn receive(&self, now: Timestamp, id: u32, bytes: &[u8]) -> bool {
        let (finding, node) = {
            let mut probes = self.probes.borrow_mut();
            let Some(asked) = probes.get_mut(&id) else {
                return false;
            };
            let Some(node) = asked.node.clone() else {
                return false;
            };
            (asked.probe.receive(now, bytes), node)
        };
        match finding {
            Ok(Some(Finding::Role(role))) => {
                self.count(match role {
                    Role::Master => "master",
                    Role::Replica => "replica",
                });
                self.tell_known(&node);
                let early = self.subject == Subject::Candidate;
                store::update_topology(now, self.name(), |topology| {
                    topology.role(&node, role, early)
                });
                true
            }
            Ok(Some(Finding::NotAllowed(message))) => {
                self.count("refused");
                store::update_topology(now, self.name(), |topology| {
                    topology.unprobed(&node, &message)
                });
                *self.target.borrow_mut() = None;
                self.end(id);
                false
            }
            Ok(None) => false,
            Err(error) => {
                self.count("failed");
                self.tell_unknown(&node, &error);
                self.end(id);
                false
            }
        }
    }

    /// Once per node: it is asked again and again.
    fn tell_unknown(&self, node: &Address, error: &ProbeError) {
        if self.unknown_told.borrow().as_ref() != Some(node) {
            log::warn!("{}: the role of {node} is unknown: {error}", self.name());
            *self.unknown_told.borrow_mut() = Some(node.clone());
        }
    }

    fn tell_known(&self, node: &Address) {
        let told = self
            .unknown_told
            .borrow_mut()
            .take_if(|told| *told == *node);
        if told.is_some() {
            log::info!("{}: the role of {node} is known again", self.name());
        }
    }

    /// Counts what came of a question.
    fn count(&self, outcome: &str) {
        let counter = metrics::by("outcome", outcome, "role_probes_total");
        metrics::count(self.name(), &counter);
    }

    fn next_due(&self) -> Option<Timestamp> {
        let (probes, target) = (self.probes.borrow(), self.target.borrow());
        let due = |asked: &Asked| match (&asked.node, target.as_ref()) {
            _ if asked.ended => None,
            (Some(_), _) => {
                let due = asked.probe.next_due();
                due.into_iter().chain(asked.pulse.due()).min()
            }
            // Its name has not resolved yet.
            (None, Some(target)) if self.destination.must_resolve(target) => dns::next_due(target),
            (None, _) => None,
        };
        probes.values().filter_map(due).min()
    }
}

impl vm::Wake for Prober {
    /// Follows the topology, asks where a question is due.
    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        if let Some(topology) = store::topology_newer_than(self.name(), self.generation.get()) {
            self.generation.set(Some(topology.generation));
            let target = match self.subject {
                Subject::Master => topology.route().master,
                Subject::Candidate => topology.candidate().cloned(),
            };
            *self.target.borrow_mut() = target.filter(|target| topology.may_probe(target));
        }
        let ids: Vec<u32> = self.probes.borrow().keys().copied().collect();
        for id in ids {
            self.attend_one(now, id);
        }
        self.next_due()
    }
}

/// One connection of the health checker.
pub struct Heartbeat {
    id: u32,
    prober: Rc<Prober>,
}

impl Heartbeat {
    /// Not yet connected.
    pub fn new(id: u32, prober: &Rc<Prober>) -> Self {
        Self {
            id,
            prober: prober.clone(),
        }
    }
}

impl Context for Heartbeat {}

impl StreamContext for Heartbeat {
    fn on_new_connection(&mut self) -> types::Action {
        let prober = &self.prober;
        let now = host::now();
        prober.make_room();
        let probe = Probe::new(
            prober.interval,
            prober.reply_timeout,
            prober.credentials.clone(),
        );
        prober.probes.borrow_mut().insert(
            self.id,
            Asked {
                probe,
                pulse: Pulse::new(now),
                node: None,
                ended: false,
            },
        );
        let target = prober.target.borrow().clone();
        match target {
            Some(target) if prober.connect(now, self.id, &target) => types::Action::Continue,
            _ => types::Action::Pause,
        }
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let now = host::now();
        let commands = match self.prober.probes.borrow_mut().get_mut(&self.id) {
            Some(asked) => {
                asked.probe.heartbeat();
                asked.pulse.feel();
                if asked.node.is_some() {
                    asked.probe.speak(now)
                } else {
                    None
                }
            }
            None => None,
        };
        let action = heartbeat::speak_or_hold(commands);
        if let Some(due) = self.prober.next_due() {
            vm::wake_at(now, self.prober.id, due, self.id);
        }
        action
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let bytes = host::bytes(host::Bytes::Upstream).unwrap_or_default();
        heartbeat::swallow(self.prober.receive(host::now(), self.id, &bytes))
    }

    fn on_downstream_close(&mut self, _peer: types::PeerType) {
        self.prober.probes.borrow_mut().remove(&self.id);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Ok(mut probes) = self.prober.probes.try_borrow_mut() {
            probes.remove(&self.id);
        }
    }
}
