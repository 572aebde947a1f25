//! Root id `redis_router`: the connections of applications.

use crate::{
    dns,
    filter_state::{self, Destination},
    host, metrics, store, vm,
};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types;
use sentinel_core::{
    address::Address,
    admission::{Action, Admission, REFUSALS, Refusal, Verdict},
    config::RouterConfig,
    time::Timestamp,
    topology::Route,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How often the connections that a fence keeps back are counted.
const FENCE_SHOWN_EVERY: Duration = Duration::from_millis(250);

/// The root context's state: one listener's connections on this worker.
pub struct Router {
    id: u32,
    destination: Destination,
    admission: RefCell<Admission>,
    generation: Cell<Option<u64>>,
    /// What the topology says, names and all.
    route: RefCell<Route>,
    /// The candidate of a promotion under way: its name is asked for before it is needed.
    candidate: RefCell<Option<Address>>,
    /// Whether a client was ever here. Envoy runs a VM on its main thread as well, where none ever is.
    used: Cell<bool>,
    /// Of the host names, when the route was last made of them.
    names: Cell<u64>,
    /// What the gauges were told last: connections, held ones, fenced ones.
    told: Cell<[u32; 3]>,
    /// The refusal that was logged last: each is told once until the route changes.
    refusal_told: RefCell<Option<Refusal>>,
    undialled_told: RefCell<Option<Address>>,
    /// What is still to be done with connections: [`vm::may_act`].
    deeds: RefCell<VecDeque<Action>>,
}

impl Router {
    /// No connections, no master known.
    pub fn new(id: u32, config: RouterConfig) -> Self {
        let destination = Destination {
            template: config.cluster_template.clone(),
            by_ip: config.by_address_cluster.clone(),
            by_name: config.by_name_cluster.clone(),
        };
        let name = config.master_name.as_str();
        metrics::declare(name, "connections_closed_by_switch_total");
        for why in REFUSALS {
            metrics::declare(
                name,
                &metrics::by("reason", why, "connections_refused_total"),
            );
        }
        Self {
            id,
            destination,
            admission: RefCell::new(Admission::new(config)),
            generation: Cell::new(None),
            route: RefCell::default(),
            candidate: RefCell::default(),
            used: Cell::default(),
            names: Cell::default(),
            told: Cell::default(),
            refusal_told: RefCell::default(),
            undialled_told: RefCell::default(),
            deeds: RefCell::default(),
        }
    }

    fn name(&self) -> String {
        self.admission.borrow().config().master_name.to_string()
    }

    fn follow(&self, now: Timestamp) {
        let topology = store::topology_newer_than(&self.name(), self.generation.get());
        let changed = topology.is_some();
        if let Some(topology) = topology {
            self.generation.set(Some(topology.generation));
            let route = topology.route();
            if route != *self.route.borrow() {
                *self.refusal_told.borrow_mut() = None;
            }
            *self.route.borrow_mut() = route;
            *self.candidate.borrow_mut() = topology.candidate().cloned();
        }
        if self.used.get() && (changed || self.admission.borrow().next_due().is_some()) {
            self.look_up(now);
        }
        if changed || self.names.get() != dns::generation() {
            self.names.set(dns::generation());
            let route = self.route.borrow().clone();
            let route = route.resolved(|node| self.resolve(now, node));
            let actions = self.admission.borrow_mut().update(now, route);
            self.perform(now, actions);
        }
    }

    /// Where to dial a node, if that is known. Without clients nobody asks.
    fn resolve(&self, now: Timestamp, node: &Address) -> Option<Address> {
        if self.used.get() {
            self.destination.resolve(now, self.id, node)
        } else {
            Some(node.clone()).filter(|node| !self.destination.must_resolve(node))
        }
    }

    /// The first client is here: what nobody needed to know until now.
    fn begin(&self, now: Timestamp) {
        const NEVER: u64 = u64::MAX;
        if !self.used.replace(true) {
            self.names.set(NEVER);
            self.follow(now);
        }
    }

    /// The nodes whose host names are resolved here.
    fn named(&self) -> Vec<Address> {
        let (route, candidate) = (self.route.borrow(), self.candidate.borrow());
        let nodes = route.nodes().chain(candidate.iter());
        nodes
            .filter(|node| self.destination.must_resolve(node))
            .cloned()
            .collect()
    }

    /// Sees to it that the names to dial are known and fresh. Only where something is new or somebody waits or dials: ten
    /// thousand idle sidecars are to leave the DNS server alone.
    fn look_up(&self, now: Timestamp) {
        for node in self.named() {
            dns::lookup(now, self.id, &node);
        }
    }

    fn bound(&self) -> Duration {
        self.admission.borrow().config().hold_timeout.0
    }

    /// Envoy has closed a client because it could not dial at all, once per address.
    fn tell_undialled(&self, address: &Address) {
        metrics::count(&self.name(), "connections_closed_undialled_total");
        if self.undialled_told.borrow().as_ref() == Some(address) {
            return;
        }
        let cluster = self.destination.cluster(address);
        log::warn!(
            "{}: Envoy closes clients without dialling {address}: has it a cluster {cluster}, with a host in it?",
            self.name()
        );
        *self.undialled_told.borrow_mut() = Some(address.clone());
    }

    /// Brings the gauges up to date, and tells how long clients were held.
    fn show(&self) {
        let (waits, connections, held, fenced, role) = {
            let mut admission = self.admission.borrow_mut();
            let connections = u32::try_from(admission.connections()).unwrap_or(u32::MAX);
            (
                admission.take_waits(),
                connections,
                admission.held(),
                admission.fenced().unwrap_or(0),
                admission.config().role.word(),
            )
        };
        let name = self.name();
        let [was, was_held, was_fenced] = self.told.replace([connections, held, fenced]);
        let more = |now: u32, before: u32| i64::from(now).saturating_sub(i64::from(before));
        let gauge = metrics::by("role", role, "connections");
        metrics::shift(&name, &gauge, more(connections, was));
        let gauge = metrics::by("role", role, "held_connections");
        metrics::shift(&name, &gauge, more(held, was_held));
        let gauge = metrics::by("role", role, "fenced_connections");
        metrics::shift(&name, &gauge, more(fenced, was_fenced));
        let histogram = metrics::by("role", role, "hold_duration_ms");
        for wait in waits {
            let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            metrics::sample(&name, &histogram, wait);
        }
    }

    /// Carries out what the core decided, in order: at once what one callback may do, the rest in the next ones.
    fn perform(&self, now: Timestamp, actions: Vec<Action>) {
        self.deeds.borrow_mut().extend(actions);
        self.go_on(now);
    }

    /// Carries out what is left over. True: all of it.
    fn go_on(&self, now: Timestamp) -> bool {
        while !self.deeds.borrow().is_empty() {
            if !vm::may_act() {
                return false;
            }
            let deed = self.deeds.borrow_mut().pop_front();
            if let Some(action) = deed {
                self.act(now, action);
            }
        }
        true
    }

    /// Envoy calls back while it closes, so nothing is borrowed across a call.
    fn act(&self, now: Timestamp, action: Action) {
        match action {
            Action::Dial(id, address) => {
                if host::act_as(id).is_err() {
                    return;
                }
                // Envoy 1.36 sets no filter state outside a stream's own callback. Closed, the client comes again.
                match self.destination.route_to(&address) {
                    Ok(()) => drop(host::resume()),
                    Err(_) => drop(host::act_as(id).and_then(|()| host::close())),
                }
            }
            Action::Resume(id) => {
                if host::act_as(id).is_ok() {
                    let _ = host::resume();
                }
            }
            Action::Move(id, to) => self.move_stream(now, id, to),
            Action::Refuse(id, why) => self.refuse(id, &why),
            Action::RefuseUnlessConnected(id, why) => {
                if host::act_as(id).is_err() {
                    return;
                }
                if host::is_connected() {
                    self.admission.borrow_mut().was_connected(id);
                } else {
                    let refusal = self.admission.borrow_mut().refuse(id, why);
                    self.act(now, refusal);
                }
            }
        }
    }

    fn move_stream(&self, now: Timestamp, id: u32, to: Option<Address>) {
        if host::act_as(id).is_err() {
            return;
        }
        if !host::is_connected() {
            match to {
                Some(to) if self.destination.route_to(&to).is_ok() => {
                    let resume = self.admission.borrow_mut().was_moved(now, id, to);
                    if resume {
                        let _ = host::resume();
                    }
                    return;
                }
                // Nowhere to go yet: it dials on, and is moved when there is.
                None => return,
                Some(_) => {}
            }
        }
        self.admission.borrow_mut().closed(id);
        metrics::count(&self.name(), "connections_closed_by_switch_total");
        let _ = host::act_as(id).and_then(|()| host::close());
    }

    fn refuse(&self, id: u32, why: &Refusal) {
        if host::act_as(id).is_ok() && self.prepare_refusal(why) {
            let _ = host::resume();
        } else {
            let _ = host::act_as(id).and_then(|()| host::close());
        }
    }

    /// Leads the current stream to the listener that answers `-MASTERDOWN`. False: there is none.
    fn prepare_refusal(&self, why: &Refusal) -> bool {
        let reason = why.to_string();
        let counter = metrics::by("reason", &reason, "connections_refused_total");
        metrics::count(&self.name(), &counter);
        if self.refusal_told.borrow().as_ref() != Some(why) {
            let text = why.explain(self.admission.borrow().config());
            log::warn!("{}: clients are told -MASTERDOWN: {text}", self.name());
            *self.refusal_told.borrow_mut() = Some(why.clone());
        }
        let cluster = self.admission.borrow().config().masterdown_cluster.clone();
        !cluster.is_empty() && filter_state::use_cluster(&cluster).is_ok()
    }
}

/// The proxy's own address that the client of the current stream connected to. In a sidecar's outbound listener that is no
/// address of the proxy: `iptables` has led the client here, and Envoy restored the address that it meant.
fn own_listener() -> Option<Address> {
    const OUTBOUND: i64 = 2; // envoy.config.core.v3.TrafficDirection
    // The second name is that of Envoy 1.36.
    let direction = host::property_bytes(&["xds", "listener_direction"])
        .or_else(|| host::property_bytes(&["listener_direction"]));
    if direction.is_some_and(|direction| direction == OUTBOUND.to_le_bytes()) {
        return None;
    }
    let address = host::property(&["destination", "address"])?;
    Address::parse(&address).ok()
}

impl vm::Wake for Router {
    /// Follows the topology and lets bounds end.
    fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        // What is decided twice would be done twice: first what was decided before.
        if self.go_on(now) {
            self.follow(now);
        }
        if self.deeds.borrow().is_empty() {
            let actions = self.admission.borrow_mut().expire(now);
            self.perform(now, actions);
        }
        self.show();
        if !self.deeds.borrow().is_empty() {
            return Some(now);
        }
        let due = self.admission.borrow().next_due();
        let names = due.map(|_| self.named()).unwrap_or_default();
        // Its connections are counted as they come, and it is short.
        let fence = self.admission.borrow().fenced();
        let fence = fence.map(|_| now.after(FENCE_SHOWN_EVERY));
        due.into_iter()
            .chain(fence)
            .chain(names.iter().filter_map(dns::next_due))
            .min()
    }
}

