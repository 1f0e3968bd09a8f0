//! Encoder-decoders: batches by length, label smoothing, exact resume, the mean of the last checkpoints, and models that grow an encoder.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};
use safetensors::SafeTensors;
use taal_data::{Batch, BatchPlan, ConversationOptions, Conversations, Direction, IGNORE_INDEX, Pairs};
use taal_inference::{Probe, Rows};
use taal_kernels::DeviceSpec;
use taal_metrics::{Report, RunNote};
use taal_model::hugging_face::{self, TranslationFacts};
use taal_model::{EncoderConfig, ForwardOptions, PositionKind, Transformer, TransformerConfig};
use taal_store::ErrorKind;
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};
use taal_trainer::{Outcome, Progress, RecipeText, Silent, TrainError, resolve};

use crate::watchers::{Notes, StopAfter};
use crate::{finished, run_recipe, sets, size};

/// How far the loss of padded rows may be from that of each pair alone, and a smoothed loss from its formula, in nats.
const LOSS_TOLERANCE: f64 = 1e-6;

/// Pairs of different lengths in two "languages".
fn rows() -> String {
    let words = ["kat", "hond", "vis", "boom", "huis", "zee"];
    let row = |index: usize| {
        let chosen = (0..1 + index % 5).map(|place| words[(index * 7 + place * 3) % words.len()]);
        let dutch: Vec<&str> = chosen.collect();
        let english: Vec<String> = dutch.iter().rev().map(|word| word.to_uppercase()).collect();
        format!(
            "{{\"en\": \"{}.\", \"nl\": \"{}.\"}}\n",
            english.join(" "),
            dutch.join(" ")
        )
    };
    (0..60).map(row).collect()
}

fn characters() -> Tokenizer {
    let mut config = TrainerConfig::new(Kind::Char, 100);
    config.special_tokens = vec!["<|endoftext|>".to_owned()];
    config.train([rows()]).unwrap()
}

fn direction() -> Option<Direction> {
    Some(Direction {
        from: "en".to_owned(),
        to: "nl".to_owned(),
    })
}

fn options() -> ConversationOptions {
    ConversationOptions {
        validation_fraction: 0.0,
        direction: direction(),
        ..ConversationOptions::default()
    }
}

/// Shapes of encoder-decoders, each with the id that texts begin with.
fn shapes(tokenizer: &Tokenizer) -> Vec<TransformerConfig> {
    let size = size(tokenizer.vocab_size(), 64, 2, 2, 32);
    let with_encoder = |config: TransformerConfig| TransformerConfig {
        encoder: Some(EncoderConfig { n_layers: 1 }),
        decoder_start: tokenizer.eos_id(),
        ..config
    };
    vec![
        with_encoder(TransformerConfig::llama(size)),
        with_encoder(TransformerConfig::gpt2(size)),
        with_encoder(TransformerConfig::marian(size)),
        with_encoder(TransformerConfig::t5(size)),
        with_encoder(TransformerConfig {
            position: PositionKind::Alibi,
            ..TransformerConfig::llama(size)
        }),
    ]
}

/// The mean over all targets of some batches, and their number.
fn mean(model: &Transformer, batches: &[Batch]) -> (f64, usize) {
    let (mut nats, mut tokens) = (0.0, 0);
    for batch in batches {
        let counted = batch.counted_targets();
        nats += f64::from(taal_trainer::loss(model, batch, None).unwrap().into_scalar::<f32>()) * counted as f64;
        tokens += counted;
    }
    (nats / tokens as f64, tokens)
}

fn pairs(tokenizer: &Tokenizer) -> Pairs {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    std::fs::write(&path, rows()).unwrap();
    Pairs::open_with(tokenizer, &[path], &BatchPlan::new(3, 8, 64), &options()).unwrap()
}

#[test]
fn the_loss_of_padded_pairs_is_that_of_each_alone() {
    let tokenizer = characters();
    let pairs = pairs(&tokenizer);
    let padded: Vec<Batch> = pairs.train.in_order(8 * 64).collect();
    let alone: Vec<Batch> = pairs.train.in_order(1).collect();
    assert!(padded.len() < 10 && alone.len() == 60);
    let has_padding = |batch: &Batch| {
        let source = batch.source.as_ref().unwrap();
        source.lengths.iter().any(|length| *length < source.seq_len) && batch.targets.contains(&IGNORE_INDEX)
    };
    assert!(padded.iter().any(has_padding) && !alone.iter().any(has_padding));
    for config in shapes(&tokenizer) {
        let model = config.init(7, &Device::flex()).unwrap();
        let ((padded, tokens), (alone, alone_tokens)) = (mean(&model, &padded), mean(&model, &alone));
        assert_eq!(tokens, alone_tokens);
        assert!(
            (padded - alone).abs() < LOSS_TOLERANCE,
            "{config:?}: {padded} padded, {alone} alone"
        );
    }
}

