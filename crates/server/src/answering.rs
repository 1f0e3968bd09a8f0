//! From a request's settings to answers: what completions and chat have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;
use taal_inference::{
    Event, FinishReason, GenerateOptions, InferenceError, LanguageModel, Prompt, Receipt, Request, Sampling, Ticket,
    TokenScore, check_causal,
};
use tokio::sync::mpsc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, Type};

use crate::app::App;
use crate::energy::{Begin, Carbon};
use crate::failure::Refusal;
use crate::model::Current;
use crate::parse;
use crate::shapes::{Alternative, ScoredToken, Usage};

/// Events of a request that may wait to be sent; an answer whose client is further behind is cut off.
const WAITING: usize = 16_384;

/// Answers per prompt.
const MAX_CHOICES: usize = 16;

/// Prompts of a request.
const MAX_PROMPTS: usize = 64;

/// Stop strings of a request, and the bytes of each.
const MAX_STOPS: (usize, usize) = (16, 256);

/// Alternatives per token.
pub(crate) const MAX_ALTERNATIVES: usize = 20;

/// The settings that completions and chat share. Fields that are not here are ignored, as OpenAI's clients expect.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Settings {
    /// A name of /v1/models; without it, the first model answers.
    pub(crate) model: Option<String>,
    /// The most new tokens; an answer also ends where the context is full. Without it 16, in a chat as many as fit.
    pub(crate) max_tokens: Option<usize>,
    /// 0 always takes the most probable token; 1, which is the default, samples the model's own probabilities.
    #[schema(minimum = 0.0)]
    temperature: Option<f64>,
    /// Sample from the most probable tokens that together have this probability; 0 keeps the most probable one.
    #[schema(minimum = 0.0, maximum = 1.0)]
    top_p: Option<f64>,
    /// Sample from this many most probable tokens.
    #[schema(minimum = 1)]
    top_k: Option<usize>,
    /// Sample from tokens at least this many times as probable as the most probable one.
    #[schema(minimum = 0.0, maximum = 1.0)]
    min_p: Option<f64>,
    /// Sample from the tokens whose surprisal is nearest to the entropy, with this probability together.
    #[schema(exclusive_minimum = 0.0, maximum = 1.0)]
    typical_p: Option<f64>,
    /// More than 1 discourages tokens that have occurred before.
    #[schema(minimum = 0.01, maximum = 100.0)]
    repetition_penalty: Option<f64>,
    /// Subtracted from a logit for each time that its token occurs in the new text.
    #[schema(minimum = -2.0, maximum = 2.0)]
    frequency_penalty: Option<f64>,
    /// Subtracted from a logit whose token occurs in the new text.
    #[schema(minimum = -2.0, maximum = 2.0)]
    presence_penalty: Option<f64>,
    /// Equal seeds give equal answers; without it, another one each time. From -2^63 to 2^64 - 1; a negative one is the same as 2^64 more.
    #[serde(default, deserialize_with = "seed")]
    #[schema(schema_with = seed_schema)]
    seed: Option<u64>,
    /// Texts that end the answer and are not part of it, at most 16 of at most 256 bytes.
    #[serde(default, deserialize_with = "one_or_more")]
    #[schema(schema_with = stop_schema)]
    stop: Vec<String>,
    /// Added to the logits of token ids, from -100 to 100.
    logit_bias: Option<BTreeMap<String, Option<f64>>>,
    /// Answers per prompt; 1 without it.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<usize>,
    /// Whether the answer comes as server-sent events.
    pub(crate) stream: Option<bool>,
    #[serde(default, deserialize_with = "parse::object")]
    stream_options: Option<StreamOptions>,
    /// Whether the answer continues after the end-of-sequence token.
    ignore_eos: Option<bool>,
    /// Whether each answer comes with its receipt, from which `taal replay` computes it again.
    receipt: Option<bool>,
}

/// What a stream has besides the answer.
#[derive(Debug, Deserialize, ToSchema)]
struct StreamOptions {
    /// Whether a last event counts the tokens.
    #[serde(default)]
    include_usage: Option<bool>,
}

/// A whole number of 64 bits, with or without a sign; or `null`.
fn seed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_u64().or(number.as_i64().map(|seed| seed as u64)),
        _ => None,
    };
    let wrong = || serde::de::Error::custom("expected a whole number of 64 bits");
    number.map(Some).ok_or_else(wrong)
}

