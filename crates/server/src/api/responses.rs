//! `/v1/responses`: conversations in the shape of OpenAI's newer interface. Nothing is kept between requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use taal_inference::{Event, FinishReason, Generation, Prompt, Receipt, TokenScore};
use utoipa::ToSchema;

use super::chat::{Conversation, Templating, rendered};
use super::foreign::{self, Address};
use super::response_request::Own;
pub(crate) use super::response_request::ResponseRequest;
use crate::answering::{Answers, Extras, Settings, scored};
use crate::app::App;
use crate::body::Object;
use crate::energy::UsedEnergy;
use crate::failure::Refusal;
use crate::form::{self, Form};
use crate::shapes::{Frame, ScoredToken, Usage};
use crate::sse::Events;
use crate::{parse, sse};

/// Without a limit an answer ends with the context.
const MAX_TOKENS: usize = usize::MAX;

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
        foreign::check(body, Address::Responses)?;
        let (mut settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
        let (mut templating, form): (Templating, Form) = (parse::part(body)?, parse::part(body)?);
        own.check()?;
        settings.max_tokens = own.max_tokens().or(settings.max_tokens);
        templating.reasoning_effort = own.effort().or(templating.reasoning_effort);
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
        let of_text = match own.text.and_then(|text| text.format) {
            Some(format) => format.wanted("text.format")?,
            None => None,
        };
        let field = form::apply(form::one([of_text, form.wanted()?])?, &mut options);
        let messages = Own::messages(own.input, own.instructions.as_deref())?;
        let spoken = rendered(&model.lm, Conversation::new(messages), &templating);
        let spoken = spoken.map_err(|refusal| refusal.of("input"))?;
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
            max_output_tokens: settings.max_tokens,
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
