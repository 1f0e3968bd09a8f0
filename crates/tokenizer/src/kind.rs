//! The kinds of tokenizers that can be trained, and how each treats unknown text.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Byte-level byte pair encoding, as in GPT-2: any text is encoded, and decoding returns it exactly.
    Bpe,
    /// WordPiece, as in BERT, cased: pieces inside a word start with `##`, whitespace is not kept.
    WordPiece,
    /// A unigram language model over pieces of words, as in SentencePiece, with characters outside the vocabulary spelled in
    /// bytes: any text is encoded, and decoding returns it exactly.
    Unigram,
    /// One token per Unicode scalar value, in code point order.
    Char,
    /// One token per word, run of whitespace or punctuation mark, most frequent first; text of known words is restored exactly.
    Word,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Kind; 5] = [Kind::Bpe, Kind::WordPiece, Kind::Unigram, Kind::Char, Kind::Word];

    /// The name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bpe => "bpe",
            Kind::WordPiece => "wordpiece",
            Kind::Unigram => "unigram",
            Kind::Char => "char",
            Kind::Word => "word",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| Error::setting("kind", "bpe, wordpiece, unigram, char or word", name))
    }
}

/// How a trained tokenizer treats a character or word outside its vocabulary.
///
/// It is never silently dropped. [`Kind::Bpe`] and [`Kind::Unigram`] spell everything in bytes, so nothing is unknown to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Encoding fails, here with [`Error::Unknown`] and in Python with an exception: the vocabulary has no unknown token.
    Error,
    /// It becomes the unknown token, by default `[UNK]`.
    Token,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unknown::Error => "error",
            Unknown::Token => "token",
        })
    }
}

impl FromStr for Unknown {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "error" => Ok(Unknown::Error),
            "token" => Ok(Unknown::Token),
            _ => Err(Error::setting("unknown", "error or token", name)),
        }
    }
}
