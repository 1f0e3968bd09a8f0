//! What a person sees of a run while it is under way.

use taal_metrics::{Sample, StepRecord};

/// What a person watching sees. Every method has an empty default.
pub trait Progress {
    /// Something worth a line.
    fn note(&mut self, _message: &str) {}
    /// Training begins.
    fn begin(&mut self, _run: &RunInfo) {}
    /// A step was made.
    fn step(&mut self, _record: &StepRecord, _info: &StepInfo) {}
    /// A sample was written.
    fn sample(&mut self, _sample: &Sample) {}
    /// Asked after every step and during evaluations: save and stop?
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {}

/// What is known before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// Parameters.
    pub params: u64,
    /// Tokens that the tokenizer knows.
    pub vocab_size: usize,
    /// Training tokens in the data.
    pub train_tokens: u64,
    /// Validation tokens in the data.
    pub val_tokens: u64,
    /// Step from which this part of the run goes on.
    pub first_step: u64,
    /// Steps in all.
    pub steps: u64,
    /// How often all steps together go through the training tokens.
    pub epochs: f64,
    /// The machine's measured fp32 peak in FLOP/s, as far as it is known before the first step, or 0 where it is not a CPU's.
    pub peak_flops_per_s: f64,
}

/// Figures of a step that the log does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInfo {
    /// Model FLOPs utilization of this step.
    pub mfu: f64,
    /// Whether a checkpoint of it is being saved; it is there when the next one begins, or the run ends.
    pub is_saved: bool,
    /// Whether the evaluation after it was the best so far.
    pub is_best: bool,
}
