//! Reports of other programs' users on encoders and on scoring: frames, gaps, vectors, and items that cannot be scored.

use serde_json::{Value, json};
use taal_evaluation::{ChoiceOptions, evaluate_choices, evaluate_files_after_bos, evaluate_pairs, score_ids};
use taal_inference::{FillOptions, LanguageModel, Pooling, Prompt, embed, fill, framed};
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

use crate::size;
use crate::tiny;

/// A byte-level BPE with these tokens after the bytes, the special tokens `special` after them, and a template.
fn byte_level(tokens: &[&str], special: &[&str], before: &[&str], after: &[&str]) -> Tokenizer {
    let trained: Value = serde_json::from_slice(&tiny::byte_tokenizer().to_json()).unwrap();
    let is_byte = |token: &&String| token.chars().count() == 1;
    let vocabulary = trained["model"]["vocab"].as_object().unwrap();
    let bytes: Vec<String> = vocabulary.keys().filter(is_byte).cloned().collect();
    let all = bytes.iter().map(String::as_str).chain(tokens.iter().copied());
    let ids: serde_json::Map<String, Value> = (0..)
        .zip(all)
        .map(|(id, token)| (token.to_owned(), json!(id)))
        .collect();
    let id_of = |name: &str| ids.len() + special.iter().position(|token| *token == name).unwrap();
    let added = special.iter().map(|token| {
        json!({"id": id_of(token), "content": token, "single_word": false, "lstrip": *token == "<mask>",
            "rstrip": false, "normalized": false, "special": true})
    });
    let piece = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let single: Vec<Value> = before
        .iter()
        .map(piece)
        .chain([text])
        .chain(after.iter().map(piece))
        .collect();
    let names: serde_json::Map<String, Value> = before
        .iter()
        .chain(after)
        .map(|name| {
            (
                (*name).to_owned(),
                json!({"id": name, "ids": [id_of(name)], "tokens": [name]}),
            )
        })
        .collect();
    let mut file = trained;
    file["added_tokens"] = added.collect();
    file["model"]["vocab"] = Value::Object(ids.clone());
    file["model"]["merges"] = json!([]);
    file["model"]["ignore_merges"] = json!(true);
    file["post_processor"] =
        json!({"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": names});
    Tokenizer::from_json(&serde_json::to_vec(&file).unwrap()).unwrap()
}

fn masked(tokenizer: Tokenizer) -> LanguageModel {
    let config = TransformerConfig::bert(size(tokenizer.vocab_size(), 32, 2, 2, 16));
    LanguageModel::new(tiny::model(&config, 7), Some(tokenizer))
}

#[test]
fn report_7_a_text_has_the_frame_of_the_post_processor_and_not_that_of_names() {
    let special = ["<s>", "</s>", "<|endoftext|>", "[CLS]", "[SEP]"];
    let tokenizer = byte_level(&["Ġcat"], &special, &["[CLS]"], &["[SEP]"]);
    let ids = framed(&tokenizer, "a cat").unwrap();
    assert_eq!(tokenizer.tokens(&ids), ["[CLS]", "a", "Ġcat", "[SEP]"]);
    assert_eq!(ids, tokenizer.encode_with_special("a cat").unwrap());
}

#[test]
fn report_7_a_prompt_gets_the_beginning_of_the_template_and_not_its_end() {
    let tokenizer = byte_level(&["Ġcat"], &["<s>", "</s>"], &["<s>"], &["</s>"]);
    let config = TransformerConfig::llama(size(tokenizer.vocab_size(), 16, 1, 2, 16));
    let lm = LanguageModel::new(tiny::model(&config, 7), Some(tokenizer));
    let ids = lm.prompt_ids(&Prompt::from("a cat")).unwrap();
    assert_eq!(lm.tokenizer.as_ref().unwrap().tokens(&ids), ["<s>", "a", "Ġcat"]);
}

#[test]
fn report_8_filled_gaps_keep_their_spaces_and_guesses_show_them() {
    let lm = masked(byte_level(
        &["Ġvery", "very"],
        &["<s>", "</s>", "<mask>"],
        &["<s>"],
        &["</s>"],
    ));
    let found = fill(&lm, "It is <mask><mask>.", &FillOptions::default()).unwrap();
    assert_eq!(found.filled, "It is very very.");
    let guesses: Vec<(&str, &str)> = found.gaps[0]
        .guesses
        .iter()
        .map(|guess| (guess.text.as_str(), guess.token.as_str()))
        .collect();
    assert_eq!(guesses, [(" very", "Ġvery")]);
}

