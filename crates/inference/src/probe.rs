//! The single entry point for evaluating a model on token ids: ids to hidden states, to logits or losses at some positions.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use taal_kernels::with_adapters_of_rows;
use taal_model::{Cache, ForwardOptions, Memory, Output, Segments, Transformer};

use crate::{InferenceError, Result};

/// Logits computed at once, 64 MiB; eight full windows of GPT-2 with 50,257 ids would otherwise take 1.6 GB.
pub(crate) const LOGITS_AT_ONCE: usize = 1 << 24;

/// Rows of ids of one length, one after the other. The ids are below the model's vocabulary size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    ids: Vec<i32>,
    width: usize,
}

impl Rows {
    /// `ids` in rows of `width`.
    pub fn new(ids: &[u32], width: usize) -> Self {
        Self::signed(ids.iter().map(|&id| id as i32).collect(), width)
    }

    /// `ids` as they are in batches, in rows of `width`.
    pub fn signed(ids: Vec<i32>, width: usize) -> Self {
        Self { ids, width }
    }

    pub(crate) fn tensor(&self, device: &Device) -> Tensor<2, Int> {
        let shape = [self.ids.len() / self.width, self.width];
        Tensor::from_data(TensorData::new(self.ids.clone(), shape), device)
    }
}

/// The inputs of a training pass other than its ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainingPass<'a> {
    /// Turns dropout on.
    pub dropout_key: Option<u64>,
    /// Which tokens of a row may see each other.
    pub segments: Option<&'a Segments>,
    /// What a decoder attends to, which [`encode`](Probe::encode) makes.
    pub memory: Option<&'a Memory>,
    /// The share of each target's probability that is spread evenly over the vocabulary; see [`Transformer::loss_smoothed`].
    pub label_smoothing: f64,
}

/// Evaluates a model on token ids. Each call runs in one piece on the device's thread, and at most 64 MiB of logits exist at
/// once; equal inputs give equal bits.
///
/// ```
/// use burn::tensor::Device;
/// use taal_inference::{Probe, Rows};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let model = TransformerConfig::llama(ModelSize {
///     vocab_size: 50,
///     max_seq_len: 16,
///     n_layers: 2,
///     n_heads: 4,
///     d_model: 32,
/// }).init(42, &Device::flex())?;
/// let probe = Probe::new(&model);
/// let rows = Rows::new(&[1, 2, 3, 4, 5, 6], 3);
/// assert_eq!(probe.next_logits(&rows, None)?.len(), 2 * 50); // what follows each of the two rows
/// assert_eq!(probe.losses(&rows, &[0, 4], &[2, 6])?.len(), 2); // of 2 after 1, and of 6 after 4 and 5
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    model: &'a Transformer,
}

impl<'a> Probe<'a> {
    /// A probe of this model.
    pub fn new(model: &'a Transformer) -> Self {
        Self { model }
    }

