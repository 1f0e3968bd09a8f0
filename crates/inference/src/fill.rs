//! Filling gaps: what a masked model thinks stands at a mask token.

use burn::tensor::{Int, Tensor};
use serde::Serialize;
use taal_model::{ForwardOptions, Transformer};
use taal_tokenizer::Tokenizer;

use crate::decoder::{ids_tensor, to_host};
use crate::language_model::check_ids;
use crate::{InferenceError, LanguageModel, Result};

/// How a mask may be written, whatever the tokenizer calls it.
const MASK: &str = "[MASK]";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillOptions {
    /// Guesses a mask.
    pub top: usize,
    /// Leave out pieces that only go on with a word, where a word begins.
    pub whole_words: bool,
    /// Words whose rank at the first mask is wanted.
    pub rank: Vec<String>,
}

impl Default for FillOptions {
    fn default() -> Self {
        Self {
            top: 5,
            whole_words: true,
            rank: Vec::new(),
        }
    }
}

/// One guess.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guess {
    /// The text of the token.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Its probability, among all tokens.
    pub probability: f64,
}

/// The guesses for one mask.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// Place of the mask among the tokens.
    pub position: usize,
    /// The likeliest first.
    pub guesses: Vec<Guess>,
}

/// Where a word stands among all tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rank {
    /// The word.
    pub word: String,
    /// 1 for the likeliest; none where the word is more than one token.
    pub rank: Option<usize>,
    /// Its probability.
    pub probability: Option<f64>,
}

/// A text with its gaps filled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// The text as it was given.
    pub text: String,
    /// The text with every mask replaced: the surest one first, and the next one with that in place.
    pub filled: String,
    /// Guesses for each mask, with all the others still hidden.
    pub gaps: Vec<Gap>,
    /// Ranks at the first mask.
    pub ranks: Vec<Rank>,
}

/// Guesses what stands at every `[MASK]` of a text (or at the tokenizer's own mask token).
///
/// # Errors
///
/// [`InferenceError::NotMasked`] for a causal model, [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a text without a mask
/// or `top` of 0, and the model's where the text is longer than its context.
pub fn fill(lm: &LanguageModel, text: &str, options: &FillOptions) -> Result<Filled> {
    if lm.model.config().is_causal {
        return Err(InferenceError::NotMasked);
    }
    if options.top == 0 {
        return Err(InferenceError::setting("top", "expected at least 1 guess, got 0"));
    }
    let tokenizer = lm.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
        purpose: "filling gaps in a text",
    })?;
    let mask_id = tokenizer.mask_id().ok_or_else(|| {
        InferenceError::setting("tokenizer", "it has no mask token, so this is no masked language model")
    })?;
    let mask = tokenizer.id_to_token(mask_id).unwrap_or_default();
    let masked = with_own_mask(tokenizer, text);
    let ids = framed(tokenizer, &masked)?;
    check_ids(&ids, lm.model.config().vocab_size, "token id")?;
    let masks: Vec<usize> = (0..ids.len()).filter(|place| ids[*place] == mask_id).collect();
    if masks.is_empty() {
        return Err(InferenceError::setting(
            "text",
            format!("expected at least one {MASK} to fill, found none in {text:?}"),
        ));
    }
    let gap = Gaps {
        lm,
        tokenizer,
        goes_on: tokenizer.continuations(),
        whole_words: options.whole_words,
    };
    let rows = gap.probabilities(&ids, &masks)?;
    let gaps = masks
        .iter()
        .zip(&rows)
        .map(|(&position, row)| Gap {
            position,
            guesses: gap.best(row, options.top),
        })
        .collect();
    let ranks = options
        .rank
        .iter()
        .map(|word| gap.rank(word, &rows[0]))
        .collect::<Result<_>>()?;
    let words = gap.fill_all(ids, &masks)?;
    let filled = words.iter().fold(masked, |text, word| text.replacen(&mask, word, 1));
    Ok(Filled {
        text: text.to_owned(),
        filled,
        gaps,
        ranks,
    })
}

