//! `/v1/chat/completions`: conversations, by the model's own template.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use taal_inference::{Event, InferenceError, LanguageModel, Prompt, Receipt, TokenScore, check_causal};
use taal_tokenizer::chat::{self, ChatInput, Message};
use utoipa::ToSchema;

use super::foreign::{self, Address};
use super::openapi::merge;
use super::texts::Named;
use super::tools::{Callable, ToolCall, Tools};

use crate::answering::{Answers, Extras, MAX_ALTERNATIVES, Settings, finish_reason, scored, token_text};
use crate::app::App;
use crate::body::Object;
use crate::failure::Refusal;
use crate::form::{self, Form};
use crate::shapes::{Answer, ChatChoice, ChatLogprobs, ChatMessage, ChatPart, Delta, Frame};
use crate::sse::Events;
use crate::{parse, sse};

/// Why an answer that calls functions ended.
const TOOL_CALLS: &str = "tool_calls";

/// What OpenAI calls a part of a stream.
const CHUNK: &str = "chat.completion.chunk";

/// Without a limit an answer ends with the context.
const MAX_TOKENS: usize = usize::MAX;

/// The conversation of a request.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Conversation {
    /// The conversation, the oldest message first.
    #[schema(value_type = Vec<Said>)]
    pub(super) messages: Vec<Message>,
    #[serde(default)]
    #[schema(ignore)]
    pub(super) tools: Option<Vec<chat::Json>>,
}

impl Conversation {
    pub(super) fn new(messages: Vec<Message>) -> Self {
        Self { messages, tools: None }
    }
}

/// What the template does besides.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct Templating {
    /// Whether the rendered text ends with the beginning of an answer; true without it.
    add_generation_prompt: Option<bool>,
    /// Whether the last message is continued.
    continue_final_message: Option<bool>,
    /// More variables of the template.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    chat_template_kwargs: Option<BTreeMap<String, chat::Json>>,
    /// The variable reasoning_effort of the template; few templates read it.
    pub(super) reasoning_effort: Option<String>,
}

impl Templating {
    fn variables(&self) -> BTreeMap<String, chat::Json> {
        let mut variables = self.chat_template_kwargs.clone().unwrap_or_default();
        if let Some(effort) = &self.reasoning_effort {
            let named = variables.entry("reasoning_effort".to_owned());
            named.or_insert_with(|| chat::Json::from(effort.as_str()));
        }
        variables
    }
}

/// A message.
#[derive(ToSchema)]
#[schema(as = Message)]
#[expect(dead_code, reason = "the shape that templates read; a message is read as it is")]
pub(super) struct Said {
    /// system, user, assistant or another role of the template.
    role: String,
    /// A text, or parts with texts, which are joined.
    #[schema(value_type = Option<Value>)]
    content: String,
}

merge!(ChatRequest: Settings, Own, Conversation, Templating, Form, Tools);
merge!(RenderRequest: Named, Conversation, Templating, Tools);

#[derive(Debug, Default, Deserialize, ToSchema)]
struct Own {
    /// Replaces max_tokens.
    max_completion_tokens: Option<usize>,
    /// Whether to return log-probabilities of the tokens.
    logprobs: Option<bool>,
    /// Alternatives per token; needs logprobs.
    #[schema(maximum = 20)]
    top_logprobs: Option<usize>,
    /// Must be text.
    modalities: Option<Vec<String>>,
    /// Not supported: an answer is text.
    #[schema(value_type = Option<Value>)]
    audio: Option<Value>,
    /// Not supported: the server makes no connection.
    #[schema(value_type = Option<Value>)]
    web_search_options: Option<Value>,
}

