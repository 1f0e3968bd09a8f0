//! Whether forecasts come true: many short runs, and how many of their ends lie in the 90 % intervals.

use serde::Serialize;
use taal_metrics::{Forecast, Predicted};

/// Runs of [`short_runs`].
pub const RUNS: usize = SETTINGS.len() * SEEDS.len();

/// Of 45 runs, 36 or more must end inside.
const COVERED_SHARE: f64 = 36.0 / 45.0;
/// The largest half-width, relative for time and energy, in nats per token for the loss.
const MAX_RELATIVE: f64 = 0.2;
const MAX_NATS: f64 = 0.08;

const SEEDS: [u64; 3] = [1337, 7, 2024];

/// Recipes and settings that differ in corpus, shape, optimizer, schedule, length and evaluations.
const SETTINGS: [(&str, &str, &[&str]); 15] = [
    ("shakespeare", "shakespeare-char", &[]),
    (
        "shakespeare-short",
        "shakespeare-char",
        &["train.steps=1000", "eval.every=250"],
    ),
    (
        "shakespeare-long",
        "shakespeare-char",
        &["train.steps=2000", "eval.every=500"],
    ),
    (
        "shakespeare-narrow",
        "shakespeare-char",
        &["model.d_model=96", "train.steps=1200"],
    ),
    (
        "shakespeare-shallow",
        "shakespeare-char",
        &["model.n_layers=2", "train.steps=1200"],
    ),
    (
        "shakespeare-cosine",
        "shakespeare-char",
        &["train.schedule=cosine", "train.steps=1200"],
    ),
    (
        "shakespeare-half-rate",
        "shakespeare-char",
        &["train.lr=0.0075", "train.muon_lr=0.006", "train.steps=1200"],
    ),
    ("nanogpt", "nanogpt-cpu", &[]),
    ("nanogpt-short", "nanogpt-cpu", &["train.steps=1200", "eval.every=120"]),
    (
        "nanogpt-double-rate",
        "nanogpt-cpu",
        &["train.lr=0.002", "train.steps=1500"],
    ),
    ("names", "names", &[]),
    ("names-long", "names", &["train.steps=1500", "eval.every=150"]),
    ("names-adamw", "names", &["train.optimizer=adamw", "train.lr=0.003"]),
    (
        "dutch",
        "dutch-bpe",
        &["model.d_model=128", "train.batch_size=8", "train.steps=1000"],
    ),
    (
        "dutch-small",
        "dutch-bpe",
        &[
            "tokenizer.vocab_size=512",
            "model.d_model=96",
            "train.batch_size=8",
            "train.steps=1000",
        ],
    ),
];

/// A run to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShortRun {
    /// The name of its directory.
    pub name: String,
    /// Its recipe.
    pub recipe: &'static str,
    /// Settings of the recipe.
    pub sets: Vec<String>,
}

/// Short runs: every setting with every seed, the seeds outermost, so that the first ones already differ.
pub fn short_runs() -> Vec<ShortRun> {
    let run = |seed: u64, (name, recipe, sets): (&str, &'static str, &[&str])| {
        let mut sets: Vec<String> = sets.iter().map(|set| (*set).to_string()).collect();
        sets.push(format!("seed={seed}"));
        sets.push("sample.max_tokens=0".to_string());
        ShortRun {
            name: format!("{name}-{seed}"),
            recipe,
            sets,
        }
    };
    let all = SEEDS
        .iter()
        .flat_map(|seed| SETTINGS.iter().map(|setting| run(*seed, *setting)));
    all.collect()
}

/// How the forecasts of one quantity did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// `time`, `energy` or `loss`.
    pub quantity: &'static str,
    /// Forecasts with an end.
    pub forecasts: u64,
    /// Those whose end was in the interval.
    pub covered: u64,
    /// The widest half-width, relative for time and energy, in nats per token for the loss.
    pub widest: f64,
    /// The root mean square of the error, in the same unit.
    pub rms_error: f64,
    /// Whether enough are covered by intervals that are narrow enough.
    pub is_met: bool,
}

/// Grades forecasts whose runs have ended.
pub fn grade(forecasts: &[Forecast]) -> [Coverage; 3] {
    let of = |quantity, pick: &dyn Fn(&Forecast) -> Option<Predicted>, is_relative| {
        let found: Vec<Predicted> = forecasts.iter().filter_map(pick).collect();
        coverage(quantity, &found, is_relative)
    };
    [
        of("time", &|forecast| Some(forecast.seconds), true),
        of("energy", &|forecast| forecast.joules, true),
        of("loss", &|forecast| forecast.loss, false),
    ]
}

fn coverage(quantity: &'static str, found: &[Predicted], is_relative: bool) -> Coverage {
    let mut result = Coverage {
        quantity,
        ..Coverage::default()
    };
    let mut squares = 0.0;
    for predicted in found {
        let (Some(actual), Some(is_inside)) = (predicted.actual, predicted.is_inside()) else {
            continue;
        };
        let scale = if is_relative {
            predicted.value.abs().max(1e-12)
        } else {
            1.0
        };
        result.forecasts += 1;
        result.covered += u64::from(is_inside);
        result.widest = result.widest.max(predicted.half_width() / scale);
        squares += ((predicted.value - actual) / scale).powi(2);
    }
    let most = if is_relative { MAX_RELATIVE } else { MAX_NATS };
    result.rms_error = (squares / result.forecasts.max(1) as f64).sqrt();
    let share = result.covered as f64 / result.forecasts.max(1) as f64;
    result.is_met = result.forecasts > 0 && share >= COVERED_SHARE && result.widest <= most * (1.0 + 1e-9);
    result
}
