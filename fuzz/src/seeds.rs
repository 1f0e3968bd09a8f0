//! Valid inputs of every target, and functions that fix the checksums and lengths of mutated ones.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use taal_data::{BuildOptions, ShardOrigin, ShardWriter, build_shards};
use taal_model::hugging_face::{self, Companions};
use taal_model::{ModelSize, PositionKind, TransformerConfig};
use taal_store::{MANIFEST_NAME, Manifest, blake3_hex};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig, Unknown};
use taal_trainer::{RecipeText, TrainState, embedded, resolve};

use crate::scratch;

const TEXT: &str =
    "De kat krabt de krullen van de trap, de kat krabt 12 krullen; don't één twee drie. \n\tDe trap kraakt.\n";

/// A recipe with only the required keys.
pub(crate) const SMALL_RECIPE: &str = "[data]\ncorpus = \"names\"\n[tokenizer]\nkind = \"char\"\nvocab_size = 100\n";

/// A small tokenizer of every kind.
pub(crate) fn trained() -> &'static [(Kind, Tokenizer)] {
    static TRAINED: OnceLock<Vec<(Kind, Tokenizer)>> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let train = |kind| {
            let mut config = TrainerConfig::new(kind, 320);
            config.unknown = Unknown::Token;
            config.train([TEXT.repeat(3)]).expect("a tokenizer from good text")
        };
        Kind::ALL.into_iter().map(|kind| (kind, train(kind))).collect()
    })
}

/// The golden files of the model crate.
macro_rules! golden {
    ($include:ident, $path:literal) => {
        $include!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../crates/model/tests/golden/",
            $path
        ))
    };
}

/// The golden files of the exchange crate.
macro_rules! formats {
    ($name:literal) => {
        include_bytes!(concat!("../../crates/exchange/tests/golden/formats/", $name))
    };
}

/// The smaller GGUF files of the exchange crate's tests.
pub(crate) fn gguf_files() -> Vec<Vec<u8>> {
    vec![
        formats!("gpt2-q8_0.gguf").to_vec(),
        formats!("llama-untied-q8_0.gguf").to_vec(),
        formats!("llama3-f32.gguf").to_vec(),
        formats!("qwen2-f32.gguf").to_vec(),
        include_bytes!("../../crates/exchange/tests/golden/sentence-piece.gguf").to_vec(),
    ]
}

const LLAMA2C_FILES: [&[u8]; 2] = [formats!("llama-tied-v0.bin"), formats!("llama-untied-v1.bin")];

pub(crate) fn llama2c_files() -> Vec<Vec<u8>> {
    LLAMA2C_FILES.map(<[u8]>::to_vec).to_vec()
}

/// The length that a file's header requires, if it is the header of a seed. Any other length is refused at once.
pub(crate) fn llama2c_len(bytes: &[u8]) -> usize {
    let [first, versioned] = LLAMA2C_FILES;
    match bytes.starts_with(&versioned[..4]) {
        true => versioned.len(),
        false => first.len(),
    }
}

/// The small files of the tokenizer crate's tests.
pub(crate) fn foreign_tokenizers() -> Vec<Vec<u8>> {
    macro_rules! golden {
        ($($name:literal),*) => {
            vec![$(include_bytes!(concat!("../../crates/tokenizer/tests/golden/import/", $name)).to_vec()),*]
        };
    }
    golden!(
        "bpe.model",
        "bpe-unk.model",
        "unigram.model",
        "unigram-unk.model",
        "llama2c.bin",
        "cased.vocab.txt",
        "uncased.vocab.txt"
    )
}

