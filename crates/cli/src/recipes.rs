//! `taal recipes`: what comes along.

use serde_json::json;
use taal_trainer::{KEYS, RecipeText, embedded, resolve};

use crate::arguments::{RecipesArguments, RecipesCommand, RecipesShowArguments};
use crate::failure::Failure;
use crate::terminal;

/// Lists the embedded recipes, shows one, or lists the keys of all.
pub fn run(arguments: &RecipesArguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(RecipesCommand::Show(arguments)) => show(arguments),
        Some(RecipesCommand::Keys(arguments)) => keys(*arguments.json),
        Some(RecipesCommand::List) | None => list(),
    }
}

fn list() -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (name, _) in embedded() {
        rows.push((name, resolve(&RecipeText::find(name)?, &[])?.recipe.description));
    }
    Ok(terminal::print(&terminal::table(&rows))?)
}

fn show(arguments: &RecipesShowArguments) -> Result<(), Failure> {
    let recipe = RecipeText::find(&arguments.name)?;
    let text = match arguments.resolved {
        true => {
            let resolved = resolve(&recipe, &arguments.set)?;
            for note in &resolved.notes {
                terminal::message(&format!("note: {note}"));
            }
            resolved.text
        }
        false => recipe.text,
    };
    Ok(terminal::print(&text)?)
}

fn keys(is_json: bool) -> Result<(), Failure> {
    if is_json {
        let keys = KEYS.iter().map(|key| {
            json!({
                "key": key.path(),
                "type": key.type_words(),
                "range": key.range_words(),
                "default": key.default_words(),
                "meaning": key.meaning(),
            })
        });
        return Ok(terminal::print_json(&keys.collect::<Vec<_>>())?);
    }
    let mut text = String::new();
    for key in KEYS {
        let said = |word: &str, value: String| {
            if value.is_empty() {
                value
            } else {
                format!("{word}{value}")
            }
        };
        let (range, default) = (said(", ", key.range_words()), said("; default ", key.default_words()));
        text += &format!(
            "{}: {}{range}{default}\n    {}\n",
            key.path(),
            key.type_words(),
            key.meaning()
        );
    }
    Ok(terminal::print(&text)?)
}
