//! Checkpoints: a model directory plus training state, complete or absent.
//!
//! ```text
//! checkpoints/step-00001500/
//!     MANIFEST.json            file list with sizes and BLAKE3, step, hashes of recipe and tokenizer; written last
//!     model/                   a Hugging Face directory
//!     optimizer.safetensors    moments by parameter name
//!     train_state.json         step, tokens, best loss and the other running figures
//! ```

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::View;
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::json;
use taal_data::LineEnds;
use taal_kernels::Precision;
use taal_metrics::energy::{EnergyTotal, Grid};
use taal_metrics::{Forecast, Ledger, LedgerEntry, SourceFigures, StepRecord};
use taal_model::Transformer;
use taal_model::hugging_face::{self, Companions, OwnLoss};
use taal_store::layout::{self, CHECKPOINTS_DIR, MODEL_DIR, OPTIMIZER_FILE, STATE_FILE};
use taal_store::{AtomicDir, ErrorKind, Manifest};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::adapter::{self, Adapter};
use crate::chat::Chat;
use crate::health::HealthState;
use crate::optimizer::Optimizer;
use crate::precision::LossScale;
use crate::recipe::Recipe;
use crate::replay::Forgetting;
use crate::step::Learner;

/// A larger train_state.json is not read; the trainings that a model inherits are in it.
const MAX_STATE_BYTES: u64 = 128 << 20;

/// The running figures of a run at the end of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainState {
    /// Updates done.
    pub step: u64,
    /// Training tokens seen.
    pub tokens: u64,
    /// Seconds inside training steps.
    pub train_s: f64,
    /// Seconds of the whole run, including its parts before a resume.
    pub wall_s: f64,
    /// Energy of the whole run, including its parts before a resume and steps that were taken back.
    pub energy: EnergyTotal,
    /// Names this training in the ledgers of models that start from it.
    pub run_id: String,
    /// When it began, in seconds since 1970.
    pub started_unix_s: Option<u64>,
    /// The trainings of the models that it started from.
    #[serde(skip_serializing_if = "has_no_entry")]
    pub inherited: Ledger,
    /// What is known of this training from its start, for the ledger of a run that does not reach its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// What the first steps said about the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// Loss of the last step, in nats per token.
    pub train_loss: f64,
    /// Loss of the last evaluation.
    pub val_loss: Option<f64>,
    /// The same in bits per byte.
    pub val_bits_per_byte: Option<f64>,
    /// Hidden tokens that a masked model guessed correctly in the last evaluation.
    pub val_correct: Option<u64>,
    /// Tokens scored in an evaluation.
    pub val_tokens: Option<u64>,
    /// Bytes of text that those tokens encode.
    pub val_bytes: Option<u64>,
    /// The last evaluation of each source, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub val_sources: Vec<SourceFigures>,
    /// Lowest validation loss so far.
    pub best_val_loss: Option<f64>,
    /// How good answers to held-out prompts were in the last evaluation, with a metric of answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_metric: Option<f64>,
    /// The same at the best step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_metric: Option<f64>,
    /// How sure a translator was of its own translations in the last evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_loss: Option<OwnLoss>,
    /// What was measured on old data, for a model that is trained further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<Forgetting>,
    /// The step of the lowest validation loss; with a metric of answers, of the best one.
    pub best_step: Option<u64>,
    /// Evaluations since then.
    pub evaluations_without_gain: u64,
    /// The step at which the run was last resumed.
    pub resumed_from: Option<u64>,
    /// The last step's record if a request to stop interrupted its evaluation. A resumed run first finishes that
    /// evaluation.
    pub unevaluated: Option<StepRecord>,
    /// Bad steps, and what was done about them.
    pub health: HealthState,
    /// What products are computed in, where `train.precision` is not `fp32`: with `auto` it is what the run was begun with.
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::precision::by_name")]
    pub precision: Option<Precision>,
    /// What the loss of the next step is multiplied by, with `train.precision = "f16"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

