//! What a run learns: a [`Task`] makes the batches and the loss, scores what is held back, writes samples and adds its lines to the
//! report. Each task is one file here; [`of`] names them all.

mod baseline;
mod completion;
mod masked;
mod next_token;
pub(crate) mod samples;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan};
use taal_evaluation::Score;
use taal_inference::LanguageModel;
use taal_metrics::Report;
use taal_model::{Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use self::completion::Completion;
use self::masked::{Masked, Masker};
use self::next_token::NextToken;
use self::samples::Written;
use crate::TrainError;
use crate::checkpoint::TrainState;
use crate::prepare::Corpus;
use crate::recipe::{DataSource, Objective, Recipe};
use crate::step;

/// Asked before every batch of an evaluation: go on?
pub(crate) type Ask<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// A loss over everything that is held back; none where nothing is, and a break where the evaluation was stopped.
pub(crate) type Validated = ControlFlow<(), Option<Validation>>;

/// A loss over the whole validation split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Validation {
    pub(crate) score: Score,
    /// Bytes of text that the scored tokens stand for; 0 where they are not a whole text.
    pub(crate) bytes: u64,
    /// Targets that the model found likeliest, where they are counted.
    pub(crate) correct: Option<u64>,
}

impl Validation {
    /// The result, or none where nothing was scored.
    fn whole(self) -> Validated {
        ControlFlow::Continue((self.score.tokens > 0).then_some(self))
    }
}

/// One thing to learn from the recipe's data.
pub(crate) trait Task: std::fmt::Debug + Sync {
    /// Its name in the report, which is that of the recipe's `train.objective`.
    fn name(&self) -> &'static str;

    /// The batch of a micro-step, counted over the whole run: a function of the plan and the step.
    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError>;

    /// The mean loss over the targets of a batch, in nats.
    ///
    /// # Shapes
    ///
    /// - output: `[1]`
    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::loss(model, batch, dropout_key)
    }

    /// The loss over everything that is held back, in evaluation mode.
    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError>;

    /// What a finished model makes of one of the recipe's prompts.
    fn sample(&self, model: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
        samples::continuation(model, recipe, index)
    }

    /// Its own figures in the report of a finished run.
    fn report(&self, _state: &TrainState, _model: &TransformerConfig, _report: &mut Report) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Refuses an objective that cannot be learned with this tokenizer or from this kind of data.
pub(crate) fn check(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<(), TrainError> {
    match (&recipe.train.objective, &recipe.data.source) {
        (Objective::NextToken, _) => Ok(()),
        (Objective::Masked(_), DataSource::Conversations(_)) => Err(masked::needs_running_text(recipe)),
        (Objective::Masked(masking), _) => Masker::new(*masking, tokenizer, recipe.seed).map(drop),
    }
}

/// The task that the recipe's objective and its data make.
pub(crate) fn of(recipe: &Recipe, tokenizer: &Tokenizer, corpus: Corpus) -> Result<Box<dyn Task>, TrainError> {
    Ok(match (&recipe.train.objective, corpus) {
        (Objective::NextToken, Corpus::Text(data)) => Box::new(NextToken { data }),
        (Objective::NextToken, Corpus::Conversations(data)) => Box::new(Completion { data }),
        (Objective::Masked(masking), Corpus::Text(data)) => {
            let masker = Masker::new(*masking, tokenizer, recipe.seed)?;
            Box::new(Masked { data, masker })
        }
        (Objective::Masked(_), Corpus::Conversations(_)) => return Err(masked::needs_running_text(recipe)),
    })
}
