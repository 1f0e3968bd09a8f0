//! Which models there are, and whether the server answers.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::app::{App, ServedModel};
use crate::failure::{Refusal, Status};
use crate::http::Reply;

pub(crate) fn models(app: &App) -> Reply {
    let all: Vec<Value> = app.models.iter().map(described).collect();
    super::json(&json!({"object": "list", "data": all}))
}

pub(crate) fn model(app: &App, name: &str) -> Result<Reply, Refusal> {
    Ok(super::json(&described(app.model(Some(name))?)))
}

fn described(model: &ServedModel) -> Value {
    let config = model.lm.model.config();
    let context = match &model.engine {
        Some(engine) => engine.context(),
        None => config.context_limit(),
    };
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "taal",
        "max_model_len": context,
        "kind": if config.is_causal { "causal" } else { "masked" },
        "has_tokenizer": model.lm.tokenizer.is_some(),
        "has_chat_template": !model.lm.chat.is_empty(),
    })
}

pub(crate) fn health(app: &App) -> Result<Reply, Refusal> {
    match app.is_stopping.load(Ordering::Relaxed) {
        true => Err(Refusal::overloaded(
            Status::Unavailable,
            "the server is stopping".to_owned(),
        )),
        false => Ok(super::json(&json!({"status": "ok"}))),
    }
}