/// A training as far as it is known at its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Its entry in a ledger, with the figures of its start.
    pub entry: LedgerEntry,
    /// Floating-point operations per token.
    pub flops_per_token: f64,
    /// Its electricity.
    pub grid: Grid,
    /// Power usage effectiveness.
    pub pue: f64,
}

fn has_no_entry(ledger: &Ledger) -> bool {
    ledger.entries.is_empty()
}

impl TrainState {
    pub(crate) fn read(path: &Path) -> Result<Self, TrainError> {
        let text = taal_store::read_text(path, MAX_STATE_BYTES)?;
        serde_json::from_str(&text).map_err(|error| damaged(path, error))
    }

    /// The position of the next step's batches in the order of the data.
    pub(crate) fn position(&self) -> u64 {
        let position = self.step + self.health.batch_offset;
        match taal_store::is_broken("restart-data") {
            true => position - self.resumed_from.unwrap_or(0).min(self.step),
            false => position,
        }
    }

    /// Steps whose record is in the log.
    pub(crate) fn logged_steps(&self) -> u64 {
        self.step.saturating_sub(u64::from(self.unevaluated.is_some()))
    }
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

/// Everything that a checkpoint holds, as bytes, so that training can continue while they are written.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) step: u64,
    /// Path inside the checkpoint, and content.
    files: Vec<(String, Vec<u8>)>,
    manifest: serde_json::Value,
}

/// What must be unchanged when a run is resumed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Origin {
    /// Hash of the resolved recipe.
    pub(crate) recipe: String,
    /// Hash of the training and validation ids.
    pub(crate) data: String,
    /// How line ends in the text were treated; later input to the model must be treated the same.
    pub(crate) line_ends: LineEnds,
    /// The adapter that is trained, with the model that it is for.
    pub(crate) adapter: Option<Adapter>,
    /// A hash of what the task reads besides; empty where there is nothing.
    pub(crate) task: String,
}

impl Snapshot {
    /// Copies the state of a run. `None` if a weight or a moment is not finite: such a state must not be saved.
    pub(crate) fn take(
        learner: &Learner,
        state: &TrainState,
        tokenizer: &Tokenizer,
        chat: &Chat,
        origin: &Origin,
    ) -> Result<Option<Self>, TrainError> {
        let (tokenizer_json, target_json) = (tokenizer.to_json(), tokenizer.target_json());
        let companions = Companions {
            tokenizer_json: Some(&tokenizer_json),
            target_tokenizer_json: target_json.as_deref(),
            bos_token_id: tokenizer.bos_id(),
            eos_token_id: tokenizer.eos_id(),
            pad_token_id: tokenizer.pad_id(),
            special_ids: chat.special_ids(),
            line_ends: origin.line_ends,
        };
        let model: Vec<(String, Vec<u8>)> = match &origin.adapter {
            Some(adapter) => adapter.files(&learner.model, companions)?,
            None => hugging_face::files(&learner.model, companions)?
                .into_iter()
                .map(|(name, bytes)| (name.to_string(), bytes))
                .collect(),
        };
        let mut files: Vec<(String, Vec<u8>)> = model
            .into_iter()
            .chain(chat.files(tokenizer, learner.model.config().is_encoder_decoder(), state.own_loss))
            .map(|(name, bytes)| (format!("{MODEL_DIR}/{name}"), bytes))
            .collect();
        files.push((OPTIMIZER_FILE.to_string(), optimizer_bytes(learner)?));
        let is_tensors = |name: &str| name.ends_with(".safetensors");
        let is_finite = files.iter().all(|(name, bytes)| !is_tensors(name) || is_finite(bytes));
        if !is_finite && !taal_store::is_broken("save-non-finite") {
            return Ok(None);
        }
        let text = serde_json::to_vec_pretty(state).map_err(|error| damaged(Path::new(STATE_FILE), error))?;
        files.push((STATE_FILE.to_string(), text));
        Ok(Some(Self {
            step: state.step,
            files,
            manifest: json!({
                "step": state.step,
                "optimizer_steps": learner.optimizer.step_count(),
                "recipe_blake3": origin.recipe,
                "tokenizer_blake3": tokenizer.hash(),
                "data_blake3": origin.data,
                "task_blake3": origin.task,
                "taal_version": env!("CARGO_PKG_VERSION"),
                "cargo_lock": env!("TAAL_LOCK_HASH"),
            }),
        }))
    }

