//! Several texts in one run: a validation loss of each, and rows by weight.

use std::path::PathBuf;

use taal_metrics::read_log;
use taal_store::ErrorKind;
use taal_trainer::{RecipeText, Report, Silent, TrainError, resolve};

use crate::{finished, run_recipe};

const RECIPE: &str = r#"
seed = 3
[data]
files = ["FOLDER/animals.txt", "FOLDER/numbers.txt"]
[tokenizer]
kind = "wordpiece"
vocab_size = 80
[model]
n_layers = 1
n_heads = 2
d_model = 16
[train]
steps = 30
batch_size = 4
block_size = 12
lr = 2e-2
[eval]
every = 10
[checkpoint]
every = 10
keep = 9
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let animals = "de kat zat op de mat en de hond lag op de bank. ".repeat(40);
        let numbers = "een twee drie vier vijf zes zeven acht. ".repeat(30);
        std::fs::write(folder.path().join("animals.txt"), animals).unwrap();
        std::fs::write(folder.path().join("numbers.txt"), numbers).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, run_dir: &str, sets: &[&str], is_resume: bool) -> Result<Report, TrainError> {
        let text = RECIPE.replace("FOLDER", &self.folder.path().display().to_string());
        let source = RecipeText::new("tiny", text);
        let outcome = run_recipe(&source, sets, &self.path(run_dir), is_resume, &mut Silent)?;
        Ok(finished(Ok(outcome)))
    }

    fn weights(&self, run_dir: &str) -> Vec<u8> {
        crate::weights_at(&self.path(run_dir), 30)
    }
}

/// The loss on the text of this name.
fn loss_on(report: &Report, name: &str) -> f64 {
    let source = report.sources.iter().find(|source| source.name.ends_with(name));
    source.unwrap_or_else(|| panic!("{name} in {:?}", report.sources)).loss
}

#[test]
fn a_run_on_several_texts_reports_the_loss_of_each_and_they_add_up() {
    let place = Place::new();
    for (run, objective) in [
        ("causal", "train.objective=\"next_token\""),
        ("masked", "train.objective=\"masked\""),
    ] {
        let preset = if run == "masked" {
            "model.preset=\"encoder\""
        } else {
            "model.preset=\"llama\""
        };
        let report = place.run(run, &[objective, preset], false).unwrap();
        assert_eq!(report.sources.len(), 2, "{run}");
        let tokens: u64 = report.sources.iter().map(|source| source.tokens).sum();
        assert_eq!(Some(tokens), report.val_tokens, "{run}");
        let nats: f64 = report
            .sources
            .iter()
            .map(|source| source.loss * source.tokens as f64)
            .sum();
        assert!((nats / tokens as f64 - report.val_loss.unwrap()).abs() < 1e-9, "{run}");
        let is_masked = run == "masked";
        assert!(
            report
                .sources
                .iter()
                .all(|source| source.bits_per_byte.is_none() == is_masked)
        );
        assert!(
            report
                .sources
                .iter()
                .all(|source| source.accuracy.is_some() == is_masked)
        );

        let records = read_log(&place.path(run).join("log.jsonl")).unwrap();
        let evaluated: Vec<_> = records.iter().filter(|record| record.val_loss.is_some()).collect();
        assert!(evaluated.len() == 3 && evaluated.iter().all(|record| record.val_by_source.len() == 2));
        let logged: Vec<f64> = evaluated[2].val_by_source.values().copied().collect();
        assert_eq!(
            logged,
            [loss_on(&report, "animals.txt"), loss_on(&report, "numbers.txt")]
        );
    }
    let file = format!("data.files=[\"{}\"]", place.path("animals.txt").display());
    let alone = place.run("alone", &[&file], false).unwrap();
    assert!(alone.val_loss.is_some() && alone.sources.is_empty());
}

#[test]
fn weights_say_which_text_is_learned() {
    let place = Place::new();
    let animals = place.run("animals", &["data.weights=[1, 0]"], false).unwrap();
    let numbers = place.run("numbers", &["data.weights=[0, 1]"], false).unwrap();
    assert!(loss_on(&animals, "animals.txt") + 1.0 < loss_on(&numbers, "animals.txt"));
    assert!(loss_on(&numbers, "numbers.txt") + 1.0 < loss_on(&animals, "numbers.txt"));
}

#[test]
fn a_weighted_run_resumes_to_the_same_bits_and_keeps_its_weights() {
    let place = Place::new();
    // Rates that do not depend on the number of steps.
    let mut sets = vec![
        "data.weights=[1.0, 2.5]",
        "train.schedule=\"constant\"",
        "train.warmup_steps=0",
    ];
    let whole = place.run("whole", &sets, false).unwrap();
    place
        .run("half", &[&sets[..], &["train.steps=20"]].concat(), false)
        .unwrap();
    let resumed = place.run("half", &sets, true).unwrap();
    assert_eq!(place.weights("half"), place.weights("whole"));
    assert_eq!(resumed.sources, whole.sources);
    sets[0] = "data.weights=[1.0, 3.0]";
    let error = place.run("half", &sets, true).unwrap_err();
    assert!(error.to_string().contains("data.weights"), "{error}");
    let other = place.run("other", &sets, false).unwrap();
    assert_ne!(other.sources, whole.sources);
}

#[test]
fn weights_of_a_recipe_give_way_to_another_source_and_say_so() {
    let text = "[data]\ncorpus = \"dutch\"\nweights = [1, 1, 1, 1, 0, 0]\n";
    let resolved = |set: &str| resolve(&RecipeText::new("weighted", text), &[set.to_owned()]).unwrap();
    for set in [
        "data.files=[\"mine.txt\"]",
        "data.corpus=\"names\"",
        "data.shards=\"shards\"",
    ] {
        let found = resolved(set);
        assert_eq!(found.recipe.data.weights, None, "{set}");
        assert!(
            found.notes.iter().any(|note| note.contains("data.weights")),
            "{:?}",
            found.notes
        );
    }
    assert!(resolved("train.steps=10").recipe.data.weights.is_some());
}

#[test]
fn weights_that_do_not_fit_the_texts_are_refused() {
    let place = Place::new();
    for (setting, words) in [
        ("data.weights=[1]", "expected one weight for each of 2 inputs"),
        ("data.weights=[1, -2]", "expected numbers of 0 or more, got -2"),
        ("data.weights=[0, 0]", "at least one number above 0"),
    ] {
        let error = place.run("run", &[setting], false).unwrap_err();
        assert!(error.to_string().contains(words), "{setting}: {error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{setting}");
    }
    assert!(!place.path("run").join("log.jsonl").exists());
}
