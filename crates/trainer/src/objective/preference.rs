//! Preferences: of two answers to a prompt, the chosen one becomes more probable relative to the rejected one, compared with the model that
//! training began with (DPO, Rafailov et al. 2023).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_data::{Batch, BatchPlan, ConversationExample, ConversationOptions, Conversations, DataError, IGNORE_INDEX};
use taal_evaluation::Score;
use taal_inference::{Probe, Rows};
use taal_model::{ForwardOptions, Transformer, hugging_face};
use taal_tokenizer::Tokenizer;

use super::{Ask, Task, Validated, Validation};
use crate::chat::Chat;
use crate::recipe::{DataSource, ModelRecipe, Recipe};
use crate::{TrainError, prepare};

/// DPO's constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// How far the model may go from the one that training began with: more is less far.
    pub beta: f64,
    /// Probability that a pair is the wrong way round (cDPO, Mitchell 2023).
    pub label_smoothing: f64,
}

/// Pairs of a chosen and a rejected answer.
#[derive(Debug)]
pub(crate) struct Preference {
    dpo: Dpo,
    train: Pairs,
    validation: Option<Pairs>,
    /// A hash of the rejected answers.
    rejected: String,
    /// The directory of the model that training began with.
    reference_dir: PathBuf,
    /// Rows for tokens that the recipe adds.
    rows: usize,
    /// That model, opened when it is first used.
    reference: OnceLock<Transformer>,
}

/// Examples of chosen answers, each with that of the rejected answer to the same prompt.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// In the order of files and lines.
    pub(crate) examples: Vec<[ConversationExample; 2]>,
    pad_id: u32,
}

impl Pairs {
    /// The pairs of two readings of the same files, the training and the validation part.
    pub(crate) fn of(chosen: &Conversations, rejected: &Conversations, pad_id: u32) -> (Self, Option<Self>) {
        // By file and line, because either part may have been cut.
        let zipped = |chosen: Vec<ConversationExample>, rejected: Vec<ConversationExample>| {
            let place = |example: &ConversationExample| (example.file, example.line);
            let mut by_place: BTreeMap<_, _> = rejected.into_iter().map(|example| (place(&example), example)).collect();
            let pairs = chosen.into_iter();
            let pairs = pairs.filter_map(|chosen| by_place.remove(&place(&chosen)).map(|rejected| [chosen, rejected]));
            Self {
                examples: pairs.collect(),
                pad_id,
            }
        };
        let train = zipped(chosen.train.first(usize::MAX), rejected.train.first(usize::MAX));
        let validation = chosen.validation.as_ref().zip(rejected.validation.as_ref());
        let validation =
            validation.map(|(chosen, rejected)| zipped(chosen.first(usize::MAX), rejected.first(usize::MAX)));
        (train, validation)
    }

    /// The chosen answers of some pairs, one to a row, then the rejected ones in the same order, as long as the longest.
    fn batch(&self, pairs: &[usize]) -> Batch {
        let side = |side: usize| pairs.iter().map(move |pair| &self.examples[*pair][side]);
        let rows: Vec<&ConversationExample> = side(0).chain(side(1)).collect();
        let seq_len = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let mut inputs = Vec::with_capacity(rows.len() * seq_len);
        let mut targets = vec![IGNORE_INDEX; rows.len() * seq_len];
        for (row, example) in rows.iter().enumerate() {
            inputs.extend(example.ids.iter().map(|id| *id as i32));
            inputs.resize((row + 1) * seq_len, self.pad_id as i32);
            let learned = example
                .learned
                .iter()
                .cloned()
                .flatten()
                .filter(|position| *position > 0);
            for position in learned {
                targets[row * seq_len + position - 1] = example.ids[position] as i32;
            }
        }
        Batch {
            inputs,
            targets,
            batch_size: rows.len(),
            seq_len,
            text_starts: None,
            source: None,
        }
    }
}

