//! Masked multi-head attention on Burn with grouped queries, windows and a key/value cache.
//!
//! [`scaled_dot_product_attention`] is the operation itself; [`MultiHeadAttention`] is the layer with its projections, and
//! [`CrossAttention`] the layer whose keys and values are those of another text.
//! [`attention_mask`] says which query may attend to which key, once per forward pass for all layers, and [`KvCache`] keeps the
//! keys and values of tokens already seen.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use taal_attention::{AttentionOptions, scaled_dot_product_attention};
//!
//! let device = Device::flex();
//! let q = Tensor::<4>::ones([1, 2, 3, 4], &device); // [batch, n_heads, q_len, head_dim]
//! let k = Tensor::<4>::ones([1, 1, 3, 4], &device); // both query heads share one key head
//! let v = Tensor::<4>::ones([1, 1, 3, 5], &device);
//! let options = AttentionOptions { is_causal: true, return_weights: true, ..Default::default() };
//! let (context, weights) = scaled_dot_product_attention(q, k, v, None, &options);
//! assert_eq!(context.dims(), [1, 2, 3, 5]);
//! let weights: Vec<f32> = weights.unwrap().into_data().iter().collect();
//! assert_eq!(weights[..6], [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
//! ```

mod cache;
mod cross;
mod error;
mod functional;
mod mask;
mod multi_head;

pub use cache::{CacheType, KvCache};
pub use cross::{CrossAttention, CrossAttentionConfig, CrossContext, CrossSource};
pub use error::AttentionError;
pub use functional::{AttentionOptions, scaled_dot_product_attention};
pub use mask::attention_mask;
pub use multi_head::{AttentionContext, AttentionOutput, MultiHeadAttention, MultiHeadAttentionConfig};
pub use taal_kernels::{AttentionMask, Segments};
