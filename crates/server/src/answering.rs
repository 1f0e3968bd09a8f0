//! From a request's settings to answers: what completions and chat have in common.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Value, json};
use taal_inference::{
    Event, FinishReason, GenerateOptions, InferenceError, LanguageModel, Prompt, Request, Sampling, Ticket, TokenScore,
};

use crate::app::{App, ServedModel};
use crate::failure::Refusal;

/// How often a client is looked at while it waits.
const GLANCE: Duration = Duration::from_millis(50);

/// Answers per prompt.
const MAX_CHOICES: usize = 16;

/// Prompts of a request.
const MAX_PROMPTS: usize = 64;

/// Stop strings of a request, and the bytes of each.
const MAX_STOPS: (usize, usize) = (16, 256);

/// Alternatives per token.
pub(crate) const MAX_ALTERNATIVES: usize = 20;

/// The settings that completions and chat share. Fields that are not here are ignored, as OpenAI's clients expect.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) model: Option<String>,
    pub(crate) max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    repetition_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    seed: Option<i64>,
    #[serde(deserialize_with = "one_or_more")]
    stop: Vec<String>,
    logit_bias: Option<BTreeMap<String, f64>>,
    n: Option<usize>,
    pub(crate) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    ignore_eos: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
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
        let seed = match self.seed {
            Some(seed) => seed as u64,
            None => app.request_number(),
        };
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
        let pair = |(id, bias): (&String, &f64)| {
            let number = id.parse::<u32>().map_err(|_| {
                let given = taal_store::excerpt(id);
                Refusal::field("logit_bias", format!("expected token ids as keys, got {given}"))
            })?;
            Ok((number, *bias))
        };
        all.map(pair).collect()
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn has_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }
}

/// What to say about tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scores {
    pub(crate) new: Option<usize>,
    pub(crate) prompt: Option<usize>,
}

/// Answers under way. Dropping them cancels what is not finished.
pub(crate) struct Answers {
    events: Receiver<(usize, Event)>,
    /// Events that were looked at before the response began.
    first: VecDeque<(usize, Event)>,
    _tickets: Vec<Ticket>,
    /// The ids of each prompt.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// Answers per prompt.
    pub(crate) n: usize,
    unfinished: usize,
    begin: Instant,
    newest: Vec<Option<Instant>>,
    pub(crate) usage: Usage,
}

/// Why there are no further events.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The client has left: nothing is to be said.
    Left,
    /// The request cannot be answered.
    Refused(Refusal),
}

impl From<Refusal> for Gone {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<InferenceError> for Gone {
    fn from(error: InferenceError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<std::io::Error> for Gone {
    /// The client takes nothing, or has left.
    fn from(_: std::io::Error) -> Self {
        Self::Left
    }
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    prompt: usize,
    cached: usize,
    pub(crate) new: usize,
}

impl Usage {
    pub(crate) fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.new,
            "total_tokens": self.prompt + self.new,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

impl Answers {
    /// Hands the prompts to the engine and waits for the first event, so that a refusal still has a status.
    pub(crate) fn begin(
        app: &App,
        model: &ServedModel,
        prompts: Vec<Prompt>,
        options: &[GenerateOptions],
        scores: Scores,
        is_left: &dyn Fn() -> bool,
    ) -> Result<Self, Gone> {
        let engine = model.engine.as_ref().ok_or(InferenceError::NotCausal {
            purpose: "generating text",
        })?;
        if prompts.len() > MAX_PROMPTS {
            let message = format!("expected at most {MAX_PROMPTS} prompts, got {}", prompts.len());
            return Err(Refusal::field("prompt", message).into());
        }
        let begin = Instant::now();
        let (send, events) = channel();
        let (mut all, mut tickets) = (Vec::new(), Vec::new());
        for prompt in prompts {
            let prompt = model.lm.prompt_ids(&prompt)?;
            for options in options {
                let (send, index) = (send.clone(), tickets.len());
                let request = Request {
                    scores: scores.new,
                    prompt_scores: scores.prompt,
                    start_before: Some(begin + app.queue_timeout),
                    ..Request::new(Prompt::Ids(prompt.clone()), options.clone())
                };
                tickets.push(engine.submit(request, move |event| {
                    // The client may have left.
                    let _ = send.send((index, event));
                })?);
            }
            all.push(prompt);
        }
        let count = tickets.len();
        let usage = Usage {
            prompt: all.iter().map(Vec::len).sum(),
            ..Usage::default()
        };
        let mut answers = Self {
            events,
            first: VecDeque::new(),
            _tickets: tickets,
            prompts: all,
            n: options.len(),
            unfinished: count,
            begin,
            newest: vec![None; count],
            usage,
        };
        match answers.received(app, is_left)? {
            Some((_, Event::Failed(error))) => Err(error.into()),
            event => {
                answers.first.extend(event);
                Ok(answers)
            }
        }
    }

    /// How many answers there will be.
    pub(crate) fn count(&self) -> usize {
        self.newest.len()
    }

    /// The next event and the answer that it belongs to; `None` after the last.
    pub(crate) fn next(&mut self, app: &App, is_left: &dyn Fn() -> bool) -> Result<Option<(usize, Event)>, Gone> {
        match self.first.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.received(app, is_left),
        }
    }

    fn received(&mut self, app: &App, is_left: &dyn Fn() -> bool) -> Result<Option<(usize, Event)>, Gone> {
        if self.unfinished == 0 {
            return Ok(None);
        }
        let (index, event) = loop {
            match self.events.recv_timeout(GLANCE) {
                Ok(event) => break event,
                Err(RecvTimeoutError::Timeout) if is_left() => return Err(Gone::Left),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return Err(InferenceError::Stopping.into()),
            }
        };
        match &event {
            // The answers to one prompt count it once.
            Event::Started { cached_tokens } if index % self.n == 0 => self.usage.cached += cached_tokens,
            Event::Token { .. } => {
                self.usage.new += 1;
                let now = Instant::now();
                match self.newest[index].replace(now) {
                    None => app.metrics.first_token.add(now - self.begin),
                    Some(earlier) => app.metrics.next_token.add(now - earlier),
                }
            }
            Event::Finished { .. } | Event::Failed(_) => self.unfinished -= 1,
            _ => (),
        }
        Ok(Some((index, event)))
    }
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Eos => "stop",
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
fn token_bytes(lm: &LanguageModel, id: u32) -> Vec<u8> {
    let tokenizer = lm.tokenizer.as_ref();
    let bytes = tokenizer.and_then(|tokenizer| tokenizer.token_bytes(id));
    bytes.map_or_else(|| token_text(lm, id).into_bytes(), <[u8]>::to_vec)
}

/// OpenAI's newer shape of log-probabilities, one object per token.
pub(crate) fn scored(lm: &LanguageModel, scores: &[TokenScore]) -> Vec<Value> {
    let token = |id: u32, logprob: f64| {
        json!({
            "token": token_text(lm, id),
            "token_id": id,
            "logprob": logarithm(logprob),
            "bytes": token_bytes(lm, id),
        })
    };
    let one = |score: &TokenScore| {
        let mut one = token(score.id, score.logprob);
        let top = score.alternatives.iter().map(|(id, logprob)| token(*id, *logprob));
        one["top_logprobs"] = top.collect();
        one
    };
    scores.iter().map(one).collect()
}

/// A number that JSON has: the logarithm of 0 becomes the smallest one, as OpenAI has it.
pub(crate) fn logarithm(value: f64) -> f64 {
    value.max(-9999.0)
}
