//! Models for others: `taal serve`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use taal_inference::SpeculativeOptions;

use super::{CacheArgument, DeviceArgument, WeightsArgument, from_one, from_zero};
use crate::terminal;

/// `taal serve`
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("drafts").multiple(true),
    after_help = "Without a key only this machine can ask: --host 0.0.0.0 needs --api-key-file FILE or the key in\n\
                  TAAL_API_KEY. Ctrl-C finishes the answers under way, a second one stops at once.\n\n\
                  Example:\n  taal serve --model runs/shakespeare-char\n  \
                  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\\n    \
                  -d '{\"prompt\": \"ROMEO:\", \"max_tokens\": 50}'"
)]
pub struct ServeArguments {
    /// Model directory, run directory or GGUF file, and the name that requests use [default: the name of the directory] (may be
    /// repeated; the first one answers requests that name none)
    #[arg(short, long, value_name = "[NAME=]DIR", required_unless_present = "run")]
    pub model: Vec<NamedModel>,
    /// Adapter of a model, which requests name MODEL:NAME, in one batch with it (may be repeated); it belongs to the first model
    /// unless it is given as MODEL:NAME=DIR
    #[arg(long, value_name = "NAME=DIR", requires = "model")]
    pub adapter: Vec<NamedAdapter>,
    /// Smaller model with the same tokenizer that guesses the next tokens of a model's answers, which stay the same, to the byte on the
    /// CPU (may be repeated); it drafts for the first model unless it is given as NAME=DIR
    #[arg(long, value_name = "[NAME=]DIR", group = "drafts")]
    pub draft: Vec<NamedModel>,
    /// Guess the next tokens of models without a draft from the text so far: those after the last earlier place of its last N tokens
    #[arg(long, value_name = "N", value_parser = from_one::<usize>, group = "drafts")]
    pub draft_ngram: Option<usize>,
    /// The most tokens that are guessed at once; answers that are computed together share them
    #[arg(
        long,
        value_name = "N",
        default_value_t = SpeculativeOptions::DEFAULT_TOKENS,
        value_parser = from_one::<usize>,
        requires = "drafts"
    )]
    pub draft_tokens: usize,
    /// Run directory whose newest checkpoint is served, also while it trains; a newer one answers the next request
    #[arg(long, value_name = "[NAME=]DIR")]
    pub run: Option<NamedModel>,
    /// Who gets the processors first: with train, answers wait for a training on this machine
    #[arg(long, value_enum, default_value_t = Priority::Train, requires = "run")]
    pub priority: Priority,
    /// Address to listen on; 0.0.0.0 for all networks
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 for any free one
    #[arg(long, default_value_t = 8080, value_parser = port)]
    pub port: u16,
    /// File with the key that requests must carry [default: the environment variable TAAL_API_KEY]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Requests that are computed at once; each has its own key/value cache
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = from_one::<usize>)]
    pub slots: usize,
    /// Tokens of a prompt and its answer together [default: the model's context]
    #[arg(long, value_name = "N", value_parser = from_one::<usize>)]
    pub context: Option<usize>,
    /// Requests that may wait; further ones are answered with 429
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = from_one::<usize>)]
    pub queue: usize,
    /// Seconds that a request may wait; then it is answered with 503
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = from_one::<u64>)]
    pub queue_seconds: u64,
    /// Seconds that answers under way may take after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = from_zero::<u64>)]
    pub stop_seconds: u64,
    /// Folder where the page keeps conversations, or none for the browser's storage [default: taal in the folder of the user's data]
    #[arg(long, value_name = "DIR")]
    pub conversations: Option<PathBuf>,
    /// Folder of runs that the page shows, or none
    #[arg(long, value_name = "DIR", default_value = crate::train::RUNS)]
    pub runs: PathBuf,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Print one JSON object per request on standard error: method, path, status, seconds
    #[arg(long)]
    pub log: bool,
}

/// Who gets the processors first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    // Without doc comments, which would make the help of all options long.
    Train,
    Serve,
}

/// A model and its name.
#[derive(Debug, Clone)]
pub struct NamedModel {
    /// The name that was given.
    pub name: Option<String>,
    /// Where it is.
    pub dir: PathBuf,
}

impl FromStr for NamedModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let dir = PathBuf::from(text);
        match text.split_once('=') {
            // A directory may have an equals sign in its name.
            Some((name, rest)) if !dir.exists() => match (name, rest) {
                ("", _) | (_, "") => Err("expected NAME=DIR or DIR".to_owned()),
                (name, rest) => Ok(Self {
                    name: Some(name.to_owned()),
                    dir: PathBuf::from(rest),
                }),
            },
            _ => Ok(Self { name: None, dir }),
        }
    }
}

impl NamedModel {
    /// The name that requests use: of the directory's name what a request can carry.
    pub fn request_name(&self) -> String {
        let name = || {
            let name = terminal::model_name(&self.dir);
            let fit = |character: char| match character {
                character if character.is_ascii_alphanumeric() || "-_.".contains(character) => character,
                _ => '-',
            };
            name.chars().map(fit).take(128).collect()
        };
        self.name.clone().unwrap_or_else(name)
    }
}

/// An adapter, its name, and the name of its model.
#[derive(Debug, Clone)]
pub struct NamedAdapter {
    /// The model's name; the first model without it.
    pub model: Option<String>,
    /// The adapter's own name.
    pub name: String,
    /// Where it is.
    pub dir: PathBuf,
}

impl FromStr for NamedAdapter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dir) = text.split_once('=').unwrap_or_default();
        let (model, name) = match name.rsplit_once(':') {
            Some((model, name)) => (Some(model.to_owned()), name),
            None => (None, name),
        };
        match name.is_empty() || dir.is_empty() || model.as_deref() == Some("") {
            true => Err("expected NAME=DIR or MODEL:NAME=DIR".to_owned()),
            false => Ok(Self {
                model,
                name: name.to_owned(),
                dir: PathBuf::from(dir),
            }),
        }
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 0 to 65535".to_owned())
}
