//! JSON into the types of this crate: `serde_json` parses, serde's derived code reads, and between them stands this: one
//! walk of the value for all types, which knows at which field it is.
//!
//! `serde_json`'s own reader is compiled anew for every type that is read, each time with all that JSON allows (a struct as
//! an array, a number as a text's opposite), and once more to tell a path: a seventh of the module.

use core::fmt;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};
use serde::forward_to_deserialize_any;
use serde_json::{Value, map};

/// What is wrong with a value, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The fields and indices that lead there, innermost first.
    path: Vec<String>,
    /// In words.
    pub problem: String,
}

impl JsonError {
    /// The fields that lead there, such as `credentials.password` or `masters[0]`; `.` is the whole.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        for part in self.path.iter().rev() {
            if !path.is_empty() && !part.starts_with('[') {
                path.push('.');
            }
            path.push_str(part);
        }
        if path.is_empty() {
            ".".to_owned()
        } else {
            path
        }
    }

    #[cold]
    #[inline(never)]
    fn new(problem: String) -> Self {
        Self {
            path: Vec::new(),
            problem,
        }
    }

    #[cold]
    #[inline(never)]
    fn below(mut self, part: String) -> Self {
        self.path.push(part);
        self
    }

    #[cold]
    #[inline(never)]
    fn mismatch(what: &str, expected: &dyn Expected) -> Self {
        Self::new(format!("invalid type: {what}, expected {expected}"))
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.problem)
    }
}

impl core::error::Error for JsonError {}

impl de::Error for JsonError {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(problem.to_string())
    }

    /// serde's own names every number, and has all that prints one of floating point linked for it.
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::mismatch("another", expected)
    }

    fn invalid_value(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match given {
            Unexpected::Unsigned(number) => Self::new(format!(
                "invalid value: integer `{number}`, expected {expected}"
            )),
            _ => Self::mismatch("another", expected),
        }
    }
}

/// Reads JSON.
///
/// # Errors
/// [`JsonError`]: what is no JSON, or not of this type.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonError> {
    T::deserialize(Node(&parse(json)?))
}

#[inline(never)]
fn parse(json: &[u8]) -> Result<Value, JsonError> {
    serde_json::from_slice(json).map_err(|error| {
        // serde_json appends " at line 1 column 42", which means nothing for a YAML file.
        let text = error.to_string();
        let problem = text
            .rsplit_once(" at line ")
            .map(|(text, _)| text.to_owned());
        JsonError::new(problem.unwrap_or(text))
    })
}

/// A value that is read as whatever is asked for.
#[derive(Clone, Copy)]
struct Node<'de>(&'de Value);

impl<'de> Node<'de> {
    fn text(self, expected: &dyn Expected) -> Result<&'de str, JsonError> {
        self.0.as_str().ok_or_else(|| self.mismatch(expected))
    }

    fn flag(self, expected: &dyn Expected) -> Result<bool, JsonError> {
        self.0.as_bool().ok_or_else(|| self.mismatch(expected))
    }

    fn unsigned(self, expected: &dyn Expected) -> Result<u64, JsonError> {
        self.0.as_u64().ok_or_else(|| self.mismatch(expected))
    }

    fn elements(self, expected: &dyn Expected) -> Result<Elements<'de>, JsonError> {
        let array = self.0.as_array().ok_or_else(|| self.mismatch(expected))?;
        Ok(Elements {
            rest: array.iter(),
            index: 0,
        })
    }

    fn fields(self, expected: &dyn Expected) -> Result<Fields<'de>, JsonError> {
        let object = self.0.as_object().ok_or_else(|| self.mismatch(expected))?;
        Ok(Fields {
            rest: object.iter(),
            current: None,
        })
    }

    #[cold]
    #[inline(never)]
    fn mismatch(self, expected: &dyn Expected) -> JsonError {
        let what = match self.0 {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => format!("boolean `{flag}`"),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => format!("integer `{number}`"),
                (None, Some(number)) => format!("integer `{number}`"),
                (None, None) => "a number with a fraction".to_owned(),
            },
            Value::String(text) => format!("string \"{text}\""),
            Value::Array(_) => "sequence".to_owned(),
            Value::Object(_) => "map".to_owned(),
        };
        JsonError::mismatch(&what, expected)
    }
}

/// The elements of an array.
struct Elements<'de> {
    rest: core::slice::Iter<'de, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, JsonError> {
        let Some(value) = self.rest.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index = index.saturating_add(1);
        seed.deserialize(Node(value))
            .map(Some)
            .map_err(|error| error.below(format!("[{index}]")))
    }
}

/// The fields of an object.
struct Fields<'de> {
    rest: map::Iter<'de>,
    current: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some((key, value));
        seed.deserialize(StrDeserializer::new(key))
            .map(Some)
            .map_err(|error: JsonError| error.below(key.clone()))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        let (key, value) = self.current.unwrap_or(("", &Value::Null));
        seed.deserialize(Node(value))
            .map_err(|error| error.below(key.to_owned()))
    }
}

/// A variant: its name alone, or an object of one field with that name.
impl<'de> EnumAccess<'de> for Node<'de> {
    type Error = JsonError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), JsonError> {
        const NOTHING: &Value = &Value::Null;
        let (name, content) = match self.0 {
            Value::String(name) => (name, NOTHING),
            Value::Object(object) if object.len() == 1 => object
                .iter()
                .next()
                .ok_or_else(|| self.mismatch(&"variant"))?,
            _ => return Err(self.mismatch(&"variant")),
        };
        let variant = seed.deserialize(StrDeserializer::new(name))?;
        Ok((variant, Node(content)))
    }
}

impl<'de> VariantAccess<'de> for Node<'de> {
    type Error = JsonError;

    fn unit_variant(self) -> Result<(), JsonError> {
        match self.0 {
            Value::Null => Ok(()),
            _ => Err(self.mismatch(&"nothing")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, JsonError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_map(visitor)
    }
}

/// One line for each kind of value; what no type of this crate asks for is left to its visitor.
impl<'de> Deserializer<'de> for Node<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let flag = self.flag(&visitor)?;
        visitor.visit_bool(flag)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let number = self.unsigned(&visitor)?;
        visitor.visit_u64(number)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let text = self.text(&visitor)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let elements = self.elements(&visitor)?;
        visitor.visit_seq(elements)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        let fields = self.fields(&visitor)?;
        visitor.visit_map(fields)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_enum(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char bytes byte_buf unit unit_struct tuple_struct identifier
    }
}

#[cfg(test)]
mod tests;
