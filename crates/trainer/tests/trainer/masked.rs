//! Masked language models: they learn to fill gaps, resume to the same bits, and are compared with counting.

use std::path::PathBuf;

use taal_inference::{FillOptions, LanguageModel, fill};
use taal_kernels::DeviceSpec;
use taal_store::ErrorKind;
use taal_trainer::{Outcome, Progress, Report, Silent, TrainError};

use crate::watchers::StopAfter;
use crate::{finished, run_recipe, typed};

const RECIPE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "wordpiece"
vocab_size = 80
[model]
preset = "encoder"
n_layers = 1
n_heads = 2
d_model = 32
[train]
objective = "masked"
steps = 150
batch_size = 8
block_size = 24
accumulation = 2
optimizer = "muon"
lr = 2e-2
muon_lr = 0.02
schedule = "linear"
clip_norm = 1.0
[eval]
every = 50
[checkpoint]
every = 60
keep = 9
[sample]
prompts = ["de kat zat op de [MASK]"]
rank = ["mat", "voorbeeldzin"]
"#;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Each word determines the word that follows several positions later.
        let pairs = [("kat", "mat"), ("hond", "bank"), ("vis", "plank"), ("uil", "tak")];
        let text: String = (0..600)
            .map(|i| {
                let (animal, place) = pairs[(i * 7919 + 13 * i * i) % 97 % 4];
                format!("de {animal} zat op de {place} en ")
            })
            .collect();
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        run_dir: &str,
        sets: &[&str],
        is_resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, TrainError> {
        let text = RECIPE.replace("TEXT", &self.path("text.txt").display().to_string());
        run_recipe(&typed("tiny", text), sets, &self.path(run_dir), is_resume, progress)
    }

    fn finish(&self, run_dir: &str, sets: &[&str], is_resume: bool) -> Report {
        finished(self.run(run_dir, sets, is_resume, &mut Silent))
    }

    fn weights(&self, run_dir: &str) -> Vec<u8> {
        crate::weights_at(&self.path(run_dir), 150)
    }
}

#[test]
fn a_masked_model_learns_what_counting_neighbors_cannot_know() {
    let place = Place::new();
    let report = place.finish("run", &["train.steps=600", "data.validation_fraction=0.3"], false);
    let masked = report.masked.expect("figures of a masked model");
    let [low, high] = masked.model.accuracy_interval;
    assert!(low < masked.model.accuracy && masked.model.accuracy < high);
    assert!(masked.model.accuracy > masked.neighbors.accuracy + 0.05, "{masked:?}");
    assert!(masked.neighbors.accuracy > masked.unigram.accuracy, "{masked:?}");
    assert!(masked.model.perplexity < masked.neighbors.perplexity, "{masked:?}");
    assert!((masked.model.perplexity.ln() - report.val_loss.unwrap()).abs() < 1e-9);
    assert_eq!(report.val_bits_per_byte, None);

    // The preset belongs to a published family, so other programs can open the trained model.
    let json = std::fs::read_to_string(place.path("run/model/config.json")).unwrap();
    assert!(json.contains("\"model_type\": \"modernbert\""), "{json}");

    let lm = LanguageModel::open(&place.path("run"), &DeviceSpec::Flex.open().unwrap()).unwrap();
    let options = FillOptions {
        rank: vec!["bank".to_string(), "tak".to_string(), "ongeziene".to_string()],
        ..FillOptions::default()
    };
    let sentence = "de vis zat op de plank en de hond zat op de [MASK] en de kat zat op de mat";
    let filled = fill(&lm, sentence, &options).unwrap();
    assert_eq!(filled.gaps[0].guesses[0].text, "bank", "{filled:?}");
    assert_eq!(filled.filled, sentence.replace("[MASK]", "bank"));
    assert_eq!(filled.ranks[0].rank, Some(1));
    assert!(
        filled.ranks[1].rank > Some(1) && filled.ranks[2].rank.is_none(),
        "{:?}",
        filled.ranks
    );
    let sum: f64 = filled.gaps[0].guesses.iter().map(|guess| guess.probability).sum();
    assert!(sum > 0.9 && sum <= 1.0 + 1e-6, "{sum}");

    let two = fill(
        &lm,
        "de [MASK] zat op de tak en de vis zat op de [MASK] en de",
        &FillOptions::default(),
    )
    .unwrap();
    assert_eq!(two.gaps.len(), 2);
    assert!(
        two.filled.starts_with("de uil zat") && two.filled.contains("op de plank en"),
        "{}",
        two.filled
    );
    let ranks = &report.samples[0].ranks;
    assert!(
        ranks
            .iter()
            .any(|rank| rank.word == "mat" && rank.rank.is_some() && rank.probability.is_some())
    );
    // A word of more than one token has none.
    assert!(ranks.iter().any(|rank| rank.rank.is_none()), "{ranks:?}");
}

