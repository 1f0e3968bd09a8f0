//! A log of lines that loses at most its last lines in a crash.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::mutants::is_broken;
use crate::{AtomicFile, Error, Result, disk, reading};

/// Bytes per step when searching back for the end of the last complete line.
const TAIL_BYTES: usize = 4096;

/// A file that grows line by line.
///
/// A line is complete with its line break: a crash in the middle of [`append`](AppendLog::append) leaves a torn last line, which
/// [`open`](AppendLog::open) removes and [`read_lines`](AppendLog::read_lines) does not return.
#[derive(Debug)]
pub struct AppendLog {
    path: PathBuf,
    file: disk::File,
    length_bytes: u64,
}

impl AppendLog {
    /// Opens a log for appending, creates it if missing and removes a torn last line.
    ///
    /// # Errors
    ///
    /// [`Error::NotAFile`], [`Error::NoSpace`] or [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        if disk::is_dir(path) {
            return Err(Error::NotAFile {
                path: path.to_path_buf(),
            });
        }
        let mut file = disk::open_update(path).map_err(|source| Error::io("open", path, source))?;
        let io_error = |source| Error::io("repair", path, source);
        let found_bytes = file.size_bytes().map_err(io_error)?;
        let length_bytes = whole_lines_bytes(&mut file, found_bytes).map_err(io_error)?;
        if length_bytes < found_bytes {
            file.set_len(length_bytes).map_err(io_error)?;
        }
        file.seek(SeekFrom::Start(length_bytes)).map_err(io_error)?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            length_bytes,
        })
    }

    /// Appends one line; the line break is added. It is durable after the next [`sync`](AppendLog::sync).
    ///
    /// A write that fails halfway is undone, so the log stays intact on a full disk.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Io`], or [`Error::Corrupt`] for a line that contains a line break.
    pub fn append(&mut self, line: &str) -> Result<()> {
        check_line(&self.path, line)?;
        let text = format!("{line}\n");
        let text_bytes = text.len() as u64;
        if let Err(source) = self.file.write_all(text.as_bytes()) {
            // Best effort: if this fails too, the torn line is removed at the next open.
            let _ = self.file.set_len(self.length_bytes);
            let _ = self.file.seek(SeekFrom::Start(self.length_bytes));
            return Err(Error::io_sized("append to", &self.path, text_bytes, source));
        }
        self.length_bytes += text_bytes;
        Ok(())
    }

    /// Makes the lines appended so far durable.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] or [`Error::Io`].
    pub fn sync(&mut self) -> Result<()> {
        if is_broken("log-fsync") {
            return Ok(());
        }
        self.file
            .fsync()
            .map_err(|source| Error::io("sync", &self.path, source))
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the whole log by these lines, atomically and durably, and opens it for appending.
    ///
    /// A log opened earlier under the same path keeps writing to the replaced file: drop it.
    ///
    /// # Errors
    ///
    /// As [`append`](AppendLog::append) and [`open`](AppendLog::open).
    pub fn rewrite<'a>(path: &Path, lines: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut file = AtomicFile::create(path)?;
        for line in lines {
            check_line(path, line)?;
            file.write_bytes(line.as_bytes())?;
            file.write_bytes(b"\n")?;
        }
        file.commit()?;
        Self::open(path)
    }

    /// The complete lines of a log of at most `limit_bytes`, without their line breaks; a torn last line is left out.
    ///
    /// # Errors
    ///
    /// As [`read_text`](crate::read_text); only complete lines must be UTF-8.
    pub fn read_lines(path: &Path, limit_bytes: u64) -> Result<Vec<String>> {
        let mut bytes = reading::read(path, limit_bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n');
        bytes.truncate(whole.map_or(0, |position| position + 1));
        let text = String::from_utf8(bytes).map_err(|error| Error::NotUtf8 {
            path: path.to_path_buf(),
            offset: error.utf8_error().valid_up_to() as u64,
        })?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// A line break inside a line would split the record.
fn check_line(path: &Path, line: &str) -> Result<()> {
    if line.contains(['\n', '\r']) {
        return Err(Error::corrupt(
            path,
            "a log line must not contain a line break; escape it first",
        ));
    }
    Ok(())
}

/// The length of the file up to and including its last line break.
fn whole_lines_bytes(file: &mut disk::File, length_bytes: u64) -> std::io::Result<u64> {
    let mut end = length_bytes;
    let mut tail = [0_u8; TAIL_BYTES];
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES as u64);
        // At most TAIL_BYTES, so it fits every usize.
        let window = &mut tail[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(window)?;
        if let Some(position) = window.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + position as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
