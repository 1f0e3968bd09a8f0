//! Which token comes next: the filters between a model's logits and a drawn token, on plain slices.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use taal_kernels::exp_in_place;
use taal_kernels::random::{Generator, key};

use crate::{InferenceError, Result};

/// A repetition penalty outside this range makes logits meaningless, or overflows.
const REPETITION_PENALTIES: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// OpenAI's range of presence and frequency penalties.
const PENALTIES: std::ops::RangeInclusive<f64> = -2.0..=2.0;

/// OpenAI's range: -100 in practice forbids a token, 100 forces it.
const LOGIT_BIASES: std::ops::RangeInclusive<f64> = -100.0..=100.0;

/// How the next token is chosen from the logits. The steps are those of transformers' logits processors, in their order; tokens that a
/// [`Constraint`](crate::Constraint) rules out are forbidden before the first of them:
///
/// 1. `logit_bias`: added to the logits of single tokens;
/// 2. `repetition_penalty` (Keskar et al. 2019, CTRL): the logits of tokens of the prompt and of the new text are divided by it
///    where positive and multiplied by it where negative;
/// 3. `frequency_penalty` and `presence_penalty`, as OpenAI defines them: from the logit of a token that occurs `n > 0` times in the
///    new text, `n * frequency_penalty + presence_penalty` is subtracted. The prompt does not count, as in vLLM;
/// 4. `temperature`: the logits are divided by it. At 0 the rest is skipped and the highest logit wins; ties go to the lowest id;
/// 5. `top_k`: the `k` most probable tokens stay; ties go to the lowest ids;
/// 6. `top_p` (Holtzman et al. 2020): of those, the smallest set of most probable tokens with a mass of at least `p`
///    stays, always one or more;
/// 7. `min_p` (Nguyen et al. 2024): of those, the tokens stay that are at least `min_p` times as probable as the most
///    probable one;
/// 8. `typical_p` (Meister et al. 2023): of those, the tokens stay whose surprisal is nearest to the entropy, the smallest such set
///    with a mass of at least `p`, always one or more.
///
/// One of the remaining tokens is then drawn in proportion to its probability. Of tokens that are equal at a filter's edge,
/// transformers keeps all and this one those with the lowest ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// In `[-100, 100]` per id; ids outside the vocabulary have no effect.
    pub logit_bias: BTreeMap<u32, f64>,
    /// In `[0.01, 100]`; 1 is off, more than 1 discourages repetition.
    pub repetition_penalty: f64,
    /// In `[-2, 2]`; 0 is off, more than 0 discourages repetition.
    pub frequency_penalty: f64,
    /// In `[-2, 2]`; 0 is off, more than 0 encourages new tokens.
    pub presence_penalty: f64,
    /// 0 or more; 0 is greedy, 1 is the model's own distribution.
    pub temperature: f64,
    /// 1 or more.
    pub top_k: Option<usize>,
    /// In `[0, 1]`; 0 keeps the most probable token.
    pub top_p: Option<f64>,
    /// In `[0, 1]`.
    pub min_p: Option<f64>,
    /// In `(0, 1]`.
    pub typical_p: Option<f64>,
    /// Token `n` of a generation is a function of `seed`, `n` and the logits.
    pub seed: u64,
}

impl Default for Sampling {
    /// The model's own distribution: temperature 1, no filters, seed 0.
    fn default() -> Self {
        Self {
            logit_bias: BTreeMap::new(),
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            typical_p: None,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the most probable token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// The key of the draw of new token `position`, counted from 0, as [`sample`] takes it.
    pub fn draw_key(&self, position: u64) -> u64 {
        key(self.seed, position, "inference/sample")
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting, what was expected and its value.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key, expected, given: String| {
            Err(InferenceError::setting(
                key,
                format!("expected {expected}, got {given}"),
            ))
        };
        if !REPETITION_PENALTIES.contains(&self.repetition_penalty) {
            let expected = "a number from 0.01 to 100 (1 is off)";
            return wrong("repetition_penalty", expected, self.repetition_penalty.to_string());
        }
        for (key, penalty) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            if !PENALTIES.contains(&penalty) {
                return wrong(key, "a number from -2 to 2 (0 is off)", penalty.to_string());
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, bias)| !LOGIT_BIASES.contains(bias)) {
            return wrong(
                "logit_bias",
                "numbers from -100 to 100",
                format!("{bias} for token {id}"),
            );
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            let expected = "0 (always the most probable token) or a positive number";
            return wrong("temperature", expected, self.temperature.to_string());
        }
        if self.top_k == Some(0) {
            return wrong("top_k", "1 or more; leave it out to keep all tokens", "0".to_owned());
        }
        for (key, share) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if let Some(share) = share.filter(|p| !(0.0..=1.0).contains(p)) {
                return wrong(key, "a number from 0 to 1", share.to_string());
            }
        }
        match self.typical_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            Some(share) => wrong("typical_p", "a number above 0 and at most 1", share.to_string()),
            None => Ok(()),
        }
    }
}

