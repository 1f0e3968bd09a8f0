//! What is meant: [`Recipe`], resolved from preset, recipe and `--set`, every value checked.

mod key;
mod keys;
mod own;
mod resolve;
mod settings;
mod text;
mod typos;

use std::path::{Path, PathBuf};

use taal_data::{Dataset, LineEnds, Masking};
use taal_kernels::Precision;
use taal_model::{Initialization, Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::health::HealthRecipe;
use crate::optimizer::{AdamW, Muon};
use crate::schedule::Schedule;

pub use key::Key;
pub use keys::{DamagedKind, KEYS, ObjectiveKind, OrderKind, Preset, RawRecipe, UnknownKind};
pub(crate) use own::Brought;
pub use own::Own;
pub use resolve::{Resolved, resolve, resolve_stored};
pub(crate) use resolve::{resolve_again, resolve_own};
pub(crate) use text::{differences, flat};
pub use typos::nearest_keys;

/// A recipe file above this size is not one.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// The recipes that come with Taal: name and text.
const EMBEDDED: [(&str, &str); 6] = [
    ("shakespeare-char", include_str!("../../recipes/shakespeare-char.toml")),
    ("nanogpt-cpu", include_str!("../../recipes/nanogpt-cpu.toml")),
    ("dutch-bpe", include_str!("../../recipes/dutch-bpe.toml")),
    ("names", include_str!("../../recipes/names.toml")),
    ("dutch-mlm", include_str!("../../recipes/dutch-mlm.toml")),
    ("english-mlm", include_str!("../../recipes/english-mlm.toml")),
];

/// The recipe that trains when none is named.
pub const DEFAULT_RECIPE: &str = "shakespeare-char";

/// A training run, said completely: no value is missing, none contradicts another.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name: the embedded recipe's, or the file's stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Everything random follows from it: weights, data order, dropout, samples.
    pub seed: u64,
    /// Where text comes from.
    pub data: DataRecipe,
    /// How text becomes tokens.
    pub tokenizer: TokenizerRecipe,
    /// What is trained.
    pub model: ModelRecipe,
    /// How it is trained.
    pub train: TrainRecipe,
    /// When and how it is evaluated.
    pub eval: EvalRecipe,
    /// When it is saved.
    pub checkpoint: CheckpointRecipe,
    /// What becomes of bad steps.
    pub health: HealthRecipe,
    /// What it writes at the end.
    pub sample: SampleRecipe,
}

/// The standard deviation of an LSTM's initial embeddings: it has no norm that would make small ones large, and with 0.02 it stays
/// for long at guessing the commonest token (docs/log.md).
pub const LSTM_INIT_STD: f64 = 0.1;

/// Why an LSTM takes no `train.precision` but one: its products are Burn's own layers'.
pub(crate) const LSTM_IS_FP32: &str = "an LSTM computes in fp32 only; use fp32";

/// Where text comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct DataRecipe {
    /// The source.
    pub source: DataSource,
    /// Share of the characters, at the end of each text, kept for validation.
    pub validation_fraction: f64,
    /// Order of the training windows.
    pub order: OrderKind,
    /// What becomes of damaged shards.
    pub damaged: DamagedKind,
    /// What becomes of carriage returns; shards say it themselves.
    pub line_ends: LineEnds,
}

/// The places that training data can come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataSource {
    /// An embedded corpus by name.
    Corpus(String),
    /// Text files or folders.
    Files(Vec<PathBuf>),
    /// A folder that `taal data build` made.
    Shards(PathBuf),
    /// A JSONL file of `prompt` and `completion`; the loss counts on completions only.
    Conversations(PathBuf),
    /// Texts that the program has in memory.
    Texts(Own<Vec<String>>),
    /// Token ids that the program has in memory.
    Dataset(Own<Dataset>),
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerRecipe {
    /// A `tokenizer.json` that is there already.
    File(PathBuf),
    /// Trained on the training text.
    Train {
        /// Kind.
        kind: taal_tokenizer::Kind,
        /// Most tokens it may have.
        vocab_size: usize,
        /// Special tokens, or the kind's own.
        special_tokens: Option<Vec<String>>,
        /// Unknown characters, or the kind's own rule.
        unknown: Option<UnknownKind>,
    },
    /// It comes with the shards or with the model of `train.init_from`.
    Given,
    /// The program's.
    Own(Own<Tokenizer>),
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelRecipe {
    /// A new model. `vocab_size` is filled in when the tokenizer is there.
    New {
        /// Shape, its vocabulary still open.
        config: Box<TransformerConfig>,
        /// How weights are drawn.
        init: Initialization,
    },
    /// The weights, shape and tokenizer of a model directory, with a fresh optimizer.
    InitFrom {
        /// The directory.
        dir: PathBuf,
        /// Dropout while training.
        dropout: f64,
    },
    /// The program's, with a fresh optimizer.
    Own {
        /// The model.
        model: Own<Transformer>,
        /// Dropout while training.
        dropout: f64,
    },
}

impl ModelRecipe {
    /// Dropout while training.
    pub fn dropout(&self) -> f64 {
        match self {
            Self::New { config, .. } => config.dropout,
            Self::InitFrom { dropout, .. } | Self::Own { dropout, .. } => *dropout,
        }
    }
}

/// How it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRecipe {
    /// What is guessed.
    pub objective: Objective,
    /// Updates.
    pub steps: u64,
    /// Rows a micro-step.
    pub batch_size: usize,
    /// Tokens a row.
    pub block_size: usize,
    /// Micro-steps an update.
    pub accumulation: usize,
    /// What the products of linear layers are computed in.
    pub precision: Precision,
    /// Learning rate over time.
    pub schedule: Schedule,
    /// AdamW's constants.
    pub adamw: AdamW,
    /// Muon's, where it trains the matrices.
    pub muon: Option<Muon>,
    /// Limit of the global gradient norm.
    pub clip_norm: Option<f64>,
    /// Evaluations without a better loss after which training stops early.
    pub patience: Option<u64>,
}

