//! Envoy's messages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};
use serde_json::Value;

use super::round_trip::member;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let file = package("envoy-types").join("src/generated/types.bin");
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    DescriptorPool::decode(bytes.as_slice()).expect("descriptors")
});

/// Where cargo keeps the source of a package that is pinned in Cargo.lock and never compiled.
fn package(name: &str) -> PathBuf {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--locked",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|package| package["name"] == name);
    let manifest = found
        .and_then(|package| package["manifest_path"].as_str())
        .expect("its manifest");
    Path::new(manifest)
        .parent()
        .expect("its directory")
        .to_owned()
}

/// Reads `json` as the message; what is wrong, and where.
pub fn check(message: &str, json: &Value) -> Result<(), (String, String)> {
    let descriptor = POOL
        .get_message_by_name(message)
        .ok_or_else(|| (String::new(), format!("Envoy has no message {message}")))?;
    let mut track = serde_path_to_error::Track::new();
    let reader = serde_path_to_error::Deserializer::new(json, &mut track);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let Err(error) = DynamicMessage::deserialize_with_options(descriptor, reader, &options) else {
        return Ok(());
    };
    let path = match track.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let error = error.to_string();
    // The path of an unknown field is that of the message around it.
    Err(match error.strip_prefix("unrecognized field name '") {
        Some(name) => {
            let name = name.split('\'').next().unwrap_or_default();
            (member(&path, name), "not a field".to_owned())
        }
        None => (path, error),
    })
}
