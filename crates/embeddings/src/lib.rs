//! Token embeddings and positions on Burn: learned, sinusoidal, rotary, ALiBi and relative.
//!
//! [`TokenEmbedding`] turns token ids into vectors and, tied, hidden states back into logits. A transformer does not see the
//! order of its input vectors unless positions are encoded; [`Position`] names the ways offered here: [`LearnedPositions`] and
//! [`sinusoidal`] are added to the vectors, [`Rotary`] rotates queries and keys, [`alibi_bias`] and [`RelativeBias`] are added to the
//! attention scores.
//!
//! Left out: everything that mixes positions with each other (that is attention).
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use taal_embeddings::TokenEmbeddingConfig;
//!
//! let device = Device::flex();
//! let embedding = TokenEmbeddingConfig { vocab_size: 10, d_model: 4 }.init(0, &device);
//! let ids = Tensor::<2, Int>::from_ints([[3, 1, 4]], &device); // [batch, seq]
//! let hidden = embedding.forward(ids); // [batch, seq, d_model]
//! assert_eq!(hidden.dims(), [1, 3, 4]);
//! assert_eq!(embedding.logits(hidden).dims(), [1, 3, 10]);
//! ```

mod alibi;
mod error;
mod learned;
mod position;
mod relative;
mod rotary;
mod sinusoidal;
mod token;

pub use alibi::{alibi_bias, alibi_bias_at, alibi_slopes};
pub use error::EmbeddingError;
pub use learned::{LearnedPositions, LearnedPositionsConfig};
pub use position::Position;
pub use relative::{RelativeBias, RelativeBiasConfig};
pub use rotary::{Rotary, RotaryScaling};
pub use sinusoidal::{sinusoidal, sinusoidal_halves};
pub use token::{TokenEmbedding, TokenEmbeddingConfig};
