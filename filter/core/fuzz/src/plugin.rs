//! The configuration as Envoy hands it over: JSON, or a `google.protobuf.Struct`.

#[path = "../../../src/plugin_configuration.rs"]
mod plugin_configuration;

use plugin_configuration::to_json;
use serde_json::{Map, Value};

/// See the crate's table. Tried as it is; and if it is JSON, as the `Struct` that stands for it.
pub fn run(input: &[u8]) {
    let json = to_json(input.to_vec());
    if json != input {
        let value = serde_json::from_slice::<Value>(&json).expect("JSON");
        assert!(value.is_object());
    }
    if let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(input) {
        assert_eq!(json, input, "JSON passes as it is");
        if !map.is_empty() && depth(&Value::Object(map.clone())) < 8 && exact(&map) {
            let read = serde_json::from_slice::<Value>(&to_json(structure(&map))).expect("JSON");
            assert_eq!(read, Value::Object(map), "through a Struct");
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(depth).max().unwrap_or(0) + 1,
        Value::Object(map) => map.values().map(depth).max().unwrap_or(0) + 1,
        _ => 0,
    }
}

/// Whether a `Struct`, which knows only doubles, can say it: integers that a double holds, no `1.0` beside `1`.
fn exact(map: &Map<String, Value>) -> bool {
    fn value_is_exact(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.as_i64().is_some_and(|whole| whole.abs() < 1 << 53),
            Value::Array(values) => values.iter().all(value_is_exact),
            Value::Object(map) => map.values().all(value_is_exact),
            _ => true,
        }
    }
    map.values().all(value_is_exact)
}

fn structure(map: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in map {
        let mut entry = Vec::new();
        field(&mut entry, 1, name.as_bytes());
        field(&mut entry, 2, &value(content));
        field(&mut out, 1, &entry);
    }
    out
}

fn value(value_: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value_ {
        Value::Null => out.extend([1 << 3, 0]),
        Value::Number(number) => {
            out.push(2 << 3 | 1);
            out.extend(number.as_f64().unwrap_or(0.0).to_le_bytes());
        }
        Value::String(text) => field(&mut out, 3, text.as_bytes()),
        Value::Bool(flag) => out.extend([4 << 3, u8::from(*flag)]),
        Value::Object(map) => field(&mut out, 5, &structure(map)),
        Value::Array(values) => {
            let mut list = Vec::new();
            for element in values {
                field(&mut list, 1, &value(element));
            }
            field(&mut out, 6, &list);
        }
    }
    out
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}
