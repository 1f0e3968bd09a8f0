//! Prepares what a recipe needs for training: [`tokenizer`], [`Corpus`], and the shape and weights of the model.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use taal_data::{
    BatchPlan, BatchSource, Content, ConversationCounts, ConversationOptions, ConversationSource, Conversations,
    Dataset, ExampleSet, Layout, LineEnds, Order, PairSource, Pairs, TokenSource, TokenizeOptions,
};
use taal_metrics::RunNote;
use taal_model::hugging_face::{self, TOKENIZER_FILE};
use taal_model::{Mixer, Transformer, TransformerConfig};
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig, Unknown};

use crate::TrainError;
use crate::adapter::{self, Adapter};
use crate::chat::Chat;
use crate::recipe::{
    DamagedKind, DataSource, LSTM_IS_FP32, ModelRecipe, Objective, OrderKind, Recipe, TokenizerRecipe, UnknownKind,
};
use crate::translator::{self, decoder_start};

/// Text as tokens, ready for training and evaluation.
#[derive(Debug)]
pub enum Corpus {
    /// Running text.
    Text(Dataset),
    /// Prompts and completions.
    Conversations(Conversations),
    /// The same for an encoder and a decoder.
    Pairs(Pairs),
}

impl Corpus {
    /// Encodes the recipe's text. `note` gets messages for the user, such as which files were left out.
    ///
    /// # Errors
    ///
    /// Those of the data crate, for files that are missing, damaged or empty, and for tokens of another tokenizer.
    pub fn prepare(recipe: &Recipe, tokenizer: &Tokenizer, note: impl FnMut(String)) -> Result<Self, TrainError> {
        let chat = Chat::of(recipe, tokenizer, None)?;
        Self::prepare_for(recipe, tokenizer, &chat, &config(recipe, tokenizer)?, note)
    }

    /// As [`prepare`](Self::prepare), for a model of this shape, with messages as this chat template writes them.
    pub(crate) fn prepare_for(
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        model: &TransformerConfig,
        mut note: impl FnMut(String),
    ) -> Result<Self, TrainError> {
        if model.encoder.is_some() {
            return Self::prepare_pairs(recipe, tokenizer, chat, model, note);
        }
        let options = TokenizeOptions {
            validation_fraction: recipe.data.validation_fraction,
            line_ends: recipe.data.line_ends,
            ..TokenizeOptions::default()
        };
        let corpus = match &recipe.data.source {
            DataSource::Corpus(name) => {
                let texts = embedded_corpus(recipe, name)?.texts();
                Self::Text(Dataset::from_texts(tokenizer, &texts, &options)?)
            }
            DataSource::Files(paths) => {
                let found = taal_data::find_files(paths, Content::Text)?;
                found.left_out_words().into_iter().for_each(&mut note);
                Self::Text(Dataset::from_files(tokenizer, &found.files, &options)?)
            }
            DataSource::Shards(dir) => {
                let (dataset, damaged) = match recipe.data.damaged {
                    DamagedKind::Stop => (Dataset::open(dir)?, Vec::new()),
                    DamagedKind::Skip => Dataset::open_without_damaged(dir)?,
                };
                for error in damaged {
                    note(format!("left out of training: {error}"));
                }
                dataset.expect_tokenizer(tokenizer, dir)?;
                Self::Text(dataset)
            }
            DataSource::Texts(texts) => {
                let names: Vec<String> = (1..=texts.len()).map(|number| format!("text {number}")).collect();
                let texts: Vec<(&str, &str)> = names.iter().zip(texts.iter()).map(|(n, t)| (&**n, &**t)).collect();
                Self::Text(Dataset::from_texts(tokenizer, &texts, &options)?)
            }
            DataSource::Dataset(dataset) => {
                dataset.expect_tokenizer(tokenizer, Path::new("the program's data"))?;
                Self::Text(Dataset::clone(dataset))
            }
            DataSource::Conversations(path) => {
                let found = taal_data::find_files(std::slice::from_ref(path), Content::Conversations)?;
                found.left_out_words().into_iter().for_each(&mut note);
                let options = conversation_options(recipe, chat);
                let block_size = recipe.train.block_size;
                let conversations = Conversations::open_with(tokenizer, &found.files, block_size, &options)?;
                let is_preference = matches!(recipe.train.objective, Objective::Preference(_));
                conversation_notes(&conversations.counts, is_preference)
                    .into_iter()
                    .for_each(&mut note);
                Self::Conversations(conversations)
            }
            DataSource::Examples(name) => {
                let options = conversation_options(recipe, chat);
                let set = example_set(recipe, name)?;
                Self::Conversations(Conversations::of_set(
                    tokenizer,
                    set,
                    recipe.train.block_size,
                    &options,
                )?)
            }
        };
        let corpus = match (corpus, &recipe.data.weights) {
            (Self::Text(dataset), Some(weights)) => Self::Text(dataset.with_weights(weights)?),
            (corpus, _) => corpus,
        };
        corpus.note_line_ends(recipe, note);
        Ok(corpus)
    }

