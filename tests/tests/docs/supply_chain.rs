//! What comes from elsewhere: from where, under which licence, and held by which hash. `make deny` says more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis_sentinel_tests::tools;
use serde_json::Value;

use crate::licence;
use crate::markdown::{read, section, table};

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `cargo metadata` knows of the packages that `platform` takes.
fn metadata(platform: &str) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--filter-platform", platform])
        .current_dir(tools::root())
        .output()
        .expect("cargo");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn every_crate_is_of_the_registry_and_held_by_its_checksum() {
    let lock = read("Cargo.lock");
    let mut foreign = 0;
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let start = format!("{name} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|value| value.trim_end_matches('"'))
        };
        let Some(source) = field("source") else {
            continue; // of this repository
        };
        foreign += 1;
        let checksum = field("checksum").unwrap_or_default();
        let name = field("name").unwrap_or_default();
        assert_eq!(source, REGISTRY, "{name}");
        assert_eq!(checksum.len(), 64, "{name} has no checksum");
    }
    assert!(foreign > 50, "Cargo.lock was not read");
}

/// The list and the exceptions of deny.toml, which cargo-deny reads as well.
fn allowed() -> (BTreeSet<String>, BTreeSet<String>) {
    let rules = read("deny.toml");
    let words = |line: &str| -> BTreeSet<String> {
        line.split('"')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let line = |start: &str| rules.lines().find(|line| line.starts_with(start));
    (
        words(line("allow = [").expect("the list")),
        words(line("exceptions = [").unwrap_or_default()),
    )
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let (allowed, exceptions) = allowed();
    for platform in ["wasm32-wasip1", host().as_str()] {
        for package in list(&metadata(platform), "packages") {
            let (name, licence) = (text(package, "name"), text(package, "license"));
            assert!(
                exceptions.contains(name) || licence::allows(licence, &allowed),
                "{name}: {licence:?} is not allowed by deny.toml"
            );
        }
    }
}

/// The platform that this runs on, as cargo names it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc's host").to_owned()
}

/// The crates whose code is in the module: from the filter along its normal dependencies.
fn linked(metadata: &Value) -> BTreeSet<String> {
    let by_id = |field: &'static str| -> BTreeMap<&str, &Value> {
        let items = match field {
            "nodes" => list(&metadata["resolve"], field),
            _ => list(metadata, field),
        };
        items.iter().map(|item| (text(item, "id"), item)).collect()
    };
    let (packages, nodes) = (by_id("packages"), by_id("nodes"));
    let is_macro = |package: &Value| {
        let kinds = list(package, "targets")
            .iter()
            .flat_map(|t| list(t, "kind"));
        kinds.into_iter().any(|kind| kind == "proc-macro")
    };
    let root = packages
        .values()
        .find(|package| text(package, "name") == "redis-sentinel-filter");
    let mut open = vec![text(root.expect("the filter"), "id")];
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) || is_macro(packages[id]) {
            continue;
        }
        if !packages[id]["source"].is_null() {
            names.insert(text(packages[id], "name").to_owned());
        }
        let normal = |dep: &&Value| {
            list(dep, "dep_kinds")
                .iter()
                .any(|kind| kind["kind"].is_null())
        };
        let deps = list(nodes[id], "deps").iter().filter(normal);
        open.extend(deps.map(|dep| text(dep, "pkg")));
    }
    names
}

/// A new crate in the module is a decision, not a side effect.
#[test]
fn the_crates_in_the_module_are_those_that_are_told() {
    let page = read("SECURITY.md");
    let rows = table(section(&page, "What the module links").expect("the section"));
    let told: BTreeSet<String> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').into())
        .collect();
    assert_eq!(told, linked(&metadata("wasm32-wasip1")));
}

/// Files of the repository by the end of their name; not what was built or installed.
fn files(dir: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() && !["target", ".git", "node_modules"].contains(&name.as_str()) {
            files(&path, end, found);
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
}

fn all(end: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(tools::root(), end, &mut found);
    assert!(!found.is_empty(), "no {end}");
    let read = |path: PathBuf| {
        (
            path.display().to_string(),
            fs::read_to_string(path).expect("text"),
        )
    };
    found.into_iter().map(read).collect()
}

#[test]
fn every_python_package_is_held_by_its_hash() {
    for (file, text) in all("requirements.txt") {
        let joined = text.replace("\\\n", " ");
        let lines = joined.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let held = line.contains("==") && line.contains(" --hash=sha256:");
            assert!(held, "{file}: {line}");
        }
    }
}

#[test]
fn every_node_package_is_held_by_its_hash() {
    for (file, text) in all("package-lock.json") {
        let lock: Value = serde_json::from_str(&text).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        for (name, package) in packages.iter().filter(|(name, _)| !name.is_empty()) {
            let integrity = package["integrity"].as_str().unwrap_or_default();
            assert!(integrity.starts_with("sha512-"), "{file}: {name}");
        }
    }
}

/// No script takes what it finds: pip by hash, npm and cargo by their locks, and nothing by a URL of its own.
#[test]
fn every_download_is_pinned() {
    let mut scripts = all(".sh");
    scripts.extend(all("Makefile"));
    for (file, text) in scripts {
        let joined = text.replace("\\\n", " ");
        let lines = joined
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        for line in lines {
            if let Some(problem) = unpinned(line) {
                panic!("{file}: {problem}: {line}");
            }
        }
    }
}

/// What is wrong with a line of a script, if it downloads something.
fn unpinned(line: &str) -> Option<&'static str> {
    let words: BTreeSet<&str> = line.split([' ', '\t', ';', '(', ')', '@', '"']).collect();
    let has = |all: &[&str]| all.iter().all(|word| words.contains(word));
    let locked = line.contains("--locked") || line.contains("--offline");
    if has(&["pip", "install"]) || has(&["pip", "download"]) {
        return (!line.contains("--require-hashes")).then_some("pip without --require-hashes");
    }
    if has(&["npm", "install"]) || has(&["npx"]) {
        return Some("npm without its lock: npm ci");
    }
    let cargo = [
        "build", "test", "nextest", "clippy", "install", "run", "fetch",
    ];
    if words.contains("cargo") && cargo.iter().any(|word| words.contains(word)) {
        return (!locked).then_some("cargo without --locked");
    }
    let fetches = line.contains("http") && (words.contains("curl") || words.contains("wget"));
    let local = line.contains("127.0.0.1") || line.contains("localhost");
    (fetches && !local).then_some("a download without a hash")
}

#[test]
fn a_loose_download_is_found() {
    for line in [
        "python3 -m pip install redis",
        "npm install ioredis",
        "cargo install cargo-deny",
        "curl -sSL https://example.org/x | sh",
        "@cargo build -p x",
    ] {
        assert!(unpinned(line).is_some(), "{line}");
    }
    for line in [
        "pip install --require-hashes -r lock",
        "npm ci --prefix x",
        "cargo build --locked -p x",
        "curl http://127.0.0.1:9901/ready",
        "cargo fmt --all --check",
    ] {
        assert_eq!(unpinned(line), None, "{line}");
    }
}