impl TrainRecipe {
    /// Tokens of an update.
    pub(crate) fn tokens_per_step(&self) -> u64 {
        (self.batch_size * self.block_size * self.accumulation) as u64
    }
}

/// What a model learns to guess.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// The next token, from those before it.
    NextToken,
    /// Hidden tokens, from both sides.
    Masked(Masking),
}

impl Objective {
    /// How tokens are hidden, where they are.
    pub fn masking(&self) -> Option<&Masking> {
        match self {
            Self::NextToken => None,
            Self::Masked(masking) => Some(masking),
        }
    }
}

/// When and how it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalRecipe {
    /// Steps between evaluations of the whole validation split.
    pub every: u64,
    /// Windows at a time.
    pub batch_size: usize,
    /// Tokens scored at most.
    pub max_tokens: Option<u64>,
}

/// When it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecipe {
    /// Steps between checkpoints.
    pub every: u64,
    /// How many of the newest stay; the best one stays besides.
    pub keep: usize,
    /// Whether training goes on while a checkpoint is written.
    pub background: bool,
}

/// What it writes at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRecipe {
    /// Prompts.
    pub prompts: Vec<String>,
    /// Tokens a sample.
    pub max_tokens: usize,
    /// Temperature.
    pub temperature: f64,
    /// Most probable tokens to choose from.
    pub top_k: Option<usize>,
    /// Words whose rank among the guesses for a prompt's first mask is said.
    pub rank: Vec<String>,
}

/// Name and text of every embedded recipe.
pub fn embedded() -> impl Iterator<Item = (&'static str, &'static str)> {
    EMBEDDED.into_iter()
}

/// The text of a recipe, and the name and folder by which it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeText {
    /// Name of the run directory to be.
    pub name: String,
    /// Where it was found, for messages.
    pub origin: String,
    /// The TOML.
    pub text: String,
}

impl RecipeText {
    /// A recipe that the program has as TOML.
    pub fn new(name: &str, text: impl Into<String>) -> Self {
        Self {
            name: name.to_string(),
            origin: format!("recipe {name}"),
            text: text.into(),
        }
    }

    /// A recipe that the program made, key by key.
    ///
    /// # Errors
    ///
    /// [`TrainError::Recipe`] for a number that TOML cannot hold.
    pub fn of(name: &str, recipe: &RawRecipe) -> Result<Self, TrainError> {
        let text = toml::to_string(recipe).map_err(|error| TrainError::recipe(name, "TOML", error.to_string()))?;
        Ok(Self::new(name, text))
    }

    /// Finds a recipe by embedded name or by file.
    ///
    /// # Errors
    ///
    /// [`TrainError::NoSuchRecipe`], or whatever reading the file gives.
    pub fn find(name: &str) -> Result<Self, TrainError> {
        if let Some((name, text)) = embedded().find(|(known, _)| *known == name) {
            let origin = format!("recipe {name}");
            return Ok(Self {
                name: name.to_string(),
                origin,
                text: text.to_string(),
            });
        }
        let path = Path::new(name);
        let looks_like_file = name.ends_with(".toml") || name.contains('/') || taal_store::exists(path);
        if !looks_like_file {
            let names = EMBEDDED.map(|(name, _)| name);
            let meant = names
                .into_iter()
                .find(|known| strsim::jaro_winkler(known, name) > 0.9 || known.starts_with(name));
            return Err(TrainError::NoSuchRecipe {
                name: name.to_string(),
                embedded: names.join(", "),
                meant: meant.filter(|_| !name.is_empty()),
            });
        }
        let text = taal_store::read_text(path, MAX_RECIPE_BYTES)?;
        let stem = path
            .file_stem()
            .map_or("recipe".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: stem,
            origin: name.to_string(),
            text,
        })
    }
}
