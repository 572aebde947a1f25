//! One object of a rendered manifest.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::Value;

/// One object: a Service, a StatefulSet and so on.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(Value);

impl Document {
    /// What it is made of.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// The group and version of its kind: `apps/v1`.
    pub fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// `StatefulSet`.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name; with its kind and namespace the only one in a cluster.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// The namespace that it names, or Kubernetes' own default.
    pub fn namespace(&self) -> &str {
        match self.text("/metadata/namespace") {
            "" => "default",
            name => name,
        }
    }

    /// A text inside, by JSON pointer; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// A value inside, by JSON pointer; null where there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A list inside, by JSON pointer; empty where there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).as_array().map_or(&[], Vec::as_slice)
    }

    /// Where the template of its pods is, if it has pods.
    pub fn pod_pointer(&self) -> Option<&'static str> {
        Some(match self.kind() {
            "Pod" => "",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => "/spec/template",
            "CronJob" => "/spec/jobTemplate/spec/template",
            _ => return None,
        })
    }
}

impl From<Value> for Document {
    fn from(json: Value) -> Self {
        Self(json)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind(), self.name())
    }
}

/// The documents of a YAML text. Empty ones are left out, as `kubectl` does.
pub fn parse(yaml: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (index, document) in yaml_serde::Deserializer::from_str(yaml).enumerate() {
        let json = Value::deserialize(document).with_context(|| format!("document {index}"))?;
        if !json.is_null() {
            documents.push(Document(join_base64(json)));
        }
    }
    Ok(documents)
}

/// kustomize breaks long base64 into lines, and Kubernetes' decoder passes over the breaks. Others do not.
fn join_base64(mut json: Value) -> Value {
    for pointer in ["/binaryData", "/data"] {
        if pointer == "/data" && json["kind"] != "Secret" {
            continue;
        }
        let data = json.pointer_mut(pointer).and_then(Value::as_object_mut);
        for (_, value) in data.into_iter().flatten() {
            if let Value::String(text) = value {
                text.retain(|letter| !letter.is_ascii_whitespace());
            }
        }
    }
    json
}
