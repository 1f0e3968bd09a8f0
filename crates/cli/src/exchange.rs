//! `taal import` and `taal export`: models of other programs in, and out.

use taal_exchange::{Exported, Imported, TokenizerChoice, export_model, import_model_as};

use crate::arguments::{ExportArguments, ImportArguments, LanguageArgument};
use crate::failure::Failure;
use crate::{card, signals, terminal};

/// `taal import`
pub fn import(arguments: &ImportArguments) -> Result<(), Failure> {
    signals::clean_up(&arguments.out)?;
    let device = arguments.device.open()?;
    let tokenizer = match arguments.without_tokenizer {
        true => TokenizerChoice::Without,
        false => arguments.tokenizer.as_deref().into(),
    };
    let imported = import_model_as(&arguments.from, tokenizer, arguments.weights, &arguments.out, &device)?;
    for note in &imported.notes {
        terminal::error("hint", note);
    }
    card::after_import(
        &arguments.from,
        &arguments.out,
        LanguageArgument { lang: None }.language(),
    );
    if *arguments.json {
        return Ok(terminal::print_json(&imported)?);
    }
    Ok(terminal::print(&import_summary(&imported))?)
}

/// `taal export`
pub fn export(arguments: &ExportArguments) -> Result<(), Failure> {
    signals::clean_up(&arguments.out)?;
    let device = arguments.device.open()?;
    let exported = export_model(
        &arguments.model,
        arguments.to,
        arguments.format,
        &arguments.out,
        &device,
    )?;
    for note in &exported.notes {
        terminal::error("hint", note);
    }
    card::after_export(
        &arguments.model,
        &arguments.out,
        LanguageArgument { lang: None }.language(),
    );
    if *arguments.json {
        return Ok(terminal::print_json(&exported)?);
    }
    Ok(terminal::print(&export_summary(&exported))?)
}

fn import_summary(imported: &Imported) -> String {
    let tokenizer = match imported.tokenizer_vocab_size {
        Some(size) => format!("{} tokens", terminal::grouped(size as u64)),
        None => "none: prompts and continuations are token ids; import again with --tokenizer FILE".to_string(),
    };
    terminal::table(&[
        ("model", imported.out.display().to_string()),
        ("from", imported.source.to_string()),
        ("family", imported.family.clone()),
        ("parameters", terminal::grouped(imported.params)),
        ("weights", imported.weights.clone()),
        ("tokenizer", tokenizer),
    ])
}

fn export_summary(exported: &Exported) -> String {
    let mut rows = vec![
        ("file", exported.out.display().to_string()),
        ("format", exported.target.to_string()),
        ("matrices", exported.tensor_type.clone()),
        ("parameters", terminal::grouped(exported.params)),
        ("size", terminal::size(exported.bytes)),
    ];
    if let Some(tokenizer) = &exported.tokenizer {
        rows.push(("tokenizer", tokenizer.clone()));
    }
    terminal::table(&rows)
}
