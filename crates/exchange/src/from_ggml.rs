//! The tokenizer of a GGUF file as a `tokenizer.json`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::ChatFiles;

use crate::gguf::{TokenKind, Vocabulary};
use crate::{ExchangeError, Result, words};

/// SentencePiece's visible space.
pub(crate) const SPACE: &str = "\u{2581}";

/// The most bytes of a token. All ways to split it in two are tried, so the work grows with the square of its length.
const MAX_PIECE_BYTES: usize = 512;

/// The most pairs per token, on average; LLaMA's have 2. Tokens of one repeated letter would have one per letter.
const MAX_PAIRS_PER_TOKEN: usize = 16;

/// Opens a vocabulary as any `tokenizer.json` is opened, with the same checks.
///
/// # Errors
///
/// The model crate's error for a file, with the key whose value is not supported.
pub(crate) fn tokenizer(path: &Path, v: &Vocabulary) -> Result<Tokenizer> {
    let foreign = |detail| ExchangeError::ForeignTokenizer {
        path: path.to_path_buf(),
        detail,
    };
    let json = to_json(v).map_err(foreign)?;
    Tokenizer::from_json(json.to_string().as_bytes())
        .map_err(|error| foreign(format!("its tokenizer cannot be used: {error}")))
}

/// The chat templates, with the special tokens that they may name.
pub(crate) fn chat_files(v: &Vocabulary) -> ChatFiles {
    let mut files = ChatFiles::named(v.chat_templates.iter().cloned());
    let ids = [
        ("bos_token", v.bos_id),
        ("eos_token", v.eos_id),
        ("unk_token", v.unk_id),
        ("pad_token", v.pad_id),
    ];
    for (name, id) in ids {
        if let Some(token) = id.and_then(|id| v.tokens.get(id as usize)) {
            files = files.with_token(name, token);
        }
    }
    files
}

fn to_json(v: &Vocabulary) -> std::result::Result<Value, String> {
    let mut ids = HashMap::with_capacity(v.tokens.len());
    for (id, token) in v.tokens.iter().enumerate() {
        if let Some(other) = ids.insert(token.as_str(), id) {
            return Err(format!(
                "key `tokenizer.ggml.tokens`: entries {other} and {id} are the same text"
            ));
        }
    }
    let parts = match v.model.as_str() {
        "gpt2" => byte_level(v)?,
        "llama" => sentence_piece(v, &ids)?,
        other => {
            return Err(format!(
                "key `tokenizer.ggml.model`: expected gpt2 or llama, got {other:?}"
            ));
        }
    };
    let mut vocab = Map::with_capacity(v.tokens.len());
    vocab.extend(
        v.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.clone(), id.into())),
    );
    let mut model = parts.model;
    model["vocab"] = Value::Object(vocab);
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(v),
        "normalizer": parts.normalizer,
        "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": template(v),
        "decoder": parts.decoder,
        "model": model,
    }))
}

struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
}

fn bpe(merges: Vec<Value>) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": false,
        "merges": merges,
    })
}

fn byte_level(v: &Vocabulary) -> std::result::Result<Parts, String> {
    // Files without this key are from the time when GPT-2's pre-tokenizer was the only one.
    let pre = v.pre.as_deref().unwrap_or("gpt-2");
    let words = words::named(pre).ok_or_else(|| {
        format!(
            "key `tokenizer.ggml.pre`: expected one of {}, got {pre:?}",
            words::names()
        )
    })?;
    let merges = v.merges.as_ref().ok_or(
        "key `tokenizer.ggml.merges` is missing: without it every text would be single bytes; write the file again with the merges",
    )?;
    let merges = merges.iter().enumerate().map(|(index, merge)| {
        let pair = merge.split_once(' ').filter(|(first, _)| !first.is_empty());
        let (first, second) = pair.ok_or_else(|| {
            format!("key `tokenizer.ggml.merges`: entry {index} is not two tokens with a space between")
        })?;
        Ok(json!([first, second]))
    });
    let mut model = bpe(merges.collect::<std::result::Result<Vec<Value>, String>>()?);
    model["ignore_merges"] = words.ignores_merges.into();
    Ok(Parts {
        normalizer: if words.composes {
            json!({"type": "NFC"})
        } else {
            Value::Null
        },
        pre_tokenizer: words.pre_tokenizer(),
        decoder: words::byte_level(true),
        model,
    })
}

fn sentence_piece(v: &Vocabulary, ids: &HashMap<&str, usize>) -> std::result::Result<Parts, String> {
    let has_bytes = v.kinds.iter().flatten().any(|kind| *kind == TokenKind::Byte);
    let has_prefix = v.add_space_prefix.unwrap_or(true);
    let mut model = bpe(merges(v, ids)?);
    model["byte_fallback"] = has_bytes.into();
    model["fuse_unk"] = true.into();
    model["unk_token"] = unknown(v).map_or(Value::Null, |token| token.as_str().into());
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE});
    let normalizers = match has_prefix {
        true => vec![json!({"type": "Prepend", "prepend": SPACE}), spaces],
        false => vec![spaces],
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if has_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(Parts {
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        model,
    })
}

