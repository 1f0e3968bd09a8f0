//! Bodies of requests: JSON, and what is wrong is said by name.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::failure::Refusal;

/// A part of a body, without the fields that it does not have.
///
/// # Errors
///
/// 400 with the place of what is wrong.
pub(crate) fn part<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if !inner.is_data() {
            return Refusal::bad(format!("the body is not JSON: {inner}"));
        }
        let message = plain(&inner.to_string());
        let place = match (path.as_str(), named(&message)) {
            (".", Some(name)) => name.to_owned(),
            (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
            (path, _) => path.to_owned(),
        };
        match place.as_str() {
            "." => Refusal::bad(message),
            _ => Refusal::field(place, message),
        }
    })
}

/// The field that a message is about which names it: one that is missing, or there twice.
fn named(message: &str) -> Option<&str> {
    let rest = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|begin| message.strip_prefix(begin))?;
    rest.split('`').next()
}

/// An object or `null`. A list, of whose items serde would make the fields of a struct, is refused.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(entries)).map(Some)
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// serde's message without Rust's names of types.
fn plain(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    let names = [
        ("expected f64", "expected a number"),
        ("expected usize", "expected a whole number from 0"),
        ("expected u32", "expected a whole number from 0"),
        ("expected u64", "expected a whole number from 0"),
        ("expected i64", "expected a whole number"),
        ("expected a boolean", "expected true or false"),
        ("invalid type: ", "got "),
        ("invalid value: ", "got "),
    ];
    let message = names.iter().fold(message.to_owned(), |message, (rust, plain)| {
        message.replace(rust, plain)
    });
    // The name of a struct ends the message.
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object"),
        None => message,
    }
}

/// Whether a body is one JSON object and nothing else.
///
/// # Errors
///
/// 400.
pub(crate) fn check_object(body: &[u8]) -> Result<(), Refusal> {
    // Strings of fields that nobody reads are not looked at below.
    if let Err(error) = std::str::from_utf8(body) {
        let place = error.valid_up_to();
        return Err(Refusal::bad(format!(
            "the body is not JSON: byte {place} is not valid UTF-8"
        )));
    }
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
    match checked {
        Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
        Ok(_) => match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Ok(()),
            _ => Err(Refusal::bad("the body: expected a JSON object")),
        },
    }
}