/// A text with the tokenizer's own mask token for every `[MASK]`; as it was where the tokenizer has none.
pub fn with_own_mask(tokenizer: &Tokenizer, text: &str) -> String {
    match tokenizer.mask_id().and_then(|id| tokenizer.id_to_token(id)) {
        Some(mask) => text.replace(MASK, &mask),
        None => text.to_owned(),
    }
}

/// The ids of a text between the tokens that begin and end one, where the tokenizer has them: as in training.
///
/// # Errors
///
/// The tokenizer's.
pub fn framed(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let mut ids = tokenizer.encode(text)?;
    ids.splice(0..0, tokenizer.bos_id());
    ids.extend(tokenizer.eos_id());
    Ok(ids)
}

struct Gaps<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    goes_on: Vec<bool>,
    whole_words: bool,
}

impl Gaps<'_> {
    /// Probabilities of all ids at some places.
    fn probabilities(&self, ids: &[u32], places: &[usize]) -> Result<Vec<Vec<f32>>> {
        let model: &Transformer = &self.lm.model;
        let device = model.device();
        let inputs = ids_tensor(ids, [1, ids.len()], &device);
        let chosen: Vec<u32> = places.iter().map(|place| *place as u32).collect();
        let chosen: Tensor<1, Int> = ids_tensor(&chosen, [1, chosen.len()], &device).reshape([chosen.len()]);
        let hidden = model.forward_with(inputs, ForwardOptions::default())?.hidden; // [1, seq, d_model]
        let logits = model.logits(hidden.select(1, chosen)); // [1, places, vocab_size]
        let vocab_size = model.config().vocab_size;
        let values = to_host(burn::tensor::activation::softmax(logits, 2))?;
        Ok(values.chunks_exact(vocab_size).map(<[f32]>::to_vec).collect())
    }

    fn is_candidate(&self, id: usize) -> bool {
        let is_known = id < self.tokenizer.vocab_size() && !self.tokenizer.is_special(id as u32);
        is_known && !(self.whole_words && self.goes_on.get(id).copied().unwrap_or(false))
    }

    fn best(&self, row: &[f32], top: usize) -> Vec<Guess> {
        let mut ids: Vec<usize> = (0..row.len()).filter(|id| self.is_candidate(*id)).collect();
        // Of equals the smaller id first, so that equal arguments give equal guesses.
        ids.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        ids.truncate(top);
        let guess = |id: usize| Guess {
            text: self
                .tokenizer
                .decode(&[id as u32])
                .unwrap_or_default()
                .trim()
                .to_owned(),
            id: id as u32,
            probability: f64::from(row[id]),
        };
        ids.into_iter().map(guess).collect()
    }

    fn rank(&self, word: &str, row: &[f32]) -> Result<Rank> {
        // With a space before it, as it would stand in a sentence; most tokenizers do not mind.
        let ids = [format!(" {word}"), word.to_owned()]
            .iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let single = ids.iter().find(|ids| ids.len() == 1).map(|ids| ids[0] as usize);
        let single = single.filter(|id| *id < row.len() && !self.tokenizer.is_special(*id as u32));
        Ok(Rank {
            word: word.to_owned(),
            rank: single.map(|id| 1 + row.iter().filter(|other| **other > row[id]).count()),
            probability: single.map(|id| f64::from(row[id])),
        })
    }

    /// A word for every mask in the order of the text: the surest is chosen first, the next one with that in place.
    fn fill_all(&self, mut ids: Vec<u32>, masks: &[usize]) -> Result<Vec<String>> {
        let mut words = vec![String::new(); masks.len()];
        let mut open: Vec<usize> = (0..masks.len()).collect();
        while !open.is_empty() {
            let places: Vec<usize> = open.iter().map(|index| masks[*index]).collect();
            let rows = self.probabilities(&ids, &places)?;
            let firsts = rows.iter().map(|row| self.best(row, 1).pop());
            let surest = firsts
                .enumerate()
                .filter_map(|(index, guess)| Some((index, guess?)))
                .max_by(|(a, one), (b, other)| one.probability.total_cmp(&other.probability).then(b.cmp(a)));
            let Some((index, guess)) = surest else { break };
            let index = open.remove(index);
            ids[masks[index]] = guess.id;
            words[index] = guess.text;
        }
        Ok(words)
    }
}
