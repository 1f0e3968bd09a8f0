//! Old data in a fine-tuning: how much of it the model forgets, and mixing it in so that it forgets less.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use taal_data::{Batch, BatchPlan, Columns};
use taal_kernels::random;
use taal_model::{Transformer, TransformerConfig};
use taal_store::layout::RESOLVED_FILE;
use taal_tokenizer::Tokenizer;

use crate::chat::Chat;
use crate::objective::{Ask, Task};
use crate::prepare::{self, Corpus};
use crate::recipe::{DataRecipe, DataSource, ModelRecipe, Objective, Recipe, resolve_stored};
use crate::run_dir::{is_run, stored_recipe};
use crate::{TrainError, objective};

/// The share after a first evaluation above the budget.
const FIRST_SHARE: f64 = 0.1;
/// The largest share of old data; a batch must have rows of the task too.
pub(crate) const MAX_SHARE: f64 = 0.9;

/// The loss on held-out old data, and what is done about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// The loss of the model that the run starts from, in nats per token.
    pub before: f64,
    /// The loss at the last evaluation that measured it.
    pub now: Option<f64>,
    /// Tokens that are scored.
    pub tokens: u64,
    /// Share of the rows that are old data.
    pub share: f64,
}

impl Forgetting {
    /// Nats per token that the loss rose by, at the last evaluation.
    pub fn rise(&self) -> Option<f64> {
        Some(self.now? - self.before)
    }

    /// The share of old data after an evaluation above the budget.
    pub(crate) fn raised_share(&self) -> f64 {
        (2.0 * self.share).clamp(FIRST_SHARE, MAX_SHARE)
    }
}

/// The data that the model knew before.
#[derive(Debug)]
pub(crate) struct OldData {
    /// Its name in the report.
    pub(crate) name: String,
    /// A hash of its ids.
    pub(crate) fingerprint: String,
    task: Box<dyn Task>,
    plan: BatchPlan,
}

