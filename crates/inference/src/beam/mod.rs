//! Beam search: the most probable continuations instead of a drawn one.

pub(crate) mod search;

use serde::{Deserialize, Serialize};
use taal_model::Cache;

use self::search::{Extension, Search, numbered};
use crate::constraint::Matching;
use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::language_model::check_causal;
use crate::probe::Probe;
use crate::sampling::{Seen, logprobs};
use crate::{InferenceError, LanguageModel, Result};

/// More beams than this need more memory than a text is worth.
const MAX_WIDTH: usize = 1024;

/// When a beam search ends before all continuations have: the three rules of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EarlyStopping {
    /// Once the best running continuation, at its present length, scores lower than the worst complete one (transformers' `False`).
    #[default]
    Estimate,
    /// Once `width` continuations are complete (transformers' `True`).
    Filled,
    /// Once no running continuation can score higher at any length (transformers' `"never"`).
    Never,
}

/// Options of [`beam_search`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeamOptions {
    /// How many continuations are followed, and returned at most.
    pub width: usize,
    /// The log-probability of a continuation of `n` tokens is divided by `n` to this power: above 0, longer continuations score higher.
    pub length_penalty: f64,
    /// When to stop.
    pub early_stopping: EarlyStopping,
}

impl Default for BeamOptions {
    /// Four beams and length penalty 1: the mean log-probability of a token.
    fn default() -> Self {
        Self {
            width: 4,
            length_penalty: 1.0,
            early_stopping: EarlyStopping::default(),
        }
    }
}

impl BeamOptions {
    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MAX_WIDTH).contains(&self.width) {
            let expected = format!("expected a number from 1 to {MAX_WIDTH}, got {}", self.width);
            return Err(InferenceError::setting("beam", expected));
        }
        match (-10.0..=10.0).contains(&self.length_penalty) {
            true => Ok(()),
            false => Err(InferenceError::setting(
                "length_penalty",
                format!("expected a number from -10 to 10, got {}", self.length_penalty),
            )),
        }
    }

    /// The score of a continuation of `len` tokens with this log-probability.
    pub(crate) fn score(&self, logprob: f64, len: usize) -> f64 {
        logprob / (len as f64).powf(self.length_penalty)
    }
}

/// A continuation that beam search found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beam {
    /// Text and tokens.
    #[serde(flatten)]
    pub generation: Generation,
    /// The sum of the natural logarithms of its tokens' probabilities, the one that ends it included, after bias and penalties.
    pub logprob: f64,
    /// The log-probability divided by the number of tokens to the power of the length penalty.
    pub score: f64,
}

/// The continuations of a prompt with the highest scores, the best first. In every step each of the `width` most probable ones is
/// extended by every token, and the most probable extensions are kept, as transformers does with `num_beams` and without sampling.
///
/// Of `options`, the logit bias and the penalties apply to the log-probabilities; temperature, filters and seed do not. A full context
/// ends a continuation. Of a long prompt the last tokens are read, as for [`generate`](crate::generate()).
///
/// ```
/// use burn::tensor::Device;
/// use taal_inference::{BeamOptions, GenerateOptions, LanguageModel, Prompt, beam_search};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let size = ModelSize { vocab_size: 50, max_seq_len: 16, n_layers: 2, n_heads: 4, d_model: 32 };
/// let lm = LanguageModel::new(TransformerConfig::llama(size).init(42, &Device::flex())?, None);
/// let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
/// let beams = beam_search(&lm, &Prompt::Ids(vec![1, 2]), &options, &BeamOptions::default())?;
/// assert_eq!(beams.len(), 4);
/// assert!(beams[0].score >= beams[1].score);
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
///
/// # Errors
///
/// As [`generate`](crate::generate()); [`InferenceError::Setting`] for wrong options, and for stop strings, which beam search does not
/// have.
pub fn beam_search(
    lm: &LanguageModel,
    prompt: &Prompt,
    options: &GenerateOptions,
    beams: &BeamOptions,
) -> Result<Vec<Beam>> {
    beams.validate()?;
    check_causal(&lm.model, "beam search")?;
    if !options.stop.is_empty() {
        let detail = "beam search has no stop strings; leave them out";
        return Err(InferenceError::setting("stop", detail));
    }
    let (course, _) = Course::new(lm, prompt, options)?;
    let ended = match course.is_over(options) {
        true => vec![search::Ended::default()],
        false => Follower::new(lm, course, options, *beams).run()?,
    };
    let beam = |ended: search::Ended| {
        let (mut course, mut text) = Course::new(lm, prompt, options)?;
        for id in ended.ids {
            course.accept(lm, options, &mut text, id)?;
        }
        let (_, generation) = course.end(&mut text, false, 0)?;
        Ok(Beam {
            generation,
            logprob: ended.logprob,
            score: ended.score,
        })
    };
    ended.into_iter().map(beam).collect()
}

