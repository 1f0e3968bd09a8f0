//! What a model says about itself: the ledger of its trainings and its card.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_metrics::energy::Grid;
use taal_metrics::{DataSourceFacts, Ledger};
use taal_model::hugging_face::{self, Companions};
use taal_model::{EncoderConfig, ModelSize, TransformerConfig};
use taal_trainer::{
    EnergyOptions, Language, Outcome, RawRecipe, RecipeText, Report, Trainer, card_text, joined_ledger, ledger_of,
    ledger_path, write_card, write_card_of_export,
};

use crate::watchers::{Notes, StopAfter};

const TEXT: &str = "de kat zat op de mat en de hond zat op de kat; ";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        std::fs::write(place.path("text.txt"), TEXT.repeat(20)).expect("a text");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A run on the text in the place.
    fn trainer<'t>(&self, run: &str, change: impl FnOnce(&mut RawRecipe)) -> Trainer<'t> {
        let mut keys = RawRecipe::default();
        keys.data.files = Some(vec![self.path("text.txt")]);
        keys.data.license = Some("CC0 1.0".to_string());
        keys.train.steps = Some(4);
        keys.train.batch_size = Some(2);
        keys.train.block_size = Some(8);
        keys.checkpoint.every = Some(2);
        keys.eval.every = Some(2);
        keys.sample.prompts = Some(Vec::new());
        keys.tokenizer.kind = Some("char".to_string());
        keys.model.n_layers = Some(1);
        keys.model.d_model = Some(16);
        change(&mut keys);
        Trainer::new(RecipeText::of("tiny", &keys).expect("a recipe"), self.path(run))
    }

    fn from(&self, run: &str, base: &str) -> Report {
        let base = self.path(base);
        done(self.trainer(run, |keys| {
            keys.train.init_from = Some(base);
            keys.tokenizer = Default::default();
            keys.model = Default::default();
        }))
    }
}

fn done(trainer: Trainer<'_>) -> Report {
    match trainer.run().expect("a run") {
        Outcome::Finished(report) => report,
        Outcome::Interrupted(report) => panic!("interrupted after step {}", report.steps),
    }
}

fn ledger(dir: &Path) -> Ledger {
    ledger_of(dir).expect("a ledger")
}

