//! The same weights and batches as a plain PyTorch loop: losses, gradients, and weights after 20 steps.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use taal_data::Batch;
use taal_kernels::DeviceSpec;
use taal_model::hugging_face;
use taal_trainer::{AdamW, Learner, MixedPrecision, Optimizer, Schedule, ScheduleKind};

/// Relative tolerance, in fp32, of losses and of the norm of the difference of two gradients.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Batches {
    inputs: Vec<Vec<Vec<i32>>>,
    targets: Vec<Vec<Vec<i32>>>,
}

#[derive(Deserialize)]
struct Expected {
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
    learning_rates: Vec<f64>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nanogpt")
}

fn json<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(golden().join(name)).unwrap()).unwrap()
}

fn batches() -> Vec<Batch> {
    let batches: Batches = json("batches.json");
    let pairs = batches.inputs.iter().zip(&batches.targets);
    pairs
        .map(|(inputs, targets)| Batch {
            inputs: inputs.concat(),
            targets: targets.concat(),
            batch_size: inputs.len(),
            seq_len: inputs[0].len(),
            text_starts: None,
            source: None,
        })
        .collect()
}

fn learner() -> Learner {
    let device = DeviceSpec::Flex.open().unwrap().autodiff();
    let model = hugging_face::open(&golden(), &device).unwrap();
    let adamw = AdamW {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    let optimizer = Optimizer::new(adamw, None);
    Learner {
        model,
        optimizer,
        clip_norm: Some(1.0),
        precision: MixedPrecision::default(),
    }
}

/// The name in GPT-2 of one of our parameters; no matrix of this layout is transposed.
fn published_name(ours: &str) -> String {
    let pairs = [
        ("token_embedding", "transformer.wte"),
        ("position_embedding", "transformer.wpe"),
        ("final_norm", "transformer.ln_f"),
        ("blocks", "transformer.h"),
        ("attention_norm", "ln_1"),
        ("feed_forward_norm", "ln_2"),
        ("attention.qkv", "attn.c_attn"),
        ("attention.output", "attn.c_proj"),
        ("feed_forward.up", "mlp.c_fc"),
        ("feed_forward.down", "mlp.c_proj"),
    ];
    pairs
        .iter()
        .fold(ours.to_string(), |name, (from, to)| name.replace(from, to))
}

/// The norm of the difference divided by the norm of the expected values.
fn relative_difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut expected.iter().map(|v| f64::from(*v)))
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap();
    data.data()
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

#[test]
fn twenty_losses_gradient_norms_and_rates_equal_pytorchs() {
    let expected: Expected = json("expected.json");
    let schedule = Schedule {
        kind: ScheduleKind::Cosine,
        lr: 1e-3,
        min_lr: 1e-4,
        warmup_steps: 5,
        steps: 20,
        decay_fraction: 0.2,
    };
    let mut learner = learner();
    for (step, batch) in batches().iter().enumerate() {
        let lr = schedule.at(step as u64);
        assert!((lr - expected.learning_rates[step]).abs() < 1e-15, "step {step}: {lr}");
        let outcome = learner
            .step(std::slice::from_ref(batch), &[], lr / schedule.lr)
            .unwrap();
        let relative = |found: f64, expected: f64| (found - expected).abs() / expected;
        assert!(
            relative(outcome.loss, expected.losses[step]) < TOLERANCE,
            "step {step}: {outcome:?}"
        );
        assert!(
            relative(outcome.grad_norm, expected.grad_norms[step]) < TOLERANCE,
            "step {step}: {outcome:?}"
        );
    }
    let bytes = std::fs::read(golden().join("final.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    taal_model::parameters::read(&learner.model, |name, _, values| {
        let difference = relative_difference(&values, &floats(&expected, &published_name(name)));
        assert!(difference < TOLERANCE, "{name}: {difference}");
    });
}

#[test]
fn every_gradient_of_step_0_equals_pytorchs() {
    let bytes = std::fs::read(golden().join("gradients.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let found = learner().gradients(&batches()[0]).unwrap();
    assert_eq!(found.len(), expected.len());
    for gradient in found {
        let name = &gradient.name;
        let difference = relative_difference(&gradient.values, &floats(&expected, &published_name(name)));
        assert!(difference < TOLERANCE, "{name}: {difference}");
    }
}

#[test]
fn accumulated_micro_batches_equal_one_large_batch() {
    let whole = &batches()[0];
    let half = |from: usize, to: usize| Batch {
        inputs: whole.inputs[from * 16..to * 16].to_vec(),
        targets: whole.targets[from * 16..to * 16].to_vec(),
        batch_size: to - from,
        seq_len: 16,
        text_starts: None,
        source: None,
    };
    let [mut at_once, mut in_parts] = [learner(), learner()];
    let one = at_once.step(std::slice::from_ref(whole), &[], 1.0).unwrap();
    let two = in_parts.step(&[half(0, 1), half(1, 4)], &[], 1.0).unwrap();
    assert!(
        (one.loss - two.loss).abs() < 1e-6 && (one.grad_norm - two.grad_norm).abs() < 1e-5,
        "{one:?} {two:?}"
    );
}

#[test]
fn a_step_that_is_not_finite_changes_no_weight() {
    let mut learner = learner();
    learner.model = taal_model::parameters::replace(learner.model, |name, shape| -> Result<Vec<f32>, ()> {
        let value = if name == "final_norm.weight" { f32::NAN } else { 0.5 };
        Ok(vec![value; shape.iter().product()])
    })
    .unwrap();
    let outcome = learner.step(&batches()[..1], &[], 1.0).unwrap();
    assert!(!outcome.is_finite());
    assert_eq!(learner.optimizer.step_count(), 0);
    taal_model::parameters::read(&learner.model, |name, _, values| {
        assert!(
            values.iter().all(|v| *v == 0.5 || name == "final_norm.weight"),
            "{name}"
        );
    });
}
