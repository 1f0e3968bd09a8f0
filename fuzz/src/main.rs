//! `taal-fuzz`: runs targets on mutated inputs, in child processes, and keeps what breaks them.

mod child;
mod parent;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use taal_fuzz::{Target, run, target, targets};

/// Runs Taal's parsers on mutated inputs.
///
/// Prints a line for every target. An input that makes one panic, abort, hang or take too much memory is written to regressions/TARGET/,
/// where the tests find it, and the exit code is 1.
#[derive(Debug, Parser)]
#[command(name = "taal-fuzz", max_term_width = 100)]
struct Arguments {
    /// The target (default: all, one after another)
    target: Option<String>,
    /// Executions of each target
    #[arg(long, default_value_t = 10_000)]
    executions: u64,
    /// Inputs are a function of seed, target and index
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Index of the first execution; with `--executions 1`, the one to repeat
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run the target on this file instead, in this process, with all its output
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Print the names of the targets
    #[arg(long)]
    list: bool,
    /// Where to keep inputs that break something
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"))]
    regressions: PathBuf,
    /// Run in this process and report to the one that started it
    #[arg(long, hide = true, value_name = "DIR", requires = "target")]
    child: Option<PathBuf>,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode> {
    let chosen: Vec<&Target> = match &arguments.target {
        Some(name) => vec![find(name)?],
        None => targets().iter().collect(),
    };
    if arguments.list {
        chosen.iter().for_each(|target| println!("{}", target.name));
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(path), [target]) = (&arguments.input, chosen.as_slice()) {
        return replay(target, path);
    }
    if let (Some(scratch), [target]) = (&arguments.child, chosen.as_slice()) {
        child::run(target, arguments.seed, arguments.from, arguments.executions, scratch)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut faults = 0;
    println!("{}", parent::Report::HEADER);
    for target in chosen {
        let report = parent::run(target, arguments)?;
        println!("{report}");
        faults += report.faults;
    }
    Ok(ExitCode::from(u8::from(faults > 0)))
}

fn find(name: &str) -> Result<&'static Target> {
    let Some(target) = target(name) else {
        let names: Vec<_> = targets().iter().map(|target| target.name).collect();
        bail!("no target `{name}`: expected one of {}", names.join(", "));
    };
    Ok(target)
}

fn replay(target: &Target, path: &PathBuf) -> Result<ExitCode> {
    let input = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let folder = taal_fuzz::scratch::temporary().context("cannot make a temporary folder")?;
    taal_fuzz::scratch::use_folder(folder.path());
    run::warm_up(target);
    let execution = run::execute(target, &input);
    println!("{execution:?}");
    Ok(ExitCode::from(u8::from(execution.fault.is_some())))
}
