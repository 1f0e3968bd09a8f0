//! The questions of a task, from rows of files and of sets that come along.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use taal_data::{Conversation, Dialogue, FileRow, Layout, Message, Role, RowSource};

use crate::asking::TaskItem;
use crate::lines::{TEST_LIMITS, bad_line, is_json_lines};
use crate::{EvaluationError, Result};

/// Every model that says nothing would be right.
pub(crate) const EMPTY_REFERENCE: &str = "a reference is empty: fill it, or leave the question out";

/// The longest texts of a question together: more than any model reads.
const MAX_QUESTION_BYTES: usize = 8 << 20;

/// The columns of prompts and references where the task does not name them.
const PROMPT: &str = "prompt";
const REFERENCE: &str = "completion";

/// The right answers to a question.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum References {
    One(String),
    Several(Vec<String>),
}

impl References {
    /// All of them.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// The keys of a task that name columns.
const KEYS: &str = "prompt_column and reference_column, or in messages_column";

/// The columns that a task names, and what else it says of rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Columns<'a> {
    /// The layout, where the first row does not say it.
    pub(crate) layout: Option<Layout>,
    pub(crate) prompt: Option<&'a str>,
    pub(crate) reference: Option<&'a str>,
    /// What an instruction is about.
    pub(crate) input: Option<&'a str>,
    /// Whole conversations.
    pub(crate) messages: Option<&'a str>,
    /// Whether instructions are texts, because the task says how prompts are written.
    pub(crate) is_text: bool,
}

/// The questions of rows.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    pub(crate) items: Vec<TaskItem>,
    /// What rows have that is not read.
    pub(crate) notes: Vec<String>,
}

/// How the rows of a file hold questions.
#[derive(Debug)]
enum Reading {
    /// In these columns, the right answer perhaps as one of several.
    Pair { prompt: String, reference: String },
    /// As training reads examples.
    Example(Layout, taal_data::Columns),
}

