//! The end of a run with `checkpoint.average`: the mean of the last weights becomes the model, if it is not worse than the best checkpoint.

use std::ops::ControlFlow;

use burn::module::Module;
use taal_metrics::RunNote;
use taal_store::layout::MODEL_DIR;

use super::compute::Compute;
use super::record::Record;
use crate::{TrainError, average, cautions};

impl Compute<'_> {
    /// Averages the last checkpoints, evaluates the mean, and shows it as the run's model unless the best checkpoint is better.
    pub(super) fn average(&mut self, record: &mut Record<'_>) -> Result<(), TrainError> {
        let Some(count) = self.recipe.checkpoint.average else {
            return Ok(());
        };
        let steps = average::steps(count, self.recipe.checkpoint.every, self.state.step);
        let progress = &mut *record.progress;
        let written = average::write(record.claim.dir(), &record.checkpoints, &steps, |message| {
            progress.note(&message);
        })?;
        let Some((averaged, mean)) = written else {
            record.note("checkpoint.average has no effect: fewer than two checkpoints are there to average");
            return Ok(());
        };
        let device = self.learner.model.device();
        let model = mean
            .model(self.recipe, record.origin.adapter.as_ref(), &device)?
            .valid();
        let mut always = || ControlFlow::Continue(());
        let batch_size = self.recipe.eval.batch_size;
        let val_loss = match self.task.validate(&model, batch_size, &mut always)? {
            ControlFlow::Continue(found) => found.map(|found| found.score.loss()),
            ControlFlow::Break(()) => None,
        };
        let best = self.state.best_val_loss.filter(|_| val_loss.is_some());
        if val_loss.zip(best).is_none_or(|(mean, best)| mean <= best) {
            taal_store::publish_link(&mean.model_dir(), &record.path(MODEL_DIR))?;
        }
        let found = RunNote::Averaged {
            checkpoints: averaged.len() as u64,
            val_loss,
            best_val_loss: best,
        };
        record.note(&cautions::line(&found));
        self.averaged = Some(found);
        Ok(())
    }
}
