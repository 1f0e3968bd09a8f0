//! Errors of tokenizers, with what was expected and what to do.

use std::path::PathBuf;

use taal_store::ErrorKind;

use crate::{Format, Kind};

/// A shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of training, opening or applying a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written, is too large or is not UTF-8.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// A setting of the trainer is out of range or contradicts another one.
    #[error("{key}: expected {expected}, got {got}")]
    Setting {
        /// The field of [`TrainerConfig`](crate::TrainerConfig), or `kind`.
        key: &'static str,
        /// What is accepted.
        expected: String,
        /// What was given.
        got: String,
    },
    /// There is no text to train on.
    #[error("{origin} holds no text to train on; expected UTF-8 text with at least one {unit}")]
    Empty {
        /// The file or files, or "the text" for text in memory.
        origin: String,
        /// What is missing: a character or a word.
        unit: &'static str,
    },
    /// Text without a word that a kind can learn from.
    #[error(
        "{origin} has no word that {kind} can learn from: it reads words of at most {limit_characters} characters between white space and \
         punctuation; for text without spaces use bpe, unigram or char"
    )]
    NoWord {
        /// The file or files, or "the text" for text in memory.
        origin: String,
        /// The kind of tokenizer.
        kind: Kind,
        /// The longest word.
        limit_characters: usize,
    },
    /// A file with a NUL byte, which text does not have.
    #[error("{}: a NUL byte at offset {offset}, so this is a binary file; expected UTF-8 text", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Offset of the first NUL byte, in bytes from the start.
        offset: u64,
    },
    /// A tokenizer file that is damaged or is not a `tokenizer.json`.
    #[error("{origin}: not a usable tokenizer.json: {detail}; expected the file of a Hugging Face fast tokenizer")]
    Corrupt {
        /// The file, or "the given bytes".
        origin: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A file or folder in no format that can be imported.
    #[error(
        "{}: {detail}; expected {}",
        path.display(),
        Format::ALL.map(Format::description).join("; or ")
    )]
    Unrecognized {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        detail: String,
    },
    /// A tokenizer file of a known format that is damaged, or uses something unsupported.
    #[error("{}: not a usable {format}: {detail}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// The format.
        format: Format,
        /// What is wrong with it, with the line or the piece if there is one.
        detail: String,
    },
    /// A word list without a compound.
    #[error(
        "{}: no line holds a compound and the parts that make it up; expected a word, a tab and its parts, as in \
         `voorbeeldzin\tvoorbeeld zin`, or a list of words that make up others",
        path.display()
    )]
    NoCompounds {
        /// The file.
        path: PathBuf,
    },
    /// Text outside the vocabulary of a tokenizer without an unknown token.
    #[error(
        "{what} at character {position} is not in the vocabulary and the tokenizer has no unknown token; \
         change the text, or train the tokenizer with `unknown = token`"
    )]
    Unknown {
        /// The character with its code point, or the word.
        what: String,
        /// Its position, in characters from the start of the text.
        position: usize,
    },
    /// An id without a token.
    #[error("there is no token {id}: expected ids from 0 to {}", vocab_size.saturating_sub(1))]
    NoSuchToken {
        /// The id.
        id: u32,
        /// How many tokens there are.
        vocab_size: usize,
    },
    /// A model without a chat template.
    #[error(
        "the model has no chat template: its directory has neither a chat_template.jinja nor the key chat_template in \
         tokenizer_config.json; add one, or let the model continue a text"
    )]
    NoTemplate,
    /// A chat template that is damaged, does something unsupported or does not end.
    #[error("the model's chat template cannot be used: {detail}")]
    Template {
        /// What is wrong with it, with the line if there is one.
        detail: String,
    },
    /// A conversation that the chat template refuses.
    #[error("the model's chat template refuses this conversation: {detail}")]
    Refused {
        /// The reason that the template gives.
        detail: String,
    },
    /// The tokenizer library refused a text or a list of ids.
    #[error("the tokenizer cannot {action}: {detail}")]
    Library {
        /// The operation, as a verb that fits after "cannot".
        action: &'static str,
        /// The library's reason.
        detail: String,
    },
}

impl Error {
    /// The kind of this error, for exit codes.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Setting { .. }
            | Self::Unknown { .. }
            | Self::NoSuchToken { .. }
            | Self::Empty { .. }
            | Self::NoWord { .. }
            | Self::NoCompounds { .. }
            | Self::NoTemplate
            | Self::Refused { .. } => ErrorKind::Usage,
            Self::Binary { .. }
            | Self::Corrupt { .. }
            | Self::Unrecognized { .. }
            | Self::Import { .. }
            | Self::Template { .. }
            | Self::Library { .. } => ErrorKind::Corrupt,
        }
    }

    /// A [`Error::Refused`] in fewer words.
    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self::Refused { detail: detail.into() }
    }

    /// A [`Error::Setting`] in fewer words.
    pub(crate) fn setting(key: &'static str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Setting {
            key,
            expected: expected.into(),
            got: got.to_string(),
        }
    }
}
