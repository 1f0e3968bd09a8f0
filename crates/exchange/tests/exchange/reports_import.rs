//! Reports about models and tokenizers that are not what their names say.

use std::path::Path;

use burn::tensor::Device;
use serde_json::json;
use taal_evaluation::{
    ChoiceItem, ChoiceOptions, EvaluationError, WordVectors, evaluate_choices, evaluate_text, log_likelihood,
    score_choices, vocabulary_words,
};
use taal_exchange::{Target, TokenizerChoice, export_model, import_model};
use taal_inference::{FillOptions, LanguageModel, Pooling, Prompt, embed, fill};
use taal_model::hugging_face::{self, Companions};
use taal_model::{TransformerConfig, WeightFormat};
use taal_tokenizer::{Kind, TrainerConfig};

use crate::scripted::{self, byte_tokenizer, chain};
use crate::size;

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 588824\n";
const PAGE: &[u8] = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n";

fn directory(dir: &Path) {
    let tokenizer = byte_tokenizer(&[], &["<s>"]);
    let model = scripted::model(257, 32, &chain(&[97, 98]));
    scripted::save(&model, Some(&tokenizer), dir, json!({}), &[]);
}

/// The error for a directory in which one file has other bytes.
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
fn report_13_git_lfs_pointers_and_web_pages_are_named_as_such() {
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
        assert!(
            matches!(error, taal_exchange::ExchangeError::ForeignTokenizer { .. }),
            "{error}"
        );
        let error = error.to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        assert!(!out.exists(), "{error}");
    }
    let imported = import_model(&dir, TokenizerChoice::Without, &out, &Device::flex()).unwrap();
    assert_eq!(imported.tokenizer_vocab_size, None);
}

#[test]
fn report_13_a_token_without_a_row_in_the_embedding_is_refused_by_its_name_where_a_text_has_it() {
    let special = ["<s>", "[MASK]", "<added>"];
    let refused = |said: Result<(), EvaluationError>| {
        let error = said.expect_err("no row");
        assert_eq!(error.kind(), taal_store::ErrorKind::Usage, "{error}");
        let error = error.to_string();
        assert!(
            error.contains("token \"<added>\" (id 258)") && error.contains("from 0 to 257"),
            "{error}"
        );
    };
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    let model = scripted::model(258, 32, &chain(&[97, 98]));
    scripted::save(&model, Some(&byte_tokenizer(&[], &special)), &dir, json!({}), &[]);
    let lm = LanguageModel::open(&dir, &Device::flex()).expect("a model");
    assert_eq!(lm.prompt_ids(&Prompt::from("a")).unwrap(), [97]);
    refused(lm.prompt_ids(&Prompt::from("a<added>")).map(drop).map_err(Into::into));
    refused(lm.prompt_ids(&Prompt::Ids(vec![97, 258])).map(drop).map_err(Into::into));
    assert!(evaluate_text(&lm, "text", "abab").is_ok());
    refused(evaluate_text(&lm, "text", "ab<added>ab").map(drop));
    let error = evaluate_text(&lm, "b.txt", "ab<added>ab")
        .expect_err("no row")
        .to_string();
    assert!(error.starts_with("b.txt: token"), "{error}");
    refused(log_likelihood(&lm, "ab<added>ab").map(drop));
    refused(embed(&lm, "ab<added>ab", Pooling::Mean).map(drop).map_err(Into::into));
    refused(WordVectors::of_model(&lm, ["ab<added>"], Pooling::Mean).map(drop));
    let item = |context: &str, choice: &str| ChoiceItem {
        context: context.to_owned(),
        choices: vec![choice.to_owned(), "b".to_owned()],
        answer: 0,
    };
    for item in [item("a<added>", "a"), item("a", "a<added>")] {
        refused(score_choices(&lm, &item, &ChoiceOptions::default()).map(drop));
    }
    // An item that contains it does not affect the others.
    let path = place.path().join("items.jsonl");
    let line = |choice: &str| json!({"context": "a", "choices": [choice, "b"], "answer": 0}).to_string();
    std::fs::write(&path, format!("{}\n{}\n", line("c"), line("a<added>"))).unwrap();
    let choices = evaluate_choices(&lm, &[path], &ChoiceOptions::default()).unwrap();
    assert_eq!(choices.left_out.len(), 1);
    assert!(choices.left_out[0].reason.contains("<added>") && choices.left_out[0].line == 2);

    // An id without a token is shown as a number.
    let error = lm.prompt_ids(&Prompt::Ids(vec![400])).expect_err("no row").to_string();
    assert!(error.contains("prompt id 400"), "{error}");

    let config = TransformerConfig::bert(size(258, 32, 1, 2, 16));
    let encoder = config.init(1, &Device::flex()).unwrap();
    let encoder = LanguageModel::new(encoder, Some(byte_tokenizer(&[], &special)));
    assert!(fill(&encoder, "a[MASK]b", &FillOptions::default()).is_ok());
    refused(
        fill(&encoder, "a[MASK]<added>", &FillOptions::default())
            .map(drop)
            .map_err(Into::into),
    );
    refused(embed(&encoder, "a<added>", Pooling::Mean).map(drop).map_err(Into::into));
    refused(log_likelihood(&encoder, "a<added>").map(drop));
}

