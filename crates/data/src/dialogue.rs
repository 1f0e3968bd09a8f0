//! The layouts of rows with examples: which columns hold what is read and what is learned.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conversation::ConversationOptions;
use crate::error::Result;
use crate::records::Records;
use crate::template::label;
use crate::text::{Object, type_name};

/// The most text of one row: more tokens than the longest block has.
const MAX_ROW_BYTES: usize = 8 << 20;

/// Columns that hold a list of messages.
const MESSAGES: [&str; 3] = ["messages", "conversations", "conversation"];

/// What an instruction of Alpaca's layout is about.
const INPUT: &str = "input";

/// All columns that a layout reads under its own names, and that of plain texts.
pub(crate) const READ_COLUMNS: [&str; 13] = [
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "completion",
    "instruction",
    INPUT,
    "output",
    "chosen",
    "rejected",
    "system",
    HISTORY,
    "text",
];

/// What a row of LLaMA-Factory's Alpaca layout may have besides: earlier turns.
const HISTORY: &str = "history";
/// What a message may have besides its content: what was thought before it.
const REASONING: &str = "reasoning_content";

/// The only key of the object that a column of bytes that are no text has in a row of Parquet.
pub(crate) const NOT_TEXT: &str = "\u{0}bytes";

/// How the rows of a file hold examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `prompt` and `completion`: two texts, joined as they are, or two lists of messages.
    Completion,
    /// `messages`: a list of `{"role": ..., "content": ...}` (OpenAI).
    Messages,
    /// `conversations`: a list of `{"from": ..., "value": ...}` (ShareGPT), and `system`, if it is there.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// `instruction`, `input` and `system` (may be missing or empty) and `output` (Alpaca).
    Alpaca,
    /// `prompt`, `chosen` and `rejected`: texts or lists of messages; without `prompt`, the messages with which both begin.
    Preference,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Completion => "completion",
            Self::Messages => "messages",
            Self::ShareGpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::Preference => "preference",
        })
    }
}

/// The columns to read where they have other names than their layout's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Instead of `prompt`, or `instruction` of [`Layout::Alpaca`].
    pub prompt: Option<String>,
    /// Instead of `input` of [`Layout::Alpaca`].
    pub input: Option<String>,
    /// Instead of `completion`, `output` or `chosen`.
    pub completion: Option<String>,
    /// Instead of `rejected`.
    pub rejected: Option<String>,
    /// Instead of `messages` or `conversations`.
    pub messages: Option<String>,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model: what is learned.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Role {
    /// `system`, `user`, `assistant` or `tool`, as chat templates spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "system" | "developer" => Self::System,
            "user" | "human" => Self::User,
            "assistant" | "gpt" | "chatgpt" | "model" => Self::Assistant,
            "tool" | "function" | "observation" => Self::Tool,
            _ => return None,
        })
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// Whether it has a loss: only the assistant's do, unless their `weight` is 0 or they belong to the prompt.
    pub is_learned: bool,
}

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dialogue {
    /// Two texts that follow one another as they are.
    Completion { prompt: String, completion: String },
    /// A conversation up to its last learned message, which a chat format turns into text.
    Messages(Vec<Message>),
}

impl Columns {
    /// The same rows with the rejected answers in the place of the chosen ones.
    #[must_use]
    pub fn of_rejected(&self) -> Self {
        let name = |mapped: &Option<String>, own: &str| Some(mapped.clone().unwrap_or_else(|| own.to_owned()));
        Self {
            completion: name(&self.rejected, "rejected"),
            rejected: name(&self.completion, "chosen"),
            ..self.clone()
        }
    }
}

/// The layout of a row by its columns, if it is a known one.
pub(crate) fn recognize(object: &Object, columns: &Columns) -> Option<Layout> {
    let has = |key: &str| object.contains_key(key);
    let messages = columns.messages.as_deref();
    if messages.is_some() || columns.completion.is_none() {
        let list = messages.map_or_else(
            || MESSAGES.iter().find_map(|key| object.get(*key)),
            |key| object.get(key),
        );
        if let Some(list) = list {
            let is_sharegpt = list_of(list)
                .and_then(|list| list.first()?.as_object())
                .is_some_and(|first| first.contains_key("from") && first.contains_key("value"));
            return Some(if is_sharegpt {
                Layout::ShareGpt
            } else {
                Layout::Messages
            });
        }
    }
    if columns.rejected.is_some() {
        return Some(Layout::Preference);
    }
    if columns.input.is_some() {
        return Some(Layout::Alpaca);
    }
    if columns.completion.is_some() || (has("completion") && !has("chosen")) {
        return Some(Layout::Completion);
    }
    if has("chosen") && has("rejected") {
        return Some(Layout::Preference);
    }
    (has("instruction") && has("output")).then_some(Layout::Alpaca)
}

