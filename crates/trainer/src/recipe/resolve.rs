//! Resolves a recipe as it is written to a [`Recipe`] with every value.

use taal_data::{Columns, LineEnds, Masking};
use toml::Table;

use super::keys::{KEYS, ObjectiveKind, Preset, RawMasking, RawPreference, RawRecipe, RawTokenizer, RawTrain};
use super::own::Brought;
use super::{
    CheckpointRecipe, DataRecipe, DataSource, EvalRecipe, LSTM_IS_FP32, Objective, Recipe, RecipeText, SampleRecipe,
    TokenizerRecipe, TrainRecipe, settings, text, typos,
};
use crate::TrainError;
use crate::health::HealthRecipe;
use crate::optimizer::{AdamW, Muon, OptimizerKind};
use crate::precision::PrecisionChoice;
use crate::schedule::Schedule;

/// Why a recipe cannot name data if the program passes its own.
const BRINGS_DATA: &str = "the program brings its own data; leave data.corpus, data.files, data.shards, data.conversations and data.examples out";

/// The longest name of a recipe.
const MAX_NAME_BYTES: usize = 200;

/// A resolved recipe, with the source of each value.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The recipe.
    pub recipe: Recipe,
    /// `recipe.resolved.toml`: every value, each with its source as a comment. Reading it as a recipe gives
    /// the same [`Recipe`] again.
    pub text: String,
    /// The embedded recipe's name or the file's stem. Runs are named after it and found by it.
    pub source_name: String,
    /// Messages about values that a setting overrides.
    pub notes: Vec<String>,
    /// `train.warmup_steps` is not set: it follows from `train.steps`.
    pub(crate) has_derived_warmup: bool,
    /// `data.line_ends` is not set.
    pub(crate) has_default_line_ends: bool,
    brought: Brought,
}

impl Resolved {
    /// The same recipe with the warm-up that the run started with: more steps must not change the learning rates of the
    /// first steps.
    pub(crate) fn with_warmup(mut self, steps: u64) -> Self {
        let line = |steps: u64| format!("\nwarmup_steps = {steps} # ");
        let schedule = &mut self.recipe.train.schedule;
        let derived = format!("{}default", line(schedule.warmup_steps));
        self.text = self.text.replacen(&derived, &format!("{}kept", line(steps)), 1);
        schedule.warmup_steps = steps;
        self
    }

    /// The same recipe with the treatment of line ends that the run started with: its text must stay the same.
    pub(crate) fn with_line_ends(mut self, line_ends: LineEnds) -> Self {
        let line = |line_ends: LineEnds| format!("\nline_ends = \"{line_ends}\" # ");
        let default = format!("{}default", line(self.recipe.data.line_ends));
        self.text = self.text.replacen(&default, &format!("{}kept", line(line_ends)), 1);
        self.recipe.data.line_ends = line_ends;
        self
    }
}

/// Resolves a recipe's text with settings `key=value` on top: default < preset < recipe < `--set`. Values of the recipe
/// that contradict a setting are dropped, with a note.
///
/// # Errors
///
/// [`TrainError::Recipe`] names the key, what was expected and what was found.
pub fn resolve(source: &RecipeText, sets: &[String]) -> Result<Resolved, TrainError> {
    resolve_as(source, sets, Source::Typed, Brought::default())
}

/// Resolves the result of [`stored_recipe`](crate::stored_recipe), with settings on top. All values that the run
/// started with are kept, even a warm-up that is longer than the number of steps in a setting.
///
/// # Errors
///
/// As [`resolve`].
pub fn resolve_stored(source: &RecipeText, sets: &[String]) -> Result<Resolved, TrainError> {
    resolve_as(source, sets, Source::Stored, Brought::default())
}

/// As [`resolve`], for a program that passes data, tokenizer or model itself; the recipe must leave those out.
pub(crate) fn resolve_own(source: &RecipeText, sets: &[String], brought: Brought) -> Result<Resolved, TrainError> {
    resolve_as(source, sets, Source::Typed, brought)
}

/// As [`resolve_stored`], for a program that passes the same things as when the run started.
pub(crate) fn resolve_again(source: &RecipeText, now: &Resolved) -> Result<Resolved, TrainError> {
    resolve_as(source, &[], Source::Stored, now.brought.clone())
}

/// Who wrote a recipe's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The user.
    Typed,
    /// A run, as `recipe.resolved.toml`.
    Stored,
}

