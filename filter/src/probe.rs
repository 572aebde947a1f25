//! Root id `role_probe`: asks the master, or with `early_switch` the replica that is being promoted, for its own role.

use crate::{filter_state, host, store, vm};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types;
use sentinel_core::{
    address::Address,
    config::ProbeConfig,
    probe::{Finding, Probe},
    time::Timestamp,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// Most heartbeat connections on one worker.
const MAX_HEARTBEATS: usize = 64;
const SLOWEST_TICK: Duration = Duration::from_secs(1);
const FASTEST_TICK: Duration = Duration::from_millis(10);

/// The root context's state.
pub struct Prober {
    id: u32,
    config: ProbeConfig,
    /// Whom to ask now.
    target: RefCell<Option<Address>>,
    generation: Cell<Option<u64>>,
    probes: RefCell<BTreeMap<u32, Asked>>,
    tick_period: Cell<Duration>,
}

struct Asked {
    probe: Probe,
    /// `None` while there is nobody to ask.
    node: Option<Address>,
}

impl Prober {
    /// Nobody to ask.
    pub fn new(id: u32, config: ProbeConfig) -> Self {
        Self {
            id,
            config,
            target: RefCell::default(),
            generation: Cell::new(None),
            probes: RefCell::default(),
            tick_period: Cell::new(Duration::ZERO),
        }
    }

    fn name(&self) -> &str {
        self.config.master_name.as_str()
    }

    /// Follows the topology, asks where a question is due. Only from a root's callback.
    pub fn tick(&self, now: Timestamp) {
        if let Some(topology) = store::topology_newer_than(self.name(), self.generation.get()) {
            self.generation.set(Some(topology.generation));
            let target = if self.config.early_switch {
                topology.candidate().cloned()
            } else {
                topology.route().master
            };
            *self.target.borrow_mut() = target.filter(|target| topology.may_probe(target));
        }
        let ids: Vec<u32> = self.probes.borrow().keys().copied().collect();
        for id in ids {
            self.attend_one(now, id);
        }
        self.pace(now);
    }

    fn attend_one(&self, now: Timestamp, id: u32) {
        let target = self.target.borrow().clone();
        let node = self
            .probes
            .borrow()
            .get(&id)
            .and_then(|asked| asked.node.clone());
        match (node, target) {
            (None, Some(target)) => {
                if host::act_as(id).is_ok() && self.connect(id, &target) {
                    let _ = host::resume();
                }
            }
            // The health checker connects again, and then to whom it should.
            (Some(node), target) if Some(&node) != target.as_ref() => vm::close_soon(id),
            (Some(_), _) => {
                let commands = {
                    let mut probes = self.probes.borrow_mut();
                    let Some(asked) = probes.get_mut(&id) else {
                        return;
                    };
                    asked.probe.check(now).map(|()| asked.probe.speak(now))
                };
                match commands {
                    Ok(Some(commands)) => {
                        if host::act_as(id).is_ok()
                            && host::replace_bytes(host::Bytes::Downstream, &commands).is_ok()
                        {
                            let _ = host::resume();
                        }
                    }
                    Ok(None) => {}
                    Err(_) => vm::close_soon(id),
                }
            }
            (None, None) => {}
        }
    }

    fn connect(&self, id: u32, target: &Address) -> bool {
        let routed = filter_state::route_to(target).is_ok();
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
                let early = self.config.early_switch;
                store::update_topology(now, self.name(), |topology| {
                    topology.role(&node, role, early)
                });
                true
            }
            Ok(Some(Finding::NotAllowed(message))) => {
                store::update_topology(now, self.name(), |topology| {
                    topology.unprobed(&node, &message)
                });
                *self.target.borrow_mut() = None;
                vm::close_soon(id);
                false
            }
            Ok(None) => false,
            Err(_) => {
                vm::close_soon(id);
                false
            }
        }
    }

    fn pace(&self, now: Timestamp) {
        let due = self
            .probes
            .borrow()
            .values()
            .filter(|asked| asked.node.is_some())
            .filter_map(|asked| asked.probe.next_due())
            .min();
        let due = due
            .map_or(SLOWEST_TICK, |due| due.since(now))
            .clamp(FASTEST_TICK, SLOWEST_TICK);
        if self.tick_period.replace(due) != due && host::act_as(self.id).is_ok() {
            let _ = host::set_tick(due);
        }
    }
}

impl vm::Wake for Prober {
    fn wake(&self, now: Timestamp) {
        self.tick(now);
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
        if prober.probes.borrow().len() >= MAX_HEARTBEATS {
            vm::close_soon(self.id);
            return types::Action::Pause;
        }
        // While a promotion runs, the candidate is asked as fast as the health checker hands over heartbeats.
        let interval = if prober.config.early_switch {
            Duration::ZERO
        } else {
            prober.config.interval.0
        };
        let probe = Probe::new(interval, prober.config.reply_timeout.0, None);
        prober
            .probes
            .borrow_mut()
            .insert(self.id, Asked { probe, node: None });
        let target = prober.target.borrow().clone();
        match target {
            Some(target) if prober.connect(self.id, &target) => types::Action::Continue,
            _ => types::Action::Pause,
        }
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let now = host::now();
        let commands = match self.prober.probes.borrow_mut().get_mut(&self.id) {
            Some(asked) => {
                asked.probe.heartbeat();
                if asked.node.is_some() {
                    asked.probe.speak(now)
                } else {
                    None
                }
            }
            None => None,
        };
        let action = match commands {
            Some(commands) => {
                let _ = host::replace_bytes(host::Bytes::Downstream, &commands);
                types::Action::Continue
            }
            None => types::Action::Pause,
        };
        self.prober.pace(now);
        let _ = host::act_as(self.id);
        action
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        let bytes = host::bytes(host::Bytes::Upstream).unwrap_or_default();
        let answer: &[u8] = if self.prober.receive(host::now(), self.id, &bytes) {
            b"."
        } else {
            b""
        };
        let _ = host::replace_bytes(host::Bytes::Upstream, answer);
        types::Action::Continue
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
