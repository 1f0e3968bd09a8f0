//! The verbs for the whole workspace: tests, formatting, clippy, documentation.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::run;
use crate::workspace::Workspace;

/// Runs the whole suite, or the tests that the arguments of `cargo test` choose.
///
/// Doctests run first, because rustdoc prints its own summary after them. Everything else ends with the test runner's
/// last line, which scripts look for.
pub fn test(workspace: &Workspace, args: &[OsString]) -> Result<()> {
    let (scope, is_whole_suite) = test_scope(args);
    if scope == Scope::Named {
        return run(workspace.cargo().arg("test").args(args));
    }
    let all = || {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--workspace"]).args(workspace.features());
        cargo
    };
    if !is_whole_suite {
        return run(all().args(args));
    }
    run(all().arg("--doc").args(args))?;
    run(all().args(["--lib", "--bins", "--examples", "--tests"]).args(args))
}

#[derive(Debug, PartialEq, Eq)]
enum Scope {
    /// Every package.
    Workspace,
    /// The packages that the arguments name.
    Named,
}

/// Which packages a test run covers, and whether it is the whole suite: then its arguments only determine how to run,
/// not what.
fn test_scope(args: &[OsString]) -> (Scope, bool) {
    const HOW: [&str; 8] = [
        "--locked",
        "--offline",
        "--frozen",
        "--no-fail-fast",
        "--quiet",
        "-q",
        "--verbose",
        "-v",
    ];
    let for_cargo = || {
        args.iter()
            .filter_map(|arg| arg.to_str())
            .take_while(|arg| *arg != "--")
    };
    let names_packages = for_cargo().any(|arg| {
        arg == "--package" || arg.starts_with("--package=") || (arg.starts_with("-p") && !arg.starts_with("--"))
    });
    let is_whole_suite = for_cargo().all(|arg| HOW.contains(&arg));
    let scope = if names_packages { Scope::Named } else { Scope::Workspace };
    (scope, is_whole_suite)
}

/// Checks formatting, then runs clippy: the cheap check first.
pub fn lint(workspace: &Workspace) -> Result<()> {
    fmt(workspace, true)?;
    clippy(workspace)
}

/// Formats the workspace and the outside projects, which cargo does not see.
pub fn fmt(workspace: &Workspace, is_check: bool) -> Result<()> {
    let check: &[&str] = if is_check { &["--check"] } else { &[] };
    run(workspace.cargo().args(["fmt", "--all"]).args(check))?;

    let mut rustfmt = Command::new("rustfmt");
    rustfmt
        .current_dir(workspace.root())
        .args(["--edition", "2024"])
        .args(check);
    let consumers = workspace.names_in("xtask/consumers", Path::is_dir)?;
    run(rustfmt.args(
        consumers
            .iter()
            .map(|name| format!("xtask/consumers/{name}/src/main.rs")),
    ))
}

pub fn clippy(workspace: &Workspace) -> Result<()> {
    run(workspace
        .cargo()
        .args(["clippy", "--workspace", "--all-targets"])
        .args(workspace.features())
        .args(["--", "-D", "warnings"]))
}

pub fn doc(workspace: &Workspace, is_shown: bool) -> Result<()> {
    let mut doc = workspace.cargo();
    doc.args(["doc", "--workspace", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings");
    if is_shown {
        doc.arg("--open");
    }
    run(&mut doc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(args: &[&str]) -> (Scope, bool) {
        test_scope(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_that_choose_nothing_leave_the_whole_suite() {
        for args in [&[][..], &["--locked"], &["--no-fail-fast", "--", "--nocapture"]] {
            assert_eq!(scope_of(args), (Scope::Workspace, true), "{args:?}");
        }
    }

    #[test]
    fn a_filter_looks_in_the_whole_workspace_in_one_run() {
        assert_eq!(scope_of(&["causal"]), (Scope::Workspace, false));
        assert_eq!(scope_of(&["--doc"]), (Scope::Workspace, false));
    }

    #[test]
    fn named_packages_are_tested_alone() {
        for args in [&["-p", "taal-data"][..], &["--package=taal-data"], &["-ptaal-data"]] {
            assert_eq!(scope_of(args), (Scope::Named, false), "{args:?}");
        }
    }
}
