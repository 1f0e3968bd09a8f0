//! How sure a figure over items is: the bootstrap (Efron 1979).

/// The 95 % interval of a figure over `n` items: the 2.5 % and 97.5 % points of its values on `rounds` samples of `n` items, drawn with
/// replacement. `figure` gets the indices of a sample; samples of which it is `None` do not count. Equal seeds give equal intervals.
///
/// ```
/// let scores = [1.0, 0.0, 1.0, 1.0];
/// let mean = |sample: &[usize]| Some(sample.iter().map(|index| scores[*index]).sum::<f64>() / sample.len() as f64);
/// let [low, high] = taal_metrics::bootstrap_interval(4, 1000, 1, mean).unwrap();
/// assert!(low < 0.75 && high == 1.0);
/// ```
pub fn bootstrap_interval(
    n: usize,
    rounds: usize,
    seed: u64,
    figure: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<[f64; 2]> {
    let found = resampled(n, rounds, seed, figure);
    Some([quantile(&found, 0.025)?, quantile(&found, 0.975)?])
}

/// The difference of a figure between two systems over the same items.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PairedDifference {
    /// The second system's figure minus the first's.
    pub difference: f64,
    /// Its 95 % interval by the paired bootstrap.
    pub interval: [f64; 2],
    /// Two-sided. Of [`paired_difference`]: twice the share of samples on the other side of 0, or at it; at most 1. Of
    /// [`paired_resampling`]: that of sacrebleu.
    pub p_value: f64,
}

/// The paired bootstrap: both systems are measured on the same samples of items, so that items hard for both do not count as a
/// difference. `difference` gets the indices of a sample.
pub fn paired_difference(
    n: usize,
    rounds: usize,
    seed: u64,
    difference: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<PairedDifference> {
    paired(n, rounds, seed, difference, |_, found| {
        let one_sided = share(found, |value| value <= 0.0).min(share(found, |value| value >= 0.0));
        (2.0 * one_sided).min(1.0)
    })
}

/// [`paired_difference`] with the p-value of sacrebleu and of Moses' script (Koehn 2004): the share of samples whose difference in size,
/// moved so that its mean is 0, is above that of the whole. Where no sample has a difference it is 1.
pub fn paired_resampling(
    n: usize,
    rounds: usize,
    seed: u64,
    difference: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<PairedDifference> {
    paired(n, rounds, seed, difference, |observed, found| {
        if found.iter().all(|value| *value == 0.0) {
            return 1.0;
        }
        let mean = found.iter().map(|value| value.abs()).sum::<f64>() / found.len() as f64;
        share(found, |value| value.abs() - mean > observed.abs())
    })
}

/// `p_value` gets the difference over all items and the sorted ones of the samples.
fn paired(
    n: usize,
    rounds: usize,
    seed: u64,
    mut difference: impl FnMut(&[usize]) -> Option<f64>,
    p_value: impl Fn(f64, &[f64]) -> f64,
) -> Option<PairedDifference> {
    let whole: Vec<usize> = (0..n).collect();
    let observed = difference(&whole)?;
    let found = resampled(n, rounds, seed, difference);
    Some(PairedDifference {
        difference: observed,
        interval: [quantile(&found, 0.025)?, quantile(&found, 0.975)?],
        p_value: p_value(observed, &found),
    })
}

/// The share of samples with a property, the whole counted as one of them, so that it is never 0.
fn share(found: &[f64], is_there: impl Fn(f64) -> bool) -> f64 {
    let count = found.iter().filter(|value| is_there(**value)).count();
    (count + 1) as f64 / (found.len() + 1) as f64
}

/// The sorted values of a figure on samples of `n` items.
fn resampled(n: usize, rounds: usize, seed: u64, mut figure: impl FnMut(&[usize]) -> Option<f64>) -> Vec<f64> {
    let mut state = seed;
    let mut sample = vec![0; n];
    let mut found = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        sample
            .iter_mut()
            .for_each(|index| *index = below(splitmix(&mut state), n as u64) as usize);
        found.extend(figure(&sample));
    }
    found.sort_unstable_by(f64::total_cmp);
    found
}

/// Between the two values that enclose it.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(low + (high - low) * place.fract())
}

/// SplitMix64 (Steele, Lea and Flood 2014): the next of a sequence of 64-bit words.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Random bits as a number in `0..limit`, with a bias below `limit / 2^64`.
fn below(bits: u64, limit: u64) -> u64 {
    ((u128::from(bits) * u128::from(limit)) >> 64) as u64
}
