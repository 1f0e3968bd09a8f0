//! Texts to tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use taal_store::LineEnds;
use taal_tokenizer::{Kind, Unknown};

use super::{JsonArgument, from_zero, number};

/// `taal tokenizer`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal tokenizer train --kind bpe --vocab-size 4096 --out tokenizer.json book.txt")]
pub struct TokenizerArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: TokenizerCommand,
}

/// `taal tokenizer ...`
#[derive(Debug, Subcommand)]
pub enum TokenizerCommand {
    /// Learn a vocabulary from texts
    Train(TokenizerTrainArguments),
    /// Text to token ids
    Encode(EncodeArguments),
    /// Token ids to text
    Decode(DecodeArguments),
    /// Turn another program's tokenizer into a tokenizer.json
    Import(TokenizerImportArguments),
    /// How well tokens respect the parts of compound words
    Compounds(CompoundsArguments),
}

/// `taal tokenizer train`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal tokenizer train --kind bpe --vocab-size 4096 --out tokenizer.json books/ more.txt"
)]
pub struct TokenizerTrainArguments {
    /// bpe, wordpiece, unigram, char or word
    #[arg(long)]
    pub kind: Kind,
    /// The most tokens, special ones included
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub vocab_size: usize,
    /// The tokenizer.json to write; an old one is replaced
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
    /// Special token instead of the kind's own (may be repeated)
    #[arg(long, value_name = "T")]
    pub special_token: Vec<String>,
    /// Unknown characters: error or token [default: the kind's own rule]
    #[arg(long, value_name = "RULE")]
    pub unknown: Option<Unknown>,
    /// Memory for counting; beyond it, rare words are forgotten
    #[arg(long, value_name = "MIB", default_value_t = taal_tokenizer::DEFAULT_MEMORY_LIMIT_BYTES >> 20, value_parser = from_zero::<u64>)]
    pub memory_limit: u64,
    /// Carriage returns: lf makes every line end a line feed, keep leaves them
    #[arg(long, value_name = "RULE", default_value_t = LineEnds::Lf)]
    pub line_ends: LineEnds,
    /// Text files, JSON Lines (.jsonl, .ndjson) with a "text" or a conversation per line, folders of
    /// them, or - for standard input
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
}

/// `taal tokenizer encode`
#[derive(Debug, Args)]
#[command(
    mut_arg("json", |json| json.help("Print one JSON object: ids, tokens")),
    after_help = "Example:\n  taal tokenizer encode --tokenizer runs/names --json emma\n  \
                  taal tokenizer encode --tokenizer runs/dutch-bpe --text \"De kat zat\""
)]
pub struct EncodeArguments {
    /// tokenizer.json, model directory or run directory
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: PathBuf,
    /// Put the special tokens around the text that the tokenizer asks for
    #[arg(long)]
    pub special: bool,
    /// Print the tokens as text, as in De|␣kat, instead of their ids
    #[arg(long = "text", conflicts_with = "json")]
    pub is_text: bool,
    #[command(flatten)]
    pub json: JsonArgument,
    /// The text; - reads standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
}

/// `taal tokenizer decode`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal tokenizer decode --tokenizer runs/names 5,13,13,1")]
pub struct DecodeArguments {
    /// tokenizer.json, model directory or run directory
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: PathBuf,
    /// Show special tokens in the text
    #[arg(long)]
    pub show_special: bool,
    /// Token ids, as in 1,2,3 or 1 2 3
    #[arg(value_name = "IDS", required = true, value_delimiter = ',', value_parser = from_zero::<u32>)]
    pub ids: Vec<u32>,
}

/// `taal tokenizer import`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal tokenizer import --from cl100k_base.tiktoken --out tokenizer.json")]
pub struct TokenizerImportArguments {
    /// tokenizer.json, vocab.txt, vocab.json with merges.txt, encoder.json with vocab.bpe, tiktoken, SentencePiece or llama2.c file, or
    /// the folder of one
    #[arg(long, value_name = "FILE|DIR")]
    pub from: PathBuf,
    /// How a tiktoken file cuts words: cl100k_base, another name, or a regular expression [default: by the file]
    #[arg(long, value_name = "NAME|REGEX")]
    pub pattern: Option<String>,
    /// The file to write, replacing an old one, or a folder for a tokenizer.json
    #[arg(short, long, value_name = "FILE|DIR")]
    pub out: PathBuf,
}

/// `taal tokenizer compounds`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal tokenizer compounds --tokenizer a.json b.json --words compounds.tsv")]
pub struct CompoundsArguments {
    /// tokenizer.json, model directory or run directory, one or more
    #[arg(long, value_name = "FILE|DIR", required = true, num_args = 1..)]
    pub tokenizer: Vec<PathBuf>,
    /// Lines of a word, a tab and its parts; or of words only, to find compounds in
    #[arg(long, value_name = "FILE")]
    pub words: PathBuf,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal data`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal data build --tokenizer tokenizer.json --out shards books/\n  taal data preview --recipe mine.toml"
)]
pub struct DataArguments {
    /// The verb.
    #[command(subcommand)]
    pub command: DataCommand,
}

/// `taal data ...`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Make a folder of token shards, complete or not at all
    Build(DataBuildArguments),
    /// Show rows as a recipe trains them, what is learned of them, and counts
    Preview(DataPreviewArguments),
}

/// `taal data preview`
#[derive(Debug, Args)]
#[command(mut_arg("json", |json| json.help("Print one JSON object, with every token of the rows")), after_help = "Example:\n  taal data preview --recipe mine.toml -n 5\n  \
                        taal data preview --recipe mine.toml --set data.conversations=chats.csv --json")]
pub struct DataPreviewArguments {
    /// Embedded recipe or TOML file
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: String,
    /// Model to fine-tune: the rows as its tokenizer and template write them
    #[arg(short, long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Change a value of the recipe, as in data.conversations=chats.jsonl (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How many rows to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5, value_parser = from_zero::<usize>)]
    pub rows: usize,
    #[command(flatten)]
    pub json: JsonArgument,
}

/// `taal data build`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal data build --tokenizer tokenizer.json --out shards books/ more.jsonl")]
pub struct DataBuildArguments {
    /// tokenizer.json, model directory or run directory
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: PathBuf,
    /// The folder to make; it must not be there yet
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Share held back for validation, from the end of each input
    #[arg(long, value_name = "F", default_value_t = taal_data::DEFAULT_VALIDATION_FRACTION, value_parser = number)]
    pub validation_fraction: f64,
    /// Carriage returns: lf makes every line end a line feed, keep leaves them
    #[arg(long, value_name = "RULE", default_value_t = LineEnds::Lf)]
    pub line_ends: LineEnds,
    /// Text files, JSON Lines (.jsonl, .ndjson) with a "text" per line, or folders of them
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
}
