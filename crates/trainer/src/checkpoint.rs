//! Checkpoints: a model directory plus training state, complete or absent.
//!
//! ```text
//! checkpoints/step-00001500/
//!     MANIFEST.json            file list with sizes and BLAKE3, step, hashes of recipe and tokenizer; written last
//!     model/                   a Hugging Face directory
//!     optimizer.safetensors    moments by parameter name
//!     train_state.json         step, tokens, best loss and the other running figures
//! ```

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::json;
use taal_model::Transformer;
use taal_model::hugging_face::{self, Companions};
use taal_store::{AtomicDir, Manifest};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::optimizer::Optimizer;
use crate::step::Learner;

const MODEL_DIR: &str = "model";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "train_state.json";
/// A train_state.json above this size is not one.
const MAX_STATE_BYTES: u64 = 1 << 20;

/// The running figures of a run, as of the end of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainState {
    /// Updates done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Seconds inside training steps.
    pub train_s: f64,
    /// Seconds of the whole run, earlier parts included.
    pub wall_s: f64,
    /// Loss of the last step, in nats a token.
    pub train_loss: f64,
    /// Loss of the last evaluation.
    pub val_loss: Option<f64>,
    /// The same in bits a byte.
    pub val_bits_per_byte: Option<f64>,
    /// Tokens scored in an evaluation.
    pub val_tokens: Option<u64>,
    /// Lowest validation loss so far.
    pub best_val_loss: Option<f64>,
    /// Its step.
    pub best_step: Option<u64>,
    /// Evaluations since then.
    pub evaluations_without_gain: u64,
    /// The step at which the run was last resumed.
    pub resumed_from: Option<u64>,
}

/// The checkpoints of one run directory.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
}

/// A checkpoint that was verified, byte for byte.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// Updates done.
    pub step: u64,
    manifest: Manifest,
}

/// What a checkpoint is written from.
pub(crate) struct Snapshot<'a> {
    pub(crate) learner: &'a Learner,
    pub(crate) state: &'a TrainState,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) recipe_hash: &'a str,
}

impl Checkpoints {
    /// The checkpoints of a run directory, which need not have any.
    pub fn of(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join("checkpoints"),
        }
    }

    /// Where the checkpoint of a step is or would be.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step:08}"))
    }

    /// Steps that have a directory, oldest first, complete or not.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] where the directory cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>, TrainError> {
        if !taal_store::is_dir(&self.dir) {
            return Ok(Vec::new());
        }
        let names = taal_store::list_dir(&self.dir)?;
        let mut steps: Vec<u64> = names
            .iter()
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest checkpoint whose every byte is right. Damaged ones are reported through `note` and passed
    /// over.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] where the directory cannot be read.
    pub fn newest(&self, mut note: impl FnMut(String)) -> Result<Option<Checkpoint>, TrainError> {
        for step in self.steps()?.into_iter().rev() {
            let path = self.path(step);
            match Manifest::verify(&path) {
                Ok(manifest) => return Ok(Some(Checkpoint { path, step, manifest })),
                Err(error) => note(format!("checkpoint of step {step} is passed over: {error}")),
            }
        }
        Ok(None)
    }

    /// Removes what a killed process left half-written. Only under the run's lock.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] where it cannot be removed.
    pub(crate) fn clean(&self) -> Result<(), TrainError> {
        if taal_store::is_dir(&self.dir) {
            taal_store::remove_temporaries(&self.dir)?;
        }
        Ok(())
    }

    /// Writes a checkpoint as one atomic step. A damaged one of the same step makes way.
    pub(crate) fn save(&self, snapshot: &Snapshot<'_>) -> Result<(), TrainError> {
        taal_store::create_dir_all(&self.dir)?;
        let path = self.path(snapshot.state.step);
        if taal_store::exists(&path) {
            taal_store::remove_dir_all(&path)?;
        }
        let bytes_needed = 4 * 3 * snapshot.learner.model.config().n_params();
        taal_store::ensure_space(&self.dir, bytes_needed + bytes_needed / 5)?;

        let target = AtomicDir::create(&path)?;
        let tokenizer_json = snapshot.tokenizer.to_json();
        let companions = Companions {
            tokenizer_json: Some(&tokenizer_json),
            bos_token_id: snapshot.tokenizer.bos_id(),
            eos_token_id: snapshot.tokenizer.eos_id(),
            pad_token_id: snapshot.tokenizer.pad_id(),
        };
        let model_dir = target.path().join(MODEL_DIR);
        taal_store::create_dir_all(&model_dir)?;
        hugging_face::write_into(&snapshot.learner.model, &model_dir, companions)?;
        target.write(OPTIMIZER_FILE, &optimizer_bytes(snapshot.learner, &path)?)?;
        let state = serde_json::to_vec_pretty(snapshot.state).map_err(|error| damaged(&path, error))?;
        target.write(STATE_FILE, &state)?;
        Manifest::write(
            target.path(),
            json!({
                "step": snapshot.state.step,
                "optimizer_steps": snapshot.learner.optimizer.step_count(),
                "recipe_blake3": snapshot.recipe_hash,
                "tokenizer_blake3": snapshot.tokenizer.hash(),
                "taal_version": env!("CARGO_PKG_VERSION"),
            }),
        )?;
        target.commit()?;
        Ok(())
    }

    /// Removes all but the newest `keep` and the best. Called only after a newer one is durable.
    pub(crate) fn prune(&self, keep: usize, best: Option<u64>) -> Result<(), TrainError> {
        let steps = self.steps()?;
        let obsolete = steps.len().saturating_sub(keep);
        for step in steps.into_iter().take(obsolete).filter(|step| Some(*step) != best) {
            taal_store::remove_dir_all(&self.path(step))?;
        }
        Ok(())
    }
}

