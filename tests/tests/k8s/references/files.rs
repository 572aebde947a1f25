//! Every file under `k8s/` is used: one that no kustomization names is forgotten work, or a patch that never took effect.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use redis_sentinel_tests::tools;
use serde_json::Value;

use crate::tree::COMBINATIONS;

/// What people read or run, and what is built.
fn is_for_people(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    [".md", ".example", ".wasm"]
        .iter()
        .any(|end| name.ends_with(end))
        || [".gitignore", "generate.sh", "passwords.env"].contains(&name.as_ref())
}

/// What nobody uses.
pub fn complaints() -> Result<Vec<String>> {
    let root = tools::root().join("k8s");
    let (mut files, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut components = BTreeSet::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with("kustomization.yaml") {
                let text = fs::read_to_string(&path)?;
                let json: Value =
                    yaml_serde::from_str(&text).with_context(|| path.display().to_string())?;
                if json["kind"] == "Component" {
                    components.insert(dir.clone());
                }
                used.extend(named(&json).iter().map(|name| absolute(&dir, name)));
            } else {
                files.insert(path);
            }
        }
    }
    let combined = COMBINATIONS.iter().flat_map(|names| names.iter());
    used.extend(combined.map(|name| root.join("istio").join(name)));
    let unused = files
        .iter()
        .filter(|path| !is_for_people(path))
        .chain(&components);
    let unused = unused.filter(|path| !used.contains(*path));
    Ok(unused
        .map(|path| format!("{} is not used", path.display()))
        .collect())
}

/// The files and directories that a kustomization names.
fn named(json: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut named: Vec<Value> = [
        "resources",
        "components",
        "configurations",
        "generators",
        "transformers",
    ]
    .iter()
    .flat_map(|field| list(&json[*field]))
    .collect();
    for field in ["patches", "replacements"] {
        named.extend(list(&json[field]).iter().map(|patch| patch["path"].clone()));
    }
    for generator in [&json["configMapGenerator"], &json["secretGenerator"]] {
        for map in list(generator) {
            named.extend(list(&map["files"]));
            named.extend(list(&map["envs"]));
        }
    }
    let names = named.iter().filter_map(Value::as_str);
    // `key=file` gives a file another name.
    names
        .map(|name| name.rsplit('=').next().unwrap_or(name).to_owned())
        .collect()
}

fn absolute(dir: &Path, name: &str) -> PathBuf {
    let mut path = dir.to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}
