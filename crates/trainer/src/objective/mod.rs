//! What a run learns: a [`Task`] makes the batches and the loss, scores the validation split, writes samples and adds
//! its lines to the report. Each task is one file here; [`of`] lists them all.

mod baseline;
mod completion;
mod masked;
mod next_token;
mod preference;
pub(crate) mod samples;
mod translation;

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan};
use taal_evaluation::Score;
use taal_inference::LanguageModel;
use taal_metrics::{Report, SourceFigures};
use taal_model::{Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use self::completion::Completion;
use self::masked::{Masked, Masker};
use self::next_token::NextToken;
use self::preference::Preference;
pub(crate) use self::preference::pairs;
pub use self::preference::{Dpo, answer_log_probs};
use self::samples::Written;
use self::translation::Translation;
use crate::TrainError;
use crate::chat::Chat;
use crate::checkpoint::TrainState;
use crate::prepare::Corpus;
use crate::recipe::{DataSource, Objective, Recipe};
use crate::step;

/// Called before every batch of an evaluation: whether to continue.
pub(crate) type Ask<'a> = dyn FnMut() -> ControlFlow<()> + 'a;

/// The loss over the validation split: `None` if there is none, a break if the evaluation was stopped.
pub(crate) type Validated = ControlFlow<(), Option<Validation>>;

/// A loss over the whole validation split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Validation {
    pub(crate) score: Score,
    /// Bytes of text that the scored tokens encode; 0 if they are not a whole text.
    pub(crate) bytes: u64,
    /// Targets that were the model's most probable token, if they are counted.
    pub(crate) correct: Option<u64>,
    /// The same of each source, where there are several.
    pub(crate) sources: Vec<SourceFigures>,
}

impl Validation {
    /// Adds the score of a source.
    fn add(&mut self, name: &str, score: Score, bytes: u64, correct: Option<u64>) {
        let tokens = score.tokens.max(1) as f64;
        self.score = self.score + score;
        self.bytes += bytes;
        self.correct = self.correct.zip(correct).map(|(before, more)| before + more);
        self.sources.push(SourceFigures {
            name: name.to_string(),
            tokens: score.tokens,
            loss: score.loss(),
            bits_per_byte: (bytes > 0).then(|| taal_metrics::bits_per_byte(score.nats, bytes)),
            accuracy: correct.map(|correct| correct as f64 / tokens),
        });
    }

    /// The result, or `None` if nothing was scored.
    fn whole(mut self) -> Validated {
        if self.sources.len() < 2 {
            self.sources.clear();
        }
        ControlFlow::Continue((self.score.tokens > 0).then_some(self))
    }
}

/// The score of batches of prompts and completions, without label smoothing; `bytes` are those of all their targets.
fn validate_batches(
    model: &Transformer,
    batches: impl Iterator<Item = Batch>,
    bytes: u64,
    ask: &mut Ask<'_>,
) -> Result<Validated, TrainError> {
    let mut score = Score::default();
    for batch in batches {
        if ask().is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let tokens = batch.counted_targets() as u64;
        let mean = f64::from(step::loss(model, &batch, None)?.into_scalar::<f32>());
        score = score
            + Score {
                nats: mean * tokens as f64,
                tokens,
            };
    }
    let total = Validation {
        score,
        bytes,
        correct: None,
        sources: Vec::new(),
    };
    Ok(total.whole())
}

/// One objective on one kind of data.
pub(crate) trait Task: std::fmt::Debug + Sync {
    /// Its name in the report, the same as in `train.objective` of the recipe.
    fn name(&self) -> &'static str;

    /// The batch of a micro-step, numbered over the whole run. It depends only on the plan and the number.
    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError>;

    /// The mean loss over the targets of a batch, in nats.
    ///
    /// # Shapes
    ///
    /// - output: `[1]`
    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::loss(model, batch, dropout_key)
    }

    /// A hash of what the task reads besides the training and validation ids; empty where there is nothing.
    ///
    /// # Errors
    ///
    /// Those of reading it.
    fn fingerprint(&self) -> Result<String, TrainError> {
        Ok(String::new())
    }

    /// The loss over the validation split, in evaluation mode.
    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError>;

    /// What a trained model writes for one of the recipe's prompts.
    fn sample(&self, model: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
        samples::continuation(model, recipe, index)
    }

    /// Adds the figures of this task to the report of a finished run.
    fn report(&self, _state: &TrainState, _model: &TransformerConfig, _report: &mut Report) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Refuses an objective that this tokenizer or this kind of data does not support.
pub(crate) fn check(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<(), TrainError> {
    match (&recipe.train.objective, &recipe.data.source) {
        (Objective::NextToken, _) => Ok(()),
        (Objective::Preference(_), DataSource::Conversations(_)) => Ok(()),
        (Objective::Preference(_), _) => Err(preference::needs_pairs(recipe)),
        (Objective::Masked(_), DataSource::Conversations(_) | DataSource::Examples(_)) => {
            Err(masked::needs_running_text(recipe))
        }
        (Objective::Masked(masking), _) => Masker::new(*masking, tokenizer, recipe.seed).map(drop),
    }
}

/// The task of the recipe's objective and data.
pub(crate) fn of(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    chat: &Chat,
    corpus: Corpus,
) -> Result<Box<dyn Task>, TrainError> {
    let label_smoothing = recipe.train.label_smoothing;
    Ok(match (&recipe.train.objective, corpus) {
        (Objective::NextToken, Corpus::Text(data)) => Box::new(NextToken { data, label_smoothing }),
        (Objective::NextToken, Corpus::Conversations(data)) => Box::new(Completion { data, label_smoothing }),
        (Objective::NextToken, Corpus::Pairs(data)) => Box::new(Translation { data, label_smoothing }),
        (Objective::Masked(masking), Corpus::Text(data)) => {
            let masker = Masker::new(*masking, tokenizer, recipe.seed)?;
            Box::new(Masked {
                data,
                masker,
                label_smoothing,
            })
        }
        (Objective::Preference(dpo), Corpus::Conversations(chosen)) => {
            Box::new(Preference::new(*dpo, recipe, tokenizer, chat, &chosen)?)
        }
        (Objective::Preference(_), _) => return Err(preference::needs_pairs(recipe)),
        (Objective::Masked(_), _) => return Err(masked::needs_running_text(recipe)),
    })
}
