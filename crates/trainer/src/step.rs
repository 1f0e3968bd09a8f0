//! One training step, top to bottom: forward, loss, backward, clip, update.

mod faults;

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use taal_data::{Batch, IGNORE_INDEX};
use taal_inference::{Probe, Rows, TrainingPass};
use taal_kernels::{random, with_precision};
use taal_model::{Segments, Transformer};

use crate::optimizer::Optimizer;
use crate::precision::{MIN_LOSS_SCALE, MixedPrecision};
use crate::{TrainError, gradients};

#[cfg(feature = "faults")]
pub use self::faults::{StepFault, inject_step_faults};

/// A model in training, with its optimizer.
#[derive(Debug)]
pub struct Learner {
    /// The model, on a device with autodiff.
    pub model: Transformer,
    /// Its optimizer.
    pub optimizer: Optimizer,
    /// The maximum global gradient norm.
    pub clip_norm: Option<f64>,
    /// The precision of matrix products, and the loss scale with f16.
    pub precision: MixedPrecision,
}

/// A function from a batch and a dropout key to the mean loss in nats: [`loss`], or that of the task.
pub type LossFn<'a> = dyn Fn(&Transformer, &Batch, Option<u64>) -> Result<Tensor<1>, TrainError> + Sync + 'a;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOutcome {
    /// Mean loss over the counted targets of all micro-batches, in nats, before the update.
    pub loss: f64,
    /// Global gradient norm before clipping, divided by the loss scale.
    pub grad_norm: f64,
    /// What the loss was multiplied by before the backward pass; 1 without a loss scale.
    pub loss_scale: f64,
}

/// The gradient of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedGradient {
    /// The parameter's name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The gradient in row-major order.
    pub values: Vec<f32>,
}

impl StepOutcome {
    /// Whether both numbers are finite. If not, no weight was changed.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }

    /// Whether the gradient overflowed and a smaller loss scale may prevent it. In that case no weight was changed, and
    /// the next step uses half the scale.
    pub fn is_overflow(&self) -> bool {
        self.loss.is_finite() && !self.grad_norm.is_finite() && self.loss_scale > MIN_LOSS_SCALE
    }
}

impl Learner {
    /// One update from one or several micro-batches, whose gradients are averaged weighted by their counted targets.
    /// `dropout_keys` has one key per micro-batch. If the loss or the gradient is not finite, nothing changes.
    ///
    /// # Errors
    ///
    /// [`TrainError::Inference`] if a batch is longer than the model's context.
    pub fn step(&mut self, batches: &[Batch], dropout_keys: &[u64], lr_factor: f64) -> Result<StepOutcome, TrainError> {
        self.step_if(batches, dropout_keys, lr_factor, &loss, &|_| true)
    }

