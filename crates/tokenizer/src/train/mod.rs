//! Training: from text, in files or in memory, to a tokenizer.

mod characters;
mod merges;
mod subwords;
mod unigram;
mod word_table;
mod words;

use std::path::PathBuf;

use crate::chunks::{PartChunks, TextChunks, TextPart, file_parts};
use crate::open::MAX_VOCAB_SIZE;
use crate::{Error, Kind, Result, Tokenizer, Unknown, file, special};

/// The default memory limit of training: 1 GiB.
pub const DEFAULT_MEMORY_LIMIT_BYTES: u64 = 1 << 30;

/// The part of the limit for everything whose size does not depend on the text: the program, chunks in progress, the vocabulary.
const BASE_BYTES: u64 = 64 << 20;

/// The smallest memory limit.
const MIN_MEMORY_LIMIT_BYTES: u64 = 2 * BASE_BYTES;

/// How a tokenizer is trained.
///
/// Training is a function of the text and these fields: equal input gives equal bytes for any number of threads.
///
/// # Memory
///
/// The distinct words of the text are counted in a table; the table and everything computed from it stay within
/// [`memory_limit_bytes`](Self::memory_limit_bytes). When the table is full, its rarest words are dropped until it is half empty (lossy
/// counting, Manku and Motwani 2002). Counts of rare words are lost, so the tail of a vocabulary may differ from that of an unlimited
/// run; [`train_reported`](Self::train_reported) reports how much was dropped. With the default limit of 1 GiB, counting is exact up to
/// about 2 million distinct words of 9 letters for bpe and wordpiece, 5 million for word, and 350 thousand for unigram, whose trainer
/// needs far more memory per word. A char tokenizer counts only characters and never drops any.
///
/// Measured on 100 MB with 3.3 million distinct words, bpe with 8,192 tokens: a peak of 411 MiB for the whole process; on its
/// first 62 MB, whose 2.1 million distinct words just fit in the table: 630 MiB.
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Kind, TrainerConfig};
///
/// let mut config = TrainerConfig::new(Kind::Bpe, 300);
/// config.special_tokens = vec!["<|bos|>".into(), "<|eos|>".into()];
/// let tokenizer = config.train(["de kat krabt de krullen van de trap"])?;
/// assert_eq!(tokenizer.bos_id(), Some(0));
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainerConfig {
    /// The kind of tokenizer.
    pub kind: Kind,
    /// The largest number of tokens, including special ones; a small text gives fewer.
    pub vocab_size: usize,
    /// Special tokens, which get the first ids in this order; they are removed from the training text.
    pub special_tokens: Vec<String>,
    /// How text outside the vocabulary is encoded. With [`Unknown::Token`], `[UNK]` is added to the special tokens if they have
    /// no unknown token; with [`Unknown::Error`], such a token is removed.
    pub unknown: Unknown,
    /// The least number of occurrences: of a pair to be merged (bpe, wordpiece), of a word to be used for training (unigram), of
    /// a character or word to enter the vocabulary (char and word with [`Unknown::Token`]).
    pub min_frequency: u64,
    /// The limit on the memory of the process while it trains, in bytes; at least 128 MiB.
    pub memory_limit_bytes: u64,
}

/// Statistics of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrainingReport {
    /// Bytes of text.
    pub bytes: u64,
    /// Words in the text as the kind splits it, or characters for [`Kind::Char`].
    pub occurrences: u64,
    /// Distinct words (or characters) that were counted at the end.
    pub distinct: u64,
    /// Occurrences dropped because the table was full.
    pub forgotten_occurrences: u64,
    /// A word that occurs more often than this in the text was never dropped entirely; 0 if nothing was dropped.
    pub forgotten_up_to: u64,
}

impl TrainerConfig {
    /// The defaults of a kind.
    ///
    /// Special tokens: `<|endoftext|>` for bpe, BERT's five for wordpiece, `<unk> <s> </s> <pad>` for unigram, no tokens for char and
    /// word. Unknown characters are an error for char and `[UNK]` for the others. Pairs need at least 2 occurrences to be merged.
    pub fn new(kind: Kind, vocab_size: usize) -> Self {
        let special_tokens: &[&str] = match kind {
            Kind::Bpe => &["<|endoftext|>"],
            Kind::WordPiece => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Kind::Unigram => &["<unk>", "<s>", "</s>", "<pad>"],
            Kind::Char | Kind::Word => &[],
        };
        Self {
            kind,
            vocab_size,
            special_tokens: special_tokens.iter().map(ToString::to_string).collect(),
            unknown: if kind == Kind::Char {
                Unknown::Error
            } else {
                Unknown::Token
            },
            min_frequency: if matches!(kind, Kind::Bpe | Kind::WordPiece) {
                2
            } else {
                1
            },
            memory_limit_bytes: DEFAULT_MEMORY_LIMIT_BYTES,
        }
    }

    /// Trains on texts in memory. Words do not cross from one text to the next.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] without any text, and [`Error::Setting`] for a vocabulary that is too small, too large or cannot hold the text's
    /// characters where it must.
    pub fn train<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Result<Tokenizer> {
        Ok(self.train_reported(texts)?.0)
    }

    /// Trains on UTF-8 text files, which may be larger than memory.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train), [`Error::Store`] for a file that cannot be read or is not UTF-8 (with the offset of the first
    /// invalid byte), and [`Error::Binary`] for one with a NUL byte.
    pub fn train_files(&self, paths: &[PathBuf]) -> Result<Tokenizer> {
        Ok(self.train_files_reported(paths)?.0)
    }

    /// Trains on texts in memory and reports statistics.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    pub fn train_reported<T: AsRef<str>>(
        &self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<(Tokenizer, TrainingReport)> {
        self.train_chunks(TextChunks::new(texts.into_iter()), "the text")
    }