    /// Runs several calls, or calls and other work, in one piece on the device's thread, since each handover has a cost.
    pub fn run<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
        taal_kernels::on_pool(device, work)
    }

    /// The hidden states of all positions after the final norm, row by row, `d_model` numbers each.
    ///
    /// # Errors
    ///
    /// The model's for rows longer than its context, [`InferenceError::Device`], [`InferenceError::NotFinite`],
    /// [`InferenceError::NeedsSource`] for a model with an encoder.
    pub fn hidden(&self, rows: &Rows) -> Result<Vec<f32>> {
        self.check_one_stack("computing the states of a text")?;
        Self::run(&self.model.device(), || {
            to_host(self.states(rows, ForwardOptions::default())?.hidden)
        })
    }

    /// The logits after the last position of each row, `vocab_size` numbers each. With a cache, the rows are the new positions only.
    ///
    /// # Errors
    ///
    /// As [`hidden`](Self::hidden).
    pub fn next_logits(&self, rows: &Rows, cache: Option<&mut Cache>) -> Result<Vec<f32>> {
        finite(self.last_logits(rows, 1, cache)?)
    }

    /// The logits after each of the last `count` positions of each row, at most its length; the caller checks that they are finite.
    pub(crate) fn last_logits(&self, rows: &Rows, count: usize, cache: Option<&mut Cache>) -> Result<Vec<f32>> {
        Self::run(&self.model.device(), || {
            let options = ForwardOptions {
                cache,
                ..ForwardOptions::default()
            };
            let hidden = self.states(rows, options)?.hidden; // [rows, width, d_model]
            // The output matrix is the largest of the model, and only the last positions are needed.
            values(self.model.logits(hidden.narrow(1, rows.width - count, count)))
        })
    }

    /// Reads tokens in some rows of a cache, `new[i]` in the row of number `i` among them, with the adapter of its number or none. Returns
    /// the logits after the last new token of each row, or after every one, row by row; the caller checks that they are finite.
    pub(crate) fn read_rows(
        &self,
        cache: &mut Cache,
        rows: Range<usize>,
        new: &[&[u32]],
        everywhere: bool,
        adapters: Vec<Option<usize>>,
    ) -> Result<Vec<f32>> {
        let lengths: Vec<usize> = new.iter().map(|new| new.len()).collect();
        let width = lengths.iter().copied().max().unwrap_or(0);
        // The ends of shorter rows are padding, of which the cache keeps nothing.
        let is_padded = lengths.iter().any(|length| *length < width);
        let mut ids = Vec::with_capacity(width * new.len());
        for new in new {
            ids.extend_from_slice(new);
            ids.resize(ids.len() + width - new.len(), 0);
        }
        Self::run(&self.model.device(), || {
            let options = ForwardOptions {
                cache: Some(cache),
                rows: Some(rows),
                lengths: is_padded.then_some(&lengths[..]),
                ..ForwardOptions::default()
            };
            let read = || self.states(&Rows::new(&ids, width), options);
            let hidden = with_adapters_of_rows(adapters.clone(), read)?.hidden; // [rows, width, d_model]
            let (asked, adapters) = match (is_padded, everywhere) {
                (false, true) => (hidden, adapters),
                (false, false) => (hidden.narrow(1, width - 1, 1), adapters),
                (true, _) => {
                    // Each position is a row of its own, with the adapter of its row.
                    let count = |row: usize| if everywhere { lengths[row] } else { 1 };
                    let of_row = |(row, adapter)| std::iter::repeat_n(adapter, count(row));
                    let adapters = adapters.into_iter().enumerate().flat_map(of_row).collect();
                    let asked = select(as_one_row(hidden), &ends(&lengths, width, everywhere));
                    (asked.swap_dims(0, 1), adapters)
                }
            };
            with_adapters_of_rows(adapters, || values(self.model.logits(asked)))
        })
    }

    /// The losses in nats of `targets` at `places`, which count the positions of all rows from 0.
    ///
    /// # Errors
    ///
    /// As [`hidden`](Self::hidden).
    pub fn losses(&self, rows: &Rows, places: &[usize], targets: &[u32]) -> Result<Vec<f32>> {
        let blocks = self.ask(rows, Some(places), |logits, range| {
            finite(losses(logits, targets[range].iter().map(|&id| id as i32))?)
        })?;
        Ok(blocks.concat())
    }

    /// The results of `take` on the logits at `places`, or at all positions, in blocks: it gets a block, `[places, vocab_size]`,
    /// and the places in it.
    ///
    /// # Errors
    ///
    /// As [`hidden`](Self::hidden), except that `take` must check for numbers that are not finite; and those of `take`.
    pub fn ask<R: Send>(
        &self,
        rows: &Rows,
        places: Option<&[usize]>,
        take: impl FnMut(Tensor<2>, Range<usize>) -> Result<R> + Send,
    ) -> Result<Vec<R>> {
        self.check_one_stack("predicting the tokens of a text")?;
        Self::run(&self.model.device(), || {
            let hidden = self.states(rows, ForwardOptions::default())?.hidden; // [rows, width, d_model]
            self.logits(hidden, places, take)
        })
    }

    fn check_one_stack(&self, purpose: &'static str) -> Result<()> {
        match self.model.is_encoder_decoder() {
            true => Err(InferenceError::NeedsSource { purpose }),
            false => Ok(()),
        }
    }

    /// The mean cross-entropy in nats over the targets that are not `ignore_index`, `[1]`, for a backward pass.
    ///
    /// # Errors
    ///
    /// The model's for rows longer than its context.
    pub fn mean_loss(
        &self,
        rows: &Rows,
        targets: &[i32],
        ignore_index: i32,
        pass: TrainingPass<'_>,
    ) -> Result<Tensor<1>> {
        let options = ForwardOptions {
            dropout_key: pass.dropout_key,
            segments: pass.segments,
            memory: pass.memory,
            ..ForwardOptions::default()
        };
        let hidden = self.states(rows, options)?.hidden;
        let counted: Vec<usize> = (0..targets.len())
            .filter(|place| targets[*place] != ignore_index)
            .collect();
        // Where few positions have targets, as with masked tokens, only those go through the output matrix.
        let (hidden, targets) = match counted.len() {
            0 => (hidden, targets.to_vec()),
            len if 2 * len >= targets.len() => (hidden, targets.to_vec()),
            _ => {
                let chosen = counted.iter().map(|place| targets[*place]).collect();
                (select(as_one_row(hidden), &counted), chosen)
            }
        };
        let count = targets.len();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), &self.model.device());
        Ok(self
            .model
            .loss_smoothed(hidden, targets, ignore_index, pass.label_smoothing))
    }

    /// What the encoder of an encoder-decoder makes of sources, one per row, of which the first `lengths` tokens are not padding.
    ///
    /// # Errors
    ///
    /// The model's for a model without an encoder, and for rows longer than its context.
    pub fn encode(&self, rows: &Rows, lengths: &[usize], dropout_key: Option<u64>) -> Result<Memory> {
        Ok(self
            .model
            .encode(rows.tensor(&self.model.device()), lengths, dropout_key)?)
    }

    /// The first half of an evaluation: ids to hidden states and the model's other outputs.
    ///
    /// # Errors
    ///
    /// The model's.
    pub fn states(&self, rows: &Rows, options: ForwardOptions<'_>) -> Result<Output> {
        Ok(self.model.forward_with(rows.tensor(&self.model.device()), options)?)
    }

    /// The second half of an evaluation, hidden states `[rows, width, d_model]` to logits at `places`; see [`ask`](Self::ask).
    ///
    /// # Errors
    ///
    /// Those of `take`.
    pub fn logits<R>(
        &self,
        hidden: Tensor<3>,
        places: Option<&[usize]>,
        mut take: impl FnMut(Tensor<2>, Range<usize>) -> Result<R>,
    ) -> Result<Vec<R>> {
        let hidden = as_one_row(hidden); // [1, positions, d_model]
        let count = places.map_or(hidden.dims()[1], <[usize]>::len);
        let at_once = (LOGITS_AT_ONCE / self.model.config().vocab_size).max(1);
        let mut found = Vec::with_capacity(count.div_ceil(at_once));
        for start in (0..count).step_by(at_once) {
            let range = start..count.min(start + at_once);
            let chosen = match places {
                Some(places) => select(hidden.clone(), &places[range.clone()]),
                None => hidden.clone().narrow(1, start, range.len()),
            };
            found.push(take(self.model.logits(chosen).squeeze_dim::<2>(0), range)?);
        }
        Ok(found)
    }
}

