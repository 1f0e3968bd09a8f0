//! How each token is chosen.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use taal_inference::Sampling;

use super::{from_one, from_zero, number};

/// The settings of a draw.
#[derive(Debug, Clone, Args)]
pub struct SamplingArguments {
    /// 0 always takes the most likely token, 1 samples the model's own probabilities
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = number)]
    pub temperature: f64,
    /// Sample from the K most likely tokens only
    #[arg(long, value_name = "K", value_parser = from_one::<usize>)]
    pub top_k: Option<usize>,
    /// Sample from the most likely tokens that together have probability P
    #[arg(long, value_name = "P", value_parser = number)]
    pub top_p: Option<f64>,
    /// Sample from tokens at least P times as likely as the most likely one
    #[arg(long, value_name = "P", value_parser = number)]
    pub min_p: Option<f64>,
    /// Sample from the tokens nearest to the expected surprisal that together have probability P
    #[arg(long, value_name = "P", value_parser = number)]
    pub typical_p: Option<f64>,
    /// More than 1 discourages tokens that have occurred before
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = number)]
    pub repetition_penalty: f64,
    /// More than 0 discourages tokens of the new text, the more often they occur; from -2 to 2
    #[arg(long, value_name = "F", default_value_t = 0.0, value_parser = number)]
    pub frequency_penalty: f64,
    /// More than 0 discourages tokens that occur in the new text; from -2 to 2
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = number)]
    pub presence_penalty: f64,
    /// Add B to the logit of the token with this id, from -100 (never) to 100 (always) (may be repeated)
    #[arg(long, value_name = "ID=B", value_parser = bias)]
    pub logit_bias: Vec<(u32, f64)>,
    /// Equal seeds give equal texts [default: random]
    #[arg(long, value_name = "S", value_parser = from_zero::<u64>)]
    pub seed: Option<u64>,
}

impl SamplingArguments {
    /// The settings, with a seed of the clock where none was given.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            logit_bias: self.logit_bias.iter().copied().collect::<BTreeMap<_, _>>(),
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            seed: self.seed.unwrap_or_else(seed_of_the_clock),
        }
    }

    /// Whether the seed is one that nobody gave and that matters.
    pub fn has_random_seed(&self) -> bool {
        self.seed.is_none() && self.temperature > 0.0
    }
}

fn bias(text: &str) -> Result<(u32, f64), String> {
    let expected = || "expected a token id and a number, as in 17=-100".to_string();
    let (id, bias) = text.split_once('=').ok_or_else(expected)?;
    Ok((id.trim().parse().map_err(|_| expected())?, number(bias.trim())?))
}

/// Another seed each time, short enough to be typed again.
fn seed_of_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    taal_kernels::random::key(now.as_nanos() as u64, u64::from(std::process::id()), "cli/seed") % 1_000_000_000
}
