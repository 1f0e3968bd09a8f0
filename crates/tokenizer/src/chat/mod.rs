//! Chat templates: from a conversation to the text that a model continues.
//!
//! A template is a program in Jinja that comes with a model. It is run here by minijinja with the functions that transformers gives
//! templates, so that the text equals that of `apply_chat_template`. A template may come from a stranger: it has no access to
//! anything but the conversation, and limits of its steps, its nesting, the texts that it builds and its output.

mod bounds;
mod files;
mod functions;
mod json;
mod methods;
mod operators;
mod plain;
mod source;
mod stack;
mod strftime;
mod template;
mod wrap;

pub use files::ChatFiles;
pub use json::Json;
pub use stack::on_rendering_thread;
pub use template::ChatTemplate;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The time that `strftime_now` tells where a text must be the same every time, in training and in evaluation, in seconds since 1970:
/// 26 July 2024, the day that LLaMA 3.1's template writes where it is told none.
pub const FIXED_NOW_S: u64 = 1_721_952_000;

/// One message of a conversation: an object with `role` and, in most cases, `content`. Keys whose value is `null` are left out, as
/// in transformers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Message(pub(crate) Value);

impl Message {
    /// A message of text. `role` is `system`, `user`, `assistant` or another one that the template knows.
    pub fn new(role: &str, content: &str) -> Self {
        Self(json::object([
            ("role".to_owned(), Value::from(role)),
            ("content".to_owned(), Value::from(content)),
        ]))
    }

    /// A message without content, such as one that only calls functions.
    pub fn without_content(role: &str) -> Self {
        Self(json::object([("role".to_owned(), Value::from(role))]))
    }

    /// The same with another entry, such as `tool_calls`, which replaces one of its key.
    #[must_use]
    pub fn with(self, key: &str, value: Json) -> Self {
        Self(template::with_entries(&self.0, [(key, value.0)]))
    }

    /// Its role.
    pub fn role(&self) -> String {
        self.text_of("role").unwrap_or_default()
    }

    /// Its content where that is a text; of a list of parts, the texts.
    pub fn text(&self) -> Option<String> {
        let content = self
            .0
            .get_attr("content")
            .ok()
            .filter(|content| !content.is_undefined())?;
        if let Some(text) = content.as_str() {
            return Some(text.to_owned());
        }
        let parts = content.try_iter().ok()?;
        let texts = parts.filter_map(|part| Some(part.get_attr("text").ok()?.as_str()?.to_owned()));
        Some(texts.collect())
    }

    /// The message as templates for text expect it: parts of text and refusals are joined into one text, the role is one that the template
    /// knows ([`ChatTemplate::role`]), a `function_call` is one of the `tool_calls`, and the arguments of called functions, which OpenAI's
    /// clients send as a text of JSON, are an object. Arguments that are no JSON object stay as they are.
    ///
    /// # Errors
    ///
    /// What is wrong with the content.
    pub fn into_plain(self, template: &ChatTemplate) -> std::result::Result<Self, String> {
        let plain = self.into_plain_with_given_arguments(template)?;
        let calls = plain.entry("tool_calls");
        let Some(calls) = calls.filter(|calls| calls.kind() == ValueKind::Seq) else {
            return Ok(plain);
        };
        let calls: Vec<Value> = calls.try_iter().into_iter().flatten().map(with_arguments).collect();
        Ok(Self(template::with_entries(
            &plain.0,
            [("tool_calls", Value::from(calls))],
        )))
    }

    /// [`into_plain`](Self::into_plain) with the arguments of called functions as they are, for templates that put their text together.
    ///
    /// # Errors
    ///
    /// As [`into_plain`](Self::into_plain).
    pub fn into_plain_with_given_arguments(self, template: &ChatTemplate) -> std::result::Result<Self, String> {
        let mut message = self.0.clone();
        let given = self.role();
        let role = template.role(&given);
        if role != given {
            message = template::with_entries(&message, [("role", Value::from(role))]);
        }
        if self.entry("audio").is_some() {
            return Err("only text can be read, got audio".to_owned());
        }
        let content = self.entry("content");
        match content.as_ref().map(Value::kind) {
            None => {
                if let Some(refusal) = self.text_of("refusal") {
                    message = template::with_entries(&message, [("content", Value::from(refusal))]);
                }
            }
            Some(ValueKind::String) => (),
            Some(ValueKind::Seq) => {
                let parts = content.iter().filter_map(|parts| parts.try_iter().ok()).flatten();
                let joined = parts
                    .map(|part| text_of_part(&part))
                    .collect::<std::result::Result<String, String>>()?;
                message = template::with_entries(&message, [("content", Value::from(joined))]);
            }
            Some(kind) => return Err(format!("expected a text or a list of parts, got a {kind}")),
        }
        let older = self.entry("function_call").filter(|call| call.kind() == ValueKind::Map);
        if let (Some(function), None) = (older, self.entry("tool_calls")) {
            let call = json::object([
                ("type".to_owned(), Value::from("function")),
                ("function".to_owned(), function),
            ]);
            message = template::with_entries(&message, [("tool_calls", Value::from(vec![call]))]);
        }
        Ok(Self(message))
    }

