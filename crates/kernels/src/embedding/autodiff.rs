//! Token embeddings.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Shape, Tensor};

use super::cpu;
use crate::autodiff::{Fused, Input, apply, contiguous, dims, int_primitive, numbers, tensor};

#[derive(Debug, Clone)]
struct Embedding {
    ids: Arc<Vec<i32>>,
    /// Batch and length.
    shape: [usize; 2],
}

impl Fused<1> for Embedding {
    const NAMES: [&'static str; 2] = ["embedding", "embedding backward"];

    /// Rows and width of the table.
    type Saved = [usize; 2];

    fn forward(&self, inputs: [FlexTensor; 1], _is_tracked: bool) -> (FlexTensor, Option<[usize; 2]>) {
        let [table] = contiguous(inputs);
        let [rows, width] = [dims(&table)[0], dims(&table)[1]];
        let [batch, seq] = self.shape;
        let vectors = cpu::gather(numbers(&table), width, &self.ids);
        (tensor(vectors, Shape::new([batch, seq, width])), Some([rows, width]))
    }

    fn backward(&self, [rows, width]: [usize; 2], gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [gradient] = contiguous([gradient]);
        let table = cpu::scatter_add(rows, width, &self.ids, numbers(&gradient));
        [Some(tensor(table, Shape::new([rows, width])))]
    }
}

/// The rows of a table by id.
pub(crate) fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    let shape = ids.dims();
    let [ids] = contiguous([int_primitive(ids)]);
    let ids = Arc::new(ids.into_data().iter::<i32>().collect());
    apply(Embedding { ids, shape }, [Input::new(weight)])
}
