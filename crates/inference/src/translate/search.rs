//! Beam searches of several sources in one batch.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;
use taal_model::{Cache, ForwardOptions};
use taal_tokenizer::Tokenizer;

use super::source::Part;
use super::{Cut, TranslateOptions};
use crate::beam::placed;
use crate::beam::search::{Ended, Search};
use crate::probe::{Probe, Rows, values};
use crate::{InferenceError, LanguageModel, Result, losses};

/// Positions of a cache, of all candidates together: it bounds memory, and batches of long sources are smaller.
const POSITIONS_AT_ONCE: usize = 1 << 14;

/// Positions that a cache has room for at first, beyond the longest source: most translations are about as long.
const ROOM: usize = 8;

/// Logits that are compared at once with the least of those found.
const CHUNK: usize = 32;

/// The most probable next tokens of a row with their log-probabilities, the most probable first.
type Candidates = Vec<(u32, f64)>;

/// Searches with a model.
pub(super) struct Searcher<'a> {
    lm: &'a LanguageModel,
    options: &'a TranslateOptions,
    /// Tokens that are no part of a translation: special ones, and the one that the decoder begins with, which is Marian's and T5's padding
    /// and need not be special in the tokenizer's file.
    forbidden: HashSet<u32>,
    /// Whether nobody waits for the translations.
    is_cancelled: Option<&'a AtomicBool>,
}

/// The search for the translation of one source.
struct Group {
    /// Its place among the sources.
    index: usize,
    search: Search,
    /// Its place in the cache.
    place: usize,
    /// The row of every running candidate, among those of the source.
    rows: Vec<usize>,
    /// Of each row of the source the one whose keys and values it gets.
    parents: Vec<usize>,
}

/// The most tokens of a translation, and what sets the limit.
pub(super) fn limit(lm: &LanguageModel, options: &TranslateOptions, source: &Part) -> (usize, Cut) {
    let wanted = options.max_tokens.unwrap_or(2 * source.n_tokens + 50);
    let limit = lm.model.config().context_limit().unwrap_or(usize::MAX);
    // The last token is not read.
    let room = match lm.model.is_encoder_decoder() {
        true => limit,
        false => limit.saturating_sub(source.ids.len()).saturating_add(1),
    };
    match wanted <= room {
        true => (wanted, Cut::MaxTokens),
        false => (room, Cut::Context),
    }
}

/// Ends work for which nobody waits.
pub(super) fn check_cancelled(is_cancelled: Option<&AtomicBool>) -> Result<()> {
    match is_cancelled.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        true => Err(InferenceError::Cancelled),
        false => Ok(()),
    }
}

impl<'a> Searcher<'a> {
    pub(super) fn new(
        lm: &'a LanguageModel,
        tokenizer: &Tokenizer,
        options: &'a TranslateOptions,
        is_cancelled: Option<&'a AtomicBool>,
    ) -> Self {
        let ids = 0..lm.vocab_size() as u32;
        let start = lm
            .model
            .config()
            .decoder_start
            .filter(|_| lm.model.is_encoder_decoder());
        let is_special = |id: u32| tokenizer.is_special(id) && tokenizer.unk_id() != Some(id);
        let is_forbidden = |id: &u32| (is_special(*id) || start == Some(*id)) && !lm.end_ids.contains(id);
        Self {
            lm,
            options,
            forbidden: ids.filter(is_forbidden).collect(),
            is_cancelled,
        }
    }

    /// How many sources of at most this length are searched together.
    pub(super) fn at_once(&self, longest: &Part) -> usize {
        let of_one = self.options.beam.width * self.capacity(longest);
        (POSITIONS_AT_ONCE / of_one.max(1)).clamp(1, self.options.batch_size)
    }

    fn max_tokens(&self, source: &Part) -> usize {
        limit(self.lm, self.options, source).0
    }

    /// Positions that a candidate takes in the cache.
    fn capacity(&self, source: &Part) -> usize {
        let prompt = match self.lm.model.is_encoder_decoder() {
            true => 1,
            false => source.ids.len(),
        };
        prompt + self.max_tokens(source) - 1
    }

