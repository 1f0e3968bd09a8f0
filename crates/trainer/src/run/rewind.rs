//! Going back after bad steps: to a checkpoint, or to the beginning if there is none.

use std::collections::VecDeque;

use taal_store::ErrorKind;
use taal_store::layout::{CHECKPOINTS_DIR, MODEL_DIR};

use super::compute::Compute;
use super::record::Record;
use crate::TrainError;
use crate::bad_step::BadStep;
use crate::checkpoint::{Checkpoint, TrainState};
use crate::health::HealthState;
use crate::optimizer::Optimizer;
use crate::precision::MixedPrecision;
use crate::prepare;
use crate::replay::Forgetting;

impl Compute<'_> {
    /// Goes back to the newest checkpoint, the second time to the one before, and continues with the batches after the
    /// bad ones. If nothing was saved yet, it goes back to the beginning.
    pub(super) fn rewind(&mut self, reason: BadStep, record: &mut Record<'_>) -> Result<(), TrainError> {
        let bad_step = self.state.step;
        let device = self.learner.model.device();
        let Some(checkpoint) = record.checkpoint_before(bad_step, reason, self.state.health.rewound_to)? else {
            let train = &self.recipe.train;
            self.learner.model = prepare::model(
                self.recipe,
                &record.tokenizer,
                record.origin.adapter.as_ref(),
                &device,
                &mut |_| {},
            )?;
            self.learner.optimizer = Optimizer::new(train.adamw, train.muon);
            let state = TrainState {
                health: self.health_after_rewind(0, VecDeque::new()),
                // What was measured before the first step stays so.
                forgetting: self.state.forgetting.map(|measured| Forgetting {
                    now: None,
                    share: self.recipe.replay.share,
                    ..measured
                }),
                ..TrainState::default()
            };
            self.take_back(state, record)?;
            record.note(&format!(
                "step {bad_step}: {reason}; there is no checkpoint yet, so going back to the beginning and continuing with \
                 the batches after step {bad_step}'s"
            ));
            return Ok(());
        };
        self.learner.model = checkpoint.model(self.recipe, record.origin.adapter.as_ref(), &device)?;
        checkpoint.restore(&mut self.learner.optimizer, &device)?;
        let mut state = checkpoint.state()?;
        state.health = self.health_after_rewind(checkpoint.step, state.health.window);
        record.go_back(&checkpoint, state.best_step)?;
        self.take_back(state, record)?;
        record.note(&format!(
            "step {bad_step}: {reason}; going back to the checkpoint of step {} and continuing with the batches after \
             step {bad_step}'s",
            checkpoint.step
        ));
        Ok(())
    }

    /// The state of the health rules after going back to a step, whose window of losses is `window`.
    fn health_after_rewind(&self, step: u64, window: VecDeque<f64>) -> HealthState {
        let now = &self.state.health;
        HealthState {
            skipped: now.skipped,
            rewinds: now.rewinds + 1,
            batch_offset: now.batch_offset + (self.state.step - step),
            events: now.events,
            in_a_row: 0,
            rewound_to: Some(step),
            window,
        }
    }

    /// Continues from an earlier state, whose weights and moments are already loaded.
    fn take_back(&mut self, mut state: TrainState, record: &mut Record<'_>) -> Result<(), TrainError> {
        state.resumed_from = self.state.resumed_from;
        state.precision = self.state.precision;
        state.train_s = self.state.train_s;
        // The steps that are taken back have used their energy all the same.
        state.energy = self.state.energy.clone();
        // It is still the same training, with what it was begun from.
        state.run_id = self.state.run_id.clone();
        state.started_unix_s = self.state.started_unix_s;
        state.inherited = self.state.inherited.clone();
        state.about = self.state.about.clone();
        state.forecast = self.state.forecast;
        self.learner.precision = MixedPrecision::resumed(self.learner.precision.products, state.loss_scale);
        self.state = state;
        record.forget_after(self.state.logged_steps())?;
        self.energy.set_recorded(record.logged_energy());
        Ok(())
    }
}

impl Record<'_> {
    /// The newest undamaged checkpoint to go back to from a bad step, or `None` if none was saved.
    fn checkpoint_before(
        &mut self,
        step: u64,
        reason: BadStep,
        rewound_to: Option<u64>,
    ) -> Result<Option<Checkpoint>, TrainError> {
        self.wait()?;
        let mut candidates = self.checkpoints.steps()?;
        // If nothing was saved since the run last went back, the newest checkpoint has already been tried.
        if candidates.len() > 1 && candidates.last().copied() == rewound_to {
            candidates.pop();
        }
        let mut damaged = Vec::new();
        for candidate in candidates.into_iter().rev() {
            match self.checkpoints.open(candidate) {
                Ok(checkpoint) => {
                    damaged.iter().for_each(|error: &String| self.progress.note(error));
                    return Ok(Some(checkpoint));
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => damaged.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        // One that was already tried is better than none. Damaged ones are set aside, and `model` does not link to
        // them.
        let found = self.checkpoints.newest(|message| self.progress.note(&message))?;
        match found.is_none() && !damaged.is_empty() {
            true => Err(TrainError::NothingWhole {
                path: self.claim.dir().join(CHECKPOINTS_DIR),
                step,
                reason,
            }),
            false => Ok(found),
        }
    }

    /// Drops everything after a checkpoint. `model` must not link to a dropped checkpoint; the next save links it to
    /// the best one again.
    fn go_back(&mut self, checkpoint: &Checkpoint, best_step: Option<u64>) -> Result<(), TrainError> {
        let best = best_step.and_then(|step| self.checkpoints.open(step).ok());
        let shown = best.as_ref().unwrap_or(checkpoint);
        taal_store::publish_link(&shown.model_dir(), &self.claim.dir().join(MODEL_DIR))?;
        self.checkpoints.leave_after(checkpoint.step)
    }
}