pub(crate) fn tokenizers() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = trained().iter().map(|(_, tokenizer)| tokenizer.to_json()).collect();
    let added = json!([{"id": 4, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": true, "normalized": true, "special": true}]);
    let bpe = json!({"type": "BPE", "dropout": null, "unk_token": "a", "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": false, "ignore_merges": false,
        "vocab": {"a": 0, "b": 1, "ab": 2, "▁": 3}, "merges": [["a", "b"]]});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let split = json!({"type": "Split", "pattern": {"Regex": "'s|[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)|\\s+"}, "behavior": "MergedWithNext", "invert": true});
    let template = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}});
    // A trie of 256 numbers without replacements.
    let charsmap = format!("AAQA{}AABhYQAA", "A".repeat(1364));
    let file = |normalizer: Value, pre_tokenizer: Value, post_processor: Value, decoder: Value, model: &Value| {
        let file = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model});
        serde_json::to_vec(&file).unwrap_or_default()
    };
    seeds.push(file(
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace, {"type": "NFKC"}, {"type": "Lowercase"}]}),
        Value::Null,
        template.clone(),
        json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        &bpe,
    ));
    seeds.push(file(
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        json!({"type": "Sequence", "pretokenizers": [split, {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false}]}),
        json!({"type": "RobertaProcessing", "sep": ["<s>", 4], "cls": ["a", 0], "trim_offsets": true, "add_prefix_space": true}),
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        &bpe,
    ));
    seeds.push(file(
        json!({"type": "Precompiled", "precompiled_charsmap": charsmap}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        template,
        json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": true}),
        &json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.5], ["▁", -2.0], ["ab", -3.25]], "byte_fallback": false}),
    ));
    seeds.push(file(
        json!({"type": "Strip", "strip_left": true, "strip_right": false}),
        json!({"type": "BertPreTokenizer"}),
        json!({"type": "BertProcessing", "sep": ["<s>", 4], "cls": ["a", 1]}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        &json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "a": 1, "##a": 2, "b": 3}}),
    ));
    seeds
}

pub(crate) fn texts() -> Vec<Vec<u8>> {
    let texts = [
        TEXT,
        "",
        "^^^^^^^^^^^^^^^^ aaaaaaaaaaaaaaaaaaaa                      \n\n\n\n\n",
        "👩\u{200d}👩\u{200d}👧 🇳🇱 ❤\u{fe0f} ▁▂▃ <0x41> <0xE2> <s> [UNK] <|endoftext|> é e\u{301}",
        "日本語 العربية \u{1}\u{7f}\u{2028}\u{10ffff}",
    ];
    let kinds = 0..Kind::ALL.len() as u8;
    let seeds = kinds.flat_map(|kind| texts.map(|text| [&[kind], text.as_bytes()].concat()));
    seeds.collect()
}

/// Models whose configurations are changed, as `config.json` and `model.safetensors`: one of each published family, and some of
/// Taal's.
pub(crate) fn models() -> &'static [(String, Vec<u8>)] {
    static MODELS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let published = [
            (
                golden!(include_str, "llama-tied/config.json"),
                &golden!(include_bytes, "llama-tied/model.safetensors")[..],
            ),
            (
                golden!(include_str, "llama-untied/config.json"),
                golden!(include_bytes, "llama-untied/model.safetensors"),
            ),
            (
                golden!(include_str, "gpt2/config.json"),
                golden!(include_bytes, "gpt2/model.safetensors"),
            ),
            (
                golden!(include_str, "qwen3/config.json"),
                golden!(include_bytes, "qwen3/model.safetensors"),
            ),
        ];
        let mut models: Vec<_> = published
            .map(|(config, weights)| (config.to_owned(), weights.to_vec()))
            .into();
        let llama = TransformerConfig::llama(ModelSize {
            vocab_size: 50,
            max_seq_len: 40,
            n_layers: 2,
            n_heads: 4,
            d_model: 32,
        });
        models.push(saved(&TransformerConfig {
            position: PositionKind::Sinusoidal,
            window: Some(5),
            logit_softcap: Some(3.0),
            ..llama.clone()
        }));
        models.push(saved(&TransformerConfig {
            position: PositionKind::Alibi,
            ..llama
        }));
        models.push(saved(&TransformerConfig::bert(ModelSize {
            vocab_size: 50,
            max_seq_len: 40,
            n_layers: 2,
            n_heads: 4,
            d_model: 32,
        })));
        models
    })
}

