//! A run's figures, for scripts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::energy::EnergyFigures;
use crate::{Error, Forecast, LedgerTotals, Result, STEP_FIGURES, numbers};

/// A report holds samples, which are short.
const MAX_REPORT_BYTES: u64 = 64 * 1024 * 1024;

/// A text that the model wrote, or a text whose gaps it filled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The text that the model was given.
    pub prompt: String,
    /// What it added; of a masked model the filled text, with its guesses.
    pub text: String,
    /// Where the recipe's words come among a masked model's guesses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<WordRank>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a word comes among the tokens that a masked model puts into a gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WordRank {
    /// The word.
    pub word: String,
    /// 1 for the likeliest of all tokens; none for a word of more than one token.
    pub rank: Option<u64>,
    /// Its probability.
    pub probability: Option<f64>,
}

/// An evaluation of one source of the validation split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceFigures {
    /// Its name: that of a part of an embedded corpus, or of a file.
    pub name: String,
    /// Tokens scored.
    pub tokens: u64,
    /// Their mean loss in nats.
    #[serde(with = "numbers::required")]
    pub loss: f64,
    /// The same in bits per byte of text; none for a masked model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Share of the hidden tokens that a masked model guessed; none for other models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// How a masked language model does on the hidden tokens of its validation split, compared with counting on the same ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaskedFigures {
    /// Hidden tokens.
    pub tokens: u64,
    /// The model.
    pub model: GuessFigures,
    /// Always the most common token of the training text.
    pub unigram: GuessFigures,
    /// Counts of the training text by both neighbors, by one, by none.
    #[serde(rename = "neighbours")]
    pub neighbors: GuessFigures,
}

/// What a model that was trained further forgot of the data that it knew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForgettingFigures {
    /// The old data.
    pub data: String,
    /// Tokens of its held-out part that are scored.
    pub tokens: u64,
    /// The loss of the model that the run started from, in nats per token.
    #[serde(with = "numbers::required")]
    pub before: f64,
    /// The loss of the model in the run directory; none if the run was interrupted before it was measured.
    pub after: Option<f64>,
    /// Share of the rows that were old data, at the end of the run.
    pub share: f64,
    /// Nats per token that the loss may rise by.
    pub budget: Option<f64>,
}

impl ForgettingFigures {
    /// Nats per token that the loss rose by.
    pub fn rise(&self) -> Option<f64> {
        Some(self.after? - self.before)
    }
}

/// Generated answers to held-out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerFigures {
    /// The metric.
    pub metric: crate::AnswerMetric,
    /// Questions.
    pub questions: u64,
    /// Its value in the last evaluation.
    pub last: Option<f64>,
    /// Its value for the best checkpoint.
    pub best: Option<f64>,
    /// The model in the run directory; none if the run was interrupted.
    #[serde(default)]
    pub model: Option<AnswerScore>,
    /// Taking the answer of the training example with the nearest prompt instead.
    #[serde(default)]
    pub nearest: Option<AnswerScore>,
}

/// How good answers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// The metric.
    #[serde(with = "numbers::required")]
    pub value: f64,
    /// Its 95 % interval by the bootstrap over questions.
    pub interval: [f64; 2],
    /// Share of the answers whose first word is right, such as the name of a program.
    #[serde(with = "numbers::required")]
    pub first_word: f64,
}

/// Guesses of hidden tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuessFigures {
    /// Share of correct guesses.
    pub accuracy: f64,
    /// Bounds of its 95 % interval (Wilson 1927), as if the tokens were independent.
    pub accuracy_interval: [f64; 2],
    /// e to the mean negative log-likelihood.
    pub perplexity: f64,
}

impl GuessFigures {
    /// From counts and summed negative log-likelihood in nats.
    pub fn new(correct: u64, tokens: u64, nats: f64) -> Self {
        let count = tokens.max(1) as f64;
        Self {
            accuracy: correct as f64 / count,
            accuracy_interval: crate::wilson_interval(correct, tokens),
            perplexity: (nats / count).exp(),
        }
    }
}

/// What a reader of a run's figures should know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunNote {
    /// The training text has fewer tokens than the new model has parameters.
    LittleText {
        /// Tokens of the training text.
        train_tokens: u64,
        /// Trainable parameters.
        params: u64,
    },
    /// The last validation loss is above that of guessing every token with the same probability.
    WorseThanGuessing {
        /// The last validation loss in nats per token.
        val_loss: f64,
        /// Tokens the tokenizer knows; guessing costs `ln vocab_size` nats per token.
        vocab_size: u64,
    },
    /// Pairs had a side longer than a row, and were left out.
    LeftOutPairs {
        /// Pairs that were left out.
        left_out: u64,
        /// Tokens of a row.
        row_tokens: u64,
    },
    /// The weights of the last checkpoints were averaged.
    Averaged {
        /// How many.
        checkpoints: u64,
        /// The validation loss of the mean in nats per token, where there is a validation split.
        val_loss: Option<f64>,
        /// That of the best checkpoint. If it is lower, that checkpoint is the run's model.
        best_val_loss: Option<f64>,
    },
    /// Training examples were longer than a row, and cut at its end.
    CutExamples {
        /// Examples that were cut.
        cut: u64,
        /// Tokens of a row.
        row_tokens: u64,
    },
}

