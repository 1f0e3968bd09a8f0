//! What can be typed in a chat: text, or a word with a slash.

use std::path::PathBuf;

/// A line that begins with a slash, or text for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Text for the model; empty for an empty line.
    Text(String),
    /// Instructions that come before the conversation; without any, those in force are shown.
    System(Option<String>),
    /// The last answer again, differently.
    Regenerate,
    /// A new conversation.
    New,
    /// The conversation into a file.
    Save(PathBuf),
    /// Figures of the conversation.
    Stats,
    /// What can be typed.
    Help,
    /// The end.
    Quit,
}

/// What `/help` prints.
pub const HELP: &str = "\
/system TEXT   set instructions that come before the conversation; without TEXT, show them
/regenerate    answer the last message again, differently
/new           start a new conversation; the instructions stay
/save FILE     write the conversation to FILE as JSON
/stats         show tokens, context and speed
/help          show this list
/quit          end, as does Ctrl-D
Ctrl-C stops an answer. A line that ends with \\ continues on the next one, and so does all
text between two lines of \"\"\". A message that begins with a slash is typed with two.
";

impl Typed {
    /// Reads one input.
    ///
    /// # Errors
    ///
    /// A sentence about a command that is not known or lacks its word.
    pub fn of(input: &str) -> Result<Self, String> {
        let Some(rest) = input.strip_prefix('/') else {
            return Ok(Self::Text(input.to_string()));
        };
        if rest.starts_with('/') {
            return Ok(Self::Text(rest.to_string()));
        }
        let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let argument = argument.trim();
        let typed = match word {
            "system" => return Ok(Self::System((!argument.is_empty()).then(|| argument.to_string()))),
            "save" if !argument.is_empty() => return Ok(Self::Save(PathBuf::from(argument))),
            "save" => return Err("/save needs the name of a file, as in /save talk.json".to_string()),
            "regenerate" | "retry" => Self::Regenerate,
            "new" | "clear" | "reset" => Self::New,
            "stats" => Self::Stats,
            "help" | "?" => Self::Help,
            "quit" | "exit" | "bye" => Self::Quit,
            _ => {
                let word = taal_store::excerpt(&format!("/{word}"));
                return Err(format!(
                    "{word} is not a command; /help lists them, and // begins a message with a slash"
                ));
            }
        };
        match argument.is_empty() {
            true => Ok(typed),
            false => Err(format!("/{word} takes no words")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_a_slash_and_everything_else_is_text() {
        assert_eq!(Typed::of("dag /help"), Ok(Typed::Text("dag /help".to_string())));
        assert_eq!(Typed::of(""), Ok(Typed::Text(String::new())));
        assert_eq!(Typed::of("//etc"), Ok(Typed::Text("/etc".to_string())));
        assert_eq!(
            Typed::of("/system  Kort. "),
            Ok(Typed::System(Some("Kort.".to_string())))
        );
        assert_eq!(
            Typed::of("/system\nTwee\nregels"),
            Ok(Typed::System(Some("Twee\nregels".to_string())))
        );
        assert_eq!(Typed::of("/system"), Ok(Typed::System(None)));
        assert_eq!(Typed::of("/save a b.json"), Ok(Typed::Save("a b.json".into())));
        assert_eq!(Typed::of("/quit"), Ok(Typed::Quit));
        for wrong in ["/save", "/quit now", "/sytem x", "/", "/\u{1b}[31m"] {
            assert!(Typed::of(wrong).is_err(), "{wrong}");
        }
    }
}
