//! Speculative decoding: tokens guessed ahead, which the model checks many at a time.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use taal_model::{Mixer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use crate::decoder::Decoder;
use crate::generate::{Course, GenerateOptions, Generation, Prompt, Written};
use crate::language_model::check_causal;
use crate::session::Session;
use crate::{InferenceError, LanguageModel, Result};

/// The most tokens that are guessed at once.
const MAX_TOKENS: usize = 64;

/// What guesses the next tokens.
#[derive(Debug, Clone, Copy)]
pub enum Draft<'a> {
    /// A model that is faster and has the same vocabulary. It guesses with the sampling, the random numbers and the constraint of the
    /// text, so a draft that computes the same logits is always right.
    Model(&'a LanguageModel),
    /// The text so far (prompt lookup, Saxena 2023): the tokens after the last earlier occurrence of its last `ngram` tokens.
    PromptLookup {
        /// 1 or more.
        ngram: usize,
    },
}

/// How [`generate_speculatively`] guesses.
#[derive(Debug, Clone, Copy)]
pub struct SpeculativeOptions<'a> {
    /// What guesses.
    pub draft: Draft<'a>,
    /// How many tokens are guessed at once, from 1 to 64.
    pub tokens: usize,
}

impl<'a> SpeculativeOptions<'a> {
    /// The number of tokens that are guessed at once, where nothing else is known: 4.
    pub const DEFAULT_TOKENS: usize = 4;

    /// Guesses of a draft, [`DEFAULT_TOKENS`](Self::DEFAULT_TOKENS) at once.
    pub fn new(draft: Draft<'a>) -> Self {
        let tokens = Self::DEFAULT_TOKENS;
        Self { draft, tokens }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting, what was expected and its value.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MAX_TOKENS).contains(&self.tokens) {
            let detail = format!("expected 1..={MAX_TOKENS}, got {}", self.tokens);
            return Err(InferenceError::setting("draft_tokens", detail));
        }
        match self.draft {
            Draft::PromptLookup { ngram: 0 } => Err(InferenceError::setting(
                "draft_ngram",
                "expected a number of tokens from 1, got 0",
            )),
            _ => Ok(()),
        }
    }

    /// Checks every value, and that the draft can guess the tokens of this model.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate), and [`InferenceError::Setting`] for a draft whose vocabulary is not the model's, and for a
    /// recurrent network, which cannot take back a wrong guess; [`InferenceError::NotCausal`] and [`InferenceError::NeedsSource`] for a
    /// draft that does not continue texts.
    pub fn check_for(&self, lm: &LanguageModel) -> Result<()> {
        self.validate()?;
        check_can_go_back(lm.model.config(), "the model")?;
        if let Draft::Model(draft) = self.draft {
            check_causal(&draft.model, "guessing the next tokens")?;
            check_can_go_back(draft.model.config(), "the draft")?;
            check_vocabulary(lm, draft)?;
        }
        Ok(())
    }
}

/// How often guesses were right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speculated {
    /// Guessed tokens that the model checked.
    pub drafted: usize,
    /// Those that are part of the text.
    pub accepted: usize,
    /// Passes of the model, that of the prompt included. Without guesses there is one per token.
    pub passes: usize,
}

