//! Claims of taal-metrics, checked through its public functions.

#[path = "metrics/answers.rs"]
mod answers;
#[path = "metrics/energy.rs"]
mod energy;
#[path = "metrics/energy_meter.rs"]
mod energy_meter;
#[path = "metrics/figures.rs"]
mod figures;
#[path = "metrics/flops.rs"]
mod flops;
#[path = "metrics/forecast.rs"]
mod forecast;
#[path = "metrics/log.rs"]
mod log;
#[path = "metrics/projection.rs"]
mod projection;
#[path = "metrics/quality.rs"]
mod quality;
#[path = "metrics/rank.rs"]
mod rank;
#[path = "metrics/report.rs"]
mod report;
#[path = "metrics/translation.rs"]
mod translation;

use taal_metrics::StepRecord;
use tempfile::TempDir;

/// What scipy and scikit-learn compute; `golden/make_golden.py` makes it.
fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("golden/expected.json")).expect("JSON")
}

/// A list of numbers of a golden file.
fn numbers(value: &serde_json::Value) -> Vec<f64> {
    let list = value.as_array().expect("a list");
    list.iter().map(|it| it.as_f64().expect("a number")).collect()
}

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
