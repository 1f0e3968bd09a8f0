//! The keys and values of tokens already seen, so that a new token costs no recomputation.

use burn::tensor::{Device, Tensor};

use crate::AttentionError;

/// Preallocated keys and values of one layer.
///
/// New tokens are written in place and the filled part is handed out as a view, so a step copies only the new
/// tokens (on flex, as long as views of earlier steps have been dropped).
#[derive(Debug, Clone)]
pub struct KvCache {
    keys: Tensor<4>,
    values: Tensor<4>,
    len: usize,
}

impl KvCache {
    /// An empty cache for `capacity` tokens whose values are as wide as its keys.
    pub fn new(batch: usize, n_kv_heads: usize, capacity: usize, head_dim: usize, device: &Device) -> Self {
        let shape = [batch, n_kv_heads, capacity, head_dim];
        Self {
            keys: Tensor::zeros(shape, device),
            values: Tensor::zeros(shape, device),
            len: 0,
        }
    }

    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many tokens it can hold.
    pub fn capacity(&self) -> usize {
        self.keys.dims()[2]
    }

    /// Adds the keys and values of new tokens and returns those of all tokens so far.
    ///
    /// # Shapes
    ///
    /// - `keys`, `values`: `[batch, n_kv_heads, new, head_dim]`; results: `[batch, n_kv_heads, len, head_dim]`.
    ///
    /// # Errors
    ///
    /// [`AttentionError::CacheFull`] when the tokens do not fit, [`AttentionError::CacheShape`] when their sizes
    /// are not the cache's. The cache is unchanged then.
    pub fn append(&mut self, keys: Tensor<4>, values: Tensor<4>) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let [batch, heads, capacity, width] = self.keys.dims();
        let expected = [batch, heads, width];
        for [batch, heads, _, width] in [keys.dims(), values.dims()] {
            let given = [batch, heads, width];
            if given != expected {
                return Err(AttentionError::CacheShape { expected, given });
            }
        }
        let added = keys.dims()[2];
        let end = self.len.saturating_add(added);
        if end > capacity {
            return Err(AttentionError::CacheFull {
                len: self.len,
                added,
                capacity,
            });
        }
        // `inplace` gives the tensor away for the write; a second owner would force a copy of the whole cache.
        let start = self.len;
        self.keys
            .inplace(|cache| cache.slice_assign([0..batch, 0..heads, start..end, 0..width], keys));
        self.values
            .inplace(|cache| cache.slice_assign([0..batch, 0..heads, start..end, 0..width], values));
        self.len = end;
        Ok((
            self.keys.clone().narrow(2, 0, end),
            self.values.clone().narrow(2, 0, end),
        ))
    }

    /// Forgets the tokens from `len` on; does nothing when there are no more than `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets all tokens and keeps the memory.
    pub fn reset(&mut self) {
        self.len = 0;
    }
}
