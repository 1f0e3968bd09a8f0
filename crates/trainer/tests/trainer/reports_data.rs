//! Problems that users of other programs reported about data, samples and evaluations. Each test has the number of the
//! report.

use std::path::Path;

use taal_store::ErrorKind;
use taal_trainer::{Checkpoints, Outcome, TrainError, TrainState};

use crate::watchers::Notes;
use crate::{finished, run_recipe, typed};

const TINY: &str = r#"
[tokenizer]
kind = "char"
[model]
n_layers = 1
d_model = 16
n_heads = 2
[train]
steps = 4
batch_size = 2
block_size = 16
[eval]
every = 2
"#;

/// Runs a recipe on one file, with settings; also returns the notes.
fn run(
    folder: &Path,
    data: (&str, &str, &str),
    sets: &[&str],
    is_resume: bool,
) -> (Result<Outcome, TrainError>, String) {
    run_with(folder, data, TINY, sets, is_resume)
}

/// The same with another recipe.
fn run_with(
    folder: &Path,
    data: (&str, &str, &str),
    recipe: &str,
    sets: &[&str],
    is_resume: bool,
) -> (Result<Outcome, TrainError>, String) {
    let (key, name, text) = data;
    let path = folder.join(name);
    if !is_resume {
        std::fs::write(&path, text).unwrap();
    }
    let path = path.display().to_string();
    let value = if key == "files" {
        format!("[{path:?}]")
    } else {
        format!("{path:?}")
    };
    let source = typed("tiny", format!("[data]\n{key} = {value}\n{recipe}"));
    let mut notes = Notes::default();
    let outcome = run_recipe(&source, sets, &folder.join("run"), is_resume, &mut notes);
    (outcome, notes.0.join("\n"))
}

fn text() -> String {
    "de kat zat op de mat en de hond zat op de kat; ".repeat(20)
}

#[track_caller]
fn refused(outcome: Result<Outcome, TrainError>, folder: &Path, words: &[&str]) {
    let error = outcome.unwrap_err();
    let said = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Usage, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    assert!(
        !folder.join("run/checkpoints").join("step-00000004").exists(),
        "nothing was trained"
    );
}

const MASKED: [&str; 4] = [
    "tokenizer.kind=\"wordpiece\"",
    "tokenizer.vocab_size=60",
    "model.preset=\"encoder\"",
    "train.objective=\"masked\"",
];

#[test]
fn report_15_a_sample_prompt_that_cannot_be_used_is_refused_before_step_0() {
    let long = format!("sample.prompts=[{:?}]", format!("{} [MASK]", "kat ".repeat(30)));
    let cases: [(&[&str], &str, &[&str]); 4] = [
        (&[], "sample.prompts=[\"de\", \"café\"]", &["sample.prompts[2]", "café"]),
        (
            &[],
            "sample.prompts=[\"\"]",
            &["sample.prompts[1]", "beginning-of-text"],
        ),
        (&MASKED, "sample.prompts=[\"de kat\"]", &["sample.prompts[1]", "[MASK]"]),
        (&MASKED, &long, &["sample.prompts[1]", "context of 16"]),
    ];
    for (model, prompts, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        let sets = [model, &[prompts]].concat();
        let (outcome, _) = run(folder.path(), ("files", "text.txt", &text()), &sets, false);
        refused(outcome, folder.path(), words);
    }
}

/// A line of the data is refused before there is a run.
fn corrupt(outcome: Result<Outcome, TrainError>, words: &[&str]) {
    let error = outcome.unwrap_err();
    let said = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn report_16_nothing_to_learn_is_refused_before_step_0() {
    let folder = tempfile::tempdir().unwrap();
    let empty = "{\"prompt\":\"\",\"completion\":\"a\"}\n".repeat(20);
    let (outcome, _) = run(folder.path(), ("conversations", "a.jsonl", &empty), &[], false);
    corrupt(outcome, &["a.jsonl, line 1", "no token of it is learned"]);

    let (outcome, _) = run(
        folder.path(),
        ("files", "text.txt", &text()),
        &["train.block_size=1"],
        false,
    );
    refused(outcome, folder.path(), &["train.block_size"]);
}

#[test]
fn report_16_text_that_the_tokenizer_does_not_know_is_refused_with_its_share() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::WordPiece, 60)
        .train([text()])
        .unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    let file = format!(
        "[data]\nfiles = [{:?}]\n{}",
        folder.path().join("zh.txt").display().to_string(),
        TINY.replace("kind = \"char\"", &format!("file = {:?}", path.display().to_string()))
    );
    let file = typed("tiny", file);
    let attempt = |text: &str| {
        std::fs::write(folder.path().join("zh.txt"), text).unwrap();
        let mut notes = Notes::default();
        let outcome = run_recipe(&file, &[], &folder.path().join("run"), false, &mut notes);
        (outcome, notes.0.join("\n"))
    };
    let (outcome, _) = attempt(&"猫坐在垫子上 ".repeat(200));
    refused(outcome, folder.path(), &["100.0 %", "unknown token"]);
    let (outcome, notes) = attempt(&"de kat zat 猫 op 垫 de mat ".repeat(50));
    finished(outcome);
    assert!(
        notes.contains("% of the training tokens are the unknown token"),
        "{notes}"
    );
}

