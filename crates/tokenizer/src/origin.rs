//! Where tokens come from: the part of the text of each token, its bytes, and the merges that made it.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::Value;
use tokenizers::ModelWrapper;

use crate::Tokenizer;
use crate::tokenizer::guarded;

/// The most symbols of a token whose merges are computed: the work grows with the square.
const MAX_SYMBOLS: usize = 1024;

/// One step of byte-pair encoding: two neighbors merged into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The left neighbor, as the vocabulary spells it.
    pub left: String,
    /// The right one.
    pub right: String,
    /// Its index in the list of merges, from 0: the order in which training found it, and encoding applies it.
    pub rank: usize,
}

/// The merges of a file, by what they merge.
struct Merges<'a> {
    ranks: HashMap<(&'a str, &'a str), usize>,
    prefix: &'a str,
    suffix: &'a str,
}

impl Tokenizer {
    /// The type of the file's model: `BPE`, `WordPiece`, `Unigram` or `WordLevel`.
    pub fn model_type(&self) -> &'static str {
        match self.inner.get_model() {
            ModelWrapper::BPE(_) => "BPE",
            ModelWrapper::WordPiece(_) => "WordPiece",
            ModelWrapper::Unigram(_) => "Unigram",
            ModelWrapper::WordLevel(_) => "WordLevel",
        }
    }

    /// The bytes of an id, where decoding concatenates the bytes of tokens; a special token's are those of its name. `None` for
    /// other decoders and for ids without a token.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let bytes = self.bytes.as_ref()?;
        ((id as usize) < self.vocab_size()).then(|| bytes.of(id))
    }

    /// The parts of a text, as byte ranges, of the ids of [`encode`](Self::encode). Tokens that share the bytes of one character
    /// all get the whole character. `None` where the library encodes this text to other ids than `ids`.
    pub fn spans(&self, text: &str, ids: &[u32]) -> Option<Vec<Range<usize>>> {
        let encoding = guarded(|| self.inner.encode(text, false)).ok()?.ok()?;
        if encoding.get_ids() != ids {
            return None;
        }
        let spans = encoding.get_offsets().iter();
        spans
            .map(|&(start, end)| text.get(start..end).map(|_| start..end))
            .collect()
    }

    /// For each id the merges that made its token from single bytes or characters, in the order in which encoding applies them. Empty
    /// for tokens of one symbol, added tokens, and tokens used without merges (`ignore_merges`). `None` where the tokenizer is not BPE.
    ///
    /// Merges never cross the boundaries of the resulting tokens, so those inside a token are those of the token alone.
    pub fn merges(&self, ids: &[u32]) -> Option<Vec<Vec<Merge>>> {
        if self.model_type() != "BPE" {
            return None;
        }
        let json = self.to_json();
        let file: Value = serde_json::from_slice(&json).ok()?;
        let merges = Merges::of(&file)?;
        let of = |&id: &u32| match self.id_to_token(id) {
            Some(token) if !self.is_added(&token) => merges.of_token(&token).unwrap_or_default(),
            _ => Vec::new(),
        };
        Some(ids.iter().map(of).collect())
    }
}

impl<'a> Merges<'a> {
    fn of(file: &'a Value) -> Option<Self> {
        let model = file.get("model")?;
        let affix = |key| model.get(key).and_then(Value::as_str).unwrap_or("");
        let pair = |merge: &'a Value| match merge {
            Value::String(line) => line.split_once(' '),
            _ => merge.get(0).and_then(Value::as_str).zip(merge.get(1)?.as_str()),
        };
        let is_heading = |merge: &&Value| merge.as_str().is_some_and(|line| line.starts_with("#version"));
        let list = model.get("merges")?.as_array()?;
        let pairs = list.iter().filter(|merge| !is_heading(merge)).filter_map(pair);
        Some(Self {
            ranks: pairs.enumerate().map(|(rank, pair)| (pair, rank)).collect(),
            prefix: affix("continuing_subword_prefix"),
            suffix: affix("end_of_word_suffix"),
        })
    }

    /// The merges of one token; `None` where they do not lead to it.
    fn of_token(&self, token: &str) -> Option<Vec<Merge>> {
        let mut symbols = self.symbols(token)?;
        let mut done = Vec::new();
        while symbols.len() > 1 {
            let ranked = symbols.windows(2).enumerate().filter_map(|(place, pair)| {
                let rank = self.ranks.get(&(pair[0].as_str(), pair[1].as_str()))?;
                Some((*rank, place))
            });
            // The lowest rank first, ties from the left.
            let (rank, place) = ranked.min()?;
            let right = symbols.remove(place + 1);
            let left = symbols[place].clone();
            symbols[place].push_str(right.strip_prefix(self.prefix).unwrap_or(&right));
            done.push(Merge { left, right, rank });
        }
        (symbols.first().map(String::as_str) == Some(token)).then_some(done)
    }

    /// The initial symbols of a token: its characters, with the file's markers for the inside and the end of a word.
    fn symbols(&self, token: &str) -> Option<Vec<String>> {
        let is_continuing = !self.prefix.is_empty() && token.starts_with(self.prefix);
        let body = if is_continuing {
            &token[self.prefix.len()..]
        } else {
            token
        };
        let body = body.strip_suffix(self.suffix).filter(|body| !body.is_empty());
        let (body, suffix) = match body {
            Some(body) => (body, self.suffix),
            None => (token.strip_prefix(self.prefix).unwrap_or(token), ""),
        };
        if body.chars().nth(MAX_SYMBOLS).is_some() {
            return None;
        }
        let mut symbols: Vec<String> = body
            .chars()
            .enumerate()
            .map(|(index, character)| match index {
                0 if !is_continuing => character.to_string(),
                _ => format!("{}{character}", self.prefix),
            })
            .collect();
        symbols.last_mut()?.push_str(suffix);
        Some(symbols)
    }
}
