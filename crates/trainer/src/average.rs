//! The mean of the weights of a run's last checkpoints as its model (Vaswani et al. 2017, section 6.1; Popel and Bojar 2018): it lies in the
//! middle of what the last steps wander through, and is most often better than each of them.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::json;
use taal_store::layout::{self, AVERAGED_DIR, MODEL_DIR};
use taal_store::{AtomicDir, ErrorKind, Manifest};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Checkpoints, damaged};

/// The steps whose checkpoints are averaged after step `last`, newest first: that step, and multiples of `every` before it. An interrupted
/// run also has other checkpoints; they do not count, so that the mean is the same.
pub(crate) fn steps(count: usize, every: u64, last: u64) -> Vec<u64> {
    let every = every.max(1);
    let before = (1..=last.saturating_sub(1) / every)
        .rev()
        .map(|multiple| multiple * every);
    std::iter::once(last)
        .filter(|last| *last > 0)
        .chain(before)
        .take(count)
        .collect()
}

/// What was averaged, as one line of a terminal.
pub(crate) fn line(checkpoints: u64, val_loss: Option<f64>, best_val_loss: Option<f64>) -> String {
    let of = format!("the mean of the weights of the last {checkpoints} checkpoints");
    match (val_loss, best_val_loss) {
        (Some(mean), Some(best)) if mean > best => format!(
            "{of} has a validation loss of {mean:.4}, more than that of the best checkpoint, {best:.4}, which is the model"
        ),
        (Some(mean), Some(best)) => {
            format!("the model is {of}: validation loss {mean:.4}, that of the best checkpoint {best:.4}")
        }
        _ => format!("the model is {of}"),
    }
}

/// Averages the checkpoints of the steps that are there and whole, and writes the result next to them. Returns the steps that were
/// averaged, and the result; `None` where fewer than two are there. `note` gets which ones are not.
///
/// # Errors
///
/// [`TrainError::Checkpoint`] where the checkpoints are of different models; the store's.
pub(crate) fn write(
    run_dir: &Path,
    checkpoints: &Checkpoints,
    steps: &[u64],
    mut note: impl FnMut(String),
) -> Result<Option<(Vec<u64>, Checkpoint)>, TrainError> {
    let mut found: Vec<Checkpoint> = Vec::new();
    for step in steps {
        match checkpoints.open(*step) {
            Ok(checkpoint) => found.push(checkpoint),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Usage) => {
                note(format!("step {step} is left out of the mean of the weights: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    if found.len() < 2 {
        return Ok(None);
    }
    let dirs: Vec<PathBuf> = found.iter().map(Checkpoint::model_dir).collect();
    let files = mean_files(&dirs)?;
    let path = run_dir.join(AVERAGED_DIR);
    // Of an earlier end of the same run.
    taal_store::retire_dir(&path)?;
    let target = AtomicDir::create(&path)?;
    for (name, bytes) in &files {
        target.write(&format!("{MODEL_DIR}/{name}"), bytes)?;
    }
    let averaged: Vec<u64> = found.iter().map(|checkpoint| checkpoint.step).collect();
    Manifest::write(target.path(), json!({ "averaged_steps": averaged }))?;
    target.commit()?;
    Ok(Some((averaged, Checkpoint::open(path, found[0].step)?)))
}

/// The files of the first model directory, with every weight the mean of those of all directories, summed in double precision in their
/// order.
///
/// # Errors
///
/// [`TrainError::Checkpoint`] where a directory lacks a file or a tensor of the first, or has it in another shape or type.
pub(crate) fn mean_files(dirs: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, TrainError> {
    let mut files = Vec::new();
    for name in taal_store::list_dir(&dirs[0])? {
        if layout::is_about_model(&format!("{MODEL_DIR}/{name}")) {
            continue;
        }
        let bytes = match name.ends_with(".safetensors") {
            true => mean_file(&name, dirs)?,
            false => taal_store::Map::open(&dirs[0].join(&name))?.to_vec(),
        };
        files.push((name, bytes));
    }
    Ok(files)
}

fn mean_file(name: &str, dirs: &[PathBuf]) -> Result<Vec<u8>, TrainError> {
    let first = taal_store::Map::open(&dirs[0].join(name))?;
    let header_bytes = first
        .first_chunk()
        .map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let begin = 8 + header_bytes;
    let mut sums: Vec<f64> = Vec::new();
    for dir in dirs {
        let path = dir.join(name);
        let map = taal_store::Map::open(&path)?;
        let tensors = SafeTensors::deserialize(&map).map_err(|error| damaged(&path, error))?;
        if let Some((name, _)) = tensors.iter().find(|(_, view)| view.dtype() != Dtype::F32) {
            return Err(damaged(&path, format!("tensor `{name}` is not in single precision")));
        }
        // One program wrote all of them, so equal tensors are in equal places.
        if map.get(..begin) != first.get(..begin) {
            let detail = format!(
                "has other tensors than {}, so their mean means nothing",
                dirs[0].display()
            );
            return Err(damaged(&path, detail));
        }
        let values = map[begin..]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        match sums.is_empty() {
            true => sums.extend(values),
            false => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
        }
    }
    let mut bytes = first[..begin].to_vec();
    let count = dirs.len() as f64;
    bytes.extend(sums.iter().flat_map(|sum| ((sum / count) as f32).to_le_bytes()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_and_multiples_before_it_are_averaged() {
        assert_eq!(steps(3, 10, 40), [40, 30, 20]);
        assert_eq!(steps(3, 10, 45), [45, 40, 30]);
        assert_eq!(steps(5, 10, 25), [25, 20, 10]);
        assert_eq!(steps(2, 10, 5), [5]);
        assert!(steps(2, 10, 0).is_empty());
    }
}
