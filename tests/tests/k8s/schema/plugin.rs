//! The module's own configuration, by the module's own code.

use sentinel_core::config::{
    EarlySwitchConfig, ProbeConfig, ReadinessConfig, RouterConfig, WatchConfig, parse,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the filter with this root id says to a configuration.
pub fn check(root_id: &str, configuration: &Value) -> Result<(), String> {
    fn read<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
        parse::<T>(value.to_string().as_bytes())
            .map(drop)
            .map_err(|error| error.to_string())
    }
    match root_id {
        "redis_router" => read::<RouterConfig>(configuration),
        "sentinel_watch" => read::<WatchConfig>(configuration),
        "role_probe" => read::<ProbeConfig>(configuration),
        "early_switch" => read::<EarlySwitchConfig>(configuration),
        "readiness" => read::<ReadinessConfig>(configuration),
        other => Err(format!("the module has no root id `{other}`")),
    }
}
