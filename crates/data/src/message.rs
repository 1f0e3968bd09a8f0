//! The messages of a conversation, and how they are read out of a row.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taal_tokenizer::chat::Json;

use crate::dialogue::Taker;
use crate::distinct::Distinct;
use crate::error::Result;
use crate::in_order;
use crate::text::{Object, reason, type_name};

/// What a message may have besides its content: what was thought before it.
const REASONING: &str = "reasoning_content";
/// The functions that a message calls.
const CALLS: &str = "tool_calls";
/// What a message may have besides for the chat template: the function that a result is of, and the call.
const TEXTS: [&str; 2] = ["name", "tool_call_id"];
/// Whether a message is learned; it has no text.
const WEIGHT: &str = "weight";

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The same under its newer name, which reaches a chat template that names it; others get `system`
    /// ([`ChatTemplate::role`](taal_tokenizer::chat::ChatTemplate::role)).
    Developer,
    /// The person.
    User,
    /// The model: what is learned.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Role {
    /// `system`, `developer`, `user`, `assistant` or `tool`, as chat templates spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// Whether it gives instructions.
    pub(crate) fn is_system(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" | "human" => Self::User,
            "assistant" | "gpt" | "chatgpt" | "model" => Self::Assistant,
            "tool" | "function" | "observation" => Self::Tool,
            _ => return None,
        })
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said; empty for a message that only calls functions.
    pub content: String,
    /// Whether it has a loss: only the assistant's do, unless their `weight` is 0 or they belong to the prompt.
    pub is_learned: bool,
    /// The functions that it calls, as in OpenAI's messages; `None` where it calls none.
    pub tool_calls: Option<Json>,
    /// What else a chat template may write of it: `name` and `tool_call_id`.
    pub more: Vec<(&'static str, String)>,
}

impl Message {
    /// A message of text, which is learned if the assistant says it.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            is_learned: role == Role::Assistant,
            tool_calls: None,
            more: Vec::new(),
        }
    }

    /// Whether it has neither a text nor a call.
    pub fn says_nothing(&self) -> bool {
        self.content.trim().is_empty() && self.tool_calls.is_none()
    }

    /// Whether it is a role and a text, and nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        self.tool_calls.is_none() && self.more.is_empty()
    }

    /// What it says: its content, and its calls as JSON.
    pub fn text(&self) -> String {
        match &self.tool_calls {
            None => self.content.clone(),
            Some(calls) if self.content.is_empty() => json_text(calls),
            Some(calls) => format!("{}\n{}", self.content, json_text(calls)),
        }
    }
}

