//! What can be typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand};
use taal_evaluation::Normalize;
use taal_exchange::Target;
use taal_exchange::gguf::TensorType;
use taal_inference::Pooling;
use taal_kernels::{DeviceSpec, Precision};
use taal_store::LineEnds;
use taal_tokenizer::{Kind, Unknown};
use taal_trainer::bench::BenchShape;

/// Train, generate, evaluate and look inside language models.
#[derive(Debug, Parser)]
#[command(
    name = "taal",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  taal train && taal generate --model runs/shakespeare-char --prompt ROMEO:"
)]
pub struct Arguments {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model by a recipe
    Train(TrainArguments),
    /// Continue a prompt
    Generate(GenerateArguments),
    /// Guess what stands in the gaps of a text
    Fill(FillArguments),
    /// Turn texts into vectors
    Embed(EmbedArguments),
    /// Find the words, or the lines of a file, that are nearest to a text
    Similar(SimilarArguments),
    /// Measure what the vectors of words know, or draw a map of them
    Embeddings(EmbeddingsArguments),
    /// Measure how well a model predicts texts
    Eval(EvalArguments),
    /// Follow one text through every stage of a model
    Trace(TraceArguments),
    /// Say what a model directory holds: layers, shapes, parameters, memory, FLOPs
    Inspect(InspectArguments),
    /// Turn another program's model into a model directory
    Import(ImportArguments),
    /// Turn a model directory into another program's model
    Export(ExportArguments),
    /// Train a tokenizer, or use one
    Tokenizer(TokenizerArguments),
    /// Turn texts into token shards
    Data(DataArguments),
    /// List and show the recipes that come along
    Recipes(RecipesArguments),
    /// Measure how fast this machine trains and generates
    Bench(BenchArguments),
    /// Say what this machine offers
    Doctor(DoctorArguments),
}

/// `taal train`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal train --recipe shakespeare-char --set train.steps=1000 --set model.n_layers=6\n\n\
                  Ctrl-C saves after the step under way; `taal train --resume` continues from there."
)]
pub struct TrainArguments {
    /// Embedded recipe or TOML file [default: shakespeare-char]
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// Where the run is kept [default: the next free runs/<recipe>[-N]]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Change a value of the recipe, as in train.lr=3e-4 (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Continue --run-dir, or the latest run in runs/ (with --recipe, the latest of it); never
    /// starts a new one
    #[arg(long)]
    pub resume: bool,
}

/// `taal fill`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal fill --model runs/dutch-mlm \"De kat zat op de [MASK].\" --top 5 --rank mat")]
pub struct FillArguments {
    /// Model directory or run directory of a masked model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text with at least one [MASK]; - reads standard input
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Guesses a gap
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = from_zero::<usize>)]
    pub top: usize,
    /// Say which rank this word has in the first gap (may be repeated)
    #[arg(long, value_name = "WORD")]
    pub rank: Vec<String>,
    /// Also guess pieces that only go on with a word
    #[arg(long)]
    pub pieces: bool,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: text, filled, gaps, ranks
    #[arg(long)]
    pub json: bool,
}

/// `taal embed`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal embed --model runs/dutch-mlm \"de kat\" \"de hond\" --json")]
pub struct EmbedArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Texts; - reads standard input
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// A file, each line of which is a text (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub lines: Vec<PathBuf>,
    /// How the states of all tokens become one vector: mean, cls, max, last, or
    /// input for the tokens' own vectors before any layer [default: that of
    /// modules.json, else mean]
    #[arg(long, value_name = "POOLING")]
    pub pool: Option<Pooling>,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object a text: text, embedding
    #[arg(long)]
    pub json: bool,
}

/// `taal similar`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal similar --model runs/dutch-mlm kat\n  \
                  taal similar --model runs/dutch-mlm --lines sentences.txt \"De kat slaapt.\"")]
pub struct SimilarArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text to compare with; - reads standard input
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// The file whose lines are compared [default: the words that are tokens of the model]
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,
    /// Lines or words to print
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = from_zero::<usize>)]
    pub top: usize,
    /// How the states of all tokens become one vector: mean, cls, max, last, or
    /// input for the tokens' own vectors before any layer [default: that of
    /// modules.json, else mean]
    #[arg(long, value_name = "POOLING")]
    pub pool: Option<Pooling>,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print a JSON list of similarity, line, text
    #[arg(long)]
    pub json: bool,
}

