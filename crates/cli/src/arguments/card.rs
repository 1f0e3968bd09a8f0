//! The model card.

use clap::Args;

use super::{LanguageArgument, ModelPlace};

/// `taal card`
#[derive(Debug, Args)]
#[command(
    after_help = "A README.md that is not Taal's, or that was changed, is kept; the card is then README.taal.md next to it.\n\n\
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
    /// Print one JSON object: path, kept
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
}
