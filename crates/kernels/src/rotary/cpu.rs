//! The turn of one head's rows: two products and a sum for each number, rounded as the reference implementation rounds them.

use crate::cpu::vectorized;

vectorized! {
    /// Turns rows of `width` numbers, which begin every `stride` numbers of `x`, by the angles of `cos` and `signed_sin`; backwards for
    /// gradients.
    fn turn<'a>(
        x: &'a [f32],
        stride: usize,
        width: usize,
        cos: &'a [f32],
        signed_sin: &'a [f32],
        is_backward: bool,
        y: &'a mut [f32],
    ) {
        let half = width / 2;
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let (low, high) = x[row * stride..][..width].split_at(half);
            let (cos_low, cos_high) = cos[row * width..][..width].split_at(half);
            let (sin_low, sin_high) = signed_sin[row * width..][..width].split_at(half);
            let (sin_low, sin_high) = if is_backward { (sin_high, sin_low) } else { (sin_low, sin_high) };
            let (y_low, y_high) = y.split_at_mut(half);
            for i in 0..half {
                y_low[i] = low[i] * cos_low[i] + high[i] * sin_low[i];
                y_high[i] = high[i] * cos_high[i] + low[i] * sin_high[i];
            }
        }
    }
}