    /// As [`step`](Self::step), with the caller's loss function and a condition: `accepts` gets the loss and the
    /// gradient norm. If it returns `false`, or if they are not finite, not a single bit of the weights or the
    /// optimizer changes.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn step_if(
        &mut self,
        batches: &[Batch],
        dropout_keys: &[u64],
        lr_factor: f64,
        loss: &LossFn<'_>,
        accepts: &(dyn Fn(&StepOutcome) -> bool + Sync),
    ) -> Result<StepOutcome, TrainError> {
        let fault = faults::next();
        Probe::run(&self.model.device(), || {
            if fault.is_some() {
                return self.faulty_step(fault, batches, dropout_keys, lr_factor, loss, accepts);
            }
            let (losses, gradients) = self.accumulate(batches, dropout_keys, loss)?;
            Ok(self.update_if(losses, gradients, lr_factor, accepts))
        })
    }

    /// Forward, loss and backward. Returns each micro-batch's loss with its share in the mean, and the sum of the
    /// gradients times the loss scale.
    pub(crate) fn accumulate(
        &self,
        batches: &[Batch],
        dropout_keys: &[u64],
        loss: &LossFn<'_>,
    ) -> Result<(Vec<(f64, Tensor<1>)>, GradientsParams), TrainError> {
        let counted: usize = batches.iter().map(Batch::counted_targets).sum();
        let mut losses = Vec::with_capacity(batches.len());
        let mut sum = GradientsParams::new();
        for (index, batch) in batches.iter().enumerate() {
            let share = batch.counted_targets() as f64 / counted.max(1) as f64;
            let loss = with_precision(self.precision.products, || {
                loss(&self.model, batch, dropout_keys.get(index).copied())
            })?;
            losses.push((share, loss.clone().inner()));
            let factor = self.precision.scale() * if batches.len() == 1 { 1.0 } else { share };
            let scaled = if factor == 1.0 { loss } else { loss.mul_scalar(factor) };
            let gradients = GradientsParams::from_grads(scaled.backward(), &self.model);
            sum = gradients::add(&self.model, sum, gradients);
        }
        Ok((losses, sum))
    }

    /// Clips and updates if the loss and the gradient norm are finite and accepted.
    pub(crate) fn update_if(
        &mut self,
        losses: Vec<(f64, Tensor<1>)>,
        gradients: GradientsParams,
        lr_factor: f64,
        accepts: &(dyn Fn(&StepOutcome) -> bool + Sync),
    ) -> StepOutcome {
        let loss_scale = self.precision.scale();
        let (loss, scaled_norm) = gradients::loss_and_norm(&self.model, &gradients, losses);
        let outcome = StepOutcome {
            loss,
            grad_norm: scaled_norm / loss_scale,
            loss_scale,
        };
        self.precision.note(loss, outcome.grad_norm);
        if outcome.is_finite() && accepts(&outcome) {
            let factor = gradients::clip_factor(outcome.grad_norm, self.clip_norm) / loss_scale;
            self.update(gradients, lr_factor, factor);
        }
        outcome
    }

    /// Updates with the gradients times a factor.
    pub(crate) fn update(&mut self, gradients: GradientsParams, lr_factor: f64, factor: f64) {
        let (optimizer, products) = (&mut self.optimizer, self.precision.products);
        // The model is moved into the update, so that its weights are uniquely owned and change in place.
        replace_with::replace_with_or_abort(&mut self.model, |model| {
            with_precision(products, || optimizer.step(model, gradients, lr_factor, factor))
        });
    }

    /// Every gradient of a batch with its parameter's name, before clipping; nothing is updated.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn gradients(&self, batch: &Batch) -> Result<Vec<NamedGradient>, TrainError> {
        let (_, gradients) = self.accumulate(std::slice::from_ref(batch), &[], &loss)?;
        let mut found = Vec::new();
        let loss_scale = self.precision.scale() as f32;
        gradients::read(&self.model, &gradients, |name, shape, mut values| {
            values.iter_mut().for_each(|value| *value /= loss_scale);
            found.push(NamedGradient {
                name: name.to_string(),
                shape: shape.to_vec(),
                values,
            });
        });
        Ok(found)
    }

    /// Forward and backward of a batch without any effect, to find out how much memory it needs.
    pub(crate) fn rehearse(&self, batch: &Batch, loss: &LossFn<'_>) -> Result<(), TrainError> {
        // With a key, dropout uses its memory too, if there is any.
        Probe::run(&self.model.device(), || {
            self.accumulate(std::slice::from_ref(batch), &[0], loss)
        })
        .map(drop)
    }
}

/// Mean cross-entropy of a batch in nats.
///
/// # Shapes
///
/// - output: `[1]`
///
/// # Errors
///
/// [`TrainError::Inference`] if the batch is longer than the model's context.
pub fn loss(model: &Transformer, batch: &Batch, dropout_key: Option<u64>) -> Result<Tensor<1>, TrainError> {
    smoothed_loss(model, batch, dropout_key, 0.0)
}

/// [`loss`] with a share of each target's probability spread evenly over the vocabulary (Szegedy et al. 2016): `(1 - s)` times the
/// cross-entropy, and `s` times the mean of `-log p` over all tokens.
///
/// # Shapes
///
/// - output: `[1]`
///
/// # Errors
///
/// As [`loss`].
pub fn smoothed_loss(
    model: &Transformer,
    batch: &Batch,
    dropout_key: Option<u64>,
    label_smoothing: f64,
) -> Result<Tensor<1>, TrainError> {
    let segments = batch.text_starts.as_ref();
    let segments = segments.map(|starts| Segments::new(starts, [batch.batch_size, batch.seq_len]));
    let probe = Probe::new(model);
    let memory = match &batch.source {
        Some(source) => {
            let rows = Rows::signed(source.ids.clone(), source.seq_len);
            // The encoder drops others than the decoder.
            let key = dropout_key.map(|key| random::key(key, 0, "encoder"));
            Some(probe.encode(&rows, &source.lengths, key)?)
        }
        None => None,
    };
    let pass = TrainingPass {
        dropout_key,
        segments: segments.as_ref(),
        memory: memory.as_ref(),
        label_smoothing,
    };
    let rows = Rows::signed(batch.inputs.clone(), batch.seq_len);
    Ok(probe.mean_loss(&rows, &batch.targets, IGNORE_INDEX, pass)?)
}
