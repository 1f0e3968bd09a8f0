//! `/trace`: what a model does with a text, stage by stage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taal_inference::{InferenceError, LanguageModel, Prompt};
use taal_insight::{InsightError, TraceOptions};
use taal_tokenizer::Tokenizer;
use utoipa::ToSchema;

use super::chat::{Conversation, Templating, rendered};
use super::texts::EmbeddingUsage;
use super::{Texts, computed};
use crate::app::App;
use crate::body::Object;
use crate::failure::Refusal;
use crate::parse;

/// Attention weights of an answer, so that it stays below 6 MB.
const MAX_WEIGHTS: usize = 1 << 22;

/// Guesses per position.
const TOP: usize = 5;

/// What to follow through a model.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TraceRequest {
    /// A name of /v1/models; without it, the first model answers.
    model: Option<String>,
    /// A text or token ids.
    #[schema(schema_with = super::optional_texts_schema)]
    prompt: Option<Texts>,
    /// A conversation instead of a text.
    #[schema(value_type = Option<Vec<super::chat::Said>>)]
    messages: Option<Vec<taal_tokenizer::chat::Message>>,
    /// Of a model with an encoder, a translation of the prompt to follow; without it, the model's own.
    target: Option<String>,
    /// Of a longer text only so many tokens at its end; a text that is too long is otherwise refused.
    #[schema(minimum = 1)]
    last: Option<usize>,
}

/// What a model does with a text.
#[derive(Serialize, ToSchema)]
pub(crate) struct Traced {
    model: String,
    /// Tokens at the beginning that were left out.
    left_out: usize,
    /// Tokens, attention (bytes of 255ths as base64), guesses after every layer (lens), as `taal_insight::page_data` describes them; of a
    /// model with an encoder those of the translation, and in `source` what it attends to.
    #[schema(value_type = Object)]
    trace: Value,
    usage: EmbeddingUsage,
}

impl From<InsightError> for Refusal {
    fn from(error: InsightError) -> Self {
        match error {
            InsightError::Inference(error) => error.into(),
            error if error.kind() == taal_store::ErrorKind::Usage => Self::bad(error.to_string()),
            error => Self::internal(error.to_string()),
        }
    }
}

pub(crate) async fn trace(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Traced>, Refusal> {
    computed(move || {
        let request: TraceRequest = parse::part(&body)?;
        let served = app.model(request.model.as_deref())?;
        let lm = &served.newest().lm;
        let (field, target) = (request.field(), request.target.clone());
        let (prompt, left_out) = prompt(lm, request)?;
        let target_tokens = target.as_deref().map(|target| check_target(lm, target)).transpose()?;
        // It takes as much memory as a long prompt, so one is computed at a time.
        let _turn = app.turn();
        let begin = app.begin_energy();
        let options = TraceOptions { top: TOP };
        let trace = match (&prompt, &target) {
            (Prompt::Text(source), Some(target)) => taal_insight::trace_pair(lm, source, Some(target), &options),
            _ => taal_insight::trace(lm, &prompt, &options),
        };
        let trace = trace.map_err(|error| Refusal::from(error).or_of(field))?;
        let tokens = match &prompt {
            Prompt::Ids(ids) => ids.len(),
            Prompt::Text(text) => encoded(lm, text)?.len() + target_tokens.unwrap_or(0),
        };
        Ok(Json(Traced {
            model: served.name.clone(),
            left_out,
            trace: taal_insight::page_data(&trace),
            usage: EmbeddingUsage::new(tokens, app.energy_since(begin, tokens)),
        }))
    })
    .await
}

impl TraceRequest {
    /// The field that has the text.
    fn field(&self) -> &'static str {
        match self.messages {
            Some(_) => "messages",
            None => "prompt",
        }
    }
}