/// The smoothed loss of a batch from its logits, in double precision.
fn smoothed_by_hand(model: &Transformer, batch: &Batch, smoothing: f64) -> f64 {
    let device = Device::flex();
    let ids = |ids: &[i32], width: usize| {
        Tensor::<2, Int>::from_data(TensorData::new(ids.to_vec(), [batch.batch_size, width]), &device)
    };
    let memory = batch.source.as_ref().map(|source| {
        let rows = Rows::signed(source.ids.clone(), source.seq_len);
        Probe::new(model).encode(&rows, &source.lengths, None).unwrap()
    });
    let options = ForwardOptions {
        memory: memory.as_ref(),
        ..ForwardOptions::default()
    };
    let hidden = model
        .forward_with(ids(&batch.inputs, batch.seq_len), options)
        .unwrap()
        .hidden;
    let logits = model.logits(hidden); // [batch, seq, vocabulary]
    let [_, _, vocabulary] = logits.dims();
    let logs: Vec<f64> = log_softmax(logits, 2).into_data().iter::<f64>().collect();
    let (mut sum, mut count) = (0.0, 0);
    for (place, target) in batch
        .targets
        .iter()
        .enumerate()
        .filter(|(_, target)| **target != IGNORE_INDEX)
    {
        let logs = &logs[place * vocabulary..(place + 1) * vocabulary];
        let spread = -logs.iter().sum::<f64>() / vocabulary as f64;
        sum += (1.0 - smoothing) * -logs[*target as usize] + smoothing * spread;
        count += 1;
    }
    sum / f64::from(count)
}

#[test]
fn label_smoothing_is_its_formula_with_and_without_an_encoder() {
    let tokenizer = characters();
    let pair = pairs(&tokenizer).train.in_order(8 * 64).next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.jsonl");
    std::fs::write(&path, rows()).unwrap();
    let alone = Conversations::open_with(&tokenizer, &[path], 64, &options()).unwrap();
    let mut row = alone.train.in_order(8).next().unwrap();
    // The formula below has no texts that share a row.
    row.text_starts = None;
    let decoder = TransformerConfig::llama(size(tokenizer.vocab_size(), 64, 2, 2, 32));
    for (config, batch) in [(shapes(&tokenizer).remove(0), pair), (decoder, row)] {
        let model = config.init(5, &Device::flex()).unwrap();
        for smoothing in [0.0, 0.1, 0.6] {
            let found = taal_trainer::smoothed_loss(&model, &batch, None, smoothing).unwrap();
            let (found, expected) = (
                f64::from(found.into_scalar::<f32>()),
                smoothed_by_hand(&model, &batch, smoothing),
            );
            assert!(
                (found - expected).abs() < 4.0 * LOSS_TOLERANCE,
                "{smoothing}: {found}, by hand {expected}"
            );
        }
        let [plain, smoothed] = [
            taal_trainer::loss(&model, &batch, None),
            taal_trainer::smoothed_loss(&model, &batch, None, 0.0),
        ];
        assert_eq!(
            plain.unwrap().into_scalar::<f32>(),
            smoothed.unwrap().into_scalar::<f32>()
        );
    }
}

const RECIPE: &str = r#"
seed = 3
[data]
conversations = "PAIRS"
from = "en"
to = "nl"
validation_fraction = 0.2
[tokenizer]
kind = "bpe"
vocab_size = 300
[model]
preset = "llama"
encoder_layers = 1
n_layers = 1
n_heads = 2
d_model = 16
dropout = 0.1
[train]
steps = 12
batch_size = 2
block_size = 64
accumulation = 2
optimizer = "muon"
lr = 1e-2
warmup_steps = 2
label_smoothing = 0.1
clip_norm = 1.0
[eval]
every = 4
[checkpoint]
every = 3
keep = 1
average = 3
[sample]
prompts = ["KAT HOND."]
max_tokens = 8
beam = 2
"#;

struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pairs.jsonl"), rows()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        run_dir: &str,
        recipe: &str,
        sets: &[&str],
        is_resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, TrainError> {
        let text = recipe.replace("PAIRS", &self.path("pairs.jsonl").display().to_string());
        let source = RecipeText::new("tiny", text);
        run_recipe(&source, sets, &self.path(run_dir), is_resume, progress)
    }

    fn finish(&self, run_dir: &str, sets: &[&str], progress: &mut dyn Progress) -> Report {
        finished(self.run(run_dir, RECIPE, sets, false, progress))
    }

    fn weights(&self, model_dir: &str) -> Vec<u8> {
        std::fs::read(self.path(model_dir).join("model.safetensors")).unwrap()
    }
}

/// The tensors of a file by name.
fn tensors(bytes: &[u8]) -> Vec<(String, Vec<f32>)> {
    let found = SafeTensors::deserialize(bytes).unwrap();
    let values = |bytes: &[u8]| {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    };
    let mut found: Vec<_> = found
        .tensors()
        .iter()
        .map(|(name, view)| (name.clone(), values(view.data())))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[test]
fn an_interrupted_run_on_pairs_ends_with_the_same_bits_and_the_same_mean() {
    let place = Workplace::new();
    let whole = place.finish("whole", &[], &mut Silent);
    for stop in [2, 8] {
        let name = format!("stopped-{stop}");
        let stopped = place
            .run(&name, RECIPE, &[], false, &mut StopAfter::step(stop))
            .unwrap();
        assert!(matches!(stopped, Outcome::Interrupted(_)));
        let report = finished(place.run(&name, RECIPE, &[], true, &mut Silent));
        assert_eq!((report.val_loss, report.tokens), (whole.val_loss, whole.tokens));
        for dir in ["checkpoints/step-00000012/model", "averaged/model"] {
            let [one, other] = ["whole", &name].map(|run| place.weights(&format!("{run}/{dir}")));
            assert!(one == other, "{dir} after a stop at {stop}");
        }
    }
    assert!(whole.samples[0].error.is_none(), "{:?}", whole.samples);
    let facts = TranslationFacts::open(&place.path("whole/model")).unwrap().unwrap();
    assert_eq!(
        (facts.from.as_str(), facts.to.as_str(), facts.prompt),
        ("en", "nl", None)
    );
}

#[test]
fn the_model_of_a_run_is_the_mean_of_its_last_checkpoints_unless_the_best_is_better() {
    let place = Workplace::new();
    let mut notes = Notes::default();
    let report = place.finish("run", &[], &mut notes);
    let note = report.notes.iter().find_map(|note| match note {
        RunNote::Averaged {
            checkpoints,
            val_loss,
            best_val_loss,
        } => Some((*checkpoints, val_loss.unwrap(), best_val_loss.unwrap())),
        _ => None,
    });
    let (checkpoints, mean_loss, best_loss) = note.expect("a note about the mean");
    assert_eq!(checkpoints, 3);
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("mean of the weights of the last 3 checkpoints"))
    );

    let mean = tensors(&place.weights("run/averaged/model"));
    let parts = [6, 9, 12].map(|step| tensors(&place.weights(&format!("run/checkpoints/step-{step:08}/model"))));
    assert!(mean.len() > 10);
    for (index, (name, values)) in mean.iter().enumerate() {
        assert!(parts.iter().all(|part| part[index].0 == *name));
        for (place, value) in values.iter().enumerate() {
            let sum: f64 = parts.iter().map(|part| f64::from(part[index].1[place])).sum();
            assert_eq!(*value, (sum / 3.0) as f32, "{name}[{place}]");
        }
    }
    let shown = std::fs::canonicalize(place.path("run/model")).unwrap();
    let averaged = std::fs::canonicalize(place.path("run/averaged/model")).unwrap();
    assert_eq!(shown == averaged, mean_loss <= best_loss, "{mean_loss} {best_loss}");

    // The loss of the note is that of the files.
    let model = hugging_face::open(&averaged, &Device::flex()).unwrap();
    let tokenizer = Tokenizer::open(&averaged.join("tokenizer.json")).unwrap();
    let held = ConversationOptions {
        validation_fraction: 0.2,
        ..options()
    };
    let pairs = Pairs::open_with(
        &tokenizer,
        &[place.path("pairs.jsonl")],
        &BatchPlan::new(3, 2, 64),
        &held,
    )
    .unwrap();
    let batches: Vec<Batch> = pairs.validation.unwrap().in_order(1).collect();
    let (found, _) = self::mean(&model, &batches);
    assert!((found - mean_loss).abs() < 4.0 * LOSS_TOLERANCE, "{found} {mean_loss}");
}