pub(crate) fn configs() -> Vec<Vec<u8>> {
    models().iter().map(|(config, _)| config.as_bytes().to_vec()).collect()
}

/// The files of a new model.
fn saved(config: &TransformerConfig) -> (String, Vec<u8>) {
    let model = config.init(1, &Device::flex()).expect("a valid configuration");
    let dir = scratch::folder("seeds").join("model");
    let _ = fs::remove_dir_all(&dir);
    hugging_face::save(&model, &dir, Companions::default()).expect("a folder to write to");
    let read = |name| fs::read(dir.join(name)).expect("a file that was just written");
    let config = String::from_utf8(read(hugging_face::CONFIG_FILE)).expect("JSON is UTF-8");
    (config, read(hugging_face::WEIGHTS_FILE))
}

/// A model that is built quickly.
fn small_model() -> &'static (String, Vec<u8>) {
    static SMALL: OnceLock<(String, Vec<u8>)> = OnceLock::new();
    SMALL.get_or_init(|| {
        saved(&TransformerConfig::llama(ModelSize {
            vocab_size: 7,
            max_seq_len: 8,
            n_layers: 1,
            n_heads: 2,
            d_model: 8,
        }))
    })
}

pub(crate) fn small_config() -> &'static str {
    &small_model().0
}

pub(crate) fn weights() -> Vec<Vec<u8>> {
    let whole = small_model().1.clone();
    vec![whole.clone(), in_half_precision(&whole).unwrap_or_default()]
}

/// The same tensors as zeros of two bytes.
fn in_half_precision(whole: &[u8]) -> Option<Vec<u8>> {
    let mut header: Value = serde_json::Deserializer::from_slice(whole.get(8..)?)
        .into_iter()
        .next()?
        .ok()?;
    for (_, tensor) in header
        .as_object_mut()?
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        tensor["dtype"] = "F16".into();
        let offsets = [0, 1].map(|end| tensor["data_offsets"][end].as_u64().unwrap_or(0) / 2);
        tensor["data_offsets"] = json!(offsets);
    }
    with_right_lengths(&[&[0; 8], header.to_string().as_bytes()].concat())
}

/// Fixes the length of the header, and pads or cuts the data to end with the last tensor.
pub(crate) fn with_right_lengths(bytes: &[u8]) -> Option<Vec<u8>> {
    const MOST_DATA: u64 = 1 << 16;
    let rest = bytes.get(8..)?;
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
    let header = values.next()?.ok()?;
    let end = values.byte_offset();
    let ends = header
        .as_object()?
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let data_bytes = ends.max()?.min(MOST_DATA) as usize;
    let mut whole = (end as u64).to_le_bytes().to_vec();
    whole.extend(&rest[..end]);
    whole.extend(rest[end..].iter().copied().chain(std::iter::repeat(0)).take(data_bytes));
    Some(whole)
}

pub(crate) fn recipes() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = embedded().map(|(_, text)| text.as_bytes().to_vec()).collect();
    // With every key written out.
    for (name, _) in embedded() {
        let source = RecipeText::find(name).expect("an embedded recipe");
        let resolved = resolve(&source, &[]).expect("an embedded recipe is valid");
        seeds.push(resolved.text.into_bytes());
    }
    seeds.push(SMALL_RECIPE.as_bytes().to_vec());
    seeds.push(b"[data]\nshards = \"shards\"\n[model]\nwindow = 8\nattention_softcap = 5.0\n[train]\noptimizer = \"muon\"\npatience = 3\n".to_vec());
    seeds.push(b"[data]\nconversations = \"a.jsonl\"\n[model]\ndropout = 0.1\n[train]\ninit_from = \"runs/x\"\nclip_norm = 1.0\n".to_vec());
    seeds
}

