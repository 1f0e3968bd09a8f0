//! Logs a made-up run, reads it back, and writes `report.json` into the folder given, or into a scratch folder.
//!
//! `cargo run -p taal-metrics --example run_log -- [FOLDER]`

use std::error::Error;
use std::path::PathBuf;

use taal_metrics::{Report, RunLog, StepRecord, best_validation, perplexity, read_log};

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    let mut log = RunLog::open(&folder)?;
    log.truncate_to(0)?;
    for step in 1..=100 {
        let loss = 1.75 + 2.45 * (-0.05 * step as f64).exp();
        log.append(&StepRecord {
            step,
            loss,
            lr: 1e-3,
            val_loss: (step % 25 == 0).then_some(loss + 0.1),
            ..StepRecord::default()
        })?;
    }
    log.sync()?;

    let records = read_log(log.path())?;
    let Some((best_step, best_val_loss)) = best_validation(&records) else {
        return Err("no step was evaluated".into());
    };
    let report = Report {
        recipe: "made-up".to_owned(),
        steps: records.len() as u64,
        best_step: Some(best_step),
        best_val_loss: Some(best_val_loss),
        ..Report::default()
    };
    report.write_json(&folder.join("report.json"))?;
    println!("best perplexity {:.2}, at step {best_step}", perplexity(best_val_loss));
    Ok(())
}