#[test]
fn the_same_recipe_trains_a_decoder_alone() {
    let place = Workplace::new();
    for preset in ["llama", "marian", "t5"] {
        let sets = [&format!("model.preset={preset}"), "model.encoder_layers=0"];
        let report = place.finish(preset, &sets, &mut Silent);
        assert!(report.samples[0].error.is_none(), "{:?}", report.samples);
        let dir = place.path(preset).join("model");
        let config = hugging_face::open_config(&dir).unwrap();
        assert!(config.encoder.is_none() && config.is_causal, "{preset}");
        let facts = TranslationFacts::open(&dir).unwrap().unwrap();
        assert_eq!(facts.prompt.as_deref(), Some("{source}\n"));
    }
}

#[test]
fn the_translators_recipes_resolve_with_a_decoder_alone() {
    for name in ["translate-en-nl", "translate-nl-en"] {
        let source = RecipeText::find(name).unwrap();
        let recipe = resolve(&source, &sets(&["model.encoder_layers=0"])).unwrap().recipe;
        let taal_trainer::ModelRecipe::New { config, .. } = &recipe.model else {
            panic!("{name}")
        };
        assert_eq!((config.encoder, config.decoder_start), (None, None), "{name}");
    }
}

#[test]
fn one_key_turns_the_direction_round() {
    let place = Workplace::new();
    place.finish("back", &["data.from=nl", "data.to=en", "train.steps=2"], &mut Silent);
    let facts = TranslationFacts::open(&place.path("back/model")).unwrap().unwrap();
    assert_eq!((facts.from.as_str(), facts.to.as_str()), ("nl", "en"));
    for name in ["translate-en-nl", "translate-nl-en"] {
        let source = RecipeText::find(name).unwrap();
        let of = |settings: &[&str]| {
            resolve(&source, &sets(settings))
                .unwrap()
                .recipe
                .data
                .direction
                .unwrap()
        };
        let own = of(&[]);
        assert_eq!(format!("translate-{}-{}", own.from, own.to), name);
        let turned = of(&[&format!("data.from={}", own.to)]);
        assert_eq!((&turned.from, &turned.to), (&own.to, &own.from));
    }
}

/// The first parameters of a model by name.
fn parameters(dir: &Path) -> Vec<(String, Vec<f32>)> {
    let model = hugging_face::open(dir, &Device::flex()).unwrap();
    let mut found = Vec::new();
    taal_model::parameters::read(&model, |name, _, values| found.push((name.to_string(), values)));
    found
}

#[test]
fn a_decoder_or_an_encoder_that_was_trained_before_becomes_a_side_of_the_model() {
    let place = Workplace::new();
    std::fs::write(
        place.path("text.txt"),
        "de kat zat op de mat en de hond zat op de kat; ".repeat(30),
    )
    .unwrap();
    let base = "seed = 5\n[data]\nfiles = [\"TEXT\"]\n[tokenizer]\nkind = \"KIND\"\nvocab_size = 300\n[model]\npreset = \"PRESET\"\n\
                n_layers = 2\nn_heads = 2\nd_model = 16\nmax_seq_len = 64\n[train]\nobjective = \"OBJECTIVE\"\nsteps = 3\nbatch_size = 2\n\
                block_size = 16\n";
    for (name, preset, kind, objective, side) in [
        ("decoder", "llama", "bpe", "next_token", "blocks."),
        ("encoder", "encoder", "wordpiece", "masked", "encoder.blocks."),
    ] {
        let recipe = base.replace("TEXT", &place.path("text.txt").display().to_string());
        let recipe = recipe
            .replace("PRESET", preset)
            .replace("KIND", kind)
            .replace("OBJECTIVE", objective);
        place.run(name, &recipe, &[], false, &mut Silent).unwrap();

        let sets = [
            format!("train.init_from={}", place.path(name).display()),
            "model.encoder_layers=2".to_string(),
            // So that the weights are still those of the beginning.
            "train.lr=1e-12".to_string(),
            "train.muon_lr=1e-12".to_string(),
            "train.steps=1".to_string(),
            "checkpoint.average=2".to_string(),
        ];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let mut notes = Notes::default();
        let grown = format!("{name}-grown");
        place.finish(&grown, &sets, &mut notes);
        let note = notes
            .0
            .iter()
            .find(|note| note.contains("drawn from the seed"))
            .expect("a note");
        assert!(note.contains("cross"), "{note}");
        assert!(
            notes
                .0
                .iter()
                .any(|note| note.contains("checkpoint.average has no effect")),
            "{:?}",
            notes.0
        );

        let (before, after) = (
            parameters(&place.path(name).join("model")),
            parameters(&place.path(&grown).join("model")),
        );
        let mut taken = 0;
        for (parameter, values) in &before {
            let grown_name = match parameter.strip_prefix("blocks.") {
                Some(rest) => format!("{side}{rest}"),
                None => parameter.clone(),
            };
            let Some((_, found)) = after.iter().find(|(name, _)| *name == grown_name) else {
                assert!(!parameter.starts_with("blocks."), "{parameter} has no place");
                continue;
            };
            let is_near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            if found.len() == values.len() && found.iter().zip(values).all(is_near) {
                taken += 1;
            } else {
                assert!(
                    !parameter.starts_with("blocks."),
                    "{parameter} differs from {grown_name}"
                );
            }
        }
        assert!(taken > 10, "{taken} parameters of {}", before.len());
    }
}