impl Columns<'_> {
    /// The questions of a file, or of an embedded set.
    pub(crate) fn read(&self, source: RowSource<'_>) -> Result<Questions> {
        let path = source.path();
        let is_table = matches!(source, RowSource::File(_)) && !is_json_lines(path);
        // A file that is missing is told in the store's words.
        if let RowSource::File(path) = source
            && taal_store::file_size_bytes(path)? > TEST_LIMITS.bytes
        {
            let detail = format!(
                "more than {} MiB are not accepted here; is it the right file?",
                TEST_LIMITS.bytes >> 20
            );
            return Err(bad_line(path, 1, &detail));
        }
        let named = self.named(str::to_owned);
        let (mut items, mut reading) = (Vec::new(), None);
        let notes = taal_data::for_each_row(source, &named, |mut row| {
            if items.len() == TEST_LIMITS.lines {
                let detail = format!(
                    "more than {} rows are not accepted here; is it the right file?",
                    TEST_LIMITS.lines
                );
                return Err(row.bad(detail).into());
            }
            let item = match reading.take() {
                Some(known) => reading.insert(known),
                None => reading.insert(self.reading(path, &row, is_table)?),
            };
            items.push(match item {
                Reading::Pair { prompt, reference } => pair(&mut row, prompt, reference)?,
                Reading::Example(layout, columns) => self.example(&mut row, *layout, columns)?,
            });
            Ok::<(), EvaluationError>(())
        })?;
        match (items.is_empty(), is_table) {
            (false, _) => Ok(Questions { items, notes }),
            (true, true) => Err(bad_line(path, 1, "no row follows the header")),
            (true, false) => Err(bad_line(path, 1, "the file is empty: write a question on each line")),
        }
    }

    /// The questions of an embedded set, each with the references of all rows that have its prompt.
    pub(crate) fn read_embedded(&self, name: &str, rows: &str) -> Result<Questions> {
        let mut items: Vec<TaskItem> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        let Questions { items: all, notes } = self.read(RowSource::Lines { name, rows })?;
        for item in all {
            let Some(place) = places.get(&item.prompt) else {
                places.insert(item.prompt.clone(), items.len());
                items.push(item);
                continue;
            };
            let known = &mut items[*place].references;
            for reference in item.references {
                if !known.contains(&reference) {
                    known.push(reference);
                }
            }
        }
        Ok(Questions { items, notes })
    }

    /// The columns that the task names, as training names them; `find` gives their names in the file.
    fn named(&self, find: impl Fn(&str) -> String) -> taal_data::Columns {
        taal_data::Columns {
            prompt: self.prompt.map(&find),
            input: self.input.map(&find),
            completion: self.reference.map(&find),
            rejected: None,
            messages: self.messages.map(&find),
        }
    }

    /// How a file is read, by its first row.
    fn reading(&self, path: &Path, row: &FileRow<'_, '_>, is_table: bool) -> Result<Reading> {
        let keys: Vec<&str> = row.values().keys().map(String::as_str).collect();
        // Names of columns of tables were never told apart by their capitals here; of Parquet the named ones are decoded.
        let is_parquet = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        let ignores_case = is_table && !is_parquet;
        let find = |name: &str| {
            let same = keys.iter().find(|key| **key == name);
            let alike = || {
                keys.iter()
                    .find(|key| ignores_case && key.to_lowercase() == name.to_lowercase())
            };
            same.or_else(alike).map(|key| (*key).to_owned())
        };
        let no_column = |name: &str| {
            let has = taal_store::excerpt(&keys.join(", "));
            bad_line(path, 1, &format!("no column `{name}` in the table, which has {has}"))
        };
        let all_named = [self.prompt, self.reference, self.input, self.messages];
        let is_missing = |name: &&str| is_table && find(name).is_none();
        if let Some(name) = all_named.into_iter().flatten().find(is_missing) {
            return Err(no_column(name));
        }
        let mut columns = self.named(|name| find(name).unwrap_or_else(|| name.to_owned()));
        // A named prompt next to a completion is a pair, whatever else a row has.
        if self.prompt.is_some() && self.layout.is_none() && self.input.is_none() && columns.completion.is_none() {
            columns.completion = find(REFERENCE);
        }
        let recognized = match (self.layout, self.messages, row.layout(&columns)) {
            (Some(layout), ..) => Some(layout),
            (None, Some(_), Some(Layout::ShareGpt)) => Some(Layout::ShareGpt),
            (None, Some(_), _) => Some(Layout::Messages),
            (None, None, Some(layout)) => Some(layout),
            (None, None, None) => find(PROMPT).and(find(REFERENCE)).map(|_| Layout::Completion),
        };
        match recognized {
            Some(Layout::Completion) => {
                let [prompt, reference] = [self.prompt.unwrap_or(PROMPT), self.reference.unwrap_or(REFERENCE)];
                let [prompt, reference] = [prompt, reference].map(|name| match find(name) {
                    None if is_table => Err(no_column(name)),
                    found => Ok(found.unwrap_or_else(|| name.to_owned())),
                });
                Ok(Reading::Pair {
                    prompt: prompt?,
                    reference: reference?,
                })
            }
            Some(layout) => Ok(Reading::Example(layout, columns)),
            None if is_table => Err(EvaluationError::Line {
                path: path.to_path_buf(),
                line: 1,
                detail: row.unknown_layout(KEYS),
            }),
            None => Err(row.bad(row.unknown_layout(KEYS)).into()),
        }
    }

    /// The question of a row that training reads.
    fn example(&self, row: &mut FileRow<'_, '_>, layout: Layout, columns: &taal_data::Columns) -> Result<TaskItem> {
        let line = row.line();
        let conversation = match row.dialogue(layout, columns)? {
            Dialogue::Completion { prompt, completion } => return Ok(text_item(prompt, completion, line)),
            Dialogue::Messages(conversation) => conversation,
        };
        if layout != Layout::Alpaca || !self.is_text {
            return Ok(TaskItem::of_conversation(conversation, Vec::new(), line));
        }
        let Conversation { messages, tools } = conversation;
        match <[Message; 2]>::try_from(messages) {
            Ok([asked, answer]) => Ok(TaskItem {
                tools,
                ..text_item(asked.content, answer.content, line)
            }),
            Err(_) => {
                let detail = "`system` is written by a chat template only: leave out `template` and `chat = false`, or write it into \
                              `instruction`";
                Err(row.bad(detail).into())
            }
        }
    }
}

