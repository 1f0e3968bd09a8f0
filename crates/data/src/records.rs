//! Rows of any file of examples: JSON Lines, CSV, TSV or Parquet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use taal_store::LineEnds;

use crate::dialogue::Columns;
use crate::error::{DataError, Result};
use crate::input::{Input, Rows as Kind};
use crate::parquet::ParquetRows;
use crate::table::Table;
use crate::text::{Lines, Object};

/// The rows of a file as JSON objects.
pub(crate) struct Records<'a> {
    name: String,
    rows: Rows<'a>,
    line_ends: LineEnds,
    carriage_returns: u64,
    /// How often each key was left out that says something and is not learned.
    left_out: BTreeMap<&'static str, u64>,
    /// Rows of which the chat template does not write what each key has.
    not_shown: BTreeMap<&'static str, u64>,
    /// Keys that say something and are not read.
    unused: BTreeSet<String>,
}

/// The most unused keys that are kept; rows may have all sorts of them.
const MAX_UNUSED: usize = 1000;

/// The most unused keys that a note names.
const NAMED_UNUSED: usize = 20;

/// A note about keys that are not read, if there are any.
pub(crate) fn unused_note(keys: &BTreeSet<String>) -> Option<String> {
    let shown = keys.iter().take(NAMED_UNUSED).map(|key| {
        let is_plain = key.len() <= 40 && !key.contains(|character: char| character.is_control() || character == '`');
        match is_plain {
            true => format!("`{key}`"),
            false => taal_store::excerpt(key),
        }
    });
    let mut shown = shown.collect::<Vec<String>>().join(", ");
    if keys.len() > NAMED_UNUSED {
        shown += &format!(" and {} more", keys.len() - NAMED_UNUSED);
    }
    let is_are = match keys.len() {
        0 => return None,
        1 => "key of rows is",
        _ => "keys of rows are",
    };
    Some(format!("{} {is_are} not used: {shown}", keys.len()))
}

pub(crate) enum Rows<'a> {
    Json(Lines<'a>),
    Table(Box<Table>),
    Parquet(Box<ParquetRows>),
}

impl<'a> Records<'a> {
    /// `columns` are those to read under other names than their layout's.
    ///
    /// # Errors
    /// [`DataError::Line`] for the header of a table, [`DataError::Parquet`]; the store's.
    pub(crate) fn open(input: &Input<'a>, columns: &Columns) -> Result<Self> {
        let rows = match input.rows() {
            Kind::Tabs => Rows::Table(Box::new(Table::open(input, true)?)),
            Kind::Commas => Rows::Table(Box::new(Table::open(input, false)?)),
            Kind::Parquet => Rows::Parquet(Box::new(ParquetRows::open(input, columns)?)),
            Kind::Json | Kind::None => Rows::Json(Lines::open(input)?),
        };
        Ok(Self::of(input, rows))
    }

    pub(crate) fn of(input: &Input<'_>, rows: Rows<'a>) -> Self {
        Self {
            name: input.name.clone(),
            rows,
            line_ends: input.line_ends,
            carriage_returns: 0,
            left_out: BTreeMap::new(),
            not_shown: BTreeMap::new(),
            unused: BTreeSet::new(),
        }
    }

    /// The file and a row that begins on this line, in messages.
    pub(crate) fn place(&self, line: u64) -> String {
        match &self.rows {
            Rows::Parquet(_) => format!("{}, row {line}", self.name),
            Rows::Json(_) | Rows::Table(_) => format!("{}, line {line}", self.name),
        }
    }

    /// The next row with the line on which it begins, counted from 1; of Parquet its number.
    ///
    /// # Errors
    /// [`DataError::Line`], [`DataError::Row`], [`DataError::NotUtf8`]; the store's.
    pub(crate) fn next_row(&mut self) -> Result<Option<(u64, Object)>> {
        match &mut self.rows {
            Rows::Json(lines) => lines.next_object(),
            Rows::Table(table) => table.next_row(),
            Rows::Parquet(rows) => rows.next_row(),
        }
    }

    /// A text of the last row, with its line ends.
    pub(crate) fn text(&mut self, text: String) -> String {
        self.carriage_returns += text.bytes().filter(|&byte| byte == b'\r').count() as u64;
        match self.line_ends.apply(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(changed) => changed,
        }
    }

    /// Counts a key of a row that is left out.
    pub(crate) fn leave_out(&mut self, key: &'static str) {
        *self.left_out.entry(key).or_default() += 1;
    }

    /// Counts a row of which the chat template does not write what a key has.
    pub(crate) fn not_shown(&mut self, key: &'static str) {
        *self.not_shown.entry(key).or_default() += 1;
    }

    /// Keeps a key that is not read, if it says something.
    pub(crate) fn not_used(&mut self, key: &str, value: &Value) {
        let says_something = match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            Value::Bool(_) | Value::Number(_) => true,
        };
        if says_something && !self.unused.contains(key) && self.unused.len() < MAX_UNUSED {
            self.unused.insert(key.to_owned());
        }
    }

    /// The keys that are not read.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &String> {
        let not_decoded: &[String] = match &self.rows {
            Rows::Parquet(rows) => rows.others(),
            Rows::Json(_) | Rows::Table(_) => &[],
        };
        self.unused.iter().chain(not_decoded)
    }

    /// A note for each key that was left out, and for each that the chat template does not write.
    pub(crate) fn left_out_notes(&self) -> Vec<String> {
        let left_out = |(key, count): (&&str, &u64)| {
            let places = if *count == 1 { "place" } else { "places" };
            format!(
                "{}: `{key}` is left out in {count} {places}: write it into the messages to have it read",
                self.name
            )
        };
        let not_shown = |(key, count): (&&str, &u64)| {
            let rows = if *count == 1 { "row" } else { "rows" };
            format!(
                "{}: the `{key}` of {count} {rows} are not shown to the model, because the chat template does not write them; name one \
                 that does in data.chat_template",
                self.name
            )
        };
        let left_out = self.left_out.iter().map(left_out);
        left_out.chain(self.not_shown.iter().map(not_shown)).collect()
    }

    /// Carriage returns in the texts taken so far.
    pub(crate) fn carriage_returns(&self) -> u64 {
        self.carriage_returns
    }

    /// An error about the last row read.
    pub(crate) fn bad(&self, detail: impl Into<String>) -> DataError {
        match &self.rows {
            Rows::Json(lines) => lines.bad(detail.into()),
            Rows::Table(table) => table.bad(detail.into()),
            Rows::Parquet(rows) => rows.bad(detail.into()),
        }
    }
}
