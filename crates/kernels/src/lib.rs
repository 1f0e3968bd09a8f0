//! Devices, losses and tensor operations on Burn for training and running language models.
//!
//! This is the layer that the rest of Taal computes with: which device runs ([`DeviceSpec`]), how a loss is
//! measured ([`cross_entropy`]), norms, activations and [`softmax`] as functions, and randomness that is a
//! function of a key ([`random`], [`dropout`]) instead of a generator's state. Every operation has a
//! [`reference`] implementation composed of Burn's own, so it runs and differentiates on every device, and where it
//! pays a fused CPU kernel and a GPU kernel, which the same function uses and which compute the same.
//!
//! It leaves out everything that knows a model: embeddings, attention and layers are crates of their own.
//!
//! ```
//! use burn::tensor::{Int, Tensor};
//! use taal_kernels::{DeviceSpec, IGNORE_INDEX, cross_entropy};
//!
//! let device = "flex".parse::<DeviceSpec>()?.open()?;
//! let logits = Tensor::<2>::zeros([2, 4], &device); // [n, vocab]: four tokens, all equally likely
//! let targets = Tensor::<1, Int>::from_ints([3, IGNORE_INDEX], &device);
//! let loss: f32 = cross_entropy(logits, targets, IGNORE_INDEX).into_scalar();
//! assert!((loss - 4.0_f32.ln()).abs() < 1e-6);
//! # Ok::<(), taal_kernels::KernelError>(())
//! ```

mod activation;
mod attention;
mod autodiff;
mod backend;
mod cached_rows;
mod cpu;
mod dense;
mod device;
mod dropout;
mod embedding;
mod error;
#[cfg(feature = "cubecl")]
mod gpu;
mod halves;
mod kernel_set;
mod linear;
mod loss;
mod low_rank;
mod norm;
mod optimizer;
mod param;
mod peak;
#[cfg(any(feature = "cubecl", test))]
mod pieces;
mod precision;
pub mod profile;
mod quantized;
pub mod random;
pub mod reference;
mod rotary;
mod segments;
mod softmax;

pub use activation::{geglu, geglu_tanh, gelu, gelu_tanh, relu_squared, silu, swiglu};
pub use attention::{
    AttentionMask, AttentionSettings, Projection, attention, attention_of_halves, projected_attention,
    projected_cross_attention,
};
pub use cached_rows::{reorder_rows, write_rows};
pub use cpu::math::exp_in_place;
pub use cpu::parallel::on_pool;
pub use dense::{Dense, DenseConfig};
pub use device::{Adapter, DeviceInfo, DeviceSpec, adapters, available, is_gpu};
pub use dropout::{dropout, dropout_mask};
pub use embedding::embedding;
pub use error::KernelError;
pub use halves::{Halves, Positions};
pub use kernel_set::kernel_set;
pub use linear::{linear, linear_add, linear_transposed};
pub use loss::{IGNORE_INDEX, cross_entropy, cross_entropy_smoothed, linear_cross_entropy, negative_log_likelihood};
pub use low_rank::{LowRank, LowRankConfig, with_adapters_of_rows, with_low_rank_dropout};
pub use norm::{layer_norm, rms_norm};
pub use optimizer::{AdamWStep, MuonMatrix, MuonStep, adamw, muon, orthogonalize, sum_of_squares};
pub use param::{constant_param, made_when_used, normal_param};
pub use peak::{
    bf16_speedup, measured_bandwidth_bytes_per_s, measured_peak_flops_per_s, measured_peak_flops_per_s_of,
    peak_flops_per_s_measured_again,
};
pub use precision::{Precision, with_precision};
pub use quantized::{QuantizedMatrix, WeightType, encode_q5_0, q8_0_of_q5_0, quantized_linear};
pub use reference::sum_of_squares_on_device;
pub use rotary::rotary;
pub use segments::Segments;
pub use softmax::{masked_exp, softmax};
