//! Weights in fewer bits, for inference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use taal_attention::{CrossAttention, MultiHeadAttention};
use taal_kernels::{Dense, KernelError, QuantizedMatrix, WeightType, encode_q5_0, q8_0_of_q5_0};

use crate::ModelError;
use crate::config::{Mixer, TransformerConfig};
use crate::feed_forward::FeedForward;
use crate::head::Head;
use crate::parameters;
use crate::stack::Stack;
use crate::transformer::Transformer;
use crate::weight_format::{Rounding, WeightFormat};

/// The name of the table of tokens.
pub(crate) const TOKENS: &str = "token_embedding.weight";

/// The dense layers of a model with their names, by reference of either kind.
macro_rules! dense_layers {
    ($model:expr, $iter:ident, $as_ref:ident $(, $mutable:tt)?) => {{
        let mut layers = Vec::new();
        let decoder = match &$($mutable)? $model.stack {
            Stack::Blocks(blocks) => Some(("", blocks)),
            Stack::Recurrent(_) => None,
        };
        let encoder = $model.encoder.$as_ref().map(|encoder| (ENCODER, encoder));
        for (side, blocks) in encoder.into_iter().chain(decoder) {
            for (index, block) in blocks.blocks.$iter().enumerate() {
                let MultiHeadAttention { qkv, output, .. } = &$($mutable)? block.attention;
                let FeedForward { up, gate, down, .. } = &$($mutable)? block.feed_forward;
                let [query, key_value, cross_output] = match &$($mutable)? block.cross {
                    Some(cross) => {
                        let CrossAttention { query, key_value, output, .. } = &$($mutable)? cross.attention;
                        [Some(query), Some(key_value), Some(output)]
                    }
                    None => [None, None, None],
                };
                let attention = [Some(qkv), Some(output), query, key_value, cross_output];
                let named = attention.into_iter().chain([Some(up), gate.$as_ref(), Some(down)]);
                layers.extend(in_block(side, index, named));
            }
        }
        let (transform, output) = match &$($mutable)? $model.head {
            Head::LanguageModel(output) => (None, output),
            Head::Masked(head) => (Some(&$($mutable)? head.transform.dense), &$($mutable)? head.output),
        };
        layers.extend(transform.map(|dense| (TRANSFORM.to_owned(), dense)));
        layers.extend(output.matrix.$as_ref().map(|dense| (HEAD.to_owned(), dense)));
        layers
    }};
}

impl Transformer {
    /// The same model with its matrices and its token embedding rounded as a format says; with F32, they are multiplied in single
    /// precision again. Norms, biases, positions and an LSTM's matrices are unchanged.
    ///
    /// Such a model is for inference: gradients flow through the rounded weights, and nothing trains them.
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where a weight is too large for its type, or the device is a GPU.
    pub fn with_weights(mut self, format: WeightFormat) -> Result<Self, ModelError> {
        if format == WeightFormat::F32 {
            self.dense_layers().into_iter().for_each(|(_, dense)| dense.unpack());
            self.embeddings.tokens.unpack();
            return Ok(self);
        }
        if taal_kernels::is_gpu(&self.device()) {
            return Err(ModelError::Input(format!(
                "weights in {format} are multiplied on the CPU only: choose F32, or the device flex"
            )));
        }
        let config = self.config().clone();
        for (name, dense) in self.dense_layers() {
            let [d_input, d_output] = dense.weight.lazy_shape().dims();
            let parts = format.roundings(&config, &name, [d_output, d_input]);
            if is_so(dense.quantized().iter(), &parts) {
                continue;
            }
            let values: Vec<f32> = dense.weight().transpose().into_data().iter::<f32>().collect();
            dense.set_quantized(rounded(&name, &values, d_input, &parts)?);
        }
        let tokens = &mut self.embeddings.tokens;
        let [rows, width] = tokens.weight.lazy_shape().dims();
        let parts = format.roundings(&config, TOKENS, [rows, width]);
        if !is_so(tokens.quantized().into_iter(), &parts) {
            let values: Vec<f32> = tokens.weight.val().into_data().iter::<f32>().collect();
            let table = rounded(TOKENS, &values, width, &parts)?.swap_remove(0);
            tokens.set_quantized(table);
        }
        Ok(self)
    }

    /// The same model with products of matrices in fewer bits in single precision, as in training, or with activations in as few bits,
    /// which is faster and rounds them. Without such matrices it is the same.
    #[must_use]
    pub fn with_exact_products(mut self, is_exact: bool) -> Self {
        let layers = self.dense_layers().into_iter();
        layers.for_each(|(_, dense)| dense.set_exact_products(is_exact));
        self.embeddings.tokens.set_exact_products(is_exact);
        self
    }

