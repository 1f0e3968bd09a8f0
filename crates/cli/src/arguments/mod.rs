//! What can be typed.

mod about;
mod adapter;
mod asking;
mod beam;
mod card;
mod chat;
mod draft;
mod energy;
mod form;
mod inside;
mod model;
mod runs;
mod sampling;
mod serving;
mod tokens;
mod training;
mod translate;

use std::ops::Deref;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand};
use taal_draw::Language;
use taal_kernels::DeviceSpec;
use taal_model::{CacheType, WeightFormat};

pub use self::about::*;
pub use self::adapter::*;
pub use self::asking::*;
pub use self::beam::*;
pub use self::card::*;
pub use self::chat::*;
pub use self::draft::*;
pub use self::energy::*;
pub use self::form::*;
pub use self::inside::*;
pub use self::model::*;
pub use self::runs::*;
pub use self::sampling::*;
pub use self::serving::*;
pub use self::tokens::*;
pub use self::training::*;
pub use self::translate::*;

/// Train, generate, evaluate and look inside language models.
#[derive(Debug, Parser)]
#[command(
    name = "taal",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = "Example:\n  taal train && taal generate --model runs/shakespeare-char --prompt ROMEO:"
)]
pub struct Arguments {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model from a recipe
    Train(TrainArguments),
    /// Train a model further: `train` from the weights of a model directory
    Finetune(FinetuneArguments),
    /// Continue a prompt
    Generate(Box<GenerateArguments>),
    /// Compute the text of a receipt again, or say what differs
    Replay(ReplayArguments),
    /// Talk with a model
    Chat(ChatArguments),
    /// Serve models over HTTP, for OpenAI's clients
    Serve(ServeArguments),
    /// Translate lines
    Translate(TranslateArguments),
    /// Fill the gaps of a text
    Fill(FillArguments),
    /// Turn texts into vectors
    Embed(EmbedArguments),
    /// Find the words, or the lines of a file, that are nearest to a text
    Similar(SimilarArguments),
    /// Evaluate word vectors, or draw a map of them
    Embeddings(EmbeddingsArguments),
    /// Measure how well a model predicts texts
    Eval(EvalArguments),
    /// Follow one text through every stage of a model
    Trace(TraceArguments),
    /// Show what is in a model directory: layers, shapes, parameters, memory, FLOPs
    Inspect(InspectArguments),
    /// List adapters, merge one into its base, show what it changes
    Adapter(AdapterArguments),
    /// Write the model card of a model directory: data, losses, energy, how to reproduce, limits
    Card(CardArguments),
    /// Turn another program's model into a model directory
    Import(ImportArguments),
    /// Turn a model directory into another program's model
    Export(ExportArguments),
    /// Train a tokenizer, or use one
    Tokenizer(TokenizerArguments),
    /// Turn texts into token shards, and show what a recipe trains on
    Data(DataArguments),
    /// List and show the built-in recipes
    Recipes(RecipesArguments),
    /// List the runs on disk, compare some, remove what is not needed
    Runs(RunsArguments),
    /// Measure how fast this machine trains and generates
    Bench(BenchArguments),
    /// Meter a program's energy, or estimate that of a training
    Energy(EnergyArguments),
    /// Show what this machine offers: cores, memory, devices
    Doctor(DoctorArguments),
    /// Explain words such as nats, MFU and perplexity, in English or Dutch
    Glossary(GlossaryArguments),
    /// Print the completions of a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write one page per verb
    Man(ManArguments),
    /// Print the version
    #[command(hide = true)]
    Version,
}

/// Where a verb computes.
#[derive(Debug, Clone, Copy, Args)]
pub struct DeviceArgument {
    /// flex (also: cpu), ndarray, wgpu (also: gpu), wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
}

impl Deref for DeviceArgument {
    type Target = DeviceSpec;

    fn deref(&self) -> &DeviceSpec {
        &self.device
    }
}

/// Output for programs instead of for people.
#[derive(Debug, Clone, Copy, Args)]
pub struct JsonArgument {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Deref for JsonArgument {
    type Target = bool;

    fn deref(&self) -> &bool {
        &self.json
    }
}

/// The language of a page.
#[derive(Debug, Clone, Copy, Args)]
pub struct LanguageArgument {
    /// Language of the page: en or nl [default: that of the locale, if it is one of these, or en]
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: Option<Language>,
}

impl LanguageArgument {
    /// The language that was asked for, or that of the locale: the first of LC_ALL, LC_MESSAGES and LANG that is set.
    pub fn language(&self) -> Language {
        let of_locale = || {
            let mut names = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter();
            let locale = names.find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
            Language::of_locale(&locale?)
        };
        self.lang.or_else(of_locale).unwrap_or_default()
    }
}

/// How the weights are stored in memory.
#[derive(Debug, Clone, Copy, Args)]
pub struct WeightsArgument {
    /// Round the weights when the model is opened, to f16, bf16, q8_0, q4_0 or q4_k_m (CPU only: fewer bytes per token),
    /// or unpack them to f32 [default: as the files have them, and f32 of .safetensors in f16 or bf16]
    #[arg(long, value_name = "TYPE")]
    pub weights: Option<WeightFormat>,
}

/// How keys and values of earlier tokens are stored in memory.
#[derive(Debug, Clone, Copy, Args)]
pub struct CacheArgument {
    /// Keep keys and values of earlier tokens in f32 or f16 (CPU only) [default: f16 where weights are in fewer bits, or f32]
    #[arg(long, value_name = "TYPE")]
    pub cache: Option<CacheType>,
}

/// All arguments, of which every one that takes a value takes a negative number too: a message that names the range says more than one that
/// takes the number for an option.
pub fn command() -> clap::Command {
    with_negative_numbers(Arguments::command())
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match argument.get_action().takes_values() {
            true => argument.allow_negative_numbers(true),
            false => argument,
        })
        .mut_subcommands(with_negative_numbers)
}

/// A whole number that the type holds.
fn from_zero<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 0".to_string())
}

/// The same where 0 is refused later, with what to do instead.
fn from_one<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 1".to_string())
}

/// A length in tokens.
fn length(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=65_536).contains(number));
    number.ok_or_else(|| "expected a whole number from 1 to 65536".to_string())
}

/// Any number; what it is for says its range.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| {
        let point = text.replacen(',', ".", 1);
        match point.parse::<f64>() {
            Ok(_) => format!("expected a number; decimals take a point: {point}"),
            Err(_) => "expected a number".to_string(),
        }
    })
}

/// A finite number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| match text.replacen(',', ".", 1) {
        point if point != text && point.parse::<f64>().is_ok() => {
            format!("expected a number above 0; decimals take a point: {point}")
        }
        _ => "expected a number above 0".to_string(),
    })
}