impl Own {
    /// What would change the answer and is not supported is refused, not ignored.
    fn check(&self) -> Result<(), Refusal> {
        if let Some(count) = self.top_logprobs {
            if count > MAX_ALTERNATIVES {
                let message = format!("expected a whole number from 0 to {MAX_ALTERNATIVES}, got {count}");
                return Err(Refusal::field("top_logprobs", message));
            }
            if count > 0 && self.logprobs != Some(true) {
                return Err(Refusal::field("top_logprobs", "needs logprobs to be true"));
            }
        }
        if let Some(other) = self.modalities.iter().flatten().find(|one| *one != "text") {
            let message = format!(
                "an answer is text: expected [\"text\"], got {}",
                taal_store::excerpt(other)
            );
            return Err(Refusal::field("modalities", message));
        }
        if self.audio.is_some() {
            return Err(Refusal::field("audio", "an answer is text: leave it out"));
        }
        match self.web_search_options {
            Some(_) => Err(Refusal::field(
                "web_search_options",
                "the server makes no connection: leave it out",
            )),
            None => Ok(()),
        }
    }
}

/// A rendered conversation.
pub(super) struct Spoken {
    text: String,
    pub(super) ids: Vec<u32>,
    /// The token after an answer, where it does not end texts anyway.
    pub(super) end_of_turn: Option<String>,
}

/// Messages as templates for text expect them.
fn plain(messages: &[Message], plain: impl Fn(Message) -> Result<Message, String>) -> Result<Vec<Message>, Refusal> {
    let messages = messages.iter().cloned().enumerate();
    let plain = messages.map(|(index, message)| {
        plain(message).map_err(|detail| Refusal::field(format!("messages[{index}].content"), detail))
    });
    plain.collect()
}

