//! `cargo xtask fuzz`: hostile inputs for the parsers, with the mutator of the workspace or with libFuzzer.

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command::run;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// The parser (default: all; `cargo xtask fuzz --list` names them)
    target: Option<String>,
    /// Executions of each parser
    #[arg(long, default_value_t = 10_000)]
    executions: u64,
    /// Inputs are a function of seed, parser and index
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the names of the parsers
    #[arg(long)]
    list: bool,
    /// Use libFuzzer through cargo-fuzz, which needs a nightly toolchain, on one parser
    #[arg(long, requires = "target", conflicts_with = "list")]
    nightly: bool,
}

/// Runs the fuzzer in the development profile, where overflows panic.
pub fn fuzz(workspace: &Workspace, fuzz: &Fuzz) -> Result<()> {
    if fuzz.nightly {
        return nightly(workspace, fuzz);
    }
    // Built like the tests: the features of Burn depend on the named packages and the dependencies of tests.
    run(workspace
        .cargo()
        .args(["test", "--workspace", "--test", "fuzz", "--no-run"])
        .args(workspace.features()))?;
    let program = workspace
        .metadata()?
        .target_directory
        .join("debug")
        .join(format!("taal-fuzz{}", std::env::consts::EXE_SUFFIX));
    let mut command = std::process::Command::new(program);
    command
        .args(&fuzz.target)
        .args(["--executions", &fuzz.executions.to_string()])
        .args(["--seed", &fuzz.seed.to_string()])
        .arg("--regressions")
        .arg(workspace.root().join("fuzz/regressions"));
    if fuzz.list {
        command.arg("--list");
    }
    run(&mut command)
}

fn nightly(workspace: &Workspace, fuzz: &Fuzz) -> Result<()> {
    let target = fuzz.target.as_deref().context("--nightly needs a parser")?;
    let is_installed = workspace
        .cargo()
        .args(["fuzz", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_installed {
        bail!(
            "cargo-fuzz is not installed; `cargo install cargo-fuzz` and a nightly toolchain, or leave --nightly out"
        );
    }
    // rustup's proxy chooses the toolchain; the cargo that runs xtask cannot.
    let mut cargo = std::process::Command::new("cargo");
    crate::command::forget_this_package(&mut cargo);
    run(cargo
        .current_dir(workspace.root())
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz/cargo-fuzz", target, "--"])
        .arg(format!("-runs={}", fuzz.executions))
        .arg(format!("-seed={}", fuzz.seed)))
}
