//! Completing prompts: only the tokens of completions count in the loss.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan, Conversations};
use taal_inference::LanguageModel;
use taal_model::Transformer;

use super::samples::{self, Written};
use super::translation::translated;
use super::{Ask, Task, Validated};
use crate::recipe::Recipe;
use crate::{TrainError, step};

/// Prompts and completions; each example is computed as if it were alone.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) data: Conversations,
    pub(crate) label_smoothing: f64,
}

impl Task for Completion {
    fn name(&self) -> &'static str {
        "next_token"
    }

    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        Ok(plan.batch(&self.data.train, micro_step)?)
    }

    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::smoothed_loss(model, batch, dropout_key, self.label_smoothing)
    }

    /// Pairs in two languages are translated; anything else is continued.
    fn sample(&self, model: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
        match &recipe.data.direction {
            Some(_) => translated(model, recipe, index),
            None => samples::continuation(model, recipe, index),
        }
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let Some(held_back) = &self.data.validation else {
            return Ok(ControlFlow::Continue(None));
        };
        super::validate_batches(model, held_back.in_order(batch_size), held_back.completion_bytes(), ask)
    }
}
