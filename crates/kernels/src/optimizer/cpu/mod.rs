//! AdamW in one pass over value, gradient and moments, and the sum of squares for the global norm.

pub(crate) mod muon;

use rayon::prelude::*;

use crate::cpu::math::sum;
use crate::cpu::vectorized;

/// Numbers of one task.
const CHUNK: usize = 1 << 15;

/// The constants of one AdamW update, bias corrections worked in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamW {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta1: f32,
    pub(crate) one_minus_beta2: f32,
    /// Learning rate over the first bias correction.
    pub(crate) rate: f32,
    /// One over the root of the second bias correction.
    pub(crate) inverse_correction2: f32,
    pub(crate) eps: f32,
    /// `1 - lr * weight_decay`.
    pub(crate) keep: f32,
    /// What the gradient is multiplied by first (clipping).
    pub(crate) gradient_factor: f32,
}

vectorized! {
    fn adamw_chunk<'a>(
        settings: AdamW,
        value: &'a mut [f32],
        gradient: &'a [f32],
        first: &'a mut [f32],
        second: &'a mut [f32],
    ) {
        let AdamW {
            beta1, beta2, one_minus_beta1, one_minus_beta2, rate, inverse_correction2, eps, keep, gradient_factor,
        } = settings;
        for (((value, gradient), first), second) in value.iter_mut().zip(gradient).zip(first).zip(second) {
            let gradient = gradient * gradient_factor;
            *first = first.mul_add(beta1, gradient * one_minus_beta1);
            *second = second.mul_add(beta2, gradient * gradient * one_minus_beta2);
            let denominator = second.sqrt().mul_add(inverse_correction2, eps);
            *value = value.mul_add(keep, -(*first * rate / denominator));
        }
    }

    fn squares<'a>(x: &'a [f32]) -> f32 {
        sum(x, |x| x * x)
    }
}

/// One update in place.
pub(crate) fn adamw(settings: AdamW, value: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
    value
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK))
        .zip(second.par_chunks_mut(CHUNK))
        .for_each(|(((value, gradient), first), second)| adamw_chunk(settings, value, gradient, first, second));
}

/// The sum of squares: in single precision within pieces of 4,096, in double precision over them, in order.
pub(crate) fn sum_of_squares(x: &[f32]) -> f64 {
    const PIECE: usize = 4096;
    let of_chunk = |chunk: &[f32]| chunk.chunks(PIECE).map(|piece| f64::from(squares(piece))).sum::<f64>();
    let sums: Vec<f64> = x.par_chunks(CHUNK).map(of_chunk).collect();
    sums.into_iter().sum()
}
