//! What is meant: [`Recipe`], resolved from preset, recipe and `--set`, every value checked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use taal_data::{LineEnds, Masking};
use taal_kernels::Precision;
use taal_model::{Initialisation, NormPlace, TransformerConfig};
use toml::{Table, Value};

use crate::TrainError;
use crate::health::HealthRecipe;
use crate::optimizer::{AdamW, Muon, OptimizerKind};
use crate::raw::{
    DamagedKind, ObjectiveKind, OrderKind, Preset, RawHealth, RawMasking, RawModel, RawRecipe, RawTrain, UnknownKind,
};
use crate::schedule::{Schedule, ScheduleKind};
use crate::settings;

/// A recipe file above this size is not one.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// A longer name is a text.
const MAX_NAME_BYTES: usize = 200;

/// The recipes that come with Taal: name and text.
const EMBEDDED: [(&str, &str); 6] = [
    ("shakespeare-char", include_str!("../recipes/shakespeare-char.toml")),
    ("nanogpt-cpu", include_str!("../recipes/nanogpt-cpu.toml")),
    ("dutch-bpe", include_str!("../recipes/dutch-bpe.toml")),
    ("names", include_str!("../recipes/names.toml")),
    ("dutch-mlm", include_str!("../recipes/dutch-mlm.toml")),
    ("english-mlm", include_str!("../recipes/english-mlm.toml")),
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
pub(crate) const LSTM_INIT_STD: f64 = 0.1;

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

/// The four places that training data can come from.
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
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelRecipe {
    /// A new model. `vocab_size` is filled in when the tokenizer is there.
    New {
        /// Shape, its vocabulary still open.
        config: Box<TransformerConfig>,
        /// How weights are drawn.
        init: Initialisation,
    },
    /// The weights, shape and tokenizer of a model directory, with a fresh optimizer.
    InitFrom {
        /// The directory.
        dir: PathBuf,
        /// Dropout while training.
        dropout: f64,
    },
}

impl ModelRecipe {
    /// Dropout while training.
    pub fn dropout(&self) -> f64 {
        match self {
            Self::New { config, .. } => config.dropout,
            Self::InitFrom { dropout, .. } => *dropout,
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
            let embedded = EMBEDDED.map(|(name, _)| name).join(", ");
            return Err(TrainError::NoSuchRecipe {
                name: name.to_string(),
                embedded,
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

/// A resolved recipe with where each value came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// `recipe.resolved.toml`: every value, each with its source as a comment. Reading it as a recipe gives
    /// the same [`Recipe`] again.
    pub text: String,
    /// The embedded recipe's name or the file's stem, by which runs are named and found again.
    pub source_name: String,
    /// What gave way to a setting, in sentences.
    pub notes: Vec<String>,
    /// Nobody wrote `train.warmup_steps`: it follows from `train.steps`.
    pub(crate) has_derived_warmup: bool,
    /// Nobody wrote `data.line_ends`.
    pub(crate) has_default_line_ends: bool,
}

impl Resolved {
    /// The same with the warm-up that a run was begun with: the rate of its first steps must not change because there are more steps.
    pub(crate) fn with_warmup(mut self, steps: u64) -> Self {
        let line = |steps: u64| format!("\nwarmup_steps = {steps} # ");
        let schedule = &mut self.recipe.train.schedule;
        let derived = format!("{}default", line(schedule.warmup_steps));
        self.text = self.text.replacen(&derived, &format!("{}kept", line(steps)), 1);
        schedule.warmup_steps = steps;
        self
    }

    /// The same with what a run was begun with becoming of line ends: its text must stay the same.
    pub(crate) fn with_line_ends(mut self, line_ends: LineEnds) -> Self {
        let line = |line_ends: LineEnds| format!("\nline_ends = \"{line_ends}\" # ");
        let default = format!("{}default", line(self.recipe.data.line_ends));
        self.text = self.text.replacen(&default, &format!("{}kept", line(line_ends)), 1);
        self.recipe.data.line_ends = line_ends;
        self
    }
}

/// Resolves a recipe's text with settings `key=value` on top: default < preset < recipe < `--set`. What the recipe says against a
/// setting gives way to it, with a note.
///
/// # Errors
///
/// [`TrainError::Recipe`] names the key, what was expected and what was found.
pub fn resolve(source: &RecipeText, sets: &[String]) -> Result<Resolved, TrainError> {
    resolve_as(source, sets, Source::Typed)
}

/// Resolves what [`stored_recipe`](crate::stored_recipe) gives, with settings on top: what a run was begun with stays, also a warm-up
/// that is longer than the steps that a setting leaves.
///
/// # Errors
///
/// As [`resolve`].
pub fn resolve_stored(source: &RecipeText, sets: &[String]) -> Result<Resolved, TrainError> {
    resolve_as(source, sets, Source::Stored)
}

/// Who wrote a recipe's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A person.
    Typed,
    /// A run, as `recipe.resolved.toml`.
    Stored,
}

fn resolve_as(source: &RecipeText, sets: &[String], kind: Source) -> Result<Resolved, TrainError> {
    let mut typed: Table = source
        .text
        .parse()
        .map_err(|error: toml::de::Error| TrainError::recipe(&source.origin, "TOML", error.to_string().trim_end()))?;
    parse(&typed, &source.origin)?;
    let set_table = settings::table(sets)?;
    parse(&set_table, "--set")?;
    let notes = match kind {
        Source::Typed => settings::give_way(&mut typed, &set_table),
        Source::Stored => Vec::new(),
    };
    let mut merged = typed.clone();
    settings::merge(&mut merged, &set_table);
    let raw = parse(&merged, &source.origin)?;
    let recipe = Resolver {
        origin: &source.origin,
        raw: &raw,
        sets: &set_table,
        kind,
    }
    .recipe(&source.name)?;
    let text = resolved_text(&recipe, &raw, &typed, &set_table);
    Ok(Resolved {
        recipe,
        text,
        source_name: source.name.clone(),
        has_derived_warmup: raw.train.warmup_steps.is_none(),
        has_default_line_ends: raw.data.line_ends.is_none(),
        notes,
    })
}

fn parse(table: &Table, origin: &str) -> Result<RawRecipe, TrainError> {
    if let Some((section, detail)) = settings::wrong_section(table) {
        return Err(TrainError::recipe(origin, section, detail));
    }
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let path = error.path().to_string();
        let mut detail = error.inner().to_string();
        // toml repeats the key on a line of its own; the path says it already.
        detail = settings::in_words(detail.lines().next().unwrap_or_default());
        // The parser calls whatever stands where a word was expected so.
        if let Some(value) = settings::get(table, &path) {
            detail = detail.replace("unit variant", &settings::shortened(&value.to_string()));
        }
        TrainError::recipe(origin, &path, detail)
    })
}

/// From typed to meant.
struct Resolver<'a> {
    origin: &'a str,
    raw: &'a RawRecipe,
    sets: &'a Table,
    kind: Source,
}

impl Resolver<'_> {
    fn error(&self, key: &str, detail: impl Into<String>) -> TrainError {
        let is_set = settings::get(self.sets, key).is_some();
        TrainError::recipe(if is_set { "--set" } else { self.origin }, key, detail)
    }

    /// A whole number inside a range.
    fn whole<N: Copy + PartialOrd + std::fmt::Display>(
        &self,
        key: &str,
        value: N,
        range: std::ops::RangeInclusive<N>,
    ) -> Result<N, TrainError> {
        if range.contains(&value) {
            return Ok(value);
        }
        Err(self.error(
            key,
            format!("expected {}..={}, got {value}", range.start(), range.end()),
        ))
    }

    /// A finite number that satisfies a condition, said in words.
    fn number(&self, key: &str, value: f64, words: &str, holds: impl Fn(f64) -> bool) -> Result<f64, TrainError> {
        if value.is_finite() && holds(value) {
            return Ok(value);
        }
        Err(self.error(key, format!("expected {words}, got {value}")))
    }

    fn recipe(&self, name: &str) -> Result<Recipe, TrainError> {
        let train = self.train()?;
        let data = self.data()?;
        Ok(Recipe {
            name: self.name(self.raw.name.as_deref().unwrap_or(name))?,
            description: self.raw.description.clone().unwrap_or_default(),
            seed: self.raw.seed.unwrap_or(1337),
            tokenizer: self.tokenizer(&data)?,
            data,
            model: self.model(train.block_size)?,
            eval: EvalRecipe {
                every: self.whole("eval.every", self.raw.eval.every.unwrap_or(250), 1..=u64::MAX)?,
                batch_size: self.whole(
                    "eval.batch_size",
                    self.raw.eval.batch_size.unwrap_or(train.batch_size.max(8)),
                    1..=4096,
                )?,
                max_tokens: self
                    .raw
                    .eval
                    .max_tokens
                    .map(|tokens| self.whole("eval.max_tokens", tokens, 2..=u64::MAX))
                    .transpose()?,
            },
            train,
            checkpoint: CheckpointRecipe {
                every: self.whole(
                    "checkpoint.every",
                    self.raw.checkpoint.every.unwrap_or(500),
                    1..=u64::MAX,
                )?,
                keep: self.whole("checkpoint.keep", self.raw.checkpoint.keep.unwrap_or(2), 1..=10_000)?,
                background: self.raw.checkpoint.background.unwrap_or(true),
            },
            health: self.health()?,
            sample: self.sample()?,
        })
    }

    /// The name stands in a comment of the resolved recipe, which a line end would end and a control character make unreadable.
    fn name(&self, name: &str) -> Result<String, TrainError> {
        let is_line = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        if is_line {
            return Ok(name.to_string());
        }
        let expected = format!("expected one line of at most {MAX_NAME_BYTES} bytes without control characters");
        let shown: String = name.chars().take(40).collect();
        Err(self.error("name", format!("{expected}, got {shown:?}")))
    }

    fn data(&self) -> Result<DataRecipe, TrainError> {
        let raw = &self.raw.data;
        let mut sources = Vec::new();
        sources.extend(raw.corpus.clone().map(DataSource::Corpus));
        sources.extend(raw.files.clone().map(DataSource::Files));
        sources.extend(raw.shards.clone().map(DataSource::Shards));
        sources.extend(raw.conversations.clone().map(DataSource::Conversations));
        let [source] = <[DataSource; 1]>::try_from(sources).map_err(|sources| {
            let detail = "expected exactly one of data.corpus, data.files, data.shards and data.conversations";
            self.error("data", format!("{detail}, got {}", sources.len()))
        })?;
        match &source {
            DataSource::Corpus(name) if taal_data::corpus(name).is_none() => {
                let known: Vec<_> = taal_data::corpora().iter().map(|corpus| corpus.name).collect();
                return Err(self.error(
                    "data.corpus",
                    format!("expected one of {}, got \"{name}\"", known.join(", ")),
                ));
            }
            DataSource::Files(files) if files.is_empty() => {
                return Err(self.error("data.files", "expected at least one file or folder, got none"));
            }
            _ => {}
        }
        Ok(DataRecipe {
            source,
            validation_fraction: self.number(
                "data.validation_fraction",
                raw.validation_fraction.unwrap_or(0.1),
                "a number in [0, 0.9]",
                |x| (0.0..=0.9).contains(&x),
            )?,
            order: raw.order.unwrap_or(OrderKind::Shuffled),
            damaged: raw.damaged.unwrap_or(DamagedKind::Stop),
            line_ends: raw.line_ends.unwrap_or(match self.kind {
                Source::Typed => LineEnds::Lf,
                // A run from before the key kept them.
                Source::Stored => LineEnds::Keep,
            }),
        })
    }

    fn tokenizer(&self, data: &DataRecipe) -> Result<TokenizerRecipe, TrainError> {
        let raw = &self.raw.tokenizer;
        let giver = match (&self.raw.train.init_from, &data.source) {
            (Some(_), _) => Some("train.init_from"),
            (None, DataSource::Shards(_)) => Some("data.shards"),
            _ => None,
        };
        let is_said = raw.kind.is_some()
            || raw.vocab_size.is_some()
            || raw.file.is_some()
            || raw.special_tokens.is_some()
            || raw.unknown.is_some();
        if let Some(giver) = giver {
            if is_said {
                return Err(self.error(
                    "tokenizer",
                    format!("{giver} brings its own tokenizer; leave this section out"),
                ));
            }
            return Ok(TokenizerRecipe::Given);
        }
        if let Some(file) = &raw.file {
            if raw.kind.is_some() || raw.vocab_size.is_some() {
                let detail =
                    "a tokenizer that is there already has its kind and size; leave tokenizer.kind and vocab_size out";
                return Err(self.error("tokenizer.file", detail));
            }
            return Ok(TokenizerRecipe::File(file.clone()));
        }
        let kind = raw.kind.as_deref().unwrap_or("bpe");
        let kind: taal_tokenizer::Kind = kind.parse().map_err(|_| {
            self.error(
                "tokenizer.kind",
                format!("expected bpe, wordpiece, unigram, char or word, got \"{kind}\""),
            )
        })?;
        Ok(TokenizerRecipe::Train {
            kind,
            vocab_size: self.whole("tokenizer.vocab_size", raw.vocab_size.unwrap_or(4096), 2..=1_000_000)?,
            special_tokens: raw.special_tokens.clone(),
            unknown: raw.unknown,
        })
    }

    fn model(&self, block_size: usize) -> Result<ModelRecipe, TrainError> {
        let raw = &self.raw.model;
        let dropout = self.number("model.dropout", raw.dropout.unwrap_or(0.0), "a number in [0, 1)", |x| {
            (0.0..1.0).contains(&x)
        })?;
        if let Some(dir) = &self.raw.train.init_from {
            let rest = RawModel {
                dropout: None,
                ..raw.clone()
            };
            if rest != RawModel::default() {
                let detail = "train.init_from brings the model's shape; only model.dropout may be set beside it";
                return Err(self.error("model", detail));
            }
            return Ok(ModelRecipe::InitFrom {
                dir: dir.clone(),
                dropout,
            });
        }
        let config = self.model_config(block_size, dropout)?;
        if block_size > config.max_seq_len {
            return Err(self.error(
                "train.block_size",
                format!(
                    "{block_size} tokens do not fit model.max_seq_len = {}",
                    config.max_seq_len
                ),
            ));
        }
        let std = self.number(
            "model.init_std",
            raw.init_std.unwrap_or(match raw.preset {
                Some(Preset::Lstm) => LSTM_INIT_STD,
                _ => 0.02,
            }),
            "a number in (0, 10]",
            |x| x > 0.0 && x <= 10.0,
        )?;
        let residual_std = raw
            .residual_std
            .map(|std| {
                self.number("model.residual_std", std, "a number in [0, 10]", |x| {
                    (0.0..=10.0).contains(&x)
                })
            })
            .transpose()?;
        Ok(ModelRecipe::New {
            config: Box::new(config),
            init: Initialisation { std, residual_std },
        })
    }

    fn model_config(&self, block_size: usize, dropout: f64) -> Result<TransformerConfig, TrainError> {
        let raw = &self.raw.model;
        let n_heads = raw.n_heads.unwrap_or(4);
        let d_model = raw.d_model.unwrap_or(128);
        let has_heads = raw.preset != Some(Preset::Lstm);
        if has_heads && raw.head_dim.is_none() && (n_heads == 0 || !d_model.is_multiple_of(n_heads)) {
            return Err(self.error(
                "model.n_heads",
                format!("expected a divisor of model.d_model = {d_model} (or a model.head_dim), got {n_heads}"),
            ));
        }
        let preset = match raw.preset.unwrap_or(Preset::Llama) {
            Preset::Gpt2 => TransformerConfig::gpt2,
            Preset::Nanogpt => TransformerConfig::nanogpt,
            Preset::Llama => TransformerConfig::llama,
            Preset::Qwen3 => TransformerConfig::qwen3,
            Preset::Bert => TransformerConfig::bert,
            Preset::Encoder => encoder,
            Preset::Lstm => lstm,
        };
        let is_masked = self.raw.train.objective == Some(ObjectiveKind::Masked);
        if !is_masked && matches!(raw.preset, Some(Preset::Bert | Preset::Encoder)) {
            return Err(self.error(
                "model.preset",
                "this shape sees both sides, so the next token would be no riddle; set train.objective = \"masked\"",
            ));
        }
        // The vocabulary is filled in when the tokenizer is there; 1 keeps the checks below meaningful.
        let base = preset(
            1,
            raw.max_seq_len.unwrap_or(block_size),
            raw.n_layers.unwrap_or(4),
            n_heads,
            d_model,
        );
        let norm_place = raw.norm_place.unwrap_or(base.norm_place);
        let embedding_norm = raw.embedding_norm.unwrap_or(base.embedding_norm);
        let config = TransformerConfig {
            n_kv_heads: raw.n_kv_heads.unwrap_or(base.n_kv_heads),
            head_dim: raw.head_dim.unwrap_or(base.head_dim),
            d_ff: raw.d_ff.unwrap_or(base.d_ff),
            position: raw.position.unwrap_or(base.position),
            rope_theta: raw.rope_theta.unwrap_or(base.rope_theta),
            local_rope_theta: raw.local_rope_theta.or(base.local_rope_theta),
            norm: raw.norm.unwrap_or(base.norm),
            norm_place,
            norm_eps: raw.norm_eps.unwrap_or(base.norm_eps),
            norm_bias: raw.norm_bias.unwrap_or(base.norm_bias),
            embedding_norm,
            // What the embeddings' norm stands in for is there without it.
            skip_first_norm: base.skip_first_norm && embedding_norm && norm_place == NormPlace::Pre,
            activation: raw.activation.unwrap_or(base.activation),
            qkv_bias: raw.qkv_bias.unwrap_or(base.qkv_bias),
            attention_output_bias: raw.attention_output_bias.unwrap_or(base.attention_output_bias),
            ffn_bias: raw.ffn_bias.unwrap_or(base.ffn_bias),
            qk_norm: raw.qk_norm.unwrap_or(base.qk_norm),
            tie_embeddings: raw.tie_embeddings.unwrap_or(base.tie_embeddings),
            window: raw.window.or(base.window),
            global_every: raw.global_every.or(base.global_every),
            attention_softcap: raw.attention_softcap.or(base.attention_softcap),
            logit_softcap: raw.logit_softcap.or(base.logit_softcap),
            is_causal: !is_masked,
            dropout,
            ..base
        };
        config.validate().map_err(|error| match error {
            taal_model::ModelError::Config { field, detail } => self.error(&format!("model.{field}"), detail),
            other => self.error("model", other.to_string()),
        })?;
        Ok(config)
    }

    fn train(&self) -> Result<TrainRecipe, TrainError> {
        let raw = &self.raw.train;
        let steps = self.whole("train.steps", raw.steps.unwrap_or(2000), 1..=1_000_000_000)?;
        let warmup_steps = raw.warmup_steps.unwrap_or_else(|| 100.min(steps / 10));
        let longest_warmup = match self.kind {
            Source::Typed => steps,
            // A run that ends earlier than it was begun for ends inside its warm-up.
            Source::Stored => u64::MAX,
        };
        let defaults = AdamW::default();
        let lr = self.number("train.lr", raw.lr.unwrap_or(defaults.lr), "a number in (0, 10]", |x| {
            x > 0.0 && x <= 10.0
        })?;
        Ok(TrainRecipe {
            objective: self.objective()?,
            steps,
            batch_size: self.whole("train.batch_size", raw.batch_size.unwrap_or(12), 1..=4096)?,
            block_size: self.whole("train.block_size", raw.block_size.unwrap_or(64), 1..=1_048_576)?,
            accumulation: self.whole("train.accumulation", raw.accumulation.unwrap_or(1), 1..=65_536)?,
            precision: self.precision()?,
            schedule: Schedule {
                kind: raw.schedule.unwrap_or(ScheduleKind::Cosine),
                lr,
                min_lr: self.number(
                    "train.min_lr",
                    raw.min_lr.unwrap_or(lr / 10.0),
                    "a number in [0, train.lr]",
                    |x| (0.0..=lr).contains(&x),
                )?,
                warmup_steps: self.whole("train.warmup_steps", warmup_steps, 0..=longest_warmup)?,
                steps,
                decay_fraction: self.number(
                    "train.decay_fraction",
                    raw.decay_fraction.unwrap_or(0.2),
                    "a number in (0, 1]",
                    |x| x > 0.0 && x <= 1.0,
                )?,
            },
            adamw: self.adamw(raw, lr, defaults)?,
            muon: self.muon(raw)?,
            clip_norm: raw
                .clip_norm
                .map(|norm| self.number("train.clip_norm", norm, "a number above 0", |x| x > 0.0))
                .transpose()?,
            patience: raw
                .patience
                .map(|n| self.whole("train.patience", n, 1..=u64::MAX))
                .transpose()?,
        })
    }

    fn precision(&self) -> Result<Precision, TrainError> {
        let Some(given) = &self.raw.train.precision else {
            return Ok(Precision::default());
        };
        let precision = given.parse().map_err(|_| {
            let detail = format!("expected fp32, bf16 or f16, got \"{given}\"");
            self.error("train.precision", detail)
        })?;
        if precision != Precision::Fp32 && self.raw.model.preset == Some(Preset::Lstm) {
            return Err(self.error("train.precision", LSTM_IS_FP32));
        }
        Ok(precision)
    }

    fn objective(&self) -> Result<Objective, TrainError> {
        let raw = &self.raw.masking;
        let defaults = Masking::default();
        let share = |key, value| self.number(key, value, "a number in [0, 1]", |x| (0.0..=1.0).contains(&x));
        let masking = Masking {
            fraction: self.number(
                "masking.fraction",
                raw.fraction.unwrap_or(defaults.fraction),
                "a number in (0, 0.9]",
                |x| x > 0.0 && x <= 0.9,
            )?,
            unit: raw.unit.unwrap_or(defaults.unit),
            masked: share("masking.masked", raw.masked.unwrap_or(defaults.masked))?,
            random: share("masking.random", raw.random.unwrap_or(defaults.random))?,
        };
        if masking.masked + masking.random > 1.0 {
            return Err(self.error(
                "masking.random",
                format!(
                    "expected at most 1 - masking.masked = {}, got {}",
                    1.0 - masking.masked,
                    masking.random
                ),
            ));
        }
        if self.raw.train.objective.unwrap_or(ObjectiveKind::NextToken) == ObjectiveKind::NextToken {
            if *raw != RawMasking::default() {
                return Err(self.error(
                    "masking",
                    "it has no effect with train.objective = \"next_token\"; set train.objective = \"masked\" or leave it out",
                ));
            }
            return Ok(Objective::NextToken);
        }
        Ok(Objective::Masked(masking))
    }

    fn adamw(&self, raw: &RawTrain, lr: f64, defaults: AdamW) -> Result<AdamW, TrainError> {
        let beta = |key, value| self.number(key, value, "a number in [0, 1)", |x| (0.0..1.0).contains(&x));
        Ok(AdamW {
            lr,
            beta1: beta("train.beta1", raw.beta1.unwrap_or(defaults.beta1))?,
            beta2: beta("train.beta2", raw.beta2.unwrap_or(defaults.beta2))?,
            eps: self.number("train.eps", raw.eps.unwrap_or(defaults.eps), "a number above 0", |x| {
                x > 0.0
            })?,
            weight_decay: self.number(
                "train.weight_decay",
                raw.weight_decay.unwrap_or(defaults.weight_decay),
                "a number in [0, 10]",
                |x| (0.0..=10.0).contains(&x),
            )?,
        })
    }

    fn muon(&self, raw: &RawTrain) -> Result<Option<Muon>, TrainError> {
        if raw.optimizer.unwrap_or(OptimizerKind::AdamW) == OptimizerKind::AdamW {
            let strays = [
                ("muon_lr", raw.muon_lr),
                ("muon_momentum", raw.muon_momentum),
                ("muon_weight_decay", raw.muon_weight_decay),
            ];
            return match strays.into_iter().find(|(_, value)| value.is_some()) {
                Some((key, _)) => Err(self.error(
                    &format!("train.{key}"),
                    "it has no effect with train.optimizer = \"adamw\"; set train.optimizer = \"muon\" or leave it out",
                )),
                None => Ok(None),
            };
        }
        let defaults = Muon::default();
        Ok(Some(Muon {
            lr: self.number(
                "train.muon_lr",
                raw.muon_lr.unwrap_or(defaults.lr),
                "a number in (0, 10]",
                |x| x > 0.0 && x <= 10.0,
            )?,
            momentum: self.number(
                "train.muon_momentum",
                raw.muon_momentum.unwrap_or(defaults.momentum),
                "a number in [0, 1)",
                |x| (0.0..1.0).contains(&x),
            )?,
            weight_decay: self.number(
                "train.muon_weight_decay",
                raw.muon_weight_decay.unwrap_or(defaults.weight_decay),
                "a number in [0, 10]",
                |x| (0.0..=10.0).contains(&x),
            )?,
            ..defaults
        }))
    }

    fn health(&self) -> Result<HealthRecipe, TrainError> {
        let raw = &self.raw.health;
        let sigma = self.number(
            "health.spike_sigma",
            raw.spike_sigma.unwrap_or(6.0),
            "0 (no spikes) or a number from 1 to 1000",
            |x| x == 0.0 || (1.0..=1000.0).contains(&x),
        )?;
        Ok(HealthRecipe {
            spike_sigma: (sigma > 0.0).then_some(sigma),
            spike_window: self.whole("health.spike_window", raw.spike_window.unwrap_or(128), 2..=100_000)?,
            max_skips: self.whole("health.max_skips", raw.max_skips.unwrap_or(3), 1..=1000)?,
            rewinds: self.whole("health.rewinds", raw.rewinds.unwrap_or(2), 0..=1000)?,
        })
    }

    fn sample(&self) -> Result<SampleRecipe, TrainError> {
        let raw = &self.raw.sample;
        Ok(SampleRecipe {
            prompts: raw.prompts.clone().unwrap_or_default(),
            max_tokens: self.whole("sample.max_tokens", raw.max_tokens.unwrap_or(200), 0..=1_000_000)?,
            temperature: self.number(
                "sample.temperature",
                raw.temperature.unwrap_or(0.8),
                "a number in [0, 100]",
                |x| (0.0..=100.0).contains(&x),
            )?,
            top_k: raw
                .top_k
                .map(|k| self.whole("sample.top_k", k, 1..=1_000_000))
                .transpose()?,
            rank: raw.rank.clone().unwrap_or_default(),
        })
    }
}

