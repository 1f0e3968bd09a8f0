//! The pre-tokenizers that a GGUF file names (report 13).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_exchange::gguf::{self, TokenKind, Vocabulary};
use taal_exchange::{Target, export_model, import_model};
use taal_inference::LanguageModel;
use taal_model::{TransformerConfig, WeightFormat};
use taal_tokenizer::Tokenizer;

use crate::scripted::spelled;
use crate::size;
use crate::tiny;

/// A text that the pre-tokenizers split differently: a contraction, a change of case, signs, line ends, spaces, digits, a
/// fraction, Han next to Latin.
const TEXT: &str = "I'M aB$.x/\n\n  `1234½ 中文é";

/// The words of the published `tokenizer.json` files' pre-tokenizers, from the Python package `tokenizers`. falcon's has a step
/// that llama.cpp leaves out, which shows only with digits after a space.
const CASES: [(&[&str], &[&str]); 12] = [
    (
        &["gpt-2", "phi-2", "olmo", "mpt", "jais", "trillion", "exaone4"],
        &["I", "'", "M", " aB", "$.", "x", "/", "\n\n ", " `", "1234½", " 中文é"],
    ),
    (
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "pixtral",
            "lfm2",
            "dbrx",
            "smaug-bpe",
            "glm4",
            "chatglm-bpe",
        ],
        &["I", "'M", " aB", "$.", "x", "/\n\n", " ", " `", "123", "4½", " 中文é"],
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "grok-2"],
        &[
            "I",
            "'M",
            " aB",
            "$.",
            "x",
            "/\n\n",
            " ",
            " `",
            "1",
            "2",
            "3",
            "4",
            "½",
            " 中文é",
        ],
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        &[
            "I",
            "'",
            "M",
            " aB",
            "$.",
            "x",
            "/",
            "\n\n ",
            " `",
            "1",
            "2",
            "3",
            "4",
            "½",
            " 中文é",
        ],
    ),
    (
        &["tekken"],
        &[
            "I",
            "'M",
            " a",
            "B",
            "$.",
            "x",
            "/\n\n",
            " ",
            " `",
            "1",
            "2",
            "3",
            "4",
            "½",
            " 中文é",
        ],
    ),
    (
        &["gpt-4o", "llama4"],
        &["I'M", " a", "B", "$.", "x", "/\n\n", " ", " `", "123", "4½", " 中文é"],
    ),
    (
        &["default"],
        &[
            "I",
            "'",
            "M",
            " aB",
            "$.",
            "x",
            "/",
            "\n\n ",
            " `",
            "123",
            "4½",
            " 中文é",
        ],
    ),
    (
        &["falcon"],
        &[
            "I",
            "'",
            "M",
            " aB",
            "$.",
            "x",
            "/",
            "\n\n  ",
            "`",
            "123",
            "4½",
            " 中文é",
        ],
    ),
    (
        &["deepseek-llm"],
        &[
            "I", "'", "M", " aB", "$.", "x", "/", "\n", "\n", " ", " `", "1234½", " ", "中文", "é",
        ],
    ),
    (
        &["deepseek-coder"],
        &[
            "I", "'", "M", " aB", "$", ".", "x", "/", "\n", "\n", "  `", "1", "2", "3", "4", "½", " ", "中文", "é",
        ],
    ),
    (
        &["deepseek-v3", "hunyuan-dense"],
        &[
            "I", "'M", " aB", "$.", "x", "/\n\n", " ", " `", "123", "4½", " ", "中文", "é",
        ],
    ),
    (
        &["bloom", "poro-chat"],
        &["I'M", " aB$", ".", "x/", "\n\n ", " `1234½", " 中文é"],
    ),
];

fn spell(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| spelled(byte)).collect()
}

/// A vocabulary that merges every part of the text, so that a token is a word.
fn vocabulary(pre: &str) -> Vocabulary {
    let bytes = TEXT.as_bytes();
    let mut parts = BTreeSet::new();
    let mut merges = BTreeSet::new();
    for start in 0..bytes.len() {
        for end in start + 2..=bytes.len() {
            parts.insert(spell(&bytes[start..end]));
            merges.extend((start + 1..end).map(|cut| {
                let [first, second] = [&bytes[start..cut], &bytes[cut..end]].map(spell);
                format!("{first} {second}")
            }));
        }
    }
    let mut tokens: Vec<String> = (0..=255).map(spelled).collect();
    tokens.extend(parts);
    tokens.push("<s>".to_owned());
    let bos_id = tokens.len() as u32 - 1;
    let mut kinds = vec![TokenKind::Normal; tokens.len()];
    kinds[bos_id as usize] = TokenKind::Control;
    Vocabulary {
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        tokens,
        kinds: Some(kinds),
        merges: Some(merges.into_iter().collect()),
        bos_id: Some(bos_id),
        eos_id: Some(bos_id),
        ..Vocabulary::default()
    }
}

fn file(pre: &str, folder: &Path) -> PathBuf {
    let vocabulary = vocabulary(pre);
    let config = TransformerConfig::llama(size(vocabulary.tokens.len(), 32, 1, 1, 8));
    let path = folder.join(format!("{pre}.gguf"));
    let model = tiny::model(&config, 1);
    gguf::save(&model, Some(&vocabulary), Some(WeightFormat::F32), "name", &path).expect("a file");
    path
}

fn imported(file: &Path, out: &Path) -> Tokenizer {
    import_model(file, None, out, &Device::flex()).expect("an import");
    let lm = LanguageModel::open(out, &Device::flex()).expect("a model");
    lm.tokenizer.expect("a tokenizer")
}

fn words(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text).expect("ids");
    ids.iter().map(|&id| tokenizer.decode(&[id]).expect("a text")).collect()
}

#[test]
fn report_13_words_are_split_by_llama_cpps_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (names, expected) in CASES {
        for name in names {
            let tokenizer = imported(&file(name, folder.path()), &folder.path().join(name));
            assert_eq!(words(&tokenizer, TEXT), expected, "{name}");
        }
    }
}

#[test]
fn report_13_without_a_key_the_name_decides_how_a_text_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, begins) in [("llama3", true), ("tekken", true), ("dbrx", false), ("smollm", false)] {
        let tokenizer = imported(&file(name, folder.path()), &folder.path().join(name));
        let ids = tokenizer.encode_with_special("x").expect("ids");
        assert_eq!(ids.len(), 1 + usize::from(begins), "{name}");
    }
}

#[test]
fn report_13_a_pre_tokenizer_is_written_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for (names, _) in CASES {
        let name = names[0];
        let dir = folder.path().join(name);
        imported(&file(name, folder.path()), &dir);
        let out = folder.path().join(format!("{name}-again.gguf"));
        export_model(&dir, Target::Gguf, Some(WeightFormat::F32), &out, &Device::flex()).expect("an export");
        let contents = gguf::open(&out, &Device::flex()).expect("a file");
        assert_eq!(contents.vocabulary.and_then(|v| v.pre).as_deref(), Some(name));
    }
}
