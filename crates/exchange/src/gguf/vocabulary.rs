//! The tokenizer of a GGUF file as plain lists, which the tokenizer code interprets.

use super::file::File;
use super::write::Entry;
use taal_model::ModelError;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
const SCORES: &str = "tokenizer.ggml.scores";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const EOT: &str = "tokenizer.ggml.eot_token_id";
const EOM: &str = "tokenizer.ggml.eom_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
const CHAT: &str = "tokenizer.chat_template";
const CHATS: &str = "tokenizer.chat_templates";

/// The name of the template that is under [`CHAT`] itself.
const DEFAULT_CHAT: &str = "default";

/// The most templates of a file.
const MAX_CHATS: usize = 16;

/// The model of a file without a tokenizer.
const NO_VOCABULARY: [&str; 2] = ["no_vocab", "none"];

/// The kind of a token, with llama.cpp's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// The token for text outside the vocabulary.
    Unknown = 2,
    /// A control token such as the beginning of a text.
    Control = 3,
    /// Text that is always one token.
    UserDefined = 4,
    /// An unused row of the embedding.
    Unused = 5,
    /// One byte of text that has no other token.
    Byte = 6,
}

impl TokenKind {
    fn of(number: i64) -> Option<Self> {
        let all = [
            Self::Normal,
            Self::Unknown,
            Self::Control,
            Self::UserDefined,
            Self::Unused,
            Self::Byte,
        ];
        all.into_iter().find(|kind| *kind as i64 == number)
    }
}

/// The tokenizer of a GGUF file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// `gpt2` for byte-level BPE, `llama` for SentencePiece's BPE, or another one of llama.cpp's.
    pub model: String,
    /// llama.cpp's name of the pre-tokenizer; `None` where the file has none.
    pub pre: Option<String>,
    /// The tokens by id.
    pub tokens: Vec<String>,
    /// One score per token, if any: the merge that makes the token with the higher score comes first.
    pub scores: Option<Vec<f32>>,
    /// One kind per token, if any.
    pub kinds: Option<Vec<TokenKind>>,
    /// Two tokens separated by a space, in order of priority, if any.
    pub merges: Option<Vec<String>>,
    /// The id that begins a text.
    pub bos_id: Option<u32>,
    /// The id that ends a text.
    pub eos_id: Option<u32>,
    /// The id that ends a turn, at which llama.cpp also stops.
    pub eot_id: Option<u32>,
    /// The id that ends a message, at which llama.cpp also stops.
    pub eom_id: Option<u32>,
    /// The id of text outside the vocabulary.
    pub unk_id: Option<u32>,
    /// The id that pads short rows.
    pub pad_id: Option<u32>,
    /// Whether texts begin with `bos_id`.
    pub add_bos: Option<bool>,
    /// Whether texts end with `eos_id`.
    pub add_eos: Option<bool>,
    /// Whether a space is added before a text.
    pub add_space_prefix: Option<bool>,
    /// The chat templates, by name.
    pub chat_templates: Vec<(String, String)>,
}

impl Vocabulary {
    /// The tokenizer of a file, or `None` where it has none.
    pub(super) fn read(file: &File<'_>) -> Result<Option<Self>, ModelError> {
        let Some(model) = file.text(MODEL)?.filter(|model| !NO_VOCABULARY.contains(model)) else {
            return Ok(None);
        };
        let tokens = file
            .texts(TOKENS)?
            .ok_or_else(|| file.wrong(TOKENS, "a list of texts"))?;
        let n_tokens = tokens.len();
        let check_len = |key: &str, len: usize| match len == n_tokens {
            true => Ok(()),
            false => Err(file.wrong(key, &format!("one value for each of the {n_tokens} tokens"))),
        };
        let scores = file.floats(SCORES)?;
        if let Some(scores) = &scores {
            check_len(SCORES, scores.len())?;
        }
        let kinds = match file.integers(KINDS)? {
            None => None,
            Some(numbers) => {
                check_len(KINDS, numbers.len())?;
                let kinds: Option<Vec<TokenKind>> = numbers.into_iter().map(TokenKind::of).collect();
                Some(kinds.ok_or_else(|| file.wrong(KINDS, "integers in 1..=6"))?)
            }
        };
        let id = |key: &str| -> Result<Option<u32>, ModelError> {
            let id = file.size_up_to(key, n_tokens.saturating_sub(1))?;
            Ok(id.and_then(|id| u32::try_from(id).ok()))
        };
        Ok(Some(Self {
            model: model.to_string(),
            pre: file.text(PRE)?.map(str::to_string),
            tokens: tokens.into_iter().map(str::to_string).collect(),
            scores,
            kinds,
            merges: file
                .texts(MERGES)?
                .map(|merges| merges.into_iter().map(str::to_string).collect()),
            bos_id: id(BOS)?,
            eos_id: id(EOS)?,
            eot_id: id(EOT)?,
            eom_id: id(EOM)?,
            unk_id: id(UNK)?,
            pad_id: id(PAD)?,
            add_bos: file.truth(ADD_BOS)?,
            add_eos: file.truth(ADD_EOS)?,
            add_space_prefix: file.truth(ADD_SPACE)?,
            chat_templates: chat_templates(file)?,
        }))
    }

