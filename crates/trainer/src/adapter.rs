//! Which part of a model a run trains: all of it, all but frozen parameters, or low-rank adapters of a model that stays as it is.

use std::path::PathBuf;

use burn::tensor::Device;
use taal_model::hugging_face::{self, Base, Companions, Lora};
use taal_model::{ModelError, ParameterInfo, Transformer, TransformerConfig, parameters};

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::recipe::{ModelRecipe, Recipe};

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
        Ok(Some(Self {
            lora: lora.clone(),
            base: Base::open(&dir)?,
        }))
    }

    /// How many parameters it has.
    pub(crate) fn n_params(&self, recipe: &Recipe, config: &TransformerConfig) -> Result<u64, TrainError> {
        let count = hugging_face::n_adapter_params(config, self.base.family, &self.lora);
        count.map_err(|error| as_recipe(recipe, error))
    }

    /// The base with a fresh adapter, of which only the adapter is trained.
    pub(crate) fn fresh(&self, recipe: &Recipe, base: Transformer) -> Result<Transformer, TrainError> {
        let model = base.with_lora(&self.lora, self.base.family, recipe.seed);
        Ok(model.map_err(|error| as_recipe(recipe, error))?.with_adapters_only())
    }

    /// The base with the adapter of a checkpoint.
    pub(crate) fn resumed(&self, checkpoint: &Checkpoint, device: &Device) -> Result<Transformer, TrainError> {
        let base = hugging_face::open(&self.base.dir, device)?;
        let dir = checkpoint.model_dir();
        let model = hugging_face::with_adapter(base, self.base.family, &dir, Some(&self.base.blake3))?;
        Ok(model.with_adapters_only())
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

/// Whether a parameter has this name, or is in the part of the model that has it.
fn is_part(row: &ParameterInfo, name: &str) -> bool {
    let rest = row.name.strip_prefix(name);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
