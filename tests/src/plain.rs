//! The shipped Envoy without the module: what the filter is measured against.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::render::Config;

/// The same listeners for applications with nothing but `tcp_proxy` in them, and no health checks.
pub fn without_module(mut config: Config) -> Result<Config> {
    let uses_module = |listener: &Value| listener["filter_chains"].to_string().contains("root_id");
    let listeners = config.json()["static_resources"]["listeners"]
        .as_array_mut()
        .context("no listeners")?;
    listeners.retain(|listener| {
        !uses_module(listener) || listener.pointer("/address/socket_address").is_some()
    });
    for listener in listeners
        .iter_mut()
        .filter(|listener| uses_module(listener))
    {
        let filters = listener.pointer_mut("/filter_chains/0/filters");
        let filters = filters
            .and_then(Value::as_array_mut)
            .context("no filters")?;
        filters.retain(|filter| filter["name"] == "envoy.filters.network.tcp_proxy");
    }
    let clusters = config.json()["static_resources"]["clusters"]
        .as_array_mut()
        .context("no clusters")?;
    for cluster in clusters {
        if let Some(cluster) = cluster.as_object_mut() {
            cluster.remove("health_checks");
            if cluster["name"] == "sentinel_seeds" {
                cluster.insert("type".to_owned(), json!("STATIC"));
            }
        }
    }
    Ok(config)
}

/// The same as [`to_node`] with another module in front of `tcp_proxy`, in a VM of its own.
pub fn to_node_through(config: Config, port: u16, module: &Path) -> Result<Config> {
    let mut config = to_node(config, port)?;
    let filters = config
        .item("listeners", "redis")?
        .pointer_mut("/filter_chains/0/filters")
        .and_then(Value::as_array_mut)
        .context("no filters")?;
    let vm = json!({
        "vm_id": "other",
        "runtime": "envoy.wasm.runtime.v8",
        "code": { "local": { "filename": module } },
    });
    let wasm = json!({
        "name": "envoy.filters.network.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": { "name": "other", "vm_config": vm },
        },
    });
    filters.insert(0, wasm);
    Ok(config)
}

/// The same, and cluster `redis` is this one node.
pub fn to_node(config: Config, port: u16) -> Result<Config> {
    let mut config = without_module(config)?;
    let cluster = config.item("clusters", "redis")?;
    let cluster = cluster.as_object_mut().context("cluster redis")?;
    cluster.remove("lb_policy");
    cluster.remove("cleanup_interval");
    cluster.insert("type".to_owned(), json!("STATIC"));
    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
    let assignment = json!({ "cluster_name": "redis", "endpoints": endpoints });
    cluster.insert("load_assignment".to_owned(), assignment);
    Ok(config)
}
