//! Model directories: complete, without a tokenizer, of a run, and invalid ones.

use std::path::Path;

use burn::tensor::Device;
use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_model::TransformerConfig;
use taal_model::hugging_face::{self, Companions};
use taal_store::ErrorKind;

use crate::size;
use crate::tiny::{CONTEXT, char_model, char_tokenizer, model};

fn save(lm: &LanguageModel, dir: &Path) {
    let json = lm.tokenizer.as_ref().map(taal_tokenizer::Tokenizer::to_json);
    let companions = Companions {
        tokenizer_json: json.as_deref(),
        ..Companions::default()
    };
    hugging_face::save(&lm.model, dir, companions).expect("a saved model");
}

fn open(dir: &Path) -> taal_inference::Result<LanguageModel> {
    LanguageModel::open(dir, &Device::flex())
}

fn ids(lm: &LanguageModel) -> Vec<u32> {
    let options = GenerateOptions {
        max_tokens: 20,
        sampling: Sampling::greedy(),
        ..GenerateOptions::default()
    };
    generate(lm, &Prompt::Ids(vec![1, 2]), &options, &mut |_| {
        std::ops::ControlFlow::Continue(())
    })
    .expect("a generation")
    .token_ids
}

#[test]
fn a_saved_model_generates_as_before() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().join("saved");
    let lm = char_model();
    save(&lm, &dir);
    let opened = open(&dir).expect("a model");
    assert_eq!(ids(&opened), ids(&lm));
    assert_eq!(
        opened.tokenizer.map(|tokenizer| tokenizer.hash().to_owned()),
        lm.tokenizer.map(|it| it.hash().to_owned())
    );
}

#[test]
fn a_model_without_tokenizer_opens() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().join("saved");
    let lm = LanguageModel::new(char_model().model, None);
    save(&lm, &dir);
    let opened = open(&dir).expect("a model");
    assert!(opened.tokenizer.is_none());
    assert_eq!(ids(&opened), ids(&lm));
}

#[test]
fn a_run_directory_opens_as_the_model_in_it() {
    let run = tempfile::tempdir().expect("a scratch directory");
    let lm = char_model();
    save(&lm, &run.path().join("model"));
    assert_eq!(ids(&open(run.path()).expect("a model")), ids(&lm));
}

#[test]
fn a_directory_without_model_is_refused_naming_what_was_looked_for() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().join("nothing");
    let error = open(&dir).expect_err("no directory");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(
        error
            .to_string()
            .contains(&format!("{}: no model here: no file or directory", dir.display())),
        "{error}"
    );
    std::fs::create_dir(&dir).expect("a directory");
    let error = open(&dir).expect_err("no model");
    assert_eq!(error.kind(), ErrorKind::Usage);
    for expected in [dir.join("config.json"), dir.join("model").join("config.json")] {
        assert!(error.to_string().contains(&expected.display().to_string()), "{error}");
    }
    let file = scratch.path().join("file.gguf");
    std::fs::write(&file, "GGUF").expect("a file");
    let error = open(&file).expect_err("a file").to_string();
    assert!(
        error.contains("no model here: this is a file; name a model directory"),
        "{error}"
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused_naming_both_files() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let dir = scratch.path().join("saved");
    let small = model(&TransformerConfig::llama(size(22, CONTEXT, 1, 2, 16)), 1);
    save(&LanguageModel::new(small, Some(char_tokenizer())), &dir);
    let error = open(&dir).expect_err("a mismatch");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    for expected in ["tokenizer.json has 23", "config.json has a vocab_size of 22"] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn damaged_files_are_refused_by_name() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let dir = scratch.path().join("saved");
        save(&char_model(), &dir);
        let path = dir.join(name);
        let bytes = std::fs::read(&path).expect("the file");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("a shorter file");
        let error = open(&dir).expect_err("a damaged file");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn r20_a_pickle_is_refused_with_a_way_to_convert_it() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("model.pt");
    std::fs::write(&file, b"PK\x03\x04").expect("a file");
    let dir = scratch.path().join("published");
    std::fs::create_dir(&dir).expect("a directory");
    std::fs::write(dir.join("pytorch_model.bin"), b"PK\x03\x04").expect("a file");
    for (path, name) in [(&file, "model.pt"), (&dir, "pytorch_model.bin")] {
        let error = open(path).expect_err("a pickle");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for expected in [name, "pickle", "safetensors"] {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