#[test]
fn a_run_writes_its_card_and_ledger_and_resumes_next_to_them() {
    let place = Place::new();
    let mut stop = StopAfter::step(2);
    let outcome = place.trainer("run", |_| {}).progress(&mut stop).run().expect("a run");
    assert!(matches!(outcome, Outcome::Interrupted(_)));
    let card = place.read("run/model/README.md");
    assert!(
        card.starts_with("---\n") && card.contains("| steps | 2 of 4 |"),
        "{card}"
    );

    // The files about the model are not in the checkpoint's manifest, and it is whole.
    let report = done(place.trainer("run", |_| {}).resume());
    assert_eq!((report.steps, report.resumed_from), (4, Some(2)));
    let card = place.read("run/model/README.md");
    for words in [
        "# run",
        "pipeline_tag: text-generation",
        "| steps | 4 of 4 |",
        "text.txt: CC0 1.0",
        "| source | ",
        "taal train recipe.toml",
        "n_layers = 1",
        "not answered",
        "| 2(e) | known or estimated energy | Training took ",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    assert!(
        !card.contains("geographical_location"),
        "the world is not a place: {card}"
    );
    let source = card
        .lines()
        .find(|line| line.starts_with("  source: "))
        .expect("a source");
    assert!(
        source.contains(" to ") && source.contains("Wh)"),
        "with its bounds: {source}"
    );
    let folder = place.0.path().display().to_string();
    assert!(!card.contains(&folder), "a card names no folders of the machine");
    let found = ledger(&place.path("run/model"));
    let [entry] = found.entries.as_slice() else {
        panic!("{found:?}")
    };
    let figures = entry.report.as_ref().expect("figures");
    assert_eq!((figures.steps, figures.tokens), (4, report.tokens));
    assert!(entry.flops.is_some_and(|flops| flops > 0.0) && !entry.data_hash.is_empty());
    assert_eq!(figures.energy, report.energy);
    assert_eq!(report.ledger, None, "nothing was inherited");
}

#[test]
fn a_readme_of_somebody_else_is_kept_and_the_card_goes_next_to_it() {
    let place = Place::new();
    let mut stop = StopAfter::step(2);
    place.trainer("run", |_| {}).progress(&mut stop).run().expect("a run");
    let mut changed = place.read("run/model/README.md");
    changed.push_str("A word of mine.\n");
    // Every checkpoint: the run may show another one in the end.
    std::fs::write(place.path("run/model/README.md"), &changed).expect("written");
    let mut notes = Notes::default();
    let trainer = place.trainer("run", |keys| keys.eval.every = Some(100));
    let outcome = trainer.resume().progress(&mut notes).run().expect("a run");
    assert!(matches!(outcome, Outcome::Finished(_)));

    let dir = place.path("run/model");
    std::fs::write(dir.join("README.md"), &changed).expect("written");
    let written = write_card(&dir, "run", Language::English).expect("a card");
    assert_eq!(written.path, dir.join("README.taal.md"));
    assert_eq!(written.kept, Some(dir.join("README.md")));
    assert_eq!(place.read("run/model/README.md"), changed);
    assert!(place.read("run/model/README.taal.md").contains("| steps | 4 of 4 |"));

    // The card next to it may be changed too.
    std::fs::write(dir.join("README.taal.md"), &changed).expect("written");
    let written = write_card(&dir, "run", Language::English).expect("a card");
    assert_eq!(written.path, dir.join("README.taal-2.md"));
    assert_eq!(place.read("run/model/README.taal.md"), changed);

    std::fs::remove_file(dir.join("README.md")).expect("removed");
    let written = write_card(&dir, "run", Language::English).expect("a card");
    assert_eq!((written.path, written.kept), (dir.join("README.md"), None));
    // A card that nobody changed is replaced.
    let written = write_card(&dir, "other", Language::English).expect("a card");
    assert_eq!((written.path, written.kept), (dir.join("README.md"), None));
    assert!(place.read("run/model/README.md").contains("# other"));
}

#[test]
fn a_model_carries_the_trainings_that_it_started_from() {
    let place = Place::new();
    let base = done(place.trainer("base", |_| {}));
    let second = place.from("second", "base");
    let third = place.from("third", "second");
    let joules = |report: &Report| report.energy.as_ref().expect("energy").joules;

    let found = ledger(&place.path("third/model"));
    let names: Vec<&str> = found.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["base", "second", "third"]);
    let totals = third.ledger.as_ref().expect("inherited");
    assert_eq!((totals.trainings, totals.unknown), (3, 0));
    let sum = joules(&base) + joules(&second) + joules(&third);
    assert!((totals.joules / sum - 1.0).abs() < 1e-9, "{totals:?}, {sum}");
    assert_eq!(totals.tokens, base.tokens + second.tokens + third.tokens);
    assert!(totals.low > 0.0 && totals.low <= totals.joules && totals.joules <= totals.high);

    // Two models that share a training count it once.
    let dirs = ["second/model", "third/model", "base/model"].map(|dir| place.path(dir));
    let joined = joined_ledger(&dirs.each_ref().map(PathBuf::as_path)).expect("a ledger");
    assert_eq!(joined.entries.len(), 3);
    let card = place.read("third/model/README.md");
    assert!(card.contains("| **in all** |") && card.contains("| base |"), "{card}");
    assert!(
        card.contains("training_type: \"pre-training and fine-tuning\""),
        "{card}"
    );
    // All three read the same text, which is named once, and no folder is.
    assert_eq!(
        card.matches("| text.txt: CC0 1.0 |").count(),
        3,
        "two questions and 2(c): {card}"
    );
    let folder = place.0.path().display().to_string();
    assert!(
        card.contains("| tokenizer | of second |") && !card.contains(&folder),
        "{card}"
    );
    let dutch = card_text(&place.path("third/model"), "third", Language::Dutch).expect("a card");
    assert!(dutch.contains("| tokenizer | van second |"), "{dutch}");
    assert!(place.read("third/report.html").contains("3 trainings"));
}

