//! What happens to a step whose loss or gradient is bad.
//!
//! A bad step is left out: the weights do not change, its batch is skipped, and the step is counted and logged. After
//! several in a row the run goes back to its newest checkpoint and continues with the batches after the bad ones (PaLM,
//! section 5.1). If that does not help, a run whose numbers are not finite stops, and a loss that stays high is
//! accepted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bad_step::BadStep;
use crate::events::Act;
use crate::step::StepOutcome;

/// When a step is left out, and what happens after several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthRecipe {
    /// A loss this many standard deviations above the mean of the window is a spike (OLMo: 6). `None`: no loss is a
    /// spike.
    pub spike_sigma: Option<f64>,
    /// Accepted losses in the window (OLMo: 128). Until it is full, no loss is a spike.
    pub spike_window: usize,
    /// Bad steps in a row after which the run goes back to its newest checkpoint.
    pub max_skips: u32,
    /// The maximum number of times that a run goes back.
    pub rewinds: u32,
}

/// The state of these rules. It is part of every checkpoint, so that a resumed run makes the same decisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthState {
    /// Losses of the last accepted steps, the oldest first.
    pub window: VecDeque<f64>,
    /// Steps left out so far.
    pub skipped: u64,
    /// Bad steps in a row up to now, not counting overflows.
    pub in_a_row: u32,
    /// How many times the run went back.
    pub rewinds: u32,
    /// The step of the checkpoint that the run went back to last.
    pub rewound_to: Option<u64>,
    /// Batches skipped by going back: step `n` uses the batch of step `n + batch_offset`.
    pub batch_offset: u64,
    /// Records in `events.jsonl`.
    pub events: u64,
}

impl HealthRecipe {
    /// What is wrong with a step, before anything is updated from it.
    pub(crate) fn check(&self, state: &HealthState, outcome: &StepOutcome) -> Option<BadStep> {
        if !outcome.loss.is_finite() {
            return Some(BadStep::Loss(outcome.loss));
        }
        if outcome.is_overflow() {
            return Some(BadStep::Overflow {
                loss_scale: outcome.loss_scale,
            });
        }
        if !outcome.grad_norm.is_finite() {
            return Some(BadStep::Gradient(outcome.grad_norm));
        }
        let sigma = self.spike_sigma?;
        if state.window.len() < self.spike_window {
            return None;
        }
        let count = state.window.len() as f64;
        let mean = state.window.iter().sum::<f64>() / count;
        let variance = state.window.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let limit = mean + sigma * variance.sqrt();
        (outcome.loss > limit).then_some(BadStep::Spike {
            loss: outcome.loss,
            limit,
        })
    }

    /// Records a good step.
    pub(crate) fn accept(&self, state: &mut HealthState, loss: f64) {
        state.in_a_row = 0;
        state.window.push_back(loss);
        while state.window.len() > self.spike_window {
            state.window.pop_front();
        }
    }

    /// Counts a bad step and decides what to do.
    pub(crate) fn respond(&self, state: &mut HealthState, reason: BadStep) -> Act {
        state.skipped += 1;
        // The next step has half the loss scale, so an overflow does not count as one of several bad steps in a row.
        if matches!(reason, BadStep::Overflow { .. }) {
            return Act::Skip;
        }
        state.in_a_row += 1;
        // If the state is not finite, every later step is bad too.
        if state.in_a_row < self.max_skips && reason != BadStep::State {
            return Act::Skip;
        }
        if state.rewinds < self.rewinds {
            return Act::Rewind;
        }
        if matches!(reason, BadStep::Spike { .. }) {
            state.window.clear();
            state.in_a_row = 0;
            return Act::Skip;
        }
        Act::GiveUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: HealthRecipe = HealthRecipe {
        spike_sigma: Some(6.0),
        spike_window: 4,
        max_skips: 3,
        rewinds: 1,
    };

    fn outcome(loss: f64) -> StepOutcome {
        StepOutcome {
            loss,
            grad_norm: 1.0,
            loss_scale: 1.0,
        }
    }

    fn after(losses: &[f64]) -> HealthState {
        let mut state = HealthState::default();
        losses.iter().for_each(|loss| RECIPE.accept(&mut state, *loss));
        state
    }

    #[test]
    fn a_spike_is_six_deviations_above_a_full_window() {
        // Mean 2.5, sample deviation 1.29: the limit is 10.25.
        let state = after(&[9.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(RECIPE.check(&state, &outcome(10.2)), None);
        assert!(matches!(
            RECIPE.check(&state, &outcome(10.3)),
            Some(BadStep::Spike { .. })
        ));
        assert_eq!(RECIPE.check(&after(&[1.0, 1.0, 1.0]), &outcome(99.0)), None);
        let off = HealthRecipe {
            spike_sigma: None,
            ..RECIPE
        };
        assert_eq!(off.check(&state, &outcome(99.0)), None);
    }

    #[test]
    fn what_is_not_finite_never_enters_the_window() {
        let state = after(&[1.0, 2.0, 3.0, 4.0]);
        for (loss, grad_norm) in [
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (1.0, f64::NAN),
            (1.0, f64::INFINITY),
        ] {
            let outcome = StepOutcome {
                loss,
                grad_norm,
                loss_scale: 1.0,
            };
            let reason = RECIPE.check(&state, &outcome).expect("a bad step");
            let mut after = state.clone();
            RECIPE.respond(&mut after, reason);
            assert_eq!(after.window, state.window);
        }
    }

    #[test]
    fn three_in_a_row_go_back_once_and_then_give_up() {
        let mut state = after(&[1.0]);
        let bad = BadStep::Loss(f64::NAN);
        assert_eq!(RECIPE.respond(&mut state, bad), Act::Skip);
        RECIPE.accept(&mut state, 1.0);
        let acts: Vec<_> = (0..3).map(|_| RECIPE.respond(&mut state, bad)).collect();
        assert_eq!(acts, [Act::Skip, Act::Skip, Act::Rewind]);
        state.rewinds = 1;
        assert_eq!(RECIPE.respond(&mut state, bad), Act::GiveUp);
        assert_eq!(state.skipped, 5);
    }

    #[test]
    fn overflows_are_no_bad_steps_until_the_loss_scale_is_1() {
        let mut state = after(&[1.0]);
        let overflow = |loss_scale| StepOutcome {
            grad_norm: f64::INFINITY,
            loss_scale,
            ..outcome(1.0)
        };
        for exponent in (1..17).rev() {
            let reason = RECIPE.check(&state, &overflow(2.0_f64.powi(exponent))).unwrap();
            assert!(matches!(reason, BadStep::Overflow { .. }), "{reason}");
            assert_eq!(RECIPE.respond(&mut state, reason), Act::Skip);
        }
        assert_eq!((state.skipped, state.in_a_row), (16, 0));
        let reason = RECIPE.check(&state, &overflow(1.0)).unwrap();
        assert_eq!(reason, BadStep::Gradient(f64::INFINITY));
        RECIPE.respond(&mut state, reason);
        assert_eq!((state.skipped, state.in_a_row), (17, 1));
    }

    #[test]
    fn a_loss_that_stays_high_becomes_the_new_normal() {
        let mut state = after(&[1.0, 1.1, 1.0, 1.1]);
        state.rewinds = 1;
        let spike = BadStep::Spike { loss: 9.0, limit: 2.0 };
        let acts: Vec<_> = (0..3).map(|_| RECIPE.respond(&mut state, spike)).collect();
        assert_eq!(acts, [Act::Skip; 3]);
        assert_eq!(RECIPE.check(&state, &outcome(9.0)), None);
    }
}
