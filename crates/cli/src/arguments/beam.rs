//! How beam search goes.

use clap::Args;
use taal_inference::{BeamOptions, EarlyStopping};

use super::{from_one, number};

/// The settings of beam search.
#[derive(Debug, Clone, Args)]
pub struct BeamArguments {
    /// Follow the N most probable texts instead of drawing one, and print the best
    #[arg(
        long,
        value_name = "N",
        value_parser = from_one::<usize>,
        conflicts_with_all = [
            "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "stop", "no_cache", "draft", "draft_ngram",
        ]
    )]
    pub beam: Option<usize>,
    /// Divide a beam's log-probability by its number of tokens to this power
    #[arg(long, value_name = "A", default_value_t = 1.0, value_parser = number, requires = "beam", allow_negative_numbers = true)]
    pub length_penalty: f64,
    /// When beams end: once the best running one scores lower (estimate), N are complete (filled), or
    /// none can score higher (never)
    #[arg(long, value_name = "RULE", default_value = "estimate", value_parser = early_stopping, requires = "beam")]
    pub early_stopping: EarlyStopping,
}

impl BeamArguments {
    /// The settings, if beam search was asked for.
    pub fn options(&self) -> Option<BeamOptions> {
        self.beam.map(|width| BeamOptions {
            width,
            length_penalty: self.length_penalty,
            early_stopping: self.early_stopping,
        })
    }
}

fn early_stopping(text: &str) -> Result<EarlyStopping, String> {
    match text {
        "estimate" => Ok(EarlyStopping::Estimate),
        "filled" => Ok(EarlyStopping::Filled),
        "never" => Ok(EarlyStopping::Never),
        _ => Err("expected estimate, filled or never".to_owned()),
    }
}