/// The schema of `seed`.
fn seed_schema() -> Schema {
    OneOfBuilder::new()
        .item(Object::with_type(Type::Integer))
        .item(Object::with_type(Type::Null))
        .build()
        .into()
}

/// The schema of `stop`.
fn stop_schema() -> Schema {
    let (count, bytes) = MAX_STOPS;
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(bytes))
        .build();
    let list = ArrayBuilder::new().items(text.clone()).max_items(Some(count));
    OneOfBuilder::new()
        .item(text)
        .item(list)
        .item(Object::with_type(Type::Null))
        .build()
        .into()
}

/// `null`, a text, or a list of texts.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(one) => Ok(vec![one]),
        Value::Array(all) => {
            let text = |value: Value| match value {
                Value::String(text) => Ok(text),
                _ => Err(serde::de::Error::custom("expected a text, or a list of texts")),
            };
            all.into_iter().map(text).collect()
        }
        _ => Err(serde::de::Error::custom("expected a text, or a list of texts")),
    }
}

impl Settings {
    /// How to continue each prompt, `n` times.
    pub(crate) fn options(&self, app: &App, default_max_tokens: usize) -> Result<Vec<GenerateOptions>, Refusal> {
        let n = self.n.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&n) {
            let message = format!("expected a whole number from 1 to {MAX_CHOICES}, got {n}");
            return Err(Refusal::field("n", message));
        }
        self.check_stops()?;
        let seed = self.seed.unwrap_or_else(|| app.request_number());
        let options = |choice: u64| GenerateOptions {
            max_tokens: self.max_tokens.unwrap_or(default_max_tokens),
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                typical_p: self.typical_p,
                repetition_penalty: self.repetition_penalty.unwrap_or(1.0),
                frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
                presence_penalty: self.presence_penalty.unwrap_or(0.0),
                logit_bias: BTreeMap::new(),
                // The first answer of several is that of a request for one.
                seed: match choice {
                    0 => seed,
                    _ => taal_kernels::random::key(seed, choice, "server/choice"),
                },
            },
            stop: self.stop.clone(),
            stop_at_eos: !self.ignore_eos.unwrap_or(false),
            ..GenerateOptions::default()
        };
        let bias = self.bias()?;
        let mut all: Vec<GenerateOptions> = (0..n as u64).map(options).collect();
        for options in &mut all {
            options.sampling.logit_bias.clone_from(&bias);
            options.validate()?;
        }
        Ok(all)
    }

    fn check_stops(&self) -> Result<(), Refusal> {
        let (count, bytes) = MAX_STOPS;
        if self.stop.len() > count {
            return Err(Refusal::field(
                "stop",
                format!("expected at most {count} texts, got {}", self.stop.len()),
            ));
        }
        match self.stop.iter().find(|stop| stop.is_empty() || stop.len() > bytes) {
            Some(stop) => Err(Refusal::field(
                "stop",
                format!("expected texts of 1 to {bytes} bytes, got one of {}", stop.len()),
            )),
            None => Ok(()),
        }
    }

    fn bias(&self) -> Result<BTreeMap<u32, f64>, Refusal> {
        let all = self.logit_bias.iter().flatten();
        let pair = |(id, bias): (&String, &Option<f64>)| {
            let number = id.parse::<u32>().map_err(|_| {
                let given = taal_store::excerpt(id);
                Refusal::field("logit_bias", format!("expected token ids as keys, got {given}"))
            })?;
            Ok(bias.map(|bias| (number, bias)))
        };
        all.map(pair).filter_map(Result::transpose).collect()
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn has_receipt(&self) -> bool {
        self.receipt.unwrap_or(false)
    }

    pub(crate) fn has_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }
}

/// What to say besides the text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras {
    /// Alternatives of new tokens, where they are scored.
    pub(crate) scores: Option<usize>,
    /// Alternatives of the prompt's tokens, where they are scored.
    pub(crate) prompt_scores: Option<usize>,
    /// Whether answers have receipts.
    pub(crate) receipt: bool,
}

