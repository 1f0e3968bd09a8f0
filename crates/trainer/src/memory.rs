//! How much memory a run will need, estimated before its first step.

use taal_kernels::{DeviceSpec, Precision};
use taal_model::{Mixer, TransformerConfig};

use crate::TrainError;
use crate::error::size;
use crate::recipe::TrainRecipe;

/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;
/// Bytes of a float in half precision.
const HALF: u64 = 2;

/// An estimate from the shape alone, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Weights, gradients and the optimizer's moments.
    pub(crate) state: u64,
    /// What a micro-step keeps for its backward pass.
    pub(crate) activations: u64,
    /// A checkpoint while it is written.
    pub(crate) snapshot: u64,
}

impl Estimate {
    /// Weights, gradients and two moments (one for Muon's matrices) are exact; activations follow what the fused operations keep.
    pub(crate) fn of(
        config: &TransformerConfig,
        train: &TrainRecipe,
        precision: Precision,
        eval_batch_size: usize,
    ) -> Self {
        let params = config.n_params();
        let moments = match train.muon {
            // Nearly all parameters of a block are matrices, which Muon trains; AdamW trains embeddings and output.
            Some(_) => {
                let outer = (config.vocab_size * config.d_model) as u64 * if config.tie_embeddings { 1 } else { 2 };
                params + outer.min(params)
            }
            None => 2 * params,
        };
        let tokens = (train.batch_size * train.block_size) as u64;
        let width = config.d_model as u64;
        let heads = (config.n_heads * config.head_dim) as u64;
        let kv = (config.n_kv_heads * config.head_dim) as u64;
        let gates = if config.activation.is_gated() { 3 } else { 2 };
        // Bytes per token and block: both norms' outputs, both sums, query, key, value and their gradient's place, the attention's
        // output, the feed-forward's inner values before and after the activation.
        let rounded = 2 * width + 2 * heads + 2 * kv + gates * config.d_ff as u64;
        let block = match (config.mixer, precision) {
            // The sums stay as they are.
            (Mixer::Attention, Precision::Bf16) => FLOAT * 2 * width + HALF * rounded,
            (Mixer::Attention, Precision::Fp32 | Precision::F16) => FLOAT * (2 * width + rounded),
            // Each of the four gates keeps both its products, their sum and its value; then the cell, its tanh and the products of the two.
            (Mixer::Lstm, _) => FLOAT * 24 * width,
        };
        // The widest tensor of the backward pass, and the logits, or the chunk of them that is in memory at a time.
        let passing = 3 * (width + config.d_ff as u64) + (config.vocab_size as u64).min(4 * 4096);
        // An encoder and its decoder share the positions of a batch, about equally; the decoder's blocks also attend to the encoder.
        let blocks = match &config.encoder {
            Some(encoder) => (encoder.n_layers as u64 * block + 3 * config.n_layers as u64 * block / 2) / 2,
            None => config.n_layers as u64 * block,
        };
        let training = tokens * (blocks + FLOAT * passing);
        // A micro-step keeps what the weights were cast to until its backward pass; with bf16 they are rounded where they are used.
        let casts = match precision {
            Precision::Fp32 | Precision::Bf16 => 0,
            Precision::F16 => HALF * params,
        };
        let evaluating = (eval_batch_size * config.max_seq_len) as u64 * passing;
        Self {
            // Gradients of several micro-steps are summed, so two sets of them are in memory at the same time.
            state: FLOAT * (if train.accumulation > 1 { 3 } else { 2 } * params + moments),
            activations: (training + casts).max(FLOAT * evaluating),
            snapshot: FLOAT * (params + moments),
        }
    }

