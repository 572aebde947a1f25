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

#[cfg(test)]
mod tests;

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
