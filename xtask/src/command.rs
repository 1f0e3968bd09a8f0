//! Running other programs: each is shown before it runs, and its exit code is passed on if it fails.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};

/// A program that failed, after explaining why on stderr.
#[derive(Debug)]
struct Failed {
    line: String,
    status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.line, self.status)
    }
}

impl std::error::Error for Failed {}

/// The cargo that runs this xtask, with the environment of a shell.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_this_package(&mut cargo);
    cargo
}

/// Removes the variables that `cargo run` sets for xtask.
///
/// Build scripts that depend on variables such as `CARGO_MANIFEST_DIR` would otherwise see other values than in a shell, and half
/// of the dependencies would be compiled again at each switch between the two.
pub fn forget_this_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
}

/// Shows a command, runs it with this terminal's input and output, and fails if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failed {
            line: line(command),
            status,
        }
        .into())
    }
}

/// Prints a command on stderr as you would type it.
pub fn show(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// The exit code of a failed verb: that of the program that failed, else 1.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let code = error.downcast_ref::<Failed>().and_then(|failed| failed.status.code());
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn line(command: &Command) -> String {
    let changed = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = changed.map(|(name, value)| format!("{}={}", name.display(), quoted(value)));
    // The full path of the toolchain's cargo would only be noise.
    let program = command.get_program();
    let is_cargo = Path::new(program).file_stem().is_some_and(|name| name == "cargo");
    let program = if is_cargo { OsStr::new("cargo") } else { program };
    let words = std::iter::once(program).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// One argument as a POSIX shell reads it back.
fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_=./,:+@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_command_can_be_pasted_into_a_shell() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command
            .args(["test", "-p", "taal-data", "it's a \"filter\"", ""])
            .env("RUSTDOCFLAGS", "-D warnings")
            .env_remove("CARGO_PKG_NAME");
        assert_eq!(
            line(&command),
            r#"RUSTDOCFLAGS='-D warnings' cargo test -p taal-data 'it'\''s a "filter"' ''"#
        );
    }
}
