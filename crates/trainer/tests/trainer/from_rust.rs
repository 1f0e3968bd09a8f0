//! [`Trainer`]: texts, ids, tokenizer and weights that a program passes train the same as if a recipe names them.

use std::path::{Path, PathBuf};

use taal_data::{Dataset, TokenizeOptions};
use taal_inference::LanguageModel;
use taal_kernels::DeviceSpec;
#[cfg(target_os = "linux")]
use taal_metrics::energy::KernelFiles;
use taal_tokenizer::{Kind, TrainerConfig};
#[cfg(target_os = "linux")]
use taal_trainer::{EnergyOptions, Progress};
use taal_trainer::{Outcome, RawRecipe, RecipeText, Trainer};

use crate::watchers::StopAfter;

const TEXT: &str = "de kat zat op de mat en de hond zat op de kat; ";

/// Keys that name no data.
fn keys() -> RawRecipe {
    let mut keys = RawRecipe::default();
    keys.tokenizer.kind = Some("char".to_string());
    keys.tokenizer.vocab_size = Some(100);
    keys.model.n_layers = Some(1);
    keys.model.d_model = Some(16);
    keys.model.dropout = Some(0.1);
    keys.train.steps = Some(6);
    keys.train.batch_size = Some(3);
    keys.train.block_size = Some(8);
    keys.train.lr = Some(1e-2);
    keys.checkpoint.every = Some(2);
    keys
}

fn recipe(keys: &RawRecipe) -> RecipeText {
    RecipeText::of("test", keys).expect("a recipe")
}

fn texts() -> [String; 1] {
    [TEXT.repeat(20)]
}

fn finished(trainer: Trainer<'_>) -> taal_trainer::Report {
    match trainer.run().expect("a run") {
        Outcome::Finished(report) => report,
        Outcome::Interrupted(report) => panic!("interrupted after step {}", report.steps),
    }
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model/model.safetensors")).expect("weights")
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(place.path("text.txt"), texts().concat()).expect("a text");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A run on the text as a file.
    fn trained_from_file(&self, run: &str) -> PathBuf {
        let mut keys = keys();
        keys.data.files = Some(vec![self.path("text.txt")]);
        finished(Trainer::new(recipe(&keys), self.path(run)));
        self.path(run)
    }
}

#[test]
fn texts_in_memory_train_as_the_same_files_do() {
    let place = Place::new();
    let by_name = place.trained_from_file("by-name");
    let report = finished(Trainer::new(recipe(&keys()), place.path("own")).texts(texts()));
    assert_eq!(weights(&place.path("own")), weights(&by_name));
    assert!(report.val_loss.is_some(), "a part is held back");
}

#[test]
fn token_ids_in_memory_train_as_their_text_does() {
    let place = Place::new();
    let by_name = place.trained_from_file("by-name");
    let tokenizer = TrainerConfig::new(Kind::Char, 100).train(texts()).expect("a tokenizer");
    let options = TokenizeOptions {
        validation_fraction: 0.1,
        ..TokenizeOptions::default()
    };
    let dataset = Dataset::from_texts(&tokenizer, &[("text", &texts()[0])], &options).expect("ids");
    let mut keys = keys();
    keys.tokenizer = Default::default();
    let trainer = Trainer::new(recipe(&keys), place.path("own"))
        .dataset(dataset)
        .tokenizer(tokenizer);
    finished(trainer);
    assert_eq!(weights(&place.path("own")), weights(&by_name));
}

#[test]
fn own_weights_train_as_those_of_init_from_do_with_and_without_gradients_before() {
    let place = Place::new();
    let first = place.trained_from_file("first");
    let mut named = keys();
    (named.model, named.tokenizer) = Default::default();
    named.model.dropout = Some(0.1);
    let own = recipe(&named);
    named.data.files = Some(vec![place.path("text.txt")]);
    named.train.init_from = Some(first.clone());
    finished(Trainer::new(recipe(&named), place.path("by-name")));

    let plain = DeviceSpec::Flex.open().expect("a device");
    for (run, device) in [("plain", plain.clone()), ("autodiff", plain.autodiff())] {
        let start = LanguageModel::open(&first, &device).expect("a model");
        let trainer = Trainer::new(own.clone(), place.path(run))
            .texts(texts())
            .model(start.model);
        finished(trainer.tokenizer(start.tokenizer.expect("its tokenizer")));
        assert_eq!(weights(&place.path(run)), weights(&place.path("by-name")), "{run}");
        assert_ne!(
            weights(&place.path(run)),
            weights(&first),
            "{run}: something was learned"
        );
    }
}

