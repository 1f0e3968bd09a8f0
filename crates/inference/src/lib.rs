//! Generate text with a key/value cache and score text with a language model on Burn.
//!
//! A [`LanguageModel`] is a [`Transformer`](taal_model::Transformer) with its tokenizer, opened from a Hugging Face
//! directory. [`generate`] continues a prompt and streams the words as they come, [`Generator`] several at once; [`Sampling`] says how each token is
//! chosen, and [`sample`] does it on a plain slice of logits; [`Decoder`] is the step beneath, prefill and decode, and
//! [`StopFilter`] finds stop strings in a stream of text.
//! [`embed`] makes a vector of a text, [`similarity`] compares two.
//! [`WordVectors`] are measured by [`WordPairs`] (people's judgements), [`Analogies`] and [`Categories`].
//! [`evaluate_choices`] asks which of several continuations is likeliest.
//! [`evaluate_pairs`] asks which of two sentences is likelier.
//! [`fill`] asks a masked model what stands in the gaps of a text.
//! [`import_model`] and [`export_model`] move models from and to other programs.
//! [`evaluate_files`] measures loss, perplexity and bits per byte of texts, [`score_windows`] those of any source of
//! token ids.
//!
//! All of it is a function of its arguments: token `n` of a generation is drawn with a number that depends on the seed
//! and `n` alone, with or without a cache, and a score has the same bits every time.
//!
//! Left out: beam search, chat templates, and everything that listens on a network.
//!
//! ```
//! use std::ops::ControlFlow;
//! use burn::tensor::Device;
//! use taal_inference::{FinishReason, GenerateOptions, LanguageModel, Prompt, Sampling, generate};
//! use taal_model::TransformerConfig;
//! use taal_tokenizer::{Kind, TrainerConfig};
//!
//! let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["a rose is a rose"])?;
//! let model = TransformerConfig::llama(tokenizer.vocab_size(), 16, 2, 4, 32).init(42, &Device::flex())?;
//! let lm = LanguageModel::new(model, Some(tokenizer));
//!
//! let options = GenerateOptions { max_tokens: 20, sampling: Sampling::greedy(), ..GenerateOptions::default() };
//! let mut heard = String::new();
//! let generation = generate(&lm, &Prompt::from("a rose"), &options, &mut |text| {
//!     heard.push_str(text);
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(generation.text, Some(heard));
//! assert_eq!(generation.finish_reason, FinishReason::Length);
//! # Ok::<(), taal_inference::InferenceError>(())
//! ```

pub mod bench;
mod choices;
mod decoder;
mod embed;
mod error;
mod evaluate;
mod exchange;
mod fill;
mod generate;
mod generator;
mod language_model;
mod left_out;
mod lines;
mod pairs;
mod sampling;
mod score;
mod sentence;
mod stop;
mod text_stream;
mod words;

pub use choices::{
    ChoiceAccuracy, ChoiceEvaluation, ChoiceFile, ChoiceItem, ChoiceOptions, ChoiceScore, Normalise, evaluate_choices,
    read_choices, score_choices,
};
pub use decoder::Decoder;
pub use embed::{Pooling, cut_tokens, embed, similarity};
pub use error::{InferenceError, Result};
pub use evaluate::{Evaluation, TextScore, evaluate_files, evaluate_files_after_bos, evaluate_text};
pub use exchange::{Exported, Imported, Source, Target, TokenizerChoice, export_model, import_model};
pub use fill::{FillOptions, Filled, Gap, Guess, Rank, fill, framed, with_own_mask};
pub use generate::{FinishReason, GenerateOptions, Generation, Prompt, generate};
pub use generator::{Generator, Progress, SequenceId};
pub use language_model::{LanguageModel, model_dir};
pub use left_out::LeftOut;
pub use pairs::{PairEvaluation, PairScore, evaluate_pairs, log_likelihood};
pub use sampling::{Candidate, Sampling, candidates, sample};
pub use score::{Score, default_batch_size, score_ids, score_windows, try_score_windows};
pub use sentence::SentenceConfig;
pub use stop::{Passed, StopFilter};
pub use words::{
    Analogies, AnalogyScore, BOOTSTRAP_ROUNDS, Categories, CategoryScore, SectionScore, SimilarityScore, UnknownWords,
    WordPairs, WordVectors, vocabulary_words,
};
