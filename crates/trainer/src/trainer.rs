//! [`Trainer`]: `taal train` as a library, for programs that may bring their own data, tokenizer and weights.

use std::path::PathBuf;

use taal_data::Dataset;
use taal_draw::Language;
use taal_kernels::DeviceSpec;
use taal_model::Transformer;
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::progress::{Progress, Silent};
use crate::recipe::{Brought, DataSource, RecipeText, resolve_own};
use crate::run::{EnergyOptions, Outcome, RunOptions};
use crate::train::train;

/// Builds and starts a run of a recipe in a run directory.
///
/// ```
/// use taal_trainer::{Outcome, RawRecipe, RecipeText, Trainer};
///
/// let mut recipe = RawRecipe::default();
/// recipe.tokenizer.kind = Some("char".to_string());
/// recipe.model.d_model = Some(16);
/// recipe.train.steps = Some(2);
/// recipe.train.block_size = Some(8);
///
/// let folder = tempfile::tempdir()?;
/// let outcome = Trainer::new(RecipeText::of("tiny", &recipe)?, folder.path().join("tiny"))
///     .texts(["a cat sat on a mat ".repeat(20)])
///     .run()?;
/// assert!(matches!(outcome, Outcome::Finished(report) if report.steps == 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is trained before `run`"]
pub struct Trainer<'a> {
    recipe: RecipeText,
    sets: Vec<String>,
    brought: Brought,
    run_dir: PathBuf,
    device: DeviceSpec,
    is_resume: bool,
    language: Language,
    energy: EnergyOptions,
    progress: Option<&'a mut dyn Progress>,
}

impl<'a> Trainer<'a> {
    /// A run of a recipe on the CPU.
    pub fn new(recipe: RecipeText, run_dir: impl Into<PathBuf>) -> Self {
        Self {
            recipe,
            sets: Vec::new(),
            brought: Brought::default(),
            run_dir: run_dir.into(),
            device: DeviceSpec::Flex,
            is_resume: false,
            language: Language::English,
            energy: EnergyOptions::default(),
            progress: None,
        }
    }

    /// Changes a value of the recipe, as `--set` does: `train.lr=3e-4`.
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.sets.push(setting.into());
        self
    }

    /// Trains on these texts. The recipe's `[data]` must not name a source then; its other keys apply.
    pub fn texts(mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        self.brought.data = Some(DataSource::Texts(texts.into()));
        self
    }

    /// Trains on these token ids, which need their [`tokenizer`](Self::tokenizer). The recipe's `[data]` must not name
    /// a source then.
    pub fn dataset(mut self, dataset: Dataset) -> Self {
        self.brought.data = Some(DataSource::Dataset(dataset.into()));
        self
    }

    /// Encodes text with this tokenizer. The recipe must not have `[tokenizer]` then.
    pub fn tokenizer(mut self, tokenizer: Tokenizer) -> Self {
        self.brought.tokenizer = Some(tokenizer.into());
        self
    }

    /// Starts from these weights, whichever device they are on. The recipe's `[model]` may only set `dropout` then.
    pub fn model(mut self, model: Transformer) -> Self {
        self.brought.model = Some(model.into());
        self
    }

    /// The device to train on.
    pub fn device(mut self, device: DeviceSpec) -> Self {
        self.device = device;
        self
    }

    /// Continues the run in the directory from its newest checkpoint, which has tokenizer and weights. Recipe and data
    /// must be the same as when it started.
    pub fn resume(mut self) -> Self {
        self.is_resume = true;
        self
    }

    /// The language of `report.html`; weights, log and figures do not depend on it.
    pub fn language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }

    /// How it is metered, its electricity, and its energy budget.
    pub fn energy(mut self, energy: EnergyOptions) -> Self {
        self.energy = energy;
        self
    }

    /// Reports progress to the caller, who may stop the run.
    pub fn progress(mut self, progress: &'a mut dyn Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Trains.
    ///
    /// # Errors
    ///
    /// As [`resolve`](crate::resolve) and [`train`]; also if the recipe names something that the program brings.
    pub fn run(self) -> Result<Outcome, TrainError> {
        let resolved = resolve_own(&self.recipe, &self.sets, self.brought)?;
        let options = RunOptions {
            run_dir: &self.run_dir,
            device: self.device,
            is_resume: self.is_resume,
            language: self.language,
            energy: self.energy,
        };
        train(
            &resolved,
            &self.recipe.text,
            &options,
            self.progress.unwrap_or(&mut Silent),
        )
    }
}
