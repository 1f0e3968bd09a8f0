//! Matrices in blocks of small integers in a safetensors file: bytes of shape `[d_output, blocks per row, bytes per block]`, in the layouts of
//! llama.cpp, under the names that the family has for them. The bytes per block say which type it is.

use std::sync::Arc;

use safetensors::tensor::Dtype;
use taal_kernels::{QuantizedMatrix, WeightType};

use super::weights::Stored;
use crate::ModelError;
use crate::layout::MatrixPlace;

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

impl Stored<'_> {
    /// Whether it holds blocks.
    pub(super) fn is_blocks(&self) -> bool {
        self.view.dtype() == Dtype::U8 && self.view.shape().len() == 3
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
