//! A forward pass: its options, its cache and its output.

use std::ops::Range;

use burn::nn::LstmState;
use burn::tensor::Tensor;
use taal_attention::{KvCache, Segments};

use crate::ModelError;
use crate::memory::{Crossing, Memory, SourceCache};
use crate::places::Places;

/// What to compute besides the last hidden state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// The residual stream before the first block and after every block.
    pub hidden_states: bool,
    /// The attention weights of every layer.
    pub attention_weights: bool,
}

/// Where a [`Hook`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Site {
    /// The residual stream that a block, or a recurrent layer, reads: `[batch, seq, d_model]`.
    BeforeBlock(usize),
    /// The concatenated outputs of a block's heads, before projection: `[batch, seq, n_heads * head_dim]`.
    Heads(usize),
    /// Those of the heads that attend to the source of an encoder-decoder.
    CrossHeads(usize),
    /// The residual stream after a block, or the output of a recurrent layer: `[batch, seq, d_model]`.
    AfterBlock(usize),
}

/// Reads, and may replace, intermediate values: the pass continues with what it returns.
pub type Hook<'a> = &'a mut dyn FnMut(Site, Tensor<3>) -> Tensor<3>;

/// How to run a forward pass; the default is evaluation of unpadded rows without a cache.
#[derive(Default)]
pub struct ForwardOptions<'a> {
    /// Turns dropout on; the mask of each site is a function of this key.
    pub dropout_key: Option<u64>,
    /// Keys and values of earlier positions; filled by the pass.
    pub cache: Option<&'a mut Cache>,
    /// With a cache: how many tokens of each row are real, `[batch]`; the others are padding at the end of the row, whose hidden
    /// states are undefined. `None`: all of them.
    pub lengths: Option<&'a [usize]>,
    /// With a cache: which of its rows the rows of this pass are, as many as the batch has. `None`: all of them.
    pub rows: Option<Range<usize>>,
    /// Where several texts, or a text and padding, share a row: each is computed as if it were alone, with positions from 0. Not
    /// with a cache.
    pub segments: Option<&'a Segments>,
    /// What the encoder made of the sources, one for each row: needed by an encoder-decoder without a cache that holds them.
    pub memory: Option<&'a Memory>,
    /// What to return.
    pub capture: Capture,
    /// Reads and may replace the residual stream and the heads' outputs.
    pub hook: Option<Hook<'a>>,
}

/// The result of a forward pass.
#[derive(Debug, Clone)]
pub struct Output {
    /// After the final norm, `[batch, seq, d_model]`.
    pub hidden: Tensor<3>,
    /// The residual stream before the first block and after every block, or the output of each recurrent layer,
    /// `[batch, seq, d_model]` each; empty unless requested.
    pub hidden_states: Vec<Tensor<3>>,
    /// One `[batch, n_heads, seq, kv_len]` per layer; empty unless requested. Requesting them changes no bit of `hidden`. A
    /// recurrent network has none.
    pub attention_weights: Vec<Tensor<4>>,
    /// The weights of the attention to the source, one `[batch, n_heads, seq, source]` per layer of a decoder with an encoder; empty
    /// unless attention weights are requested.
    pub cross_weights: Vec<Tensor<4>>,
}

/// What is kept of earlier positions, so that decoding computes only new ones: keys and values of all layers, or the states of a
/// recurrent network, whose size does not depend on the length of the text. Each row has its own length. That of an encoder-decoder,
/// made by [`Transformer::new_cache_for`](crate::Transformer::new_cache_for), holds the keys and values of each row's source too.
#[derive(Debug, Clone)]
pub struct Cache {
    pub(crate) layers: Vec<KvCache>,
    pub(crate) states: States,
    pub(crate) source: Option<SourceCache>,
    pub(crate) lens: Vec<usize>,
    pub(crate) capacity: usize,
}

