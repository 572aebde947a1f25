//! Istio's settings in annotations of pods: text that nobody looks into before the sidecar is made, and then quietly does without.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use redis_sentinel_tests::manifests::Document;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::round_trip;

/// What is used here of Istio's ProxyConfig.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProxyConfig {
    concurrency: Option<u32>,
    drain_duration: Option<String>,
    hold_application_until_proxy_starts: Option<bool>,
    proxy_metadata: Option<BTreeMap<String, String>>,
    proxy_stats_matcher: Option<StatsMatcher>,
    termination_drain_duration: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StatsMatcher {
    inclusion_prefixes: Option<Vec<String>>,
    inclusion_regexps: Option<Vec<String>>,
    inclusion_suffixes: Option<Vec<String>>,
}

/// What is wrong with the annotations of an object's pods.
pub fn check(document: &Document) -> Vec<String> {
    let Some(template) = document.pod_pointer() else {
        return vec![];
    };
    let annotations = document.at(&format!("{template}/metadata/annotations"));
    let mut complaints = Vec::new();
    for (name, text) in annotations.as_object().into_iter().flatten() {
        let text = text.as_str().unwrap_or_default();
        let found = match name.as_str() {
            "proxy.istio.io/config" => match yaml_serde::from_str::<Value>(text) {
                Ok(json) => round_trip::check::<ProxyConfig>(&json),
                Err(error) => vec![error.to_string()],
            },
            "sidecar.istio.io/userVolume" => each::<Volume>(text),
            "sidecar.istio.io/userVolumeMount" => each::<VolumeMount>(text),
            name if name.contains("istio.io/") => known(name),
            _ => vec![],
        };
        complaints.extend(
            found
                .iter()
                .map(|complaint| format!("annotation {name}: {complaint}")),
        );
    }
    complaints
}

/// A JSON map in which the name stands outside of the value.
fn each<T: serde::de::DeserializeOwned + Serialize>(text: &str) -> Vec<String> {
    let map: BTreeMap<String, Value> = match serde_json::from_str(text) {
        Ok(map) => map,
        Err(error) => return vec![error.to_string()],
    };
    let mut complaints = Vec::new();
    for (name, mut value) in map {
        value["name"] = name.clone().into();
        let found = round_trip::check::<T>(&value);
        complaints.extend(found.iter().map(|complaint| format!("{name}.{complaint}")));
    }
    complaints
}

fn known(name: &str) -> Vec<String> {
    let known = [
        "sidecar.istio.io/inject",
        "sidecar.istio.io/interceptionMode",
        "sidecar.istio.io/proxyCPU",
        "sidecar.istio.io/proxyMemory",
        "sidecar.istio.io/proxyMemoryLimit",
        "traffic.sidecar.istio.io/excludeOutboundPorts",
        "traffic.sidecar.istio.io/excludeInboundPorts",
        "traffic.sidecar.istio.io/includeOutboundPorts",
    ];
    if known.contains(&name) {
        vec![]
    } else {
        vec!["Istio has no such annotation, or nobody here knew it".into()]
    }
}