    /// Takes matrices in fewer bits, by the names of the parameters that they replace.
    pub(crate) fn take_quantized(&mut self, mut matrices: BTreeMap<String, Vec<QuantizedMatrix>>) {
        for (name, dense) in self.dense_layers() {
            if let Some(matrices) = matrices.remove(&name) {
                dense.set_quantized(matrices);
            }
        }
        if let Some(table) = matrices.remove(TOKENS).and_then(|mut tables| tables.pop()) {
            self.embeddings.tokens.set_quantized(table);
        }
    }

    /// The matrices in fewer bits, by the names of the parameters that they replace: each is one matrix `[d_output, d_input]`, or several of
    /// different types below each other. The others are in single precision.
    pub fn quantized(&self) -> BTreeMap<String, &[QuantizedMatrix]> {
        let dense = self.dense_layers_ref().into_iter();
        let dense = dense.map(|(name, dense)| (name, dense.quantized()));
        let tokens = self.embeddings.tokens.quantized().map(std::slice::from_ref);
        let tokens = tokens.map(|table| (TOKENS.to_owned(), table));
        dense.chain(tokens).filter(|(_, found)| !found.is_empty()).collect()
    }

    /// The types of the matrices and the token embedding in memory, by name: F32 too where one of them is in single precision.
    pub fn weight_types(&self) -> String {
        let quantized = self.quantized();
        let kinds = quantized.values().copied().flatten().map(QuantizedMatrix::kind);
        let mut found: BTreeSet<String> = kinds.map(|kind| kind.to_string()).collect();
        let is_single = |dense: &Dense| dense.quantized().is_empty();
        let tokens = self.embeddings.tokens.quantized();
        if tokens.is_none() || self.dense_layers_ref().iter().any(|(_, dense)| is_single(dense)) {
            found.insert(WeightType::F32.to_string());
        }
        Vec::from_iter(found).join(", ")
    }

    /// Whether any matrix is in fewer bits.
    pub(crate) fn is_in_fewer_bits(&self) -> bool {
        self.embeddings.tokens.quantized().is_some()
            || self
                .dense_layers_ref()
                .iter()
                .any(|(_, dense)| !dense.quantized().is_empty())
    }

    /// Whether any matrix is in blocks of small integers.
    pub fn has_blocks(&self) -> bool {
        let quantized = self.quantized();
        quantized
            .values()
            .copied()
            .flatten()
            .any(|matrix| matrix.kind().is_integer())
    }

    /// The bytes of all parameters in memory.
    pub fn weight_bytes(&self) -> u64 {
        let quantized = self.quantized();
        let saved: u64 = quantized.values().copied().flatten().map(saved_bytes).sum();
        4 * self.config().n_params() - saved
    }

    /// Every dense layer with the name of its weight in the table of parameters.
    pub(crate) fn dense_layers(&mut self) -> Vec<(String, &mut Dense)> {
        dense_layers!(self, iter_mut, as_mut, mut)
    }

    /// The same, to read.
    pub(crate) fn dense_layers_ref(&self) -> Vec<(String, &Dense)> {
        dense_layers!(self, iter, as_ref)
    }
}

/// The dense layers of a block that exist, of those of [`IN_BLOCKS`], with their names.
fn in_block<D>(side: &str, index: usize, layers: impl Iterator<Item = Option<D>>) -> Vec<(String, D)> {
    let named = IN_BLOCKS.iter().zip(layers);
    named
        .filter_map(|(name, dense)| Some((format!("{side}blocks.{index}.{name}.weight"), dense?)))
        .collect()
}

/// The dense layers of a block, in the order of [`Transformer::dense_layers`].
const IN_BLOCKS: [&str; 8] = [
    "attention.qkv",
    "attention.output",
    "cross.query",
    "cross.key_value",
    "cross.output",
    "feed_forward.up",
    "feed_forward.gate",
    "feed_forward.down",
];

/// What the names of the encoder's parameters begin with.
pub(crate) const ENCODER: &str = "encoder.";

/// The transform before the output matrix.
const TRANSFORM: &str = "head_transform.dense.weight";

/// The output matrix.
pub(crate) const HEAD: &str = "head.weight";

/// Whether a parameter can be in fewer bits: the matrices of dense layers and the token embedding.
pub fn can_be_quantized(name: &str) -> bool {
    let in_block = || {
        let name = name.strip_prefix(ENCODER).unwrap_or(name);
        let rest = name.strip_prefix("blocks.")?.split_once('.')?.1;
        Some(IN_BLOCKS.contains(&rest.strip_suffix(".weight")?))
    };
    [TOKENS, TRANSFORM, HEAD].contains(&name) || in_block() == Some(true)
}