#[test]
fn a_model_whose_training_is_not_known_says_so_in_every_sum() {
    let place = Place::new();
    done(place.trainer("base", |_| {}));
    let foreign = place.path("foreign");
    std::fs::create_dir(&foreign).expect("a folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(place.path("base/model").join(file), foreign.join(file)).expect("copied");
    }
    let report = place.from("tuned", "foreign");
    let totals = report.ledger.expect("inherited");
    assert_eq!((totals.trainings, totals.unknown), (2, 1));
    assert_eq!(totals.flops, None, "a sum with an unknown part is not known");
    let card = place.read("tuned/model/README.md");
    assert!(
        card.contains("The energy of 1 of these trainings is not known"),
        "{card}"
    );
    assert!(card.contains("| foreign | not known | not known |"), "{card}");
    // Nobody measured the pre-training, and the card does not claim it, nor its data.
    for words in [
        "training_type: \"fine-tuning\"",
        "; without 1 of 2 trainings, which are not known\"",
        "; without 1 inherited training that is not known",
        "| 2(c) | data: type and provenance | foreign: not known; text.txt: CC0 1.0 |",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    let dutch = card_text(&place.path("tuned/model"), "tuned", Language::Dutch).expect("a card");
    assert!(
        dutch.contains("; zonder 1 geërfde training die niet bekend is"),
        "{dutch}"
    );
    let card = card_text(&foreign, "foreign", Language::English).expect("a card");
    assert!(card.contains("The training is not known"), "{card}");
    assert!(
        card.contains("How it was trained is not known") && !card.contains("Taal ."),
        "{card}"
    );
    assert!(
        !card.contains("same recipe"),
        "what is not known is not promised: {card}"
    );
    assert!(!card.contains("The losses are those"), "it has none: {card}");
}

#[test]
fn a_run_that_was_killed_has_the_energy_of_its_checkpoint() {
    let place = Place::new();
    let dutch = EnergyOptions {
        grid: Grid::find("NL").expect("a country"),
        pue: 1.5,
        ..EnergyOptions::default()
    };
    done(place.trainer("run", |_| {}).energy(dutch));
    let dir = place.path("run/model");
    let id = ledger(&dir).entries[0].id.clone();
    for file in ["ledger.json", "README.md"] {
        std::fs::remove_file(dir.join(file)).expect("removed");
    }
    std::fs::remove_file(place.path("run/report.json")).expect("removed");
    let found = ledger(&dir);
    let entry = &found.entries[0];
    let figures = entry.report.as_ref().expect("figures");
    assert_eq!((figures.steps, figures.planned_steps), (4, 4));
    assert!(entry.data.iter().any(|source| source.name == "text.txt") && entry.split_tokens.is_some());
    assert!(entry.flops.is_some_and(|flops| flops > 0.0) && !entry.machine.is_empty());
    let energy = figures.energy.as_ref().expect("energy");
    assert_eq!((energy.grid.as_str(), energy.pue), ("NLD", 1.5));
    let card = card_text(&dir, "run", Language::English).expect("a card");
    for words in [
        "| steps | 4 of 4 |",
        "NLD (2023), 268 g CO2e/kWh, PUE 1.50",
        "text.txt: CC0 1.0",
        "geographical_location: \"NLD\"",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    assert_eq!((found.entries.len(), found.entries[0].id.as_str()), (1, id.as_str()));
    assert!(found.totals().joules > 0.0 && found.totals().unknown == 0, "{found:?}");
    std::fs::write(dir.join("ledger.json"), "{\"version\": 7}").expect("written");
    let error = ledger_of(&dir).expect_err("another version");
    assert!(
        error.to_string().contains("ledger.json") && error.to_string().contains("version 7"),
        "{error}"
    );
}

#[test]
fn an_export_has_the_card_of_its_model_and_dutch_cards_are_dutch() {
    let place = Place::new();
    done(place.trainer("run", |_| {}).language(Language::Dutch));
    let card = place.read("run/model/README.md");
    assert!(
        card.contains("| stappen | 4 van 4 |") && card.contains("niet beantwoord"),
        "{card}"
    );
    assert!(card.contains("Om wat voor type algoritme gaat het?"), "{card}");
    let file = place.path("model.gguf");
    std::fs::write(&file, "weights").expect("written");
    let written = write_card_of_export(&[&place.path("run/model")], &file, "run", Language::English).expect("a card");
    assert_eq!(written.path, place.path("model.gguf.README.md"));
    assert!(place.read("model.gguf.README.md").contains("| steps | 4 of 4 |"));
    // The trainings of a file are next to it, so a model that is made of it carries them.
    assert_eq!(
        place.read("model.gguf.ledger.json"),
        place.read("run/model/ledger.json")
    );
    assert_eq!(ledger(&file), ledger(&place.path("run/model")));
    let weights = place.path("run/model/model.safetensors");
    assert_eq!(ledger_path(&weights), place.path("run/model/ledger.json"));
    std::fs::write(place.path("model.gguf.README.md"), "mine").expect("written");
    let written = write_card_of_export(&[&place.path("run/model")], &file, "run", Language::English).expect("a card");
    assert_eq!(written.path, place.path("model.gguf.README.taal.md"));
    assert_eq!(place.read("model.gguf.README.md"), "mine");
}

#[test]
fn a_translator_is_called_one() {
    let place = Place::new();
    let config = TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 3 }),
        ..TransformerConfig::marian(ModelSize {
            vocab_size: 40,
            max_seq_len: 16,
            n_layers: 2,
            n_heads: 2,
            d_model: 16,
        })
    };
    let model = config.init(1, &Device::flex()).expect("a model");
    let dir = place.path("translator");
    hugging_face::save(&model, &dir, Companions::default()).expect("saved");
    let card = card_text(&dir, "translator", Language::English).expect("a card");
    for words in [
        "pipeline_tag: translation",
        "A language model that translates a text.",
        "3 encoder layers, 2 decoder layers",
        "| 2(a) | means to integrate it | **not answered** |",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    assert!(!card.contains("causal"), "{card}");
}

