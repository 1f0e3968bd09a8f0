//! Layer norm and RMS norm with their gradients, a row at a time.

use crate::cpu::math::{sum, sum2};
use crate::cpu::{parallel, uninitialized, vectorized};

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    /// Mean and variance.
    Layer,
    /// Root mean square.
    Rms,
}

/// Mean (0 for RMS norm) and reciprocal deviation of a row.
#[inline(always)]
fn statistics(norm: Norm, x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = match norm {
        Norm::Layer => sum(x, |x| x) / count,
        Norm::Rms => 0.0,
    };
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

vectorized! {
    fn forward_rows<'a>(
        norm: Norm,
        x: &'a [f32],
        weight: &'a [f32],
        bias: Option<&'a [f32]>,
        eps: f32,
        y: &'a mut [f32],
    ) {
        let width = weight.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(norm, x, eps);
            match bias {
                Some(bias) => {
                    for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                        *y = ((x - mean) * scale).mul_add(*w, *b);
                    }
                }
                None => {
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y = (x - mean) * scale * w;
                    }
                }
            }
        }
    }

    fn backward_rows<'a>(
        norm: Norm,
        x: &'a [f32],
        weight: &'a [f32],
        eps: f32,
        dy: &'a [f32],
        dx: &'a mut [f32],
        dweight: &'a mut [f32],
        dbias: &'a mut [f32],
    ) {
        let width = weight.len();
        let count = width as f32;
        dweight.fill(0.0);
        dbias.fill(0.0);
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(norm, x, eps);
            let sums = dweight.iter_mut().zip(dbias.iter_mut());
            for ((((dx, x), dy), weight), (dweight, dbias)) in dx.iter_mut().zip(x).zip(dy).zip(weight).zip(sums) {
                let normalized = (x - mean) * scale;
                *dweight = dy.mul_add(normalized, *dweight);
                *dbias += dy;
                // dx holds the gradient of the normalized row until its two means are known.
                *dx = dy * weight;
            }
            let along = sum2(dx, x, |g, x| g * ((x - mean) * scale)) / count;
            let level = match norm {
                Norm::Layer => sum(dx, |g| g) / count,
                Norm::Rms => 0.0,
            };
            for (dx, x) in dx.iter_mut().zip(x) {
                let normalized = (x - mean) * scale;
                *dx = scale * (*dx - level - normalized * along);
            }
        }
    }
}

/// The norm of each row of `x`, `weight.len()` numbers wide.
pub(crate) fn forward(norm: Norm, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let width = weight.len();
    let rows = x.len() / width;
    let per_task = parallel::rows_per_task(rows, width);
    let mut y = uninitialized(x.len());
    let parts = parallel::Parts::new(&mut y);
    parallel::for_each(rows.div_ceil(per_task), |task| {
        let start = task * per_task * width;
        let len = (per_task * width).min(x.len() - start);
        // SAFETY: tasks have different rows.
        let y = unsafe { parts.part(start, len) };
        forward_rows(norm, &x[start..start + len], weight, bias, eps, y);
    });
    y
}

/// The gradients for `x`, weight and bias.
pub(crate) fn backward(norm: Norm, x: &[f32], weight: &[f32], eps: f32, dy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = weight.len();
    let rows = x.len() / width;
    let per_task = parallel::rows_per_task(rows, width);
    let tasks = rows.div_ceil(per_task);
    let mut dx = uninitialized(x.len());
    let mut dweight = uninitialized(tasks * width);
    let mut dbias = uninitialized(tasks * width);
    let dx_parts = parallel::Parts::new(&mut dx);
    let dweight_parts = parallel::Parts::new(&mut dweight);
    let dbias_parts = parallel::Parts::new(&mut dbias);
    parallel::for_each(tasks, |task| {
        let start = task * per_task * width;
        let len = (per_task * width).min(x.len() - start);
        // SAFETY: tasks have different rows and different partial sums.
        let (dx, dweight, dbias) = unsafe {
            (
                dx_parts.part(start, len),
                dweight_parts.part(task * width, width),
                dbias_parts.part(task * width, width),
            )
        };
        let range = start..start + len;
        backward_rows(norm, &x[range.clone()], weight, eps, &dy[range], dx, dweight, dbias);
    });
    (
        dx,
        parallel::sum_rows(&dweight, width),
        parallel::sum_rows(&dbias, width),
    )
}
