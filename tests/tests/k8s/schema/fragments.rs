//! Where pieces of Envoy's configuration stand in an object, and what is wrong with them.

use redis_sentinel_tests::manifests::Document;
use serde_json::Value;

use super::round_trip::member;
use super::{descriptors, plugin};

/// A whole configuration.
pub const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
/// A file that Envoy watches: a list of resources.
const DISCOVERY: &str = "envoy.service.discovery.v3.DiscoveryResponse";

/// What is wrong with the pieces inside, each with its place.
pub fn check(document: &Document) -> Vec<String> {
    match document.kind() {
        "EnvoyFilter" => patches(document),
        "ConfigMap" => files(document),
        "WasmPlugin" => wasm_plugin(document),
        _ => arguments(document),
    }
}

/// The whole configurations in a ConfigMap, by the names of their files.
pub fn bootstraps(document: &Document) -> Vec<(String, Value)> {
    let data = document.at("/data").as_object().into_iter().flatten();
    data.filter_map(|(name, text)| {
        let json = yaml_serde::from_str(text.as_str()?).ok()?;
        (is_structured(name) && message_of(&json) == Some(BOOTSTRAP)).then(|| (name.clone(), json))
    })
    .collect()
}

/// What is wrong with a message, and with everything in it that has a type of its own.
pub fn message(name: &str, json: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    inner(json, "", &mut complaints);
    // Whatever is wrong inside is wrong here again, without saying where.
    if complaints.is_empty()
        && let Err((path, error)) = descriptors::check(name, json)
    {
        complaints.push(format!("{path}: {error}"));
    }
    complaints
}

/// The messages inside an `Any`, the innermost first, and the module's configuration.
fn inner(json: &Value, path: &str, complaints: &mut Vec<String>) {
    let before = complaints.len();
    match json {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                inner(item, &format!("{path}[{index}]"), complaints);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                inner(value, &member(path, key), complaints);
            }
            if complaints.len() > before {
                return;
            }
            if let Some(Value::String(url)) = fields.get("@type") {
                let name = url.strip_prefix("type.googleapis.com/").unwrap_or(url);
                let mut body = fields.clone();
                body.remove("@type");
                // A well-known type, such as a Struct, has its whole JSON form in `value`.
                let body = match body.remove("value") {
                    Some(value) if name.starts_with("google.protobuf.") => value,
                    Some(value) => {
                        body.insert("value".into(), value);
                        Value::Object(body)
                    }
                    None => Value::Object(body),
                };
                if let Err((at, error)) = descriptors::check(name, &body) {
                    complaints.push(format!("{}: {error}", join(path, &at)));
                }
            }
            if let Some(Value::String(root)) =
                fields.get("root_id").or_else(|| fields.get("rootId"))
            {
                let value = &fields.get("configuration").unwrap_or(&Value::Null)["value"];
                if let Err(error) = plugin::check(root, value) {
                    complaints.push(format!("{path}.configuration: {error}"));
                }
            }
        }
        _ => {}
    }
}

fn join(path: &str, rest: &str) -> String {
    match (path, rest) {
        (_, "" | ".") => path.to_owned(),
        ("", _) => rest.to_owned(),
        (_, index) if index.starts_with('[') => format!("{path}{index}"),
        _ => format!("{path}.{rest}"),
    }
}

fn patches(document: &Document) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, patch) in document.list("/spec/configPatches").iter().enumerate() {
        let place = format!("spec.configPatches[{index}]");
        let apply_to = patch["applyTo"].as_str().unwrap_or_default();
        let name = match apply_to {
            "CLUSTER" => "envoy.config.cluster.v3.Cluster",
            "EXTENSION_CONFIG" => "envoy.config.core.v3.TypedExtensionConfig",
            "FILTER_CHAIN" => "envoy.config.listener.v3.FilterChain",
            "HTTP_FILTER" => {
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"
            }
            "LISTENER" => "envoy.config.listener.v3.Listener",
            "LISTENER_FILTER" => "envoy.config.listener.v3.ListenerFilter",
            "NETWORK_FILTER" => "envoy.config.listener.v3.Filter",
            // BOOTSTRAP among them: Istio takes it and does not apply it.
            other => {
                complaints.push(format!("{place}.applyTo: {other} is not used here"));
                continue;
            }
        };
        let Some(value) = patch["patch"].get("value") else {
            continue;
        };
        let found = message(name, value);
        complaints.extend(
            found
                .iter()
                .map(|c| format!("{place}.patch.value{}{c}", dot(c))),
        );
    }
    complaints
}

/// Between a place and a complaint that begins with the rest of it.
fn dot(complaint: &str) -> &'static str {
    if complaint.starts_with(['[', ':', '.']) {
        ""
    } else {
        "."
    }
}

fn wasm_plugin(document: &Document) -> Vec<String> {
    let root = document.text("/spec/pluginName");
    match plugin::check(root, document.at("/spec/pluginConfig")) {
        // Without a name there is no telling what is meant: Istio makes one up from the object's.
        _ if root.is_empty() && document.at("/spec/pluginConfig").is_null() => vec![],
        Ok(()) => vec![],
        Err(error) => vec![format!("spec.pluginConfig: {error}")],
    }
}

fn is_structured(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|end| name.ends_with(end))
}

fn message_of(json: &Value) -> Option<&'static str> {
    let has = |key| json.get(key).is_some();
    if has("static_resources") || has("dynamic_resources") || has("admin") {
        Some(BOOTSTRAP)
    } else if has("resources") {
        Some(DISCOVERY)
    } else {
        None
    }
}

fn files(document: &Document) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, text) in document.at("/data").as_object().into_iter().flatten() {
        if !is_structured(name) {
            continue;
        }
        let place = member("data", name);
        let json: Value = match yaml_serde::from_str(text.as_str().unwrap_or_default()) {
            Ok(json) => json,
            Err(error) => {
                complaints.push(format!("{place}: {error}"));
                continue;
            }
        };
        let found = match message_of(&json) {
            Some(message_name) => message(message_name, &json),
            None => foreign(name),
        };
        complaints.extend(found.iter().map(|c| format!("{place}{}{c}", dot(c))));
    }
    complaints
}

/// What an Envoy is given on its command line, on top of its file.
fn arguments(document: &Document) -> Vec<String> {
    let mut complaints = Vec::new();
    let Some(pod) = document.pod_pointer() else {
        return complaints;
    };
    for container in document.list(&format!("{pod}/spec/containers")) {
        let words: Vec<_> = container["args"].as_array().into_iter().flatten().collect();
        for pair in words.windows(2).filter(|pair| *pair[0] == "--config-yaml") {
            let json = yaml_serde::from_str(pair[1].as_str().unwrap_or_default());
            match json {
                Ok(json) => complaints.extend(message(BOOTSTRAP, &json)),
                Err(error) => complaints.push(error.to_string()),
            }
        }
    }
    complaints
        .iter()
        .map(|complaint| format!("--config-yaml: {complaint}"))
        .collect()
}

/// Files that are not Envoy's.
fn foreign(name: &str) -> Vec<String> {
    match name {
        // Read by the programs themselves when the manifests are run.
        "webdis.json" => vec![],
        // Of Prometheus and Grafana: see `monitoring`.
        "alerts.yaml" | "redis-sentinel.json" => vec![],
        _ => vec![": nobody here knows what this file is".to_owned()],
    }
}
