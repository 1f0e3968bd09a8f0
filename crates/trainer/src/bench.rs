//! The speed of training steps on fixed shapes, for comparison with other programs: [`BenchShape`], [`measure`].

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;
use taal_data::Batch;
use taal_kernels::{DeviceSpec, Precision, profile};
use taal_model::hugging_face::{Family, Lora};
use taal_model::{ModelSize, TransformerConfig};

use crate::optimizer::{AdamW, Optimizer};
use crate::precision::{self, MixedPrecision, PrecisionChoice};
use crate::step::Learner;
use crate::utilization::Peak;
use crate::{TrainError, adapter};

/// A model and a batch size that other programs are measured with too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BenchShape {
    /// nanoGPT's CPU recipe: 4 layers, 4 heads, 128 wide, 12 x 64 tokens of 65.
    Cpu,
    /// nanoGPT's "baby GPT": 6 layers, 6 heads, 384 wide, 16 x 256 tokens of 65.
    Baby,
    /// GPT-2 124M's shape with its own output matrix: 12 layers, 12 heads, 768 wide, 1 x 256 tokens of 50,304.
    Small,
    /// nanoGPT's GPT-2 124M, for GPUs: 12 layers, 12 heads, 768 wide, tied, 4 x 1,024 tokens of 50,304.
    Gpt2,
}

impl BenchShape {
    /// Every shape, the smallest first.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Baby, Self::Small, Self::Gpt2];

    /// The name after `--shape`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Baby => "baby",
            Self::Small => "small",
            Self::Gpt2 => "gpt2",
        }
    }

    /// GPT-2 without biases, except in its norms. Only `gpt2` ties the output matrix to the embedding.
    pub fn config(self) -> TransformerConfig {
        let [vocab_size, seq, layers, heads, width] = match self {
            Self::Cpu => [65, 64, 4, 4, 128],
            Self::Baby => [65, 256, 6, 6, 384],
            Self::Small => [50_304, 256, 12, 12, 768],
            Self::Gpt2 => [50_304, 1024, 12, 12, 768],
        };
        TransformerConfig {
            qkv_bias: false,
            attention_output_bias: false,
            ffn_bias: false,
            tie_embeddings: self == Self::Gpt2,
            ..TransformerConfig::gpt2(ModelSize {
                vocab_size,
                max_seq_len: seq,
                n_layers: layers,
                n_heads: heads,
                d_model: width,
            })
        }
    }

    /// Rows per batch.
    pub fn batch_size(self) -> usize {
        match self {
            Self::Cpu => 12,
            Self::Baby => 16,
            Self::Small => 1,
            Self::Gpt2 => 4,
        }
    }

    /// The default number of measured steps, which takes a few seconds.
    pub fn default_steps(self) -> usize {
        match self {
            Self::Cpu => 60,
            Self::Baby => 8,
            Self::Small | Self::Gpt2 => 5,
        }
    }

    /// The batch of every step: the ids `(i * 7919 + i^2 mod 13) mod vocab_size`, each position predicting the next.
    fn batch(self, batch_size: usize) -> Batch {
        let config = self.config();
        let seq_len = config.max_seq_len;
        let count = batch_size * seq_len;
        let id = |i: usize| ((i * 7919 + (i * i) % 13) % config.vocab_size) as i32;
        Batch {
            batch_size,
            seq_len,
            inputs: (0..count).map(id).collect(),
            targets: (1..=count).map(id).collect(),
            text_starts: None,
            source: None,
        }
    }
}

impl fmt::Display for BenchShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for BenchShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|shape| shape.name() == text);
        found.ok_or_else(|| format!("unknown shape {text:?}: expected cpu, baby, small or gpt2"))
    }
}

/// What [`measure`] found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchFigures {
    /// The shape's name.
    pub shape: &'static str,
    /// The device's name.
    pub device: String,
    /// The precision of the products of linear layers.
    pub precision: String,
    /// Parameters.
    pub params: u64,
    /// Parameters that are trained: all, or those of an adapter.
    pub trained_params: u64,
    /// Bytes of the optimizer's moments; the gradients have half as many.
    pub moment_bytes: u64,
    /// Measured steps.
    pub steps: usize,
    /// Tokens per step divided by the median time of a whole step: forward, backward, optimizer.
    pub tokens_per_s: f64,
    /// The median time of a step.
    pub step_time_ms: f64,
    /// Share of the device's measured fp32 peak (PaLM's FLOPs, without the gradients of what an adapter leaves as it is).
    pub mfu: f64,
    /// Floating-point operations per second of the fastest matrix product measured in the same run.
    pub peak_flops_per_s: f64,
    /// The peak memory of the process so far.
    pub peak_rss_bytes: u64,
    /// What a GPU's allocator has reserved at the end, which is its peak; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// Loss of the first and of the last step.
    pub losses: [f64; 2],
    /// The share of each operation in one step that is profiled after the measurement. Fused operations have their
    /// names, everything else is `other`. Empty if nothing is fused.
    pub time_shares: Vec<TimeShare>,
}

