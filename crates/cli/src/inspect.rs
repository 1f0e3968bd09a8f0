//! `taal inspect`: what a model directory holds and what the model costs, without running it.

use std::path::Path;

use serde::Serialize;
use taal_inference::model_dir;
use taal_insight::Part;
use taal_kernels::DeviceSpec;
use taal_metrics::flops;
use taal_model::hugging_face::{self, Family, TOKENIZER_FILE};
use taal_model::{Mixer, Transformer, TransformerConfig, parameters};
use taal_tokenizer::Tokenizer;

use crate::arguments::InspectArguments;
use crate::failure::Failure;
use crate::{models, terminal};

/// Columns of the tree's names.
const TREE: usize = 38;

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Inspection {
    family: String,
    config: TransformerConfig,
    params: u64,
    /// Bytes of the weights in memory.
    weight_bytes: u64,
    /// The types of the matrices in memory.
    weight_types: String,
    /// Bytes of the key/value cache per token of one sequence; 0 for bidirectional and recurrent models.
    cache_bytes_per_token: u64,
    /// Of the forward pass over one sequence of `max_seq_len` tokens.
    forward_flops: u64,
    forward_flops_per_token: u64,
    /// Forward and backward, by PaLM's formula.
    training_flops_per_token: u64,
    tokenizer_vocab_size: Option<usize>,
    tensors: Vec<TensorInfo>,
    /// The layers as a tree.
    anatomy: Part,
}

/// One tensor, or the same one of every block.
#[derive(Debug, Serialize)]
struct TensorInfo {
    name: String,
    shape: Vec<usize>,
    /// How many blocks have it.
    count: usize,
    params: u64,
}

/// Inspects.
pub fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    // The weights are opened too: a figure about a file that does not fit its configuration would be worth nothing.
    let (model, tokenizer) = opened(&arguments.model)?;
    let config = model.config().clone();
    let shape = config.shape(config.max_seq_len);
    let count = flops::count(&shape);
    let cached = match config.mixer {
        Mixer::Attention => 2 * config.n_layers * config.n_kv_heads * config.head_dim,
        // Its state does not grow.
        Mixer::Lstm => 0,
    };
    let found = Inspection {
        family: format!("{:?}", Family::of(&config)).to_lowercase(),
        params: config.n_params(),
        weight_bytes: model.weight_bytes(),
        weight_types: model.weight_types(),
        cache_bytes_per_token: match config.is_causal {
            true => (model.cache_type().bytes() * cached) as u64,
            false => 0,
        },
        forward_flops: count.forward,
        forward_flops_per_token: count.forward / config.max_seq_len.max(1) as u64,
        training_flops_per_token: flops::palm_per_token(&shape),
        tokenizer_vocab_size: tokenizer.as_ref().map(Tokenizer::vocab_size),
        tensors: tensors(&parameters::list(&model)),
        anatomy: taal_insight::anatomy(&model),
        config,
    };
    if let Some(path) = &arguments.svg {
        taal_store::write_atomic(path, taal_insight::svg(&found.anatomy).as_bytes())?;
        terminal::message(&format!("wrote {}", path.display()));
    }
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    Ok(terminal::print(&words(&found))?)
}

/// A model and its tokenizer. Of a directory only these are opened, so that one whose other files are damaged can be looked at.
fn opened(path: &Path) -> Result<(Transformer, Option<Tokenizer>), Failure> {
    if taal_exchange::is_gguf_file(path)? {
        let lm = models::open(path, DeviceSpec::Flex)?;
        return Ok((lm.model, lm.tokenizer));
    }
    let dir = model_dir(path)?;
    let tokenizer_path = dir.join(TOKENIZER_FILE);
    let tokenizer = match taal_store::exists(&tokenizer_path) {
        true => Some(Tokenizer::open(&tokenizer_path)?),
        false => None,
    };
    Ok((hugging_face::open(&dir, &DeviceSpec::Flex.open()?)?, tokenizer))
}

/// The tensors of all blocks together, where the blocks are alike.
fn tensors(parameters: &[parameters::ParameterInfo]) -> Vec<TensorInfo> {
    let mut found: Vec<TensorInfo> = Vec::new();
    for parameter in parameters {
        let name = general_name(&parameter.name);
        let params: u64 = parameter.shape.iter().map(|size| *size as u64).product();
        match found
            .iter_mut()
            .find(|info| info.name == name && info.shape == parameter.shape)
        {
            Some(info) => {
                info.count += 1;
                info.params += params;
            }
            None => found.push(TensorInfo {
                name,
                shape: parameter.shape.clone(),
                count: 1,
                params,
            }),
        }
    }
    found
}

/// `blocks.3.norm` as `blocks.*.norm`.
fn general_name(name: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| if is_number(part) { "*" } else { part })
        .collect();
    parts.join(".")
}