fn list_of(value: &Value) -> Option<&Vec<Value>> {
    value.as_array()
}

/// What to do about a first row that no layout fits.
pub(crate) fn unknown_layout(object: &Object) -> String {
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    format!(
        "the columns {} are no layout that is recognized: expected `prompt` and `completion`, `messages` or `conversations`, \
         `instruction` and `output`, or `prompt`, `chosen` and `rejected`; name others in data.prompt_column and \
         data.completion_column, or in data.messages_column",
        taal_store::excerpt(&keys.join(", "))
    )
}

/// Takes the example to learn from out of a row.
///
/// # Errors
/// [`DataError::Line`](crate::DataError::Line) naming the column, what was found in it and what to do; also where nothing of it is
/// learned.
pub(crate) fn take(records: &mut Records<'_>, object: Object, layout: Layout, columns: &Columns) -> Result<Dialogue> {
    let mut dialogue = take_all(records, object, layout, columns)?;
    end_with_learned(&mut dialogue).map_err(|detail| records.bad(detail))?;
    Ok(dialogue)
}

/// Takes everything that a row says, whether or not anything of it is learned.
///
/// # Errors
/// [`DataError::Line`](crate::DataError::Line) naming the column, what was found in it and what to do.
pub(crate) fn take_all(
    records: &mut Records<'_>,
    mut object: Object,
    layout: Layout,
    columns: &Columns,
) -> Result<Dialogue> {
    let mut taker = Taker {
        records,
        bytes: 0,
        taken: Vec::new(),
    };
    let name = |mapped: &Option<String>, own: &str| mapped.clone().unwrap_or_else(|| own.to_owned());
    let dialogue = match layout {
        Layout::Messages | Layout::ShareGpt => {
            let key = columns.messages.clone().or_else(|| {
                let known = MESSAGES.iter().find(|key| object.contains_key(**key));
                known.map(|key| (*key).to_owned())
            });
            let key = key.unwrap_or_else(|| MESSAGES[usize::from(layout == Layout::ShareGpt)].to_owned());
            let list = taker.value(&mut object, &key)?;
            let mut messages = taker.messages(&key, list)?;
            let has_own = messages.first().is_some_and(|message| message.role == Role::System);
            if layout == Layout::ShareGpt && !has_own {
                let system = taker.system(&mut object)?;
                messages.splice(0..0, system);
            }
            Dialogue::Messages(messages)
        }
        Layout::Alpaca => taker.alpaca(
            &mut object,
            &name(&columns.prompt, "instruction"),
            &name(&columns.input, INPUT),
            &name(&columns.completion, "output"),
        )?,
        Layout::Completion => {
            let (prompt, completion) = (name(&columns.prompt, "prompt"), name(&columns.completion, "completion"));
            taker.pair(&mut object, &prompt, &completion)?
        }
        Layout::Preference => {
            let (chosen, rejected) = (name(&columns.completion, "chosen"), name(&columns.rejected, "rejected"));
            taker.preference(&mut object, &name(&columns.prompt, "prompt"), &chosen, &rejected)?
        }
    };
    if taker.bytes > MAX_ROW_BYTES {
        return Err(taker.records.bad(format!(
            "the row has {:.1} MiB of text, more than {} MiB, and no block has room for it: make several rows of it, or train on it \
             as running text in data.files",
            taker.bytes as f64 / f64::from(1 << 20),
            MAX_ROW_BYTES >> 20
        )));
    }
    Ok(dialogue)
}

/// Takes values out of a row, and counts their bytes.
struct Taker<'r, 'a> {
    records: &'r mut Records<'a>,
    bytes: usize,
    /// The keys whose values are taken.
    taken: Vec<String>,
}

