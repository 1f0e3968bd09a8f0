//! Learning rates as a pure function of the step, so that a resumed run needs no stored state for them.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate curve after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Stays at its peak.
    Constant,
    /// Half a cosine from the peak to `min_lr` (Loshchilov and Hutter 2017), which the step after the last one would
    /// reach.
    Cosine,
    /// A straight line from the peak to `min_lr`, which the step after the last one would reach.
    Linear,
    /// Warm-up, stable, decay (Hu et al. 2024): the peak, then a straight line over the last `decay_fraction` of the
    /// steps. The last step has `min_lr`.
    Wsd,
}

/// A learning-rate schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape of the curve after the warm-up.
    pub kind: ScheduleKind,
    /// Peak learning rate.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Total steps.
    pub steps: u64,
    /// Share of the steps over which [`ScheduleKind::Wsd`] decays.
    pub decay_fraction: f64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0. The warm-up is nanoGPT's,
    /// `lr * (step + 1) / (warmup_steps + 1)`.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let falls_from = match self.kind {
            ScheduleKind::Constant => return self.lr,
            ScheduleKind::Cosine | ScheduleKind::Linear => self.warmup_steps as f64,
            ScheduleKind::Wsd => (self.steps as f64 * (1.0 - self.decay_fraction)).max(self.warmup_steps as f64),
        };
        let length = self.steps as f64 - falls_from;
        // PyTorch training loops compute the rate of a step from the number of steps before it, so the last step is one
        // short of `min_lr`. The decay of `wsd` counts the step itself, so the last step reaches `min_lr`.
        let fallen = match self.kind {
            ScheduleKind::Wsd => (step + 1) as f64 - falls_from,
            _ => step as f64 - falls_from,
        };
        let progress = if length > 0.0 {
            (fallen / length).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let height = match self.kind {
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            _ => 1.0 - progress,
        };
        self.min_lr + height * (self.lr - self.min_lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule {
            kind,
            lr: 1.0,
            min_lr: 0.1,
            warmup_steps: 10,
            steps: 110,
            decay_fraction: 0.5,
        }
    }

    #[test]
    fn warm_up_rises_to_the_peak() {
        for kind in [
            ScheduleKind::Constant,
            ScheduleKind::Cosine,
            ScheduleKind::Linear,
            ScheduleKind::Wsd,
        ] {
            let schedule = schedule(kind);
            assert_eq!(schedule.at(0), 1.0 / 11.0);
            assert_eq!(schedule.at(9), 10.0 / 11.0);
            assert_eq!(schedule.at(10), 1.0);
        }
    }

    #[test]
    fn every_falling_schedule_ends_at_the_minimum() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear, ScheduleKind::Wsd] {
            assert!((schedule(kind).at(110) - 0.1).abs() < 1e-12);
            assert!((schedule(kind).at(1_000) - 0.1).abs() < 1e-12);
        }
        assert_eq!(schedule(ScheduleKind::Constant).at(1_000), 1.0);
    }

    #[test]
    fn midway_values_are_the_formulas() {
        assert!((schedule(ScheduleKind::Cosine).at(60) - 0.55).abs() < 1e-12);
        assert!((schedule(ScheduleKind::Linear).at(60) - 0.55).abs() < 1e-12);
        // The last half of 110 steps begins at 55.
        assert_eq!(schedule(ScheduleKind::Wsd).at(54), 1.0);
        assert!((schedule(ScheduleKind::Wsd).at(82) - (0.1 + 0.9 * (1.0 - 28.0 / 55.0))).abs() < 1e-12);
    }

    #[test]
    fn report_22_the_last_step_of_wsd_has_the_minimum() {
        for (steps, decay_fraction) in [(1, 0.2), (5, 0.2), (10, 0.1), (15, 0.1), (110, 0.5), (7, 1.0)] {
            let schedule = Schedule {
                warmup_steps: 0,
                steps,
                decay_fraction,
                ..schedule(ScheduleKind::Wsd)
            };
            assert!((schedule.at(steps - 1) - 0.1).abs() < 1e-12, "{steps} {decay_fraction}");
            let level = (steps as f64 * (1.0 - decay_fraction)) as u64;
            assert!(
                (0..level).all(|step| schedule.at(step) == 1.0),
                "{steps} {decay_fraction}"
            );
            assert!(
                (level..steps).all(|step| schedule.at(step) < 1.0),
                "{steps} {decay_fraction}"
            );
        }
        // PyTorch training loops stop one step before the minimum.
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear] {
            assert!(schedule(kind).at(109) > 0.1, "{kind:?}");
        }
    }

    #[test]
    fn a_schedule_of_one_step_does_not_divide_by_zero() {
        let schedule = Schedule {
            warmup_steps: 0,
            steps: 0,
            ..schedule(ScheduleKind::Cosine)
        };
        assert!(schedule.at(0).is_finite());
    }
}
