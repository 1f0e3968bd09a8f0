//! A model with its tokenizer, opened from a directory.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_model::hugging_face::{self, CONFIG_FILE, Mark, SpecialIds, TOKENIZER_FILE, TranslationFacts};
use taal_model::{CacheType, Mixer, Transformer, TransformerConfig, WeightFormat};
use taal_store::LineEnds;
use taal_store::layout::{LOCK_NAME, MANIFEST_NAME, MODEL_DIR, RESOLVED_FILE, RUN_FILE};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::{ChatFiles, ChatInput, ChatTemplate, Message};

use crate::adapter::ServedAdapter;
use crate::constraint::VocabularyCell;
use crate::generate::Prompt;
use crate::receipt::FingerprintCell;
use crate::sentence::{self, SentenceConfig};
use crate::{InferenceError, MissingModel, Result};

/// How often a link may change while a model is being opened.
const MAX_CHANGES: usize = 100;

/// A transformer and, where there is one, the tokenizer that turns text into its ids.
#[derive(Debug)]
pub struct LanguageModel {
    /// The model.
    pub model: Transformer,
    /// Its tokenizer; without one, prompts and continuations are token ids.
    pub tokenizer: Option<Tokenizer>,
    /// The id that replaces an empty prompt.
    pub begin_id: Option<u32>,
    /// The ids that end a text.
    pub end_ids: Vec<u32>,
    /// Ids that the model's files name as the end of a text but that are not in its vocabulary, so they are never generated.
    pub unknown_end_ids: Vec<i64>,
    /// The treatment of carriage returns in texts for the model, as in its training text.
    pub line_ends: LineEnds,
    /// The special ids in the files, for copying them.
    pub special_ids: SpecialIds,
    /// The chat templates; empty for a model that only continues texts.
    pub chat: ChatFiles,
    /// The languages that it translates, where its files say so.
    pub translation: Option<TranslationFacts>,
    /// What its user should know about its files.
    pub notes: Vec<String>,
    /// The adapters that the rows of a batch may choose.
    pub(crate) adapters: Vec<ServedAdapter>,
    /// The sentence configuration, or why it cannot be used.
    pub(crate) sentence: Option<std::result::Result<SentenceConfig, String>>,
    /// The tokens' texts, for constraints.
    pub(crate) vocabulary: VocabularyCell,
    /// The hashes of its parts, for receipts.
    pub(crate) fingerprint: FingerprintCell,
}

impl LanguageModel {
    /// A model and a tokenizer in memory; the names of the tokenizer's special tokens tell which ids begin and end a text.
    pub fn new(model: Transformer, tokenizer: Option<Tokenizer>) -> Self {
        Self::with_special_ids(model, tokenizer, SpecialIds::default())
    }

    /// The same with the ids that a model's files name.
    pub fn with_special_ids(model: Transformer, tokenizer: Option<Tokenizer>, special_ids: SpecialIds) -> Self {
        let ends = Ends::of(&special_ids, tokenizer.as_ref(), model.config().vocab_size);
        Self {
            model,
            tokenizer,
            begin_id: ends.begin_id,
            end_ids: ends.end_ids,
            unknown_end_ids: ends.unknown_end_ids,
            line_ends: LineEnds::Keep,
            special_ids,
            chat: ChatFiles::default(),
            translation: None,
            notes: Vec::new(),
            adapters: Vec::new(),
            sentence: None,
            vocabulary: VocabularyCell::default(),
            fingerprint: FingerprintCell::default(),
        }
    }

    /// The same with weights in another format.
    ///
    /// # Errors
    ///
    /// As [`Transformer::with_weights`], and [`InferenceError::Setting`] where there are served adapters already.
    pub fn with_weights(self, format: WeightFormat) -> Result<Self> {
        self.check_no_adapters("weights")?;
        let model = self.model.with_weights(format)?;
        Ok(Self {
            model,
            fingerprint: FingerprintCell::default(),
            ..self
        })
    }

