//! Root contexts: which of the module's five plugins this is, its configuration, its ticks.

use crate::{dns, host, plugin_configuration, probe, readiness, router, vm, watch};
use proxy_wasm::traits::{Context, RootContext, StreamContext};
use proxy_wasm::types::{Action, ContextType};
use sentinel_core::config;
use std::rc::Rc;

/// A root context, of no kind until it is configured.
pub struct Root {
    id: u32,
    kind: Kind,
}

enum Kind {
    /// Not configured yet, or not enabled: its streams wait for nothing.
    Idle,
    Router(Rc<router::Router>),
    Watch(Rc<watch::Watch>),
    Probe(Rc<probe::Prober>),
    Readiness(Rc<readiness::Readiness>),
}

impl Root {
    /// Made by the SDK before anything is known.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            kind: Kind::Idle,
        }
    }

    fn configure(&mut self) -> Result<(), String> {
        let now = host::now();
        let root_id = host::property(&["plugin_root_id"]).unwrap_or_default();
        let bytes = host::configuration()
            .map_err(|error| format!("the host gives no configuration (status {})", error.0))?;
        let json = plugin_configuration::to_json(bytes);
        let refused = |error: config::ConfigError| format!("{root_id}: {error}");
        let named = |error: String| format!("{root_id}: {error}");
        self.kind = match root_id.as_str() {
            "redis_router" => {
                let config = config::parse(&json).map_err(refused)?;
                let router = Rc::new(router::Router::new(self.id, config));
                vm::enter(now, self.id, &router);
                Kind::Router(router)
            }
            "sentinel_watch" => {
                let config = config::parse(&json).map_err(refused)?;
                let watch = Rc::new(watch::Watch::new(self.id, config).map_err(named)?);
                vm::enter(now, self.id, &watch);
                Kind::Watch(watch)
            }
            "role_probe" => {
                let config = config::parse(&json).map_err(refused)?;
                let prober = Rc::new(probe::Prober::role_probe(self.id, config).map_err(named)?);
                vm::enter(now, self.id, &prober);
                Kind::Probe(prober)
            }
            "early_switch" => {
                let config = config::parse(&json).map_err(refused)?;
                match probe::Prober::early_switch(self.id, config).map_err(named)? {
                    Some(prober) => {
                        let prober = Rc::new(prober);
                        vm::enter(now, self.id, &prober);
                        Kind::Probe(prober)
                    }
                    None => Kind::Idle,
                }
            }
            "readiness" => {
                let config = config::parse(&json).map_err(refused)?;
                let readiness = Rc::new(readiness::Readiness::new(config));
                vm::enter(now, self.id, &readiness);
                Kind::Readiness(readiness)
            }
            other => {
                return Err(format!(
                    "root_id `{other}` is unknown: redis_router, sentinel_watch, role_probe, early_switch or readiness is allowed"
                ));
            }
        };
        Ok(())
    }
}

impl Context for Root {
    /// Envoy wants to delete this root context.
    fn on_done(&mut self) -> bool {
        dns::may_go(self.id)
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(problem) => {
                log::error!("{problem}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        vm::on_tick(host::now(), self.id);
    }

    fn on_queue_ready(&mut self, queue: u32) {
        vm::on_queue_ready(host::now(), queue);
    }

    fn create_stream_context(&self, id: u32) -> Option<Box<dyn StreamContext>> {
        Some(match &self.kind {
            Kind::Router(router) => Box::new(router::Connection::new(id, router)),
            Kind::Watch(watch) => Box::new(watch::Heartbeat::new(id, watch)),
            Kind::Probe(prober) => Box::new(probe::Heartbeat::new(id, prober)),
            Kind::Readiness(readiness) => Box::new(readiness::Question::new(readiness)),
            // The SDK panics on None.
            Kind::Idle => Box::new(Nothing),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::StreamContext)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        vm::leave(host::now(), self.id);
    }
}

/// A stream of a plugin that is not enabled: nothing passes.
struct Nothing;

impl Context for Nothing {}

impl StreamContext for Nothing {
    fn on_new_connection(&mut self) -> Action {
        Action::Pause
    }

    fn on_downstream_data(&mut self, _size: usize, _end_of_stream: bool) -> Action {
        Action::Pause
    }
}
