//! The keys and values of tokens already seen, so that a new token costs no recomputation.

use burn::tensor::{Device, Tensor};

use crate::AttentionError;

/// Preallocated keys and values of one layer. Each row has its own length, so texts of different lengths can be continued together.
///
/// New tokens are written in place and the filled part is handed out as a view, so a step copies only the new
/// tokens (on flex, as long as views of earlier steps have been dropped).
#[derive(Debug, Clone)]
pub struct KvCache {
    keys: Tensor<4>,
    values: Tensor<4>,
    lens: Vec<usize>,
}

impl KvCache {
    /// An empty cache for `capacity` tokens; values are as wide as keys.
    pub fn new(batch: usize, n_kv_heads: usize, capacity: usize, head_dim: usize, device: &Device) -> Self {
        let shape = [batch, n_kv_heads, capacity, head_dim];
        Self {
            keys: Tensor::zeros(shape, device),
            values: Tensor::zeros(shape, device),
            lens: vec![0; batch],
        }
    }

    /// How many tokens its longest row holds.
    pub fn len(&self) -> usize {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    /// How many tokens each row holds.
    pub fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens it can hold.
    pub fn capacity(&self) -> usize {
        self.keys.dims()[2]
    }

    /// Adds the keys and values of new tokens and returns those of all tokens so far.
    ///
    /// # Shapes
    ///
    /// - `keys`, `values`: `[batch, n_kv_heads, new, head_dim]`; results: `[batch, n_kv_heads, len, head_dim]`, where `len` is
    ///   the length of the longest row. The rest of a shorter row is undefined.
    ///
    /// # Errors
    ///
    /// [`AttentionError::CacheFull`] when the tokens do not fit, [`AttentionError::CacheShape`] when their sizes differ from the
    /// cache's. The cache is then unchanged.
    pub fn append(&mut self, keys: Tensor<4>, values: Tensor<4>) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        self.append_rows(keys, values, None)
    }

    /// [`append`](Self::append) of the first `lengths[row]` new tokens of each row.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_rows(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        lengths: Option<&[usize]>,
    ) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let [batch, heads, capacity, width] = self.keys.dims();
        let expected = [batch, heads, width];
        for [batch, heads, _, width] in [keys.dims(), values.dims()] {
            let given = [batch, heads, width];
            if given != expected {
                return Err(AttentionError::CacheShape { expected, given });
            }
        }
        let (len, seq) = (self.len(), keys.dims()[2]);
        let is_even = lengths.is_none() && self.lens.iter().all(|row| *row == len);
        let added = |row: usize| lengths.map_or(seq, |lengths| lengths[row].min(seq));
        let ends = self.lens.iter().enumerate();
        let end = ends
            .map(|(row, len)| len.saturating_add(added(row)))
            .fold(seq, usize::max);
        if end > capacity {
            let added = end - len.min(end);
            return Err(AttentionError::CacheFull { len, added, capacity });
        }
        // `inplace` moves the tensor into the write; a second owner would force a copy of the whole cache.
        if is_even {
            self.keys
                .inplace(|cache| cache.slice_assign([0..batch, 0..heads, len..end, 0..width], keys));
            self.values
                .inplace(|cache| cache.slice_assign([0..batch, 0..heads, len..end, 0..width], values));
            self.lens.fill(end);
        } else {
            for (row, len) in self.lens.iter_mut().enumerate().filter(|(row, _)| added(*row) > 0) {
                let place = [row..row + 1, 0..heads, *len..*len + added(row), 0..width];
                let new = |x: &Tensor<4>| x.clone().slice([row..row + 1, 0..heads, 0..added(row), 0..width]);
                self.keys.inplace(|cache| cache.slice_assign(place.clone(), new(&keys)));
                self.values.inplace(|cache| cache.slice_assign(place, new(&values)));
                *len += added(row);
            }
        }
        Ok((
            self.keys.clone().narrow(2, 0, end),
            self.values.clone().narrow(2, 0, end),
        ))
    }

    /// Replaces `row` by a row of another cache.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn copy_row(&mut self, row: usize, from: &Self, from_row: usize) -> Result<(), AttentionError> {
        let (len, [_, heads, capacity, width]) = (from.lens[from_row], self.keys.dims());
        if len > capacity {
            let added = len;
            return Err(AttentionError::CacheFull {
                len: 0,
                added,
                capacity,
            });
        }
        let [given_batch, given_heads, _, given_width] = from.keys.dims();
        if (given_heads, given_width) != (heads, width) {
            let expected = [self.lens.len(), heads, width];
            let given = [given_batch, given_heads, given_width];
            return Err(AttentionError::CacheShape { expected, given });
        }
        if len > 0 {
            let place = [row..row + 1, 0..heads, 0..len, 0..width];
            let new = |x: &Tensor<4>| x.clone().slice([from_row..from_row + 1, 0..heads, 0..len, 0..width]);
            self.keys
                .inplace(|cache| cache.slice_assign(place.clone(), new(&from.keys)));
            self.values
                .inplace(|cache| cache.slice_assign(place, new(&from.values)));
        }
        self.lens[row] = len;
        Ok(())
    }

    /// Drops the tokens of every row from `len` on; does nothing to rows of at most `len`.
    pub fn truncate(&mut self, len: usize) {
        self.lens.iter_mut().for_each(|row| *row = len.min(*row));
    }

    /// Drops all tokens and keeps the memory.
    pub fn reset(&mut self) {
        self.lens.fill(0);
    }
}
