//! Bodies of requests: JSON, and what is wrong is said by name.

use serde::de::DeserializeOwned;

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
        let message = plain(&inner.to_string());
        match path.as_str() {
            _ if !inner.is_data() => Refusal::bad(format!("the body is not JSON: {inner}")),
            "." => Refusal::bad(message),
            _ => Refusal::field(path, message),
        }
    })
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
    names.iter().fold(message.to_owned(), |message, (rust, plain)| {
        message.replace(rust, plain)
    })
}

/// Whether a body is one JSON object and nothing else.
///
/// # Errors
///
/// 400.
pub(crate) fn check_object(body: &[u8]) -> Result<(), Refusal> {
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
    match checked {
        Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
        Ok(_) => match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Ok(()),
            _ => Err(Refusal::bad("the body: expected a JSON object")),
        },
    }
}
