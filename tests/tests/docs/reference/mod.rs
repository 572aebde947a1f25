//! The tables of docs/configuration.md, made of `filter/core/src/config.rs`: its fields, types, defaults and doc comments
//! stand there and nowhere else. `make docs` writes the page anew; the test fails where it is not what would be written.

mod kinds;
mod source;

use std::fs;

use redis_sentinel_tests::tools;

use self::kinds::{Kind, kind, secret};
use self::source::{Default, Field, Plugin, plugins};
use crate::configuration::{plugin, with};
use crate::markdown::read;
use crate::releases;

pub const PAGE: &str = "docs/configuration.md";

fn kind_of(field: &Field) -> Kind {
    match field.rust.as_str() {
        "Secret" => secret(),
        rust => kind(&field.name, rust),
    }
}

fn row(plugin: &str, field: &Field) -> String {
    let kind = kind_of(field);
    let default = match &field.default {
        Default::Required => "required".to_owned(),
        Default::OfType => kind.default.to_owned(),
        Default::Is(value) => format!("`{value}`"),
    };
    let since = releases::since(plugin, &field.name).unwrap_or_else(|| "unreleased".to_owned());
    let cells = [
        format!("`{}`", field.name),
        kind.name.to_owned(),
        default,
        kind.allowed.to_owned(),
        since,
        field.doc.clone(),
    ];
    // A `|` inside a cell is a character of it.
    let cells = cells.map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn table(plugin: &Plugin) -> String {
    let head =
        "| field | type | default | allowed | since | meaning |\n|---|---|---|---|---|---|\n";
    let rows = plugin.fields.iter().map(|field| row(&plugin.id, field));
    head.to_owned() + &rows.collect::<String>()
}

/// The page with each table between its two marks replaced.
fn written(page: &str) -> String {
    let mut page = page.to_owned();
    for plugin in plugins() {
        let begin = format!("<!-- {}: written by `make docs` -->\n", plugin.id);
        let (before, rest) = page
            .split_once(&begin)
            .unwrap_or_else(|| panic!("{PAGE} has no place for {}", plugin.id));
        let (_, after) = rest.split_once("<!-- end -->").expect("the end of a table");
        page = format!("{before}{begin}{}<!-- end -->{after}", table(&plugin));
    }
    page
}

#[test]
fn the_reference_is_what_the_code_says() {
    let page = read(PAGE);
    let written = written(&page);
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(tools::root().join(PAGE), written).expect("the page");
        return;
    }
    for (here, there) in page.lines().zip(written.lines()) {
        assert_eq!(here, there, "{PAGE} is old: `make docs` writes it anew");
    }
    assert_eq!(page.len(), written.len(), "{PAGE} is old: `make docs`");
}

/// The edges that the tables tell of are those of the code, for every field.
#[test]
fn the_code_allows_what_is_told_and_no_more() {
    let known = crate::configuration::plugins();
    for Plugin { id, fields } in plugins() {
        let (_, parse, minimal) = known
            .iter()
            .find(|(heading, _, _)| heading.trim_matches('`') == id)
            .unwrap_or_else(|| panic!("{id} is not parsed here"));
        for field in fields {
            let kind = kind_of(&field);
            let said =
                |value: &serde_json::Value| parse(&with(minimal, &field.name, Some(value.clone())));
            for value in &kind.accepted {
                let said = said(value);
                assert!(said.is_ok(), "{id}.{}: {value}: {said:?}", field.name);
            }
            for value in &kind.refused {
                let said = said(value);
                assert!(said.is_err(), "{id}.{} accepts {value}", field.name);
            }
        }
    }
    // The helper itself tells right from wrong.
    let readiness = plugin::<sentinel_core::config::ReadinessConfig>;
    assert!(readiness(&serde_json::json!({ "masters": [] })).is_err());
}