fn resolve_as(source: &RecipeText, sets: &[String], kind: Source, brought: Brought) -> Result<Resolved, TrainError> {
    let mut typed: Table = source.text.parse().map_err(|error| not_toml(source, &error))?;
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
    let resolver = Resolver {
        origin: &source.origin,
        raw: &raw,
        sets: &set_table,
        kind,
        brought: &brought,
    };
    resolver.check_ranges(&merged)?;
    let recipe = resolver.recipe(&source.name)?;
    let text = text::resolved_text(&recipe, &raw, &typed, &set_table);
    Ok(Resolved {
        recipe,
        text,
        source_name: source.name.clone(),
        has_derived_warmup: raw.train.warmup_steps.is_none(),
        has_default_line_ends: raw.data.line_ends.is_none(),
        notes,
        brought,
    })
}

fn not_toml(source: &RecipeText, error: &toml::de::Error) -> TrainError {
    let said = error.to_string();
    let detail = match typos::slip(&source.text, error) {
        Some(slip) => format!("{}; {slip}", said.trim_end()),
        None => said.trim_end().to_string(),
    };
    TrainError::recipe(&source.origin, "TOML", detail)
}

fn parse(table: &Table, origin: &str) -> Result<RawRecipe, TrainError> {
    if let Some((section, detail)) = settings::wrong_section(table) {
        return Err(TrainError::recipe(origin, section, detail));
    }
    serde_path_to_error::deserialize(table.clone()).map_err(|error| {
        let path = error.path().to_string();
        let mut detail = error.inner().to_string();
        if let Some(rest) = detail.strip_prefix("unknown field ") {
            let known = rest
                .lines()
                .next()
                .unwrap_or_default()
                .split_once("`, ")
                .map_or("", |(_, known)| known);
            return TrainError::UnknownKey {
                origin: origin.to_string(),
                detail: match typos::did_you_mean(table, &path) {
                    Some(question) => format!("unknown key; {question}"),
                    None => format!("unknown key, {known}"),
                },
                key: settings::shortened(&path),
            };
        }
        // The toml crate repeats the key on a line of its own, but the path already has it.
        detail = settings::in_words(detail.lines().next().unwrap_or_default());
        // The parser says "unit variant" for any value found where a word was expected.
        if let Some(value) = settings::get(table, &path) {
            detail = detail.replace("unit variant", &settings::shortened(&value.to_string()));
        }
        TrainError::recipe(origin, &path, detail)
    })
}

/// Resolves one recipe.
pub(super) struct Resolver<'a> {
    origin: &'a str,
    pub(super) raw: &'a RawRecipe,
    sets: &'a Table,
    kind: Source,
    pub(super) brought: &'a Brought,
}

