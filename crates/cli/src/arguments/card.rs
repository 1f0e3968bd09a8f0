//! The model card.

use clap::Args;

use super::{JsonArgument, LanguageArgument, ModelPlace};

/// `taal card`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: path, kept").conflicts_with("print")),
    mut_arg("dir", |dir| dir.help("Model directory or run directory")),
    after_help = "A README.md that is not Taal's, or that was changed, is kept; the card is then README.taal.md\n\
                  next to it.\n\n\
                  Example:\n  taal card --model runs/shakespeare-char --lang nl"
)]
pub struct CardArguments {
    #[command(flatten)]
    pub model: ModelPlace,
    #[command(flatten)]
    pub lang: LanguageArgument,
    /// Print the card instead of writing it
    #[arg(long)]
    pub print: bool,
    #[command(flatten)]
    pub json: JsonArgument,
}