/// A modern encoder (ModernBERT, Warner et al. 2024) for short texts: every block sees everything, with LLaMA's rotary angles.
fn encoder(
    vocab_size: usize,
    max_seq_len: usize,
    n_layers: usize,
    n_heads: usize,
    d_model: usize,
) -> TransformerConfig {
    TransformerConfig {
        rope_theta: 10_000.0,
        local_rope_theta: None,
        window: None,
        global_every: None,
        ..TransformerConfig::modernbert(vocab_size, max_seq_len, n_layers, n_heads, d_model)
    }
}

/// Every value as TOML with its source as a comment.
fn resolved_text(recipe: &Recipe, raw: &RawRecipe, typed: &Table, sets: &Table) -> String {
    let table = Table::try_from(recipe.to_raw(raw)).unwrap_or_default();
    let mut text = format!("# Recipe {}: every value, with where it came from.\n", recipe.name);
    let source = |path: &[&str]| match () {
        () if lookup(sets, path) => "--set",
        () if lookup(typed, path) => "recipe",
        () if path[0] == "model" => "preset",
        () => "default",
    };
    // Writing to a string cannot fail. Plain keys stand before sections, as TOML demands.
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
        let _ = writeln!(text, "{key} = {value} # {}", source(&[key]));
    }
    for (section, inner) in table.iter().filter_map(|(key, value)| Some((key, value.as_table()?))) {
        if !inner.is_empty() {
            let _ = writeln!(text, "\n[{section}]");
        }
        for (key, value) in inner {
            let _ = writeln!(text, "{key} = {value} # {}", source(&[section, key]));
        }
    }
    text
}

