//! What a model forgets when it is trained further: measured, lessened by replay, bounded by a budget.

use std::path::Path;

use taal_metrics::{ForgettingFigures, Report};
use taal_trainer::{Checkpoints, Outcome, Progress, RecipeText, Silent, TrainError};

use crate::watchers::{Notes, StopAfter};
use crate::{finished, run_recipe};

const BASE: &str = r#"
[tokenizer]
kind = "char"
[model]
n_layers = 1
d_model = 32
n_heads = 2
[train]
steps = 60
batch_size = 4
block_size = 16
lr = 0.01
warmup_steps = 5
[eval]
every = 60
"#;

/// Trains fast enough on something else to forget.
const TUNE: &str = r#"
[train]
steps = 24
batch_size = 4
block_size = 16
lr = 0.01
warmup_steps = 0
schedule = "constant"
[eval]
every = 3
[checkpoint]
every = 8
"#;

fn run(
    text: &str,
    sets: &[&str],
    run_dir: &Path,
    is_resume: bool,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    run_recipe(&RecipeText::new("tune", text), sets, run_dir, is_resume, progress)
}

/// A folder with a model in `base` that knows one text, and another text of the same characters.
struct Place {
    folder: tempfile::TempDir,
    base: Report,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("old.txt"),
            "de kat zat op de mat en de hond. ".repeat(40),
        )
        .unwrap();
        std::fs::write(
            folder.path().join("new.txt"),
            "taz et ak ned pohd tam neek no d. ".repeat(40),
        )
        .unwrap();
        let text = format!("[data]\nfiles = [{:?}]\n{BASE}", folder.path().join("old.txt"));
        let base = finished(run(&text, &[], &folder.path().join("base"), false, &mut Silent));
        Self { folder, base }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn recipe(&self) -> String {
        let train = TUNE.replace("[train]\n", &format!("[train]\ninit_from = {:?}\n", self.path("base")));
        format!("[data]\nfiles = [{:?}]\n{train}", self.path("new.txt"))
    }

    #[track_caller]
    fn tuned(&self, sets: &[&str], name: &str) -> (Report, ForgettingFigures) {
        let report = finished(run(&self.recipe(), sets, &self.path(name), false, &mut Silent));
        let found = report.forgetting.clone().expect("figures");
        (report, found)
    }
}

#[test]
fn the_loss_on_the_data_of_the_first_run_is_in_the_report_and_replay_lessens_its_rise() {
    let place = Place::new();
    let (_, plain) = place.tuned(&[], "plain");
    // The same tokens as the first run's own validation.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(plain.before, place.base.best_val_loss.unwrap()), "{plain:?}");
    assert_eq!(Some(plain.tokens), place.base.val_tokens);
    assert!(plain.data.ends_with("old.txt") && plain.share == 0.0 && plain.budget.is_none());
    assert!(plain.rise().unwrap() > 0.3, "{plain:?}");

    let (_, replayed) = place.tuned(&["replay.share=0.5"], "replayed");
    assert!(close(replayed.before, plain.before));
    assert!(
        replayed.rise().unwrap() < 0.5 * plain.rise().unwrap(),
        "{replayed:?} {plain:?}"
    );

    // A bare model directory does not know its data: a note, or the recipe names them.
    std::fs::create_dir(place.path("bare")).unwrap();
    for file in std::fs::read_dir(place.path("base/model")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), place.path("bare").join(file.file_name())).unwrap();
    }
    let bare = place.recipe().replace("base", "bare");
    let mut notes = Notes::default();
    let found = finished(run(&bare, &["train.steps=1"], &place.path("noted"), false, &mut notes));
    assert!(found.forgetting.is_none());
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("not measured") && note.contains("replay.files")),
        "{:?}",
        notes.0
    );
    let old = format!("replay.files=[{:?}]", place.path("old.txt"));
    let found = finished(run(
        &bare,
        &["train.steps=1", &old],
        &place.path("named"),
        false,
        &mut Silent,
    ));
    assert!(close(found.forgetting.unwrap().before, plain.before));
}

