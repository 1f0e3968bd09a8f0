//! `/v1/chat/completions`: conversations, by the model's own template.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use taal_inference::{Event, FinishReason, InferenceError, LanguageModel, Prompt, TokenScore};
use taal_tokenizer::chat::{ChatInput, Json, Message};

use super::FINGERPRINT;
use crate::answering::{Answers, Gone, MAX_ALTERNATIVES, Scores, Settings, finish_reason, scored, token_text};
use crate::app::{App, seconds_now};
use crate::failure::Refusal;
use crate::http::Reply;
use crate::router::Exchange;
use crate::{parse, sse};

/// Without a limit an answer ends with the context.
const MAX_TOKENS: usize = usize::MAX;

/// The conversation of a request.
#[derive(Debug, Deserialize)]
struct Conversation {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Option<Vec<Json>>,
    add_generation_prompt: Option<bool>,
    continue_final_message: Option<bool>,
    #[serde(default)]
    chat_template_kwargs: Option<BTreeMap<String, Json>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Own {
    max_completion_tokens: Option<usize>,
    logprobs: Option<bool>,
    top_logprobs: Option<usize>,
    response_format: Option<Format>,
    tools: Option<Vec<IgnoredAny>>,
    functions: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
}

impl Own {
    /// What would change the answer and is not supported is refused, not ignored.
    fn check(&self) -> Result<(), Refusal> {
        if let Some(count) = self.top_logprobs {
            if count > MAX_ALTERNATIVES {
                let message = format!("expected a whole number from 0 to {MAX_ALTERNATIVES}, got {count}");
                return Err(Refusal::field("top_logprobs", message));
            }
            if self.logprobs != Some(true) {
                return Err(Refusal::field("top_logprobs", "needs logprobs to be true"));
            }
        }
        if let Some(format) = self.response_format.as_ref().filter(|format| format.kind != "text") {
            let given = taal_store::excerpt(&format.kind);
            return Err(Refusal::field(
                "response_format",
                format!("only {{\"type\": \"text\"}} is supported, got {given}"),
            ));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) || self.functions.is_some() {
            return Err(Refusal::field(
                "tools",
                "calls of functions are not supported; leave it out",
            ));
        }
        Ok(())
    }
}

/// A rendered conversation.
struct Spoken {
    text: String,
    ids: Vec<u32>,
    /// The token after an answer, where it does not end texts anyway.
    end_of_turn: Option<String>,
}

fn rendered(lm: &LanguageModel, conversation: Conversation) -> Result<Spoken, Refusal> {
    if lm.chat.is_empty() {
        let message = "this model has no chat template: use /v1/completions";
        return Err(Refusal::bad(message).with_code("no_chat_template").of("messages"));
    }
    let faulty = |error: InferenceError| {
        Refusal::bad(error.to_string())
            .with_code("chat_template_failed")
            .of("messages")
    };
    let template = lm.chat_template().map_err(faulty)?;
    let input = ChatInput {
        messages: conversation.messages,
        tools: conversation.tools.unwrap_or_default(),
        add_generation_prompt: conversation.add_generation_prompt.unwrap_or(true),
        continue_final_message: conversation.continue_final_message.unwrap_or(false),
        variables: conversation.chat_template_kwargs.unwrap_or_default(),
        ..ChatInput::default()
    };
    let text = template.render(&input).map_err(|error| faulty(error.into()))?.text;
    let ids = lm.chat_ids(&text)?;
    if ids.is_empty() {
        return Err(Refusal::field(
            "messages",
            "the template makes no text of this conversation",
        ));
    }
    Ok(Spoken {
        end_of_turn: lm.end_of_turn(&template),
        text,
        ids,
    })
}

/// The exact prompt that a conversation becomes.
pub(crate) fn render(app: &App, body: &[u8]) -> Result<Reply, Refusal> {
    let (settings, conversation): (Settings, Conversation) = (parse::part(body)?, parse::part(body)?);
    let model = app.model(settings.model.as_deref())?;
    let spoken = rendered(&model.lm, conversation)?;
    let token = |id: &u32| json!({"id": id, "text": token_text(&model.lm, *id)});
    let tokens: Vec<Value> = spoken.ids.iter().map(token).collect();
    Ok(super::json(&json!({
        "model": model.name,
        "prompt": spoken.text,
        "tokens": tokens,
        "end_of_turn": spoken.end_of_turn,
    })))
}

pub(crate) fn chat(exchange: &mut Exchange<'_>, body: &[u8]) -> Result<Option<Reply>, Gone> {
    let app = exchange.app;
    let (mut settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
    let conversation: Conversation = parse::part(body)?;
    own.check()?;
    settings.max_tokens = own.max_completion_tokens.or(settings.max_tokens);
    let model = app.model(settings.model.as_deref())?;
    let mut options = settings.options(app, MAX_TOKENS)?;
    let spoken = rendered(&model.lm, conversation)?;
    for options in &mut options {
        options.stop.extend(spoken.end_of_turn.clone());
    }
    let scores = Scores {
        new: (own.logprobs == Some(true)).then(|| own.top_logprobs.unwrap_or(0)),
        prompt: None,
    };
    let prompts = vec![Prompt::Ids(spoken.ids)];
    let answers = Answers::begin(app, model, prompts, &options, scores, &|| exchange.is_left());
    let answers = answers.map_err(|gone| match gone {
        Gone::Refused(refusal) if refusal.is_context() => Gone::Refused(refusal.of("messages")),
        gone => gone,
    })?;
    let frame = Frame {
        id: format!("chatcmpl-{:016x}", app.request_number()),
        created: seconds_now(),
        model: model.name.clone(),
        lm: model.lm.clone(),
        has_scores: scores.new.is_some(),
    };
    match settings.is_stream() {
        true => exchange.stream(|app, events| stream(app, answers, &frame, settings.has_usage(), events)),
        false => whole(app, answers, &frame, &|| exchange.is_left()).map(Some),
    }
}

/// What all parts of an answer repeat.
struct Frame {
    id: String,
    created: u64,
    model: String,
    lm: Arc<LanguageModel>,
    has_scores: bool,
}

impl Frame {
    fn object(&self, kind: &str, choices: Vec<Value>) -> Map<String, Value> {
        let object = json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": FINGERPRINT,
        });
        match object {
            Value::Object(object) => object,
            _ => Map::new(),
        }
    }

