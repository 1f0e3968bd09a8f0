//! A model with an encoder made from one without: the blocks of a decoder or of an encoder that are there, and fresh ones.

use std::collections::BTreeMap;

use burn::tensor::Device;
use taal_model::{Initialization, Transformer, TransformerConfig, parameters};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::recipe::encoder_of;

/// What the names of an encoder's parameters begin with.
const ENCODER: &str = "encoder.";

/// The id that a decoder's texts begin with.
pub(crate) fn decoder_start(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.bos_id().or(tokenizer.eos_id())
}

/// The shape of a model with an encoder of so many blocks; unchanged for 0, or where it has an encoder.
pub(crate) fn with_encoder(config: TransformerConfig, n_layers: usize, tokenizer: &Tokenizer) -> TransformerConfig {
    if n_layers == 0 || config.encoder.is_some() {
        return config;
    }
    TransformerConfig {
        encoder: encoder_of(n_layers),
        decoder_start: decoder_start(tokenizer),
        // A bidirectional model becomes the encoder.
        is_causal: true,
        head_transform: false,
        ..config
    }
}

/// A model that has grown, and where its parameters are from.
pub(crate) struct Grown {
    pub(crate) model: Transformer,
    /// Names of parameters that the other model did not have.
    pub(crate) fresh: Vec<String>,
    /// Names of parameters of the other model that have no place.
    pub(crate) unused: Vec<String>,
}

/// A model of a shape with an encoder from one without: a causal model gives the decoder's blocks, a bidirectional one the encoder's, and
/// either the embeddings. Parameters that it does not have are drawn from the seed.
///
/// # Errors
///
/// The model's, for a shape that is not possible.
pub(crate) fn grown_from(
    given: &Transformer,
    shape: &TransformerConfig,
    seed: u64,
    device: &Device,
) -> Result<Grown, TrainError> {
    let mut values = BTreeMap::new();
    let is_decoder = given.config().is_causal;
    parameters::read(given, |name, dims, numbers| {
        let is_shared = name.contains("embedding") || name.starts_with("head");
        let place = match is_decoder || is_shared {
            true => name.to_string(),
            false => format!("{ENCODER}{name}"),
        };
        values.insert(place, (dims.to_vec(), numbers));
    });
    let fresh_model = shape.init_with(seed, Initialization::default(), device)?;
    let mut own = BTreeMap::new();
    parameters::read(&fresh_model, |name, _, numbers| {
        own.insert(name.to_string(), numbers);
    });
    let mut fresh = Vec::new();
    let model = parameters::replace(fresh_model, |name, dims| {
        let found = values.remove(name).filter(|(found, _)| found == dims);
        Ok::<_, TrainError>(match found {
            Some((_, numbers)) => numbers,
            None => {
                fresh.push(name.to_string());
                own.remove(name).unwrap_or_default()
            }
        })
    })?;
    Ok(Grown {
        model,
        fresh,
        unused: values.into_keys().collect(),
    })
}

impl Grown {
    /// One line for the terminal.
    pub(crate) fn words(&self) -> String {
        let parts = |names: &[String]| {
            let mut parts: Vec<String> = names.iter().map(|name| part(name)).collect();
            parts.dedup();
            parts.sort();
            parts.dedup();
            parts.join(", ")
        };
        let unused = match self.unused.is_empty() {
            true => String::new(),
            false => format!("; not used of it: {}", parts(&self.unused)),
        };
        format!(
            "the model of train.init_from lacks {} parameters, which are drawn from the seed: {}{unused}",
            self.fresh.len(),
            parts(&self.fresh)
        )
    }
}

/// A parameter's name with its block's number as `*`.
fn part(name: &str) -> String {
    let pieces = name.split('.');
    let pieces: Vec<&str> = pieces
        .map(|piece| if piece.parse::<usize>().is_ok() { "*" } else { piece })
        .collect();
    pieces.join(".")
}
