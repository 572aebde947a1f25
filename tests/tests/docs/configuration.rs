//! The configuration tables: every field of the code, no other, each with the default that it has.

use core::fmt::Debug;
use std::collections::BTreeSet;

use sentinel_core::config::{
    CredentialsConfig, EarlySwitchConfig, ProbeConfig, ReadinessConfig, RouterConfig, Secret,
    WatchConfig, parse,
};
use serde_json::{Map, Value, json};

use crate::markdown::{read, section, table};
use crate::reference::PAGE;

/// What a plugin makes of a configuration: its Debug form, or its refusal.
pub type Plugin = fn(&Value) -> Result<String, String>;

pub fn plugin<T: for<'de> serde::Deserialize<'de> + Debug>(
    value: &Value,
) -> Result<String, String> {
    parse::<T>(value.to_string().as_bytes())
        .map(|config| format!("{config:?}"))
        .map_err(|error| error.to_string())
}

/// The tables by their headings, the code that each describes, and what is required there.
pub fn plugins() -> [(&'static str, Plugin, Value); 6] {
    let name = || json!({ "master_name": "m" });
    let names = || json!({ "masters": ["m"] });
    [
        ("`redis_router`", plugin::<RouterConfig>, name()),
        ("`sentinel_watch`", plugin::<WatchConfig>, names()),
        ("`role_probe`", plugin::<ProbeConfig>, name()),
        ("`early_switch`", plugin::<EarlySwitchConfig>, name()),
        ("`readiness`", plugin::<ReadinessConfig>, names()),
        (
            "`credentials`",
            plugin::<CredentialsConfig>,
            json!({ "password": { "inline": "p" } }),
        ),
    ]
}

/// The fields that the code knows, from its own refusal: "unknown field `x`, expected one of `a`, `b`".
pub fn fields_of_code(plugin: Plugin) -> BTreeSet<String> {
    let refusal = plugin(&json!({ "no_such_field": 1 })).expect_err("unknown fields are refused");
    let (_, known) = refusal
        .split_once("expected")
        .unwrap_or_else(|| panic!("it does not say what it knows: {refusal}"));
    known
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

pub fn with(minimal: &Value, field: &str, value: Option<Value>) -> Value {
    let mut config: Map<String, Value> = minimal.as_object().expect("an object").clone();
    match value {
        Some(value) => config.insert(field.to_owned(), value),
        None => config.remove(field),
    };
    Value::Object(config)
}

/// What is wrong with one table: nothing, if all is well.
fn complaints(rows: &[Vec<String>], plugin: Plugin, minimal: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let code = fields_of_code(plugin);
    let mut told = BTreeSet::new();
    for row in rows {
        let [field, _, default, ..] = row.as_slice() else {
            complaints.push(format!("{row:?} is not field, type, default, …"));
            continue;
        };
        let field = field.trim_matches('`').to_owned();
        if !code.contains(&field) {
            complaints.push(format!("`{field}` is in the table, not in the code"));
        } else if default == "required" {
            let without = plugin(&with(minimal, &field, None));
            if !without.is_err_and(|error| error.contains("missing field")) {
                complaints.push(format!("`{field}` is not required"));
            }
        } else {
            let value = match default.as_str() {
                "none" => Value::Null,
                text => yaml_serde::from_str(text.trim_matches('`')).unwrap_or(Value::Null),
            };
            let said = plugin(&with(minimal, &field, Some(value)));
            if said != plugin(&with(minimal, &field, None)) {
                complaints.push(format!("`{field}` does not default to {default}"));
            }
        }
        if !told.insert(field.clone()) {
            complaints.push(format!("`{field}` is told twice"));
        }
    }
    let missing = code.difference(&told);
    complaints.extend(missing.map(|field| format!("`{field}` is in the code, not in the table")));
    complaints
}

#[test]
fn the_tables_are_true() {
    let page = read(PAGE);
    for (heading, plugin, minimal) in plugins() {
        let text = section(&page, heading).unwrap_or_else(|| panic!("no table {heading}"));
        let complaints = complaints(&table(text), plugin, &minimal);
        assert!(
            complaints.is_empty(),
            "{heading}:\n{}",
            complaints.join("\n")
        );
    }
}

/// `password` is one of several, which the table of `credentials` names.
#[test]
fn the_sources_of_a_password_are_told() {
    let refusal = plugin::<Secret>(&json!({ "no_such_source": "x" })).expect_err("refused");
    let (_, known) = refusal.split_once("expected").expect("what it knows");
    let page = read(PAGE);
    let text = section(&page, "`credentials`").expect("the section credentials");
    for source in known.split('`').skip(1).step_by(2) {
        assert!(text.contains(source), "`{source}` is not told");
    }
}

/// The check itself can fail, in every way that it is for.
#[test]
fn a_lie_is_found() {
    let row = |field: &str, default: &str| -> Vec<String> {
        [field, "duration", default, "…"]
            .map(str::to_owned)
            .to_vec()
    };
    let minimal = json!({ "masters": ["m"] });
    let complaints = |rows: &[Vec<String>]| complaints(rows, plugin::<ReadinessConfig>, &minimal);
    let truth = row("`masters`", "required");
    assert!(complaints(std::slice::from_ref(&truth)).is_empty());
    assert!(complaints(&[])[0].contains("not in the table"));
    assert!(complaints(&[truth.clone(), truth.clone()])[0].contains("twice"));
    assert!(complaints(&[truth, row("`mastres`", "`1s`")])[0].contains("not in the code"));
    assert!(complaints(&[row("`masters`", "`[a]`")])[0].contains("does not default"));

    let minimal = json!({ "master_name": "m" });
    let complaints = |rows: &[Vec<String>]| {
        super::configuration::complaints(rows, plugin::<ProbeConfig>, &minimal)
    };
    assert!(complaints(&[row("`interval`", "`1s`")])[0].contains("does not default"));
    assert!(complaints(&[row("`interval`", "required")])[0].contains("not required"));
    assert!(!complaints(&[row("`interval`", "`5s`")])[0].contains("interval"));
}
