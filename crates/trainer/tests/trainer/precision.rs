//! Mixed precision: runs in half precision follow those in fp32, and a loss scale only changes which values f16 can
//! represent.

use std::path::Path;

use taal_data::{Batch, BatchPlan, TokenSource};
use taal_kernels::{DeviceSpec, Precision, random, with_precision};
use taal_metrics::StepRecord;
use taal_model::{Initialization, TransformerConfig, parameters};
use taal_store::ErrorKind;
use taal_trainer::{
    AdamW, Learner, LossScale, MixedPrecision, Muon, Optimizer, Outcome, PrecisionChoice, Progress, Silent, TrainError,
    TrainState, resolve,
};

use crate::{run_recipe, size, typed};

/// The largest difference between the losses of a run in half precision and of one in fp32, in nats: products have 8
/// bits (bf16) or 11 (f16), and differences accumulate in the weights over the steps.
const CURVE: f64 = 2e-2;

const RECIPE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
[model]
preset = "gpt2"
n_layers = 2
n_heads = 2
d_model = 32
[train]
steps = 40
batch_size = 4
block_size = 16
lr = 3e-3
clip_norm = 1.0
[eval]
every = 20
[sample]
max_tokens = 0
"#;

/// A folder with a text to train on.
fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = "de kat zat op de mat en de hond zat op de kat; ".repeat(20);
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

/// Trains in a run directory of a place, with what is said on the way.
fn run(
    place: &Path,
    run: &str,
    sets: &[&str],
    is_resume: bool,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let text = RECIPE.replace("TEXT", &place.join("text.txt").display().to_string());
    run_recipe(&typed("tiny", text), sets, &place.join(run), is_resume, progress)
}

/// The losses of all steps.
fn losses(precision: &str) -> Vec<f64> {
    let place = place();
    let precision_set = format!("train.precision={precision}");
    let outcome = run(place.path(), "run", &[&precision_set], false, &mut Silent).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    let records: Vec<StepRecord> = taal_metrics::read_log(&place.path().join("run/log.jsonl")).unwrap();
    assert!(records.iter().all(|record| !record.is_skipped), "{precision} overflows");
    records.iter().map(|record| record.loss).collect()
}

#[test]
fn a_run_in_half_precision_learns_as_one_in_fp32() {
    let expected = losses("fp32");
    assert!(expected[39] < expected[0] - 0.5, "{expected:?}");
    let has_bf16 = Precision::Bf16.is_supported(&DeviceSpec::Flex.open().unwrap());
    for precision in if has_bf16 { &["bf16", "f16"][..] } else { &["f16"] } {
        let found = losses(precision);
        assert_ne!(found, expected, "{precision} computed in fp32");
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(
                difference < CURVE,
                "{precision}, step {step}: {found} instead of {expected}"
            );
        }
    }
}

/// What is said on the way.
#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        self.0.push(message.to_string());
    }
}

#[test]
fn auto_says_what_it_takes_keeps_it_in_the_checkpoint_and_resumes_with_it() {
    let place = place();
    let auto = "train.precision=auto";
    let state = |run: &str, step: u64| -> TrainState {
        let path = format!("{run}/checkpoints/step-{step:08}/train_state.json");
        serde_json::from_str(&std::fs::read_to_string(place.path().join(path)).unwrap()).unwrap()
    };
    let mut notes = Notes::default();
    run(place.path(), "first", &[auto, "train.steps=20"], false, &mut notes).unwrap();
    let chosen = state("first", 20).precision.expect("a choice is kept");
    let said = format!("train.precision = \"auto\": {chosen}");
    assert!(notes.0.iter().any(|note| note.starts_with(&said)), "{:?}", notes.0);
    // What was chosen is what was computed in.
    let steps = "train.steps=20";
    let fixed = format!("train.precision={chosen}");
    run(place.path(), "fixed", &[&fixed, steps], false, &mut Silent).unwrap();
    let weights = |run: &str, step: u64| {
        let path = format!("{run}/checkpoints/step-{step:08}/model/model.safetensors");
        std::fs::read(place.path().join(path)).unwrap()
    };
    assert!(weights("first", 20) == weights("fixed", 20));
    // A resumed run does not choose again.
    let mut notes = Notes::default();
    run(place.path(), "first", &[auto, "train.steps=30"], true, &mut notes).unwrap();
    assert!(!notes.0.iter().any(|note| note.contains("\"auto\"")), "{:?}", notes.0);
    assert_eq!(state("first", 30).precision, Some(chosen));
    // Nothing is kept, and no byte more is written, where nothing was chosen.
    run(place.path(), "plain", &[steps], false, &mut Silent).unwrap();
    assert_eq!(state("plain", 20).precision, None);
}

fn config() -> TransformerConfig {
    TransformerConfig::qwen3(size(17, 8, 1, 2, 16))
}

fn learner(precision: MixedPrecision) -> Learner {
    let device = DeviceSpec::Flex.open().unwrap().autodiff();
    let config = config();
    let init = Initialization {
        std: 0.02,
        residual_std: None,
    };
    Learner {
        model: config.init_with(1, init, &device).unwrap(),
        optimizer: Optimizer::new(AdamW::default(), Some(Muon::default())),
        clip_norm: Some(0.5),
        precision,
    }
}

fn batch(index: u64) -> Batch {
    let ids: Vec<u32> = (0..400).map(|i| (i * i + 3 * i) % 17).collect();
    let source = TokenSource::from_ids("numbers", ids, 400);
    BatchPlan::new(5, 2, 8).batch(&source, index).unwrap()
}

