//! A request on its way through the engine, and what its sender hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::sequence::OwnedStream;
use crate::speculative::{Guessing, Speculated, Tally};
use crate::{InferenceError, LanguageModel, Result};

/// What to continue, and what to say about it.
#[derive(Debug, Clone)]
pub struct Request {
    /// What to continue.
    pub prompt: Prompt,
    /// How. Keys and values are always cached, and a prompt longer than the context is always refused.
    pub options: GenerateOptions,
    /// Log-probabilities of new tokens, with this many alternatives each.
    pub scores: Option<usize>,
    /// Log-probabilities of the prompt's tokens, with this many alternatives each. The whole prompt is then computed.
    pub prompt_scores: Option<usize>,
    /// Which of the model's adapters answers, by its index in [`LanguageModel::adapters`]; `None`: the model itself.
    pub adapter: Option<usize>,
    /// A request that still waits at this time fails with [`InferenceError::WaitedTooLong`].
    pub start_before: Option<Instant>,
}

impl Request {
    /// A request for text only.
    pub fn new(prompt: Prompt, options: GenerateOptions) -> Self {
        Self {
            prompt,
            options,
            scores: None,
            prompt_scores: None,
            adapter: None,
            start_before: None,
        }
    }
}

/// What the model makes of a token, before temperature, filters and penalties.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability among all ids of the model.
    pub logprob: f64,
    /// The most probable tokens and their log-probabilities, the most probable first; ties go to the lowest id.
    pub alternatives: Vec<(u32, f64)>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Event {
    /// The prompt is being read.
    Started {
        /// How many of its tokens an earlier text has already left in the cache.
        cached_tokens: usize,
    },
    /// The scores of the prompt's tokens, of which the first has none.
    Prompt(Vec<TokenScore>),
    /// A new token.
    Token {
        /// The token.
        id: u32,
        /// The text that is certain now; may be empty.
        text: String,
        /// Its score, if requested.
        score: Option<TokenScore>,
    },
    /// The last event of a request that was not refused.
    Finished {
        /// Text that was held back until now; may be empty.
        text: String,
        /// The whole answer.
        generation: Box<Generation>,
        /// How often guesses of its tokens were right.
        speculated: Speculated,
    },
    /// The last event of a request that could not be answered.
    Failed(InferenceError),
}

/// The right to an answer: dropping it cancels the request.
#[derive(Debug)]
pub struct Ticket {
    is_cancelled: Arc<AtomicBool>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// The events of a request. Dropping it cancels the request.
#[derive(Debug)]
pub struct Answer {
    events: Receiver<Event>,
    _ticket: Ticket,
}

/// An [`Answer`] as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Text and tokens.
    pub generation: Generation,
    /// How many tokens of the prompt were found in the cache.
    pub cached_tokens: usize,
    /// The scores of the new tokens, if requested.
    pub scores: Vec<TokenScore>,
    /// The scores of the prompt's tokens except the first, if requested.
    pub prompt_scores: Vec<TokenScore>,
    /// How often guesses of its tokens were right.
    pub speculated: Speculated,
}

impl Answer {
    pub(crate) fn new(events: Receiver<Event>, ticket: Ticket) -> Self {
        Self {
            events,
            _ticket: ticket,
        }
    }

    /// The next event; `None` after the last one.
    pub fn next_event(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    ///
    /// That of [`Event::Failed`]; [`InferenceError::Stopping`] where the engine ended first.
    pub fn wait(self) -> Result<Answered> {
        let (mut cached, mut scores, mut of_prompt) = (0, Vec::new(), Vec::new());
        while let Some(event) = self.next_event() {
            match event {
                Event::Started { cached_tokens } => cached = cached_tokens,
                Event::Prompt(found) => of_prompt = found,
                Event::Token { score, .. } => scores.extend(score),
                Event::Finished {
                    generation, speculated, ..
                } => {
                    return Ok(Answered {
                        generation: *generation,
                        cached_tokens: cached,
                        scores,
                        prompt_scores: of_prompt,
                        speculated,
                    });
                }
                Event::Failed(error) => return Err(error),
            }
        }
        Err(InferenceError::Stopping)
    }
}

/// The model as an adapter has it, or itself.
///
/// # Errors
///
/// [`InferenceError::Setting`] where there is no such adapter.
pub(super) fn speaker(lm: &Arc<LanguageModel>, adapter: Option<usize>) -> Result<&Arc<LanguageModel>> {
    let Some(adapter) = adapter else { return Ok(lm) };
    lm.adapted(adapter).ok_or_else(|| {
        let known = lm.adapters().len();
        InferenceError::setting(
            "adapter",
            format!("expected one of the model's {known}, got number {adapter}"),
        )
    })
}

/// The new tokens of a pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) tokens: usize,
    /// Those that were guessed.
    pub(crate) guessed: usize,
}

