//! What a type does not know does not come back from it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `json` as a `T`, writes it again, and says what is missing or another then.
pub fn check<T: DeserializeOwned + Serialize>(json: &Value) -> Vec<String> {
    match serde_path_to_error::deserialize::<_, T>(json) {
        Err(error) => vec![format!("{}: {}", error.path(), error.inner())],
        Ok(value) => {
            let again = serde_json::to_value(value).unwrap_or_default();
            let mut complaints = Vec::new();
            compare(json, &again, &mut String::new(), &mut complaints);
            complaints
        }
    }
}

/// The place of a member, as `spec.ports[0].port`.
pub fn member(path: &str, key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (path, key.bytes().all(plain)) {
        (_, false) => format!("{path}[{key:?}]"),
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
    }
}

fn compare(before: &Value, after: &Value, path: &mut String, complaints: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                let mut path = member(path, key);
                match after.get(key) {
                    Some(other) => compare(value, other, &mut path, complaints),
                    // Kubernetes takes these for absent, too.
                    None if is_empty(value) => {}
                    None => complaints.push(format!("{path}: not a field")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (value, other)) in before.iter().zip(after).enumerate() {
                compare(value, other, &mut format!("{path}[{index}]"), complaints);
            }
        }
        _ if before == after || (is_empty(before) && is_empty(after)) => {}
        _ => complaints.push(format!("{path}: {before} was understood as {after}")),
    }
}

/// An unknown field that is an empty map must not pass, so only null is nothing.
fn is_empty(value: &Value) -> bool {
    value.is_null()
}