/// [`generate`](crate::generate()), with tokens that a draft guesses: the model reads them in one pass (Leviathan et al. 2023) and the text
/// continues after the last right one. Each token is chosen from the model's own logits, by the sampler and the random number of plain
/// generation, and a guess is accepted where it is that token. So the text does not depend on the draft: on the CPU, where the logits of a
/// position have the same bits in every pass, it has the same bytes for every seed, sampling and constraint. (Rejection sampling, as
/// in the paper, keeps the distribution of texts, and the text of a seed changes with the draft.)
///
/// ```
/// use std::ops::ControlFlow;
/// use burn::tensor::Device;
/// use taal_inference::{
///     Draft, GenerateOptions, LanguageModel, Prompt, SpeculativeOptions, generate, generate_speculatively,
/// };
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let size = |n_layers| ModelSize { vocab_size: 50, max_seq_len: 16, n_layers, n_heads: 4, d_model: 32 };
/// let model = |n_layers| TransformerConfig::llama(size(n_layers)).init(42, &Device::flex());
/// let (lm, small) = (LanguageModel::new(model(4)?, None), LanguageModel::new(model(1)?, None));
///
/// let prompt = Prompt::Ids(vec![1, 2, 3]);
/// let options = GenerateOptions { max_tokens: 10, ..GenerateOptions::default() };
/// let speculation = SpeculativeOptions::new(Draft::Model(&small));
/// let all = &mut |_: &str| ControlFlow::Continue(());
/// let (generation, speculated) = generate_speculatively(&lm, &prompt, &options, speculation, all)?;
/// assert_eq!(generation, generate(&lm, &prompt, &options, all)?);
/// assert!(speculated.accepted <= speculated.drafted && speculated.passes <= 10);
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
///
/// # Errors
///
/// As [`generate`](crate::generate()) and [`SpeculativeOptions::check_for`], and those of the draft model.
pub fn generate_speculatively<'a>(
    lm: &'a LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    speculation: SpeculativeOptions<'a>,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<(Generation, Speculated)> {
    let mut session = Session::of(lm, options.use_cache)?.with_speculation(speculation)?;
    let generation = session.generate(prompt, options, on_text)?;
    Ok((generation, session.speculated()))
}

/// Guesses the next tokens of one text after another.
#[derive(Debug)]
pub(crate) struct Speculation<'a> {
    guesser: Guesser<'a>,
    tokens: usize,
}

#[derive(Debug)]
enum Guesser<'a> {
    Model(DraftModel<'a>),
    PromptLookup { ngram: usize },
}

impl<'a> Speculation<'a> {
    /// Checks the options.
    pub(crate) fn new(lm: &LanguageModel, options: SpeculativeOptions<'a>) -> Result<Self> {
        options.check_for(lm)?;
        Ok(Self {
            guesser: match options.draft {
                Draft::Model(draft) => Guesser::Model(DraftModel {
                    lm: draft,
                    decoder: Decoder::new(&draft.model, true)?,
                    start: 0,
                }),
                Draft::PromptLookup { ngram } => Guesser::PromptLookup { ngram },
            },
            tokens: options.tokens,
        })
    }

    /// Begins a text of at most so many tokens.
    pub(crate) fn begin(&mut self, expected_len: usize) {
        if let Guesser::Model(draft) = &mut self.guesser {
            draft.start = 0;
            draft.decoder.expect_len(expected_len);
        }
    }

    /// Guesses of the next tokens. A pass gives one token more than it has right guesses, so one fewer than are missing.
    pub(crate) fn guesses(
        &mut self,
        lm: &LanguageModel,
        course: &Course,
        options: &GenerateOptions,
    ) -> Result<Vec<u32>> {
        let missing = course.expected_len(options) - course.seen().len();
        let count = self.tokens.min(missing.saturating_sub(1));
        match (count, &mut self.guesser) {
            (0, _) => Ok(Vec::new()),
            (_, Guesser::PromptLookup { ngram }) => Ok(looked_up(course.seen(), *ngram, count)),
            (_, Guesser::Model(draft)) => draft.guesses(lm, course.written(), options, count),
        }
    }
}

/// A draft model and what it has read.
#[derive(Debug)]
struct DraftModel<'a> {
    lm: &'a LanguageModel,
    decoder: Decoder<'a>,
    /// The first token of the text that is in its context.
    start: usize,
}

