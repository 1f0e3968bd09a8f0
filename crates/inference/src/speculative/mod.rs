//! Speculative decoding: tokens guessed ahead, which the model checks many at a time.

mod draft_model;

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use taal_model::{Mixer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use self::draft_model::DraftModel;
use crate::generate::{GenerateOptions, Generation, Prompt, Written};
use crate::language_model::check_causal;
use crate::session::Session;
use crate::{InferenceError, LanguageModel, Result};

/// The most tokens that are guessed at once.
const MAX_TOKENS: usize = 64;

/// What guesses the next tokens.
#[derive(Debug, Clone)]
pub enum Draft {
    /// A model that is faster and has the same vocabulary. It guesses with the sampling, the random numbers and the constraint of the
    /// text, so a draft that computes the same logits is always right.
    Model(Arc<LanguageModel>),
    /// The text so far (prompt lookup, Saxena 2023): the tokens after the last earlier occurrence of its last `ngram` tokens.
    PromptLookup {
        /// 1 or more.
        ngram: usize,
    },
}

/// How [`generate_speculatively`] and an [`Engine`](crate::Engine) guess.
#[derive(Debug, Clone)]
pub struct SpeculativeOptions {
    /// What guesses.
    pub draft: Draft,
    /// The most tokens that are guessed at once, from 1 to 64. After a pass without a right guess half as many are guessed, after one
    /// with right guesses only twice as many. In an engine the texts of a batch share them.
    pub tokens: usize,
}

impl SpeculativeOptions {
    /// The most tokens that are guessed at once, where nothing else is known: 4.
    pub const DEFAULT_TOKENS: usize = 4;

    /// Guesses of a draft, at most [`DEFAULT_TOKENS`](Self::DEFAULT_TOKENS) at once.
    pub fn new(draft: Draft) -> Self {
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

    /// Checks every value, and that the draft can guess the tokens of this model and of its adapters.
    ///
    /// # Errors
    ///
    /// As [`validate`](Self::validate), and [`InferenceError::Setting`] for a draft whose vocabulary is not the model's, and for a
    /// recurrent network, which cannot take back a wrong guess; [`InferenceError::NotCausal`] and [`InferenceError::NeedsSource`] for a
    /// model or a draft that does not continue texts.
    pub fn check_for(&self, lm: &LanguageModel) -> Result<()> {
        self.validate()?;
        check_causal(&lm.model, "speculative decoding")?;
        check_can_go_back(lm.model.config(), "the model")?;
        if let Draft::Model(draft) = &self.draft {
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
    /// Guessed tokens that the model read.
    pub drafted: usize,
    /// Those that are part of the text.
    pub accepted: usize,
    /// Passes of the model, that of the prompt included. Without guesses there is one per token.
    pub passes: usize,
}

impl Speculated {
    /// Guessed tokens that are not part of the text.
    pub fn rejected(&self) -> usize {
        self.drafted - self.accepted
    }
}

/// [`generate`](crate::generate()), with tokens that a draft guesses: the model reads them in one pass (Leviathan et al. 2023) and the text
/// continues after the last right one. Each token is chosen from the model's own logits, by the sampler and the random number of plain
/// generation, and a guess is accepted where it is that token. So the text does not depend on the draft: on the CPU, where the logits of a
/// position have the same bits in every pass, it has the same bytes for every seed, sampling and constraint. (Rejection sampling, as
/// in the paper, keeps the distribution of texts, and the text of a seed changes with the draft.)
///
/// ```
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
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
/// let speculation = SpeculativeOptions::new(Draft::Model(Arc::new(small)));
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
pub fn generate_speculatively(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    speculation: SpeculativeOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<(Generation, Speculated)> {
    let mut session = Session::of(lm, options.use_cache)?.with_speculation(speculation)?;
    let generation = session.generate(prompt, options, on_text)?;
    Ok((generation, session.speculated()))
}

/// Guesses the next tokens of the texts in some rows.
#[derive(Debug)]
pub(crate) struct Speculation {
    guesser: Guesser,
    tokens: usize,
}

#[derive(Debug)]
enum Guesser {
    Model(DraftModel),
    PromptLookup { ngram: usize },
}

/// A text whose next tokens are guessed.
#[derive(Clone, Copy)]
pub(crate) struct Guessing<'a> {
    pub(crate) lm: &'a LanguageModel,
    pub(crate) options: &'a GenerateOptions,
    pub(crate) written: &'a Written,
    /// Its row.
    pub(crate) row: usize,
    /// The most guesses that are of use.
    pub(crate) most: usize,
}

impl Speculation {
    /// Checks the options; there will be texts in so many rows.
    pub(crate) fn new(lm: &LanguageModel, options: SpeculativeOptions, rows: usize) -> Result<Self> {
        options.check_for(lm)?;
        Ok(Self {
            guesser: match options.draft {
                Draft::Model(draft) => Guesser::Model(DraftModel::new(draft, rows)),
                Draft::PromptLookup { ngram } => Guesser::PromptLookup { ngram },
            },
            tokens: options.tokens,
        })
    }

    /// The most tokens that are guessed at once.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Guesses for each of some texts, which come in the order of their rows. A draft model reads at most `prefill` tokens of texts that
    /// it does not know yet; a text of which it knows too little has no guesses.
    ///
    /// # Errors
    ///
    /// Those of the draft model, which then forgets all texts.
    pub(crate) fn guesses(&mut self, texts: &[Guessing<'_>], prefill: usize) -> Result<Vec<Vec<u32>>> {
        match &mut self.guesser {
            Guesser::Model(draft) => draft.guesses(texts, prefill).inspect_err(|_| draft.forget()),
            Guesser::PromptLookup { ngram } => {
                let guesses = |text: &Guessing<'_>| looked_up(text.written.seen(), *ngram, text.most);
                Ok(texts.iter().map(guesses).collect())
            }
        }
    }

    /// A row has another text, of which row `from` has the first `len` tokens.
    pub(crate) fn begin(&mut self, row: usize, from: usize, len: usize) {
        if let Guesser::Model(draft) = &mut self.guesser {
            draft.begin(row, from, len);
        }
    }

    /// Two rows exchange their texts.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        if let Guesser::Model(draft) = &mut self.guesser {
            draft.swap(a, b);
        }
    }

    /// Gives the memory of all texts back.
    pub(crate) fn forget(&mut self) {
        if let Guesser::Model(draft) = &mut self.guesser {
            draft.forget();
        }
    }
}

/// How the guesses for one text went, which says how many are made next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) speculated: Speculated,
    next: usize,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            speculated: Speculated::default(),
            next: MAX_TOKENS,
        }
    }
}

