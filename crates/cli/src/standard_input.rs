//! Standard input as text, where an argument is `-`.

use std::io::{self, BufRead, IsTerminal, Read as _};
use std::path::Path;

use taal_store::TextReader;

use crate::terminal;

/// The longest line of a stream, so that a program that never ends a line does not fill the memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// A prompt, or a text to follow or to encode, at most so large.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// The text itself, or all of standard input where it is `-`: without its last line break, which most programs write after a text that does
/// not have one, unless it is asked for raw.
pub fn text_or_stdin(text: &str, is_raw: bool) -> taal_store::Result<String> {
    if text != "-" {
        return Ok(text.to_string());
    }
    let mut text = read(MAX_TEXT_BYTES)?;
    if !is_raw && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// All of standard input, which must be text of at most `limit_bytes`.
pub fn read(limit_bytes: u64) -> taal_store::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        terminal::message("reading standard input until its end (Ctrl-D)");
    }
    TextReader::new(Path::new("standard input"), stdin.lock(), limit_bytes).read_all()
}

/// The next line of a stream without its line end, as soon as it is there; `None` after the last. `number` counts the lines.
///
/// # Errors
///
/// The store's, with the line, for bytes that are no text.
pub fn next_line(stream: &mut impl BufRead, number: &mut u64) -> taal_store::Result<Option<String>> {
    let path = || Path::new("standard input").to_path_buf();
    let mut bytes = Vec::new();
    let read = stream.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes);
    let read = read.map_err(|source| taal_store::Error::io("read", &path(), source))?;
    if read == 0 {
        return Ok(None);
    }
    *number += 1;
    if read as u64 > MAX_LINE_BYTES {
        return Err(taal_store::Error::LongLine {
            path: path(),
            line: *number,
            limit_bytes: MAX_LINE_BYTES,
        });
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| taal_store::Error::Corrupt {
        path: path(),
        detail: format!("line {number} is no text in UTF-8"),
    })?;
    let text = match *number {
        1 => text.strip_prefix('\u{FEFF}').unwrap_or(&text),
        _ => &text,
    };
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_stream_have_no_line_ends_and_bad_ones_are_named() {
        let mut stream = "\u{FEFF}een\r\n\ntwee".as_bytes();
        let mut number = 0;
        let mut next = || next_line(&mut stream, &mut number).unwrap();
        assert_eq!(next().as_deref(), Some("een"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("twee"));
        assert_eq!(next(), None);
        for (bytes, part) in [(&b"a\n\xff\n"[..], "line 2"), (b"a\nb\0\n", "line 2")] {
            let (mut stream, mut number) = (bytes, 0);
            assert!(next_line(&mut stream, &mut number).unwrap().is_some());
            let message = next_line(&mut stream, &mut number).unwrap_err().to_string();
            assert!(
                message.contains(part) && message.contains("standard input"),
                "{message}"
            );
        }
        let (mut stream, mut number) = (io::BufReader::new(io::repeat(b'y')), 0);
        assert!(next_line(&mut stream, &mut number).is_err(), "a line without end");
    }
}