    /// The same with caches of another type.
    ///
    /// # Errors
    ///
    /// As [`Transformer::with_cache`], and [`InferenceError::Setting`] where there are served adapters already, or the model has no keys
    /// and values.
    pub fn with_cache(self, kind: CacheType) -> Result<Self> {
        self.check_no_adapters("cache")?;
        if self.model.config().mixer == Mixer::Lstm {
            let detail = "an LSTM has a state instead of keys and values, so there is no type to choose; leave it out";
            return Err(InferenceError::setting("cache", detail));
        }
        let model = self.model.with_cache(kind)?;
        Ok(Self {
            model,
            fingerprint: FingerprintCell::default(),
            ..self
        })
    }

    /// The same as a translator.
    #[must_use]
    pub fn with_translation(self, facts: TranslationFacts) -> Self {
        Self {
            translation: Some(facts),
            ..self
        }
    }

    /// Served adapters share the base's weights, so these are chosen before.
    fn check_no_adapters(&self, key: &'static str) -> Result<()> {
        match self.adapters.is_empty() {
            true => Ok(()),
            false => Err(InferenceError::setting(key, "must be chosen before adapters are added")),
        }
    }

    /// A text with the line ends that the model was trained on.
    pub fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.line_ends.apply(text)
    }

    /// Opens a Hugging Face model directory (`config.json`, `model.safetensors` or the files that its index lists, and optionally
    /// `tokenizer.json`), or the one named `model` in a run directory.
    ///
    /// The ids that begin and end a text come from the first of `generation_config.json`, `config.json` and `tokenizer_config.json`
    /// that has the key, even if it is `null`, and otherwise from the names of the tokenizer's special tokens.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NoModel`] where there is neither, [`InferenceError::TokenizerMismatch`] where the tokenizer
    /// has ids that the model lacks, and the errors of the files themselves, by name.
    pub fn open(dir: &Path, device: &Device) -> Result<Self> {
        let mut target = model_dir(dir)?;
        for _ in 0..MAX_CHANGES {
            match Self::open_at(&target, device) {
                Ok(opened) => return Ok(opened),
                // A run in training moves its link to a new checkpoint and removes the previous one.
                Err(error) => match model_dir(dir)? {
                    now if now == target => return Err(error),
                    now => target = now,
                },
            }
        }
        Self::open_at(&target, device)
    }

    /// Opens a model directory whose links are resolved, so that all of its files are those of one checkpoint.
    fn open_at(dir: &Path, device: &Device) -> Result<Self> {
        // The small file first, so that a wrong tokenizer is found before all weights are loaded.
        let config = hugging_face::open_config(dir)?;
        let tokenizer_path = dir.join(TOKENIZER_FILE);
        let tokenizer = match taal_store::exists(&tokenizer_path) {
            true => Some(Tokenizer::open(&tokenizer_path)?),
            false => None,
        };
        check_tokenizer(tokenizer.as_ref(), &tokenizer_path, &config, &dir.join(CONFIG_FILE))?;
        let special_ids = SpecialIds::open(dir)?;
        let line_ends = hugging_face::open_line_ends(dir)?;
        let model = hugging_face::open(dir, device)?;
        Ok(Self {
            line_ends,
            chat: ChatFiles::open(dir),
            translation: TranslationFacts::open(dir)?,
            sentence: sentence::read(dir),
            ..Self::with_special_ids(model, tokenizer, special_ids)
        })
    }

    /// Number of ids that may be drawn: the tokenizer's if there is one, since models often have unused rows (rounded up for speed).
    pub fn vocab_size(&self) -> usize {
        let model = self.model.config().vocab_size;
        self.tokenizer
            .as_ref()
            .map_or(model, |tokenizer| tokenizer.vocab_size().min(model))
    }

    /// The ids of a prompt, checked; an empty prompt becomes the beginning-of-sequence token. Where the tokenizer's file begins
    /// every text with special tokens, as LLaMA's `<s>`, a text prompt begins with them too; those that end a text are left out.
    /// No other special tokens are added, but those written in the text are recognized.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NoTokenizer`], [`InferenceError::EmptyPrompt`], those of [`check_ids`](Self::check_ids), or the
    /// tokenizer's error.
    pub fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        let mut ids = match prompt {
            // An empty prompt needs no tokenizer.
            Prompt::Text(text) if text.is_empty() => Vec::new(),
            Prompt::Text(text) => {
                let tokenizer = self.tokenizer.as_ref();
                let tokenizer = tokenizer.ok_or(InferenceError::NoTokenizer {
                    purpose: "a text prompt",
                })?;
                with_beginning(tokenizer, &self.normalized(text))?
            }
            Prompt::Ids(ids) => ids.clone(),
        };
        if ids.is_empty() {
            ids.push(self.first_id()?);
        }
        self.check_ids(&ids, "prompt id")?;
        Ok(ids)
    }

    /// The model's chat template, which makes a prompt of a conversation. Special tokens that it names and the files do not are those
    /// that begin and end a text.
    ///
    /// # Errors
    ///
    /// The tokenizer crate's, where there is no template or it is faulty.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let name = |id: Option<u32>| self.tokenizer.as_ref()?.id_to_token(id?);
        let template = self.chat.template()?.or_token("bos_token", name(self.begin_id));
        Ok(template.or_token("eos_token", name(self.end_ids.first().copied())))
    }

    /// The ids of a text that a chat template has made: it has all special tokens already.
    ///
    /// # Errors
    ///
    /// As [`prompt_ids`](Self::prompt_ids).
    pub fn chat_ids(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self
            .tokenizer
            .as_ref()
            .ok_or(InferenceError::NoTokenizer { purpose: "a chat" })?;
        let ids = tokenizer.encode(&self.normalized(text))?;
        self.check_ids(&ids, "prompt id")?;
        Ok(ids)
    }

    /// The special token that a chat template writes after an answer, where it is not one that ends a text anyway: an answer must end
    /// there too.
    pub fn end_of_turn(&self, template: &ChatTemplate) -> Option<String> {
        let tokenizer = self.tokenizer.as_ref()?;
        let id = end_of_turn(template, tokenizer).filter(|id| !self.end_ids.contains(id))?;
        tokenizer.id_to_token(id)
    }

    /// [`check_ids`] with the name of a token that the tokenizer has and the model lacks.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NoRow`], or [`InferenceError::UnknownId`] where the tokenizer does not know the id either.
    pub fn check_ids(&self, ids: &[u32], what: &'static str) -> Result<()> {
        let name = |id: u32| self.tokenizer.as_ref()?.id_to_token(id);
        check_ids(ids, self.model.config().vocab_size, what).map_err(|error| match error {
            InferenceError::UnknownId { id, vocab_size, .. } => match name(id) {
                Some(token) => InferenceError::NoRow {
                    place: String::new(),
                    token,
                    id,
                    vocab_size,
                },
                None => error,
            },
            error => error,
        })
    }

    /// Whether an id is the one that begins every text.
    pub(crate) fn begins_texts(&self, id: u32) -> bool {
        let frame = self.tokenizer.as_ref().map(Tokenizer::template);
        let first = frame.and_then(|frame| frame.before.first().copied());
        self.begin_id == Some(id) || first == Some(id)
    }

    fn first_id(&self) -> Result<u32> {
        self.begin_id.ok_or(InferenceError::EmptyPrompt {
            reason: match (&self.special_ids.begin, &self.tokenizer) {
                (Some(Mark::Ids(ids)), _) if ids.is_empty() => "the model's files name no beginning-of-sequence token",
                (Some(_), _) => "the beginning-of-sequence token that the model's files name is not in its vocabulary",
                (None, None) => "the model has no tokenizer that names a beginning-of-sequence token",
                (None, Some(_)) => "the tokenizer has no beginning-of-sequence token",
            },
        })
    }
}

