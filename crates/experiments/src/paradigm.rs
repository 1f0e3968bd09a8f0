//! Compares a recurrent network with the transformer on the same text and tokens: [`compare`].
//!
//! Both are trained with one recipe, one optimizer and one learning rate schedule. The peak rate is tuned for each
//! network: it is fully trained with several rates, and the best one counts. The recurrent network is an LSTM of two
//! layers (Zaremba et al. 2014), whose width is chosen so that it has about as many parameters as the transformer.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;
use taal_data::{Batch, Dataset, IGNORE_INDEX, TokenSource};
use taal_evaluation::{Score, score_windows};
use taal_inference::{Probe, Rows};
use taal_kernels::{DeviceSpec, random};
use taal_model::{Initialization, Mixer, ModelSize, Transformer, TransformerConfig};
use taal_trainer::prepare::{self, Corpus};
use taal_trainer::{
    BadStep, LSTM_INIT_STD, Learner, MixedPrecision, ModelRecipe, Optimizer, PrecisionChoice, Progress, Recipe,
    Schedule, StepOutcome, TrainError,
};

/// Layers of the recurrent network.
const LSTM_LAYERS: usize = 2;
/// Widths that are tried for it.
const WIDTH_STEP: usize = 8;
/// Warm-up steps before a measurement, and timed steps.
const WARM_UP: u64 = 2;
const TIMED: u64 = 5;
/// Symbols of the copy task; one additional symbol separates the original from the copy.
const SYMBOLS: usize = 16;
const COPY_ROWS: usize = 32;

/// Options of [`compare`].
#[derive(Debug, Clone, PartialEq)]
pub struct ParadigmOptions {
    /// Training time of each network, in seconds.
    pub seconds: f64,
    /// Multiples of the recipe's learning rates. Each network is fully trained with each of them, and the best one
    /// counts.
    pub rates: Vec<f64>,
    /// Lengths at which the time per training token is measured.
    pub lengths: Vec<usize>,
    /// The minimum number of tokens per step of that measurement.
    pub tokens_per_step: usize,
    /// Steps of the copy task.
    pub copy_steps: u64,
    /// Lengths of the texts to copy; training uses lengths up to the longest of them.
    pub copy_lengths: Vec<usize>,
}

impl Default for ParadigmOptions {
    fn default() -> Self {
        Self {
            seconds: 60.0,
            rates: vec![1.0, 3.0, 10.0],
            lengths: vec![64, 256, 1024],
            tokens_per_step: 2048,
            copy_steps: 600,
            copy_lengths: vec![4, 8, 16, 32],
        }
    }
}

/// All measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParadigmFigures {
    /// The recipe of both networks.
    pub recipe: String,
    /// The device's name.
    pub device: String,
    /// Tokens per row in training and evaluation.
    pub block_size: usize,
    /// Rows per batch.
    pub batch_size: usize,
    /// Vocabulary size.
    pub vocab_size: usize,
    /// The transformer, then the recurrent network.
    pub networks: Vec<NetworkFigures>,
}

/// The figures of one network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkFigures {
    /// `transformer` or `lstm`.
    pub name: &'static str,
    /// Layers and width.
    pub layers: usize,
    /// Width of the residual stream or of the state.
    pub width: usize,
    /// Parameters.
    pub params: u64,
    /// The time per training token by length.
    pub speed: Vec<LengthSpeed>,
    /// Training for an equal time.
    pub after_equal_time: TrainedFigures,
    /// Training on an equal number of tokens.
    pub after_equal_tokens: TrainedFigures,
    /// The loss by position in the window, after equal tokens.
    pub by_position: Vec<PositionLoss>,
    /// The multiple of the recipe's learning rates that was best for copying.
    pub copy_rate: f64,
    /// The share of correctly copied symbols, by the length of the text to copy.
    pub copy: Vec<CopyAccuracy>,
}

/// The time per token of whole training steps: forward, backward, optimizer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthSpeed {
    /// Tokens per row.
    pub length: usize,
    /// Rows per batch.
    pub batch_size: usize,
    /// The median over the timed steps.
    pub microseconds_per_token: f64,
}

