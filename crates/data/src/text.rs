//! Reads text as a stream: decoded, checked, and cut into a training and a validation part by characters.

use std::io::{self, BufRead, Read};

use crate::error::{DataError, Result};
use crate::input::{Input, read_error};

/// Bytes taken from a file at a time.
const READ_BYTES: usize = 64 << 10;

/// The longest line of a JSONL file; a longer one is more likely a file of another format.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Share of each corpus, in characters, that is held back for validation unless a recipe says otherwise.
pub const DEFAULT_VALIDATION_FRACTION: f64 = 0.1;

/// Splits a text by characters: the last `validation_fraction` of them are for validation.
///
/// The training part has `floor(characters * (1 - validation_fraction))` characters, as in nanoGPT's `prepare.py`.
/// A fraction outside `0..1` is brought to the nearest end.
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
/// [`DataError::Setting`] unless the fraction lies in `0.0..1.0`.
pub(crate) fn check_fraction(validation_fraction: f64) -> Result<()> {
    if (0.0..1.0).contains(&validation_fraction) {
        return Ok(());
    }
    Err(DataError::Setting {
        key: "data.validation_fraction",
        detail: format!("expected a number from 0.0 to below 1.0, got {validation_fraction}"),
    })
}

/// The training share of `total`, which must leave something on both sides unless no validation is wanted.
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

/// Decodes a byte stream piece by piece, so that a text larger than memory needs none.
pub(crate) struct TextReader<'a> {
    name: &'a str,
    reader: Box<dyn BufRead + 'a>,
    /// Bytes read but not yet decoded: the beginning of a character that goes on in the next piece.
    carry: Vec<u8>,
    /// Position of the first byte of `carry` in the stream.
    offset: u64,
    is_at_start: bool,
}

impl<'a> TextReader<'a> {
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(input: &'a Input<'a>) -> Result<Self> {
        Ok(Self {
            name: &input.name,
            reader: input.open()?,
            carry: Vec::new(),
            offset: 0,
            is_at_start: true,
        })
    }

    /// Appends the next piece to `text`; false at the end of the stream. A byte order mark at the start is dropped.
    ///
    /// # Errors
    /// [`DataError::NotUtf8`], [`DataError::Binary`], the store's.
    pub(crate) fn read_into(&mut self, text: &mut String) -> Result<bool> {
        let mut bytes = std::mem::take(&mut self.carry);
        let carried = bytes.len();
        bytes.resize(carried + READ_BYTES, 0);
        let count =
            read_some(&mut self.reader, &mut bytes[carried..]).map_err(|source| read_error(self.name, source))?;
        bytes.truncate(carried + count);
        let valid_bytes = match std::str::from_utf8(&bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() && count > 0 => error.valid_up_to(),
            Err(error) => return Err(self.not_utf8(error.valid_up_to())),
        };
        self.carry = bytes.split_off(valid_bytes);
        if let Some(position) = bytes.iter().position(|&byte| byte == 0) {
            return Err(DataError::Binary {
                name: self.name.to_owned(),
                offset: self.offset + position as u64,
            });
        }
        self.offset += valid_bytes as u64;
        let piece = String::from_utf8(bytes).map_err(|error| self.not_utf8(error.utf8_error().valid_up_to()))?;
        let mut piece = piece.as_str();
        if self.is_at_start && !piece.is_empty() {
            self.is_at_start = false;
            piece = piece.strip_prefix('\u{FEFF}').unwrap_or(piece);
        }
        text.push_str(piece);
        Ok(count > 0)
    }

    fn not_utf8(&self, position: usize) -> DataError {
        DataError::NotUtf8 {
            name: self.name.to_owned(),
            offset: self.offset + position as u64,
        }
    }
}

/// One read that is repeated when a signal interrupted it.
fn read_some(reader: &mut dyn BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The lines of a JSONL file with their numbers, blank ones left out.
pub(crate) struct Lines<'a> {
    name: &'a str,
    reader: Box<dyn BufRead + 'a>,
    line: u64,
    offset: u64,
}

