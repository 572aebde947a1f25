//! The little of SPDX that crates use: names, `AND`, `OR`, brackets, and the `/` of before SPDX.
//!
//! ```text
//! any  = all *( "OR" / "/" all )
//! all  = one *( "AND" one )
//! one  = "(" any ")" / name [ "WITH" name ]
//! ```

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

type Words = Peekable<IntoIter<String>>;

/// Whether somebody who may use only the `allowed` licences may use what has this expression.
pub fn allows(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    let mut words = words.into_iter().peekable();
    any(&mut words, allowed) && words.next().is_none()
}

fn any(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut result = all(words, allowed);
    while words.next_if_eq("OR").is_some() {
        result |= all(words, allowed);
    }
    result
}

fn all(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while words.next_if_eq("AND").is_some() {
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut Words, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq("(").is_some() {
        let result = any(words, allowed);
        return words.next_if_eq(")").is_some() && result;
    }
    let Some(mut name) = words.next() else {
        return false;
    };
    if words.next_if_eq("WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

#[test]
fn an_expression_is_read_as_it_is_meant() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "Zlib"];
    let allowed = allowed.map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("GPL-3.0 OR MIT AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("", false),
        ("(MIT", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(allows(expression, &allowed), expected, "{expression}");
    }
}
