//! Multiple choice, by causal and by masked models.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_evaluation::{
    ChoiceAccuracy, ChoiceItem, ChoiceOptions, LeftOut, Normalize, evaluate_choices, log_likelihood, read_choices,
    score_choices,
};
use taal_inference::LanguageModel;
use taal_model::TransformerConfig;
use taal_tokenizer::{Kind, TrainerConfig};

use crate::size;
use crate::tiny::{char_model, model};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/choices")
        .join(name)
}

fn expected() -> serde_json::Value {
    let text = std::fs::read_to_string(golden("expected.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn log_likelihoods_are_those_of_the_harness_and_transformers() {
    let lm = LanguageModel::open(&golden("gpt2"), &Device::flex()).unwrap();
    let items = read_choices(&golden("items.jsonl")).unwrap();
    let expected = expected();
    assert_eq!(items.len(), 50);
    let mut n_truncated = 0;
    for ((line, item), wanted) in items.iter().zip(expected["items"].as_array().unwrap()) {
        let scores = score_choices(&lm, item, &ChoiceOptions::default()).unwrap();
        assert_eq!(scores.len(), wanted["tokens"].as_array().unwrap().len());
        for (index, score) in scores.iter().enumerate() {
            assert_eq!(score.tokens, wanted["tokens"][index].as_u64().unwrap(), "line {line}");
            let value = wanted["log_likelihoods"][index].as_f64().unwrap();
            assert!(
                (score.log_likelihood - value).abs() < 1e-4,
                "line {line}: {score:?} is not {value}"
            );
            n_truncated += usize::from(score.is_truncated);
        }
    }
    assert_eq!(n_truncated, 4, "choices whose context is too long");
    for normalize in [
        Normalize::None,
        Normalize::Tokens,
        Normalize::Characters,
        Normalize::Bytes,
    ] {
        let options = ChoiceOptions {
            normalize,
            ..ChoiceOptions::default()
        };
        let found = evaluate_choices(&lm, &[golden("items.jsonl")], &options).unwrap();
        let counts = |it: ChoiceAccuracy| serde_json::json!({"correct": it.correct, "ties": it.ties});
        let accuracy = found.all.normalized.unwrap_or(found.all.plain);
        assert_eq!(counts(found.all.plain), expected["accuracy"]["none"]);
        assert_eq!(counts(accuracy), expected["accuracy"][normalize.to_string()]);
        assert_eq!((found.all.total, found.files[0].name.as_str()), (50, "items"));
    }
}

#[test]
fn lengths_are_tokens_or_bytes_and_ties_count_as_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("few.jsonl");
    // The same choice twice is a tie, whichever is right.
    let lines = "{\"context\": \"abc\", \"choices\": [\"de\", \"de\"], \"answer\": 0}\n\
                 {\"ctx\": \"abc\", \"endings\": [\"d\", \"fghi\", \"e\", \"l\"], \"label\": \"B\"}\n";
    std::fs::write(&path, lines).unwrap();
    let lm = char_model();
    let item = &read_choices(&path).unwrap()[1].1;
    let scores = score_choices(&lm, item, &ChoiceOptions::default()).unwrap();
    // A space and the letters, each of them a token, each letter a byte.
    assert_eq!(
        scores
            .iter()
            .map(|score| (score.tokens, score.bytes))
            .collect::<Vec<_>>(),
        [(2, 1), (5, 4), (2, 1), (2, 1)]
    );
    for (normalize, length) in [
        (Normalize::Tokens, 1),
        (Normalize::Characters, 0),
        (Normalize::Bytes, 0),
    ] {
        let options = ChoiceOptions {
            normalize,
            ..ChoiceOptions::default()
        };
        let found = evaluate_choices(&lm, std::slice::from_ref(&path), &options)
            .unwrap()
            .all;
        assert_eq!((found.total, found.plain.ties), (2, 1));
        assert!((found.chance - 0.375).abs() < 1e-12);
        let mean = |index: usize| scores[index].log_likelihood / (scores[index].bytes + length) as f64;
        let is_right = [0, 2, 3].iter().all(|other| mean(1) > mean(*other));
        let normalized = found.normalized.unwrap();
        assert_eq!((normalized.correct, normalized.ties), (u64::from(is_right), 1));
    }
    let none = ChoiceOptions {
        normalize: Normalize::None,
        ..ChoiceOptions::default()
    };
    assert_eq!(evaluate_choices(&lm, &[path], &none).unwrap().all.normalized, None);
}

#[test]
fn a_masked_model_masks_every_token_of_the_choice() {
    let text = "de kat zat op de mat en de hond op de bank ";
    let tokenizer = TrainerConfig::new(Kind::WordPiece, 80).train([text.repeat(9)]).unwrap();
    let config = TransformerConfig::bert(size(tokenizer.vocab_size(), 16, 1, 2, 16));
    let lm = LanguageModel::new(model(&config, 3), Some(tokenizer));
    let item = |context: &str, choice: &str| ChoiceItem {
        context: context.to_owned(),
        choices: vec![choice.to_owned(), "de".to_owned()],
        answer: 0,
    };
    let score = |item: &ChoiceItem| score_choices(&lm, item, &ChoiceOptions::default()).unwrap()[0];
    // Without a context, the choice is a text.
    let alone = score(&item("", "de kat zat"));
    assert!((alone.log_likelihood - log_likelihood(&lm, "de kat zat").unwrap()).abs() < 1e-5);
    // The log-likelihood of both parts is the sum over their tokens; here only the second part's.
    let after = score(&item("de kat zat", "op de mat"));
    assert!(after.log_likelihood > log_likelihood(&lm, "de kat zat op de mat").unwrap());
    assert_eq!((after.tokens, after.is_truncated), (3, false));
    assert!(score(&item(&text.repeat(3), "op de mat")).is_truncated);
}

#[test]
fn answers_are_read_in_the_forms_of_several_collections() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forms.jsonl");
    let lines = [
        (r#"{"question": "q", "choices": ["x", "y", "z"], "answer": 2}"#, "q", 2),
        (
            r#"{"ctx": "q", "endings": ["x", "y", "z"], "label": "1", "activity_label": "w"}"#,
            "q",
            1,
        ),
        (
            r#"{"context": "c", "question": "q", "options": ["x", "y"], "gold": "b"}"#,
            "c\nq",
            1,
        ),
        (
            r#"{"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}"#,
            "q",
            1,
        ),
    ];
    std::fs::write(&path, lines.map(|(line, _, _)| format!("{line}\n\n")).concat()).unwrap();
    let items = read_choices(&path).unwrap();
    for ((line, item), (index, (_, context, answer))) in items.iter().zip(lines.iter().enumerate()) {
        assert_eq!(
            (*line, item.context.as_str(), item.answer),
            (2 * index + 1, *context, *answer)
        );
    }
}

#[test]
fn bad_items_are_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = r#"{"context": "abc", "choices": ["d", "e"], "answer": 0}"#;
    let lm = char_model();
    for (bad, expected) in [
        (
            r#"{"choices": ["d", "e"], "answer": 0}"#,
            "expected a context, ctx or question",
        ),
        (r#"{"context": "abc", "answer": 0}"#, "missing field `choices`"),
        (r#"{"context": "abc", "choices": ["d", "e"]}"#, "missing field `answer`"),
        (
            r#"{"context": "abc", "choices": ["d"], "answer": 0}"#,
            "at least two choices, got 1",
        ),
        (
            r#"{"context": "abc", "choices": ["d", " "], "answer": 0}"#,
            "choice 1 is empty",
        ),
        (
            r#"{"context": "abc", "choices": ["d", "e"], "answer": 2}"#,
            "answer 2 is none of the 2 choices",
        ),
        (
            r#"{"context": "abc", "choices": ["d", "e"], "answer": -1}"#,
            "answer -1",
        ),
        (
            r#"{"context": "abc", "choices": ["d", "e"], "answer": "C"}"#,
            "answer \"C\"",
        ),
        (
            r#"{"context": "abc", "choices": ["d", "e"], "answer": 1.5}"#,
            "index or letter",
        ),
        (r#"{"context": "abc", "choices": "de", "answer": 1}"#, "a list of texts"),
        (
            r#"{"context": "abc", "choices": {"text": ["d", "e"], "label": ["A"]}, "answer": "A"}"#,
            "a label for each",
        ),
        (r#"{"context": "abc", "choices": ["d", "e"], "answer": 0"#, "EOF"),
        (
            r#"{"context": "abc", "choices": ["d", "E"], "answer": 0}"#,
            "not in the vocabulary",
        ),
        (
            r#"{"context": "", "choices": ["d", "e"], "answer": 0}"#,
            "no token of the tokenizer begins a text",
        ),
        (
            r#"{"context": "a", "choices": ["d", "eeeeeeeeeeeeeeeeeee"], "answer": 0}"#,
            "do not fit the model's context of 13",
        ),
    ] {
        let path = folder.path().join("items.jsonl");
        std::fs::write(&path, format!("{good}\n{bad}\n")).unwrap();
        let found = evaluate_choices(&lm, &[path], &ChoiceOptions::default());
        // Items that can be read but not scored are left out.
        let error = found.and_then(|found| LeftOut::check(&found.left_out, found.all.total));
        let words = error
            .unwrap_err()
            .to_string()
            .replace("items.jsonl, line 2", "items.jsonl: line 2");
        assert!(
            words.contains("items.jsonl: line 2: ") && words.contains(expected),
            "{words}"
        );
    }
    let path = folder.path().join("none.jsonl");
    std::fs::write(&path, "\n").unwrap();
    let error = evaluate_choices(&lm, &[path], &ChoiceOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none.jsonl: line 1") && error.contains("at least one item"),
        "{error}"
    );
}
