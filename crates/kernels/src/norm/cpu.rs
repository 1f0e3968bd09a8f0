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
        of_weights: Option<(&'a mut [f32], &'a mut [f32])>,
    ) {
        let width = weight.len();
        let count = width as f32;
        if let Some((dweight, dbias)) = &mut of_weights {
            dweight.fill(0.0);
            dbias.fill(0.0);
        }
        for ((x, dy), dx) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(norm, x, eps);
            if let Some((dweight, dbias)) = &mut of_weights {
                let sums = dweight.iter_mut().zip(dbias.iter_mut());
                for ((x, dy), (dweight, dbias)) in x.iter().zip(dy).zip(sums) {
                    let normalized = (x - mean) * scale;
                    *dweight = dy.mul_add(normalized, *dweight);
                    *dbias += dy;
                }
            }
            // dx holds the gradient of the normalized row until its two means are known.
            for ((dx, dy), weight) in dx.iter_mut().zip(dy).zip(weight) {
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

/// The gradients of weight and bias.
type OfWeights = (Vec<f32>, Vec<f32>);

/// The gradients for `x`, and for weight and bias where one of them is trained.
pub(crate) fn backward(
    norm: Norm,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    needs_weights: bool,
) -> (Vec<f32>, Option<OfWeights>) {
    let width = weight.len();
    let rows = x.len() / width;
    let per_task = parallel::rows_per_task(rows, width);
    let tasks = rows.div_ceil(per_task);
    let mut dx = uninitialized(x.len());
    let partial = || uninitialized(if needs_weights { tasks * width } else { 0 });
    let (mut dweight, mut dbias) = (partial(), partial());
    let dx_parts = parallel::Parts::new(&mut dx);
    let dweight_parts = parallel::Parts::new(&mut dweight);
    let dbias_parts = parallel::Parts::new(&mut dbias);
    parallel::for_each(tasks, |task| {
        let start = task * per_task * width;
        let len = (per_task * width).min(x.len() - start);
        // SAFETY: tasks have different rows and different partial sums.
        let (dx, of_weights) = unsafe {
            (
                dx_parts.part(start, len),
                needs_weights.then(|| {
                    let place = task * width;
                    (dweight_parts.part(place, width), dbias_parts.part(place, width))
                }),
            )
        };
        let range = start..start + len;
        backward_rows(norm, &x[range.clone()], weight, eps, &dy[range], dx, of_weights);
    });
    let of_weights = needs_weights.then(|| (parallel::sum_rows(&dweight, width), parallel::sum_rows(&dbias, width)));
    (dx, of_weights)
}