    /// The pairs of an encoder-decoder.
    fn prepare_pairs(
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        model: &TransformerConfig,
        mut note: impl FnMut(String),
    ) -> Result<Self, TrainError> {
        let (plan, options) = (batch_plan(recipe), conversation_options(recipe, chat));
        let mut pairs = match &recipe.data.source {
            DataSource::Conversations(path) => {
                let found = taal_data::find_files(std::slice::from_ref(path), Content::Conversations)?;
                found.left_out_words().into_iter().for_each(&mut note);
                Pairs::open_with(tokenizer, &found.files, &plan, &options)?
            }
            DataSource::Examples(name) => Pairs::of_set(tokenizer, example_set(recipe, name)?, &plan, &options)?,
            _ => {
                let detail = "the model is an encoder-decoder, which reads prompts and writes completions, and running text has none; \
                              set data.conversations or data.examples";
                return Err(TrainError::recipe(&recipe.name, "data", detail));
            }
        };
        pairs.counts.notes.iter().cloned().for_each(&mut note);
        if let Some(start) = model.decoder_start {
            pairs.start_with(start);
        }
        let corpus = Self::Pairs(pairs);
        corpus.note_line_ends(recipe, note);
        Ok(corpus)
    }

    fn note_line_ends(&self, recipe: &Recipe, mut note: impl FnMut(String)) {
        let carriage_returns = match self {
            Self::Text(dataset) => dataset.carriage_returns,
            Self::Conversations(conversations) => conversations.carriage_returns,
            Self::Pairs(pairs) => pairs.carriage_returns,
        };
        if carriage_returns > 0 {
            let words = taal_data::line_ends_words(carriage_returns, recipe.data.line_ends);
            note(format!("data.line_ends = \"{}\": {words}", recipe.data.line_ends));
        }
    }

    /// How line ends in the text were treated.
    pub(crate) fn line_ends(&self) -> LineEnds {
        match self {
            Self::Text(dataset) => dataset.line_ends,
            Self::Conversations(conversations) => conversations.line_ends,
            Self::Pairs(pairs) => pairs.line_ends,
        }
    }

    pub(crate) fn train(&self) -> &dyn BatchSource {
        match self {
            Self::Text(dataset) => dataset.training(),
            Self::Conversations(conversations) => &conversations.train,
            Self::Pairs(pairs) => &pairs.train,
        }
    }

    /// Numbers of training and validation tokens; for conversations, the positions of all rows, and for pairs, of all batches of an epoch.
    pub(crate) fn token_counts(&self) -> (u64, u64) {
        match self {
            Self::Text(dataset) => (
                dataset.train.len(),
                dataset.validation.iter().map(TokenSource::len).sum(),
            ),
            Self::Conversations(conversations) => {
                let positions = |source: &ConversationSource| (source.rows() * source.block_size()) as u64;
                (
                    positions(&conversations.train),
                    conversations.validation.as_ref().map_or(0, positions),
                )
            }
            Self::Pairs(pairs) => {
                let positions = |source: &PairSource| source.positions_per_epoch();
                (positions(&pairs.train), pairs.validation.as_ref().map_or(0, positions))
            }
        }
    }

