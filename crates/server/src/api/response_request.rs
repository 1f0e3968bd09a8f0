//! What a request to `/v1/responses` says.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use taal_tokenizer::chat::Message;
use utoipa::ToSchema;

use super::chat::Templating;
use super::openapi::merge;
use crate::answering::{MAX_ALTERNATIVES, Settings};
use crate::failure::Refusal;
use crate::form::{Form, Format};
use crate::parse;

/// What `include` asks for log-probabilities with.
pub(super) const LOGPROBS: &str = "message.output_text.logprobs";

/// What `include` may ask for besides: parts of answers that no answer here has.
const NEVER_THERE: [&str; 7] = [
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
];

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Own {
    /// A text, which is a message of the user, or messages; may be left out where there are instructions.
    #[schema(value_type = Option<Value>)]
    pub(super) input: Option<Input>,
    /// A message of the system before the others.
    pub(super) instructions: Option<String>,
    /// The most new tokens; without it as many as fit.
    max_output_tokens: Option<usize>,
    /// The same as `max_output_tokens`.
    max_completion_tokens: Option<usize>,
    /// `message.output_text.logprobs` for log-probabilities; what else OpenAI has changes nothing.
    include: Option<Vec<String>>,
    /// Whether to return log-probabilities, as `include` asks for them.
    logprobs: Option<bool>,
    /// Alternatives per token.
    #[schema(maximum = 20)]
    top_logprobs: Option<usize>,
    /// Must be `disabled`: nothing is cut in silence.
    truncation: Option<String>,
    /// Not supported: responses are not kept.
    #[schema(max_length = 0)]
    previous_response_id: Option<String>,
    /// Not supported: an answer is text. Must be empty, or `tool_choice` `none`.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Vec<Value>>,
    /// `none` or `auto`.
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<Value>,
    /// Not supported: conversations are not kept for this address.
    #[schema(value_type = Option<Value>)]
    conversation: Option<Value>,
    /// Not supported: prompts are not kept.
    #[schema(value_type = Option<Value>)]
    prompt: Option<Value>,
    /// Must be false: an answer is given at once.
    background: Option<bool>,
    #[serde(default, deserialize_with = "parse::object")]
    pub(super) text: Option<TextSettings>,
    #[serde(default, deserialize_with = "parse::object")]
    reasoning: Option<Reasoning>,
    /// Returned as it is.
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// What the text of a response must be.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TextSettings {
    #[serde(default, deserialize_with = "parse::object")]
    pub(super) format: Option<Format>,
}

/// How the model should reason.
#[derive(Debug, Deserialize, ToSchema)]
struct Reasoning {
    /// As `reasoning_effort`.
    effort: Option<String>,
}

merge!(ResponseRequest: Settings, Own, Templating, Form);

/// A text, or messages.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of messages with role and content")]
pub(super) enum Input {
    Text(String),
    Messages(Vec<Item>),
}

/// A message, or what the answer of another server had besides.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
}

/// What a message says.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message.
#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

impl Item {
    /// The message; none of what is left out, as OpenAI leaves out the reasoning of earlier turns.
    fn message(self, index: usize) -> Option<Result<Message, Refusal>> {
        let place = format!("input[{index}]");
        let wrong = |what: &str, kind: &str| {
            let kind = taal_store::excerpt(kind);
            Refusal::field(place.as_str(), format!("{what} of type {kind} cannot be read"))
        };
        match self.kind.as_deref() {
            None | Some("message") => (),
            Some("reasoning") => return None,
            Some(kind) => return Some(Err(wrong("items", kind))),
        }
        let (Some(role), Some(content)) = (self.role, self.content) else {
            return Some(Err(Refusal::field(
                place.as_str(),
                "expected a message with role and content",
            )));
        };
        let text = match content {
            Content::Text(text) => Ok(text),
            Content::Parts(parts) => {
                let text = |part: ContentPart| match part.kind.as_str() {
                    "input_text" | "output_text" | "text" => Ok(part.text.unwrap_or_default()),
                    "refusal" => Ok(part.refusal.unwrap_or_default()),
                    kind => Err(wrong("parts", kind)),
                };
                parts.into_iter().map(text).collect::<Result<String, Refusal>>()
            }
        };
        Some(text.map(|text| Message::new(&role, &text)))
    }
}