/// `taal embeddings`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
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
    /// Compare the vectors of words with what people say: similarity, analogies, categories
    Score(EmbeddingsScoreArguments),
    /// Draw words or lines as points of a plane
    Plot(EmbeddingsPlotArguments),
}

/// `taal embeddings score`
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("test").required(true).multiple(true),
    after_help = "Example:\n  taal embeddings score --model runs/english-mlm --similarity simlex999.csv --analogies questions-words.txt"
)]
pub struct EmbeddingsScoreArguments {
    /// Model directory or run directory
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
    /// How the states of all tokens become one vector: mean, cls, max, last, or
    /// input for the tokens' own vectors before any layer [default: that of
    /// modules.json, else mean]
    #[arg(long, value_name = "POOLING")]
    pub pool: Option<Pooling>,
    /// Make the words of the tests lower case
    #[arg(long)]
    pub lowercase: bool,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: similarity, analogies, categories
    #[arg(long)]
    pub json: bool,
}

/// `taal embeddings plot`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal embeddings plot --model runs/dutch-mlm --out words.svg kat hond huis kerk rood blauw\n  \
                  taal embeddings plot --model runs/dutch-mlm --out lines.html --lines sentences.txt"
)]
pub struct EmbeddingsPlotArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Words
    #[arg(value_name = "WORD", conflicts_with = "lines")]
    pub words: Vec<String>,
    /// A file with words between white space (may be repeated)
    #[arg(long = "words", value_name = "FILE", conflicts_with = "lines")]
    pub word_files: Vec<PathBuf>,
    /// A file, each line of which is a text (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub lines: Vec<PathBuf>,
    /// The .svg or .html file to write; an old one is replaced
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How the states of all tokens become one vector: mean, cls, max, last, or
    /// input for the tokens' own vectors before any layer [default: that of
    /// modules.json, else mean]
    #[arg(long, value_name = "POOLING")]
    pub pool: Option<Pooling>,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: shares of the variance, points with text, x, y
    #[arg(long)]
    pub json: bool,
}

/// `taal trace`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal trace --model runs/dutch-bpe \"De kat zat op de\" --html trace.html\n  \
                  taal trace --checkpoints runs/dutch-bpe \"De kat zat op de\""
)]
pub struct TraceArguments {
    /// Model directory or run directory [default: that of --checkpoints]
    #[arg(long, value_name = "DIR", required_unless_present = "checkpoints")]
    pub model: Option<PathBuf>,
    /// Text to follow, for a masked model with [MASK]; - reads standard input
    #[arg(value_name = "TEXT", required_unless_present = "ids", conflicts_with = "ids")]
    pub text: Option<String>,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Token ids to follow, as in 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = from_zero::<u32>)]
    pub ids: Option<Vec<u32>>,
    /// Guesses a place and layer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = from_zero::<usize>)]
    pub top: usize,
    /// Also ask every checkpoint of this run
    #[arg(long, value_name = "RUN_DIR")]
    pub checkpoints: Option<PathBuf>,
    /// Write a page for the browser: one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write all numbers as one JSON object; - prints it instead of the text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
}

/// `taal inspect`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal inspect --model runs/shakespeare-char")]
pub struct InspectArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Draw the layers, boxes within boxes
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `taal import`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal import --from stories260K.bin --tokenizer tok512.bin --out models/stories")]
pub struct ImportArguments {
    /// Hugging Face directory, .safetensors file beside its config.json, GGUF file or llama2.c .bin file
    #[arg(long, value_name = "FILE|DIR")]
    pub from: PathBuf,
    /// Tokenizer of any format that `taal tokenizer import` reads, instead of the model's own
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Import the model alone: prompts and continuations are token ids
    #[arg(long, conflicts_with = "tokenizer")]
    pub without_tokenizer: bool,
    /// The model directory to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: source, family, params, tokenizer_vocab_size, out
    #[arg(long)]
    pub json: bool,
}

/// `taal export`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal export --model runs/dutch-bpe --to gguf --type q8_0 --out dutch.gguf")]
pub struct ExportArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// hf (a directory for transformers), gguf (a file for llama.cpp) or llama2c (a file for llama2.c)
    #[arg(long, value_name = "FORMAT")]
    pub to: Target,
    /// The file or directory to make; it must not be there yet
    #[arg(long, value_name = "FILE|DIR")]
    pub out: PathBuf,
    /// How a GGUF file stores matrices: f32, f16 or q8_0
    #[arg(long = "type", value_name = "TYPE", default_value = "f32")]
    pub tensor_type: TensorType,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: target, tensor_type, params, bytes, tokenizer, notes, out
    #[arg(long)]
    pub json: bool,
}

