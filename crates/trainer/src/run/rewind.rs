//! Going back after bad steps: to a checkpoint, or to the beginning where there is none.

use std::collections::VecDeque;

use taal_store::ErrorKind;

use super::Run;
use crate::TrainError;
use crate::checkpoint::TrainState;
use crate::health::{Ailment, HealthState};
use crate::optimizer::Optimizer;
use crate::precision::MixedPrecision;
use crate::prepare;
use crate::train::Progress;

impl Run<'_> {
    /// Back to the newest checkpoint, at the second time to the one before, and on from there with the batches after the bad ones.
    pub(super) fn rewind(&mut self, ailment: Ailment, progress: &mut dyn Progress) -> Result<(), TrainError> {
        self.saver.wait(|message| progress.note(&message))?;
        let bad_step = self.state.step;
        // Where nothing was saved since the last time, the newest one has had its chance.
        let last = self.state.health.rewound_to;
        let mut candidates = self.checkpoints.steps()?;
        if candidates.len() > 1 && candidates.last().copied() == last {
            candidates.pop();
        }
        let mut found = None;
        let mut damaged = Vec::new();
        while let Some(step) = candidates.pop() {
            match self.checkpoints.open(step) {
                Ok(checkpoint) => {
                    found = Some(checkpoint);
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => damaged.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        let found = match found {
            Some(checkpoint) => {
                damaged.iter().for_each(|error| progress.note(error));
                Some(checkpoint)
            }
            // One that had its chance is better than none; what is damaged is set aside, and `model` leads nowhere wrong.
            None => self.checkpoints.newest(|message| progress.note(&message))?,
        };
        let Some(checkpoint) = found else {
            return match damaged.is_empty() {
                true => self.begin_again(ailment, progress),
                false => Err(TrainError::NothingWhole {
                    path: self.options.run_dir.join("checkpoints"),
                    step: bad_step,
                    ailment,
                }),
            };
        };
        let device = self.learner.model.device();
        self.learner.model = checkpoint.model(self.recipe.model.dropout(), &device)?;
        checkpoint.restore(&mut self.learner.optimizer, &device)?;

        let mut state = checkpoint.state()?;
        state.health = self.health_after_rewind(checkpoint.step, state.health.window);
        // `model` must not lead to one of those that go; the next save says again which is the best.
        let best = state.best_step.and_then(|step| self.checkpoints.open(step).ok());
        let shown = best.as_ref().unwrap_or(&checkpoint);
        taal_store::publish_link(&shown.model_dir(), &self.options.run_dir.join("model"))?;
        self.checkpoints.leave_after(checkpoint.step)?;
        self.take_back(state)?;
        progress.note(&format!(
            "step {bad_step}: {ailment}; back to the checkpoint of step {}, and on with the batches after step {bad_step}'s",
            checkpoint.step
        ));
        Ok(())
    }

    /// Back to the beginning, where nothing was saved yet, and on from there with the batches after the bad ones.
    fn begin_again(&mut self, ailment: Ailment, progress: &mut dyn Progress) -> Result<(), TrainError> {
        let bad_step = self.state.step;
        let device = self.learner.model.device();
        let train = &self.recipe.train;
        self.learner.model = prepare::model(self.recipe, &self.tokenizer, &device)?;
        self.learner.optimizer = Optimizer::new(train.adamw, train.muon);
        let state = TrainState {
            health: self.health_after_rewind(0, VecDeque::new()),
            ..TrainState::default()
        };
        self.take_back(state)?;
        progress.note(&format!(
            "step {bad_step}: {ailment}; there is no checkpoint yet, so back to the beginning, and on with the batches after step \
             {bad_step}'s"
        ));
        Ok(())
    }

    /// What the rules remember after going back to a step, whose window of losses is `window`.
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

    /// Goes on from an earlier state, whose weights and moments are there already.
    fn take_back(&mut self, mut state: TrainState) -> Result<(), TrainError> {
        state.resumed_from = self.state.resumed_from;
        state.train_s = self.state.train_s;
        self.learner.precision = MixedPrecision::resumed(self.recipe.train.precision, state.loss_scale);
        self.state = state;
        self.unwritten.clear();
        Ok(self.log.truncate_to(self.state.logged_steps())?)
    }
}