#[test]
fn a_run_on_own_texts_resumes_with_them_and_not_with_others() {
    let place = Place::new();
    let whole = place.trained_from_file("whole");
    let run = place.path("own");
    let mut stop = StopAfter::step(3);
    let outcome = Trainer::new(recipe(&keys()), &run)
        .texts(texts())
        .progress(&mut stop)
        .run();
    assert!(matches!(outcome, Ok(Outcome::Interrupted(report)) if report.steps == 3));
    let again = || Trainer::new(recipe(&keys()), &run).resume();
    let message = again()
        .texts(["de hond zat op de mat; ".repeat(40)])
        .run()
        .expect_err("another text")
        .to_string();
    assert!(
        message.contains("text changed since the checkpoint of step 3"),
        "{message}"
    );
    finished(again().texts(texts()));
    assert_eq!(weights(&run), weights(&whole));
}

#[test]
fn what_a_program_brings_the_recipe_leaves_out() {
    let place = Place::new();
    let first = place.trained_from_file("first");
    let open = || LanguageModel::open(&first, &DeviceSpec::Flex.open().expect("a device")).expect("a model");
    let mut with_data = keys();
    with_data.data.corpus = Some("names".to_string());
    let mut with_start = keys();
    (with_start.model, with_start.tokenizer) = Default::default();
    with_start.train.init_from = Some(first.clone());
    let [mut short, mut silent] = [keys(), keys()];
    (short.model, silent.tokenizer) = Default::default();
    short.train.block_size = Some(9);

    let trainer = |keys: &RawRecipe| Trainer::new(recipe(keys), place.path("refused"));
    let tokenizer = || open().tokenizer.expect("its tokenizer");
    let dataset = Dataset::from_texts(&tokenizer(), &[("text", TEXT)], &TokenizeOptions::default()).expect("ids");
    for (trainer, words) in [
        (trainer(&keys()), "data: expected exactly one of"),
        (
            trainer(&with_data).texts(texts()),
            "data: the program brings its own data",
        ),
        (
            trainer(&keys()).texts(texts()).tokenizer(tokenizer()),
            "tokenizer: the program brings its own tokenizer",
        ),
        (
            trainer(&keys()).texts(texts()).model(open().model),
            "model: the program brings the model's shape",
        ),
        (
            trainer(&with_start).texts(texts()).model(open().model),
            "train.init_from: the program brings its own model",
        ),
        (
            trainer(&short).texts(texts()).model(open().model),
            "train.block_size: 9 tokens do not fit the context of 8 of the program",
        ),
        (
            trainer(&silent).dataset(dataset),
            "tokenizer: the program's data are token ids",
        ),
        (
            trainer(&keys()).texts(texts()).set("train.steps=0"),
            "--set: train.steps: expected 1..=",
        ),
    ] {
        let message = trainer.run().expect_err(words).to_string();
        assert!(message.contains(words), "{words}: {message}");
        assert!(
            !place.path("refused").exists(),
            "{words}: a refused run leaves no files"
        );
    }
}

/// Moves a machine's counter of energy once: when a run first says something.
#[cfg(target_os = "linux")]
struct CountsOnce(Option<PathBuf>);

#[cfg(target_os = "linux")]
impl Progress for CountsOnce {
    fn note(&mut self, _message: &str) {
        if let Some(counter) = self.0.take() {
            std::fs::write(counter, "51000000\n").expect("a counter");
        }
    }
}

/// The counter stands still from before the model is opened on, so a meter that starts later reads nothing from it.
#[cfg(target_os = "linux")]
#[test]
fn the_energy_of_reading_the_data_is_counted() {
    let place = Place::new();
    let zone = place.path("sys/class/powercap/intel-rapl:0");
    std::fs::create_dir_all(&zone).expect("a directory");
    for (file, text) in [
        ("name", "package-0\n"),
        ("max_energy_range_uj", "65532610987\n"),
        ("energy_uj", "1000000\n"),
    ] {
        std::fs::write(zone.join(file), text).expect("a file");
    }
    let energy = EnergyOptions {
        files: KernelFiles::with_sys(&place.path("sys")),
        ..EnergyOptions::default()
    };
    // A carriage return is a note about the data.
    let text = format!("{}\r\n", texts().concat());
    let mut counts = CountsOnce(Some(zone.join("energy_uj")));
    let report = finished(
        Trainer::new(recipe(&keys()), place.path("run"))
            .texts([text])
            .energy(energy)
            .progress(&mut counts),
    );
    assert!(counts.0.is_none(), "the run said something");
    let energy = report.energy.expect("a meter");
    assert!(energy.source.contains("rapl"), "{energy:?}");
    let preparation = energy.preparation.expect("a preparation");
    assert!(
        preparation.joules > 0.0 && preparation.seconds > 0.0 && preparation.joules <= energy.joules,
        "{energy:?}"
    );
}
