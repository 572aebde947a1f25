//! The little of Markdown that the checks need.

use std::fs;

use redis_sentinel_tests::tools;

/// A file of the repository.
pub fn read(file: &str) -> String {
    fs::read_to_string(tools::root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The text below the heading that ends in `title`, up to the next heading of its level or a higher one.
pub fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let level = |line: &str| line.bytes().take_while(|byte| *byte == b'#').count();
    let (mut offset, mut found) = (0, None);
    for line in text.split_inclusive('\n') {
        let depth = level(line);
        match found {
            None if depth > 0 && line[depth..].trim() == title => {
                found = Some((offset + line.len(), depth));
            }
            Some((start, of)) if depth > 0 && depth <= of && line[depth..].starts_with(' ') => {
                return text.get(start..offset);
            }
            _ => {}
        }
        offset += line.len();
    }
    found.and_then(|(start, _)| text.get(start..))
}

/// The rows of the first table, cells trimmed, without its head.
pub fn table(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(cells)
        .collect()
}

fn cells(line: &str) -> Vec<String> {
    // `\|` is a character of a cell, not its end.
    let line = line.trim().trim_matches('|').replace("\\|", "\u{1}");
    line.split('|')
        .map(|cell| cell.trim().replace('\u{1}', "|"))
        .collect()
}

/// The fenced blocks of one language.
pub fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let open = format!("```{language}\n");
    text.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .collect()
}

/// The `code spans` outside fenced blocks.
pub fn spans(text: &str) -> Vec<&str> {
    let mut spans = Vec::new();
    for (index, part) in text.split("```").enumerate() {
        if index % 2 == 0 {
            for line in part.lines() {
                spans.extend(line.split('`').skip(1).step_by(2));
            }
        }
    }
    spans
}

#[test]
fn a_section_ends_where_the_next_begins() {
    let text = "# a\n## b\none\n### c\ntwo\n## d\nthree\n";
    assert_eq!(section(text, "b"), Some("one\n### c\ntwo\n"));
    assert_eq!(section(text, "d"), Some("three\n"));
    assert_eq!(section(text, "e"), None);
    assert_eq!(
        table("x\n| h |\n|---|\n| a \\| b |\n\n| no |\n"),
        [["a | b"]]
    );
    assert_eq!(spans("`a` b `c`\n```\n`d`\n```\n`e`"), ["a", "c", "e"]);
}
