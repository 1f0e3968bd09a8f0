//! The shapes of answers, as OpenAI's clients read them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use taal_inference::{LanguageModel, Receipt, Speculated};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::api::tools::ToolCall;
use crate::app::{App, seconds_now};
use crate::energy::{Carbon, UsedEnergy};
use crate::model::Current;

/// What computed an answer, as far as a client needs to know.
const FINGERPRINT: &str = concat!("taal-", env!("CARGO_PKG_VERSION"));

/// Answers to prompts, or a part of them in a stream.
pub(crate) type Completion = Answer<CompletionChoice>;

/// Answers in a conversation.
pub(crate) type ChatCompletion = Answer<ChatChoice>;

/// A part of answers in a conversation.
pub(crate) type ChatCompletionPart = Answer<ChatPart>;

/// Answers, or a part of them in a stream.
#[derive(Debug, Serialize)]
pub(crate) struct Answer<C> {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    pub(crate) choices: Vec<C>,
    system_fingerprint: &'static str,
    /// In a stream only with `include_usage`: `null` until the last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

impl<C: ToSchema> PartialSchema for Answer<C> {
    fn schema() -> RefOr<Schema> {
        let choices = ArrayBuilder::new().items(Ref::from_schema_name(C::name()));
        ["id", "object", "model", "system_fingerprint"]
            .into_iter()
            .fold(ObjectBuilder::new(), |object, name| {
                object.property(name, String::schema()).required(name)
            })
            .property("created", u64::schema())
            .required("created")
            .property("choices", choices)
            .required("choices")
            .property("usage", Option::<Usage>::schema())
            .into()
    }
}

impl<C: ToSchema> ToSchema for Answer<C> {
    fn name() -> Cow<'static, str> {
        format!("{}Answer", C::name()).into()
    }

    fn schemas(all: &mut Vec<(String, RefOr<Schema>)>) {
        for (name, schema) in [(C::name(), C::schema()), (Usage::name(), Usage::schema())] {
            all.push((name.into_owned(), schema));
        }
        C::schemas(all);
        Usage::schemas(all);
    }
}

/// Tokens of a request.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// Tokens of the prompts, each prompt once.
    pub(crate) prompt_tokens: usize,
    /// New tokens.
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
    pub(crate) prompt_tokens_details: PromptTokens,
    pub(crate) completion_tokens_details: CompletionTokens,
    #[serde(flatten)]
    pub(crate) energy: UsedEnergy,
}

/// Where tokens of prompts came from.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct PromptTokens {
    /// Those that an earlier text had left in the cache.
    pub(crate) cached_tokens: usize,
}

/// How often guesses of new tokens were right, where the model has a draft; otherwise 0.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct CompletionTokens {
    /// Guessed tokens that are part of the answers.
    pub(crate) accepted_prediction_tokens: usize,
    /// Guessed tokens that are not; they are not among the new tokens.
    pub(crate) rejected_prediction_tokens: usize,
}

impl Usage {
    pub(crate) fn of_prompt(tokens: usize) -> Self {
        Self {
            prompt_tokens: tokens,
            total_tokens: tokens,
            ..Self::default()
        }
    }

    /// Says the energy, where it is known.
    pub(crate) fn set_energy(&mut self, carbon: Option<Carbon>) {
        self.energy = carbon.into();
    }

    pub(crate) fn add_cached(&mut self, tokens: usize) {
        self.prompt_tokens_details.cached_tokens += tokens;
    }

    pub(crate) fn add_guesses(&mut self, speculated: &Speculated) {
        self.completion_tokens_details.accepted_prediction_tokens += speculated.accepted;
        self.completion_tokens_details.rejected_prediction_tokens += speculated.rejected();
    }

    pub(crate) fn add_new(&mut self) {
        self.completion_tokens += 1;
        self.total_tokens += 1;
    }
}

/// What all parts of an answer repeat.
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) lm: Arc<LanguageModel>,
}

impl Frame {
    /// One with a new id.
    pub(crate) fn new(app: &App, prefix: &str, name: &str, model: &Current) -> Self {
        Self {
            id: format!("{prefix}-{:016x}", app.request_number()),
            created: seconds_now(),
            model: name.to_owned(),
            lm: model.lm.clone(),
        }
    }

    pub(crate) fn answer<C>(&self, object: &'static str, choices: Vec<C>, usage: Option<Option<Usage>>) -> Answer<C> {
        Answer {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            choices,
            system_fingerprint: FINGERPRINT,
            usage,
        }
    }
}

/// A token and its probability.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// Its text; `bytes:\xe2\x82` where it is not UTF-8 by itself.
    pub(crate) token: String,
    pub(crate) token_id: u32,
    /// The natural logarithm of its probability.
    pub(crate) logprob: f64,
    pub(crate) bytes: Vec<u8>,
}

/// A token of an answer, and what else could have come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ScoredToken {
    #[serde(flatten)]
    pub(crate) token: Alternative,
    pub(crate) top_logprobs: Vec<Alternative>,
}

/// An answer to a prompt, or a part of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; `null` before the end.
    pub(crate) finish_reason: Option<&'static str>,
    /// Only where the model has no tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_ids: Option<Vec<u32>>,
    /// What the answer depends on, as `taal replay` reads it; only where it was asked for, and in the last part of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) receipt: Option<Receipt>,
}

/// OpenAI's older shape of log-probabilities.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    pub(crate) tokens: Vec<String>,
    /// `null` for the first token of a prompt.
    pub(crate) token_logprobs: Vec<Option<f64>>,
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f64>>>,
    /// Where each token begins, in characters.
    pub(crate) text_offset: Vec<usize>,
    /// The newer shape of the same.
    pub(crate) content: Vec<Option<ScoredToken>>,
}

/// An answer in a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    pub(crate) index: usize,
    pub(crate) message: ChatMessage,
    pub(crate) logprobs: Option<ChatLogprobs>,
    pub(crate) finish_reason: &'static str,
    /// What the answer depends on, as `taal replay` reads it; only where it was asked for, and in the last part of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) receipt: Option<Receipt>,
}

/// What the model said.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatMessage {
    pub(crate) role: &'static str,
    /// `null` where it calls functions.
    pub(crate) content: Option<String>,
    /// Always `null`.
    pub(crate) refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_calls: Option<Vec<ToolCall>>,
}

/// A part of an answer in a conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatPart {
    pub(crate) index: usize,
    pub(crate) delta: Delta,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `null` before the last part.
    pub(crate) finish_reason: Option<&'static str>,
    /// What the answer depends on, as `taal replay` reads it; only where it was asked for, and in the last part of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) receipt: Option<Receipt>,
}

/// What a part adds to a message.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_calls: Option<Vec<ToolCall>>,
}

impl Delta {
    pub(crate) fn calls(calls: Vec<ToolCall>) -> Self {
        let numbered = |(index, call): (usize, ToolCall)| call.at(index);
        Self {
            tool_calls: Some(calls.into_iter().enumerate().map(numbered).collect()),
            ..Self::default()
        }
    }

    pub(crate) fn text(text: String) -> Self {
        Self {
            content: Some(text),
            ..Self::default()
        }
    }
}

/// Log-probabilities of an answer's tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    pub(crate) content: Vec<ScoredToken>,
    /// Always `null`.
    pub(crate) refusal: Option<Vec<ScoredToken>>,
}