fn unknown(v: &Vocabulary) -> Option<&String> {
    let by_kind = v.kinds.iter().flatten().position(|kind| *kind == TokenKind::Unknown);
    v.tokens.get(by_kind.or(v.unk_id.map(|id| id as usize))?)
}

/// All pairs that make a token, the highest score first, ties in the order of the tokens: SentencePiece merges any two adjacent
/// tokens whose text is a token.
fn merges(v: &Vocabulary, ids: &HashMap<&str, usize>) -> std::result::Result<Vec<Value>, String> {
    let scores = v.scores.as_ref().ok_or("key `tokenizer.ggml.scores` is missing")?;
    let is_normal = |id: &usize| v.kinds.as_ref().is_none_or(|kinds| kinds[*id] == TokenKind::Normal);
    let mut order: Vec<usize> = (0..v.tokens.len()).filter(is_normal).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut merges = Vec::new();
    for id in order {
        let token = v.tokens[id].as_str();
        if token.len() > MAX_PIECE_BYTES {
            return Err(format!(
                "key `tokenizer.ggml.tokens`: entry {id} has {} bytes; at most {MAX_PIECE_BYTES} are read",
                token.len()
            ));
        }
        let cuts = token.char_indices().skip(1).map(|(cut, _)| token.split_at(cut));
        let known = |text: &str| ids.get(text).copied().filter(|id| is_normal(id));
        let mut ways: Vec<(usize, usize)> = cuts.filter_map(|(a, b)| known(a).zip(known(b))).collect();
        ways.sort_unstable();
        merges.extend(ways.into_iter().map(|(a, b)| json!([v.tokens[a], v.tokens[b]])));
        if merges.len() > MAX_PAIRS_PER_TOKEN * v.tokens.len() {
            return Err(format!(
                "key `tokenizer.ggml.tokens`: {} tokens are made of more than {MAX_PAIRS_PER_TOKEN} pairs each",
                v.tokens.len()
            ));
        }
    }
    Ok(merges)
}

fn added_tokens(v: &Vocabulary) -> Vec<Value> {
    let named = [v.bos_id, v.eos_id, v.eot_id, v.eom_id, v.pad_id];
    let kinds = v.kinds.as_deref().unwrap_or_default();
    let tokens = v.tokens.iter().enumerate().filter_map(|(id, token)| {
        let kind = kinds.get(id).copied().unwrap_or(TokenKind::Normal);
        let is_mark = matches!(kind, TokenKind::Control | TokenKind::Unknown);
        // Without kinds, only the keys tell which tokens are special.
        let is_special = is_mark || kinds.is_empty() && named.contains(&Some(id as u32));
        (is_special || kind == TokenKind::UserDefined).then(|| {
            json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": is_special,
            })
        })
    });
    tokens.collect()
}

/// The special tokens around a text. By default, SentencePiece models begin every text with one, as do those with pre-tokenizers
/// for which llama.cpp does so.
fn template(v: &Vocabulary) -> Value {
    let words = v.pre.as_deref().and_then(words::named);
    let begins = v.model == "llama" || words.is_some_and(|words| words.begins);
    let token = |id: Option<u32>, is_on: bool| {
        let id = id.filter(|_| is_on)?;
        Some((id, v.tokens.get(id as usize)?.as_str()))
    };
    around(
        token(v.bos_id, v.add_bos.unwrap_or(begins)),
        token(v.eos_id, v.add_eos.unwrap_or(false)),
    )
}

/// A `post_processor` that puts one token before every text and one after it; null without such tokens.
fn around(first: Option<(u32, &str)>, last: Option<(u32, &str)>) -> Value {
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let special = |token: Option<(u32, &str)>, type_id: u32| {
        token.map(|(_, token)| json!({"SpecialToken": {"id": token, "type_id": type_id}}))
    };
    let sequence = |name: &str, type_id: u32| {
        let text = json!({"Sequence": {"id": name, "type_id": type_id}});
        let parts = [special(first, type_id), Some(text), special(last, type_id)];
        parts.into_iter().flatten().collect::<Vec<Value>>()
    };
    let tokens: Map<String, Value> = [first, last]
        .into_iter()
        .flatten()
        .map(|(id, token)| (token.to_string(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let pair = [sequence("A", 0), sequence("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    })
}

/// The same tokenizer with its beginning-of-sequence token before every text, as llama2.c's `run` always adds it; a tokenizer
/// that already puts tokens around texts, or has no such token, is unchanged.
///
/// # Errors
///
/// The tokenizer's own.
pub(crate) fn with_bos(tokenizer: Tokenizer) -> Result<Tokenizer> {
    let Some(bos) = tokenizer.bos_id() else {
        return Ok(tokenizer);
    };
    let token = tokenizer.id_to_token(bos).unwrap_or_default();
    let mut file: Value = match serde_json::from_slice(&tokenizer.to_json()) {
        Ok(file) => file,
        Err(_) => return Ok(tokenizer),
    };
    if !file["post_processor"].is_null() {
        return Ok(tokenizer);
    }
    file["post_processor"] = around(Some((bos, &token)), None);
    Ok(Tokenizer::from_json(file.to_string().as_bytes())?)
}
