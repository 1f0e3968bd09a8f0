//! Developer verbs of Taal, with the flags and features that this workspace needs.
//!
//! Every verb prints the commands it runs on stderr. It depends on no product crate: it must build in seconds
//! and work while the product does not compile.

mod bench;
mod browser;
mod command;
mod consumers;
mod corpora;
mod crash;
mod dist;
mod equal;
mod fuzz;
mod interop;
mod package;
mod pairs;
mod parity;
mod revision;
mod suite;
mod tour;
mod train;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::workspace::Workspace;

/// Developer verbs of Taal.
///
/// Each verb prints the commands it runs (`$ ...`) on stderr and ends with the exit code of the one that failed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Build the code of the other devices too (wgpu, ndarray): 20 minutes more the first time on two cores. Tests, clippy and the verbs
    /// that use their builds
    #[arg(long, global = true)]
    gpu: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build `taal` in release with the backend that `--device` asks for, then run `taal train ARGS`
    #[command(disable_help_flag = true)]
    Train(Rest),
    /// Run all tests: unit, integration, layers, doctests
    ///
    /// Arguments go to `cargo test`. With a filter or a choice of packages (`-p taal-data`), only that runs. Without `--gpu` the crates of
    /// the GPU and of ndarray are not built, and their tests are left out.
    Test(Rest),
    /// Run the fault tests (crashes, kills, full disks, damaged files) with many cases and print their figures
    Crash(crash::Crash),
    /// Run the parsers on hostile inputs and keep those that break one
    Fuzz(fuzz::Fuzz),
    /// Open models of Hugging Face's transformers with Taal, and Taal's with transformers, and compare their logits
    Interop(interop::Interop),
    /// Compare the results of a GPU with those of the CPU: logits, losses, gradients, steps, decoding, memory
    Parity(parity::Parity),
    /// Train and run models with another commit's `taal` and with this one's, and compare every byte
    Equal(equal::Equal),
    /// Run the benchmarks, or those of one file or name
    ///
    /// `--against REF` alone runs the `taal` of both commits in turns: training, decoding and evaluation, with the 95 % interval of the
    /// ratio of their speeds. With a filter, criterion compares those benchmarks.
    Bench(Bench),
    /// Open traces, reports, a map and the page of `taal serve` in Chromium, with node and npm, and check them by pointer, keyboard and
    /// axe-core
    Browser(browser::Browser),
    /// Run the guided tours from an empty folder, and fail if the output differs from their pages
    ///
    /// Text must be equal, numbers within 2 % or the tolerance of their fence; speeds and times are not compared.
    Tour(tour::Tour),
    /// Check formatting and run clippy, with warnings as errors
    Lint,
    /// Format the sources
    Fmt {
        /// Change nothing, and fail if the formatting is wrong
        #[arg(long)]
        check: bool,
    },
    /// Run clippy on every target, with warnings as errors
    Clippy,
    /// Build the documentation of the workspace, with warnings as errors
    Doc {
        /// Show it in a browser afterwards
        #[arg(long)]
        open: bool,
    },
    /// Package every publishable crate as for crates.io and build each from its archive
    Package(Package),
    /// Build an archive for distribution: the stripped program, its manual pages, completions and all licenses
    ///
    /// Prints which libraries and which glibc the program needs. The archive is in the folder `dist` of the target
    /// folder.
    Dist,
    /// Build the corpora `dutch` and `english` from the texts that they are made of, with Python
    ///
    /// The same sources give the same bytes as the committed files.
    Corpora(corpora::Corpora),
    /// Build and run small outside projects, each of which uses one crate as an outside user would
    Consumers {
        /// Which of them (default: all); the folders in xtask/consumers
        names: Vec<String>,
    },
}