/// A value as JSON.
pub(crate) fn json_text(value: &Json) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Taker<'_, '_> {
    pub(crate) fn messages(&mut self, key: &str, value: Value) -> Result<Vec<Message>> {
        let value = match value {
            // A table has no lists, only texts that hold one.
            Value::String(text) => self.nested(key, &text)?,
            value => value,
        };
        let Value::Array(list) = value else {
            let found = type_name(&value);
            return Err(self
                .records
                .bad(format!("key `{key}`: expected a list of messages, found {found}")));
        };
        let messages = list.into_iter().enumerate();
        messages
            .map(|(index, value)| self.message(key, &format!("{key}[{index}]"), value))
            .collect()
    }

    /// The list of messages that a text holds as JSON.
    fn nested(&self, key: &str, text: &str) -> Result<Value> {
        let nested = serde_json::from_str::<Distinct>(text);
        nested.map(|value| value.0).map_err(|error| {
            self.records.bad(match error.is_data() {
                true => format!("key `{key}`: {}", reason(&error)),
                false => format!("key `{key}`: expected a list of messages, or a text that is one in JSON"),
            })
        })
    }

    fn message(&mut self, key: &str, place: &str, value: Value) -> Result<Message> {
        let Value::Object(mut object) = value else {
            let more = match value {
                Value::Array(_) => ": write one conversation per row",
                _ => "",
            };
            return Err(self.records.bad(format!(
                "`{place}`: expected an object with `role` and `content`, found {}{more}",
                type_name(&value)
            )));
        };
        // A table of lists has all keys of all messages, `null` where a message has none.
        let is_sharegpt = object.get("from").is_some_and(|from| !from.is_null());
        let (role_key, content_key) = if is_sharegpt {
            ("from", "value")
        } else {
            ("role", "content")
        };
        let role = match object.remove(role_key) {
            Some(Value::String(role)) => role,
            _ => {
                return Err(self.records.bad(format!(
                    "`{place}`: expected a string `{role_key}` that says who speaks"
                )));
            }
        };
        let role = Role::parse(&role).ok_or_else(|| {
            self.records.bad(format!(
                "`{place}`: the role {} is unknown: expected system, developer, user, assistant or tool (human and gpt in ShareGPT)",
                taal_store::excerpt(&role)
            ))
        })?;
        let tool_calls = match role {
            Role::Assistant => self.calls(place, &mut object)?,
            _ => None,
        };
        let content = match object.remove(content_key) {
            Some(Value::Array(parts)) => self.parts(place, parts)?,
            Some(Value::String(text)) => self.text(place, Value::String(text))?,
            None | Some(Value::Null) if tool_calls.is_some() => String::new(),
            other => {
                let found = other.as_ref().map_or("nothing", type_name);
                let older = match object.get("function_call") {
                    Some(Value::Object(_)) => "; write its `function_call` as `tool_calls`",
                    _ => "",
                };
                return Err(self.records.bad(format!(
                    "`{place}`: expected a string `{content_key}`, found {found}{older}"
                )));
            }
        };
        let has_thought = |thought: &Value| thought.as_str().is_some_and(|thought| !thought.trim().is_empty());
        let thought = object.remove(REASONING);
        if role == Role::Assistant && thought.as_ref().is_some_and(has_thought) {
            self.records.leave_out(REASONING);
        }
        let is_weightless = object.remove(WEIGHT).and_then(|weight| weight.as_f64()) == Some(0.0);
        let mut more = Vec::new();
        for name in TEXTS {
            if let Some(Value::String(text)) = object.get(name) {
                self.bytes += text.len();
                more.push((name, text.clone()));
                object.remove(name);
            }
        }
        for (name, value) in &object {
            self.records.not_used(&format!("{key}[].{name}"), value);
        }
        Ok(Message {
            role,
            content,
            is_learned: role == Role::Assistant && !is_weightless,
            tool_calls,
            more,
        })
    }

    /// The functions that a message calls.
    fn calls(&mut self, place: &str, object: &mut Object) -> Result<Option<Json>> {
        let value = object.remove(CALLS).unwrap_or(Value::Null);
        let calls = self.functions(
            &format!("`{place}`, `{CALLS}`"),
            &value,
            "write calls as in OpenAI's messages, or as text into the content",
        )?;
        Ok((!calls.is_empty()).then(|| Json::from(calls)))
    }

    /// A list of objects, or a text that is one in JSON; `null` and an empty text are an empty list. `otherwise` says what else can be done.
    pub(crate) fn functions(&mut self, place: &str, value: &Value, otherwise: &str) -> Result<Vec<Json>> {
        let refused = |taker: &Self, found: &str| {
            let detail = format!(
                "{place}: expected a list of functions, or a text that is one in JSON, found {found}; {otherwise}"
            );
            taker.records.bad(detail)
        };
        let json = match (value, in_order::json_of(value)) {
            (Value::Null, _) => return Ok(Vec::new()),
            (_, Some(json)) => json,
            (Value::String(text), None) if text.trim().is_empty() => return Ok(Vec::new()),
            (Value::String(text), None) => text.as_str(),
            (other, None) => return Err(refused(self, type_name(other))),
        };
        let Ok(functions) = serde_json::from_str::<Vec<Json>>(json) else {
            return Err(refused(
                self,
                match value {
                    Value::String(_) => "another text",
                    other => type_name(other),
                },
            ));
        };
        if !functions.iter().all(Json::is_object) {
            return Err(refused(self, "a list of something else"));
        }
        self.bytes += json.len();
        Ok(functions)
    }

    /// The text of a list of `{"type": "text", "text": "..."}`.
    fn parts(&mut self, place: &str, parts: Vec<Value>) -> Result<String> {
        let mut whole = String::new();
        for part in parts {
            let text = match part {
                Value::Object(mut part) if part.get("type").and_then(Value::as_str) == Some("text") => {
                    part.remove("text")
                }
                _ => None,
            };
            let text = text.ok_or_else(|| {
                let detail = format!(
                    "`{place}`: expected a content of text, or of parts {{\"type\": \"text\", \"text\": \"...\"}}"
                );
                self.records.bad(detail)
            })?;
            whole += &self.text(place, text)?;
        }
        Ok(whole)
    }
}