    /// The candidates of each source, the best first.
    pub(super) fn search(&self, sources: &[&Part]) -> Result<Vec<Vec<Ended>>> {
        check_cancelled(self.is_cancelled)?;
        let width = self.options.beam.width;
        let group = |(index, source): (usize, &&Part)| Group {
            index,
            search: Search::new(self.options.beam(), self.max_tokens(source)),
            place: index,
            rows: vec![0],
            parents: Vec::new(),
        };
        let mut groups: Vec<Group> = sources.iter().enumerate().map(group).collect();
        let mut found = vec![Vec::new(); sources.len()];
        let capacity = sources.iter().map(|source| self.capacity(source)).max().unwrap_or(1);
        let longest = sources.iter().map(|source| source.ids.len()).max().unwrap_or(1);
        // A cache that few texts fill would cost time to make.
        let room = capacity.min(longest + ROOM);
        let (mut cache, mut candidates) = match self.lm.model.is_encoder_decoder() {
            true => self.begin_encoded(sources, longest, room)?,
            false => self.begin_prompts(sources, room)?,
        };
        loop {
            check_cancelled(self.is_cancelled)?;
            for (place, (group, candidates)) in groups.iter_mut().zip(&candidates).enumerate() {
                group.place = place;
                self.advance(group, candidates);
            }
            // A source that is done leaves its place to the last one.
            for place in (0..groups.len()).rev() {
                if groups[place].search.is_over() {
                    let group = groups.swap_remove(place);
                    found[group.index] = group.search.ended;
                }
            }
            if groups.is_empty() {
                return Ok(found);
            }
            let parents = |group: &Group| -> Vec<usize> {
                let first = group.place * width;
                group.parents.iter().map(|row| first + row).collect()
            };
            cache.reorder(&groups.iter().flat_map(parents).collect::<Vec<_>>());
            if cache.len() == cache.capacity() {
                cache.grow(capacity.min(2 * cache.capacity()));
            }
            candidates = self.read_newest(&mut cache, &groups)?;
        }
    }

    /// Extends the candidates of a source, and says which rows they get.
    fn advance(&self, group: &mut Group, candidates: &[Candidates]) {
        let (width, end_ids) = (self.options.beam.width, &self.lm.end_ids);
        let next = candidates.iter().map(|candidates| candidates.iter().copied());
        let extensions = group.search.extensions(next, self.count());
        let ends: Vec<bool> = extensions.iter().map(|found| end_ids.contains(&found.id)).collect();
        let running = group.search.advance(&extensions, &ends);
        if !group.search.is_over() {
            (group.rows, group.parents) = placed(width, &group.rows, &running);
        }
    }

    /// As many extensions as are needed so that there is one for every candidate that does not end.
    fn count(&self) -> usize {
        self.options.beam.width * (1 + self.lm.end_ids.len().max(1))
    }

