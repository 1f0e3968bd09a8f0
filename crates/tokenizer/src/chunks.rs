//! Training text as bounded chunks, from files larger than memory or from memory.

use std::path::PathBuf;

use taal_store::TextReader;

use crate::cut::bounded_prefix;
use crate::{Error, Result};

/// The most bytes of a chunk; two dozen of them in progress take tens of MiB.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// A part of a text that is too large to be passed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPart {
    /// The text after the previous part.
    pub text: String,
    /// Whether the text ends here, so that no word continues in the next part.
    pub is_last: bool,
}

/// The chunks of texts in memory.
pub(crate) struct TextChunks<I: Iterator> {
    texts: I,
    current: Option<(I::Item, usize)>,
}

impl<I: Iterator> TextChunks<I> {
    pub(crate) fn new(texts: I) -> Self {
        Self { texts, current: None }
    }
}

impl<I: Iterator<Item: AsRef<str>>> Iterator for TextChunks<I> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((text, start)) = &mut self.current {
                let rest = &text.as_ref()[*start..];
                if !rest.is_empty() {
                    let chunk = bounded_prefix(rest, CHUNK_BYTES);
                    *start += chunk.len();
                    return Some(Ok(chunk.to_owned()));
                }
            }
            self.current = Some((self.texts.next()?, 0));
        }
    }
}

/// The chunks of texts that come in parts.
pub(crate) struct PartChunks<I> {
    parts: I,
    /// Text whose bytes before `start` have been returned.
    pending: String,
    start: usize,
    /// Whether the pending text is complete.
    is_whole: bool,
}

impl<I> PartChunks<I> {
    pub(crate) fn new(parts: I) -> Self {
        Self {
            parts,
            pending: String::new(),
            start: 0,
            is_whole: false,
        }
    }
}

impl<I: Iterator<Item = Result<TextPart>>> Iterator for PartChunks<I> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = &self.pending[self.start..];
            // More than a chunk is needed unless the text ends, so that the end of a part is never mistaken for the end of a word.
            if rest.len() > CHUNK_BYTES || (self.is_whole && !rest.is_empty()) {
                let chunk = bounded_prefix(rest, CHUNK_BYTES).to_owned();
                self.start += chunk.len();
                return Some(Ok(chunk));
            }
            match self.parts.next() {
                Some(Ok(part)) => {
                    self.pending.drain(..self.start);
                    self.start = 0;
                    self.pending.push_str(&part.text);
                    self.is_whole = part.is_last;
                }
                Some(Err(error)) => return Some(Err(error)),
                None if rest.is_empty() => return None,
                None => self.is_whole = true,
            }
        }
    }
}

/// The parts of files, one file after another.
pub(crate) fn file_parts(paths: &[PathBuf]) -> impl Iterator<Item = Result<TextPart>> {
    paths.iter().flat_map(|path| {
        let mut reader = Some(TextReader::open(path, u64::MAX));
        std::iter::from_fn(move || {
            let mut text = String::new();
            let is_more = match reader.as_mut()? {
                Ok(open) => open.read_into(&mut text),
                Err(_) => reader.take()?.map(|_| false),
            };
            if !matches!(is_more, Ok(true)) {
                reader = None;
            }
            Some(match is_more {
                Ok(is_more) => Ok(TextPart {
                    text,
                    is_last: !is_more,
                }),
                Err(taal_store::Error::Binary { path, offset }) => Err(Error::Binary { path, offset }),
                Err(error) => Err(error.into()),
            })
        })
    })
}
