//! Reports about tokenizer files: GPT-2's two files and their classes, `vocab.txt` with a line twice, damaged tables of characters, files that are
//! something else.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use taal_store::ErrorKind;
use taal_tokenizer::{Error, ImportOptions, Tokenizer};

/// A byte as GPT-2's vocabulary spells it.
fn spelled(byte: u8) -> String {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = match is_printable(byte) {
        true => u32::from(byte),
        false => 256 + (0..byte).filter(|&other| !is_printable(other)).count() as u32,
    };
    char::from_u32(code).unwrap().to_string()
}

/// `vocab.json` and `merges.txt` of 256 bytes, `12`, `'S`, `Ġa`, and then five special tokens.
fn two_files(folder: &Path) {
    let mut vocab: Vec<String> = (0..=255).map(spelled).collect();
    vocab.extend(["12", "'S", "Ġa", "<|endoftext|>", "<s>", "</s>", "<mask>", "<x>"].map(str::to_owned));
    let vocab: serde_json::Map<String, Value> = vocab.into_iter().zip((0..).map(|id: u32| id.into())).collect();
    fs::write(folder.join("vocab.json"), Value::Object(vocab).to_string()).unwrap();
    fs::write(folder.join("merges.txt"), "#version: 0.2\n1 2\n' S\nĠ a\n").unwrap();
}

const TWELVE: u32 = 256;
const S: u32 = 257;
const SPACE_A: u32 = 258;
const END_OF_TEXT: u32 = 259;
const BEGIN: u32 = 260;
const END: u32 = 261;
const MASK: u32 = 262;
const X: u32 = 263;

/// Imports the two files with these next to them.
fn with_files(files: &[(&str, Value)]) -> Result<Tokenizer, Error> {
    let place = tempfile::tempdir().unwrap();
    two_files(place.path());
    for (name, value) in files {
        fs::write(place.path().join(name), value.to_string()).unwrap();
    }
    Tokenizer::import(place.path(), &ImportOptions::default())
}

fn with_class(class: &str, more: Value) -> Result<Tokenizer, Error> {
    let mut config = json!({"tokenizer_class": class});
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    with_files(&[("tokenizer_config.json", config)])
}

fn framed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode_with_special(text).unwrap()
}

const A: u32 = b'a' as u32;

#[test]
fn report_11_only_the_classes_of_roberta_put_tokens_around_a_text() {
    for class in [
        "GPT2Tokenizer",
        "Qwen2TokenizerFast",
        "CodeGenTokenizer",
        "GPTNeoXTokenizer",
    ] {
        let tokenizer = with_class(class, json!({})).unwrap();
        assert_eq!(framed(&tokenizer, "a"), [A], "{class}");
        // Other names are text.
        assert_eq!(tokenizer.encode("<s>").unwrap().len(), 3, "{class}");
    }
    for class in [
        "RobertaTokenizer",
        "BartTokenizerFast",
        "LongformerTokenizer",
        "LEDTokenizer",
        "MvpTokenizer",
    ] {
        let tokenizer = with_class(class, json!({})).unwrap();
        assert_eq!(framed(&tokenizer, "a"), [BEGIN, A, END], "{class}");
        assert_eq!(tokenizer.encode("<mask>").unwrap(), [MASK], "{class}");
    }
    let other = with_class(
        "RobertaTokenizer",
        json!({"cls_token": "<x>", "sep_token": {"content": "<mask>"}}),
    )
    .unwrap();
    assert_eq!(framed(&other, "a"), [X, A, MASK]);
}

