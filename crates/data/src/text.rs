//! Reads text as a stream: decoded, checked, and split into a training and a validation part by characters.

use std::borrow::Cow;
use std::io::Read;

use taal_store::{LineEnds, TextLines, TextReader};

use crate::distinct::Distinct;
use crate::error::{DataError, Result};
use crate::in_order;
use crate::input::{Input, text_error};

/// The longest line of a JSONL file; a longer one is more likely a file of another format.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Share of each corpus, in characters, that is held back for validation unless a recipe says otherwise.
pub const DEFAULT_VALIDATION_FRACTION: f64 = 0.1;

/// Splits a text by characters: the last `validation_fraction` of them are for validation.
///
/// The training part has `floor(characters * (1 - validation_fraction))` characters, as in nanoGPT's `prepare.py`.
/// A fraction outside `0..1` is clamped.
///
/// ```
/// let (train, validation) = taal_data::split_text("een twee drie vier vijf", 0.1);
/// assert_eq!((train, validation), ("een twee drie vier v", "ijf"));
/// ```
pub fn split_text(text: &str, validation_fraction: f64) -> (&str, &str) {
    let train = train_share(count_characters(text.as_bytes()), validation_fraction.clamp(0.0, 1.0));
    text.split_at(byte_of_character(text, train))
}

/// How many of `total` units go to training.
pub(crate) fn train_share(total: u64, validation_fraction: f64) -> u64 {
    (total as f64 * (1.0 - validation_fraction)) as u64
}

/// # Errors
/// [`DataError::Setting`] unless the fraction is in `0.0..1.0`.
pub(crate) fn check_fraction(validation_fraction: f64) -> Result<()> {
    if (0.0..1.0).contains(&validation_fraction) {
        return Ok(());
    }
    Err(DataError::Setting {
        key: "data.validation_fraction",
        detail: format!("expected a number from 0.0 to below 1.0, got {validation_fraction}"),
    })
}

/// The training share of `total`; neither part may be empty unless no validation is wanted.
///
/// # Errors
/// [`DataError::TooShortToSplit`].
pub(crate) fn checked_train_share(name: &str, total: u64, unit: &'static str, validation_fraction: f64) -> Result<u64> {
    let train = train_share(total, validation_fraction);
    if train == 0 || (train == total && validation_fraction > 0.0) {
        return Err(DataError::TooShortToSplit {
            name: name.to_owned(),
            length: total,
            unit,
        });
    }
    Ok(train)
}

/// Characters in valid UTF-8: every byte that does not continue a character starts one.
pub(crate) fn count_characters(utf8: &[u8]) -> u64 {
    utf8.iter().map(|&byte| u64::from(byte & 0xC0 != 0x80)).sum()
}

/// The byte at which character number `index` starts, or the text's length.
pub(crate) fn byte_of_character(text: &str, index: u64) -> usize {
    text.char_indices()
        .nth(usize::try_from(index).unwrap_or(usize::MAX))
        .map_or(text.len(), |(byte, _)| byte)
}

/// A sentence about carriage returns in texts.
pub fn line_ends_words(carriage_returns: u64, line_ends: LineEnds) -> String {
    match line_ends {
        LineEnds::Lf => format!(
            "{carriage_returns} line ends with a carriage return (as Windows writes them) became line feeds; line ends \"keep\" leaves them"
        ),
        LineEnds::Keep => format!(
            "{carriage_returns} carriage returns (as Windows writes them at line ends) are part of the text; line ends \"lf\" removes them"
        ),
    }
}

/// The pieces of an input's text, with its line ends.
pub(crate) struct Pieces<'a> {
    name: String,
    reader: TextReader<Box<dyn Read + 'a>>,
}

impl<'a> Pieces<'a> {
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(input: &Input<'a>) -> Result<Self> {
        Self::with(input, input.line_ends)
    }

