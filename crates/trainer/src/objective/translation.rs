//! Writing a completion for a prompt that an encoder reads: translating, and anything else with prompts and completions.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan, Pairs};
use taal_inference::{LanguageModel, TranslateOptions, translate};
use taal_model::Transformer;

use super::samples::Written;
use super::{Ask, Task, Validated};
use crate::recipe::Recipe;
use crate::{TrainError, step};

/// Prompts and completions for an encoder-decoder, in batches by length.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) data: Pairs,
    pub(crate) label_smoothing: f64,
}

impl Task for Translation {
    fn name(&self) -> &'static str {
        "next_token"
    }

    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        Ok(plan.batch(&self.data.train, micro_step)?)
    }

    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::smoothed_loss(model, batch, dropout_key, self.label_smoothing)
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let Some(held_back) = &self.data.validation else {
            return Ok(ControlFlow::Continue(None));
        };
        let positions = batch_size * held_back.block_size();
        super::validate_batches(model, held_back.in_order(positions), held_back.target_bytes(), ask)
    }

    fn sample(&self, model: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
        translated(model, recipe, index)
    }
}

/// A translation of one of the recipe's prompts.
pub(super) fn translated(lm: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
    let sample = &recipe.sample;
    let options = TranslateOptions {
        max_tokens: Some(sample.max_tokens),
        ..TranslateOptions::default().with_width(sample.beam)
    };
    let found = translate(lm, std::slice::from_ref(&sample.prompts[index]), &options)?;
    Ok((found.into_iter().map(|found| found.translation).collect(), Vec::new()))
}
