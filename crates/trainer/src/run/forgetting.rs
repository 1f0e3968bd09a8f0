//! What a run forgets: the loss on old data before the first step, at evaluations with a budget, and of the best model at the end.

use std::ops::ControlFlow;

use burn::module::Module;
use taal_inference::LanguageModel;
use taal_metrics::{AnswerFigures, ForgettingFigures};
use taal_model::Transformer;

use super::compute::Compute;
use super::record::Record;
use crate::TrainError;
use crate::objective::Ask;
use crate::replay::Forgetting;

impl Compute<'_> {
    /// Measures the loss on old data before the first step. With a budget, the model that the run starts from is its first
    /// checkpoint, which the run ends with if no other one holds the budget.
    pub(super) fn measure_before(&mut self, record: &mut Record<'_>) -> Result<(), TrainError> {
        if self.state.step > 0 || self.state.forgetting.is_some() {
            return Ok(());
        }
        let Some(old) = &self.old else { return Ok(()) };
        let model = self.learner.model.valid();
        let mut always = || ControlFlow::Continue(());
        let batch_size = self.recipe.eval.batch_size;
        let ControlFlow::Continue(Some((before, tokens))) = old.loss(&model, batch_size, &mut always)? else {
            return Ok(());
        };
        record.note(&format!(
            "loss on {} before the first step: {before:.4} nats per token",
            old.name
        ));
        self.state.forgetting = Some(Forgetting {
            before,
            now: None,
            tokens,
            share: self.recipe.replay.share,
        });
        if self.recipe.replay.budget.is_none() {
            return Ok(());
        }
        if let ControlFlow::Continue(Some(found)) = self.task.validate(&model, batch_size, &mut always)? {
            self.state.best_val_loss = Some(found.score.loss());
        }
        if let Some(answers) = &self.answers
            && let ControlFlow::Continue(value) = answers.score(&model, &mut always)?
        {
            self.state.best_metric = Some(value);
        }
        self.state.best_step = Some(0);
        record.save(&self.learner, &self.state)?;
        Ok(())
    }

    /// The loss on old data, where there is a budget.
    pub(super) fn old_loss(
        &self,
        model: &Transformer,
        ask: &mut Ask<'_>,
    ) -> Result<ControlFlow<(), Option<f64>>, TrainError> {
        let (Some(old), Some(_)) = (&self.old, self.recipe.replay.budget) else {
            return Ok(ControlFlow::Continue(None));
        };
        let found = old.loss(model, self.recipe.eval.batch_size, ask)?;
        Ok(found.map_continue(|found| found.map(|(loss, _)| loss)))
    }

    /// Keeps the loss on old data; whether it is within the budget. If it is not, more old data are mixed in from here on.
    pub(super) fn hold_budget(&mut self, loss: Option<f64>, record: &mut Record<'_>) -> bool {
        let (Some(loss), Some(budget), Some(forgetting)) =
            (loss, self.recipe.replay.budget, &mut self.state.forgetting)
        else {
            return true;
        };
        forgetting.now = Some(loss);
        let rise = loss - forgetting.before;
        if rise <= budget {
            return true;
        }
        let share = forgetting.raised_share();
        let then = match share > forgetting.share {
            true => format!("{:.0} % of the rows are old data from here on", 100.0 * share),
            false => format!("{:.0} % of the rows are old data already", 100.0 * share),
        };
        forgetting.share = share;
        record.note(&format!(
            "step {}: the loss on old data rose by {rise:.4} nats per token, more than replay.budget = {budget}; {then}",
            self.state.step
        ));
        false
    }

    /// Measures the model in the run directory for the report: its answers, and its loss on old data.
    pub(super) fn measure_after(&mut self, record: &mut Record<'_>) -> Result<(), TrainError> {
        if self.answers.is_none() && self.old.is_none() {
            return Ok(());
        }
        let device = self.learner.model.device().inner();
        let lm = LanguageModel::open(record.claim.dir(), &device)?;
        if let Some(answers) = &self.answers {
            let [model, nearest] = answers.compare(&lm.model)?;
            self.answered = Some(AnswerFigures {
                model: Some(model),
                nearest: Some(nearest),
                ..answers.figures(&self.state)
            });
        }
        let (Some(old), Some(forgetting)) = (&self.old, &mut self.state.forgetting) else {
            return Ok(());
        };
        let mut always = || ControlFlow::Continue(());
        if let ControlFlow::Continue(found) = old.loss(&lm.model, self.recipe.eval.batch_size, &mut always)? {
            forgetting.now = found.map(|(loss, _)| loss);
        }
        if self.recipe.replay.budget.is_some() && self.state.best_step == Some(0) {
            record.note(
                "no evaluated step held replay.budget and was better than the model that the run started from, which is its result; \
                 lower train.lr or raise replay.share",
            );
        }
        Ok(())
    }

    /// The figures for the report.
    pub(super) fn forgetting(&self) -> Option<ForgettingFigures> {
        let (old, forgetting) = (self.old.as_ref()?, self.state.forgetting?);
        Some(ForgettingFigures {
            data: old.name.clone(),
            tokens: forgetting.tokens,
            before: forgetting.before,
            after: forgetting.now,
            share: forgetting.share,
            budget: self.recipe.replay.budget,
        })
    }
}