/// One training with its own learning rate schedule, from the warm-up to the end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainedFigures {
    /// The multiple of the recipe's learning rates that was best.
    pub rate: f64,
    /// Updates.
    pub steps: u64,
    /// Tokens read.
    pub tokens: u64,
    /// Time of the training steps only.
    pub seconds: f64,
    /// Mean loss over the validation split, in nats per token.
    pub val_loss: f64,
}

/// The mean loss over some positions of all windows of the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PositionLoss {
    /// The first position, counted from 1, which is also the number of tokens that the model sees there.
    pub first: usize,
    /// The last position, inclusive.
    pub last: usize,
    /// In nats per token.
    pub loss: f64,
}

/// The accuracy of copying texts of one length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CopyAccuracy {
    /// Symbols to copy; the model must look back this many tokens plus one.
    pub length: usize,
    /// Share of symbols that are the model's most probable token at their position; 1/16 by chance.
    pub accuracy: f64,
}

/// Trains and measures both networks.
///
/// # Errors
///
/// [`TrainError`] if the recipe masks words, starts from a trained model or has no validation split, and those of
/// [`train`](taal_trainer::train).
pub fn compare(
    recipe: &Recipe,
    device: DeviceSpec,
    options: &ParadigmOptions,
    progress: &mut dyn Progress,
) -> Result<ParadigmFigures, TrainError> {
    let ModelRecipe::New { init, .. } = &recipe.model else {
        return Err(TrainError::recipe(
            &recipe.name,
            "train.init_from",
            "both networks must start untrained; leave it out",
        ));
    };
    if recipe.train.objective.masking().is_some() {
        return Err(TrainError::recipe(
            &recipe.name,
            "train.objective",
            "a recurrent network reads forwards only; use \"next_token\"",
        ));
    }
    if ![PrecisionChoice::default(), PrecisionChoice::Auto].contains(&recipe.train.precision) {
        return Err(TrainError::recipe(
            &recipe.name,
            "train.precision",
            "the networks are compared in fp32; leave it out, or take \"auto\"",
        ));
    }
    let opened = device.open()?;
    let tokenizer = prepare::tokenizer(recipe)?;
    let corpus = Corpus::prepare(recipe, &tokenizer, |message| progress.note(&message))?;
    let Corpus::Text(data) = corpus else {
        return Err(TrainError::recipe(
            &recipe.name,
            "data.conversations",
            "the networks are compared on running text",
        ));
    };
    let transformer = prepare::config(recipe, &tokenizer)?;
    if transformer.mixer == Mixer::Lstm {
        return Err(TrainError::recipe(
            &recipe.name,
            "model.preset",
            "the recurrent network gets the size of the transformer; choose a transformer",
        ));
    }
    let bench = Bench {
        recipe,
        init: *init,
        device: opened.autodiff(),
        data,
    };
    let configs = [("transformer", transformer.clone()), ("lstm", lstm_like(&transformer))];

    let mut speeds = Vec::new();
    for (name, config) in &configs {
        progress.note(&format!("{name}: time per training token"));
        speeds.push(bench.speed(config, options)?);
    }
    let mut timed = Vec::new();
    for (name, config) in &configs {
        let steps = bench.steps_in(config, options.seconds)?;
        progress.note(&format!("{name}: {steps} steps in about {:.0} s", options.seconds));
        timed.push(bench.trained_best(config, steps, &options.rates)?);
    }
    // The network that made fewer steps in the time has already been trained on the equal number of tokens.
    let steps = timed.iter().map(|(figures, _)| figures.steps).min().unwrap_or(1);
    let mut networks = Vec::new();
    for (((name, config), speed), (after_equal_time, model)) in configs.iter().zip(speeds).zip(timed) {
        let (after_equal_tokens, model) = if after_equal_time.steps == steps {
            (after_equal_time, model)
        } else {
            progress.note(&format!("{name}: {steps} steps, as many as the other network"));
            bench.trained_best(config, steps, &options.rates)?
        };
        let by_position = by_position(&model, &bench.data.validation, recipe)?;
        progress.note(&format!("{name}: copying, {} steps", options.copy_steps));
        let (copy_rate, copy) = bench.copied_best(config, options)?;
        networks.push(NetworkFigures {
            name,
            layers: config.n_layers,
            width: config.d_model,
            params: config.n_params(),
            speed,
            after_equal_time,
            after_equal_tokens,
            by_position,
            copy_rate,
            copy,
        });
    }
    Ok(ParadigmFigures {
        recipe: recipe.name.clone(),
        device: device.to_string(),
        block_size: recipe.train.block_size,
        batch_size: recipe.train.batch_size,
        vocab_size: transformer.vocab_size,
        networks,
    })
}

