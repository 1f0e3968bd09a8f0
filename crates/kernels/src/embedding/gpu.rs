//! Token embeddings whose gradient is summed by one thread for each place and column that starts a token's chain.
//!
//! Burn's own scatter-add gives every column to one thread, which walks all tokens. Here the places of each token are
//! first linked in their order; then the thread of a token's first place follows the links. The sum has a fixed
//! order, so that two runs give equal bits, and needs no atomic addition, which some adapters lack.

use burn::backend::ops::ModuleOps;
use burn::tensor::{DType, Int, Shape, Tensor as BurnTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::autodiff::{Fused, Input, apply};
use crate::gpu::{empty_like, launch_over};

/// For every place: the next place with the same id, or `count`; and whether no earlier place has it.
#[cube(launch)]
fn link_places(ids: &Tensor<i32>, next: &mut Tensor<u32>, is_first: &mut Tensor<u32>, count: usize) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let id = ids[ABSOLUTE_POS];
    let mut first = 1u32;
    for place in 0..ABSOLUTE_POS {
        if ids[place] == id {
            first = 0u32;
        }
    }
    let mut place = ABSOLUTE_POS + 1;
    while place < count && ids[place] != id {
        place += 1;
    }
    next[ABSOLUTE_POS] = place as u32;
    is_first[ABSOLUTE_POS] = first;
}

/// The sum over a token's places of one column of the gradient.
#[cube(launch)]
fn sum_chains(
    ids: &Tensor<i32>,
    next: &Tensor<u32>,
    is_first: &Tensor<u32>,
    gradient: &Tensor<f32>,
    table: &mut Tensor<f32>,
    count: usize,
    width: usize,
) {
    if ABSOLUTE_POS >= count * width {
        terminate!();
    }
    let start = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if is_first[start] == 1u32 {
        let mut sum = 0.0f32;
        let mut place = start;
        while place < count {
            sum += gradient[place * width + column];
            place = next[place] as usize;
        }
        table[ids[start] as usize * width + column] = sum;
    }
}

#[derive(Debug, Clone)]
struct Embedding {
    ids: CubeTensor,
}

impl Fused<1, CubeBackend> for Embedding {
    const NAMES: [&'static str; 2] = ["embedding", "embedding backward"];

    /// Rows and width of the table.
    type Saved = [usize; 2];

    fn forward(&self, [table]: [CubeTensor; 1], _is_tracked: bool) -> (CubeTensor, Option<[usize; 2]>) {
        let shape = table.meta.shape();
        let saved = [shape[0], shape[1]];
        (CubeBackend::embedding(table, self.ids.clone()), Some(saved))
    }

    fn backward(&self, [rows, width]: [usize; 2], gradient: CubeTensor, _wanted: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let gradient = into_contiguous(gradient);
        let ids = into_contiguous(self.ids.clone());
        let count = ids.meta.num_elements();
        let [next, is_first] = [(); 2].map(|()| empty_like(&ids, Shape::new([count]), DType::U32));
        let (cubes, cube) = launch_over(count, &ids);
        link_places::launch(
            &ids.client,
            cubes,
            cube,
            ids.clone().into_tensor_arg(),
            next.clone().into_tensor_arg(),
            is_first.clone().into_tensor_arg(),
            count,
        );
        let table = zeros_client(
            gradient.client.clone(),
            gradient.device.clone(),
            Shape::new([rows, width]),
            DType::F32,
        );
        let (cubes, cube) = launch_over(count * width, &gradient);
        sum_chains::launch(
            &gradient.client,
            cubes,
            cube,
            ids.into_tensor_arg(),
            next.into_tensor_arg(),
            is_first.into_tensor_arg(),
            gradient.clone().into_tensor_arg(),
            table.clone().into_tensor_arg(),
            count,
            width,
        );
        [Some(table)]
    }
}

/// The rows of a table by id.
pub(crate) fn embedding(weight: BurnTensor<2>, ids: BurnTensor<2, Int>) -> BurnTensor<3> {
    let ids = ids
        .without_autodiff()
        .try_into_primitive::<CubeBackend>()
        .expect("ids are on the table's device");
    apply(Embedding { ids }, [Input::new(weight)])
}