#[test]
fn report_8_a_text_of_word_pieces_is_unchanged_around_its_gaps() {
    let mut config = TrainerConfig::new(Kind::WordPiece, 80);
    config.special_tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        .map(str::to_owned)
        .to_vec();
    let lm = masked(config.train(["De kat zat, op de mat. De kat zat, op de mat."]).unwrap());
    let found = fill(&lm, "De kat, [MASK][MASK] op de mat.  [MASK]", &FillOptions::default()).unwrap();
    let words = found.filled.strip_prefix("De kat, ").expect(&found.filled);
    let (pair, last) = words.split_once(" op de mat.  ").expect(&found.filled);
    assert_eq!(pair.split(' ').count(), 2, "two words: {:?}", found.filled);
    assert!(!last.is_empty() && !last.contains(' '), "{:?}", found.filled);
}

#[test]
fn report_9_hashes_in_a_byte_level_vocabulary_are_not_a_mark() {
    let tokens = |hashes: &str| -> Vec<String> {
        let lm = masked(byte_level(
            &["Ġvery", "very", hashes],
            &["<s>", "</s>", "<mask>"],
            &["<s>"],
            &["</s>"],
        ));
        let found = fill(&lm, "It is <mask>.", &FillOptions::default()).unwrap();
        found.gaps[0].guesses.iter().map(|guess| guess.token.clone()).collect()
    };
    assert_eq!(tokens("####"), ["Ġvery"]);
    assert_eq!(tokens("####"), tokens("ness"));
}

#[test]
fn report_9_a_gap_at_the_beginning_takes_the_token_that_begins_texts() {
    let lm = masked(byte_level(
        &["After", "ĠAfter"],
        &["<s>", "</s>", "<mask>"],
        &["<s>"],
        &["</s>"],
    ));
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let [bare, spaced] = ["After", "ĠAfter"].map(|token| tokenizer.token_to_id(token).unwrap());
    let options = FillOptions {
        top: 300,
        rank: vec!["After".to_owned()],
        ..FillOptions::default()
    };
    for (text, wanted, other) in [("<mask> it.", bare, None), ("It <mask>.", spaced, Some(bare))] {
        let found = fill(&lm, text, &options).unwrap();
        let guesses = &found.gaps[0].guesses;
        let guess = guesses.iter().find(|guess| guess.id == wanted).expect("the token");
        assert_eq!(found.ranks[0].probability, Some(guess.probability), "{text}");
        assert!(!guesses.iter().any(|guess| Some(guess.id) == other), "{text}");
    }
}

#[test]
fn report_9_gaps_work_with_a_unigram_tokenizer_of_taal() {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let text =
        "de kat zat op de mat en de hondenmand stond naast de kattenmand bij de voordeur van het huis ".repeat(20);
    let mut config = TrainerConfig::new(Kind::Unigram, 340);
    config.special_tokens = special.to_vec();
    let lm = masked(config.train([text]).unwrap());
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let marks = tokenizer.word_marks();
    let words: Vec<u32> = (0..tokenizer.vocab_size() as u32)
        .filter(|id| tokenizer.tokens(&[*id])[0].starts_with(' ') && !marks.is_space(*id))
        .collect();
    assert!(
        !words.is_empty(),
        "no token holds a space: {:?}",
        tokenizer.tokens(&(261..340).collect::<Vec<_>>())
    );
    let found = fill(
        &lm,
        "de kat zat op de [MASK] en",
        &FillOptions {
            top: 99,
            ..FillOptions::default()
        },
    )
    .unwrap();
    let guesses = &found.gaps[0].guesses;
    assert_eq!(guesses.len(), words.len());
    assert!(
        guesses
            .iter()
            .all(|guess| guess.text.starts_with(' ') && guess.text.trim() != ""),
        "{guesses:?}"
    );
    assert_eq!(found.filled, format!("de kat zat op de{} en", guesses[0].text));
}

#[test]
fn report_10_the_mean_includes_the_special_tokens_around_the_text() {
    let lm = masked(byte_level(&["Ġcat"], &["[CLS]", "[SEP]"], &["[CLS]"], &["[SEP]"]));
    let ids = framed(lm.tokenizer.as_ref().unwrap(), "a cat").unwrap();
    let data: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let inputs = burn::tensor::Tensor::<2, burn::tensor::Int>::from_data(
        burn::tensor::TensorData::new(data, [1, ids.len()]),
        &lm.model.device(),
    );
    let hidden = lm
        .model
        .forward_with(inputs, taal_model::ForwardOptions::default())
        .unwrap()
        .hidden;
    let mean: Vec<f32> = taal_model::parameters::to_vec(hidden.mean_dim(1));
    let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    let found = embed(&lm, "a cat", Pooling::Mean).unwrap();
    assert_eq!(found, embed(&lm, "a cat", None).unwrap());
    for (found, mean) in found.iter().zip(&mean) {
        assert!((found - mean / norm).abs() < 1e-5, "{found} {}", mean / norm);
    }
}

