//! The layouts of rows with examples: which columns hold what is read and what is learned.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taal_tokenizer::chat::Json;

use crate::conversation::ConversationOptions;
use crate::error::Result;
use crate::message::{Message, Role, json_text};
use crate::records::Records;
use crate::template::label;
use crate::text::{Object, type_name};

/// The most text of one row: more tokens than the longest block has.
const MAX_ROW_BYTES: usize = 8 << 20;

/// Columns that hold a list of messages.
const MESSAGES: [&str; 3] = ["messages", "conversations", "conversation"];

/// What an instruction of Alpaca's layout is about.
const INPUT: &str = "input";

/// The functions that the messages of a row may call, as in OpenAI's rows for fine-tuning.
const TOOLS: &str = "tools";
/// Instructions that a row has next to its messages.
const SYSTEM: &str = "system";

/// All columns that a layout reads under its own names, and that of plain texts.
pub(crate) const READ_COLUMNS: [&str; 14] = [
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
    SYSTEM,
    HISTORY,
    TOOLS,
    "text",
];

/// What a row of LLaMA-Factory's Alpaca layout may have besides: earlier turns.
const HISTORY: &str = "history";

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
    /// `prompt`, `chosen` and `rejected`: texts or lists of messages; without `prompt`, or where it is a text next to lists, the messages with
    /// which both begin.
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

/// What a row says.
#[derive(Debug, Clone, PartialEq)]
pub enum Dialogue {
    /// Two texts that follow one another as they are.
    Completion {
        /// What is read.
        prompt: String,
        /// What is learned.
        completion: String,
    },
    /// A conversation up to its last learned message, which a chat format turns into text.
    Messages(Conversation),
}

/// Messages, and the functions that they may call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The oldest message first.
    pub messages: Vec<Message>,
    /// The JSON schemas of the functions.
    pub tools: Vec<Json>,
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            tools: Vec::new(),
        }
    }
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

/// The keys of a recipe that name columns.
pub(crate) const RECIPE_KEYS: &str = "data.prompt_column and data.completion_column, or in data.messages_column";

/// What to do about a first row that no layout fits; `keys` are those that name columns.
pub(crate) fn unknown_layout(object: &Object, keys: &str) -> String {
    let columns: Vec<&str> = object.keys().map(String::as_str).collect();
    format!(
        "the columns {} are no layout that is recognized: expected `prompt` and `completion`, `messages` or `conversations`, \
         `instruction` and `output`, or `prompt`, `chosen` and `rejected`; name others in {keys}",
        taal_store::excerpt(&columns.join(", "))
    )
}

/// What to do about a row with too much text to train on.
pub(crate) const LONG_ROW: &str = "make several rows of it, or train on it as running text in data.files";

