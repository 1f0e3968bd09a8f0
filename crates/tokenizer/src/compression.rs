//! How well a tokenizer fits a text.

use crate::{Result, Tokenizer};

/// How many tokens a text takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compression {
    /// Bytes of the text in UTF-8.
    pub bytes: u64,
    /// Unicode scalar values of the text.
    pub characters: u64,
    /// Tokens of the text, without special tokens around it.
    pub tokens: u64,
    /// Bytes per token on average; 0 for an empty text.
    pub bytes_per_token: f64,
    /// How many of the tokens are the unknown token.
    pub unknown: u64,
}

/// Encodes a text and reports bytes per token: the larger, the shorter the sequences that a model sees.
///
/// # Errors
///
/// As [`Tokenizer::encode`].
///
/// # Example
///
/// ```
/// use taal_tokenizer::{Kind, TrainerConfig, compression};
///
/// let text = "de kat en de rat en de mat";
/// let tokenizer = TrainerConfig::new(Kind::Bpe, 270).train([text])?;
/// let report = compression(&tokenizer, text)?;
/// assert_eq!(report.bytes, 26);
/// assert!(report.bytes_per_token > 1.5);
/// # Ok::<(), taal_tokenizer::Error>(())
/// ```
pub fn compression(tokenizer: &Tokenizer, text: &str) -> Result<Compression> {
    let ids = tokenizer.encode(text)?;
    let unknown = tokenizer.unk_id();
    let tokens = ids.len() as u64;
    Ok(Compression {
        bytes: text.len() as u64,
        characters: text.chars().count() as u64,
        tokens,
        bytes_per_token: if tokens == 0 {
            0.0
        } else {
            text.len() as f64 / tokens as f64
        },
        unknown: ids.iter().filter(|&&id| Some(id) == unknown).count() as u64,
    })
}
