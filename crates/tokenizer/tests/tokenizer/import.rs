//! Files of other programs give the same ids as those programs, and damaged ones are errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use taal_store::ErrorKind;
use taal_tokenizer::{Format, ImportOptions};

use crate::{Error, Tokenizer, golden};

/// tiktoken's cl100k_base as a regular expression, for a rank file with another vocabulary.
const PATTERN: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s";

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    files: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
struct Case {
    /// `None` where the text contains a special token.
    ids: Option<Vec<u32>>,
    decoded: Option<String>,
}

fn file(name: &str) -> PathBuf {
    golden("import").join(name)
}

fn options(name: &str) -> ImportOptions {
    ImportOptions {
        pattern: name.ends_with(".tiktoken").then(|| PATTERN.to_owned()),
    }
}

fn import(name: &str) -> (Tokenizer, Format) {
    Tokenizer::import_reported(&file(name), &options(name)).unwrap()
}

const FILES: [(&str, Format); 10] = [
    ("gpt2", Format::Gpt2),
    ("cased.vocab.txt", Format::Bert),
    ("uncased.vocab.txt", Format::Bert),
    ("tiny.tiktoken", Format::Tiktoken),
    ("unigram.model", Format::SentencePiece),
    ("unigram-names.model", Format::SentencePiece),
    ("unigram-unk.model", Format::SentencePiece),
    ("bpe.model", Format::SentencePiece),
    ("bpe-unk.model", Format::SentencePiece),
    ("llama2c.bin", Format::Llama2c),
];

#[test]
fn every_format_encodes_hard_texts_to_the_ids_of_its_own_program() {
    let expected: Expected = serde_json::from_slice(&fs::read(file("expected.json")).unwrap()).unwrap();
    assert_eq!(expected.files.len(), FILES.len());
    for (name, format) in FILES {
        let (tokenizer, found) = import(name);
        assert_eq!(found, format, "{name}");
        let opened = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
        assert_eq!(opened.hash(), tokenizer.hash());
        let cases = &expected.files[name];
        assert_eq!(cases.len(), expected.texts.len());
        for (text, case) in expected.texts.iter().zip(cases) {
            let Some(ids) = &case.ids else { continue };
            assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{name} {text:?}");
            if let Some(decoded) = &case.decoded {
                // SentencePiece drops a leading U+2581 where it removes extra spaces.
                let decoded = match text.starts_with('\u{2581}') {
                    true => continue,
                    false => decoded,
                };
                assert_eq!(&tokenizer.decode(ids).unwrap(), decoded, "{name} {text:?}");
            }
        }
    }
}

