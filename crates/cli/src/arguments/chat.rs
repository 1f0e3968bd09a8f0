//! Talking with a model.

use clap::Args;

use super::{
    AdapterArgument, CacheArgument, DeviceArgument, DraftArguments, ModelPlace, SamplingArguments, WeightsArgument,
    from_zero,
};

/// `taal chat`
#[derive(Debug, Args)]
#[command(
    after_help = "A model with a chat template answers; another one continues what you type. Type /help for what can\n\
                  be typed; Ctrl-C stops an answer and not the program. Where standard input is not a terminal, each\n\
                  line is a message.\n\n\
                  Example:\n  taal chat --model runs/talk --system \"Answer in one sentence.\""
)]
pub struct ChatArguments {
    #[command(flatten)]
    pub model: ModelPlace,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    /// Instructions that come before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Continue texts, as if the model had no chat template
    #[arg(long, conflicts_with = "system")]
    pub no_template: bool,
    /// The most tokens of an answer
    #[arg(long, alias = "max-new-tokens", value_name = "N", default_value_t = 512, value_parser = from_zero::<usize>)]
    pub max_tokens: usize,
    #[command(flatten)]
    pub sampling: SamplingArguments,
    /// Text that ends an answer, special tokens included (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub draft: DraftArguments,
    #[command(flatten)]
    pub device: DeviceArgument,
}