impl Task for Preference {
    fn name(&self) -> &'static str {
        "preference"
    }

    fn batch(&self, plan: &BatchPlan, micro_step: u64) -> Result<Batch, TrainError> {
        let count = self.train.examples.len() as u64;
        let pairs: Vec<usize> = (0..plan.batch_size)
            .map(|row| plan.shuffled(plan.position(micro_step, row), count).1 as usize)
            .collect();
        Ok(self.train.batch(&pairs))
    }

    fn fingerprint(&self) -> Result<String, TrainError> {
        let weights = hugging_face::weights_hash(&self.reference_dir)?;
        Ok(taal_store::blake3_hex_of([weights, self.rejected.clone()]))
    }

    fn loss(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        let margins = self.margins(model, batch, dropout_key)?;
        Ok(self.dpo.loss(margins))
    }

    fn validate(&self, model: &Transformer, batch_size: usize, ask: &mut Ask<'_>) -> Result<Validated, TrainError> {
        let Some(held_back) = &self.validation else {
            return Ok(ControlFlow::Continue(None));
        };
        let mut score = Score::default();
        let mut correct = 0;
        let all: Vec<usize> = (0..held_back.examples.len()).collect();
        for pairs in all.chunks(batch_size.max(1)) {
            if ask().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let margins = self.margins(model, &held_back.batch(pairs), None)?;
            let values: Vec<f32> = margins.clone().into_data().iter::<f32>().collect();
            correct += values.iter().filter(|margin| **margin > 0.0).count() as u64;
            let mean = f64::from(self.dpo.loss(margins).into_scalar::<f32>());
            score = score
                + Score {
                    nats: mean * pairs.len() as f64,
                    tokens: pairs.len() as u64,
                };
        }
        let total = Validation {
            score,
            bytes: 0,
            correct: Some(correct),
            sources: Vec::new(),
        };
        Ok(total.whole())
    }
}

/// The error of running text.
pub(crate) fn needs_pairs(recipe: &Recipe) -> TrainError {
    let detail = "\"preference\" needs rows of prompt, chosen and rejected in data.conversations";
    TrainError::recipe(&recipe.name, "train.objective", detail)
}

/// The pairs of a recipe: the training part, the held-out part, and a hash of the rejected answers.
///
/// # Errors
///
/// Those of the data crate, naming file and line, also for a pair without a difference.
pub(crate) fn pairs(
    recipe: &Recipe,
    tokenizer: &Tokenizer,
    chat: &Chat,
    chosen: &Conversations,
) -> Result<(Pairs, Option<Pairs>, String), TrainError> {
    let DataSource::Conversations(path) = &recipe.data.source else {
        return Err(needs_pairs(recipe));
    };
    // The same rows, read as prompts with the other answer.
    let options = prepare::conversation_options(recipe, chat);
    let options = ConversationOptions {
        columns: options.columns.of_rejected(),
        ..options
    };
    let paths = std::slice::from_ref(path);
    let rejected = Conversations::open_with(tokenizer, paths, recipe.train.block_size, &options)?;
    let pad_id = tokenizer.pad_id().or(tokenizer.eos_id()).unwrap_or(0);
    let (train, validation) = Pairs::of(chosen, &rejected, pad_id);
    let all = train
        .examples
        .iter()
        .chain(validation.iter().flat_map(|pairs| &pairs.examples));
    for [chosen_example, rejected_example] in all {
        // A chat template may write both alike, and a block may cut what differs.
        if chosen_example.ids == rejected_example.ids {
            return Err(same_answers(chosen, chosen_example).into());
        }
    }
    Ok((train, validation, rejected.fingerprint()))
}

/// The error of a pair without a difference.
fn same_answers(chosen: &Conversations, example: &ConversationExample) -> DataError {
    let name = chosen.counts.layouts.get(example.file).map(|(name, _)| name.clone());
    let name = name.unwrap_or_default();
    let detail = match example.lost {
        0 => "the chosen and the rejected answer are the same tokens: there is nothing to prefer, leave the row out",
        _ => {
            "the chosen and the rejected answer are the same tokens once they are cut: make train.block_size larger, or leave the row \
             out"
        }
    };
    let detail = detail.to_string();
    match name.ends_with(".parquet") {
        true => DataError::Row {
            row: example.line,
            name,
            detail,
        },
        false => DataError::Line {
            line: example.line,
            name,
            detail,
        },
    }
}