#[test]
fn report_10_the_files_of_sentence_transformers_define_the_vector() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("model");
    let lm = masked(byte_level(&["Ġcat"], &["[CLS]", "[SEP]"], &["[CLS]"], &["[SEP]"]));
    let tokenizer = lm.tokenizer.as_ref().unwrap().to_json();
    let companions = taal_model::hugging_face::Companions {
        tokenizer_json: Some(&tokenizer),
        ..Default::default()
    };
    taal_model::hugging_face::save(&lm.model, &dir, companions).unwrap();
    let write = |name: &str, value: Value| {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    };
    let open = || LanguageModel::open(&dir, &burn::tensor::Device::flex()).unwrap();
    let module = |kind: &str, path: &str| json!({"idx": 0, "name": "", "path": path, "type": format!("sentence_transformers.models.{kind}")});
    let modules = [module("Transformer", ""), module("Pooling", "1_Pooling")];
    write("modules.json", json!(modules));

    // The older keys and the newer one; without Normalize a vector is not normalized.
    let text = "a cat cat cat";
    let length = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (settings, pooling) in [
        (json!({"pooling_mode_cls_token": true}), Pooling::Cls),
        (
            json!({"pooling_mode": "mean", "embedding_dimension": 16}),
            Pooling::Mean,
        ),
        (json!({"pooling_mode": ["max"]}), Pooling::Max),
    ] {
        write("1_Pooling/config.json", settings);
        let vector = embed(&open(), text, None).unwrap();
        let unit = embed(&lm, text, pooling).unwrap();
        let norm = length(&vector);
        assert!((norm - 1.0).abs() > 0.1 && (length(&unit) - 1.0).abs() < 1e-5, "{norm}");
        for (found, expected) in vector.iter().zip(&unit) {
            assert!(
                (found / norm - expected).abs() < 1e-5,
                "{pooling:?}: {found} {expected}"
            );
        }
    }

    // The limit includes the frame, and the settings of the transformer take precedence over the tokenizer's.
    let cut = || taal_inference::cut_tokens(&open(), text).unwrap();
    assert_eq!(cut(), 0);
    write("tokenizer_config.json", json!({"model_max_length": 5}));
    assert_eq!(cut(), 1);
    write(
        "sentence_bert_config.json",
        json!({"transformer_task": "feature-extraction"}),
    );
    assert_eq!(cut(), 1);
    write("sentence_bert_config.json", json!({"max_seq_length": 4}));
    assert_eq!(cut(), 2);
    write("sentence_bert_config.json", json!({}));
    std::fs::write(
        dir.join("tokenizer_config.json"),
        r#"{"model_max_length": 1000000000000000019884624838656}"#,
    )
    .unwrap();
    assert_eq!(cut(), 0);
}

#[test]
fn report_14_items_that_cannot_be_scored_are_left_out_and_named() {
    let lm = tiny::char_model();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &[&str]| {
        let path = dir.path().join(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path
    };
    let good = r#"{"context": "a", "choices": ["b", "c"], "answer": 0}"#;
    let bad = r#"{"context": "a", "choices": ["é", "c"], "answer": 0}"#;
    let path = write("items.jsonl", &[good, bad, good]);
    let found = evaluate_choices(&lm, &[path], &ChoiceOptions::default()).unwrap();
    assert_eq!(
        (found.all.total, found.left_out.len(), found.left_out[0].line),
        (2, 1, 2)
    );
    let none = evaluate_choices(&lm, &[write("none.jsonl", &[bad])], &ChoiceOptions::default()).unwrap_err();
    assert_eq!(none.kind(), taal_store::ErrorKind::Corrupt);

    let found = evaluate_pairs(&lm, &[write("pairs.tsv", &["ab\tba", "é\tb", "b\ta"])]).unwrap();
    assert_eq!(
        (found.all.total, found.left_out.len(), found.left_out[0].line),
        (2, 1, 2)
    );
}

#[test]
fn report_35_an_empty_file_of_pairs_is_an_error_and_not_a_score() {
    let dir = tempfile::tempdir().unwrap();
    let [empty, full] = [("empty.tsv", ""), ("full.tsv", "ab\tba\n")].map(|(name, text)| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let error = evaluate_pairs(&tiny::char_model(), &[full, empty])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("empty.tsv") && error.contains("at least one pair"),
        "{error}"
    );
}

#[test]
fn report_14_a_scored_text_can_begin_with_bos() {
    let lm = tiny::byte_model();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.txt");
    std::fs::write(&path, "abc").unwrap();
    let tokenizer = lm.tokenizer.as_ref().unwrap();
    let bos = tokenizer.bos_id().unwrap();
    let ids = [vec![bos], tokenizer.encode("abc").unwrap()].concat();
    let expected = score_ids(&lm.model, &ids, 1).unwrap();
    let found = evaluate_files_after_bos(&lm, &[path]).unwrap();
    assert_eq!(found.tokens, 3);
    assert!((found.loss - expected.loss()).abs() < 1e-9);
}
