//! `/v1/responses`: conversations in the shape of OpenAI's newer interface. Nothing is kept between requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taal_inference::{Event, FinishReason, Generation, Prompt, Receipt, TokenScore};
use taal_tokenizer::chat::Message;
use utoipa::ToSchema;

use super::chat::{Conversation, rendered};
use super::openapi::merge;
use crate::answering::{Answers, Extras, MAX_ALTERNATIVES, Settings, scored};
use crate::app::App;
use crate::body::Object;
use crate::energy::UsedEnergy;
use crate::failure::Refusal;
use crate::form::{self, Format};
use crate::shapes::{Frame, ScoredToken, Usage};
use crate::sse::Events;
use crate::{parse, sse};

/// Without a limit an answer ends with the context.
const MAX_TOKENS: usize = usize::MAX;

/// What `include` asks for log-probabilities with.
const LOGPROBS: &str = "message.output_text.logprobs";

#[derive(Debug, Deserialize, ToSchema)]
struct Own {
    /// A text, which is a message of the user, or messages.
    #[schema(value_type = Value)]
    input: Input,
    /// A message of the system before the others.
    instructions: Option<String>,
    /// The most new tokens; without it as many as fit.
    max_output_tokens: Option<usize>,
    /// `message.output_text.logprobs` for log-probabilities.
    include: Option<Vec<String>>,
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
    text: Option<TextSettings>,
    /// Returned as it is.
    metadata: Option<BTreeMap<String, String>>,
}

/// What the text of a response must be.
#[derive(Debug, Deserialize, ToSchema)]
struct TextSettings {
    #[serde(default, deserialize_with = "parse::object")]
    format: Option<Format>,
}

merge!(ResponseRequest: Settings, Own);

/// A text, or messages.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of messages with role and content")]
enum Input {
    Text(String),
    Messages(Vec<Item>),
}

/// A message.
#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: String,
    content: Content,
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
}

impl Item {
    fn message(self, index: usize) -> Result<Message, Refusal> {
        let wrong = |what: &str, kind: &str| {
            let kind = taal_store::excerpt(kind);
            Refusal::field(
                format!("input[{index}]"),
                format!("{what} of type {kind} cannot be read"),
            )
        };
        if let Some(kind) = self.kind.filter(|kind| kind != "message") {
            return Err(wrong("items", &kind));
        }
        let text = match self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => {
                let text = |part: ContentPart| match part.kind.as_str() {
                    "input_text" | "output_text" | "text" => Ok(part.text.unwrap_or_default()),
                    kind => Err(wrong("parts", kind)),
                };
                parts.into_iter().map(text).collect::<Result<String, Refusal>>()?
            }
        };
        Ok(Message::new(&self.role, &text))
    }
}

impl Own {
    /// What would change the answer and is not supported is refused, not ignored.
    fn check(&self) -> Result<(), Refusal> {
        let wrong = |field: &str, message: String| Err(Refusal::field(field, message));
        if let Some(count) = self.top_logprobs.filter(|count| *count > MAX_ALTERNATIVES) {
            let message = format!("expected a whole number from 0 to {MAX_ALTERNATIVES}, got {count}");
            return wrong("top_logprobs", message);
        }
        if let Some(other) = self.include.iter().flatten().find(|one| *one != LOGPROBS) {
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

    /// Alternatives per token, where log-probabilities are asked for.
    fn scores(&self) -> Option<usize> {
        let is_asked = self.include.as_ref().is_some_and(|include| !include.is_empty());
        (is_asked || self.top_logprobs.is_some()).then(|| self.top_logprobs.unwrap_or(0))
    }

    fn messages(input: Input, instructions: Option<&str>) -> Result<Vec<Message>, Refusal> {
        let instructions = instructions.map(|text| Ok(Message::new("system", text)));
        let messages: Vec<Result<Message, Refusal>> = match input {
            Input::Text(text) => vec![Ok(Message::new("user", &text))],
            Input::Messages(items) if items.is_empty() => {
                return Err(Refusal::field(
                    "input",
                    "expected at least one message, got an empty list",
                ));
            }
            Input::Messages(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| item.message(index))
                .collect(),
        };
        instructions.into_iter().chain(messages).collect()
    }
}

/// An answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Response)]
pub(crate) struct Responded {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created_at: u64,
    /// `in_progress`, `completed` or `incomplete`.
    status: &'static str,
    /// Always `null`: an answer that fails has another status.
    error: Option<String>,
    incomplete_details: Option<Incomplete>,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    metadata: BTreeMap<String, String>,
    model: String,
    output: Vec<OutputMessage>,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    /// Always false: responses are not kept.
    store: bool,
    temperature: f64,
    tool_choice: &'static str,
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    top_p: f64,
    truncation: &'static str,
    /// `null` until the end.
    usage: Option<ResponseUsage>,
    /// What the answer depends on, as `taal replay` reads it; only where it was asked for, and at the end of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    receipt: Option<Receipt>,
}

/// Why an answer is not complete.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Incomplete {
    /// `max_output_tokens`, also where the context is full.
    reason: &'static str,
}

/// What the model said.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OutputMessage {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    status: &'static str,
    role: &'static str,
    content: Vec<OutputText>,
}

