//! `taal card`: the model card of a model directory.

use std::path::{Path, PathBuf};

use serde_json::json;
use taal_exchange::is_gguf_file;
use taal_inference::model_dir;
use taal_store::layout::MODEL_DIR;
use taal_trainer::{Language, WrittenCard, card_text, ledger_path, write_card, write_card_of_export};

use crate::arguments::CardArguments;
use crate::failure::Failure;
use crate::terminal;

/// Writes the card, or prints it.
pub fn run(arguments: &CardArguments) -> Result<(), Failure> {
    let place: &Path = &arguments.model;
    if is_gguf_file(place)? {
        let error = anyhow::anyhow!("{} is a file: a card goes into a model directory", place.display());
        return Err(Failure::from(error).with_hint("taal export writes the card of a GGUF file next to it"));
    }
    let dir = model_dir(place)?;
    let (name, language) = (name_of(place), arguments.lang.language());
    if arguments.print {
        return Ok(terminal::print(&card_text(&dir, &name, language)?)?);
    }
    let written = write_card(&dir, &name, language)?;
    if *arguments.json {
        return Ok(terminal::print_json(
            &json!({ "path": written.path, "kept": written.kept }),
        )?);
    }
    say(&written);
    Ok(())
}

/// Writes the card of an export, of which a failure is no failure of the export.
pub fn after_export(from: &Path, out: &Path, language: Language) {
    after_merge(&[from], out, language);
}

/// The same of what was made of several models, the first of which gives the name.
pub fn after_merge(from: &[&Path], out: &Path, language: Language) {
    let directory = |from: &&Path| model_dir(from).unwrap_or_else(|_| from.to_path_buf());
    let sources: Vec<PathBuf> = from.iter().map(directory).collect();
    let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let name = from.first().map_or(String::new(), |from| name_of(from));
    match write_card_of_export(&sources, out, &name, language) {
        Ok(written) => say(&written),
        Err(error) => terminal::message(&format!("note: the model card is not written: {error}")),
    }
}

/// The same of an import, where the other directory or file knows its trainings.
pub fn after_import(from: &Path, out: &Path, language: Language) {
    let source = model_dir(from).unwrap_or_else(|_| from.to_path_buf());
    if taal_store::is_file(&ledger_path(&source)) {
        after_export(from, out, language);
    }
}

fn say(written: &WrittenCard) {
    let path = written.path.display();
    match &written.kept {
        Some(kept) => terminal::message(&format!("wrote {path}; {} is kept as it is", kept.display())),
        None => terminal::message(&format!("wrote {path}")),
    }
}

/// The name of a run or a model directory.
fn name_of(place: &Path) -> String {
    let resolved = taal_store::resolve(place).unwrap_or_else(|_| place.to_path_buf());
    // runs/NAME/model and runs/NAME/checkpoints/step-.../model are called by their run.
    let in_run = |path: &Path| {
        let checkpoint = path.parent().filter(|_| path.ends_with(MODEL_DIR))?;
        Some(checkpoint.parent()?.parent()?.to_path_buf())
    };
    let run = in_run(&resolved).filter(|run| taal_trainer::is_run(run));
    let named = run.unwrap_or(resolved);
    let name = match taal_store::is_dir(&named) {
        true => named.file_name(),
        false => named.file_stem(),
    };
    name.unwrap_or_default().to_string_lossy().into_owned()
}
