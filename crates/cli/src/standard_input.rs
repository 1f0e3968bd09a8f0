//! Standard input as text, where an argument is `-`.

use std::io::{self, IsTerminal};
use std::path::Path;

use taal_store::TextReader;

use crate::terminal;

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
