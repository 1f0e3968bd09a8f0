//! Reading whole files under a limit, and streaming the ones that do not fit.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::{Error, FileFormat, Result, disk};

/// Large enough to make the cost of system calls negligible.
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens a file for reading; a directory is refused by name instead of failing at the first read.
pub(crate) fn open(path: &Path) -> Result<disk::File> {
    if disk::is_dir(path) {
        return Err(Error::NotAFile {
            path: path.to_path_buf(),
        });
    }
    if let Some(what) = disk::stream_kind(path) {
        let path = path.to_path_buf();
        return Err(Error::Stream { path, what });
    }
    disk::open(path).map_err(|source| Error::io("open", path, source))
}

/// Reads a whole file of at most `limit_bytes`.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::NotAFile`], [`Error::TooLarge`] before more than the limit is read, or [`Error::Io`].
pub fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = |actual_bytes| Error::TooLarge {
        path: path.to_path_buf(),
        limit_bytes,
        actual_bytes,
    };
    let io_error = |source| Error::io("read", path, source);
    let size_bytes = file.size_bytes().map_err(io_error)?;
    if size_bytes > limit_bytes {
        return Err(too_large(size_bytes));
    }
    // A pipe reports size 0 and a file may grow while it is read, so the limit also applies to the bytes themselves.
    let mut bytes = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or(0));
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io_error)?;
    let read_bytes = bytes.len() as u64;
    if read_bytes > limit_bytes {
        return Err(too_large(read_bytes));
    }
    Ok(bytes)
}

/// Reads a whole UTF-8 text file of at most `limit_bytes`.
///
/// # Errors
///
/// As [`read`], and [`Error::NotUtf8`] with the offset of the first invalid byte, or [`Error::Corrupt`] where the first bytes
/// belong to another format.
pub fn read_text(path: &Path, limit_bytes: u64) -> Result<String> {
    let bytes = read(path, limit_bytes)?;
    let first = FileFormat::of(&bytes);
    String::from_utf8(bytes).map_err(|error| match first {
        Some(format) if format != FileFormat::Json => Error::corrupt(path, format.in_place_of("text in UTF-8")),
        _ => Error::NotUtf8 {
            path: path.to_path_buf(),
            offset: error.utf8_error().valid_up_to() as u64,
        },
    })
}

/// A buffered stream over a file that may be larger than memory.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    inner: BufReader<disk::File>,
}

impl Reader {
    /// Opens a file for streaming.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAFile`] or [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            inner: BufReader::with_capacity(BUFFER_BYTES, open(path)?),
        })
    }

    /// The file's path, for the caller's errors.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

/// A small text that is read again and again, such as the kernel's counters. The file stays open, because opening one takes several times as
/// long as reading it.
#[derive(Debug)]
pub struct Reread {
    path: PathBuf,
    limit_bytes: u64,
    file: disk::File,
    bytes: Vec<u8>,
}

impl Reread {
    /// Opens a file of which at most `limit_bytes` are read.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotAFile`] or [`Error::Io`].
    pub fn open(path: &Path, limit_bytes: u64) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            limit_bytes,
            file: open(path)?,
            bytes: Vec::new(),
        })
    }

    /// The text that the file has now.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::NotUtf8`], or [`Error::Io`]; a file of the kernel fails where what it is about no longer exists.
    pub fn text(&mut self) -> Result<&str> {
        let io_error = |source| Error::io("read", &self.path, source);
        self.bytes.clear();
        self.file.seek(SeekFrom::Start(0)).map_err(io_error)?;
        let mut limited = self.file.as_mut().take(self.limit_bytes.saturating_add(1));
        limited.read_to_end(&mut self.bytes).map_err(io_error)?;
        if self.bytes.len() as u64 > self.limit_bytes {
            return Err(Error::TooLarge {
                path: self.path.clone(),
                limit_bytes: self.limit_bytes,
                actual_bytes: self.bytes.len() as u64,
            });
        }
        std::str::from_utf8(&self.bytes).map_err(|error| Error::NotUtf8 {
            path: self.path.clone(),
            offset: error.valid_up_to() as u64,
        })
    }
}
