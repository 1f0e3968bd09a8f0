//! The trace: the intermediate results of a text in a model, as plain numbers.

use std::path::Path;

use burn::tensor::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use taal_inference::{FillOptions, InferenceError, LanguageModel, Probe, Prompt};
use taal_model::{Capture, Memory, Mixer, Output, PositionKind, Transformer, TransformerConfig};
use taal_tokenizer::Tokenizer;

use crate::checkpoints::CheckpointGuess;
use crate::forward::{logits_at, read, row, to_host, values};
use crate::pair::{Crossed, Source, trace_pair};
use crate::rank::{Ranked, rank};
use crate::reading::{self, Reading, label};
use crate::{InsightError, Result};

/// The most attention weights, over all layers and heads: 256 MiB.
pub const MAX_WEIGHTS: u64 = 1 << 26;

/// The most guesses per position.
pub const MAX_TOP: usize = 1000;

/// The most bytes of a trace that is read back.
const MAX_JSON_BYTES: u64 = 2 << 30;

/// Options of [`trace`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// Guesses per position and layer.
    pub top: usize,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { top: 5 }
    }
}

impl TraceOptions {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InsightError::Setting`].
    pub fn validate(&self) -> Result<()> {
        match self.top {
            1..=MAX_TOP => Ok(()),
            top => Err(InsightError::setting(
                "top",
                format!("expected 1..={MAX_TOP}, got {top}"),
            )),
        }
    }
}

/// One text's pass through a model, stage by stage.
///
/// Positions ("places"), layers and heads are counted from 0. `states` below are the residual stream before the first layer and
/// after each, `n_layers + 1` of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Facts about the model.
    pub model: ModelFacts,
    /// The text as the tokenizer read it, with its own mask token for `[MASK]`; `None` where ids were given.
    pub text: Option<String>,
    /// The tokens, including those around a masked model's text.
    pub tokens: Vec<Token>,
    /// Their vectors.
    pub embedding: Embedding,
    /// Attention weights, `[layer][head][query][key]`. Each row sums to 1; a key that a query may not see has exactly 0.
    pub attention: Vec<Vec<Vec<Vec<f32>>>>,
    /// Euclidean norm of the residual stream, `[state][place]`.
    pub residual_norms: Vec<Vec<f64>>,
    /// The guesses of each state if it were the last (logit lens), `[state][place]`.
    pub lens: Vec<Vec<LensCell>>,
    /// The positions of interest: the last one of a causal model, the masks of a masked one (without a mask its last word).
    pub focus: Vec<usize>,
    /// The model's prediction at each of them.
    pub predictions: Vec<Prediction>,
    /// A masked model's text with every mask replaced, the most confident first.
    pub filled: Option<String>,
    /// The predictions of a run's checkpoints at the first of `focus`, oldest first; empty unless requested.
    pub checkpoints: Vec<CheckpointGuess>,
    /// The source, where the traced text is a translation by a model with an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// The shape of the traced model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Whether a token sees only those before it.
    pub is_causal: bool,
    /// Layers.
    pub n_layers: usize,
    /// Attention heads per layer.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of ids that can be predicted.
    pub vocab_size: usize,
    /// Context length in tokens.
    pub max_seq_len: usize,
    /// The tokenizer's model: `BPE`, `WordPiece`, `Unigram`, `WordLevel`; `None` without one.
    pub tokenizer: Option<String>,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its spelling in the vocabulary.
    pub token: String,
    /// Readable text; bytes that are not text by themselves as `\xC3`.
    pub text: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its bytes in the text, first and one past the last; `None` for tokens around the text.
    pub span: Option<[usize; 2]>,
    /// Whether it is a special token.
    pub is_special: bool,
    /// The merges that made it, in order; empty where the tokenizer is not BPE.
    pub merges: Vec<MergeStep>,
}

impl Token {
    /// A token of a model without tokenizer.
    pub(crate) fn unnamed(id: u32) -> Self {
        Self {
            id,
            token: String::new(),
            text: label(None, id),
            bytes: Vec::new(),
            span: None,
            is_special: false,
            merges: Vec::new(),
        }
    }
}

/// Two adjacent tokens merged into one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeStep {
    /// The left one, as readable text.
    pub left: String,
    /// The right one.
    pub right: String,
    /// The merge's index in the tokenizer's list, from 0.
    pub rank: usize,
}

/// How tokens become vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// The vector of each token, `[place][d_model]`.
    pub tokens: Vec<Vec<f32>>,
    /// The vector added for its position, `[place][d_model]`; empty where positions are encoded another way.
    pub places: Vec<Vec<f32>>,
    /// The input of the first layer, `[place][d_model]`: the sum, normalized where the model does so.
    pub sum: Vec<Vec<f32>>,
    /// How positions are encoded.
    pub positions: Positions,
}

/// How a model encodes positions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// `learned`, `sinusoidal`, `rotary`, `alibi` or `none`.
    pub kind: PositionKind,
    /// For rotary positions: how many positions each pair of coordinates takes for a full turn.
    pub wavelengths: Vec<f64>,
}

/// A layer's guesses at a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LensCell {
    /// The likeliest first.
    pub guesses: Vec<Guess>,
    /// The rank here, from 1, of the token that the last layer prefers at this position.
    pub final_rank: usize,
    /// Its probability here.
    pub final_probability: f64,
    /// The layer's uncertainty: the entropy of its distribution in bits.
    pub entropy_bits: f64,
}

/// One guess.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// Its id.
    pub id: u32,
    /// Readable text.
    pub text: String,
    /// Its logit.
    pub logit: f32,
    /// Its probability among all tokens.
    pub probability: f64,
}

/// The model's prediction at a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The position.
    pub place: usize,
    /// The likeliest first.
    pub guesses: Vec<Guess>,
    /// The model's uncertainty: the entropy of its distribution in bits.
    pub entropy_bits: f64,
    /// The logits of all ids.
    pub logits: Vec<f32>,
}

impl Trace {
    /// Reads a trace that [`save_json`](Self::save_json) wrote.
    ///
    /// # Errors
    ///
    /// [`InsightError::Store`], and [`InsightError::BadTrace`] naming file and location.
    pub fn open_json(path: &Path) -> Result<Self> {
        let bytes = taal_store::read(path, MAX_JSON_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|error| InsightError::BadTrace {
            path: path.to_path_buf(),
            detail: error.to_string(),
        })
    }

    /// The trace as one line of JSON. Numbers read back bit for bit.
    pub fn to_json(&self) -> String {
        // Every key is text and every number finite, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes the trace as JSON; an old file is replaced in one step.
    ///
    /// # Errors
    ///
    /// [`InsightError::Store`].
    pub fn save_json(&self, path: &Path) -> Result<()> {
        let mut json = self.to_json();
        json.push('\n');
        Ok(taal_store::write_atomic(path, json.as_bytes())?)
    }
}

/// Reads a text, or ids, and returns the intermediate results of every stage.
///
/// A causal model reads the text as `taal generate` does, without special tokens. A masked model reads it as `taal fill` does,
/// between the tokens that begin and end a text. A model with an encoder translates the text, see [`trace_pair`]. Ids are read unchanged.
///
/// # Errors
///
/// [`InsightError::Setting`] for a text without a token or a wrong setting, [`InsightError::TooManyWeights`], and those of tokenizing and
/// of the model: no tokenizer, unknown ids, a text longer than the context, logits that are not finite.
pub fn trace(lm: &LanguageModel, prompt: &Prompt, options: &TraceOptions) -> Result<Trace> {
    options.validate()?;
    if lm.model.is_encoder_decoder() {
        return match prompt {
            Prompt::Text(text) => trace_pair(lm, text, None, options),
            Prompt::Ids(_) => Err(InsightError::setting(
                "ids",
                "a model with an encoder is traced with a source text; give one",
            )),
        };
    }
    let reading = reading::read(lm, prompt)?;
    check_weights(&lm.model, [reading.ids.len(); 2])?;
    let (mut trace, _) = Probe::run(&lm.model.device(), || pass(lm, &reading, options, None))?;
    let has_mask = |tokenizer: &Tokenizer| reading.ids.iter().any(|id| tokenizer.mask_id() == Some(*id));
    if let (false, Some(text), Some(_)) = (
        trace.model.is_causal,
        &reading.text,
        lm.tokenizer.as_ref().filter(|tokenizer| has_mask(tokenizer)),
    ) {
        let options = FillOptions::default();
        trace.filled = Some(taal_inference::fill(lm, text, &options)?.filled);
    }
    Ok(trace)
}

/// A recurrent network has no heads, whatever its configuration says.
fn n_heads(config: &TransformerConfig) -> usize {
    match config.mixer {
        Mixer::Attention => config.n_heads,
        Mixer::Lstm => 0,
    }
}

/// Checks how many weights there are between so many queries and keys.
pub(crate) fn check_weights(model: &Transformer, tokens: [usize; 2]) -> Result<()> {
    let config = model.config();
    // For a text that does not fit the context, the model has a better message.
    let [tokens, keys] = tokens.map(|tokens| tokens.min(config.max_seq_len));
    let sizes = [config.n_layers, n_heads(config), tokens, keys];
    let weights = sizes
        .iter()
        .fold(1_u64, |product, &size| product.saturating_mul(size as u64));
    match weights > MAX_WEIGHTS {
        true => Err(InsightError::TooManyWeights {
            tokens,
            n_layers: config.n_layers,
            n_heads: n_heads(config),
            weights,
            limit: MAX_WEIGHTS,
        }),
        false => Ok(()),
    }
}

/// The trace of a text, and its attention to the source where there is one.
pub(crate) fn pass(
    lm: &LanguageModel,
    reading: &Reading,
    options: &TraceOptions,
    memory: Option<&Memory>,
) -> Result<(Trace, Crossed)> {
    let model = &lm.model;
    let config = model.config();
    let capture = Capture {
        hidden_states: true,
        attention_weights: true,
    };
    let output = read(model, &reading.ids, capture, memory)?;
    let logits = logits_at(model, output.hidden.clone(), &reading.focus)?;
    // A decoder reads what the model writes.
    let tokenizer = lm.tokenizer.as_ref().map(|tokenizer| match memory {
        Some(_) => tokenizer.of_targets(),
        None => tokenizer,
    });
    let predictions = logits
        .chunks_exact(config.vocab_size)
        .zip(&reading.focus)
        .map(|(logits, &place)| {
            let ranked = rank(&logits[..lm.vocab_size()], options.top, None)?;
            Ok(Prediction {
                place,
                guesses: guesses(tokenizer, &ranked),
                entropy_bits: ranked.entropy_bits,
                logits: logits.to_vec(),
            })
        })
        .collect::<Result<_>>()?;
    let residual_norms = output.hidden_states.iter().map(norms).collect::<Result<_>>()?;
    let trace = Trace {
        model: ModelFacts {
            is_causal: config.is_causal,
            n_layers: config.n_layers,
            n_heads: n_heads(config),
            d_model: config.d_model,
            vocab_size: lm.vocab_size(),
            max_seq_len: config.max_seq_len,
            tokenizer: tokenizer.map(|tokenizer| tokenizer.model_type().to_owned()),
        },
        text: reading.text.clone(),
        tokens: reading::tokens(tokenizer, reading),
        embedding: embedding(model, &reading.ids, &output)?,
        attention: weights(&output.attention_weights)?,
        residual_norms,
        lens: lens(lm, &output, &reading.focus, options.top)?,
        focus: reading.focus.clone(),
        predictions,
        filled: None,
        checkpoints: Vec::new(),
        source: None,
    };
    Ok((trace, output.cross_weights))
}

/// The guesses of every state at every position.
fn lens(lm: &LanguageModel, output: &Output, focus: &[usize], top: usize) -> Result<Vec<Vec<LensCell>>> {
    let model = &lm.model;
    let known = lm.vocab_size();
    let mut last: Option<Vec<u32>> = None;
    let mut rows = Vec::new();
    // The last state first: it determines whose rank is computed in the others.
    for state in output.hidden_states.iter().rev() {
        let hidden = model.normed(state.clone());
        let wanted = |place: usize| last.as_ref().map(|last| last[place]);
        let mut row = ranked_places(model, hidden.clone(), known, top, wanted)?;
        // At `focus`, the logits are computed like the prediction: a product of one row may round differently from one of many.
        let asked = logits_at(model, hidden, focus)?;
        for (logits, &place) in asked.chunks_exact(model.config().vocab_size).zip(focus) {
            row[place] = rank(&logits[..known], top, wanted(place))?;
        }
        last.get_or_insert_with(|| row.iter().map(|ranked| ranked.best[0].0).collect());
        rows.push(row);
    }
    let cell = |ranked: Ranked| LensCell {
        guesses: guesses(lm.tokenizer.as_ref(), &ranked),
        final_rank: ranked.of.0,
        final_probability: ranked.of.1,
        entropy_bits: ranked.entropy_bits,
    };
    Ok(rows
        .into_iter()
        .rev()
        .map(|row| row.into_iter().map(cell).collect())
        .collect())
}

/// The ranks at all positions.
fn ranked_places(
    model: &Transformer,
    hidden: Tensor<3>,
    known: usize,
    top: usize,
    wanted: impl Fn(usize) -> Option<u32> + Sync,
) -> Result<Vec<Ranked>> {
    let blocks = Probe::new(model).logits(hidden, None, |logits, places| {
        let logits = values(logits)?;
        let ranked: Result<Vec<Ranked>> = logits
            .par_chunks_exact(model.config().vocab_size)
            .zip(places)
            .map(|(logits, place)| rank(&logits[..known], top, wanted(place)))
            .collect();
        Ok(ranked)
    })?;
    let ranked: Result<Vec<Vec<Ranked>>> = blocks.into_iter().collect();
    Ok(ranked?.concat())
}

pub(crate) fn guesses(tokenizer: Option<&Tokenizer>, ranked: &Ranked) -> Vec<Guess> {
    let guess = |&(id, logit, probability): &(u32, f32, f64)| Guess {
        id,
        text: label(tokenizer, id),
        logit,
        probability,
    };
    ranked.best.iter().map(guess).collect()
}

fn embedding(model: &Transformer, ids: &[u32], output: &Output) -> Result<Embedding> {
    let tokens = model.embeddings.tokens.forward(row(ids, &model.device())); // [1, seq, d_model]
    let places = match model.position_vectors(0, ids.len())? {
        Some(places) => vectors(places.unsqueeze::<3>())?,
        None => Vec::new(),
    };
    let sum = output
        .hidden_states
        .first()
        .cloned()
        .map_or_else(|| Ok(Vec::new()), vectors)?;
    Ok(Embedding {
        tokens: vectors(tokens)?,
        places,
        sum,
        positions: Positions {
            kind: model.config().position,
            wavelengths: wavelengths(model)?,
        },
    })
}

/// Computed from the angles of position 1, so that scaling is included.
fn wavelengths(model: &Transformer) -> Result<Vec<f64>> {
    let Some(rotary) = model.rotary().filter(|rotary| rotary.max_len() > 1) else {
        return Ok(Vec::new());
    };
    let (cos, signed_sin) = rotary.rows(1, 1).map_err(taal_model::ModelError::from)?; // [1, head_dim]
    let (cos, signed_sin) = (to_host(cos)?, to_host(signed_sin)?);
    let half = cos.len() / 2;
    let angle = |pair: usize| f64::from(signed_sin[half + pair]).atan2(f64::from(cos[pair]));
    Ok((0..half)
        .map(|pair| std::f64::consts::TAU / angle(pair))
        .filter(|turn| turn.is_finite())
        .collect())
}

/// The rows of `[1, seq, width]`.
fn vectors(tensor: Tensor<3>) -> Result<Vec<Vec<f32>>> {
    let [_, _, width] = tensor.dims();
    let values = finite(to_host(tensor)?, "the vectors of the tokens are")?;
    Ok(values.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

fn norms(state: &Tensor<3>) -> Result<Vec<f64>> {
    let [_, _, width] = state.dims();
    let values = finite(to_host(state.clone())?, "the hidden states are")?;
    let norm = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    Ok(values.chunks_exact(width).map(norm).collect())
}

/// `[layer][head][query][key]`
pub(crate) fn weights(layers: &[Tensor<4>]) -> Result<Vec<Vec<Vec<Vec<f32>>>>> {
    let layer = |weights: &Tensor<4>| {
        let [_, _, queries, keys] = weights.dims();
        let values = finite(to_host(weights.clone())?, "the attention weights are")?;
        let head = |head: &[f32]| head.chunks_exact(keys).map(<[f32]>::to_vec).collect();
        Ok(values.chunks_exact(queries * keys).map(head).collect())
    };
    layers.iter().map(layer).collect()
}

/// Checks that values are finite, since JSON has no other numbers.
fn finite(values: Vec<f32>, what: &str) -> Result<Vec<f32>> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(InferenceError::NotFinite { what: what.to_owned() }.into()),
    }
}