/// The share of one operation in the time of a training step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeShare {
    /// Its name.
    pub operation: String,
    /// Between 0 and 1.
    pub share: f64,
}

/// Warm-up steps before the measurement, in which memory and thread pool reach their final size.
const WARM_UP: usize = 2;

/// Options of [`measure`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BenchOptions {
    /// How many steps are timed; by default [`BenchShape::default_steps`].
    pub steps: Option<usize>,
    /// Rows per batch; by default [`BenchShape::batch_size`].
    pub batch_size: Option<usize>,
    /// The precision of the products of linear layers.
    pub precision: Precision,
    /// The rank of an adapter in all linear layers of the blocks, which is trained instead of the model.
    pub lora_rank: Option<usize>,
}

/// Trains a fresh model on one batch and times whole steps.
///
/// # Errors
///
/// [`TrainError`] if the device cannot be opened or does not support the precision.
pub fn measure(shape: BenchShape, device: DeviceSpec, options: BenchOptions) -> Result<BenchFigures, TrainError> {
    let steps = options.steps.unwrap_or(shape.default_steps()).max(1);
    let batch_size = options.batch_size.unwrap_or(shape.batch_size()).max(1);
    let config = shape.config();
    let opened = device.open()?;
    precision::check(
        PrecisionChoice::Fixed(options.precision),
        device,
        &opened,
        "bench train",
        "--precision",
    )?;
    let mut model = config.init(1337, &opened.clone().autodiff())?;
    if let Some(rank) = options.lora_rank {
        let lora = Lora {
            rank,
            alpha: 2.0 * rank as f64,
            is_rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
            modules_to_save: Vec::new(),
        };
        model = model.with_lora(&lora, Family::of(&config), 1337)?.with_adapters_only();
    }
    let trained_params = match options.lora_rank {
        Some(_) => model.n_adapter_params(),
        None => config.n_params(),
    };
    let optimizer = Optimizer::new(AdamW::default(), None);
    let mut learner = Learner {
        model,
        optimizer,
        clip_norm: None,
        precision: MixedPrecision::new(options.precision),
    };
    let batches = [shape.batch(batch_size)];
    let mut step = || -> Result<(f64, Duration), TrainError> {
        let begin = Instant::now();
        let loss = learner.step(&batches, &[], 1.0)?.loss;
        Ok((loss, begin.elapsed()))
    };

    let (first_loss, _) = step()?;
    for _ in 1..WARM_UP {
        step()?;
    }
    let mut last_loss = first_loss;
    let mut times = Vec::with_capacity(steps);
    for _ in 0..steps {
        let (loss, time) = step()?;
        last_loss = loss;
        times.push(time);
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();

    let moments = learner.optimizer.moments();
    let moment_bytes = moments.map(|(_, moment)| 4 * moment.dims()[0] as u64).sum();
    let mut step = || -> Result<Duration, TrainError> {
        let begin = Instant::now();
        learner.step(&batches, &[], 1.0)?;
        Ok(begin.elapsed())
    };
    profile::start();
    let mut watched = Duration::ZERO;
    for _ in 0..steps.div_ceil(4) {
        watched += step()?;
    }
    let time_shares = shares(&profile::stop(), watched);

    let mut peak = Peak::measured(&opened, options.precision);
    let tokens_per_s = (batch_size * config.max_seq_len) as f64 / median;
    let training = adapter::training(&learner.model, &[], 0, config.max_seq_len);
    peak.utilization(tokens_per_s, &training);
    peak.measure_again(&opened);
    let mfu = peak.utilization(tokens_per_s, &training);
    Ok(BenchFigures {
        shape: shape.name(),
        device: device.to_string(),
        precision: options.precision.to_string(),
        params: config.n_params(),
        trained_params,
        moment_bytes,
        steps,
        tokens_per_s,
        step_time_ms: median * 1e3,
        mfu,
        peak_flops_per_s: peak.flops_per_s(),
        peak_rss_bytes: taal_metrics::peak_rss_bytes().unwrap_or(0),
        device_memory_bytes: opened.memory_pool_usage().map(|usage| usage.bytes_reserved),
        losses: [first_loss, last_loss],
        time_shares,
    })
}

/// Times as shares of the whole, plus the rest as `other`.
fn shares(times: &[(&'static str, Duration)], whole: Duration) -> Vec<TimeShare> {
    if times.is_empty() {
        return Vec::new();
    }
    let whole = whole.as_secs_f64().max(1e-9);
    let mut found: Vec<TimeShare> = times
        .iter()
        .map(|(name, time)| TimeShare {
            operation: (*name).to_string(),
            share: time.as_secs_f64() / whole,
        })
        .collect();
    let rest = 1.0 - found.iter().map(|share| share.share).sum::<f64>();
    found.push(TimeShare {
        operation: "other".to_string(),
        share: rest.max(0.0),
    });
    found
}
