//! Asking a model: texts, gaps, vectors, scores.

use std::ops::Deref;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use taal_evaluation::Normalize;
use taal_inference::Pooling;

use super::{
    AdapterArgument, BeamArguments, CacheArgument, DeviceArgument, DraftArguments, FormArguments, JsonArgument,
    LanguageArgument, ModelAndTexts, ModelArgument, SamplingArguments, WeightsArgument, from_zero,
};

/// How texts become vectors.
#[derive(Debug, Clone, Copy, Args)]
pub struct PoolArgument {
    /// How the states of all tokens become one vector: mean, cls, max, last, or
    /// input for the tokens' own vectors before any layer [default: that of
    /// modules.json, else mean]
    #[arg(long, value_name = "POOLING")]
    pub pool: Option<Pooling>,
}

impl Deref for PoolArgument {
    type Target = Option<Pooling>;

    fn deref(&self) -> &Option<Pooling> {
        &self.pool
    }
}

/// Texts from files.
#[derive(Debug, Clone, Args)]
pub struct LinesArgument {
    /// A file, each line of which is a text (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub lines: Vec<PathBuf>,
}

impl Deref for LinesArgument {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.lines
    }
}

/// `taal fill`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: text, filled, gaps, ranks")),
    override_usage = "taal fill [OPTIONS] <DIR> <TEXT>\n       taal fill [OPTIONS] --model <DIR> <TEXT>",
    mut_arg("words", |words| words.help("Text with at least one [MASK]; - reads standard input")),
    mut_arg("model", |model| model.help("Model directory or run directory of a masked model [default: the first word]")),
    after_help = "Example:\n  taal fill --model runs/dutch-mlm \"De kat zat op de [MASK].\" --top 5 --rank mat"
)]
pub struct FillArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Guesses per gap
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = from_zero::<usize>)]
    pub top: usize,
    /// Say which rank this word has in the first gap (may be repeated)
    #[arg(long, value_name = "WORD")]
    pub rank: Vec<String>,
    /// Also guess pieces that only continue a word
    #[arg(long)]
    pub pieces: bool,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal embed`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object per text: text, embedding")),
    override_usage = "taal embed [OPTIONS] <DIR> [TEXT]...\n       taal embed [OPTIONS] --model <DIR> [TEXT]...",
    mut_arg("words", |words| words.help("Texts; - reads standard input")),
    after_help = "Example:\n  taal embed --model runs/dutch-mlm \"de kat\" \"de hond\" --json"
)]
pub struct EmbedArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub lines: LinesArgument,
    #[command(flatten)]
    pub pool: PoolArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal similar`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print a JSON list of similarity, line, text")),
    override_usage = "taal similar [OPTIONS] <DIR> <TEXT>\n       taal similar [OPTIONS] --model <DIR> <TEXT>",
    mut_arg("words", |words| words.help("Text to compare with; - reads standard input")),
    after_help = "Example:\n  taal similar --model runs/dutch-mlm kat\n  \
                  taal similar --model runs/dutch-mlm --lines sentences.txt \"De kat slaapt.\""
)]
pub struct SimilarArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub weights: WeightsArgument,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// The file whose lines are compared [default: the words that are tokens of the model]
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,
    /// Lines or words to print
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = from_zero::<usize>)]
    pub top: usize,
    #[command(flatten)]
    pub pool: PoolArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal embeddings`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal embeddings plot --model runs/dutch-mlm --out words.svg kat hond huis kerk rood blauw"
)]
pub struct EmbeddingsArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: EmbeddingsCommand,
}

/// `taal embeddings ...`
#[derive(Debug, Subcommand)]
pub enum EmbeddingsCommand {
    /// Compare word vectors with human judgments: similarity, analogies, categories
    Score(EmbeddingsScoreArguments),
    /// Draw a map of words or lines
    Plot(EmbeddingsPlotArguments),
}

/// `taal embeddings score`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: similarity, analogies, categories")),
    group = clap::ArgGroup::new("test").required(true).multiple(true),
    after_help = "Example:\n  taal embeddings score --model runs/english-mlm --similarity simlex999.csv --analogies questions-words.txt"
)]
pub struct EmbeddingsScoreArguments {
    /// Model directory, run directory or GGUF file
    #[arg(long, value_name = "DIR", required_unless_present = "vectors")]
    pub model: Option<PathBuf>,
    /// Words with their vectors instead of a model, in word2vec's text format
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "pool", "device"])]
    pub vectors: Option<PathBuf>,
    /// Word pairs and how similar people find them: CSV with the columns word1, word2, similarity
    #[arg(long, value_name = "FILE", num_args = 1.., group = "test")]
    pub similarity: Vec<PathBuf>,
    /// Analogies: lines of four words and lines of `: section`, or a .json object of lists of pairs
    #[arg(long, value_name = "FILE", num_args = 1.., group = "test")]
    pub analogies: Vec<PathBuf>,
    /// Words and what they are: CSV with the columns category, word
    #[arg(long, value_name = "FILE", num_args = 1.., group = "test")]
    pub categories: Vec<PathBuf>,
    #[command(flatten)]
    pub pool: PoolArgument,
    /// Make the words of the tests lower case
    #[arg(long)]
    pub lowercase: bool,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal embeddings plot`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: shares of the variance, points with text, x, y")),
    after_help = "Example:\n  taal embeddings plot --model runs/dutch-mlm --out words.svg kat hond huis kerk rood blauw\n  \
                  taal embeddings plot --model runs/dutch-mlm --out lines.html --lines sentences.txt"
)]
pub struct EmbeddingsPlotArguments {
    #[command(flatten)]
    pub model: ModelArgument,
    /// Words
    #[arg(value_name = "WORD", conflicts_with = "lines")]
    pub words: Vec<String>,
    /// A file with words between white space (may be repeated)
    #[arg(long = "words", value_name = "FILE", conflicts_with = "lines")]
    pub word_files: Vec<PathBuf>,
    #[command(flatten)]
    pub lines: LinesArgument,
    /// The .svg or .html file to write; an old one is replaced
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub pool: PoolArgument,
    #[command(flatten)]
    pub lang: LanguageArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal generate`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: prompt, text, token_ids, finish_reason (length, stop, eos or complete), prompt_tokens, dropped_prompt_tokens, slid_tokens; with --draft or --draft-ngram, speculative: drafted, accepted, passes; with --beam, a list of them as beams, with logprob and score")),
    override_usage = "taal generate [OPTIONS] <DIR> <TEXT>\n       taal generate [OPTIONS] --model <DIR> <--prompt <TEXT>|--prompt-ids <IDS>>",
    mut_arg("words", |words| words.help("Text to continue, as --prompt")),
    after_help = "If a prompt is longer than the model's context, only its last tokens are read, one less than the\n\
                  context holds; a beginning-of-sequence token stays. If the context fills up during generation,\n\
                  its last half is kept.\n\n\
                  Example:\n  taal generate --model runs/shakespeare-char --prompt ROMEO: --max-tokens 500 --temperature 0.8"
)]
pub struct GenerateArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    /// Text to continue; - reads standard input. An empty text starts a new one, where the model has a
    /// token that begins texts; others, such as character models, can start from a line break
    #[arg(short, long, value_name = "TEXT", conflicts_with = "prompt_ids")]
    pub prompt: Option<String>,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Token ids to continue, as in 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = from_zero::<u32>)]
    pub prompt_ids: Option<Vec<u32>>,
    /// The most new tokens
    #[arg(long, alias = "max-new-tokens", value_name = "N", default_value_t = 200, value_parser = from_zero::<usize>)]
    pub max_tokens: usize,
    #[command(flatten)]
    pub sampling: SamplingArguments,
    /// Text that ends the continuation, special tokens such as <|im_end|> included (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    #[command(flatten)]
    pub form: FormArguments,
    #[command(flatten)]
    pub beam: BeamArguments,
    #[command(flatten)]
    pub draft: DraftArguments,
    /// Write what the text depends on into this file, for `taal replay`
    #[arg(long, value_name = "FILE", conflicts_with = "beam")]
    pub receipt: Option<PathBuf>,
    /// Say the energy that the text took, on standard error; with --json as energy
    #[arg(long, conflicts_with = "beam")]
    pub energy: bool,
    /// Show special tokens in the text
    #[arg(long)]
    pub show_special: bool,
    /// Refuse a prompt longer than the context instead of dropping its beginning
    #[arg(long)]
    pub no_truncate: bool,
    #[command(flatten)]
    pub device: DeviceArgument,
    /// Compute every token from the whole text: slower, and the tokens are those of a cache in f32
    #[arg(long, conflicts_with = "cache")]
    pub no_cache: bool,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal replay`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: text, token_ids, finish_reason and the rest of `taal generate --json`")),
    after_help = "Says what differs where the model, the version of Taal, or the kernels of this processor are not\n\
                  those of the receipt; the exit code is 65 where the text is not the same.\n\n\
                  Example:\n  taal generate runs/shakespeare-char ROMEO: --receipt romeo.json\n  \
                  taal replay romeo.json --model runs/shakespeare-char"
)]
pub struct ReplayArguments {
    /// A receipt, as `taal generate --receipt` and the server write them
    #[arg(value_name = "RECEIPT")]
    pub receipt: PathBuf,
    #[command(flatten)]
    pub model: ModelArgument,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    #[command(flatten)]
    pub cache: CacheArgument,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal eval`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: loss, perplexity, bits_per_byte, tokens, bytes; of pairs and choices, files and all; of a task, every answer; of gaps, every rank")),
    override_usage = "taal eval [OPTIONS] <DIR> <FILE>...\n       taal eval [OPTIONS] --model <DIR> <--text <FILE>...|--pairs <FILE>...|--choices <FILE>...|--task <FILE>|--gaps <FILE>>",
    mut_arg("words", |words| words.value_name("FILE").help("Text files, as --text")),
    after_help = "Example:\n  taal eval --model runs/shakespeare-char --text hamlet.txt macbeth.txt\n  \
                  taal eval --model runs/english-mlm --pairs passive_1.tsv\n  \
                  taal eval --model runs/english --choices questions.jsonl\n  \
                  taal eval --model runs/tuned --task capitals.toml --against runs/base\n  \
                  taal eval --model runs/dutch-mlm --gaps dutch"
)]
pub struct EvalArguments {
    #[command(flatten)]
    pub asked: ModelAndTexts,
    #[command(flatten)]
    pub adapter: AdapterArgument,
    #[command(flatten)]
    pub weights: WeightsArgument,
    /// Text files, each scored alone; of JSON Lines (.jsonl, .ndjson) the "text" of each line
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Minimal pairs, by causal and masked models: JSON lines of sentence_good and sentence_bad
    /// (.jsonl), or lines of good sentence, tab, bad sentence
    #[arg(long, value_name = "FILE", conflicts_with = "text", num_args = 1..)]
    pub pairs: Vec<PathBuf>,
    /// Multiple choice, by causal and masked models: JSON lines of context, choices and answer (the
    /// right one's index from 0 or letter)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "pairs"], num_args = 1..)]
    pub choices: Vec<PathBuf>,
    /// Questions that the model answers with generated text: a TOML file with data, metric and template
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "pairs", "choices", "bos"])]
    pub task: Option<PathBuf>,
    /// Another model or adapter that answers the same questions; the difference is measured pair by pair
    #[arg(long, value_name = "DIR", requires = "task")]
    pub against: Option<PathBuf>,
    /// Sentences with a gap, by causal and masked models: lines of a sentence with [MASK], a tab and the
    /// expected words (or JSON lines of text and words). Of an embedded corpus: dutch or english
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "pairs", "choices", "task", "bos"])]
    pub gaps: Option<PathBuf>,
    /// The model's training text for --gaps, files or embedded corpora: its commonest words compete in a gap, and
    /// counting neighbors in it is the baseline [default: that of the run]
    #[arg(long, value_name = "FILE", requires = "gaps", num_args = 1..)]
    pub training: Vec<PathBuf>,
    /// By which length of a choice its log-likelihood is divided for the second accuracy: characters,
    /// bytes, tokens or none
    #[arg(
        long,
        alias = "normalise",
        value_name = "LENGTH",
        default_value_t,
        requires = "choices"
    )]
    pub normalize: Normalize,
    /// Begin every scored text with the token that begins texts; --pairs and masked models always
    /// do, where there is one
    #[arg(long)]
    pub bos: bool,
    #[command(flatten)]
    pub device: DeviceArgument,
    #[command(flatten)]
    pub json: JsonArgument,
}
