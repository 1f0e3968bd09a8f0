//! Masked language models: the batches of a step and of the validation split with their hidden tokens, and the score over them.

use burn::tensor::{Int, Tensor, TensorData};
use taal_data::{Batch, IGNORE_INDEX, MaskVocabulary, Masking, TokenSource};
use taal_inference::Score;
use taal_kernels::random;
use taal_model::{ForwardOptions, Transformer};

use crate::TrainError;
use crate::step::{counted_positions, select_positions};

/// Masking with what it has to know.
#[derive(Debug)]
pub(crate) struct Masker {
    pub(crate) masking: Masking,
    pub(crate) vocabulary: MaskVocabulary,
    pub(crate) seed: u64,
}

impl Masker {
    /// Hides tokens of a training batch: others at every step.
    pub(crate) fn train(&self, batch: &mut Batch, micro_step: u64) {
        let key = random::key(self.seed, micro_step, "mask");
        self.masking.apply(batch, &self.vocabulary, key);
    }

    /// The validation split in windows that do not overlap, the short last one of each text included, hidden alike every time: `visit` sees each batch before and after.
    pub(crate) fn validation(
        &self,
        sources: &[TokenSource],
        window: usize,
        batch_size: usize,
        mut visit: impl FnMut(&[i32], &Batch) -> Result<bool, TrainError>,
    ) -> Result<bool, TrainError> {
        for (index, source) in (0_u64..).zip(sources) {
            let full = source.len() / window as u64;
            let rest = (source.len() % window as u64) as usize;
            let mut first = 0;
            while first < full + u64::from(rest > 0) {
                // Full windows go together, as rows of one batch; the short last one goes alone.
                let (rows, width) = match full - first {
                    0 => (1, rest),
                    left => (left.min(batch_size as u64) as usize, window),
                };
                let ids = source.read(first * window as u64, rows * width);
                let before: Vec<i32> = ids.into_iter().map(|id| id as i32).collect();
                // A row's mask must not depend on how many rows go together.
                let mut batch = Batch {
                    inputs: Vec::with_capacity(before.len()),
                    targets: Vec::with_capacity(before.len()),
                    batch_size: rows,
                    seq_len: width,
                    text_starts: None,
                };
                for (row, ids) in (first..).zip(before.chunks(width)) {
                    let mut one = Batch {
                        inputs: ids.to_vec(),
                        targets: ids.to_vec(),
                        batch_size: 1,
                        seq_len: width,
                        text_starts: None,
                    };
                    let key = random::key(self.seed, row, "validation mask") ^ index;
                    self.masking.apply(&mut one, &self.vocabulary, key);
                    batch.inputs.extend(one.inputs);
                    batch.targets.extend(one.targets);
                }
                if !visit(&before, &batch)? {
                    return Ok(false);
                }
                first += rows as u64;
            }
        }
        Ok(true)
    }
}

/// What a model makes of hidden tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct MaskedScore {
    pub(crate) score: Score,
    /// Hidden tokens that the model thought likeliest.
    pub(crate) correct: u64,
}

/// Scores the hidden tokens of a batch.
pub(crate) fn score(model: &Transformer, batch: &Batch) -> Result<MaskedScore, TrainError> {
    let positions = counted_positions(batch);
    let count = positions.len();
    if count == 0 {
        return Ok(MaskedScore::default());
    }
    let targets: Vec<i32> = batch
        .targets
        .iter()
        .copied()
        .filter(|target| *target != IGNORE_INDEX)
        .collect();
    let device = model.device();
    let shape = [batch.batch_size, batch.seq_len];
    taal_kernels::on_pool(&device, || {
        let inputs = Tensor::<2, Int>::from_data(TensorData::new(batch.inputs.clone(), shape), &device);
        let hidden = model.forward_with(inputs, ForwardOptions::default())?.hidden;
        let logits = model.logits(select_positions(hidden, positions)).squeeze_dim::<2>(0); // [count, vocab_size]
        let likeliest = logits.clone().argmax(1).reshape([count]);
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), &device);
        let correct = likeliest.equal(targets.clone()).int().sum().into_scalar::<i32>();
        let losses = taal_kernels::negative_log_likelihood(logits, targets);
        let nats = taal_model::parameters::to_vec(losses).into_iter().map(f64::from).sum();
        Ok(MaskedScore {
            score: Score {
                nats,
                tokens: count as u64,
            },
            correct: u64::try_from(correct).unwrap_or(0),
        })
    })
}