/// An LSTM with about as many parameters.
fn lstm_like(transformer: &TransformerConfig) -> TransformerConfig {
    let of_width = |width: usize| TransformerConfig {
        tie_embeddings: transformer.tie_embeddings,
        dropout: transformer.dropout,
        ..TransformerConfig::lstm(ModelSize {
            vocab_size: transformer.vocab_size,
            max_seq_len: transformer.max_seq_len,
            n_layers: LSTM_LAYERS,
            n_heads: 1,
            d_model: width,
        })
    };
    let distance = |config: &TransformerConfig| config.n_params().abs_diff(transformer.n_params());
    let mut best = of_width(WIDTH_STEP);
    for width in (2..).map(|n| n * WIDTH_STEP) {
        let next = of_width(width);
        // The number of parameters grows with the width, so the distance falls and then rises.
        if distance(&next) >= distance(&best) {
            break;
        }
        best = next;
    }
    best
}

/// What all measurements have in common.
struct Bench<'a> {
    recipe: &'a Recipe,
    init: Initialization,
    /// A device with autodiff.
    device: Device,
    data: Dataset,
}

impl Bench<'_> {
    fn learner(&self, config: &TransformerConfig) -> Result<Learner, TrainError> {
        let train = &self.recipe.train;
        Ok(Learner {
            model: config.init_with(self.recipe.seed, self.init_of(config), &self.device)?,
            optimizer: Optimizer::new(train.adamw, train.muon),
            clip_norm: train.clip_norm,
            precision: MixedPrecision::default(),
        })
    }

    /// An LSTM has no norm that scales small embeddings up.
    fn init_of(&self, config: &TransformerConfig) -> Initialization {
        match config.mixer {
            Mixer::Attention => self.init,
            Mixer::Lstm => Initialization {
                std: LSTM_INIT_STD,
                ..self.init
            },
        }
    }

    /// Trains with each rate and returns the result with the lowest loss.
    fn trained_best(
        &self,
        config: &TransformerConfig,
        steps: u64,
        rates: &[f64],
    ) -> Result<(TrainedFigures, Transformer), TrainError> {
        best_of(
            rates,
            |rate| self.trained(config, steps, rate),
            |(figures, _)| -figures.val_loss,
        )
    }

    /// The rate with the best copying accuracy, and that accuracy.
    fn copied_best(
        &self,
        config: &TransformerConfig,
        options: &ParadigmOptions,
    ) -> Result<(f64, Vec<CopyAccuracy>), TrainError> {
        let copy = |rate| Ok((rate, self.copy(config, options, rate)?));
        best_of(&options.rates, copy, |(_, copy)| {
            copy.iter().map(|copy| copy.accuracy).sum()
        })
    }

    /// The recipe's learning rate schedule, scaled to another number of steps.
    fn schedule(&self, steps: u64) -> Schedule {
        let of_recipe = self.recipe.train.schedule;
        let share = of_recipe.warmup_steps as f64 / of_recipe.steps.max(1) as f64;
        Schedule {
            steps,
            warmup_steps: (share * steps as f64).round() as u64,
            ..of_recipe
        }
    }

    /// How many steps fit in a time, by the median time of a step on the text.
    fn steps_in(&self, config: &TransformerConfig, seconds: f64) -> Result<u64, TrainError> {
        let mut learner = self.learner(config)?;
        let step_s = median_s(|step| {
            let batches = self.batches(step)?;
            let began = Instant::now();
            learner.step(&batches, &self.dropout_keys(step), 1.0)?;
            Ok(began.elapsed().as_secs_f64())
        })?;
        Ok(((seconds / step_s).round() as u64).max(1))
    }

    fn batches(&self, step: u64) -> Result<Vec<Batch>, TrainError> {
        let plan = prepare::batch_plan(self.recipe);
        self.micro_steps(step)
            .map(|micro| Ok(plan.batch(self.data.training(), micro)?))
            .collect()
    }

    fn dropout_keys(&self, step: u64) -> Vec<u64> {
        self.micro_steps(step)
            .map(|micro| random::key(self.recipe.seed, micro, "dropout"))
            .collect()
    }

    fn micro_steps(&self, step: u64) -> std::ops::Range<u64> {
        let accumulation = self.recipe.train.accumulation as u64;
        step * accumulation..(step + 1) * accumulation
    }

    fn trained(
        &self,
        config: &TransformerConfig,
        steps: u64,
        rate: f64,
    ) -> Result<(TrainedFigures, Transformer), TrainError> {
        let schedule = self.schedule(steps);
        let mut learner = self.learner(config)?;
        let mut seconds = 0.0;
        for step in 0..steps {
            let batches = self.batches(step)?;
            let began = Instant::now();
            let outcome = learner.step(
                &batches,
                &self.dropout_keys(step),
                rate * schedule.at(step) / schedule.lr,
            )?;
            seconds += began.elapsed().as_secs_f64();
            check(step, &outcome)?;
        }
        let model = learner.model.valid();
        let train = &self.recipe.train;
        let score = self.validation_score(&model)?;
        if score.tokens == 0 {
            return Err(TrainError::recipe(
                &self.recipe.name,
                "data.validation_fraction",
                "there is no validation split to compare on; set it above 0",
            ));
        }
        let figures = TrainedFigures {
            rate,
            steps,
            tokens: steps * (train.batch_size * train.block_size * train.accumulation) as u64,
            seconds,
            val_loss: score.loss(),
        };
        Ok((figures, model))
    }

    /// The validation loss, computed as in the trainer.
    fn validation_score(&self, model: &Transformer) -> Result<Score, TrainError> {
        let (window, batch_size) = (model.config().max_seq_len, self.recipe.eval.batch_size);
        let mut total = Score::default();
        for source in &self.data.validation {
            let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
            let score = score_windows(model, len, window, batch_size, |range| {
                source.read(range.start as u64, range.len())
            })?;
            total = total + score;
        }
        Ok(total)
    }

    fn speed(&self, config: &TransformerConfig, options: &ParadigmOptions) -> Result<Vec<LengthSpeed>, TrainError> {
        let at = |&length: &usize| {
            let batch_size = options.tokens_per_step.div_ceil(length).max(1);
            let config = TransformerConfig {
                max_seq_len: length,
                ..config.clone()
            };
            let mut learner = self.learner(&config)?;
            let key = random::key(self.recipe.seed, length as u64, "paradigm");
            let id = |index: usize| (random::bits(key, index as u64) % config.vocab_size as u64) as i32;
            let count = batch_size * length;
            let batches = [Batch {
                batch_size,
                seq_len: length,
                inputs: (0..count).map(id).collect(),
                targets: (1..=count).map(id).collect(),
                text_starts: None,
                source: None,
            }];
            let step_s = median_s(|step| {
                let began = Instant::now();
                learner.step(&batches, &[random::key(key, step, "dropout")], 1.0)?;
                Ok(began.elapsed().as_secs_f64())
            })?;
            Ok(LengthSpeed {
                length,
                batch_size,
                microseconds_per_token: 1e6 * step_s / count as f64,
            })
        };
        options.lengths.iter().map(at).collect()
    }

    /// Trains on random symbols that are repeated once, and measures how many symbols of the repetition are predicted.
    fn copy(
        &self,
        config: &TransformerConfig,
        options: &ParadigmOptions,
        rate: f64,
    ) -> Result<Vec<CopyAccuracy>, TrainError> {
        let longest = options.copy_lengths.iter().copied().max().unwrap_or(1).max(1);
        let config = TransformerConfig {
            vocab_size: SYMBOLS + 1,
            max_seq_len: 2 * longest,
            ..config.clone()
        };
        let mut learner = self.learner(&config)?;
        let schedule = self.schedule(options.copy_steps);
        for step in 0..options.copy_steps {
            let key = random::key(self.recipe.seed, step, "copy");
            let length = 1 + (random::bits(key, u64::MAX) % longest as u64) as usize;
            let outcome = learner.step(
                &[copy_batch(key, length)],
                &[random::key(key, step, "dropout")],
                rate * schedule.at(step) / schedule.lr,
            )?;
            check(step, &outcome)?;
        }
        let model = learner.model.valid();
        let accuracy = |&length: &usize| {
            let batch = copy_batch(
                random::key(self.recipe.seed, length as u64, "copy to measure"),
                length.max(1),
            );
            Ok(CopyAccuracy {
                length,
                accuracy: copied(&model, &batch)?,
            })
        };
        options.copy_lengths.iter().map(accuracy).collect()
    }
}