/// The keys in which two recipes differ, with both values; `none` where a key is not there.
pub(crate) fn differences(before: &Resolved, now: &Resolved) -> Vec<(String, String, String)> {
    let [before, now] = [before, now].map(|resolved| flat(&resolved.text));
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let shown = |values: &BTreeMap<String, Value>, key| values.get(key).map_or("none".to_string(), Value::to_string);
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| (key.clone(), shown(&before, key), shown(&now, key)))
        .collect()
}

fn flat(text: &str) -> BTreeMap<String, Value> {
    let table: Table = text.parse().unwrap_or_default();
    let mut values = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                values.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)))
            }
            value => {
                values.insert(key, value);
            }
        }
    }
    values
}

fn lookup(table: &Table, path: &[&str]) -> bool {
    match path {
        [key] => table.contains_key(*key),
        [section, rest @ ..] => table
            .get(*section)
            .and_then(Value::as_table)
            .is_some_and(|inner| lookup(inner, rest)),
        [] => false,
    }
}

impl Recipe {
    /// The recipe as it would be typed with nothing left out.
    fn to_raw(&self, typed: &RawRecipe) -> RawRecipe {
        let mut raw = typed.clone();
        raw.name = Some(self.name.clone());
        raw.description = Some(self.description.clone());
        raw.seed = Some(self.seed);
        raw.data.validation_fraction = Some(self.data.validation_fraction);
        raw.data.order = Some(self.data.order);
        raw.data.damaged = Some(self.data.damaged);
        raw.data.line_ends = Some(self.data.line_ends);
        if let TokenizerRecipe::Train { kind, vocab_size, .. } = &self.tokenizer {
            raw.tokenizer.kind = Some(kind.to_string());
            raw.tokenizer.vocab_size = Some(*vocab_size);
        }
        match &self.model {
            ModelRecipe::New { config, init } => fill_model(&mut raw.model, config, *init),
            ModelRecipe::InitFrom { dropout, .. } => raw.model.dropout = Some(*dropout),
        }
        let t = &self.train;
        if let Objective::Masked(masking) = &t.objective {
            raw.masking = RawMasking {
                fraction: Some(masking.fraction),
                unit: Some(masking.unit),
                masked: Some(masking.masked),
                random: Some(masking.random),
            };
        }
        raw.train = RawTrain {
            init_from: typed.train.init_from.clone(),
            objective: Some(match t.objective {
                Objective::NextToken => ObjectiveKind::NextToken,
                Objective::Masked(_) => ObjectiveKind::Masked,
            }),
            steps: Some(t.steps),
            batch_size: Some(t.batch_size),
            block_size: Some(t.block_size),
            accumulation: Some(t.accumulation),
            precision: Some(t.precision.to_string()),
            schedule: Some(t.schedule.kind),
            lr: Some(t.schedule.lr),
            min_lr: Some(t.schedule.min_lr),
            warmup_steps: Some(t.schedule.warmup_steps),
            decay_fraction: Some(t.schedule.decay_fraction),
            optimizer: Some(if t.muon.is_some() {
                OptimizerKind::Muon
            } else {
                OptimizerKind::AdamW
            }),
            beta1: Some(t.adamw.beta1),
            beta2: Some(t.adamw.beta2),
            eps: Some(t.adamw.eps),
            weight_decay: Some(t.adamw.weight_decay),
            clip_norm: t.clip_norm,
            muon_lr: t.muon.map(|muon| muon.lr),
            muon_momentum: t.muon.map(|muon| muon.momentum),
            muon_weight_decay: t.muon.map(|muon| muon.weight_decay),
            patience: t.patience,
        };
        raw.eval.every = Some(self.eval.every);
        raw.eval.batch_size = Some(self.eval.batch_size);
        raw.eval.max_tokens = self.eval.max_tokens;
        raw.checkpoint.every = Some(self.checkpoint.every);
        raw.checkpoint.keep = Some(self.checkpoint.keep);
        raw.checkpoint.background = Some(self.checkpoint.background);
        raw.health = RawHealth {
            spike_sigma: Some(self.health.spike_sigma.unwrap_or(0.0)),
            spike_window: Some(self.health.spike_window),
            max_skips: Some(self.health.max_skips),
            rewinds: Some(self.health.rewinds),
        };
        raw.sample.prompts = Some(self.sample.prompts.clone());
        raw.sample.max_tokens = Some(self.sample.max_tokens);
        raw.sample.temperature = Some(self.sample.temperature);
        raw.sample.top_k = self.sample.top_k;
        raw.sample.rank = (!self.sample.rank.is_empty()).then(|| self.sample.rank.clone());
        raw
    }
}