impl<'a> Lines<'a> {
    /// # Errors
    /// The store's, where the file cannot be opened.
    pub(crate) fn open(input: &'a Input<'a>) -> Result<Self> {
        Ok(Self {
            name: &input.name,
            reader: input.open()?,
            line: 0,
            offset: 0,
        })
    }

    /// The next line as a JSON object, with its number counted from 1.
    ///
    /// # Errors
    /// [`DataError::Line`] with the line's number, [`DataError::NotUtf8`], the store's.
    pub(crate) fn next_object(&mut self) -> Result<Option<(u64, serde_json::Map<String, serde_json::Value>)>> {
        while let Some(text) = self.next_line()? {
            let text = if self.line == 1 {
                text.trim_start_matches('\u{FEFF}')
            } else {
                &text
            };
            if text.trim().is_empty() {
                continue;
            }
            return match serde_json::from_str(text) {
                Ok(serde_json::Value::Object(object)) => Ok(Some((self.line, object))),
                Ok(other) => Err(self.bad(format!("expected a JSON object, found {}", type_name(&other)))),
                Err(error) => Err(self.bad(format!(
                    "not valid JSON at column {}: {}",
                    error.column(),
                    reason(&error)
                ))),
            };
        }
        Ok(None)
    }

    /// The error for the line that was read last.
    pub(crate) fn bad(&self, detail: String) -> DataError {
        DataError::Line {
            name: self.name.to_owned(),
            line: self.line,
            detail,
        }
    }

    fn next_line(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let count = (&mut self.reader)
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| read_error(self.name, source))? as u64;
        if count == 0 {
            return Ok(None);
        }
        self.line += 1;
        if count > MAX_LINE_BYTES {
            let limit_mib = MAX_LINE_BYTES >> 20;
            return Err(self.bad(format!(
                "longer than {limit_mib} MiB: a JSONL file has one JSON object a line"
            )));
        }
        let start = self.offset;
        self.offset += count;
        String::from_utf8(bytes).map(Some).map_err(|error| DataError::NotUtf8 {
            name: self.name.to_owned(),
            offset: start + error.utf8_error().valid_up_to() as u64,
        })
    }
}

/// serde_json's message without the position within our one line, which would name line 1.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message
        .rsplit_once(" at line ")
        .map_or(message.clone(), |(text, _)| text.to_owned())
}

pub(crate) fn type_name(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte a call, the hardest way to receive multi-byte characters.
    struct Dripping<'a>(&'a [u8]);

    impl BufRead for Dripping<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Ok(&self.0[..self.0.len().min(1)])
        }

        fn consume(&mut self, amount: usize) {
            self.0 = &self.0[amount..];
        }
    }

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn read_all(bytes: &[u8]) -> Result<String> {
        let mut reader = TextReader {
            name: "x.txt",
            reader: Box::new(Dripping(bytes)),
            carry: Vec::new(),
            offset: 0,
            is_at_start: true,
        };
        let mut text = String::new();
        while reader.read_into(&mut text)? {}
        Ok(text)
    }

    #[test]
    fn characters_cut_by_a_read_are_put_together_again() {
        assert_eq!(read_all("ĳs € 5 🎉 één".as_bytes()).unwrap(), "ĳs € 5 🎉 één");
    }

    #[test]
    fn a_byte_order_mark_is_dropped_at_the_start_only() {
        assert_eq!(read_all("\u{FEFF}a\u{FEFF}b".as_bytes()).unwrap(), "a\u{FEFF}b");
    }

    #[test]
    fn a_wrong_byte_is_named_by_its_offset_even_at_the_very_end() {
        let offset = |bytes: &[u8]| match read_all(bytes) {
            Err(DataError::NotUtf8 { offset, .. }) => offset,
            other => panic!("{other:?}"),
        };
        assert_eq!(offset(b"caf\xe9 noir"), 3);
        assert_eq!(offset(b"euro \xe2\x82"), 5);
    }
}