#[test]
fn report_11_config_json_decides_where_no_class_does() {
    let with_model = |class: Option<&str>, model: &str| {
        let mut files = vec![("config.json", json!({"model_type": model}))];
        files.extend(class.map(|class| ("tokenizer_config.json", json!({"tokenizer_class": class}))));
        with_files(&files)
    };
    let numbers = |tokenizer: Result<Tokenizer, Error>| tokenizer.unwrap().encode("12").unwrap();
    let (together, apart) = ([TWELVE], [u32::from(b'1'), u32::from(b'2')]);
    for model in [
        "gpt2",
        "phi",
        "opt",
        "codegen",
        "starcoder2",
        "gpt_neox",
        "roberta",
        "bart",
    ] {
        assert_eq!(numbers(with_model(None, model)), together, "{model}");
    }
    for model in ["qwen2", "qwen3", "qwen2_moe", "qwen3_moe"] {
        assert_eq!(numbers(with_model(None, model)), apart, "{model}");
        assert_eq!(
            numbers(with_model(Some("PreTrainedTokenizerFast"), model)),
            apart,
            "{model}"
        );
    }
    // As in transformers: a specific class takes precedence over the model type, except for qwen2, whose files often name another
    // one.
    assert_eq!(numbers(with_model(Some("GPT2Tokenizer"), "qwen3")), together);
    assert_eq!(numbers(with_model(Some("GPT2Tokenizer"), "qwen2")), apart);
    assert_eq!(numbers(with_model(Some("Qwen2Tokenizer"), "gpt2")), apart);
    let config = json!({"model_type": "gpt2", "tokenizer_class": "Qwen2Tokenizer"});
    assert_eq!(numbers(with_files(&[("config.json", config)])), apart);
    let normalized = with_model(None, "gpt_neox").unwrap();
    assert_eq!(
        normalized.encode("e\u{301}").unwrap(),
        normalized.encode("\u{e9}").unwrap()
    );
    assert_eq!(framed(&with_model(None, "roberta").unwrap(), "a"), [BEGIN, A, END]);
    assert_eq!(framed(&with_model(None, "gpt2").unwrap(), "a"), [A]);
}

