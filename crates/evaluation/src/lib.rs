//! Evaluation of language models: loss of texts, minimal pairs, multiple choice, generated answers, and tests of word vectors.
//!
//! [`evaluate_files`] measures loss, perplexity and bits per byte of texts, [`score_windows`] those of any source of token ids.
//! [`evaluate_pairs`] tests which of two sentences is likelier, [`evaluate_choices`] which of several continuations is likeliest.
//! [`evaluate_gaps`] ranks the words left out of sentences.
//! [`WordVectors`] are tested with [`WordPairs`] (human judgments), [`Analogies`] and [`Categories`].
//!
//! A score has the same bits every time. An item that cannot be scored is [left out](LeftOut) and named.
//!
//! [`evaluate_task`] lets a model answer questions and compares its answers with references; [`compare_tasks`] compares two models.
//!
//! Left out: downloading tests, and letting a model judge answers.
//!
//! ```
//! use burn::tensor::Device;
//! use taal_evaluation::evaluate_text;
//! use taal_inference::LanguageModel;
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
//! let score = evaluate_text(&LanguageModel::new(model, Some(tokenizer)), "a text", "is a rose")?;
//! assert_eq!(score.tokens, 8); // all characters but the first
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asking;
mod choices;
mod error;
mod gaps;
mod left_out;
mod lines;
mod nearest;
mod pairs;
mod questions;
mod score;
mod task;
mod text;
mod words;

pub use asking::TaskItem;
pub use choices::{
    ChoiceAccuracy, ChoiceEvaluation, ChoiceFile, ChoiceItem, ChoiceOptions, ChoiceScore, Normalize, evaluate_choices,
    read_choices, score_choices,
};
pub use error::{EvaluationError, Result};
pub use gaps::{Gap, GapEvaluation, GapFile, GapRank, GapReading, GapScore, Share, evaluate_gaps};
pub use left_out::LeftOut;
pub use nearest::Nearest;
pub use pairs::{PairEvaluation, PairScore, evaluate_pairs, log_likelihood};
pub use score::{Score, default_batch_size, score_ids, score_windows, try_score_windows};
pub use task::{Task, TaskAnswer, TaskEvaluation, compare_tasks, evaluate_task};
pub use text::{Evaluation, TextScore, evaluate_files, evaluate_files_after_bos, evaluate_text};
pub use words::{
    Analogies, AnalogyScore, BOOTSTRAP_ROUNDS, Categories, CategoryScore, SectionScore, SimilarityScore, UnknownWords,
    WordPairs, WordVectors, vocabulary_words,
};