    /// Bytes of all files together.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

/// Whether every value of a safetensors file of 32-bit floats is finite.
fn is_finite(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let values = bytes.get(8 + header as usize..).unwrap_or_default();
    let exponent = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) & 0x7f80_0000;
    values.as_chunks().0.iter().all(|value| exponent(value) != 0x7f80_0000)
}

impl Checkpoints {
    /// The checkpoints of a run directory, which may have none.
    pub fn of(run_dir: &Path) -> Self {
        Self {
            dir: run_dir.join(CHECKPOINTS_DIR),
        }
    }

    /// The path of a step's checkpoint, whether or not it exists.
    pub fn path(&self, step: u64) -> PathBuf {
        self.dir.join(layout::checkpoint_name(step))
    }

    /// Steps that have a directory, oldest first, complete or not.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] if the directory cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>, TrainError> {
        if !taal_store::is_dir(&self.dir) {
            return Ok(Vec::new());
        }
        let names = taal_store::list_dir(&self.dir)?;
        let mut steps: Vec<u64> = names.iter().filter_map(|name| layout::checkpoint_step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest undamaged checkpoint, verified byte for byte. Damaged ones, including the one that `model` links to,
    /// are renamed to `step-<step>.damaged` and reported through `note`; first, `model` is linked to an undamaged one.
    /// Call it only while holding the run's lock.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] if the directory cannot be read.
    pub fn newest(&self, mut note: impl FnMut(String)) -> Result<Option<Checkpoint>, TrainError> {
        let mut damaged = Vec::new();
        let mut check = |step: u64| match self.open(step) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                damaged.push((step, error.to_string()));
                Ok(None)
            }
            // A read error does not mean that the checkpoint is damaged; continuing from an older step would lose its
            // work.
            Err(error) => Err(error),
        };
        let mut found = None;
        for step in self.steps()?.into_iter().rev() {
            found = check(step)?;
            if found.is_some() {
                break;
            }
        }
        let newest = found.as_ref().map(|checkpoint| checkpoint.step);
        if let Some(shown) = self.shown().filter(|shown| newest.is_none_or(|newest| *shown < newest)) {
            check(shown)?;
        }
        damaged.sort_unstable();
        damaged.dedup();
        for (step, error) in damaged.into_iter().rev() {
            note(format!("checkpoint of step {step} is passed over: {error}"));
            let aside = self.set_damaged_aside(step, found.as_ref())?;
            note(format!("it is now {}", aside.display()));
        }
        if taal_store::is_link(&self.link()) && !taal_store::is_dir(&self.link()) {
            self.show(found.as_ref())?;
        }
        Ok(found)
    }

    /// The link `model` of the run directory.
    fn link(&self) -> PathBuf {
        self.dir.with_file_name(MODEL_DIR)
    }

    /// The step of the checkpoint that `model` links to.
    fn shown(&self) -> Option<u64> {
        let target = taal_store::resolve(&self.link()).ok()?;
        let checkpoint = target.parent()?;
        if checkpoint.parent()? != taal_store::resolve(&self.dir).ok()? {
            return None;
        }
        layout::checkpoint_step(checkpoint.file_name()?.to_str()?)
    }

    /// Links `model` to a checkpoint, or removes the link.
    fn show(&self, checkpoint: Option<&Checkpoint>) -> Result<(), TrainError> {
        match checkpoint {
            Some(checkpoint) => taal_store::publish_link(&checkpoint.model_dir(), &self.link())?,
            None => taal_store::unpublish_link(&self.link())?,
        }
        Ok(())
    }

    /// Renames a damaged checkpoint: it is not continued from, but can still be examined. `model` links to an undamaged
    /// checkpoint before and after, even if the process dies in between.
    fn set_damaged_aside(&self, step: u64, whole: Option<&Checkpoint>) -> Result<PathBuf, TrainError> {
        if self.shown() == Some(step) {
            self.show(whole)?;
        }
        Ok(taal_store::set_aside(&self.path(step), layout::DAMAGED)?)
    }

    /// Removes what a killed process left half-written. Call it only while holding the run's lock.
    ///
    /// # Errors
    ///
    /// [`TrainError::Store`] if it cannot be removed.
    pub(crate) fn clean(&self) -> Result<(), TrainError> {
        if taal_store::is_dir(&self.dir) {
            taal_store::remove_temporaries(&self.dir)?;
        }
        for step in self.steps()? {
            taal_store::remove_temporaries(&self.path(step).join(MODEL_DIR))?;
        }
        if let Some(run_dir) = self.dir.parent() {
            taal_store::remove_temporaries(run_dir)?;
        }
        Ok(())
    }

    /// Writes a checkpoint as one atomic step and reads it back.
    pub(crate) fn save(&self, snapshot: &Snapshot) -> Result<(), TrainError> {
        taal_store::create_dir_all(&self.dir)?;
        let path = self.path(snapshot.step);
        if taal_store::exists(&path) {
            // The same step of the same run has the same content: an undamaged checkpoint need not be written again,
            // and must not be lost while writing.
            if Manifest::verify(&path).is_ok() {
                return Ok(());
            }
            let others = self.steps()?.into_iter().rev().filter(|step| *step != snapshot.step);
            let whole = others.map(|step| self.open(step)).find_map(Result::ok);
            self.set_damaged_aside(snapshot.step, whole.as_ref())?;
        }
        let size_bytes = snapshot.size_bytes();
        taal_store::ensure_space(&self.dir, size_bytes.saturating_add(size_bytes / 5))?;

        let target = AtomicDir::create(&path)?;
        for (name, bytes) in &snapshot.files {
            target.write(name, bytes)?;
        }
        let manifest = Manifest::write(target.path(), snapshot.manifest.clone())?;
        // The manifest was made by reading the files back, so compare it with what was meant to be written.
        for (name, bytes) in &snapshot.files {
            let written = manifest.files.iter().find(|file| file.path == *name);
            if written.is_none_or(|file| file.blake3 != taal_store::blake3_hex(bytes)) {
                return Err(damaged(
                    &target.path().join(name),
                    "the bytes read back are not the bytes that were written",
                ));
            }
        }
        target.commit()?;
        // Older checkpoints are removed next, so this one must be intact.
        Manifest::verify(&path)?;
        Ok(())
    }

    /// Of the checkpoints up to step `saved`, removes all but the newest `keep` and those of the steps `needed`: the best, and those to be
    /// averaged. Called only when `saved` is durable.
    pub(crate) fn prune(&self, saved: u64, keep: usize, needed: &[u64]) -> Result<(), TrainError> {
        let mut steps = self.steps()?;
        steps.retain(|step| *step <= saved);
        let obsolete = steps.len().saturating_sub(keep);
        for step in steps.into_iter().take(obsolete).filter(|step| !needed.contains(step)) {
            taal_store::retire_dir(&self.path(step))?;
        }
        Ok(())
    }

    /// Renames checkpoints newer than `step` to `step-<step>.left` when a run goes back to before them. They are not
    /// continued from, but you may still want them.
    pub(crate) fn leave_after(&self, step: u64) -> Result<(), TrainError> {
        for newer in self.steps()?.into_iter().rev().take_while(|newer| *newer > step) {
            taal_store::set_aside(&self.path(newer), layout::LEFT)?;
        }
        Ok(())
    }

    /// The checkpoint of a step, verified byte for byte.
    pub(crate) fn open(&self, step: u64) -> Result<Checkpoint, TrainError> {
        Checkpoint::open(self.path(step), step)
    }
}