#[test]
fn report_11_unknown_classes_are_refused_by_name() {
    let said = |tokenizer: Result<Tokenizer, Error>| {
        let error = tokenizer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.to_string()
    };
    for class in ["PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"] {
        let error = said(with_class(class, json!({})));
        assert!(
            error.contains(class) && error.contains("config.json") && error.contains("save_pretrained"),
            "{error}"
        );
    }
    let error = said(with_files(&[("config.json", json!({"model_type": "llama"}))]));
    assert!(error.contains("\"llama\"") && error.contains("pattern"), "{error}");
    let long = "x".repeat(4000);
    for error in [
        said(with_class(&long, json!({}))),
        said(with_files(&[("config.json", json!({"model_type": long}))])),
    ] {
        assert!(error.len() < 700 && !error.contains(&"x".repeat(81)), "{error}");
    }
    // A pattern decides how words are split.
    let place = tempfile::tempdir().unwrap();
    two_files(place.path());
    fs::write(place.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let options = ImportOptions {
        pattern: Some("gpt2".to_owned()),
    };
    let tokenizer = Tokenizer::import(place.path(), &options).unwrap();
    assert_eq!(tokenizer.encode("12").unwrap(), [TWELVE]);
}

#[test]
fn report_11_a_text_begins_with_a_space_if_the_files_say_so() {
    for class in [
        "GPT2Tokenizer",
        "CodeGenTokenizer",
        "GPTNeoXTokenizer",
        "Qwen2Tokenizer",
        "RobertaTokenizer",
    ] {
        let tokenizer = with_class(class, json!({"add_prefix_space": true})).unwrap();
        assert_eq!(tokenizer.encode("a").unwrap(), [SPACE_A], "{class}");
        assert_eq!(tokenizer.encode(" a").unwrap(), [SPACE_A], "{class}");
        for off in [json!({"add_prefix_space": false}), json!({"add_prefix_space": null})] {
            assert_eq!(with_class(class, off).unwrap().encode("a").unwrap(), [A], "{class}");
        }
    }
}

#[test]
fn report_11_tokens_around_a_text_equal_those_of_transformers() {
    let both = json!({"add_bos_token": true, "add_eos_token": true});
    let named =
        json!({"add_bos_token": true, "add_eos_token": true, "bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let none = json!({"add_bos_token": true, "bos_token": null});
    let cases: [(&str, &Value, &[u32]); 11] = [
        ("GPT2Tokenizer", &json!({"add_bos_token": true}), &[END_OF_TEXT, A]),
        ("GPT2Tokenizer", &json!({"add_eos_token": true}), &[A, END_OF_TEXT]),
        ("GPT2Tokenizer", &json!({"add_bos_token": false}), &[A]),
        ("GPT2Tokenizer", &both, &[END_OF_TEXT, A, END_OF_TEXT]),
        ("GPT2Tokenizer", &named, &[BEGIN, A, END]),
        ("GPT2Tokenizer", &none, &[A]),
        // Qwen2 has no token that begins a text, unless one is named.
        ("Qwen2Tokenizer", &both, &[A, END_OF_TEXT]),
        ("Qwen2Tokenizer", &named, &[BEGIN, A, END]),
        ("GPTNeoXTokenizer", &named, &[BEGIN, A, END]),
        ("CodeGenTokenizer", &both, &[END_OF_TEXT, A, END_OF_TEXT]),
        // RoBERTa has its own frame.
        (
            "RobertaTokenizer",
            &json!({"add_bos_token": false, "add_eos_token": true}),
            &[BEGIN, A, END],
        ),
    ];
    for (class, more, expected) in cases {
        assert_eq!(
            framed(&with_class(class, more.clone()).unwrap(), "a"),
            expected,
            "{class} {more}"
        );
    }
    let config = (
        "tokenizer_config.json",
        json!({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true, "bos_token": "</s>"}),
    );
    let map = ("special_tokens_map.json", json!({"bos_token": "<s>"}));
    assert_eq!(framed(&with_files(&[config, map]).unwrap(), "a"), [BEGIN, A]);
    let error = with_class("GPT2Tokenizer", json!({"add_bos_token": true, "bos_token": "<gone>"})).unwrap_err();
    assert!(error.to_string().contains("<gone>"), "{error}");
}

#[test]
fn report_11_words_are_split_by_the_class() {
    let [gpt2, qwen2] = ["GPT2Tokenizer", "Qwen2Tokenizer"].map(|class| with_class(class, json!({})).unwrap());
    assert_eq!(qwen2.encode("a'S").unwrap(), [A, S]);
    assert_eq!(gpt2.encode("a'S").unwrap(), [A, u32::from(b'\''), u32::from(b'S')]);
}

#[test]
fn report_13_of_equal_lines_in_vocab_txt_the_last_is_used() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("vocab.txt");
    fs::write(
        &path,
        "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\neen\nzin\n##zin\nzin\n[UNK]\n",
    )
    .unwrap();
    let tokenizer = Tokenizer::import(&path, &ImportOptions::default()).unwrap();
    assert_eq!(tokenizer.encode("een zin zinzin rest").unwrap(), [5, 8, 8, 7, 9]);
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(tokenizer.token_to_id("zin"), Some(8));
    assert_eq!(tokenizer.unk_id(), Some(9));
    // The id of the first one remains, but no text gives it.
    let hole = tokenizer.decode(&[6]).unwrap();
    assert_eq!(hole, "<|no token 6|>");
    assert!(!tokenizer.encode(&hole).unwrap().contains(&6));
    assert_eq!(tokenizer.decode(&[5, 8, 7]).unwrap(), "een zinzin");
    let three = "[UNK]\n##a\nb\nb\nb\n";
    fs::write(&path, three).unwrap();
    let tokenizer = Tokenizer::import(&path, &ImportOptions::default()).unwrap();
    assert_eq!(tokenizer.encode("b").unwrap(), [4]);
}

/// A table in which `a` becomes `b` and `é` becomes `e`, in SentencePiece's layout.
fn table() -> Vec<u32> {
    let node = |label: u32, is_leaf: bool, offset: u32| label | u32::from(is_leaf) << 8 | offset << 10;
    let mut units = vec![0; 1536];
    units[0] = node(0, false, 256);
    units[256 ^ 0x61] = node(0x61, true, 256 ^ 0x61 ^ 512);
    units[512] = 1 << 31;
    units[256 ^ 0xc3] = node(0xc3, false, 256 ^ 0xc3 ^ 1024);
    units[1024 ^ 0xa9] = node(0xa9, true, 1024 ^ 0xa9 ^ 1280);
    units[1280] = 1 << 31 | 2;
    units
}

fn with_table(units: &[u32]) -> Result<Tokenizer, Error> {
    let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let table = [&(trie.len() as u32).to_le_bytes()[..], &trie, b"b\0e\0"].concat();
    let vocab = json!([["<unk>", 0.0], ["a", -1.0], ["b", -1.0], ["e", -1.0]]);
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "pre_tokenizer": null,
        "post_processor": null, "decoder": null,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": super::hostile::base64(&table)},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false},
    });
    Tokenizer::from_json(file.to_string().as_bytes())
}