impl Checkpoint {
    /// The model directory inside.
    pub fn model_dir(&self) -> PathBuf {
        self.path.join(MODEL_DIR)
    }

    /// The running figures.
    ///
    /// # Errors
    ///
    /// [`TrainError::Checkpoint`] where train_state.json does not read.
    pub fn state(&self) -> Result<TrainState, TrainError> {
        let path = self.path.join(STATE_FILE);
        let text = taal_store::read_text(&path, MAX_STATE_BYTES)?;
        serde_json::from_str(&text).map_err(|error| damaged(&path, error))
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tokenizer`] where it does not read.
    pub fn tokenizer(&self) -> Result<Tokenizer, TrainError> {
        Ok(Tokenizer::open(&self.model_dir().join(hugging_face::TOKENIZER_FILE))?)
    }

    /// The model, to go on training.
    pub(crate) fn model(&self, dropout: f64, device: &Device) -> Result<Transformer, TrainError> {
        Ok(hugging_face::open(&self.model_dir(), device)?.with_dropout(dropout))
    }

    /// Puts the saved moments into an optimizer that was built from the same recipe.
    pub(crate) fn restore(&self, optimizer: &mut Optimizer, device: &Device) -> Result<(), TrainError> {
        let path = self.path.join(OPTIMIZER_FILE);
        let map = taal_store::Map::open(&path)?;
        let tensors = safetensors::SafeTensors::deserialize(&map).map_err(|error| damaged(&path, error))?;
        let mut moments = Vec::new();
        for (name, view) in tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(
                    &path,
                    format!("moment `{name}` is {:?}, expected F32", view.dtype()),
                ));
            }
            let values = view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect();
            moments.push((name, values));
        }
        let steps = self.manifest.extra["optimizer_steps"].as_u64().unwrap_or(self.step);
        optimizer.restore_state(steps, moments, device);
        Ok(())
    }
}

fn optimizer_bytes(learner: &Learner, path: &Path) -> Result<Vec<u8>, TrainError> {
    let moments: Vec<(String, Vec<u8>)> = learner
        .optimizer
        .read_state()
        .into_iter()
        .map(|(name, values)| (name, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views = moments
        .iter()
        .map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    views
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| damaged(path, error))
}

fn damaged(path: &Path, detail: impl std::fmt::Display) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_path_buf(),
        detail: detail.to_string(),
    }
}
