//! What a training will take and reach, from its first steps: time, energy and loss with 90 % intervals, graded at its end.

use serde::{Deserialize, Serialize};

use crate::StepRecord;

/// Steps below which there is no forecast: of a run, and until it is made.
pub const MIN_STEPS: u64 = 100;
const MIN_SEEN: u64 = 20;

/// It is made after this share of the steps, or after the first minute if that is sooner.
const SHARE_OF_STEPS: f64 = 0.1;
const FIRST_MINUTE_S: f64 = 60.0;

/// The half-width of time and energy, relative: the first steps do not show how a machine's speed drifts later (docs/energy.md).
const HALF_WIDTH: f64 = 0.2;

/// The half-width of the loss in nats per token: of 38 calibration runs, with each setting left out of the fit in turn, 34 were closer (docs/energy.md).
const LOSS_HALF_WIDTH: f64 = 0.08;

/// An evaluation has a forward pass only, which is a third of a training step.
const EVALUATION_SPEED: f64 = 3.0;

/// A value with its 90 % interval, and what it became.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// The forecast.
    pub value: f64,
    /// The lower end of its 90 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// What it was in the end; none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<f64>,
}

impl Predicted {
    fn new(value: f64, half_width: f64) -> Self {
        Self {
            value,
            low: (value - half_width).max(0.0),
            high: value + half_width,
            actual: None,
        }
    }

    /// Whether the end is in the interval; none before the end.
    pub fn is_inside(&self) -> Option<bool> {
        self.actual.map(|actual| (self.low..=self.high).contains(&actual))
    }

    /// Half of the interval's width.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// What a training will take and reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// The step after which it was made.
    pub step: u64,
    /// The step that it is about.
    pub steps: u64,
    /// Seconds of the run from its start to the end of its last evaluation.
    pub seconds: Predicted,
    /// Joules until then; none without a meter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<Predicted>,
    /// The last validation loss in nats per token; none without a validation split, or for a training that this forecast does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<Predicted>,
}

/// What is known of a training besides its records.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ForecastPlan {
    /// All steps.
    pub steps: u64,
    /// Steps between evaluations; none without a validation split.
    pub eval_every: Option<u64>,
    /// Tokens of an evaluation.
    pub val_tokens: u64,
    /// Seconds so far.
    pub wall_s: f64,
    /// Joules so far; none without a meter.
    pub joules: Option<f64>,
    /// Ids that the tokenizer has.
    pub vocab_size: u64,
    /// The peak of AdamW's learning rate.
    pub peak_lr: f64,
    /// Whether AdamW trains every weight; if not, Muon trains the matrices.
    pub is_adamw_only: bool,
    /// Whether the model starts from nothing and learns the next token, which the forecast of the loss knows.
    pub is_from_nothing: bool,
}

impl ForecastPlan {
    /// The step after which the loss is forecast.
    pub fn loss_step(&self) -> u64 {
        let after = (self.steps as f64 * SHARE_OF_STEPS).ceil() as u64;
        after.max(MIN_SEEN)
    }

    /// Whether a forecast can be made after a step: after 10 % of the steps, or the first minute if that is sooner.
    pub fn is_due(&self, step: u64) -> bool {
        let is_seen = step >= self.loss_step() || self.wall_s >= FIRST_MINUTE_S;
        self.steps >= MIN_STEPS && step >= MIN_SEEN && step < self.steps && is_seen
    }

    /// Evaluations after a step.
    fn evaluations_left(&self, step: u64) -> u64 {
        match self.eval_every.filter(|every| *every > 0) {
            Some(every) => {
                let regular = self.steps / every - step / every;
                regular + u64::from(!self.steps.is_multiple_of(every))
            }
            None => 0,
        }
    }
}

/// Forecasts from the records of the steps so far, the last one included; none if they are too few.
pub fn forecast(records: &[StepRecord], plan: &ForecastPlan) -> Option<Forecast> {
    let last = records.last().filter(|last| plan.is_due(last.step))?;
    let pace = Pace::of(records, plan)?;
    let left = (plan.steps - last.step) as f64;
    let evaluations_s = plan.evaluations_left(last.step) as f64 * pace.evaluation_s;
    let remaining_s = left * pace.step_s + evaluations_s;
    let interval = |value: f64| Predicted::new(value, HALF_WIDTH * value);
    let seconds = plan.wall_s + remaining_s;
    let joules = plan
        .joules
        .zip(pace.watts)
        .map(|(joules, watts)| interval(joules + remaining_s * watts));
    Some(Forecast {
        step: last.step,
        steps: plan.steps,
        seconds: interval(seconds),
        joules,
        loss: None,
    })
}

/// The last validation loss from the records of the first 10 % of the steps; none at any other step, or for a training that this does not
/// know.
pub fn forecast_loss(records: &[StepRecord], plan: &ForecastPlan) -> Option<Predicted> {
    records.last().filter(|last| last.step == plan.loss_step())?;
    loss(records, plan).map(|value| Predicted::new(value, LOSS_HALF_WIDTH))
}