/// An LSTM has no heads.
fn lstm(vocab_size: usize, max_seq_len: usize, n_layers: usize, _n_heads: usize, d_model: usize) -> TransformerConfig {
    TransformerConfig::lstm(vocab_size, max_seq_len, n_layers, d_model)
}

fn fill_model(raw: &mut RawModel, c: &TransformerConfig, init: Initialisation) {
    *raw = RawModel {
        preset: Some(raw.preset.unwrap_or(Preset::Llama)),
        max_seq_len: Some(c.max_seq_len),
        n_layers: Some(c.n_layers),
        n_heads: Some(c.n_heads),
        n_kv_heads: Some(c.n_kv_heads),
        head_dim: Some(c.head_dim),
        d_model: Some(c.d_model),
        d_ff: Some(c.d_ff),
        position: Some(c.position),
        rope_theta: Some(c.rope_theta),
        local_rope_theta: c.local_rope_theta,
        norm: Some(c.norm),
        norm_place: Some(c.norm_place),
        norm_eps: Some(c.norm_eps),
        norm_bias: Some(c.norm_bias),
        embedding_norm: Some(c.embedding_norm),
        activation: Some(c.activation),
        qkv_bias: Some(c.qkv_bias),
        attention_output_bias: Some(c.attention_output_bias),
        ffn_bias: Some(c.ffn_bias),
        qk_norm: Some(c.qk_norm),
        tie_embeddings: Some(c.tie_embeddings),
        window: c.window,
        global_every: c.global_every,
        attention_softcap: c.attention_softcap,
        logit_softcap: c.logit_softcap,
        dropout: Some(c.dropout),
        init_std: Some(init.std),
        residual_std: init.residual_std,
    };
}
