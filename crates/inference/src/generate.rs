//! Text from a prompt, token by token, to whoever listens.

use serde::{Deserialize, Serialize};
use taal_tokenizer::DecodeStream;

use crate::decoder::Decoder;
use crate::sampling::{Sampling, sample};
use crate::stop::{Passed, StopFilter};
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
    /// Texts that end the continuation and are not part of it.
    pub stop: Vec<String>,
    /// Whether keys and values are kept. Off, the same tokens come out more slowly.
    pub use_cache: bool,
    /// Whether the tokenizer's end-of-sequence token ends the continuation.
    pub stop_at_eos: bool,
}

impl Default for GenerateOptions {
    /// 128 tokens of the model's own distribution, cached, up to the end-of-sequence token.
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: Sampling::default(),
            stop: Vec::new(),
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
}

/// Continues a prompt. `on_text` gets the new text piece by piece as soon as it is certain: whole characters that can
/// no longer become part of a stop string. The pieces together are [`Generation::text`].
///
/// The prompt is tokenised as [`LanguageModel::prompt_ids`] says; an empty one is replaced by the tokenizer's
/// beginning-of-sequence token. [`Decoder`] says what happens when the context is full. Equal models, prompts and
/// options give equal continuations.
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
    let mut decoder = Decoder::new(&lm.model, options.use_cache)?
        .with_expected_len(prompt_ids.len().saturating_add(options.max_tokens));
    let mut text = TextStream::new(lm, &prompt_ids, options, on_text)?;
    let eos_id = lm
        .tokenizer
        .as_ref()
        .filter(|_| options.stop_at_eos)
        .and_then(|tokenizer| tokenizer.eos_id());

    let mut seen = prompt_ids;
    let prompt_len = seen.len();
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
        if eos_id == Some(id) {
            finish_reason = FinishReason::Eos;
            break;
        }
        if text.push(id)? {
            finish_reason = FinishReason::Stop;
            break;
        }
    }
    let (text, is_stopped) = text.finish()?;
    if is_stopped {
        finish_reason = FinishReason::Stop;
    }
    let token_ids = seen.split_off(prompt_len);
    Ok(Generation {
        prompt: prompt.clone(),
        text,
        token_ids,
        finish_reason,
    })
}

/// Tokens to text, past the stop strings, to the listener.
struct TextStream<'a> {
    /// None without a tokenizer, or once a stop string has come.
    words: Option<(DecodeStream<'a>, StopFilter<'a>)>,
    text: Option<String>,
    on_text: &'a mut dyn FnMut(&str),
}

impl<'a> TextStream<'a> {
    fn new(
        lm: &'a LanguageModel,
        prompt_ids: &[u32],
        options: &'a GenerateOptions,
        on_text: &'a mut dyn FnMut(&str),
    ) -> Result<Self> {
        let words = match &lm.tokenizer {
            None => None,
            Some(tokenizer) => {
                let mut stream = tokenizer.decode_stream();
                // A token's text depends on what stands before it: at the start of a text, many tokenizers drop the
                // space that begins a word. So the stream reads the prompt first, and nobody hears it.
                for &id in prompt_ids.iter().filter(|id| (**id as usize) < tokenizer.vocab_size()) {
                    stream.push(id)?;
                }
                Some((stream, StopFilter::new(&options.stop)))
            }
        };
        Ok(Self {
            text: words.as_ref().map(|_| String::new()),
            words,
            on_text,
        })
    }

    /// Takes a new token; returns whether it completes a stop string.
    fn push(&mut self, id: u32) -> Result<bool> {
        let Some((mut stream, filter)) = self.words.take() else {
            return Ok(false);
        };
        let piece = stream.push(id)?.unwrap_or_default();
        let filter = self.pass(filter, &piece);
        let is_stopped = filter.is_none();
        self.words = filter.map(|filter| (stream, filter));
        Ok(is_stopped)
    }

    /// The whole text, and whether its last characters completed a stop string.
    fn finish(mut self) -> Result<(Option<String>, bool)> {
        let Some((stream, filter)) = self.words.take() else {
            return Ok((self.text, false));
        };
        let rest = stream.finish()?;
        let Some(filter) = self.pass(filter, &rest) else {
            return Ok((self.text, true));
        };
        self.hear(&filter.finish());
        Ok((self.text, false))
    }

    /// Lets through what is certain, and gives the filter back unless a stop string ended the text.
    fn pass(&mut self, mut filter: StopFilter<'a>, piece: &str) -> Option<StopFilter<'a>> {
        match filter.push(piece) {
            Passed::Text(text) => {
                self.hear(&text);
                Some(filter)
            }
            Passed::Stopped(text) => {
                self.hear(&text);
                None
            }
        }
    }

    fn hear(&mut self, piece: &str) {
        if let Some(text) = self.text.as_mut().filter(|_| !piece.is_empty()) {
            text.push_str(piece);
            (self.on_text)(piece);
        }
    }
}
