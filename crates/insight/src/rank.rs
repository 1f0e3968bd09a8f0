//! Summary of a row of logits: the likeliest ids, their probabilities, and the rank of one id.

use taal_inference::InferenceError;

use crate::Result;

/// The summary of a row of logits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ranked {
    /// Ids, logits and probabilities, the likeliest first; ties by the smaller id.
    pub(crate) best: Vec<(u32, f32, f64)>,
    /// The rank of the given id, from 1, and its probability.
    pub(crate) of: (usize, f64),
    /// The entropy of the whole row in bits.
    pub(crate) entropy_bits: f64,
}

/// Ranks the logits of a row. `of` is the id whose rank is wanted; without one it is the likeliest.
///
/// # Errors
///
/// [`InferenceError::NotFinite`].
pub(crate) fn rank(logits: &[f32], top: usize, of: Option<u32>) -> Result<Ranked> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
    let mut worst_kept = f32::NEG_INFINITY;
    let mut is_finite = true;
    for (id, &logit) in (0..).zip(logits) {
        is_finite &= logit.is_finite();
        if best.len() < top || logit > worst_kept {
            let place = best.partition_point(|kept| kept.1 >= logit);
            best.insert(place, (id, logit));
            best.truncate(top);
            worst_kept = best.last().map_or(f32::NEG_INFINITY, |kept| kept.1);
        }
    }
    if !is_finite {
        return Err(InferenceError::NotFinite {
            what: "the logits are".to_owned(),
        }
        .into());
    }
    let highest = best.first().map_or(0.0, |first| f64::from(first.1));
    let mut sum = 0.0;
    let mut weighted = 0.0;
    for &logit in logits {
        let below = f64::from(logit) - highest;
        let odds = below.exp();
        sum += odds;
        weighted += odds * below;
    }
    let probability = |logit: f32| (f64::from(logit) - highest).exp() / sum;
    let asked = of.or(best.first().map(|first| first.0)).unwrap_or_default();
    let asked = logits.get(asked as usize).copied().unwrap_or(f32::NEG_INFINITY);
    Ok(Ranked {
        best: best
            .into_iter()
            .map(|(id, logit)| (id, logit, probability(logit)))
            .collect(),
        of: (
            1 + logits.iter().filter(|logit| **logit > asked).count(),
            probability(asked),
        ),
        entropy_bits: ((sum.ln() - weighted / sum) / std::f64::consts::LN_2).max(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_ranks_and_entropy_are_those_of_the_softmax() {
        let row = [0.0, 2.0_f32.ln(), 0.0, 4.0_f32.ln()];
        let ranked = rank(&row, 3, Some(1)).unwrap();
        let ids: Vec<u32> = ranked.best.iter().map(|best| best.0).collect();
        assert_eq!(ids, [3, 1, 0], "ties by the smaller id");
        let expected = [0.5, 0.25, 0.125];
        for (best, expected) in ranked.best.iter().zip(expected) {
            assert!((best.2 - expected).abs() < 1e-7);
        }
        assert_eq!(ranked.of.0, 2);
        assert!((ranked.of.1 - 0.25).abs() < 1e-7);
        assert!((ranked.entropy_bits - 1.75).abs() < 1e-6);
    }

    #[test]
    fn a_row_that_is_not_finite_is_refused() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(rank(&[0.0, bad], 1, None).is_err());
        }
    }
}
