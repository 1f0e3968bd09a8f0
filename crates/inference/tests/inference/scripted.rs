//! A "scripted" LLaMA: attention and feed-forward are zero, so the next token depends only on the last one and the output is
//! known in advance.

use std::convert::Infallible;
use std::path::Path;

use crate::size;
use burn::tensor::Device;
use serde_json::{Value, json};
use taal_inference::LanguageModel;
use taal_model::hugging_face::{self, Companions};
use taal_model::{Transformer, TransformerConfig, parameters};
use taal_tokenizer::Tokenizer;

/// A model in which `to` follows `from` for each `(from, to)` of the script, and id 0 everything else.
pub fn model(vocab_size: usize, context: usize, script: &[(u32, u32)]) -> Transformer {
    let d_model = vocab_size.next_multiple_of(2);
    let config = TransformerConfig {
        head_dim: 8,
        d_ff: 4,
        tie_embeddings: false,
        ..TransformerConfig::llama(size(vocab_size, context, 1, 1, d_model))
    };
    let model = config.init(1, &Device::flex()).expect("a valid configuration");
    let give = |name: &str, shape: &[usize]| -> Result<Vec<f32>, Infallible> {
        let mut values = vec![0.0; shape.iter().product()];
        if name.ends_with("norm.weight") {
            values.fill(1.0);
        } else if name.starts_with("token_embedding") {
            // Each token has its own direction.
            (0..vocab_size).for_each(|id| values[id * d_model + id] = 1.0);
        } else if name == "head.weight" {
            assert_eq!(shape, [d_model, vocab_size], "inputs by outputs");
            for id in 0..vocab_size as u32 {
                let next = script.iter().find(|(from, _)| *from == id).map_or(0, |(_, to)| *to);
                values[id as usize * vocab_size + next as usize] = 1.0;
            }
        }
        Ok(values)
    };
    match parameters::replace(model, give) {
        Ok(model) => model,
        Err(never) => match never {},
    }
}

/// A script in which each id leads to the next.
pub fn chain(ids: &[u32]) -> Vec<(u32, u32)> {
    ids.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// One token for each byte (its id is the byte), then these ordinary tokens in GPT-2's spelling, then these special ones.
pub fn byte_tokenizer(more: &[&str], special: &[&str]) -> Tokenizer {
    let mut vocab: serde_json::Map<String, Value> = (0..=255_u8).map(|byte| (spelled(byte), byte.into())).collect();
    vocab.extend(
        more.iter()
            .zip(256..)
            .map(|(token, id)| ((*token).to_owned(), id.into())),
    );
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    tokenizer(
        vocab,
        special,
        Value::Null,
        decoder.clone(),
        decoder,
        json!({"ignore_merges": !more.is_empty()}),
    )
}

/// `<unk>`, `<s>` and `</s>`, then `<0x00>` to `<0xFF>` from id 3 on, then these tokens from 259 on: like LLaMA's, with its four
/// decoders.
pub fn sentence_piece_tokenizer(more: &[&str]) -> Tokenizer {
    let names = ["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let more = more.iter().map(|token| (*token).to_owned());
    let all = names.into_iter().chain(bytes).chain(more);
    let vocab = all
        .zip(0..)
        .map(|(token, id): (String, u32)| (token, id.into()))
        .collect();
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
    ]});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]});
    let model = json!({"unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true});
    tokenizer(
        vocab,
        &["<unk>", "<s>", "</s>"],
        normalizer,
        Value::Null,
        decoder,
        model,
    )
}

fn tokenizer(
    vocab: serde_json::Map<String, Value>,
    special: &[&str],
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    settings: Value,
) -> Tokenizer {
    let mut next = vocab.len();
    let added: Vec<Value> = special
        .iter()
        .map(|content| {
            let id = vocab.get(*content).and_then(Value::as_u64).unwrap_or_else(|| {
                next += 1;
                next as u64 - 1
            });
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let mut model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "merges": []});
    for (key, value) in settings.as_object().expect("an object") {
        model[key] = value.clone();
    }
    model["vocab"] = Value::Object(vocab);
    let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model});
    Tokenizer::from_json(file.to_string().as_bytes()).expect("a tokenizer")
}

/// A byte as GPT-2's vocabulary spells it.
pub fn spelled(byte: u8) -> String {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = match is_printable(byte) {
        true => u32::from(byte),
        false => 256 + (0..byte).filter(|&other| !is_printable(other)).count() as u32,
    };
    char::from_u32(code).expect("a character").to_string()
}

/// Writes a model directory, with these keys added to `config.json`, and these additional files.
pub fn save(model: &Transformer, tokenizer: Option<&Tokenizer>, dir: &Path, config: Value, files: &[(&str, Value)]) {
    let json = tokenizer.map(Tokenizer::to_json);
    let companions = Companions {
        tokenizer_json: json.as_deref(),
        ..Companions::default()
    };
    hugging_face::save(model, dir, companions).expect("a saved model");
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let mut written: Value = serde_json::from_str(&text).expect("a configuration");
    let object = written.as_object_mut().expect("an object");
    // Only the test sets special tokens.
    object.retain(|key, _| !key.ends_with("_token_id"));
    object.extend(config.as_object().cloned().unwrap_or_default());
    std::fs::write(&path, written.to_string()).expect("a configuration");
    for (name, content) in files {
        std::fs::write(dir.join(name), content.to_string()).expect("a file");
    }
}

/// Bytes, then `<|endoftext|>` (256), `<|im_start|>` (257) and `<|im_end|>` (258), as in Qwen.
pub fn qwen() -> Tokenizer {
    byte_tokenizer(&[], &["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
}

/// After "?": "a", "b", "<|im_end|>", "<|endoftext|>", then "c" forever.
pub const QWEN_SCRIPT: [u32; 7] = [63, 97, 98, 258, 256, 99, 99];

/// Opens a model directory that generates [`QWEN_SCRIPT`].
pub fn qwen_directory(
    dir: &Path,
    config: Value,
    files: &[(&str, Value)],
    tokenizer: Option<&Tokenizer>,
) -> LanguageModel {
    let model = model(259, 64, &chain(&QWEN_SCRIPT));
    save(&model, tokenizer, dir, config, files);
    LanguageModel::open(dir, &Device::flex()).expect("a model")
}

/// A JSON file.
pub fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}