#[test]
fn report_34_mutated_tries_are_refused_or_encode_every_text() {
    let whole = table();
    assert_eq!(with_table(&whole).unwrap().encode("aéb").unwrap(), [2, 3, 2]);
    // All first bytes of characters, and each of them after a character in the table.
    let characters = (1..0x3000)
        .chain((0x10000..0x10ffff).step_by(0x1000))
        .filter_map(char::from_u32);
    let text: String = characters.flat_map(|character| ['a', character, 'é']).collect();
    let used: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] != 0).collect();
    let (mut state, mut refused) = (1_u64, 0);
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for round in 0..1000 {
        let mut units = whole.clone();
        for _ in 0..=random(3) {
            let at = if random(4) == 0 {
                random(units.len())
            } else {
                used[random(used.len())]
            };
            units[at] ^= 1 << random(32);
        }
        if random(4) == 0 {
            units.truncate(random(units.len()) + 1);
        }
        match with_table(&units) {
            Ok(tokenizer) => drop(
                tokenizer
                    .encode(&text)
                    .unwrap_or_else(|error| panic!("round {round}: {error}")),
            ),
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("normalizer.precompiled_charsmap"), "{error}");
            }
        }
    }
    assert!((200..900).contains(&refused), "{refused} of 1000 are refused");
}

#[test]
fn report_34_a_damaged_trie_is_refused_with_the_name_of_its_file() {
    let mut units = table();
    units[256 ^ 0x61] |= 1 << 30;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("own.json");
    let good = with_table(&table()).unwrap().to_json();
    let encoded = |units: &[u32]| {
        let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        super::hostile::base64(&[&(trie.len() as u32).to_le_bytes()[..], &trie, b"b\0e\0"].concat())
    };
    let damaged = String::from_utf8(good)
        .unwrap()
        .replace(&encoded(&table()), &encoded(&units));
    fs::write(&path, damaged).unwrap();
    let error = Tokenizer::open(&path).unwrap_err().to_string();
    assert!(
        error.contains("own.json") && error.contains("trie leads to node"),
        "{error}"
    );
}

#[test]
fn report_13_each_file_of_a_tokenizer_that_is_a_pointer_or_a_page_is_named_as_such() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 500000\n";
    let page = "<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n";
    for (text, word) in [(pointer, "git-lfs pointer"), (page, "HTML")] {
        for name in [
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "added_tokens.json",
            "config.json",
        ] {
            let place = tempfile::tempdir().unwrap();
            two_files(place.path());
            fs::write(place.path().join(name), text).unwrap();
            let error = Tokenizer::import(place.path(), &ImportOptions::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(name) && error.contains(word), "{error}");
        }
        for name in [
            "tokenizer.json",
            "tokenizer.model",
            "vocab.txt",
            "tokenizer.bin",
            "x.tiktoken",
            "spiece.model",
        ] {
            let place = tempfile::tempdir().unwrap();
            fs::write(place.path().join(name), text).unwrap();
            for path in [place.path().to_path_buf(), place.path().join(name)] {
                let error = Tokenizer::import(&path, &ImportOptions::default())
                    .unwrap_err()
                    .to_string();
                assert!(error.contains(name) && error.contains(word), "{error}");
            }
        }
    }
}

#[test]
fn report_32_an_error_repeats_at_most_80_characters_of_a_file() {
    let long = "x".repeat(4000);
    let place = tempfile::tempdir().unwrap();
    let base = |vocab: Value, merges: Value, added: Value| {
        json!({"version": "1.0", "added_tokens": added, "normalizer": null, "pre_tokenizer": null, "post_processor": null,
            "decoder": null, "model": {"type": "BPE", "vocab": vocab, "merges": merges}})
    };
    let files = [
        base(json!({long.as_str(): -1}), json!([]), json!([])),
        base(json!({long.as_str(): 7}), json!([]), json!([])),
        base(json!({"a": 0}), json!([["a", long]]), json!([])),
        base(
            json!({"a": 0, long.as_str(): 1}),
            json!([]),
            json!([{"id": 3, "content": long}]),
        ),
        json!({"version": "1.0", "added_tokens": [], "model": {"type": long, "vocab": {"a": 0}}}),
        json!({"version": "1.0", "added_tokens": [], "normalizer": {"type": long}, "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}),
        json!({"version": long, "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}),
    ];
    for file in files {
        if let Err(error) = Tokenizer::from_json(file.to_string().as_bytes()) {
            let error = error.to_string();
            assert!(!error.contains(&"x".repeat(81)), "{error}");
        }
    }
    two_files(place.path());
    fs::write(place.path().join("merges.txt"), format!("a {long}\n")).unwrap();
    let error = Tokenizer::import(place.path(), &ImportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 1") && !error.contains(&"x".repeat(81)), "{error}");
}