/// A search on a model.
struct Follower<'a> {
    lm: &'a LanguageModel,
    options: &'a GenerateOptions,
    width: usize,
    search: Search,
    /// The part of the prompt that is read.
    prompt: Vec<u32>,
    cache: Cache,
    /// The cache's row of every running continuation.
    rows: Vec<usize>,
    /// The constraint's state of every running continuation.
    matchings: Vec<Option<Matching>>,
}

impl<'a> Follower<'a> {
    fn new(lm: &'a LanguageModel, course: Course, options: &'a GenerateOptions, beams: BeamOptions) -> Self {
        let (prompt, matching) = course.into_parts();
        let limit = lm.model.config().context_limit().unwrap_or(usize::MAX);
        // The last token of a continuation is not read.
        let max_tokens = options.max_tokens.min((limit - prompt.len()).saturating_add(1));
        let capacity = prompt.len().saturating_add(max_tokens - 1);
        Self {
            cache: lm.model.new_cache(beams.width, capacity),
            search: Search::new(beams, max_tokens),
            width: beams.width,
            rows: vec![0],
            matchings: vec![matching],
            lm,
            options,
            prompt,
        }
    }

    fn run(mut self) -> Result<Vec<search::Ended>> {
        let prompt = self.prompt.clone();
        let probe = Probe::new(&self.lm.model);
        let mut logits = probe.read_rows(&mut self.cache, 0..1, &[&prompt], false, vec![None])?;
        loop {
            self.step(&logits)?;
            if self.search.is_over() {
                return Ok(self.search.ended);
            }
            let count = self.rows.iter().max().map_or(0, |last| last + 1);
            // A row without a continuation reads something, so that all have one length.
            let mut newest = vec![0; count];
            for (row, running) in self.rows.iter().zip(&self.search.running) {
                newest[*row] = running.ids.last().copied().unwrap_or_default();
            }
            let newest: Vec<&[u32]> = newest.chunks(1).collect();
            logits = probe.read_rows(&mut self.cache, 0..count, &newest, false, vec![None; count])?;
        }
    }

