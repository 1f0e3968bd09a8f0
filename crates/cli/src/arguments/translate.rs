//! Translating.

use clap::Args;
use taal_inference::{BeamOptions, TranslateOptions};

use super::{
    AdapterArgument, CacheArgument, DeviceArgument, JsonArgument, ModelAndTexts, WeightsArgument, from_one, from_zero,
    number,
};

/// Candidates that are followed, unless another number is asked for.
const BEAMS: usize = 5;

/// `taal translate`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object per line: source, translation, score, logprob, tokens, is_complete, cut_by, parts, unknown, source_tokens, alternatives, attention")),
    override_usage = "taal translate [OPTIONS] <DIR> [TEXT]\n       taal translate [OPTIONS] --model <DIR> [TEXT]",
    mut_arg("words", |words| words.help("Text, or a file of this name; each line is translated alone. Standard input where it is - or left out")),
    mut_arg("model", |model| model.help("Model directory or run directory of a model that translates [default: the first word]")),
    after_help = "Empty lines stay empty. Several sentences in a line are translated one by one by models that Taal\n\
                  trained.\n\n\
                  Examples:\n  taal translate runs/translate-en-nl \"The cat sat on the mat.\"\n  \
                  taal translate runs/translate-en-nl sentences.txt --beam 5 > vertaald.txt\n  \
                  taal translate runs/translate-en-nl \"Good morning\" --alternatives 3"
)]
pub struct TranslateArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    /// Language of the text, such as en; another one than the model's is refused
    #[arg(long, value_name = "LANGUAGE")]
    pub from: Option<String>,
    /// Language to translate to, such as nl; another one than the model's is refused
    #[arg(long, value_name = "LANGUAGE")]
    pub to: Option<String>,
    /// Candidates that are followed per line; 1 takes the likeliest token each time [default: 5, or one
    /// more than --alternatives where that is more]
    #[arg(long, value_name = "N", value_parser = from_one::<usize>)]
    pub beam: Option<usize>,
    /// Divide a candidate's log-probability by its number of tokens to this power: above 0, longer
    /// translations score higher
    #[arg(long, value_name = "A", default_value_t = 1.0, value_parser = number, allow_negative_numbers = true)]
    pub length_penalty: f64,
    /// Further translations per line, with their scores
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = from_zero::<usize>)]
    pub alternatives: usize,
    /// The most tokens of a translation [default: twice those of its line and 50 more]
    #[arg(long, value_name = "N", value_parser = from_one::<usize>)]
    pub max_tokens: Option<usize>,
    /// Lines that are translated together; the translations do not depend on it
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = from_one::<usize>)]
    pub batch_size: usize,
    /// Also print what each word of the translation attends to
    #[arg(long, requires = "json")]
    pub attention: bool,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

impl TranslateArguments {
    /// How to translate.
    pub fn options(&self) -> TranslateOptions {
        TranslateOptions {
            beam: BeamOptions {
                width: self.beam.unwrap_or(BEAMS.max(self.alternatives.saturating_add(1))),
                length_penalty: self.length_penalty,
                ..BeamOptions::default()
            },
            alternatives: self.alternatives,
            max_tokens: self.max_tokens,
            batch_size: self.batch_size,
            with_attention: self.attention,
        }
    }
}
