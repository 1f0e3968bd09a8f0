//! Displaying a run while it is training.

use taal_metrics::energy::Energy;
use taal_metrics::{Sample, StepRecord};

/// Receives what happens in a run, to display it. Every method has an empty default.
pub trait Progress {
    /// A one-line message.
    fn note(&mut self, _message: &str) {}
    /// Training begins.
    fn begin(&mut self, _run: &RunInfo) {}
    /// A step is done.
    fn step(&mut self, _record: &StepRecord, _info: &StepInfo) {}
    /// A sample was written.
    fn sample(&mut self, _sample: &Sample) {}
    /// Asked after every step and during evaluations: save and stop?
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Ignores progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// Parameters.
    pub params: u64,
    /// Size of the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Training tokens in the data.
    pub train_tokens: u64,
    /// Validation tokens in the data.
    pub val_tokens: u64,
    /// The step from which the run starts or continues.
    pub first_step: u64,
    /// Steps in all.
    pub steps: u64,
    /// How many times all steps together pass over the training tokens.
    pub epochs: f64,
    /// The measured fp32 peak of the CPU in FLOP/s, as known before the first step; 0 on other devices.
    pub peak_flops_per_s: f64,
}

/// Figures of a step that are not in the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Model FLOPs utilization of this step.
    pub mfu: f64,
    /// Energy of the run so far, including its parts before a resume; zero without a meter.
    pub energy: Energy,
    /// Whether a checkpoint of this step is being saved. The save is complete when the next one starts or the run ends.
    pub is_saved: bool,
    /// Whether the evaluation after it was the best so far.
    pub is_best: bool,
}