#[test]
fn marians_model_of_the_source_gets_the_ids_of_its_list_and_ends_texts() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, _) = import("unigram.model");
    fs::copy(file("unigram.model"), folder.path().join("source.spm")).unwrap();
    let refused = |list: &str, part: &str| {
        fs::write(folder.path().join("vocab.json"), list).unwrap();
        let message = Tokenizer::import(folder.path(), &ImportOptions::default())
            .unwrap_err()
            .to_string();
        assert!(message.contains(part), "{message}");
    };
    let alone = Tokenizer::import(&folder.path().join("source.spm"), &ImportOptions::default()).unwrap_err();
    assert!(alone.to_string().contains("copy vocab.json next to it"), "{alone}");
    refused("[]", "an object with the id");
    refused("{\"a\": 0, \"b\": 0}", "two tokens have the id 0");
    refused("{\"a\": 0, \"b\": 2}", "\"b\" has the id 2");

    // The pieces in another order, and some that the source's model does not have.
    let mut names: Vec<String> = (0..plain.vocab_size() as u32)
        .filter_map(|id| plain.id_to_token(id))
        .filter(|name| !["</s>", "<unk>", "<pad>"].contains(&name.as_str()))
        .rev()
        .collect();
    names.splice(0..0, ["</s>", "<unk>"].map(str::to_owned));
    names.extend([">>nld<<", "\u{2581}kat\u{2581}op", "<pad>"].map(str::to_owned));
    let ids: BTreeMap<&str, usize> = names.iter().enumerate().map(|(id, name)| (name.as_str(), id)).collect();
    fs::write(folder.path().join("vocab.json"), serde_json::to_vec(&ids).unwrap()).unwrap();
    let (tokenizer, format) = Tokenizer::import_reported(folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!(format, Format::SentencePiece);
    for text in ["de kat op de mat", "De  kat krabt de krullen.", "kat"] {
        let wanted = plain.encode(text).unwrap().into_iter();
        let wanted: Vec<u32> = wanted
            .map(|id| ids[plain.id_to_token(id).unwrap().as_str()] as u32)
            .collect();
        let found = tokenizer.encode(text).unwrap();
        assert_eq!(found, wanted, "{text}");
        assert_eq!(tokenizer.frame().around(&found), [&wanted[..], &[0]].concat(), "{text}");
        assert_eq!(
            tokenizer.decode(&found).unwrap(),
            plain.decode(&plain.encode(text).unwrap()).unwrap()
        );
    }
    let asked = tokenizer.encode(">>nld<< kat").unwrap();
    assert_eq!(asked[0], ids[">>nld<<"] as u32);
    assert_eq!(
        tokenizer.decode(&[ids["\u{2581}kat\u{2581}op"] as u32]).unwrap(),
        "kat op",
        "the target's pieces are read"
    );
    assert_eq!(
        [tokenizer.eos_id(), tokenizer.unk_id(), tokenizer.pad_id()],
        [Some(0), Some(1), Some(names.len() as u32 - 1)]
    );
}

#[derive(Deserialize)]
struct Sides {
    cases: Vec<Side>,
}

/// The ids of `MarianTokenizer` for a text as a source and as `text_target`.
#[derive(Deserialize)]
struct Side {
    text: String,
    source: Vec<u32>,
    target: Vec<u32>,
}

