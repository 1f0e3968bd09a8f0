//! The table of keys, and a recipe as it is written: [`RawRecipe`], in which every key is optional and unknown keys are
//! refused.
//!
//! One line of the table defines everything about a key: its text in `docs/recipes.md` and `taal recipes keys`, the
//! field that TOML is read into, its default, and its range. [`Recipe`](crate::Recipe) is the resolved form: every
//! value present and checked.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use taal_data::{Layout, LineEnds, MaskUnit, Masking};
use taal_metrics::AnswerMetric;
use taal_model::{Activation, NormKind, NormPlace, PositionKind};

use super::key::{Default as D, Key, Range, Range::*, typed};
use crate::optimizer::{AdamW, Muon, OptimizerKind};
use crate::schedule::ScheduleKind;

/// `key: type, in range, = default;`: the default is either a value, for which the section gets a method, or a
/// description after `or`. Without either, the key has no default: leaving it out turns its feature off or is refused.
macro_rules! keys {
    ($(
        $(#[$about:meta])*
        $raw:ident $section:literal {
            $($(#[doc = $doc:literal])+
            $key:ident: $type:ty $(, in $range:expr)? $(, = $default:expr)? $(, or $words:literal)?;)*
            $(+ $part:ident: $part_raw:ident;)*
        }
    )*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            #[allow(missing_docs)] // Of the sections.
            pub struct $raw {
                $($(#[doc = $doc])+ pub $key: Option<$type>,)*
                $(pub $part: $part_raw,)*
            }

            impl $raw {
                $($(pub(super) fn $key(&self) -> $type {
                    self.$key.unwrap_or($default)
                })?)*
            }
        )*

        /// Every key of a recipe, section by section.
        pub const KEYS: &[Key] = &[$($(Key {
            section: $section,
            name: stringify!($key),
            range: [$($range,)? Range::Any][0],
            rust_type: stringify!($type),
            default: [$(D::Value(|| typed($default)),)? $(D::Words($words),)? D::Words("")][0],
            doc: concat!($($doc),+),
        },)*)*];
    };
}

keys! {
    /// A recipe as it is written.
    RawRecipe "" {
        /// name in the report; the run directory is always named after the recipe file
        name: String, in Words("one line"), or "the embedded recipe's name, or the file's without `.toml`";
        /// one line of description
        description: String, or "empty";
        /// determines everything random: initial weights, data order, dropout, samples
        seed: u64, in Whole(0, u64::MAX), = 1337;
        + data: RawData;
        + tokenizer: RawTokenizer;
        + model: RawModel;
        + train: RawTrain;
        + lora: RawLora;
        + masking: RawMasking;
        + replay: RawReplay;
        + preference: RawPreference;
        + eval: RawEval;
        + checkpoint: RawCheckpoint;
        + health: RawHealth;
        + sample: RawSample;
    }

    /// `[data]`
    RawData "data" {
        /// an embedded corpus
        corpus: String, in OneOf(&["tinyshakespeare", "names", "dutch", "english", "dutch-alpino"]);
        /// text files and folders
        files: Vec<PathBuf>, in Words("at least one");
        /// a folder that `taal data build` made
        shards: PathBuf;
        /// a file of examples with answers to learn (JSONL, CSV, TSV or Parquet), or a folder of them
        conversations: PathBuf;
        /// an embedded set of examples with answers to learn, with a held-out part of its own
        examples: String, in OneOf(&["tldr", "tatoeba-en-nl"]);
        /// the language that is read, for rows of pairs in two languages: their column, unless `prompt_column` names another
        from: String, or "the first language of an embedded set of pairs";
        /// the language that is written: their column, unless `completion_column` names another
        to: String, or "the other language of such a set";
        /// how the rows of `conversations` hold an example
        layout: Layout, in OneOf(&["completion", "messages", "sharegpt", "alpaca", "preference"]), or "recognized by each file's first row";
        /// the column with the prompt
        prompt_column: String, or "by layout";
        /// the column with the answer
        completion_column: String, or "by layout";
        /// the column with the answer that is not preferred
        rejected_column: String, or "by layout";
        /// the column with what an instruction is about, which makes rows those of `alpaca`
        input_column: String, or "by layout";
        /// the column with the list of messages
        messages_column: String, or "by layout";
        /// a file with the chat template (Jinja) that writes messages as text
        chat_template: PathBuf, or "that of `train.init_from`; without one, lines `Role: content`";
        /// share at the end of each input that is held out; 0 for none
        validation_fraction: f64, in Number(Included(0.0), Included(0.9)), = 0.1;
        /// the share of the training rows from each text of `corpus`, `files` or `shards`, in their order: only proportions count, and 0
        /// leaves a text to validation
        weights: Vec<f64>, in Words("a number of 0 or more per text"), or "by length, and rows may cross from one text to the next";
        /// the order of the training windows
        order: OrderKind, in OneOf(&["random", "shuffled"]), = OrderKind::Shuffled;
        /// what to do with a damaged training shard: `skip` leaves it out and says so; a damaged validation shard always stops the run
        damaged: DamagedKind, in OneOf(&["stop", "skip"]), = DamagedKind::Stop;
        /// `lf` turns every line end into one line feed (Windows writes a carriage return before it); `keep` leaves texts as they are
        line_ends: LineEnds, in OneOf(&["lf", "keep"]), or "`lf`";
        /// the license of the text, for the model card; embedded corpora have theirs
        license: String, in Words("one line"), or "not stated";
    }

    /// `[tokenizer]`
    RawTokenizer "tokenizer" {
        /// what a token is
        kind: String, in OneOf(&["bpe", "wordpiece", "unigram", "char", "word"]), or "`bpe`";
        /// largest number of tokens, including special ones; a small text gives fewer
        vocab_size: usize, in Whole(2, 1_000_000), = 4096;
        /// a `tokenizer.json`; then `kind` and `vocab_size` must be left out
        file: PathBuf;
        /// special tokens, which get the first ids
        special_tokens: Vec<String>, in Words("without whitespace, each once"), or "the kind's own";
        /// with `train.init_from`: special tokens that are added to the model's tokenizer, such as those of a chat template; each new one gets a row
        /// of the embedding and the output matrix, which an adapter then trains whole (`modules_to_save` of PEFT)
        added_tokens: Vec<String>, in Words("at least one");
        /// what a character or word outside the vocabulary becomes
        unknown: UnknownKind, in OneOf(&["error", "token"]), or "the kind's own";
    }

    /// `[model]`
    RawModel "model" {
        /// the shape to start from; `bert` and `encoder` are bidirectional and need `train.objective = "masked"`, which makes every
        /// transformer bidirectional; `marian` and `t5` have an encoder
        preset: Preset, in OneOf(&["gpt2", "nanogpt", "llama", "qwen3", "bert", "encoder", "lstm", "marian", "t5"]), = Preset::Llama;
        /// the model's context in tokens; evaluation windows have this length
        max_seq_len: usize, in Whole(1, 16_777_216), or "`train.block_size`";
        /// blocks
        n_layers: usize, in Words("1 to 4,096"), = 4;
        /// blocks of an encoder, which reads the prompt; the decoder then writes the completion and attends to it (Vaswani et al. 2017);
        /// 0: a decoder alone reads both
        encoder_layers: usize, in Whole(0, 4096), or "0; `n_layers` with `marian` and `t5`";
        /// query heads
        n_heads: usize, in Words("divides `d_model`, unless `head_dim` is given"), = 4;
        /// key and value heads; fewer are grouped queries (Ainslie et al. 2023)
        n_kv_heads: usize, in Words("divides `n_heads`"), or "`n_heads`";
        /// width of a head
        head_dim: usize, in Words("even with rotary positions"), or "`d_model / n_heads`";
        /// width of the residual stream
        d_model: usize, in Whole(1, 16_777_216), = 128;
        /// inner width of the feed-forward network
        d_ff: usize, in Whole(1, 16_777_216), or "by preset";
        /// how positions are encoded (Vaswani et al. 2017, Su et al. 2021, Press et al. 2022)
        position: PositionKind, in OneOf(&["learned", "sinusoidal", "rotary", "alibi", "relative", "none"]), or "by preset";
        /// base of the rotary angles
        rope_theta: f64, in Number(Excluded(1.0), Unbounded), or "10000";
        /// base of the rotary angles in the blocks with a window (ModernBERT)
        local_rope_theta: f64, in Words("above 1, with a `window`"), or "`rope_theta`";
        /// Ba et al. 2016; Zhang and Sennrich 2019
        norm: NormKind, in OneOf(&["layer_norm", "rms_norm"]), or "by preset";
        /// before each sub-layer, or after each residual sum
        norm_place: NormPlace, in OneOf(&["pre", "post"]), or "by preset";
        /// added to the variance or mean square
        norm_eps: f64, in Number(Excluded(0.0), Excluded(1.0)), or "by preset";
        /// bias of LayerNorm
        norm_bias: bool, in Words("false with `rms_norm`"), or "by preset";
        /// normalize the sum of the embeddings (BERT)
        embedding_norm: bool, or "by preset";
        /// So et al. 2021, Hendrycks and Gimpel 2016, Shazeer 2020
        activation: Activation, in OneOf(&["relu", "relu_squared", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "geglu_tanh"]), or "by preset";
        /// bias of query, key and value projections
        qkv_bias: bool, or "by preset";
        /// bias of the attention's output projection
        attention_output_bias: bool, or "by preset";
        /// bias of the feed-forward projections
        ffn_bias: bool, or "by preset";
        /// RMSNorm of every query and key head (Henry et al. 2020)
        qk_norm: bool, or "by preset";
        /// the output matrix is the token embedding (Press and Wolf 2017)
        tie_embeddings: bool, or "by preset";
        /// attend only to the last `window` tokens, including the current one; bidirectional models also see as many after it
        window: usize, in Words("1 or more"), or "none";
        /// every n-th block, beginning with the first, ignores the window (ModernBERT)
        global_every: usize, in Words("1 or more, with a `window`"), or "none";
        /// `c * tanh(score / c)` on attention scores (Gemma 2)
        attention_softcap: f64, in Number(Excluded(0.0), Unbounded), or "none";
        /// the same for the logits
        logit_softcap: f64, in Number(Excluded(0.0), Unbounded), or "none";
        /// probability in training, applied to embeddings, attention weights and sub-layer outputs
        dropout: f64, in Number(Included(0.0), Excluded(1.0)), = 0.0;
        /// standard deviation of initial matrices and embeddings (GPT-2); in an LSTM only of the embeddings, since its gates are
        /// initialized as in PyTorch
        init_std: f64, in Number(Excluded(0.0), Included(10.0)), or "0.02; 0.1 with `lstm`";
        /// the same for projections into the residual stream
        residual_std: f64, in Number(Included(0.0), Included(10.0)),
            or "`init_std / sqrt(2 n_layers)`; `init_std` with `norm_place = \"post\"`";
    }

    /// `[train]`
    RawTrain "train" {
        /// start from this model's weights, shape and tokenizer, with a fresh optimizer
        init_from: PathBuf, in Words("a model or run directory"), or "none";
        /// what is predicted: the next token from those before it, or hidden tokens from both sides (BERT, Devlin et al. 2019); `masked`
        /// needs a tokenizer with a mask token, such as WordPiece; `preference` makes the chosen of two answers more probable than the
        /// rejected one (DPO, Rafailov et al. 2023) and needs `train.init_from` and rows of `prompt`, `chosen` and `rejected`
        objective: ObjectiveKind, in OneOf(&["next_token", "masked", "preference"]), = ObjectiveKind::NextToken;
        /// updates
        steps: u64, in Whole(1, 1_000_000_000), = 2000;
        /// rows per micro-step
        batch_size: usize, in Whole(1, 4096), = 12;
        /// tokens per row, at most `model.max_seq_len`; 1 is refused too, because nothing could be predicted
        block_size: usize, in Whole(1, 1_048_576), = 64;
        /// micro-steps per update, averaged by the number of predicted tokens
        accumulation: usize, in Whole(1, 65_536), = 1;
        /// what products are computed in; `bf16` on the CPU needs AVX512-BF16 or AMX; `auto` takes `bf16` where a product in it is
        /// faster when the run starts, else `fp32`; `bf16` and `f16` are refused if the device or an LSTM has only `fp32`
        /// ([devices.md](devices.md#mixed-precision))
        precision: String, in OneOf(&["fp32", "bf16", "f16", "auto"]), or "`fp32`";
        /// the learning rate after the warm-up
        schedule: ScheduleKind, in OneOf(&["constant", "cosine", "linear", "wsd"]), = ScheduleKind::Cosine;
        /// peak learning rate of AdamW
        lr: f64, in Number(Excluded(0.0), Included(10.0)), = AdamW::default().lr;
        /// learning rate at the end
        min_lr: f64, in Words("0 to `lr`"), or "`lr / 10`";
        /// linear warm-up, `lr (step + 1) / (warmup_steps + 1)` (nanoGPT)
        warmup_steps: u64, in Words("0 to `steps`"), or "`steps / 10`, at most 100";
        /// share of the steps during which `wsd` decays
        decay_fraction: f64, in Number(Excluded(0.0), Included(1.0)), = 0.2;
        /// what trains the matrices of the blocks
        optimizer: OptimizerKind, in OneOf(&["adamw", "muon"]), = OptimizerKind::AdamW;
        /// AdamW, first moment
        beta1: f64, in Number(Included(0.0), Excluded(1.0)), = AdamW::default().beta1;
        /// AdamW, second moment
        beta2: f64, in Number(Included(0.0), Excluded(1.0)), = AdamW::default().beta2;
        /// AdamW, added to the root of the second moment
        eps: f64, in Number(Excluded(0.0), Unbounded), = AdamW::default().eps;
        /// AdamW, decoupled, on matrices only
        weight_decay: f64, in Number(Included(0.0), Included(10.0)), = AdamW::default().weight_decay;
        /// this much of a target's probability is spread evenly over the vocabulary (Szegedy et al. 2016); the training loss has it, the
        /// validation loss does not
        label_smoothing: f64, in Number(Included(0.0), Excluded(1.0)), = 0.0;
        /// limit of the global gradient norm (Pascanu et al. 2013)
        clip_norm: f64, in Number(Excluded(0.0), Unbounded), or "none";
        /// Muon's peak rate
        muon_lr: f64, in Number(Excluded(0.0), Included(10.0)), = Muon::default().lr;
        /// Muon's momentum
        muon_momentum: f64, in Number(Included(0.0), Excluded(1.0)), = Muon::default().momentum;
        /// Muon's decoupled weight decay
        muon_weight_decay: f64, in Number(Included(0.0), Included(10.0)), = Muon::default().weight_decay;
        /// parameters that are not trained, by the beginning of their names: `token_embedding`, `blocks.0`, `head`
        freeze: Vec<String>, in Words("at least one"), or "none";
        /// stop after this many evaluations without a better loss, or with `eval.metric` without better answers (while none is right, a better
        /// loss counts too)
        patience: u64, in Whole(1, u64::MAX), or "none";
        /// stop after the first evaluation with at most this validation loss, in nats per token
        stop_loss: f64, in Number(Excluded(0.0), Unbounded), or "none";
    }

    /// `[lora]`
    RawLora "lora" {
        /// train a low-rank adapter of this rank (LoRA, Hu et al. 2022) instead of the weights of `train.init_from`; at most the smaller
        /// side of each matrix
        rank: usize, in Whole(1, 65_536), or "none";
        /// the adapter's product is multiplied by `alpha / rank`
        alpha: f64, in Number(Excluded(0.0), Included(1e6)), or "`2 rank`";
        /// multiply by `alpha / sqrt(rank)` instead (Kalajdzievski 2023)
        rslora: bool, = false;
        /// probability in training, applied to the adapter's input
        dropout: f64, in Number(Included(0.0), Excluded(1.0)), = 0.0;
        /// ends of the names of linear layers in the model's file, such as `q_proj`, `v_proj`
        targets: Vec<String>, in Words("at least one"), or "all but the output matrix";
    }

    /// `[masking]`
    RawMasking "masking" {
        /// share of the tokens to predict
        fraction: f64, in Number(Excluded(0.0), Included(0.9)), = Masking::default().fraction;
        /// what is hidden together: a token, all tokens of a word, up to ten words in a row (SpanBERT, Joshi et al. 2020)
        unit: MaskUnit, in OneOf(&["token", "word", "span"]), = Masking::default().unit;
        /// share of those that becomes the mask token
        masked: f64, in Number(Included(0.0), Included(1.0)), = Masking::default().masked;
        /// share that becomes a random token, at most 1 - `masked`; the rest stays as it is
        random: f64, in Number(Included(0.0), Included(1.0)), = Masking::default().random;
    }

    /// `[replay]`
    RawReplay "replay" {
        /// share of the rows that are old data instead of the task's
        share: f64, in Number(Included(0.0), Included(0.9)), = 0.0;
        /// nats per token that the loss on held-out old data may rise by; an evaluation above it doubles `share` (at least 0.1, at most
        /// 0.9), and its checkpoint is not the best
        budget: f64, in Number(Included(0.0), Included(10.0)), or "none";
        /// old data: an embedded corpus
        corpus: String, or "the data of the run in `train.init_from`";
        /// old data: text files and folders
        files: Vec<PathBuf>, in Words("at least one"), or "the data of that run";
        /// old data: a folder that `taal data build` made
        shards: PathBuf, or "the data of that run";
        /// held-out tokens of old data that are scored, before and after
        max_tokens: u64, in Whole(2, u64::MAX), = 16_384;
    }

    /// `[preference]`
    RawPreference "preference" {
        /// DPO's beta: more keeps the model nearer to that of `train.init_from`
        beta: f64, in Number(Excluded(0.0), Included(100.0)), = 0.1;
        /// probability that the answers of a pair are the wrong way round (Mitchell 2023)
        label_smoothing: f64, in Number(Included(0.0), Excluded(0.5)), = 0.0;
    }

    /// `[eval]`
    RawEval "eval" {
        /// steps between evaluations of the whole validation split; the last step is always evaluated
        every: u64, in Whole(1, u64::MAX), = 250;
        /// windows at a time; the loss does not depend on it
        batch_size: usize, in Whole(1, 4096), or "the larger of `train.batch_size` and 8";
        /// score only the first this many held-out tokens (of conversations, the first rows with this many scored tokens, without bits per
        /// byte)
        max_tokens: u64, in Whole(2, u64::MAX), or "none";
        /// how good generated answers to held-out conversations are, by which the best checkpoint and `train.patience` go; `accuracy` and
        /// `macro_f1` take the answers as labels, `bleu`, `chrf` and `chrf++` are those of sacrebleu over all answers
        metric: AnswerMetric, in OneOf(&["exact_match", "accuracy", "rouge_l", "macro_f1", "bleu", "chrf", "chrf++"]), or "the loss";
        /// held-out examples that are answered for `metric`, evenly over all of them
        answers: usize, in Whole(1, 100_000), = 64;
        /// the longest answer
        answer_tokens: usize, in Whole(1, 65_536), = 64;
    }

    /// `[checkpoint]`
    RawCheckpoint "checkpoint" {
        /// steps between checkpoints; one is also saved after the best evaluation so far, when training is stopped, and after the last step
        every: u64, in Whole(1, u64::MAX), = 500;
        /// how many of the newest are kept; the best is kept too
        keep: usize, in Whole(1, 10_000), = 2;
        /// the run's model is the mean of the weights of the last this many checkpoints, counting the last step and multiples of `every`
        /// before it, unless the best checkpoint has a lower validation loss
        average: usize, in Whole(2, 1000), or "none: the best checkpoint";
        /// training continues while a checkpoint is written, which needs memory for a copy of weights and moments
        background: bool, = true;
    }

    /// `[health]`
    RawHealth "health" {
        /// a loss this many standard deviations above the window's mean is a spike (OLMo); 0: no spikes
        spike_sigma: f64, in Words("0, or 1 to 1000"), = 6.0;
        /// accepted losses in the window; until it is full, nothing is a spike
        spike_window: usize, in Whole(2, 100_000), = 128;
        /// bad steps in a row after which the run goes back to its newest checkpoint, or to its beginning if nothing was saved yet, and
        /// continues with the batches after the bad ones (PaLM, section 5.1)
        max_skips: u32, in Whole(1, 1000), = 3;
        /// how often a run goes back; after that, a loss that is not finite stops the run with exit code 86, and a loss that stays high is
        /// accepted
        rewinds: u32, in Whole(0, 1000), = 2;
    }

    /// `[sample]`
    RawSample "sample" {
        /// one sample per prompt
        prompts: Vec<String>, or "none";
        /// new tokens per sample
        max_tokens: usize, in Whole(0, 1_000_000), = 200;
        /// 0 is greedy
        temperature: f64, in Number(Included(0.0), Included(100.0)), = 0.8;
        /// draw only from this many most probable tokens
        top_k: usize, in Whole(1, 1_000_000), or "none";
        /// for a translator: translations that the search keeps in view; 1 is greedy
        beam: usize, in Whole(1, 64), = 1;
        /// for a masked model: words whose rank among the guesses for a prompt's first `[MASK]` is printed
        rank: Vec<String>, or "none";
    }
}

/// What to do with a damaged token shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DamagedKind {
    /// The run does not start.
    Stop,
    /// The shard is left out of training, with a note.
    Skip,
}

/// The order of the training windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderKind {
    /// Uniformly random offsets, as in nanoGPT.
    Random,
    /// Every window once per epoch, shuffled.
    Shuffled,
}

/// What to do with a character that is not in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownKind {
    /// An error that names it.
    Error,
    /// The unknown token.
    Token,
}

/// A published shape that `[model]` starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Preset {
    Gpt2,
    Nanogpt,
    Llama,
    Qwen3,
    Bert,
    Encoder,
    Lstm,
    Marian,
    T5,
}

/// What a model learns to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// The next token from the ones before it.
    NextToken,
    /// Hidden tokens from both sides (BERT).
    Masked,
    /// The chosen of two answers (DPO).
    Preference,
}