/// The prompt that a conversation becomes.
///
/// # Errors
///
/// 400 where there is no template, or it fails, or makes no text of this conversation.
pub(super) fn rendered(
    lm: &LanguageModel,
    conversation: Conversation,
    templating: &Templating,
) -> Result<Spoken, Refusal> {
    if lm.chat.is_empty() {
        check_causal(&lm.model, "a conversation").map_err(|error| Refusal::from(error).of("model"))?;
        let message = "this model has no chat template: use /v1/completions";
        return Err(Refusal::bad(message).with_code("no_chat_template").of("messages"));
    }
    let faulty = |error: InferenceError| {
        Refusal::bad(error.to_string())
            .with_code("chat_template_failed")
            .of("messages")
    };
    let template = lm.chat_template().map_err(faulty)?;
    let given = conversation.messages;
    let input = ChatInput {
        messages: plain(&given, |message| message.into_plain(&template))?,
        tools: conversation.tools.unwrap_or_default(),
        add_generation_prompt: templating.add_generation_prompt.unwrap_or(true),
        continue_final_message: templating.continue_final_message.unwrap_or(false),
        variables: templating.variables(),
        ..ChatInput::default()
    };
    let text = match template.render(&input) {
        Ok(rendered) => rendered.text,
        Err(error) => {
            // Templates such as DeepSeek's put the text of arguments together with other texts.
            let messages = plain(&given, |message| message.into_plain_with_given_arguments(&template))?;
            let is_other = messages != input.messages;
            let again = is_other.then(|| template.render(&ChatInput { messages, ..input }));
            again.and_then(Result::ok).ok_or_else(|| faulty(error.into()))?.text
        }
    };
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
#[derive(Serialize, ToSchema)]
pub(crate) struct Rendered {
    model: String,
    prompt: String,
    tokens: Vec<RenderedToken>,
    /// The text after which an answer ends, where it does not end texts anyway.
    end_of_turn: Option<String>,
}

/// A token of a prompt.
#[derive(Serialize, ToSchema)]
pub(crate) struct RenderedToken {
    id: u32,
    text: String,
}

pub(crate) async fn render(State(app): State<Arc<App>>, Object(body): Object) -> Result<Json<Rendered>, Refusal> {
    super::computed(move || {
        let (named, mut conversation): (Named, Conversation) = (parse::part(&body)?, parse::part(&body)?);
        let tools: Tools = parse::part(&body)?;
        if !tools.are_shown() {
            conversation.tools = None;
        }
        tools.read()?;
        let served = app.model(named.model.as_deref())?;
        let lm = &served.newest().lm;
        let spoken = rendered(lm, conversation, &parse::part(&body)?)?;
        let token = |id: &u32| RenderedToken {
            id: *id,
            text: token_text(lm, *id),
        };
        Ok(Json(Rendered {
            model: served.name.clone(),
            tokens: spoken.ids.iter().map(token).collect(),
            prompt: spoken.text,
            end_of_turn: spoken.end_of_turn,
        }))
    })
    .await
}

/// A request that was handed to the engine.
struct Asked {
    answers: Answers,
    callable: Callable,
    frame: Frame,
    has_scores: bool,
    is_stream: bool,
    has_usage: bool,
}

impl Asked {
    fn new(app: &Arc<App>, body: &[u8]) -> Result<Self, Refusal> {
        foreign::check(body, Address::Chat)?;
        let (mut settings, own): (Settings, Own) = (parse::part(body)?, parse::part(body)?);
        let (mut conversation, templating): (Conversation, Templating) = (parse::part(body)?, parse::part(body)?);
        let (form, tools): (Form, Tools) = (parse::part(body)?, parse::part(body)?);
        own.check()?;
        if !tools.are_shown() {
            conversation.tools = None;
        }
        let (callable, call) = tools.read()?;
        let wanted = match (form.wanted()?, call) {
            (Some(form), Some(_)) => {
                return Err(Refusal::field(
                    form.field,
                    "an answer that must call a function has its form",
                ));
            }
            (form, call) => form.or(call),
        };
        settings.max_tokens = own.max_completion_tokens.or(settings.max_tokens);
        let served = app.model(settings.model.as_deref())?;
        let model = served.newest();
        let mut options = settings.options(app, MAX_TOKENS)?;
        let field = form::apply(wanted, &mut options);
        let spoken = rendered(&model.lm, conversation, &templating)?;
        for options in &mut options {
            options.stop.extend(spoken.end_of_turn.clone());
        }
        let extras = Extras {
            scores: (own.logprobs == Some(true)).then(|| own.top_logprobs.unwrap_or(0)),
            prompt_scores: None,
            receipt: settings.has_receipt(),
        };
        let prompts = vec![Prompt::Ids(spoken.ids)];
        let answers = Answers::ask(app, &model, prompts, &options, extras);
        Ok(Self {
            answers: answers.map_err(|refusal| match refusal.is_context() {
                true => refusal.of("messages"),
                false => form::refused(refusal, field),
            })?,
            callable,
            frame: Frame::new(app, "chatcmpl", &served.name, &model),
            has_scores: extras.scores.is_some(),
            is_stream: settings.is_stream(),
            has_usage: settings.has_usage(),
        })
    }

    fn logprobs(&self, scores: &[TokenScore]) -> Option<ChatLogprobs> {
        self.has_scores.then(|| ChatLogprobs {
            content: scored(&self.frame.lm, scores),
            refusal: None,
        })
    }

    async fn whole(mut self) -> Result<Response, Refusal> {
        let mut scores = vec![Vec::new(); self.answers.count()];
        let mut choices = Vec::new();
        while let Some((index, event)) = self.answers.next().await? {
            let receipt = self.answers.receipt(index, &event).await?;
            match event {
                Event::Token { score, .. } => scores[index].extend(score),
                Event::Finished { generation, .. } => {
                    let text = generation.text.unwrap_or_default();
                    let tool_calls = self.calls(&text, index);
                    choices.push(ChatChoice {
                        index,
                        finish_reason: match tool_calls {
                            Some(_) => TOOL_CALLS,
                            None => finish_reason(generation.finish_reason),
                        },
                        message: ChatMessage {
                            role: "assistant",
                            content: tool_calls.is_none().then_some(text),
                            refusal: None,
                            tool_calls,
                        },
                        logprobs: self.logprobs(&scores[index]),
                        receipt,
                    });
                }
                Event::Failed(error) => return Err(error.into()),
                Event::Started { .. } | Event::Prompt(_) => (),
            }
        }
        choices.sort_by_key(|choice| choice.index);
        let usage = Some(Some(self.answers.usage.clone()));
        Ok(Json(self.frame.answer("chat.completion", choices, usage)).into_response())
    }

    /// A part of a stream.
    fn part(&self, index: usize, delta: Delta, scores: &[TokenScore], end: Option<&'static str>) -> Answer<ChatPart> {
        let part = ChatPart {
            index,
            delta,
            logprobs: self.logprobs(scores).filter(|_| !scores.is_empty()),
            finish_reason: end,
            receipt: None,
        };
        self.frame.answer(CHUNK, vec![part], self.has_usage.then_some(None))
    }

    /// The last part of an answer.
    fn last_part(&self, index: usize, reason: &'static str, receipt: Option<Receipt>) -> Answer<ChatPart> {
        let mut answer = self.part(index, Delta::default(), &[], Some(reason));
        for choice in &mut answer.choices {
            choice.receipt.clone_from(&receipt);
        }
        answer
    }

    /// The calls that an answer consists of, where it may call something.
    fn calls(&self, text: &str, index: usize) -> Option<Vec<ToolCall>> {
        self.callable.calls(text, &format!("{}_{index}", self.frame.id))
    }

    async fn stream(mut self, events: Events) -> Result<(), Refusal> {
        // Text that may still turn out to be a call.
        let mut held = vec![(!self.callable.is_empty()).then(String::new); self.answers.count()];
        while let Some((index, event)) = self.answers.next().await? {
            let receipt = self.answers.receipt(index, &event).await?;
            match event {
                Event::Started { .. } => {
                    let delta = Delta {
                        role: Some("assistant"),
                        ..Delta::text(String::new())
                    };
                    events.send(&self.part(index, delta, &[], None)).await?;
                }
                Event::Token { text, score, .. } => {
                    let scores: Vec<TokenScore> = score.into_iter().collect();
                    let text = self.released(&mut held[index], text);
                    if !text.is_empty() || !scores.is_empty() {
                        events.send(&self.part(index, Delta::text(text), &scores, None)).await?;
                    }
                }
                Event::Finished { text, generation, .. } => {
                    let text = held[index].take().unwrap_or_default() + &text;
                    let calls = self.calls(generation.text.as_deref().unwrap_or_default(), index);
                    let (delta, reason) = match calls {
                        Some(calls) => (Delta::calls(calls), TOOL_CALLS),
                        None => (Delta::text(text), finish_reason(generation.finish_reason)),
                    };
                    if delta != Delta::text(String::new()) {
                        events.send(&self.part(index, delta, &[], None)).await?;
                    }
                    events.send(&self.last_part(index, reason, receipt)).await?;
                }
                Event::Prompt(_) => (),
                Event::Failed(error) => return events.send(&Refusal::from(error).json()).await,
            }
        }
        if self.has_usage {
            let usage = Some(Some(self.answers.usage.clone()));
            events
                .send(&self.frame.answer::<ChatPart>(CHUNK, Vec::new(), usage))
                .await?;
        }
        events.done().await
    }
}

impl Asked {
    /// The text that can be sent now: none while all of it may be the beginning of a call.
    fn released(&self, held: &mut Option<String>, text: String) -> String {
        let Some(mut all) = held.take() else { return text };
        all.push_str(&text);
        if self.callable.may_begin(&all) {
            *held = Some(all);
            return String::new();
        }
        all
    }
}

pub(crate) async fn chat(State(app): State<Arc<App>>, Object(body): Object) -> Result<Response, Refusal> {
    let mut asked = super::computed(move || Asked::new(&app, &body)).await?;
    asked.answers = asked.answers.begun().await?;
    match asked.is_stream {
        true => Ok(sse::respond(|events| asked.stream(events))),
        false => asked.whole().await,
    }
}
