//! JSON whose objects keep the order of their keys, which templates print.

use std::fmt;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A value of JSON that keeps the order of its keys, which templates print.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Json(pub(crate) Value);

impl Json {
    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.0.kind() == ValueKind::Map
    }
}

impl From<Vec<Self>> for Json {
    fn from(items: Vec<Self>) -> Self {
        Self(Value::from(
            items.into_iter().map(|Self(item)| item).collect::<Vec<Value>>(),
        ))
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Value::from(value))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Self)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(item)) = items.next_element()? {
            values.push(item);
        }
        Ok(Value::from(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, Json(value))) = entries.next_entry::<String, Json>()? {
            pairs.push((key, value));
        }
        Ok(object(pairs))
    }
}

/// An object with these entries in this order; of two with one key the last counts, as in JSON.
pub(super) fn object(pairs: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::from_pairs(pairs)
}

/// The entries of an object.
pub(super) fn entries(object: &Value) -> Vec<(String, Value)> {
    let keys = object.try_iter().into_iter().flatten();
    keys.filter_map(|key| Some((key.to_string(), object.get_item(&key).ok()?)))
        .collect()
}