impl Cache {
    /// Positions that the longest row holds so far.
    pub fn len(&self) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    /// Positions that each row holds so far.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `capacity` positions in each row, where there is less.
    pub fn grow(&mut self, capacity: usize) {
        self.layers.iter_mut().for_each(|layer| layer.grow(capacity));
        self.capacity = self.capacity.max(capacity);
    }

    /// Drops the positions of every row from `len` on. A recurrent network cannot go back: it drops everything.
    pub fn truncate(&mut self, len: usize) {
        if self.len() <= len {
            return;
        }
        if !self.states.is_empty() {
            return self.reset();
        }
        self.layers.iter_mut().for_each(|layer| layer.truncate(len));
        self.lens.iter_mut().for_each(|row| *row = len.min(*row));
    }

    /// Drops everything but sources, and keeps the memory.
    pub fn reset(&mut self) {
        self.layers.iter_mut().for_each(KvCache::reset);
        self.states.clear();
        self.lens.fill(0);
    }

    /// Replaces `row` by a row of another cache of the same model, so that a text that was read alone can continue in a batch. Its
    /// source comes with it.
    ///
    /// # Errors
    ///
    /// [`ModelError::Attention`] where the row does not fit.
    pub fn copy_row(&mut self, row: usize, from: &Self, from_row: usize) -> Result<(), ModelError> {
        for (layer, from) in self.layers.iter_mut().zip(&from.layers) {
            layer.copy_row(row, from, from_row)?;
        }
        if let (Some(source), Some(from)) = (&mut self.source, &from.source) {
            source.copy_row(row, from, from_row)?;
        }
        copy_state(&mut self.states, self.lens.len(), row, &from.states, from_row);
        self.lens[row] = from.lens[from_row];
        Ok(())
    }

    /// Drops the tokens of one row from `len` on; returns how many it holds now. A recurrent network cannot go back in a text, so its
    /// row then becomes empty.
    pub fn truncate_row(&mut self, row: usize, len: usize) -> usize {
        let len = match self.layers.is_empty() && len < self.lens[row] {
            true => 0,
            false => len.min(self.lens[row]),
        };
        self.layers.iter_mut().for_each(|layer| layer.truncate_row(row, len));
        if len == 0 {
            self.states.iter_mut().for_each(|state| clear_state(state, row));
        }
        self.lens[row] = len;
        len
    }

    /// Replaces row `to` by the first `len` tokens of row `from`; returns how many it holds now, as
    /// [`truncate_row`](Self::truncate_row).
    pub fn copy_within(&mut self, from: usize, to: usize, len: usize) -> usize {
        self.layers
            .iter_mut()
            .for_each(|layer| layer.copy_within(from, to, len));
        if let Some(source) = &mut self.source {
            source.copy_within(from, to);
        }
        let states = states_of(&self.states, from..from + 1);
        copy_state(&mut self.states, self.lens.len(), to, &states, 0);
        self.lens[to] = self.lens[from];
        self.truncate_row(to, len)
    }

    /// Exchanges two rows.
    pub fn swap_rows(&mut self, a: usize, b: usize) {
        self.layers.iter_mut().for_each(|layer| layer.swap_rows(a, b));
        if let Some(source) = &mut self.source {
            source.swap_rows(a, b);
        }
        let [of_a, of_b] = [a, b].map(|row| states_of(&self.states, row..row + 1));
        copy_state(&mut self.states, self.lens.len(), a, &of_b, 0);
        copy_state(&mut self.states, self.lens.len(), b, &of_a, 0);
        self.lens.swap(a, b);
    }

