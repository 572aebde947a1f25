//! The promise to configurations that were written for an older release: `releases/<version>.yaml` has every field of that
//! release, and every later build takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use redis_sentinel_tests::tools;
use serde_json::Value;

use crate::configuration::{fields_of_code, plugins};

const DIR: &str = "tests/tests/docs/releases";

/// What a release's file says: by root id, configurations.
type Release = BTreeMap<String, Vec<Value>>;

/// The releases, oldest first.
fn releases() -> Vec<(String, Release)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(tools::root().join(DIR)).expect(DIR) {
        let path = entry.expect("an entry").path();
        let version = path.file_stem().expect("a name").to_string_lossy();
        let text = fs::read_to_string(&path).expect("a release");
        let release =
            yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        found.push((version.into_owned(), release));
    }
    let number = |version: &str| -> Vec<u32> {
        let parts = version.split('.').map(str::parse);
        parts.map(|part| part.expect("a version")).collect()
    };
    found.sort_by_key(|(version, _)| number(version));
    found
}

fn fields(configurations: &[Value]) -> BTreeSet<String> {
    let objects = configurations.iter().filter_map(Value::as_object);
    objects.flat_map(|object| object.keys().cloned()).collect()
}

/// The first release with this field.
pub fn since(plugin: &str, field: &str) -> Option<String> {
    let has = |release: &Release| {
        let configurations = release.get(plugin);
        configurations.is_some_and(|all| fields(all).contains(field))
    };
    let all = releases();
    let first = all.into_iter().find(|(_, release)| has(release));
    first.map(|(version, _)| version)
}

#[test]
fn configurations_of_older_releases_are_accepted() {
    let all = releases();
    assert!(!all.is_empty(), "the releases are gone");
    for (version, release) in all {
        for (heading, plugin, _) in plugins() {
            let id = heading.trim_matches('`');
            let configurations = release.get(id).map(Vec::as_slice).unwrap_or_default();
            assert!(!configurations.is_empty(), "{version} has no {id}");
            for configuration in configurations {
                let said = plugin(configuration);
                assert!(said.is_ok(), "{version}, {id}: {said:?}");
            }
        }
    }
}

/// So that the next release holds what this one brings.
#[test]
fn the_release_under_way_has_every_field() {
    let current = env!("CARGO_PKG_VERSION");
    let all = releases();
    let (_, release) = all
        .iter()
        .find(|(version, _)| version == current)
        .unwrap_or_else(|| panic!("{DIR}/{current}.yaml: copy the last one, and add what is new"));
    for (heading, plugin, _) in plugins() {
        let id = heading.trim_matches('`');
        let held = release.get(id).map(|all| fields(all)).unwrap_or_default();
        assert_eq!(held, fields_of_code(plugin), "{DIR}/{current}.yaml, {id}");
    }
}
