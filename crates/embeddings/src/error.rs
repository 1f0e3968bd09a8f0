//! What can go wrong with positions.

/// An error of this crate; all of them are settings or lengths that do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddingError {
    /// The text names no kind of position.
    #[error("unknown position {given:?}: expected learned, sinusoidal, rotary, alibi, relative or none")]
    UnknownPosition {
        /// What was given.
        given: String,
    },
    /// Rotary positions turn pairs of coordinates.
    #[error(
        "rotary positions need an even head_dim of at least 2, got {head_dim}; change head_dim or choose another position"
    )]
    OddHeadDim {
        /// The head's width.
        head_dim: usize,
    },
    /// A sequence reaches past the positions that exist.
    #[error(
        "positions {start}..{end} reach past the maximum length of {max_len}; shorten the text or raise the model's maximum length"
    )]
    TooLong {
        /// The first position asked for.
        start: usize,
        /// One past the last position asked for.
        end: usize,
        /// How many positions there are.
        max_len: usize,
    },
}

impl EmbeddingError {
    /// Refuses positions `start..start + seq` when only `max_len` exist.
    pub(crate) fn check_length(start: usize, seq: usize, max_len: usize) -> Result<(), Self> {
        let end = start.saturating_add(seq);
        if end > max_len {
            return Err(Self::TooLong { start, end, max_len });
        }
        Ok(())
    }
}
