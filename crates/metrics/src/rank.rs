//! Rank correlation, and how sure of it one can be.

/// The rank correlation of Spearman (1904): Pearson's correlation of the ranks, where equal values share the mean of theirs.
///
/// None where there are fewer than two pairs, where all values of one side are equal, or where a value is not finite. What one side has
/// more than the other does not count.
///
/// ```
/// let rho = taal_metrics::spearman(&[1.0, 2.0, 3.0, 4.0], &[10.0, 30.0, 20.0, 40.0]);
/// assert!((rho.unwrap() - 0.8).abs() < 1e-12);
/// ```
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    if n < 2 || a.iter().chain(b).any(|value| !value.is_finite()) {
        return None;
    }
    let mean = (n as f64 + 1.0) / 2.0;
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in ranks(a).into_iter().zip(ranks(b)) {
        let (a, b) = (a - mean, b - mean);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    (aa > 0.0 && bb > 0.0).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0))
}

/// The 95 % interval of [`spearman`] by the bootstrap (Efron 1979): the 2.5 % and 97.5 % points of `rounds` samples of as many pairs, drawn
/// with replacement. Equal seeds give equal intervals. Samples without a correlation do not count; none where none has one.
pub fn spearman_interval(a: &[f64], b: &[f64], rounds: usize, seed: u64) -> Option<[f64; 2]> {
    spearman(a, b)?;
    let n = a.len().min(b.len()) as u64;
    let mut state = seed;
    let mut found = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let pairs = (0..n).map(|_| below(splitmix(&mut state), n) as usize);
        let (a, b): (Vec<f64>, Vec<f64>) = pairs.map(|index| (a[index], b[index])).unzip();
        found.extend(spearman(&a, &b));
    }
    found.sort_unstable_by(f64::total_cmp);
    Some([quantile(&found, 0.025)?, quantile(&found, 0.975)?])
}

/// Ranks from 1.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    // `==` and not `total_cmp`: -0 and 0 are equal.
    for equals in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = start as f64 + (equals.len() as f64 + 1.0) / 2.0;
        for index in equals {
            ranks[*index] = mean;
        }
        start += equals.len();
    }
    ranks
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
