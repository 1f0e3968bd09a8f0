//! Numbers that are not finite, put into a step on purpose: how the tests see that a bad step changes nothing.
//!
//! Without the feature `faults` nothing can be put in.

/// What is spoiled.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code))] // Then nobody can make one.
pub enum Poison {
    /// The loss is multiplied by this, and with it every gradient.
    Loss(f32),
    /// Every value of the first gradient is multiplied by this; the loss stays as it is.
    Gradient(f32),
    /// The gradients are multiplied by this after they were found to be good: weights and moments go bad.
    Update(f32),
}

#[cfg(feature = "faults")]
mod chosen {
    use std::cell::RefCell;

    use super::Poison;

    type Chooser = Box<dyn FnMut() -> Option<Poison>>;

    thread_local! {
        static CHOOSER: RefCell<Option<Chooser>> = const { RefCell::new(None) };
    }

    /// From now on every step that this thread starts asks `choose` what to spoil.
    pub fn poison_steps(choose: impl FnMut() -> Option<Poison> + 'static) {
        CHOOSER.set(Some(Box::new(choose)));
    }

    pub(crate) fn next() -> Option<Poison> {
        CHOOSER.with_borrow_mut(|chooser| chooser.as_mut()?())
    }
}

#[cfg(feature = "faults")]
pub use chosen::poison_steps;

#[cfg(feature = "faults")]
pub(crate) use chosen::next;

#[cfg(not(feature = "faults"))]
pub(crate) const fn next() -> Option<Poison> {
    None
}