/// `taal generate`
#[derive(Debug, Args)]
#[command(
    after_help = "Of a prompt longer than the model's context, the last tokens are read: one less than the context\n\
                  holds, with the beginning-of-sequence token where the prompt begins with it. When the context\n\
                  fills while the text is made, its last half is kept.\n\n\
                  Example:\n  taal generate --model runs/shakespeare-char --prompt ROMEO: --max-tokens 500 --temperature 0.8"
)]
pub struct GenerateArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text to continue; empty starts a new text, - reads standard input
    #[arg(
        long,
        value_name = "TEXT",
        required_unless_present = "prompt_ids",
        conflicts_with = "prompt_ids"
    )]
    pub prompt: Option<String>,
    /// Keep the line break at the end of standard input
    #[arg(long)]
    pub raw: bool,
    /// Token ids to continue, as in 1,2,3
    #[arg(long, value_name = "IDS", value_delimiter = ',', value_parser = from_zero::<u32>)]
    pub prompt_ids: Option<Vec<u32>>,
    /// The most new tokens
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = from_zero::<usize>)]
    pub max_tokens: usize,
    /// 0 takes the likeliest token, 1 the model's own odds
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = number)]
    pub temperature: f64,
    /// Draw from the K likeliest tokens only
    #[arg(long, value_name = "K", value_parser = from_one::<usize>)]
    pub top_k: Option<usize>,
    /// Draw from the likeliest tokens that have probability P together
    #[arg(long, value_name = "P", value_parser = number)]
    pub top_p: Option<f64>,
    /// Draw from tokens at least P times as likely as the likeliest
    #[arg(long, value_name = "P", value_parser = number)]
    pub min_p: Option<f64>,
    /// More than 1 discourages tokens that were there before
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = number)]
    pub repetition_penalty: f64,
    /// Equal seeds give equal texts [default: another one each time]
    #[arg(long, value_name = "S", value_parser = from_zero::<u64>)]
    pub seed: Option<u64>,
    /// Text that ends the continuation, special tokens such as <|im_end|> included (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Show special tokens in the text
    #[arg(long)]
    pub show_special: bool,
    /// Refuse a prompt longer than the context, instead of leaving out its beginning
    #[arg(long)]
    pub no_truncate: bool,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Compute every token from the whole text: slower, same tokens
    #[arg(long)]
    pub no_cache: bool,
    /// Print one JSON object: prompt, text, token_ids, finish_reason (length, stop or eos), prompt_tokens,
    /// dropped_prompt_tokens, slid_tokens
    #[arg(long)]
    pub json: bool,
}

/// `taal eval`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  taal eval --model runs/shakespeare-char --text hamlet.txt macbeth.txt\n  \
                  taal eval --model runs/english-mlm --pairs passive_1.tsv\n  \
                  taal eval --model runs/english --choices questions.jsonl"
)]
pub struct EvalArguments {
    /// Model directory or run directory
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text files, each scored alone; of JSON Lines (.jsonl, .ndjson) the "text" of each line
    #[arg(long, value_name = "FILE", required_unless_present_any = ["pairs", "choices"], num_args = 1..)]
    pub text: Vec<PathBuf>,
    /// Minimal pairs, by causal and masked models: JSON lines of sentence_good and sentence_bad
    /// (.jsonl), or lines of good sentence, tab, bad sentence
    #[arg(long, value_name = "FILE", conflicts_with = "text", num_args = 1..)]
    pub pairs: Vec<PathBuf>,
    /// Multiple choice, by causal and masked models: JSON lines of context, choices and answer (the
    /// right one's index from 0 or letter)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "pairs"], num_args = 1..)]
    pub choices: Vec<PathBuf>,
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
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object: loss, perplexity, bits_per_byte, tokens, bytes; of pairs and
    /// choices, files and all
    #[arg(long)]
    pub json: bool,
}

/// `taal tokenizer`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal tokenizer train --kind bpe --vocab-size 4096 --out tokenizer.json book.txt"
)]
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
    #[arg(long, value_name = "FILE")]
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
#[command(after_help = "Example:\n  taal tokenizer encode --tokenizer runs/names --json emma")]
pub struct EncodeArguments {
    /// tokenizer.json, model directory or run directory
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: PathBuf,
    /// Put the special tokens around the text that the tokenizer asks for
    #[arg(long)]
    pub special: bool,
    /// Print one JSON object: ids, tokens
    #[arg(long)]
    pub json: bool,
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
    #[arg(long, value_name = "FILE|DIR")]
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
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `taal data`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal data build --tokenizer tokenizer.json --out shards books/"
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
}

