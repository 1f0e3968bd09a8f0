//! The names of files and folders in a run directory, in its checkpoints and in a model directory: they are defined once because
//! many crates use them. The contents of each file are up to its writer.

use crate::directory::TEMPORARY_PREFIX;

/// Marks a directory as a run directory and names its recipe: the first file that a run writes.
pub const RUN_FILE: &str = ".taal-run";
/// The lock of a directory, see [`RunLock`](crate::RunLock).
pub const LOCK_NAME: &str = ".lock";
/// The recipe as it was given.
pub const RECIPE_FILE: &str = "recipe.toml";
/// The recipe with every value and its source. A run has begun once this file exists.
pub const RESOLVED_FILE: &str = "recipe.resolved.toml";
/// One JSON record per step.
pub const LOG_NAME: &str = "log.jsonl";
/// The same as a table.
pub const LOG_TABLE_FILE: &str = "log.csv";
/// The energy of the run in the columns of codecarbon's table.
pub const EMISSIONS_FILE: &str = "emissions.csv";
/// The responses to bad steps.
pub const EVENTS_FILE: &str = "events.jsonl";
/// The report as a page, rewritten while the run trains.
pub const REPORT_FILE: &str = "report.html";
/// The report's figures.
pub const REPORT_FIGURES_FILE: &str = "report.json";
/// The folder of checkpoints.
pub const CHECKPOINTS_DIR: &str = "checkpoints";
/// The mean of the weights of the last checkpoints, see a recipe's `checkpoint.average`.
pub const AVERAGED_DIR: &str = "averaged";
/// The model: in a run directory the best one, in a checkpoint its own.
pub const MODEL_DIR: &str = "model";

/// The list of a checkpoint's files, see [`Manifest`](crate::Manifest).
pub const MANIFEST_NAME: &str = "MANIFEST.json";
/// The optimizer's moments by parameter name.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The running figures of a checkpoint.
pub const STATE_FILE: &str = "train_state.json";
/// The suffix of a damaged file or checkpoint that was renamed, see [`set_aside`](crate::set_aside).
pub const DAMAGED: &str = "damaged";
/// The suffix of a checkpoint that a run discarded by going back to an earlier one.
pub const LEFT: &str = "left";

/// The configuration in a model directory.
pub const CONFIG_FILE: &str = "config.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The index that maps tensors to files, where the weights are in several.
pub const WEIGHTS_INDEX_FILE: &str = "model.safetensors.index.json";
/// The tokenizer, in a model directory and next to token shards.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The tokenizer of the texts that a model writes, where it is another than that of the texts it reads.
pub const TARGET_TOKENIZER_FILE: &str = "target_tokenizer.json";
/// The trainings that a model is made of.
pub const LEDGER_FILE: &str = "ledger.json";
/// The model card of a model directory.
pub const CARD_FILE: &str = "README.md";
/// The model card where the directory has a README.md that is not Taal's.
pub const OTHER_CARD_FILE: &str = "README.taal.md";
/// The list of the files of token shards.
pub const SHARDS_INDEX_FILE: &str = "index.json";

const STEP_PREFIX: &str = "step-";

/// Whether a path in a checkpoint is that of a file about its model, which training does not need: it is written after the checkpoint,
/// and you may change it. The files that a killed process left unfinished next to it are about the model too.
pub fn is_about_model(path: &str) -> bool {
    let name = path.strip_prefix(MODEL_DIR).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| {
        let about = [LEDGER_FILE, CARD_FILE, OTHER_CARD_FILE];
        about.iter().any(|about| name == *about || is_unfinished(about, name))
    })
}

/// Whether a name is that of an unfinished file, as [`write_atomic`](crate::write_atomic) makes them.
fn is_unfinished(of: &str, name: &str) -> bool {
    let rest = name
        .strip_prefix(TEMPORARY_PREFIX)
        .and_then(|rest| rest.strip_prefix(of));
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// The name of a step's checkpoint.
pub fn checkpoint_name(step: u64) -> String {
    format!("{STEP_PREFIX}{step:08}")
}

/// The step of a checkpoint; `None` for any other name, including checkpoints that were set aside.
pub fn checkpoint_step(name: &str) -> Option<u64> {
    name.strip_prefix(STEP_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_files_has_every_name() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/files.md");
        let page = std::fs::read_to_string(path).expect("a page");
        let constants = include_str!("layout.rs").lines();
        let names: Vec<&str> = constants
            .filter(|line| line.starts_with("pub const "))
            .filter_map(|line| line.split('"').nth(1))
            .collect();
        assert!(names.contains(&AVERAGED_DIR) && names.contains(&SHARDS_INDEX_FILE));
        for name in names {
            assert!(page.contains(name), "docs/files.md does not have {name}");
        }
    }

    #[test]
    fn only_files_about_the_model_may_come_after_a_checkpoint() {
        for path in [
            "model/README.md",
            "model/README.taal.md",
            "model/ledger.json",
            "model/.tmp-README.md-12-0",
        ] {
            assert!(is_about_model(path), "{path}");
        }
        for path in [
            "README.md",
            "model/readme.md",
            "model/x/README.md",
            "model/config.json",
            "models/README.md",
            "model/.tmp-config.json-12-0",
        ] {
            assert!(!is_about_model(path), "{path}");
        }
    }

    #[test]
    fn names_of_checkpoints_sort_by_step_and_read_back() {
        let names: Vec<String> = [9, 10, 99_999_999].map(checkpoint_name).into();
        assert!(names.is_sorted());
        assert_eq!(names[0], "step-00000009");
        assert_eq!(
            names.iter().filter_map(|name| checkpoint_step(name)).sum::<u64>(),
            100_000_018
        );
        assert_eq!(checkpoint_step(&format!("{}.{LEFT}", names[0])), None);
    }
}
