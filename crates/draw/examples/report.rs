//! Invents a run, measures its cost, and writes its report as a page: `report.html` in the folder given, or in a scratch folder.
//!
//! `cargo run -p taal-draw --example report -- [FOLDER]`

use std::error::Error;
use std::path::PathBuf;

use taal_draw::{Language, RunPage, RunState};
use taal_metrics::{Report, Sample, StepRecord, best_validation, flops};

const N_STEPS: u64 = 2000;
const RECIPE: &str = "seed = 1337\n\n[data]\ncorpus = \"tinyshakespeare\"\n\n[train]\nsteps = 2000\nbatch_size = 12\nblock_size = 64\nlr = 1e-3\n";

fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    let records: Vec<StepRecord> = (1..=N_STEPS).map(record).collect();
    let report = report(&records);
    let page = RunPage {
        report: &report,
        records: &records,
        recipe_toml: RECIPE,
        state: RunState::Finished,
        language: Language::English,
    };
    let page = page.to_html();
    let path = folder.join("report.html");
    taal_store::write_atomic(&path, page.as_bytes())?;
    println!("{} bytes in {}", page.len(), path.display());
    println!("utilization {:.1} % of 336 GFLOP/s", report.mfu * 100.0);
    Ok(())
}

/// A step of an invented run: a loss that falls as real ones do, with noise that is a function of the step.
fn record(step: u64) -> StepRecord {
    let progress = step as f64 / N_STEPS as f64;
    let noise = f64::from((step as u32).wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5;
    let trend = 1.75 + 2.45 * (-9.0 * progress).exp();
    let warm_up = (step as f64 / 100.0).min(1.0);
    let is_evaluated = step.is_multiple_of(250);
    StepRecord {
        step,
        loss: trend + 0.18 * noise,
        lr: warm_up * (1e-4 + 4.5e-4 * (1.0 + (std::f64::consts::PI * progress).cos())),
        grad_norm: 0.6 + 2.0 * (-30.0 * progress).exp() + 0.3 * noise.abs(),
        tokens_per_s: 22_000.0 + 400.0 * noise,
        val_loss: is_evaluated.then_some(trend + 0.1),
        val_bits_per_byte: is_evaluated.then_some((trend + 0.1) / std::f64::consts::LN_2),
        wall_s: Some(step as f64 * 0.0349),
        is_skipped: false,
        ..StepRecord::default()
    }
}

fn report(records: &[StepRecord]) -> Report {
    let shape = flops::Shape {
        n_layers: 4,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 32,
        d_model: 128,
        d_ff: 512,
        vocab_size: 65,
        seq_len: 64,
        is_gated: false,
        is_recurrent: false,
        n_encoder_layers: 0,
        n_params: 795_776,
    };
    let tokens_per_s = 22_000.0;
    let last = records.last().cloned().unwrap_or_default();
    let best = best_validation(records);
    Report {
        objective: "next_token".to_owned(),
        val_bytes: Some(111_540),
        recipe: "nanogpt-cpu".to_owned(),
        device: "flex (2 cores)".to_owned(),
        params: 803_968,
        steps: last.step,
        planned_steps: N_STEPS,
        tokens: last.step * 12 * 64,
        wall_s: last.wall_s.unwrap_or_default(),
        train_loss: last.loss,
        val_loss: last.val_loss,
        best_val_loss: best.map(|(_, loss)| loss),
        best_step: best.map(|(step, _)| step),
        val_bits_per_byte: last.val_bits_per_byte,
        val_tokens: Some(111_539),
        tokens_per_s,
        epochs: (last.step * 12 * 64) as f64 / 1_003_854.0,
        mfu: flops::utilization(tokens_per_s, &shape, 336e9),
        peak_flops_per_s: 336e9,
        peak_is_lower_bound: false,
        peak_rss_bytes: taal_metrics::peak_rss_bytes().unwrap_or(0),
        energy: None,
        ledger: None,
        forecast: None,
        resumed_from: None,
        tokenizer: "char".to_owned(),
        vocab_size: 65,
        skipped_steps: 0,
        masked: None,
        answers: None,
        forgetting: None,
        sources: Vec::new(),
        figures: Default::default(),
        notes: Vec::new(),
        rewinds: 0,
        samples: vec![
            Sample {
                prompt: "ROMEO:".to_owned(),
                text: "\nWhat say you to my suit? <the rest is noise>\n\nJULIET:\nI'll look to like, if looking liking move.\n".to_owned(),
                error: None,
 ranks: Vec::new(),
            },
            Sample {
                prompt: String::new(),
                text: "The king shall have my service, but my prayers\nFor ever and for ever shall be yours.".to_owned(),
                error: None,
 ranks: Vec::new(),
            },
        ],
    }
}