impl Checkpoint {
    /// The checkpoint in a directory, verified byte for byte.
    pub(crate) fn open(path: PathBuf, step: u64) -> Result<Self, TrainError> {
        let manifest = Manifest::verify(&path)?;
        Ok(Self { path, step, manifest })
    }

    /// The model directory inside.
    pub fn model_dir(&self) -> PathBuf {
        self.path.join(MODEL_DIR)
    }

    /// The running figures.
    ///
    /// # Errors
    ///
    /// [`TrainError::Checkpoint`] if train_state.json does not read.
    pub fn state(&self) -> Result<TrainState, TrainError> {
        TrainState::read(&self.path.join(STATE_FILE))
    }

    /// The hash of the tokenizer of this run.
    pub fn tokenizer_hash(&self) -> &str {
        self.extra("tokenizer_blake3")
    }

    /// The hash of the ids that it was trained and validated on; empty in checkpoints of Taal before 0.2.
    pub fn data_hash(&self) -> &str {
        self.extra("data_blake3")
    }

    /// The hash of what the task reads besides those ids; empty where there is nothing, and in checkpoints of Taal before 0.3.
    pub(crate) fn task_hash(&self) -> &str {
        self.extra("task_blake3")
    }

    /// The version of Taal that wrote it.
    pub fn version(&self) -> &str {
        self.extra("taal_version")
    }

