//! The plugin's configuration as Envoy hands it over: JSON text, or a `google.protobuf.Struct` in its wire form.
//!
//! Envoy unwraps a `StringValue` (what Istio's `WasmPlugin` makes of `pluginConfig`) but passes a `Struct`, the natural
//! way to write it in YAML, as it is (`anyToBytes` in Envoy's `source/common/protobuf/utility.cc`). So both arrive:
//!
//! ```text
//! Struct    = *( 1: entry )            entry = 1: key string, 2: Value
//! Value     = 1: null / 2: double / 3: string / 4: bool / 5: Struct / 6: ListValue
//! ListValue = *( 1: Value )
//! ```

use serde_json::{Map, Number, Value, to_vec};

/// Deepest nesting of a configuration; ours needs 3.
const MAX_DEPTH: u8 = 16;

/// JSON, whatever of the two forms came. What is neither is left to the JSON parser to refuse.
pub fn to_json(bytes: Vec<u8>) -> Vec<u8> {
    match structure(&bytes, MAX_DEPTH) {
        Some(value) if !bytes.is_empty() => to_vec(&value).unwrap_or(bytes),
        _ => bytes,
    }
}

fn structure(bytes: &[u8], depth: u8) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut map = Map::new();
    for field in Fields(bytes) {
        let (1, Wire::Bytes(entry)) = field? else {
            return None;
        };
        let (mut name, mut content) = (String::new(), Value::Null);
        for field in Fields(entry) {
            match field? {
                (1, Wire::Bytes(text)) => name = core::str::from_utf8(text).ok()?.to_owned(),
                (2, Wire::Bytes(bytes)) => content = value(bytes, depth)?,
                _ => return None,
            }
        }
        map.insert(name, content);
    }
    Some(Value::Object(map))
}

fn value(bytes: &[u8], depth: u8) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut result = Value::Null;
    for field in Fields(bytes) {
        result = match field? {
            (1, Wire::Varint(_)) => Value::Null,
            (2, Wire::Double(number)) => number_value(number)?,
            (3, Wire::Bytes(text)) => Value::String(core::str::from_utf8(text).ok()?.to_owned()),
            (4, Wire::Varint(flag)) => Value::Bool(flag != 0),
            (5, Wire::Bytes(bytes)) => structure(bytes, depth)?,
            (6, Wire::Bytes(bytes)) => list(bytes, depth)?,
            _ => return None,
        };
    }
    Some(result)
}

fn list(bytes: &[u8], depth: u8) -> Option<Value> {
    let mut values = Vec::new();
    for field in Fields(bytes) {
        let (1, Wire::Bytes(bytes)) = field? else {
            return None;
        };
        values.push(value(bytes, depth)?);
    }
    Some(Value::Array(values))
}

/// A Struct knows only doubles; whole ones are meant as integers.
fn number_value(number: f64) -> Option<Value> {
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= LARGEST_EXACT {
        return Some(Value::Number(Number::from(number as i64)));
    }
    Number::from_f64(number).map(Value::Number)
}

enum Wire<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

/// The fields of one message; `None` inside marks bytes that are no protobuf, and ends it.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Double(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