pub(crate) fn settings() -> Vec<Vec<u8>> {
    [
        "train.steps=100\nmodel.n_layers=2\nmodel.d_model = 64",
        "train.lr=1e-3\nsample.prompts=[\"a\", \"b\"]\ntrain.schedule=\"wsd\"",
        "name=probe\ndescription=\"één\"\nseed=7\ntokenizer.special_tokens=[\"<s>\"]",
        "data.validation_fraction=0.5\neval.every=10\ncheckpoint.keep=3\nmodel.preset=gpt2",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn shards() -> Vec<Vec<u8>> {
    let path = scratch::folder("seeds").join("seed.shard");
    [(10, 40_u32), (70_000, 9), (3, 0)]
        .into_iter()
        .map(|(vocab_size, count)| {
            let origin = ShardOrigin {
                tokenizer_hash: "ab".repeat(32),
                vocab_size,
            };
            let mut writer = ShardWriter::create(&path, &origin).expect("a folder to write to");
            let ids: Vec<u32> = (0..count).map(|id| id * 7 % vocab_size as u32).collect();
            writer.push(&ids, 80).expect("ids of the vocabulary");
            writer.finish().expect("a folder to write to");
            fs::read(&path).expect("a file that was just written")
        })
        .collect()
}

/// Fixes the checksums of the ids and of the header, if the file is long enough.
pub(crate) fn with_right_shard_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    const BLOCK_BYTES: usize = 1 << 20;
    let mut whole = bytes.to_vec();
    let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let id_bytes = number(12)? & 0xffff_ffff;
    let ids_end = usize::try_from(number(16)?.checked_mul(id_bytes)?.checked_add(128)?).ok()?;
    let table: Vec<u8> = bytes
        .get(128..ids_end)?
        .chunks(BLOCK_BYTES)
        .flat_map(|block| digits(&blake3_hex(block)))
        .collect();
    whole.truncate(ids_end);
    let checksum = digits(&blake3_hex(&[&whole[..72], &table].concat()));
    whole[72..104].copy_from_slice(&checksum);
    whole.extend(table);
    Some(whole)
}

fn digits(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0);
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// Builds shards in an existing folder.
pub(crate) fn build_shard_folder(folder: &Path) {
    let built = scratch::folder("seeds").join("shards");
    let _ = fs::remove_dir_all(&built);
    let input = scratch::folder("seeds").join("text.txt");
    fs::write(&input, TEXT.repeat(20)).expect("a folder to write to");
    let options = BuildOptions {
        shard_tokens: 600,
        ..BuildOptions::default()
    };
    let (_, tokenizer) = &trained()[0];
    build_shards(tokenizer, &[input], &built, &options).expect("good text");
    for name in taal_store::list_dir(&built).expect("a folder that was just built") {
        fs::copy(built.join(&name), folder.join(&name)).expect("a folder to write to");
    }
}

pub(crate) fn shard_indexes() -> Vec<Vec<u8>> {
    let folder = scratch::folder("index-seed");
    build_shard_folder(&folder);
    let text = fs::read(folder.join("index.json")).expect("an index that was just built");
    let compact: Index = serde_json::from_slice(&text).expect("an index");
    vec![text, serde_json::to_vec(&compact).unwrap_or_default()]
}

/// `index.json`, field by field in its order: its checksum is over this text.
#[derive(Deserialize, Serialize)]
struct Index {
    format: String,
    version: u32,
    tokenizer_hash: String,
    vocab_size: usize,
    validation_fraction: f64,
    train: Vec<ShardEntry>,
    validation: Vec<ShardEntry>,
    inputs: Vec<IndexInput>,
    blake3: String,
}

#[derive(Deserialize, Serialize)]
struct ShardEntry {
    file: String,
    tokens: u64,
    text_bytes: u64,
}

#[derive(Deserialize, Serialize)]
struct IndexInput {
    name: String,
    train_tokens: u64,
    train_bytes: u64,
    validation_tokens: u64,
    validation_bytes: u64,
}

/// The index with its correct checksum.
pub(crate) fn with_right_index_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut index: Index = serde_json::from_slice(bytes).ok()?;
    index.blake3 = String::new();
    index.blake3 = blake3_hex(&serde_json::to_vec(&index).ok()?);
    serde_json::to_vec(&index).ok()
}

