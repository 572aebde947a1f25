//! Envoy's own opinion of a whole configuration, which it reads without starting anything.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use redis_sentinel_tests::scratch::Scratch;
use redis_sentinel_tests::tools;
use serde_json::Value;

/// Whether Envoy would start with it, the module being where it says.
pub fn accepts(json: &Value) -> Result<()> {
    let scratch = Scratch::new()?;
    let mut json = json.clone();
    here(&mut json);
    let file = scratch.file("envoy.json");
    fs::write(&file, json.to_string())?;
    let mut passwords = BTreeSet::new();
    host_variables(&json, &mut passwords);
    let output = Command::new(tools::envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&file)
        .envs(passwords.iter().map(|name| (name, "a password")))
        .output()
        .context("envoy")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The module's file as it is called on this machine.
fn here(json: &mut Value) {
    match json {
        Value::String(text) if text.ends_with("redis_sentinel_filter.wasm") => {
            *text = tools::module().display().to_string();
        }
        Value::Array(items) => items.iter_mut().for_each(here),
        Value::Object(fields) => fields.values_mut().for_each(here),
        _ => {}
    }
}

/// The variables that Envoy or the module read: they refuse to start without.
fn host_variables(json: &Value, names: &mut BTreeSet<String>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| host_variables(item, names)),
        Value::Object(fields) => {
            let keys = fields.get("host_env_keys").and_then(Value::as_array);
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            names.extend(keys.map(str::to_owned));
            let one = fields.get("environment_variable").and_then(Value::as_str);
            names.extend(one.map(str::to_owned));
            fields
                .values()
                .for_each(|value| host_variables(value, names));
        }
        _ => {}
    }
}
