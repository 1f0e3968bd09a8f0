//! Where words begin: by the markers of a tokenizer's model and pre-tokenizer, not by the look of the vocabulary.

use tokenizers::models::ModelWrapper;
use tokenizers::tokenizer::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};
use tokenizers::{PreTokenizerWrapper, Tokenizer as Inner};

use crate::bytes::{byte_character, fallback_byte};

/// Two words of one letter, of which every known pipeline changes only the space.
const PROBE: &str = "a b";

/// The same words without the space, to see what a pipeline adds before a text.
const FIRST: char = 'a';
const SECOND: char = 'b';

/// How tokens mark where a word begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    /// Every token is a word by itself, or there is no marker.
    None,
    /// A token inside a word begins with this: WordPiece's `##`.
    Continuation(String),
    /// A token at the end of a word ends with this: `</w>`.
    End(String),
    /// A token that begins a word includes the space before it, in this spelling: `Ġ`, `▁` or a space.
    Space {
        spelling: String,
        /// Whether the first word of a text also gets one.
        is_before_text: bool,
    },
}

/// Where words begin and end, by id.
#[derive(Debug, Clone)]
pub struct WordMarks {
    mark: Mark,
    /// By id: whether the token marks the beginning of a word.
    begins: Vec<bool>,
    /// By id: whether the token marks the end of a word.
    ends: Vec<bool>,
    /// By id: whether the token is only white space.
    is_space: Vec<bool>,
}

impl WordMarks {
    /// `is_special` tokens are not part of words.
    pub(crate) fn new(inner: &Inner, tokens: &[String], is_special: impl Fn(u32) -> bool) -> Self {
        let mark = mark_of(inner);
        let texts = tokens.iter().map(|token| spelled_out(token, &mark));
        let is_space = texts.map(|text| !text.is_empty() && text.chars().all(char::is_whitespace));
        let is_space = is_space.collect();
        let begins = |(id, token): (u32, &String)| is_special(id) || begins_word(token, &mark);
        let ends = |(id, token): (u32, &String)| is_special(id) || ends_word(token, &mark);
        Self {
            begins: (0..).zip(tokens).map(begins).collect(),
            ends: (0..).zip(tokens).map(ends).collect(),
            is_space,
            mark,
        }
    }

    /// Whether a token continues the word of the token before it.
    pub fn continues(&self, before: u32, id: u32) -> bool {
        !is(&self.begins, id) && !is(&self.ends, before)
    }

    /// Whether a token can be a whole word after a space: it does not only continue or begin one, and is not only white space.
    pub fn is_word(&self, id: u32) -> bool {
        let is_whole = match self.mark {
            Mark::End(_) => is(&self.ends, id),
            _ => is(&self.begins, id),
        };
        is_whole && !is(&self.is_space, id)
    }

    /// Whether a token is only white space.
    pub fn is_space(&self, id: u32) -> bool {
        is(&self.is_space, id)
    }

    /// Whether tokens include the space before a word.
    pub fn carry_space(&self) -> bool {
        matches!(self.mark, Mark::Space { .. })
    }

    /// Whether the space in tokens is a literal space, as in the unigram tokenizers of this crate, not a marker.
    pub fn carry_literal_space(&self) -> bool {
        matches!(&self.mark, Mark::Space { spelling, .. } if spelling == " ")
    }

    /// Whether a token includes the space before a word.
    pub fn has_space(&self, id: u32) -> bool {
        self.carry_space() && is(&self.begins, id)
    }

    /// Whether a word may begin with a token without a space: after `before`, or, where that is `None`, at the beginning of a text.
    pub fn begins_without_space(&self, before: Option<u32>) -> bool {
        match (&self.mark, before) {
            (Mark::Space { is_before_text, .. }, None) => !is_before_text,
            (Mark::Space { .. }, Some(before)) => is(&self.ends, before) || is(&self.is_space, before),
            _ => false,
        }
    }
}

fn is(flags: &[bool], id: u32) -> bool {
    flags.get(id as usize).copied().unwrap_or(false)
}

fn mark_of(inner: &Inner) -> Mark {
    let not_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match inner.get_model() {
        ModelWrapper::WordPiece(model) if !model.continuing_subword_prefix.is_empty() => {
            return Mark::Continuation(model.continuing_subword_prefix.clone());
        }
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => return Mark::None,
        ModelWrapper::BPE(model) => {
            if let Some(prefix) = not_empty(&model.continuing_subword_prefix) {
                return Mark::Continuation(prefix);
            }
            if let Some(suffix) = not_empty(&model.end_of_word_suffix) {
                return Mark::End(suffix);
            }
        }
        ModelWrapper::Unigram(_) => {}
    }
    let between = probe(inner, PROBE).and_then(|text| {
        let first = text.find(FIRST)?;
        let second = first + text[first..].find(SECOND)?;
        Some((
            text[..first].to_owned(),
            text[first + FIRST.len_utf8()..second].to_owned(),
        ))
    });
    match between {
        Some((before, spelling)) if !spelling.is_empty() => Mark::Space {
            is_before_text: before.ends_with(&spelling),
            spelling,
        },
        _ => Mark::None,
    }
}

/// A text as the tokenizer's model receives it; `None` where the pipeline refuses it.
fn probe(inner: &Inner, text: &str) -> Option<String> {
    let run = || {
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = inner.get_normalizer() {
            normalizer.normalize(&mut text).ok()?;
        }
        let mut words = PreTokenizedString::from(text);
        if let Some(pre_tokenizer) = inner.get_pre_tokenizer() {
            PreTokenizerWrapper::pre_tokenize(pre_tokenizer, &mut words).ok()?;
        }
        let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        Some(splits.into_iter().map(|(text, _, _)| text).collect::<String>())
    };
    crate::tokenizer::guarded(run).ok().flatten()
}

/// A token with its marker replaced by a space, and with bytes decoded where they are white space.
fn spelled_out(token: &str, mark: &Mark) -> String {
    let Mark::Space { spelling, .. } = mark else {
        return token.to_owned();
    };
    if let Some(byte) = fallback_byte(token) {
        return char::from(byte).to_string();
    }
    let token = token.replace(spelling.as_str(), " ");
    if spelling.chars().ne([byte_character(b' ')]) {
        return token;
    }
    let white = |character: char| {
        let byte = b"\t\n\x0B\x0C\r"
            .iter()
            .find(|byte| byte_character(**byte) == character);
        byte.map_or(character, |byte| char::from(*byte))
    };
    token.chars().map(white).collect()
}

fn begins_word(token: &str, mark: &Mark) -> bool {
    match mark {
        Mark::None => true,
        Mark::Continuation(prefix) => token.len() == prefix.len() || !token.starts_with(prefix.as_str()),
        Mark::End(_) => false,
        Mark::Space { .. } => spelled_out(token, mark).starts_with(char::is_whitespace),
    }
}

fn ends_word(token: &str, mark: &Mark) -> bool {
    match mark {
        Mark::None | Mark::Continuation(_) => false,
        Mark::End(suffix) => token.ends_with(suffix.as_str()),
        // A single space belongs to the word after it, unlike other white space.
        Mark::Space { .. } => {
            let last = spelled_out(token, mark).chars().last();
            last.is_some_and(|last| last.is_whitespace() && last != ' ')
        }
    }
}
