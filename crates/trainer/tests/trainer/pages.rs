//! `report.html`: rewritten while a run trains, and correct when it ends, however it ends.

use std::fs;
use std::path::{Path, PathBuf};

use taal_metrics::StepRecord;
use taal_trainer::{Language, Outcome, Progress, RunInfo, Silent, StepInfo, TrainError, Trainer};

use crate::typed;
use crate::watchers::StopAfter;

const RECIPE: &str = r#"
seed = 3
[tokenizer]
kind = "char"
[model]
preset = "qwen3"
n_layers = 1
n_heads = 2
d_model = 16
[train]
steps = 12
batch_size = 3
block_size = 8
lr = 1e-2
warmup_steps = 2
[eval]
every = 4
[sample]
max_tokens = 0
"#;

fn run<'a>(run_dir: &Path, progress: &'a mut dyn Progress) -> Trainer<'a> {
    Trainer::new(typed("tiny", RECIPE), run_dir)
        .texts(["de kat zat op de mat en de hond zat op de kat; ".repeat(20)])
        .progress(progress)
}

fn page(run_dir: &Path) -> String {
    fs::read_to_string(run_dir.join("report.html")).expect("a page")
}

/// Keeps the page at the beginning and after each step.
struct Reader {
    run_dir: PathBuf,
    pages: Vec<String>,
}

impl Progress for Reader {
    fn begin(&mut self, _run: &RunInfo) {
        self.pages.push(page(&self.run_dir));
    }

    fn step(&mut self, _record: &StepRecord, _info: &StepInfo) {
        self.pages.push(page(&self.run_dir));
    }
}

/// Whether the page is that of a run in progress, with the time when it was written.
fn is_live(page: &str) -> bool {
    page.contains("location.reload()") && page.contains("when this page was written, <time ")
}

#[test]
fn the_page_is_rewritten_after_each_evaluation_and_last_when_the_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let mut reader = Reader {
        run_dir: run_dir.clone(),
        pages: Vec::new(),
    };
    run(&run_dir, &mut reader).run().unwrap();
    assert_eq!(reader.pages.len(), 13);
    for (step, page) in reader.pages.iter().enumerate() {
        // After the evaluation of the last step, no live page is written, but the page of the ended run.
        let shown = (step / 4 * 4).min(8);
        let expected = format!("step {shown} of 12");
        assert!(
            is_live(page) && page.contains(&expected),
            "no {expected} after step {step}"
        );
        assert_eq!(page.contains("legend validation"), shown > 0);
    }
    let ended = page(&run_dir);
    assert!(!ended.contains("<script") && !ended.contains("when this page was written"));
}

#[test]
fn the_page_of_a_run_that_was_stopped_or_failed_says_so_and_a_resumed_run_makes_it_live_again() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let stopped = run(&run_dir, &mut StopAfter::step(6)).run().unwrap();
    assert!(matches!(stopped, Outcome::Interrupted(_)));
    assert!(page(&run_dir).contains("Interrupted at step 6 of 12") && !is_live(&page(&run_dir)));

    let mut reader = Reader {
        run_dir: run_dir.clone(),
        pages: Vec::new(),
    };
    run(&run_dir, &mut reader).resume().run().unwrap();
    assert!(is_live(&reader.pages[0]) && reader.pages[0].contains("step 6 of 12"));
    assert!(reader.pages[0].contains("last resumed from step 6"));
    assert!(!is_live(&page(&run_dir)));

    let run_dir = folder.path().join("diverged");
    let error = run(&run_dir, &mut Silent)
        .set("train.lr=10.0")
        .set("model.init_std=10.0")
        .set("train.weight_decay=10.0")
        .set("train.steps=500")
        .run()
        .expect_err("a run that diverges");
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    let failed = page(&run_dir);
    assert!(!is_live(&failed));
    assert!(failed.contains("Ended by an error after step"), "{failed}");
}

/// Replaces the page by a folder, and removes the folder before the end.
struct Blocker {
    page: PathBuf,
    notes: Vec<String>,
}

impl Progress for Blocker {
    fn note(&mut self, message: &str) {
        self.notes.push(message.to_string());
    }

    fn begin(&mut self, _run: &RunInfo) {
        fs::remove_file(&self.page).unwrap();
        fs::create_dir(&self.page).unwrap();
    }

    fn step(&mut self, record: &StepRecord, _info: &StepInfo) {
        if record.step == 10 {
            fs::remove_dir(&self.page).unwrap();
        }
    }
}

#[test]
fn a_page_that_cannot_be_written_is_reported_once_and_does_not_end_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let mut blocker = Blocker {
        page: run_dir.join("report.html"),
        notes: Vec::new(),
    };
    run(&run_dir, &mut blocker).run().unwrap();
    let said = blocker.notes.iter().filter(|note| note.contains("report.html"));
    assert_eq!(said.count(), 1, "{:?}", blocker.notes);
    assert!(page(&run_dir).contains("</html>"));
}

#[test]
fn the_language_of_the_page_changes_no_weight_and_no_figure() {
    let folder = tempfile::tempdir().unwrap();
    let [english, dutch] = [Language::English, Language::Dutch].map(|language| {
        let run_dir = folder.path().join(language.code());
        run(&run_dir, &mut Silent).language(language).run().unwrap();
        assert!(page(&run_dir).contains(&format!("<html lang=\"{language}\">")));
        let records = taal_metrics::read_log(&run_dir.join("log.jsonl")).unwrap();
        let losses: Vec<_> = records.iter().map(|it| (it.loss, it.grad_norm, it.val_loss)).collect();
        (losses, fs::read(run_dir.join("model/model.safetensors")).unwrap())
    });
    assert_eq!(english.0.len(), 12);
    assert!(english == dutch);
}