/// What the model reads, and how many tokens were left out.
fn prompt(lm: &LanguageModel, request: TraceRequest) -> Result<(Prompt, usize), Refusal> {
    let field = request.field();
    let prompt = match (request.prompt, request.messages) {
        (Some(texts), None) => one(texts)?,
        (None, Some(messages)) => {
            let conversation = Conversation::new(messages);
            Prompt::Ids(rendered(lm, conversation, &Templating::default())?.ids)
        }
        (Some(_), Some(_)) => return Err(Refusal::field("messages", "expected either a prompt or messages")),
        (None, None) => return Err(Refusal::field("prompt", "expected a text, token ids or messages")),
    };
    if lm.model.is_encoder_decoder() {
        if matches!(prompt, Prompt::Ids(_)) {
            return Err(Refusal::field(
                field,
                "a model with an encoder is followed with a source text; give one",
            ));
        }
        if request.last.is_some() {
            let detail = "a model with an encoder reads its source whole; leave it out";
            return Err(Refusal::field("last", detail));
        }
    }
    let is_causal = lm.model.config().is_causal;
    // A masked model reads a text between the tokens that begin and end one, so its text stays a text.
    let ids = match (&prompt, is_causal) {
        (Prompt::Text(text), false) => encoded(lm, text)?,
        _ => lm
            .prompt_ids(&prompt)
            .map_err(|error| Refusal::from(error).or_of(field))?,
    };
    match request.last {
        Some(0) => Err(Refusal::field("last", "expected at least 1, got 0")),
        Some(last) if is_causal => {
            let left_out = ids.len() - ids.len().min(last.min(most_tokens(lm)));
            Ok((Prompt::Ids(ids[left_out..].to_vec()), left_out))
        }
        _ => check_length(lm, ids.len(), field).map(|()| (prompt, 0)),
    }
}

/// Checks that so many tokens of a field fit the model and the answer.
fn check_length(lm: &LanguageModel, tokens: usize, field: &str) -> Result<(), Refusal> {
    let most = most_tokens(lm);
    match lm.model.config().context_limit() {
        Some(context) if tokens > context => {
            Err(Refusal::from(InferenceError::PromptTooLong { tokens, context }).of(field))
        }
        _ if tokens > most => Err(Refusal::too_long(
            field,
            format!(
                "the weights of all heads are returned for at most {most} tokens of this model, and the text has {tokens}: give a \
                 shorter one, or last"
            ),
        )),
        _ => Ok(()),
    }
}

/// How many tokens a translation has that a request brings.
fn check_target(lm: &LanguageModel, target: &str) -> Result<usize, Refusal> {
    const FIELD: &str = "target";
    if !lm.model.is_encoder_decoder() {
        let detail = "only a model with an encoder has a source and a translation; leave it out";
        return Err(Refusal::field(FIELD, detail));
    }
    let tokenizer = tokenizer(lm)?.of_targets();
    let ids = tokenizer
        .encode(lm.normalized(target).trim())
        .map_err(InferenceError::from)?;
    // After the token that the decoder begins with.
    let tokens = ids.len() + 1;
    match lm.model.config().context_limit() {
        _ if ids.is_empty() => Err(Refusal::field(FIELD, "expected at least one token, got none")),
        Some(context) if tokens > context => {
            let detail = format!("the model writes at most {context} tokens, and this has {tokens}");
            Err(Refusal::too_long(FIELD, detail))
        }
        _ => check_length(lm, tokens, FIELD).map(|()| ids.len()),
    }
}

fn one(texts: Texts) -> Result<Prompt, Refusal> {
    let count = texts.all.len();
    let mut all = texts.all.into_iter();
    match (all.next(), count) {
        (Some(prompt), 1) => Ok(prompt),
        _ => Err(Refusal::field("prompt", format!("expected one text, got {count}"))),
    }
}

fn tokenizer(lm: &LanguageModel) -> Result<&Tokenizer, InferenceError> {
    lm.tokenizer
        .as_ref()
        .ok_or(InferenceError::NoTokenizer { purpose: "a text" })
}

fn encoded(lm: &LanguageModel, text: &str) -> Result<Vec<u32>, Refusal> {
    Ok(tokenizer(lm)?
        .encode(&lm.normalized(text))
        .map_err(InferenceError::from)?)
}

/// The tokens of which all weights may be returned, within the context.
fn most_tokens(lm: &LanguageModel) -> usize {
    let config = lm.model.config();
    let heads = (config.n_layers * config.n_heads).max(1);
    let most = ((MAX_WEIGHTS / heads) as f64).sqrt() as usize;
    most.clamp(1, config.context_limit().unwrap_or(most).max(1))
}
