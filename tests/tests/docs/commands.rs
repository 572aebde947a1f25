//! What README tells the reader to type, to open, or to write into a file exists.

use std::collections::BTreeSet;
use std::fs;

use redis_sentinel_tests::tools;
use serde_json::Value;

use crate::markdown::{blocks, read, section, spans, table};
use crate::reference::PAGE;
use crate::shell;

/// The pages with commands, and the one without.
fn pages() -> Vec<&'static str> {
    let mut pages = vec!["DESIGN.md", "CHANGELOG.md"];
    pages.extend(shell::PAGES);
    pages
}

/// The Makefile's targets that `make help` shows.
fn targets() -> BTreeSet<String> {
    let makefile = read("Makefile");
    let shown = makefile.lines().filter(|line| line.contains(" ## "));
    shown
        .filter_map(|line| line.split_once(':').map(|(target, _)| target.to_owned()))
        .collect()
}

/// The words behind `make` wherever it begins a command: a code span, or a line of a shell block.
fn make_words(text: &str) -> Vec<String> {
    let lines = ["sh", "text", "console"]
        .into_iter()
        .flat_map(|language| blocks(text, language))
        .flat_map(str::lines);
    let commands = spans(text).into_iter().chain(lines);
    commands
        .filter_map(|command| command.trim_start_matches(['$', ' ']).strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|word| {
            let mut bytes = word.bytes();
            bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_make_target_exists() {
    let known = targets();
    for page in pages() {
        for word in make_words(&read(page)) {
            assert!(known.contains(&word), "{page}: there is no `make {word}`");
        }
    }
}

#[test]
fn every_make_target_is_told() {
    let readme = read("README.md");
    let told = table(section(&readme, "Make targets").expect("the section Make targets"));
    let told: BTreeSet<String> = told.iter().flat_map(|row| make_words(&row[0])).collect();
    assert_eq!(told, targets());
}

/// What a link of a page is from the root: `../README.md` of `docs/operations.md` is `README.md`.
fn beside(page: &str, link: &str) -> String {
    let mut path: Vec<&str> = page.split('/').collect();
    path.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(path.pop()),
            "." => {}
            part => path.push(part),
        }
    }
    path.join("/")
}

/// The fragment by which a heading is linked, as GitHub makes it.
fn fragment(heading: &str) -> String {
    let kept = heading.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

#[test]
fn every_link_into_a_page_has_its_heading() {
    for page in pages() {
        let text = read(page);
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split(')').next()?.split_once('#'));
        for (file, wanted) in links.filter(|(file, _)| !file.contains("://")) {
            let target = match file {
                "" => page.to_owned(),
                file => beside(page, file),
            };
            let there = read(&target);
            let mut headings = there.lines().filter(|line| line.starts_with('#'));
            let known =
                headings.any(|line| fragment(line.trim_start_matches('#').trim()) == wanted);
            assert!(known, "{page}: {target} has no heading for #{wanted}");
        }
    }
}

#[test]
fn every_file_exists() {
    let tops: BTreeSet<String> = fs::read_dir(tools::root())
        .expect("the repository")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    for page in pages() {
        let text = read(page);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
            .filter(|link| !link.is_empty() && !link.contains("://"))
            .map(|link| beside(page, link));
        let named = spans(&text).into_iter().filter(|span| {
            let top = span.split('/').next().unwrap_or_default();
            span.contains('/') && tops.contains(top) && !span.contains([' ', '*', '<', ':'])
        });
        for file in links.chain(named.map(str::to_owned)) {
            // What git does not know: `make k8s` puts these there.
            let made = [".wasm", "passwords.env"]
                .iter()
                .any(|end| file.ends_with(end));
            let built = file.starts_with("target/") || made;
            assert!(
                built || tools::root().join(&file).exists(),
                "{page}: there is no {file}"
            );
        }
    }
}

/// A configuration that nobody is told of is of no use.
#[test]
fn every_shipped_configuration_is_told() {
    let readme = read("README.md");
    for entry in fs::read_dir(tools::root().join("envoy")).expect("envoy/") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        assert!(
            readme.contains(&format!("`envoy/{name}`")),
            "README.md does not say what envoy/{name} is for"
        );
    }
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

/// Keys that Envoy has and no shipped file uses.
const ENVOY_ONLY: [&str; 2] = ["environment_variables", "host_env_keys"];

#[test]
fn every_yaml_key_exists() {
    let mut known: BTreeSet<String> = ENVOY_ONLY.map(str::to_owned).into();
    for entry in fs::read_dir(tools::root().join("envoy")).expect("envoy/") {
        let file = entry.expect("an entry").path();
        if file
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(&file).expect("a file");
            keys(&yaml_serde::from_str(&text).expect("YAML"), &mut known);
        }
    }
    // The fields of the tables, which are held against the code elsewhere.
    let reference = read(PAGE);
    let fields = reference
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    known.extend(fields.map(str::to_owned));
    known.extend(["environment", "inline"].map(str::to_owned));
    let pages: String = pages().into_iter().map(read).collect();
    for block in blocks(&pages, "yaml") {
        let value: Value =
            yaml_serde::from_str(block).unwrap_or_else(|error| panic!("{error}:\n{block}"));
        let mut used = BTreeSet::new();
        keys(&value, &mut used);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?} in\n{block}");
    }
}
