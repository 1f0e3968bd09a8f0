//! What can go wrong in attention.

use taal_embeddings::EmbeddingError;

/// An error of this crate; all of them are settings or lengths that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttentionError {
    /// A size that must be positive is zero.
    #[error("{name}: expected at least 1, got 0")]
    Zero {
        /// The setting's name.
        name: &'static str,
    },
    /// Query heads do not divide evenly among key/value heads.
    #[error(
        "n_heads = {n_heads} is not a multiple of n_kv_heads = {n_kv_heads}; each key/value head serves equally many query heads"
    )]
    UnevenGroups {
        /// How many query heads.
        n_heads: usize,
        /// How many key/value heads.
        n_kv_heads: usize,
    },
    /// The epsilon of QK-norm would allow a division by zero.
    #[error("qk_norm: expected an epsilon above 0, got {given}")]
    Epsilon {
        /// What was given.
        given: String,
    },
    /// The cache has no room for the new tokens.
    #[error(
        "the key/value cache holds {len} of {capacity} tokens and cannot take {added} more; make it larger, or truncate or reset it"
    )]
    CacheFull {
        /// How many tokens it holds.
        len: usize,
        /// How many tokens were to be added.
        added: usize,
        /// How many tokens it can hold.
        capacity: usize,
    },
    /// There is nothing to attend to.
    #[error("the key/value cache holds no token to attend to; fill it first")]
    CacheEmpty,
    /// Keys or values do not have the cache's sizes.
    #[error("the key/value cache was made for {expected:?} ([batch, n_kv_heads, head_dim]) and was given {given:?}")]
    CacheShape {
        /// Batch, heads and width of the cache.
        expected: [usize; 3],
        /// Batch, heads and width of what was given.
        given: [usize; 3],
    },
    /// A position does not exist.
    #[error(transparent)]
    Position(#[from] EmbeddingError),
}