    /// Positions of an update, with this plan: those of the plan, and for pairs the mean over an epoch, because batches by length are
    /// not all equally full.
    ///
    /// # Errors
    ///
    /// Those of the data crate, for a plan of another size.
    pub(crate) fn tokens_per_step(&self, recipe: &Recipe) -> Result<u64, TrainError> {
        let Self::Pairs(pairs) = self else {
            return Ok(recipe.train.tokens_per_step());
        };
        let batches = pairs.train.batches_per_epoch(&batch_plan(recipe))?;
        let positions = pairs.train.positions_per_epoch() * recipe.train.accumulation as u64;
        Ok((positions / batches.max(1)).max(1))
    }

    /// A note about training examples that do not fit a row, if there are any.
    pub(crate) fn cut_examples(&self) -> Option<RunNote> {
        if let Self::Pairs(pairs) = self {
            let (left_out, row_tokens) = (pairs.counts.left_out, pairs.train.block_size() as u64);
            return (left_out > 0).then_some(RunNote::LeftOutPairs { left_out, row_tokens });
        }
        let Self::Conversations(conversations) = self else {
            return None;
        };
        let (cut, row_tokens) = (conversations.train.truncated(), conversations.train.block_size());
        (cut > 0).then_some(RunNote::CutExamples {
            cut: cut as u64,
            row_tokens: row_tokens as u64,
        })
    }

    /// A hash of all training and validation ids.
    pub(crate) fn fingerprint(&self) -> String {
        match self {
            Self::Text(dataset) => dataset.fingerprint(),
            Self::Conversations(conversations) => conversations.fingerprint(),
            Self::Pairs(pairs) => pairs.fingerprint(),
        }
    }
}

/// How the recipe's conversations are read.
pub(crate) fn conversation_options(recipe: &Recipe, chat: &Chat) -> ConversationOptions {
    ConversationOptions {
        validation_fraction: recipe.data.validation_fraction,
        line_ends: recipe.data.line_ends,
        layout: match recipe.train.objective {
            Objective::Preference(_) => Some(Layout::Preference),
            _ => recipe.data.layout,
        },
        columns: recipe.data.columns.clone(),
        direction: recipe.data.direction.clone(),
        format: chat.format(),
    }
}

/// How files were read where that is not what a file of prompts and completions makes plain.
fn conversation_notes(counts: &ConversationCounts, is_preference: bool) -> Vec<String> {
    let others = counts
        .layouts
        .iter()
        .filter(|(_, layout)| *layout != Layout::Completion);
    let cut = (counts.answers_cut > 0).then(|| {
        format!(
            "{} of {} examples are longer than train.block_size by their answer alone and lost its end",
            counts.answers_cut, counts.examples
        )
    });
    others
        .map(|(name, layout)| match layout {
            Layout::Preference if is_preference => format!("{name} is read as {layout}"),
            Layout::Preference => format!("{name} is read as {layout}: only the chosen answers are learned"),
            layout => format!("{name} is read as {layout}: only the assistant's answers are learned"),
        })
        .chain(cut)
        .chain(counts.notes.iter().cloned())
        .collect()
}

fn embedded_corpus(recipe: &Recipe, name: &str) -> Result<taal_data::Corpus, TrainError> {
    taal_data::corpus(name)
        .ok_or_else(|| TrainError::recipe(&recipe.name, "data.corpus", format!("there is no \"{name}\"")))
}

fn example_set(recipe: &Recipe, name: &str) -> Result<&'static ExampleSet, TrainError> {
    let set = taal_data::example_set(name);
    set.ok_or_else(|| TrainError::recipe(&recipe.name, "data.examples", format!("there is no \"{name}\"")))
}

/// Which windows each step uses. It depends only on the recipe.
pub fn batch_plan(recipe: &Recipe) -> BatchPlan {
    let order = match recipe.data.order {
        OrderKind::Random => Order::Random,
        OrderKind::Shuffled => Order::Shuffled,
    };
    BatchPlan::new(recipe.seed, recipe.train.batch_size, recipe.train.block_size).with_order(order)
}