#[test]
fn frozen_parts_of_an_encoder_decoder_stay_as_they_were() {
    let place = Workplace::new();
    let sets = |steps: &'static str| [steps, "train.freeze=[\"encoder\"]", "checkpoint.average=2"];
    place.finish("one", &sets("train.steps=1"), &mut Silent);
    place.finish("six", &sets("train.steps=6"), &mut Silent);
    let [one, six] = [
        "one/checkpoints/step-00000001/model",
        "six/checkpoints/step-00000006/model",
    ]
    .map(|dir| parameters(&place.path(dir)));
    for ((name, before), (_, after)) in one.iter().zip(&six) {
        assert_eq!(before == after, name.starts_with("encoder."), "{name}");
    }
}

#[test]
fn recipes_that_contradict_an_encoder_or_a_direction_are_refused() {
    let refusal = |settings: &[&str]| {
        let error = resolve(&RecipeText::new("test", ""), &sets(settings)).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    };
    let set = "data.examples=tatoeba-en-nl";
    for (sets, parts) in [
        (
            vec![set, "data.from=fr"],
            ["data.from", "expected en or nl, got \"fr\""],
        ),
        (
            vec![set, "data.from=nl", "data.to=nl"],
            ["data.from", "two different languages"],
        ),
        (
            vec!["data.examples=tldr", "data.to=nl"],
            ["data.to", "not pairs in two languages"],
        ),
        (
            vec!["data.corpus=names", "data.from=en"],
            ["data.from", "pairs in two languages"],
        ),
        (
            vec!["data.conversations=a.tsv", "data.from=en"],
            ["data.from", "set both data.from and data.to"],
        ),
        (
            vec![
                "data.conversations=a.tsv",
                "data.from=en",
                "data.to=nl",
                "data.layout=messages",
            ],
            ["data.from", "not messages"],
        ),
        (
            vec!["data.corpus=names", "model.encoder_layers=2"],
            ["model.encoder_layers", "running text"],
        ),
        (
            vec![set, "model.encoder_layers=2", "train.objective=masked"],
            ["train.objective", "next_token"],
        ),
        (
            vec![set, "model.encoder_layers=2", "model.preset=lstm"],
            ["model.encoder_layers", "LSTM"],
        ),
        (
            vec![set, "model.encoder_layers=2", "train.init_from=a", "replay.share=0.5"],
            ["replay", "running text"],
        ),
        (
            vec![set, "train.label_smoothing=1.0"],
            ["train.label_smoothing", "expected a number in [0, 1)"],
        ),
        (
            vec![set, "checkpoint.average=1"],
            ["checkpoint.average", "expected 2..=1000"],
        ),
        (
            vec![set, "checkpoint.average=2", "train.init_from=a", "replay.budget=0.1"],
            ["checkpoint.average", "replay.budget"],
        ),
    ] {
        let message = refusal(&sets);
        for part in parts {
            assert!(message.contains(part), "{sets:?}: {message}");
        }
    }
}

