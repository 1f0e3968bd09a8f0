//! Rank correlation, and how sure of it one can be.

use crate::bootstrap::bootstrap_interval;

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
    bootstrap_interval(a.len().min(b.len()), rounds, seed, |sample| {
        let (a, b): (Vec<f64>, Vec<f64>) = sample.iter().map(|index| (a[*index], b[*index])).unzip();
        spearman(&a, &b)
    })
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