/// The recipe's tokenizer: opened, or trained on the training text.
///
/// # Errors
///
/// [`TrainError::Recipe`] if the recipe has none; errors of the tokenizer; and those of the data crate for the text to
/// train it on.
pub fn tokenizer(recipe: &Recipe) -> Result<Tokenizer, TrainError> {
    let tokenizer = bare_tokenizer(recipe)?;
    // An encoder reads the end of a text too, and other programs find that only in the file.
    Ok(match recipe.model.gets_encoder() {
        true => tokenizer.with_frame()?,
        false => tokenizer,
    })
}

fn bare_tokenizer(recipe: &Recipe) -> Result<Tokenizer, TrainError> {
    match (&recipe.tokenizer, &recipe.model, &recipe.data.source) {
        (TokenizerRecipe::File(path), _, _) => Ok(Tokenizer::open(path)?),
        (TokenizerRecipe::Own(tokenizer), _, _) => Ok(Tokenizer::clone(tokenizer)),
        (TokenizerRecipe::Given, ModelRecipe::InitFrom { dir, .. }, _) => {
            Ok(Tokenizer::open(&taal_inference::model_dir(dir)?.join(TOKENIZER_FILE))?)
        }
        (TokenizerRecipe::Extended(tokens), ModelRecipe::InitFrom { dir, .. }, _) => {
            let tokenizer = Tokenizer::open(&taal_inference::model_dir(dir)?.join(TOKENIZER_FILE))?;
            Ok(tokenizer.with_special_tokens(tokens.iter().map(String::as_str))?)
        }
        (TokenizerRecipe::Given, ModelRecipe::New { .. }, DataSource::Shards(dir)) => Ok(Dataset::open_tokenizer(dir)?),
        (TokenizerRecipe::Given | TokenizerRecipe::Extended(_), _, _) => Err(TrainError::recipe(
            &recipe.name,
            "tokenizer",
            "there is no tokenizer; set tokenizer.kind",
        )),
        (
            TokenizerRecipe::Train {
                kind,
                vocab_size,
                special_tokens,
                unknown,
            },
            _,
            source,
        ) => {
            let mut config = TrainerConfig::new(*kind, *vocab_size);
            if let Some(tokens) = special_tokens {
                config.special_tokens.clone_from(tokens);
            }
            match unknown {
                Some(UnknownKind::Error) => config.unknown = Unknown::Error,
                Some(UnknownKind::Token) => config.unknown = Unknown::Token,
                None => {}
            }
            train_tokenizer(recipe, &config, source)
        }
    }
}

/// A note about added tokens that the tokenizer of the model has as ordinary ones; `None` where there are none.
pub(crate) fn added_tokens_note(recipe: &Recipe) -> Result<Option<String>, TrainError> {
    let (TokenizerRecipe::Extended(tokens), ModelRecipe::InitFrom { dir, .. }) = (&recipe.tokenizer, &recipe.model)
    else {
        return Ok(None);
    };
    let tokenizer = Tokenizer::open(&taal_inference::model_dir(dir)?.join(TOKENIZER_FILE))?;
    let is_ordinary = |token: &&String| tokenizer.token_to_id(token).is_some_and(|id| !tokenizer.is_special(id));
    let ordinary: Vec<String> = tokens
        .iter()
        .filter(is_ordinary)
        .map(|token| taal_store::excerpt(token))
        .collect();
    Ok((!ordinary.is_empty()).then(|| {
        format!(
            "tokenizer.added_tokens: the model knows {} as ordinary text; as special tokens these are cut out of every text they are in, \
             and are not shown in answers",
            ordinary.join(", ")
        )
    }))
}

