//! A worker thread: one VM with several root contexts, as Envoy makes of plugins with the same `vm_id` and code.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use wasmtime::{Linker, Store};

use super::calls::{self, enter, frame};
use super::conn::Conn;
use super::module::module;
use super::process::Process;
use super::stream::{Listener, Stream};
use super::vm::{RootContext, Vm};
use super::{abi, flow, wasi};

/// A handle to a worker; clones are the same worker.
#[derive(Clone)]
pub struct Worker {
    process: Process,
    index: usize,
}

/// A configured root context.
#[derive(Clone)]
pub struct Root {
    worker: Worker,
    id: u32,
    cluster: &'static str,
}

/// The module refused its configuration, with these words in the log.
#[derive(Debug)]
pub struct Refused {
    /// The lines logged meanwhile.
    pub log: Vec<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.log.join("\n"))
    }
}

impl std::error::Error for Refused {}

impl Worker {
    pub(super) fn new(process: &Process) -> Self {
        let module = module();
        let index = process.stores.borrow().len();
        let mut linker = Linker::new(module.engine());
        abi::link_stubs(&mut linker, module).expect("stubs link");
        abi::link(&mut linker).expect("the ABI links");
        wasi::link(&mut linker).expect("WASI links");
        let mut store = Store::new(module.engine(), Vm::new(index, Rc::clone(&process.hub)));
        let instance = linker
            .instantiate(&mut store, module)
            .expect("the module has what it imports");
        calls::start(&mut store, &instance).expect("the module starts");
        process
            .stores
            .borrow_mut()
            .push(Rc::new(RefCell::new(store)));
        Self {
            process: process.clone(),
            index,
        }
    }

    /// Configures a root context, as a listener (or the main thread's check of it) does.
    ///
    /// # Errors
    /// The module refuses the configuration.
    pub fn root(&self, root_id: &str, configuration: Value) -> Result<Root, Refused> {
        self.root_bytes(root_id, configuration.to_string().as_bytes())
    }

    /// [`Worker::root`] with a configuration that need not be JSON.
    ///
    /// # Errors
    /// The module refuses the configuration.
    pub fn root_bytes(&self, root_id: &str, configuration: &[u8]) -> Result<Root, Refused> {
        let logged = self.process.log().len();
        let (id, accepted) = self.process.with(self.index, |cx| {
            let id = cx.data_mut().allocate_context();
            let context = RootContext {
                root_id: root_id.to_owned(),
                configuration: configuration.to_vec(),
                tick: 0,
                tick_generation: 0,
            };
            cx.data_mut().roots.insert(id, context);
            calls::configure(cx, id, configuration.len() as u32).map(|accepted| (id, accepted))
        });
        if !accepted {
            let log = self.process.log().split_off(logged);
            return Err(Refused {
                log: log.into_iter().map(|l| l.text).collect(),
            });
        }
        let cluster = match root_id {
            "sentinel_watch" => "sentinel_seeds",
            "readiness" => "echo",
            _ => "redis",
        };
        Ok(Root {
            worker: self.clone(),
            id,
            cluster,
        })
    }

    /// How many 64 KiB pages the VM's memory has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.process
            .with(self.index, |cx| Ok(cx.data().memory().size(&*cx)))
    }

    /// How many streams the VM has contexts for.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.process
            .with(self.index, |cx| Ok(cx.data().streams.len()))
    }

    /// How many ticks the VM has had.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.process.with(self.index, |cx| Ok(cx.data().ticks))
    }
}

impl Root {
    /// A client connects to a listener of this root; the address is the listener's (`@name` for an abstract socket).
    #[must_use]
    pub fn connect(&self, address: &str) -> Conn {
        let conn = self.accept(address);
        self.worker.process.advance(Duration::ZERO);
        conn
    }

    /// [`Root::connect`] without what follows from it: for callers that are events themselves.
    pub(super) fn accept(&self, address: &str) -> Conn {
        let worker = &self.worker;
        let listener = Listener {
            address: address.to_owned(),
            cluster: self.cluster.to_owned(),
        };
        let stream = worker.process.with(worker.index, |cx| {
            let id = cx.data_mut().allocate_context();
            let mut stream = Stream::new(id, self.id, listener);
            stream.early_reads = worker.process.hub.early_reads.get();
            let stream = Rc::new(RefCell::new(stream));
            cx.data_mut().streams.insert(id, Rc::clone(&stream));
            flow::accept(cx, &stream)?;
            Ok(stream)
        });
        Conn::new(&worker.process, worker.index, stream)
    }

    /// The worker it runs in.
    #[must_use]
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The listener goes away: the module is told, and may put it off.
    pub fn shut_down(&self) {
        let id = self.id;
        self.worker.process.with(self.worker.index, |cx| {
            if enter(cx, frame(id), |cx, e| e.on_done.call(&mut *cx, id))? == 0 {
                cx.data_mut().leaving.insert(id);
                return Ok(());
            }
            calls::delete(cx, id)
        });
    }
}
