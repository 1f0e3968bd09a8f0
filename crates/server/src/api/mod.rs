//! One file per kind of request.

mod chat;
mod completions;
mod models;
mod openapi;
mod texts;

pub(crate) use chat::{chat, render};
pub(crate) use completions::completions;
pub(crate) use models::{health, model, models};
pub(crate) use openapi::openapi;
pub(crate) use texts::{detokenize, embeddings, fill_mask, tokenize};

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use taal_inference::Prompt;

use crate::http::Reply;

/// What computed an answer, as far as a client needs to know.
const FINGERPRINT: &str = concat!("taal-", env!("CARGO_PKG_VERSION"));

fn json(value: &Value) -> Reply {
    Reply::new("application/json", value.to_string())
}

/// A text, a list of ids, or a list of either.
#[derive(Debug, Clone)]
struct Texts {
    all: Vec<Prompt>,
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("expected a text, a list of token ids, or a list of either");
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = |values: &[Value]| values.iter().map(id).collect::<Option<Vec<u32>>>().map(Prompt::Ids);
        let all = match Value::deserialize(deserializer)? {
            Value::String(text) => vec![Prompt::Text(text)],
            Value::Array(values) => match values.first() {
                Some(Value::Number(_)) => vec![ids(&values).ok_or_else(wrong)?],
                Some(_) => {
                    let one = |value: Value| match value {
                        Value::String(text) => Some(Prompt::Text(text)),
                        Value::Array(values) => ids(&values),
                        _ => None,
                    };
                    values.into_iter().map(one).collect::<Option<_>>().ok_or_else(wrong)?
                }
                None => {
                    return Err(D::Error::custom(
                        "expected at least one text or token id, got an empty list",
                    ));
                }
            },
            _ => return Err(wrong()),
        };
        Ok(Self { all })
    }
}