/// The hash of a tokenizer that is read from a file, which may have been replaced; `None` if it is trained on the text.
pub(crate) fn given_tokenizer_hash(recipe: &Recipe) -> Result<Option<String>, TrainError> {
    match &recipe.tokenizer {
        TokenizerRecipe::Train { .. } => Ok(None),
        TokenizerRecipe::File(_) | TokenizerRecipe::Given | TokenizerRecipe::Extended(_) | TokenizerRecipe::Own(_) => {
            match tokenizer(recipe) {
                Ok(tokenizer) => Ok(Some(tokenizer.hash().to_string())),
                // The checkpoint has the tokenizer, and the model that the run was fine-tuned from may be gone.
                Err(error) if error.is_missing_file() => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

fn train_tokenizer(recipe: &Recipe, config: &TrainerConfig, source: &DataSource) -> Result<Tokenizer, TrainError> {
    let held_back = match config.kind {
        Kind::Char => 0.0,
        _ => recipe.data.validation_fraction,
    };
    Ok(match source {
        DataSource::Corpus(name) => {
            // All characters must be known, so they come from the whole text; words and subwords come only from the
            // training split.
            let texts = embedded_corpus(recipe, name)?.texts();
            config.train(texts.iter().map(|(_, text)| taal_data::split_text(text, held_back).0))?
        }
        DataSource::Texts(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| recipe.data.line_ends.apply(text)).collect();
            config.train(texts.iter().map(|text| taal_data::split_text(text, held_back).0))?
        }
        DataSource::Dataset(_) => {
            let detail = "the program's data are token ids; also pass the tokenizer that made them";
            return Err(TrainError::recipe(&recipe.name, "tokenizer", detail));
        }
        DataSource::Files(files) => {
            config.train(taal_data::training_texts(files, held_back, recipe.data.line_ends)?)?
        }
        DataSource::Shards(dir) => Dataset::open_tokenizer(dir)?,
        DataSource::Conversations(path) => config.train(taal_data::conversation_texts(
            std::slice::from_ref(path),
            &conversation_options(recipe, &Chat::default()),
        )?)?,
        DataSource::Examples(name) => config.train(taal_data::example_texts(
            example_set(recipe, name)?,
            &conversation_options(recipe, &Chat::default()),
        )?)?,
    })
}

/// The tokenizer's kind, for the report.
pub(crate) fn tokenizer_words(recipe: &Recipe) -> String {
    match &recipe.tokenizer {
        TokenizerRecipe::Train { kind, .. } => kind.to_string(),
        TokenizerRecipe::File(path) => path.display().to_string(),
        TokenizerRecipe::Given | TokenizerRecipe::Extended(_) => match &recipe.model {
            ModelRecipe::InitFrom { dir, .. } => format!("of {}", dir.display()),
            ModelRecipe::New { .. } | ModelRecipe::Own { .. } => "of the shards".to_string(),
        },
        TokenizerRecipe::Own(_) => "of the program".to_string(),
    }
}

/// The shape of the recipe's model, before the model is built.
///
/// # Errors
///
/// Those of the model crate, if the recipe starts from a model that cannot be opened.
pub fn config(recipe: &Recipe, tokenizer: &Tokenizer) -> Result<TransformerConfig, TrainError> {
    Ok(match &recipe.model {
        ModelRecipe::New { config, .. } => TransformerConfig {
            vocab_size: tokenizer.vocab_size(),
            decoder_start: config.encoder.as_ref().and_then(|_| decoder_start(tokenizer)),
            ..config.as_ref().clone()
        },
        ModelRecipe::InitFrom {
            dir, encoder_layers, ..
        } => {
            let dir = taal_inference::model_dir(dir)?;
            refuse_quantized(recipe, &dir, hugging_face::is_quantized(&dir)?)?;
            let config = hugging_face::open_config(&dir)?;
            let vocab_size = config.vocab_size.max(rows_of_added(recipe, tokenizer));
            let config = TransformerConfig { vocab_size, ..config };
            translator::with_encoder(config, *encoder_layers, tokenizer)
        }
        ModelRecipe::Own { model, .. } => model.config().clone(),
    })
}

/// The model before its first step. `note` gets what a model to start from lacks.
pub(crate) fn model(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    adapter: Option<&Adapter>,
    device: &Device,
    note: &mut dyn FnMut(String),
) -> Result<Transformer, TrainError> {
    let (model, whence) = match &recipe.model {
        ModelRecipe::New { init, .. } => {
            let model = self::config(recipe, tokenizer)?.init_with(recipe.seed, *init, device)?;
            return adapter::freeze(recipe, model);
        }
        ModelRecipe::InitFrom { dir, .. } => {
            let dir = taal_inference::model_dir(dir)?;
            refuse_quantized(recipe, &dir, hugging_face::is_quantized(&dir)?)?;
            let given = hugging_face::open(&dir, device)?;
            // Another program may have left out the key of `config.json` that says so.
            refuse_quantized(recipe, &dir, !given.quantized().is_empty())?;
            let given = given.with_vocab_size(rows_of_added(recipe, tokenizer))?;
            let shape = self::config(recipe, tokenizer)?;
            let model = match given.config().encoder.is_none() && shape.encoder.is_some() {
                true => {
                    let grown = translator::grown_from(&given, &shape, recipe.seed, device)?;
                    note(grown.words());
                    grown.model
                }
                false => given,
            };
            (model, dir.display().to_string())
        }
        ModelRecipe::Own { model, .. } => {
            // The model may or may not have autodiff; it gets the autodiff of this device.
            let model = model.valid().fork(&device.clone().inner()).train();
            (model, "the program".to_string())
        }
    };
    check_initial(recipe, tokenizer, model.config(), &whence)?;
    let model = match adapter {
        Some(adapter) => adapter.fresh(recipe, model)?,
        None => adapter::freeze(recipe, model)?,
    };
    // Validation computes what training does.
    Ok(model.with_dropout(recipe.model.dropout()).with_exact_products(true))
}

/// The rows that a model needs for the tokens that the recipe adds; 0 where it adds none.
pub(crate) fn rows_of_added(recipe: &Recipe, tokenizer: &Tokenizer) -> usize {
    match recipe.tokenizer {
        TokenizerRecipe::Extended(_) => tokenizer.vocab_size(),
        _ => 0,
    }
}

/// Refuses a model to start from whose weights are in blocks of integers: small updates would be rounded away. An adapter leaves them as
/// they are.
fn refuse_quantized(recipe: &Recipe, dir: &Path, is_quantized: bool) -> Result<(), TrainError> {
    if recipe.lora.is_some() || !is_quantized {
        return Ok(());
    }
    let detail = format!(
        "the weights in {} are quantized, and training needs them in f32: taal export {} --to hf --type f32 --out DIR unpacks them, or \
         train an adapter (lora.rank)",
        dir.display(),
        dir.display()
    );
    Err(TrainError::recipe(&recipe.name, "train.init_from", detail))
}

/// Refuses an initial model that does not match the recipe.
fn check_initial(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    config: &TransformerConfig,
    whence: &str,
) -> Result<(), TrainError> {
    let refuse = |key, detail: String| Err(TrainError::recipe(&recipe.name, key, detail));
    if config.is_causal == recipe.train.objective.masking().is_some() {
        let (is, needs) = match config.is_causal {
            true => ("causal", "next_token"),
            false => ("bidirectional", "masked"),
        };
        let detail = format!("the model of {whence} is {is}; set train.objective = \"{needs}\"");
        return refuse("train.objective", detail);
    }
    if config.mixer == Mixer::Lstm && !recipe.train.precision.is_fp32() {
        return refuse("train.precision", LSTM_IS_FP32.to_string());
    }
    let (block_size, context) = (recipe.train.block_size, config.max_seq_len);
    if block_size > context {
        let detail = format!("{block_size} tokens do not fit the context of {context} of {whence}");
        return refuse("train.block_size", detail);
    }
    let (tokens, most) = (tokenizer.vocab_size(), config.vocab_size);
    if tokens > most {
        let key = match recipe.model {
            ModelRecipe::InitFrom { .. } => "train.init_from",
            _ => "model",
        };
        return refuse(key, format!("the tokenizer has {tokens} tokens, the model only {most}"));
    }
    Ok(())
}
