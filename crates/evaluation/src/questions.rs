//! The questions of a task, from rows of files and of sets that come along.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use taal_data::{Conversation, FileRow, Layout, Message, Role, RowSource};

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

/// The columns that a task names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Columns<'a> {
    pub(crate) prompt: Option<&'a str>,
    pub(crate) reference: Option<&'a str>,
    /// Whole conversations.
    pub(crate) messages: Option<&'a str>,
}

/// How the rows of a file hold questions.
#[derive(Debug)]
enum Reading {
    /// In these columns.
    Pair { prompt: String, reference: String },
    /// As the last answer of a conversation.
    Conversation(Layout),
}

impl Columns<'_> {
    /// The questions of a file, or of an embedded set.
    pub(crate) fn read(&self, source: RowSource<'_>) -> Result<Vec<TaskItem>> {
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
        let decoded = taal_data::Columns {
            prompt: Some(self.prompt.unwrap_or(PROMPT).to_owned()),
            completion: Some(self.reference.unwrap_or(REFERENCE).to_owned()),
            ..self.of_messages()
        };
        let (mut items, mut reading) = (Vec::new(), None);
        taal_data::for_each_row(source, &decoded, |mut row| {
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
                Reading::Conversation(layout) => {
                    let line = row.line();
                    TaskItem::of_conversation(row.conversation(*layout, &self.of_messages())?, Vec::new(), line)
                }
            });
            Ok::<(), EvaluationError>(())
        })?;
        if items.is_empty() && is_table {
            return Err(bad_line(path, 1, "no row follows the header"));
        }
        Ok(items)
    }

    /// The questions of an embedded set, each with the references of all rows that have its prompt.
    pub(crate) fn read_embedded(&self, name: &str, rows: &str) -> Result<Vec<TaskItem>> {
        let mut items: Vec<TaskItem> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for item in self.read(RowSource::Lines { name, rows })? {
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
        Ok(items)
    }

    /// The columns by which conversations are recognized.
    fn of_messages(&self) -> taal_data::Columns {
        taal_data::Columns {
            messages: self.messages.map(ToOwned::to_owned),
            ..taal_data::Columns::default()
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
        let is_pair = self.prompt.is_some() || self.reference.is_some() || find(PROMPT).and(find(REFERENCE)).is_some();
        match row.layout(&self.of_messages()) {
            Some(layout @ (Layout::Messages | Layout::ShareGpt)) if self.messages.is_some() || !is_pair => {
                return Ok(Reading::Conversation(layout));
            }
            _ if self.messages.is_some() => return Ok(Reading::Conversation(Layout::Messages)),
            _ => {}
        }
        let [prompt, reference] = [self.prompt.unwrap_or(PROMPT), self.reference.unwrap_or(REFERENCE)];
        let found = [find(prompt), find(reference)];
        Ok(match (found, is_table) {
            ([Some(prompt), Some(reference)], _) => Reading::Pair { prompt, reference },
            (_, false) => Reading::Pair {
                prompt: prompt.to_owned(),
                reference: reference.to_owned(),
            },
            ([missing, _], true) => {
                let wanted = if missing.is_none() { prompt } else { reference };
                let has = taal_store::excerpt(&keys.join(", "));
                let detail = format!("no column `{wanted}` in the table, which has {has}");
                return Err(bad_line(path, 1, &detail));
            }
        })
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
