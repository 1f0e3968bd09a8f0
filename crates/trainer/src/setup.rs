//! Everything that a run or a dry run needs before its model is created: tokenizer, data, order of the batches, shape.

use taal_data::BatchPlan;
use taal_kernels::Precision;
use taal_model::{TransformerConfig, hugging_face};
use taal_tokenizer::Tokenizer;

use crate::adapter::Adapter;
use crate::answers::Answers;
use crate::certainty::Certainty;
use crate::chat::Chat;
use crate::checkpoint::Checkpoint;
use crate::memory::Estimate;
use crate::prepare::{self, Corpus};
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::replay::OldData;
use crate::{TrainError, learnable, objective};

/// The prepared inputs of a recipe.
pub(crate) struct Setup {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) chat: Chat,
    pub(crate) old: Option<OldData>,
    pub(crate) answers: Option<Answers>,
    pub(crate) certainty: Option<Certainty>,
    pub(crate) corpus: Corpus,
    pub(crate) plan: BatchPlan,
    pub(crate) config: TransformerConfig,
    pub(crate) estimate: Estimate,
    /// What is trained, where it is an adapter.
    pub(crate) adapter: Option<Adapter>,
}

impl Setup {
    /// Prepares and checks everything. For a resumed run, tokenizer and shape come from the checkpoint. `accept` gets
    /// the data before `eval.max_tokens` cuts them.
    pub(crate) fn new(
        recipe: &Recipe,
        precision: Precision,
        checkpoint: Option<&Checkpoint>,
        progress: &mut dyn Progress,
        accept: impl FnOnce(&Corpus, Option<&OldData>, &mut dyn Progress) -> Result<(), TrainError>,
    ) -> Result<Self, TrainError> {
        let tokenizer = match checkpoint {
            Some(checkpoint) => checkpoint.tokenizer()?,
            None => prepare::tokenizer(recipe)?,
        };
        // A resumed run has said it, and may not have the first model any more.
        if checkpoint.is_none()
            && let Some(note) = prepare::added_tokens_note(recipe)?
        {
            progress.note(&note);
        }
        let chat = Chat::of(recipe, &tokenizer, checkpoint)?;
        let config = match checkpoint {
            Some(checkpoint) => hugging_face::open_config(&checkpoint.model_dir())?,
            None => prepare::config(recipe, &tokenizer)?,
        };
        let mut corpus = Corpus::prepare_for(recipe, &tokenizer, &chat, &config, |message| progress.note(&message))?;
        let chat = chat.learned_from(&corpus, &tokenizer);
        objective::check(recipe, &tokenizer)?;
        learnable::check(recipe, &corpus, &tokenizer, &mut |message| progress.note(&message))?;
        let plan = prepare::batch_plan(recipe);
        corpus.train().check(&plan)?;
        let old = OldData::of(recipe, &tokenizer, &chat, &config, &mut |message| {
            progress.note(&message)
        })?;
        accept(&corpus, old.as_ref(), progress)?;
        let answers = Answers::of(recipe, &tokenizer, &chat, &corpus)?;
        let certainty = Certainty::of(&tokenizer, &chat, &corpus)?;
        if let Some(limited) = corpus.limit_validation(recipe.eval.max_tokens, &tokenizer)? {
            progress.note(&limited);
        }
        corpus.leave_out_unscored_bytes(&tokenizer);
        objective::samples::check(recipe, &tokenizer, &config)?;
        let adapter = Adapter::of(recipe, checkpoint)?;
        let mut estimate = Estimate::of(&config, &recipe.train, precision, recipe.eval.batch_size);
        if let Some(adapter) = &adapter {
            let trained = adapter.n_params(recipe, &config)?;
            progress.note(&format!(
                "lora: {trained} parameters are trained, and the {} of the model stay as they are",
                config.n_params()
            ));
            estimate = estimate.with_adapter(&config, &recipe.train, trained);
        }
        Ok(Self {
            tokenizer,
            chat,
            old,
            answers,
            certainty,
            corpus,
            plan,
            config,
            estimate,
            adapter,
        })
    }
}
