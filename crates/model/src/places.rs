//! The positions of the tokens of a pass: the same in every row, or not.

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_attention::Segments;

/// The positions of the tokens of a pass in their texts.
pub(crate) enum Places<'a> {
    /// All rows begin at the same position.
    Together {
        /// The position of the first token.
        start: usize,
    },
    /// Several texts, or a text and padding, share a row.
    Segments(&'a Segments),
    /// Each row continues from its own position; its tokens after the first `lengths[row]` are padding.
    Rows {
        /// The position of each row's first token.
        starts: Vec<usize>,
        /// How many tokens of each row are real.
        lengths: Vec<usize>,
        /// Tokens per row.
        seq: usize,
    },
}

impl Places<'_> {
    pub(crate) fn rows(starts: Vec<usize>, lengths: Vec<usize>, seq: usize) -> Self {
        Self::Rows { starts, lengths, seq }
    }

    /// The first position that a table must hold.
    pub(crate) fn first(&self) -> usize {
        match self {
            Self::Together { start } => *start,
            Self::Segments(_) | Self::Rows { .. } => 0,
        }
    }

    /// How many positions from [`first`](Self::first) on a table must hold, for rows of `seq` tokens.
    pub(crate) fn span(&self, seq: usize) -> usize {
        match self {
            Self::Together { .. } | Self::Segments(_) => seq,
            Self::Rows { .. } => self.end(seq),
        }
    }

    /// One past the last position of a real token.
    pub(crate) fn end(&self, seq: usize) -> usize {
        match self {
            Self::Together { start } => start + seq,
            Self::Segments(_) => seq,
            Self::Rows { starts, lengths, .. } => {
                let ends = starts.iter().zip(lengths).map(|(start, length)| start + length);
                ends.max().unwrap_or(0)
            }
        }
    }

    /// The position of every token, `[batch * seq]`, where rows differ.
    pub(crate) fn positions(&self, device: &Device) -> Option<Tensor<1, Int>> {
        let positions: Vec<i32> = match self {
            Self::Together { .. } => return None,
            Self::Segments(segments) => segments.positions(),
            Self::Rows { starts, seq, .. } => {
                // Padding is never used; its position only has to exist.
                let last = self.end(*seq).saturating_sub(1);
                let row = |start: &usize| *start..*start + *seq;
                let positions = starts.iter().flat_map(row);
                positions.map(|position| position.min(last) as i32).collect()
            }
        };
        let count = positions.len();
        Some(Tensor::from_data(TensorData::new(positions, [count]), device))
    }
}
