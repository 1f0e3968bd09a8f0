//! The computation of a run: steps, evaluations, and the response to bad steps. In distributed training every rank
//! would run this.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::module::Module;
use taal_data::{Batch, BatchPlan};
use taal_kernels::random;
use taal_metrics::{AnswerFigures, RunNote, StepRecord};
use taal_model::Transformer;

use super::energy::RunEnergy;
use super::record::Record;
use crate::answers::Answers;
use crate::bad_step::BadStep;
use crate::certainty::Certainty;
use crate::checkpoint::TrainState;
use crate::events::{Act, Event};
use crate::objective::{Ask, Task, Validation};
use crate::recipe::Recipe;
use crate::replay::OldData;
use crate::step::Learner;
use crate::{TrainError, learnable};

/// After this many batches in a row without a target, a run gives up.
const MAX_SKIPPED_BATCHES: u64 = 1000;

/// The loop and what it changes: the model, its optimizer, and the running figures.
pub(super) struct Compute<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) task: Box<dyn Task>,
    pub(super) plan: BatchPlan,
    /// What the model knew before, if it is trained further.
    pub(super) old: Option<OldData>,
    /// What the best checkpoint is chosen by, if not by the loss.
    pub(super) answers: Option<Answers>,
    /// How sure a translator is of its own translations.
    pub(super) certainty: Option<Certainty>,
    /// How good the answers of a finished run's model are.
    pub(super) answered: Option<AnswerFigures>,
    /// What came of averaging the last weights of a finished run.
    pub(super) averaged: Option<RunNote>,
    pub(super) learner: Learner,
    pub(super) state: TrainState,
    pub(super) clock: Clock,
    pub(super) energy: RunEnergy<'a>,
    /// The records that a forecast will be made from.
    pub(super) seen: Vec<StepRecord>,
}

/// An answer for an evaluation of which only the first batch is computed.
fn once() -> impl FnMut() -> ControlFlow<()> {
    let mut is_first = true;
    move || match std::mem::take(&mut is_first) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    }
}

/// The duration of a run, including its parts before a resume.
pub(super) struct Clock {
    pub(super) started: Instant,
    pub(super) before_s: f64,
}

impl Clock {
    pub(super) fn wall_s(&self) -> f64 {
        self.before_s + self.started.elapsed().as_secs_f64()
    }
}

