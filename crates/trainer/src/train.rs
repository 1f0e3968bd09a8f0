//! A run from its first step to its report: [`train`].

use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use taal_data::BatchPlan;
use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_kernels::{DeviceSpec, random};
use taal_metrics::{Report, RunLog, Sample, StepRecord, flops};
use taal_store::RunLock;
use taal_tokenizer::Tokenizer;

use crate::checkpoint::{Checkpoint, Checkpoints, Snapshot, TrainState};
use crate::optimizer::Optimizer;
use crate::prepare::{self, Corpus};
use crate::recipe::Resolved;
use crate::run_dir;
use crate::step::Learner;
use crate::{Recipe, TrainError};

/// Where and how a recipe is run.
#[derive(Debug, Clone)]
pub struct RunOptions<'a> {
    /// The run directory.
    pub run_dir: &'a Path,
    /// The device.
    pub device: DeviceSpec,
    /// Go on from the newest checkpoint of the run directory.
    pub is_resume: bool,
}

/// What a person watching sees. Every method has an empty default.
pub trait Progress {
    /// Something worth a line.
    fn note(&mut self, _message: &str) {}
    /// Training begins.
    fn begin(&mut self, _run: &RunInfo) {}
    /// A step was made.
    fn step(&mut self, _record: &StepRecord, _info: &StepInfo) {}
    /// A sample was written.
    fn sample(&mut self, _prompt: &str, _text: &str) {}
    /// Asked after every step: save and stop?
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// Parameters.
    pub params: u64,
    /// Tokens that the tokenizer knows.
    pub vocab_size: usize,
    /// Training tokens in the data.
    pub train_tokens: u64,
    /// Validation tokens in the data.
    pub val_tokens: u64,
    /// Step from which this part of the run goes on.
    pub first_step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The machine's measured fp32 peak in FLOP/s, or 0 where it is not a CPU's.
    pub peak_flops_per_s: f64,
}

/// Figures of a step that the log does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Model FLOPs utilisation of this step.
    pub mfu: f64,
    /// Whether a checkpoint was saved after it.
    pub is_saved: bool,
    /// Whether the evaluation after it was the best so far.
    pub is_best: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All steps done, or stopped early by `train.patience`.
    Finished(Report),
    /// Stopped on request after a checkpoint; `--resume` goes on.
    Interrupted(Report),
}

/// Trains a recipe in a run directory, which it locks for the time.
///
/// Every random choice is a function of the recipe's seed and the step, and the checkpoint holds all state there is, so
/// on the CPU a run that was interrupted and resumed ends with bit-equal weights.
///
/// # Errors
///
/// [`TrainError`] of the right kind; whatever was saved before stays.
pub fn train(
    resolved: &Resolved,
    recipe_text: &str,
    options: &RunOptions<'_>,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let started = Instant::now();
    taal_store::create_dir_all(options.run_dir)?;
    let lock = RunLock::acquire(options.run_dir)?;
    let checkpoints = Checkpoints::of(options.run_dir);
    checkpoints.clean()?;
    let checkpoint = run_dir::enter(options, resolved, &checkpoints, progress)?;
    let mut run = Run::prepare(resolved, options, checkpoints, checkpoint, started)?;
    run_dir::write_recipe(options.run_dir, resolved, recipe_text)?;
    run.announce(progress);
    let outcome = run.go(progress);
    drop(lock);
    outcome
}

/// A run under way.
struct Run<'a> {
    recipe: &'a Recipe,
    recipe_hash: String,
    recipe_text: &'a str,
    options: &'a RunOptions<'a>,
    tokenizer: Tokenizer,
    corpus: Corpus,
    plan: BatchPlan,
    learner: Learner,
    state: TrainState,
    log: RunLog,
    checkpoints: Checkpoints,
    started: Instant,
    wall_before_s: f64,
    peak_flops_per_s: f64,
    flops_shape: flops::Shape,
    samples: Vec<Sample>,
}

