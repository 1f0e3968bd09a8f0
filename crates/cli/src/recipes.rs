//! `taal recipes`: what comes along.

use taal_trainer::{RecipeText, embedded, resolve};

use crate::arguments::{RecipesArguments, RecipesCommand, RecipesShowArguments};
use crate::failure::Failure;
use crate::terminal;

/// Lists the embedded recipes or shows one.
pub fn run(arguments: &RecipesArguments) -> Result<(), Failure> {
    match &arguments.command {
        Some(RecipesCommand::Show(arguments)) => show(arguments),
        None => list(),
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
