//! What `tcp_proxy` dials: clusters, addresses, and the servers of a test behind them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::filter_state::{CLUSTER, ORIGINAL_DST};
use super::flow;
use super::hub::Hub;
use super::process::Process;
use super::stream::{Dial, Peer, Proxy, StreamRef};
use super::vm::Vm;

/// One connection of Envoy's, seen from the server.
#[derive(Clone)]
pub struct Link {
    worker: usize,
    stream: StreamRef,
}

impl Link {
    /// Sends bytes to Envoy; they arrive one network latency later.
    pub fn send(&self, process: &Process, bytes: &[u8]) {
        self.deliver(process, bytes, false);
    }

    /// Ends the server's direction, as a server that exits does.
    pub fn fin(&self, process: &Process) {
        self.deliver(process, &[], true);
    }

    /// Breaks the connection. `tcp_proxy` then closes the client's.
    pub fn reset(&self, process: &Process) {
        let (worker, stream) = (self.worker, Rc::clone(&self.stream));
        process
            .hub
            .after_latency(move |p| p.with(worker, |cx| flow::close(cx, &stream, Peer::Local)));
    }

    fn deliver(&self, process: &Process, bytes: &[u8], fin: bool) {
        let chunks = process.hub.chunks(bytes);
        let last = chunks.len() - 1;
        for (i, chunk) in chunks.into_iter().enumerate() {
            let (worker, stream, fin) = (self.worker, Rc::clone(&self.stream), fin && i == last);
            process.hub.after_latency(move |p| {
                p.with(worker, |cx| flow::upstream_data(cx, &stream, &chunk, fin));
            });
        }
    }

    /// Whether the connection is still up.
    pub fn is_open(&self) -> bool {
        self.stream.borrow().closed.is_none()
    }

    /// A link that leads nowhere.
    #[cfg(test)]
    pub(super) fn detached(stream: super::stream::Stream) -> Self {
        Self {
            worker: 0,
            stream: Rc::new(RefCell::new(stream)),
        }
    }

    /// Whether both are the same connection.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.stream, &other.stream)
    }
}

/// A server of a test. Without one an address accepts connections and keeps silent.
pub trait Server {
    /// A connection was made.
    fn connected(&mut self, _process: &Process, _link: &Link) {}
    /// Bytes arrived.
    fn data(&mut self, process: &Process, link: &Link, bytes: &[u8]);
    /// Envoy closed the connection.
    fn closed(&mut self, _process: &Process, _link: &Link) {}
}

type ServerRef = Rc<RefCell<dyn Server>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Refuses,
    Silent,
}

/// Which addresses exist and who is there.
#[derive(Default)]
pub struct Network {
    clusters: HashMap<String, Vec<String>>,
    servers: HashMap<String, ServerRef>,
    away: HashMap<String, Reach>,
    dials: usize,
}

impl Network {
    pub fn cluster(&mut self, name: &str, addresses: &[&str]) {
        self.clusters.insert(
            name.to_owned(),
            addresses.iter().map(|a| (*a).to_owned()).collect(),
        );
    }

    pub fn serve(&mut self, address: &str, server: ServerRef) {
        self.servers.insert(address.to_owned(), server);
    }

    /// Connections to the address are refused from now on.
    pub fn refuse(&mut self, address: &str) {
        self.away.insert(address.to_owned(), Reach::Refuses);
    }

    /// Nobody answers at the address from now on.
    pub fn silence(&mut self, address: &str) {
        self.away.insert(address.to_owned(), Reach::Silent);
    }

    /// The address is back.
    pub fn restore(&mut self, address: &str) {
        self.away.remove(address);
    }

    /// Round robin over all clusters together: like Envoy's, it promises no slot a server of its own.
    fn pick(&mut self, cluster: &str) -> Option<String> {
        self.dials += 1;
        let addresses = self.clusters.get(cluster)?;
        addresses.get(self.dials % addresses.len().max(1)).cloned()
    }
}

/// `tcp_proxy`'s upstream connection.
pub struct Upstream {
    link: Link,
    server: Option<ServerRef>,
}

impl Upstream {
    pub fn send(&self, vm: &Vm, _stream: &StreamRef, bytes: &[u8], _fin: bool) {
        let Some(server) = self.server.clone() else {
            return;
        };
        let (link, bytes) = (self.link.clone(), bytes.to_vec());
        vm.hub
            .after_latency(move |p| server.borrow_mut().data(p, &link, &bytes));
    }

    pub fn close(self, vm: &Vm) {
        let Some(server) = self.server else { return };
        vm.hub
            .after_latency(move |p| server.borrow_mut().closed(p, &self.link));
    }
}

/// `max_connect_attempts` of the configuration, for clients; the heartbeats' listeners leave it at one.
const ATTEMPTS: u32 = 60;
/// `connect_timeout` of the clusters.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// `backoff_options`.
const BACKOFF: Duration = Duration::from_millis(50);

/// Starts to dial for a connection whose filters let it through.
pub fn dial(vm: &Vm, stream: &StreamRef) {
    attempt(&vm.hub, vm.worker, stream, 1);
}

/// One attempt. The filter state is read anew each time: that is how a retry follows a switch.
fn attempt(hub: &Hub, worker: usize, stream: &StreamRef, number: u32) {
    let target = target(hub, stream);
    let mut network = hub.network.borrow_mut();
    let reach = network.away.get(&target.address).copied();
    let server = network.servers.get(&target.address).cloned();
    network.dials += 1;
    stream.borrow_mut().dials.push(target);
    drop(network);
    let is_heartbeat = stream.borrow().listener.address.starts_with('@');
    let attempts = if is_heartbeat { 1 } else { ATTEMPTS };
    let wait = match reach {
        None => Duration::ZERO,
        Some(Reach::Refuses) => BACKOFF,
        Some(Reach::Silent) => CONNECT_TIMEOUT,
    };
    let stream = Rc::clone(stream);
    hub.after(wait, move |p| {
        if !matches!(stream.borrow().proxy, Proxy::Dialing) {
        } else if reach.is_none() {
            let link = Link {
                worker,
                stream: Rc::clone(&stream),
            };
            if let Some(server) = &server {
                server.borrow_mut().connected(p, &link);
            }
            p.with(worker, |cx| {
                flow::connected(cx, &stream, Upstream { link, server })
            });
        } else if number < attempts {
            attempt(&p.hub, worker, &stream, number + 1);
        } else {
            p.with(worker, |cx| flow::close(cx, &stream, Peer::Local));
        }
    });
}

/// A cluster of the configuration's static endpoints takes one of them; any other one is `ORIGINAL_DST`: the address of
/// the filter state or, without it, where the client connected to (the proxy itself).
fn target(hub: &Hub, stream: &StreamRef) -> Dial {
    let s = stream.borrow();
    let cluster = s
        .filter_state
        .get(CLUSTER)
        .unwrap_or(&s.listener.cluster)
        .to_owned();
    let picked = hub.network.borrow_mut().pick(&cluster);
    let address = picked.unwrap_or_else(|| {
        s.filter_state
            .get(ORIGINAL_DST)
            .unwrap_or(&s.listener.address)
            .to_owned()
    });
    Dial {
        at: hub.clock.now(),
        cluster,
        address,
    }
}
