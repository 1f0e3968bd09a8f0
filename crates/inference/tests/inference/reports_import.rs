//! Reports about models and tokenizers that cannot be what their names say.

use std::path::Path;

use burn::tensor::Device;
use serde_json::json;
use taal_inference::{LanguageModel, Prompt, TokenizerChoice, import_model};

use crate::scripted::{self, byte_tokenizer, chain};

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 588824\n";
const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n";

fn directory(dir: &Path) {
    let tokenizer = byte_tokenizer(&[], &["<s>"]);
    let model = scripted::model(257, 32, &chain(&[97, 98]));
    scripted::save(&model, Some(&tokenizer), dir, json!({}), &[]);
}

/// What opening says of a directory in which one file has other bytes.
fn said(name: &str, bytes: &[u8]) -> String {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    directory(&dir);
    std::fs::write(dir.join(name), bytes).unwrap();
    let error = LanguageModel::open(&dir, &Device::flex()).expect_err("this must be refused");
    assert_eq!(error.kind(), taal_store::ErrorKind::Corrupt, "{error}");
    error.to_string()
}

#[test]
fn report_13_a_pointer_of_git_lfs_and_a_page_are_called_what_they_are() {
    for name in ["model.safetensors", "config.json", "tokenizer.json"] {
        let pointer = said(name, POINTER);
        assert!(
            pointer.contains(name) && pointer.contains("git-lfs pointer") && pointer.contains("git lfs pull"),
            "{pointer}"
        );
        let page = said(name, PAGE);
        assert!(page.contains(name) && page.contains("HTML"), "{page}");
    }
}

#[test]
fn report_13_weights_in_several_files_without_their_index_say_so() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    directory(&dir);
    std::fs::rename(
        dir.join("model.safetensors"),
        dir.join("model-00001-of-00002.safetensors"),
    )
    .unwrap();
    let error = LanguageModel::open(&dir, &Device::flex()).expect_err("this must be refused");
    let error = error.to_string();
    assert!(error.contains("model.safetensors.index.json: is missing"), "{error}");
}

#[test]
fn report_31_a_tokenizer_that_cannot_be_read_is_not_dropped() {
    let place = tempfile::tempdir().unwrap();
    let (dir, out) = (place.path().join("model"), place.path().join("out"));
    directory(&dir);
    let good = std::fs::read(dir.join("tokenizer.json")).unwrap();
    for bytes in [
        &b""[..],
        POINTER,
        &[&good[..], b"\xff"].concat(),
        &good[..good.len() / 2],
    ] {
        std::fs::write(dir.join("tokenizer.json"), bytes).unwrap();
        let error = import_model(&dir, TokenizerChoice::Own, &out, &Device::flex()).expect_err("this must be refused");
        let error = error.to_string();
        assert!(
            error.contains("tokenizer.json") && error.contains("--without-tokenizer"),
            "{error}"
        );
        assert!(!out.exists(), "{error}");
    }
    let imported = import_model(&dir, TokenizerChoice::Without, &out, &Device::flex()).unwrap();
    assert_eq!(imported.tokenizer_vocab_size, None);
}

#[test]
fn report_13_what_transformers_opens_is_opened() {
    let tokenizer = byte_tokenizer(&[], &["<s>"]);
    let model = scripted::model(257, 32, &chain(&[97, 98]));
    for config in [
        json!({"hidden_act": "swish"}),
        json!({"rope_scaling": {"rope_type": "default", "factor": 2.0}}),
        json!({"rope_scaling": {"type": "default", "beta_fast": 32}}),
        json!({"rope_scaling": null}),
    ] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("model");
        scripted::save(&model, Some(&tokenizer), &dir, config.clone(), &[]);
        LanguageModel::open(&dir, &Device::flex()).unwrap_or_else(|error| panic!("{config}: {error}"));
    }
}

#[test]
fn report_13_a_token_without_a_row_in_the_embedding_is_refused_where_a_text_has_it() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    let model = scripted::model(257, 32, &chain(&[97, 98]));
    scripted::save(
        &model,
        Some(&byte_tokenizer(&[], &["<s>", "<added>"])),
        &dir,
        json!({}),
        &[],
    );
    let lm = LanguageModel::open(&dir, &Device::flex()).expect("a model");
    let ids = |text: &str| lm.prompt_ids(&Prompt::from(text));
    assert_eq!(ids("a").unwrap(), [97]);
    let error = ids("a<added>").expect_err("no row").to_string();
    assert!(error.contains("257"), "{error}");
}