impl Forecast {
    /// With what the training took and reached.
    pub fn graded(mut self, seconds: f64, joules: Option<f64>, loss: Option<f64>) -> Self {
        self.seconds.actual = Some(seconds);
        if let Some(predicted) = &mut self.joules {
            predicted.actual = joules;
        }
        if let Some(predicted) = &mut self.loss {
            predicted.actual = loss.filter(|loss| loss.is_finite());
        }
        self
    }
}

/// How fast a training goes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    /// Seconds per step, with what lies between steps.
    step_s: f64,
    /// Seconds per evaluation.
    evaluation_s: f64,
    /// The mean power.
    watts: Option<f64>,
}

/// Fewer steps say nothing of the pace.
const MIN_PACED: usize = 5;

impl Pace {
    fn of(records: &[StepRecord], plan: &ForecastPlan) -> Option<Self> {
        // The first steps of a process are slower.
        let records = &records[records.len() / 5..];
        let (mut steps, mut evaluations) = (Vec::new(), Vec::new());
        for pair in records.windows(2) {
            let seconds = pair[1].wall_s? - pair[0].wall_s?;
            // An evaluation comes after the time of its record.
            match pair[0].val_loss {
                None => steps.push(seconds),
                Some(_) => evaluations.push(seconds),
            }
        }
        if steps.len() < MIN_PACED {
            return None;
        }
        let step_s = mean(&steps);
        let tokens_per_s = mean(&records.iter().map(|record| record.tokens_per_s).collect::<Vec<_>>());
        let evaluation_s = match evaluations.is_empty() {
            true => plan.val_tokens as f64 / (EVALUATION_SPEED * tokens_per_s.max(1e-9)),
            false => (mean(&evaluations) - step_s).max(0.0),
        };
        // Fast steps share a reading, and the energy of a record includes its evaluation, which its time does not.
        let metered: Vec<&StepRecord> = records.iter().filter(|record| record.energy_j.is_some()).collect();
        let joules: f64 = metered.iter().skip(1).filter_map(|record| record.energy_j).sum();
        let end = |record: &&StepRecord| Some(record.wall_s? + record.val_loss.map_or(0.0, |_| evaluation_s));
        let seconds = metered.last().and_then(end).unwrap_or(0.0) - metered.first().and_then(end).unwrap_or(0.0);
        Some(Self {
            step_s,
            evaluation_s,
            watts: (joules > 0.0 && seconds > 0.0).then(|| joules / seconds),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Weights of the final validation loss in nats per token: constant; `L`, the loss after 10 % of the steps; `ln V` of the vocabulary;
/// `L ln V`; and where AdamW trains every weight, the slope of the loss over ln(step) and ln(peak rate x steps). Least squares over 38 short
/// runs of the built-in recipes with other settings and seeds (docs/energy.md).
const WEIGHTS: [f64; 6] = [0.3654, 0.4093, 0.0418, 0.0296, -0.2554, -0.0461];

/// Losses between which the calibration runs ended, and their steps, with some room.
const KNOWN_LOSSES: std::ops::RangeInclusive<f64> = 0.5..=9.0;
const KNOWN_STEPS: std::ops::RangeInclusive<u64> = 700..=4000;

/// The final validation loss; none for what [`WEIGHTS`] do not know.
fn loss(records: &[StepRecord], plan: &ForecastPlan) -> Option<f64> {
    let is_known = plan.is_from_nothing && plan.eval_every.is_some() && plan.peak_lr > 0.0;
    if !is_known || !KNOWN_STEPS.contains(&plan.steps) {
        return None;
    }
    let (level, slope) = level(records)?;
    let ln_vocabulary = (plan.vocab_size as f64).ln();
    let is_adamw = f64::from(u8::from(plan.is_adamw_only));
    let features = [
        1.0,
        level,
        ln_vocabulary,
        level * ln_vocabulary,
        is_adamw * slope,
        is_adamw * (plan.peak_lr * plan.steps as f64).ln(),
    ];
    let value: f64 = WEIGHTS
        .iter()
        .zip(features)
        .map(|(weight, feature)| weight * feature)
        .sum();
    // A training does not end above where it is, unless something is wrong.
    let value = value.min(level);
    KNOWN_LOSSES.contains(&value).then_some(value)
}

/// The loss of the last step, and its slope, on the straight line over the logarithm of the step through the last two thirds of the steps:
/// batches are noisy.
fn level(records: &[StepRecord]) -> Option<(f64, f64)> {
    let last = records.last()?.step as f64;
    let used = records
        .iter()
        .filter(|record| record.step as f64 >= last / 3.0 && record.loss.is_finite() && !record.is_skipped);
    let points: Vec<(f64, f64)> = used.map(|record| ((record.step as f64).ln(), record.loss)).collect();
    if points.len() < MIN_SEEN as usize / 2 {
        return None;
    }
    let (x, y): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let products: f64 = x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let squares: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let slope = if squares > 0.0 { products / squares } else { 0.0 };
    Some((mean_y + slope * (last.ln() - mean_x), slope))
}