/// Answers under way. Dropping them cancels what is not finished.
pub(crate) struct Answers {
    app: Arc<App>,
    /// What computes the answers; an engine that is no longer served ends with its last answers.
    model: Arc<Current>,
    /// The options of each answer to a prompt, where receipts are asked for.
    receipts: Option<Vec<GenerateOptions>>,
    events: mpsc::Receiver<(usize, Event)>,
    /// The event that was looked at before the response began.
    first: Option<(usize, Event)>,
    _tickets: Vec<Ticket>,
    /// The ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Answers per prompt.
    pub(crate) n: usize,
    unfinished: usize,
    begin: Instant,
    newest: Vec<Option<Instant>>,
    pub(crate) usage: Usage,
    /// Where the server's energy was at the beginning.
    energy: Option<Begin>,
    /// Tokens that were computed for these answers.
    computed: usize,
}

impl Answers {
    /// Hands the prompts to the engine. Making tokens of long prompts takes a while.
    ///
    /// # Errors
    ///
    /// A prompt that does not fit, a full queue, a model that does not generate.
    pub(crate) fn ask(
        app: &Arc<App>,
        model: &Arc<Current>,
        prompts: Vec<Prompt>,
        options: &[GenerateOptions],
        extras: Extras,
    ) -> Result<Self, Refusal> {
        let Some(engine) = &model.engine else {
            check_causal(&model.lm.model, "generating text")?;
            return Err(Refusal::internal("this model has no engine"));
        };
        if prompts.len() > MAX_PROMPTS {
            let message = format!("expected at most {MAX_PROMPTS} prompts, got {}", prompts.len());
            return Err(Refusal::field("prompt", message));
        }
        let vocab_size = model.lm.model.config().vocab_size;
        let biased = options
            .iter()
            .filter_map(|options| options.sampling.logit_bias.keys().next_back());
        if let Some(id) = biased.max().filter(|id| **id as usize >= vocab_size) {
            let message = format!("expected token ids below {vocab_size}, got {id}");
            return Err(Refusal::field("logit_bias", message));
        }
        let (begin, energy) = (Instant::now(), app.begin_energy());
        let (send, events) = mpsc::channel(WAITING);
        let (mut all, mut requests) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let prompt = model.lm.prompt_ids(&prompt)?;
            for options in options {
                let (mut send, index) = (Some(send.clone()), requests.len());
                let request = Request {
                    scores: extras.scores,
                    prompt_scores: extras.prompt_scores,
                    adapter: model.adapter,
                    // Once the first one has its turn, the others follow it.
                    start_before: (index == 0).then(|| begin + app.queue_timeout),
                    ..Request::new(Prompt::Ids(prompt.clone()), options.clone())
                };
                let sink = move |event| {
                    // The client may have left, or be too far behind; without a sender the answer is cut off.
                    if send.as_ref().is_some_and(|send| send.try_send((index, event)).is_err()) {
                        send = None;
                    }
                };
                requests.push((request, sink));
            }
            all.push(prompt);
        }
        let tickets = engine.submit_all(requests)?;
        let count = tickets.len();
        Ok(Self {
            app: app.clone(),
            model: model.clone(),
            receipts: extras.receipt.then(|| options.to_vec()),
            events,
            first: None,
            _tickets: tickets,
            usage: Usage::of_prompt(all.iter().map(Vec::len).sum()),
            prompts: all,
            n: options.len(),
            unfinished: count,
            begin,
            newest: vec![None; count],
            energy,
            computed: 0,
        })
    }

    /// Waits for the first event, so that a refusal still has a status.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and that of the first event.
    pub(crate) async fn begun(mut self) -> Result<Self, Refusal> {
        match self.received().await? {
            Some((_, Event::Failed(error))) => Err(error.into()),
            event => {
                self.first = event;
                Ok(self)
            }
        }
    }

    /// How many answers there will be.
    pub(crate) fn count(&self) -> usize {
        self.newest.len()
    }

    /// The next event and the answer that it belongs to; `None` after the last.
    ///
    /// # Errors
    ///
    /// Where the engine stops, or the client is too far behind.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Event)>, Refusal> {
        match self.first.take() {
            Some(event) => Ok(Some(event)),
            None => self.received().await,
        }
    }

    async fn received(&mut self) -> Result<Option<(usize, Event)>, Refusal> {
        if self.unfinished == 0 {
            return Ok(None);
        }
        let (index, event) = self.events.recv().await.ok_or(InferenceError::Stopping)?;
        match &event {
            Event::Started { cached_tokens } => {
                // The answers to one prompt count it once.
                if index % self.n == 0 {
                    self.usage.add_cached(*cached_tokens);
                }
                self.note_computed(self.prompts[index / self.n].len() - cached_tokens);
            }
            Event::Token { .. } => {
                self.usage.add_new();
                self.note_computed(1);
                let now = Instant::now();
                match self.newest[index].replace(now) {
                    None => self.app.metrics.first_token.add(now - self.begin),
                    Some(earlier) => self.app.metrics.next_token.add(now - earlier),
                }
            }
            Event::Finished { speculated, .. } => {
                self.usage.add_guesses(speculated);
                self.unfinished -= 1;
            }
            Event::Failed(_) => self.unfinished -= 1,
            _ => (),
        }
        if self.unfinished == 0 {
            let carbon = self.carbon().await;
            self.usage.set_energy(carbon);
        }
        Ok(Some((index, event)))
    }

    /// The receipt of an answer that ends with this event, where it was asked for. The first one of a model reads all of its weights.
    ///
    /// # Errors
    ///
    /// 500 where it cannot be made.
    pub(crate) async fn receipt(&self, index: usize, event: &Event) -> Result<Option<Receipt>, Refusal> {
        let (Some(options), Event::Finished { generation, .. }) = (&self.receipts, event) else {
            return Ok(None);
        };
        let Some(engine) = self.model.engine.clone() else {
            return Ok(None);
        };
        let (options, generation, adapter) = (options[index % self.n].clone(), generation.clone(), self.model.adapter);
        let receipt = crate::api::computed(move || Ok(engine.receipt(adapter, &options, &generation)?));
        receipt.await.map(Some)
    }

    /// Counts tokens that were computed.
    fn note_computed(&mut self, tokens: usize) {
        self.computed += tokens;
        if let Some(ledger) = &self.app.energy {
            ledger.add(tokens);
        }
    }

    /// The energy of the answers, where it is metered.
    async fn carbon(&self) -> Option<Carbon> {
        let (ledger, begin) = (self.app.energy.clone()?, self.energy.clone()?);
        let own = self.computed;
        // Without a meter that works there is no figure.
        tokio::task::spawn_blocking(move || ledger.share(&begin, own))
            .await
            .ok()
    }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Eos | FinishReason::Complete => "stop",
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}