/// The figures of a whole run, resumed parts included: `report.json`.
///
/// A number that is not finite and an option without a value are `null` in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The recipe's name.
    pub recipe: String,
    /// The training objective: `next_token` or `masked`.
    pub objective: String,
    /// The device that trained.
    pub device: String,
    /// Trainable parameters of the model.
    pub params: u64,
    /// Optimizer steps done.
    pub steps: u64,
    /// Optimizer steps that the recipe asks for; more than `steps` in the report of an interrupted run.
    pub planned_steps: u64,
    /// Tokens that training has read, those of repeated passes included.
    pub tokens: u64,
    /// Seconds of the whole run.
    #[serde(with = "numbers::required")]
    pub wall_s: f64,
    /// The last training loss in nats per token.
    #[serde(with = "numbers::required")]
    pub train_loss: f64,
    /// The last loss over the whole validation split in nats per token.
    pub val_loss: Option<f64>,
    /// The lowest validation loss of the run.
    pub best_val_loss: Option<f64>,
    /// The step of the lowest validation loss.
    pub best_step: Option<u64>,
    /// The last validation loss in bits per byte of text.
    pub val_bits_per_byte: Option<f64>,
    /// Tokens scored in one evaluation.
    pub val_tokens: Option<u64>,
    /// Bytes of text that these tokens stand for, which `val_bits_per_byte` is over; none for a masked model.
    pub val_bytes: Option<u64>,
    /// Tokens per second over whole training steps, without start-up and evaluation.
    #[serde(with = "numbers::required")]
    pub tokens_per_s: f64,
    /// Passes over the training tokens.
    #[serde(with = "numbers::required")]
    pub epochs: f64,
    /// Model FLOPs utilization: PaLM's FLOPs divided by the machine's peak, at most 1.0.
    #[serde(with = "numbers::required")]
    pub mfu: f64,
    /// That peak in FLOP/s: measured, or the fastest step where that was faster; 0 where the device has none.
    #[serde(with = "numbers::required")]
    pub peak_flops_per_s: f64,
    /// Whether the fastest step was faster than what was measured: then `mfu` is an upper bound.
    pub peak_is_lower_bound: bool,
    /// The largest resident set of the process in bytes; 0 if the system does not say.
    pub peak_rss_bytes: u64,
    /// Energy and greenhouse gases of the whole run; none if the system gave no thread to meter with.
    pub energy: Option<EnergyFigures>,
    /// The same with the trainings of the models that the run started from; none where it started from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerTotals>,
    /// What the first steps said about the end, and what came of it; none for a run of less than 100 steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Forecast>,
    /// The step at which the run was last resumed.
    pub resumed_from: Option<u64>,
    /// The accuracy of a masked model's guesses; none for other models.
    pub masked: Option<MaskedFigures>,
    /// Answers to held-out prompts, where the recipe has a metric of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerFigures>,
    /// The loss on data that the model knew before, if it was trained further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<ForgettingFigures>,
    /// The last evaluation of each source of the validation split, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFigures>,
    /// Steps whose update was skipped because of a bad loss, gradient or weight.
    pub skipped_steps: u64,
    /// How often the run returned to an earlier checkpoint because of them.
    pub rewinds: u64,
    /// The tokenizer in words, such as its kind.
    pub tokenizer: String,
    /// Tokens the tokenizer knows.
    pub vocab_size: u64,
    /// Figures that follow from those of the steps, by name; see [`run_figures`](crate::run_figures).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// What to know about these figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<RunNote>,
    /// Texts that the trained model wrote.
    pub samples: Vec<Sample>,
}

impl Report {
    /// The name, value and unit of each of the [`figures`](Self::figures).
    pub fn figure_rows(&self) -> impl Iterator<Item = (&'static str, f64, &'static str)> + '_ {
        STEP_FIGURES
            .iter()
            .filter_map(|figure| Some((figure.total?, *self.figures.get(figure.name)?, figure.unit)))
    }

    /// Writes the report as JSON, atomically.
    ///
    /// # Errors
    ///
    /// As [`taal_store::write_atomic`].
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| bad_report(path, &error))?;
        text.push('\n');
        Ok(taal_store::write_atomic(path, text.as_bytes())?)
    }

    /// Reads a report back.
    ///
    /// # Errors
    ///
    /// [`Error::BadReport`] for a file that is not a report, or as [`taal_store::read_text`].
    pub fn read_json(path: &Path) -> Result<Self> {
        let text = taal_store::read_text(path, MAX_REPORT_BYTES)?;
        serde_json::from_str(&text).map_err(|error| bad_report(path, &error))
    }
}

fn bad_report(path: &Path, error: &serde_json::Error) -> Error {
    Error::BadReport {
        path: path.to_path_buf(),
        detail: error.to_string(),
    }
}