/// The special token that a chat template writes after an answer.
pub fn end_of_turn(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<u32> {
    const ANSWER: &str = "answer";
    let input = ChatInput {
        messages: vec![Message::new("user", "question"), Message::new("assistant", ANSWER)],
        add_generation_prompt: false,
        ..ChatInput::default()
    };
    let text = template.render(&input).ok()?.text;
    let (_, after) = text.rsplit_once(ANSWER)?;
    let first = *tokenizer.encode(after.trim_start()).ok()?.first()?;
    tokenizer.is_special(first).then_some(first)
}

/// The ids at both ends of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The id that begins a text.
    pub begin_id: Option<u32>,
    /// The ids that end one.
    pub end_ids: Vec<u32>,
    /// Ids that end one and are not in the vocabulary.
    pub unknown_end_ids: Vec<i64>,
}

impl Ends {
    /// From the files, or else from the names of the tokenizer's tokens.
    pub fn of(said: &SpecialIds, tokenizer: Option<&Tokenizer>, vocab_size: usize) -> Self {
        let ids = |mark: &Option<Mark>, by_name: Option<u32>| match mark {
            Some(Mark::Ids(ids)) => ids.clone(),
            Some(Mark::Token(name)) => {
                let id = tokenizer.and_then(|tokenizer| tokenizer.token_to_id(name));
                id.map(i64::from).into_iter().collect()
            }
            None => by_name.map(i64::from).into_iter().collect(),
        };
        let known = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocab_size);
        let begin = ids(&said.begin, tokenizer.and_then(Tokenizer::bos_id));
        let end = ids(&said.end, tokenizer.and_then(Tokenizer::eos_id));
        Self {
            begin_id: begin.first().copied().and_then(known),
            end_ids: end.iter().copied().filter_map(known).collect(),
            unknown_end_ids: end.into_iter().filter(|&id| known(id).is_none()).collect(),
        }
    }
}