    /// Trains on files and reports statistics.
    ///
    /// # Errors
    ///
    /// As [`train_files`](Self::train_files).
    pub fn train_files_reported(&self, paths: &[PathBuf]) -> Result<(Tokenizer, TrainingReport)> {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let origin = if names.is_empty() {
            "the empty list of files".to_owned()
        } else {
            names.join(", ")
        };
        self.train_chunks(PartChunks::new(file_parts(paths)), &origin)
    }

    /// Trains on texts that come in parts from a source that can fail, and reports statistics; `origin` names the source in errors.
    ///
    /// # Errors
    ///
    /// The source's first error, and as [`train`](Self::train).
    pub fn train_parts_reported<E: From<Error>>(
        &self,
        parts: impl Iterator<Item = std::result::Result<TextPart, E>>,
        origin: &str,
    ) -> std::result::Result<(Tokenizer, TrainingReport), E> {
        let mut failure = None;
        let parts = parts.map(|part| {
            part.map_err(|error| {
                failure = Some(error);
                // Ends the training; the source's error replaces it.
                Error::Library {
                    action: "be trained",
                    detail: "its text could not be read".to_owned(),
                }
            })
        });
        let trained = self.train_chunks(PartChunks::new(parts), origin);
        match failure {
            Some(error) => Err(error),
            None => Ok(trained?),
        }
    }

    fn train_chunks(
        &self,
        chunks: impl Iterator<Item = Result<String>>,
        origin: &str,
    ) -> Result<(Tokenizer, TrainingReport)> {
        let plan = Plan::new(self)?;
        let (file, report) = match self.kind {
            Kind::Char => characters::train(&plan, chunks, origin)?,
            Kind::Word => words::train(&plan, chunks, origin)?,
            Kind::Bpe => subwords::train_bpe(&plan, chunks, origin)?,
            Kind::WordPiece => subwords::train_wordpiece(&plan, chunks, origin)?,
            Kind::Unigram => unigram::train(&plan, chunks, origin)?,
        };
        let library = |detail: String| Error::Library {
            action: "be written",
            detail,
        };
        let json = file.to_bytes().map_err(|error| library(error.to_string()))?;
        Ok((Tokenizer::from_bytes(json, "the trained tokenizer")?, report))
    }
}

/// A checked configuration, with its final special tokens.
struct Plan {
    vocab_size: usize,
    special_tokens: Vec<String>,
    unknown: Unknown,
    min_frequency: u64,
    /// The memory for the word table and everything computed from it.
    word_memory_bytes: u64,
}

impl Plan {
    fn new(config: &TrainerConfig) -> Result<Self> {
        if config.vocab_size == 0 || config.vocab_size > MAX_VOCAB_SIZE {
            let expected = format!("1 to {MAX_VOCAB_SIZE} tokens");
            return Err(Error::setting("vocab_size", expected, config.vocab_size));
        }
        if config.memory_limit_bytes < MIN_MEMORY_LIMIT_BYTES {
            let expected = format!("at least {MIN_MEMORY_LIMIT_BYTES} bytes");
            return Err(Error::setting(
                "memory_limit_bytes",
                expected,
                config.memory_limit_bytes,
            ));
        }
        let special_tokens = settle_special_tokens(config)?;
        Ok(Self {
            vocab_size: config.vocab_size,
            special_tokens,
            unknown: config.unknown,
            min_frequency: config.min_frequency.max(1),
            word_memory_bytes: config.memory_limit_bytes - BASE_BYTES,
        })
    }

    /// The number of tokens other than special ones.
    ///
    /// `least` of them are needed, as `reason` explains.
    fn room(&self, least: usize, reason: &str) -> Result<usize> {
        let needed = self.special_tokens.len() + least;
        if self.vocab_size < needed {
            let expected = format!(
                "at least {needed} ({} special tokens and {reason})",
                self.special_tokens.len()
            );
            return Err(Error::setting("vocab_size", expected, self.vocab_size));
        }
        Ok(self.vocab_size - self.special_tokens.len())
    }

    /// The name of the unknown token, which is in the vocabulary only if unknown text becomes a token.
    fn unknown_token(&self) -> String {
        let found = self
            .special_tokens
            .iter()
            .find(|token| special::UNKNOWN.contains(&token.as_str()));
        found.cloned().unwrap_or_else(|| special::UNKNOWN[0].to_owned())
    }
}

fn settle_special_tokens(config: &TrainerConfig) -> Result<Vec<String>> {
    let mut settled: Vec<String> = Vec::new();
    for token in &config.special_tokens {
        if token.is_empty() || token.contains(char::is_whitespace) || token.contains('\0') {
            return Err(Error::setting(
                "special_tokens",
                "tokens without whitespace",
                format!("{token:?}"),
            ));
        }
        if settled.contains(token) {
            return Err(Error::setting(
                "special_tokens",
                "every token once",
                format!("{token:?} twice"),
            ));
        }
        settled.push(token.clone());
    }
    let is_unknown = |token: &String| special::UNKNOWN.contains(&token.as_str());
    match (config.kind, config.unknown) {
        // Everything is spelled in bytes, but the library requires the token for unigram models.
        (Kind::Bpe, _) => {}
        (Kind::Unigram, _) if settled.iter().any(is_unknown) => {}
        (Kind::Unigram, _) => settled.insert(0, "<unk>".to_owned()),
        (_, Unknown::Error) => settled.retain(|token| !is_unknown(token)),
        (_, Unknown::Token) if settled.iter().any(is_unknown) => {}
        (_, Unknown::Token) => settled.insert(0, special::UNKNOWN[0].to_owned()),
    }
    Ok(settled)
}

/// A trained file with its statistics.
type Trained = (file::File, TrainingReport);
