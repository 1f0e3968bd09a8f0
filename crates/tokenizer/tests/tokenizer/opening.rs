//! Files of other programs and damaged files.

use serde_json::{Value, json};
use taal_store::ErrorKind;

use crate::{Error, Kind, Tokenizer, golden, train};

/// A tiny BPE file in the layout of other programs, with a change.
pub fn file(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    });
    change(&mut file);
    serde_json::to_vec(&file).unwrap()
}

pub fn detail_of(bytes: &[u8]) -> String {
    match Tokenizer::from_json(bytes) {
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("accepted: {}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn a_saved_tokenizer_opens_as_the_same_bytes_and_the_same_hash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    for kind in Kind::ALL {
        let trained = train(kind, 400);
        trained.save(&path).unwrap();
        let opened = Tokenizer::open(&path).unwrap();
        assert_eq!(opened.to_json(), trained.to_json());
        assert_eq!(opened.hash(), trained.hash());
        assert_eq!(opened.hash(), taal_store::blake3_hex(&std::fs::read(&path).unwrap()));
        assert_eq!(opened.vocab_size(), trained.vocab_size());
    }
}

#[test]
fn a_small_file_of_another_program_opens_with_its_added_tokens() {
    let tokenizer = Tokenizer::from_json(&file(|_| {})).unwrap();
    assert_eq!(tokenizer.vocab_size(), 4);
    assert_eq!(tokenizer.bos_id(), Some(3));
    assert_eq!(tokenizer.encode("<s>abb").unwrap(), [3, 2, 1]);
    assert_eq!(tokenizer.id_to_token(3).as_deref(), Some("<s>"));
    let legacy = file(|file| file["model"]["merges"] = json!(["#version: 0.2", "a b"]));
    assert_eq!(Tokenizer::from_json(&legacy).unwrap().encode("ab").unwrap(), [2]);
}

#[test]
fn settings_that_would_drop_or_vary_tokens_are_not_applied() {
    let bytes = file(|file| {
        file["truncation"] = json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
        file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "a"});
        file["model"]["dropout"] = json!(0.9);
    });
    let tokenizer = Tokenizer::from_json(&bytes).unwrap();
    for _ in 0..20 {
        assert_eq!(tokenizer.encode("abab").unwrap(), [2, 2]);
    }
    assert_eq!(tokenizer.to_json(), bytes, "the file itself is unchanged");
}

#[test]
fn truncated_files_are_errors_that_name_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kapot.json");
    let whole = std::fs::read(golden("wordpiece.tokenizer.json")).unwrap();
    for length in (0..whole.len() - 1).step_by(whole.len() / 40) {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = Tokenizer::open(&path).unwrap_err();
        assert!(
            error.to_string().contains("kapot.json") && error.to_string().contains("tokenizer.json"),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    for garbage in [
        &b"\x00\xFF\x13"[..],
        b"{}",
        b"[]",
        b"null",
        b"{\"model\":{}}",
        b"een gewone tekst",
    ] {
        std::fs::write(&path, garbage).unwrap();
        assert!(matches!(Tokenizer::open(&path), Err(Error::Corrupt { .. })));
    }
    assert_eq!(
        Tokenizer::open(&directory.path().join("weg.json")).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn a_file_over_the_limit_is_refused_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groot.json");
    std::fs::File::create(&path).unwrap().set_len(65 << 20).unwrap();
    let error = Tokenizer::open(&path).unwrap_err();
    assert!(
        matches!(error, Error::Store(taal_store::Error::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn crafted_files_are_errors_and_not_panics() {
    let cases: [(&str, Vec<u8>); 14] = [
        (
            "where 1 was expected",
            file(|file| file["model"]["vocab"] = json!({"a": 0, "b": 4_000_000_000_u32, "ab": 2})),
        ),
        (
            "not 0, 1, 2",
            file(|file| file["model"]["vocab"] = json!({"a": 0, "b": 0, "ab": 2})),
        ),
        (
            "whole number",
            file(|file| file["model"]["vocab"] = json!({"a": -1, "b": 1, "ab": 2})),
        ),
        ("empty", file(|file| file["model"]["vocab"] = json!({}))),
        (
            "\"c\" is not in the vocabulary",
            file(|file| file["model"]["merges"] = json!([["a", "c"]])),
        ),
        (
            "\"ba\" is not in the vocabulary",
            file(|file| file["model"]["merges"] = json!([["b", "a"]])),
        ),
        (
            "expected two tokens",
            file(|file| file["model"]["merges"] = json!([["a"]])),
        ),
        (
            "expected two tokens",
            file(|file| file["model"]["merges"] = json!(["a b ab"])),
        ),
        (
            "shorter than the prefix",
            file(|file| file["model"]["continuing_subword_prefix"] = json!("###")),
        ),
        (
            "another id",
            file(|file| file["added_tokens"][0]["content"] = json!("a")),
        ),
        ("not empty", file(|file| file["added_tokens"][0]["content"] = json!(""))),
        (
            "the added tokens are not",
            file(|file| file["added_tokens"][0]["id"] = json!(9)),
        ),
        (
            "finite",
            file(|file| file["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["a"]]})),
        ),
        (
            "unk_id",
            file(|file| file["model"] = json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]})),
        ),
    ];
    for (expected, bytes) in cases {
        let detail = detail_of(&bytes);
        assert!(detail.contains(expected), "{detail} instead of {expected}");
    }
}

#[test]
fn nesting_is_limited() {
    let mut nested = json!({"type": "Lowercase"});
    for _ in 0..40 {
        nested = json!({"type": "Sequence", "normalizers": [nested]});
    }
    let detail = detail_of(&file(|file| file["normalizer"] = nested));
    assert!(detail.contains("nested"), "{detail}");
    let brackets = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    detail_of(&brackets);
}

#[test]
fn stripping_more_than_the_length_of_a_token_leaves_nothing() {
    // The library's `Strip` decoder panics here: it counts from the end of a token without checking its length.
    let bytes = file(|file| file["decoder"] = json!({"type": "Strip", "content": "a", "start": 0, "stop": 3}));
    let tokenizer = Tokenizer::from_json(&bytes).unwrap();
    assert_eq!(tokenizer.id_to_token(0).as_deref(), Some("a"));
    assert_eq!(tokenizer.decode(&[0]).unwrap(), "");
    assert_eq!(tokenizer.decode(&[]).unwrap(), "");
}