/// Arguments that belong to another program.
#[derive(Debug, Args)]
struct Rest {
    /// Passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
struct Bench {
    /// A file in benches/benches (without .rs), or a part of a benchmark's name (default: all)
    filter: Option<String>,
    /// Cargo feature of the benchmarks, for example `ndarray`
    #[arg(long)]
    features: Option<String>,
    /// Compare with an earlier commit
    #[arg(long, value_name = "REF")]
    against: Option<String>,
    /// How many pairs `--against` measures of each speed
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(5..))]
    pairs: u16,
    /// Passed on to criterion, for example `-- --save-baseline before`
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Arguments of `cargo xtask package`.
#[derive(Debug, Args)]
struct Package {
    /// Do not build the packaged crates
    #[arg(long)]
    no_verify: bool,
    /// Package a working tree with uncommitted changes
    #[arg(long)]
    allow_dirty: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            command::exit_code(&error)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let workspace = Workspace::find()?.with_gpu(cli.gpu);
    match &cli.verb {
        Verb::Train(_) => train::train(&workspace, &arguments_after_verb()),
        Verb::Test(_) => {
            let (gpu, arguments) = without_gpu_flag(arguments_after_verb());
            suite::test(&workspace.with_gpu(cli.gpu || gpu), &arguments)
        }
        Verb::Crash(arguments) => crash::crash(&workspace, arguments),
        Verb::Fuzz(fuzz) => fuzz::fuzz(&workspace, fuzz),
        Verb::Interop(interop) => interop::interop(&workspace, interop),
        Verb::Parity(arguments) => parity::parity(&workspace, arguments),
        Verb::Equal(arguments) => equal::equal(&workspace, arguments),
        Verb::Bench(bench) => bench::bench(&workspace, bench),
        Verb::Browser(arguments) => browser::browser(&workspace, arguments),
        Verb::Tour(arguments) => tour::tour(&workspace, arguments),
        Verb::Lint => suite::lint(&workspace),
        Verb::Fmt { check } => suite::fmt(&workspace, *check),
        Verb::Clippy => suite::clippy(&workspace),
        Verb::Doc { open } => suite::doc(&workspace, *open),
        Verb::Package(package) => package::package(&workspace, package),
        Verb::Dist => dist::dist(&workspace, cli.gpu),
        Verb::Corpora(arguments) => corpora::corpora(&workspace, arguments),
        Verb::Consumers { names } => consumers::consumers(&workspace, names),
    }
}

/// The arguments after the verb, read from the process because clap drops the first `--`, which cargo needs.
fn arguments_after_verb() -> Vec<OsString> {
    std::env::args_os()
        .skip(1)
        .skip_while(|argument| argument == "--gpu")
        .skip(1)
        .collect()
}

/// Removes the flag `--gpu` from the arguments of `cargo test`, up to `--`: clap does not see it after the first of them.
fn without_gpu_flag(mut arguments: Vec<OsString>) -> (bool, Vec<OsString>) {
    let end = arguments.iter().position(|argument| argument == "--");
    let place = arguments
        .iter()
        .take(end.unwrap_or(usize::MAX))
        .position(|argument| argument == "--gpu");
    if let Some(place) = place {
        arguments.remove(place);
    }
    (place.is_some(), arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_flag_gpu_is_not_an_argument_of_cargo_test() {
        let arguments = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (given, gpu, left) in [
            ("causal --gpu", true, "causal"),
            ("causal -- --gpu", false, "causal -- --gpu"),
            ("--gpu -p taal-data", true, "-p taal-data"),
        ] {
            assert_eq!(without_gpu_flag(arguments(given)), (gpu, arguments(left)), "{given}");
        }
        for typed in ["xtask --gpu test causal", "xtask test --gpu causal"] {
            let cli = Cli::try_parse_from(typed.split(' ')).expect(typed);
            assert!(cli.gpu, "{typed}");
        }
    }

    #[test]
    fn help_of_train_is_left_to_taal() {
        let cli = Cli::try_parse_from(["xtask", "train", "--help"]).expect("`--help` belongs to `taal train`");
        let Verb::Train(rest) = cli.verb else {
            panic!("parsed as another verb");
        };
        assert_eq!(rest.args, ["--help"]);
    }
}
