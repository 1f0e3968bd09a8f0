//! A task learned from new weights and from a pre-trained model.

use std::path::Path;

use taal_experiments::transfer::{TransferFigures, TransferOptions, compare};
use taal_trainer::{DeviceSpec, RecipeText, RunOptions, Silent, TrainError, resolve, train};

const BASE: &str = r#"
[tokenizer]
kind = "char"
[model]
n_layers = 1
n_heads = 2
d_model = 32
[train]
steps = 200
batch_size = 4
block_size = 16
lr = 1e-2
[eval]
every = 100
"#;

const TASK: &str = r#"
[tokenizer]
kind = "bpe"
[train]
batch_size = 2
block_size = 8
lr = 5e-3
warmup_steps = 0
"#;

fn recipe(name: &str, path: &Path, rest: &str) -> RecipeText {
    RecipeText::new(name, format!("[data]\nfiles = [{path:?}]\n{rest}"))
}

/// Two halves of names, and a model of the first.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let names: Vec<&str> = taal_data::corpus("names").unwrap().text().lines().take(1600).collect();
    std::fs::write(path("old.txt"), names[..1200].join("\n")).unwrap();
    std::fs::write(path("new.txt"), names[1200..].join("\n")).unwrap();
    let base = recipe("base", &path("old.txt"), BASE);
    let options = RunOptions {
        run_dir: &path("base"),
        device: DeviceSpec::Flex,
        is_resume: false,
        language: Default::default(),
        energy: Default::default(),
    };
    train(&resolve(&base, &[]).unwrap(), &base.text, &options, &mut Silent).unwrap();
    folder
}

fn compared(folder: &Path, task: &RecipeText) -> Result<TransferFigures, TrainError> {
    let options = TransferOptions {
        shares: vec![0.02, 0.1],
        seeds: vec![1, 2],
        rates: vec![1.0, 2.0],
        ..TransferOptions::new(folder.join("runs"))
    };
    compare(
        &folder.join("base"),
        std::slice::from_ref(task),
        DeviceSpec::Flex,
        &options,
        &mut Silent,
    )
}

#[test]
fn a_pre_trained_model_learns_a_task_with_less_compute_than_a_new_one() {
    let folder = folder();
    let task = recipe("task", &folder.path().join("new.txt"), TASK);
    let found = compared(folder.path(), &task).unwrap();
    assert_eq!((found.base.as_str(), found.base_tokens), ("base", 200 * 4 * 16));
    let [task_figures] = found.tasks.as_slice() else {
        panic!("one task")
    };
    let steps: Vec<u64> = task_figures.points.iter().map(|point| point.steps).collect();
    // A token of a shorter row takes a little less, so there are a few more than 1/4 of 200 * 16 * share.
    assert!(
        (16..=18).contains(&steps[0]) && (80..=90).contains(&steps[1]),
        "{steps:?}"
    );
    for point in &task_figures.points {
        assert_eq!((point.from_scratch.losses.len(), point.fine_tuned.losses.len()), (2, 2));
        assert!([1.0, 2.0].contains(&point.fine_tuned.rate));
        assert!(point.is_disjoint, "{point:?}");
        assert!(point.fine_tuned.loss_range()[1] < point.from_scratch.loss_range()[0]);
        assert_eq!(
            (point.fine_tuned.forgotten.len(), point.from_scratch.forgotten.len()),
            (2, 0)
        );
        assert!(point.fine_tuned.answers.is_empty());
    }
    let [few, many] = [0, 1].map(|index| task_figures.points[index].from_scratch.mean_loss());
    assert!(many < few, "{many} {few}");

    // What is finished is not trained again.
    let weights = folder
        .path()
        .join("runs/task/tuned-2pc-seed2-x1/model/model.safetensors");
    let other = folder
        .path()
        .join("runs/task/tuned-2pc-seed2-x2/model/model.safetensors");
    let kept = if weights.exists() { weights } else { other };
    let before = std::fs::metadata(&kept).unwrap().modified().unwrap();
    assert_eq!(compared(folder.path(), &task).unwrap(), found);
    assert_eq!(std::fs::metadata(&kept).unwrap().modified().unwrap(), before);
}

#[test]
fn a_base_that_is_no_run_and_a_task_without_a_held_out_part_are_refused() {
    let folder = folder();
    let whole = format!("validation_fraction = 0.0\n{TASK}");
    let task = recipe("task", &folder.path().join("new.txt"), &whole);
    let error = compared(folder.path(), &task).unwrap_err().to_string();
    assert!(error.contains("data.validation_fraction"), "{error}");
    std::fs::remove_file(folder.path().join("base/recipe.resolved.toml")).unwrap();
    let task = recipe("task", &folder.path().join("new.txt"), TASK);
    let error = compared(folder.path(), &task).unwrap_err().to_string();
    assert!(
        error.contains("base") && error.contains("recipe.resolved.toml"),
        "{error}"
    );
}