impl Tally {
    /// How many tokens to guess next, of at most `most`.
    pub(crate) fn next(&self, most: usize) -> usize {
        self.next.min(most)
    }

    /// Counts a pass with so many guesses, of which so many were right.
    pub(crate) fn count(&mut self, guessed: usize, accepted: usize) {
        self.speculated.passes += 1;
        self.speculated.drafted += guessed;
        self.speculated.accepted += accepted;
        if accepted == guessed {
            self.next = self.next.max(2 * guessed);
        } else if accepted == 0 {
            self.next = (guessed / 2).max(1);
        }
    }
}

/// The tokens after the last earlier place of the last `ngram` tokens. Where the copy reaches the end of the text it continues with
/// itself, so that a text that repeats itself goes on doing so.
fn looked_up(seen: &[u32], ngram: usize, count: usize) -> Vec<u32> {
    let Some(at) = seen.len().checked_sub(ngram).filter(|_| count > 0) else {
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

/// Checks that each id is the same token in both models, and with the adapters of the first one.
fn check_vocabulary(lm: &LanguageModel, draft: &LanguageModel) -> Result<()> {
    let of_adapter = |(index, name): (usize, &str)| {
        let difference = difference(lm.adapted(index)?, draft)?;
        Some(format!("with the adapter {name}, {difference}"))
    };
    let of_adapters = || lm.adapters().into_iter().enumerate().find_map(of_adapter);
    match difference(lm, draft).or_else(of_adapters) {
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