/// `taal data build`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal data build --tokenizer tokenizer.json --out shards books/ more.jsonl")]
pub struct DataBuildArguments {
    /// tokenizer.json, model directory or run directory
    #[arg(long, value_name = "FILE|DIR")]
    pub tokenizer: PathBuf,
    /// The folder to make; it must not be there yet
    #[arg(long, value_name = "DIR")]
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

/// `taal recipes`
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal recipes show shakespeare-char > mine.toml && taal train --recipe mine.toml"
)]
pub struct RecipesArguments {
    /// The verb; the list where there is none.
    #[command(subcommand)]
    pub command: Option<RecipesCommand>,
}

/// `taal recipes ...`
#[derive(Debug, Subcommand)]
pub enum RecipesCommand {
    /// Print a recipe
    Show(RecipesShowArguments),
    /// List every key of a recipe: type, range, default and meaning
    Keys(RecipesKeysArguments),
}

/// `taal recipes keys`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal recipes keys | grep train.")]
pub struct RecipesKeysArguments {
    /// Print a JSON list of key, type, range, default, meaning
    #[arg(long)]
    pub json: bool,
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
#[command(
    disable_help_subcommand = true,
    after_help = "Example:\n  taal bench train --shape baby"
)]
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
    /// Time reading a prompt and writing after it
    Generate(BenchGenerateArguments),
    /// Train a recurrent network beside the transformer and compare them
    Paradigm(BenchParadigmArguments),
}

/// `taal bench train`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench train --shape baby --json")]
pub struct BenchTrainArguments {
    /// cpu (4 layers of 128), baby (6 of 384), small or gpt2 (12 of 768, vocabulary 50,304; length 256 or 1,024)
    #[arg(long, default_value = "cpu")]
    pub shape: BenchShape,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Measured steps [default: some seconds of them]
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub steps: Option<usize>,
    /// Rows of a batch [default: 12, 16, 1 or 4 by shape, as others measure]
    #[arg(long, value_name = "N", value_parser = from_zero::<usize>)]
    pub batch_size: Option<usize>,
    /// fp32, bf16 or f16: what the products of linear layers are computed in
    #[arg(long, default_value = "fp32", value_name = "TYPE")]
    pub precision: Precision,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `taal bench generate`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal bench generate --model runs/shakespeare-char --batch 1,8")]
pub struct BenchGenerateArguments {
    /// Model directory or run directory [default: random weights in GPT-2 124M's shape]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// How many texts are written at once, as in 1,8
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 8], value_parser = from_zero::<usize>)]
    pub batch: Vec<usize>,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = from_zero::<usize>)]
    pub prompt_tokens: usize,
    /// Tokens written after it
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = from_zero::<usize>)]
    pub max_tokens: usize,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
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
    /// Lengths at which the time of a training token is measured
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [64, 256, 1024],
          value_parser = length)]
    pub lengths: Vec<u64>,
    /// Steps in which each network learns to copy up to 32 symbols
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = from_zero::<u64>)]
    pub copy_steps: u64,
    /// flex, ndarray, wgpu or wgpu:N
    #[arg(long, default_value = "flex")]
    pub device: DeviceSpec,
    /// Write a chart of the loss by position
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// All arguments, of which every one that takes a value takes a negative number too: a message that names the range says more than one that
/// takes the number for an option.
pub fn command() -> clap::Command {
    with_negative_numbers(Arguments::command())
}

fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match argument.get_action().takes_values() {
            true => argument.allow_negative_numbers(true),
            false => argument,
        })
        .mut_subcommands(with_negative_numbers)
}

/// A whole number that the type holds.
fn from_zero<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 0".to_string())
}

/// The same where 0 is refused later, with what to do instead.
fn from_one<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 1".to_string())
}

/// A length in tokens.
fn length(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (1..=65_536).contains(number));
    number.ok_or_else(|| "expected a whole number from 1 to 65536".to_string())
}

/// Any number; what it is for says its range.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number".to_string())
}

/// A finite number above 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_string())
}

/// `taal doctor`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  taal doctor --json")]
pub struct DoctorArguments {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
