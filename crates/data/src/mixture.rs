//! Several sources in one training run, each with a share of the rows.

use crate::batch::{Batch, BatchPlan, BatchSource};
use crate::error::{DataError, Result};
use crate::random::{bits, permute};
use crate::source::TokenSource;

/// Rows in which every source has exactly its share.
const ROUND: u64 = 1024;

/// First key word of the places of the sources in a round.
const PURPOSE_MIX: u64 = u64::from_be_bytes(*b"\0\0\0\0\0mix");

/// Sources of which every row of a batch has exactly one, drawn by weight.
///
/// Of every 1,024 rows, each source has the share of its weight, at least one row, in an order that depends only on the plan's seed. The
/// windows of a source are visited as those of a single one: in a shuffled order each once per epoch of that source.
///
/// ```
/// use taal_data::{BatchPlan, Mixture, TokenSource};
///
/// let [low, high] = [(0..400).collect(), (1000..1400).collect()].map(|ids| TokenSource::from_ids("ids", ids, 400));
/// let mixture = Mixture::new(vec![(low, 3.0), (high, 1.0)])?;
/// let plan = BatchPlan::new(1, 1024, 8);
/// let batch = plan.batch(&mixture, 0)?;
/// assert_eq!(batch.inputs.chunks(8).filter(|row| row[0] < 400).count(), 768);
/// # Ok::<(), taal_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Mixture {
    /// Each source with its rows in a round: at least one.
    parts: Vec<(TokenSource, u64)>,
}

impl Mixture {
    /// Sources with their weights, of which only the proportions count. A source with the weight 0 is left out.
    ///
    /// # Errors
    ///
    /// [`DataError::Setting`] for a weight that is negative or not finite, without a weight above 0, and with more than 1,024 sources.
    pub fn new(sources: Vec<(TokenSource, f64)>) -> Result<Self> {
        let bad = |detail: String| DataError::Setting {
            key: "data.weights",
            detail,
        };
        if let Some((source, weight)) = sources
            .iter()
            .find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0))
        {
            return Err(bad(format!(
                "expected numbers of 0 or more, got {weight} for {}",
                source.name()
            )));
        }
        let sources: Vec<_> = sources.into_iter().filter(|(_, weight)| *weight > 0.0).collect();
        if sources.is_empty() {
            return Err(bad("expected at least one weight above 0, got none".to_owned()));
        }
        if sources.len() as u64 > ROUND {
            return Err(bad(format!("expected at most {ROUND} weights, got {}", sources.len())));
        }
        let weights: Vec<f64> = sources.iter().map(|(_, weight)| *weight).collect();
        let rows = shares(&weights);
        let parts = sources.into_iter().map(|(source, _)| source).zip(rows).collect();
        Ok(Self { parts })
    }

    /// The source of row number `position`, counted over all steps, and the number of that row within the source.
    fn draw(&self, seed: u64, position: u128) -> (&TokenSource, u128) {
        let (round, place) = (position / u128::from(ROUND), (position % u128::from(ROUND)) as u64);
        let mut place = permute(place, ROUND, bits(&[PURPOSE_MIX, seed, round as u64]));
        for (source, rows) in &self.parts {
            if place < *rows {
                return (source, round * u128::from(*rows) + u128::from(place));
            }
            place -= rows;
        }
        unreachable!("the rows of all parts are those of a round")
    }
}

/// `ROUND` rows by weight: at least one each, the rest by the largest remainder.
fn shares(weights: &[f64]) -> Vec<u64> {
    // Divided first, so that the sum of huge weights stays finite.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let total: f64 = weights.iter().map(|weight| weight / largest).sum();
    let free = (ROUND - weights.len() as u64) as f64;
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| weight / largest / total * ROUND as f64)
        .collect();
    // What is above one row each, scaled to the rows that are left.
    let above: Vec<f64> = exact.iter().map(|rows| (rows - 1.0).max(0.0)).collect();
    let sum: f64 = above.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let above: Vec<f64> = above.iter().map(|rows| rows / sum * free).collect();
    let mut rows: Vec<u64> = above.iter().map(|rows| 1 + rows.floor() as u64).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| above[*b].fract().total_cmp(&above[*a].fract()).then(a.cmp(b)));
    let left = ROUND - rows.iter().sum::<u64>();
    for index in order.into_iter().cycle().take(left as usize) {
        rows[index] += 1;
    }
    rows
}

impl BatchSource for Mixture {
    fn check(&self, plan: &BatchPlan) -> Result<()> {
        self.parts.iter().try_for_each(|(source, _)| source.check(plan))
    }

    fn batch(&self, plan: &BatchPlan, step: u64) -> Result<Batch> {
        self.check(plan)?;
        let mut batch = Batch::with_capacity(plan.batch_size, plan.block_size);
        for row in 0..plan.batch_size {
            let (source, position) = self.draw(plan.seed, plan.position(step, row));
            source.push_row(&mut batch, plan, (step, row), position);
        }
        Ok(batch)
    }

    /// Batches after which as many windows were read as all sources have.
    fn batches_per_epoch(&self, plan: &BatchPlan) -> Result<u64> {
        self.check(plan)?;
        let windows: u64 = self.parts.iter().map(|(source, _)| source.windows(plan)).sum();
        Ok(windows.div_ceil(plan.batch_size as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_filled_by_weight_with_at_least_one_row_each() {
        for (weights, rows) in [
            (vec![1.0], vec![1024]),
            (vec![3.0, 1.0], vec![768, 256]),
            (vec![1e300, 1e300], vec![512, 512]),
            (vec![1.0, 1e-9], vec![1023, 1]),
        ] {
            assert_eq!(shares(&weights), rows, "{weights:?}");
        }
        for len in 1..40 {
            let weights: Vec<f64> = (1..=len).map(|index| f64::from(index).powi(3)).collect();
            let rows = shares(&weights);
            assert_eq!(rows.iter().sum::<u64>(), ROUND);
            assert!(rows.is_sorted() && rows[0] >= 1, "{rows:?}");
        }
        assert_eq!(shares(&[1.0; ROUND as usize]), [1; ROUND as usize]);
    }
}