/// A prompt of text and its right answer.
fn text_item(prompt: String, answer: String, line: u64) -> TaskItem {
    TaskItem {
        line: Some(usize::try_from(line).unwrap_or(usize::MAX)),
        ..TaskItem::new(prompt, vec![answer])
    }
}

/// The question of a row of prompt and reference.
fn pair(row: &mut FileRow<'_, '_>, prompt: &str, reference: &str) -> Result<TaskItem> {
    let line = row.line();
    for key in [prompt, reference] {
        check_filled(row, key)?;
    }
    let (text, mut messages) = match has_messages(row, prompt) {
        true => (None, asked(row.messages(prompt)?)),
        false => {
            let text = row.values().get(prompt).and_then(Value::as_str);
            let text = text.ok_or_else(|| wrong(row, prompt, "expected a text or a list of messages"))?;
            (Some(text.to_owned()), vec![Message::new(Role::User, text)])
        }
    };
    let is_answered_in_messages = has_messages(row, reference);
    let references = match is_answered_in_messages {
        true => {
            messages.extend(answer(row, reference)?);
            Vec::new()
        }
        false => references(row, reference)?,
    };
    let bytes = messages.iter().map(|message| message.content.len()).sum::<usize>();
    check_bytes(row, bytes + references.iter().map(String::len).sum::<usize>())?;
    let tools = row.tools()?;
    row.leave_others(&[prompt, reference]);
    Ok(match text.filter(|_| !is_answered_in_messages) {
        Some(text) => TaskItem {
            tools,
            line: Some(usize::try_from(line).unwrap_or(usize::MAX)),
            ..TaskItem::new(text, references)
        },
        None => TaskItem::of_conversation(Conversation { messages, tools }, references, line),
    })
}

/// An error about a column of a row.
fn wrong(row: &FileRow<'_, '_>, column: &str, detail: &str) -> EvaluationError {
    row.bad(format!("column `{column}`: {detail}")).into()
}

/// Refuses a row without a value in a column.
fn check_filled(row: &FileRow<'_, '_>, column: &str) -> Result<()> {
    match row.values().get(column) {
        Some(Value::Null) => Err(wrong(row, column, "is null: fill it, or leave the question out")),
        Some(_) => Ok(()),
        None => {
            let keys: Vec<&str> = row.values().keys().map(String::as_str).collect();
            let detail = format!("column `{column}` is missing: the line has {}", keys.join(", "));
            Err(row.bad(taal_store::shorten(&detail)).into())
        }
    }
}

/// Refuses a question with more text than any model reads.
fn check_bytes(row: &FileRow<'_, '_>, bytes: usize) -> Result<()> {
    if bytes <= MAX_QUESTION_BYTES {
        return Ok(());
    }
    let detail = format!(
        "the question has {:.1} MiB of text, more than {} MiB, and no model reads so much: shorten it, or leave it out",
        bytes as f64 / f64::from(1 << 20),
        MAX_QUESTION_BYTES >> 20
    );
    Err(row.bad(detail).into())
}

/// Whether a column has a list of messages.
fn has_messages(row: &FileRow<'_, '_>, column: &str) -> bool {
    let list = row.values().get(column).and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(Value::is_object))
}

/// Messages of which none is the answer.
fn asked(mut messages: Vec<Message>) -> Vec<Message> {
    messages.iter_mut().for_each(|message| message.is_learned = false);
    messages
}

/// Messages that end with the right answer.
fn answer(row: &mut FileRow<'_, '_>, column: &str) -> Result<Vec<Message>> {
    let messages = row.messages(column)?;
    match messages.last().filter(|message| message.is_learned) {
        Some(answer) if answer.says_nothing() => Err(wrong(row, column, EMPTY_REFERENCE)),
        Some(_) => Ok(messages),
        None => {
            let detail = "the last message is not the assistant's: end with the right answer";
            Err(wrong(row, column, detail))
        }
    }
}

/// Texts that are right answers.
fn references(row: &FileRow<'_, '_>, column: &str) -> Result<Vec<String>> {
    let found = row.values().get(column).cloned().unwrap_or_default();
    let found: References = serde_json::from_value(found).map_err(|error| wrong(row, column, &error.to_string()))?;
    let found = found.into_list();
    match found.iter().any(|text| text.trim().is_empty()) {
        true => Err(wrong(row, column, EMPTY_REFERENCE)),
        false => Ok(found),
    }
}
