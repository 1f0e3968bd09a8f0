//! Layer norm and RMS norm, one cube per row: one launch forward, three backward.

use burn::tensor::{DType, Shape, Tensor as BurnTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::cpu::Norm;
use crate::autodiff::{Fused, Input, apply};
use crate::gpu::rows::{rows, sum_of_cube};
use crate::gpu::{empty_like, launch_over};

/// How many rows one thread sums of the gradients of weight and bias, before the sums are summed.
const ROWS_A_PART: usize = 64;

/// `(x - mean) * scale * weight + bias`, and mean and scale of each row.
#[cube(launch)]
fn normalize(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    bias: &Tensor<f32>,
    y: &mut Tensor<f32>,
    statistics: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] is_layer: bool,
    #[comptime] has_bias: bool,
    #[comptime] units: u32,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = row * width;
    let step = comptime!(units as usize);
    let count = width as f32;

    let mut mean = 0.0f32;
    if comptime!(is_layer) {
        let mut sum = 0.0f32;
        let mut column = UNIT_POS as usize;
        while column < width {
            sum += x[start + column];
            column += step;
        }
        mean = sum_of_cube(sum, &mut shared, units) / count;
    }
    let mut squares = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        let centered = x[start + column] - mean;
        squares += centered * centered;
        column += step;
    }
    let variance = sum_of_cube(squares, &mut shared, units) / count;
    let scale = 1.0f32 / (variance + eps).sqrt();

    let mut column = UNIT_POS as usize;
    while column < width {
        let mut value = (x[start + column] - mean) * scale * weight[column];
        if comptime!(has_bias) {
            value += bias[column];
        }
        y[start + column] = value;
        column += step;
    }
    if UNIT_POS == 0 {
        statistics[2 * row] = mean;
        statistics[2 * row + 1] = scale;
    }
}

/// The gradient of `x`: `scale * (g - mean(g) - n * mean(g * n))` with `g = dy * weight` and `n` the normalized row; without the
/// first mean for RMS norm.
#[cube(launch)]
fn slopes(
    x: &Tensor<f32>,
    weight: &Tensor<f32>,
    statistics: &Tensor<f32>,
    dy: &Tensor<f32>,
    dx: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    #[comptime] is_layer: bool,
    #[comptime] units: u32,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
    let start = row * width;
    let step = comptime!(units as usize);
    let count = width as f32;
    let mean = statistics[2 * row];
    let scale = statistics[2 * row + 1];

    let mut level = 0.0f32;
    let mut along = 0.0f32;
    let mut column = UNIT_POS as usize;
    while column < width {
        let slope = dy[start + column] * weight[column];
        level += slope;
        along += slope * (x[start + column] - mean) * scale;
        column += step;
    }
    let along = sum_of_cube(along, &mut shared, units) / count;
    let mut shift = 0.0f32;
    if comptime!(is_layer) {
        shift = sum_of_cube(level, &mut shared, units) / count;
    }
    let mut column = UNIT_POS as usize;
    while column < width {
        let normalized = (x[start + column] - mean) * scale;
        let slope = dy[start + column] * weight[column];
        dx[start + column] = scale * (slope - shift - normalized * along);
        column += step;
    }
}

/// Parts of the gradients of weight and bias: a thread sums some rows of a column.
#[cube(launch)]
fn sum_rows(
    x: &Tensor<f32>,
    statistics: &Tensor<f32>,
    dy: &Tensor<f32>,
    dweight: &mut Tensor<f32>,
    dbias: &mut Tensor<f32>,
    rows: usize,
    width: usize,
    parts: usize,
    #[comptime] rows_a_part: usize,
) {
    if ABSOLUTE_POS >= parts * width {
        terminate!();
    }
    let part = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    let mut end = (part + 1) * rows_a_part;
    if end > rows {
        end = rows;
    }
    let mut slope = 0.0f32;
    let mut level = 0.0f32;
    let mut row = part * rows_a_part;
    while row < end {
        let dy = dy[row * width + column];
        let mean = statistics[2 * row];
        let scale = statistics[2 * row + 1];
        slope += dy * (x[row * width + column] - mean) * scale;
        level += dy;
        row += 1;
    }
    dweight[ABSOLUTE_POS] = slope;
    dbias[ABSOLUTE_POS] = level;
}

/// The sums of the parts.
#[cube(launch)]
fn sum_parts(
    weight_parts: &Tensor<f32>,
    bias_parts: &Tensor<f32>,
    dweight: &mut Tensor<f32>,
    dbias: &mut Tensor<f32>,
    width: usize,
    parts: usize,
) {
    if ABSOLUTE_POS >= width {
        terminate!();
    }
    let mut slope = 0.0f32;
    let mut level = 0.0f32;
    for part in 0..parts {
        slope += weight_parts[part * width + ABSOLUTE_POS];
        level += bias_parts[part * width + ABSOLUTE_POS];
    }
    dweight[ABSOLUTE_POS] = slope;
    dbias[ABSOLUTE_POS] = level;
}

