//! Reading run directories: their states, their damage, and what can be removed.

use std::fs;
use std::path::{Path, PathBuf};

use taal_store::RunLock;
use taal_trainer::{Outcome, Progress, RecipeText, RunState, RunSummary, Silent, Trainer, list_runs, plan_cleaning};

use crate::run_recipe;
use crate::watchers::{Notes, StopAfter};

const RECIPE: &str = r#"
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
[model]
n_layers = 1
n_heads = 2
d_model = 16
[train]
steps = 8
batch_size = 2
block_size = 8
[eval]
every = 2
[checkpoint]
every = 1
keep = 20
[sample]
prompts = []
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let text = "de kat zat op de mat en de hond zat op de kat; ".repeat(20);
        fs::write(place.path("text.txt"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn runs(&self) -> PathBuf {
        self.path("runs")
    }

    fn train(&self, name: &str, sets: &[&str], progress: &mut dyn Progress) -> Outcome {
        let text = RECIPE.replace("TEXT", &self.path("text.txt").display().to_string());
        let source = RecipeText::new("tiny", text);
        run_recipe(&source, sets, &self.runs().join(name), false, progress).unwrap()
    }

    fn only(&self) -> RunSummary {
        let mut found = list_runs(&self.runs()).unwrap();
        assert_eq!((found.runs.len(), found.skipped.len()), (1, 0), "{found:?}");
        found.runs.remove(0)
    }
}

fn steps(run: &Path) -> Vec<u64> {
    taal_trainer::Checkpoints::of(run).steps().unwrap()
}

#[test]
fn a_run_is_stopped_where_it_would_continue_and_finished_with_its_last_step_or_its_patience() {
    let place = Place::new();
    place.train("a", &[], &mut StopAfter::step(3));
    let run = place.only();
    assert_eq!(run.state, RunState::Stopped { saved_step: 3 });
    assert_eq!(
        (run.steps, run.planned_steps, run.tokens),
        (3, Some(8), Some(3 * 2 * 8))
    );
    fs::remove_dir_all(place.runs()).unwrap();
    // With a learning rate near zero the loss does not improve.
    place.train(
        "b",
        &["train.lr=1e-30", "train.min_lr=1e-30", "train.patience=1"],
        &mut Silent,
    );
    let run = place.only();
    assert!(run.steps < 8, "{run:?}");
    assert_eq!(run.state, RunState::Finished);
    // Killed between the last checkpoint and the report.
    fs::remove_file(place.runs().join("b/report.json")).unwrap();
    assert_eq!(place.only().state, RunState::Stopped { saved_step: run.steps });
}

#[test]
fn a_run_of_a_program_and_one_of_0_1_are_listed_too() {
    let place = Place::new();
    let text = RECIPE.replace("files = [\"TEXT\"]", "");
    Trainer::new(RecipeText::new("own", text), place.runs().join("own"))
        .texts(["de kat zat op de mat ".repeat(20)])
        .run()
        .unwrap();
    let run = place.only();
    assert_eq!((run.state, run.recipe.as_str()), (RunState::Finished, "own"));
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let found = list_runs(&golden.join("run-0.1")).unwrap();
    assert_eq!(found.runs[0].state, RunState::Stopped { saved_step: 3 });
    assert!(found.runs[0].params.is_some_and(|params| params > 0));
    let names: Vec<PathBuf> = list_runs(&golden)
        .unwrap()
        .runs
        .into_iter()
        .map(|run| run.dir)
        .collect();
    assert_eq!(names, [golden.join("run-0.1")]);
}

#[test]
fn damage_of_any_file_makes_a_broken_run_and_never_an_error() {
    let place = Place::new();
    place.train("a", &["train.steps=2"], &mut Silent);
    let run = place.runs().join("a");
    let files = [
        "log.jsonl",
        "recipe.resolved.toml",
        "checkpoints/step-00000002/MANIFEST.json",
        "checkpoints/step-00000002/train_state.json",
        "checkpoints/step-00000002/optimizer.safetensors",
    ];
    for file in files {
        let whole = fs::read(run.join(file)).unwrap();
        fs::write(
            run.join(file),
            [b"\xff\xfe\n".as_slice(), &whole[..whole.len() / 2], b"\n"].concat(),
        )
        .unwrap();
        let summary = place.only();
        let RunState::Broken { why } = &summary.state else {
            panic!("{file}: {summary:?}");
        };
        assert!(why.contains(file), "{file}: {why}");
        assert!(plan_cleaning(&place.runs()).unwrap().removals.is_empty(), "{file}");
        fs::write(run.join(file), whole).unwrap();
    }
    assert_eq!(place.only().state, RunState::Finished);
}

#[test]
fn the_newest_best_and_published_checkpoints_and_unfinished_runs_are_kept() {
    let place = Place::new();
    place.train("done", &[], &mut Silent);
    place.train("stopped", &[], &mut StopAfter::step(5));
    let run = place.runs().join("done");
    let best = list_runs(&run).unwrap().runs[0].best_step.unwrap();
    taal_store::publish_link(&run.join("checkpoints/step-00000003/model"), &run.join("model")).unwrap();
    let found = plan_cleaning(&place.runs()).unwrap();
    assert_eq!(found.removals.len(), 1, "{found:?}");
    let mut kept = vec![3, best, 8];
    kept.sort_unstable();
    kept.dedup();
    assert_eq!(found.removals[0].kept, kept);
    let removed = found.remove().unwrap();
    assert_eq!((removed.size_bytes, removed.notes.len()), (found.size_bytes(), 0));
    assert_eq!(steps(&run), kept);
    assert_eq!(steps(&place.runs().join("stopped")), [1, 2, 3, 4, 5]);
}

#[test]
fn a_run_that_changed_or_is_in_use_since_planning_is_left_alone() {
    let place = Place::new();
    place.train("a", &[], &mut Silent);
    let run = place.runs().join("a");
    let before = steps(&run);
    let found = plan_cleaning(&place.runs()).unwrap();
    {
        let _lock = RunLock::acquire(&run).unwrap();
        let removed = found.remove().unwrap();
        assert!(removed.notes[0].contains("in use"), "{removed:?}");
        assert!(plan_cleaning(&place.runs()).unwrap().removals.is_empty());
    }
    assert_eq!(steps(&run), before);
    // A checkpoint to keep is damaged without a change of its size.
    let newest = run.join("checkpoints/step-00000008/optimizer.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    let removed = found.remove().unwrap();
    assert!(removed.notes[0].contains("wrong hash"), "{removed:?}");
    assert_eq!(steps(&run), before);
    fs::remove_dir_all(run.join("checkpoints/step-00000002")).unwrap();
    let removed = found.remove().unwrap();
    assert!(removed.notes[0].contains("has changed"), "{removed:?}");
    assert_eq!(removed.size_bytes, 0);
}

#[test]
fn an_abandoned_start_is_removed_and_a_directory_of_another_program_is_kept() {
    let place = Place::new();
    let (abandoned, foreign) = (place.runs().join("abandoned"), place.runs().join("foreign"));
    for dir in [&abandoned, &foreign] {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(".lock"), "1\n").unwrap();
    }
    fs::write(abandoned.join(".taal-run"), "recipe = \"tiny\"\n").unwrap();
    fs::write(foreign.join(".secret"), "mine").unwrap();
    let found = list_runs(&place.runs()).unwrap();
    let why: Vec<&str> = found.skipped.iter().map(|skipped| skipped.why.as_str()).collect();
    assert_eq!(why, ["a start that ended before its first step", "not a run directory"]);
    let found = plan_cleaning(&place.runs()).unwrap();
    assert_eq!(found.removals.len(), 1, "{found:?}");
    found.remove().unwrap();
    assert!(!abandoned.exists());
    assert!(foreign.join(".secret").exists());
}

#[test]
fn a_text_smaller_than_the_model_and_a_loss_worse_than_guessing_are_noted_once() {
    let place = Place::new();
    let mut notes = Notes::default();
    place.train(
        "wild",
        &["train.lr=3", "train.schedule=constant", "train.warmup_steps=0"],
        &mut notes,
    );
    let count = |words: &str| notes.0.iter().filter(|note| note.contains(words)).count();
    assert_eq!(count("training tokens are few for"), 1, "{:?}", notes.0);
    assert_eq!(count("is worse than guessing"), 1, "{:?}", notes.0);
    assert!(
        notes.0.iter().all(|note| "note: ".len() + note.len() <= 80),
        "{:?}",
        notes.0
    );
}
