//! [`Recipe`]: resolved from preset, recipe and `--set`, with every value checked.

mod key;
mod keys;
mod model;
mod own;
mod resolve;
mod settings;
mod text;
mod tuning;
mod typos;

use std::path::{Path, PathBuf};

use taal_data::{Columns, Dataset, Direction, Layout, LineEnds, Masking};
use taal_metrics::AnswerMetric;
use taal_model::hugging_face::Lora;
use taal_model::{Initialization, Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::health::HealthRecipe;
use crate::objective::Dpo;
use crate::optimizer::{AdamW, Muon};
use crate::precision::PrecisionChoice;
use crate::schedule::Schedule;

pub use key::Key;
pub use keys::{DamagedKind, KEYS, ObjectiveKind, OrderKind, Preset, RawRecipe, UnknownKind};
pub(crate) use model::encoder_of;
pub(crate) use own::Brought;
pub use own::Own;
pub use resolve::{Resolved, resolve, resolve_stored};
pub(crate) use resolve::{resolve_again, resolve_own};
pub(crate) use text::{differences, flat};
pub use typos::nearest_keys;

/// A larger recipe file is refused.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// The recipes that come with Taal: name and text.
const EMBEDDED: [(&str, &str); 12] = [
    ("shakespeare-char", include_str!("../../recipes/shakespeare-char.toml")),
    ("nanogpt-cpu", include_str!("../../recipes/nanogpt-cpu.toml")),
    ("dutch-bpe", include_str!("../../recipes/dutch-bpe.toml")),
    ("english-bpe", include_str!("../../recipes/english-bpe.toml")),
    ("names", include_str!("../../recipes/names.toml")),
    ("dutch-mlm", include_str!("../../recipes/dutch-mlm.toml")),
    ("english-mlm", include_str!("../../recipes/english-mlm.toml")),
    ("chat", include_str!("../../recipes/chat.toml")),
    ("chat-tldr", include_str!("../../recipes/chat-tldr.toml")),
    ("speedrun", include_str!("../../recipes/speedrun.toml")),
    ("translate-en-nl", include_str!("../../recipes/translate-en-nl.toml")),
    ("translate-nl-en", include_str!("../../recipes/translate-nl-en.toml")),
];

/// The default recipe.
pub const DEFAULT_RECIPE: &str = "shakespeare-char";

/// A complete description of a training run: no value is missing and none contradicts another.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Name: the embedded recipe's, or the file's stem.
    pub name: String,
    /// A one-line description.
    pub description: String,
    /// The seed of everything random: weights, data order, dropout, samples.
    pub seed: u64,
    /// Where text comes from.
    pub data: DataRecipe,
    /// How text becomes tokens.
    pub tokenizer: TokenizerRecipe,
    /// What is trained.
    pub model: ModelRecipe,
    /// How it is trained.
    pub train: TrainRecipe,
    /// What is done against forgetting.
    pub replay: ReplayRecipe,
    /// The adapter that is trained instead of the weights.
    pub lora: Option<Lora>,
    /// When and how it is evaluated.
    pub eval: EvalRecipe,
    /// When it is saved.
    pub checkpoint: CheckpointRecipe,
    /// What is done about bad steps.
    pub health: HealthRecipe,
    /// What it writes at the end.
    pub sample: SampleRecipe,
}

/// The standard deviation of an LSTM's initial embeddings. An LSTM has no norm that scales small embeddings up; with
/// 0.02 it predicts only the most common token for a long time (docs/log.md).
pub const LSTM_INIT_STD: f64 = 0.1;

/// Why an LSTM takes only one `train.precision`: Burn's own layers compute its products.
pub(crate) const LSTM_IS_FP32: &str = "an LSTM computes in fp32 only; use fp32";