#[derive(Debug, Clone)]
struct Normalize {
    norm: Norm,
    eps: f32,
    has_bias: bool,
}

impl Normalize {
    fn is_layer(&self) -> bool {
        self.norm == Norm::Layer
    }
}

fn rows_and_width(x: &CubeTensor, weight: &CubeTensor) -> [usize; 2] {
    let width = weight.meta.num_elements();
    assert_eq!(
        x.meta.shape().iter().last(),
        Some(&width),
        "rows must be as wide as the weight"
    );
    [x.meta.num_elements() / width.max(1), width]
}

impl Fused<3, CubeBackend> for Normalize {
    const NAMES: [&'static str; 2] = ["norm", "norm backward"];

    /// Input, weight, and mean and scale of each row.
    type Saved = [CubeTensor; 3];

    fn forward(&self, inputs: [CubeTensor; 3], is_tracked: bool) -> (CubeTensor, Option<[CubeTensor; 3]>) {
        let [x, weight, bias] = inputs.map(into_contiguous);
        let [count, width] = rows_and_width(&x, &weight);
        let y = empty_like(&x, x.meta.shape().clone(), DType::F32);
        let statistics = empty_like(&x, Shape::new([count, 2]), DType::F32);
        let launch = rows(count, width, &x);
        normalize::launch(
            &x.client,
            launch.cubes,
            launch.cube,
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            bias.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            statistics.clone().into_tensor_arg(),
            count,
            width,
            self.eps,
            self.is_layer(),
            self.has_bias,
            launch.units,
        );
        (y, is_tracked.then_some([x, weight, statistics]))
    }

    fn backward(
        &self,
        [x, weight, statistics]: [CubeTensor; 3],
        gradient: CubeTensor,
        wanted: [bool; 3],
    ) -> [Option<CubeTensor>; 3] {
        let gradient = into_contiguous(gradient);
        let [count, width] = rows_and_width(&x, &weight);
        let dx = wanted[0].then(|| {
            let dx = empty_like(&x, x.meta.shape().clone(), DType::F32);
            let launch = rows(count, width, &x);
            slopes::launch(
                &x.client,
                launch.cubes,
                launch.cube,
                x.clone().into_tensor_arg(),
                weight.clone().into_tensor_arg(),
                statistics.clone().into_tensor_arg(),
                gradient.clone().into_tensor_arg(),
                dx.clone().into_tensor_arg(),
                count,
                width,
                self.is_layer(),
                launch.units,
            );
            dx
        });
        if !wanted[1] && !wanted[2] {
            return [dx, None, None];
        }
        let parts = count.div_ceil(ROWS_A_PART);
        let [weight_parts, bias_parts] = [(); 2].map(|()| empty_like(&x, Shape::new([parts, width]), DType::F32));
        let (cubes, cube) = launch_over(parts * width, &x);
        sum_rows::launch(
            &x.client,
            cubes,
            cube,
            x.clone().into_tensor_arg(),
            statistics.into_tensor_arg(),
            gradient.into_tensor_arg(),
            weight_parts.clone().into_tensor_arg(),
            bias_parts.clone().into_tensor_arg(),
            count,
            width,
            parts,
            ROWS_A_PART,
        );
        let [dweight, dbias] = [(); 2].map(|()| empty_like(&x, Shape::new([width]), DType::F32));
        let (cubes, cube) = launch_over(width, &x);
        sum_parts::launch(
            &x.client,
            cubes,
            cube,
            weight_parts.into_tensor_arg(),
            bias_parts.into_tensor_arg(),
            dweight.clone().into_tensor_arg(),
            dbias.clone().into_tensor_arg(),
            width,
            parts,
        );
        [dx, wanted[1].then_some(dweight), wanted[2].then_some(dbias)]
    }
}

/// The norm over the last dimension.
pub(crate) fn norm<const D: usize>(
    norm: Norm,
    x: BurnTensor<D>,
    weight: BurnTensor<1>,
    bias: Option<BurnTensor<1>>,
    eps: f64,
) -> BurnTensor<D> {
    let operation = Normalize {
        norm,
        eps: eps as f32,
        has_bias: bias.is_some(),
    };
    // Where there is no bias the kernel is given something that it does not read.
    let bias = bias.unwrap_or_else(|| weight.clone().detach());
    apply(operation, [Input::new(x), Input::new(weight), Input::new(bias)])
}
