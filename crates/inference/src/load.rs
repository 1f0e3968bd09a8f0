//! How fast an engine answers many clients, compared with one after another: [`measure`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use taal_kernels::random::Generator;

use crate::{
    Engine, EngineOptions, EngineStats, Event, GenerateOptions, InferenceError, LanguageModel, Prompt, Request, Result,
    Speculated,
};

/// How much to measure.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Clients that ask at the same time, each its next request as soon as the last one is answered.
    pub clients: usize,
    /// Requests of each client.
    pub requests: usize,
    /// Requests that are answered one after another, for comparison.
    pub alone: usize,
    /// Random tokens of each prompt.
    pub prompt_tokens: usize,
    /// Tokens of each answer.
    pub max_tokens: usize,
    /// The engine.
    pub engine: EngineOptions,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            clients: 64,
            requests: 20,
            alone: 20,
            prompt_tokens: 64,
            max_tokens: 64,
            engine: EngineOptions::default(),
        }
    }
}

/// The results of [`measure`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadFigures {
    /// Parameters.
    pub params: u64,
    /// One request after another.
    pub alone: Pace,
    /// All clients at once.
    pub together: Pace,
    /// Tokens per second of the second divided by those of the first.
    pub ratio: f64,
}

/// The speed of some requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pace {
    /// Requests.
    pub requests: usize,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Generated tokens per second, over all requests.
    pub tokens_per_s: f64,
    /// Milliseconds from a request to its first token: the 50th, 95th and 99th percentile.
    pub first_token_ms: [f64; 3],
    /// Milliseconds between two tokens of an answer: the same percentiles.
    pub next_token_ms: [f64; 3],
    /// How often guesses were right, and the steps of the batch as passes; where the engine has a draft.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speculative: Option<Speculated>,
}

/// Puts an engine under load. Prompts are random and have nothing in common, answers are sampled and ignore the end of text.
///
/// # Errors
///
/// The engine's; [`InferenceError::Setting`] for no clients, requests or tokens, or more than fit the context.
pub fn measure(lm: Arc<LanguageModel>, options: &LoadOptions) -> Result<LoadFigures> {
    check(&lm, options)?;
    let alone = pace(&lm, options, 1, options.alone)?;
    let together = pace(&lm, options, options.clients, options.requests)?;
    Ok(LoadFigures {
        params: lm.model.config().n_params(),
        ratio: together.tokens_per_s / alone.tokens_per_s,
        alone,
        together,
    })
}

fn check(lm: &LanguageModel, options: &LoadOptions) -> Result<()> {
    let positive = [
        ("clients", options.clients),
        ("requests", options.requests),
        ("alone", options.alone),
        ("prompt_tokens", options.prompt_tokens),
        ("max_tokens", options.max_tokens),
    ];
    if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
        return Err(InferenceError::setting(key, "expected at least 1, got 0"));
    }
    let (tokens, limit) = (
        options.prompt_tokens + options.max_tokens,
        lm.model.config().context_limit(),
    );
    match limit.filter(|limit| tokens > *limit) {
        Some(limit) => Err(InferenceError::setting(
            "prompt_tokens",
            format!("prompt and answer have {tokens} tokens, and the model's context holds {limit}"),
        )),
        None => Ok(()),
    }
}

fn pace(lm: &Arc<LanguageModel>, options: &LoadOptions, clients: usize, requests: usize) -> Result<Pace> {
    let engine = EngineOptions {
        // No client is refused: each waits for one request at a time.
        queue: options.engine.queue.max(clients),
        ..options.engine.clone()
    };
    let engine = Engine::start(lm.clone(), engine)?;
    // The first pass allocates memory.
    let warm_up = request(lm, options, u64::MAX);
    engine.ask(warm_up)?.wait()?;
    let before = engine.stats();
    let begin = Instant::now();
    let times = std::thread::scope(|scope| {
        let (engine, threads) = (&engine, 0..clients as u64);
        let threads = threads.map(|client| {
            scope.spawn(move || {
                let numbers = (0..requests as u64).map(|number| client * requests as u64 + number);
                let times = numbers.map(|number| times(engine, request(lm, options, number)));
                times.collect::<Result<Vec<_>>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| {
                Err(InferenceError::Device {
                    detail: "a client's thread ended unexpectedly".to_owned(),
                })
            })
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let after = engine.stats();
    let of = |count: fn(&EngineStats) -> u64| (count(&after) - count(&before)) as usize;
    let accepted = of(|stats| stats.draft_tokens_accepted);
    let speculated = Speculated {
        drafted: accepted + of(|stats| stats.draft_tokens_rejected),
        accepted,
        passes: of(|stats| stats.steps),
    };
    let times = times.concat();
    let tokens: usize = times.iter().map(|(_, next)| 1 + next.len()).sum();
    Ok(Pace {
        requests: times.len(),
        seconds,
        tokens_per_s: tokens as f64 / seconds,
        first_token_ms: percentiles(times.iter().map(|(first, _)| *first).collect()),
        next_token_ms: percentiles(times.into_iter().flat_map(|(_, next)| next).collect()),
        speculative: options.engine.speculation.as_ref().map(|_| speculated),
    })
}

fn request(lm: &LanguageModel, options: &LoadOptions, number: u64) -> Request {
    let mut random = Generator::new(number);
    let vocab_size = lm.vocab_size() as f64;
    let ids = (0..options.prompt_tokens).map(|_| (random.uniform() * vocab_size) as u32);
    let mut generate = GenerateOptions {
        max_tokens: options.max_tokens,
        stop_at_eos: false,
        ..GenerateOptions::default()
    };
    generate.sampling.seed = number;
    Request::new(Prompt::Ids(ids.collect()), generate)
}

/// How long the first token took, and each after it.
fn times(engine: &Engine, request: Request) -> Result<(Duration, Vec<Duration>)> {
    let begin = Instant::now();
    let answer = engine.ask(request)?;
    let (mut first, mut next, mut newest) = (None, Vec::new(), begin);
    while let Some(event) = answer.next_event() {
        match event {
            Event::Token { .. } => {
                let now = Instant::now();
                match first {
                    None => first = Some(now - begin),
                    Some(_) => next.push(now - newest),
                }
                newest = now;
            }
            Event::Failed(error) => return Err(error),
            _ => (),
        }
    }
    Ok((first.unwrap_or_default(), next))
}

/// The 50th, 95th and 99th percentile in milliseconds: the smallest times that so many are not above.
fn percentiles(mut times: Vec<Duration>) -> [f64; 3] {
    times.sort_unstable();
    [0.5, 0.95, 0.99].map(|share| {
        let rank = (share * times.len() as f64).ceil() as usize;
        let time = times.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        1e3 * time.as_secs_f64()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        let found = percentiles(times);
        for (found, expected) in found.into_iter().zip([50.0, 95.0, 99.0]) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
        assert_eq!(percentiles(Vec::new()), [0.0; 3]);
    }
}
