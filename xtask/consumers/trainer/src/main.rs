//! A user of the crate: trains a tiny recipe for a few steps and checks that the loss falls.

use std::error::Error;
use std::{env, fs, process};

use taal_kernels::DeviceSpec;
use taal_metrics::StepRecord;
use taal_trainer::{Outcome, Progress, RecipeText, RunOptions, StepInfo, resolve, train};

const RECIPE: &str = r#"
data.corpus = "names"
tokenizer = { kind = "char", vocab_size = 100 }
model = { preset = "llama", n_layers = 1, n_heads = 2, d_model = 16 }
train = { steps = 30, batch_size = 4, block_size = 16, lr = 0.01, warmup_steps = 2 }
sample = { prompts = ["\n"], max_tokens = 8 }
"#;

/// The loss of every step.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Progress for Losses {
    fn step(&mut self, record: &StepRecord, _info: &StepInfo) {
        self.0.push(record.loss);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let source = RecipeText {
        name: "tiny".to_owned(),
        origin: "the recipe in this program".to_owned(),
        text: RECIPE.to_owned(),
    };
    let resolved = resolve(&source, &["eval.every=30".to_owned()])?;
    let dir = env::temp_dir().join(format!("taal-trainer-consumer-{}", process::id()));
    let options = RunOptions {
        run_dir: &dir,
        device: DeviceSpec::Flex,
        is_resume: false,
        language: Default::default(),
        energy: Default::default(),
    };
    let mut losses = Losses::default();
    let outcome = train(&resolved, &source.text, &options, &mut losses)?;
    fs::remove_dir_all(&dir)?;

    let Outcome::Finished(report) = outcome else {
        return Err("the run was interrupted".into());
    };
    assert_eq!((report.steps, losses.0.len()), (30, 30));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses.0[..5]), mean(&losses.0[25..]));
    assert!(last < first - 0.2, "the loss falls: {first} became {last}");
    println!("trainer: 30 steps took the loss from {first:.2} to {last:.2}");
    Ok(())
}
