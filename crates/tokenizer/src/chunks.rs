//! Training text as bounded chunks, from files larger than memory or from memory.

use std::io::Read;
use std::path::{Path, PathBuf};

use taal_store::Reader;

use crate::cut::bounded_prefix;
use crate::{Error, Result};

/// The most bytes a chunk has; two dozen of them in work at once cost tens of MiB.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// The chunks of texts that are in memory already.
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

/// The chunks of files, one file after another.
pub(crate) struct FileChunks<'a> {
    paths: std::slice::Iter<'a, PathBuf>,
    open: Option<OpenFile>,
}

impl<'a> FileChunks<'a> {
    pub(crate) fn new(paths: &'a [PathBuf]) -> Self {
        Self {
            paths: paths.iter(),
            open: None,
        }
    }
}

impl Iterator for FileChunks<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(file) = &mut self.open
                && let Some(chunk) = file.next_chunk().transpose()
            {
                return Some(chunk);
            }
            match OpenFile::new(self.paths.next()?) {
                Ok(file) => self.open = Some(file),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A file that is read piece by piece, with what was read and not yet handed out.
struct OpenFile {
    reader: Reader,
    pending: Vec<u8>,
    /// Offset of the first pending byte, in bytes from the start of the file.
    offset: u64,
    is_at_end: bool,
}

impl OpenFile {
    fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            reader: Reader::open(path)?,
            pending: Vec::new(),
            offset: 0,
            is_at_end: false,
        })
    }

    fn next_chunk(&mut self) -> Result<Option<String>> {
        self.fill()?;
        let text = self.valid_prefix()?;
        let limit = if self.is_at_end {
            CHUNK_BYTES
        } else {
            // The last byte is held back, so that a cut at the very end of what was read is never mistaken for the end of a word.
            CHUNK_BYTES.min(text.len().saturating_sub(1))
        };
        let chunk = bounded_prefix(text, limit).to_owned();
        self.pending.drain(..chunk.len());
        self.offset += chunk.len() as u64;
        Ok((!chunk.is_empty()).then_some(chunk))
    }

    /// Reads until more than a chunk is pending or the file ends.
    fn fill(&mut self) -> Result<()> {
        let wanted = (CHUNK_BYTES + 8).saturating_sub(self.pending.len());
        if self.is_at_end || wanted == 0 {
            return Ok(());
        }
        let before = self.pending.len();
        let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut self.pending);
        read.map_err(|source| taal_store::Error::io("read", self.reader.path(), source))?;
        self.is_at_end = self.pending.len() - before < wanted;
        let path = self.reader.path().to_path_buf();
        if let Some(position) = self.pending[before..].iter().position(|&byte| byte == 0) {
            let offset = self.offset + (before + position) as u64;
            return Err(Error::Binary { path, offset });
        }
        Ok(())
    }

    /// The pending bytes as text, without a character that the next read will complete.
    fn valid_prefix(&self) -> Result<&str> {
        let error = match std::str::from_utf8(&self.pending) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let valid = error.valid_up_to();
        if error.error_len().is_none() && !self.is_at_end {
            // `valid_up_to` is a boundary by definition, so this cannot fail and costs a second check of one chunk.
            return Ok(std::str::from_utf8(&self.pending[..valid]).unwrap_or_default());
        }
        Err(Error::Store(taal_store::Error::NotUtf8 {
            path: self.reader.path().to_path_buf(),
            offset: self.offset + valid as u64,
        }))
    }
}
