//! The record of a run: log, events, checkpoints, report, and progress. In distributed training only the first rank
//! would have one.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;

use taal_draw::RunState;
use taal_kernels::DeviceSpec;
use taal_metrics::energy::Energy;
use taal_metrics::{Report, RunLog, RunNote, Sample, StepRecord, flops};
use taal_model::TransformerConfig;
use taal_store::layout;
use taal_tokenizer::Tokenizer;

use super::compute::Compute;
use super::energy;
use super::page::Page;
use crate::cautions::CheckpointPlan;
use crate::chat::Chat;
use crate::checkpoint::{Checkpoints, Origin, Snapshot, TrainState};
use crate::events::{Event, Events};
use crate::memory::Estimate;
use crate::objective::samples;
use crate::progress::{Progress, RunInfo, StepInfo};
use crate::recipe::Recipe;
use crate::run_dir::{self, Claim};
use crate::saver::{Save, Saver};
use crate::step::Learner;
use crate::utilization::Peak;
use crate::{TrainError, average, cautions, prepare};

/// The run directory and the progress display.
pub(super) struct Record<'a> {
    /// Holds the lock of the directory, which writing requires.
    pub(super) claim: &'a Claim,
    pub(super) device: DeviceSpec,
    pub(super) recipe: &'a Recipe,
    /// The recipe with every value, for the page.
    pub(super) recipe_text: &'a str,
    pub(super) origin: Origin,
    pub(super) tokenizer: Tokenizer,
    pub(super) chat: Chat,
    /// Numbers of training and validation tokens.
    pub(super) tokens: (u64, u64),
    /// Positions of an update, in the mean.
    pub(super) tokens_per_step: u64,
    /// Whether training examples were cut.
    pub(super) cut_examples: Option<RunNote>,
    pub(super) log: RunLog,
    /// Records of steps that could not be written yet because of a full disk.
    pub(super) unwritten: VecDeque<StepRecord>,
    pub(super) events: Events,
    pub(super) checkpoints: Checkpoints,
    pub(super) saver: Saver,
    pub(super) peak: Peak,
    /// What a step computes, of which utilization is a share.
    pub(super) training: flops::Training,
    pub(super) samples: Vec<Sample>,
    pub(super) page: Page,
    pub(super) progress: &'a mut dyn Progress,
}

