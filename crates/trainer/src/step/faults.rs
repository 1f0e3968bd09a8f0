//! Faults on purpose: numbers that are not finite in a step, and promises that are broken. How the tests see that a bad step changes
//! nothing, and that they would notice if it did.
//!
//! Without the feature `faults` nothing can be put in.

use taal_data::Batch;
use taal_model::Transformer;

use super::{Learner, LossFn, StepOutcome};
use crate::{TrainError, gradients};

/// A fault in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code))] // Then nobody can make one.
pub enum StepFault {
    /// The loss is multiplied by this, and with it every gradient.
    Loss(f32),
    /// Every value of the first gradient is multiplied by this; the loss stays as it is.
    Gradient(f32),
    /// The gradients are multiplied by this after they were found to be good: weights and moments go bad.
    Update(f32),
}

impl Learner {
    /// A step with a fault: the parts of a good one, and what the fault adds.
    pub(super) fn faulty_step(
        &mut self,
        fault: Option<StepFault>,
        batches: &[Batch],
        dropout_keys: &[u64],
        lr_factor: f64,
        loss: &LossFn<'_>,
        accepts: &(dyn Fn(&StepOutcome) -> bool + Sync),
    ) -> Result<StepOutcome, TrainError> {
        let faulty = |model: &Transformer, batch: &Batch, key: Option<u64>| match fault {
            Some(StepFault::Loss(value)) => Ok(loss(model, batch, key)?.mul_scalar(value)),
            _ => loss(model, batch, key),
        };
        let accumulate = |learner: &Self| {
            let (losses, mut gradients) = learner.accumulate(batches, dropout_keys, &faulty)?;
            if let Some(StepFault::Gradient(value)) = fault {
                gradients::scale_first(&learner.model, &mut gradients, value);
            }
            Ok::<_, TrainError>((losses, gradients))
        };
        let (losses, gradients) = accumulate(self)?;
        let outcome = self.update_if(losses, gradients, lr_factor, accepts);
        let factor = match fault {
            Some(StepFault::Update(value)) if outcome.is_finite() => f64::from(value),
            // As some trainers do, and a number that is not finite times zero is NaN.
            _ if !outcome.is_finite() && taal_store::is_broken("multiply-bad-step") => 0.0,
            _ => return Ok(outcome),
        };
        let (_, gradients) = accumulate(self)?;
        self.update(gradients, lr_factor, factor);
        Ok(outcome)
    }
}

#[cfg(feature = "faults")]
mod chosen {
    use std::cell::RefCell;

    use super::StepFault;

    type Chooser = Box<dyn FnMut() -> Option<StepFault>>;

    thread_local! {
        static CHOOSER: RefCell<Option<Chooser>> = const { RefCell::new(None) };
    }

    /// From now on every step that this thread starts asks `choose` for its fault.
    pub fn inject_step_faults(choose: impl FnMut() -> Option<StepFault> + 'static) {
        CHOOSER.set(Some(Box::new(choose)));
    }

    pub(crate) fn next() -> Option<StepFault> {
        CHOOSER.with_borrow_mut(|chooser| chooser.as_mut()?())
    }
}

#[cfg(feature = "faults")]
pub use chosen::inject_step_faults;

#[cfg(feature = "faults")]
pub(crate) use chosen::next;

#[cfg(not(feature = "faults"))]
pub(crate) const fn next() -> Option<StepFault> {
    None
}