/// The text of one token. Bytes that are not UTF-8 by themselves are written as OpenAI writes them, `bytes:\xe2\x82`.
pub(crate) fn token_text(lm: &LanguageModel, id: u32) -> String {
    let Some(tokenizer) = &lm.tokenizer else {
        return id.to_string();
    };
    match tokenizer.token_bytes(id).map(std::str::from_utf8) {
        Some(Ok(text)) => text.to_owned(),
        Some(Err(_)) => {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default().iter();
            format!(
                "bytes:{}",
                bytes.map(|byte| format!("\\x{byte:02x}")).collect::<String>()
            )
        }
        None => {
            let text = tokenizer.decode_with_special(&[id]).unwrap_or_default();
            // Alone, a token of SentencePiece loses the space before its word.
            let token = tokenizer.id_to_token(id).unwrap_or_default();
            match token.starts_with('\u{2581}') && !text.starts_with(' ') {
                true => format!(" {text}"),
                false => text,
            }
        }
    }
}

/// The bytes of one token.
pub(crate) fn token_bytes(lm: &LanguageModel, id: u32) -> Vec<u8> {
    let tokenizer = lm.tokenizer.as_ref();
    let bytes = tokenizer.and_then(|tokenizer| tokenizer.token_bytes(id));
    bytes.map_or_else(|| token_text(lm, id).into_bytes(), <[u8]>::to_vec)
}

/// OpenAI's newer shape of log-probabilities, one object per token.
pub(crate) fn scored(lm: &LanguageModel, scores: &[TokenScore]) -> Vec<ScoredToken> {
    let alternative = |id: u32, logprob: f64| Alternative {
        token: token_text(lm, id),
        token_id: id,
        logprob: logarithm(logprob),
        bytes: token_bytes(lm, id),
    };
    let one = |score: &TokenScore| ScoredToken {
        token: alternative(score.id, score.logprob),
        top_logprobs: score
            .alternatives
            .iter()
            .map(|(id, logprob)| alternative(*id, *logprob))
            .collect(),
    };
    scores.iter().map(one).collect()
}

/// A number that JSON has: the logarithm of 0 becomes the smallest one, as OpenAI has it.
pub(crate) fn logarithm(value: f64) -> f64 {
    value.max(-9999.0)
}
