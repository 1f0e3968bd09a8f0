//! Predicting hidden tokens of running text from both sides: single tokens, whole words or spans of words, by
//! `masking.unit`.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use taal_data::{Batch, BatchPlan, Dataset, IGNORE_INDEX, MaskVocabulary, Masking, TokenSource};
use taal_evaluation::Score;
use taal_inference::{LanguageModel, Probe, Rows, losses};
use taal_kernels::random;
use taal_metrics::{GuessFigures, MaskedFigures, Report};
use taal_model::{Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use super::samples::Written;
use super::{Ask, Task, Validated, Validation, baseline, samples};
use crate::checkpoint::TrainState;
use crate::recipe::Recipe;
use crate::{TrainError, step};

/// Running text in which tokens are hidden.
#[derive(Debug)]
pub(crate) struct Masked {
    pub(super) data: Dataset,
    pub(super) masker: Masker,
    pub(super) label_smoothing: f64,
}

impl Task for Masked {
    fn name(&self) -> &'static str {
        "masked"
    }

    /// Hides other tokens at every step.
    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        let mut batch = plan.batch(self.data.training(), micro_step)?;
        let key = random::key(self.masker.seed, micro_step, "mask");
        self.masker.masking.apply(&mut batch, &self.masker.vocabulary, key);
        Ok(batch)
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let mut total = Validation {
            score: Score::default(),
            // Hidden tokens are not the whole text, so bits per byte are not defined.
            bytes: 0,
            correct: Some(0),
            sources: Vec::new(),
        };
        let window = model.config().max_seq_len;
        for (index, source) in (0..).zip(&self.data.validation) {
            let (mut of_source, mut correct_of_source) = (Score::default(), 0);
            for batch in self.masker.validation_of(index, source, window, batch_size) {
                if ask().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                let (score, correct) = score(model, &batch)?;
                of_source = of_source + score;
                correct_of_source += correct;
            }
            total.add(source.name(), of_source, 0, Some(correct_of_source));
        }
        Ok(total.whole())
    }

    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        step::smoothed_loss(model, batch, dropout_key, self.label_smoothing)
    }

    fn sample(&self, model: &LanguageModel, recipe: &Recipe, index: usize) -> Result<Written, TrainError> {
        samples::guesses(model, &recipe.sample.prompts[index], &recipe.sample.rank)
    }

    /// How the model's guesses compare with counting, over the hidden tokens of the validation split.
    fn report(&self, state: &TrainState, model: &TransformerConfig, report: &mut Report) -> Result<(), TrainError> {
        let (Some(correct), Some(loss), Some(tokens)) = (state.val_correct, state.val_loss, state.val_tokens) else {
            return Ok(());
        };
        let counted = baseline::measure(&self.masker, &self.data, model.max_seq_len, model.vocab_size);
        let figures = |found: baseline::Baseline| GuessFigures::new(found.correct, counted.tokens, found.nats);
        report.masked = Some(MaskedFigures {
            tokens,
            model: GuessFigures::new(correct, tokens, loss * tokens as f64),
            unigram: figures(counted.commonest),
            neighbors: figures(counted.neighbors),
        });
        Ok(())
    }
}

/// The error for prompts and completions, in which no tokens are hidden.
pub(super) fn needs_running_text(recipe: &Recipe) -> TrainError {
    TrainError::recipe(
        &recipe.name,
        "train.objective",
        "\"masked\" learns from running text, not from data.conversations or data.examples",
    )
}

/// How tokens are hidden.
#[derive(Debug)]
pub(super) struct Masker {
    masking: Masking,
    pub(super) vocabulary: MaskVocabulary,
    seed: u64,
}

impl Masker {
    pub(super) fn new(masking: Masking, tokenizer: &Tokenizer, seed: u64) -> Result<Self, TrainError> {
        Ok(Self {
            masking,
            vocabulary: MaskVocabulary::of(tokenizer)?,
            seed,
        })
    }

    /// The validation split in windows that do not overlap, including the short last one of each text. The same tokens
    /// are hidden every time.
    pub(super) fn validation<'a>(
        &'a self,
        sources: &'a [TokenSource],
        window: usize,
        batch_size: usize,
    ) -> impl Iterator<Item = Batch> + 'a {
        let sources = (0_u64..).zip(sources);
        sources.flat_map(move |(index, source)| self.validation_of(index, source, window, batch_size))
    }

    /// The windows of source number `index`.
    fn validation_of<'a>(
        &'a self,
        index: u64,
        source: &'a TokenSource,
        window: usize,
        batch_size: usize,
    ) -> impl Iterator<Item = Batch> + 'a {
        let batch_size = batch_size.max(1);
        let full = source.len() / window as u64;
        let rest = (source.len() % window as u64) as usize;
        // Full windows are the rows of one batch; the short last window is a batch of its own.
        let together = (0..full).step_by(batch_size).map(move |first| {
            let rows = (full - first).min(batch_size as u64) as usize;
            (first, rows, window)
        });
        let batches = together.chain((rest > 0).then_some((full, 1, rest)));
        batches.map(move |(first, rows, width)| {
            let ids = source.read(first * window as u64, rows * width);
            self.hidden(index, first, width, ids)
        })
    }

    /// Windows of text number `index` as rows, starting with window `first`. A row's mask does not depend on the number
    /// of rows.
    fn hidden(&self, index: u64, first: u64, width: usize, ids: Vec<u32>) -> Batch {
        let ids: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
        let rows = |inputs: Vec<i32>| Batch {
            batch_size: inputs.len() / width,
            seq_len: width,
            targets: inputs.clone(),
            inputs,
            text_starts: None,
            source: None,
        };
        let mut batch = rows(Vec::with_capacity(ids.len()));
        for (row, ids) in (first..).zip(ids.chunks(width)) {
            let mut one = rows(ids.to_vec());
            let key = random::key(self.seed, row, "validation mask") ^ index;
            self.masking.apply(&mut one, &self.vocabulary, key);
            batch.inputs.extend(one.inputs);
            batch.targets.extend(one.targets);
            batch.batch_size += 1;
        }
        batch
    }
}

/// The score of a batch's hidden tokens, and for how many of them the correct token was the most probable one.
fn score(model: &Transformer, batch: &Batch) -> Result<(Score, u64), TrainError> {
    let is_hidden = |place: &usize| batch.targets[*place] != IGNORE_INDEX;
    let places: Vec<usize> = (0..batch.targets.len()).filter(is_hidden).collect();
    if places.is_empty() {
        return Ok((Score::default(), 0));
    }
    let targets: Vec<i32> = places.iter().map(|place| batch.targets[*place]).collect();
    let rows = Rows::signed(batch.inputs.clone(), batch.seq_len);
    let blocks = Probe::new(model).ask(&rows, Some(&places), |logits, range| {
        let likeliest: Vec<i32> = logits.clone().argmax(1).into_data().iter::<i32>().collect();
        let targets = &targets[range];
        let correct = likeliest.iter().zip(targets).filter(|(found, target)| found == target);
        Ok((correct.count() as u64, losses(logits, targets.iter().copied())?))
    })?;
    let nats = blocks
        .iter()
        .flat_map(|(_, losses)| losses)
        .copied()
        .map(f64::from)
        .sum();
    let tokens = places.len() as u64;
    Ok((Score { nats, tokens }, blocks.iter().map(|(correct, _)| correct).sum()))
}
