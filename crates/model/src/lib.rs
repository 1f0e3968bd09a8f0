//! Transformer language models by configuration: causal, bidirectional or with an encoder and a decoder, GPT-2, LLaMA, Qwen3, BERT,
//! Marian and T5 shapes from one [`Transformer`], read from and written as Hugging Face directories.
//!
//! A model is a [`TransformerConfig`] that becomes a [`Transformer`] on a Burn device. It maps token ids to logits and, on
//! request, returns the attention weights and hidden states of every layer. Text, training and sampling are in the tokenizer,
//! trainer and inference crates. For comparison with older models, [`Mixer::Lstm`] replaces the blocks by recurrent layers.
//!
//! The decoder of an encoder-decoder attends to a [`Memory`] too, which [`Transformer::encode`] makes of the sources.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use taal_model::{ModelSize, TransformerConfig};
//!
//! let config = TransformerConfig::llama(ModelSize {
//!     vocab_size: 50,
//!     max_seq_len: 16,
//!     n_layers: 2,
//!     n_heads: 4,
//!     d_model: 32,
//! });
//! let model = config.init(42, &Device::flex())?;
//! let ids = Tensor::<2, Int>::from_ints([[1, 2, 3]], &Device::flex());
//! assert_eq!(model.forward(ids)?.dims(), [1, 3, 50]); // [batch, seq, vocab_size]
//! # Ok::<(), taal_model::ModelError>(())
//! ```

mod block;
mod config;
mod embeddings;
mod error;
mod feed_forward;
mod head;
pub mod hugging_face;
pub mod layout;
mod memory;
mod more_tokens;
mod norm;
pub mod parameters;
mod pass;
mod places;
mod precision;
mod recurrent;
pub mod rope_scaling;
mod stack;
mod table;
mod transformer;
mod weight_format;

pub use block::{Block, BlockConfig, Cross};
pub use config::{
    Activation, EncoderConfig, Initialization, MAX_DIMENSION, MAX_LAYERS, Mixer, ModelSize, NormKind, NormPlace,
    PositionKind, RelativePositions, RopeScaling, TransformerConfig,
};
pub use embeddings::Embeddings;
pub use error::ModelError;
pub use feed_forward::{FeedForward, FeedForwardConfig};
pub use head::{Head, HeadTransform, MaskedHead, OutputMatrix};
pub use memory::Memory;
pub use norm::{Norm, NormConfig};
pub use pass::{Cache, Capture, ForwardOptions, Hook, Output, Site};
pub use precision::{can_be_quantized, rows_of};
pub use recurrent::Recurrent;
pub use stack::{Blocks, Stack};
pub use taal_attention::{CacheType, Segments};
pub use table::{ParameterInfo, ParameterTable, Role};
pub use transformer::Transformer;
pub use weight_format::{Rounding, WeightFormat};
