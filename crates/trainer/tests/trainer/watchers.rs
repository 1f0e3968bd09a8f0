//! Who watches a run in these tests.

use taal_trainer::{Progress, StepInfo, StepRecord};

/// Asks to stop after a step, also while it is evaluated.
pub struct StopAfter {
    step: u64,
    shown: u64,
}

impl StopAfter {
    pub fn step(step: u64) -> Self {
        Self { step, shown: 0 }
    }
}

impl Progress for StopAfter {
    fn step(&mut self, record: &StepRecord, _info: &StepInfo) {
        self.shown = record.step;
    }

    fn should_stop(&mut self) -> bool {
        // Asked before the step is shown, so the last shown one is the one before.
        self.shown + 1 == self.step
    }
}

/// Keeps every note.
#[derive(Default)]
pub struct Notes(pub Vec<String>);

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        self.0.push(message.to_string());
    }
}
