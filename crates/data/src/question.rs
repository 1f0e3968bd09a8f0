//! Rows that ask for an answer: read as rows that are trained are, and written as training writes them.

use std::path::Path;

use serde_json::Value;
use taal_store::LineEnds;
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{Json, on_rendering_thread};

use crate::chat::{ChatFormat, Writer};
use crate::conversation::ConversationExample;
use crate::dialogue::{self, Columns, Conversation, Dialogue, Layout, Taker};
use crate::error::{DataError, Result};
use crate::example::Encoder;
use crate::input::{Content, Input, Rows as Kind, check_extension};
use crate::message::Message;
use crate::records::{Records, Rows, unused_note};
use crate::table::Table;
use crate::text::Object;
use crate::tokenize::tokenizer_error;

/// Where rows are.
#[derive(Debug, Clone, Copy)]
pub enum RowSource<'a> {
    /// A file of JSON Lines, CSV, TSV or Parquet; one with another extension is CSV.
    File(&'a Path),
    /// JSON Lines in memory.
    Lines {
        /// Their name in messages.
        name: &'a str,
        /// One JSON object per line.
        rows: &'a str,
    },
}

impl RowSource<'_> {
    /// The path of the file, or the name.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Lines { name, .. } => Path::new(name),
        }
    }
}

/// A row, of which the caller takes what it needs.
pub struct FileRow<'r, 'a> {
    records: &'r mut Records<'a>,
    object: Object,
    line: u64,
}

impl FileRow<'_, '_> {
    /// The line on which it begins, counted from 1; of Parquet its number.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The values of its columns that are not taken yet. Of Parquet, columns that are not read are null.
    pub fn values(&self) -> &serde_json::Map<String, Value> {
        &self.object
    }

    /// The layout that its columns have, if it is a known one.
    pub fn layout(&self, columns: &Columns) -> Option<Layout> {
        dialogue::recognize(&self.object, columns)
    }

    /// Takes a list of messages out of a column; a text may be one in JSON.
    ///
    /// # Errors
    /// [`DataError::Line`] or [`DataError::Row`], naming the column and the message.
    pub fn messages(&mut self, column: &str) -> Result<Vec<Message>> {
        let mut taker = Taker::new(self.records);
        let value = taker.value(&mut self.object, column)?;
        let messages = taker.messages(column, value)?;
        taker.check_bytes(LONG)?;
        Ok(messages)
    }

    /// Takes the functions of the column `tools`; none where it has none.
    ///
    /// # Errors
    /// [`DataError::Line`] or [`DataError::Row`].
    pub fn tools(&mut self) -> Result<Vec<Json>> {
        let mut taker = Taker::new(self.records);
        let tools = taker.tools(&mut self.object)?;
        taker.check_bytes(LONG)?;
        Ok(tools)
    }

    /// Takes everything up to the last answer that is learned in training.
    ///
    /// # Errors
    /// [`DataError::Line`] or [`DataError::Row`], as for a row that is trained: also where there is no answer, or an empty one.
    pub fn dialogue(&mut self, layout: Layout, columns: &Columns) -> Result<Dialogue> {
        let object = std::mem::take(&mut self.object);
        dialogue::take(self.records, object, layout, columns, LONG)
    }

    /// Keeps the names of all columns that are not taken yet and are not among `used`, for a note.
    pub fn leave_others(&mut self, used: &[&str]) {
        let others = self.object.iter().filter(|(key, _)| !used.contains(&key.as_str()));
        others.for_each(|(key, value)| self.records.not_used(key, value));
    }

    /// What to do about a row that no layout fits; `keys` are those that name columns.
    pub fn unknown_layout(&self, keys: &str) -> String {
        dialogue::unknown_layout(&self.object, keys)
    }

    /// An error about this row.
    pub fn bad(&self, detail: impl Into<String>) -> DataError {
        self.records.bad(detail)
    }
}

/// What to do about a question with too much text.
const LONG: &str = "shorten it, or leave the row out";