    /// A hash of the versions of all dependencies that Taal was built from; empty if it is not known.
    pub fn lock_hash(&self) -> &str {
        self.extra("cargo_lock")
    }

    fn extra(&self, key: &str) -> &str {
        self.manifest.extra[key].as_str().unwrap_or_default()
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// [`TrainError::Tokenizer`] if it does not read.
    pub fn tokenizer(&self) -> Result<Tokenizer, TrainError> {
        Ok(Tokenizer::open(&self.model_dir().join(hugging_face::TOKENIZER_FILE))?)
    }

    /// The model, ready to continue training.
    pub(crate) fn model(
        &self,
        recipe: &Recipe,
        adapter: Option<&Adapter>,
        device: &Device,
    ) -> Result<Transformer, TrainError> {
        let model = match adapter {
            Some(adapter) => adapter.resumed(self, device)?,
            None => adapter::freeze(recipe, hugging_face::open(&self.model_dir(), device)?)?,
        };
        Ok(model.with_dropout(recipe.model.dropout()).with_exact_products(true))
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

fn optimizer_bytes(learner: &Learner) -> Result<Vec<u8>, TrainError> {
    let moments: Vec<(&str, Moment)> = learner
        .optimizer
        .moments()
        .map(|(name, moment)| (name, Moment::of(moment)))
        .collect();
    safetensors::serialize(moments, None).map_err(|error| damaged(Path::new(OPTIMIZER_FILE), error))
}

/// A moment to be written to a file. It is read from the device only when it is written, so that only one moment at a
/// time is in memory twice.
struct Moment {
    values: Tensor<1>,
    shape: [usize; 1],
}

impl Moment {
    fn of(values: &Tensor<1>) -> Self {
        Self {
            values: values.clone(),
            shape: values.dims(),
        }
    }
}

impl View for Moment {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = taal_model::parameters::to_vec(self.values.clone());
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.shape[0]
    }
}

pub(crate) fn damaged(path: &Path, detail: impl std::fmt::Display) -> TrainError {
    TrainError::Checkpoint {
        path: path.to_path_buf(),
        detail: detail.to_string(),
    }
}
