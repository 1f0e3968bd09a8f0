//! The kinds of tokenizers that can be trained, and what each does with text it does not know.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A kind of tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Byte-level byte pair encoding, as GPT-2 has it: any text is encoded, and decoding gives it back exactly.
    Bpe,
    /// WordPiece, as BERT has it, with case kept: pieces inside a word start with `##`, whitespace is not kept.
    WordPiece,
    /// A unigram language model over pieces of words, as SentencePiece has it, with characters outside the vocabulary spelled in bytes:
    /// any text is encoded, and decoding gives it back exactly.
    Unigram,
    /// One token a Unicode scalar value, in code point order.
    Char,
    /// One token a word, a run of whitespace or a punctuation mark, most frequent first; text of known words comes back exactly.
    Word,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Kind; 5] = [Kind::Bpe, Kind::WordPiece, Kind::Unigram, Kind::Char, Kind::Word];

    /// The name that recipes and the command line use.
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

/// What a trained tokenizer does with a character or word outside its vocabulary.
///
/// It is never dropped in silence. [`Kind::Bpe`] and [`Kind::Unigram`] spell everything in bytes, so they have nothing unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Encoding fails, here with [`Error::Unknown`] and in Python with an exception: the vocabulary has no unknown token.
    Error,
    /// It becomes the unknown token, `[UNK]` unless the special tokens name another one.
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