#[test]
fn a_masked_run_that_stops_and_resumes_ends_with_equal_bits() {
    let place = Place::new();
    let unbroken = place.finish("unbroken", &[], false);
    // During the evaluation of step 50, and between evaluations.
    for stop in [50, 77] {
        let run = format!("stopped-{stop}");
        assert!(matches!(
            place.run(&run, &[], false, &mut StopAfter::step(stop)).unwrap(),
            Outcome::Interrupted(_)
        ));
        let report = place.finish(&run, &[], true);
        assert_eq!(report.resumed_from, Some(stop));
        assert!(place.weights(&run) == place.weights("unbroken"), "stopped at {stop}");
        assert_eq!(report.masked, unbroken.masked);
    }
}

#[test]
fn the_validation_masks_do_not_depend_on_the_batch_size() {
    let place = Place::new();
    let one = place.finish("one", &["train.steps=5", "eval.batch_size=1"], false);
    let many = place.finish("many", &["train.steps=5", "eval.batch_size=64"], false);
    let [one, many] = [one, many].map(|report| report.masked.unwrap());
    assert_eq!((one.tokens, one.model.accuracy), (many.tokens, many.model.accuracy));
    assert!((one.model.perplexity / many.model.perplexity - 1.0).abs() < 1e-5);
}

#[test]
fn combinations_that_make_no_sense_are_refused_with_the_key() {
    let place = Place::new();
    for (set, key) in [
        ("tokenizer.kind=char", "train.objective"),
        ("train.objective=next_token", "masking"),
        ("masking.random=0.3", "masking.random"),
        ("masking.fraction=0", "masking.fraction"),
        ("masking.unit=letter", "masking.unit"),
    ] {
        let mut sets = vec![set];
        if set.starts_with("train.objective") {
            sets.push("masking.fraction=0.2");
        }
        let error = place.run("run", &sets, false, &mut Silent).unwrap_err();
        assert!(error.to_string().contains(key), "{set}: {error}");
        assert_eq!(error.kind(), ErrorKind::Usage, "{set}: {error}");
    }
    let error = place
        .run("run", &["train.objective=next_token"], false, &mut Silent)
        .unwrap_err();
    assert!(error.to_string().contains("model.preset"), "{error}");
}

#[test]
fn causal_models_fill_no_gaps_and_masked_ones_do_not_continue_text() {
    let place = Place::new();
    place.finish("masked", &["train.steps=2"], false);
    place.finish(
        "causal",
        &[
            "train.steps=2",
            "train.objective=next_token",
            "model.preset=llama",
            "sample.prompts=[]",
        ],
        false,
    );
    let device = DeviceSpec::Flex.open().unwrap();
    let [masked, causal] = ["masked", "causal"].map(|run| LanguageModel::open(&place.path(run), &device).unwrap());
    let error = fill(&causal, "de [MASK]", &FillOptions::default()).unwrap_err();
    assert!(error.to_string().contains("train.objective"), "{error}");
    let error = fill(&masked, "de kat", &FillOptions::default()).unwrap_err();
    assert!(error.to_string().contains("[MASK]"), "{error}");
    let prompt = taal_inference::Prompt::from("de kat");
    let error = taal_inference::generate(
        &masked,
        &prompt,
        &taal_inference::GenerateOptions::default(),
        &mut |_| std::ops::ControlFlow::Continue(()),
    );
    assert!(error.unwrap_err().to_string().contains("bidirectional"));
    // Fine-tuning keeps the objective of the model.
    let init = format!("train.init_from={}", place.path("causal").display());
    let text = RECIPE
        .replace("TEXT", &place.path("text.txt").display().to_string())
        .replace("[tokenizer]\nkind = \"wordpiece\"\nvocab_size = 80\n", "");
    let text = text[..text.find("[model]").unwrap()].to_string() + &text[text.find("[train]").unwrap()..];
    let run_dir = place.path("special");
    let error = run_recipe(&typed("tiny", text), &[&init], &run_dir, false, &mut Silent).unwrap_err();
    assert!(
        error.to_string().contains("causal") && error.to_string().contains("train.objective"),
        "{error}"
    );
}
