//! Looking inside a model, and taking it elsewhere.

use std::path::PathBuf;

use clap::Args;
use taal_exchange::Target;
use taal_model::WeightFormat;

use super::{DeviceArgument, JsonArgument, LanguageArgument, ModelAndTexts, ModelPlace, WeightsArgument, from_zero};

/// `taal trace`
#[derive(Debug, Args)]
#[command(
    override_usage = "taal trace [OPTIONS] <DIR> <TEXT>\n       taal trace [OPTIONS] --model <DIR> <TEXT|--ids <IDS>>",
    mut_arg("words", |words| words.help("Text to follow, for a masked model with [MASK]; - reads standard input")),
    mut_arg("model", |model| model.help("Model directory, run directory or GGUF file [default: the run of --checkpoints, else the first word]")),
    after_help = "Example:\n  taal trace --model runs/dutch-bpe \"De kat zat op de\" --html trace.html\n  \
                  taal trace --checkpoints runs/dutch-bpe \"De kat zat op de\"\n  \
                  taal trace runs/translate-en-nl \"The cat sleeps.\" --target \"De kat slaapt.\" --html pair.html"
)]
pub struct TraceArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub weights: WeightsArgument,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Token ids to follow, as in 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = from_zero::<u32>)]
    pub ids: Option<Vec<u32>>,
    /// Translation to follow, of a model with an encoder [default: its own]
    #[arg(long, value_name = "TEXT", conflicts_with = "ids")]
    pub target: Option<String>,
    /// Guesses per position and layer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = from_zero::<usize>)]
    pub top: usize,
    /// Also ask every checkpoint of this run
    #[arg(long, value_name = "RUN_DIR")]
    pub checkpoints: Option<PathBuf>,
    /// Write a page for the browser: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write all numbers as one JSON object; - prints it instead of the text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub lang: LanguageArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// `taal inspect`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal inspect --model runs/shakespeare-char")]
pub struct InspectArguments {
    #[command(flatten)]
    pub model: ModelPlace,
    /// Draw the layers, boxes within boxes
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal import`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print one JSON object: source, family, params, weights, tokenizer_vocab_size, notes, out")), after_help = "Example:\n  taal import --from stories260K.bin --tokenizer tok512.bin --out models/stories")]
pub struct ImportArguments {
    /// Hugging Face directory, .safetensors file next to its config.json, GGUF file or llama2.c .bin file
    #[arg(long, value_name = "FILE|DIR")]
    pub from: PathBuf,
    /// Tokenizer of any format that `taal tokenizer import` reads, instead of the model's own
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Import the model alone: prompts and continuations are token ids
    #[arg(long, conflicts_with = "tokenizer")]
    pub without_tokenizer: bool,
    /// The matrices' types in the model directory: f32, f16, bf16, q8_0, q4_0 or q4_k_m [default: those of the model]
    #[arg(long, value_name = "TYPE")]
    pub weights: Option<WeightFormat>,
    /// The model directory to make; it must not be there yet
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal export`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print one JSON object: target, tensor_type, params, bytes, tokenizer, notes, out")), after_help = "Example:\n  taal export --model runs/dutch-bpe --to gguf --type q8_0 --out dutch.gguf")]
pub struct ExportArguments {
    #[command(flatten)]
    pub model: ModelPlace,
    /// hf (a directory for transformers), gguf (a file for llama.cpp) or llama2c (a file for llama2.c)
    #[arg(long, value_name = "FORMAT")]
    pub to: Target,
    /// The file or directory to make; it must not be there yet
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// The matrices' types: f32, f16, bf16, q8_0, q4_0 or q4_k_m, as `llama-quantize` gives them; llama2c has f32 only
    /// [default: those of the model]
    #[arg(long = "type", alias = "weights", value_name = "TYPE")]
    pub format: Option<WeightFormat>,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}
