//! EnvoyFilters, merged into a sidecar's configuration by Istio's rules, as far as the files under `k8s/istio` use them. What
//! they do not use is refused, so that a file cannot rely on a rule that nobody checked.
//!
//! - An EnvoyFilter concerns the pods of its namespace that have all labels of its `workloadSelector`.
//! - All NETWORK_FILTER patches are applied to each listener, chain by chain, the default chain last. INSERT_BEFORE finds the
//!   first filter of that name; then MERGE looks at every filter of the chain. A patch that finds nothing is no error.
//! - `portNumber` is the listener's own port. The listener on which redirected connections arrive is matched by the
//!   `destination_port` of its chains instead; without that, no chain of it matches.
//! - LISTENER ADD comes after that, so nothing is inserted into an added listener. CLUSTER ADD is taken as it is.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::manifests::Document;

/// Istio's name for the listener on which redirected connections arrive.
pub const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
const CONTEXT: &str = "SIDECAR_OUTBOUND";

/// What istiod sends to a sidecar.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Listeners, the virtual one included.
    pub listeners: Vec<Value>,
    /// Clusters.
    pub clusters: Vec<Value>,
    /// Filters that are asked for by name.
    pub extensions: Vec<Value>,
}

/// One patch, and how often it found what it was looking for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hits {
    /// `redis-sentinel-router[0]`.
    pub patch: String,
    /// `NETWORK_FILTER INSERT_BEFORE`.
    pub what: String,
    /// How often.
    pub hits: usize,
}

impl fmt::Display for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.patch, self.what, self.hits)
    }
}

struct Patch<'a> {
    apply_to: &'a str,
    operation: &'a str,
    find: &'a Value,
    value: &'a Value,
    hits: Hits,
}

/// Applies those EnvoyFilters that concern a pod of `namespace` with these `labels`.
pub fn apply(
    documents: &[Document],
    namespace: &str,
    labels: &Map<String, Value>,
    to: &mut Configuration,
) -> Result<Vec<Hits>> {
    let mut patches = Vec::new();
    for filter in documents.iter().filter(|d| d.kind() == "EnvoyFilter") {
        if filter.namespace() == namespace && selects(filter.at("/spec/workloadSelector"), labels)?
        {
            read(filter, &mut patches)?;
        }
    }
    for listener in &mut to.listeners {
        patch_listener(listener, &mut patches)?;
    }
    for patch in &mut patches {
        let list = match patch.apply_to {
            "LISTENER" => &mut to.listeners,
            "CLUSTER" => &mut to.clusters,
            "EXTENSION_CONFIG" => &mut to.extensions,
            _ => continue,
        };
        ensure!(
            list.iter().all(|item| item["name"] != patch.value["name"]),
            "{}: there is a {} of that name",
            patch.hits.patch,
            patch.apply_to
        );
        list.push(patch.value.clone());
        patch.hits.hits += 1;
    }
    Ok(patches.into_iter().map(|patch| patch.hits).collect())
}

fn selects(selector: &Value, labels: &Map<String, Value>) -> Result<bool> {
    let Some(wanted) = selector["labels"].as_object() else {
        bail!("an EnvoyFilter without workloadSelector would change every pod of the namespace");
    };
    Ok(wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value)))
}

fn read<'a>(filter: &'a Document, patches: &mut Vec<Patch<'a>>) -> Result<()> {
    for (index, patch) in filter.list("/spec/configPatches").iter().enumerate() {
        let text = |pointer: &str| patch.pointer(pointer).and_then(Value::as_str);
        let name = format!("{}[{index}]", filter.name());
        let apply_to = text("/applyTo").with_context(|| name.clone())?;
        let operation = text("/patch/operation").with_context(|| name.clone())?;
        let find = &patch["match"];
        ensure!(
            find["context"] == CONTEXT,
            "{name}: context {}",
            find["context"]
        );
        let known = match (apply_to, operation) {
            ("LISTENER" | "CLUSTER" | "EXTENSION_CONFIG", "ADD") => has_only(find, &["context"]),
            ("NETWORK_FILTER", "INSERT_BEFORE" | "MERGE") => {
                let chain = &find["listener"]["filterChain"];
                has_only(find, &["context", "listener"])
                    && has_only(&find["listener"], &["portNumber", "filterChain"])
                    && has_only(chain, &["filter"])
                    && has_only(&chain["filter"], &["name"])
            }
            _ => false,
        };
        ensure!(
            known,
            "{name}: {apply_to} {operation} {find} is not one of the rules here"
        );
        patches.push(Patch {
            apply_to,
            operation,
            find,
            value: &patch["patch"]["value"],
            hits: Hits {
                patch: name,
                what: format!("{apply_to} {operation}"),
                hits: 0,
            },
        });
    }
    Ok(())
}

