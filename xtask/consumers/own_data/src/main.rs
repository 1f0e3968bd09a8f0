//! A user of the crate: trains on texts in memory, opens the result, continues training on others, and generates text.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::{env, fs, process};

use taal_inference::{GenerateOptions, LanguageModel, Prompt, Sampling, generate};
use taal_kernels::DeviceSpec;
use taal_trainer::{Outcome, Progress, RawRecipe, RecipeText, Report, StepInfo, StepRecord, Trainer};

/// The loss of every step.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Progress for Losses {
    fn step(&mut self, record: &StepRecord, _info: &StepInfo) {
        self.0.push(record.loss);
    }
}

/// The keys that both runs share.
fn keys(steps: u64) -> RawRecipe {
    let mut keys = RawRecipe::default();
    keys.train.steps = Some(steps);
    keys.train.batch_size = Some(4);
    keys.train.block_size = Some(16);
    keys.train.lr = Some(1e-2);
    keys
}

fn finished(outcome: Outcome) -> Result<Report, Box<dyn Error>> {
    match outcome {
        Outcome::Finished(report) => Ok(report),
        Outcome::Interrupted(_) => Err("the run was interrupted".into()),
    }
}

fn continued(lm: &LanguageModel) -> Result<String, Box<dyn Error>> {
    let options = GenerateOptions {
        max_tokens: 12,
        sampling: Sampling {
            temperature: 0.0,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    };
    let mut text = String::new();
    generate(lm, &Prompt::Text("one two".to_owned()), &options, &mut |piece| {
        text.push_str(piece);
        ControlFlow::Continue(())
    })?;
    Ok(text)
}

fn train(folder: &Path) -> Result<(), Box<dyn Error>> {
    let counting: Vec<String> = (0..20)
        .map(|_| "one two three four five six seven ".repeat(3))
        .collect();
    let mut recipe = keys(60);
    recipe.tokenizer.kind = Some("char".to_owned());
    recipe.model.n_layers = Some(1);
    recipe.model.d_model = Some(32);
    let first = folder.join("first");
    let mut losses = Losses::default();
    let trainer = Trainer::new(RecipeText::of("counting", &recipe)?, &first).texts(counting);
    let report = finished(trainer.progress(&mut losses).run()?)?;
    assert_eq!((report.steps, losses.0.len()), (60, 60));
    assert!(losses.0[59] < 0.7 * losses.0[0], "the loss falls: {:?}", losses.0);

    let device = DeviceSpec::Flex.open()?;
    let lm = LanguageModel::open(&first, &device)?;
    let before = continued(&lm)?;
    let tokenizer = lm.tokenizer.ok_or("a run has a tokenizer")?;
    let backwards: Vec<String> = (0..20)
        .map(|_| "seven six five four three two one ".repeat(3))
        .collect();
    let second = folder.join("second");
    let trainer = Trainer::new(RecipeText::of("backwards", &keys(60))?, &second).texts(backwards);
    finished(trainer.model(lm.model).tokenizer(tokenizer).run()?)?;
    let after = continued(&LanguageModel::open(&second, &device)?)?;
    assert_ne!(before, after, "the second run changed the generated text");
    println!("own_data: \"one two\" continues with {before:?}, and after another run with {after:?}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::temp_dir().join(format!("taal-own-data-consumer-{}", process::id()));
    let outcome = train(&folder);
    fs::remove_dir_all(&folder)?;
    outcome
}
