//! Several continuations one after another, of which each begins as the last one did.

use std::ops::ControlFlow;

use crate::decoder::Decoder;
use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::probe::check_finite;
use crate::speculative::{Speculated, Speculation, SpeculativeOptions, Tally};
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
    speculation: Option<Speculation>,
    tally: Tally,
}

/// The result of a pass: logits after the tokens so far, and after each guess that was read with them.
struct Pass {
    logits: Vec<f32>,
    guesses: Vec<u32>,
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
            speculation: None,
            tally: Tally::default(),
        })
    }

    /// The same with a draft: the texts are the same, as in [`generate_speculatively`](crate::generate_speculatively).
    ///
    /// # Errors
    ///
    /// As [`SpeculativeOptions::check_for`].
    pub fn with_speculation(mut self, options: SpeculativeOptions) -> Result<Self> {
        self.speculation = Some(Speculation::new(self.lm, options, 1)?);
        Ok(self)
    }

    /// How often the guesses of the last continuation were right.
    pub fn speculated(&self) -> Speculated {
        self.tally.speculated
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
        self.decoder.expect_len(course.expected_len(options));
        if let Some(speculation) = &mut self.speculation {
            speculation.begin(0, 0, 0);
        }
        let slid_before = self.decoder.slid_tokens();
        let mut is_cancelled = false;
        self.reused_tokens = 0;
        self.tally = Tally::default();
        while !is_cancelled && !course.is_over(options) {
            let Pass { logits, guesses } = self.pass(&course, options)?;
            let (mut taken, mut accepted) = (0, 0);
            for logits in logits.chunks_exact(self.lm.model.config().vocab_size) {
                check_finite(logits)?;
                let piece = course.take(self.lm, options, &mut text, logits)?;
                let is_guessed = guesses.get(taken) == Some(&course.last());
                taken += 1;
                accepted += usize::from(is_guessed);
                is_cancelled = !piece.is_empty() && on_text(&piece).is_break();
                if is_cancelled || !is_guessed || course.is_over(options) {
                    break;
                }
            }
            // The last token was not read yet, whether it was guessed or not.
            self.decoder.take_back(guesses.len() + 1 - taken);
            self.tally.count(guesses.len(), accepted);
        }
        let slid_tokens = self.decoder.slid_tokens() - slid_before;
        let (rest, generation) = course.end(&mut text, is_cancelled, slid_tokens)?;
        if !rest.is_empty() {
            // Nothing is left to stop.
            let _ = on_text(&rest);
        }
        Ok(generation)
    }

    /// Reads the prompt, or the newest token with guesses of those after it.
    fn pass(&mut self, course: &Course, options: &GenerateOptions) -> Result<Pass> {
        if !course.is_begun() {
            let (logits, kept) = self.decoder.prefill_after(course.seen())?;
            self.reused_tokens = kept;
            let guesses = Vec::new();
            return Ok(Pass { logits, guesses });
        }
        let mut guesses = match &mut self.speculation {
            Some(speculation) => {
                let most = self.tally.next(speculation.tokens());
                let text = course.guessing(self.lm, options, 0, most);
                speculation.guesses(&[text], usize::MAX)?.pop().unwrap_or_default()
            }
            None => Vec::new(),
        };
        let logits = self.decoder.decode_ahead(course.last(), &guesses)?;
        // Guesses that did not fit the context were not read.
        guesses.truncate(logits.len() / self.lm.model.config().vocab_size - 1);
        Ok(Pass { logits, guesses })
    }
}
