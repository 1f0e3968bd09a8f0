//! What becomes of a step whose loss or gradient is not what it should be.
//!
//! A bad step is left out: the weights are not touched, its batch is passed over, the act is counted and written down. Several in a
//! row send the run back to its newest checkpoint and on from there with the batches after the bad ones (PaLM, section 5.1). Where
//! that does not help either, a run that is not finite stops; a loss that stays high is taken as the new normal.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ailment::Ailment;
use crate::step::StepOutcome;

/// When a step is left out, and what follows from several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HealthRecipe {
    /// A loss above the mean of the window by so many standard deviations is a spike (OLMo: 6). `None`: there are no spikes.
    pub spike_sigma: Option<f64>,
    /// Accepted losses that make the window (OLMo: 128); before there are so many, nothing is a spike.
    pub spike_window: usize,
    /// Bad steps in a row after which the run goes back to its newest checkpoint.
    pub max_skips: u32,
    /// How often a run goes back.
    pub rewinds: u32,
}

/// What the rules remember of a run; part of every checkpoint, so that a resumed run judges alike.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthState {
    /// Losses of the last accepted steps, the oldest first.
    pub window: VecDeque<f64>,
    /// Steps left out so far.
    pub skipped: u64,
    /// Those of them that are the last steps of the run.
    pub in_a_row: u32,
    /// How often the run went back.
    pub rewinds: u32,
    /// The step of the checkpoint that the run went back to last.
    pub rewound_to: Option<u64>,
    /// Batches passed over by going back: step `n` sees the batch of step `n + batch_offset`.
    pub batch_offset: u64,
    /// Records in `events.jsonl`.
    pub events: u64,
}

/// What follows from a bad step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Go on with the next batch.
    GoOn,
    /// Back to the newest checkpoint.
    Rewind,
    /// Nothing helps.
    GiveUp,
}

impl HealthRecipe {
    /// What is wrong with a step, before anything is updated from it.
    pub(crate) fn diagnose(&self, state: &HealthState, outcome: &StepOutcome) -> Option<Ailment> {
        if !outcome.loss.is_finite() {
            return Some(Ailment::Loss(outcome.loss));
        }
        if outcome.is_overflow() {
            return Some(Ailment::Overflow {
                loss_scale: outcome.loss_scale,
            });
        }
        if !outcome.grad_norm.is_finite() {
            return Some(Ailment::Gradient(outcome.grad_norm));
        }
        let sigma = self.spike_sigma?;
        if state.window.len() < self.spike_window {
            return None;
        }
        let count = state.window.len() as f64;
        let mean = state.window.iter().sum::<f64>() / count;
        let variance = state.window.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let limit = mean + sigma * variance.sqrt();
        (outcome.loss > limit).then_some(Ailment::Spike {
            loss: outcome.loss,
            limit,
        })
    }

    /// Notes a good step.
    pub(crate) fn accept(&self, state: &mut HealthState, loss: f64) {
        state.in_a_row = 0;
        state.window.push_back(loss);
        while state.window.len() > self.spike_window {
            state.window.pop_front();
        }
    }

    /// Notes a bad step and says what to do.
    pub(crate) fn treat(&self, state: &mut HealthState, ailment: Ailment) -> Treatment {
        state.skipped += 1;
        // The next step has half the loss scale; only what remains without one is the run's own fault.
        if matches!(ailment, Ailment::Overflow { .. }) {
            return Treatment::GoOn;
        }
        state.in_a_row += 1;
        // A state that is not finite spoils every later step too.
        if state.in_a_row < self.max_skips && ailment != Ailment::State {
            return Treatment::GoOn;
        }
        if state.rewinds < self.rewinds {
            return Treatment::Rewind;
        }
        if matches!(ailment, Ailment::Spike { .. }) {
            state.window.clear();
            state.in_a_row = 0;
            return Treatment::GoOn;
        }
        Treatment::GiveUp
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
        assert_eq!(RECIPE.diagnose(&state, &outcome(10.2)), None);
        assert!(matches!(
            RECIPE.diagnose(&state, &outcome(10.3)),
            Some(Ailment::Spike { .. })
        ));
        assert_eq!(RECIPE.diagnose(&after(&[1.0, 1.0, 1.0]), &outcome(99.0)), None);
        let off = HealthRecipe {
            spike_sigma: None,
            ..RECIPE
        };
        assert_eq!(off.diagnose(&state, &outcome(99.0)), None);
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
            let ailment = RECIPE.diagnose(&state, &outcome).expect("a bad step");
            let mut treated = state.clone();
            RECIPE.treat(&mut treated, ailment);
            assert_eq!(treated.window, state.window);
        }
    }

    #[test]
    fn three_in_a_row_go_back_once_and_then_give_up() {
        let mut state = after(&[1.0]);
        let bad = Ailment::Loss(f64::NAN);
        assert_eq!(RECIPE.treat(&mut state, bad), Treatment::GoOn);
        RECIPE.accept(&mut state, 1.0);
        let treatments: Vec<_> = (0..3).map(|_| RECIPE.treat(&mut state, bad)).collect();
        assert_eq!(treatments, [Treatment::GoOn, Treatment::GoOn, Treatment::Rewind]);
        state.rewinds = 1;
        assert_eq!(RECIPE.treat(&mut state, bad), Treatment::GiveUp);
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
            let ailment = RECIPE.diagnose(&state, &overflow(2.0_f64.powi(exponent))).unwrap();
            assert!(matches!(ailment, Ailment::Overflow { .. }), "{ailment}");
            assert_eq!(RECIPE.treat(&mut state, ailment), Treatment::GoOn);
        }
        assert_eq!((state.skipped, state.in_a_row), (16, 0));
        let ailment = RECIPE.diagnose(&state, &overflow(1.0)).unwrap();
        assert_eq!(ailment, Ailment::Gradient(f64::INFINITY));
        RECIPE.treat(&mut state, ailment);
        assert_eq!((state.skipped, state.in_a_row), (17, 1));
    }

    #[test]
    fn a_loss_that_stays_high_becomes_the_new_normal() {
        let mut state = after(&[1.0, 1.1, 1.0, 1.1]);
        state.rewinds = 1;
        let spike = Ailment::Spike { loss: 9.0, limit: 2.0 };
        let treatments: Vec<_> = (0..3).map(|_| RECIPE.treat(&mut state, spike)).collect();
        assert_eq!(treatments, [Treatment::GoOn; 3]);
        assert_eq!(RECIPE.diagnose(&state, &outcome(9.0)), None);
    }
}