/// The text of a message.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OutputText {
    #[serde(rename = "type")]
    kind: &'static str,
    text: String,
    /// Always empty.
    annotations: Vec<String>,
    logprobs: Vec<ScoredToken>,
}

impl OutputText {
    fn new(text: String, logprobs: Vec<ScoredToken>) -> Self {
        Self {
            kind: "output_text",
            text,
            annotations: Vec::new(),
            logprobs,
        }
    }
}

/// Tokens of a response.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputTokens,
    output_tokens: usize,
    output_tokens_details: OutputTokens,
    total_tokens: usize,
    #[serde(flatten)]
    energy: UsedEnergy,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct InputTokens {
    /// Those that an earlier text had left in the cache.
    cached_tokens: usize,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct OutputTokens {
    /// Always 0.
    reasoning_tokens: usize,
}

impl From<Usage> for ResponseUsage {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokens {
                cached_tokens: usage.prompt_tokens_details.cached_tokens,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokens { reasoning_tokens: 0 },
            total_tokens: usage.total_tokens,
            energy: usage.energy,
        }
    }
}

/// An event of a stream; which fields it has depends on its type.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ResponseEvent {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Responded>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<OutputMessage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<OutputText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<ScoredToken>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// A request that was handed to the engine.
struct Asked {
    answers: Answers,
    frame: Frame,
    /// The response as far as it is known before the answer.
    response: Responded,
    is_stream: bool,
}