impl OldData {
    /// The old data of a run that does not start from new weights: those that the recipe names, or those of the run that it starts
    /// from. Where neither the share nor the budget needs them and the recipe does not name them, data that are not there are a note.
    ///
    /// # Errors
    ///
    /// [`TrainError::Recipe`] where the recipe needs old data and none are known; those of the data.
    pub(crate) fn of(
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        config: &TransformerConfig,
        note: &mut dyn FnMut(String),
    ) -> Result<Option<Self>, TrainError> {
        // An encoder-decoder does not continue running text.
        if matches!(recipe.model, ModelRecipe::New { .. }) || config.encoder.is_some() && !recipe.replay.is_used() {
            return Ok(None);
        }
        if config.encoder.is_some() {
            let detail =
                "old data are running text, which has no prompt for the encoder of this model; leave this section out";
            return Err(TrainError::recipe(&recipe.name, "replay", detail));
        }
        let is_needed = recipe.replay.is_used();
        let found = match source(recipe) {
            Ok(Some(data)) => Self::prepare(recipe, data, tokenizer, chat, config),
            Ok(None) if !is_needed && recipe.init_from().is_none() => return Ok(None),
            Ok(None) => Err(unknown(recipe)),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok(Some(found)),
            // Data that the recipe names are wanted.
            Err(error) if !is_needed && recipe.replay.source.is_none() => {
                note(format!("what the model forgets is not measured: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn prepare(
        recipe: &Recipe,
        data: DataRecipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        config: &TransformerConfig,
    ) -> Result<Self, TrainError> {
        let name = words(&data.source);
        let mut recipe = Recipe { data, ..recipe.clone() };
        if let Objective::Preference(_) = recipe.train.objective {
            recipe.train.objective = Objective::NextToken;
        }
        objective::check(&recipe, tokenizer)?;
        let mut corpus = Corpus::prepare_for(&recipe, tokenizer, chat, config, |_| {})?;
        let fingerprint = corpus.fingerprint();
        let plan = BatchPlan {
            seed: random::key(recipe.seed, 0, "replay"),
            ..prepare::batch_plan(&recipe)
        };
        if recipe.replay.is_used() {
            corpus.train().check(&plan)?;
        }
        if corpus.token_counts().1 == 0 {
            let detail = format!("{name} has no held-out part to measure with; name data that have one");
            return Err(TrainError::recipe(&recipe.name, "replay", detail));
        }
        corpus.limit_validation(Some(recipe.replay.max_tokens), tokenizer)?;
        corpus.leave_out_unscored_bytes(tokenizer);
        Ok(Self {
            task: objective::of(&recipe, tokenizer, chat, corpus)?,
            name,
            fingerprint,
            plan,
        })
    }

    /// The loss over the held-out part, and the tokens that it is over.
    pub(crate) fn loss(
        &self,
        model: &Transformer,
        batch_size: usize,
        ask: &mut Ask<'_>,
    ) -> Result<ControlFlow<(), Option<(f64, u64)>>, TrainError> {
        let found = self.task.validate(model, batch_size, ask)?;
        Ok(found.map_continue(|found| found.map(|found| (found.score.loss(), found.score.tokens))))
    }

    /// Replaces a share of a batch's rows with rows of old data. Which rows they are depends only on the micro-step and the share, so
    /// that over many batches exactly this share is replaced.
    pub(crate) fn mix(&self, batch: &mut Batch, micro_step: u64, share: f64) -> Result<(), TrainError> {
        let first = micro_step * batch.batch_size as u64;
        let replaced_before = |row: u64| (row as f64 * share).floor();
        let is_replaced = |row: &usize| {
            let row = first + *row as u64;
            replaced_before(row + 1) > replaced_before(row)
        };
        let rows: Vec<usize> = (0..batch.batch_size).filter(is_replaced).collect();
        if !rows.is_empty() {
            batch.replace_rows(&self.task.batch(&self.plan, micro_step)?, &rows);
        }
        Ok(())
    }
}

/// Where the old data are.
pub(crate) fn source(recipe: &Recipe) -> Result<Option<DataRecipe>, TrainError> {
    if let Some(source) = &recipe.replay.source {
        return Ok(Some(DataRecipe {
            direction: None,
            source: source.clone(),
            weights: None,
            validation_fraction: recipe.data.validation_fraction,
            order: recipe.data.order,
            damaged: recipe.data.damaged,
            line_ends: recipe.data.line_ends,
            license: None,
            layout: None,
            columns: Columns::default(),
            chat_template: None,
        }));
    }
    let Some(dir) = recipe.init_from() else { return Ok(None) };
    let dir = taal_inference::model_dir(dir)?;
    // The model of a run is `model` in it, or in one of its checkpoints.
    let run = dir
        .ancestors()
        .find(|dir| is_run(dir) && taal_store::exists(&dir.join(RESOLVED_FILE)));
    let Some(run) = run else { return Ok(None) };
    let data = resolve_stored(&stored_recipe(run)?, &[])?.recipe.data;
    Ok(Some(data))
}

fn unknown(recipe: &Recipe) -> TrainError {
    let place = recipe
        .init_from()
        .map_or("the program's model".to_owned(), |dir| dir.display().to_string());
    let detail = format!(
        "the old data are not known, because {place} does not belong to a run; name them in replay.corpus, replay.files or replay.shards"
    );
    TrainError::recipe(&recipe.name, "replay", detail)
}

fn words(source: &DataSource) -> String {
    match source {
        DataSource::Corpus(name) | DataSource::Examples(name) => name.clone(),
        DataSource::Files(paths) => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            names.join(", ")
        }
        DataSource::Shards(path) | DataSource::Conversations(path) => path.display().to_string(),
        DataSource::Texts(_) | DataSource::Dataset(_) => "the program's data".to_owned(),
    }
}
