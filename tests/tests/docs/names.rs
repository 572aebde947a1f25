//! Metrics and reasons of a refusal: the tables of docs/operations.md against the strings of the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use redis_sentinel_tests::tools;

use crate::markdown::{read, section, table};

/// The page that says what they mean.
pub const PAGE: &str = "docs/operations.md";

/// The text of every source file of the module, without unit tests.
pub fn sources() -> String {
    let mut text = String::new();
    for dir in ["filter/src", "filter/core/src"] {
        collect(&tools::root().join(dir), &mut text);
    }
    text
}

fn collect(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, text);
        } else if !path.ends_with("tests.rs") {
            let file = fs::read_to_string(path).expect("a source file");
            text.push_str(file.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
}

/// String literals as they stand; enough for names without escapes.
fn literals(text: &str) -> BTreeSet<String> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Why a client may be refused, as metrics name it: the words of `impl Display for Refusal`.
fn refusals(sources: &str) -> BTreeSet<String> {
    let (_, rest) = sources
        .split_once("impl fmt::Display for Refusal {")
        .expect("the words of a refusal");
    let block = rest.split("\n}").next().expect("its end");
    literals(block)
        .into_iter()
        .filter(|word| is_name(word))
        .collect()
}

/// What a metric may be told apart by. A label stands before the name, in the call as in the stat.
const LABELS: [&str; 7] = [
    "cause", "kind", "node", "outcome", "reason", "role", "sentinel",
];

/// Gauges and histograms, which have no suffix to know them by: the last word of each call.
fn gauges(sources: &str) -> BTreeSet<String> {
    let calls = ["set(", "shift(", "sample(", "by(", "at("];
    let calls = calls.map(|call| format!("metrics::{call}"));
    calls
        .iter()
        .flat_map(|call| sources.split(call.as_str()).skip(1))
        .filter_map(|rest| rest.split(';').next())
        .filter_map(|call| call.split('"').skip(1).step_by(2).last())
        .filter(|name| is_name(name) && !LABELS.contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_are_all_there_and_no_other() {
    let sources = sources();
    let mut code: BTreeSet<String> = literals(&sources)
        .into_iter()
        .filter(|name| name.ends_with("_total") && is_name(name))
        .collect();
    code.extend(gauges(&sources));

    let page = read(PAGE);
    let rows = table(section(&page, "Metrics").expect("the section Metrics"));
    let told: BTreeSet<String> = rows
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert_eq!(told, code);
}

#[test]
fn every_reason_of_a_refusal_is_told() {
    let page = read(PAGE);
    let text = section(&page, "What a client is told").expect("the section on -MASTERDOWN");
    let told: BTreeSet<String> = table(text)
        .iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let sources = sources();
    assert_eq!(told, refusals(&sources));
    // The list by which their counters are shown from the start.
    let (_, list) = sources.split_once("pub const WORDS:").expect("the list");
    let list = list.split("];").next().expect("its end");
    assert_eq!(literals(list), refusals(&sources));
}
