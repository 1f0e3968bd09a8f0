//! The encoder's side of an encoder-decoder: what it makes of sources, and a cache that the decoder continues from.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};
use taal_attention::{AttentionMask, CrossSource, KvCache, Segments};
use taal_kernels::{random, with_low_rank_dropout};

use crate::ModelError;
use crate::pass::{Cache, ForwardOptions, Output, Pass, drop_at};
use crate::places::Places;
use crate::stack::Stack;
use crate::transformer::Transformer;

/// What the encoder made of a batch of sources. The decoder attends to it.
#[derive(Debug, Clone)]
pub struct Memory {
    hidden: Tensor<3>,
    lengths: Vec<usize>,
}

impl Memory {
    /// The hidden states after the encoder's final norm, `[batch, source, d_model]`; those of padding mean nothing.
    pub fn hidden(&self) -> &Tensor<3> {
        &self.hidden
    }

    /// How many tokens of each row are real; the others are padding at the end of the row, which is never attended to.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many sources there are.
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }
}

/// The keys and values of sources, in every layer of the decoder.
#[derive(Debug, Clone)]
pub(crate) struct SourceCache {
    /// One row per source.
    layers: Vec<KvCache>,
    /// How many rows of the decoder's text each source serves.
    shared_by: usize,
}

impl SourceCache {
    /// The row of the source that a row of the decoder's text has.
    fn row_of(&self, row: usize) -> usize {
        row / self.shared_by
    }

    /// Whether a row is the first of those that share a source: the source moves with it.
    fn is_first(&self, row: usize) -> bool {
        row.is_multiple_of(self.shared_by)
    }

    fn lengths(&self) -> &[usize] {
        self.layers.first().map_or(&[], KvCache::lens)
    }

    /// As [`Cache::copy_row`].
    pub(crate) fn copy_row(&mut self, row: usize, from: &Self, from_row: usize) -> Result<(), ModelError> {
        if !self.is_first(row) {
            return Ok(());
        }
        let (row, from_row) = (self.row_of(row), from.row_of(from_row));
        for (layer, from) in self.layers.iter_mut().zip(&from.layers) {
            layer.copy_row(row, from, from_row)?;
        }
        Ok(())
    }

    /// As [`Cache::copy_within`], of the whole source.
    pub(crate) fn copy_within(&mut self, from: usize, to: usize) {
        let (source, target) = (self.row_of(from), self.row_of(to));
        if source == target || !self.is_first(to) {
            return;
        }
        for layer in &mut self.layers {
            layer.copy_within(source, target, usize::MAX);
        }
    }

    /// As [`Cache::reorder`].
    pub(crate) fn reorder(&mut self, parents: &[usize]) {
        let firsts = parents.iter().step_by(self.shared_by);
        let sources: Vec<usize> = firsts.map(|row| self.row_of(*row)).collect();
        self.layers.iter_mut().for_each(|layer| layer.reorder(&sources));
    }

    /// As [`Cache::swap_rows`].
    pub(crate) fn swap_rows(&mut self, a: usize, b: usize) {
        let (of_a, of_b) = (self.row_of(a), self.row_of(b));
        if of_a == of_b || !self.is_first(a) || !self.is_first(b) {
            return;
        }
        self.layers.iter_mut().for_each(|layer| layer.swap_rows(of_a, of_b));
    }
}

/// What the decoder attends to in a pass: the mask and the places of the sources, the same for all blocks.
pub(crate) struct Crossing<'a> {
    /// Its keys and values are computed in each block; without one they are in the cache.
    memory: Option<&'a Memory>,
    rows: Range<usize>,
    shared_by: usize,
    pub(crate) mask: AttentionMask,
}

impl<'a> Crossing<'a> {
    /// For a pass of `batch` rows of `seq` tokens with a memory.
    fn of_memory(memory: &'a Memory, [batch, seq]: [usize; 2], device: &Device) -> Result<Self, ModelError> {
        let [rows, source, _] = memory.hidden.dims();
        if rows != batch {
            return Err(ModelError::Input(format!(
                "the memory is of {rows} sources, the ids of {batch} rows; each row needs its source"
            )));
        }
        Ok(Self {
            memory: Some(memory),
            rows: 0..batch,
            shared_by: 1,
            mask: AttentionMask::of_keys(&memory.lengths, seq, source, device),
        })
    }

