//! The fused CPU kernel in autodiff's graph.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::cpu::turn;
use crate::attention::{heads, readable};
use crate::autodiff::{Fused, Input, apply, contiguous, dims, numbers, tensor};
use crate::cpu::{parallel, uninitialized};

/// Below this many numbers, one thread turns them all.
const PARALLEL_NUMBERS: usize = 1 << 14;

#[derive(Debug, Clone, Copy)]
struct Turn;

/// The rows of `x` turned, in memory without gaps.
fn turned(x: FlexTensor, [cos, signed_sin]: [&FlexTensor; 2], is_backward: bool) -> FlexTensor {
    let x = readable(x);
    let shape = dims(&x);
    let [batch, n_heads, seq, width] = [0, 1, 2, 3].map(|axis| shape[axis]);
    let (x, cos, signed_sin) = (heads(&x), numbers(cos), numbers(signed_sin));
    // Angles of all rows, or of each.
    let own = if cos.len() > seq * width { seq * width } else { 0 };
    let size = seq * width;
    let mut y = uninitialized(batch * n_heads * size);
    let parts = parallel::Parts::new(&mut y);
    let head = |index: usize| {
        let (row, head) = (index / n_heads, index % n_heads);
        let start = x.view.start + row * x.view.batch_stride + head * x.view.head_stride;
        let angles = row * own;
        // SAFETY: heads are disjoint.
        let y = unsafe { parts.part(index * size, size) };
        let (cos, signed_sin) = (&cos[angles..], &signed_sin[angles..]);
        turn(
            &x.values[start..],
            x.view.row_stride,
            width,
            cos,
            signed_sin,
            is_backward,
            y,
        );
    };
    if batch * n_heads * size < PARALLEL_NUMBERS {
        (0..batch * n_heads).for_each(head);
    } else {
        parallel::for_each(batch * n_heads, head);
    }
    tensor(y, shape)
}

impl Fused<3> for Turn {
    const NAMES: [&'static str; 2] = ["rotary", "rotary backward"];

    type Saved = [FlexTensor; 2];

    fn forward(&self, [x, cos, signed_sin]: [FlexTensor; 3], is_tracked: bool) -> (FlexTensor, Option<Self::Saved>) {
        let tables = contiguous([cos, signed_sin]);
        let y = turned(x, [&tables[0], &tables[1]], false);
        (y, is_tracked.then_some(tables))
    }

    fn backward(&self, [cos, sin]: Self::Saved, gradient: FlexTensor, wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        [wanted[0].then(|| turned(gradient, [&cos, &sin], true)), None, None]
    }
}

/// See [`rotary`](crate::rotary).
pub(super) fn rotary(x: Tensor<4>, cos: Tensor<2>, signed_sin: Tensor<2>) -> Tensor<4> {
    apply(Turn, [Input::new(x), Input::new(cos), Input::new(signed_sin)])
}
