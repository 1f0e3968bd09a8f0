//! Training, its recipes, and what the machine can do.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use taal_kernels::Precision;
use taal_metrics::energy::Joule;
use taal_trainer::bench::BenchShape;

use super::{
    CacheArgument, DeviceArgument, DraftArguments, JsonArgument, LanguageArgument, WeightsArgument, from_one,
    from_zero, length, number, positive,
};

/// `taal train`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.requires("dry_run")),
    after_help = "Example:\n  taal train --recipe shakespeare-char --set train.steps=1000 --set model.n_layers=6\n\n\
                  Ctrl-C saves after the step under way; `taal train --resume` continues from there."
)]
pub struct TrainArguments {
    /// Embedded recipe or TOML file [default: shakespeare-char]
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    pub word: Option<String>,
    /// The same as RECIPE
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Where the run is kept [default: the next free runs/<recipe>[-N]]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Change a value of the recipe, as in train.lr=3e-4 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Continue --run-dir, or the latest run in runs/ (with --recipe, the latest of it); never
    /// starts a new one
    #[arg(long)]
    pub resume: bool,
    /// Train nothing: show what would be read, rows as the model sees them, memory, disk and time
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Save and stop when the run has taken this energy, as in 0.05kWh (J, kJ, MJ, Wh, kWh, MWh)
    #[arg(long, value_name = "ENERGY", value_parser = Joule::parse, allow_hyphen_values = true, conflicts_with = "dry_run")]
    pub energy_budget: Option<Joule>,
    #[command(flatten)]
    pub json: JsonArgument,
    #[command(flatten)]
    pub lang: LanguageArgument,
}

impl TrainArguments {
    /// The recipe that was named, either way.
    pub fn recipe(&self) -> Option<&str> {
        self.recipe.as_deref().or(self.word.as_deref())
    }
}

/// `taal finetune`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.requires("dry_run")),
    after_help = "Example:\n  taal finetune --model runs/dutch-bpe --recipe answers.toml\n\n\
                  The run is continued as any other: taal train --resume --run-dir DIR."
)]
pub struct FinetuneArguments {
    /// Model directory or run directory to start from
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
    /// Embedded recipe or TOML file; its [tokenizer] and [model] give way to the model's
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: String,
    /// Where the run is kept [default: the next free runs/<recipe>[-N]]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Change a value of the recipe, as in train.lr=3e-4 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Nats per token that the loss on old data may rise by, as replay.budget: more old data are mixed
    /// in until it holds, and the result is the best checkpoint that held it
    #[arg(long, value_name = "NATS", allow_hyphen_values = true, value_parser = number)]
    pub forget_budget: Option<f64>,
    /// Train nothing: show what would be read, rows as the model sees them, memory, disk and time
    #[arg(long)]
    pub dry_run: bool,
    /// Save and stop when the run has taken this energy, as in 0.05kWh (J, kJ, MJ, Wh, kWh, MWh)
    #[arg(long, value_name = "ENERGY", value_parser = Joule::parse, allow_hyphen_values = true, conflicts_with = "dry_run")]
    pub energy_budget: Option<Joule>,
    #[command(flatten)]
    pub json: JsonArgument,
    #[command(flatten)]
    pub lang: LanguageArgument,
}

impl FinetuneArguments {
    /// Refuses two different budgets.
    ///
    /// # Errors
    ///
    /// Both of them.
    pub fn check_budgets(&self) -> Result<(), anyhow::Error> {
        let set = self.set.iter().rev().find_map(|set| {
            let (key, value) = set.split_once('=')?;
            (key.trim() == "replay.budget").then_some(value.trim())
        });
        match (self.forget_budget, set) {
            (Some(budget), Some(set)) if set.parse() != Ok(budget) => Err(anyhow::anyhow!(
                "--forget-budget {budget} and --set replay.budget={set} are two different budgets: leave one of them out"
            )),
            _ => Ok(()),
        }
    }
}

/// The setting of a recipe that starts from this model.
pub fn start_from(model: &Path) -> String {
    // A string of Rust is one of TOML, too, but for its way to escape characters that no path has.
    format!("train.init_from={:?}", model.display().to_string())
}

impl From<FinetuneArguments> for TrainArguments {
    fn from(arguments: FinetuneArguments) -> Self {
        let model = start_from(&arguments.model);
        let budget = arguments
            .forget_budget
            .map(|budget| format!("replay.budget={budget:?}"));
        Self {
            word: None,
            recipe: Some(arguments.recipe),
            run_dir: arguments.run_dir,
            device: arguments.device,
            set: std::iter::once(model).chain(budget).chain(arguments.set).collect(),
            resume: false,
            dry_run: arguments.dry_run,
            json: arguments.json,
            lang: arguments.lang,
            energy_budget: arguments.energy_budget,
        }
    }
}

/// `taal recipes`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal recipes show shakespeare-char > mine.toml && taal train --recipe mine.toml")]
pub struct RecipesArguments {
    /// The verb; without one, the list.
    #[command(subcommand)]
    pub command: Option<RecipesCommand>,
}