impl Record<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.claim.dir().join(name)
    }

    pub(super) fn announce(&mut self, compute: &Compute<'_>) {
        let (train_tokens, val_tokens) = self.tokens;
        self.progress.begin(&RunInfo {
            params: compute.learner.model.config().n_params(),
            vocab_size: self.tokenizer.vocab_size(),
            train_tokens,
            val_tokens,
            first_step: compute.state.step,
            steps: self.recipe.train.steps,
            epochs: self.epochs(self.recipe.train.steps * self.tokens_per_step),
            peak_flops_per_s: self.peak.flops_per_s(),
        });
        if compute.state.resumed_from.is_some() {
            run_dir::note_nothing_left(compute.state.step, self.recipe.train.steps, self.progress);
        }
        if let Some(note) = &self.cut_examples {
            self.progress.note(&cautions::line(note));
        }
        if val_tokens == 0 && self.recipe.train.patience.is_some() {
            self.progress
                .note("train.patience has no effect: there is no validation split (data.validation_fraction)");
        }
        if val_tokens == 0 && self.recipe.train.stop_loss.is_some() {
            self.progress
                .note("train.stop_loss has no effect: there is no validation split (data.validation_fraction)");
        }
    }

    /// How many passes over the training data this many tokens are.
    fn epochs(&self, tokens: u64) -> f64 {
        tokens as f64 / self.tokens.0.max(1) as f64
    }

    /// Warnings before the first step, one line each.
    pub(super) fn cautions(&self, estimate: &Estimate, config: &TransformerConfig) -> Vec<String> {
        let (train_tokens, val_tokens) = self.tokens;
        let checkpoints = CheckpointPlan::of(self.recipe, config, estimate, val_tokens > 0);
        cautions::before_training(self.recipe, config.n_params(), train_tokens, &checkpoints)
    }

    /// Notes that an evaluation is worse than guessing, unless the previous one was too.
    pub(super) fn check_against_guessing(&mut self, before: Option<f64>, val_loss: f64) {
        let vocab_size = self.tokenizer.vocab_size() as u64;
        let was_worse = before.is_some_and(|loss| cautions::worse_than_guessing(loss, vocab_size).is_some());
        if let Some(note) = cautions::worse_than_guessing(val_loss, vocab_size)
            && !was_worse
        {
            self.progress.note(&cautions::line(&note));
        }
    }

    pub(super) fn note(&mut self, message: &str) {
        self.progress.note(message);
    }

    /// Breaks on a request to save and stop.
    pub(super) fn ask(&mut self) -> ControlFlow<()> {
        match self.progress.should_stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Shows a step.
    pub(super) fn show(&mut self, figures: &StepRecord, energy: Energy, is_saved: bool, is_best: bool) {
        let mfu = self.peak.utilization(figures.tokens_per_s, &self.training);
        let info = StepInfo {
            mfu,
            energy,
            is_saved,
            is_best,
        };
        self.progress.step(figures, &info);
    }

    /// Appends a record to the log. If the disk is full, the record is kept and tried again with the next one.
    pub(super) fn write(&mut self, figures: StepRecord) -> Result<(), TrainError> {
        self.unwritten.push_back(figures);
        match self.write_records() {
            Err(error) if error.is_of_a_disk() => {
                // Only the first failure is reported here; the saver counts failures.
                if self.unwritten.len() == 1 {
                    self.progress
                        .note(&format!("{error}; training continues, and the record is written later"));
                }
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn write_records(&mut self) -> Result<(), TrainError> {
        while let Some(figures) = self.unwritten.front() {
            self.log.append(figures)?;
            self.unwritten.pop_front();
        }
        Ok(())
    }

    /// Changes the last record of the log. The log is a help to read, so a failure is a note.
    pub(super) fn amend_last(&mut self, change: impl FnOnce(&mut StepRecord)) {
        let amended = self.write_records().and_then(|()| Ok(self.log.amend_last(change)?));
        if let Err(error) = amended {
            self.progress
                .note(&format!("{error}; the log lacks the energy after its last step"));
        }
    }

    /// What the records of the log have; nothing where it cannot be read.
    pub(super) fn logged_energy(&self) -> Energy {
        let records = taal_metrics::read_log(self.log.path()).unwrap_or_default();
        energy::of_records(&records)
    }

    /// Drops all records after the first `steps`, when a run goes back.
    pub(super) fn forget_after(&mut self, steps: u64) -> Result<(), TrainError> {
        self.unwritten.clear();
        Ok(self.log.truncate_to(steps)?)
    }

    /// Logs what is done about a bad step; returns whether it was written.
    pub(super) fn event(&mut self, event: &Event) -> Result<bool, TrainError> {
        match self.events.write(event) {
            Ok(()) => Ok(true),
            // The same is shown on the screen, so a full disk is no reason to stop.
            Err(error) if error.is_of_a_disk() => {
                self.progress.note(&error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a checkpoint, which is written while training continues. Returns `false` if the state is not finite; such
    /// a state is never saved.
    pub(super) fn save(&mut self, learner: &Learner, state: &TrainState) -> Result<bool, TrainError> {
        if let Err(error) = self.write_records() {
            if !error.is_of_a_disk() {
                return Err(error);
            }
            let what = format!("step {} is not saved", state.step);
            let mut note = |message: String| self.progress.note(&message);
            self.saver.tolerate(&what, error, &mut note)?;
            return Ok(true);
        }
        let Some(snapshot) = Snapshot::take(learner, state, &self.tokenizer, &self.chat, &self.origin)? else {
            return Ok(false);
        };
        let save = Save {
            checkpoints: self.checkpoints.clone(),
            snapshot,
            logs: vec![self.log.path().to_path_buf(), self.events.path().to_path_buf()],
            link: self.path(layout::MODEL_DIR),
            best_step: state.best_step,
            keep: self.recipe.checkpoint.keep,
            averaged: self.averaged_steps(state.step),
        };
        let is_background = self.recipe.checkpoint.background;
        self.saver
            .start(save, is_background, |message| self.progress.note(&message))?;
        Ok(true)
    }

    /// The steps before and at this one whose checkpoints may be averaged: the run may end here, or at a later step.
    fn averaged_steps(&self, step: u64) -> Vec<u64> {
        let Some(count) = self.recipe.checkpoint.average else {
            return Vec::new();
        };
        average::steps(count, self.recipe.checkpoint.every, step)
    }

    /// Waits for the checkpoint that is being written.
    pub(super) fn wait(&mut self) -> Result<(), TrainError> {
        self.saver.wait(|message| self.progress.note(&message))
    }

    /// Waits for the checkpoint of the last step, whose failure is an error.
    pub(super) fn wait_for_last(&mut self, step: u64) -> Result<(), TrainError> {
        self.wait()?;
        match self.saver.is_failing() {
            true => Err(TrainError::unsaved(self.claim.dir(), step)),
            false => Ok(()),
        }
    }

    /// The step of the newest checkpoint, after waiting for one that is being written.
    pub(super) fn last_saved(&mut self) -> Result<Option<u64>, TrainError> {
        self.wait()?;
        Ok(self.checkpoints.steps()?.last().copied())
    }

    /// Writes samples for the report and the display, with the model in the run directory: the best one if there is a
    /// validation split. A failed sample does not affect the others.
    pub(super) fn write_samples(&mut self, compute: &Compute<'_>) {
        let device = compute.learner.model.device().inner();
        self.samples = samples::write(self.recipe, self.claim.dir(), &device, compute.task.as_ref());
        for sample in &self.samples {
            match &sample.error {
                Some(error) => self
                    .progress
                    .note(&format!("no sample for {:?}: {error}", sample.prompt)),
                None => self.progress.sample(sample),
            }
        }
    }

    /// Writes report.json, report.html, log.csv and emissions.csv over the whole run so far.
    pub(super) fn report(&mut self, compute: &Compute<'_>, state: RunState<'_>) -> Result<Report, TrainError> {
        self.log.sync()?;
        let is_finished = state == RunState::Finished;
        // Counting and measuring take time, so they are skipped on a request to stop.
        if is_finished {
            self.peak.measure_again(&compute.learner.model.device());
        }
        let records = taal_metrics::read_log(&self.path(layout::LOG_NAME))?;
        let mut report = self.figures(compute, &records);
        if is_finished {
            compute
                .task
                .report(&compute.state, compute.learner.model.config(), &mut report)?;
        }
        report.write_json(&self.path(layout::REPORT_FIGURES_FILE))?;
        self.write_about_model(compute, &report);
        self.write_page(&report, &records, state)?;
        taal_metrics::write_csv(&records, &self.path(layout::LOG_TABLE_FILE))?;
        let (state, name) = (&compute.state, self.run_name());
        if let Some(table) = compute.energy.csv(&state.energy, &name, &state.run_id) {
            taal_store::write_atomic(&self.path(layout::EMISSIONS_FILE), table.as_bytes())?;
        }
        Ok(report)
    }

    /// The figures of the run so far, without those that would have to be computed.
    pub(super) fn figures(&mut self, compute: &Compute<'_>, records: &[StepRecord]) -> Report {
        let state = &compute.state;
        let tokens_per_s = state.tokens as f64 / state.train_s.max(1e-9);
        let mut report = Report {
            recipe: self.recipe.name.clone(),
            objective: compute.task.name().to_string(),
            device: self.device.to_string(),
            params: compute.learner.model.config().n_params(),
            steps: state.step,
            planned_steps: self.recipe.train.steps,
            tokens: state.tokens,
            wall_s: compute.clock.wall_s(),
            // If no step was good, there is no loss.
            train_loss: match state.step > state.health.skipped {
                true => state.train_loss,
                false => f64::NAN,
            },
            val_loss: state.val_loss,
            best_val_loss: state.best_val_loss,
            best_step: state.best_step,
            val_bits_per_byte: state.val_bits_per_byte,
            val_tokens: state.val_tokens,
            val_bytes: state.val_bytes,
            tokens_per_s,
            epochs: self.epochs(state.tokens),
            mfu: self.peak.utilization(tokens_per_s, &self.training),
            peak_flops_per_s: self.peak.flops_per_s(),
            peak_is_lower_bound: self.peak.is_lower_bound(),
            peak_rss_bytes: taal_metrics::peak_rss_bytes().unwrap_or(0),
            energy: compute.energy.figures(&state.energy, state.tokens),
            resumed_from: state.resumed_from,
            skipped_steps: state.health.skipped,
            rewinds: u64::from(state.health.rewinds),
            tokenizer: prepare::tokenizer_words(self.recipe),
            vocab_size: self.tokenizer.vocab_size() as u64,
            samples: self.samples.clone(),
            masked: None,
            answers: match compute.answered {
                Some(found) => Some(found),
                None => compute.answers.as_ref().map(|answers| answers.figures(state)),
            },
            forgetting: compute.forgetting(),
            sources: state.val_sources.clone(),
            figures: taal_metrics::run_figures(records),
            notes: self.notes(compute),
            ledger: None,
            forecast: state.forecast,
        };
        if !state.inherited.entries.is_empty() {
            report.ledger = Some(self.ledger(compute, &report).totals());
        }
        report
    }

    /// What a reader of the figures should know.
    fn notes(&self, compute: &Compute<'_>) -> Vec<RunNote> {
        let params = compute.learner.model.config().n_params();
        let vocab_size = self.tokenizer.vocab_size() as u64;
        let val_loss = compute.state.val_loss;
        let worse = val_loss.and_then(|loss| cautions::worse_than_guessing(loss, vocab_size));
        let little_text = cautions::little_text(self.recipe, params, self.tokens.0);
        [little_text, self.cut_examples.clone(), worse, compute.averaged.clone()]
            .into_iter()
            .flatten()
            .collect()
    }
}