/// The type and the bytes of some rows of matrices below each other; `None` where they have different types.
pub fn rows_of(matrices: &[QuantizedMatrix], rows: Range<usize>) -> Option<(WeightType, Vec<u8>)> {
    let mut first = 0;
    let mut found: Option<(WeightType, Vec<u8>)> = None;
    for matrix in matrices {
        let [height, width] = matrix.shape();
        let row_bytes = matrix.kind().row_bytes(width)?;
        let from = rows.start.max(first).min(first + height) - first;
        let to = rows.end.max(first).min(first + height) - first;
        first += height;
        if from == to {
            continue;
        }
        let bytes = &matrix.bytes()[from * row_bytes..to * row_bytes];
        match &mut found {
            Some((kind, _)) if *kind != matrix.kind() => return None,
            Some((_, all)) => all.extend_from_slice(bytes),
            None => found = Some((matrix.kind(), bytes.to_vec())),
        }
    }
    found
}

/// The values of a parameter whose matrices these are, in its own order.
pub(crate) fn values_of(name: &str, matrices: &[QuantizedMatrix]) -> Vec<f32> {
    let rows: Vec<f32> = matrices.iter().flat_map(QuantizedMatrix::dequantize).collect();
    if name == TOKENS {
        return rows;
    }
    let width = matrices.first().map_or(1, |matrix| matrix.shape()[1]).max(1);
    (0..width)
        .flat_map(|column| rows.iter().skip(column).step_by(width).copied())
        .collect()
}

/// Whether matrices have these types already. Of Q5_0, what is in memory does not tell.
fn is_so<'a>(matrices: impl Iterator<Item = &'a QuantizedMatrix>, parts: &[(usize, Rounding)]) -> bool {
    let found = matrices.map(|matrix| Rounding::To(matrix.kind()));
    found.eq(parts.iter().map(|(_, rounding)| *rounding))
}

/// Rounds `[rows, width]`, a matrix for each range of rows.
fn rounded(
    name: &str,
    values: &[f32],
    width: usize,
    parts: &[(usize, Rounding)],
) -> Result<Vec<QuantizedMatrix>, ModelError> {
    let mut rest = values;
    let matrices = parts.iter().map(|(rows, rounding)| {
        let (these, others) = rest.split_at(rows * width);
        rest = others;
        let shape = [*rows, width];
        match rounding {
            Rounding::To(kind) => QuantizedMatrix::quantize(these, *kind, shape),
            Rounding::Q5_0 => encode_q5_0(these)
                .ok_or_else(|| KernelError::Quantize {
                    reason: "a weight is too large for Q5_0 or not a number".to_owned(),
                })
                .and_then(|bytes| QuantizedMatrix::from_bytes(Arc::new(q8_0_of_q5_0(&bytes)), WeightType::Q8_0, shape)),
        }
        .map_err(|error| ModelError::Input(format!("{}: {error}", name.trim_end_matches(".weight"))))
    });
    matrices.collect()
}

fn saved_bytes(matrix: &QuantizedMatrix) -> u64 {
    let [rows, columns] = matrix.shape();
    (4 * rows * columns - matrix.bytes().len()) as u64
}

impl WeightFormat {
    /// What to say of matrices whose rows are not whole blocks of the type that the format gives them, and of an LSTM's, which it leaves as
    /// they are; none where all have their type.
    pub fn note(self, config: &TransformerConfig, found: &[parameters::ParameterInfo]) -> Option<String> {
        let matrices = found.iter().filter(|info| can_be_quantized(&info.name));
        let mut replaced: BTreeMap<(String, String, usize), usize> = BTreeMap::new();
        for info in matrices {
            let [rows, width] = match (&*info.name, &*info.shape) {
                (TOKENS, [rows, width]) => [*rows, *width],
                (_, [width, rows]) => [*rows, *width],
                _ => continue,
            };
            for (index, (_, rounding)) in self.roundings(config, &info.name, [rows, width]).iter().enumerate() {
                let wanted = self.wanted(config, &info.name, index, width);
                if *rounding != Rounding::To(wanted) {
                    *replaced
                        .entry((wanted.to_string(), rounding.to_string(), width))
                        .or_default() += 1;
                }
            }
        }
        let mut parts: Vec<String> = replaced
            .into_iter()
            .map(|((wanted, got, width), count)| {
                let matrices = if count == 1 {
                    "1 matrix is"
                } else {
                    &format!("{count} matrices are")
                };
                format!("{matrices} {got} instead of {wanted}, whose blocks rows of {width} numbers do not fill")
            })
            .collect();
        if self != Self::F32 && config.mixer == Mixer::Lstm {
            parts.push("the matrices of the LSTM's gates stay F32".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