/// The losses in nats of targets, each with a row of logits; the caller checks that they are finite.
///
/// # Errors
///
/// [`InferenceError::Device`].
pub fn losses(logits: Tensor<2>, targets: impl IntoIterator<Item = i32>) -> Result<Vec<f32>> {
    let targets: Vec<i32> = targets.into_iter().collect();
    let count = targets.len();
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), &logits.device());
    values(taal_kernels::negative_log_likelihood(logits, targets))
}

/// The places of the last real token of each row, or of every one, in rows of `width` of which the first `lengths[row]` are real.
fn ends(lengths: &[usize], width: usize, everywhere: bool) -> Vec<usize> {
    let of_row = |(row, length): (usize, &usize)| {
        let first = if everywhere { 0 } else { length.saturating_sub(1) };
        (first..*length).map(move |at| row * width + at)
    };
    lengths.iter().enumerate().flat_map(of_row).collect()
}

/// # Shapes
///
/// - hidden: `[rows, width, d_model]`
/// - output: `[1, rows * width, d_model]`
fn as_one_row(hidden: Tensor<3>) -> Tensor<3> {
    let [rows, width, d_model] = hidden.dims();
    hidden.reshape([1, rows * width, d_model])
}

/// # Shapes
///
/// - hidden: `[1, positions, d_model]`
/// - output: `[1, places, d_model]`
fn select(hidden: Tensor<3>, places: &[usize]) -> Tensor<3> {
    let places: Vec<i32> = places.iter().map(|&place| place as i32).collect();
    let count = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &hidden.device());
    hidden.select(1, places)
}

/// The values of a tensor of any float type that a model computed; they must be finite.
///
/// # Errors
///
/// [`InferenceError::Device`] where the device did not finish, [`InferenceError::NotFinite`] where a value is not finite.
pub fn to_host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    finite(values(tensor)?)
}

/// The same values, all of which must be finite.
pub(crate) fn finite(values: Vec<f32>) -> Result<Vec<f32>> {
    check_finite(&values)?;
    Ok(values)
}

/// Checks that all values are finite.
pub(crate) fn check_finite(values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(InferenceError::NotFinite {
            what: format!("the model computed {value}, which is"),
        }),
        None => Ok(()),
    }
}

/// [`to_host`] where the caller checks that values are finite.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|error| InferenceError::Device {
        detail: error.to_string(),
    })?;
    // Single precision without a copy.
    Ok(match data.dtype() {
        DType::F32 => data.try_into_vec::<f32>().expect("single precision"),
        _ => data.iter::<f32>().collect(),
    })
}
