//! From corpora to memory-mapped token shards to batches whose order is a function of seed and step.
//!
//! ```text
//! texts --build_shards--> folder of shards --Dataset::open--> TokenSource --BatchPlan--> Batch
//! texts --------Dataset::from_files / from_texts-----------> TokenSource
//! rows of examples --Conversations::open---------------> ConversationSource --BatchPlan--> Batch
//! ```
//!
//! - **Split.** The last tenth of each file, counted in characters before tokenization, is for validation ([`split_text`]).
//! - **Tokenization** is parallel, and its result does not depend on the number of threads: a long text is split where the tokenizer
//!   itself confirms, on 128 bytes to either side, that the ids stay those of the whole text; preferably before a space between two
//!   words, where every word-based pre-tokenizer has a boundary. For such a tokenizer (byte-level BPE, WordPiece, SentencePiece, words,
//!   characters) the ids are those of the whole text. If a text has no confirmed cut within 32 KiB, or a tokenizer has pieces across
//!   spaces, the ids may differ at one cut per 128 KiB: [`BuildReport::inexact_cuts`] counts the unconfirmed ones.
//! - **Memory.** [`build_shards`] reads files as streams and holds a few chunks per thread; shards are mapped, not read.
//! - **Order.** A batch depends only on (seed, step, row); nothing has to be saved to resume ([`BatchPlan`]). Several files are
//!   weighted by their length: their training parts are concatenated, with the end-of-text token between them where the tokenizer
//!   has one, and windows may cross from one to the next. Validation parts stay separate. A [`Mixture`] weights them otherwise.
//! - **Examples.** [`Conversations`] reads prompts with completions, messages and other [layouts](Layout) from JSONL, CSV, TSV and Parquet
//!   files,
//!   finds the answers in what a [`ChatFormat`] writes, and packs several examples into a row.
//! - **Questions.** [`for_each_row`] reads rows that a model is to answer, [`Conversation::question`] writes them as in training.
//! - **Pairs.** [`Pairs`] reads prompts and completions for an encoder-decoder; pairs of similar length share a batch.
//! - **Masking.** [`Masking`] masks tokens, words or spans of a batch for a masked model to predict.
//! - **Trust.** Shards carry the hash of their tokenizer and a checksum for every MiB; damage is found when they are
//!   opened, never in the middle of a run. The format is in [`Shard`].
//!
//! Left out: downloads, deduplication, streams from a network, formats other than text, JSONL, CSV, TSV and Parquet.
//!
//! # Example
//!
//! ```
//! use taal_data::{BatchPlan, Dataset, Order, TokenizeOptions};
//! use taal_tokenizer::{Kind, TrainerConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = taal_data::corpus("names").expect("an embedded corpus").text();
//! let tokenizer = TrainerConfig::new(Kind::Char, 64).train([text])?;
//! let dataset = Dataset::from_texts(&tokenizer, &[("names", text)], &TokenizeOptions::default())?;
//! assert_eq!(dataset.train.len() + dataset.validation[0].len(), 228_145);
//!
//! let plan = BatchPlan::new(1337, 4, 16).with_order(Order::Shuffled);
//! let batch = plan.batch(&dataset.train, 0)?;
//! assert_eq!(batch.inputs.len(), 4 * 16);
//! assert_eq!(batch.inputs[1], batch.targets[0]);
//! assert_eq!(batch, plan.batch(&dataset.train, 0)?); // the same step, the same batch
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod batch;
mod build;
mod chat;
mod chunk;
mod conversation;
mod corpus;
mod dataset;
mod dialogue;
mod direction;
mod distinct;
mod error;
mod example;
mod examples;
mod in_order;
mod input;
mod masking;
mod message;
mod mixture;
mod pairs;
mod parquet;
mod question;
mod random;
mod records;
mod shard;
mod skeleton;
mod source;
mod table;
mod template;
mod text;
mod tokenize;

pub use batch::{Batch, BatchPlan, BatchSource, IGNORE_INDEX, Order, SourceBatch};
pub use build::{BuildOptions, BuildReport, DEFAULT_SHARD_TOKENS, InputSummary, build_shards};
pub use chat::{ChatFormat, Marked};
pub use conversation::{
    ConversationCounts, ConversationExample, ConversationOptions, ConversationSource, Conversations, RoleCount,
    conversation_texts, example_texts, has_conversations,
};
pub use corpus::{Corpus, corpora, corpus};
pub use dataset::Dataset;
pub use dialogue::{Columns, Conversation, Dialogue, Layout};
pub use direction::Direction;
pub use error::{DataError, Result};
pub use examples::{ExampleSet, example_set, example_sets};
pub use input::{Content, FoundFiles, find_files, text_files};
pub use masking::{MaskUnit, MaskVocabulary, Masking};
pub use message::{Message, Role};
pub use mixture::Mixture;
pub use pairs::{PairSource, Pairs, References, references};
pub use question::{FileRow, Question, RowSource, for_each_row};
pub use shard::{Shard, ShardOrigin, ShardWriter};
pub use source::TokenSource;
pub use taal_store::LineEnds;
pub use template::plain_chat;
pub use text::{DEFAULT_VALIDATION_FRACTION, line_ends_words, split_text};
pub use tokenize::{Progress, Separator, TokenizeOptions, tokenizer_texts, training_texts};
