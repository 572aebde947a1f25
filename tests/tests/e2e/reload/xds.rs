//! Listeners and clusters that come from files, as they would from a control plane.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use redis_sentinel_tests::render::Config;
use serde_json::{Value, json};

/// Listeners and clusters in files that Envoy watches.
pub struct Xds {
    dir: PathBuf,
    /// As `listener.v3.Listener`.
    pub listeners: Value,
    /// As `cluster.v3.Cluster`.
    pub clusters: Value,
}

impl Xds {
    /// Moves what is static to files.
    pub fn take(config: &mut Config, dir: &Path) -> Result<Self> {
        let json = config.json();
        let taken = json["static_resources"].take();
        let source = |name: &str| json!({ "resource_api_version": "V3", "path_config_source": { "path": dir.join(name) } });
        json["dynamic_resources"] =
            json!({ "lds_config": source("lds.json"), "cds_config": source("cds.json") });
        json["node"] = json!({ "id": "test", "cluster": "test" });
        let xds = Self {
            dir: dir.to_owned(),
            listeners: typed(&taken["listeners"], "listener.v3.Listener"),
            clusters: typed(&taken["clusters"], "cluster.v3.Cluster"),
        };
        xds.publish()?;
        Ok(xds)
    }

    /// Writes both files; Envoy takes a file when it is moved into place.
    pub fn publish(&self) -> Result<()> {
        for (name, resources) in [("cds.json", &self.clusters), ("lds.json", &self.listeners)] {
            let new = self.dir.join(format!("{name}.new"));
            fs::write(&new, json!({ "resources": resources }).to_string())?;
            fs::rename(new, self.dir.join(name))?;
        }
        Ok(())
    }

    /// Changes a field of the module's configuration wherever this root id stands.
    pub fn change(&mut self, root_id: &str, field: &str, value: Value) -> Result<()> {
        each_object(&mut self.listeners, &mut |object| {
            if object.get("root_id").and_then(Value::as_str) == Some(root_id) {
                object["configuration"]["value"][field] = value.clone();
            }
        });
        self.publish()
    }
}

fn typed(items: &Value, kind: &str) -> Value {
    let each = |item: &Value| {
        let mut item = item.clone();
        item["@type"] = json!(format!("type.googleapis.com/envoy.config.{kind}"));
        item
    };
    items.as_array().into_iter().flatten().map(each).collect()
}

/// Changes every object of the whole, whichever it likes.
pub fn each_object(json: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        Value::Object(fields) => {
            change(fields);
            fields
                .values_mut()
                .for_each(|value| each_object(value, change));
        }
        _ => {}
    }
}
