//! Inspect a language model: one text through every stage.
//!
//! [`trace`] reads a text with a causal or a masked model and returns the intermediate results as one [`Trace`]: the tokens with
//! the merges that made them, their vectors and positions, the attention weights of every layer and head, the length of the
//! residual stream after every layer, the next-token guess that each layer would make (the logit lens) and the final
//! distribution. [`over_checkpoints`] adds the predictions of a training run's checkpoints. A trace can be saved as JSON
//! ([`Trace::save_json`], [`Trace::open_json`]) and as a self-contained HTML page ([`html`], [`Trace::save_html`]).
//!
//! Tracing changes nothing: the logits of a trace equal those of [`taal_inference::Decoder`], bit for bit, and the last row of
//! the lens is the model's output.
//!
//! Left out: gradients and attributions, sparse autoencoders, patching activations.
//!
//! ```
//! use burn::tensor::Device;
//! use taal_inference::{LanguageModel, Prompt};
//! use taal_insight::{TraceOptions, trace};
//! use taal_model::{ModelSize, TransformerConfig};
//! use taal_tokenizer::{Kind, TrainerConfig};
//!
//! let tokenizer = TrainerConfig::new(Kind::Bpe, 300).train(["de kat krabt de krullen van de trap"])?;
//! let model = TransformerConfig::llama(ModelSize {
//!     vocab_size: tokenizer.vocab_size(),
//!     max_seq_len: 16,
//!     n_layers: 2,
//!     n_heads: 4,
//!     d_model: 32,
//! }).init(42, &Device::flex())?;
//! let lm = LanguageModel::new(model, Some(tokenizer));
//!
//! let trace = trace(&lm, &Prompt::from("de kat"), &TraceOptions::default())?;
//! let weights = &trace.attention[1][3][0]; // layer 2, head 4, the first token
//! assert_eq!(weights[0], 1.0); // attends only to itself
//! assert_eq!(trace.lens.len(), 3); // before the first layer and after each
//! let (output, last) = (&trace.predictions[0], trace.lens[2].last().unwrap());
//! assert_eq!(output.guesses, last.guesses);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anatomy;
mod checkpoints;
mod error;
mod forward;
mod html;
mod pair;
mod rank;
mod reading;
mod trace;

pub use anatomy::{Part, Row, anatomy, rows, svg};
pub use checkpoints::{CheckpointGuess, over_checkpoints};
pub use error::{InsightError, Result};
pub use html::{PageOptions, html, page_data};
pub use pair::{Source, trace_pair};
pub use reading::label as token_label;
pub use taal_draw::Language;
pub use trace::{
    Embedding, Guess, LensCell, MAX_TOP, MAX_WEIGHTS, MergeStep, ModelFacts, Positions, Prediction, Token, Trace,
    TraceOptions, trace,
};
