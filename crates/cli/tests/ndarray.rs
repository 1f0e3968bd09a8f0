//! Two backends, one training run: flex and ndarray log the same losses. And what ndarray lacks.
#![cfg(feature = "ndarray")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// A relative difference above this is no rounding: both compute in single precision, in another order.
const TOLERANCE: f64 = 1e-3;

const RECIPE: &str = r#"
seed = 7

[data]
files = ["text.txt"]
validation_fraction = 0.2

[tokenizer]
kind = "char"

[model]
n_layers = 1
n_heads = 2
d_model = 16

[train]
steps = 6
batch_size = 2
block_size = 8
clip_norm = 1.0

[eval]
every = 3

[sample]
max_tokens = 0
"#;

fn log(place: &Path, device: &str) -> Vec<serde_json::Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taal"));
    command
        .args([
            "train",
            "--recipe",
            "tiny.toml",
            "--device",
            device,
            "--run-dir",
            device,
        ])
        .current_dir(place);
    let output = command.output().expect("taal starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(place.join(device).join("log.jsonl")).expect("a log");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

#[test]
fn flex_and_ndarray_train_alike() {
    let place = tempfile::TempDir::new().expect("a temporary folder");
    fs::write(
        place.path().join("text.txt"),
        "de kat krabt de krullen van de trap.\n".repeat(12),
    )
    .expect("a file");
    fs::write(place.path().join("tiny.toml"), RECIPE).expect("a file");
    let [flex, ndarray] = ["flex", "ndarray"].map(|device| log(place.path(), device));
    assert_eq!(flex.len(), 6);
    assert_eq!(flex.len(), ndarray.len());
    for (flex, ndarray) in flex.iter().zip(&ndarray) {
        for key in ["loss", "grad_norm", "val_loss"] {
            let [flex, ndarray] = [flex, ndarray].map(|record| record[key].as_f64());
            assert_eq!(flex.is_some(), ndarray.is_some(), "{key}");
            let (Some(flex), Some(ndarray)) = (flex, ndarray) else {
                continue;
            };
            assert!(
                (flex - ndarray).abs() <= TOLERANCE * flex.abs(),
                "{key}: {flex} with flex, {ndarray} with ndarray"
            );
        }
    }
}

#[test]
fn a_precision_that_the_device_lacks_is_refused_before_anything_is_written() {
    let place = tempfile::TempDir::new().expect("a temporary folder");
    fs::write(place.path().join("text.txt"), "de kat krabt de krullen van de trap.\n").expect("a file");
    fs::write(place.path().join("tiny.toml"), RECIPE).expect("a file");
    let refusal = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_taal"))
            .args(args)
            .args(["--device", "ndarray"])
            .current_dir(place.path())
            .output()
            .expect("taal starts");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for precision in ["bf16", "f16"] {
        let set = format!("train.precision={precision}");
        let message = refusal(&["train", "--recipe", "tiny.toml", "--run-dir", "run", "--set", &set]);
        let expected = format!("train.precision: ndarray does not compute in {precision}; use fp32");
        assert!(message.contains(&expected), "{message}");
        assert!(!place.path().join("run").exists());
        let message = refusal(&["bench", "train", "--precision", precision]);
        assert!(
            message.contains("--precision: ndarray does not compute in"),
            "{message}"
        );
    }
}