fn has_only(value: &Value, keys: &[&str]) -> bool {
    let object = value.as_object();
    object.is_some_and(|object| {
        object.len() == keys.len() && keys.iter().all(|key| object.contains_key(*key))
    })
}

fn patch_listener(listener: &mut Value, patches: &mut [Patch<'_>]) -> Result<()> {
    let is_virtual = listener["name"] == VIRTUAL_OUTBOUND;
    let port = listener
        .pointer("/address/socket_address/port_value")
        .cloned();
    let Some(listener) = listener.as_object_mut() else {
        bail!("a listener that is none");
    };
    let (mut chains, mut default) = (Vec::new(), None);
    for (key, value) in listener.iter_mut() {
        match key.as_str() {
            "filter_chains" => chains.extend(value.as_array_mut().into_iter().flatten()),
            "default_filter_chain" => default = Some(value),
            _ => {}
        }
    }
    for chain in chains.into_iter().chain(default) {
        let port = if is_virtual {
            chain
                .pointer("/filter_chain_match/destination_port")
                .cloned()
        } else {
            port.clone()
        };
        let Some(filters) = chain["filters"].as_array_mut() else {
            continue;
        };
        let concerns = |patch: &&mut Patch<'_>| {
            patch.apply_to == "NETWORK_FILTER"
                && Some(&patch.find["listener"]["portNumber"]) == port.as_ref()
        };
        for patch in patches.iter_mut().filter(concerns) {
            let wanted = &patch.find["listener"]["filterChain"]["filter"]["name"];
            if patch.operation != "INSERT_BEFORE" {
                continue;
            }
            if let Some(at) = filters.iter().position(|filter| filter["name"] == *wanted) {
                filters.insert(at, patch.value.clone());
                patch.hits.hits += 1;
            }
        }
        for patch in patches.iter_mut().filter(concerns) {
            let wanted = &patch.find["listener"]["filterChain"]["filter"]["name"];
            if patch.operation != "MERGE" {
                continue;
            }
            for filter in filters
                .iter_mut()
                .filter(|filter| filter["name"] == *wanted)
            {
                // Of what is asked for by name there is nothing to merge with.
                if filter.get("typed_config").is_some() {
                    merge(filter, patch.value);
                    patch.hits.hits += 1;
                }
            }
        }
    }
    Ok(())
}