    /// Makes row `i` what row `parents[i]` was, for the first rows: the candidates of a beam search continue from others. Only rows that
    /// change are copied, and sources only where a row comes from one of another source.
    ///
    /// # Panics
    ///
    /// Where a row does not exist.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.layers.iter_mut().for_each(|layer| layer.reorder(parents));
        if let Some(source) = &mut self.source {
            source.reorder(parents);
        }
        let states: Vec<States> = match self.states.is_empty() {
            true => Vec::new(),
            false => parents
                .iter()
                .map(|row| states_of(&self.states, *row..row + 1))
                .collect(),
        };
        for (row, state) in states.iter().enumerate() {
            copy_state(&mut self.states, self.lens.len(), row, state, 0);
        }
        let lens: Vec<usize> = parents.iter().map(|row| self.lens[*row]).collect();
        self.lens[..lens.len()].copy_from_slice(&lens);
    }

    pub(crate) fn layer(&mut self, index: usize) -> &mut KvCache {
        &mut self.layers[index]
    }

    /// The states of some rows, or of all.
    pub(crate) fn take_states(&mut self, rows: Option<&Range<usize>>) -> States {
        match rows {
            Some(rows) => states_of(&self.states, rows.clone()),
            None => std::mem::take(&mut self.states),
        }
    }

    pub(crate) fn put_states(&mut self, states: States, rows: Option<&Range<usize>>) {
        let Some(rows) = rows else {
            self.states = states;
            return;
        };
        for (from_row, row) in rows.clone().enumerate() {
            copy_state(&mut self.states, self.lens.len(), row, &states, from_row);
        }
    }
}

/// The state of each LSTM layer, cell and hidden, `[batch, d_model]`.
pub(crate) type States = Vec<LstmState<2>>;

/// A copy of the states of some rows.
fn states_of(states: &States, rows: Range<usize>) -> States {
    // A product with 1 is exact; a view would be a second owner of the states.
    let of = |all: &Tensor<2>| {
        let [_, width] = all.dims();
        all.clone().slice([rows.clone(), 0..width]).mul_scalar(1.0)
    };
    let state = |state: &LstmState<2>| LstmState::new(of(&state.cell), of(&state.hidden));
    states.iter().map(state).collect()
}

/// Sets the state of one row to that before any text.
fn clear_state(state: &mut LstmState<2>, row: usize) {
    for all in [&mut state.cell, &mut state.hidden] {
        let [_, width] = all.dims();
        let zeros = Tensor::zeros([1, width], &all.device());
        all.inplace(|all| all.slice_assign([row..row + 1, 0..width], zeros));
    }
}

/// Replaces the state of one row by another's; `states` that do not exist yet become zeros for `batch` rows.
fn copy_state(states: &mut States, batch: usize, row: usize, from: &States, from_row: usize) {
    for (index, from) in from.iter().enumerate() {
        let [_, width] = from.cell.dims();
        if states.len() == index {
            states.push(LstmState::initial([batch, width], &from.cell.device()));
        }
        let state = &mut states[index];
        for (all, one) in [(&mut state.cell, &from.cell), (&mut state.hidden, &from.hidden)] {
            let one = one.clone().slice([from_row..from_row + 1, 0..width]);
            all.inplace(|all| all.slice_assign([row..row + 1, 0..width], one));
        }
    }
}

/// The inputs of a pass through a stack other than the vectors.
pub(crate) struct Pass<'a, 'b> {
    pub(crate) places: Places<'a>,
    pub(crate) dropout_key: Option<u64>,
    pub(crate) cache: Option<&'a mut Cache>,
    pub(crate) rows: Option<Range<usize>>,
    pub(crate) crossing: Option<Crossing<'a>>,
    pub(crate) capture: Capture,
    pub(crate) hook: Option<Hook<'b>>,
}

impl Pass<'_, '_> {
    /// Applies the hook to the tensor at a site.
    pub(crate) fn visit(&mut self, site: Site, x: Tensor<3>) -> Tensor<3> {
        match &mut self.hook {
            Some(hook) => hook(site, x),
            None => x,
        }
    }
}

/// Dropout at a named site of the network, off where there is no key.
pub(crate) fn drop_at<const D: usize>(x: Tensor<D>, probability: f64, key: Option<u64>, site: &str) -> Tensor<D> {
    match key {
        Some(key) if probability > 0.0 => {
            taal_kernels::dropout(x, probability, taal_kernels::random::key(key, 0, site))
        }
        _ => x,
    }
}