/// Takes the example to learn from out of a row. `long` says what to do about one with too much text.
///
/// # Errors
/// [`DataError::Line`](crate::DataError::Line) naming the column, what was found in it and what to do; also where nothing of it is
/// learned.
pub(crate) fn take(
    records: &mut Records<'_>,
    object: Object,
    layout: Layout,
    columns: &Columns,
    long: &str,
) -> Result<Dialogue> {
    let mut dialogue = take_all(records, object, layout, columns, long)?;
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
    long: &str,
) -> Result<Dialogue> {
    let mut taker = Taker::new(records);
    let name = |mapped: &Option<String>, own: &str| mapped.clone().unwrap_or_else(|| own.to_owned());
    let mut dialogue = match layout {
        Layout::Messages | Layout::ShareGpt => {
            let key = columns.messages.clone().or_else(|| {
                let known = MESSAGES.iter().find(|key| object.contains_key(**key));
                known.map(|key| (*key).to_owned())
            });
            let key = key.unwrap_or_else(|| MESSAGES[usize::from(layout == Layout::ShareGpt)].to_owned());
            let list = taker.value(&mut object, &key)?;
            let mut messages = taker.messages(&key, list)?;
            if layout == Layout::ShareGpt {
                let system = taker.system(&mut object)?;
                let own = messages.first().filter(|message| message.role.is_system());
                let is_other = |own: &Message| system.as_ref().is_some_and(|system| system.content != own.content);
                if own.is_some_and(is_other) {
                    taker.records.leave_out(SYSTEM);
                } else if own.is_none() {
                    messages.splice(0..0, system);
                }
            }
            Dialogue::Messages(messages.into())
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
    if let Dialogue::Messages(conversation) = &mut dialogue {
        conversation.tools = taker.tools(&mut object)?;
    }
    // What is said before an instruction has a note of its own.
    let unused = object
        .iter()
        .filter(|(key, _)| layout != Layout::Alpaca || *key != HISTORY);
    unused.for_each(|(key, value)| taker.records.not_used(key, value));
    taker.check_bytes(long)?;
    Ok(dialogue)
}

/// Takes values out of a row, and counts their bytes.
pub(crate) struct Taker<'r, 'a> {
    pub(crate) records: &'r mut Records<'a>,
    pub(crate) bytes: usize,
    /// The keys whose values are taken.
    taken: Vec<String>,
}

impl<'r, 'a> Taker<'r, 'a> {
    pub(crate) fn new(records: &'r mut Records<'a>) -> Self {
        Self {
            records,
            bytes: 0,
            taken: Vec::new(),
        }
    }

    /// # Errors
    /// [`DataError::Line`](crate::DataError::Line) where the row does not have it.
    pub(crate) fn value(&mut self, object: &mut Object, key: &str) -> Result<Value> {
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

    /// `otherwise` says what to do about a row with too much text.
    ///
    /// # Errors
    /// [`DataError::Line`](crate::DataError::Line) where more was taken than a block has room for.
    pub(crate) fn check_bytes(&self, otherwise: &str) -> Result<()> {
        match self.bytes > MAX_ROW_BYTES {
            false => Ok(()),
            true => Err(self.records.bad(format!(
                "the row has {:.1} MiB of text, more than {} MiB, and no model reads so much at once: {otherwise}",
                self.bytes as f64 / f64::from(1 << 20),
                MAX_ROW_BYTES >> 20
            ))),
        }
    }

    pub(crate) fn text(&mut self, key: &str, value: Value) -> Result<String> {
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
        messages.push(Message::new(Role::User, asked));
        messages.push(Message::new(Role::Assistant, answer));
        Ok(Dialogue::Messages(messages.into()))
    }

    /// The instructions that a row has next to its messages.
    fn system(&mut self, object: &mut Object) -> Result<Option<Message>> {
        if object.get(SYSTEM).is_none_or(Value::is_null) {
            return Ok(None);
        }
        let value = self.value(object, SYSTEM)?;
        let text = self.text(SYSTEM, value)?;
        Ok((!text.trim().is_empty()).then(|| Message::new(Role::System, text)))
    }

    /// The functions that messages may call.
    pub(crate) fn tools(&mut self, object: &mut Object) -> Result<Vec<Json>> {
        let value = object.remove(TOOLS).unwrap_or(Value::Null);
        self.functions(
            &format!("key `{TOOLS}`"),
            &value,
            "leave it out, or give it another name",
        )
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
            return Ok(Dialogue::Messages(messages.into()));
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
        let list = |key: &str| object.get(key).and_then(list_of)?.first();
        let is_in_both = list(chosen_key).is_some_and(|first| list(rejected_key) == Some(first));
        let is_prompt = |prompt: &Value| match prompt {
            Value::Null => false,
            Value::String(_) => !is_in_both,
            _ => true,
        };
        // A table of Parquet has the columns of all rows, and a text says again what both lists of messages begin with.
        if object.get(prompt_key).is_some_and(is_prompt) {
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
        Ok(Dialogue::Messages(chosen.into()))
    }

    fn empty(&self, key: &str) -> crate::DataError {
        self.records.bad(format!(
            "key `{key}` is empty: there is nothing to learn, leave the row out"
        ))
    }
}

/// Leaves out what follows the last learned message.
fn end_with_learned(dialogue: &mut Dialogue) -> std::result::Result<(), String> {
    let Dialogue::Messages(Conversation { messages, .. }) = dialogue else {
        return Ok(());
    };
    let last = messages.iter().rposition(|message| message.is_learned);
    let last = last.ok_or("no message of the assistant is learned: add one after the user's, or leave the row out")?;
    messages.truncate(last + 1);
    let is_empty = |message: &Message| message.is_learned && message.says_nothing();
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
            Self::Messages(Conversation { messages, .. }) => {
                let contents: Vec<String> = messages.iter().map(Message::text).collect();
                contents.join("\n")
            }
        }
    }

    /// Everything that is trained, for a tokenizer of its own: each message after the name of its role, as the plain template writes it,
    /// and tools and calls as JSON.
    pub(crate) fn into_rows(self) -> String {
        match self {
            Self::Completion { prompt, completion } => prompt + &completion,
            Self::Messages(Conversation { messages, tools }) => rows_of(&messages, &tools),
        }
    }
}

/// Tools and calls as JSON, and each message after the name of its role.
pub(crate) fn rows_of(messages: &[Message], tools: &[Json]) -> String {
    let tools = tools.iter().map(|tool| json_text(tool) + "\n");
    let line = |message: &Message| format!("{}: {}\n", label(message.role), message.text());
    tools.chain(messages.iter().map(line)).collect()
}
