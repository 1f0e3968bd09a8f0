//! Inference with language models on Burn: generate text with a key/value cache, fill gaps, embed texts.
//!
//! A [`LanguageModel`] is a [`Transformer`](taal_model::Transformer) with its tokenizer, opened from a Hugging Face directory.
//! [`generate`] continues a prompt and streams the text, [`Generator`] continues several at once, and an [`Engine`] serves
//! many requests that come and go; [`Sampling`] sets how each token is
//! chosen, and [`sample`] does it on a plain slice of logits; [`beam_search`] finds the most probable continuations; [`Decoder`] is the step below, prefill and decode, and [`StopFilter`]
//! finds stop strings in a stream of text. A [`Constraint`] gives an answer the form of a JSON schema, a regular expression or a
//! grammar. [`embed`] turns a text into a vector, [`similarity`] compares two. [`fill`] predicts the
//! gaps of a text with a masked model. A [`Translator`] turns sources into texts in another language. All of them use [`Probe`]: ids in, logits or losses at some positions out.
//!
//! Everything is deterministic: token `n` of a generation is drawn with a number that depends only on the seed and `n`, with or
//! without a cache, and a score has the same bits every time.
//!
//! [`Session`] keeps what was computed between the turns of a conversation, whose text the model's chat template makes
//! ([`LanguageModel::chat_template`]). [`generate_speculatively`] gives the texts of [`generate`] in fewer passes of the model, with a small
//! model that guesses ahead.
//!
//! A [`Receipt`] says what an answer depends on, and [`replay`] computes it again.
//!
//! Left out: network servers, which are in `taal-server`.
//!
//! ```
//! use std::ops::ControlFlow;
//! use burn::tensor::Device;
//! use taal_inference::{FinishReason, GenerateOptions, LanguageModel, Prompt, Sampling, generate};
//! use taal_model::{ModelSize, TransformerConfig};
//! use taal_tokenizer::{Kind, TrainerConfig};
//!
//! let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["a rose is a rose"])?;
//! let model = TransformerConfig::llama(ModelSize {
//!     vocab_size: tokenizer.vocab_size(),
//!     max_seq_len: 16,
//!     n_layers: 2,
//!     n_heads: 4,
//!     d_model: 32,
//! }).init(42, &Device::flex())?;
//! let lm = LanguageModel::new(model, Some(tokenizer));
//!
//! let options = GenerateOptions { max_tokens: 20, sampling: Sampling::greedy(), ..GenerateOptions::default() };
//! let mut streamed = String::new();
//! let generation = generate(&lm, &Prompt::from("a rose"), &options, &mut |text| {
//!     streamed.push_str(text);
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(generation.text, Some(streamed));
//! assert_eq!(generation.finish_reason, FinishReason::Length);
//! # Ok::<(), taal_inference::InferenceError>(())
//! ```

mod adapter;
mod beam;
pub mod bench;
mod constraint;
mod decoder;
mod embed;
mod engine;
mod error;
mod fill;
mod generate;
mod generator;
mod language_model;
pub mod load;
mod probe;
mod receipt;
mod sampling;
mod sentence;
mod sequence;
mod session;
mod speculative;
mod stop;
mod text_stream;
mod translate;

pub use adapter::adapter_dir;
pub use beam::{Beam, BeamOptions, EarlyStopping, beam_search};
pub use constraint::Constraint;
pub use decoder::Decoder;
pub use embed::{Pooling, cut_tokens, embed, embed_ids, similarity};
pub use engine::{Answer, Answered, Engine, EngineOptions, EngineStats, Event, Request, Ticket, TokenScore};
pub use error::{InferenceError, MissingModel, Result};
pub use fill::{FillOptions, Filled, Gap, Guess, Rank, fill, framed, with_own_mask};
pub use generate::{FinishReason, GenerateOptions, Generation, Prompt, generate};
pub use generator::{Generator, Progress, SequenceId};
pub use language_model::{Ends, LanguageModel, check_causal, check_ids, check_tokenizer, end_of_turn, model_dir};
pub use probe::{Probe, Rows, TrainingPass, losses, to_host};
pub use receipt::{Difference, Fingerprint, Receipt, Replay, replay};
pub use sampling::{Candidate, Sampling, Seen, candidates, sample};
pub use sentence::{SentenceConfig, sentence_files};
pub use session::Session;
pub use speculative::{Draft, Speculated, SpeculativeOptions, generate_speculatively};
pub use stop::{Passed, StopFilter};
pub use translate::{
    Alternative, Cut, Doubt, Doubts, Line, TranslateOptions, Translation, Translator, WordAttention, check_languages,
    check_translator, own_loss, translate,
};