impl Compute<'_> {
    /// Computes the largest step and the largest evaluation batch once and drops the results, so that too little memory
    /// is noticed now and not in an hour.
    pub(super) fn rehearse(&self) -> Result<(), TrainError> {
        let batch = self.task.batch(&self.plan, 0)?;
        self.learner
            .rehearse(&batch, &|model, batch, key| self.task.loss(model, batch, key))?;
        let model = self.learner.model.valid();
        let batch_size = self.recipe.eval.batch_size;
        self.task.validate(&model, batch_size, &mut once()).map(drop)?;
        match &self.old {
            Some(old) => old.loss(&model, batch_size, &mut once()).map(drop),
            None => Ok(()),
        }
    }

    /// Trains until the last step, or breaks on a request to stop.
    pub(super) fn steps(&mut self, record: &mut Record<'_>) -> Result<ControlFlow<()>, TrainError> {
        loop {
            // The run was resumed from, or went back to, a checkpoint that was saved during an evaluation.
            if let Some(figures) = self.state.unevaluated.take()
                && self.after_step(figures, true, record)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            if self.state.step >= self.recipe.train.steps || self.is_done_early() {
                return Ok(ControlFlow::Continue(()));
            }
            let (figures, reason) = self.step()?;
            if let Some(reason) = reason
                && self.respond(reason, record)? == Act::Rewind
            {
                continue;
            }
            let step = self.state.step;
            let is_due = step == self.recipe.train.steps || step.is_multiple_of(self.recipe.eval.every);
            if self.after_step(figures, is_due, record)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Evaluates, logs and saves after a step, whichever is due. Breaks on a request to stop.
    fn after_step(
        &mut self,
        mut figures: StepRecord,
        is_evaluated: bool,
        record: &mut Record<'_>,
    ) -> Result<ControlFlow<()>, TrainError> {
        let step = self.state.step;
        let mut is_best = false;
        if is_evaluated {
            match self.evaluate(&mut figures, record)? {
                ControlFlow::Continue(found) => is_best = found,
                ControlFlow::Break(()) => {
                    // The record is logged once the evaluation has been completed.
                    self.count_energy(None);
                    self.state.unevaluated = Some(figures);
                    // If the state was not finite, the run has gone back to a step that is saved.
                    self.save_at_last(record)?;
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        self.count_energy(Some(&mut figures));
        record.write(figures.clone())?;
        self.forecast_if_due(&figures, record);

        let is_done = step == self.recipe.train.steps || self.is_done_early();
        let ask = match (is_done, self.energy.exceeded_budget(&self.state.energy)) {
            (true, _) => ControlFlow::Continue(()),
            (false, Some(budget)) => {
                let taken = self.state.energy.energy.joules.watt_hours();
                let budget = budget.watt_hours();
                record.note(&format!(
                    "the energy budget of {budget} is used up: {taken} after step {step}"
                ));
                ControlFlow::Break(())
            }
            (false, None) => record.ask(),
        };
        let is_last = is_done || ask.is_break();
        // After a bad step the weights are those of an earlier step, so going back to this checkpoint would not help.
        let is_good = self.state.health.in_a_row == 0;
        let is_saved = is_good && (is_best || step.is_multiple_of(self.recipe.checkpoint.every));
        let is_sound = match is_last {
            true => self.save_at_last(record)?,
            false => !is_saved || self.save(record)?,
        };
        if !is_last {
            record.page_if_due(self, is_evaluated);
        }
        // Otherwise the run has gone back and continues from there, or stops at a step that is saved.
        if is_sound {
            record.show(&figures, self.state.energy.energy, is_saved || is_last, is_best);
            if let Some(reason) = self.early_reason().filter(|_| step < self.recipe.train.steps) {
                record.note(&format!("stopped early: {reason}"));
            }
        }
        Ok(ask)
    }

    /// Counts a bad step, decides what to do, logs that, and does it.
    fn respond(&mut self, reason: BadStep, record: &mut Record<'_>) -> Result<Act, TrainError> {
        let step = self.state.step;
        let act = self.recipe.health.respond(&mut self.state.health, reason);
        let is_written = record.event(&Event {
            step,
            act,
            reason: reason.to_string(),
            batch: step.saturating_sub(1) + self.state.health.batch_offset,
        })?;
        self.state.health.events += u64::from(is_written);
        match act {
            Act::Skip => record.note(&format!("step {step} is left out, its weights untouched: {reason}")),
            Act::Rewind => self.rewind(reason, record)?,
            Act::GiveUp => return Err(TrainError::diverged(step, reason, record.last_saved()?)),
        }
        Ok(act)
    }

    /// Counts the energy so far as preparation.
    pub(super) fn end_preparation(&mut self) {
        if let Some(total) = self.energy.end_preparation() {
            self.state.energy = total;
        }
    }

    /// Brings the energy of the run up to date, and puts that of a step into its record.
    pub(super) fn count_energy(&mut self, figures: Option<&mut StepRecord>) {
        let total = match figures {
            Some(figures) => self.energy.count(figures),
            None => self.energy.total(),
        };
        if let Some(total) = total {
            self.state.energy = total;
        }
    }

    /// Brings the energy of the run up to date at its end, and gives the last record of the log what the others lack: their sum is the run's.
    pub(super) fn settle_energy(&mut self, record: &mut Record<'_>) {
        self.count_energy(None);
        let (energy, total) = (&mut self.energy, &self.state.energy);
        record.amend_last(|last| energy.put(total, last));
    }

    fn is_done_early(&self) -> bool {
        self.early_reason().is_some()
    }

    /// Why training ends before its last step, where the recipe says so.
    fn early_reason(&self) -> Option<String> {
        let (train, state) = (&self.recipe.train, &self.state);
        let reached = train
            .stop_loss
            .zip(state.best_val_loss)
            .filter(|(stop, best)| best <= stop);
        if let Some((stop, best)) = reached {
            return Some(format!(
                "the validation loss {best:.4} is at most train.stop_loss, {stop}"
            ));
        }
        let without_gain = state.evaluations_without_gain;
        let is_out_of_patience = train.patience.is_some_and(|patience| without_gain >= patience);
        let what = match &self.answers {
            Some(_) => "better answers (eval.metric)",
            None => "a better loss",
        };
        is_out_of_patience.then(|| format!("{without_gain} evaluations without {what}"))
    }

    /// Draws the batches of the next step, updates the weights if the step is good, and keeps the figures.
    fn step(&mut self) -> Result<(StepRecord, Option<BadStep>), TrainError> {
        let train = &self.recipe.train;
        let began = Instant::now();
        let index = self.state.step;
        let (position, batches) = self.draw()?;
        let micro_steps = self.micro_steps(position);
        let dropout_keys: Vec<u64> = micro_steps
            .map(|micro| random::key(self.recipe.seed, micro, "dropout"))
            .collect();
        let lr = train.schedule.at(index);

        let (health, state) = (&self.recipe.health, &self.state.health);
        let outcome = self.learner.step_if(
            &batches,
            &dropout_keys,
            lr / train.schedule.lr,
            &|model, batch, key| self.task.loss(model, batch, key),
            &|outcome| health.check(state, outcome).is_none(),
        )?;
        let reason = health.check(state, &outcome);
        self.state.loss_scale = self.learner.precision.loss_scale;
        let tokens = match batches.iter().any(|batch| batch.source.is_some()) {
            // Batches by length are not all equally full.
            true => batches.iter().map(|batch| batch.positions() as u64).sum(),
            false => train.tokens_per_step(),
        };
        let seconds = began.elapsed().as_secs_f64();
        self.state.step += 1;
        self.state.tokens += tokens;
        self.state.train_s += seconds;
        self.state.wall_s = self.clock.wall_s();
        if reason.is_none() {
            self.state.train_loss = outcome.loss;
            health.accept(&mut self.state.health, outcome.loss);
        }
        let figures = StepRecord {
            step: self.state.step,
            loss: outcome.loss,
            lr,
            grad_norm: outcome.grad_norm,
            tokens_per_s: tokens as f64 / seconds.max(1e-9),
            wall_s: Some(self.state.wall_s),
            is_skipped: reason.is_some(),
            ..StepRecord::default()
        };
        Ok((figures, reason))
    }

    /// The batches of the next step and their position in the order of the data. Batches without any target are
    /// skipped.
    fn draw(&mut self) -> Result<(u64, Vec<Batch>), TrainError> {
        let first = self.state.position();
        for skipped in 0..=MAX_SKIPPED_BATCHES {
            let position = first + skipped;
            let batches = self.batches(position)?;
            if batches.iter().any(|batch| batch.counted_targets() > 0) {
                self.state.health.batch_offset += skipped;
                return Ok((position, batches));
            }
        }
        Err(learnable::nothing(self.recipe))
    }

    /// The micro-batches of a step, numbered over the whole run.
    fn micro_steps(&self, position: u64) -> std::ops::Range<u64> {
        let accumulation = self.recipe.train.accumulation as u64;
        position * accumulation..(position + 1) * accumulation
    }

    /// The batches at a position.
    fn batches(&self, position: u64) -> Result<Vec<Batch>, TrainError> {
        let share = self.state.forgetting.map_or(self.recipe.replay.share, |it| it.share);
        self.micro_steps(position)
            .map(|micro| {
                let mut batch = self.task.batch(&self.plan, micro)?;
                if let Some(old) = &self.old {
                    old.mix(&mut batch, micro, share)?;
                }
                Ok(batch)
            })
            .collect()
    }

    /// Evaluates the whole validation split. Returns whether it is the best so far, or breaks on a request to stop.
    fn evaluate(
        &mut self,
        figures: &mut StepRecord,
        record: &mut Record<'_>,
    ) -> Result<ControlFlow<(), bool>, TrainError> {
        let model = self.learner.model.valid();
        let mut ask = || record.ask();
        let ControlFlow::Continue(found) = self.task.validate(&model, self.recipe.eval.batch_size, &mut ask)? else {
            return Ok(ControlFlow::Break(()));
        };
        let ControlFlow::Continue(answered) = self.answer(&model, &mut ask)? else {
            return Ok(ControlFlow::Break(()));
        };
        let ControlFlow::Continue(old_loss) = self.old_loss(&model, &mut ask)? else {
            return Ok(ControlFlow::Break(()));
        };
        self.state.own_loss = self.certainty.as_ref().and_then(|certainty| certainty.measure(&model));
        let before = self.state.forgetting.map(|it| it.share);
        let is_held = self.hold_budget(old_loss, record);
        figures.old_loss = old_loss;
        let Some(found) = found else {
            // Without a validation split, the last step within the budget is the best one.
            let is_best = old_loss.is_some() && is_held && self.state.health.in_a_row == 0;
            if is_best {
                self.state.best_step = Some(self.state.step);
            }
            return Ok(ControlFlow::Continue(is_best));
        };
        self.keep_validation(&found, answered, figures, record);
        // After a bad step the weights are those of an earlier step, so this evaluation cannot be a new best one.
        let is_good = self.state.health.in_a_row == 0;
        let is_best = is_good && is_held && self.is_better(found.score.loss(), answered);
        let is_gain = is_best && self.is_gain(answered);
        if is_best {
            self.state.best_val_loss = Some(found.score.loss());
            self.state.best_metric = answered;
            self.state.best_step = Some(self.state.step);
        }
        if is_gain {
            self.state.evaluations_without_gain = 0;
        } else if self.state.forgetting.map(|it| it.share) == before {
            // More old data have to take effect before patience counts.
            self.state.evaluations_without_gain += 1;
        }
        Ok(ControlFlow::Continue(is_best))
    }

    /// How good the answers to held-out prompts are, with a metric of them.
    fn answer(&self, model: &Transformer, ask: &mut Ask<'_>) -> Result<ControlFlow<(), Option<f64>>, TrainError> {
        match &self.answers {
            Some(answers) => Ok(answers.score(model, ask)?.map_continue(Some)),
            None => Ok(ControlFlow::Continue(None)),
        }
    }

    /// Keeps what an evaluation found.
    fn keep_validation(
        &mut self,
        found: &Validation,
        answered: Option<f64>,
        figures: &mut StepRecord,
        record: &mut Record<'_>,
    ) {
        let loss = found.score.loss();
        let bits_per_byte = (found.bytes > 0).then(|| taal_metrics::bits_per_byte(found.score.nats, found.bytes));
        figures.val_loss = Some(loss);
        figures.val_bits_per_byte = bits_per_byte;
        figures.val_accuracy = found
            .correct
            .map(|correct| correct as f64 / found.score.tokens.max(1) as f64);
        figures.val_answers = answered;
        let by_source = found.sources.iter().filter(|source| source.loss.is_finite());
        figures.val_by_source = by_source.map(|source| (source.name.clone(), source.loss)).collect();
        self.state.val_sources.clone_from(&found.sources);
        record.check_against_guessing(self.state.val_loss, loss);
        self.state.val_loss = Some(loss);
        self.state.val_metric = answered;
        self.state.val_correct = found.correct;
        self.state.val_bits_per_byte = bits_per_byte;
        self.state.val_tokens = Some(found.score.tokens);
        self.state.val_bytes = (found.bytes > 0).then_some(found.bytes);
        self.state.wall_s = self.clock.wall_s();
    }

    /// Whether an evaluation is better than the best so far: by the metric of answers where there is one, then by the loss.
    fn is_better(&self, loss: f64, answered: Option<f64>) -> bool {
        let is_lower = loss.is_finite() && self.state.best_val_loss.is_none_or(|best| loss < best);
        match (answered, self.state.best_metric) {
            (Some(value), Some(best)) => value > best || value == best && is_lower,
            _ => is_lower,
        }
    }

    /// Whether patience begins again with an evaluation that is the best so far. Of equally good answers the loss chooses the checkpoint,
    /// but only a model that answers nothing right yet gains by it.
    fn is_gain(&self, answered: Option<f64>) -> bool {
        match (answered, self.state.best_metric) {
            (Some(value), Some(best)) => value > best || value == 0.0,
            _ => true,
        }
    }

    /// Starts a checkpoint. Returns `false` if the state was not finite and the run went back instead.
    fn save(&mut self, record: &mut Record<'_>) -> Result<bool, TrainError> {
        let is_sound = record.save(&self.learner, &self.state)?;
        if !is_sound {
            self.respond(BadStep::State, record)?;
        }
        Ok(is_sound)
    }

    /// Saves the last checkpoint before this process ends: waits for it, and every failure is an error. Returns the
    /// same as [`save`](Self::save).
    fn save_at_last(&mut self, record: &mut Record<'_>) -> Result<bool, TrainError> {
        record.write_records()?;
        let is_sound = self.save(record)?;
        record.wait_for_last(self.state.step)?;
        Ok(is_sound)
    }
}