/// Where text comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct DataRecipe {
    /// The source.
    pub source: DataSource,
    /// Share of the characters, at the end of each text, kept for validation.
    pub validation_fraction: f64,
    /// The share of the training rows from each text; by length where there is none.
    pub weights: Option<Vec<f64>>,
    /// Order of the training windows.
    pub order: OrderKind,
    /// What is done with damaged shards.
    pub damaged: DamagedKind,
    /// What is done with carriage returns; shards store this themselves.
    pub line_ends: LineEnds,
    /// The license of the text, where it is stated.
    pub license: Option<String>,
    /// The layout of conversations; `None` where it is recognized.
    pub layout: Option<Layout>,
    /// The languages of pairs.
    pub direction: Option<Direction>,
    /// The columns of conversations that have other names than their layout's.
    pub columns: Columns,
    /// The file with the chat template that writes messages; `None` for the model's own, or the plain one.
    pub chat_template: Option<PathBuf>,
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
    /// A file of examples, or a folder of them; the loss counts answers only.
    Conversations(PathBuf),
    /// An embedded set of examples by name; the loss counts answers only.
    Examples(String),
    /// Texts that the program has in memory.
    Texts(Own<Vec<String>>),
    /// Token ids that the program has in memory.
    Dataset(Own<Dataset>),
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerRecipe {
    /// An existing `tokenizer.json`.
    File(PathBuf),
    /// Trained on the training text.
    Train {
        /// Kind.
        kind: taal_tokenizer::Kind,
        /// The largest vocabulary size.
        vocab_size: usize,
        /// Special tokens, or the kind's own.
        special_tokens: Option<Vec<String>>,
        /// Unknown characters, or the kind's own rule.
        unknown: Option<UnknownKind>,
    },
    /// The tokenizer of the shards or of the model in `train.init_from`.
    Given,
    /// The tokenizer of the model in `train.init_from`, with more special tokens.
    Extended(Vec<String>),
    /// The program's.
    Own(Own<Tokenizer>),
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelRecipe {
    /// A new model. `vocab_size` is filled in once the tokenizer exists.
    New {
        /// The shape, without the final vocabulary size.
        config: Box<TransformerConfig>,
        /// How weights are initialized.
        init: Initialization,
    },
    /// The weights, shape and tokenizer of a model directory, with a fresh optimizer.
    InitFrom {
        /// The directory.
        dir: PathBuf,
        /// Dropout while training.
        dropout: f64,
        /// Blocks of an encoder that the model gets if it has none; 0 for none.
        encoder_layers: usize,
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
    /// Whether a new encoder is trained.
    pub(crate) fn gets_encoder(&self) -> bool {
        match self {
            Self::New { config, .. } => config.encoder.is_some(),
            Self::InitFrom { encoder_layers, .. } => *encoder_layers > 0,
            Self::Own { .. } => false,
        }
    }

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
    /// What is predicted.
    pub objective: Objective,
    /// Updates.
    pub steps: u64,
    /// Rows per micro-step.
    pub batch_size: usize,
    /// Tokens per row.
    pub block_size: usize,
    /// Micro-steps per update.
    pub accumulation: usize,
    /// The precision of the products of linear layers.
    pub precision: PrecisionChoice,
    /// Learning rate over time.
    pub schedule: Schedule,
    /// AdamW's constants.
    pub adamw: AdamW,
    /// Muon's constants, if it trains the matrices.
    pub muon: Option<Muon>,
    /// The share of a target's probability that is spread over the vocabulary.
    pub label_smoothing: f64,
    /// Limit of the global gradient norm.
    pub clip_norm: Option<f64>,
    /// The beginnings of the names of parameters that are not trained.
    pub freeze: Vec<String>,
    /// Evaluations without a better loss after which training stops early.
    pub patience: Option<u64>,
    /// The validation loss at which training stops, in nats per token.
    pub stop_loss: Option<f64>,
}

impl TrainRecipe {
    /// Tokens per update.
    pub(crate) fn tokens_per_step(&self) -> u64 {
        (self.batch_size * self.block_size * self.accumulation) as u64
    }
}

/// What a model learns to predict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// The next token from the ones before it.
    NextToken,
    /// Hidden tokens from both sides.
    Masked(Masking),
    /// The chosen of two answers to a prompt.
    Preference(Dpo),
}

impl Objective {
    /// How tokens are hidden, if they are.
    pub fn masking(&self) -> Option<&Masking> {
        match self {
            Self::NextToken | Self::Preference(_) => None,
            Self::Masked(masking) => Some(masking),
        }
    }
}

impl Recipe {
    /// The directory of the model that a run starts from.
    pub fn init_from(&self) -> Option<&Path> {
        match &self.model {
            ModelRecipe::InitFrom { dir, .. } => Some(dir),
            ModelRecipe::New { .. } | ModelRecipe::Own { .. } => None,
        }
    }
}

/// What is done so that a model that is trained further does not forget.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayRecipe {
    /// The old data; `None` for those of the run that this one starts from.
    pub source: Option<DataSource>,
    /// Share of the rows that are old data, at the start of the run.
    pub share: f64,
    /// Nats per token that the loss on held-out old data may rise by.
    pub budget: Option<f64>,
    /// Tokens of old data that are scored.
    pub max_tokens: u64,
}

impl ReplayRecipe {
    /// Whether a run cannot be trained without old data.
    pub(crate) fn is_used(&self) -> bool {
        self.share > 0.0 || self.budget.is_some()
    }
}

/// When and how it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvalRecipe {
    /// Steps between evaluations of the whole validation split.
    pub every: u64,
    /// Windows at a time.
    pub batch_size: usize,
    /// The largest number of tokens to score.
    pub max_tokens: Option<u64>,
    /// The metric of answers by which a checkpoint is the best; `None` for the loss.
    pub metric: Option<AnswerMetric>,
    /// Examples that are answered for it.
    pub answers: usize,
    /// The longest answer.
    pub answer_tokens: usize,
}

/// When it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRecipe {
    /// Steps between checkpoints.
    pub every: u64,
    /// How many of the newest are kept; the best one is kept as well.
    pub keep: usize,
    /// The last checkpoints whose weights are averaged for the run's model.
    pub average: Option<usize>,
    /// Whether training continues while a checkpoint is written.
    pub background: bool,
}

/// What it writes at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRecipe {
    /// Prompts.
    pub prompts: Vec<String>,
    /// Tokens per sample.
    pub max_tokens: usize,
    /// Temperature.
    pub temperature: f64,
    /// Most probable tokens to choose from.
    pub top_k: Option<usize>,
    /// Translations that a translator's search keeps in view.
    pub beam: usize,
    /// Words whose rank among the guesses for a prompt's first mask is printed.
    pub rank: Vec<String>,
}

/// Name and text of every embedded recipe.
pub fn embedded() -> impl Iterator<Item = (&'static str, &'static str)> {
    EMBEDDED.into_iter()
}

/// The text of a recipe, with its name and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeText {
    /// Name of the future run directory.
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
    /// [`TrainError::NoSuchRecipe`], or the error of reading the file.
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
