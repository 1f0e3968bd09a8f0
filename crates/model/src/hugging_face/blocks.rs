//! Matrices in blocks of small integers in a safetensors file: bytes of shape `[d_output, blocks per row, bytes per block]`, in the layouts of
//! llama.cpp, under the names that the family has for them. The bytes per block say which type it is.

use std::sync::Arc;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use taal_kernels::{QuantizedMatrix, WeightType};

use super::weights::{Stored, shown};
use crate::ModelError;
use crate::layout::MatrixPlace;

/// The key of `config.json` that says how weights are quantized, so that other programs refuse what they cannot read.
pub(super) const QUANTIZATION: &str = "quantization_config";

/// The key in it of the method.
pub(super) const METHOD: &str = "quant_method";

/// The method of blocks.
pub(super) const BLOCKS: &str = "ggml";

/// The types that are stored so; floats have a type of their own in the format.
const TYPES: [WeightType; 5] = [
    WeightType::Q8_0,
    WeightType::Q4_0,
    WeightType::Q4K,
    WeightType::Q5K,
    WeightType::Q6K,
];

/// Dimensions of a tensor of blocks of a matrix `[rows, columns]`; `None` of a type of floats.
pub(super) fn shape(kind: WeightType, [rows, columns]: [usize; 2]) -> Option<Vec<usize>> {
    let (values, bytes) = kind.block();
    TYPES.contains(&kind).then(|| vec![rows, columns / values, bytes])
}

/// Whether a `config.json` says that weights are in blocks.
pub(super) fn is_quantized(text: &str) -> bool {
    let config: Option<Value> = serde_json::from_str(text).ok();
    config.is_some_and(|config| config[QUANTIZATION][METHOD] == BLOCKS)
}

/// Refuses a `config.json` of weights that another method has quantized: their tensors would be missing, or have other shapes.
pub(super) fn check_method(config: &Value) -> Result<(), String> {
    let method = match &config[QUANTIZATION] {
        Value::Null => return Ok(()),
        quantization => &quantization[METHOD],
    };
    let by = match method.as_str() {
        Some(BLOCKS) => return Ok(()),
        Some(method) => format!("\"{}\"", shown(method)),
        None => format!("a method that `{METHOD}` does not name"),
    };
    Err(format!(
        "key `{QUANTIZATION}`: the weights are quantized by {by}, which is not read; take the model in F16 or BF16, or as a GGUF \
         file"
    ))
}

/// Whether a tensor holds blocks.
pub(super) fn is_blocks(view: &TensorView<'_>) -> bool {
    view.dtype() == Dtype::U8 && view.shape().len() == 3
}

/// The type of 16-bit floats that tensors have; `None` where they are stored otherwise, or not all alike.
pub(super) fn half_of<'s>(mut stored: impl Iterator<Item = &'s Stored<'s>>) -> Option<WeightType> {
    let kind = |stored: &Stored<'_>| match stored.view.dtype() {
        Dtype::F16 => Some(WeightType::F16),
        Dtype::BF16 => Some(WeightType::Bf16),
        _ => None,
    };
    let first = kind(stored.next()?)?;
    stored.all(|stored| kind(stored) == Some(first)).then_some(first)
}

/// The values of a matrix `[d_input, d_output]`, or of a table, in the 16-bit floats that they were read from.
pub(super) fn in_half(
    values: &[f32],
    kind: WeightType,
    shape: &[usize],
    is_table: bool,
) -> Result<QuantizedMatrix, ModelError> {
    let &[rows, columns] = shape else {
        return Err(ModelError::Input("a vector is not stored in fewer bits".to_owned()));
    };
    let matrix = if is_table {
        QuantizedMatrix::quantize(values, kind, [rows, columns])
    } else {
        let column = |column: usize| values.iter().skip(column).step_by(columns.max(1)).copied();
        let outputs: Vec<f32> = (0..columns).flat_map(column).collect();
        QuantizedMatrix::quantize(&outputs, kind, [columns, rows])
    };
    matrix.map_err(|error| ModelError::Input(error.to_string()))
}

impl Stored<'_> {
    /// Whether it holds blocks.
    pub(super) fn is_blocks(&self) -> bool {
        is_blocks(&self.view)
    }

    /// The rows of a matrix of blocks, in the file's memory where it is mapped.
    pub(super) fn matrix(&self, name: &str, place: &MatrixPlace) -> Result<QuantizedMatrix, ModelError> {
        let [rows, columns] = place.shape;
        let &[stored_rows, blocks, block_bytes] = self.view.shape() else {
            return Err(self.bad(name, "does not hold blocks"));
        };
        let kind = TYPES
            .into_iter()
            .find(|kind| kind.block().1 == block_bytes)
            .ok_or_else(|| {
                let known = TYPES.map(|kind| format!("{} ({kind})", kind.block().1)).join(", ");
                self.bad(
                    name,
                    &format!("has blocks of {block_bytes} bytes, of an unknown type; expected one of {known}"),
                )
            })?;
        let (values, _) = kind.block();
        if (stored_rows, blocks * values) != (rows, columns) {
            let detail = format!(
                "has {stored_rows} rows of {blocks} blocks of {kind}, but config.json asks for {rows} rows of {columns} numbers"
            );
            return Err(self.bad(name, &detail));
        }
        let row_bytes = blocks * block_bytes;
        let bytes = &self.view.data()[place.rows.start * row_bytes..place.rows.end * row_bytes];
        let shape = [place.rows.len(), columns];
        let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = match self.map.and_then(|map| map.part(bytes)) {
            Some(part) => Arc::new(part),
            None => Arc::new(bytes.to_vec()),
        };
        let matrix = QuantizedMatrix::from_bytes(bytes, kind, shape);
        let matrix = matrix.map_err(|error| self.bad(name, &error.to_string()))?;
        match matrix.first_not_finite() {
            None => Ok(matrix),
            Some(index) => Err(self.bad(
                name,
                &format!(
                    "holds a scale that is not finite in block {index}: these weights are damaged; copy the file again"
                ),
            )),
        }
    }
}