impl Taker<'_, '_> {
    fn value(&mut self, object: &mut Object, key: &str) -> Result<Value> {
        let value = object.remove(key);
        if value.is_some() {
            self.taken.push(key.to_owned());
        }
        match value {
            Some(Value::Object(bytes)) if bytes.contains_key(NOT_TEXT) => Err(self.records.bad(format!(
                "column `{key}` has bytes that are not UTF-8 text: write it as a column of texts"
            ))),
            Some(Value::Null) => Err(self
                .records
                .bad(format!("key `{key}` is null: fill it, or leave the row out"))),
            Some(value) => Ok(value),
            None => {
                let left = object.keys().filter(|key| !self.taken.contains(key));
                let keys: Vec<&str> = self.taken.iter().chain(left).map(String::as_str).collect();
                let others = taal_store::excerpt(&keys.join(", "));
                Err(self.records.bad(format!(
                    "key `{key}` is missing: every row of a file has the same layout, and this one has {others}"
                )))
            }
        }
    }

    fn text(&mut self, key: &str, value: Value) -> Result<String> {
        match value {
            Value::String(text) => {
                self.bytes += text.len();
                Ok(self.records.text(text))
            }
            other => Err(self
                .records
                .bad(format!("key `{key}`: expected a string, found {}", type_name(&other)))),
        }
    }

    fn alpaca(&mut self, object: &mut Object, instruction: &str, input: &str, output: &str) -> Result<Dialogue> {
        let value = self.value(object, instruction)?;
        let mut asked = self.text(instruction, value)?;
        // A column that was named must be there; one of the usual name need not.
        if object.get(input).map_or(input != INPUT, |input| !input.is_null()) {
            let value = self.value(object, input)?;
            let more = self.text(input, value)?;
            if !more.trim().is_empty() {
                asked = format!("{asked}\n\n{more}");
            }
        }
        let value = self.value(object, output)?;
        let answer = self.text(output, value)?;
        if answer.trim().is_empty() {
            return Err(self.empty(output));
        }
        let mut messages: Vec<Message> = self.system(object)?.into_iter().collect();
        if object
            .get(HISTORY)
            .is_some_and(|turns| turns.as_array().is_some_and(|turns| !turns.is_empty()))
        {
            self.records.leave_out(HISTORY);
        }
        messages.push(said(Role::User, asked));
        messages.push(said(Role::Assistant, answer));
        Ok(Dialogue::Messages(messages))
    }

    /// The instructions that a row has next to its messages.
    fn system(&mut self, object: &mut Object) -> Result<Option<Message>> {
        if object.get("system").is_none_or(Value::is_null) {
            return Ok(None);
        }
        let value = self.value(object, "system")?;
        let text = self.text("system", value)?;
        Ok((!text.trim().is_empty()).then(|| said(Role::System, text)))
    }

    fn pair(&mut self, object: &mut Object, prompt_key: &str, completion_key: &str) -> Result<Dialogue> {
        let prompt = self.value(object, prompt_key)?;
        let completion = self.value(object, completion_key)?;
        if prompt.is_array() || completion.is_array() {
            let before = self.messages(prompt_key, prompt)?.into_iter();
            let mut messages: Vec<Message> = before
                .map(|message| Message {
                    is_learned: false,
                    ..message
                })
                .collect();
            messages.extend(self.messages(completion_key, completion)?);
            return Ok(Dialogue::Messages(messages));
        }
        let prompt = self.text(prompt_key, prompt)?;
        let completion = self.text(completion_key, completion)?;
        if completion.trim().is_empty() {
            return Err(self.empty(completion_key));
        }
        Ok(Dialogue::Completion { prompt, completion })
    }

    /// The chosen answer to a prompt. Without one, the messages with which both conversations begin are the prompt, as in trl's
    /// `extract_prompt`.
    fn preference(
        &mut self,
        object: &mut Object,
        prompt_key: &str,
        chosen_key: &str,
        rejected_key: &str,
    ) -> Result<Dialogue> {
        // A table of Parquet has the columns of all rows.
        if object.get(prompt_key).is_some_and(|prompt| !prompt.is_null()) {
            let rejected = self.value(object, rejected_key)?;
            if object.get(chosen_key) == Some(&rejected) {
                let detail = format!(
                    "`{chosen_key}` and `{rejected_key}` are the same: there is nothing to prefer, leave the row out"
                );
                return Err(self.records.bad(detail));
            }
            match rejected.is_array() {
                true => drop(self.messages(rejected_key, rejected)?),
                false => drop(self.text(rejected_key, rejected)?),
            }
            return self.pair(object, prompt_key, chosen_key);
        }
        let (chosen, rejected) = (self.value(object, chosen_key)?, self.value(object, rejected_key)?);
        if !chosen.is_array() {
            let detail = format!(
                "key `{prompt_key}` is missing: without it, `{chosen_key}` and `{rejected_key}` are lists of messages"
            );
            return Err(self.records.bad(detail));
        }
        let mut chosen = self.messages(chosen_key, chosen)?;
        let rejected = self.messages(rejected_key, rejected)?;
        let common = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
        if common == chosen.len().min(rejected.len()) {
            let detail = format!(
                "`{chosen_key}` and `{rejected_key}` do not differ in an answer: each needs a message after those with which both begin, \
                 or leave the row out"
            );
            return Err(self.records.bad(detail));
        }
        chosen[..common]
            .iter_mut()
            .for_each(|message| message.is_learned = false);
        Ok(Dialogue::Messages(chosen))
    }