/// `taal recipes ...`
#[derive(Debug, Subcommand)]
pub enum RecipesCommand {
    /// List the built-in recipes, as `taal recipes` does
    #[command(after_help = "Example:\n  taal recipes list")]
    List,
    /// Print a recipe
    Show(RecipesShowArguments),
    /// List every key of a recipe: type, range, default and meaning
    Keys(RecipesKeysArguments),
}

/// `taal recipes keys`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print a JSON list of key, type, range, default, meaning")), after_help = "Example:\n  taal recipes keys | grep train.")]
pub struct RecipesKeysArguments {
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal recipes show`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal recipes show nanogpt-cpu --resolved --set train.steps=100")]
pub struct RecipesShowArguments {
    /// Embedded recipe or TOML file
    #[arg(value_name = "NAME|FILE")]
    pub name: String,
    /// Print every value and where it comes from
    #[arg(long)]
    pub resolved: bool,
    /// Change a value, as in train.lr=3e-4 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", requires = "resolved")]
    pub set: Vec<String>,
}

/// `taal bench`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench train --shape baby")]
pub struct BenchArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// `taal bench ...`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Time whole training steps of a known shape
    Train(BenchTrainArguments),
    /// Time reading a prompt and generating after it
    Generate(BenchGenerateArguments),
    /// Time requests of many clients at once, and one after another
    Serve(BenchServeArguments),
    /// Train a recurrent network and the transformer, and compare them
    Paradigm(BenchParadigmArguments),
    /// Train a task from new weights and from a pre-trained model, with a share of its compute
    Transfer(BenchTransferArguments),
    /// Measure what metering energy takes of a processor
    Meter(BenchMeterArguments),
    /// Train short runs, and grade the forecasts of their time, energy and loss
    Forecast(BenchForecastArguments),
    /// Measure time and energy to a validation loss, also those of another program
    Speedrun(BenchSpeedrunArguments),
    /// Train variants of a recipe, and compare their time, energy and loss
    Green(BenchGreenArguments),
}

/// `taal bench forecast`
#[derive(Debug, Args)]
#[command(after_help = "Runs that are finished in --dir are not trained again.\n\n\
                  Example:\n  taal bench forecast --runs 5")]
pub struct BenchForecastArguments {
    /// How many of the 45 short runs
    #[arg(long, value_name = "N", default_value_t = taal_experiments::forecasts::RUNS, value_parser = from_one::<usize>)]
    pub runs: usize,
    /// Where the runs are kept
    #[arg(long, value_name = "DIR", default_value = "runs/forecast")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench speedrun`
#[derive(Debug, Args)]
#[command(
    after_help = "Start-up and evaluations count. Another program prints a JSON object with val_loss in its last\n\
                  line; {seed} in its arguments is replaced. docs/speedrun.md has the rules.\n\n\
                  Example:\n  taal bench speedrun -- python docs/speedrun/nanogpt.py --data input.txt --seed {seed}"
)]
pub struct BenchSpeedrunArguments {
    /// Embedded recipe or TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "speedrun")]
    pub recipe: String,
    /// Change a value of the recipe (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Validation loss to reach, in nats per token
    #[arg(long, value_name = "NATS", default_value = "1.92", value_parser = positive)]
    pub loss: f64,
    /// Seeds; the median over them counts
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1337, 1, 2], value_parser = from_zero::<u64>)]
    pub seed: Vec<u64>,
    /// Where Taal's runs are kept; none of them may be there yet
    #[arg(long, value_name = "DIR", default_value = "runs/speedrun")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub json: JsonArgument,
    /// The other program and its arguments
    #[arg(value_name = "COMMAND", last = true)]
    pub peer: Vec<std::ffi::OsString>,
}

/// `taal bench green`
#[derive(Debug, Args)]
#[command(
    after_help = "Each variant is a run in --dir; those that are finished there are not trained again, so an\n\
                  interrupted comparison continues. Only figures of a machine that does nothing else count.\n\n\
                  Example:\n  taal bench green --svg green.svg"
)]
pub struct BenchGreenArguments {
    /// Embedded recipe or TOML file that is varied
    #[arg(long, value_name = "NAME|FILE", default_value = taal_trainer::DEFAULT_RECIPE)]
    pub recipe: String,
    /// Change a value of the recipe, for all variants (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Steps of the recipe; variants that change them are scaled [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = from_one::<u64>)]
    pub steps: Option<u64>,
    /// Only these variants (may be repeated) [default: all]
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Steps of an LSTM, a transformer and a fine-tuned model that are compared at the same loss; 0 for none
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = from_zero::<u64>)]
    pub contest_steps: u64,
    /// Where the runs are kept
    #[arg(long, value_name = "DIR", default_value = "runs/green")]
    pub dir: PathBuf,
    /// Write a chart of energy and loss
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench meter`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench meter --seconds 60")]
pub struct BenchMeterArguments {
    /// Seconds of the measurement
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = positive)]
    pub seconds: f64,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench train`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench train --shape baby --json")]
