//! Fault injection: non-finite numbers in a step, and deliberately broken guarantees. Tests use it to check that a bad
//! step changes nothing, and that they would notice if it did.
//!
//! Without the feature `faults` no fault can be injected.

use taal_data::Batch;
use taal_model::Transformer;

use super::{Learner, LossFn, StepOutcome};
use crate::{TrainError, gradients};

/// A fault in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code))] // Without the feature it is never constructed.
pub enum StepFault {
    /// Multiplies the loss by this, and therefore every gradient.
    Loss(f32),
    /// Multiplies every value of the first gradient by this; the loss does not change.
    Gradient(f32),
    /// Multiplies the gradients by this after they were accepted, so that weights and moments become bad.
    Update(f32),
}

impl Learner {
    /// A step with a fault: the parts of a normal step, plus the fault.
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
            // Some trainers multiply a bad step by zero, but a non-finite number times zero is NaN.
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

    /// From now on `choose` determines the fault of every step that this thread starts.
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
