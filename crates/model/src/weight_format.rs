//! Which type each matrix of a model gets in fewer bits: what `llama-quantize` gives it in its files of the same name.

use std::fmt;
use std::str::FromStr;

use taal_kernels::WeightType;

use crate::config::TransformerConfig;
use crate::hugging_face::is_qkv_split;
use crate::precision::ENCODER;

/// A choice of types for all matrices, by llama.cpp's names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// All in 32-bit floats.
    F32,
    /// All in 16-bit floats.
    F16,
    /// All in the upper halves of 32-bit floats.
    Bf16,
    /// All in Q8_0.
    Q8_0,
    /// Q4_0, with the output matrix in Q6_K.
    Q4_0,
    /// Q4_K, with the output matrix, and about half of the values' and the feed-forward networks' last matrices, in Q6_K.
    Q4KM,
}

/// How a matrix is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To a type that is multiplied.
    To(WeightType),
    /// To llama.cpp's Q5_0, which is Q8_0 with the same values in memory.
    Q5_0,
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(kind) => kind.fmt(f),
            Self::Q5_0 => f.write_str("Q5_0"),
        }
    }
}

impl WeightFormat {
    /// All formats.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4KM];

    /// The type of most matrices.
    pub fn kind(self) -> WeightType {
        match self {
            Self::F32 => WeightType::F32,
            Self::F16 => WeightType::F16,
            Self::Bf16 => WeightType::Bf16,
            Self::Q8_0 => WeightType::Q8_0,
            Self::Q4_0 => WeightType::Q4_0,
            Self::Q4KM => WeightType::Q4K,
        }
    }

    /// The roundings of a matrix `[d_output, d_input]` or a table: one, or those of queries, keys and values where the model's family stores
    /// these separately and they differ. With each, how many of the outputs.
    pub fn roundings(
        self,
        config: &TransformerConfig,
        name: &str,
        [rows, width]: [usize; 2],
    ) -> Vec<(usize, Rounding)> {
        let kv = config.n_kv_heads * config.head_dim;
        if is_qkv(name) && is_qkv_split(config) {
            let parts = [rows - 2 * kv, kv, kv];
            let parts = parts.iter().enumerate();
            let parts: Vec<_> = parts
                .map(|(index, rows)| (*rows, self.rounding(config, name, index, width)))
                .collect();
            if parts.iter().any(|(_, rounding)| *rounding != parts[0].1) {
                return parts;
            }
        }
        vec![(rows, self.rounding(config, name, 0, width))]
    }

    /// The rounding of the matrix `name`, or of its part `index` where it is stored in several: that of its type, or where rows of `width`
    /// numbers are not whole blocks of it, what `llama-quantize` takes instead.
    pub fn rounding(self, config: &TransformerConfig, name: &str, index: usize, width: usize) -> Rounding {
        let wanted = self.wanted(config, name, index, width);
        if wanted.row_bytes(width).is_some() {
            return Rounding::To(wanted);
        }
        let is_whole = |kind: WeightType| kind.row_bytes(width).is_some();
        match wanted {
            WeightType::Q4K if is_whole(WeightType::Q4_0) => Rounding::Q5_0,
            // llama.cpp takes Q5_1 instead of Q5_K, which only models of 80 layers have, and these are wide enough.
            WeightType::Q5K | WeightType::Q6K if is_whole(WeightType::Q8_0) => Rounding::To(WeightType::Q8_0),
            _ => Rounding::To(WeightType::F16),
        }
    }

    /// The type of a matrix, if its rows are whole blocks: `llama_tensor_get_type_impl`.
    pub(crate) fn wanted(self, config: &TransformerConfig, name: &str, index: usize, width: usize) -> WeightType {
        let usual = self.kind();
        let is_output = name == "head.weight" || config.tie_embeddings && name == "token_embedding.weight";
        match self {
            Self::F32 | Self::F16 | Self::Bf16 | Self::Q8_0 => usual,
            Self::Q4_0 | Self::Q4KM if is_output && usual.row_bytes(width).is_none() => WeightType::Q8_0,
            Self::Q4_0 | Self::Q4KM if is_output => WeightType::Q6K,
            Self::Q4_0 => usual,
            Self::Q4KM => {
                let is_value = is_qkv(name) && (index == 2 || !is_qkv_split(config));
                let is_down = name.ends_with(".feed_forward.down.weight");
                // LLaMA 2 70B and its like: eight heads share their values.
                let is_shared = config.n_layers == 80 && config.n_kv_heads < config.n_heads;
                match layer_of(config, name) {
                    Some((layer, n_layers)) if (is_value || is_down) && gets_more_bits(layer, n_layers) => {
                        WeightType::Q6K
                    }
                    _ if is_value && is_shared => WeightType::Q5K,
                    _ => usual,
                }
            }
        }
    }
}

fn is_qkv(name: &str) -> bool {
    name.ends_with(".attention.qkv.weight")
}

/// The layer of a parameter, and how many its side has.
fn layer_of(config: &TransformerConfig, name: &str) -> Option<(usize, usize)> {
    let (name, n_layers) = match name.strip_prefix(ENCODER) {
        Some(name) => (name, config.encoder?.n_layers),
        None => (name, config.n_layers),
    };
    let layer = name.strip_prefix("blocks.")?.split_once('.')?.0;
    Some((layer.parse().ok()?, n_layers))
}

/// The first and last eighth of the layers, and every third between them.
fn gets_more_bits(layer: usize, n_layers: usize) -> bool {
    layer < n_layers / 8 || layer >= 7 * n_layers / 8 || (layer - n_layers / 8) % 3 == 2
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Q4KM => f.write_str("Q4_K_M"),
            other => other.kind().fmt(f),
        }
    }
}

impl FromStr for WeightFormat {
    type Err = String;

    /// A name in any case.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL
            .into_iter()
            .find(|format| format.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "expected f32, f16, bf16, q8_0, q4_0 or q4_k_m".to_owned())
    }
}
