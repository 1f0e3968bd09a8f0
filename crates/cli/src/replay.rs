//! `taal replay`: the text of a receipt, computed again.

use std::path::Path;
use std::sync::Arc;

use taal_inference::{Difference, Receipt, replay};

use crate::arguments::ReplayArguments;
use crate::failure::Failure;
use crate::{models, terminal};

/// The longest receipt that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Computes the text and compares it.
pub fn run(arguments: &ReplayArguments) -> Result<(), Failure> {
    let path = &arguments.receipt;
    let receipt = read(path)?;
    let lm = models::open_adapted_with(
        &arguments.model,
        arguments.device.device,
        &arguments.adapter,
        arguments.weights,
    )?;
    let lm = Arc::new(models::with_cache(lm, arguments.cache)?);
    let replay = replay(&lm, &receipt)?;
    let surroundings = sentence(&replay.surroundings);
    let Some(generation) = replay.generation else {
        return Err(other(path, format!("the answer is of another model ({surroundings})")));
    };
    if !replay.answer.is_empty() {
        let answer = sentence(&replay.answer);
        return Err(other(
            path,
            match surroundings.is_empty() {
                true => format!(
                    "another answer was computed ({answer}), and nothing that it depends on differs: the receipt was changed, or \
                     report this"
                ),
                false => format!("another answer was computed ({answer}); what differs is {surroundings}"),
            },
        ));
    }
    if !surroundings.is_empty() {
        terminal::message(&format!("note: the answer is the same, though {surroundings}"));
    }
    match (*arguments.json, &generation.text) {
        (true, _) => terminal::print_json(&generation)?,
        (false, Some(text)) => terminal::print(&format!("{text}\n"))?,
        (false, None) => terminal::print(&crate::generate::ids(&generation))?,
    }
    Ok(())
}

fn read(path: &Path) -> Result<Receipt, Failure> {
    read_file(path).map_err(|failure| failure.with_hint("`taal generate DIR PROMPT --receipt FILE` writes a receipt"))
}

fn read_file(path: &Path) -> Result<Receipt, Failure> {
    let bytes = taal_store::read(path, MAX_BYTES)?;
    let receipt = serde_json::from_slice(&bytes);
    let receipt = receipt.map_err(|error| taal_store::Error::Corrupt {
        path: path.to_path_buf(),
        detail: format!("not a receipt: {}", taal_store::shorten(&error.to_string())),
    });
    Ok(receipt?)
}

fn sentence(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn other(path: &Path, detail: String) -> Failure {
    let path = path.to_path_buf();
    taal_store::Error::Corrupt { path, detail }.into()
}
