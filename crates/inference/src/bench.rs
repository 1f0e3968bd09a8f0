//! The speed of prefill and decoding, and the share of the memory's bandwidth that decoding reaches: [`measure`]; what a draft gains:
//! [`measure_speculation`].

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;
use taal_model::{Cache, Transformer};

use crate::generate::{GenerateOptions, Prompt};
use crate::language_model::check_causal;
use crate::probe::{Probe, Rows};
use crate::session::Session;
use crate::speculative::{Speculated, SpeculativeOptions};
use crate::{LanguageModel, Result};

/// How often a text is generated with and without a draft, in turns.
const TURNS: usize = 3;

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchOptions {
    /// Tokens of the prompt, shortened to fit the context.
    pub prompt_len: usize,
    /// Tokens decoded after it.
    pub decode_len: usize,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            prompt_len: 128,
            decode_len: 32,
        }
    }
}

/// The results of [`measure`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchFigures {
    /// Parameters.
    pub params: u64,
    /// Bytes per second at which all cores read memory: measured in the same run, or what decoding reached if that is more.
    pub bandwidth_bytes_per_s: f64,
    /// One row per batch size.
    pub batches: Vec<BatchFigures>,
}

/// The speed at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchFigures {
    /// Number of texts generated together.
    pub batch_size: usize,
    /// Prefill tokens per second, over all rows.
    pub prefill_tokens_per_s: f64,
    /// Decoded tokens per second, over all rows, at the median step.
    pub decode_tokens_per_s: f64,
    /// The bytes that a step must read (weights once, cached keys and values of every row) divided by its time and the bandwidth.
    pub decode_bandwidth_share: f64,
    /// The energy of a thousand decoded tokens, where it is metered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_energy_per_1000: Option<DecodeEnergy>,
}

/// Joules between their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DecodeEnergy {
    /// The best value.
    pub joules: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// Says the joules of a piece of work: called at its beginning, and at its end for the energy since then.
pub type Metering<'a> = dyn FnMut() -> Option<DecodeEnergy> + Send + 'a;

/// Measures a causal model at each batch size. Every row reads the same ids and decodes greedily.
///
/// # Errors
///
/// [`InferenceError::NotCausal`](crate::InferenceError::NotCausal), or the model's.
pub fn measure(model: &Transformer, batch_sizes: &[usize], options: BenchOptions) -> Result<BenchFigures> {
    measure_metered(model, batch_sizes, options, &mut || None)
}

/// As [`measure`], with the energy of decoding.
///
/// # Errors
///
/// As [`measure`].
pub fn measure_metered(
    model: &Transformer,
    batch_sizes: &[usize],
    options: BenchOptions,
    metering: &mut Metering<'_>,
) -> Result<BenchFigures> {
    check_causal(model, "generating text")?;
    let bandwidth_bytes_per_s = taal_kernels::measured_bandwidth_bytes_per_s();
    let measure =
        |batch_size: &usize| measure_batch(model, (*batch_size).max(1), options, bandwidth_bytes_per_s, metering);
    let mut batches = Probe::run(&model.device(), || {
        batch_sizes.iter().map(measure).collect::<Result<Vec<_>>>()
    })?;
    let reached = within_the_whole(&mut batches);
    Ok(BenchFigures {
        params: model.config().n_params(),
        bandwidth_bytes_per_s: bandwidth_bytes_per_s * reached,
        batches,
    })
}

/// Rescales the shares so that none exceeds 1. A share can exceed 1 if the bandwidth was measured on a busy machine, or if the
/// weights fit into a cache. Returns the factor.
fn within_the_whole(batches: &mut [BatchFigures]) -> f64 {
    let reached = batches
        .iter()
        .map(|batch| batch.decode_bandwidth_share)
        .fold(1.0, f64::max);
    for batch in batches {
        batch.decode_bandwidth_share /= reached;
    }
    reached
}

/// The results of [`measure_speculation`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpeculativeFigures {
    /// Tokens of the text.
    pub tokens: usize,
    /// Its tokens per second without a draft, the reading of the prompt included.
    pub plain_tokens_per_s: f64,
    /// The same with the draft.
    pub speculative_tokens_per_s: f64,
    /// The second divided by the first.
    pub ratio: f64,
    /// Whether both are the same text. A GPU rounds in another order where it reads several tokens at once.
    pub is_same_text: bool,
    /// How often the guesses were right.
    #[serde(flatten)]
    pub speculated: Speculated,
}