fn words(found: &Inspection) -> String {
    let config = &found.config;
    let is_recurrent = config.mixer == Mixer::Lstm;
    let heads = match config.n_kv_heads == config.n_heads {
        true => format!("{} heads of {}", config.n_heads, config.head_dim),
        false => format!(
            "{} query heads and {} key and value heads of {}",
            config.n_heads, config.n_kv_heads, config.head_dim
        ),
    };
    let sees = if config.is_causal {
        "what comes before"
    } else {
        "both sides"
    };
    let mut rows = vec![
        ("family", found.family.clone()),
        (
            "shape",
            match is_recurrent {
                true => format!(
                    "{} layers of LSTM, {} wide, trained on {} tokens at a time",
                    config.n_layers,
                    config.d_model,
                    terminal::grouped(config.max_seq_len as u64)
                ),
                false => format!(
                    "{} {}, {} wide, {heads}",
                    config.n_layers,
                    if config.n_layers == 1 { "block" } else { "blocks" },
                    config.d_model
                ),
            },
        ),
        (
            "inside",
            format!(
                "feed-forward {} wide ({:?}), sees {sees}",
                config.d_ff, config.activation
            ),
        ),
        (
            "positions",
            format!(
                "{:?}, at most {} tokens",
                config.position,
                terminal::grouped(config.max_seq_len as u64)
            ),
        ),
        ("norms", format!("{:?}, {:?}", config.norm, config.norm_place)),
        (
            "vocabulary",
            match found.tokenizer_vocab_size {
                Some(size) => format!(
                    "{} rows, tokenizer of {}",
                    terminal::grouped(config.vocab_size as u64),
                    terminal::grouped(size as u64)
                ),
                None => format!("{} rows, no tokenizer", terminal::grouped(config.vocab_size as u64)),
            },
        ),
        ("parameters", terminal::grouped(found.params)),
        (
            "memory",
            match found.weight_types.as_str() {
                "F32" => format!("{} of weights in fp32", terminal::size(found.weight_bytes)),
                types => format!("{} of weights, matrices in {types}", terminal::size(found.weight_bytes)),
            },
        ),
    ];
    if is_recurrent {
        rows.retain(|(name, _)| !["inside", "positions", "norms"].contains(name));
    }
    if found.cache_bytes_per_token > 0 {
        rows.push((
            "cache",
            format!(
                "{} bytes per token, {} for the whole context",
                terminal::grouped(found.cache_bytes_per_token),
                terminal::size(found.cache_bytes_per_token * config.max_seq_len as u64)
            ),
        ));
    }
    rows.push((
        "FLOPs",
        format!(
            "{} per token forward (whole context), {} in training",
            terminal::short(found.forward_flops_per_token as f64),
            terminal::short(found.training_flops_per_token as f64)
        ),
    ));
    let mut text = terminal::table(&rows);
    text.push('\n');
    let has_types = found.weight_types != "F32";
    text.push_str(&format!(
        "{:TREE$}{:>12}{:>12}{:>10}{:>8}{}\n",
        "",
        "shape",
        "parameters",
        "memory",
        "FLOPs",
        if has_types { "  type" } else { "" }
    ));
    for row in taal_insight::rows(&found.anatomy) {
        let part = row.part;
        let shape = part
            .shape
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" x ");
        let unless_0 = |number: u64, text: String| if number == 0 { String::new() } else { text };
        let name = format!("{}{}", row.branches, row.label);
        let line = format!(
            "{name:TREE$}{shape:>12}{:>12}{:>10}{:>8}",
            unless_0(part.params, terminal::grouped(part.params)),
            unless_0(part.bytes, terminal::size(part.bytes)),
            unless_0(part.flops_per_token, terminal::short(part.flops_per_token as f64)),
        );
        let is_leaf = part.parts.is_empty() && has_types;
        let types: Vec<&str> = part.types.iter().filter(|_| is_leaf).map(String::as_str).collect();
        let line = format!("{line}  {}", types.join(", "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("\nFLOPs are per token of a forward pass over a whole context.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_alike_blocks_are_one_line() {
        let parameter = |name: &str, shape: &[usize]| parameters::ParameterInfo {
            name: name.to_string(),
            shape: shape.to_vec(),
            role: taal_model::Role::Matrix,
            parts: shape.to_vec(),
        };
        let found = tensors(&[
            parameter("blocks.0.norm.weight", &[4]),
            parameter("blocks.10.norm.weight", &[4]),
            parameter("head.weight", &[4, 9]),
        ]);
        let lines: Vec<(&str, usize, u64)> = found
            .iter()
            .map(|info| (info.name.as_str(), info.count, info.params))
            .collect();
        assert_eq!(lines, [("blocks.*.norm.weight", 2, 8), ("head.weight", 1, 36)]);
    }
}