/// The tokens before the next one, to which the penalties apply.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen<'a> {
    /// Those of the prompt: the repetition penalty applies to them.
    pub prompt: &'a [u32],
    /// The generated ones: all penalties apply to them.
    pub new: &'a [u32],
}

/// A token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its probability among the tokens that the filters keep.
    pub probability: f64,
}

/// Draws the next token from logits, one for each id; `seen` are the tokens before it.
/// Equal arguments give equal tokens.
///
/// ```
/// use taal_inference::{Sampling, Seen, sample};
///
/// let sampling = Sampling { top_k: Some(2), seed: 1337, ..Sampling::default() };
/// let id = sample(&[0.5, 3.0, -1.0, 2.0], Seen::default(), &sampling, sampling.draw_key(0))?;
/// assert!([1, 3].contains(&id));
/// assert_eq!(sample(&[0.5, 3.0, -1.0, 2.0], Seen::default(), &Sampling::greedy(), 0)?, 1);
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
///
/// # Errors
///
/// As [`candidates`].
pub fn sample(logits: &[f32], seen: Seen<'_>, sampling: &Sampling, draw_key: u64) -> Result<u32> {
    let kept = weigh(logits, seen, sampling)?;
    let target = Generator::new(draw_key).uniform() * total(&kept);
    let mut mass = 0.0;
    let mut last = kept.first().map_or(0, |weighted| weighted.id);
    for weighted in kept.iter().filter(|weighted| weighted.weight > 0.0) {
        mass += weighted.weight;
        // Rounding may leave the sum just below the target, so the last token with any weight is the fallback.
        last = weighted.id;
        if target < mass {
            break;
        }
    }
    Ok(last)
}

/// The tokens that the filters keep, by ascending id, with the probabilities that [`sample`] draws them with.
///
/// # Errors
///
/// [`InferenceError::Setting`] where a setting is outside its range, [`InferenceError::NotFinite`] where a logit is
/// NaN or infinite (negative infinity forbids a token and is fine) or all tokens are forbidden.
pub fn candidates(logits: &[f32], seen: Seen<'_>, sampling: &Sampling) -> Result<Vec<Candidate>> {
    let kept = weigh(logits, seen, sampling)?;
    let total = total(&kept);
    Ok(kept
        .iter()
        .map(|weighted| Candidate {
            id: weighted.id,
            probability: weighted.weight / total,
        })
        .collect())
}

/// The natural logarithms of the probabilities of the ids below `known` among all ids, with bias and penalties applied to them as
/// beam search does; negative infinity for a forbidden token.
pub(crate) fn logprobs(logits: &[f32], known: usize, seen: Seen<'_>, sampling: &Sampling) -> Result<Vec<f64>> {
    let mut kept = allowed(logits)?;
    let largest = kept
        .iter()
        .map(|weighted| weighted.logit)
        .fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = kept.iter().map(|weighted| (weighted.logit - largest).exp()).sum();
    for weighted in &mut kept {
        weighted.logit -= largest + total.ln();
    }
    kept.retain(|weighted| (weighted.id as usize) < known);
    adjust(&mut kept, seen, sampling);
    let mut all = vec![f64::NEG_INFINITY; known.min(logits.len())];
    for weighted in kept {
        all[weighted.id as usize] = weighted.logit;
    }
    Ok(all)
}

/// A token with its logit and, from the temperature on, its probability up to a common factor.
#[derive(Debug, Clone, Copy)]
struct Weighted {
    id: u32,
    logit: f64,
    weight: f64,
}

/// The most probable first; ties by the lowest id.
fn by_rank(left: &Weighted, right: &Weighted) -> Ordering {
    right.logit.total_cmp(&left.logit).then(left.id.cmp(&right.id))
}

fn total(kept: &[Weighted]) -> f64 {
    kept.iter().map(|weighted| weighted.weight).sum()
}