    /// The keys of a tokenizer, padded with unused tokens to the length of the embedding, or of a file without a tokenizer.
    pub(super) fn entries(vocabulary: Option<&Self>, vocab_size: usize) -> Result<Vec<(String, Entry)>, ModelError> {
        let Some(v) = vocabulary else {
            return Ok(vec![(MODEL.to_string(), Entry::Text(NO_VOCABULARY[0].to_string()))]);
        };
        let n_tokens = v.tokens.len();
        if n_tokens > vocab_size {
            return Err(ModelError::config(
                "vocab_size",
                format!("the tokenizer has {n_tokens} tokens, but the model has {vocab_size}"),
            ));
        }
        let mut tokens = v.tokens.clone();
        tokens.extend((n_tokens..vocab_size).map(padding_token));
        let kinds = v.kinds.clone().unwrap_or_else(|| vec![TokenKind::Normal; n_tokens]);
        let kinds = kinds
            .into_iter()
            .chain((n_tokens..vocab_size).map(|_| TokenKind::Unused));
        let mut entries = vec![(MODEL.to_string(), Entry::Text(v.model.clone()))];
        let mut add = |key: &str, entry: Option<Entry>| {
            entries.extend(entry.map(|entry| (key.to_string(), entry)));
        };
        add(PRE, v.pre.clone().map(Entry::Text));
        add(TOKENS, Some(Entry::Texts(tokens)));
        add(
            SCORES,
            v.scores.clone().map(|mut scores| {
                scores.resize(vocab_size, LOWEST_SCORE);
                Entry::Floats(scores)
            }),
        );
        add(KINDS, Some(Entry::Integers(kinds.map(|kind| kind as i32).collect())));
        add(MERGES, v.merges.clone().map(Entry::Texts));
        add(BOS, v.bos_id.map(Entry::U32));
        add(EOS, v.eos_id.map(Entry::U32));
        add(EOT, v.eot_id.map(Entry::U32));
        add(EOM, v.eom_id.map(Entry::U32));
        add(UNK, v.unk_id.map(Entry::U32));
        add(PAD, v.pad_id.map(Entry::U32));
        add(ADD_BOS, v.add_bos.map(Entry::Truth));
        add(ADD_EOS, v.add_eos.map(Entry::Truth));
        add(ADD_SPACE, v.add_space_prefix.map(Entry::Truth));
        let mut others = Vec::new();
        for (name, source) in &v.chat_templates {
            let key = match name == DEFAULT_CHAT {
                true => CHAT.to_string(),
                false => {
                    others.push(name.clone());
                    format!("{CHAT}.{name}")
                }
            };
            add(&key, Some(Entry::Text(source.clone())));
        }
        add(CHATS, (!others.is_empty()).then_some(Entry::Texts(others)));
        Ok(entries)
    }

    /// The ids at which llama.cpp stops.
    pub fn end_ids(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        for id in [self.eos_id, self.eot_id, self.eom_id].into_iter().flatten() {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }

    /// The same without the tokens at its end that only pad the embedding.
    #[must_use]
    pub fn without_padding(mut self) -> Self {
        let Some(kinds) = &mut self.kinds else {
            return self;
        };
        let is_padding =
            |(id, kind): (usize, &TokenKind)| *kind == TokenKind::Unused && self.tokens[id] == padding_token(id);
        let used = kinds
            .iter()
            .enumerate()
            .rposition(|token| !is_padding(token))
            .map_or(0, |last| last + 1);
        kinds.truncate(used);
        self.tokens.truncate(used);
        if let Some(scores) = &mut self.scores {
            scores.truncate(used);
        }
        self
    }
}

/// The chat templates of a file: one without a name, and those that a list names.
fn chat_templates(file: &File<'_>) -> Result<Vec<(String, String)>, ModelError> {
    let mut templates = Vec::new();
    if let Some(source) = file.text(CHAT)? {
        templates.push((DEFAULT_CHAT.to_string(), source.to_string()));
    }
    for name in file.texts(CHATS)?.unwrap_or_default().into_iter().take(MAX_CHATS) {
        if let Some(source) = file.text(&format!("{CHAT}.{name}"))? {
            templates.push((name.to_string(), source.to_string()));
        }
    }
    Ok(templates)
}

/// The score of a token that no merge makes.
const LOWEST_SCORE: f32 = -1e9;

/// llama.cpp's name of an embedding row without a token.
fn padding_token(id: usize) -> String {
    format!("[PAD{id}]")
}
