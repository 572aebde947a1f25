//! The Envoy process: its workers and what they share.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use wasmtime::{AsContextMut, Result, Store};

use super::clock::Clock;
use super::hub::{CloseMode, Hub, LogLine};
use super::network::{Network, Server};
use super::resolver::Resolver;
use super::vm::{Cx, Vm};
use super::worker::Worker;

type StoreRef = Rc<RefCell<Store<Vm>>>;

/// A handle to the process; clones are the same process.
#[derive(Clone)]
pub struct Process {
    pub(super) hub: Rc<Hub>,
    pub(super) stores: Rc<RefCell<Vec<StoreRef>>>,
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    /// A process without workers, with the clusters of `envoy/redis.yaml` that are not `ORIGINAL_DST`.
    #[must_use]
    pub fn new() -> Self {
        let mut network = Network::default();
        network.cluster("masterdown", &["@redis-sentinel-masterdown"]);
        network.cluster("echo", &["echo"]);
        let hub = Hub {
            clock: Clock::default(),
            data: RefCell::default(),
            queues: RefCell::default(),
            metrics: RefCell::default(),
            log: RefCell::default(),
            network: RefCell::new(network),
            resolver: RefCell::default(),
            environment: RefCell::default(),
            close_mode: Cell::new(CloseMode::Deferred),
            early_reads: Cell::new(false),
            latency: Cell::new(Duration::from_micros(100)),
            chunk_seed: Cell::new(None),
        };
        Self {
            hub: Rc::new(hub),
            stores: Rc::default(),
        }
    }

    /// A worker with a fresh VM.
    #[must_use]
    pub fn worker(&self) -> Worker {
        Worker::new(self)
    }

    /// Runs all that is due now and, on the way, all that is due within `time`, in order.
    pub fn advance(&self, time: Duration) {
        let until = self.now() + time;
        while let Some(event) = self.hub.clock.pop(until) {
            event(self);
        }
        self.hub.clock.reach(until);
    }

    /// [`Process::advance`] in milliseconds.
    pub fn advance_ms(&self, milliseconds: u64) {
        self.advance(Duration::from_millis(milliseconds));
    }

    /// Advances until the condition holds; false if it does not within `limit`.
    #[must_use]
    pub fn advance_until(&self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let until = self.now() + limit;
        while !condition() {
            match self.hub.clock.pop(until) {
                Some(event) => event(self),
                None => return condition(),
            }
        }
        true
    }

    /// Since the start of the process.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.hub.clock.now()
    }

    /// Moves the wall clock, not the monotonic one.
    pub fn jump_wall_clock(&self, seconds: i64) {
        self.hub.clock.jump_wall(seconds);
    }

    /// When closes take effect from now on.
    pub fn close_mode(&self, mode: CloseMode) {
        self.hub.close_mode.set(mode);
    }

    /// Whether filters of connections made from now on see bytes before `tcp_proxy` is connected. Envoy's own `tcp_proxy`
    /// lets them only where it is told to; another filter in its place may.
    pub fn early_reads(&self, early: bool) {
        self.hub.early_reads.set(early);
    }

    /// From now on bytes arrive in random pieces, the same ones for the same seed.
    pub fn chunk(&self, seed: u64) {
        self.hub.chunk_seed.set(Some(seed));
    }

    /// An environment variable of the VMs that start from now on.
    pub fn env(&self, name: &str, value: &str) {
        self.hub
            .environment
            .borrow_mut()
            .push((name.to_owned(), value.to_owned()));
    }

    /// The DNS, to look at and to change.
    #[must_use]
    pub fn resolver(&self) -> RefMut<'_, Resolver> {
        self.hub.resolver.borrow_mut()
    }

    /// The static endpoints of a cluster.
    pub fn cluster(&self, name: &str, addresses: &[&str]) {
        self.hub.network.borrow_mut().cluster(name, addresses);
    }

    /// Puts a server at an address.
    pub fn serve(&self, address: &str, server: Rc<RefCell<dyn Server>>) {
        self.hub.network.borrow_mut().serve(address, server);
    }

    /// Connections to the address are refused from now on.
    pub fn refuse(&self, address: &str) {
        self.hub.network.borrow_mut().refuse(address);
    }

    /// Nobody answers at the address from now on.
    pub fn silence(&self, address: &str) {
        self.hub.network.borrow_mut().silence(address);
    }

    /// The address can be reached again.
    pub fn restore(&self, address: &str) {
        self.hub.network.borrow_mut().restore(address);
    }

    /// All that was logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.hub.log.borrow().clone()
    }

    /// The logged lines that contain the words.
    #[must_use]
    pub fn logged(&self, words: &str) -> Vec<LogLine> {
        self.hub
            .log
            .borrow()
            .iter()
            .filter(|l| l.text.contains(words))
            .cloned()
            .collect()
    }

    /// A metric's value; zero if nobody defined it.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.hub.metrics.borrow();
        let (prefix, last) = name.rsplit_once('.').unwrap_or(("", name));
        let labelled = |known: &str| -> Option<bool> {
            let label = known.strip_prefix(prefix)?.strip_suffix(last)?;
            Some(label == "." || label.contains('='))
        };
        let names = metrics.names().filter(|name| labelled(name) == Some(true));
        names.filter_map(|name| metrics.value(name)).sum()
    }

    /// The metrics' names.
    #[must_use]
    pub fn metric_names(&self) -> Vec<String> {
        self.hub
            .metrics
            .borrow()
            .names()
            .map(str::to_owned)
            .collect()
    }

    /// Makes the next compared writes of shared data lose.
    pub fn conflict(&self, count: u32) {
        self.hub.data.borrow_mut().conflict(count);
    }

    /// How many compared writes lost, how many writes were made.
    #[must_use]
    pub fn shared_writes(&self) -> (u32, u32) {
        let data = self.hub.data.borrow();
        (data.refused, data.writes)
    }

    /// A value of shared data.
    #[must_use]
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.hub
            .data
            .borrow()
            .get(key.as_bytes())
            .map(|(value, _)| value.clone())
    }

    /// Overwrites shared data, as a VM that this process does not see would.
    pub fn set_shared(&self, key: &str, value: &[u8]) {
        self.hub
            .data
            .borrow_mut()
            .set(key.as_bytes(), value, 0)
            .expect("an uncompared write");
    }

    /// The keys of shared data.
    #[must_use]
    pub fn shared_keys(&self) -> Vec<String> {
        self.hub
            .data
            .borrow()
            .keys()
            .map(|k| String::from_utf8_lossy(k).into_owned())
            .collect()
    }

    /// How many queue items nobody has taken.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.hub.queues.borrow().waiting()
    }

    /// Runs something in a VM. A trap is the end of the test: it would be the end of a worker's connections.
    pub(super) fn with<R>(&self, worker: usize, run: impl FnOnce(&mut Cx<'_>) -> Result<R>) -> R {
        let store = Rc::clone(&self.stores.borrow()[worker]);
        let mut store = store.borrow_mut();
        let result = run(&mut store.as_context_mut());
        let vm = store.data_mut();
        for id in std::mem::take(&mut vm.gone) {
            vm.streams.remove(&id);
        }
        result.unwrap_or_else(|error| {
            let log = self.hub.log.borrow();
            let tail: Vec<_> = log
                .iter()
                .rev()
                .take(12)
                .rev()
                .map(|l| l.text.as_str())
                .collect();
            panic!(
                "worker {worker} at {:?}: {error:?}\nlog:\n{}",
                self.now(),
                tail.join("\n")
            )
        })
    }
}
