//! The layout of a `tokenizer.json` as it is written, field for field in the order of Hugging Face's own files.
//!
//! Typed structs instead of JSON values: their order is fixed, so equal tokenizers are equal bytes.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::patterns;

#[derive(Serialize)]
pub(crate) struct File {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: Vec<AddedToken>,
    normalizer: Option<()>,
    pre_tokenizer: PreTokenizer,
    post_processor: Option<PostProcessor>,
    decoder: Decoder,
    model: Model,
}

impl File {
    /// A file whose special tokens are the first of the vocabulary.
    pub(crate) fn new(
        special_tokens: &[String],
        pre_tokenizer: PreTokenizer,
        post_processor: Option<PostProcessor>,
        decoder: Decoder,
        model: Model,
    ) -> Self {
        Self {
            version: "1.0",
            truncation: None,
            padding: None,
            added_tokens: (0..)
                .zip(special_tokens)
                .map(|(id, content)| AddedToken::special(id, content))
                .collect(),
            normalizer: None,
            pre_tokenizer,
            post_processor,
            decoder,
            model,
        }
    }

    /// The bytes of the file, laid out for people like Python's `Tokenizer.save` does.
    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }
}

#[derive(Serialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl AddedToken {
    fn special(id: u32, content: &str) -> Self {
        Self {
            id,
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(crate) enum PreTokenizer {
    ByteLevel {
        add_prefix_space: bool,
        trim_offsets: bool,
        use_regex: bool,
    },
    #[serde(rename = "BertPreTokenizer")]
    Bert,
    Split {
        pattern: Pattern,
        behavior: &'static str,
        invert: bool,
    },
}

#[derive(Serialize)]
pub(crate) enum Pattern {
    Regex(&'static str),
}

impl PreTokenizer {
    /// GPT-2's pattern and bytes, without a space put before the text.
    pub(crate) fn byte_level() -> Self {
        Self::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex: true,
        }
    }

    /// Every match of the pattern is a word, and so is what stands between two matches.
    pub(crate) fn split(pattern: &'static str) -> Self {
        Self::Split {
            pattern: Pattern::Regex(pattern),
            behavior: "Isolated",
            invert: false,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(crate) enum Decoder {
    ByteLevel {
        add_prefix_space: bool,
        trim_offsets: bool,
        use_regex: bool,
    },
    WordPiece {
        prefix: &'static str,
        cleanup: bool,
    },
    Sequence {
        decoders: Vec<Decoder>,
    },
    ByteFallback,
    Fuse,
}

impl Decoder {
    pub(crate) fn byte_level() -> Self {
        Self::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex: true,
        }
    }

    /// Runs of byte tokens become text, and everything is put one after another.
    pub(crate) fn bytes_then_text() -> Self {
        Self::Sequence {
            decoders: vec![Self::ByteFallback, Self::Fuse],
        }
    }
}

/// What [`Tokenizer::encode_with_special`](crate::Tokenizer::encode_with_special) puts around a text.
#[derive(Serialize)]
#[serde(tag = "type")]
pub(crate) enum PostProcessor {
    TemplateProcessing {
        single: Vec<Piece>,
        pair: Vec<Piece>,
        special_tokens: BTreeMap<String, TemplateToken>,
    },
}

#[derive(Serialize)]
pub(crate) enum Piece {
    SpecialToken { id: String, type_id: u32 },
    Sequence { id: &'static str, type_id: u32 },
}

#[derive(Serialize)]
pub(crate) struct TemplateToken {
    id: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
}

impl PostProcessor {
    /// One token before a text and one after it, and after each of two texts, as BERT has it; `None` unless both are special tokens.
    pub(crate) fn around(special_tokens: &[String], first: &str, last: &str) -> Option<Self> {
        let mut template_tokens = BTreeMap::new();
        for name in [first, last] {
            let id = (0..).zip(special_tokens).find(|(_, token)| *token == name)?.0;
            let token = TemplateToken {
                id: name.to_owned(),
                ids: vec![id],
                tokens: vec![name.to_owned()],
            };
            template_tokens.insert(name.to_owned(), token);
        }
        let special = |name: &str, type_id| Piece::SpecialToken {
            id: name.to_owned(),
            type_id,
        };
        let text = |id, type_id| Piece::Sequence { id, type_id };
        Some(Self::TemplateProcessing {
            single: vec![special(first, 0), text("A", 0), special(last, 0)],
            pair: vec![
                special(first, 0),
                text("A", 0),
                special(last, 0),
                text("B", 1),
                special(last, 1),
            ],
            special_tokens: template_tokens,
        })
    }
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(crate) enum Model {
    #[serde(rename = "BPE")]
    Bpe {
        dropout: Option<f32>,
        unk_token: Option<String>,
        continuing_subword_prefix: Option<String>,
        end_of_word_suffix: Option<String>,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: Vocabulary,
        merges: Vec<(String, String)>,
    },
    WordPiece {
        unk_token: String,
        continuing_subword_prefix: &'static str,
        max_input_chars_per_word: usize,
        vocab: Vocabulary,
    },
    WordLevel {
        vocab: Vocabulary,
        unk_token: String,
    },
    Unigram {
        unk_id: Option<u32>,
        vocab: Vec<(String, f64)>,
        byte_fallback: bool,
    },
}

impl Model {
    pub(crate) fn bpe(tokens: Vec<String>, merges: Vec<(String, String)>) -> Self {
        Self::Bpe {
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges: false,
            vocab: Vocabulary(tokens),
            merges,
        }
    }
}

/// Tokens in the order of their ids, written as a map from token to id.
pub(crate) struct Vocabulary(pub(crate) Vec<String>);

impl Serialize for Vocabulary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, token) in self.0.iter().enumerate() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}

/// Whether a pre-tokenizer's JSON is one of those this crate trains with, for which [`crate::cut`] holds.
pub(crate) fn is_own_pre_tokenizer(value: &serde_json::Value) -> bool {
    let own = [
        PreTokenizer::byte_level(),
        PreTokenizer::Bert,
        PreTokenizer::split(patterns::CHARACTERS),
        PreTokenizer::split(patterns::WORDS),
        PreTokenizer::split(patterns::SPACED),
    ];
    own.iter()
        .any(|own| serde_json::to_value(own).is_ok_and(|own| own == *value))
}