impl Asked {
    fn new(app: &Arc<App>, body: &[u8]) -> Result<Self, Refusal> {
        let (mut settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
        own.check()?;
        settings.max_tokens = own.max_output_tokens;
        let served = app.model(settings.model.as_deref())?;
        let model = served.newest();
        let mut options = settings.options(app, MAX_TOKENS)?;
        if options.len() != 1 {
            return Err(Refusal::field("n", format!("expected 1, got {}", options.len())));
        }
        let extras = Extras {
            scores: own.scores(),
            prompt_scores: None,
            receipt: settings.has_receipt(),
        };
        let wanted = match own.text.and_then(|text| text.format) {
            Some(format) => format.wanted("text.format")?,
            None => None,
        };
        let field = form::apply(wanted, &mut options);
        let messages = Own::messages(own.input, own.instructions.as_deref())?;
        let spoken = rendered(&model.lm, Conversation::new(messages)).map_err(|refusal| refusal.of("input"))?;
        options[0].stop.extend(spoken.end_of_turn);
        let prompts = vec![Prompt::Ids(spoken.ids)];
        let answers = Answers::ask(app, &model, prompts, &options, extras);
        let frame = Frame::new(app, "resp", &served.name, &model);
        let response = Responded {
            id: frame.id.clone(),
            object: "response",
            created_at: frame.created,
            status: "in_progress",
            error: None,
            incomplete_details: None,
            instructions: own.instructions,
            max_output_tokens: own.max_output_tokens,
            metadata: own.metadata.unwrap_or_default(),
            model: frame.model.clone(),
            output: Vec::new(),
            parallel_tool_calls: true,
            previous_response_id: None,
            store: false,
            temperature: options[0].sampling.temperature,
            tool_choice: "auto",
            tools: Vec::new(),
            top_p: options[0].sampling.top_p.unwrap_or(1.0),
            truncation: "disabled",
            usage: None,
            receipt: None,
        };
        Ok(Self {
            answers: answers.map_err(|refusal| match refusal.is_context() {
                true => refusal.of("input"),
                false => form::refused(refusal, field),
            })?,
            frame,
            response,
            is_stream: settings.is_stream(),
        })
    }

    fn message(&self, status: &'static str, content: Vec<OutputText>) -> OutputMessage {
        OutputMessage {
            kind: "message",
            id: self.frame.id.replace("resp", "msg"),
            status,
            role: "assistant",
            content,
        }
    }

    /// The whole response.
    fn ended(&self, generation: Generation, logprobs: Vec<ScoredToken>, receipt: Option<Receipt>) -> Responded {
        let is_cut = matches!(generation.finish_reason, FinishReason::Length | FinishReason::Cancelled);
        let status = if is_cut { "incomplete" } else { "completed" };
        let text = OutputText::new(generation.text.unwrap_or_default(), logprobs);
        Responded {
            status,
            incomplete_details: is_cut.then_some(Incomplete {
                reason: "max_output_tokens",
            }),
            output: vec![self.message(status, vec![text])],
            usage: Some(self.answers.usage.clone().into()),
            receipt,
            ..self.response.clone()
        }
    }

    fn scored(&self, score: Option<TokenScore>) -> Vec<ScoredToken> {
        scored(&self.frame.lm, score.as_slice())
    }

    async fn whole(mut self) -> Result<Response, Refusal> {
        let mut logprobs = Vec::new();
        while let Some((index, event)) = self.answers.next().await? {
            let receipt = self.answers.receipt(index, &event).await?;
            match event {
                Event::Token { score, .. } => logprobs.extend(self.scored(score)),
                Event::Finished { generation, .. } => {
                    return Ok(Json(self.ended(*generation, logprobs, receipt)).into_response());
                }
                Event::Failed(error) => return Err(error.into()),
                Event::Started { .. } | Event::Prompt(_) => (),
            }
        }
        Err(Refusal::internal("the answer has no end"))
    }

    async fn stream(mut self, events: Events) -> Result<(), Refusal> {
        let mut sender = Sender { events, sent: 0 };
        for kind in ["response.created", "response.in_progress"] {
            let response = Some(self.response.clone());
            sender.send(ResponseEvent { response, ..of(kind) }).await?;
        }
        let item = self.message("in_progress", Vec::new());
        let item_id = item.id.clone();
        sender.send(item_event("response.output_item.added", item)).await?;
        let part = OutputText::new(String::new(), Vec::new());
        sender
            .send(part_event("response.content_part.added", &item_id, part))
            .await?;
        let mut all = Vec::new();
        while let Some((index, event)) = self.answers.next().await? {
            let receipt = self.answers.receipt(index, &event).await?;
            match event {
                Event::Token { text, score, .. } => {
                    let logprobs = self.scored(score);
                    all.extend(logprobs.clone());
                    sender.delta(&item_id, text, logprobs).await?;
                }
                Event::Finished { text, generation, .. } => {
                    sender.delta(&item_id, text, Vec::new()).await?;
                    return sender.end(self.ended(*generation, all, receipt)).await;
                }
                Event::Failed(error) => {
                    let message = Some(Refusal::from(error).message);
                    let code = Some("server_error");
                    return sender
                        .send(ResponseEvent {
                            code,
                            message,
                            ..of("error")
                        })
                        .await;
                }
                Event::Started { .. } | Event::Prompt(_) => (),
            }
        }
        Err(Refusal::internal("the answer has no end"))
    }
}

fn of(kind: &'static str) -> ResponseEvent {
    ResponseEvent {
        kind,
        ..ResponseEvent::default()
    }
}

fn item_event(kind: &'static str, item: OutputMessage) -> ResponseEvent {
    ResponseEvent {
        item: Some(item),
        output_index: Some(0),
        ..of(kind)
    }
}

fn text_event(kind: &'static str, item_id: &str) -> ResponseEvent {
    ResponseEvent {
        item_id: Some(item_id.to_owned()),
        output_index: Some(0),
        content_index: Some(0),
        ..of(kind)
    }
}

fn part_event(kind: &'static str, item_id: &str, part: OutputText) -> ResponseEvent {
    ResponseEvent {
        part: Some(part),
        ..text_event(kind, item_id)
    }
}

/// Numbers the events of a stream.
struct Sender {
    events: Events,
    sent: u64,
}

impl Sender {
    async fn send(&mut self, event: ResponseEvent) -> Result<(), Refusal> {
        let event = ResponseEvent {
            sequence_number: self.sent,
            ..event
        };
        self.sent += 1;
        self.events.send_named(event.kind, &event).await
    }

    /// A piece of the text, if there is any.
    async fn delta(&mut self, item_id: &str, text: String, logprobs: Vec<ScoredToken>) -> Result<(), Refusal> {
        if text.is_empty() && logprobs.is_empty() {
            return Ok(());
        }
        let event = ResponseEvent {
            delta: Some(text),
            logprobs: Some(logprobs),
            ..text_event("response.output_text.delta", item_id)
        };
        self.send(event).await
    }

    async fn end(mut self, response: Responded) -> Result<(), Refusal> {
        if let Some(item) = response.output.first() {
            if let Some(part) = item.content.first() {
                let done = ResponseEvent {
                    text: Some(part.text.clone()),
                    logprobs: Some(part.logprobs.clone()),
                    ..text_event("response.output_text.done", &item.id)
                };
                self.send(done).await?;
                let done = part_event("response.content_part.done", &item.id, part.clone());
                self.send(done).await?;
            }
            self.send(item_event("response.output_item.done", item.clone())).await?;
        }
        let kind = match response.status {
            "completed" => "response.completed",
            _ => "response.incomplete",
        };
        let response = Some(response);
        self.send(ResponseEvent { response, ..of(kind) }).await
    }
}

pub(crate) async fn responses(State(app): State<Arc<App>>, Object(body): Object) -> Result<Response, Refusal> {
    let mut asked = super::computed(move || Asked::new(&app, &body)).await?;
    asked.answers = asked.answers.begun().await?;
    match asked.is_stream {
        true => Ok(sse::respond(|events| asked.stream(events))),
        false => asked.whole().await,
    }
}
