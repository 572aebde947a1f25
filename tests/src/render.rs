//! The shipped Envoy configuration with a test's ports in it: the tests run the file that users run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::ports::PortBlock;
use crate::tools;

/// An Envoy configuration that differs from the shipped one in ports, socket names and the module's path.
pub struct Config {
    json: Value,
    admin: u16,
}

impl Config {
    /// Reads `file`, relative to the repository's root, and gives every listener a port of `ports`.
    pub fn from_shipped(file: &str, ports: &mut PortBlock) -> Result<Self> {
        let text = fs::read_to_string(tools::root().join(file)).with_context(|| file.to_owned())?;
        let mut json: Value = yaml_serde::from_str(&text).with_context(|| file.to_owned())?;
        let prefix = ports.socket_prefix();
        let module = tools::module().display().to_string();
        each_string(&mut json, &mut |text| {
            if let Some(name) = text.strip_prefix("@redis-sentinel") {
                *text = format!("@{prefix}{name}");
            } else if text.ends_with("redis_sentinel_filter.wasm") {
                text.clone_from(&module);
            }
        });
        let (admin, mut moved) = (ports.take(), Vec::new());
        let mut set = |place: &mut Value, port: u16| {
            moved.push((format!("127.0.0.1:{place}"), format!("127.0.0.1:{port}")));
            *place = port.into();
        };
        let place = json.pointer_mut("/admin/address/socket_address/port_value");
        set(place.context("no admin port")?, admin);
        for listener in array(&mut json, "/static_resources/listeners")? {
            if let Some(place) = listener.pointer_mut("/address/socket_address/port_value") {
                set(place, ports.take());
            }
        }
        // `own_addresses` name some of them.
        each_string(&mut json, &mut |text| {
            if let Some((_, new)) = moved.iter().find(|(old, _)| old == text) {
                text.clone_from(new);
            }
        });
        Ok(Self { json, admin })
    }

    /// Puts these Sentinels in place of the listed ones.
    pub fn seeds(mut self, sentinels: &[u16]) -> Result<Self> {
        let address =
            |port| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
        let endpoints: Vec<_> = sentinels
            .iter()
            .map(|port| json!({ "endpoint": { "address": address(port) } }))
            .collect();
        let cluster = named(
            array(&mut self.json, "/static_resources/clusters")?,
            "sentinel_seeds",
        )?;
        cluster["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": endpoints }]);
        Ok(self)
    }

    /// The Sentinels' ports as they stand.
    pub fn seed_ports(&self) -> Vec<u16> {
        let clusters = self
            .json
            .pointer("/static_resources/clusters")
            .and_then(Value::as_array);
        let seeds = clusters
            .into_iter()
            .flatten()
            .filter(|cluster| cluster["name"] == "sentinel_seeds");
        let endpoints = seeds.filter_map(|cluster| {
            cluster
                .pointer("/load_assignment/endpoints/0/lb_endpoints")?
                .as_array()
        });
        let port = |endpoint: &Value| {
            endpoint
                .pointer("/endpoint/address/socket_address/port_value")?
                .as_u64()
        };
        endpoints
            .flatten()
            .filter_map(|endpoint| u16::try_from(port(endpoint)?).ok())
            .collect()
    }

    /// Sets a field of the module's configuration wherever `root_id` stands.
    pub fn plugin(mut self, root_id: &str, field: &str, value: &Value) -> Self {
        each_object(&mut self.json, &mut |object| {
            if object.get("root_id").and_then(Value::as_str) == Some(root_id) {
                object["configuration"]["value"][field] = value.clone();
            }
        });
        self
    }

    /// Changes every object of the whole, whichever it likes.
    pub fn each(mut self, mut change: impl FnMut(&mut serde_json::Map<String, Value>)) -> Self {
        each_object(&mut self.json, &mut change);
        self
    }

    /// A listener or a cluster (`listeners`, `clusters`) by its name.
    pub fn item(&mut self, kind: &str, name: &str) -> Result<&mut Value> {
        named(
            array(&mut self.json, &format!("/static_resources/{kind}"))?,
            name,
        )
    }

    /// Gives the watch so many slots.
    pub fn watch_slots(mut self, slots: usize) -> Result<Self> {
        let listener = named(
            array(&mut self.json, "/static_resources/listeners")?,
            "sentinel_watch",
        )?;
        let first = listener.pointer("/address/pipe/path");
        let first = first.and_then(Value::as_str).context("no first slot")?;
        let prefix = first.trim_end_matches('0').to_owned();
        let slot =
            |number| json!({ "address": { "pipe": { "path": format!("{prefix}{number}") } } });
        listener["additional_addresses"] = (1..slots).map(slot).collect();
        let cluster = named(
            array(&mut self.json, "/static_resources/clusters")?,
            "sentinel_heartbeat",
        )?;
        let endpoints: Vec<_> = (0..slots)
            .map(|number| json!({ "endpoint": slot(number) }))
            .collect();
        cluster["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": endpoints }]);
        Ok(self)
    }

    /// Changes anything else, by JSON pointer.
    pub fn set(mut self, pointer: &str, value: Value) -> Result<Self> {
        *self
            .json
            .pointer_mut(pointer)
            .with_context(|| format!("nothing at {pointer}"))? = value;
        Ok(self)
    }

    /// The whole, for changes that the above cannot express.
    pub fn json(&mut self) -> &mut Value {
        &mut self.json
    }

    /// The admin interface's port.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The port of a listener.
    pub fn port(&mut self, listener: &str) -> Result<u16> {
        let listener = named(
            array(&mut self.json, "/static_resources/listeners")?,
            listener,
        )?;
        let port = listener
            .pointer("/address/socket_address/port_value")
            .and_then(Value::as_u64);
        Ok(u16::try_from(port.context("a listener without a port")?)?)
    }

    /// Writes it where Envoy can read it (JSON is YAML).
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_vec_pretty(&self.json)?)?)
    }
}

fn array<'a>(json: &'a mut Value, pointer: &str) -> Result<&'a mut Vec<Value>> {
    json.pointer_mut(pointer)
        .and_then(Value::as_array_mut)
        .with_context(|| format!("no list at {pointer}"))
}

fn named<'a>(items: &'a mut [Value], name: &str) -> Result<&'a mut Value> {
    items
        .iter_mut()
        .find(|item| item["name"] == name)
        .with_context(|| format!("nothing is named {name}"))
}

fn each_string(json: &mut Value, change: &mut impl FnMut(&mut String)) {
    match json {
        Value::String(text) => change(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_string(item, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| each_string(value, change)),
        _ => {}
    }
}

fn each_object(json: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
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