/// The ids of a text after the special tokens that the tokenizer begins every text with, unless the text already begins with them.
fn with_beginning(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    let beginning = tokenizer.template().before;
    match ids.starts_with(&beginning) {
        true => Ok(ids),
        false => Ok([beginning, ids].concat()),
    }
}

/// Checks that the tokenizer has no ids that the model lacks; the paths are for the message.
///
/// # Errors
///
/// [`InferenceError::TokenizerMismatch`].
pub fn check_tokenizer(
    tokenizer: Option<&Tokenizer>,
    tokenizer_path: &Path,
    config: &TransformerConfig,
    config_path: &Path,
) -> Result<()> {
    // Tokens added to a tokenizer but not to its model are refused only when a text contains one.
    let has_others = |tokenizer: &&Tokenizer| {
        (config.vocab_size as u32..tokenizer.vocab_size() as u32).any(|id| !tokenizer.is_added_id(id))
    };
    match tokenizer.filter(has_others) {
        Some(tokenizer) => Err(InferenceError::TokenizerMismatch {
            tokenizer: tokenizer_path.to_path_buf(),
            tokenizer_vocab_size: tokenizer.vocab_size(),
            config: config_path.to_path_buf(),
            model_vocab_size: config.vocab_size,
        }),
        None => Ok(()),
    }
}

/// The model directory at a path: itself, or the one named `model` in a run directory. A link to it is followed once, so that all
/// files belong to one checkpoint while a run trains, and a model inside a checkpoint is checked against its manifest.
///
/// # Errors
///
/// [`InferenceError::NoModel`] or [`InferenceError::NoModelYet`] where there is neither, the store's where a file of the checkpoint is
/// damaged, and the model crate's for a pickle.
pub fn model_dir(dir: &Path) -> Result<PathBuf> {
    if is_dangling(dir) {
        return Err(no_model(dir));
    }
    hugging_face::refuse_pickle(dir)?;
    let mut target = found(dir)?;
    for _ in 0..MAX_CHANGES {
        match check_whole(&target) {
            Ok(()) => break,
            Err(error) => match found(dir)? {
                now if now == target => return Err(error.into()),
                now => target = now,
            },
        }
    }
    Ok(target)
}

