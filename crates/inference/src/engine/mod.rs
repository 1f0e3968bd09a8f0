//! Many requests served by one model: they join and leave a running batch between tokens.

mod queue;
mod request;
mod rows;
mod scores;
mod worker;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::queue::EngineStats;
use self::queue::Shared;
use self::request::Job;
pub use self::request::{Answer, Answered, Event, Request, Ticket, TokenScore};
use self::worker::Worker;
use crate::language_model::check_causal;
use crate::speculative::SpeculativeOptions;
use crate::{InferenceError, LanguageModel, Result};

/// Options of an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// How many requests are computed at once; each has its own row of the key/value cache.
    pub slots: usize,
    /// Tokens of a row, prompt and answer together; `None`: the model's context. A recurrent network has no limit otherwise.
    pub context: Option<usize>,
    /// How many requests may wait for a row; further ones are refused. Those that were submitted together count as one.
    pub queue: usize,
    /// How many tokens of prompts are read between two tokens of the running answers. More reads prompts faster, fewer keeps the
    /// answers more fluent.
    pub prefill_tokens: usize,
    /// Whether a prompt reuses the keys and values of an earlier text that begins as it does.
    pub reuse_prefixes: bool,
    /// How long these texts are kept while there are no requests; then the memory of the cache is given back.
    pub keep_texts: Duration,
    /// What guesses the next tokens of the running answers, which do not change. The rows of the batch share the tokens that are guessed
    /// at once: with 4, an answer alone has 4 guesses per step, each of two has 2, and each of five has none.
    pub speculation: Option<SpeculativeOptions>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            slots: 16,
            context: None,
            queue: 128,
            prefill_tokens: 128,
            reuse_prefixes: true,
            keep_texts: Duration::from_secs(60),
            speculation: None,
        }
    }
}

impl EngineOptions {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("slots", self.slots),
            ("context", self.context.unwrap_or(1)),
            ("queue", self.queue),
            ("prefill_tokens", self.prefill_tokens),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(InferenceError::setting(key, "expected at least 1, got 0")),
            None => Ok(()),
        }
    }
}

/// Serves many requests with one model (continuous batching, Yu et al., "Orca", 2022). A thread owns the key/value cache. Between two
/// tokens, requests join the batch and leave it, and prompts are read in pieces beside the running answers.
///
/// An answer does not depend on the other requests: it is the one that [`generate`](crate::generate()) gives as long as prompt and
/// answer fit the context. A full context ends an answer; nothing slides out of it, and a prompt that does not fit is refused.
///
/// Dropping the engine ends all requests.
///
/// ```
/// use std::sync::Arc;
/// use burn::tensor::Device;
/// use taal_inference::{Engine, EngineOptions, GenerateOptions, LanguageModel, Prompt, Request};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let size = ModelSize { vocab_size: 50, max_seq_len: 16, n_layers: 2, n_heads: 4, d_model: 32 };
/// let model = TransformerConfig::llama(size).init(42, &Device::flex())?;
/// let engine = Engine::start(Arc::new(LanguageModel::new(model, None)), EngineOptions::default())?;
/// let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
/// let answers = [vec![1, 2, 3], vec![4]].map(|ids| engine.ask(Request::new(Prompt::Ids(ids), options.clone())));
/// for answer in answers {
///     assert_eq!(answer?.wait()?.generation.token_ids.len(), 3);
/// }
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
pub struct Engine {
    shared: Arc<Shared>,
    lm: Arc<LanguageModel>,
    capacity: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotCausal`], [`InferenceError::Setting`], also for a draft that cannot guess the tokens of this model
    /// ([`SpeculativeOptions::check_for`]), or [`InferenceError::Device`] where there is no thread.
    pub fn start(lm: Arc<LanguageModel>, options: EngineOptions) -> Result<Self> {
        check_causal(&lm.model, "generating text")?;
        options.validate()?;
        let limit = lm.model.config().context_limit();
        let capacity = match (options.context, limit) {
            (Some(wanted), Some(limit)) => wanted.min(limit),
            (Some(wanted), None) => wanted,
            (None, limit) => limit.unwrap_or(usize::MAX),
        };
        let shared = Arc::new(Shared::new(options.queue));
        let worker = Worker::new(lm.clone(), shared.clone(), &options, capacity)?;
        let thread = std::thread::Builder::new().name("taal-engine".to_owned());
        let thread = thread.spawn(move || worker.run());
        let thread = thread.map_err(|error| InferenceError::Device {
            detail: format!("no thread for the engine: {error}"),
        })?;
        Ok(Self {
            shared,
            lm,
            capacity,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The model and its tokenizer.
    pub fn language_model(&self) -> &Arc<LanguageModel> {
        &self.lm
    }

    /// The model as it answers a request to an adapter: with its special ids and chat template.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] where there is no such adapter.
    pub fn language_model_of(&self, adapter: Option<usize>) -> Result<&Arc<LanguageModel>> {
        request::speaker(&self.lm, adapter)
    }

    /// How many tokens prompt and answer may have together; `None` where there is no limit.
    pub fn context(&self) -> Option<usize> {
        (self.capacity < usize::MAX).then_some(self.capacity)
    }

    /// Queues a request. `sink` is called on the engine's thread and must return soon; the last call is [`Event::Finished`] or
    /// [`Event::Failed`]. Dropping the ticket cancels the request before its next token.
    ///
    /// # Errors
    ///
    /// Invalid prompts or options, as for [`generate`](crate::generate()); [`InferenceError::PromptTooLong`];
    /// [`InferenceError::QueueFull`]; [`InferenceError::Stopping`].
    pub fn submit(&self, request: Request, sink: impl FnMut(Event) + Send + 'static) -> Result<Ticket> {
        let (job, ticket) = Job::new(&self.lm, request, self.capacity, Box::new(sink))?;
        self.shared.push(vec![job])?;
        Ok(ticket)
    }

    /// Queues several requests, each with its sink, as one: either all of them are accepted or none, and in the queue they count as one
    /// request. So they are never refused while no other request waits.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), for the first request that is wrong.
    pub fn submit_all<S>(&self, requests: impl IntoIterator<Item = (Request, S)>) -> Result<Vec<Ticket>>
    where
        S: FnMut(Event) + Send + 'static,
    {
        let job = |(request, sink)| Job::new(&self.lm, request, self.capacity, Box::new(sink));
        let (jobs, tickets) = requests
            .into_iter()
            .map(job)
            .collect::<Result<(Vec<Job>, Vec<Ticket>)>>()?;
        self.shared.push(jobs)?;
        Ok(tickets)
    }

    /// [`submit`](Self::submit) with the events in a channel.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn ask(&self, request: Request) -> Result<Answer> {
        let (send, events) = std::sync::mpsc::channel();
        let ticket = self.submit(request, move |event| {
            // Nobody listens to a request that was cancelled.
            let _ = send.send(event);
        })?;
        Ok(Answer::new(events, ticket))
    }

    /// What the engine does and has done.
    pub fn stats(&self) -> EngineStats {
        self.shared.stats()
    }

    /// Accepts no further requests, and ends those that were accepted before their next token.
    pub fn stop(&self) {
        self.shared.close();
    }

    /// Accepts no further requests, and waits up to `limit` for those that were accepted; returns whether all of them ended.
    pub fn drain(&self, limit: Duration) -> bool {
        self.shared.drain(limit)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.close();
        let thread = self.thread.get_mut().map(Option::take);
        if let Ok(Some(thread)) = thread {
            // A panic of the thread was reported to its requests.
            let _ = thread.join();
        }
    }
}
