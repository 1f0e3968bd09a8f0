//! Train, save and apply tokenizers: BPE, WordPiece, Unigram, char and word.
//!
//! A tokenizer splits text into tokens of a fixed vocabulary, each with an id. All kinds are saved as a `tokenizer.json`, with which
//! the Python package `tokenizers` gives the same ids; [`Tokenizer::open`] opens those of published models, and [`Tokenizer::import`]
//! other published formats. Hugging Face's `tokenizers` crate does the encoding; this crate adds training in bounded memory with equal
//! bytes for equal text, validation of files, streaming decoding, and exact char and word tokenizers.
//!
//! | [`Kind`] | smallest unit | text outside the vocabulary | `decode(encode(text))` |
//! |---|---|---|---|
//! | `Bpe` | byte | none | the text |
//! | `WordPiece` | character | `[UNK]` or an error | words and punctuation separated by spaces |
//! | `Unigram` | byte | none | the text |
//! | `Char` | character | an error or `[UNK]` | the text, if all is known |
//! | `Word` | word | `[UNK]` or an error | the text, if all is known |
//!
//! Decoding leaves out special tokens, so a text that contains one is returned without it; [`Tokenizer::decode_with_special`]
//! keeps them.
//!
//! [`Tokenizer::spans`] and [`Tokenizer::merges`] tell where tokens come from.
//!
//! [`chat`] makes the text of a conversation with a model's chat template.
//!
//! Left out: normalization in training (text is used unchanged, with its case).
//!
//! # Example
//!
//! ```
//! use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};
//!
//! let text = "de kat krabt de krullen van de trap, de kat krabt de krullen";
//! let trained = TrainerConfig::new(Kind::Bpe, 300).train([text])?;
//! let opened = Tokenizer::from_json(&trained.to_json())?;
//! assert_eq!(opened.hash(), trained.hash());
//!
//! let ids = opened.encode(text)?;
//! assert!(ids.len() < text.len() / 2);
//! assert_eq!(opened.decode(&ids)?, text);
//! # Ok::<(), taal_tokenizer::Error>(())
//! ```

mod base64;
mod bytes;
mod charsmap;
pub mod chat;
mod chunks;
mod compounds;
mod compression;
mod cut;
mod error;
mod file;
mod frame;
mod import;
mod kind;
mod marks;
mod open;
mod origin;
mod patterns;
mod pipeline;
mod special;
mod steps;
mod stream;
mod target;
mod texts;
mod tokenizer;
mod train;

pub use chunks::TextPart;
pub use compounds::{Compound, CompoundReport, compound_report};
pub use compression::{Compression, compression};
pub use error::{Error, Result};
pub use frame::Frame;
pub use import::{Format, ImportOptions};
pub use kind::{Kind, Unknown};
pub use marks::WordMarks;
pub use origin::Merge;
pub use stream::DecodeStream;
pub use texts::TokenTexts;
pub use tokenizer::Tokenizer;
pub use train::{DEFAULT_MEMORY_LIMIT_BYTES, TrainerConfig, TrainingReport};