    fn logprobs(&self, scores: &[TokenScore]) -> Value {
        match self.has_scores {
            true => json!({"content": scored(&self.lm, scores), "refusal": null}),
            false => Value::Null,
        }
    }
}

fn whole(app: &App, mut answers: Answers, frame: &Frame, is_left: &dyn Fn() -> bool) -> Result<Reply, Gone> {
    let mut scores = vec![Vec::new(); answers.count()];
    let mut choices = vec![Value::Null; answers.count()];
    while let Some((index, event)) = answers.next(app, is_left)? {
        match event {
            Event::Token { score, .. } => scores[index].extend(score),
            Event::Finished { generation, .. } => {
                choices[index] = json!({
                    "index": index,
                    "message": {"role": "assistant", "content": generation.text.unwrap_or_default(), "refusal": null},
                    "logprobs": frame.logprobs(&scores[index]),
                    "finish_reason": finish_reason(generation.finish_reason),
                });
            }
            Event::Failed(error) => return Err(error.into()),
            Event::Started { .. } | Event::Prompt(_) => (),
        }
    }
    let mut object = frame.object("chat.completion", choices);
    object.insert("usage".to_owned(), answers.usage.json());
    Ok(super::json(&Value::Object(object)))
}

fn stream(
    app: &App,
    mut answers: Answers,
    frame: &Frame,
    has_usage: bool,
    events: &mut sse::Events<'_>,
) -> Result<(), Gone> {
    let part = |index: usize, delta: Value, scores: &[TokenScore], reason: Option<FinishReason>| {
        let logprobs = match scores.is_empty() {
            true => Value::Null,
            false => frame.logprobs(scores),
        };
        let reason = reason.map(finish_reason);
        let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason});
        let mut object = frame.object("chat.completion.chunk", vec![choice]);
        if has_usage {
            object.insert("usage".to_owned(), Value::Null);
        }
        Value::Object(object)
    };
    while let Some((index, event)) = answers.next(app, &|| events.is_left())? {
        let mut parts = Vec::new();
        match event {
            Event::Started { .. } => {
                parts.push(part(index, json!({"role": "assistant", "content": ""}), &[], None));
            }
            Event::Token { text, score, .. } => {
                let scores: Vec<TokenScore> = score.into_iter().collect();
                if !text.is_empty() || !scores.is_empty() {
                    parts.push(part(index, json!({"content": text}), &scores, None));
                }
            }
            Event::Finished { text, generation } => {
                if !text.is_empty() {
                    parts.push(part(index, json!({"content": text}), &[], None));
                }
                parts.push(part(index, json!({}), &[], Some(generation.finish_reason)));
            }
            Event::Prompt(_) => (),
            Event::Failed(error) => {
                return Ok(events.send(&Refusal::from(error).json())?);
            }
        }
        for part in parts {
            events.send(&part)?;
        }
    }
    if has_usage {
        let mut object = frame.object("chat.completion.chunk", Vec::new());
        object.insert("usage".to_owned(), answers.usage.json());
        events.send(&Value::Object(object))?;
    }
    Ok(events.done()?)
}
