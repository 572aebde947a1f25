//! Root id `readiness`: an echo that answers only while all masters are known. Envoy's health checker asks it, and
//! `/ready` shows what the health checker found.

use crate::{store, vm};
use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::Action;
use sentinel_core::{config::ReadinessConfig, time::Timestamp};
use std::cell::Cell;
use std::rc::Rc;

/// The root context's state.
pub struct Readiness {
    config: ReadinessConfig,
    ready: Cell<bool>,
}

impl Readiness {
    /// Not ready.
    pub fn new(config: ReadinessConfig) -> Self {
        Self {
            config,
            ready: Cell::new(false),
        }
    }

    /// Looks until all are known; a master that is known stays known.
    fn look(&self) {
        if !self.ready.get() {
            let known = |name: &str| {
                store::topology_newer_than(name, None)
                    .is_some_and(|topology| topology.route().master.is_some())
            };
            self.ready.set(
                self.config
                    .masters
                    .as_slice()
                    .iter()
                    .all(|name| known(name.as_str())),
            );
        }
    }
}

impl vm::Wake for Readiness {
    fn wake(&self, _now: Timestamp) -> Option<Timestamp> {
        self.look();
        None
    }
}

/// One connection of the health checker.
pub struct Question {
    readiness: Rc<Readiness>,
}

impl Question {
    /// Nothing asked yet.
    pub fn new(readiness: &Rc<Readiness>) -> Self {
        Self {
            readiness: readiness.clone(),
        }
    }
}

impl Context for Question {}

impl StreamContext for Question {
    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        // Also looks itself: the main thread's health checker may be quicker than this worker's wake-up.
        self.readiness.look();
        if self.readiness.ready.get() {
            Action::Continue
        } else {
            Action::Pause
        }
    }
}