/// Calls `take` with every row, and returns notes about what rows have that is not read, those of training. Of Parquet only the columns
/// of [layouts](Layout) and those named in `columns` are read.
///
/// # Errors
/// `take`'s; [`DataError::Line`] and [`DataError::Row`] for a header or a row that cannot be read, [`DataError::Parquet`],
/// [`DataError::Format`] for a `.json` file, [`DataError::NotUtf8`]; the store's.
pub fn for_each_row<E: From<DataError>>(
    source: RowSource<'_>,
    columns: &Columns,
    mut take: impl FnMut(FileRow<'_, '_>) -> std::result::Result<(), E>,
) -> std::result::Result<Vec<String>, E> {
    let input = match source {
        RowSource::File(path) => {
            check_extension(path, Content::Conversations)?;
            Input::file(path.to_owned(), LineEnds::Keep)
        }
        RowSource::Lines { name, rows } => Input::lines(name, rows, LineEnds::Keep),
    };
    let mut records = match input.rows() {
        Kind::None => Records::of(&input, Rows::Table(Box::new(Table::open(&input, false)?))),
        Kind::Json | Kind::Parquet | Kind::Tabs | Kind::Commas => Records::open(&input, columns)?,
    };
    while let Some((line, object)) = records.next_row()? {
        take(FileRow {
            records: &mut records,
            object,
            line,
        })?;
    }
    let mut notes = records.left_out_notes();
    // The rows of a set are known.
    if let RowSource::File(_) = source {
        notes.extend(unused_note(&records.unused().cloned().collect()));
    }
    Ok(notes)
}

/// A question as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Everything before the answer, with the special tokens that the chat format writes.
    pub prompt_ids: Vec<u32>,
    /// The right answer as the chat format writes it, without special tokens; `None` where the conversation does not end with one.
    pub answer: Option<String>,
    /// Keys of the row of which the text has nothing: `tools` and `tool_calls`.
    pub not_shown: Vec<&'static str>,
}

impl Conversation {
    /// The answer that it ends with: its last message, if that is learned.
    pub fn answer(&self) -> Option<&Message> {
        self.messages.last().filter(|message| message.is_learned)
    }

    /// Everything before that answer as running text: tools and calls as JSON, each message after the name of its role.
    pub fn asked_text(&self) -> String {
        let asked = self.messages.len() - usize::from(self.answer().is_some());
        dialogue::rows_of(&self.messages[..asked], &self.tools)
    }

    /// Everything before that answer as a model reads it, and the answer; text and ids are those of training.
    ///
    /// # Errors
    /// What the chat format refuses or loses, or the tokenizer's error, in words.
    pub fn question(&self, tokenizer: &Tokenizer, format: &dyn ChatFormat) -> std::result::Result<Question, String> {
        // It is rendered several times.
        on_rendering_thread(|| self.written(tokenizer, format))
    }

    fn written(&self, tokenizer: &Tokenizer, format: &dyn ChatFormat) -> std::result::Result<Question, String> {
        let ids_of = |text: &str| {
            let ids = tokenizer.encode(text);
            ids.map_err(|source| tokenizer_error("its text", source))
        };
        let words = |error: DataError| error.to_string();
        let written = Writer::new(format).write(self);
        if self.answer().is_none() {
            let text = format.render(&self.messages, &self.tools, true)?;
            return Ok(Question {
                prompt_ids: ids_of(&text).map_err(words)?,
                answer: None,
                // A template may refuse a conversation that does not begin its answer.
                not_shown: written.map(|written| written.not_shown).unwrap_or_default(),
            });
        }
        let written = written?;
        let not_shown = written.not_shown.clone();
        let encoder = Encoder {
            tokenizer,
            writer: Writer::new(format),
            block_size: usize::MAX,
        };
        let example = ConversationExample::from(encoder.written(written, ids_of).map_err(words)?);
        let answer = example.answer_text(tokenizer);
        Ok(Question {
            prompt_ids: example.prompt_ids().to_vec(),
            answer: Some(answer.map_err(|source| source.to_string())?),
            not_shown,
        })
    }
}
