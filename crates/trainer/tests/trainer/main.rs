//! Training: against PyTorch, against itself after an interruption, and against bad recipes.

use std::path::Path;

use taal_kernels::DeviceSpec;
use taal_model::ModelSize;
use taal_trainer::{Outcome, Progress, RecipeText, Report, RunOptions, TrainError, resolve, train};

mod against_pytorch;
mod answers;
mod bad_recipes;
mod cards;
mod chat;
#[cfg(feature = "faults")]
mod faults;
mod forgetting;
mod from_rust;
mod keys;
mod lora;
mod masked;
mod old_runs;
mod packing;
mod pages;
mod precision;
mod preference;
mod recipes;
mod reports_data;
mod reports_run;
mod run_list;
mod runs;
mod sources;
mod translation;
mod watchers;

/// [`ModelSize`] in one line: vocabulary, context, layers, heads, width.
pub fn size(vocab_size: usize, max_seq_len: usize, n_layers: usize, n_heads: usize, d_model: usize) -> ModelSize {
    ModelSize {
        vocab_size,
        max_seq_len,
        n_layers,
        n_heads,
        d_model,
    }
}

/// A recipe as from a file `NAME.toml`.
pub fn typed(name: &str, text: impl Into<String>) -> RecipeText {
    RecipeText {
        name: name.to_owned(),
        origin: format!("{name}.toml"),
        text: text.into(),
    }
}

/// The values of `--set`.
pub fn sets(settings: &[&str]) -> Vec<String> {
    settings.iter().map(|setting| (*setting).to_owned()).collect()
}

/// On the CPU, in English, without an energy budget.
pub fn options(run_dir: &Path, is_resume: bool) -> RunOptions<'_> {
    RunOptions {
        run_dir,
        device: DeviceSpec::Flex,
        is_resume,
        language: Default::default(),
        energy: Default::default(),
    }
}

/// Trains by a recipe with settings, or continues the run.
pub fn run_recipe(
    source: &RecipeText,
    settings: &[&str],
    run_dir: &Path,
    is_resume: bool,
    progress: &mut dyn Progress,
) -> Result<Outcome, TrainError> {
    let resolved = resolve(source, &sets(settings))?;
    train(&resolved, &source.text, &options(run_dir, is_resume), progress)
}

/// The report of a run that nothing stopped.
#[track_caller]
pub fn finished(outcome: Result<Outcome, TrainError>) -> Report {
    match outcome.unwrap() {
        Outcome::Finished(report) => report,
        Outcome::Interrupted(report) => panic!("interrupted after step {}", report.steps),
    }
}

/// The file of weights of a run's checkpoint.
pub fn weights_at(run_dir: &Path, step: u64) -> Vec<u8> {
    std::fs::read(run_dir.join(format!("checkpoints/step-{step:08}/model/model.safetensors"))).unwrap()
}