/// The current directory of the model's files.
fn found(dir: &Path) -> Result<PathBuf> {
    let in_run = dir.join(MODEL_DIR);
    for _ in 0..MAX_CHANGES {
        for candidate in [dir, &in_run] {
            let target = followed(candidate);
            if taal_store::exists(&target.join(CONFIG_FILE)) {
                return Ok(target);
            }
        }
        // A checkpoint that was removed after its link was followed has a successor.
        if !taal_store::exists(&in_run.join(CONFIG_FILE)) {
            break;
        }
    }
    Err(no_model(dir))
}

fn no_model(dir: &Path) -> InferenceError {
    let why = why_no_model(dir);
    let dir = dir.to_path_buf();
    match why {
        Some(why) => InferenceError::NoModelYet { dir, why },
        None => InferenceError::NoModel { dir },
    }
}

/// Whether a link is dangling.
fn is_dangling(path: &Path) -> bool {
    taal_store::is_link(path) && taal_store::resolve(path).is_err()
}

/// The target of a link, as a path that begins as the link's does; other paths are returned unchanged.
fn followed(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let target = match taal_store::is_link(path) {
        true => taal_store::resolve(path).ok(),
        false => None,
    };
    let Some(target) = target else {
        return path.to_path_buf();
    };
    let root = taal_store::resolve(parent).ok();
    match root.and_then(|root| target.strip_prefix(root).map(Path::to_path_buf).ok()) {
        Some(rest) => parent.join(rest),
        None => target,
    }
}

/// Checks that a model in a checkpoint has the bytes that were saved.
fn check_whole(model: &Path) -> taal_store::Result<()> {
    let checkpoint = model.parent().unwrap_or(model);
    let is_in_checkpoint =
        model.file_name().is_some_and(|name| name == MODEL_DIR) && taal_store::exists(&checkpoint.join(MANIFEST_NAME));
    if is_in_checkpoint {
        taal_store::Manifest::verify_part(checkpoint, MODEL_DIR)?;
    }
    Ok(())
}

/// Why there is no model, if the directory tells.
fn why_no_model(dir: &Path) -> Option<MissingModel> {
    let links = [dir.to_path_buf(), dir.join(MODEL_DIR)];
    if let Some(link) = links.into_iter().find(|link| is_dangling(link)) {
        return Some(MissingModel::DanglingLink { link });
    }
    if !taal_store::exists(dir) {
        return Some(MissingModel::NoSuchPath);
    }
    if taal_store::is_file(dir) {
        return Some(MissingModel::IsFile);
    }
    if taal_store::exists(&dir.join(RESOLVED_FILE)) {
        return Some(MissingModel::NotSaved);
    }
    [RUN_FILE, LOCK_NAME]
        .iter()
        .any(|mark| taal_store::exists(&dir.join(mark)))
        .then_some(MissingModel::NotBegun)
}

/// Checks that every id has a row in the embedding; a device would otherwise read past its end, or abort.
///
/// # Errors
///
/// [`InferenceError::UnknownId`].
pub fn check_ids(ids: &[u32], vocab_size: usize, what: &'static str) -> Result<()> {
    match ids.iter().find(|id| **id as usize >= vocab_size) {
        Some(&id) => Err(InferenceError::UnknownId { what, id, vocab_size }),
        None => Ok(()),
    }
}

/// Checks that the model is causal and of one stack: generation and scoring need predictions from earlier tokens only, and no source.
///
/// # Errors
///
/// [`InferenceError::NotCausal`], [`InferenceError::NeedsSource`].
pub fn check_causal(model: &Transformer, purpose: &'static str) -> Result<()> {
    match (model.is_encoder_decoder(), model.config().is_causal) {
        (true, _) => Err(InferenceError::NeedsSource { purpose }),
        (false, true) => Ok(()),
        (false, false) => Err(InferenceError::NotCausal { purpose }),
    }
}