    /// For a pass of `seq` tokens in some rows of a cache.
    fn of_cache(cache: &SourceCache, rows: Range<usize>, seq: usize, device: &Device) -> Result<Self, ModelError> {
        let shared_by = cache.shared_by;
        if !rows.start.is_multiple_of(shared_by) || !rows.end.is_multiple_of(shared_by) {
            return Err(ModelError::Input(format!(
                "{shared_by} rows of the cache share a source, and a pass has all of them or none; got rows {rows:?}"
            )));
        }
        let rows = rows.start / shared_by..rows.end / shared_by;
        let lengths = &cache.lengths()[rows.clone()];
        let source = lengths.iter().copied().max().unwrap_or(0);
        if source == 0 {
            return Err(without_source());
        }
        let mask = AttentionMask::of_keys(lengths, shared_by * seq, source, device);
        Ok(Self {
            memory: None,
            rows,
            shared_by,
            mask,
        })
    }

    /// Keys and values of a block.
    pub(crate) fn source<'b>(
        &'b self,
        block: usize,
        cache: Option<&'b SourceCache>,
    ) -> Result<CrossSource<'b>, ModelError> {
        match (self.memory, cache) {
            (Some(memory), _) => Ok(CrossSource::Hidden(&memory.hidden)),
            (None, Some(cache)) => Ok(CrossSource::Cached {
                cache: &cache.layers[block],
                rows: self.rows.clone(),
                shared_by: self.shared_by,
            }),
            (None, None) => Err(without_source()),
        }
    }
}

fn without_source() -> ModelError {
    ModelError::Input(
        "an encoder-decoder needs a source: give the pass a memory, or a cache that was made for one".to_owned(),
    )
}

impl Transformer {
    /// Whether the model has an encoder, whose output the decoder attends to.
    pub fn is_encoder_decoder(&self) -> bool {
        self.encoder.is_some()
    }

    /// What the encoder makes of sources. `dropout_key` turns dropout on.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, source]`; `lengths`: `[batch]`, how many tokens of each row are real, at least 1; the others are padding at the
    ///   end of the row, of any id
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the model has no encoder, the lengths do not fit, or the rows are longer than the model's context.
    pub fn encode(
        &self,
        ids: Tensor<2, Int>,
        lengths: &[usize],
        dropout_key: Option<u64>,
    ) -> Result<Memory, ModelError> {
        let options = ForwardOptions {
            dropout_key,
            ..ForwardOptions::default()
        };
        Ok(self.encode_with(ids, lengths, options)?.0)
    }

    /// [`encode`](Self::encode) with the captures that the options request; of the options only `dropout_key`, `capture` and `hook` are
    /// used.
    ///
    /// # Shapes
    ///
    /// As [`encode`](Self::encode).
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    pub fn encode_with(
        &self,
        ids: Tensor<2, Int>,
        lengths: &[usize],
        options: ForwardOptions<'_>,
    ) -> Result<(Memory, Output), ModelError> {
        let Some(encoder) = &self.encoder else {
            return Err(ModelError::Input(
                "this model has no encoder; its prompt and its text are one".to_owned(),
            ));
        };
        let [batch, seq] = ids.dims();
        let fits = lengths.len() == batch && lengths.iter().all(|length| (1..=seq).contains(length));
        if !fits {
            return Err(ModelError::Input(format!(
                "lengths of sources: expected {batch} numbers of 1..={seq}, got {lengths:?}"
            )));
        }
        self.check_length(seq)?;
        let segments;
        let places = match lengths.iter().all(|length| *length == seq) {
            true => Places::Together { start: 0 },
            false => {
                let texts: Vec<_> = lengths.iter().map(|length| 0..*length).collect();
                segments = Segments::of_padded(&texts, seq);
                Places::Segments(&segments)
            }
        };
        // Both sides share the embeddings, so the encoder's masks of dropout need a key of their own.
        let dropout_key = options.dropout_key.map(|key| random::key(key, 0, "encoder"));
        let embedded = self.embeddings.forward(self.embeddings.tokens.forward(ids), &places)?;
        let x = drop_at(embedded, self.config().dropout, dropout_key, "embedding");
        let pass = Pass {
            places,
            dropout_key,
            cache: None,
            rows: None,
            crossing: None,
            capture: options.capture,
            hook: options.hook,
        };
        let lora_key = dropout_key.map(|key| random::key(key, 0, "adapters"));
        let output = with_low_rank_dropout(lora_key, || encoder.forward(x, pass))?;
        let memory = Memory {
            hidden: output.hidden.clone(),
            lengths: lengths.to_vec(),
        };
        Ok((memory, output))
    }

