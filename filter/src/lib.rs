//! Envoy's side of envoy-redis-sentinel: decode a callback, ask the core, carry out what it returns.
//!
//! | module | root id | what connects there |
//! |---|---|---|
//! | [`router`] | `redis_router` | applications |
//! | [`watch`] | `sentinel_watch` | Envoy's health checker, once per Sentinel to watch |
//! | [`probe`] | `role_probe` | Envoy's health checker, to ask the master for its own role |
//! | [`probe`] | `early_switch` | Envoy's health checker, to ask the replica that is being promoted |
//! | [`readiness`] | `readiness` | Envoy's health checker, to learn whether a master is known |
//!
//! [`heartbeat`] is what watch and probe have in common. [`store`] is the shared data between them and the workers, [`vm`] wakes them, [`dns`] resolves host
//! names, [`host`] is the only caller of Envoy.

mod dns;
mod filter_state;
mod heartbeat;
mod host;
mod metrics;
mod plugin_configuration;
mod probe;
mod readiness;
mod root;
mod router;
mod secret;
mod store;
#[cfg(feature = "trap-for-tests")]
mod trap;
mod vm;
mod watch;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(root::Root::new(id)));
}}