#[test]
fn marians_sources_and_targets_get_the_ids_of_transformers_from_the_model_of_their_side() {
    let marian = file("marian");
    let expected: Sides = serde_json::from_slice(&fs::read(marian.join("expected.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::import(&marian, &ImportOptions::default()).unwrap();
    let of_source = Tokenizer::import(&marian.join("source.spm"), &ImportOptions::default()).unwrap();
    assert_eq!(of_source.hash(), tokenizer.hash());
    let target = tokenizer.of_targets();
    for Side {
        text,
        source,
        target: written,
    } in &expected.cases
    {
        let ids = |tokenizer: &Tokenizer| tokenizer.frame().around(&tokenizer.encode(text).unwrap());
        assert_eq!((&ids(&tokenizer), &ids(target)), (source, written), "{text:?}");
        assert_eq!(
            tokenizer.decode(written).unwrap(),
            target.decode(written).unwrap(),
            "{text:?}"
        );
    }
    let differ = expected.cases.iter().filter(|case| case.source != case.target).count();
    assert!(differ > 15, "{differ}");
    assert_eq!(
        [tokenizer.eos_id(), tokenizer.unk_id()],
        [target.eos_id(), target.unk_id()]
    );
    assert_eq!(
        (tokenizer.tokens(&[0, 2, 40]), target.of_targets().hash()),
        (target.tokens(&[0, 2, 40]), target.hash())
    );

    // Without the model of the target there is one tokenizer; a file that cannot be read is named.
    let folder = tempfile::tempdir().unwrap();
    for name in ["source.spm", "vocab.json"] {
        fs::copy(marian.join(name), folder.path().join(name)).unwrap();
    }
    let alone = Tokenizer::import(folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!((alone.to_json(), alone.target_json()), (tokenizer.to_json(), None));
    assert_ne!(
        alone.hash(),
        tokenizer.hash(),
        "the tokenizer of targets is a part of what the hash stands for"
    );
    fs::write(folder.path().join("target.spm"), b"\x0a\x05damaged").unwrap();
    let message = Tokenizer::import(folder.path(), &ImportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("target.spm"), "{message}");
}

#[test]
fn the_tokenizer_of_targets_is_saved_opened_and_changed_with_that_of_sources() {
    let both = Tokenizer::import(&file("marian"), &ImportOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (path, target_path) = (
        folder.path().join("tokenizer.json"),
        folder.path().join("target_tokenizer.json"),
    );
    both.save(&path).unwrap();
    assert_eq!(Some(fs::read(&target_path).unwrap()), both.target_json());
    let opened = Tokenizer::open(&path).unwrap();
    assert_eq!((opened.hash(), opened.target_json()), (both.hash(), both.target_json()));
    let imported = Tokenizer::import(folder.path(), &ImportOptions::default()).unwrap();
    assert_eq!(imported.hash(), both.hash());

    let more = both.with_special_tokens(["<new>"]).unwrap().with_frame().unwrap();
    for side in [&more, more.of_targets()] {
        assert_eq!(side.vocab_size(), both.vocab_size() + 1);
        assert_eq!(side.encode("<new>").unwrap(), [both.vocab_size() as u32]);
    }
    let text = "de andere winter";
    assert_eq!(
        more.of_targets().encode(text).unwrap(),
        both.of_targets().encode(text).unwrap()
    );
    assert_ne!(more.of_targets().encode(text).unwrap(), more.encode(text).unwrap());

    // A file of another name stands alone, and one tokenizer replaces two.
    let other = folder.path().join("other.json");
    both.save(&other).unwrap();
    assert_eq!(Tokenizer::open(&other).unwrap().target_json(), None);
    let same = both
        .clone()
        .with_target(&Tokenizer::from_json(&both.to_json()).unwrap())
        .unwrap();
    assert_eq!(same.target_json(), None, "equal files are one");
    same.save(&path).unwrap();
    assert!(!target_path.exists());

    // A file that belongs to another tokenizer is refused by name.
    fs::write(&target_path, import("unigram.model").0.to_json()).unwrap();
    let message = Tokenizer::open(&path).unwrap_err().to_string();
    assert!(
        message.contains("target_tokenizer.json")
            && message.contains("in the same order")
            && message.contains("id 0 is"),
        "{message}"
    );
}

#[test]
fn special_tokens_in_a_text_become_their_ids_and_keep_spaces() {
    let (tokenizer, _) = import("bpe.model");
    let [begin, end] = [tokenizer.bos_id(), tokenizer.eos_id()].map(Option::unwrap);
    let ids = tokenizer.encode("<s>kat</s>").unwrap();
    assert_eq!((ids.first(), ids.last()), (Some(&begin), Some(&end)));
    assert_eq!(tokenizer.decode(&ids).unwrap(), "kat");
    assert_eq!(
        tokenizer.encode_with_special("kat").unwrap(),
        tokenizer.encode("kat").unwrap()
    );
    // llama2.c begins every text, BERT frames it.
    let (llama, _) = import("llama2c.bin");
    assert_eq!(llama.encode_with_special("kat").unwrap()[0], llama.bos_id().unwrap());
    let (bert, _) = import("cased.vocab.txt");
    let framed = bert.encode_with_special("kat").unwrap();
    assert_eq!(
        (framed.first().copied(), framed.last().copied()),
        (bert.bos_id(), bert.eos_id())
    );
    assert!(bert.mask_id().is_some() && bert.pad_id().is_some());
}

#[test]
fn a_file_is_recognized_by_its_content_and_each_half_finds_the_other() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["bpe.model", "llama2c.bin", "cased.vocab.txt"] {
        let renamed = folder.path().join("iets.anders");
        fs::copy(file(name), &renamed).unwrap();
        let tokenizer = Tokenizer::import(&renamed, &ImportOptions::default()).unwrap();
        assert_eq!(tokenizer.hash(), import(name).0.hash());
    }
    let (whole, _) = import("gpt2");
    for half in ["vocab.json", "merges.txt"] {
        assert_eq!(import(&format!("gpt2/{half}")).0.hash(), whole.hash());
    }
    for (half, name) in [("vocab.json", "mijn.encoder.json"), ("merges.txt", "mijn.vocab.bpe")] {
        fs::copy(file("gpt2").join(half), folder.path().join(name)).unwrap();
    }
    let tokenizer = Tokenizer::import(&folder.path().join("mijn.vocab.bpe"), &ImportOptions::default()).unwrap();
    assert_eq!(tokenizer.hash(), whole.hash());
    let json = Tokenizer::import_reported(&golden("bpe.tokenizer.json"), &ImportOptions::default()).unwrap();
    assert_eq!(json.1, Format::TokenizerJson);
}

#[test]
fn the_files_next_to_a_vocabulary_set_case_special_and_added_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary = folder.path().join("vocab.txt");
    fs::write(&vocabulary, "[UNK]\n[CLS]\n[SEP]\nkat\nKat\n<naam>\n").unwrap();
    let encode = |text: &str| {
        Tokenizer::import(folder.path(), &ImportOptions::default())
            .unwrap()
            .encode(text)
            .unwrap()
    };
    assert_eq!(encode("Kat"), [4], "a capital in the vocabulary");
    let config = r#"{"do_lower_case": true, "mask_token": "<naam>",
        "added_tokens_decoder": {"6": {"content": "<nieuw>", "special": true}}}"#;
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    assert_eq!(encode("Kat<naam><nieuw>"), [3, 5, 6]);
    fs::write(folder.path().join("tokenizer_config.json"), "{").unwrap();
    let error = Tokenizer::import(folder.path(), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("tokenizer_config.json"), "{error}");
}

/// The error of a file with this name and content.
fn error_of(name: &str, content: &[u8]) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let error = Tokenizer::import(&path, &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    error
}

#[test]
fn other_files_are_refused_with_the_list_of_formats() {
    for content in [
        &b""[..],
        b"een gewone tekst met woorden\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\0",
        &[0xFF; 100],
    ] {
        let error = error_of("iets", content);
        assert!(matches!(error, Error::Unrecognized { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for format in Format::ALL {
            assert!(error.to_string().contains(format.description()), "{error}");
        }
    }
    let empty = tempfile::tempdir().unwrap();
    let error = Tokenizer::import(empty.path(), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a folder without"), "{error}");
    fs::copy(file("bpe.model"), empty.path().join("a.model")).unwrap();
    fs::copy(file("bpe.model"), empty.path().join("b.model")).unwrap();
    let error = Tokenizer::import(empty.path(), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a.model, b.model"), "{error}");
}

#[test]
fn damaged_files_of_known_formats_are_errors_with_a_position() {
    let ranks = fs::read_to_string(file("tiny.tiktoken")).unwrap();
    let unknown = error_of("iets.tiktoken", ranks.as_bytes()).to_string();
    assert!(
        unknown.contains("cl100k_base") && unknown.contains("regular expression"),
        "{unknown}"
    );
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("merges.txt", b"#version: 0.2\na b\n".to_vec(), "not next to it"),
        ("vocab.json", b"{\"a\": 0}".to_vec(), "not next to it"),
        (
            "r50k_base.tiktoken",
            b"IQ== 0\nIg== 1\n".to_vec(),
            "no token for the byte 0x00",
        ),
        ("r50k_base.tiktoken", b"IQ== 0\nIQ== 1\n".to_vec(), "lines 1 and 2"),
        ("r50k_base.tiktoken", b"IQ== 0\nIg== 4000000000\n".to_vec(), "line 2"),
        ("r50k_base.tiktoken", b"IQ== 0\nIg== 1\n# 3\n".to_vec(), "line 3"),
        ("vocab.txt", b"kat\n##je\n".to_vec(), "[UNK]"),
        // A piece `a`, and a trainer that says words.
        ("m.model", vec![0x0A, 3, 0x0A, 1, b'a', 0x12, 2, 0x18, 3], "whole words"),
    ];
    for (name, content, place) in cases {
        let error = error_of(name, &content);
        assert!(error.to_string().contains(place), "{error} lacks {place}");
    }
    let pattern = ImportOptions {
        pattern: Some("gpt2".into()),
    };
    let error = Tokenizer::import(&file("bpe.model"), &pattern).unwrap_err();
    assert!(matches!(error, Error::Setting { key: "pattern", .. }), "{error}");
    let pattern = ImportOptions {
        pattern: Some(r"(a+)+\1".into()),
    };
    assert!(Tokenizer::import(&file("tiny.tiktoken"), &pattern).is_err());
}

/// Imports damaged bytes; any result is fine, but it must return, and a tokenizer must work.
fn exercise(path: &Path, name: &str) {
    if let Ok(tokenizer) = Tokenizer::import(path, &options(name)) {
        for text in ["", " kat  ë", "<0x41>👍", &"ab ".repeat(50)] {
            if let Ok(ids) = tokenizer.encode(text) {
                let _ = tokenizer.decode(&ids);
            }
        }
    }
}

#[test]
fn truncated_and_flipped_files_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _) in FILES.iter().filter(|(name, _)| *name != "gpt2") {
        let whole = fs::read(file(name)).unwrap();
        let path = folder.path().join(name);
        for step in 0..60 {
            fs::write(&path, &whole[..whole.len() * step / 60]).unwrap();
            exercise(&path, name);
            let mut flipped = whole.clone();
            let place = (step * 7919 + step * step * 31) % whole.len();
            flipped[place] ^= 1 << (step % 8);
            fs::write(&path, &flipped).unwrap();
            exercise(&path, name);
        }
    }
}

/// GPT-2's golden files with a `tokenizer_config.json` of a class.
fn of_class(class: &str) -> taal_tokenizer::Result<Tokenizer> {
    let place = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(file("gpt2")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = format!("{{\"tokenizer_class\": \"{class}\"}}");
    fs::write(place.path().join("tokenizer_config.json"), config).unwrap();
    Tokenizer::import(place.path(), &ImportOptions::default())
}

#[test]
fn report_11_the_class_of_a_tokenizer_decides_how_it_splits_text() {
    let [gpt2, qwen2] = ["GPT2TokenizerFast", "Qwen2Tokenizer"].map(|class| of_class(class).unwrap());
    let pieces = |tokenizer: &Tokenizer, text: &str| tokenizer.encode(text).unwrap().len();
    // Qwen2 splits digits and normalizes to NFC; both have the words of the vocabulary.
    assert_eq!(gpt2.encode("een kat").unwrap(), qwen2.encode("een kat").unwrap());
    assert_eq!(qwen2.encode("cafe\u{301}").unwrap(), gpt2.encode("caf\u{e9}").unwrap());
    assert_ne!(gpt2.encode("cafe\u{301}").unwrap(), gpt2.encode("caf\u{e9}").unwrap());
    assert_eq!(pieces(&qwen2, "2024"), 4);
    let error = of_class("BlenderbotTokenizer").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let error = error.to_string();
    assert!(
        error.contains("BlenderbotTokenizer") && error.contains("tokenizer.json"),
        "{error}"
    );
}

#[test]
fn report_13_git_lfs_pointers_and_web_pages_are_named_as_such() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tokenizer.model");
    fs::write(
        &path,
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 500000\n",
    )
    .unwrap();
    let error = Tokenizer::import(&path, &ImportOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("git-lfs pointer"), "{error}");
}