/// As messages are merged: fields into fields, lists appended, everything else (durations, too) replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(known) => merge(known, value),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listener(name: &str, port: u16, chains: Value) -> Value {
        json!({ "name": name, "address": { "socket_address": { "port_value": port } }, "filter_chains": chains })
    }

    fn chain(filters: &[&str]) -> Value {
        let filter =
            |name: &&str| json!({ "name": name, "typed_config": { "old": 1, "list": [1] } });
        json!({ "filters": filters.iter().map(filter).collect::<Vec<_>>() })
    }

    fn patch(apply_to: &str, operation: &str, find: &Value, value: &Value) -> Document {
        Document::from(json!({
            "kind": "EnvoyFilter", "metadata": { "name": "f", "namespace": "n" },
            "spec": {
                "workloadSelector": { "labels": { "a": "b" } },
                "configPatches": [{ "applyTo": apply_to, "match": find,
                    "patch": { "operation": operation, "value": value } }],
            },
        }))
    }

    fn network_filter(operation: &str) -> Document {
        let find = json!({ "context": CONTEXT, "listener": { "portNumber": 6379,
            "filterChain": { "filter": { "name": "t" } } } });
        let value = json!({ "name": "t", "typed_config": { "new": 2, "list": [2] } });
        patch("NETWORK_FILTER", operation, &find, &value)
    }

    fn applied(document: &Document, listeners: Vec<Value>) -> (Configuration, usize) {
        let mut configuration = Configuration {
            listeners,
            ..Configuration::default()
        };
        let labels = json!({ "a": "b", "c": "d" });
        let labels = labels.as_object().expect("an object");
        let hits = apply(
            std::slice::from_ref(document),
            "n",
            labels,
            &mut configuration,
        );
        let hits = hits
            .expect("known rules")
            .iter()
            .map(|hits| hits.hits)
            .sum();
        (configuration, hits)
    }

    #[test]
    fn a_filter_is_inserted_before_the_first_match_of_every_chain_on_that_port() {
        let mut two = listener("x", 6379, json!([chain(&["m", "t"]), chain(&["m"])]));
        two["default_filter_chain"] = chain(&["t", "t"]);
        let other = listener("y", 5432, json!([chain(&["t"])]));
        let (got, hits) = applied(&network_filter("INSERT_BEFORE"), vec![two, other.clone()]);
        assert_eq!(hits, 2);
        let names = |pointer: &str| {
            let filters = got.listeners[0].pointer(pointer).and_then(Value::as_array);
            let names = filters
                .into_iter()
                .flatten()
                .map(|f| f["typed_config"]["new"].is_i64());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names("/filter_chains/0/filters"), [false, true, false]);
        assert_eq!(names("/filter_chains/1/filters"), [false]);
        assert_eq!(names("/default_filter_chain/filters"), [true, false, false]);
        assert_eq!(got.listeners[1], other);
    }

    #[test]
    fn a_merge_adds_fields_and_appends_to_lists() {
        let (got, hits) = applied(
            &network_filter("MERGE"),
            vec![listener("x", 6379, json!([chain(&["t"])]))],
        );
        assert_eq!(hits, 1);
        let merged = &got.listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(*merged, json!({ "old": 1, "new": 2, "list": [1, 2] }));
    }

    #[test]
    fn the_virtual_listener_is_matched_by_the_chains_destination() {
        let mut chains = json!([chain(&["t"]), chain(&["t"])]);
        chains[1]["filter_chain_match"] = json!({ "destination_port": 6379 });
        // Its own port counts for nothing, not even the right one.
        let (got, hits) = applied(
            &network_filter("INSERT_BEFORE"),
            vec![listener(VIRTUAL_OUTBOUND, 6379, chains)],
        );
        assert_eq!(hits, 1);
        let length = |n: usize| {
            got.listeners[0]["filter_chains"][n]["filters"]
                .as_array()
                .map(Vec::len)
        };
        assert_eq!((length(0), length(1)), (Some(1), Some(2)));
    }

    #[test]
    fn other_pods_and_other_namespaces_are_left_alone() {
        let filter = network_filter("INSERT_BEFORE");
        let before = Configuration {
            listeners: vec![listener("x", 6379, json!([chain(&["t"])]))],
            ..Configuration::default()
        };
        for (namespace, labels) in [("other", json!({ "a": "b" })), ("n", json!({ "a": "x" }))] {
            let mut after = before.clone();
            let labels = labels.as_object().expect("an object");
            let hits =
                apply(std::slice::from_ref(&filter), namespace, labels, &mut after).expect("rules");
            assert!(hits.is_empty());
            assert_eq!(after.listeners, before.listeners);
        }
    }

    #[test]
    fn an_added_listener_is_not_patched_and_must_be_new() {
        let context = json!({ "context": CONTEXT });
        let added = listener("z", 6379, json!([chain(&["t"])]));
        let mut filter = network_filter("INSERT_BEFORE").json().clone();
        let add = patch("LISTENER", "ADD", &context, &added);
        let patches = filter
            .pointer_mut("/spec/configPatches")
            .and_then(Value::as_array_mut);
        patches
            .expect("a list")
            .push(add.json()["spec"]["configPatches"][0].clone());
        let (got, hits) = applied(&Document::from(filter.clone()), vec![]);
        assert_eq!((hits, &got.listeners), (1, &vec![added.clone()]));
        let mut configuration = Configuration {
            listeners: vec![added],
            ..Configuration::default()
        };
        let labels = json!({ "a": "b" });
        let labels = labels.as_object().expect("an object");
        assert!(apply(&[Document::from(filter)], "n", labels, &mut configuration).is_err());
    }

    #[test]
    fn a_rule_that_nobody_checked_is_refused() {
        let context = json!({ "context": CONTEXT });
        let mut inbound = network_filter("INSERT_BEFORE").json().clone();
        inbound["spec"]["configPatches"][0]["match"]["context"] = "SIDECAR_INBOUND".into();
        let mut named = network_filter("INSERT_BEFORE").json().clone();
        named["spec"]["configPatches"][0]["match"]["listener"]["name"] = "x".into();
        for filter in [
            network_filter("INSERT_AFTER"),
            patch("BOOTSTRAP", "MERGE", &context, &json!({})),
            patch("CLUSTER", "MERGE", &context, &json!({})),
            Document::from(inbound),
            Document::from(named),
        ] {
            let labels = json!({ "a": "b" });
            let labels = labels.as_object().expect("an object");
            let mut nothing = Configuration::default();
            assert!(
                apply(std::slice::from_ref(&filter), "n", labels, &mut nothing).is_err(),
                "{:?}",
                filter.json()
            );
        }
    }
}
