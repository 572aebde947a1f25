//! One VM: a wasmtime store, its root contexts and its streams.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use wasmtime::{Memory, StoreContextMut};

use super::calls::Exports;
use super::hub::Hub;
use super::metrics::MetricIds;
use super::stream::StreamRef;

/// The store, wherever a host call or the test got hold of it.
pub type Cx<'a> = StoreContextMut<'a, Vm>;

/// A root context.
pub struct RootContext {
    pub root_id: String,
    pub configuration: Vec<u8>,
    /// The period of the tick in milliseconds; zero is none.
    pub tick: u32,
    /// Envoy arms the timer anew when the period is set: a tick of an older generation is stale.
    pub tick_generation: u64,
}

/// Which context a host call acts on.
#[derive(Clone, Copy, Default)]
pub struct Frame {
    pub current: u32,
    /// Zero is none: the current one.
    pub effective: u32,
    /// Whether the plugin's configuration may be read.
    pub configuring: bool,
}

/// What Envoy does once the VM has returned.
#[derive(Clone, Copy)]
pub enum Then {
    /// Pass on to the next filter.
    Continue(u32),
    /// Close the connection.
    Close(u32),
}

/// The data of a store.
pub struct Vm {
    pub worker: usize,
    pub hub: Rc<Hub>,
    pub roots: HashMap<u32, RootContext>,
    pub streams: HashMap<u32, StreamRef>,
    /// Root contexts that said they were not done when Envoy wanted to delete them.
    pub leaving: HashSet<u32>,
    /// What came with the current callback of Envoy's own.
    pub call_data: Vec<u8>,
    /// Closed in this event: Envoy deletes a connection only after it.
    pub gone: Vec<u32>,
    pub next_context: u32,
    pub frame: Frame,
    pub then: VecDeque<Then>,
    pub metrics: RefCell<MetricIds>,
    pub failed: Option<String>,
    pub exports: Option<Rc<Exports>>,
    pub memory: Option<Memory>,
    pub random: u64,
    pub ticks: u64,
}

impl Vm {
    pub fn new(worker: usize, hub: Rc<Hub>) -> Self {
        Self {
            worker,
            hub,
            roots: HashMap::new(),
            streams: HashMap::new(),
            leaving: HashSet::new(),
            call_data: Vec::new(),
            gone: Vec::new(),
            next_context: 1,
            frame: Frame::default(),
            then: VecDeque::new(),
            metrics: RefCell::default(),
            failed: None,
            exports: None,
            memory: None,
            random: worker as u64 + 1,
            ticks: 0,
        }
    }

    /// The exports, which are there from the instantiation on.
    pub fn exports(&self) -> Rc<Exports> {
        Rc::clone(self.exports.as_ref().expect("an instance"))
    }

    /// The memory, which is there from the instantiation on.
    pub fn memory(&self) -> Memory {
        self.memory.expect("an instance")
    }

    /// A number that no context of this VM had before.
    pub fn allocate_context(&mut self) -> u32 {
        let id = self.next_context;
        self.next_context += 1;
        id
    }

    pub fn is_context(&self, id: u32) -> bool {
        id == 0 || self.roots.contains_key(&id) || self.streams.contains_key(&id)
    }

    /// The context that a host call acts on: the effective one, or the current one once that is gone.
    pub fn acting(&self) -> u32 {
        let Frame {
            current, effective, ..
        } = self.frame;
        if effective != 0 && self.is_context(effective) {
            effective
        } else {
            current
        }
    }

    /// The stream that a host call acts on, if it is one.
    pub fn acting_stream(&self) -> Option<StreamRef> {
        self.streams.get(&self.acting()).cloned()
    }

    /// The root context of whatever a host call acts on.
    pub fn acting_root(&self) -> u32 {
        self.acting_stream()
            .map_or(self.acting(), |s| s.borrow().root)
    }

    /// A stream by its context.
    pub fn stream(&self, id: u32) -> Option<StreamRef> {
        self.streams.get(&id).cloned()
    }
}