#[test]
fn a_budget_raises_replay_and_the_result_holds_it() {
    let place = Place::new();
    let budget = ["replay.budget=0.05"];
    let mut notes = Notes::default();
    let found = finished(run(&place.recipe(), &budget, &place.path("bound"), false, &mut notes));
    let forgotten = found.forgetting.clone().unwrap();
    assert!(forgotten.rise().unwrap() <= 0.05, "{forgotten:?}");
    assert!(forgotten.share >= 0.1, "{forgotten:?}");
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("replay.budget") && note.contains("from here on")),
        "{:?}",
        notes.0
    );
    // The first checkpoint is the model that it starts from.
    let log = taal_metrics::read_log(&place.path("bound/log.jsonl")).unwrap();
    let evaluated: Vec<(u64, f64)> = log.iter().filter_map(|it| Some((it.step, it.old_loss?))).collect();
    assert_eq!(evaluated.len(), 8);
    let best = found.best_step.unwrap();
    let is_held = |step: u64| {
        step == 0
            || evaluated
                .iter()
                .any(|(at, loss)| *at == step && loss - forgotten.before <= 0.05)
    };
    assert!(is_held(best), "step {best} of {evaluated:?}");

    // Interrupted at any step, it ends with the same bits.
    run(
        &place.recipe(),
        &budget,
        &place.path("again"),
        false,
        &mut StopAfter::step(7),
    )
    .unwrap();
    let again = finished(run(&place.recipe(), &budget, &place.path("again"), true, &mut Silent));
    assert_eq!(again.forgetting, found.forgetting);
    for file in [
        "model/model.safetensors",
        "checkpoints/step-00000024/model/model.safetensors",
    ] {
        let [one, other] = ["bound", "again"].map(|run| std::fs::read(place.path(run).join(file)).unwrap());
        assert!(one == other, "{file}");
    }

    // With nothing that holds it, the result is the model that the run starts from.
    let mut notes = Notes::default();
    let harsh = ["replay.budget=0.0", "replay.max_tokens=40"];
    let found = finished(run(&place.recipe(), &harsh, &place.path("harsh"), false, &mut notes));
    if found.best_step == Some(0) {
        assert!(
            notes.0.iter().any(|note| note.contains("started from")),
            "{:?}",
            notes.0
        );
        let weights = |path: &str| std::fs::read(place.path(path).join("model/model.safetensors")).unwrap();
        assert!(weights("harsh") == weights("base"));
    }
    assert!(found.forgetting.unwrap().rise().unwrap() <= 0.0);
    assert!(Checkpoints::of(&place.path("harsh")).steps().unwrap().contains(&24));
}

#[test]
fn old_data_that_nobody_has_are_refused_by_key() {
    let place = Place::new();
    let refused = |text: &str, sets: &[&str], words: &[&str]| {
        let error = run(text, sets, &place.path("no"), false, &mut Silent)
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(error.contains(word), "{word} is not in {error}");
        }
        assert!(!place.path("no").exists(), "nothing is left");
    };
    let new = format!("[data]\nfiles = [{:?}]\n{BASE}", place.path("old.txt"));
    refused(
        &new,
        &["replay.share=0.1"],
        &["replay", "nothing to forget", "train.init_from"],
    );
    let two = ["replay.share=0.1", "replay.corpus=names", "replay.files=[\"a\"]"];
    refused(&place.recipe(), &two, &["replay", "at most one"]);
    refused(
        &place.recipe(),
        &["replay.corpus=zzz"],
        &["replay.corpus", "zzz", "names"],
    );
    // Named data that are not there, also where they are only measured.
    refused(&place.recipe(), &["replay.files=[\"nope.txt\"]"], &["nope.txt"]);
    std::fs::remove_file(place.path("old.txt")).unwrap();
    refused(&place.recipe(), &["replay.budget=0.1"], &["old.txt"]);
}