impl<'a> Run<'a> {
    fn prepare(
        resolved: &'a Resolved,
        options: &'a RunOptions<'a>,
        checkpoints: Checkpoints,
        checkpoint: Option<Checkpoint>,
        started: Instant,
    ) -> Result<Self, TrainError> {
        let recipe = &resolved.recipe;
        let device = options.device.open()?.autodiff();
        let tokenizer = match &checkpoint {
            Some(checkpoint) => checkpoint.tokenizer()?,
            None => prepare::tokenizer(recipe)?,
        };
        let corpus = Corpus::prepare(recipe, &tokenizer)?;
        let plan = prepare::batch_plan(recipe);
        corpus.train().check(&plan)?;

        let model = match &checkpoint {
            Some(checkpoint) => checkpoint.model(recipe.model.dropout(), &device)?,
            None => prepare::model(recipe, &tokenizer, &device)?,
        };
        let mut optimizer = Optimizer::new(recipe.train.adamw, recipe.train.muon, model.config());
        let mut state = TrainState::default();
        if let Some(checkpoint) = &checkpoint {
            state = checkpoint.state()?;
            state.resumed_from = Some(checkpoint.step);
            checkpoint.restore(&mut optimizer, &device)?;
        }
        let learner = Learner {
            model,
            optimizer,
            clip_norm: recipe.train.clip_norm,
        };
        let mut log = RunLog::open(options.run_dir)?;
        log.truncate_to(state.step)?;
        Ok(Self {
            recipe,
            recipe_hash: taal_store::blake3_hex(resolved.text.as_bytes()),
            recipe_text: &resolved.text,
            options,
            tokenizer,
            corpus,
            plan,
            flops_shape: learner.model.config().shape(recipe.train.block_size),
            learner,
            wall_before_s: state.wall_s,
            state,
            log,
            checkpoints,
            started,
            peak_flops_per_s: match options.device {
                DeviceSpec::Flex | DeviceSpec::NdArray => taal_kernels::measured_peak_flops_per_s(),
                DeviceSpec::Wgpu(_) => 0.0,
            },
            samples: Vec::new(),
        })
    }

    fn announce(&self, progress: &mut dyn Progress) {
        let (train_tokens, val_tokens) = self.corpus.token_counts();
        progress.begin(&RunInfo {
            params: self.learner.model.config().n_params(),
            vocab_size: self.tokenizer.vocab_size(),
            train_tokens,
            val_tokens,
            first_step: self.state.step,
            steps: self.recipe.train.steps,
            peak_flops_per_s: self.peak_flops_per_s,
        });
        if let Some(truncated) = self.corpus.truncated() {
            progress.note(&truncated);
        }
    }

    fn go(&mut self, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        while self.state.step < self.recipe.train.steps && !self.is_out_of_patience() {
            let mut record = self.one_step()?;
            let step = self.state.step;
            let is_last = step == self.recipe.train.steps;
            let is_best = if is_last || step.is_multiple_of(self.recipe.eval.every) {
                self.evaluate(&mut record)?
            } else {
                false
            };
            self.log.append(&record)?;

            let is_out_of_patience = self.is_out_of_patience();
            let is_stopping = progress.should_stop();
            let is_done = is_last || is_out_of_patience;
            let is_saved = is_done || is_stopping || is_best || step.is_multiple_of(self.recipe.checkpoint.every);
            if is_saved {
                self.save()?;
            }
            let mfu = flops::utilisation(record.tokens_per_s, &self.flops_shape, self.peak_flops_per_s.max(1.0));
            progress.step(&record, &StepInfo { mfu, is_saved, is_best });
            if is_out_of_patience && !is_last {
                progress.note(&format!(
                    "stopped early: {} evaluations without a better loss",
                    self.state.evaluations_without_gain
                ));
            }
            if is_done {
                break;
            }
            if is_stopping {
                return Ok(Outcome::Interrupted(self.report()?));
            }
        }
        self.write_samples(progress)?;
        Ok(Outcome::Finished(self.report()?))
    }

    fn is_out_of_patience(&self) -> bool {
        self.recipe
            .train
            .patience
            .is_some_and(|patience| self.state.evaluations_without_gain >= patience)
    }

    /// Draws the batches of the next step, makes the step, and keeps the figures.
    fn one_step(&mut self) -> Result<StepRecord, TrainError> {
        let train = &self.recipe.train;
        let began = Instant::now();
        let index = self.state.step;
        let micro_steps = index * train.accumulation as u64..(index + 1) * train.accumulation as u64;
        let source = self.corpus.train();
        let batches = micro_steps
            .clone()
            .map(|micro| self.plan.batch(source, micro))
            .collect::<Result<Vec<_>, _>>()?;
        let dropout_keys: Vec<u64> = micro_steps
            .map(|micro| random::key(self.recipe.seed, micro, "dropout"))
            .collect();
        let lr = train.schedule.at(index);

        let outcome = self.learner.step(&batches, &dropout_keys, lr / train.schedule.lr)?;
        if !outcome.is_finite() {
            let loss = if outcome.loss.is_finite() {
                outcome.grad_norm
            } else {
                outcome.loss
            };
            return Err(TrainError::Diverged { step: index + 1, loss });
        }
        let tokens = (train.batch_size * train.block_size * train.accumulation) as u64;
        let seconds = began.elapsed().as_secs_f64();
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.train_s += seconds;
        self.state.train_loss = outcome.loss;
        self.state.wall_s = self.wall_before_s + self.started.elapsed().as_secs_f64();
        Ok(StepRecord {
            step: self.state.step,
            loss: outcome.loss,
            lr,
            grad_norm: outcome.grad_norm,
            tokens_per_s: tokens as f64 / seconds.max(1e-9),
            wall_s: Some(self.state.wall_s),
            ..StepRecord::default()
        })
    }

