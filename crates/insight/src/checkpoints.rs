//! Predictions for one text from every checkpoint of a training run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use taal_inference::{LanguageModel, Probe};
use taal_metrics::{StepRecord, read_log};
use taal_model::{Capture, WeightFormat};
use taal_store::Manifest;
use taal_store::layout::{LOG_NAME, MODEL_DIR};
use taal_tokenizer::Tokenizer;

use crate::forward::{logits_at, read};
use crate::pair::memory;
use crate::rank::rank;
use crate::trace::{Guess, Token, Trace, TraceOptions, guesses};
use crate::{InsightError, Result};

/// One checkpoint's prediction at the first position of a trace's `focus`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointGuess {
    /// Updates done.
    pub step: u64,
    /// Training loss of the step in nats per token, if logged.
    pub train_loss: Option<f64>,
    /// Validation loss after the step in nats per token, if evaluated.
    pub val_loss: Option<f64>,
    /// The likeliest first.
    pub guesses: Vec<Guess>,
    /// The rank here, from 1, of the traced model's first choice.
    pub final_rank: usize,
    /// Its probability here.
    pub final_probability: f64,
}

/// Adds to a trace the predictions of a run's checkpoints for its text, in their order. A checkpoint is a step and a directory,
/// which is verified byte for byte before it is opened; with a format, its weights are rounded to that. The losses come from the run's log.
///
/// # Errors
///
/// [`InsightError::NoCheckpoints`], [`InsightError::OtherTokenizer`], and those of the checkpoints' files and models.
pub fn over_checkpoints(
    trace: &mut Trace,
    tokenizer: Option<&Tokenizer>,
    run_dir: &Path,
    checkpoints: &[(u64, PathBuf)],
    weights: Option<WeightFormat>,
    device: &Device,
    options: &TraceOptions,
) -> Result<()> {
    options.validate()?;
    let asked = trace.predictions.first().and_then(|prediction| {
        let choice = prediction.guesses.first()?.id;
        Some((prediction.place, choice))
    });
    let Some((place, choice)) = asked.filter(|_| !checkpoints.is_empty()) else {
        return Err(InsightError::NoCheckpoints {
            dir: run_dir.to_path_buf(),
        });
    };
    let ids_of = |tokens: &[Token]| -> Vec<u32> { tokens.iter().map(|token| token.id).collect() };
    let ids = ids_of(&trace.tokens);
    let source = trace.source.as_ref().map(|source| ids_of(&source.tokens));
    let log = logged(run_dir)?;
    let mut series = Vec::with_capacity(checkpoints.len());
    for (step, dir) in checkpoints {
        Manifest::verify(dir)?;
        let lm = LanguageModel::open(&dir.join(MODEL_DIR), device)?;
        let lm = match weights {
            Some(format) => lm.with_weights(format)?,
            None => lm,
        };
        let is_same = match (&lm.tokenizer, tokenizer) {
            (Some(own), Some(traced)) => own.hash() == traced.hash(),
            _ => lm.vocab_size() == trace.model.vocab_size,
        };
        if !is_same || lm.model.config().is_causal != trace.model.is_causal {
            return Err(InsightError::OtherTokenizer {
                checkpoint: dir.clone(),
            });
        }
        let logits = Probe::run(&lm.model.device(), || {
            let memory = source.as_deref().map(|source| memory(&lm.model, source)).transpose()?;
            let output = read(&lm.model, &ids, Capture::default(), memory.as_ref())?;
            logits_at(&lm.model, output.hidden, &[place])
        })?;
        let ranked = rank(&logits[..lm.vocab_size()], options.top, Some(choice))?;
        let record = log.get(step);
        series.push(CheckpointGuess {
            step: *step,
            train_loss: record.map(|record| record.loss).filter(|loss| loss.is_finite()),
            val_loss: record
                .and_then(|record| record.val_loss)
                .filter(|loss| loss.is_finite()),
            guesses: guesses(lm.tokenizer.as_ref(), &ranked),
            final_rank: ranked.of.0,
            final_probability: ranked.of.1,
        });
    }
    trace.checkpoints = series;
    Ok(())
}

/// The records of a run by step; empty without a log.
fn logged(run_dir: &Path) -> Result<HashMap<u64, StepRecord>> {
    let path = run_dir.join(LOG_NAME);
    if !taal_store::exists(&path) {
        return Ok(HashMap::new());
    }
    let records = read_log(&path)?;
    Ok(records.into_iter().map(|record| (record.step, record)).collect())
}
