//! Malicious files, and texts that make tokenizers slow.

use serde_json::{Value, json};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig, Unknown};

use super::opening::{detail_of, file};
use crate::{CORPUS, train};

/// A WordPiece file with a change.
fn word_piece(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    file(|file| {
        file["model"] = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##a": 2}});
        change(file);
    })
}

#[track_caller]
fn assert_refused(bytes: &[u8], words: &[&str]) {
    let detail = detail_of(bytes);
    assert!(
        words.iter().all(|word| detail.contains(word)),
        "{detail} lacks one of {words:?}"
    );
    assert!(detail.len() < 1000, "{detail}");
}

/// Uses a tokenizer in every way; any result is fine, but it must return.
fn exercise(tokenizer: &Tokenizer) {
    for text in ["", "ab a", "<s>é\u{301} 🦜", &"a".repeat(2000), &" a".repeat(2000)] {
        for ids in [tokenizer.encode(text), tokenizer.encode_with_special(text)]
            .into_iter()
            .flatten()
        {
            assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
            let _ = tokenizer.decode(&ids);
        }
    }
    let all: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
    let _ = tokenizer.decode(&all);
}

#[test]
fn r16_files_that_panic_elsewhere_are_refused_when_they_are_opened() {
    assert_refused(
        &file(|file| file["model"]["merges"] = json!([["a", "b"], ["ab", "b"]])),
        &["model.merges[1]", "\"abb\"", "not in the vocabulary"],
    );
    assert_refused(
        &file(|file| file["model"] = json!({"type": "Unigram", "unk_id": 1, "vocab": [["a", 0.0]]})),
        &["model.unk_id"],
    );
    assert_refused(
        &file(|file| file["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": []})),
        &["model.vocab", "empty"],
    );
    assert_refused(
        &file(|file| file["added_tokens"][0]["id"] = json!(1_u64 << 40)),
        &["added_tokens[0]", "id"],
    );
    assert_refused(
        &file(|file| file["post_processor"] = template(&[99])),
        &["post_processor.special_tokens.<s>.ids", "99"],
    );
    assert_refused(
        &file(|file| {
            file["post_processor"] =
                json!({"type": "BertProcessing", "sep": ["<s>", 3], "cls": ["<s>", 4_000_000_000_u32]})
        }),
        &["post_processor.cls", "4000000000"],
    );
    assert_refused(
        &file(|file| file["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})),
        &["pre_tokenizer.length", "at least 1"],
    );
    assert_refused(
        &word_piece(|file| {
            file["model"]["max_input_chars_per_word"] = json!(1_u64 << 60);
            file["added_tokens"] = json!([]);
        }),
        &["max_input_chars_per_word", "1000"],
    );
}

/// A template with the text between two special tokens with the given ids.
fn template(ids: &[u32]) -> Value {
    let tokens = vec!["<s>"; ids.len()];
    json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": ids, "tokens": tokens}}})
}

#[test]
fn r16_a_table_of_characters_may_not_claim_too_much_memory() {
    // Four bytes that claim a trie of 4 GB; found by the fuzzer, which crashed.
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "Sequence"})),
        &[
            "normalizer.precompiled_charsmap",
            "claims a trie of 2058283593 bytes",
            "2 follow",
        ],
    );
    // One that replaces each character by ten thousand.
    let replacements = "a".repeat(10_000).into_bytes();
    let table = [&[8, 0, 0, 0], &[0; 8][..], &replacements, &[0]].concat();
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": base64(&table)})),
        &["normalizer", "64 times longer"],
    );
}