impl DraftModel<'_> {
    /// The tokens that the text would continue with if the logits were this model's.
    fn guesses(
        &mut self,
        lm: &LanguageModel,
        written: &Written,
        options: &GenerateOptions,
        count: usize,
    ) -> Result<Vec<u32>> {
        let mut written = written.fork();
        let count = self.make_room(written.seen().len(), count);
        let context = &written.seen()[self.start..];
        let known = self.lm.model.config().vocab_size;
        if context.iter().any(|id| *id as usize >= known) {
            // A prompt may have ids beyond the tokenizer's, for which only the model has rows.
            return Ok(Vec::new());
        }
        let (mut logits, _) = self.decoder.prefill_after(context)?;
        let mut guesses = Vec::with_capacity(count);
        loop {
            // A draft may have fewer rows than the tokenizer has tokens, and never guesses the others.
            logits.resize(lm.vocab_size(), f32::NEG_INFINITY);
            // Logits of which no token may come next are no error: they are only guesses.
            let Ok(id) = written.choose(lm, options, &logits) else {
                break;
            };
            guesses.push(id);
            if guesses.len() == count || written.add(lm, options, id).unwrap_or(true) {
                break;
            }
            logits = self.decoder.decode(id)?;
        }
        Ok(guesses)
    }

    /// Moves the context so that the text and all guesses but the last fit. Where it is full, it keeps its last half, as that of the
    /// model does. Returns how many guesses fit.
    fn make_room(&mut self, len: usize, count: usize) -> usize {
        let limit = self.lm.model.config().context_limit().unwrap_or(usize::MAX).max(1);
        let count = count.min(limit);
        if len - self.start > limit - (count - 1) {
            self.start = len - (limit / 2).clamp(1, limit - (count - 1));
        }
        count
    }
}

/// The tokens after the last earlier place of the last `ngram` tokens. Where the copy reaches the end of the text it continues with
/// itself, so that a text that repeats itself goes on doing so.
fn looked_up(seen: &[u32], ngram: usize, count: usize) -> Vec<u32> {
    let Some(at) = seen.len().checked_sub(ngram) else {
        return Vec::new();
    };
    let last = &seen[at..];
    let earlier = seen[..seen.len() - 1].windows(ngram).rposition(|tokens| tokens == last);
    let Some(from) = earlier.map(|start| start + ngram) else {
        return Vec::new();
    };
    let period = seen.len() - from;
    (0..count).map(|index| seen[from + index % period]).collect()
}

/// Wrong guesses are taken back out of the cache, which the state of a recurrent network does not allow.
fn check_can_go_back(config: &TransformerConfig, which: &str) -> Result<()> {
    match config.mixer {
        Mixer::Attention => Ok(()),
        Mixer::Lstm => {
            let detail = format!("{which} is recurrent and cannot take back a wrong guess: leave the draft out");
            Err(InferenceError::setting("draft", detail))
        }
    }
}

/// Checks that each id is the same token in both models.
fn check_vocabulary(lm: &LanguageModel, draft: &LanguageModel) -> Result<()> {
    match difference(lm, draft) {
        Some(difference) => {
            let detail = format!("{difference}: take a draft with the model's tokenizer");
            Err(InferenceError::setting("draft", detail))
        }
        None => Ok(()),
    }
}

/// The first difference of two vocabularies.
fn difference(lm: &LanguageModel, draft: &LanguageModel) -> Option<String> {
    let (Some(own), Some(other)) = (&lm.tokenizer, &draft.tokenizer) else {
        let [own, other] = [lm, draft].map(LanguageModel::vocab_size);
        return (own != other).then(|| format!("the draft has {other} token ids and the model {own}"));
    };
    if own.hash() == other.hash() {
        return None;
    }
    let [size, other_size] = [own, other].map(Tokenizer::vocab_size);
    if size != other_size {
        return Some(format!(
            "the draft's tokenizer has {other_size} tokens and the model's {size}"
        ));
    }
    let token = |tokenizer: &Tokenizer, id| tokenizer.id_to_token(id).unwrap_or_default();
    let id = (0..size as u32).find(|id| token(own, *id) != token(other, *id))?;
    let [own, other] = [own, other].map(|tokenizer| taal_store::excerpt(&token(tokenizer, id)));
    Some(format!("token {id} is {other} in the draft and {own} in the model"))
}