pub(crate) fn conversations() -> Vec<Vec<u8>> {
    let lines = [
        json!({"prompt": "de kat", "completion": " krabt"}),
        json!({"prompt": "", "completion": "de krullen van de trap, de krullen van de trap, de krullen van de trap"}),
        json!({"prompt": "één ".repeat(30), "completion": "x", "source": {"page": [1, 2]}}),
        json!({"completion": "de trap", "prompt": "krabt <|endoftext|> "}),
    ];
    let one_each: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let windows = format!("\u{feff}{}", one_each.replace('\n', "\r\n\r\n"));
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let chosen = json!([said("user", "kat?"), said("assistant", "krabt")]);
    let others = [
        json!({"messages": [said("system", "kort"), said("user", "kat?"), {"role": "assistant", "content": "de trap", "weight": 0}, said("user", "en?"), said("assistant", "de krullen")]}),
        json!({"conversations": [{"from": "human", "value": "kat?"}, {"from": "gpt", "value": "de trap"}]}),
        json!({"instruction": "de kat", "input": "trap", "output": "krabt"}),
        json!({"prompt": "de kat", "chosen": "krabt de trap", "rejected": "trap"}),
        json!({"chosen": chosen, "rejected": [said("user", "kat?"), said("assistant", "trap")]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "kat?"}]}, said("assistant", "trap")]}),
    ];
    let tables = [
        "prompt,completion\nde kat,\"krabt \"\"de\"\"\ntrap\"\nkat,trap\n",
        "instruction\tinput\toutput\nde kat\t\tkrabt\n",
        "completion;prompt\r\nkrabt;\"de kat\"\r\n",
    ];
    let more = others
        .map(|line| format!("{line}\n").repeat(2))
        .into_iter()
        .chain(tables.map(str::to_owned));
    let mut seeds: Vec<Vec<u8>> = more.map(String::into_bytes).collect();
    seeds.extend([
        one_each.clone().into_bytes(),
        one_each.repeat(5).into_bytes(),
        windows.into_bytes(),
    ]);
    seeds
}

/// Writes the files that the manifest lists into a folder.
pub(crate) fn fill_manifest_folder(folder: &Path) {
    fs::create_dir_all(folder.join("model")).expect("a folder to write to");
    fs::write(folder.join("model/weights.bin"), [1, 2, 3]).expect("a folder to write to");
    fs::write(folder.join("state.json"), b"{}").expect("a folder to write to");
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let folder = scratch::folder("manifest-seed");
    fill_manifest_folder(&folder);
    Manifest::write(&folder, json!({"step": 10, "recipe_blake3": "ab"})).expect("a folder to write to");
    vec![fs::read(folder.join(MANIFEST_NAME)).expect("a manifest that was just written")]
}

/// The manifest with its correct hash.
pub(crate) fn with_right_manifest_hash(bytes: &[u8]) -> Option<Vec<u8>> {
    const START: &str = ",\n  \"blake3\": \"";
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, _) = text.rsplit_once(START)?;
    let hash = blake3_hex(body.as_bytes());
    Some(format!("{body}{START}{hash}\"\n}}\n").into_bytes())
}

pub(crate) fn train_states() -> Vec<Vec<u8>> {
    let state = TrainState {
        step: 100,
        tokens: 76_800,
        val_loss: Some(1.5),
        best_step: Some(50),
        ..TrainState::default()
    };
    [
        serde_json::to_vec_pretty(&state),
        serde_json::to_vec(&TrainState::default()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn paths() -> Vec<Vec<u8>> {
    [
        "model/config.json",
        "train-00000.shard",
        "a/b/c",
        "é/ü.x",
        ".hidden/..a",
        "a b/c",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