pub struct BenchTrainArguments {
    /// cpu (4 layers of 128), baby (6 of 384), small or gpt2 (12 of 768, vocabulary 50,304; length 256 or 1,024)
    #[arg(long, default_value = "cpu")]
    pub shape: BenchShape,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Measured steps [default: a few seconds of them]
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub steps: Option<usize>,
    /// Rows per batch [default: 12, 16, 1 or 4 by shape, as in published measurements]
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub batch_size: Option<usize>,
    /// fp32, bf16 or f16: what products are computed in
    #[arg(long, default_value = "fp32", value_name = "TYPE")]
    pub precision: Precision,
    /// Train an adapter of this rank in all linear layers of the blocks instead of the model
    #[arg(long, value_name = "RANK", value_parser = from_one::<usize>)]
    pub lora: Option<usize>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench generate`
#[derive(Debug, Args)]
#[command(
    mut_arg("draft", |draft| draft.help("Also time one text, alone and with this smaller model that guesses its next tokens")),
    mut_arg("draft_ngram", |ngram| ngram.help("The same with guesses from the text itself: the tokens after the last earlier place of its last N")),
    after_help = "Example:\n  taal bench generate --model runs/shakespeare-char --batch 1,8"
)]
pub struct BenchGenerateArguments {
    /// Model directory, run directory or GGUF file [default: random weights in GPT-2 124M's shape]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    /// How many texts are generated at once, as in 1,8
    #[arg(long, alias = "rows", value_name = "N", value_delimiter = ',', default_values_t = [1, 8], value_parser = from_zero::<usize>)]
    pub batch: Vec<usize>,
    /// Tokens of the prompt, which decoding looks back at
    #[arg(long, alias = "depth", value_name = "N", default_value_t = 128, value_parser = from_zero::<usize>)]
    pub prompt_tokens: usize,
    /// Tokens generated after it
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = from_zero::<usize>)]
    pub max_tokens: usize,
    #[command(flatten)]
    pub draft: DraftArguments,
    /// Text to continue with the draft [default: --prompt-tokens of all ids]
    #[arg(long, value_name = "TEXT", requires = "drafts")]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench serve`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench serve --clients 64 --requests 20")]
pub struct BenchServeArguments {
    /// Model directory or run directory [default: random weights, 6 layers of 384, a vocabulary of 4,096]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    /// Clients that ask at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = from_one::<usize>)]
    pub clients: usize,
    /// Requests of each client
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = from_one::<usize>)]
    pub requests: usize,
    /// Requests one after another, for comparison
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = from_one::<usize>)]
    pub alone: usize,
    /// Random tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = from_one::<usize>)]
    pub prompt_tokens: usize,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = from_one::<usize>)]
    pub max_tokens: usize,
    /// Requests that are computed at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = from_one::<usize>)]
    pub slots: usize,
    #[command(flatten)]
    pub draft: DraftArguments,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench paradigm`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench paradigm --recipe dutch-bpe --seconds 120 --svg positions.svg")]
pub struct BenchParadigmArguments {
    /// Embedded recipe or TOML file of the transformer; the LSTM gets as many parameters
    #[arg(long, value_name = "NAME|FILE", default_value = "dutch-bpe")]
    pub recipe: String,
    /// Change a value of the recipe, for both networks (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Training time of each network in seconds; with three learning rates each, all of it takes over ten times as long
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS", value_parser = positive)]
    pub seconds: f64,
    /// Lengths at which the time per training token is measured
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [64, 256, 1024],
          value_parser = length)]
    pub lengths: Vec<u64>,
    /// Steps in which each network learns to copy up to 32 symbols
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = from_zero::<u64>)]
    pub copy_steps: u64,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Write a chart of the loss by position
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal bench transfer`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal bench transfer --model runs/dutch-bpe --task chat-tldr --svg transfer.svg\n\n\
                  Trainings that are finished in --run-dir are not made again, so the same command continues a comparison."
)]
pub struct BenchTransferArguments {
    /// Run directory of the pre-trained model, which knows what it was trained on
    #[arg(short, long, value_name = "RUN")]
    pub model: PathBuf,
    /// Embedded recipe or TOML file to learn (may be repeated)
    #[arg(long, value_name = "NAME|FILE", required = true)]
    pub task: Vec<String>,
    /// Percents of the compute of the pre-training that each training of a task gets
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_values_t = [1.0, 3.0, 10.0], value_parser = positive)]
    pub percent: Vec<f64>,
    /// Trainings of each kind, with seeds from 1
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = from_one::<u64>)]
    pub seeds: u64,
    /// Multiples of the recipe's learning rate to try with the first seed
    #[arg(long, value_name = "X", value_delimiter = ',', default_values_t = [0.3, 1.0, 3.0], value_parser = positive)]
    pub rates: Vec<f64>,
    /// Where the trainings are kept
    #[arg(long, value_name = "DIR", default_value = "runs/transfer")]
    pub run_dir: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Write a chart of the first task: loss by share of the compute
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal doctor`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal doctor --json")]
pub struct DoctorArguments {
    #[command(flatten)]
    pub json: JsonArgument,
}
