//! Text from a prompt, token by token, to whoever listens.

use serde::{Deserialize, Serialize};

use crate::decoder::Decoder;
use crate::sampling::{Sampling, sample};
use crate::text_stream::TextStream;
use crate::{InferenceError, LanguageModel, Result};

/// What to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Words, for a model with a tokenizer.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// How far to go, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// The most new tokens; 0 gives an empty continuation.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation and are not part of it. They are looked for in the text with its special tokens, so they can name
    /// those.
    pub stop: Vec<String>,
    /// Whether special tokens are part of the text.
    pub show_special: bool,
    /// Whether the beginning of a prompt that is longer than the context is left out; such a prompt is refused otherwise.
    pub truncate: bool,
    /// Whether keys and values are kept. Off, the same tokens come out more slowly.
    pub use_cache: bool,
    /// Whether [`LanguageModel::end_ids`] end the continuation.
    pub stop_at_eos: bool,
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
        }
    }
}

impl GenerateOptions {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting, what was expected and what it is.
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
    /// `max_tokens` were made.
    Length,
    /// A stop string came.
    Stop,
    /// The end-of-sequence token came.
    Eos,
}

/// A prompt's continuation, in the form that `taal generate --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The prompt as it was given: a text, or a list of ids.
    pub prompt: Prompt,
    /// The new text, without the stop string; none without a tokenizer.
    pub text: Option<String>,
    /// All tokens that were made, those of the stop string and the end-of-sequence token included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Number of tokens of the prompt.
    #[serde(default)]
    pub prompt_tokens: usize,
    /// How many of them the model did not read, because the prompt is longer than its context.
    #[serde(default)]
    pub dropped_prompt_tokens: usize,
    /// How many tokens left the context while the text was made, because it was full.
    #[serde(default)]
    pub slid_tokens: usize,
}

/// Continues a prompt. `on_text` gets the new text piece by piece as soon as it is certain: whole characters that can
/// no longer become part of a stop string. The pieces together are [`Generation::text`].
///
/// The prompt is tokenised as [`LanguageModel::prompt_ids`] says; an empty one is replaced by the beginning-of-sequence token. Of a prompt
/// that is longer than the context the last `context - 1` ids are read, the first of them replaced by the id that begins every text where
/// the prompt begins with it. [`Decoder`] says what happens when the context is full later. Equal models, prompts and options give equal
/// continuations. The new text is what decoding prompt and new ids together has more than decoding the prompt, as
/// [`DecodeStream::after`](taal_tokenizer::DecodeStream::after) says it.
///
/// # Errors
///
/// What is wrong with the prompt or the options, or [`InferenceError::NotFinite`] where the model's logits are.
pub fn generate(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generation> {
    options.validate()?;
    if lm.tokenizer.is_none() && !options.stop.is_empty() {
        return Err(InferenceError::NoTokenizer {
            purpose: "a stop string",
        });
    }
    let prompt_ids = lm.prompt_ids(prompt)?;
    let mut text = TextStream::new(lm, &prompt_ids, options, on_text)?;
    let prompt_tokens = prompt_ids.len();
    let mut seen = fit(lm, prompt_ids, options.truncate)?;
    let prompt_len = seen.len();
    let mut decoder =
        Decoder::new(&lm.model, options.use_cache)?.with_expected_len(prompt_len.saturating_add(options.max_tokens));
    let mut finish_reason = FinishReason::Length;
    while seen.len() - prompt_len < options.max_tokens {
        let position = seen.len() - prompt_len;
        let logits = match seen.last() {
            Some(&last) if position > 0 => decoder.decode(last)?,
            _ => decoder.prefill(&seen)?,
        };
        let known = &logits[..lm.vocab_size()];
        let id = sample(
            known,
            &seen,
            &options.sampling,
            options.sampling.draw_key(position as u64),
        )?;
        seen.push(id);
        if options.stop_at_eos && lm.end_ids.contains(&id) {
            finish_reason = FinishReason::Eos;
            if options.show_special {
                text.push(id)?;
            }
            break;
        }
        if text.push(id)? {
            finish_reason = FinishReason::Stop;
            break;
        }
    }
    let (text, is_stopped) = text.finish()?;
    if is_stopped && finish_reason == FinishReason::Length {
        finish_reason = FinishReason::Stop;
    }
    let token_ids = seen.split_off(prompt_len);
    Ok(Generation {
        prompt: prompt.clone(),
        text,
        token_ids,
        finish_reason,
        prompt_tokens,
        dropped_prompt_tokens: prompt_tokens - prompt_len,
        slid_tokens: decoder.slid_tokens(),
    })
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