/// A request that was accepted.
pub(crate) struct Job {
    course: Course,
    text: OwnedStream,
    /// The prompt.
    pub(crate) ids: Vec<u32>,
    pub(crate) scores: Option<usize>,
    pub(crate) prompt_scores: Option<usize>,
    pub(crate) adapter: Option<usize>,
    /// The scores of the prompt so far.
    pub(crate) found: Vec<TokenScore>,
    tally: Tally,
    start_before: Option<Instant>,
    is_cancelled: Arc<AtomicBool>,
    sink: Box<dyn FnMut(Event) + Send>,
}

impl Job {
    pub(crate) fn new(
        lm: &Arc<LanguageModel>,
        request: Request,
        capacity: usize,
        sink: Box<dyn FnMut(Event) + Send>,
    ) -> Result<(Self, Ticket)> {
        let lm = speaker(lm, request.adapter)?;
        let options = GenerateOptions {
            truncate: false,
            use_cache: true,
            ..request.options
        };
        let tokens = lm.prompt_ids(&request.prompt)?.len();
        if tokens > capacity {
            let context = capacity;
            return Err(InferenceError::PromptTooLong { tokens, context });
        }
        let (course, text) = OwnedStream::begun(lm.clone(), &request.prompt, options)?;
        let ids = course.seen().to_vec();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let ticket = Ticket {
            is_cancelled: is_cancelled.clone(),
        };
        let job = Self {
            course,
            text,
            ids,
            scores: request.scores,
            prompt_scores: request.prompt_scores,
            adapter: request.adapter,
            found: Vec::new(),
            tally: Tally::default(),
            start_before: request.start_before,
            is_cancelled,
            sink,
        };
        Ok((job, ticket))
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn waited_too_long(&self, now: Instant) -> bool {
        self.start_before.is_some_and(|limit| now > limit)
    }

    /// Whether no token is missing.
    pub(crate) fn is_over(&self) -> bool {
        self.course.is_over(self.text.options())
    }

    /// The newest token.
    pub(crate) fn last(&self) -> u32 {
        self.course.last()
    }

    pub(crate) fn tell(&mut self, event: Event) {
        (self.sink)(event);
    }

    /// What is to be guessed: at most `most` tokens, and fewer where guesses were wrong or fewer are missing.
    pub(crate) fn guessing(&self, row: usize, most: usize) -> Guessing<'_> {
        self.text.guessing(&self.course, row, self.tally.next(most))
    }

    /// Chooses the next token and sends it, and those after it as long as each was guessed. The logits are those after the newest token
    /// and after each guess. Returns how many tokens it took, and how many of them were guessed.
    pub(crate) fn take(
        &mut self,
        logits: &[f32],
        guesses: &[u32],
        score: impl Fn(&[f32], u32, usize) -> TokenScore,
    ) -> Result<Taken> {
        let of_one = logits.len() / (guesses.len() + 1);
        let mut taken = Taken::default();
        for logits in logits.chunks_exact(of_one) {
            let text = self.text.take(&mut self.course, logits)?;
            let id = self.course.last();
            let score = self.scores.map(|alternatives| score(logits, id, alternatives));
            self.tell(Event::Token { id, text, score });
            let is_guessed = guesses.get(taken.tokens) == Some(&id);
            taken.tokens += 1;
            taken.guessed += usize::from(is_guessed);
            if !is_guessed || self.is_over() || self.is_cancelled() {
                break;
            }
        }
        self.tally.count(guesses.len(), taken.guessed);
        Ok(taken)
    }

    /// Sends the last event.
    pub(crate) fn finish(self, is_cancelled: bool) {
        let Self {
            course,
            mut text,
            mut sink,
            tally,
            ..
        } = self;
        sink(match text.end(course, is_cancelled, 0) {
            Ok((text, generation)) => Event::Finished {
                text,
                generation: Box::new(generation),
                speculated: tally.speculated,
            },
            Err(error) => Event::Failed(error),
        });
    }

    pub(crate) fn fail(mut self, error: InferenceError) {
        self.tell(Event::Failed(error));
    }
}
