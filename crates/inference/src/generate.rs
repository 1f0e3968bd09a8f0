//! Text from a prompt, token by token, passed to a callback.

use std::borrow::Cow;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::constraint::{Constraint, Matching};
use crate::sampling::{Sampling, Seen, sample};
use crate::session::Session;
use crate::speculative::Guessing;
use crate::text_stream::TextStream;
use crate::{InferenceError, LanguageModel, Result};

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Text, for a model with a tokenizer.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Options of [`generate`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateOptions {
    /// The most new tokens; 0 gives an empty continuation.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation and are not part of it. They are matched against the text with special tokens, so they may
    /// contain those.
    pub stop: Vec<String>,
    /// Whether special tokens are part of the text.
    pub show_special: bool,
    /// Whether a prompt longer than the context loses its beginning; otherwise it is refused.
    pub truncate: bool,
    /// Whether keys and values are cached. Without the cache the tokens are the same, but slower.
    pub use_cache: bool,
    /// Whether [`LanguageModel::end_ids`] end the continuation. With a constraint they are otherwise never generated.
    pub stop_at_eos: bool,
    /// The form that the continuation must have.
    pub constraint: Option<Constraint>,
}

impl Default for GenerateOptions {
    /// 128 tokens of the model's own distribution, cached, up to the end-of-sequence token.
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: Sampling::default(),
            stop: Vec::new(),
            show_special: false,
            truncate: true,
            use_cache: true,
            stop_at_eos: true,
            constraint: None,
        }
    }
}

impl GenerateOptions {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting, what was expected and its value.
    pub fn validate(&self) -> Result<()> {
        self.sampling.validate()?;
        match self.stop.iter().any(String::is_empty) {
            true => Err(InferenceError::setting(
                "stop",
                "expected at least one character, got an empty text; leave it out",
            )),
            false => Ok(()),
        }
    }
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// `max_tokens` were generated.
    Length,
    /// A stop string was generated.
    Stop,
    /// The end-of-sequence token was generated.
    Eos,
    /// The [`Constraint`] allows nothing more.
    Complete,
    /// The caller stopped it.
    Cancelled,
}

/// A prompt's continuation, in the form that `taal generate --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The prompt as it was given: a text, or a list of ids.
    pub prompt: Prompt,
    /// The new text, without the stop string; `None` without a tokenizer.
    pub text: Option<String>,
    /// All generated tokens, including those of the stop string and the end-of-sequence token.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Number of tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: usize,
    /// How many of them the model did not read, because the prompt is longer than its context.
    #[serde(default)]
    pub dropped_prompt_tokens: usize,
    /// How many tokens were dropped during generation because the context was full.
    #[serde(default)]
    pub slid_tokens: usize,
}