/// All filters, in their order. The result is sorted by id, so that a draw depends only on the distribution, not on the filters
/// that led to it.
fn weigh(logits: &[f32], seen: Seen<'_>, sampling: &Sampling) -> Result<Vec<Weighted>> {
    sampling.validate()?;
    let mut kept = allowed(logits)?;
    adjust(&mut kept, seen, sampling);
    let Some(best) = kept.iter().copied().min_by(by_rank) else {
        return Err(InferenceError::NotFinite {
            what: "all logits of the next token are".to_owned(),
        });
    };
    if sampling.temperature == 0.0 {
        return Ok(vec![Weighted { weight: 1.0, ..best }]);
    }
    // The best has weight 1, so the sum is at least 1 and nothing overflows.
    let scaled = kept
        .iter()
        .map(|weighted| (weighted.logit - best.logit) / sampling.temperature);
    let mut weights: Vec<f64> = scaled.collect();
    exp_in_place(&mut weights);
    for (weighted, weight) in kept.iter_mut().zip(weights) {
        weighted.weight = weight;
    }
    if let Some(top_k) = sampling.top_k.filter(|top_k| *top_k < kept.len()) {
        kept.select_nth_unstable_by(top_k, by_rank);
        kept.truncate(top_k);
    }
    if let Some(top_p) = sampling.top_p.filter(|top_p| *top_p < 1.0) {
        keep_mass(&mut kept, top_p);
    }
    if let Some(min_p) = sampling.min_p {
        kept.retain(|weighted| weighted.weight >= min_p);
    }
    if let Some(typical_p) = sampling.typical_p.filter(|typical_p| *typical_p < 1.0) {
        keep_typical(&mut kept, typical_p);
    }
    kept.sort_unstable_by_key(|weighted| weighted.id);
    Ok(kept)
}

/// Every token that is not forbidden by a logit of negative infinity.
fn allowed(logits: &[f32]) -> Result<Vec<Weighted>> {
    let mut kept = Vec::with_capacity(logits.len());
    for (id, &logit) in (0_u32..).zip(logits) {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(InferenceError::NotFinite {
                what: format!("the logit of token {id} is {logit}, which is"),
            });
        }
        if logit > f32::NEG_INFINITY {
            // Adding zero turns negative zero into positive zero, so that both have the same rank.
            kept.push(Weighted {
                id,
                logit: f64::from(logit) + 0.0,
                weight: 0.0,
            });
        }
    }
    Ok(kept)
}

/// Bias and penalties, in their order. `kept` is sorted by id.
fn adjust(kept: &mut [Weighted], seen: Seen<'_>, sampling: &Sampling) {
    for (&id, &bias) in &sampling.logit_bias {
        if let Ok(found) = kept.binary_search_by_key(&id, |weighted| weighted.id) {
            kept[found].logit += bias;
        }
    }
    let penalty = sampling.repetition_penalty;
    if penalty != 1.0 {
        // Once per token, however often it was seen.
        for weighted in counted(kept, &[seen.prompt, seen.new]).map(|(weighted, _)| weighted) {
            match weighted.logit > 0.0 {
                true => weighted.logit /= penalty,
                false => weighted.logit *= penalty,
            }
        }
    }
    if sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0 {
        for (weighted, count) in counted(kept, &[seen.new]) {
            weighted.logit -= f64::from(count) * sampling.frequency_penalty + sampling.presence_penalty;
        }
    }
}

/// The tokens that occur in these lists, each once, with how often they do.
fn counted<'k>(kept: &'k mut [Weighted], lists: &[&[u32]]) -> impl Iterator<Item = (&'k mut Weighted, u32)> {
    let mut counts = vec![0_u32; kept.last().map_or(0, |last| last.id as usize + 1)];
    for &id in lists.iter().copied().flatten() {
        if let Some(count) = counts.get_mut(id as usize) {
            *count += 1;
        }
    }
    kept.iter_mut().filter_map(move |weighted| {
        let count = counts[weighted.id as usize];
        (count > 0).then_some((weighted, count))
    })
}

/// Keeps the smallest set of most probable tokens whose mass is at least `share` of all.
fn keep_mass(kept: &mut Vec<Weighted>, share: f64) {
    kept.sort_unstable_by(by_rank);
    cut_at_mass(kept, share);
}

/// Keeps the smallest set of tokens whose surprisal is nearest to the entropy and whose mass is at least `share` of all.
fn keep_typical(kept: &mut Vec<Weighted>, share: f64) {
    let total = total(kept);
    let surprisal = |weighted: &Weighted| -(weighted.weight / total).ln();
    let has_weight = |weighted: &&Weighted| weighted.weight > 0.0;
    let expected = kept.iter().filter(has_weight);
    let entropy: f64 = expected
        .map(|weighted| weighted.weight / total * surprisal(weighted))
        .sum();
    let distance = |weighted: &Weighted| (surprisal(weighted) - entropy).abs();
    kept.sort_unstable_by(|left, right| {
        let order = distance(left).total_cmp(&distance(right));
        order.then(left.id.cmp(&right.id))
    });
    cut_at_mass(kept, share);
}

/// Cuts a list after the first token with which the mass is at least `share` of all.
fn cut_at_mass(kept: &mut Vec<Weighted>, share: f64) {
    let needed = share * total(kept);
    let mut mass = 0.0;
    let enough = kept.iter().position(|weighted| {
        mass += weighted.weight;
        mass >= needed
    });
    kept.truncate(enough.map_or(kept.len(), |last| last + 1));
}