impl Own {
    /// What would change the answer and is not supported is refused, not ignored.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &str, message: String| Err(Refusal::field(field, message));
        if let Some(count) = self.top_logprobs.filter(|count| *count > MAX_ALTERNATIVES) {
            let message = format!("expected a whole number from 0 to {MAX_ALTERNATIVES}, got {count}");
            return wrong("top_logprobs", message);
        }
        let is_known = |one: &String| one == LOGPROBS || NEVER_THERE.contains(&one.as_str());
        if let Some(other) = self.include.iter().flatten().find(|one| !is_known(one)) {
            let message = format!("only {LOGPROBS} is supported, got {}", taal_store::excerpt(other));
            return wrong("include", message);
        }
        if let Some(other) = self.truncation.as_deref().filter(|one| *one != "disabled") {
            let message = format!(
                "nothing is cut in silence: expected disabled, got {}",
                taal_store::excerpt(other)
            );
            return wrong("truncation", message);
        }
        self.check_unsupported()?;
        match self.previous_response_id.as_deref().is_some_and(|id| !id.is_empty()) {
            true => wrong(
                "previous_response_id",
                "responses are not kept: send the whole conversation in input".to_owned(),
            ),
            false => Ok(()),
        }
    }

    fn check_unsupported(&self) -> Result<(), Refusal> {
        let wrong = |field: &str, message: &str| Err(Refusal::field(field, message));
        let choice = self.tool_choice.as_ref();
        if let Some(choice) = choice.filter(|choice| !["none", "auto"].iter().any(|mode| **choice == *mode)) {
            let given = taal_store::excerpt(&choice.to_string());
            let message =
                format!("functions are called in /v1/chat/completions only: expected none or auto, got {given}");
            return wrong("tool_choice", &message);
        }
        let has_tools = self.tools.as_ref().is_some_and(|tools| !tools.is_empty());
        if has_tools && choice.is_none_or(|choice| *choice != "none") {
            return wrong(
                "tools",
                "functions are called in /v1/chat/completions only: leave them out",
            );
        }
        if self.conversation.is_some() {
            return wrong("conversation", "it is not kept: send the whole conversation in input");
        }
        if self.prompt.is_some() {
            return wrong(
                "prompt",
                "prompts are not kept: send the text in instructions and input",
            );
        }
        match self.background {
            Some(true) => wrong("background", "an answer is given at once: expected false, got true"),
            _ => Ok(()),
        }
    }

    /// The most new tokens, where the request says it.
    pub(super) fn max_tokens(&self) -> Option<usize> {
        self.max_output_tokens.or(self.max_completion_tokens)
    }

    /// How much the model should reason, where the request says it.
    pub(super) fn effort(&self) -> Option<String> {
        self.reasoning.as_ref()?.effort.clone()
    }

    /// Alternatives per token, where log-probabilities are asked for.
    pub(super) fn scores(&self) -> Option<usize> {
        let is_included = self.include.iter().flatten().any(|one| one == LOGPROBS);
        let is_asked = is_included || self.logprobs == Some(true);
        (is_asked || self.top_logprobs.is_some()).then(|| self.top_logprobs.unwrap_or(0))
    }

    /// The conversation.
    pub(super) fn messages(input: Option<Input>, instructions: Option<&str>) -> Result<Vec<Message>, Refusal> {
        if input.is_none() && instructions.is_none() {
            return Err(Refusal::field("input", "expected a text or messages, or instructions"));
        }
        let instructions = instructions.map(|text| Ok(Message::new("system", text)));
        let messages: Vec<Result<Message, Refusal>> = match input {
            None => Vec::new(),
            Some(Input::Text(text)) => vec![Ok(Message::new("user", &text))],
            Some(Input::Messages(items)) => {
                let items = items.into_iter().enumerate();
                let messages: Vec<_> = items.filter_map(|(index, item)| item.message(index)).collect();
                if messages.is_empty() {
                    return Err(Refusal::field("input", "expected at least one message, got none"));
                }
                messages
            }
        };
        instructions.into_iter().chain(messages).collect()
    }
}
