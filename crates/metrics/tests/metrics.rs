//! Claims of taal-metrics, checked through its public functions.

#[path = "metrics/flops.rs"]
mod flops;
#[path = "metrics/log.rs"]
mod log;
#[path = "metrics/quality.rs"]
mod quality;
#[path = "metrics/report.rs"]
mod report;

use taal_metrics::StepRecord;
use tempfile::TempDir;

/// A scratch directory that goes when the test ends.
fn scratch() -> TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

/// A record whose numbers differ from step to step.
fn record(step: u64) -> StepRecord {
    let part = step as f64;
    StepRecord {
        step,
        loss: 4.0 / part,
        lr: 1e-3 * part,
        grad_norm: 0.1 + part,
        tokens_per_s: 1000.0 / 3.0,
        val_loss: step.is_multiple_of(2).then_some(part.sqrt()),
        ..StepRecord::default()
    }
}
