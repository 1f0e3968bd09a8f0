//! Progress implementations for these tests.

use taal_trainer::{Progress, StepInfo, StepRecord};

/// Requests a stop after a step, also during its evaluation.
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
        // This is called before the step is shown, so the last shown step is the previous one.
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