impl Resolver<'_> {
    pub(super) fn error(&self, key: &str, detail: impl Into<String>) -> TrainError {
        let is_set = settings::get(self.sets, key).is_some();
        TrainError::recipe(if is_set { "--set" } else { self.origin }, key, detail)
    }

    /// Checks every value against its range in the table of keys.
    fn check_ranges(&self, typed: &Table) -> Result<(), TrainError> {
        for (key, path) in KEYS.iter().map(|key| (key, key.path())) {
            if let Some(detail) = settings::get(typed, &path).and_then(|value| key.refusal(value)) {
                return Err(self.error(&path, detail));
            }
        }
        Ok(())
    }

    fn recipe(&self, name: &str) -> Result<Recipe, TrainError> {
        let train = self.train()?;
        let data = self.data()?;
        Ok(Recipe {
            name: self.name(self.raw.name.as_deref().unwrap_or(name))?,
            description: self.raw.description.clone().unwrap_or_default(),
            seed: self.raw.seed(),
            tokenizer: self.tokenizer(&data)?,
            data: self.measured(data)?,
            model: self.model(train.block_size)?,
            eval: EvalRecipe {
                every: self.raw.eval.every(),
                batch_size: self.raw.eval.batch_size.unwrap_or(train.batch_size.max(8)),
                max_tokens: self.raw.eval.max_tokens,
                metric: self.raw.eval.metric,
                answers: self.raw.eval.answers(),
                answer_tokens: self.raw.eval.answer_tokens(),
            },
            replay: self.replay()?,
            lora: self.lora()?,
            train,
            checkpoint: CheckpointRecipe {
                every: self.raw.checkpoint.every(),
                keep: self.raw.checkpoint.keep(),
                average: self.average()?,
                background: self.raw.checkpoint.background(),
            },
            health: self.health()?,
            sample: self.sample(),
        })
    }

    /// How many checkpoints are averaged.
    fn average(&self) -> Result<Option<usize>, TrainError> {
        let average = self.raw.checkpoint.average;
        if average.is_some() && self.raw.replay.budget.is_some() {
            let detail = "replay.budget holds every checkpoint to a loss on old data, but not the mean of several; leave one of the two out";
            return Err(self.error("checkpoint.average", detail));
        }
        Ok(average)
    }

    /// The name is written in a comment of the resolved recipe. A line end would end that comment, and control
    /// characters would make it unreadable.
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
        if let Some(name) = raw
            .examples
            .as_deref()
            .filter(|name| taal_data::example_set(name).is_none())
        {
            let known: Vec<_> = taal_data::example_sets().iter().map(|set| set.name).collect();
            let detail = format!("expected {}, got \"{name}\"", known.join(", "));
            return Err(self.error("data.examples", detail));
        }
        let mut sources = Vec::new();
        sources.extend(raw.corpus.clone().map(DataSource::Corpus));
        sources.extend(raw.files.clone().map(DataSource::Files));
        sources.extend(raw.shards.clone().map(DataSource::Shards));
        sources.extend(raw.conversations.clone().map(DataSource::Conversations));
        sources.extend(raw.examples.clone().map(DataSource::Examples));
        if let Some(own) = &self.brought.data {
            if !sources.is_empty() {
                return Err(self.error("data", BRINGS_DATA));
            }
            sources.push(own.clone());
        }
        let [source] = <[DataSource; 1]>::try_from(sources).map_err(|sources| {
            let detail =
                "expected exactly one of data.corpus, data.files, data.shards, data.conversations and data.examples";
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
        self.check_rows(&source)?;
        let direction = self.direction(&source)?;
        self.check_weights(&source)?;
        if let Some(license) = &raw.license
            && (license.trim().is_empty() || license.contains('\n'))
        {
            return Err(self.error("data.license", "expected one line, such as \"CC BY-SA 4.0\""));
        }
        Ok(DataRecipe {
            source,
            weights: raw.weights.clone(),
            license: raw.license.clone(),
            layout: raw.layout,
            direction,
            columns: Columns {
                prompt: raw.prompt_column.clone(),
                completion: raw.completion_column.clone(),
                messages: raw.messages_column.clone(),
                rejected: raw.rejected_column.clone(),
                input: raw.input_column.clone(),
            },
            chat_template: raw.chat_template.clone(),
            validation_fraction: raw.validation_fraction(),
            order: raw.order(),
            damaged: raw.damaged(),
            line_ends: raw.line_ends.unwrap_or(match self.kind {
                Source::Typed => LineEnds::Lf,
                // Runs from before this key existed kept carriage returns.
                Source::Stored => LineEnds::Keep,
            }),
        })
    }

    /// Their number is checked when the texts are read.
    fn check_weights(&self, source: &DataSource) -> Result<(), TrainError> {
        let Some(weights) = &self.raw.data.weights else {
            return Ok(());
        };
        if matches!(source, DataSource::Conversations(_) | DataSource::Examples(_)) {
            let detail = "is about the texts of data.corpus, data.files or data.shards; leave it out";
            return Err(self.error("data.weights", detail));
        }
        let is_weight = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        match weights.iter().find(|weight| !is_weight(weight)) {
            Some(weight) => Err(self.error("data.weights", format!("expected numbers of 0 or more, got {weight}"))),
            None if weights.iter().all(|weight| *weight == 0.0) => {
                Err(self.error("data.weights", "expected at least one number above 0, got none"))
            }
            None => Ok(()),
        }
    }

    fn tokenizer(&self, data: &DataRecipe) -> Result<TokenizerRecipe, TrainError> {
        let raw = &self.raw.tokenizer;
        let giver = match (&self.brought.tokenizer, &self.raw.train.init_from, &data.source) {
            (Some(_), _, _) => Some("the program"),
            (None, Some(_), _) => Some("train.init_from"),
            (None, None, DataSource::Shards(_)) => Some("data.shards"),
            _ => None,
        };
        if let Some(giver) = giver {
            let rest = RawTokenizer {
                added_tokens: None,
                ..raw.clone()
            };
            if rest != RawTokenizer::default() {
                return Err(self.error(
                    "tokenizer",
                    format!("{giver} brings its own tokenizer; leave this section out"),
                ));
            }
            if let Some(tokens) = self.added_tokens(giver)? {
                return Ok(TokenizerRecipe::Extended(tokens));
            }
            let own = self.brought.tokenizer.clone();
            return Ok(own.map_or(TokenizerRecipe::Given, TokenizerRecipe::Own));
        }
        self.added_tokens("a new tokenizer")?;
        if let Some(file) = &raw.file {
            if raw.kind.is_some() || raw.vocab_size.is_some() {
                let detail = "an existing tokenizer has its own kind and size; leave tokenizer.kind and vocab_size out";
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
            vocab_size: raw.vocab_size(),
            special_tokens: raw.special_tokens.clone(),
            unknown: raw.unknown,
        })
    }

    fn train(&self) -> Result<TrainRecipe, TrainError> {
        let raw = &self.raw.train;
        let (steps, lr) = (raw.steps(), raw.lr());
        let schedule = Schedule {
            kind: raw.schedule(),
            lr,
            min_lr: raw.min_lr.unwrap_or(lr / 10.0),
            warmup_steps: raw.warmup_steps.unwrap_or_else(|| 100.min(steps / 10)),
            steps,
            decay_fraction: raw.decay_fraction(),
        };
        if !(0.0..=lr).contains(&schedule.min_lr) {
            let detail = format!("expected a number in [0, train.lr], got {}", schedule.min_lr);
            return Err(self.error("train.min_lr", detail));
        }
        // If a stored run gets fewer steps than it started with, it may end during its warm-up.
        if self.kind == Source::Typed && schedule.warmup_steps > steps {
            let detail = format!("expected 0..={steps}, got {}", schedule.warmup_steps);
            return Err(self.error("train.warmup_steps", detail));
        }
        Ok(TrainRecipe {
            objective: self.objective()?,
            steps,
            batch_size: raw.batch_size(),
            block_size: raw.block_size(),
            accumulation: raw.accumulation(),
            precision: self.precision()?,
            schedule,
            adamw: AdamW {
                lr,
                beta1: raw.beta1(),
                beta2: raw.beta2(),
                eps: raw.eps(),
                weight_decay: raw.weight_decay(),
            },
            muon: self.muon(raw)?,
            label_smoothing: self.label_smoothing()?,
            clip_norm: raw.clip_norm,
            freeze: self.freeze()?,
            patience: raw.patience,
            stop_loss: raw.stop_loss,
        })
    }

    fn precision(&self) -> Result<PrecisionChoice, TrainError> {
        let Some(given) = &self.raw.train.precision else {
            return Ok(PrecisionChoice::default());
        };
        let precision: PrecisionChoice = given.parse().map_err(|_| {
            let detail = format!("expected fp32, bf16, f16 or auto, got \"{given}\"");
            self.error("train.precision", detail)
        })?;
        match (precision, self.raw.model.preset) {
            (PrecisionChoice::Auto, Some(Preset::Lstm)) => Ok(PrecisionChoice::default()),
            (precision, Some(Preset::Lstm)) if !precision.is_fp32() => Err(self.error("train.precision", LSTM_IS_FP32)),
            _ => Ok(precision),
        }
    }

    fn objective(&self) -> Result<Objective, TrainError> {
        let raw = &self.raw.masking;
        let masking = Masking {
            fraction: raw.fraction(),
            unit: raw.unit(),
            masked: raw.masked(),
            random: raw.random(),
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
        let kind = self.raw.train.objective();
        if kind != ObjectiveKind::Preference && self.raw.preference != RawPreference::default() {
            return Err(self.error(
                "preference",
                "it has no effect without train.objective = \"preference\"; set it or leave this section out",
            ));
        }
        if kind != ObjectiveKind::Masked {
            if *raw != RawMasking::default() {
                return Err(self.error(
                    "masking",
                    "it has no effect with train.objective = \"next_token\"; set train.objective = \"masked\" or leave it out",
                ));
            }
            return match kind {
                ObjectiveKind::Preference => self.preference().map(Objective::Preference),
                _ => Ok(Objective::NextToken),
            };
        }
        Ok(Objective::Masked(masking))
    }

    fn muon(&self, raw: &RawTrain) -> Result<Option<Muon>, TrainError> {
        if raw.optimizer() == OptimizerKind::AdamW {
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
        Ok(Some(Muon {
            lr: raw.muon_lr(),
            momentum: raw.muon_momentum(),
            weight_decay: raw.muon_weight_decay(),
            ..Muon::default()
        }))
    }

    fn health(&self) -> Result<HealthRecipe, TrainError> {
        let raw = &self.raw.health;
        let sigma = raw.spike_sigma();
        if sigma != 0.0 && !(1.0..=1000.0).contains(&sigma) {
            let detail = format!("expected 0 (no spikes) or a number from 1 to 1000, got {sigma}");
            return Err(self.error("health.spike_sigma", detail));
        }
        Ok(HealthRecipe {
            spike_sigma: (sigma > 0.0).then_some(sigma),
            spike_window: raw.spike_window(),
            max_skips: raw.max_skips(),
            rewinds: raw.rewinds(),
        })
    }

    fn sample(&self) -> SampleRecipe {
        let raw = &self.raw.sample;
        SampleRecipe {
            prompts: raw.prompts.clone().unwrap_or_default(),
            max_tokens: raw.max_tokens(),
            temperature: raw.temperature(),
            top_k: raw.top_k,
            beam: raw.beam(),
            rank: raw.rank.clone().unwrap_or_default(),
        }
    }
}
