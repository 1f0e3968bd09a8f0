//! Lines from a person at a terminal, with editing and history, or from a file or another program.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use crate::failure::Failure;
use crate::standard_input::next_line;

/// The longest message, so that a program that never ends a line does not fill the memory.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A line of this alone begins and ends a message of several lines.
const FENCE: &str = "\"\"\"";

/// Where messages come from.
pub enum Input {
    /// A terminal.
    Terminal(Box<Editor<MessageHelper, MemHistory>>),
    /// A file or a pipe, and how many lines of it were read.
    Lines(io::StdinLock<'static>, u64),
}

/// What was read.
pub enum Next {
    /// A message, or a command.
    Message(String),
    /// Ctrl-C where nothing runs.
    Interrupted,
    /// No more input.
    End,
}

impl Input {
    /// Standard input.
    pub fn open() -> Result<Self, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stdout().is_terminal() {
            return Ok(Self::Lines(stdin.lock(), 0));
        }
        let config = Config::builder().auto_add_history(true).bracketed_paste(true).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history)?;
        editor.set_helper(Some(MessageHelper));
        Ok(Self::Terminal(Box::new(editor)))
    }

    /// Whether a person types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next message.
    pub fn next(&mut self, prompt: &str) -> Result<Next, Failure> {
        let text = match self {
            Self::Terminal(editor) => match editor.readline(prompt) {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => return Ok(Next::Interrupted),
                Err(ReadlineError::Eof) => return Ok(Next::End),
                Err(error) => return Err(error.into()),
            },
            Self::Lines(lines, number) => {
                let mut text = String::new();
                loop {
                    match next_line(lines, number)? {
                        Some(line) if text.len() + line.len() > MAX_MESSAGE_BYTES => {
                            return Err(anyhow::anyhow!("a message has more than 1 MiB").into());
                        }
                        Some(line) => text.push_str(&line),
                        None if text.is_empty() => return Ok(Next::End),
                        None => break,
                    }
                    if is_complete(&text) {
                        break;
                    }
                    text.push('\n');
                }
                text.trim_end_matches('\n').to_string()
            }
        };
        Ok(Next::Message(joined(&text)))
    }
}

/// Whether a message ends here.
fn is_complete(text: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match lines.first() {
        Some(&first) if first == FENCE => lines.len() > 1 && lines.last() == Some(&FENCE),
        _ => !text.ends_with('\\'),
    }
}

/// The message without the marks of its lines.
fn joined(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    if lines.first().is_some_and(|first| first.trim_end() == FENCE) {
        let end = match lines.last() {
            Some(last) if lines.len() > 1 && last.trim_end() == FENCE => lines.len() - 1,
            _ => lines.len(),
        };
        return lines[1..end].join("\n");
    }
    let lines = lines.iter().map(|line| line.strip_suffix('\\').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Keeps reading lines until a message is complete.
pub struct MessageHelper;

impl Helper for MessageHelper {}

impl Completer for MessageHelper {
    type Candidate = String;
}

impl Hinter for MessageHelper {
    type Hint = String;
}

impl Highlighter for MessageHelper {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        match crate::terminal::has_color_on_stdout() {
            true => Cow::Owned(format!("\x1b[1m{prompt}\x1b[0m")),
            false => Cow::Borrowed(prompt),
        }
    }
}

impl Validator for MessageHelper {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_line_unless_it_says_otherwise() {
        for complete in ["", "een", "een\\\ntwee", "\"\"\"\neen\n\ntwee\\\n\"\"\"", "\"\"\" een"] {
            assert!(is_complete(complete), "{complete}");
        }
        for open in ["een\\", "\"\"\"", "\"\"\"\neen", "een\\\ntwee\\"] {
            assert!(!is_complete(open), "{open}");
        }
        assert_eq!(joined("een\\\ntwee"), "een\ntwee");
        assert_eq!(joined("\"\"\"\n een\\\n\ntwee\n\"\"\""), " een\\\n\ntwee");
        assert_eq!(joined("\"\"\"\neen"), "een");
        assert_eq!(joined("een"), "een");
        assert_eq!(joined("\"\"\""), "");
    }
}