#[test]
fn report_34_a_damaged_table_of_characters_is_refused_before_the_library_panics() {
    let table = [&[4, 0, 0, 0], &[0; 4][..], b"a\0\xff\0"].concat();
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": base64(&table)})),
        &["normalizer.precompiled_charsmap", "not UTF-8 from byte 2"],
    );
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, index| bits << 8 | u32::from(*group.get(index).unwrap_or(&0)));
        let digit = |index: usize| match index <= group.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]),
            false => '=',
        };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn r16_odd_files_open_or_are_refused_and_never_panic() {
    let normalizer = |value: Value| file(|file| file["normalizer"] = value);
    let decoder = |value: Value| file(|file| file["decoder"] = value);
    let odd = [
        file(|_| {}),
        file(|file| file["post_processor"] = template(&[3, 0])),
        file(|file| file["model"]["unk_token"] = json!("not there")),
        file(|file| file["model"]["byte_fallback"] = json!(true)),
        file(|file| file["model"]["dropout"] = json!(-7.5)),
        file(|file| file["model"]["end_of_word_suffix"] = json!("</w>")),
        file(|file| file["padding"] = json!({"strategy": {"Fixed": 1_u64 << 60}})),
        file(|file| file["truncation"] = json!({"max_length": 0, "stride": 1_u64 << 60})),
        file(|file| {
            file["pre_tokenizer"] =
                json!({"type": "Metaspace", "replacement": "\u{10ffff}", "prepend_scheme": "always"})
        }),
        file(|file| file["pre_tokenizer"] = json!({"type": "FixedLength", "length": u64::MAX})),
        file(|file| file["version"] = json!("9.9")),
        file(|file| file["model"]["type"] = json!("Morse")),
        word_piece(|file| file["added_tokens"] = json!([])),
        word_piece(|file| {
            file["added_tokens"] = json!([]);
            file["model"]["max_input_chars_per_word"] = json!(0);
        }),
        word_piece(|file| {
            file["added_tokens"] = json!([]);
            file["model"]["unk_token"] = json!("gone");
        }),
        normalizer(json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhYQA="})),
        normalizer(json!({"type": "Precompiled", "precompiled_charsmap": ""})),
        normalizer(json!({"type": "Precompiled", "precompiled_charsmap": "AAA="})),
        normalizer(json!({"type": "Precompiled", "precompiled_charsmap": "/////////w=="})),
        // A trie of one node whose transitions lead far past its end.
        normalizer(json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAP///38AAAAA"})),
        normalizer(json!({"type": "Prepend", "prepend": "▁"})),
        normalizer(json!({"type": "Replace", "pattern": {"String": ""}, "content": "b"})),
        normalizer(json!({"type": "Replace", "pattern": {"Regex": "(?:)"}, "content": ""})),
        decoder(json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": false})),
        decoder(json!({"type": "ByteFallback"})),
        decoder(json!({"type": "Strip", "content": "a", "start": u64::MAX, "stop": u64::MAX})),
        decoder(json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "", "cleanup": true})),
        decoder(json!({"type": "BPEDecoder", "suffix": ""})),
        decoder(json!({"type": "WordPiece", "prefix": "é", "cleanup": true})),
    ];
    let mut opened = 0;
    for bytes in odd {
        if let Ok(tokenizer) = Tokenizer::from_json(&bytes) {
            exercise(&tokenizer);
            opened += 1;
        }
    }
    assert!(opened > 10, "{opened}");
}

#[test]
fn r16_patterns_that_may_take_exponential_time_are_refused() {
    let evil = "(x+x+)+(?!y)";
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    assert_refused(
        &file(|file| file["pre_tokenizer"] = split(evil)),
        &["pre_tokenizer.pattern.Regex", "linear"],
    );
    assert_refused(
        &file(|file| file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split("a"), split(evil)]})),
        &["pre_tokenizer.pretokenizers[1].pattern.Regex"],
    );
    for part in ["normalizer", "decoder"] {
        assert_refused(
            &file(|file| file[part] = json!({"type": "Replace", "pattern": {"Regex": evil}, "content": ""})),
            &[part, "pattern.Regex"],
        );
    }
    for large in [
        "a".repeat(5000),
        r"\p{L}{1000}".to_owned(),
        "((a{1000}){1000}){1000}".to_owned(),
    ] {
        assert_refused(
            &file(|file| file["pre_tokenizer"] = split(&large)),
            &["pre_tokenizer.pattern.Regex"],
        );
    }
    let gpt4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    exercise(&Tokenizer::from_json(&file(|file| file["pre_tokenizer"] = split(gpt4))).unwrap());
}

