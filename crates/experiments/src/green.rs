//! What energy a training needs, and which switches save some: variants of one recipe, measured alike.
//!
//! [`variants`] lists them; the caller runs each, because some differ in the environment of the process. [`compare`] says which lie on the
//! front: no other is at least as good in time, energy and loss, and better in one. [`cost_of_loss`] reads a log for what a loss took, so
//! that different models are compared at the same loss ([`contestants`]).

use std::path::{Path, PathBuf};

use serde::Serialize;
use taal_metrics::{Report, StepRecord};

/// A training to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name, which is that of its run directory.
    pub name: &'static str,
    /// What is different.
    pub about: &'static str,
    /// Settings of the recipe.
    pub sets: Vec<String>,
    /// Variables of the environment.
    pub environment: Vec<(&'static str, &'static str)>,
    /// The model that it starts from.
    pub base: Option<PathBuf>,
}

impl Variant {
    fn new(name: &'static str, about: &'static str, sets: &[&str]) -> Self {
        Self {
            name,
            about,
            sets: sets.iter().map(|set| (*set).to_string()).collect(),
            environment: Vec::new(),
            base: None,
        }
    }

    fn with_environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }
}

/// The variant that differs from the recipe only if its loss stops falling.
const EARLY_STOP: &str = "early-stop";

/// The steps and the batch of the recipe that is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Updates.
    pub steps: u64,
    /// Rows per update.
    pub batch_size: usize,
}

/// The recipe and the switches that save energy or cost some: kernels, threads, batch, precision, optimizer, early stop.
pub fn variants(scale: Scale) -> Vec<Variant> {
    let Scale { steps, batch_size } = scale;
    let sized = |steps: u64, batch_size: usize| {
        vec![
            format!("train.steps={}", steps.max(1)),
            format!("train.batch_size={}", batch_size.max(1)),
        ]
    };
    let mut variants = vec![
        Variant::new("default", "the recipe", &[]),
        Variant::new("reference-kernels", "without fused kernels", &[]).with_environment("TAAL_PLAIN_KERNELS", "1"),
        Variant::new("one-thread", "one thread", &[]).with_environment("RAYON_NUM_THREADS", "1"),
        Variant::new("bf16", "products in bf16", &["train.precision=bf16"]),
        Variant::new(
            "adamw",
            "AdamW in place of Muon",
            &["train.optimizer=adamw", "train.lr=0.003"],
        ),
        Variant::new(
            EARLY_STOP,
            "stop after two evaluations without gain",
            &["train.patience=2"],
        ),
    ];
    let mut batch = |name, about, steps, batch_size| {
        let mut variant = Variant::new(name, about, &[]);
        variant.sets = sized(steps, batch_size);
        variants.push(variant);
    };
    batch(
        "batch-double",
        "twice the batch, half the steps",
        steps / 2,
        batch_size * 2,
    );
    batch(
        "batch-half",
        "half the batch, twice the steps",
        steps * 2,
        batch_size / 2,
    );
    batch("half", "half the steps", steps / 2, batch_size);
    batch("double", "twice the steps", steps * 2, batch_size);
    variants
}

/// A recurrent network, a transformer and a transformer that was trained on another text, for the same corpus and the same characters.
///
/// `base` is the model directory of the third, whose tokenizer all three have.
pub fn contestants(base: &Path, steps: u64) -> Vec<Variant> {
    let tokenizer = format!("tokenizer.file={}", base.join("tokenizer.json").display());
    let common = [
        "data.corpus=names".to_string(),
        format!("train.steps={steps}"),
        format!("eval.every={}", (steps / 20).max(1)),
        format!("checkpoint.every={steps}"),
        "sample.max_tokens=0".to_string(),
    ];
    let contestant = |name, about, more: &[&str]| {
        let mut variant = Variant::new(name, about, more);
        variant.sets.extend(common.iter().cloned());
        variant
    };
    let mut lstm = contestant(
        "names-lstm",
        "an LSTM from nothing",
        &[
            "model.preset=lstm",
            "model.n_layers=2",
            "train.optimizer=adamw",
            "train.lr=0.003",
        ],
    );
    let mut transformer = contestant("names-transformer", "a transformer from nothing", &[]);
    for variant in [&mut lstm, &mut transformer] {
        variant.sets.push(tokenizer.clone());
    }
    let mut tuned = contestant("names-finetuned", "a transformer that has read Shakespeare", &[]);
    tuned.base = Some(base.to_path_buf());
    vec![lstm, transformer, tuned]
}