    /// An entry that is there.
    fn entry(&self, key: &str) -> Option<Value> {
        self.0.get_attr(key).ok().filter(|entry| !entry.is_undefined())
    }

    fn text_of(&self, key: &str) -> Option<String> {
        text_of(&self.0, key)
    }
}

/// The text of a part of a message, which is a text or a refusal.
fn text_of_part(part: &Value) -> std::result::Result<String, String> {
    let kind = text_of(part, "type");
    let key = if kind.as_deref() == Some("refusal") {
        "refusal"
    } else {
        "text"
    };
    text_of(part, key).ok_or_else(|| {
        let kind = kind.unwrap_or_else(|| part.kind().to_string());
        format!(
            "only text can be read, got a part of type {}",
            taal_store::excerpt(&kind)
        )
    })
}

/// A called function whose arguments are an object, where their text is that of one; an empty text is an empty object.
fn with_arguments(call: Value) -> Value {
    let function = call
        .get_attr("function")
        .ok()
        .filter(|function| !function.is_undefined());
    let arguments = function.as_ref().and_then(|function| text_of(function, "arguments"));
    let (Some(function), Some(text)) = (function, arguments) else {
        return call;
    };
    let arguments = match text.trim() {
        "" => Ok(Json(json::object([]))),
        text => serde_json::from_str(text),
    };
    match arguments {
        Ok(Json(arguments)) if arguments.kind() == ValueKind::Map => {
            let function = template::with_entries(&function, [("arguments", arguments)]);
            template::with_entries(&call, [("function", function)])
        }
        _ => call,
    }
}

/// The calls of a message, each with one argument in the place of its own: `word`, whose value is the same word. What a template writes
/// otherwise for them is what it writes of the calls.
#[must_use]
pub fn with_other_arguments(calls: &Json, word: &str) -> Json {
    let other = |function: Value| {
        let arguments = json::object([(word.to_owned(), Value::from(word))]);
        let arguments = match text_of(&function, "arguments") {
            // OpenAI's clients send a text of JSON.
            Some(_) => Value::from(format!("{{\"{word}\": \"{word}\"}}")),
            None => arguments,
        };
        template::with_entries(&function, [("arguments", arguments)])
    };
    let calls = calls.0.try_iter().into_iter().flatten().map(|call| {
        let function = call.get_attr("function").ok();
        match function.filter(|function| function.kind() == ValueKind::Map) {
            Some(function) => template::with_entries(&call, [("function", other(function))]),
            None => other(call),
        }
    });
    Json(Value::from(calls.collect::<Vec<Value>>()))
}

/// A text of an object.
fn text_of(object: &Value, key: &str) -> Option<String> {
    Some(object.get_attr(key).ok()?.as_str()?.to_owned())
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Json(value) = Json::deserialize(deserializer)?;
        if value.kind() != ValueKind::Map {
            return Err(D::Error::custom(
                "expected a message, which is an object with role and content",
            ));
        }
        let mut entries = json::entries(&value);
        entries.retain(|(_, entry)| !entry.is_none());
        match entries
            .iter()
            .any(|(key, role)| key == "role" && role.as_str().is_some())
        {
            true => Ok(Self(json::object(entries))),
            false => Err(D::Error::custom("a message has no role; expected a text such as user")),
        }
    }
}

/// What a template makes a text of.
#[derive(Debug, Clone)]
pub struct ChatInput {
    /// The conversation, the oldest message first.
    pub messages: Vec<Message>,
    /// Functions that the model may call, as JSON schemas; a template for tools is used where there are any.
    pub tools: Vec<Json>,
    /// Whether the text ends with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Whether the last message is left open, so that the model continues it.
    pub continue_final_message: bool,
    /// More variables, such as `enable_thinking`; they replace those of the same name.
    pub variables: BTreeMap<String, Json>,
    /// The time that `strftime_now` tells, in UTC.
    pub now: SystemTime,
}

impl Default for ChatInput {
    /// No message, and the beginning of an answer.
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            add_generation_prompt: true,
            continue_final_message: false,
            variables: BTreeMap::new(),
            now: SystemTime::now(),
        }
    }
}

/// The text of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text. It is encoded without further special tokens.
    pub text: String,
    /// The bytes of the text that the template marks as generated by the model, with `{% generation %}`; empty where it marks none.
    pub generated: Vec<Range<usize>>,
}
