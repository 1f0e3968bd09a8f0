//! Predicting the next token of running text from the ones before it.

use std::ops::{ControlFlow, Range};

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan, Dataset};
use taal_evaluation::{Score, try_score_windows};
use taal_model::Transformer;

use super::{Ask, Task, Validated, Validation};
use crate::{TrainError, step};

/// Running text, in which every token is a target.
#[derive(Debug)]
pub(super) struct NextToken {
    pub(super) data: Dataset,
    pub(super) label_smoothing: f64,
}

impl Task for NextToken {
    fn name(&self) -> &'static str {
        "next_token"
    }

    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        Ok(plan.batch(self.data.training(), micro_step)?)
    }

    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::smoothed_loss(model, batch, dropout_key, self.label_smoothing)
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let mut total = Validation {
            score: Score::default(),
            bytes: 0,
            correct: None,
            sources: Vec::new(),
        };
        let window = model.config().max_seq_len;
        for source in &self.data.validation {
            let len = usize::try_from(source.len()).unwrap_or(usize::MAX);
            let read = |range: Range<usize>| {
                ask()?;
                ControlFlow::Continue(source.read(range.start as u64, range.len()))
            };
            match try_score_windows(model, len, window, batch_size, read)? {
                ControlFlow::Continue(score) => total.add(source.name(), score, source.text_bytes(), None),
                ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
            }
        }
        Ok(total.whole())
    }
}
