//! Filling gaps: a masked model's predictions at mask tokens.

use burn::tensor::activation::softmax;
use serde::Serialize;
use taal_tokenizer::{Tokenizer, WordMarks};

use crate::probe::{Probe, Rows, to_host};
use crate::{InferenceError, LanguageModel, Result};

/// How a mask may be written, whatever the tokenizer calls it.
const MASK: &str = "[MASK]";

/// Options of [`fill`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FillOptions {
    /// Guesses per mask.
    pub top: usize,
    /// Leave out white space and pieces that only continue a word. Where a word may begin without a space, such as at the
    /// beginning of a text, such pieces look like words and are kept.
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
    /// The text of the token, including its leading space.
    pub text: String,
    /// The token as the vocabulary spells it.
    pub token: String,
    /// Its id.
    pub id: u32,
    /// Its probability, among all tokens.
    pub probability: f64,
}

/// The guesses for one mask.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gap {
    /// Position of the mask among the tokens.
    pub position: usize,
    /// The likeliest first.
    pub guesses: Vec<Guess>,
}

/// The rank of a word among all tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rank {
    /// The word.
    pub word: String,
    /// 1 for the likeliest; `None` where the word is more than one token.
    pub rank: Option<usize>,
    /// Its probability.
    pub probability: Option<f64>,
}

/// A text with its gaps filled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// The text as it was given.
    pub text: String,
    /// The text with every mask replaced, one at a time, the most confident first. Where tokens include the spaces between words,
    /// it is the decoded text.
    pub filled: String,
    /// Guesses for each mask, with all the others still hidden.
    pub gaps: Vec<Gap>,
    /// Ranks at the first mask.
    pub ranks: Vec<Rank>,
}

/// Predicts the token at every `[MASK]` of a text (or at the tokenizer's own mask token).
///
/// # Errors
///
/// [`InferenceError::NotMasked`] for a causal model, [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for a text without a mask
/// or `top` of 0, and [`InferenceError::PromptTooLong`] where the text is longer than the model's context.
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
        InferenceError::setting(
            "tokenizer",
            "it has no mask token, so the model is not a masked language model",
        )
    })?;
    let masked = with_own_mask(tokenizer, &lm.normalized(text));
    let ids = framed(tokenizer, &masked)?;
    lm.check_ids(&ids, "token id")?;
    if let Some(context) = lm.model.config().context_limit().filter(|context| ids.len() > *context) {
        let tokens = ids.len();
        return Err(InferenceError::PromptTooLong { tokens, context });
    }
    let masks: Vec<usize> = (0..ids.len()).filter(|place| ids[*place] == mask_id).collect();
    if masks.is_empty() {
        return Err(InferenceError::setting(
            "text",
            format!(
                "expected at least one {MASK} to fill, found none in {}",
                taal_store::excerpt(text)
            ),
        ));
    }
    let frame = tokenizer.frame();
    let gap = Gaps {
        lm,
        tokenizer,
        marks: tokenizer.word_marks(),
        mask_id,
        first: frame.before.len(),
        whole_words: options.whole_words,
    };
    let rows = gap.probabilities(&ids, &masks)?;
    let gaps = masks
        .iter()
        .zip(&rows)
        .map(|(&position, row)| Gap {
            position,
            guesses: gap.best(row, gap.takes_bare_words(&ids, position), options.top),
        })
        .collect();
    let ranks = options
        .rank
        .iter()
        .map(|word| gap.rank(word, &rows[0], gap.takes_bare_words(&ids, masks[0])))
        .collect::<Result<_>>()?;
    let ids = gap.fill_all(ids, &masks)?;
    let filled = match gap.marks.carry_space() {
        true => decoded(tokenizer, text, &ids[frame.before.len()..ids.len() - frame.after.len()])?,
        false => {
            let words: Vec<u32> = masks.iter().map(|place| ids[*place]).collect();
            replaced(tokenizer, &masked, &words)?
        }
    };
    Ok(Filled {
        text: text.to_owned(),
        filled,
        gaps,
        ranks,
    })
}

/// The text of ids whose tokens include the spaces between words.
fn decoded(tokenizer: &Tokenizer, text: &str, ids: &[u32]) -> Result<String> {
    let filled = tokenizer.decode(ids)?;
    // Some tokenizers add a space before every text, and not all of them remove it again.
    Ok(match filled.strip_prefix(' ') {
        Some(rest) if !text.starts_with(' ') => rest.to_owned(),
        _ => filled,
    })
}

/// The given text with `words` in place of its masks, for tokens without spaces: decoding the whole text could change its case or
/// put spaces around punctuation. Adjacent masks are decoded together, since only the tokens tell whether they form one word.
fn replaced(tokenizer: &Tokenizer, masked: &str, words: &[u32]) -> Result<String> {
    let mask = tokenizer
        .mask_id()
        .and_then(|id| tokenizer.id_to_token(id))
        .unwrap_or_default();
    let mut parts = masked.split(mask.as_str());
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut run = Vec::new();
    for (word, part) in words.iter().zip(parts) {
        run.push(*word);
        if !part.is_empty() {
            filled.push_str(&tokenizer.decode(&std::mem::take(&mut run))?);
            filled.push_str(part);
        }
    }
    if !run.is_empty() {
        filled.push_str(&tokenizer.decode(&run)?);
    }
    Ok(filled)
}

