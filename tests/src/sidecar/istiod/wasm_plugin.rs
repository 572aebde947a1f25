//! WasmPlugins of type NETWORK.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::TYPE;
use crate::manifests::Document;
use crate::sidecar::merge::{Configuration, VIRTUAL_OUTBOUND};

/// A network plugin: a filter by discovery in front of tcp_proxy in every matching outbound listener, and what is discovered.
pub(super) fn insert(plugin: &Document, made: &mut Configuration) -> Result<()> {
    let spec = plugin.at("/spec");
    ensure!(spec["type"] == "NETWORK", "{plugin}: type {}", spec["type"]);
    let [only] = plugin.list("/spec/match") else {
        bail!("{plugin}: one match is known here")
    };
    ensure!(only["mode"] == "CLIENT", "{plugin}: mode {}", only["mode"]);
    let ports: Vec<_> = only["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| &port["number"])
        .collect();
    let name = format!(
        "extensions.istio.io/wasmplugin/{}.{}",
        plugin.namespace(),
        plugin.name()
    );
    let filter = json!({ "name": name, "config_discovery": {
        "config_source": { "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3" },
        "type_urls": [
            format!("{TYPE}.extensions.filters.network.wasm.v3.Wasm"),
            format!("{TYPE}.extensions.filters.network.rbac.v3.RBAC"),
        ] } });
    for listener in &mut made.listeners {
        let port = &listener["address"]["socket_address"]["port_value"];
        if listener["name"] != VIRTUAL_OUTBOUND && ports.contains(&port) {
            let filters = listener
                .pointer_mut("/filter_chains/0/filters")
                .and_then(Value::as_array_mut);
            filters
                .context("a listener without filters")?
                .insert(0, filter.clone());
        }
    }
    let mut keys = json!({ "ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1" });
    if let Some(policy) = spec["imagePullPolicy"].as_str() {
        keys["ISTIO_META_WASM_IMAGE_PULL_POLICY"] = policy.into();
    }
    let variables = plugin.list("/spec/vmConfig/env").iter();
    let host: Vec<_> = variables
        .filter(|v| v["valueFrom"] == "HOST")
        .map(|v| &v["name"])
        .collect();
    let policy = match spec["failStrategy"].as_str() {
        Some("FAIL_RELOAD") => "FAIL_RELOAD",
        Some("FAIL_OPEN") => "FAIL_OPEN",
        _ => "FAIL_CLOSED",
    };
    made.extensions.push(json!({ "name": name, "typed_config": {
        "@type": format!("{TYPE}.extensions.filters.network.wasm.v3.Wasm"),
        "config": {
            "name": format!("{}.{}", plugin.namespace(), plugin.name()),
            "root_id": spec["pluginName"],
            "failure_policy": policy,
            // The plugin's configuration travels as a text.
            "configuration": { "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": spec["pluginConfig"].to_string() },
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "remote": { "http_uri": { "uri": spec["url"], "timeout": "30s", "cluster": "_" } } },
                "environment_variables": { "host_env_keys": host, "key_values": keys },
            },
        },
    } }));
    Ok(())
}