/// Every bit of weights and moments.
fn bits(learner: &Learner) -> Vec<u32> {
    let mut bits = Vec::new();
    parameters::read(&learner.model, |_, _, values| {
        bits.extend(values.iter().map(|x| x.to_bits()))
    });
    for (_, values) in learner.optimizer.read_state() {
        bits.extend(values.iter().map(|x| x.to_bits()));
    }
    bits.push(learner.optimizer.step_count() as u32);
    bits
}

/// A loss scale on top of products of any kind.
fn scaled(products: Precision, scale: f64) -> MixedPrecision {
    MixedPrecision {
        products,
        loss_scale: Some(LossScale { scale, good_steps: 0 }),
    }
}

#[test]
fn a_loss_scale_alone_changes_no_bit() {
    let mut plain = learner(MixedPrecision::default());
    let mut with_scale = learner(scaled(Precision::Fp32, 1024.0));
    for index in 0..6 {
        // With clipping, and every second step with two micro-batches.
        let batches: Vec<Batch> = (0..=index % 2).map(|micro| batch(2 * index + micro)).collect();
        let expected = plain.step(&batches, &[], 1.0).unwrap();
        let found = with_scale.step(&batches, &[], 1.0).unwrap();
        assert_eq!((found.loss, found.grad_norm), (expected.loss, expected.grad_norm));
        assert!(expected.grad_norm > 0.5, "nothing was clipped");
    }
    assert_eq!(bits(&with_scale), bits(&plain));
    assert_eq!(
        with_scale.gradients(&batch(99)).unwrap(),
        plain.gradients(&batch(99)).unwrap()
    );
}

#[test]
fn an_overflow_changes_no_bit_and_halves_the_loss_scale_until_there_is_none() {
    const ABSURD: f64 = (1_u64 << 40) as f64;
    let mut learner = learner(scaled(Precision::F16, ABSURD));
    let before = bits(&learner);
    let mut scale = ABSURD;
    let good = loop {
        let outcome = learner.step(&[batch(0)], &[], 1.0).unwrap();
        assert_eq!(outcome.loss_scale, scale);
        if outcome.is_finite() {
            break outcome;
        }
        assert!(outcome.is_overflow() && outcome.loss.is_finite(), "{outcome:?}");
        assert!(
            bits(&learner) == before,
            "a scale of {scale} changed weights or moments"
        );
        scale /= 2.0;
        assert_eq!(learner.precision.scale(), scale);
    };
    assert!((1.0..ABSURD).contains(&scale), "{scale}");
    assert!(bits(&learner) != before);
    // The figures of a step do not include the scale.
    let expected = self::learner(MixedPrecision::default())
        .step(&[batch(0)], &[], 1.0)
        .unwrap();
    assert!((good.loss - expected.loss).abs() < CURVE, "{good:?} {expected:?}");
    assert!(
        (good.grad_norm / expected.grad_norm - 1.0).abs() < CURVE,
        "{good:?} {expected:?}"
    );
}

/// The purpose of the loss scale.
#[test]
fn gradients_below_f16s_smallest_number_survive_by_the_loss_scale() {
    // A mean over so many targets that nearly all gradients are below 2^-24.
    let tiny = |mut batch: Batch| {
        let (inputs, targets) = (batch.inputs.clone(), batch.targets.clone());
        for _ in 1..2048 {
            batch.inputs.extend(&inputs);
            batch.targets.extend(&targets);
        }
        batch.batch_size *= 2048;
        batch
    };
    let norm = |precision| {
        let gradients = learner(precision).gradients(&tiny(batch(0))).unwrap();
        let inner = gradients.iter().filter(|gradient| gradient.name.contains("qkv.weight"));
        let squares = inner
            .flat_map(|gradient| &gradient.values)
            .map(|x| f64::from(*x).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let expected = norm(MixedPrecision::default());
    let with_scale = norm(MixedPrecision::new(Precision::F16));
    let without = norm(MixedPrecision {
        products: Precision::F16,
        loss_scale: None,
    });
    let off = |found: f64| (found / expected - 1.0).abs();
    assert!(off(with_scale) < 0.01, "{with_scale} instead of {expected}");
    assert!(
        off(without) > 10.0 * off(with_scale),
        "{without} without a scale, {with_scale} with one"
    );
}

#[test]
fn the_output_matrix_stays_fp32() {
    let model = learner(MixedPrecision::default()).model;
    let hidden = random::normal([1, 5, 16], 1.0, 3, &model.device());
    let logits = |precision| with_precision(precision, || parameters::to_vec(model.logits(hidden.clone())));
    assert_eq!(logits(Precision::F16), logits(Precision::Fp32));
}

#[test]
fn a_state_from_before_there_was_a_loss_scale_opens() {
    let state: TrainState = serde_json::from_str(r#"{"step": 3, "tokens": 48, "health": {"skipped": 1}}"#).unwrap();
    assert_eq!((state.step, state.health.skipped), (3, 1));
    assert_eq!((state.loss_scale, state.precision), (None, None));
}

#[test]
fn an_lstm_takes_no_precision_but_fp32() {
    let resolve = |precision: &str| {
        let source = typed("tiny", RECIPE.replace("gpt2", "lstm"));
        resolve(&source, &[format!("train.precision={precision}")])
    };
    let error = resolve("bf16").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let message = error.to_string();
    assert!(
        message.contains("train.precision") && message.contains("fp32"),
        "{message}"
    );
    for precision in ["fp32", "auto"] {
        let resolved = resolve(precision).unwrap().recipe.train.precision;
        assert_eq!(resolved, PrecisionChoice::Fixed(Precision::Fp32), "{precision}");
    }
}