#[test]
fn report_16_an_example_without_a_token_to_learn_is_refused_by_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"prompt\":\"b?\",\"completion\":\"c\"}\n{\"prompt\":\"\",\"completion\":\"a\"}\n".repeat(10);
    let (outcome, _) = run(folder.path(), ("conversations", "a.jsonl", &lines), &[], false);
    corrupt(outcome, &["a.jsonl, line 2", "no token of it is learned"]);
}

#[test]
fn report_16_what_truncation_takes_from_examples_is_counted_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        "{\"prompt\":\"b?\",\"completion\":\"c\"}\n{\"prompt\":\"cc\",\"completion\":\"bbbbbbbbbbbbbbbbbbbb\"}\n"
            .repeat(10);
    let sets = ["data.validation_fraction=0.0"];
    let (outcome, notes) = run(folder.path(), ("conversations", "a.jsonl", &lines), &sets, false);
    finished(outcome);
    for note in [
        "10 examples are longer than train.block_size = 16 and were cut",
        "10 of 20 examples are longer than train.block_size by their answer alone and lost its end",
    ] {
        assert!(notes.contains(note), "no {note:?} in {notes}");
    }
}

#[test]
fn report_17_masked_validation_includes_texts_shorter_than_a_window() {
    let folder = tempfile::tempdir().unwrap();
    let short = "de kat zat op de mat; ".repeat(12);
    let sets = [
        &MASKED[..],
        &["data.validation_fraction=0.1", "train.patience=1", "train.lr=0.0000001"],
    ]
    .concat();
    let (outcome, _) = run(folder.path(), ("files", "text.txt", &short), &sets, false);
    let report = finished(outcome);
    assert_eq!(report.objective, "masked");
    assert!(report.val_loss.is_some() && report.val_tokens > Some(0), "{report:?}");
    assert!(report.masked.is_some());
}

#[test]
fn report_22_bits_per_byte_leave_out_the_first_token_that_nothing_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let (outcome, _) = run(folder.path(), ("files", "text.txt", &text()), &[], false);
    let report = finished(outcome);
    // One byte per token, and all but the first are scored.
    assert_eq!(report.val_bytes, report.val_tokens);
    let nats = report.val_loss.unwrap() * report.val_tokens.unwrap() as f64;
    let expected = nats / std::f64::consts::LN_2 / report.val_bytes.unwrap() as f64;
    assert!((report.val_bits_per_byte.unwrap() - expected).abs() < 1e-9);
}

#[test]
fn report_22_samples_come_from_the_model_in_the_run_directory() {
    let folder = tempfile::tempdir().unwrap();
    // The validation text is different, so its loss rises during training.
    let text = ["ab".repeat(450), "zy".repeat(50)].concat();
    let sets = [
        "train.steps=12",
        "train.lr=0.03",
        "train.warmup_steps=0",
        "eval.every=1",
        "sample.prompts=[\"ab\"]",
        "sample.max_tokens=20",
        "sample.temperature=0.0",
    ];
    let (outcome, _) = run(folder.path(), ("files", "text.txt", &text), &sets, false);
    let report = finished(outcome);
    assert!(report.best_step < Some(12), "{report:?}");
    let lm = taal_inference::LanguageModel::open(&folder.path().join("run"), &burn::tensor::Device::flex()).unwrap();
    let options = taal_inference::GenerateOptions {
        max_tokens: 20,
        sampling: taal_inference::Sampling::greedy(),
        ..Default::default()
    };
    let prompt = taal_inference::Prompt::Text("ab".to_string());
    let expected =
        taal_inference::generate(&lm, &prompt, &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!(report.samples[0].text, expected.text.unwrap());

    let (outcome, _) = run(folder.path(), ("files", "text.txt", &text), &sets, true);
    assert_eq!(finished(outcome).samples, report.samples);
}

#[test]
fn report_18_the_loss_of_packed_conversations_is_not_below_the_possible_minimum() {
    // The answers are a fair choice among five: no model can be better than ln 5 = 1.609 on them, unless it sees the
    // neighbors in its row, which are sorted.
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..400)
        .map(|index| {
            format!(
                "{{\"prompt\":\"q\",\"completion\":\"{}\"}}\n",
                ["a", "b", "c", "d", "e"][index / 80]
            )
        })
        .collect();
    let sets = [
        "train.steps=150",
        "train.batch_size=4",
        "train.lr=0.01",
        "train.warmup_steps=0",
        "data.validation_fraction=0.0",
        "eval.every=1000",
    ];
    let (outcome, _) = run(folder.path(), ("conversations", "groups.jsonl", &lines), &sets, false);
    finished(outcome);
    let log = taal_metrics::read_log(&folder.path().join("run").join(taal_metrics::LOG_NAME)).unwrap();
    let last: Vec<f64> = log.iter().rev().take(50).map(|record| record.loss).collect();
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    assert!(mean > 1.55 && mean < 1.75, "{mean}");
}