impl Preference {
    /// Reads the rejected answers to the prompts of the chosen ones.
    pub(crate) fn new(
        dpo: Dpo,
        recipe: &Recipe,
        tokenizer: &Tokenizer,
        chat: &Chat,
        chosen: &Conversations,
    ) -> Result<Self, TrainError> {
        let ModelRecipe::InitFrom { dir, .. } = &recipe.model else {
            return Err(needs_pairs(recipe));
        };
        let (train, validation, rejected) = pairs(recipe, tokenizer, chat, chosen)?;
        Ok(Self {
            dpo,
            train,
            validation,
            rejected,
            reference_dir: taal_inference::model_dir(dir)?,
            rows: prepare::rows_of_added(recipe, tokenizer),
            reference: OnceLock::new(),
        })
    }

    fn reference(&self, device: &Device) -> Result<&Transformer, TrainError> {
        match self.reference.get() {
            Some(reference) => Ok(reference),
            None => {
                let opened = hugging_face::open(&self.reference_dir, &device.clone().inner())?;
                let opened = opened.with_vocab_size(self.rows)?.with_exact_products(true);
                Ok(self.reference.get_or_init(|| opened))
            }
        }
    }

    /// How much more the model prefers the chosen answer of each pair than the reference does, in nats.
    ///
    /// # Shapes
    ///
    /// - output: `[pairs]`
    fn margins(&self, model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
        let difference = |log_probs: Tensor<1>| {
            let pairs = batch.batch_size / 2;
            log_probs.clone().narrow(0, 0, pairs) - log_probs.narrow(0, pairs, pairs)
        };
        let reference = difference(answer_log_probs(self.reference(&model.device())?, batch, None)?);
        let policy = difference(answer_log_probs(model, batch, dropout_key)?);
        let reference = Tensor::from_data(reference.into_data(), &policy.device());
        Ok(policy - reference)
    }
}

impl Dpo {
    /// The mean loss of pairs, given by how much more the model prefers the chosen answer than the reference does, in nats: that of trl's
    /// `DPOTrainer` with `loss_type="sigmoid"`.
    ///
    /// # Shapes
    ///
    /// - `margins`: `[pairs]`; output: `[1]`
    pub fn loss(&self, margins: Tensor<1>) -> Tensor<1> {
        let scaled = margins.mul_scalar(self.beta);
        let right = log_sigmoid(scaled.clone()).mul_scalar(1.0 - self.label_smoothing);
        let loss = match self.label_smoothing > 0.0 {
            true => right + log_sigmoid(scaled.neg()).mul_scalar(self.label_smoothing),
            false => right,
        };
        loss.mean().neg()
    }
}

/// The log-probability of the targets of each row, in nats.
///
/// # Shapes
///
/// - output: `[batch]`
///
/// # Errors
///
/// [`TrainError::Inference`] where a row is longer than the model's context.
pub fn answer_log_probs(model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
    let Batch {
        batch_size, seq_len, ..
    } = *batch;
    let device = model.device();
    let places: Vec<usize> = (0..batch.targets.len())
        .filter(|place| batch.targets[*place] != IGNORE_INDEX)
        .collect();
    let count = places.len();
    let int =
        |values: Vec<i32>, shape: [usize; 1]| Tensor::<1, Int>::from_data(TensorData::new(values, shape), &device);
    let options = ForwardOptions {
        dropout_key,
        ..ForwardOptions::default()
    };
    let rows = Rows::signed(batch.inputs.clone(), seq_len);
    let hidden = Probe::new(model).states(&rows, options)?.hidden; // [batch, seq, d_model]
    let [_, _, d_model] = hidden.dims();
    let chosen = int(places.iter().map(|place| *place as i32).collect(), [count]);
    let hidden = hidden.reshape([batch_size * seq_len, d_model]).select(0, chosen); // [count, d_model]
    let logits = model.logits(hidden.unsqueeze::<3>()); // [1, count, vocab_size]
    let [_, _, vocab_size] = logits.dims();
    let targets = int(places.iter().map(|place| batch.targets[*place]).collect(), [count]);
    let log_probs = log_softmax(logits.reshape([count, vocab_size]), 1).gather(1, targets.reshape([count, 1])); // [count, 1]
    // The sum of each row as a product, so that its gradient needs no scattering.
    let mut of_row = vec![0.0_f32; batch_size * count];
    for (column, place) in places.iter().enumerate() {
        of_row[place / seq_len * count + column] = 1.0;
    }
    let of_row = Tensor::<2>::from_data(TensorData::new(of_row, [batch_size, count]), &device);
    Ok(of_row.matmul(log_probs).reshape([batch_size]))
}
