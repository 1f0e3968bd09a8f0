//! Elementary functions without branches, so that loops over them become vector code.
//!
//! Each states its largest error against double precision over the range that matters, as a test measures it.

/// How many partial sums a reduction keeps: one of the widest vectors, two of AVX2's.
pub(crate) const LANES: usize = 16;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: `n * HIGH` is exact for the `n` that occur (Cody and Waite, 1980).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` to 1.2e-7 relative. Below -87.3 it is 0, so `-inf` gives exactly 0; above 88 it stays at `e^88`, which is as
/// good as infinity in every quotient here; a NaN stays one.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let clamped = if x > 88.0 { 88.0 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    // Adding 1.5 * 2^23 rounds to an integer that is then in the low bits.
    let shifted = clamped.mul_add(LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = n.mul_add(-LN_2_HIGH, clamped);
    let r = n.mul_add(-LN_2_LOW, r);
    // Minimax polynomial of Cephes' expf.
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.0;
    // 2^n: the low bits and the bias of 127, moved to the exponent. n is in -126..=127.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let result = p * scale;
    if x < -87.3 { 0.0 } else { result }
}

crate::cpu::vectorized! {
    /// See [`exp_in_place`].
    fn exp_all<'a>(x: &'a mut [f64]) {
        for x in x.iter_mut() {
            *x = exp_f64(*x);
        }
    }
}

/// Replaces each number by its exponential, to 5e-16 relative. Below -708 it is 0, so negative infinity gives exactly 0; above 709 it
/// stays at `e^709`; a not-a-number stays one.
///
/// ```
/// let mut x = [0.0, f64::NEG_INFINITY, 1.0];
/// taal_kernels::exp_in_place(&mut x);
/// assert_eq!(x[..2], [1.0, 0.0]);
/// assert!((x[2] - std::f64::consts::E).abs() < 1e-15);
/// ```
pub fn exp_in_place(x: &mut [f64]) {
    exp_all(x);
}

/// [`exp_in_place`] of a number. Sums and products are rounded one by one, so that the bits are those of any CPU.
#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    /// ln 2 in two parts: `n * HIGH` is exact for the `n` that occur.
    const HIGH: f64 = 6.931_471_803_691_238e-1;
    const LOW: f64 = 1.908_214_929_270_587_7e-10;
    let clamped = if x > 709.0 { 709.0 } else { x };
    let clamped = if clamped < -708.0 { -708.0 } else { clamped };
    // Adding 1.5 * 2^52 rounds to an integer that is then in the low bits.
    let shifted = clamped * std::f64::consts::LOG2_E + 6_755_399_441_055_744.0;
    let n = shifted - 6_755_399_441_055_744.0;
    let r = (clamped - n * HIGH) - n * LOW;
    // Taylor's series: the first term left out is 2e-17 of the sum at |r| = ln 2 / 2.
    let mut p = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
    ] {
        p = p * r + 1.0 / factorial;
    }
    let p = (p * r) * r + r + 1.0;
    // 2^n, as in single precision. n is in -1022..=1023.
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let result = p * scale;
    if x < -708.0 { 0.0 } else { result }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The normal distribution function, to 2e-7: half of the complementary error function in the form of Numerical
/// Recipes' `erfcc` (fractional error below 1.2e-7 everywhere).
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.5, 1.0);
    let p = 0.170_872_77_f32;
    let p = p.mul_add(t, -0.822_152_23);
    let p = p.mul_add(t, 1.488_515_9);
    let p = p.mul_add(t, -1.135_204);
    let p = p.mul_add(t, 0.278_868_07);
    let p = p.mul_add(t, -0.186_288_06);
    let p = p.mul_add(t, 0.096_784_18);
    let p = p.mul_add(t, 0.374_091_96);
    let p = p.mul_add(t, 1.000_023_7);
    let p = p.mul_add(t, -1.265_512_2);
    let tail = 0.5 * t * exp(p - z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// The normal density.
#[inline(always)]
pub(crate) fn normal_pdf(x: f32) -> f32 {
    0.398_942_3 * exp(-0.5 * x * x)
}

/// The sum of `term(x)` over a slice, always in the same order.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += term(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += term(*x);
    }
    fold(sums)
}

/// The sum of `term(x, y)` over two slices of one length, always in the same order.
#[inline(always)]
pub(crate) fn sum2(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum += term(x[i], y[i]);
        }
    }
    for ((sum, x), y) in sums.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += term(*x, *y);
    }
    fold(sums)
}

/// The largest number of a slice; `-inf` for an empty one. Not-a-numbers are passed over, so a row of them gives
/// `-inf`, and what is computed from the row itself still shows them.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (max, x) in maxima.iter_mut().zip(chunk) {
            *max = if *x > *max { *x } else { *max };
        }
    }
    for (max, x) in maxima.iter_mut().zip(rest) {
        *max = if *x > *max { *x } else { *max };
    }
    maxima.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Pairwise, from the far half to the near one.
#[inline(always)]
fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_its_stated_error_and_exact_at_the_ends() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 1.5e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::INFINITY) > 1e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_double_precision_is_within_its_stated_error_and_exact_at_the_ends() {
        for i in -70_800..=70_900 {
            let x = f64::from(i) / 100.0 + 1e-3 * f64::from(i % 7);
            if (-708.0..=709.0).contains(&x) {
                let error = (exp_f64(x) - x.exp()).abs() / x.exp();
                assert!(error < 5e-16, "exp({x}) is off by {error:e}");
            }
        }
        let mut ends = [f64::NEG_INFINITY, -1e300, 0.0, f64::NAN, f64::INFINITY];
        exp_in_place(&mut ends);
        assert_eq!(ends[..3], [0.0, 0.0, 1.0]);
        assert!(ends[3].is_nan() && ends[4] > 1e307);
    }

    /// `Phi` in double precision by Simpson's rule.
    fn phi(x: f64) -> f64 {
        let (from, steps) = (-12.0_f64, 4000);
        let h = (x - from) / f64::from(steps);
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let inner: f64 = (1..steps)
            .map(|i| density(from + h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        (density(from) + inner + density(x)) * h / 3.0
    }

    #[test]
    fn the_normal_distribution_function_is_within_its_stated_error() {
        for i in -60..=60 {
            let x = i as f32 / 10.0;
            let error = (f64::from(normal_cdf(x)) - phi(f64::from(x))).abs();
            assert!(error < 2e-7, "Phi({x}) is off by {error:e}");
        }
    }

    #[test]
    fn sums_and_maxima_take_every_element_of_any_length() {
        for len in [0_usize, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected = (len * len.saturating_sub(1) / 2) as f32;
            assert_eq!(sum(&x, |x| x), expected);
            assert_eq!(sum2(&x, &x, |x, _| x), expected);
            assert_eq!(max(&x), x.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
