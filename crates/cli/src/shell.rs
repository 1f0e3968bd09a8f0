//! `taal completions` and `taal man`: what shells and manual readers want to know of the command line, made from the same parser.

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::{self, CompletionsArguments, ManArguments};
use crate::failure::Failure;
use crate::terminal;

/// Prints the completions of a shell.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let Some(shell) = arguments.shell.or_else(Shell::from_env) else {
        let error = anyhow::anyhow!("no shell was named, and SHELL names none that is known");
        return Err(Failure::from(error).with_hint("taal completions bash; also elvish, fish, powershell and zsh"));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(), "taal", &mut script);
    Ok(terminal::print_raw(&String::from_utf8(script)?)?)
}

/// Prints the manual page of `taal`, or writes one page per verb into a directory.
pub fn man(arguments: &ManArguments) -> Result<(), Failure> {
    let mut taal = arguments::command();
    taal.build();
    let Some(dir) = &arguments.dir else {
        return Ok(terminal::print_raw(&page(&taal)?)?);
    };
    taal_store::create_dir_all(dir)?;
    let mut count = 0;
    for command in with_verbs(&taal) {
        let path = dir.join(format!("{}.1", name(command)));
        taal_store::write_atomic(&path, page(command)?.as_bytes())?;
        count += 1;
    }
    terminal::message(&format!("wrote {count} pages to {}", dir.display()));
    Ok(())
}

/// The command and all verbs below it that the help lists.
fn with_verbs(command: &Command) -> Vec<&Command> {
    let verbs = command.get_subcommands();
    let shown = verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    let mut found = vec![command];
    found.extend(shown.flat_map(with_verbs));
    found
}

/// `taal-bench-train`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_string()
}

fn page(command: &Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command.clone()).manual("Taal").render(&mut page)?;
    Ok(String::from_utf8(page)?)
}
