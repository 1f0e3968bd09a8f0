//! Errors between a text and a batch; each message says what to do.

use std::path::PathBuf;

use taal_store::ErrorKind;
use thiserror::Error;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, DataError>;

/// An input, a folder of shards or a plan that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file that is missing, or that could not be read, written or mapped.
    #[error(transparent)]
    Store(#[from] taal_store::Error),
    /// The tokenizer refused a piece of an input.
    #[error("{name}: {source}")]
    Tokenizer {
        /// The name of the input.
        name: String,
        /// The tokenizer's message.
        source: taal_tokenizer::Error,
    },
    /// No inputs were given at all.
    #[error("no input was given: name at least one text file or a folder with .txt, .md, .jsonl or .ndjson files")]
    NoInput,
    /// A folder has no text files.
    #[error(
        "{path} holds no {extensions} file, not in its subfolders either (hidden ones, runs and models do not count): \
         name a folder with such files, or a file"
    )]
    NoTextFiles {
        /// The folder.
        path: PathBuf,
        /// The extensions that were searched.
        extensions: &'static str,
    },
    /// A file named directly that cannot be read as text.
    #[error("{path} {detail}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        detail: &'static str,
    },
    /// An empty text.
    #[error("{name} is empty: there is nothing to learn from it; remove it from the inputs or fill it")]
    Empty {
        /// The name of the input.
        name: String,
    },
    /// Several empty texts.
    #[error(
        "{} files are empty: there is nothing to learn from them; remove them from the inputs or fill them: {}",
        names.len(), first_names(names)
    )]
    AllEmpty {
        /// The names of the inputs.
        names: Vec<String>,
    },
    /// A text too short to be split.
    #[error(
        "{name} has {length} {unit}(s), too few for a training and a validation part: add text, or give it no \
         validation split (validation fraction 0)"
    )]
    TooShortToSplit {
        /// The name of the input.
        name: String,
        /// Its length in `unit`.
        length: u64,
        /// What is counted: characters of a text, documents or examples of a JSONL file.
        unit: &'static str,
    },
    /// A text that is not UTF-8.
    #[error("{name} is not UTF-8 at byte {offset}: save it as UTF-8 (for example `iconv -f LATIN1 -t UTF-8`)")]
    NotUtf8 {
        /// The name of the input.
        name: String,
        /// The first byte, counted from 0, that does not belong to a UTF-8 character.
        offset: u64,
    },
    /// A file with a NUL byte, which text does not contain.
    #[error("{name} is a binary file (byte {offset} is NUL): give plain text")]
    Binary {
        /// The name of the input.
        name: String,
        /// The position of the NUL byte, counted from 0.
        offset: u64,
    },
    /// A file that changed between its two readings.
    #[error("{path} changed while it was read: leave it alone until the work is done, then start again")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A line of a JSONL file, or a row of a table, that cannot be used.
    #[error("{name}, line {line}: {detail}")]
    Line {
        /// The name of the input.
        name: String,
        /// The line, counted from 1.
        line: u64,
        /// What was expected, what was found, and what to do.
        detail: String,
    },
    /// A row of a Parquet file that cannot be used.
    #[error("{name}, row {row}: {detail}")]
    Row {
        /// The name of the input.
        name: String,
        /// The row, counted from 1 over all row groups.
        row: u64,
        /// What was expected, what was found, and what to do.
        detail: String,
    },
    /// A Parquet file that cannot be read.
    #[error("{name} {detail}")]
    Parquet {
        /// The name of the input.
        name: String,
        /// What is wrong with it, and what to do.
        detail: String,
    },
    /// A setting outside its range.
    #[error("{key}: {detail}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// What was expected and what was given.
        detail: String,
    },
    /// A source shorter than one window.
    #[error(
        "{name} has {tokens} token(s), but a block of {block_size} needs at least {needed}: add text or make \
         train.block_size smaller"
    )]
    TooShort {
        /// The name of the source.
        name: String,
        /// Its length in tokens.
        tokens: u64,
        /// The length of a row, in tokens.
        block_size: usize,
        /// The least number of tokens, `block_size + 1`: the last target follows the last input.
        needed: u64,
    },
    /// A token shard that is damaged, truncated or not a shard.
    #[error("{path} {detail}; build the shards again")]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong, and at which byte or block.
        detail: String,
    },
    /// A folder of shards whose index is damaged or disagrees with its files.
    #[error("{path} {detail}; build the shards again")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Shards that were made with another tokenizer.
    #[error(
        "{path} was made with the tokenizer {found}, not with {expected}: use the tokenizer.json next to the shards, \
         or build the shards again with yours"
    )]
    WrongTokenizer {
        /// The shard or the folder of shards.
        path: PathBuf,
        /// The hash of the expected tokenizer.
        expected: String,
        /// The hash of the tokenizer that made the shards.
        found: String,
    },
    /// A tokenizer that gave an id outside its own vocabulary.
    #[error("{name}: the tokenizer gave id {id}, outside its vocabulary of {vocab_size}: its tokenizer.json is broken")]
    IdOutsideVocabulary {
        /// The name of the input.
        name: String,
        /// The id.
        id: u32,
        /// Number of ids in the vocabulary.
        vocab_size: usize,
    },
}

impl DataError {
    /// The family of the error, from which `taal` takes its exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Tokenizer { source, .. } => source.kind(),
            Self::NoInput
            | Self::NoTextFiles { .. }
            | Self::Empty { .. }
            | Self::AllEmpty { .. }
            | Self::Format { .. }
            | Self::TooShortToSplit { .. }
            | Self::Setting { .. }
            | Self::TooShort { .. }
            | Self::WrongTokenizer { .. } => ErrorKind::Usage,
            Self::NotUtf8 { .. }
            | Self::Binary { .. }
            | Self::Changed { .. }
            | Self::Line { .. }
            | Self::Row { .. }
            | Self::Parquet { .. }
            | Self::Shard { .. }
            | Self::Index { .. }
            | Self::IdOutsideVocabulary { .. } => ErrorKind::Corrupt,
        }
    }
}

/// The first ten of some names.
fn first_names(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
