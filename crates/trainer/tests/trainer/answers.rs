//! The best checkpoint by a metric of answers, and what looking up the nearest training example is worth.

use std::path::Path;

use taal_metrics::Report;
use taal_trainer::{RecipeText, Silent, TrainError};

use crate::{finished, run_recipe};

const TINY: &str = r#"
[tokenizer]
kind = "bpe"
vocab_size = 257
[model]
n_layers = 1
d_model = 32
n_heads = 2
[train]
steps = 60
batch_size = 4
block_size = 48
lr = 0.02
warmup_steps = 5
[eval]
every = 6
metric = "exact_match"
answer_tokens = 12
"#;

/// Four questions, ten times each: those of the last four rows, which are held out, have been asked before.
fn rows() -> String {
    let row = |index: usize| {
        let (asked, said) = [
            ("kat?", "dier"),
            ("roos?", "plant"),
            ("ijzer?", "metaal"),
            ("hond?", "dier"),
        ][index % 4];
        format!("{{\"instruction\": {asked:?}, \"output\": {said:?}}}\n")
    };
    (0..40).map(row).collect()
}

fn run(text: &str, sets: &[&str], run_dir: &Path) -> Result<Report, TrainError> {
    let outcome = run_recipe(&RecipeText::new("answers", text), sets, run_dir, false, &mut Silent)?;
    Ok(finished(Ok(outcome)))
}

#[test]
fn the_best_checkpoint_and_patience_go_by_the_metric_of_answers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.jsonl"), rows()).unwrap();
    let text = format!("[data]\nconversations = {:?}\n{TINY}", folder.path().join("rows.jsonl"));
    let report = run(&text, &["train.patience=3"], &folder.path().join("run")).unwrap();
    let answers = report.answers.expect("figures");
    let (model, nearest) = (answers.model.unwrap(), answers.nearest.unwrap());
    assert_eq!(answers.questions, 4);
    assert_eq!(
        (nearest.value, nearest.first_word),
        (1.0, 1.0),
        "the same questions were asked in training"
    );
    assert!(model.value >= 0.5, "{model:?}");
    assert_eq!(answers.best, Some(model.value), "the model of the run is the best one");
    let log = taal_metrics::read_log(&folder.path().join("run/log.jsonl")).unwrap();
    let found: Vec<(u64, f64, f64)> = log
        .iter()
        .filter_map(|it| Some((it.step, it.val_answers?, it.val_loss?)))
        .collect();
    let best = found.iter().map(|(_, value, _)| *value).fold(0.0, f64::max);
    assert_eq!(model.value, best);
    // Of equally good ones, the one with the lowest loss.
    let step = found
        .iter()
        .filter(|it| it.1 == best)
        .min_by(|a, b| a.2.total_cmp(&b.2))
        .unwrap()
        .0;
    assert_eq!(report.best_step, Some(step));
    // A lower loss with equally good answers is no gain.
    let gain = found.iter().find(|it| it.1 == best).unwrap().0;
    assert!(
        report.steps == 60 || report.steps == gain + 3 * 6,
        "stopped at {}, the last gain was at step {gain}: {found:?}",
        report.steps
    );
}

#[test]
fn a_metric_without_answers_to_compare_with_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, rows()).unwrap();
    let text = format!("[data]\nfiles = [{path:?}]\n{TINY}");
    let error = run(&text, &[], &folder.path().join("run")).unwrap_err().to_string();
    assert!(
        error.contains("eval.metric") && error.contains("data.conversations"),
        "{error}"
    );
    let text = format!("[data]\nconversations = {path:?}\nvalidation_fraction = 0.0\n{TINY}");
    let error = run(&text, &[], &folder.path().join("run")).unwrap_err().to_string();
    assert!(
        error.contains("eval.metric") && error.contains("validation_fraction"),
        "{error}"
    );
}