    fn messages(&mut self, key: &str, value: Value) -> Result<Vec<Message>> {
        let value = match value {
            // A table has no lists, only texts that hold one.
            Value::String(text) => serde_json::from_str(&text).map_err(|_| {
                let detail = format!("key `{key}`: expected a list of messages, or a text that is one in JSON");
                self.records.bad(detail)
            })?,
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
            .map(|(index, value)| self.message(&format!("{key}[{index}]"), value))
            .collect()
    }

    fn message(&mut self, place: &str, value: Value) -> Result<Message> {
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
                "`{place}`: the role {} is unknown: expected system, user, assistant or tool (human and gpt in ShareGPT)",
                taal_store::excerpt(&role)
            ))
        })?;
        if object.get("tool_calls").is_some_and(|calls| !calls.is_null()) {
            let detail = format!(
                "`{place}` has `tool_calls`, which are not learned: write the call as text into `{content_key}`"
            );
            return Err(self.records.bad(detail));
        }
        let content = match object.remove(content_key) {
            Some(Value::Array(parts)) => self.parts(place, parts)?,
            Some(Value::String(text)) => self.text(place, Value::String(text))?,
            other => {
                let found = other.as_ref().map_or("nothing", type_name);
                return Err(self
                    .records
                    .bad(format!("`{place}`: expected a string `{content_key}`, found {found}")));
            }
        };
        let has_thought = |thought: &Value| thought.as_str().is_some_and(|thought| !thought.trim().is_empty());
        if role == Role::Assistant && object.get(REASONING).is_some_and(has_thought) {
            self.records.leave_out(REASONING);
        }
        let is_weightless = object.get("weight").and_then(Value::as_f64) == Some(0.0);
        Ok(Message {
            role,
            content,
            is_learned: role == Role::Assistant && !is_weightless,
        })
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

    fn empty(&self, key: &str) -> crate::DataError {
        self.records.bad(format!(
            "key `{key}` is empty: there is nothing to learn, leave the row out"
        ))
    }
}

/// A message of a row that has no list of them.
fn said(role: Role, content: String) -> Message {
    Message {
        role,
        content,
        is_learned: role == Role::Assistant,
    }
}

/// Leaves out what follows the last learned message.
fn end_with_learned(dialogue: &mut Dialogue) -> std::result::Result<(), String> {
    let Dialogue::Messages(messages) = dialogue else {
        return Ok(());
    };
    let last = messages.iter().rposition(|message| message.is_learned);
    let last = last.ok_or("no message of the assistant is learned: add one after the user's, or leave the row out")?;
    messages.truncate(last + 1);
    let is_empty = |message: &Message| message.is_learned && message.content.trim().is_empty();
    match messages.iter().position(is_empty) {
        None => Ok(()),
        Some(index) => Err(format!(
            "message {} (assistant) is empty: there is nothing to learn, leave the row out",
            index + 1
        )),
    }
}

impl Dialogue {
    /// The same with a line break between the two texts of a pair for translation: a decoder alone must see where the source ends.
    pub(crate) fn separated(self, options: &ConversationOptions) -> Self {
        match self {
            Self::Completion { prompt, completion } if options.direction.is_some() => Self::Completion {
                prompt: prompt + "\n",
                completion,
            },
            other => other,
        }
    }

    /// Everything that is said, as running text: messages on lines of their own.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Completion { prompt, completion } => prompt + &completion,
            Self::Messages(messages) => {
                let contents: Vec<String> = messages.into_iter().map(|message| message.content).collect();
                contents.join("\n")
            }
        }
    }

    /// Everything that is trained, for a tokenizer of its own: each message after the name of its role, as the plain template writes it.
    pub(crate) fn into_rows(self) -> String {
        match self {
            Self::Completion { prompt, completion } => prompt + &completion,
            Self::Messages(messages) => {
                let line = |message: Message| format!("{}: {}\n", label(message.role), message.content);
                messages.into_iter().map(line).collect()
            }
        }
    }
}