/// The figures of a variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantFigures {
    /// Its name.
    pub name: String,
    /// What is different.
    pub about: String,
    /// Updates.
    pub steps: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Joules, and their bounds.
    pub joules: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
    /// Where they come from.
    pub source: String,
    /// The lowest validation loss in nats per token.
    pub val_loss: f64,
    /// Whether it was the recipe's own training once more, because it had no reason to stop early. Its time and energy differ from the
    /// first one's only as the machine's speed does, so it is not compared.
    pub is_repeat: bool,
    /// Whether no other variant is better.
    pub is_on_front: bool,
}

impl VariantFigures {
    /// From the report of its run; none without energy or validation.
    pub fn of(variant: &Variant, report: &Report) -> Option<Self> {
        let energy = report.energy.as_ref()?;
        Some(Self {
            name: variant.name.to_string(),
            about: variant.about.to_string(),
            steps: report.steps,
            seconds: report.wall_s,
            joules: energy.joules,
            low: energy.low,
            high: energy.high,
            source: energy.source.clone(),
            val_loss: report.best_val_loss?,
            is_repeat: variant.name == EARLY_STOP && report.steps == report.planned_steps,
            is_on_front: false,
        })
    }

    /// Whether this one is at least as good in time, energy and loss, and better in one.
    fn dominates(&self, other: &Self) -> bool {
        let pairs = [
            (self.seconds, other.seconds),
            (self.joules, other.joules),
            (self.val_loss, other.val_loss),
        ];
        pairs.iter().all(|(this, that)| this <= that) && pairs.iter().any(|(this, that)| this < that)
    }
}

/// Marks the front, and sorts by energy.
pub fn compare(mut figures: Vec<VariantFigures>) -> Vec<VariantFigures> {
    let all = figures.clone();
    for one in &mut figures {
        let mut others = all.iter().filter(|other| !other.is_repeat);
        one.is_on_front = !one.is_repeat && !others.any(|other| other.dominates(one));
    }
    figures.sort_by(|a, b| a.joules.total_cmp(&b.joules));
    figures
}

/// What a loss took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LossCost {
    /// The step of the first evaluation that reached it.
    pub step: u64,
    /// Seconds until then.
    pub seconds: f64,
    /// Joules until then.
    pub joules: f64,
    /// Their lower bound.
    pub low: f64,
    /// Their upper bound.
    pub high: f64,
    /// The loss of that evaluation.
    pub val_loss: f64,
}

/// What it took until the validation loss was at most `target`; none if it never was. The energy of a step is in its record, that of the
/// evaluation with it.
pub fn cost_of_loss(records: &[StepRecord], target: f64) -> Option<LossCost> {
    let [mut low, mut joules, mut high] = [0.0; 3];
    let mut found = None;
    for record in records {
        let of_step = record.energy_j.unwrap_or(0.0);
        joules += of_step;
        low += record.energy_low_j.unwrap_or(of_step);
        high += record.energy_high_j.unwrap_or(of_step);
        if let Some(val_loss) = record.val_loss.filter(|loss| *loss <= target) {
            found = Some((record, val_loss));
            break;
        }
    }
    let (record, val_loss) = found?;
    Some(LossCost {
        step: record.step,
        seconds: record.wall_s?,
        joules,
        low,
        high,
        val_loss,
    })
}

/// The loss that all of these runs reached: the highest of their lowest ones.
pub fn common_loss(runs: &[Vec<StepRecord>]) -> Option<f64> {
    let lowest = |records: &Vec<StepRecord>| {
        let losses = records.iter().filter_map(|record| record.val_loss);
        losses.filter(|loss| loss.is_finite()).reduce(f64::min)
    };
    let lowest: Option<Vec<f64>> = runs.iter().map(lowest).collect();
    lowest?.into_iter().reduce(f64::max)
}
