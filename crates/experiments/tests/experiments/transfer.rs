//! A task learned from new weights and from a pre-trained model.

use std::path::Path;

use taal_experiments::transfer::{TransferFigures, TransferOptions, compare};
use taal_trainer::{DeviceSpec, Progress, RecipeText, RunOptions, Silent, TrainError, list_runs, resolve, train};

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
    pre_train(folder.path(), "");
    folder
}

/// Trains the model of the first half in `base`; `first` is put before the recipe.
fn pre_train(folder: &Path, first: &str) {
    let base = recipe("base", &folder.join("old.txt"), BASE);
    let base = RecipeText::new("base", format!("{first}{}", base.text));
    let run_dir = folder.join("base");
    let options = RunOptions {
        run_dir: &run_dir,
        device: DeviceSpec::Flex,
        is_resume: false,
        language: Default::default(),
        energy: Default::default(),
    };
    train(&resolve(&base, &[]).unwrap(), &base.text, &options, &mut Silent).unwrap();
}

/// The notes of a comparison that are not about a training that is made.
#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn note(&mut self, message: &str) {
        if !message.contains("-seed") {
            self.0.push(message.to_owned());
        }
    }
}

fn compared(folder: &Path, task: &RecipeText) -> Result<TransferFigures, TrainError> {
    compared_with(folder, task, &mut Silent)
}

fn compared_with(folder: &Path, task: &RecipeText, progress: &mut dyn Progress) -> Result<TransferFigures, TrainError> {
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
        progress,
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
    let trained = || {
        let runs = list_runs(&folder.path().join("runs/task")).unwrap().runs;
        let weights = runs.iter().map(|run| run.dir.join("model/model.safetensors"));
        let mut times: Vec<_> = weights
            .map(|path| (std::fs::metadata(&path).unwrap().modified().unwrap(), path))
            .collect();
        times.sort();
        times
    };
    let before = trained();
    assert!(!before.is_empty());
    let mut notes = Notes::default();
    assert_eq!(compared_with(folder.path(), &task, &mut notes).unwrap(), found);
    assert_eq!(trained(), before);
    assert!(notes.0.is_empty(), "{:?}", notes.0);

    // Other data under the same name and an other model in the same directory are trained on, whatever is there.
    let more = folder.path().join("new.txt");
    let longer = std::fs::read_to_string(&more).unwrap().repeat(2);
    std::fs::write(&more, longer).unwrap();
    let mut notes = Notes::default();
    let other = compared_with(folder.path(), &task, &mut notes).unwrap();
    assert_ne!(other, found);
    let line = format!("{} trainings in", before.len());
    assert!(
        notes.0[0].contains(&line) && notes.0[0].contains("are not used"),
        "{:?}",
        notes.0
    );
    assert_eq!(trained().len(), 2 * before.len());
}

#[test]
fn trainings_of_another_pre_trained_model_or_rate_are_not_taken_for_those_of_this_one() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let task = recipe("task", &path("new.txt"), TASK);
    let found = compared(folder.path(), &task).unwrap();
    let fast = recipe("task", &path("new.txt"), &TASK.replace("lr = 5e-3", "lr = 1e-4"));
    assert_ne!(compared(folder.path(), &fast).unwrap(), found);

    // The same recipe, steps and directory, with other weights.
    std::fs::remove_dir_all(path("base")).unwrap();
    pre_train(folder.path(), "seed = 77\n");
    let other = compared(folder.path(), &task).unwrap();
    assert_ne!(other, found);
    let new_weights = std::fs::read_dir(path("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("new-weights-seed1-"));
    assert_eq!(new_weights.count(), 2);
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