    /// The text as it is in the file.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub(crate) fn unchanged(input: &Input<'a>) -> Result<Self> {
        Self::with(input, LineEnds::Keep)
    }

    fn with(input: &Input<'a>, line_ends: LineEnds) -> Result<Self> {
        let reader = input.open()?.with_line_ends(line_ends);
        let name = input.name.clone();
        Ok(Self { name, reader })
    }

    /// Carriage returns read so far.
    pub(crate) fn carriage_returns(&self) -> u64 {
        self.reader.other_line_ends()
    }

    /// Appends the next piece to `text`; false at the end.
    ///
    /// # Errors
    /// [`DataError::NotUtf8`], [`DataError::Binary`], the store's.
    pub(crate) fn read_into(&mut self, text: &mut String) -> Result<bool> {
        self.reader
            .read_into(text)
            .map_err(|error| text_error(&self.name, error))
    }
}

/// A JSON object of a line.
pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

/// The non-blank lines of a JSONL file with their numbers.
pub(crate) struct Lines<'a> {
    name: String,
    lines: TextLines<Box<dyn Read + 'a>>,
    line_ends: LineEnds,
    carriage_returns: u64,
}

impl<'a> Lines<'a> {
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(input: &Input<'a>) -> Result<Self> {
        Ok(Self {
            name: input.name.clone(),
            lines: TextLines::new(input.open()?, MAX_LINE_BYTES),
            line_ends: input.line_ends,
            carriage_returns: 0,
        })
    }

    /// Carriage returns in the texts taken so far.
    pub(crate) fn carriage_returns(&self) -> u64 {
        self.carriage_returns
    }

    /// The next line as a JSON object, with its number counted from 1.
    ///
    /// # Errors
    /// [`DataError::Line`] with the line's number, [`DataError::NotUtf8`], the store's.
    pub(crate) fn next_object(&mut self) -> Result<Option<(u64, Object)>> {
        loop {
            let line = self.lines.next_line().map_err(|error| text_error(&self.name, error))?;
            let Some(text) = line else { return Ok(None) };
            if text.trim().is_empty() {
                continue;
            }
            let value = serde_json::from_str::<Distinct>(text);
            return match value.map(|value| value.0) {
                Ok(serde_json::Value::Object(object)) => Ok(Some((self.lines.line(), object))),
                Ok(other) => Err(self.bad(format!(
                    "expected a JSON object, found {}: write each row as an object on a line of its own",
                    type_name(&other)
                ))),
                Err(error) if error.is_data() => Err(self.bad(reason(&error))),
                Err(error) => Err(self.bad(format!(
                    "not valid JSON at column {}: {}",
                    error.column(),
                    reason(&error)
                ))),
            };
        }
    }

    /// Takes a string out of an object, with its line ends; `None` where there is no such key.
    ///
    /// # Errors
    /// [`DataError::Line`] where it is not a string.
    pub(crate) fn take_string(&mut self, object: &mut Object, key: &str) -> Result<Option<String>> {
        match object.remove(key) {
            Some(serde_json::Value::String(text)) => Ok(Some(self.with_line_ends(text))),
            Some(other) => Err(self.bad(format!("key `{key}`: expected a string, found {}", type_name(&other)))),
            None => Ok(None),
        }
    }

    pub(crate) fn with_line_ends(&mut self, text: String) -> String {
        self.carriage_returns += text.bytes().filter(|&byte| byte == b'\r').count() as u64;
        match self.line_ends.apply(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(changed) => changed,
        }
    }

    /// An error about the last line read.
    pub(crate) fn bad(&self, detail: String) -> DataError {
        DataError::Line {
            name: self.name.clone(),
            line: self.lines.line(),
            detail,
        }
    }
}

/// serde_json's message without its position, which would always name line 1.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let text = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(text, _)| text);
    taal_store::shorten(text)
}

pub(crate) fn type_name(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => match in_order::json_of(value) {
            Some(json) if json.starts_with('[') => "a list",
            _ => "an object",
        },
    }
}
