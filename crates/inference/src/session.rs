//! Several continuations one after another, of which each begins as the last one did.

use std::ops::ControlFlow;

use crate::decoder::Decoder;
use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::{LanguageModel, Result};

/// Continues prompts one after another and keeps what the model has computed of the last one. In a conversation each prompt begins
/// with the one before and its answer, so only the new message is read.
///
/// ```
/// use std::ops::ControlFlow;
/// use burn::tensor::Device;
/// use taal_inference::{GenerateOptions, LanguageModel, Prompt, Session};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let size = ModelSize {
///     vocab_size: 50,
///     max_seq_len: 16,
///     n_layers: 2,
///     n_heads: 4,
///     d_model: 32,
/// };
/// let lm = LanguageModel::new(TransformerConfig::llama(size).init(42, &Device::flex())?, None);
/// let mut session = Session::new(&lm)?;
/// let options = GenerateOptions { max_tokens: 2, ..GenerateOptions::default() };
/// let first = session.generate(&Prompt::Ids(vec![1, 2, 3]), &options, &mut |_| ControlFlow::Continue(()))?;
/// let next = [&[1, 2, 3], &first.token_ids[..], &[4]].concat();
/// session.generate(&Prompt::Ids(next), &options, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(session.reused_tokens(), 4); // all but the last answer's last token, which was not read yet
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
#[derive(Debug)]
pub struct Session<'a> {
    lm: &'a LanguageModel,
    decoder: Decoder<'a>,
    reused_tokens: usize,
}

impl<'a> Session<'a> {
    /// A session that has read nothing.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotCausal`](crate::InferenceError::NotCausal).
    pub fn new(lm: &'a LanguageModel) -> Result<Self> {
        Self::of(lm, true)
    }

    pub(crate) fn of(lm: &'a LanguageModel, use_cache: bool) -> Result<Self> {
        Ok(Self {
            lm,
            decoder: Decoder::new(&lm.model, use_cache)?,
            reused_tokens: 0,
        })
    }

    /// How many tokens of the last prompt were not computed again.
    pub fn reused_tokens(&self) -> usize {
        self.reused_tokens
    }

    /// [`generate`](crate::generate()), of which a beginning that equals that of the last prompt and its continuation is not computed
    /// again. Keys and values are always cached ([`GenerateOptions::use_cache`] is ignored).
    ///
    /// # Errors
    ///
    /// As [`generate`](crate::generate()).
    pub fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let (mut course, mut text) = Course::new(self.lm, prompt, options)?;
        let decoder = &mut self.decoder;
        decoder.expect_len(course.expected_len(options));
        let slid_before = decoder.slid_tokens();
        let mut is_cancelled = false;
        self.reused_tokens = 0;
        while !course.is_over(options) {
            let logits = match course.is_begun() {
                true => decoder.decode(course.last())?,
                false => {
                    let (logits, kept) = decoder.prefill_after(course.seen())?;
                    self.reused_tokens = kept;
                    logits
                }
            };
            let piece = course.take(self.lm, options, &mut text, &logits)?;
            if !piece.is_empty() && on_text(&piece).is_break() {
                is_cancelled = true;
                break;
            }
        }
        let slid_tokens = decoder.slid_tokens() - slid_before;
        let (rest, generation) = course.end(&mut text, is_cancelled, slid_tokens)?;
        if !rest.is_empty() {
            // Nothing is left to stop.
            let _ = on_text(&rest);
        }
        Ok(generation)
    }
}
