//! Every cluster that a configuration leads to is there. Envoy itself does not look: a connection to a cluster that is missing is
//! closed when it comes.

use std::collections::BTreeSet;

use redis_sentinel_tests::manifests::Document;
use serde_json::Value;

use super::fragments;

/// What is said of clusters in the objects of one kustomization, or in one file.
#[derive(Default)]
pub struct Clusters {
    there: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl Clusters {
    /// Of a whole configuration.
    pub fn of(bootstrap: &Value) -> Self {
        let mut clusters = Self::default();
        let list = bootstrap.pointer("/static_resources/clusters");
        for cluster in list.and_then(Value::as_array).into_iter().flatten() {
            clusters.add(cluster);
        }
        clusters.read(bootstrap);
        clusters
    }

    /// Of the EnvoyFilters and WasmPlugins that meet in one sidecar.
    pub fn of_sidecar(documents: &[Document]) -> Self {
        let mut clusters = Self::default();
        for document in documents {
            match document.kind() {
                "EnvoyFilter" => {
                    for patch in document.list("/spec/configPatches") {
                        let value = &patch["patch"]["value"];
                        if patch["applyTo"] == "CLUSTER" {
                            clusters.add(value);
                        }
                        clusters.read(value);
                    }
                }
                "WasmPlugin" => {
                    let configuration = document.at("/spec/pluginConfig");
                    clusters.read(configuration);
                    clusters.implied(document.text("/spec/pluginName"), configuration);
                }
                _ => {}
            }
        }
        // Istio's own, and what stands where its agent fetches a file and Envoy uses no cluster.
        clusters.there.extend(["sds-grpc", "_"].map(str::to_owned));
        clusters
    }

    /// The clusters that are used and not there.
    pub fn missing(&self) -> Vec<&str> {
        self.used
            .difference(&self.there)
            .map(String::as_str)
            .collect()
    }

    fn add(&mut self, cluster: &Value) {
        self.there
            .extend(cluster["name"].as_str().map(str::to_owned));
    }

    /// The cluster that a router leads to if it is not told which.
    fn implied(&mut self, root: &str, configuration: &Value) {
        if root == "redis_router" && configuration["masterdown_cluster"].is_null() {
            self.used.insert("masterdown".into());
        }
    }

    fn read(&mut self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Object(fields) => {
                if let Some(root) = fields.get("root_id").and_then(Value::as_str) {
                    self.implied(root, &json["configuration"]["value"]);
                }
                for (key, value) in fields {
                    // `cluster_name` is also what a load assignment calls itself: its cluster has that name.
                    let names_one =
                        key == "cluster" || key == "cluster_name" || key.ends_with("_cluster");
                    match value {
                        Value::String(name) if names_one && !name.is_empty() => {
                            self.used.insert(name.clone());
                        }
                        Value::Object(shares) if key == "cluster_min_healthy_percentages" => {
                            self.used.extend(shares.keys().cloned());
                        }
                        value => self.read(value),
                    }
                }
            }
            _ => {}
        }
    }
}

/// What is missing in the whole configurations of a ConfigMap.
pub fn check(document: &Document) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, json) in fragments::bootstraps(document) {
        let clusters = Clusters::of(&json);
        let missing = clusters.missing();
        complaints.extend(
            missing
                .iter()
                .map(|cluster| format!("{name}: no cluster {cluster}")),
        );
    }
    complaints
}
