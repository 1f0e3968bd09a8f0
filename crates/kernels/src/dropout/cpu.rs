//! Dropout's factors times numbers.

use crate::cpu::vectorized;
use crate::random::Dropout;

vectorized! {
    /// `x` times the factors of the elements from `start` on, which is even.
    fn times_factors<'a>(dropout: Dropout, start: usize, x: &'a [f32], y: &'a mut [f32]) {
        let first = start as u64 / 2;
        let (x_pairs, x_rest) = x.as_chunks::<2>();
        let (y_pairs, y_rest) = y.as_chunks_mut::<2>();
        for (pair, (x, y)) in x_pairs.iter().zip(y_pairs).enumerate() {
            let factors = dropout.pair(first + pair as u64);
            y[0] = x[0] * factors[0];
            y[1] = x[1] * factors[1];
        }
        for (x, y) in x_rest.iter().zip(y_rest) {
            *y = x * dropout.pair(first + x_pairs.len() as u64)[0];
        }
    }
}
