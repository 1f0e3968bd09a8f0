//! Adapters: which ones there are, what they change, and models made of them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use taal_exchange::Target;
use taal_model::WeightFormat;

use super::{DeviceArgument, JsonArgument};

/// The adapter of a verb that asks a model.
#[derive(Debug, Clone, Default, Args)]
pub struct AdapterArgument {
    /// Put this adapter on the model: a directory of PEFT's, or a run that trained one
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

/// `taal adapter`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal adapter list && taal adapter merge runs/tuned --out merged"
)]
pub struct AdapterArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: AdapterCommand,
}

/// `taal adapter ...`
#[derive(Debug, Subcommand)]
pub enum AdapterCommand {
    /// List adapters with their rank, size and base
    List(AdapterListArguments),
    /// Add an adapter to the weights of its base, and write the result as a model
    Merge(AdapterMergeArguments),
    /// Show how much an adapter changes each layer, alone or next to another one
    Diff(AdapterDiffArguments),
}

/// `taal adapter list`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print a JSON list: dir, rank, alpha, rslora, targets, parameters, base, base_blake3")), after_help = "Example:\n  taal adapter list runs")]
pub struct AdapterListArguments {
    /// Where to look: adapter directories, runs, or directories with such
    #[arg(value_name = "DIR", default_value = crate::train::RUNS)]
    pub dirs: Vec<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal adapter merge`
#[derive(Debug, Args)]
#[command(
    after_help = "What is written is opened again, and its logits compared with those of the merged weights in memory.\n\n\
                  Example:\n  taal adapter merge runs/tuned --out merged\n  \
                  taal adapter merge runs/tuned --to gguf --type q8_0 --out tuned.gguf"
)]
pub struct AdapterMergeArguments {
    /// Adapter directory or run that trained one
    #[arg(value_name = "ADAPTER")]
    pub adapter: PathBuf,
    /// The base model [default: the one that the adapter names]
    #[arg(short, long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// hf, for a model directory, or gguf
    #[arg(long, default_value = "hf", value_name = "FORMAT")]
    pub to: Target,
    /// Type of the matrices: f32, f16, bf16, q8_0, q4_0 or q4_k_m [default: as the base has them, and f32 where the
    /// adapter was added]
    #[arg(long = "type", value_name = "TYPE")]
    pub format: Option<WeightFormat>,
    /// The directory or file to write; it must not exist
    #[arg(short, long, value_name = "PATH")]
    pub out: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal adapter diff`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print a JSON list: layer, relative, other, cosine")), after_help = "Example:\n  taal adapter diff runs/tuned runs/tuned-2")]
pub struct AdapterDiffArguments {
    /// Adapter directory or run that trained one
    #[arg(value_name = "ADAPTER")]
    pub adapter: PathBuf,
    /// Another adapter of the same base
    #[arg(value_name = "OTHER")]
    pub other: Option<PathBuf>,
    /// The base model [default: the one that the adapter names]
    #[arg(short, long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}
