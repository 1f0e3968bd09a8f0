//! Which part of a model a run trains: all of it, all but frozen parameters, or low-rank adapters of a model that stays as it is.

use std::path::PathBuf;

use burn::tensor::Device;
use taal_metrics::flops::Training;
use taal_model::hugging_face::{self, Base, Companions, Lora};
use taal_model::{ModelError, ParameterInfo, Transformer, TransformerConfig, parameters};

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::recipe::{ModelRecipe, Recipe, TokenizerRecipe};

/// The adapter that a run trains, and the model that it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adapter {
    pub(crate) lora: Lora,
    pub(crate) base: Base,
}

impl Adapter {
    /// The recipe's, if it has one. A resumed run continues with the model that it began with, which may no longer be the newest of
    /// `train.init_from`.
    pub(crate) fn of(recipe: &Recipe, checkpoint: Option<&Checkpoint>) -> Result<Option<Self>, TrainError> {
        let (Some(lora), ModelRecipe::InitFrom { dir, .. }) = (&recipe.lora, &recipe.model) else {
            return Ok(None);
        };
        let begun = checkpoint.map(|checkpoint| hugging_face::open_adapter_info(&checkpoint.model_dir()));
        let begun = begun.transpose()?.and_then(|info| info.base).map(PathBuf::from);
        let dir = match begun.filter(|dir| taal_store::exists(&dir.join(hugging_face::CONFIG_FILE))) {
            Some(dir) => dir,
            None => taal_inference::model_dir(dir)?,
        };
        let base = Base::open(&dir)?;
        let mut lora = lora.clone();
        if matches!(recipe.tokenizer, TokenizerRecipe::Extended(_)) {
            // New tokens have rows that no low-rank part gives them.
            lora.modules_to_save = hugging_face::token_modules(&hugging_face::open_config(&dir)?, base.family);
        }
        Ok(Some(Self { lora, base }))
    }

    /// How many parameters it has.
    pub(crate) fn n_params(&self, recipe: &Recipe, config: &TransformerConfig) -> Result<u64, TrainError> {
        let count = hugging_face::n_adapter_params(config, self.base.family, &self.lora);
        let count = count.map_err(|error| as_recipe(recipe, error))?;
        Ok(count + self.n_saved(config))
    }

    /// How many of them are in layers of the base that are trained whole.
    pub(crate) fn n_saved(&self, config: &TransformerConfig) -> u64 {
        hugging_face::n_saved_params(config, self.base.family, &self.lora)
    }

    /// The base with a fresh adapter, of which only the adapter is trained.
    pub(crate) fn fresh(&self, recipe: &Recipe, base: Transformer) -> Result<Transformer, TrainError> {
        let model = base.with_lora(&self.lora, self.base.family, recipe.seed);
        let model = model.map_err(|error| as_recipe(recipe, error))?;
        Ok(model.with_adapters_of(&self.lora, self.base.family))
    }

    /// The base with the adapter of a checkpoint.
    pub(crate) fn resumed(&self, checkpoint: &Checkpoint, device: &Device) -> Result<Transformer, TrainError> {
        let base = hugging_face::open(&self.base.dir, device)?;
        let dir = checkpoint.model_dir();
        let model = hugging_face::with_adapter(base, self.base.family, &dir, Some(&self.base.blake3))?;
        Ok(model.with_adapters_of(&self.lora, self.base.family))
    }

    /// The files of an adapter directory.
    pub(crate) fn files(
        &self,
        model: &Transformer,
        companions: Companions<'_>,
    ) -> Result<Vec<(String, Vec<u8>)>, TrainError> {
        Ok(hugging_face::adapter_files(model, &self.lora, &self.base, companions)?)
    }
}

/// An error about `[lora]` names the recipe.
fn as_recipe(recipe: &Recipe, error: ModelError) -> TrainError {
    match error {
        ModelError::Config { field, detail } if field.starts_with("lora") => {
            TrainError::recipe(&recipe.name, &field, detail)
        }
        error => error.into(),
    }
}

/// The model without gradients of the parameters that `train.freeze` names.
pub(crate) fn freeze(recipe: &Recipe, model: Transformer) -> Result<Transformer, TrainError> {
    let frozen = &recipe.train.freeze;
    if frozen.is_empty() {
        return Ok(model);
    }
    let refuse = |detail: String| Err(TrainError::recipe(&recipe.name, "train.freeze", detail));
    let found = parameters::list(&model);
    if let Some(name) = frozen.iter().find(|name| !found.iter().any(|row| is_part(row, name))) {
        let mut known: Vec<&str> = found.iter().filter_map(|row| row.name.split('.').next()).collect();
        known.dedup();
        return refuse(format!(
            "no parameter's name begins with {name:?}; names begin with {}, as in blocks.0.attention.qkv.weight",
            known.join(", ")
        ));
    }
    let is_frozen = |row: &ParameterInfo| frozen.iter().any(|name| is_part(row, name));
    match found.iter().all(is_frozen) {
        true => refuse("every parameter is frozen, so there is nothing to train".to_string()),
        false => Ok(model.with_frozen(is_frozen)),
    }
}

/// What a step on rows of this length computes: of frozen weights no gradients. With an adapter, all but `n_saved` parameters are frozen.
pub(crate) fn training(model: &Transformer, frozen: &[String], n_saved: u64, block_size: usize) -> Training {
    let shape = model.config().shape(block_size);
    let n_low_rank = model.n_adapter_params();
    let n_frozen = match n_low_rank > 0 {
        true => shape.n_params - n_saved.min(shape.n_params),
        false => {
            let is_frozen = |row: &ParameterInfo| frozen.iter().any(|name| is_part(row, name));
            // The shape does not count learned positions.
            let rows = parameters::list(model).into_iter().filter(|row| is_frozen(row));
            let counted = rows.filter(|row| !is_part(row, "position_embedding"));
            counted.map(|row| row.shape.iter().product::<usize>() as u64).sum()
        }
    };
    Training {
        shape,
        n_frozen,
        n_low_rank,
    }
}

/// Whether a parameter has this name, or is in the part of the model that has it.
fn is_part(row: &ParameterInfo, name: &str) -> bool {
    let rest = row.name.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use taal_model::ModelSize;
    use taal_model::hugging_face::Family;

    use super::*;

    #[test]
    fn what_is_frozen_is_counted_without_its_gradients() {
        let config = TransformerConfig::gpt2(ModelSize {
            vocab_size: 7,
            max_seq_len: 8,
            n_layers: 2,
            n_heads: 2,
            d_model: 4,
        });
        let model = config.init(1, &Device::flex()).unwrap();
        let counts = |model: &Transformer, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_string()).collect();
            let found = training(model, &names, 0, 8);
            (found.n_frozen, found.n_low_rank)
        };
        assert_eq!(counts(&model, &[]), (0, 0));
        // Attention 60 + 20, feed-forward 80 + 68, two norms of 8; positions are not counted.
        assert_eq!(counts(&model, &["blocks.0", "position_embedding"]), (244, 0));
        let lora = Lora {
            rank: 1,
            alpha: 2.0,
            is_rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
            modules_to_save: Vec::new(),
        };
        let adapted = model.with_lora(&lora, Family::Gpt2, 1).unwrap();
        // Per block 4 + 12, 4 + 4, 4 + 16 and 16 + 4.
        assert_eq!(counts(&adapted, &[]), (config.n_params() - 8 * 4, 128));
    }
}