    /// The same where only an adapter of this many parameters is trained: there are no gradients and moments of others, and a checkpoint
    /// has only the adapter.
    pub(crate) fn with_adapter(self, config: &TransformerConfig, train: &TrainRecipe, trained: u64) -> Self {
        let gradients = if train.accumulation > 1 { 2 } else { 1 };
        Self {
            state: FLOAT * (config.n_params() + (1 + gradients + 2) * trained),
            snapshot: FLOAT * 3 * trained,
            ..self
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.state + self.activations + self.snapshot
    }

    /// One line for the terminal. `before_bytes` is the memory of the process before the model was created,
    /// `trial_bytes` its memory after a trial step and an evaluation batch.
    pub(crate) fn words(&self, before_bytes: Option<u64>, trial_bytes: Option<u64>) -> String {
        let trial = trial_bytes.map_or(String::new(), |bytes| format!(", {} after a trial step", size(bytes)));
        format!(
            "memory: about {} needed{trial}",
            size(self.total() + before_bytes.unwrap_or(0))
        )
    }
}

/// Refuses a run that does not fit into memory.
pub(crate) fn check(
    estimate: &Estimate,
    config: &TransformerConfig,
    device: DeviceSpec,
    train: &TrainRecipe,
) -> Result<(), TrainError> {
    let is_host = matches!(device, DeviceSpec::Flex | DeviceSpec::NdArray);
    match taal_metrics::available_memory_bytes() {
        Some(available_bytes) if is_host && estimate.total() > available_bytes => Err(TrainError::Memory {
            needed_bytes: estimate.total(),
            available_bytes,
            cause: estimate.cause(config, train, available_bytes),
        }),
        _ => Ok(()),
    }
}

impl Estimate {
    /// What needs the memory, and which keys to lower. Fewer rows do not help if the weights alone are too large.
    fn cause(&self, config: &TransformerConfig, train: &TrainRecipe, available_bytes: u64) -> String {
        let weights = self.state.saturating_add(self.snapshot);
        if weights < available_bytes {
            return format!(
                "{} of that for the activations of train.batch_size = {}; lower train.batch_size and raise train.accumulation by the \
                 same factor (the same updates in less memory), or train.block_size, or make the model smaller",
                size(self.activations),
                train.batch_size
            );
        }
        format!(
            "the weights, gradients and moments of {} parameters alone take {}; lower {}",
            config.n_params(),
            size(weights),
            largest_keys(config)
        )
    }
}

/// The keys of the shape that determine most of the parameters.
fn largest_keys(config: &TransformerConfig) -> String {
    let product = |factors: &[usize]| factors.iter().fold(1.0, |product, factor| product * *factor as f64);
    let layers = config.n_layers;
    let heads = 2 * config.n_heads * config.head_dim + 2 * config.n_kv_heads * config.head_dim;
    let parts = [
        (
            product(&[config.vocab_size, config.d_model, 2]),
            format!("model.d_model = {} or tokenizer.vocab_size", config.d_model),
        ),
        (
            product(&[layers, config.d_model, heads]),
            format!(
                "model.d_model = {}, model.n_layers = {layers}, or model.n_heads = {} and model.head_dim = {}",
                config.d_model, config.n_heads, config.head_dim
            ),
        ),
        (
            product(&[layers, config.d_model, config.d_ff, 3]),
            format!(
                "model.d_model = {}, model.d_ff = {} or model.n_layers = {layers}",
                config.d_model, config.d_ff
            ),
        ),
    ];
    let largest = parts.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    largest.map_or(String::new(), |(_, keys)| keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{RecipeText, resolve};
    use taal_model::ModelSize;

    /// The message if only `available_bytes` are free.
    fn cause(config: &TransformerConfig, sets: &[&str], available_bytes: u64) -> String {
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        let recipe = resolve(&RecipeText::find("names").unwrap(), &sets).unwrap().recipe;
        let estimate = Estimate::of(config, &recipe.train, Precision::Fp32, 8);
        estimate.cause(config, &recipe.train, available_bytes)
    }

    #[test]
    fn the_note_on_memory_fits_a_line_of_80_columns() {
        let config = TransformerConfig::llama(ModelSize {
            vocab_size: 50_000,
            max_seq_len: 1024,
            n_layers: 24,
            n_heads: 16,
            d_model: 2048,
        });
        let recipe = resolve(&RecipeText::find("names").unwrap(), &[]).unwrap().recipe;
        let estimate = Estimate::of(&config, &recipe.train, Precision::Fp32, 8);
        let said = estimate.words(Some(100 << 20), Some(1234 << 20));
        assert!(
            said.starts_with("memory: about ") && said.ends_with(", 1.21 GiB after a trial step"),
            "{said}"
        );
        assert!("note: ".len() + said.len() <= 80, "{said}");
    }

    #[test]
    fn report_35_the_memory_hint_names_what_takes_the_memory() {
        let wide = TransformerConfig::llama(ModelSize {
            vocab_size: 100,
            max_seq_len: 64,
            n_layers: 2,
            n_heads: 4,
            d_model: 65_536,
        });
        let said = cause(&wide, &[], 1 << 30);
        assert!(
            said.contains("model.d_model = 65536") && !said.contains("batch_size"),
            "{said}"
        );
        let many = TransformerConfig::llama(ModelSize {
            vocab_size: 1_000_000,
            max_seq_len: 64,
            n_layers: 1,
            n_heads: 4,
            d_model: 4096,
        });
        let said = cause(&many, &[], 1 << 30);
        assert!(
            said.contains("tokenizer.vocab_size") && !said.contains("batch_size"),
            "{said}"
        );
        let small = TransformerConfig::llama(ModelSize {
            vocab_size: 100,
            max_seq_len: 64,
            n_layers: 2,
            n_heads: 4,
            d_model: 64,
        });
        let said = cause(&small, &["train.batch_size=4096"], 1 << 30);
        assert!(
            said.contains("train.batch_size = 4096") && !said.contains("d_model"),
            "{said}"
        );
    }
}
