//! What is read, and what is said of what cannot be.

use super::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Plain,
    With(u16),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    kind: Kind,
    pairs: Vec<(u32, String)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Whole {
    number: u64,
    flag: bool,
    part: Option<Part>,
    parts: Vec<Part>,
}

fn part() -> impl Strategy<Value = Part> {
    let pairs = prop::collection::vec(any::<(u32, String)>(), 0..4);
    let kind = prop_oneof![Just(Kind::Plain), any::<u16>().prop_map(Kind::With)];
    (kind, pairs).prop_map(|(kind, pairs)| Part { kind, pairs })
}

fn whole() -> impl Strategy<Value = Whole> {
    let parts = prop::collection::vec(part(), 0..4);
    (any::<u64>(), any::<bool>(), prop::option::of(part()), parts).prop_map(
        |(number, flag, part, parts)| Whole {
            number,
            flag,
            part,
            parts,
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read(whole in whole()) {
        let json = serde_json::to_vec(&whole).unwrap();
        prop_assert_eq!(read::<Whole>(&json), Ok(whole));
    }

    /// What this reads, serde_json's own reader reads the same, of JSON that is nearly right.
    #[test]
    fn it_is_no_milder_than_serde_json(whole in whole(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut json = serde_json::to_vec(&whole).unwrap();
        let at = at.index(json.len());
        json[at] = byte;
        if let (Ok(ours), Ok(theirs)) = (read::<Whole>(&json), serde_json::from_slice(&json)) {
            prop_assert_eq!(ours, theirs);
        }
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let refused = |json: &str| read::<Whole>(json.as_bytes()).unwrap_err().to_string();
    let rest = r#""flag":true,"parts":[]}"#;
    for (json, told) in [
        ("[1".to_owned(), ".: EOF while parsing a list"),
        (
            "[]".to_owned(),
            ".: invalid type: sequence, expected struct Whole",
        ),
        (
            format!(r#"{{"number":-1,{rest}"#),
            "number: invalid type: integer `-1`, expected u64",
        ),
        (
            format!(r#"{{"number":1.5,{rest}"#),
            "number: invalid type: a number with a fraction, expected u64",
        ),
        (
            format!(r#"{{"number":"1",{rest}"#),
            "number: invalid type: string \"1\", expected u64",
        ),
        (
            format!(r#"{{"number":1,"part":{{"kind":"other"}},{rest}"#),
            "part.kind: unknown variant `other`, expected `plain` or `with`",
        ),
        (
            format!(r#"{{"number":1,"part":{{"kind":{{"with":65536}}}},{rest}"#),
            "part.kind: invalid value: integer `65536`, expected u16",
        ),
        (
            format!(r#"{{"number":1,"part":{{"kind":"plain","pairs":[[1,"a"],[2]]}},{rest}"#),
            "part.pairs[1]: invalid length 1, expected a tuple of size 2",
        ),
    ] {
        assert_eq!(refused(&json), told, "{json}");
    }
}
