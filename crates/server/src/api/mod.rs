//! One file per kind of request.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod conversations;
mod foreign;
pub(crate) mod inside;
pub(crate) mod models;
pub(crate) mod openapi;
mod response_request;
pub(crate) mod responses;
pub(crate) mod runs;
pub(crate) mod texts;
pub(crate) mod tools;
pub(crate) mod translate;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::Value;
use taal_inference::Prompt;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::failure::Refusal;

/// Runs what computes for long on a thread of its own, so that connections go on meanwhile.
///
/// # Errors
///
/// Those of `work`, and 500 where it panics.
pub(crate) async fn computed<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Refusal::internal("the request could not be computed")))
}

/// [`computed`] for work that looks at a flag, which is set once nobody waits for the answer, such as after a client has left.
///
/// # Errors
///
/// As [`computed`].
pub(crate) async fn computed_while_awaited<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let awaited = Awaited::default();
    let is_left = awaited.is_left.clone();
    computed(move || work(&is_left)).await
}

/// Dropped with the future that waits.
#[derive(Default)]
struct Awaited {
    is_left: Arc<AtomicBool>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.is_left.store(true, Ordering::Relaxed);
    }
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

/// The schema of [`Texts`].
fn texts_schema() -> Schema {
    texts_builder().build().into()
}

/// The schema of [`Texts`] that may be left out.
fn optional_texts_schema() -> Schema {
    texts_builder().item(Object::with_type(Type::Null)).build().into()
}

fn texts_builder() -> OneOfBuilder {
    let text = || Object::with_type(Type::String);
    let id = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let list = |items: Schema| ArrayBuilder::new().items(RefOr::T(items)).min_items(Some(1));
    let ids = || list(id().build().into());
    OneOfBuilder::new()
        .item(text())
        .item(list(text().into()))
        .item(ids())
        .item(list(ids().build().into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn work_is_told_once_nobody_waits_for_it() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
        let ((begin, begun), (tell, told)) = (channel(), channel());
        let patience = Duration::from_secs(60);
        let waiting = runtime.spawn(computed_while_awaited(move |is_left| {
            begin.send(()).expect("a test");
            let begin = Instant::now();
            while !is_left.load(Ordering::Relaxed) && begin.elapsed() < patience {
                std::thread::yield_now();
            }
            tell.send(is_left.load(Ordering::Relaxed)).expect("a test");
            Ok(())
        }));
        begun.recv_timeout(patience).expect("the work begins");
        waiting.abort();
        assert_eq!(told.recv_timeout(2 * patience), Ok(true));
    }
}
