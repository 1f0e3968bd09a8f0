//! The layout of a `tokenizer.json` as it is written, field for field in the order of Hugging Face's own files.
//!
//! Typed structs instead of JSON values: their order is fixed, so equal tokenizers give equal bytes.

use std::borrow::Cow;
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
    normalizer: Option<Normalizer>,
    pre_tokenizer: Option<PreTokenizer>,
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
        let added_tokens = (0..)
            .zip(special_tokens)
            .map(|(id, content)| AddedToken::special(id, content))
            .collect();
        Self::imported(added_tokens, None, Some(pre_tokenizer), post_processor, decoder, model)
    }

    /// A file with the parts that imported tokenizers have: a normalizer, and added tokens at any ids.
    pub(crate) fn imported(
        added_tokens: Vec<AddedToken>,
        normalizer: Option<Normalizer>,
        pre_tokenizer: Option<PreTokenizer>,
        post_processor: Option<PostProcessor>,
        decoder: Decoder,
        model: Model,
    ) -> Self {
        Self {
            version: "1.0",
            truncation: None,
            padding: None,
            added_tokens,
            normalizer,
            pre_tokenizer,
            post_processor,
            decoder,
            model,
        }
    }

    /// The bytes of the file on one line: pretty-printed merges of a large vocabulary take five times the space.
    pub(crate) fn to_compact_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// The bytes of the file, pretty-printed as by Python's `Tokenizer.save`.
    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }
}

/// A token that is matched in a text before any other step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) content: String,
    pub(crate) single_word: bool,
    pub(crate) lstrip: bool,
    pub(crate) rstrip: bool,
    /// Whether it is matched in the normalized text instead.
    pub(crate) normalized: bool,
    pub(crate) special: bool,
}

impl AddedToken {
    pub(crate) fn special(id: u32, content: &str) -> Self {
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

/// The step before a text is split into words.
#[derive(Serialize)]
#[serde(tag = "type")]
pub(crate) enum Normalizer {
    #[serde(rename = "BertNormalizer")]
    Bert {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    #[serde(rename = "NFC")]
    Nfc,
    /// SentencePiece's table of characters, in base64.
    Precompiled {
        precompiled_charsmap: String,
    },
    Replace {
        pattern: Pattern,
        content: &'static str,
    },
    Sequence {
        normalizers: Vec<Normalizer>,
    },
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
    Metaspace {
        replacement: char,
        prepend_scheme: &'static str,
        split: bool,
    },
    Sequence {
        pretokenizers: Vec<PreTokenizer>,
    },
}

#[derive(Serialize)]
pub(crate) enum Pattern {
    Regex(Cow<'static, str>),
    String(&'static str),
}

impl PreTokenizer {
    /// GPT-2's pattern and bytes, without a space added before the text.
    pub(crate) fn byte_level() -> Self {
        Self::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex: true,
        }
    }

    /// The bytes of words from another pre-tokenizer.
    pub(crate) fn bytes_of_words() -> Self {
        Self::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex: false,
        }
    }

    /// Adds a space before every text in the byte-level steps, unless it has one.
    pub(crate) fn prefix_with_space(&mut self) {
        match self {
            Self::ByteLevel { add_prefix_space, .. } => *add_prefix_space = true,
            Self::Sequence { pretokenizers } => pretokenizers.iter_mut().for_each(Self::prefix_with_space),
            _ => {}
        }
    }

    /// Every match of the pattern is a word, and so is the text between two matches.
    pub(crate) fn split(pattern: impl Into<Cow<'static, str>>) -> Self {
        Self::Split {
            pattern: Pattern::Regex(pattern.into()),
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
    Replace {
        pattern: Pattern,
        content: &'static str,
    },
    ByteFallback,
    Fuse,
    Strip {
        content: char,
        start: usize,
        stop: usize,
    },
}

impl Decoder {
    pub(crate) fn byte_level() -> Self {
        Self::ByteLevel {
            add_prefix_space: false,
            trim_offsets: true,
            use_regex: true,
        }
    }

    /// Runs of byte tokens become text, and everything is concatenated.
    pub(crate) fn bytes_then_text() -> Self {
        Self::Sequence {
            decoders: vec![Self::ByteFallback, Self::Fuse],
        }
    }
}

/// The tokens that [`Tokenizer::encode_with_special`](crate::Tokenizer::encode_with_special) puts around a text.
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
    /// One token before a text and one after it, and after each of two texts, as in BERT; `None` unless both are special tokens.
    pub(crate) fn around(special_tokens: &[String], first: &str, last: &str) -> Option<Self> {
        let find = |name: &str| (0..).zip(special_tokens).find(|(_, token)| *token == name);
        let [first, last] = [first, last].map(|name| find(name).map(|(id, _)| (name, id)));
        Some(Self::template(Some(first?), Some(last?)))
    }

    /// The tokens before a text and after it, each with its id.
    pub(crate) fn template(first: Option<(&str, u32)>, last: Option<(&str, u32)>) -> Self {
        let mut special_tokens = BTreeMap::new();
        for (name, id) in first.into_iter().chain(last) {
            let token = TemplateToken {
                id: name.to_owned(),
                ids: vec![id],
                tokens: vec![name.to_owned()],
            };
            special_tokens.insert(name.to_owned(), token);
        }
        let special = |token: Option<(&str, u32)>, type_id| {
            token.map(|(name, _)| Piece::SpecialToken {
                id: name.to_owned(),
                type_id,
            })
        };
        let text = |id, type_id| Some(Piece::Sequence { id, type_id });
        let single = [special(first, 0), text("A", 0), special(last, 0)];
        let pair = [
            special(first, 0),
            text("A", 0),
            special(last, 0),
            text("B", 1),
            special(last, 1),
        ];
        Self::TemplateProcessing {
            single: single.into_iter().flatten().collect(),
            pair: pair.into_iter().flatten().collect(),
            special_tokens,
        }
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
    /// Merges as in GPT-2. `ignore_merges`: a word that is a token as a whole becomes that token without merges.
    pub(crate) fn bpe(tokens: Vec<String>, merges: Vec<(String, String)>, ignore_merges: bool) -> Self {
        Self::Bpe {
            dropout: None,
            unk_token: None,
            continuing_subword_prefix: None,
            end_of_word_suffix: None,
            fuse_unk: false,
            byte_fallback: false,
            ignore_merges,
            vocab: Vocabulary(tokens),
            merges,
        }
    }
}

/// Tokens in the order of their ids, serialized as a map from token to id.
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

/// Whether a pre-tokenizer's JSON is one of those this crate trains with, for which [`crate::cut`] is valid.
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