/// One connection of an application.
pub struct Connection {
    id: u32,
    router: Rc<Router>,
}

impl Connection {
    /// Not yet connected.
    pub fn new(id: u32, router: &Rc<Router>) -> Self {
        Self {
            id,
            router: router.clone(),
        }
    }
}

impl Context for Connection {}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> types::Action {
        let now = host::now();
        self.router.begin(now);
        self.router.look_up(now);
        let listener = own_listener();
        let verdict = self
            .router
            .admission
            .borrow_mut()
            .connect(now, self.id, listener.as_ref());
        // Held or dialling, it is to be settled within the bound.
        let bound = now.after(self.router.bound());
        let names = self.router.named();
        let asking = names.iter().filter_map(dns::next_due).min();
        let due = asking.map_or(bound, |due| due.min(bound));
        vm::wake_at(now, self.router.id, due, self.id);
        match verdict {
            Verdict::Dial(address) => match self.router.destination.route_to(&address) {
                Ok(()) => types::Action::Continue,
                Err(_) => types::Action::Pause,
            },
            Verdict::Hold => types::Action::Pause,
            Verdict::Refuse(why) => {
                if self.router.prepare_refusal(&why) {
                    types::Action::Continue
                } else {
                    vm::close_soon(self.id);
                    types::Action::Pause
                }
            }
        }
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        #[cfg(feature = "trap-for-tests")]
        crate::trap::at_the_word();
        if self.router.admission.borrow_mut().client_data(self.id) {
            types::Action::Pause
        } else {
            types::Action::Continue
        }
    }

    fn on_upstream_data(&mut self, _size: usize, _end_of_stream: bool) -> types::Action {
        if let Some(text) = self.router.admission.borrow_mut().upstream_data(self.id) {
            let _ = host::replace_bytes(host::Bytes::Upstream, text.as_bytes());
        }
        types::Action::Continue
    }

    fn on_downstream_close(&mut self, peer: types::PeerType) {
        let dialling = self.router.admission.borrow_mut().closed(self.id);
        if let (Some(address), types::PeerType::Local) = (dialling, peer)
            && !host::is_connected()
        {
            self.router.tell_undialled(&address);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Ok(mut admission) = self.router.admission.try_borrow_mut() {
            admission.closed(self.id);
        }
    }
}
