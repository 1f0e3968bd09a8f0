//! Numbers about a language model run: perplexity, bits per byte, FLOPs, utilization, logs and reports.
//!
//! - [`perplexity`], [`bits_per_byte`], [`MeanLoss`] and [`Accuracy`]: how well a model predicts;
//! - [`exact_match`], [`rouge_l`], [`macro_f1`] and [`label_of`]: how well generated answers agree with references;
//! - [`CorpusMetric`]: BLEU, chrF and chrF++, how well translations agree with references;
//! - [`bootstrap_interval`], [`paired_difference`] and [`paired_resampling`]: how sure a figure over items is, and the difference between two systems;
//! - [`flops`]: what a step costs, counted operation by operation and by PaLM's formula, and the share of a machine's peak it reaches;
//! - [`energy`]: what a run took in joules and greenhouse gases, measured or estimated, with bounds;
//! - [`StepRecord`] and [`STEP_FIGURES`]: the figures of a training step, and where each is shown;
//! - [`RunLog`], [`read_log`] and [`write_csv`]: one record per step, in a log that survives crashes;
//! - [`Report`]: a run's figures as JSON;
//! - [`Forecast`]: what a training will take and reach, from its first steps;
//! - [`Ledger`]: what a model took in all, with the trainings that it inherits;
//! - [`spearman`] and [`spearman_interval`]: how well two orders agree;
//! - [`pca`]: vectors as points of a plane;
//! - [`peak_rss_bytes`], [`available_memory_bytes`]: the most memory this process has used, and what it may still take.
//!
//! Left out: computing a loss (that needs tensors, which this crate does not know), measuring a machine's peak, and drawing (`taal-draw`).
//!
//! # Example
//!
//! ```
//! use taal_metrics::{bits_per_byte, flops, perplexity};
//!
//! // A model that is as unsure as a fair choice between 8 characters.
//! let loss_nats = 8_f64.ln();
//! assert!((perplexity(loss_nats) - 8.0).abs() < 1e-12);
//! assert!((bits_per_byte(loss_nats * 100.0, 100) - 3.0).abs() < 1e-12);
//!
//! let gpt2 = flops::Shape {
//!     n_layers: 12, n_heads: 12, n_kv_heads: 12, head_dim: 64, d_model: 768, d_ff: 3072,
//!     vocab_size: 50257, seq_len: 1024, is_gated: false, is_recurrent: false, n_encoder_layers: 0,
//!     n_params: 123_551_232,
//! };
//! assert_eq!(flops::count(&gpt2).forward, 291_648_307_200);
//! ```

mod answers;
mod bootstrap;
pub mod energy;
mod error;
mod figures;
pub mod flops;
pub mod forecast;
mod ledger;
mod log;
mod memory;
mod numbers;
mod projection;
mod quality;
mod rank;
mod report;
mod short;
mod translation;

pub use answers::{AnswerMetric, Rouge, exact_match, label_of, macro_f1, rouge_l};
pub use bootstrap::{PairedDifference, bootstrap_interval, paired_difference, paired_resampling};
pub use error::{Error, Result};
pub use figures::{STEP_FIGURES, StepChart, StepFigure, StepRecord, run_figures};
pub use forecast::{Forecast, ForecastPlan, Predicted};
pub use ledger::{DataSourceFacts, Ledger, LedgerEntry, LedgerTotals};
pub use log::{RunLog, best_validation, csv, read_log, write_csv};
pub use memory::{available_memory_bytes, peak_rss_bytes};
pub use projection::{Projection, pca};
pub use quality::{Accuracy, MeanLoss, bits_per_byte, perplexity, wilson_interval};
pub use rank::{spearman, spearman_interval};
pub use report::{
    AnswerFigures, AnswerScore, ForgettingFigures, GuessFigures, MaskedFigures, Report, RunNote, Sample, SourceFigures,
    WordRank,
};
pub use short::short;
pub use taal_store::layout::LOG_NAME;
pub use translation::{CorpusMetric, SentenceCounts};
