//! The model as a function from the tokens so far to the logits of the next one, with or without a cache.

use taal_model::{Cache, Transformer};

use crate::language_model::{check_causal, check_ids};
use crate::probe::{Probe, Rows, finite};
use crate::{InferenceError, Result};

/// Predicts one token after another: first [`prefill`](Self::prefill) computes all positions of the prompt, then
/// [`decode`](Self::decode) only the new one, since the cache holds the keys and values of the others.
///
/// When a token no longer fits the model's context, the last half of the context (`max_seq_len / 2` tokens, including the new
/// one) is kept and prefilled again. The same holds for a prompt longer than the context. A recurrent network has no such limit.
/// Without a cache all positions of the same context are computed every time, so the predictions are those of a cache in 32-bit floats.
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

    /// Sets the expected number of tokens, including the prompt. A smaller cache grows at the cost of a copy.
    #[must_use]
    pub fn with_expected_len(mut self, tokens: usize) -> Self {
        self.expect_len(tokens);
        self
    }

    /// As [`with_expected_len`](Self::with_expected_len).
    pub(crate) fn expect_len(&mut self, tokens: usize) {
        self.expected_len = tokens;
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
        self.keep(0);
        Ok(self.prefill_after(prompt)?.0)
    }

    /// [`prefill`](Self::prefill) that computes only what differs from the last context: keys and values of tokens that both begin
    /// with are kept. Returns the logits, on the CPU with the bits of a whole prefill, and how many tokens were kept.
    ///
    /// # Errors
    ///
    /// As [`prefill`](Self::prefill).
    pub fn prefill_after(&mut self, prompt: &[u32]) -> Result<(Vec<f32>, usize)> {
        check_ids(prompt, self.model.config().vocab_size, "prompt id")?;
        let Some(before_last) = prompt.len().checked_sub(1) else {
            return Err(InferenceError::EmptyPrompt {
                reason: "there is no token to start from",
            });
        };
        // The last token is always computed, because its logits are asked for.
        let pairs = self.context.iter().zip(&prompt[..before_last]);
        let kept = self.keep(pairs.take_while(|(old, new)| old == new).count());
        self.context = prompt.to_vec();
        let slid_before = self.slid_tokens;
        let logits = self.predict()?;
        let is_slid = self.slid_tokens > slid_before;
        Ok((logits, if is_slid { 0 } else { kept }))
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

    /// Reads one more token and, in the same pass, guesses of those after it, as far as they fit the context. Returns the logits after
    /// the token and after each guess that fits, which are those of [`decode`](Self::decode) after the same tokens; the caller checks
    /// that they are finite, and [takes back](Self::take_back) wrong guesses.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub(crate) fn decode_ahead(&mut self, id: u32, guesses: &[u32]) -> Result<Vec<f32>> {
        let vocab_size = self.model.config().vocab_size;
        check_ids(&[id], vocab_size, "token id")?;
        check_ids(guesses, vocab_size, "drafted id")?;
        self.context.push(id);
        // A guess never makes the context slide, so it slides where it does without guesses.
        self.slide();
        let fitting = guesses.len().min(self.limit() - self.context.len());
        self.context.extend(&guesses[..fitting]);
        self.predict_after(1 + fitting)
    }

    /// Drops the last tokens, as if they had not been read.
    pub(crate) fn take_back(&mut self, tokens: usize) {
        self.context.truncate(self.context.len().saturating_sub(tokens));
        self.keep(self.context.len());
    }

    fn predict(&mut self) -> Result<Vec<f32>> {
        finite(self.predict_after(1)?)
    }

    /// The logits after each of the last `count` tokens of the context, at least one of which the cache does not hold.
    fn predict_after(&mut self, count: usize) -> Result<Vec<f32>> {
        self.slide();
        self.make_room()?;
        let known = self.cache.as_ref().map_or(0, Cache::len);
        let new = &self.context[known..];
        let rows = Rows::new(new, new.len());
        Probe::new(self.model).last_logits(&rows, count, self.cache.as_mut())
    }

    /// The most tokens of a context.
    fn limit(&self) -> usize {
        self.model.config().context_limit().unwrap_or(usize::MAX)
    }

    /// Shortens a full context.
    fn slide(&mut self) {
        let limit = self.limit();
        if self.context.len() > limit {
            let slid_tokens = self.context.len() - (limit / 2).max(1);
            self.context.drain(..slid_tokens);
            self.slid_tokens += slid_tokens;
            self.keep(0);
        }
    }

    /// Makes the cache large enough for the context.
    fn make_room(&mut self) -> Result<()> {
        let limit = self.limit();
        let (len, capacity) = (self.context.len(), self.cache.as_ref().map_or(0, Cache::capacity));
        if self.is_cached && len > capacity {
            let capacity = self.expected_len.max(len).max(2 * capacity).min(limit);
            let mut larger = self.model.new_cache(1, capacity);
            if let Some(cache) = &self.cache {
                larger.copy_row(0, cache, 0)?;
            }
            self.cache = Some(larger);
        }
        Ok(())
    }

    /// Keeps at most the first `len` tokens of the cache; returns how many there are then.
    fn keep(&mut self, len: usize) -> usize {
        let Some(cache) = &mut self.cache else { return 0 };
        cache.truncate(len);
        cache.len()
    }
}