#[test]
fn the_parts_of_an_embedded_corpus_are_its_language_and_its_name() {
    let place = Place::new();
    done(place.trainer("run", |_| {}));
    let mut found = ledger(&place.path("run/model"));
    let english = taal_data::corpus("english").expect("an embedded corpus");
    let facts = english.parts.iter().map(|part| DataSourceFacts {
        name: part.name.to_string(),
        license: Some(part.license.to_string()),
        origin: Some(part.source.to_string()),
    });
    found.entries[0].data = facts.collect();
    found.write(&place.path("run/model/ledger.json")).expect("written");
    let card = card_text(&place.path("run/model"), "run", Language::English).expect("a card");
    for words in [
        "language: [en]",
        "type: \"english\"",
        "name: \"english, validation split\"",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    let dutch = card_text(&place.path("run/model"), "run", Language::Dutch).expect("a card");
    assert!(
        dutch.contains("zinnen om voor te lezen") && !dutch.contains("sentences to read"),
        "{dutch}"
    );
}

#[test]
fn a_machine_with_a_sensor_is_not_said_to_have_none() {
    let place = Place::new();
    done(place.trainer("run", |_| {}));
    let path = place.path("run/model/ledger.json");
    let found = ledger(&place.path("run/model"));
    let card = |found: &Ledger, source: &str| {
        let mut found = found.clone();
        let report = found.entries[0].report.as_mut().expect("figures");
        report.energy.as_mut().expect("energy").source = source.to_string();
        found.write(&path).expect("written");
        card_text(&place.path("run/model"), "run", Language::English).expect("a card")
    };
    assert!(card(&found, "estimated").contains("this machine has no sensor"));
    let partly = card(&found, "rapl+estimated");
    assert!(
        !partly.contains("no sensor that") && partly.contains("The part that is estimated"),
        "{partly}"
    );
    assert!(!card(&found, "rapl+dram").contains("estimated is"));
}

#[test]
fn a_dutch_card_says_in_dutch_what_sensors_missed() {
    let place = Place::new();
    done(place.trainer("run", |_| {}));
    let mut found = ledger(&place.path("run/model"));
    found.entries[0].machine = "virtual machine, unknown processor, 2 threads, 24 GiB".to_string();
    let report = found.entries[0].report.as_mut().expect("figures");
    report.energy.as_mut().expect("energy").notes =
        vec!["package-0 could not be read (not there); its power so far stands in (3 times)".to_string()];
    found.write(&place.path("run/model/ledger.json")).expect("written");
    let card = |language| card_text(&place.path("run/model"), "run", language).expect("a card");
    assert!(card(Language::English).contains("Note: package-0 could not be read (not there)"));
    let dutch = card(Language::Dutch);
    for words in [
        "Let op: package-0 kon niet worden gelezen (niet aanwezig); het vermogen tot dan toe komt ervoor in de plaats (3 keer)",
        "| machine | virtuele machine, onbekende processor, 2 threads, 24 GiB |",
    ] {
        assert!(dutch.contains(words), "{words}: {dutch}");
    }
}

#[test]
fn a_stop_loss_ends_training_at_the_first_evaluation_that_reaches_it() {
    let place = Place::new();
    let report = done(place.trainer("run", |keys| {
        keys.train.steps = Some(8);
        keys.train.stop_loss = Some(100.0);
    }));
    assert_eq!((report.steps, report.planned_steps), (2, 8));
    let report = done(place.trainer("never", |keys| keys.train.stop_loss = Some(1e-9)));
    assert_eq!(report.steps, 4);
}
