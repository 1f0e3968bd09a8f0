//! Claims of taal-draw, checked through its public functions.

#[path = "draw/compare.rs"]
mod compare;
#[path = "draw/map.rs"]
mod map;
#[path = "draw/page.rs"]
mod page;
#[path = "draw/report.rs"]
mod report;

use taal_metrics::StepRecord;

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
