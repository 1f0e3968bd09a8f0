//! Completing prompts: only the tokens of completions count in the loss.

use std::ops::ControlFlow;

use taal_data::{Batch, BatchPlan, Conversations};
use taal_evaluation::Score;
use taal_model::Transformer;

use super::{Ask, Task, Validated, Validation};
use crate::TrainError;

/// Prompts and completions; each example is computed as if it were alone.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) data: Conversations,
}

impl Task for Completion {
    fn name(&self) -> &'static str {
        "next_token"
    }

    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        Ok(plan.batch(&self.data.train, micro_step)?)
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let Some(held_back) = &self.data.validation else {
            return Ok(ControlFlow::Continue(None));
        };
        let mut score = Score::default();
        for batch in held_back.in_order(batch_size) {
            if ask().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let tokens = batch.counted_targets() as u64;
            let mean = f64::from(self.loss(model, &batch, None)?.into_scalar::<f32>());
            score = score
                + Score {
                    nats: mean * tokens as f64,
                    tokens,
                };
        }
        let total = Validation {
            score,
            bytes: held_back.completion_bytes(),
            correct: None,
            sources: Vec::new(),
        };
        Ok(total.whole())
    }
}
