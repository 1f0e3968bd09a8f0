//! Trains the embedded recipe `names` for 20 steps in a temporary folder and prints the losses.
//! `cargo run -p taal-trainer --example train_names`

use taal_kernels::DeviceSpec;
use taal_metrics::StepRecord;
use taal_trainer::{Outcome, Progress, RecipeText, RunInfo, RunOptions, StepInfo, resolve, train};

/// Prints what happens.
struct Printer;

impl Progress for Printer {
    fn begin(&mut self, run: &RunInfo) {
        println!("{} parameters, {} tokens to train on", run.params, run.train_tokens);
    }

    fn step(&mut self, record: &StepRecord, _info: &StepInfo) {
        let validation = record
            .val_loss
            .map_or(String::new(), |loss| format!("   validation {loss:.4}"));
        println!("step {:>2}   loss {:.4}{validation}", record.step, record.loss);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = RecipeText::find("names")?;
    // The same as `taal train --recipe names --set KEY=VALUE`.
    let settings = [
        "train.steps=20",
        "train.warmup_steps=2",
        "eval.every=10",
        "sample.max_tokens=40",
    ];
    let resolved = resolve(&source, &settings.map(String::from))?;

    let folder = tempfile::tempdir()?;
    let options = RunOptions {
        run_dir: &folder.path().join("names"),
        device: DeviceSpec::Flex,
        is_resume: false,
        language: Default::default(),
        energy: Default::default(),
    };
    match train(&resolved, &source.text, &options, &mut Printer)? {
        Outcome::Finished(report) => {
            println!("{:.0} tokens per second; it writes:", report.tokens_per_s);
            for sample in &report.samples {
                println!("{}{}", sample.prompt, sample.text);
            }
        }
        Outcome::Interrupted(report) => println!("stopped after {} steps", report.steps),
    }
    Ok(())
}