#[test]
fn report_13_words_without_a_row_in_the_embedding_are_not_in_the_vocabulary() {
    // A word that was added to the tokenizer, as by `add_tokens` of transformers, but not to the model.
    let tokenizer = byte_tokenizer(&["\u{120}boom", "\u{120}huis"], &["<s>"]);
    assert_eq!(vocabulary_words(&tokenizer, 258), ["boom", "huis"]);
    assert_eq!(vocabulary_words(&tokenizer, 400), ["boom", "huis"]);
    assert_eq!(vocabulary_words(&tokenizer, 257), ["boom"]);
}

#[test]
fn report_13_dynamic_angles_are_kept_in_a_directory_and_named_where_llama_cpp_has_none() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    let model = scripted::model(257, 32, &chain(&[97, 98]));
    let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}});
    scripted::save(&model, Some(&byte_tokenizer(&[], &["<s>"])), &dir, dynamic, &[]);
    let export = |target: Target, name: &str| {
        let out = place.path().join(name);
        let exported = export_model(&dir, target, Some(WeightFormat::F32), &out, &Device::flex()).unwrap();
        let is_said = exported.notes.iter().any(|note| note.contains("dynamic"));
        (out, is_said)
    };
    let (out, is_said) = export(Target::HuggingFace, "hf");
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["rope_scaling"], json!({"rope_type": "dynamic", "factor": 4.0}));
    assert_eq!(config["rope_parameters"]["rope_type"], "dynamic");
    assert!(!is_said);
    assert!(export(Target::Gguf, "model.gguf").1);
}

#[test]
fn report_10_import_and_export_keep_how_sentence_transformers_makes_a_vector() {
    let place = tempfile::tempdir().unwrap();
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 60)
        .train(["a cat sat on a mat"])
        .unwrap();
    let config = TransformerConfig::bert(size(tokenizer.vocab_size(), 32, 1, 2, 16));
    let model = config.init(3, &Device::flex()).unwrap();
    let json = tokenizer.to_json();
    let companions = Companions {
        tokenizer_json: Some(&json),
        ..Companions::default()
    };
    let dir = place.path().join("model");
    hugging_face::save(&model, &dir, companions).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
    };
    let module =
        |kind: &str, path: &str| format!(r#"{{"type": "sentence_transformers.models.{kind}", "path": "{path}"}}"#);
    let modules = [
        module("Transformer", ""),
        module("Pooling", "1_Pooling"),
        module("Normalize", "2_Normalize"),
    ];
    write("modules.json", &format!("[{}]", modules.join(",")));
    write("sentence_bert_config.json", r#"{"max_seq_length": 7}"#);
    let text = "a cat sat on a mat on a mat";
    let vector =
        |dir: &Path| taal_inference::embed(&LanguageModel::open(dir, &Device::flex()).unwrap(), text, None).unwrap();
    for (index, pooling) in [
        r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}"#,
        r#"{"pooling_mode": ["max", "cls"]}"#,
    ]
    .into_iter()
    .enumerate()
    {
        write("1_Pooling/config.json", pooling);
        let [imported, exported] = ["imported", "exported"].map(|name| place.path().join(format!("{name}-{index}")));
        import_model(&dir, None, &imported, &Device::flex()).unwrap();
        export_model(
            &imported,
            Target::HuggingFace,
            Some(WeightFormat::F32),
            &exported,
            &Device::flex(),
        )
        .unwrap();
        assert_eq!(vector(&dir).len(), 32);
        assert_eq!(vector(&imported), vector(&dir));
        assert_eq!(vector(&exported), vector(&dir));
    }
    write("modules.json", &format!("[{}]", module("Dense", "1_Dense")));
    let error = import_model(&dir, None, &place.path().join("dense"), &Device::flex()).unwrap_err();
    assert!(error.to_string().contains("Dense"), "{error}");
}
