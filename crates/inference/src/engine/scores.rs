//! Log-probabilities from logits.

use std::cmp::Ordering;

use super::TokenScore;

/// The score of a token, and of the most probable ones with an id below `known`.
pub(super) fn score(logits: &[f32], id: u32, alternatives: usize, known: usize) -> TokenScore {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    let normalizer = largest + total.ln();
    let logprob = |id: u32| f64::from(logits[id as usize]) - normalizer;
    TokenScore {
        id,
        logprob: logprob(id),
        alternatives: most_probable(&logits[..known.min(logits.len())], alternatives)
            .into_iter()
            .map(|id| (id, logprob(id)))
            .collect(),
    }
}

/// The ids of the highest logits, the highest first; ties go to the lowest id.
fn most_probable(logits: &[f32], count: usize) -> Vec<u32> {
    let by_rank = |left: &u32, right: &u32| -> Ordering {
        let order = logits[*right as usize].total_cmp(&logits[*left as usize]);
        order.then(left.cmp(right))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if count == 0 {
        return Vec::new();
    }
    if count < ids.len() {
        ids.select_nth_unstable_by(count, by_rank);
        ids.truncate(count);
    }
    ids.sort_unstable_by(by_rank);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_natural_logarithms_and_alternatives_are_sorted() {
        let logits = [0.3_f32, 0.1, 0.4, 0.2].map(|probability: f32| 7.0 + probability.ln());
        let found = score(&logits, 1, 3, 4);
        assert!((found.logprob - f64::from(0.1_f32).ln()).abs() < 1e-6);
        let ids: Vec<u32> = found.alternatives.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [2, 0, 3]);
        assert!((found.alternatives[0].1 - f64::from(0.4_f32).ln()).abs() < 1e-6);
        let known: Vec<u32> = score(&logits, 1, 9, 2).alternatives.iter().map(|(id, _)| *id).collect();
        assert_eq!(known, [0, 1]);
        let ties: Vec<u32> = score(&[1.0, 2.0, 2.0, 2.0], 0, 2, 4)
            .alternatives
            .iter()
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(ties, [1, 2]);
        assert_eq!(score(&logits, 1, 0, 4).alternatives, []);
    }
}
