//! The log lines: those that docs/operations.md explains and those that the module says are the same.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};

use crate::markdown::{read, section, spans, table};
use crate::names::{PAGE, sources};

/// Texts of the code with a space in them that no log line has.
const NO_LOG: [&str; 5] = [
    // What serde_json says, which is cut off.
    " at line ",
    // The error reply itself, which a client gets.
    "-MASTERDOWN",
    // What Sentinels say.
    "ERR unknown command",
    "ERR Unknown",
    "without any password configured",
];

/// Every string literal of the module, whatever stands in macros included, without doc comments.
fn literals(tokens: TokenStream, found: &mut Vec<String>) {
    let mut attribute = false;
    for token in tokens {
        match &token {
            TokenTree::Group(group) if !attribute => literals(group.stream(), found),
            TokenTree::Literal(literal) => {
                if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                    found.push(text.value());
                }
            }
            _ => {}
        }
        // `#[doc = "…"]`, or `#![doc = "…"]`.
        attribute = match &token {
            TokenTree::Punct(mark) => mark.as_char() == '#' || attribute,
            _ => false,
        };
    }
}

/// What a person reads: texts of several words.
fn texts() -> Vec<String> {
    let tokens: TokenStream = sources().parse().expect("Rust");
    let mut found = Vec::new();
    literals(tokens, &mut found);
    found.retain(|text| {
        let words = text.split_whitespace().filter(|word| {
            word.trim_matches(|c: char| !c.is_alphabetic()).len() > 1 && !word.starts_with('{')
        });
        words.count() > 1 && !NO_LOG.iter().any(|other| text.starts_with(other))
    });
    found
}

/// The pieces of a text between what varies: `{…}` in the code, `<…>` in the page.
fn pieces(text: &str, open: char, close: char) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut depth = 0;
    // A brace that is meant as one is written twice.
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    for letter in text.chars() {
        if letter == open {
            depth += 1;
            pieces.push(String::new());
        } else if letter == close && depth > 0 {
            depth -= 1;
        } else if depth == 0 {
            pieces.last_mut().expect("one").push(letter);
        }
    }
    let trim = |piece: &String| {
        let piece = piece.replace('\u{1}', "{").replace('\u{2}', "}");
        piece
            .trim_matches(|c: char| c.is_whitespace() || "(),:;.'`\"".contains(c))
            .to_owned()
    };
    pieces
        .iter()
        .map(trim)
        .filter(|piece| piece.len() > 3)
        .collect()
}

/// The rows of the tables below "Log lines".
fn rows() -> Vec<Vec<String>> {
    let page = read(PAGE);
    let text = section(&page, "Log lines").expect("the section Log lines");
    let tables = text.split("\n\n").filter(|part| part.starts_with("| line"));
    let rows: Vec<_> = tables.flat_map(table).collect();
    assert!(rows.len() >= 40, "the tables of log lines are gone");
    rows
}

/// The lines that the page explains: what is code in their first cells.
fn told() -> Vec<String> {
    let rows = rows();
    let cells = rows.iter().flat_map(|row| spans(&row[0]));
    cells.map(str::to_owned).collect()
}

#[test]
fn every_line_of_the_code_is_told() {
    let told: Vec<String> = rows().iter().map(|row| row.join("\n")).collect();
    let told = told.join("\n");
    let plain = |text: &str| text.replace(['`', '\''], "");
    let told = plain(&told);
    let untold: BTreeSet<String> = texts()
        .iter()
        .flat_map(|text| pieces(text, '{', '}'))
        .filter(|piece| !told.contains(&plain(piece)))
        .collect();
    assert!(untold.is_empty(), "{PAGE} says nothing of {untold:#?}");
}

#[test]
fn every_line_that_is_told_is_one_of_the_code() {
    let code = texts().join("\n").replace(['`', '\''], "");
    let code = code.replace("{{", "{").replace("}}", "}");
    // What stands in two literals, or in one of a single word.
    let words = sources();
    for line in told() {
        for piece in pieces(&line, '<', '>') {
            let known = code.contains(&piece.replace(['`', '\''], ""))
                || words.contains(&format!("\"{piece}\""));
            assert!(known, "no log line has {piece:?} ({line})");
        }
    }
}

/// One line per fact: a line is explained once.
#[test]
fn no_line_is_told_twice() {
    let mut seen = BTreeSet::new();
    for line in told() {
        assert!(seen.insert(line.clone()), "{line} is told twice");
    }
}

#[test]
fn what_varies_is_left_out() {
    assert_eq!(
        pieces("{by} lags: names {address} ({x})", '{', '}'),
        ["lags: names"]
    );
    assert_eq!(pieces("<who> given up: <problem>", '<', '>'), ["given up"]);
    assert_eq!(
        pieces("has no `{{host}}`: all", '{', '}'),
        ["has no `{host}`: all"]
    );
}