fn check(step: u64, outcome: &StepOutcome) -> Result<(), TrainError> {
    let reason = match outcome.loss.is_finite() {
        _ if outcome.is_finite() => return Ok(()),
        true => BadStep::Gradient(outcome.grad_norm),
        false => BadStep::Loss(outcome.loss),
    };
    Err(TrainError::Diverged {
        step,
        reason,
        saved: None,
    })
}

/// The result of `attempt` for the rate with the highest merit. A diverged run counts only if all runs diverge.
fn best_of<T>(
    rates: &[f64],
    attempt: impl Fn(f64) -> Result<T, TrainError>,
    merit: impl Fn(&T) -> f64,
) -> Result<T, TrainError> {
    let mut best: Option<(T, f64)> = None;
    let mut diverged = None;
    let usual = [1.0];
    for &rate in if rates.is_empty() { &usual } else { rates } {
        match attempt(rate) {
            Ok(found) => {
                let of_found = merit(&found);
                if best.as_ref().is_none_or(|(_, of_best)| of_found > *of_best) {
                    best = Some((found, of_found));
                }
            }
            Err(error @ TrainError::Diverged { .. }) => diverged = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (best, diverged) {
        (Some((best, _)), _) => Ok(best),
        (None, Some(error)) => Err(error),
        // There is at least one rate, and each gives either a result or an error.
        (None, None) => attempt(1.0),
    }
}

/// The median of the seconds that `step` returns, over the timed steps.
fn median_s(mut step: impl FnMut(u64) -> Result<f64, TrainError>) -> Result<f64, TrainError> {
    for index in 0..WARM_UP {
        step(index)?;
    }
    let mut times = (WARM_UP..WARM_UP + TIMED).map(step).collect::<Result<Vec<f64>, _>>()?;
    times.sort_unstable_by(f64::total_cmp);
    Ok(times[times.len() / 2].max(f64::MIN_POSITIVE))
}

/// Rows of `length` random symbols, a separator, and the same symbols again. Only the repetition counts in the loss.
fn copy_batch(key: u64, length: usize) -> Batch {
    let seq_len = 2 * length;
    let mut batch = Batch {
        batch_size: COPY_ROWS,
        seq_len,
        inputs: Vec::with_capacity(COPY_ROWS * seq_len),
        targets: Vec::with_capacity(COPY_ROWS * seq_len),
        text_starts: None,
        source: None,
    };
    for row in 0..COPY_ROWS {
        let symbol = |place: usize| (random::bits(key, (row * length + place) as u64) % SYMBOLS as u64) as i32;
        let symbols: Vec<i32> = (0..length).map(symbol).collect();
        batch.inputs.extend(&symbols);
        batch.inputs.push(SYMBOLS as i32);
        batch.inputs.extend(&symbols[..length - 1]);
        batch.targets.extend(std::iter::repeat_n(IGNORE_INDEX, length));
        batch.targets.extend(&symbols);
    }
    batch
}

/// The share of counted targets that are the most probable token.
fn copied(model: &Transformer, batch: &Batch) -> Result<f64, TrainError> {
    let is_counted = |place: &usize| batch.targets[*place] != IGNORE_INDEX;
    let places: Vec<usize> = (0..batch.targets.len()).filter(is_counted).collect();
    let targets: Vec<i32> = places.iter().map(|place| batch.targets[*place]).collect();
    let rows = Rows::signed(batch.inputs.clone(), batch.seq_len);
    let most_probable = Probe::new(model).ask(&rows, Some(&places), |logits, _| {
        Ok(logits.argmax(1).into_data().iter::<i32>().collect::<Vec<_>>())
    })?;
    let mut accuracy = taal_metrics::Accuracy::default();
    accuracy.add(&most_probable.concat(), &targets);
    Ok(accuracy.value().unwrap_or(0.0))
}

/// Mean losses over positions 1, 2, 3 to 4, 5 to 8 and so on, of all full validation windows.
fn by_position(model: &Transformer, sources: &[TokenSource], recipe: &Recipe) -> Result<Vec<PositionLoss>, TrainError> {
    let width = recipe.train.block_size;
    let at_once = recipe.eval.batch_size;
    let mut sums = vec![0.0_f64; width];
    let mut windows = 0_u64;
    for source in sources {
        let whole = usize::try_from(source.len().saturating_sub(1)).unwrap_or(usize::MAX) / width;
        for first in (0..whole).step_by(at_once) {
            let rows = at_once.min(whole - first);
            let count = rows * width;
            let ids = source.read((first * width) as u64, count + 1);
            let places: Vec<usize> = (0..count).collect();
            let losses = Probe::new(model).losses(&Rows::new(&ids[..count], width), &places, &ids[1..])?;
            for (index, loss) in losses.into_iter().enumerate() {
                sums[index % width] += f64::from(loss);
            }
            windows += rows as u64;
        }
    }
    if windows == 0 {
        return Ok(Vec::new());
    }
    let ends = (0..).map(|power| 1_usize << power).take_while(|end| *end < width);
    let mut first = 1;
    let mut found = Vec::new();
    for last in ends.chain([width]) {
        let sum: f64 = sums[first - 1..last].iter().sum();
        found.push(PositionLoss {
            first,
            last,
            loss: sum / (windows * (last + 1 - first) as u64) as f64,
        });
        first = last + 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recurrent_network_has_about_as_many_parameters() {
        for transformer in [
            TransformerConfig::llama(ModelSize {
                vocab_size: 2048,
                max_seq_len: 128,
                n_layers: 4,
                n_heads: 4,
                d_model: 128,
            }),
            TransformerConfig::qwen3(ModelSize {
                vocab_size: 65,
                max_seq_len: 128,
                n_layers: 4,
                n_heads: 4,
                d_model: 128,
            }),
            TransformerConfig::gpt2(ModelSize {
                vocab_size: 50_257,
                max_seq_len: 1024,
                n_layers: 12,
                n_heads: 12,
                d_model: 768,
            }),
        ] {
            let lstm = lstm_like(&transformer);
            let ratio = lstm.n_params() as f64 / transformer.n_params() as f64;
            assert!((0.95..1.05).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn the_best_rate_is_taken_and_one_that_diverges_is_skipped() {
        let attempt = |rate: f64| match rate {
            10.0.. => Err(TrainError::Diverged {
                step: 3,
                reason: BadStep::Loss(f64::NAN),
                saved: None,
            }),
            rate => Ok(rate),
        };
        let best = |rates: &[f64]| best_of(rates, attempt, |rate| -(rate - 2.0).abs());
        assert_eq!(best(&[1.0, 2.5, 5.0, 10.0]).expect("some that train"), 2.5);
        assert_eq!(best(&[]).expect("the recipe's own"), 1.0);
        assert!(matches!(best(&[10.0, 20.0]), Err(TrainError::Diverged { step: 3, .. })));
    }

    #[test]
    fn symbols_to_copy_occur_twice_and_only_the_repetition_counts() {
        let batch = copy_batch(7, 3);
        assert_eq!(batch.counted_targets(), 3 * COPY_ROWS);
        for (inputs, targets) in batch.inputs.chunks_exact(6).zip(batch.targets.chunks_exact(6)) {
            assert_eq!(inputs[3], SYMBOLS as i32);
            assert_eq!(targets[..3], [IGNORE_INDEX; 3]);
            assert_eq!(targets[3..], inputs[..3]);
            assert_eq!(inputs[4..], inputs[..2]);
        }
        assert_ne!(batch.inputs[..3], batch.inputs[6..9]);
    }
}