#[test]
fn r16_a_pipeline_may_not_inflate_a_text() {
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let doubling: Vec<Value> = (0..40).map(|_| replace("a", "aa")).collect();
    for part in [("normalizer", "normalizers"), ("decoder", "decoders")] {
        assert_refused(
            &file(|file| file[part.0] = json!({"type": "Sequence", part.1: doubling})),
            &[part.0, "64 times longer"],
        );
        assert_refused(
            &file(|file| file[part.0] = replace("a", &"b".repeat(200))),
            &[part.0, "64 times longer"],
        );
        assert_refused(
            &file(|file| file[part.0] = replace("a", &"b".repeat(100_000))),
            &["content", "at most 256"],
        );
    }
    let bytes_of_bytes: Vec<Value> = (0..30).map(|_| json!({"type": "ByteLevel"})).collect();
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Sequence", "normalizers": bytes_of_bytes})),
        &["64 times longer"],
    );
    let long: Vec<Value> = (0..100).map(|_| json!({"type": "Lowercase"})).collect();
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Sequence", "normalizers": long})),
        &["normalizer", "64 steps"],
    );
    assert_refused(
        &file(|file| file["normalizer"] = json!({"type": "Prepend", "prepend": "x".repeat(1000)})),
        &["normalizer.prepend", "at most 256"],
    );
    assert_refused(
        &file(|file| file["post_processor"] = template(&[3; 1000])),
        &["post_processor.special_tokens.<s>.ids", "at most 64"],
    );
    assert_refused(
        &file(|file| {
            file["post_processor"] = template(&[3]);
            let piece = file["post_processor"]["single"][0].clone();
            file["post_processor"]["single"] = vec![piece; 1000].into();
        }),
        &["post_processor.single", "at most 64"],
    );
}

/// Texts for which other tokenizers are known to be slow or to panic.
fn pathological(bytes: usize) -> Vec<(&'static str, String)> {
    let mut state = 1_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(bytes)
    .collect();
    vec![
        ("one byte", "a".repeat(bytes)),
        ("carets", "^".repeat(bytes)),
        ("spaces", " ".repeat(bytes)),
        ("spaces before a word", format!("{}a", " ".repeat(bytes))),
        ("line ends", "\n".repeat(bytes)),
        ("combining marks", format!("e{}", "\u{301}".repeat(bytes / 2))),
        ("alternating", "a ".repeat(bytes / 2)),
        ("digits", "7".repeat(bytes)),
        ("random bytes", String::from_utf8_lossy(&random).into_owned()),
    ]
}

#[test]
fn r17_pathological_texts_are_restored_exactly() {
    for kind in [Kind::Bpe, Kind::Unigram] {
        let tokenizer = train(kind, 500);
        for (name, text) in pathological(256 << 10) {
            let ids = tokenizer.encode(&text).unwrap();
            assert!(tokenizer.decode(&ids).unwrap() == text, "{kind}: {name}");
        }
    }
}

#[test]
fn r17_pathological_texts_are_encoded_by_every_kind() {
    for kind in [Kind::WordPiece, Kind::Char, Kind::Word] {
        let mut config = TrainerConfig::new(kind, 500);
        config.unknown = Unknown::Token;
        let tokenizer = config.train([CORPUS]).unwrap();
        for (name, text) in pathological(64 << 10) {
            let ids = tokenizer.encode(&text).unwrap();
            assert!(!ids.is_empty() || text.trim().is_empty(), "{kind}: {name}");
        }
    }
}
