//! The figures of a step: a field of [`StepRecord`], and a row of [`STEP_FIGURES`] that says where it is shown.
//!
//! A new figure is a field and a row here, and its value where the trainer makes the record. From the row follow its column in `log.csv`, its
//! words while training, its chart and its card on the page, its sum in `report.json` and its line in docs/files.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numbers;

/// What one optimizer step looked like: one line of `log.jsonl`.
///
/// Numbers read back bit for bit; one that is not finite is `null` in the file and NaN when read. Fields that this version does not
/// know are ignored when read, and kept when a log is truncated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The optimizer step that the record is about; it rises through the log.
    pub step: u64,
    /// The training loss in nats per token, before the update.
    #[serde(with = "numbers::required")]
    pub loss: f64,
    /// The learning rate of the update.
    #[serde(with = "numbers::required")]
    pub lr: f64,
    /// The global gradient norm before clipping.
    #[serde(with = "numbers::required")]
    pub grad_norm: f64,
    /// Training tokens per second.
    #[serde(with = "numbers::required")]
    pub tokens_per_s: f64,
    /// The loss over the validation split after the update, in nats per token, where it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub val_loss: Option<f64>,
    /// The same in bits per byte of text.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub val_bits_per_byte: Option<f64>,
    /// Share of the hidden tokens of the validation split that a masked model guessed, or of its pairs whose chosen answer the model prefers
    /// more than the reference does; only if evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub val_accuracy: Option<f64>,
    /// How good generated answers to held-out prompts are, 0 to 1; only if evaluated with a metric of answers.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub val_answers: Option<f64>,
    /// The loss on held-out data that the model knew before, in nats per token; only if evaluated with a forget budget.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub old_loss: Option<f64>,
    /// `val_loss` of each source of the text, where there are several; only those that are finite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub val_by_source: BTreeMap<String, f64>,
    /// Seconds of training so far, earlier parts of a resumed run included.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub wall_s: Option<f64>,
    /// Joules since the record before that has them, evaluation and checkpoint included; none where the meter was not read.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub energy_j: Option<f64>,
    /// Their lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub energy_low_j: Option<f64>,
    /// Their upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "numbers::optional")]
    pub energy_high_j: Option<f64>,
    /// Whether the step was bad and its update skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", rename = "skipped")]
    pub is_skipped: bool,
}

/// A figure of a step, and where it is shown.
#[derive(Debug, Clone, Copy)]
pub struct StepFigure {
    /// Its name in `log.jsonl`, `log.csv` and `report.json`.
    pub name: &'static str,
    /// Its unit, where it has one.
    pub unit: &'static str,
    /// What it is, in a line.
    pub meaning: &'static str,
    /// Its value, where a step has one.
    pub value: fn(&StepRecord) -> Option<f64>,
    /// Whether it is a column of `log.csv`.
    pub is_in_csv: bool,
    /// Its chart on the page of a run.
    pub chart: Option<StepChart>,
    /// What its sum over the steps is called on the page and in the terminal; such a figure is shown while training too.
    pub total: Option<&'static str>,
}

/// The chart of a figure by step.
#[derive(Debug, Clone, Copy)]
pub struct StepChart {
    /// Above it.
    pub title: &'static str,
    /// Along its vertical axis.
    pub y_label: &'static str,
    /// Whether an average is drawn over noisy steps.
    pub is_smoothed: bool,
}

/// Every figure of a step, in the order of the log.
#[rustfmt::skip]
pub const STEP_FIGURES: [StepFigure; 15] = [
    figure("step", "", "the step, counted from 1", |it| Some(it.step as f64)),
    figure("loss", "nats per token", "training loss of the step's batches, before the update", |it| Some(it.loss)),
    figure("lr", "", "learning rate of the update (AdamW's; Muon's follows the same curve from its own peak)", |it| Some(it.lr))
        .with_chart("Learning rate", "learning rate", false),
    figure("grad_norm", "", "global gradient norm, before clipping", |it| Some(it.grad_norm))
        .with_chart("Gradient norm", "norm before clipping", true),
    figure("tokens_per_s", "tokens per second", "of this step: drawing the batches, forward, backward, update", |it| Some(it.tokens_per_s)),
    figure("val_loss", "nats per token", "over the whole validation split, after the update; only where evaluated", |it| it.val_loss),
    figure("val_bits_per_byte", "bits per byte", "the same over the bytes of the text; only where evaluated", |it| it.val_bits_per_byte),
    figure("val_accuracy", "share", "of the hidden tokens that were guessed, or of the pairs whose chosen answer is preferred; only of masked models and preferences, where evaluated", |it| it.val_accuracy)
        .not_in_csv(),
    figure("val_answers", "share", "`eval.metric` of answers to held-out prompts; only where evaluated with one", |it| it.val_answers)
        .not_in_csv()
        .with_chart("Answers", "eval.metric", false),
    figure("old_loss", "nats per token", "on held-out old data; only where evaluated with `replay.budget`", |it| it.old_loss)
        .not_in_csv()
        .with_chart("Loss on old data", "nats per token", false),
    figure("wall_s", "seconds", "of the run so far, earlier parts included", |it| it.wall_s),
    figure("energy_j", "joules", "since the last record that has it (fast steps share one); its source is in `report.json`", |it| it.energy_j),
    figure("energy_low_j", "joules", "its lower bound", |it| it.energy_low_j)
        .not_in_csv(),
    figure("energy_high_j", "joules", "its upper bound", |it| it.energy_high_j)
        .not_in_csv(),
    figure("skipped", "", "`true` if the step was bad and its update skipped; else absent", |it| it.is_skipped.then_some(1.0))
        .not_in_csv(),
];

const fn figure(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    value: fn(&StepRecord) -> Option<f64>,
) -> StepFigure {
    StepFigure {
        name,
        unit,
        meaning,
        value,
        is_in_csv: true,
        chart: None,
        total: None,
    }
}

impl StepFigure {
    const fn with_chart(mut self, title: &'static str, y_label: &'static str, is_smoothed: bool) -> Self {
        self.chart = Some(StepChart {
            title,
            y_label,
            is_smoothed,
        });
        self
    }

    const fn not_in_csv(mut self) -> Self {
        self.is_in_csv = false;
        self
    }

    /// The words for a step while training, such as `energy 12.3 joules`.
    pub fn words(&self, record: &StepRecord) -> Option<String> {
        let value = (self.value)(record)?;
        Some(format!("{} {value:.1} {}", self.total?.to_lowercase(), self.unit))
    }

    /// The sum over the steps that have a value, where it is a figure of the run.
    pub fn of_run(&self, records: &[StepRecord]) -> Option<f64> {
        self.total?;
        records.iter().filter_map(self.value).reduce(|sum, value| sum + value)
    }
}

/// The figures of a run that follow from those of its steps, by name: `figures` in `report.json`.
pub fn run_figures(records: &[StepRecord]) -> BTreeMap<String, f64> {
    let found = STEP_FIGURES.iter();
    found
        .filter_map(|figure| Some((figure.name.to_owned(), figure.of_run(records)?)))
        .collect()
}
