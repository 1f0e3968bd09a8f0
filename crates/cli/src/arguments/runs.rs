//! Runs on disk.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::JsonArgument;

/// `taal runs`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  taal runs && taal runs compare shakespeare-char shakespeare-char-2"
)]
pub struct RunsArguments {
    /// The verb; the list where there is none.
    #[command(subcommand)]
    pub command: Option<RunsCommand>,
    /// Where to look
    #[arg(value_name = "DIR", default_value = crate::train::RUNS)]
    pub dir: PathBuf,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal runs ...`
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// Show in what runs differ and what came of it
    Compare(RunsCompareArguments),
    /// Remove old checkpoints of finished runs, and what was left unfinished
    Clean(RunsCleanArguments),
}

/// `taal runs compare`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal runs compare shakespeare-char shakespeare-char-2 --html compare.html")]
pub struct RunsCompareArguments {
    /// Run directories, or names of runs in runs/
    #[arg(value_name = "RUN", num_args = 2..=taal_draw::Comparison::MAX_RUNS, required = true)]
    pub runs: Vec<PathBuf>,
    /// Write a page with the curves of all of them
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal runs clean`
#[derive(Debug, Args)]
#[command(
    after_help = "It says what would go and asks. The newest and the best checkpoint of a run stay, and so does\n\
                  everything that Taal did not write.\n\nExample:\n  taal runs clean"
)]
pub struct RunsCleanArguments {
    /// Where to look: a run directory, or one with runs in it
    #[arg(value_name = "DIR", default_value = crate::train::RUNS)]
    pub dir: PathBuf,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
