//! Scores of whole words in a gap, of one token or several.

use std::collections::{BTreeMap, HashSet};

use taal_inference::{InferenceError, LanguageModel, Probe, Rows, framed, to_host, with_own_mask};
use taal_tokenizer::{Tokenizer, WordMarks};

use super::{Gap, GapRank, GapReading, MASK};
use crate::pairs::{TOKENS_AT_ONCE, beginning};
use crate::{EvaluationError, Result};

/// Ranks words with one model.
pub(super) struct Scorer<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    marks: WordMarks,
    reading: GapReading,
    /// Whether spaces are tokens of their own, as with characters: then words end where a space begins.
    has_space_tokens: bool,
    /// By id: whether the token's text begins with a letter or a digit.
    begins_with_letter: Vec<bool>,
}

/// The tokens around a gap.
struct Around {
    before: Vec<u32>,
    after: Vec<u32>,
    /// Whether a word in the gap comes after a space that its first token includes.
    is_after_space: bool,
}

/// A word in a gap.
struct Candidate {
    /// Its place in the list of candidates.
    index: usize,
    ids: Vec<u32>,
    /// The log-probability of the tokens so far.
    score: f64,
}

/// What a row is asked for: the tokens of the word that are known, and, with masks, how many it has in all.
type Known = (usize, Vec<u32>);