/// Continues a prompt. `on_text` gets the new text piece by piece as soon as it is certain: whole characters that can no longer
/// become part of a stop string. Concatenated, the pieces are [`Generation::text`]. If it breaks, generation stops.
///
/// The prompt is tokenized by [`LanguageModel::prompt_ids`]; an empty one is replaced by the beginning-of-sequence token. Of a
/// prompt longer than the context the last `context - 1` ids are read; if the prompt begins with the id that begins every text,
/// that id replaces the first of them. For a context that fills up later, see [`Decoder`](crate::Decoder). Equal models, prompts and options give
/// equal continuations. The new text is the difference between decoding prompt and new ids together and decoding the prompt; see
/// [`DecodeStream::after`](taal_tokenizer::DecodeStream::after).
///
/// # Errors
///
/// Invalid prompts or options, or [`InferenceError::NotFinite`] where the model's logits are not finite.
pub fn generate(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation> {
    Session::of(lm, options.use_cache)?.generate(prompt, options, on_text)
}

/// The tokens so far and the state of the constraint: with the options, all that the choice of a token from its logits depends on.
pub(crate) struct Written {
    /// The part of the prompt that is read, and the new tokens.
    seen: Vec<u32>,
    prompt_len: usize,
    matching: Option<Matching>,
}

impl Written {
    /// The prompt and the new tokens.
    pub(crate) fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// How many tokens are new.
    pub(crate) fn new_tokens(&self) -> usize {
        self.seen.len() - self.prompt_len
    }

    /// The same tokens, to be continued in another way.
    pub(crate) fn fork(&self) -> Self {
        Self {
            seen: self.seen.clone(),
            prompt_len: self.prompt_len,
            matching: self.matching.as_ref().map(Matching::fork),
        }
    }

    /// The next token by its logits, one for each id that may be drawn or more.
    pub(crate) fn choose(&mut self, lm: &LanguageModel, options: &GenerateOptions, logits: &[f32]) -> Result<u32> {
        let key = options.sampling.draw_key(self.new_tokens() as u64);
        let mut logits = Cow::Borrowed(&logits[..lm.vocab_size()]);
        if let Some(matching) = &mut self.matching {
            let end_ids = if options.stop_at_eos { &lm.end_ids[..] } else { &[] };
            let logits = logits.to_mut();
            matching.forbid(end_ids, |id| {
                // A logit that is not finite stays, so that it is reported.
                let logit = &mut logits[id as usize];
                if logit.is_finite() {
                    *logit = f32::NEG_INFINITY;
                }
            })?;
        }
        let (prompt, new) = self.seen.split_at(self.prompt_len);
        sample(&logits, Seen { prompt, new }, &options.sampling, key)
    }

    /// Adds a token; returns whether it ends the text.
    pub(crate) fn add(&mut self, lm: &LanguageModel, options: &GenerateOptions, id: u32) -> Result<bool> {
        self.seen.push(id);
        let is_named = self.matching.as_ref().is_some_and(|matching| matching.names(id));
        let is_end = options.stop_at_eos && lm.end_ids.contains(&id) && !is_named;
        if let Some(matching) = self.matching.as_mut().filter(|_| !is_end) {
            matching.take(id)?;
        }
        Ok(is_end)
    }

    fn is_complete(&self) -> bool {
        self.matching.as_ref().is_some_and(Matching::is_complete)
    }
}

/// A continuation in progress: its tokens, and why it ended.
pub(crate) struct Course {
    prompt: Prompt,
    prompt_tokens: usize,
    written: Written,
    finish_reason: Option<FinishReason>,
}

impl Course {
    /// Starts a continuation, and the stream of its text.
    pub(crate) fn new<'a>(
        lm: &'a LanguageModel,
        prompt: &Prompt,
        options: &'a GenerateOptions,
    ) -> Result<(Self, TextStream<'a>)> {
        options.validate()?;
        if lm.tokenizer.is_none() && !options.stop.is_empty() {
            return Err(InferenceError::NoTokenizer {
                purpose: "a stop string",
            });
        }
        let prompt_ids = lm.prompt_ids(prompt)?;
        let text = TextStream::new(lm, &prompt_ids, options)?;
        let constraint = options.constraint.as_ref();
        let matching = constraint.map(|constraint| Matching::new(lm, constraint, &prompt_ids, options.show_special));
        let matching = matching.transpose()?;
        let prompt_tokens = prompt_ids.len();
        let seen = fit(lm, prompt_ids, options.truncate)?;
        let written = Written {
            prompt_len: seen.len(),
            seen,
            matching,
        };
        let course = Self {
            prompt: prompt.clone(),
            prompt_tokens,
            finish_reason: written.is_complete().then_some(FinishReason::Complete),
            written,
        };
        Ok((course, text))
    }

    /// The text in a row of a batch, with room for at most `most` guesses of its next tokens. A pass gives one token more than it has
    /// right guesses, so one fewer than are missing are of use.
    pub(crate) fn guessing<'a>(
        &'a self,
        lm: &'a LanguageModel,
        options: &'a GenerateOptions,
        row: usize,
        most: usize,
    ) -> Guessing<'a> {
        let missing = self.expected_len(options) - self.seen().len();
        Guessing {
            lm,
            options,
            written: &self.written,
            row,
            most: most.min(missing.saturating_sub(1)),
        }
    }

    /// The prompt and the new tokens.
    pub(crate) fn seen(&self) -> &[u32] {
        self.written.seen()
    }

    /// The newest token.
    pub(crate) fn last(&self) -> u32 {
        self.seen()[self.seen().len() - 1]
    }

    /// Whether there is a new token.
    pub(crate) fn is_begun(&self) -> bool {
        self.written.new_tokens() > 0
    }

    /// How many tokens there will be at most.
    pub(crate) fn expected_len(&self, options: &GenerateOptions) -> usize {
        self.written.prompt_len.saturating_add(options.max_tokens)
    }

    /// Whether it has `max_tokens` tokens.
    pub(crate) fn is_long_enough(&self, options: &GenerateOptions) -> bool {
        self.written.new_tokens() >= options.max_tokens
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self, options: &GenerateOptions) -> bool {
        self.finish_reason.is_some() || self.is_long_enough(options)
    }

    /// Chooses the next token from the logits; returns the text that is certain now.
    pub(crate) fn take(
        &mut self,
        lm: &LanguageModel,
        options: &GenerateOptions,
        text: &mut TextStream<'_>,
        logits: &[f32],
    ) -> Result<String> {
        let id = self.written.choose(lm, options, logits)?;
        self.accept(lm, options, text, id)
    }

    /// Adds a token; returns the text that is certain now.
    pub(crate) fn accept(
        &mut self,
        lm: &LanguageModel,
        options: &GenerateOptions,
        text: &mut TextStream<'_>,
        id: u32,
    ) -> Result<String> {
        if self.written.add(lm, options, id)? {
            self.finish_reason = Some(FinishReason::Eos);
            return match options.show_special {
                true => Ok(text.push(id)?.0),
                false => Ok(String::new()),
            };
        }
        let (piece, is_stopped) = text.push(id)?;
        self.finish_reason = match is_stopped {
            true => Some(FinishReason::Stop),
            false => self.written.is_complete().then_some(FinishReason::Complete),
        };
        Ok(piece)
    }

    /// The part of the prompt that is read with the new tokens, and the state of the constraint.
    pub(crate) fn into_parts(self) -> (Vec<u32>, Option<Matching>) {
        (self.written.seen, self.written.matching)
    }

    /// The remaining text, and the whole generation.
    pub(crate) fn end(
        mut self,
        text: &mut TextStream<'_>,
        is_cancelled: bool,
        slid_tokens: usize,
    ) -> Result<(String, Generation)> {
        let (rest, is_stopped) = text.finish()?;
        let finish_reason = self.finish_reason.unwrap_or(match (is_stopped, is_cancelled) {
            (true, _) => FinishReason::Stop,
            (false, true) => FinishReason::Cancelled,
            (false, false) => FinishReason::Length,
        });
        let prompt_len = self.written.prompt_len;
        let generation = Generation {
            prompt: self.prompt,
            text: text.text(),
            token_ids: self.written.seen.split_off(prompt_len),
            finish_reason,
            prompt_tokens: self.prompt_tokens,
            dropped_prompt_tokens: self.prompt_tokens - prompt_len,
            slid_tokens,
        };
        Ok((rest, generation))
    }
}

/// The part of a prompt that the model reads, with room for a new token where it is too long.
fn fit(lm: &LanguageModel, mut ids: Vec<u32>, truncate: bool) -> Result<Vec<u32>> {
    let Some(context) = lm.model.config().context_limit().filter(|context| ids.len() > *context) else {
        return Ok(ids);
    };
    if !truncate {
        return Err(InferenceError::PromptTooLong {
            tokens: ids.len(),
            context,
        });
    }
    let kept = (context - 1).max(1);
    let first = ids[0];
    ids.drain(..ids.len() - kept);
    if kept > 1 && lm.begins_texts(first) {
        ids[0] = first;
    }
    Ok(ids)
}
