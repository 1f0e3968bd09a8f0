//! Runs that an earlier release started.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use taal_model::{Transformer, hugging_face, parameters};
use taal_trainer::Silent;

use crate::{finished, run_recipe, typed};

/// Weights may differ in the last bits between processors.
const TOLERANCE: f32 = 1e-5;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => fs::copy(&path, &target).map(|_| ()).unwrap(),
        }
    }
}

fn weights(model: &Transformer) -> Vec<(String, Vec<f32>)> {
    let mut found = Vec::new();
    parameters::read(model, |name, _, values| found.push((name.to_owned(), values)));
    found
}

/// Release 0.1 wrote the run up to step 3 of 6 and, from an uninterrupted run, the weights after step 6. So Muon's and
/// AdamW's moments, the order of batches and all parameter names must be those of that release.
#[test]
fn a_checkpoint_of_0_1_resumes_to_the_weights_that_0_1_ended_with() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/run-0.1");
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("old");
    copy(&golden, &run_dir);
    let text = fs::read_to_string(golden.join("recipe.toml")).unwrap();
    let report = finished(run_recipe(&typed("old", text), &[], &run_dir, true, &mut Silent));
    assert_eq!((report.resumed_from, report.steps), (Some(3), 6));

    let last = run_dir.join("checkpoints/step-00000006/model");
    let found = weights(&hugging_face::open(&last, &Device::flex()).unwrap());
    fs::copy(golden.join("after-6-steps.safetensors"), last.join("model.safetensors")).unwrap();
    let expected = weights(&hugging_face::open(&last, &Device::flex()).unwrap());
    assert_eq!(found.len(), expected.len());
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let difference = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            difference <= TOLERANCE * largest,
            "{name}: {difference:e} of {largest:e}"
        );
    }
}