#[test]
fn a_dry_run_says_how_many_pairs_would_be_left_out() {
    let place = Workplace::new();
    let long = format!("{{\"en\": \"{0}\", \"nl\": \"{0}\"}}\n", "KAT HOND ".repeat(60));
    std::fs::write(place.path("pairs.jsonl"), rows() + &long.repeat(3)).unwrap();
    let text = RECIPE.replace("PAIRS", &place.path("pairs.jsonl").display().to_string());
    let resolved = resolve(&RecipeText::new("tiny", text), &sets(&["train.block_size=32"])).unwrap();
    let found = taal_trainer::dry_run(&resolved, DeviceSpec::Flex, &mut Silent).unwrap();
    let note = found
        .notes
        .iter()
        .find(|note| note.contains("left out"))
        .expect("a note");
    assert!(
        note.starts_with("3 pairs have a side longer than train.block_size = 32"),
        "{note}"
    );
}

#[test]
fn bad_pairs_stop_a_run_before_it_begins() {
    let place = Workplace::new();
    let swapped = "{\"en\": \"Ik heb de sleutel.\", \"nl\": \"I have the key.\"}\n".repeat(20);
    std::fs::write(place.path("pairs.jsonl"), swapped).unwrap();
    let error = place.run("swapped", RECIPE, &[], false, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(
        error
            .to_string()
            .contains("pairs.jsonl, line 1: the languages are swapped"),
        "{error}"
    );
    std::fs::write(place.path("pairs.jsonl"), "{\"english\": \"a\", \"nl\": \"b\"}\n").unwrap();
    let error = place.run("missing", RECIPE, &[], false, &mut Silent).unwrap_err();
    assert!(
        error.to_string().contains("column `en` of data.from is missing"),
        "{error}"
    );
    for name in ["swapped", "missing"] {
        assert!(!place.path(name).join("checkpoints").exists(), "{name}");
    }
}

#[test]
fn a_model_with_another_tokenizer_for_targets_is_fine_tuned_with_both() {
    let place = Workplace::new();
    place.finish("base", &["train.steps=1", "checkpoint.average=2"], &mut Silent);
    let given = place.path("given");
    std::fs::create_dir(&given).unwrap();
    for file in std::fs::read_dir(place.path("base/model")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), given.join(file.file_name())).unwrap();
    }
    // The same tokens without merges: targets are split into bytes.
    let path = given.join("tokenizer.json");
    let mut without: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    without["model"]["merges"] = serde_json::json!([]);
    let target = given.join("target_tokenizer.json");
    std::fs::write(&target, without.to_string()).unwrap();

    let init = format!("train.init_from={}", given.display());
    let sets = |steps: &'static str| [init.clone(), steps.to_string(), "checkpoint.average=2".to_string()];
    let run = |steps: &'static str, is_resume: bool| {
        let sets = sets(steps);
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        place.run("tuned", RECIPE, &sets, is_resume, &mut Silent)
    };
    let report = finished(run("train.steps=4", false));
    let kept = place.path("tuned/model/target_tokenizer.json");
    assert_eq!(std::fs::read(&kept).unwrap(), std::fs::read(&target).unwrap());
    // Its loss is that of targets in bytes.
    let held = ConversationOptions {
        validation_fraction: 0.2,
        ..options()
    };
    let losses = [
        Tokenizer::open(&path).unwrap(),
        Tokenizer::from_json(&std::fs::read(&path).unwrap()).unwrap(),
    ];
    let [of_both, of_one] = losses.map(|tokenizer| {
        let files = [place.path("pairs.jsonl")];
        let pairs = Pairs::open_with(&tokenizer, &files, &BatchPlan::new(3, 2, 64), &held).unwrap();
        let batches: Vec<Batch> = pairs.validation.unwrap().in_order(1).collect();
        let step = place.path("tuned/checkpoints/step-00000004/model");
        mean(&hugging_face::open(&step, &Device::flex()).unwrap(), &batches)
    });
    assert!(of_both.1 > of_one.1, "{} and {} tokens", of_both.1, of_one.1);
    let found = report.val_loss.unwrap();
    assert!(
        (found - of_both.0).abs() < 4.0 * LOSS_TOLERANCE,
        "{found} {}",
        of_both.0
    );

    // The run goes on, and not with another file.
    finished(run("train.steps=6", true));
    std::fs::write(&target, serde_json::to_vec_pretty(&without).unwrap()).unwrap();
    let error = run("train.steps=8", true).unwrap_err();
    assert!(error.to_string().contains("tokenizer"), "{error}");
}
