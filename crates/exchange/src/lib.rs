//! Import and export of models with their tokenizers: GGUF files, llama2.c files, Hugging Face directories.
//!
//! [`import_model`] recognizes the format by content and writes a Hugging Face directory, which everything in Taal opens;
//! [`export_model`] writes what `transformers`, llama.cpp and llama2.c open; [`open_model`] opens a GGUF file where it is, without
//! importing it. [`merge_adapter`] adds an adapter to its base. [`gguf`] and [`llama2c`] are the formats themselves.
//!
//! Left out: Hugging Face's directory itself, which is the model crate's format, and formats that can execute code (pickles).
//!
//! ```
//! use burn::tensor::Device;
//! use taal_exchange::gguf;
//! use taal_model::{ModelSize, TransformerConfig};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("model.gguf");
//! let model = TransformerConfig::llama(ModelSize {
//!     vocab_size: 50,
//!     max_seq_len: 16,
//!     n_layers: 2,
//!     n_heads: 4,
//!     d_model: 32,
//! }).init(42, &Device::flex())?;
//! gguf::save(&model, None, None, "a model", &path)?;
//! let opened = gguf::open(&path, &Device::flex())?;
//! assert_eq!(opened.model.config(), model.config());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapters;
mod error;
mod from_ggml;
pub mod gguf;
pub mod llama2c;
mod models;
mod to_ggml;
mod words;

pub use adapters::{LayerChange, MERGE_TOLERANCE, Merged, adapter_changes, base_of, merge_adapter, open_with_adapter};
pub use error::{ExchangeError, Result};
pub use models::{
    Exported, Imported, Source, Target, TokenizerChoice, export_model, import_model, import_model_as, is_gguf_file,
    open_model,
};
