//! The model as a function from the tokens so far to the logits of the next one, with or without a cache.

use taal_model::{Cache, Transformer};

use crate::language_model::{check_causal, check_ids};
use crate::probe::{Probe, Rows};
use crate::{InferenceError, Result};

/// Predicts one token after another: first [`prefill`](Self::prefill) computes all positions of the prompt, then
/// [`decode`](Self::decode) only the new one, since the cache holds the keys and values of the others.
///
/// When a token no longer fits the model's context, the last half of the context (`max_seq_len / 2` tokens, including the new
/// one) is kept and prefilled again. The same holds for a prompt longer than the context. A recurrent network has no such limit.
/// Without a cache all positions of the same context are computed every time, so the predictions are the same.
///
/// ```
/// use burn::tensor::Device;
/// use taal_inference::Decoder;
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let model = TransformerConfig::llama(ModelSize {
///     vocab_size: 50,
///     max_seq_len: 16,
///     n_layers: 2,
///     n_heads: 4,
///     d_model: 32,
/// }).init(42, &Device::flex())?;
/// let mut decoder = Decoder::new(&model, true)?;
/// let logits = decoder.prefill(&[1, 2, 3])?;
/// assert_eq!(logits.len(), 50); // one for each id of the vocabulary
/// decoder.decode(4)?;
/// assert_eq!(decoder.context(), [1, 2, 3, 4]);
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Transformer,
    is_cached: bool,
    cache: Option<Cache>,
    /// The initial capacity of the cache, in positions.
    expected_len: usize,
    context: Vec<u32>,
    slid_tokens: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder without context.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotCausal`].
    pub fn new(model: &'a Transformer, use_cache: bool) -> Result<Self> {
        check_causal(model, "generating text")?;
        Ok(Self {
            model,
            is_cached: use_cache,
            cache: None,
            expected_len: 0,
            context: Vec::new(),
            slid_tokens: 0,
        })
    }

    /// Sets the expected number of tokens, including the prompt. A smaller cache grows at the cost of another prefill.
    #[must_use]
    pub fn with_expected_len(mut self, tokens: usize) -> Self {
        self.expected_len = tokens;
        self
    }

    /// The context of the last prediction.
    pub fn context(&self) -> &[u32] {
        &self.context
    }

    /// How many tokens were dropped because the context was full.
    pub fn slid_tokens(&self) -> usize {
        self.slid_tokens
    }

    /// Starts again with a prompt; returns the logits of the token after it, one for each id of the model's vocabulary.
    ///
    /// # Errors
    ///
    /// [`InferenceError::EmptyPrompt`], [`InferenceError::UnknownId`], [`InferenceError::Device`], or the model's.
    pub fn prefill(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        check_ids(prompt, self.model.config().vocab_size, "prompt id")?;
        if prompt.is_empty() {
            return Err(InferenceError::EmptyPrompt {
                reason: "there is no token to start from",
            });
        }
        self.clear_cache();
        self.context = prompt.to_vec();
        self.predict()
    }

    /// Reads one more token; returns the logits of the token after it, one for each id of the model's vocabulary.
    ///
    /// # Errors
    ///
    /// [`InferenceError::UnknownId`], [`InferenceError::Device`], or the model's.
    pub fn decode(&mut self, id: u32) -> Result<Vec<f32>> {
        check_ids(&[id], self.model.config().vocab_size, "token id")?;
        self.context.push(id);
        self.predict()
    }

    fn predict(&mut self) -> Result<Vec<f32>> {
        self.make_room();
        let known = self.cache.as_ref().map_or(0, Cache::len);
        let new = &self.context[known..];
        Probe::new(self.model).next_logits(&Rows::new(new, new.len()), self.cache.as_mut())
    }

    /// Shortens a full context and makes the cache match it.
    fn make_room(&mut self) {
        let limit = self.model.config().context_limit().unwrap_or(usize::MAX);
        if self.context.len() > limit {
            let slid_tokens = self.context.len() - (limit / 2).max(1);
            self.context.drain(..slid_tokens);
            self.slid_tokens += slid_tokens;
            self.clear_cache();
        }
        let (len, capacity) = (self.context.len(), self.cache.as_ref().map_or(0, Cache::capacity));
        if self.is_cached && len > capacity {
            let capacity = self.expected_len.max(len).max(2 * capacity).min(limit);
            self.cache = Some(self.model.new_cache(1, capacity));
        }
    }

    fn clear_cache(&mut self) {
        if let Some(cache) = &mut self.cache {
            cache.reset();
        }
    }
}