    /// Extends every running continuation by a token; `logits` has a block per row of the cache.
    fn step(&mut self, logits: &[f32]) -> Result<()> {
        let end_ids = if self.options.stop_at_eos {
            &self.lm.end_ids[..]
        } else {
            &[]
        };
        let vocab_size = self.lm.model.config().vocab_size;
        let mut all = Vec::with_capacity(self.rows.len());
        let mut dead_end = None;
        for (beam, row) in self.rows.iter().enumerate() {
            let logits = &logits[row * vocab_size..][..vocab_size];
            let seen = Seen {
                prompt: &self.prompt,
                new: &self.search.running[beam].ids,
            };
            let mut logprobs = logprobs(logits, self.lm.vocab_size(), seen, &self.options.sampling)?;
            if let Some(matching) = &mut self.matchings[beam] {
                match matching.forbid(end_ids, |id| logprobs[id as usize] = f64::NEG_INFINITY) {
                    // The others go on.
                    Err(error @ InferenceError::NoTokenFits { .. }) => {
                        logprobs.fill(f64::NEG_INFINITY);
                        dead_end = Some(error);
                    }
                    outcome => outcome?,
                }
            }
            all.push(logprobs);
        }
        // As many as are needed so that `width` of them do not end.
        let count = self.width * (1 + end_ids.len().max(1));
        let next = all.iter().map(|logprobs| numbered(logprobs));
        let extensions = self.search.extensions(next, count);
        if let Some(error) = dead_end.filter(|_| extensions.is_empty() && self.search.ended.is_empty()) {
            return Err(error);
        }
        let mut matchings = Vec::with_capacity(extensions.len());
        let mut ends = Vec::with_capacity(extensions.len());
        for extension in &extensions {
            let parent = &self.matchings[extension.parent];
            let is_named = parent.as_ref().is_some_and(|matching| matching.names(extension.id));
            let is_eos = end_ids.contains(&extension.id) && !is_named;
            let mut matching = match parent {
                Some(matching) if !is_eos => Some(matching.fork()),
                _ => None,
            };
            if let Some(matching) = &mut matching {
                matching.take(extension.id)?;
            }
            ends.push(is_eos || matching.as_ref().is_some_and(Matching::is_complete));
            matchings.push(matching);
        }
        let running = self.search.advance(&extensions, &ends);
        let mut rest = extensions.iter().zip(matchings);
        let find = |running: &Extension| {
            rest.find(|(found, _)| *found == running)
                .and_then(|(_, matching)| matching)
        };
        // Both lists have the same order.
        self.matchings = running.iter().map(find).collect();
        if !self.search.is_over() {
            self.place(&running);
        }
        Ok(())
    }

    fn place(&mut self, running: &[Extension]) {
        let (rows, parents) = placed(self.width, &self.rows, running);
        self.cache.reorder(&parents);
        self.rows = rows;
    }
}

/// The rows of continuations among `width`, and of each of these rows the one whose keys and values it gets; `rows` are those of the
/// parents. A parent's first child has its row, so that little is copied.
pub(crate) fn placed(width: usize, rows: &[usize], running: &[Extension]) -> (Vec<usize>, Vec<usize>) {
    let mut parents: Vec<Option<usize>> = vec![None; width];
    let mut places: Vec<Option<usize>> = vec![None; running.len()];
    for (place, extension) in places.iter_mut().zip(running) {
        let of_parent = rows[extension.parent];
        if parents[of_parent].replace(of_parent).is_none() {
            *place = Some(of_parent);
        }
    }
    let free: Vec<usize> = (0..width).filter(|row| parents[*row].is_none()).collect();
    let mut free = free.into_iter();
    let mut place = |(place, extension): (Option<usize>, &Extension)| {
        place.unwrap_or_else(|| {
            let row = free.next().unwrap_or_default();
            parents[row] = Some(rows[extension.parent]);
            row
        })
    };
    let places: Vec<usize> = places.into_iter().zip(running).map(&mut place).collect();
    let own = parents.into_iter().enumerate();
    (places, own.map(|(row, parent)| parent.unwrap_or(row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parents_first_child_keeps_its_row_and_others_get_free_ones() {
        let running = |parents: &[usize]| -> Vec<Extension> {
            let extension = |parent: &usize| Extension {
                parent: *parent,
                id: 0,
                logprob: 0.0,
            };
            parents.iter().map(extension).collect()
        };
        // The parents are in the rows 2, 0 and 3; 1 is free from the beginning, and 0 has no child.
        let (places, parents) = placed(4, &[2, 0, 3], &running(&[0, 2, 0, 0]));
        assert_eq!(places, [2, 3, 0, 1]);
        assert_eq!(parents, [2, 2, 2, 3]);
        // The first step: all come from the row of the prompt, and one row stays as it is.
        assert_eq!(placed(3, &[0], &running(&[0, 0])), (vec![0, 1], vec![0, 0, 2]));
    }
}