    /// The whole validation split; says whether it was the best so far.
    fn evaluate(&mut self, record: &mut StepRecord) -> Result<bool, TrainError> {
        let model = self.learner.model.valid();
        let Some(found) = self.corpus.validate(&model, self.recipe.eval.batch_size)? else {
            return Ok(false);
        };
        let loss = found.score.loss();
        let bits_per_byte = taal_metrics::bits_per_byte(found.score.nats, found.bytes);
        record.val_loss = Some(loss);
        record.val_bits_per_byte = Some(bits_per_byte);
        self.state.val_loss = Some(loss);
        self.state.val_bits_per_byte = Some(bits_per_byte);
        self.state.val_tokens = Some(found.score.tokens);
        self.state.wall_s = self.wall_before_s + self.started.elapsed().as_secs_f64();
        let is_best = self.state.best_val_loss.is_none_or(|best| loss < best);
        if is_best {
            self.state.best_val_loss = Some(loss);
            self.state.best_step = Some(self.state.step);
            self.state.evaluations_without_gain = 0;
        } else {
            self.state.evaluations_without_gain += 1;
        }
        Ok(is_best)
    }

    /// A checkpoint, the link to the best model, and only then the end of old checkpoints.
    fn save(&mut self) -> Result<(), TrainError> {
        self.log.sync()?;
        self.checkpoints.save(&Snapshot {
            learner: &self.learner,
            state: &self.state,
            tokenizer: &self.tokenizer,
            recipe_hash: &self.recipe_hash,
        })?;
        let best = self
            .state
            .best_step
            .filter(|step| taal_store::is_dir(&self.checkpoints.path(*step)));
        let shown = self.checkpoints.path(best.unwrap_or(self.state.step)).join("model");
        taal_store::publish_link(&shown, &self.options.run_dir.join("model"))?;
        self.checkpoints.prune(self.recipe.checkpoint.keep, best)
    }

    /// What the trained model writes, for the report and for whoever watches.
    fn write_samples(&mut self, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let sample = &self.recipe.sample;
        if sample.max_tokens == 0 || sample.prompts.is_empty() {
            return Ok(());
        }
        let tokenizer = Tokenizer::from_json(&self.tokenizer.to_json())?;
        let lm = LanguageModel::new(self.learner.model.valid(), Some(tokenizer));
        for (index, prompt) in sample.prompts.iter().enumerate() {
            let options = GenerateOptions {
                max_tokens: sample.max_tokens,
                sampling: Sampling {
                    temperature: sample.temperature,
                    top_k: sample.top_k,
                    seed: random::key(self.recipe.seed, index as u64, "sample"),
                    ..Sampling::default()
                },
                ..GenerateOptions::default()
            };
            let written = generate(&lm, &Prompt::Text(prompt.clone()), &options, &mut |_| ())?;
            let text = written.text.unwrap_or_default();
            progress.sample(prompt, &text);
            self.samples.push(Sample {
                prompt: prompt.clone(),
                text,
            });
        }
        Ok(())
    }

    /// Writes report.json, report.html and log.csv over the whole run so far.
    fn report(&mut self) -> Result<Report, TrainError> {
        self.log.sync()?;
        let state = &self.state;
        let tokens_per_s = state.tokens as f64 / state.train_s.max(1e-9);
        let report = Report {
            recipe: self.recipe.name.clone(),
            device: self.options.device.to_string(),
            params: self.learner.model.config().n_params(),
            steps: state.step,
            planned_steps: self.recipe.train.steps,
            tokens: state.tokens,
            wall_s: self.wall_before_s + self.started.elapsed().as_secs_f64(),
            train_loss: state.train_loss,
            val_loss: state.val_loss,
            best_val_loss: state.best_val_loss,
            best_step: state.best_step,
            val_bits_per_byte: state.val_bits_per_byte,
            val_tokens: state.val_tokens,
            tokens_per_s,
            mfu: if self.peak_flops_per_s > 0.0 {
                flops::utilisation(tokens_per_s, &self.flops_shape, self.peak_flops_per_s)
            } else {
                0.0
            },
            peak_rss_bytes: taal_metrics::peak_rss_bytes().unwrap_or(0),
            resumed_from: state.resumed_from,
            tokenizer: prepare::tokenizer_words(self.recipe),
            vocab_size: self.tokenizer.vocab_size() as u64,
            samples: self.samples.clone(),
        };
        let records = taal_metrics::read_log(&self.options.run_dir.join(taal_metrics::LOG_NAME))?;
        report.write_json(&self.options.run_dir.join("report.json"))?;
        let html = taal_metrics::html(&report, &records, self.recipe_text);
        taal_store::write_atomic(&self.options.run_dir.join("report.html"), html.as_bytes())?;
        taal_metrics::write_csv(&records, &self.options.run_dir.join("log.csv"))?;
        Ok(report)
    }
}