impl<'a> Scorer<'a> {
    pub(super) fn new(lm: &'a LanguageModel) -> Result<Self> {
        let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
            purpose: "ranking words in gaps",
        })?;
        let reading = match lm.model.config().is_causal {
            true => GapReading::Left,
            false => GapReading::BothSides,
        };
        if reading == GapReading::BothSides && tokenizer.mask_id().is_none() {
            return Err(EvaluationError::setting(
                "tokenizer",
                "it has no mask token, so the model is not a masked language model",
            ));
        }
        let marks = tokenizer.word_marks();
        let spaced = tokenizer.encode("a b").unwrap_or_default();
        let has_space_tokens = !marks.carry_space() && spaced.iter().any(|id| marks.is_space(*id));
        let begins_with_letter = (0..tokenizer.vocab_size() as u32)
            .map(|id| {
                let text = tokenizer.decode(&[id]).unwrap_or_default();
                let is_letter = |first: char| first.is_alphanumeric() || first == char::REPLACEMENT_CHARACTER;
                !marks.has_space(id) && !tokenizer.is_special(id) && text.starts_with(is_letter)
            })
            .collect();
        Ok(Self {
            lm,
            tokenizer,
            marks,
            reading,
            has_space_tokens,
            begins_with_letter,
        })
    }

    pub(super) fn reading(&self) -> GapReading {
        self.reading
    }

    pub(super) fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }

    /// The rank of the best expected word of a gap.
    pub(super) fn rank(&self, gap: &Gap, candidates: &[String]) -> Result<GapRank> {
        let around = self.around(&gap.text)?;
        let mut known = HashSet::new();
        let mut all = Vec::with_capacity(candidates.len());
        let mut expected = Vec::new();
        for (index, word) in candidates.iter().enumerate() {
            let Some(ids) = self.word_ids(word, &around)? else {
                continue;
            };
            let is_expected = gap.words.contains(word);
            // Words that the tokenizer spells alike, such as those in other cases, are one candidate.
            if known.insert(ids.clone()) || is_expected {
                let candidate = Candidate { index, ids, score: 0.0 };
                if is_expected {
                    expected.push(candidate)
                } else {
                    all.push(candidate)
                }
            }
        }
        let own: HashSet<Vec<u32>> = expected.iter().map(|candidate| candidate.ids.clone()).collect();
        all.retain(|candidate| !own.contains(&candidate.ids));
        let best = self
            .scores_above(&around, expected, f64::NEG_INFINITY)?
            .into_iter()
            .max_by(|(_, a), (_, b)| a.total_cmp(b));
        let limit = best.map_or(f64::NEG_INFINITY, |(_, score)| score);
        let above = self.scores_above(&around, all, limit)?;
        let first = above.iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let guess = first.map_or(best.map(|(index, _)| index), |(index, _)| Some(*index));
        Ok(GapRank {
            text: gap.text.clone(),
            word: best.map_or(&gap.words[0], |(index, _)| &candidates[index]).clone(),
            rank: best.map_or(candidates.len() as u64, |_| 1 + above.len() as u64),
            probability: best.map(|(_, score)| score.exp()),
            guess: guess.map_or(String::new(), |index| candidates[index].clone()),
            neighbors_rank: None,
        })
    }

    /// The tokens around the gap of a sentence.
    fn around(&self, text: &str) -> Result<Around> {
        let (left, _) = text.split_once(MASK).unwrap_or((text, ""));
        let around = match self.reading {
            GapReading::Left => {
                let mut before = beginning(self.lm, self.tokenizer);
                before.extend(self.tokenizer.encode(&self.lm.normalized(left.trim_end()))?);
                Around {
                    before,
                    after: Vec::new(),
                    is_after_space: left.ends_with(char::is_whitespace),
                }
            }
            GapReading::BothSides => {
                let ids = framed(
                    self.tokenizer,
                    &with_own_mask(self.tokenizer, &self.lm.normalized(text)),
                )?;
                let mask = self.tokenizer.mask_id();
                let place = ids.iter().position(|id| Some(*id) == mask).ok_or_else(|| {
                    EvaluationError::setting("text", "the tokenizer does not keep the mask token of this sentence")
                })?;
                let is_space = place
                    .checked_sub(1)
                    .is_some_and(|before| self.marks.is_space(ids[before]));
                Around {
                    is_after_space: left.ends_with(char::is_whitespace) && !is_space,
                    before: ids[..place].to_vec(),
                    after: ids[place + 1..].to_vec(),
                }
            }
        };
        self.lm.check_ids(&around.before, "token id")?;
        self.lm.check_ids(&around.after, "token id")?;
        match around.before.is_empty() {
            true => Err(EvaluationError::setting(
                "text",
                "nothing is before the gap, and no token of the model begins a text",
            )),
            false => Ok(around),
        }
    }

    /// The tokens of a word in a gap; `None` where the tokenizer does not know it.
    fn word_ids(&self, word: &str, around: &Around) -> Result<Option<Vec<u32>>> {
        /// A word before the gap's, so that its tokens are those of a word inside a text.
        const BEFORE: &str = "a";
        let encode = |text: &str| match self.tokenizer.encode(&self.lm.normalized(text)) {
            Ok(ids) => Ok(Some(ids)),
            Err(taal_tokenizer::Error::Unknown { .. }) => Ok(None),
            Err(error) => Err(EvaluationError::from(error)),
        };
        let alone = if around.is_after_space { encode(BEFORE)? } else { None };
        let ids = match alone {
            None => encode(word)?,
            Some(alone) => encode(&format!("{BEFORE} {word}"))?.and_then(|ids| match ids.starts_with(&alone) {
                true => Some(ids[alone.len()..].to_vec()),
                false => None,
            }),
        };
        let is_known = |ids: &Vec<u32>| !ids.is_empty() && !ids.iter().any(|id| Some(*id) == self.tokenizer.unk_id());
        Ok(ids.filter(is_known))
    }

    /// The candidates that are more probable than `limit`, with their log-probabilities.
    fn scores_above(&self, around: &Around, mut open: Vec<Candidate>, limit: f64) -> Result<Vec<(usize, f64)>> {
        let mut found = Vec::new();
        let mut level = 0;
        while !open.is_empty() {
            let mut by_known: BTreeMap<Known, Vec<usize>> = BTreeMap::new();
            for (index, candidate) in open.iter().enumerate() {
                let len = match self.reading {
                    GapReading::BothSides => candidate.ids.len(),
                    GapReading::Left => 0,
                };
                let known = candidate.ids[..level].to_vec();
                by_known.entry((len, known)).or_default().push(index);
            }
            for (index, score) in self.next_scores(around, &open, &by_known, level)? {
                open[index].score += score;
            }
            let is_whole = |candidate: &Candidate| match self.reading {
                GapReading::BothSides => candidate.ids.len() == level + 1,
                // The end of the word is scored one step after its last token.
                GapReading::Left => candidate.ids.len() == level,
            };
            let (whole, rest): (Vec<_>, Vec<_>) = open
                .into_iter()
                .filter(|candidate| candidate.score > limit)
                .partition(is_whole);
            found.extend(whole.into_iter().map(|candidate| (candidate.index, candidate.score)));
            open = rest;
            level += 1;
        }
        Ok(found)
    }

    /// The log-probability of the next token of each open candidate, or of its end, by its index.
    fn next_scores(
        &self,
        around: &Around,
        open: &[Candidate],
        by_known: &BTreeMap<Known, Vec<usize>>,
        level: usize,
    ) -> Result<Vec<(usize, f64)>> {
        let mut scores = Vec::with_capacity(open.len());
        // Rows of one width go together.
        let mut by_len: BTreeMap<usize, Vec<(&Known, &Vec<usize>)>> = BTreeMap::new();
        for (known, indices) in by_known {
            by_len.entry(known.0).or_default().push((known, indices));
        }
        for rows in by_len.values() {
            let width = self.row(around, rows[0].0)?.len();
            for group in rows.chunks((TOKENS_AT_ONCE / width).max(1)) {
                scores.extend(self.group_scores(around, open, group, width, level)?);
            }
        }
        Ok(scores)
    }

    /// [`next_scores`](Self::next_scores) of rows of one width.
    fn group_scores(
        &self,
        around: &Around,
        open: &[Candidate],
        group: &[(&Known, &Vec<usize>)],
        width: usize,
        level: usize,
    ) -> Result<Vec<(usize, f64)>> {
        let mut inputs = Vec::with_capacity(group.len() * width);
        for (known, _) in group {
            inputs.extend(self.row(around, known)?);
        }
        // A masked model is asked at the first mask, a causal one after the last token.
        let place = match self.reading {
            GapReading::BothSides => around.before.len() + level,
            GapReading::Left => width - 1,
        };
        let places: Vec<usize> = (0..group.len()).map(|row| row * width + place).collect();
        let rows = Rows::new(&inputs, width);
        let logits = Probe::new(&self.lm.model).ask(&rows, Some(&places), |logits, _| to_host(logits))?;
        let mut scores = Vec::new();
        let vocab_size = self.lm.model.config().vocab_size;
        for (row, (_, indices)) in logits.concat().chunks_exact(vocab_size).zip(group) {
            let total = log_sum_exp(row.iter().copied());
            let mut end = None;
            for index in *indices {
                let ids = &open[*index].ids;
                let score = match ids.get(level) {
                    Some(id) => f64::from(row[*id as usize]),
                    None => *end.get_or_insert_with(|| self.end_score(row, ids)),
                };
                scores.push((*index, score - total));
            }
        }
        Ok(scores)
    }

    /// The logit, over all tokens that end it, of the end of a word of these tokens.
    fn end_score(&self, row: &[f32], ids: &[u32]) -> f64 {
        let last = ids[ids.len() - 1];
        let ends = (0_u32..).zip(row).filter(|(id, _)| self.ends(last, *id));
        log_sum_exp(ends.map(|(_, logit)| *logit))
    }

    /// Whether a word has ended if `id` is after its last token.
    fn ends(&self, last: u32, id: u32) -> bool {
        let begins_with_letter = self.begins_with_letter.get(id as usize).copied().unwrap_or(false);
        !begins_with_letter || (!self.has_space_tokens && !self.marks.continues(last, id))
    }

    /// The ids of the sentence with what is known of the word: a masked model has a mask for each of its other tokens.
    fn row(&self, around: &Around, (len, known): &Known) -> Result<Vec<u32>> {
        let limit = self.lm.model.config().max_seq_len;
        let mut ids = around.before.clone();
        ids.extend(known);
        if let (GapReading::BothSides, Some(mask)) = (self.reading, self.tokenizer.mask_id()) {
            ids.resize(around.before.len() + len, mask);
        }
        ids.extend(&around.after);
        match ids.len() <= limit {
            true => Ok(ids),
            false => Err(EvaluationError::setting(
                "text",
                format!(
                    "expected at most {limit} tokens, the model's context, got {}",
                    ids.len()
                ),
            )),
        }
    }
}

/// `ln(sum(exp(x)))`.
fn log_sum_exp(logits: impl Iterator<Item = f32> + Clone) -> f64 {
    let largest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    if !largest.is_finite() {
        return f64::from(largest);
    }
    let sum: f64 = logits.map(|logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}
