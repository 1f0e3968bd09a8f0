//! Values of rows whose keys keep their order, because chat templates print them: the JSON schemas of tools, and calls of them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The keys that hold such values.
const KEYS: [&str; 2] = ["tools", "tool_calls"];

/// The only key of the object that stands for a list or an object in its order; its value is the JSON of that.
const JSON: &str = "\u{0}json";

/// Whether the order of the keys counts in the value of this key.
pub(crate) fn is_kept(key: &str) -> bool {
    KEYS.contains(&key)
}

/// What stands for a value in its order, given its JSON: for a list or an object the JSON, for others the value itself.
pub(crate) fn standing_for(json: String) -> Value {
    match json.as_bytes().first() {
        Some(b'[' | b'{') => Value::Object(Map::from_iter([(JSON.to_owned(), Value::String(json))])),
        _ => serde_json::from_str(&json).unwrap_or(Value::Null),
    }
}

/// The JSON that a value stands for; `None` for every other value.
pub(crate) fn json_of(value: &Value) -> Option<&str> {
    value.as_object()?.get(JSON)?.as_str()
}

/// The JSON of a value, with the keys of its objects in their order, each once.
pub(crate) struct InOrder(pub(crate) String);

impl<'de> Deserialize<'de> for InOrder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Texts).map(Self)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(Value::from(value).to_string())
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(quoted(text))
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
        let mut list = Vec::new();
        while let Some(InOrder(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list_of(&list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<String, A::Error> {
        let mut object: Vec<(String, String)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.iter().any(|(other, _)| *other == key) {
                return Err(A::Error::custom(twice(&key)));
            }
            let InOrder(value) = entries.next_value()?;
            object.push((key, value));
        }
        Ok(object_of(object))
    }
}

/// What to do about a key that an object has twice.
pub(crate) fn twice(key: &str) -> String {
    let key = taal_store::excerpt(key);
    format!("an object has the key {key} twice: rename or remove one")
}

/// A text in JSON.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A list of values in JSON.
pub(crate) fn list_of(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

/// An object in JSON, of keys and the JSON of their values.
pub(crate) fn object_of(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let entries = entries.into_iter();
    let entries: Vec<String> = entries
        .map(|(key, value)| format!("{}:{value}", quoted(&key)))
        .collect();
    format!("{{{}}}", entries.join(","))
}