    /// What the decoder attends to in a pass; none in a model without an encoder.
    pub(crate) fn crossing<'a>(
        &self,
        dims: [usize; 2],
        options: &ForwardOptions<'a>,
    ) -> Result<Option<Crossing<'a>>, ModelError> {
        let cached = options.cache.as_ref();
        match (
            &self.encoder,
            options.memory,
            cached.and_then(|cache| cache.source.as_ref()),
        ) {
            (None, None, _) => Ok(None),
            (None, Some(_), _) => Err(ModelError::Input(
                "this model has no encoder, so it attends to no memory".to_owned(),
            )),
            (Some(_), Some(memory), None) => Crossing::of_memory(memory, dims, &self.device().inner()).map(Some),
            (Some(_), Some(_), Some(_)) => Err(ModelError::Input(
                "the cache holds the source already; leave the memory out".to_owned(),
            )),
            (Some(_), None, Some(source)) => {
                let all = 0..cached.map_or(0, |cache| cache.lens().len());
                let rows = options.rows.clone().unwrap_or(all);
                Crossing::of_cache(source, rows, dims[1], &self.device().inner()).map(Some)
            }
            (Some(_), None, None) => Err(without_source()),
        }
    }

    /// A cache of `capacity` positions with one row for each source of the memory, and its keys and values, which are computed once
    /// per layer.
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the model has no encoder.
    pub fn new_cache_for(&self, memory: &Memory, capacity: usize) -> Result<Cache, ModelError> {
        self.new_cache_for_beams(memory, 1, capacity)
    }

    /// [`new_cache_for`](Self::new_cache_for) with `beams` rows one after the other for each source, as the candidates of a beam search
    /// need. They share the keys and values of their source: copying or swapping rows of one source leaves these alone, and a source
    /// moves with the first of its rows, so that rows move to another source's place all together, in their order.
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the model has no encoder or `beams` is 0.
    pub fn new_cache_for_beams(&self, memory: &Memory, beams: usize, capacity: usize) -> Result<Cache, ModelError> {
        let Stack::Blocks(blocks) = &self.stack else {
            return Err(without_encoder());
        };
        if self.encoder.is_none() {
            return Err(without_encoder());
        }
        if beams == 0 {
            return Err(ModelError::Input("beams: expected at least 1, got 0".to_owned()));
        }
        let mut cache = self.new_cache(memory.batch() * beams, capacity);
        let [batch, source, _] = memory.hidden.dims();
        let mut layers = blocks.source_caches(self.cache_type(), [batch, source], &self.device().inner());
        for (block, layer) in blocks.blocks.iter().zip(&mut layers) {
            if let Some(cross) = &block.cross {
                let [keys, values] = cross.attention.heads(memory.hidden.clone());
                layer.append_rows(keys, values, None, Some(&memory.lengths))?;
            }
        }
        cache.source = Some(SourceCache {
            layers,
            shared_by: beams,
        });
        Ok(cache)
    }
}

fn without_encoder() -> ModelError {
    ModelError::Input("this model has no encoder, so no cache is made for a source".to_owned())
}
