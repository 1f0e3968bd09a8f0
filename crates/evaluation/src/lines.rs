//! Lines of test files, with their numbers, under limits.

use std::path::Path;

use serde::de::DeserializeOwned;
use taal_store::{TextLines, TextReader, shorten};

use crate::{EvaluationError, Result};

/// The limits of a file. Lines are limited too, because a line in memory takes more than its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) line_bytes: u64,
    pub(crate) lines: usize,
}

/// The limits of a file of pairs, choices, questions or rated words.
pub(crate) const TEST_LIMITS: Limits = Limits {
    bytes: 256 << 20,
    line_bytes: 64 << 20,
    lines: 1 << 20,
};

/// Calls `take` with the number and the text of every non-empty line.
///
/// # Errors
///
/// The store's, also for a file or a line above its limit; `take`'s.
pub(crate) fn for_each_line(
    path: &Path,
    limits: Limits,
    mut take: impl FnMut(usize, &str) -> Result<()>,
) -> Result<()> {
    let mut lines = TextLines::new(TextReader::open(path, limits.bytes)?, limits.line_bytes);
    let mut number = 0;
    while let Some(line) = lines.next_line()? {
        number += 1;
        check_count(path, number, limits)?;
        if !line.trim().is_empty() {
            take(number, line)?;
        }
    }
    Ok(())
}

/// A text that is read whole, under the same limits.
///
/// # Errors
///
/// As [`for_each_line`].
pub(crate) fn whole_text(path: &Path, limits: Limits) -> Result<String> {
    let text = TextReader::open(path, limits.bytes)?.read_all()?;
    check_count(path, text.lines().count(), limits)?;
    Ok(text)
}

fn check_count(path: &Path, lines: usize, limits: Limits) -> Result<()> {
    match lines <= limits.lines {
        true => Ok(()),
        false => {
            let detail = format!(
                "more than {} lines are not accepted here; is it the right file?",
                limits.lines
            );
            Err(bad_line(path, limits.lines + 1, &detail))
        }
    }
}

/// The values of a file with one JSON value per line, each with its line.
///
/// # Errors
///
/// [`EvaluationError::Line`] for an invalid line; the store's.
pub(crate) fn json_lines<T: DeserializeOwned>(path: &Path, limits: Limits) -> Result<Vec<(usize, T)>> {
    let mut values = Vec::new();
    for_each_line(path, limits, |number, line| {
        let value = serde_json::from_str(line).map_err(|error| bad_line(path, number, &without_place(&error)))?;
        values.push((number, value));
        Ok(())
    })?;
    Ok(values)
}

/// Removes serde's position: it sees a single line, so its line number is always 1.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place)
        .map_or(text.clone(), |cause| format!("{cause} (column {})", error.column()))
}

/// An error about a line; long input quoted by another library's message is shortened.
pub(crate) fn bad_line(path: &Path, line: usize, detail: &str) -> EvaluationError {
    EvaluationError::Line {
        path: path.to_path_buf(),
        line,
        detail: shorten(detail),
    }
}

/// Whether the extension is that of a file with one JSON value per line.
pub(crate) fn is_json_lines(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl") || extension.eq_ignore_ascii_case("ndjson"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_32_a_file_of_many_short_lines_is_refused_at_the_line_limit() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.txt");
        let limits = Limits {
            lines: 3,
            ..TEST_LIMITS
        };
        let mut taken = Vec::new();
        let mut read = |text: &str| {
            taken.clear();
            std::fs::write(&path, text).expect("a file");
            let read = for_each_line(&path, limits, |number, line| {
                taken.push((number, line.to_owned()));
                Ok(())
            });
            assert_eq!(read.is_ok(), whole_text(&path, limits).is_ok());
            (read.map_err(|error| error.to_string()), taken.len())
        };
        assert_eq!(read("a\n\nb\n"), (Ok(()), 2));
        // Empty lines count, so that a file of only empty lines reaches the limit too.
        for text in ["a\nb\nc\nd", "\n\n\n\n"] {
            let (read, taken) = read(text);
            let error = read.expect_err("too many lines");
            assert!(error.contains("a.txt: line 4: more than 3 lines"), "{error}");
            assert!(taken <= 3);
        }
    }
}