/// A tokenizer without the characters of [`UNKNOWN`] in its vocabulary, and a text in which most windows of 16 tokens
/// contain nothing else.
fn mostly_unknown(folder: &Path) -> (String, String) {
    let path = folder.join("tokenizer.json");
    let tokenizer = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::WordPiece, 60)
        .train([text()])
        .unwrap();
    tokenizer.save(&path).unwrap();
    let text = format!("{}{}", UNKNOWN.repeat(900), text());
    (format!("file = {:?}", path.display().to_string()), text)
}

const UNKNOWN: &str = "猫 ";

#[test]
fn report_16_batches_without_targets_are_skipped_and_a_resumed_run_skips_the_same() {
    let sets = [
        "model.preset=\"encoder\"",
        "train.objective=\"masked\"",
        "train.batch_size=1",
        "train.accumulation=2",
        "data.validation_fraction=0.0",
        "eval.every=100",
        "train.warmup_steps=0",
        "train.schedule=\"constant\"",
        "checkpoint.every=1",
        "checkpoint.keep=20",
    ];
    let masked = |folder: &Path, steps: &str, is_resume: bool| {
        let (tokenizer, text) = mostly_unknown(folder);
        let recipe = TINY.replace("kind = \"char\"", &tokenizer);
        let sets = [&sets[..], &[steps]].concat();
        let (outcome, _) = run_with(folder, ("files", "text.txt", &text), &recipe, &sets, is_resume);
        finished(outcome)
    };
    let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let report = masked(whole.path(), "train.steps=8", false);
    assert_eq!((report.steps, report.skipped_steps), (8, 0));
    let log = |folder: &Path| taal_metrics::read_log(&folder.join("run").join(taal_metrics::LOG_NAME)).unwrap();
    let losses: Vec<f64> = log(whole.path()).iter().map(|record| record.loss).collect();
    assert_eq!(losses.len(), 8);
    // A step without targets would have a loss of 0, or NaN after division by the number of targets.
    assert!(losses.iter().all(|loss| *loss > 0.0 && loss.is_finite()), "{losses:?}");
    let state = |folder: &Path, step: u64| {
        let path = Checkpoints::of(&folder.join("run")).path(step).join("train_state.json");
        serde_json::from_slice::<TrainState>(&std::fs::read(path).unwrap()).unwrap()
    };
    let passed_over = state(whole.path(), 8).health.batch_offset;
    assert!(passed_over > 8, "most windows have nothing to predict: {passed_over}");

    // Batches skipped before the stop are not drawn again.
    masked(broken.path(), "train.steps=3", false);
    masked(broken.path(), "train.steps=8", true);
    let weights = |folder: &Path| {
        let path = Checkpoints::of(&folder.join("run")).path(8);
        std::fs::read(path.join("model/model.safetensors")).unwrap()
    };
    assert_eq!(
        log(broken.path()).iter().map(|record| record.loss).collect::<Vec<_>>(),
        losses
    );
    assert!(weights(whole.path()) == weights(broken.path()));
}

#[test]
fn report_16_text_in_which_no_batch_has_a_target_ends_the_run_with_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let (tokenizer, _) = mostly_unknown(folder.path());
    let recipe = TINY.replace("kind = \"char\"", &tokenizer);
    let sets = [
        "model.preset=\"encoder\"",
        "train.objective=\"masked\"",
        "data.validation_fraction=0.0",
    ];
    let text = "[SEP] ".repeat(400);
    let (outcome, _) = run_with(folder.path(), ("files", "text.txt", &text), &recipe, &sets, false);
    refused(
        outcome,
        folder.path(),
        &["data", "batch after batch has no token to learn"],
    );
}

/// The validation text differs from the training text, so that its loss rises.
fn two_languages(count: usize) -> String {
    [
        "de kat zat op de mat en ".repeat(count),
        "zag uil bij vis ".repeat(count / 4),
    ]
    .concat()
}

#[test]
fn report_17_patience_ends_next_token_and_masked_training() {
    let sets = [
        "train.steps=60",
        "train.patience=2",
        "train.lr=0.03",
        "train.warmup_steps=0",
        "train.schedule=\"constant\"",
        "eval.every=1",
    ];
    for objective in [&[][..], &MASKED[..]] {
        let folder = tempfile::tempdir().unwrap();
        let sets = [objective, &sets[..]].concat();
        let attempt = |is_resume| {
            run(
                folder.path(),
                ("files", "text.txt", &two_languages(40)),
                &sets,
                is_resume,
            )
        };
        let (outcome, notes) = attempt(false);
        let report = finished(outcome);
        assert!(report.steps < 60, "{report:?}");
        assert_eq!(report.best_step.unwrap() + 2, report.steps, "{report:?}");
        assert!(
            notes.contains("stopped early: 2 evaluations without a better loss"),
            "{notes}"
        );
        // A resumed run is still out of patience.
        let (outcome, _) = attempt(true);
        let again = finished(outcome);
        assert_eq!((again.steps, again.best_step), (report.steps, report.best_step));
    }
}
