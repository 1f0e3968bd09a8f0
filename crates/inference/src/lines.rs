//! Lines of the files that a model is tested with, each with its number, under limits.

use std::path::Path;

use serde::de::DeserializeOwned;
use taal_store::{TextLines, TextReader, shorten};

use crate::{InferenceError, Result};

/// The longest line of a file of pairs, choices or documents.
pub(crate) const MAX_LINE_BYTES: u64 = 64 << 20;

/// Calls `take` with the number and the text of every line that holds something.
///
/// # Errors
///
/// The store's, also for a file or a line above its limit; `take`'s.
pub(crate) fn for_each_line(
    path: &Path,
    limit_bytes: u64,
    line_limit_bytes: u64,
    mut take: impl FnMut(usize, &str) -> Result<()>,
) -> Result<()> {
    let mut lines = TextLines::new(TextReader::open(path, limit_bytes)?, line_limit_bytes);
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        if !line.trim().is_empty() {
            take(number, line)?;
        }
    }
    Ok(())
}

/// The values of a file with one JSON value per line, each with its line.
///
/// # Errors
///
/// [`InferenceError::Line`] for a line that is something else; the store's.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path, limit_bytes: u64) -> Result<Vec<(usize, T)>> {
    let mut values = Vec::new();
    for_each_line(path, limit_bytes, MAX_LINE_BYTES, |number, line| {
        let value = serde_json::from_str(line).map_err(|error| bad_line(path, number, &error.to_string()))?;
        values.push((number, value));
        Ok(())
    })?;
    Ok(values)
}

/// An error about a line, without a long input that another library's message repeats.
pub(crate) fn bad_line(path: &Path, line: usize, detail: &str) -> InferenceError {
    InferenceError::Line {
        path: path.to_path_buf(),
        line,
        detail: shorten(detail),
    }
}

/// Whether the name says that a file has one JSON value per line.
pub(crate) fn is_json_lines(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl") || extension.eq_ignore_ascii_case("ndjson"))
}