/// Measures one text with and without a draft, three times in turns after a first time of each. The figures are those of the median
/// times.
///
/// # Errors
///
/// As [`generate_speculatively`](crate::generate_speculatively).
pub fn measure_speculation(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    speculation: &SpeculativeOptions,
) -> Result<SpeculativeFigures> {
    let run = |speculation: Option<&SpeculativeOptions>| -> Result<_> {
        let session = Session::of(lm, options.use_cache)?;
        let mut session = match speculation {
            Some(speculation) => session.with_speculation(speculation.clone())?,
            None => session,
        };
        let begin = Instant::now();
        let generation = session.generate(prompt, options, &mut |_| ControlFlow::Continue(()))?;
        Ok((begin.elapsed(), generation, session.speculated()))
    };
    let (_, plain, _) = run(None)?; // warm-up, as the next
    let (_, drafted, speculated) = run(Some(speculation))?;
    let mut times = [Vec::with_capacity(TURNS), Vec::with_capacity(TURNS)];
    for _ in 0..TURNS {
        for (times, speculation) in times.iter_mut().zip([None, Some(speculation)]) {
            times.push(run(speculation)?.0);
        }
    }
    let [plain_tokens_per_s, speculative_tokens_per_s] = times.map(|mut times| {
        times.sort_unstable();
        plain.token_ids.len() as f64 / times[TURNS / 2].as_secs_f64()
    });
    Ok(SpeculativeFigures {
        tokens: plain.token_ids.len(),
        plain_tokens_per_s,
        speculative_tokens_per_s,
        ratio: speculative_tokens_per_s / plain_tokens_per_s,
        is_same_text: drafted == plain,
        speculated,
    })
}

fn measure_batch(
    model: &Transformer,
    batch_size: usize,
    options: BenchOptions,
    bandwidth_bytes_per_s: f64,
    metering: &mut Metering<'_>,
) -> Result<BatchFigures> {
    let config = model.config();
    let prompt_len = options.prompt_len.clamp(1, (config.max_seq_len - 1).max(1));
    let decode_len = options.decode_len.clamp(1, (config.max_seq_len - prompt_len).max(1));
    let row = spread_ids(prompt_len, config.vocab_size);
    let prompt = Rows::new(&row.repeat(batch_size), prompt_len);

    let mut cache = model.new_cache(batch_size, prompt_len + decode_len);
    let mut next = step(model, &prompt, &mut cache)?; // warm-up
    cache.reset();
    let begin = Instant::now();
    next = {
        drop(next);
        step(model, &prompt, &mut cache)?
    };
    let prefill = begin.elapsed();

    let mut times: Vec<Duration> = Vec::with_capacity(decode_len);
    metering();
    for _ in 0..decode_len {
        let begin = Instant::now();
        next = step(model, &next, &mut cache)?;
        times.push(begin.elapsed());
    }
    let thousands = (batch_size * decode_len) as f64 / 1e3;
    let decode_energy_per_1000 = metering().map(|energy| DecodeEnergy {
        joules: energy.joules / thousands,
        low: energy.low / thousands,
        high: energy.high / thousands,
    });
    times.sort_unstable();
    let decode = times[times.len() / 2].as_secs_f64();

    // Each token reads one row of the token embedding, unless it is also the output matrix.
    let mut weights = model.weight_bytes();
    if !config.tie_embeddings {
        let tokens = &model.embeddings.tokens;
        let table = tokens.quantized().map(|table| table.bytes().len());
        weights -= table.unwrap_or(4 * config.vocab_size * config.d_model) as u64;
    }
    let cached = 2 * config.n_layers * config.n_kv_heads * config.head_dim * (prompt_len + decode_len / 2);
    let bytes = weights + (model.cache_type().bytes() * batch_size * cached) as u64;
    Ok(BatchFigures {
        batch_size,
        prefill_tokens_per_s: (batch_size * prompt_len) as f64 / prefill.as_secs_f64(),
        decode_tokens_per_s: batch_size as f64 / decode,
        decode_bandwidth_share: bytes as f64 / decode / bandwidth_bytes_per_s,
        decode_energy_per_1000,
    })
}

/// So many ids, spread over a vocabulary.
pub fn spread_ids(len: usize, vocab_size: usize) -> Vec<u32> {
    (0..len).map(|i| (i * 7919 % vocab_size) as u32).collect()
}

/// Reads ids and returns the likeliest next id of each row.
fn step(model: &Transformer, rows: &Rows, cache: &mut Cache) -> Result<Rows> {
    let logits = Probe::new(model).next_logits(rows, Some(cache))?;
    let likeliest: Vec<u32> = logits
        .chunks_exact(model.config().vocab_size)
        .map(|row| {
            let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            best.map_or(0, |(id, _)| id as u32)
        })
        .collect();
    Ok(Rows::new(&likeliest, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_25_no_share_of_the_bandwidth_is_more_than_all_of_it() {
        let batches = |shares: &[f64]| -> Vec<BatchFigures> {
            shares
                .iter()
                .map(|share| BatchFigures {
                    batch_size: 1,
                    prefill_tokens_per_s: 1.0,
                    decode_tokens_per_s: 1.0,
                    decode_bandwidth_share: *share,
                    decode_energy_per_1000: None,
                })
                .collect()
        };
        let mut exceeded = batches(&[0.5, 2.0]);
        assert_eq!(within_the_whole(&mut exceeded), 2.0);
        assert_eq!(exceeded, batches(&[0.25, 1.0]));
        let mut calm = batches(&[0.5, 0.75]);
        assert_eq!(within_the_whole(&mut calm), 1.0);
        assert_eq!(calm, batches(&[0.5, 0.75]));
    }
}