/// A text with the tokenizer's own mask token for every `[MASK]`; unchanged where the tokenizer has none.
///
/// Where tokens include the space before a word, the mask includes it too, as in training; otherwise the space would become a
/// separate token. For space markers such as `Ġ` the `lstrip` of the file's mask token decides, as in other programs.
pub fn with_own_mask(tokenizer: &Tokenizer, text: &str) -> String {
    let Some(mask) = tokenizer.mask_id().and_then(|id| tokenizer.id_to_token(id)) else {
        return text.to_owned();
    };
    let text = text.replace(MASK, &mask);
    match tokenizer.word_marks().carry_literal_space() {
        true => text.replace(&format!(" {mask}"), &mask),
        false => text,
    }
}

/// The ids of a text inside the tokenizer's [frame](Tokenizer::frame), as in training.
///
/// # Errors
///
/// The tokenizer's.
pub fn framed(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(tokenizer.frame().around(&tokenizer.encode(text)?))
}

struct Gaps<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    marks: WordMarks,
    mask_id: u32,
    /// The position of the text's first token.
    first: usize,
    whole_words: bool,
}

impl Gaps<'_> {
    /// Probabilities of all ids at some positions.
    fn probabilities(&self, ids: &[u32], places: &[usize]) -> Result<Vec<Vec<f32>>> {
        let model = &self.lm.model;
        let rows = Rows::new(ids, ids.len());
        let blocks = Probe::new(model).ask(&rows, Some(places), |logits, _| {
            to_host(softmax(logits.unsqueeze::<3>(), 2)) // [1, places, vocab_size]
        })?;
        let vocab_size = model.config().vocab_size;
        Ok(blocks.concat().chunks_exact(vocab_size).map(<[f32]>::to_vec).collect())
    }

    /// Whether the word at a position may be a token without a space.
    fn takes_bare_words(&self, ids: &[u32], place: usize) -> bool {
        let before = place
            .checked_sub(1)
            .filter(|_| place > self.first)
            .map(|place| ids[place]);
        // A mask before this one will be a word.
        before != Some(self.mask_id) && self.marks.begins_without_space(before)
    }

    fn is_candidate(&self, id: usize, takes_bare_words: bool) -> bool {
        let is_known = id < self.tokenizer.vocab_size() && !self.tokenizer.is_special(id as u32);
        let id = id as u32;
        let is_word = || self.marks.is_word(id) || (takes_bare_words && !self.marks.is_space(id));
        is_known && (!self.whole_words || is_word())
    }

    fn best(&self, row: &[f32], takes_bare_words: bool, top: usize) -> Vec<Guess> {
        let is_candidate = |id: &usize| self.is_candidate(*id, takes_bare_words);
        let mut ids: Vec<usize> = (0..row.len()).filter(is_candidate).collect();
        // Ties go to the smaller id, so that results are deterministic.
        ids.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
        ids.truncate(top);
        let guess = |id: usize| Guess {
            text: self.text_of(id as u32),
            token: self.tokenizer.id_to_token(id as u32).unwrap_or_default(),
            id: id as u32,
            probability: f64::from(row[id]),
        };
        ids.into_iter().map(guess).collect()
    }

    /// The text of a token in the middle of a sentence.
    fn text_of(&self, id: u32) -> String {
        let text = self.tokenizer.decode(&[id]).unwrap_or_default();
        // Decoders drop a leading space, which here distinguishes two tokens.
        match self.marks.has_space(id) && !text.starts_with(char::is_whitespace) {
            true => format!(" {text}"),
            false => text,
        }
    }

    /// The rank of the token that spells the word at the gap: with a leading space, unless a word may begin there without one.
    fn rank(&self, word: &str, row: &[f32], takes_bare_words: bool) -> Result<Rank> {
        let ids = [format!(" {word}"), word.to_owned()]
            .iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let is_wanted = |id: &u32| {
            let is_known = !self.tokenizer.is_special(*id) && Some(*id) != self.tokenizer.unk_id();
            let has_right_space = !self.marks.carry_space() || self.marks.has_space(*id) != takes_bare_words;
            (*id as usize) < row.len() && is_known && has_right_space
        };
        let single = ids.iter().filter(|ids| ids.len() == 1).map(|ids| ids[0]);
        let single = single.into_iter().find(is_wanted).map(|id| id as usize);
        Ok(Rank {
            word: word.to_owned(),
            rank: single.map(|id| 1 + row.iter().filter(|other| **other > row[id]).count()),
            probability: single.map(|id| f64::from(row[id])),
        })
    }

    /// Fills every mask, one at a time, the most confident first.
    fn fill_all(&self, mut ids: Vec<u32>, masks: &[usize]) -> Result<Vec<u32>> {
        let mut open = masks.to_vec();
        while !open.is_empty() {
            let rows = self.probabilities(&ids, &open)?;
            let bests = open.iter().zip(&rows).map(|(&place, row)| {
                let best = self.best(row, self.takes_bare_words(&ids, place), 1);
                best.into_iter().next()
            });
            let surest = bests
                .enumerate()
                .filter_map(|(index, guess)| Some((index, guess?)))
                .max_by(|(a, one), (b, other)| one.probability.total_cmp(&other.probability).then(b.cmp(a)));
            let Some((index, guess)) = surest else { break };
            ids[open.remove(index)] = guess.id;
        }
        Ok(ids)
    }
}