    /// The sources in the encoder, and the candidates for the first token of each.
    fn begin_encoded(
        &self,
        sources: &[&Part],
        longest: usize,
        capacity: usize,
    ) -> Result<(Cache, Vec<Vec<Candidates>>)> {
        let (model, width) = (&self.lm.model, self.options.beam.width);
        let start = model.config().decoder_start.ok_or(InferenceError::NotTranslator {
            why: "its config.json names no decoder_start_token_id",
        })?;
        let lengths: Vec<usize> = sources.iter().map(|source| source.ids.len()).collect();
        let count = sources.len();
        let mut ids = vec![0_i32; count * longest];
        for (row, source) in ids.chunks_mut(longest).zip(sources) {
            row.iter_mut().zip(&source.ids).for_each(|(id, own)| *id = *own as i32);
        }
        let mut cache = Probe::run(&model.device(), || {
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [count, longest]), &model.device());
            let memory = model.encode(ids, &lengths, None)?;
            model.new_cache_for_beams(&memory, width, capacity)
        })?;
        // All rows of a source begin alike, so that each may continue any candidate.
        let first = self.read(&mut cache, 0..count * width, &vec![start; count * width])?;
        let of_first_row = first.into_iter().step_by(width);
        Ok((cache, of_first_row.map(|candidates| vec![candidates]).collect()))
    }

    /// The prompts of sources in their rows, and the candidates for the first token of each.
    fn begin_prompts(&self, sources: &[&Part], capacity: usize) -> Result<(Cache, Vec<Vec<Candidates>>)> {
        let width = self.options.beam.width;
        let mut cache = self.lm.model.new_cache(sources.len() * width, capacity);
        let mut all = Vec::with_capacity(sources.len());
        for (place, source) in sources.iter().enumerate() {
            let row = place * width;
            all.push(self.read(&mut cache, row..row + 1, &source.ids)?);
            for other in 1..width {
                let len = cache.lens()[row];
                cache.copy_within(row, row + other, len);
            }
        }
        Ok((cache, all))
    }

    /// Reads the newest token of every candidate; returns what may follow, for the running candidates of each source.
    fn read_newest(&self, cache: &mut Cache, groups: &[Group]) -> Result<Vec<Vec<Candidates>>> {
        let width = self.options.beam.width;
        // A row without a candidate reads something, so that all have one length.
        let mut newest = vec![0; groups.len() * width];
        for (group, rows) in groups.iter().zip(newest.chunks_mut(width)) {
            for (row, running) in group.rows.iter().zip(&group.search.running) {
                rows[*row] = running.ids.last().copied().unwrap_or_default();
            }
        }
        let mut all = self.read(cache, 0..newest.len(), &newest)?;
        let of_group = |(group, rows): (&Group, &mut [Candidates])| -> Vec<Candidates> {
            let of_running = group.rows.iter().map(|row| std::mem::take(&mut rows[*row]));
            of_running.collect()
        };
        Ok(groups.iter().zip(all.chunks_mut(width)).map(of_group).collect())
    }

    /// Reads the same number of tokens in some rows; returns the candidates after the last token of each.
    fn read(&self, cache: &mut Cache, rows: Range<usize>, new: &[u32]) -> Result<Vec<Candidates>> {
        let model = &self.lm.model;
        let width = new.len() / rows.len();
        let blocks = Probe::run(&model.device(), || {
            let options = ForwardOptions {
                cache: Some(cache),
                rows: Some(rows),
                ..ForwardOptions::default()
            };
            let probe = Probe::new(model);
            let hidden = probe.states(&Rows::new(new, width), options)?.hidden; // [rows, width, d_model]
            let last = hidden.narrow(1, width - 1, 1);
            probe.logits(last, None, |logits, _| self.candidates(logits))
        })?;
        Ok(blocks.concat())
    }

    /// The most probable tokens after each row of logits, `[rows, vocab_size]`.
    fn candidates(&self, logits: Tensor<2>) -> Result<Vec<Candidates>> {
        let [_, vocab_size] = logits.dims();
        let known = self.lm.vocab_size().min(vocab_size);
        let all = values(logits.clone())?;
        let rows = all.par_chunks(vocab_size);
        let best: Vec<Vec<(u32, f32)>> = rows.map(|row| self.most(&row[..known])).collect();
        let most = best.iter().map(|best| best.first().map_or(0, |(id, _)| *id as i32));
        // The loss of the most probable token is what its logit lacks to the logarithm of the sum.
        let losses = losses(logits, most)?;
        let row = |(best, loss): (Vec<(u32, f32)>, f32)| {
            let Some((_, largest)) = best.first().copied() else {
                return Err(InferenceError::NotFinite {
                    what: "the logits of all tokens are NaN or -inf, which is".to_owned(),
                });
            };
            if !loss.is_finite() {
                return Err(InferenceError::NotFinite {
                    what: format!("the loss of the most probable token is {loss}, which is"),
                });
            }
            let log_sum = f64::from(largest) + f64::from(loss);
            let logprob = |(id, logit): (u32, f32)| (id, f64::from(logit) - log_sum);
            Ok(best.into_iter().map(logprob).collect())
        };
        best.into_iter().zip(losses).map(row).collect()
    }

    /// The largest logits, the largest first; of equals the lowest id.
    fn most(&self, logits: &[f32]) -> Vec<(u32, f32)> {
        let count = self.count();
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
        let mut least = f32::NEG_INFINITY;
        for (chunk, first) in logits.chunks(CHUNK).zip((0..).step_by(CHUNK)) {
            // Nearly all chunks have none that is larger.
            if !chunk.iter().fold(false, |found, logit| found | (*logit > least)) {
                continue;
            }
            for (id, logit) in (first..).zip(chunk.iter().copied()) {
                if logit > least && !self.forbidden.contains(&id) {
                    let place = best.partition_point(|(_, other)| *other >= logit);
                    best.insert(place, (id, logit));
                    best.truncate(count);
                    if best.len() == count {
                        least = best[count - 1].1;
                    }
                }
            }
        }
        best
    }
}
