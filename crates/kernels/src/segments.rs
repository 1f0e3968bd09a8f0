//! Texts that share rows of a batch without seeing each other.

use std::ops::Range;
use std::sync::Arc;

/// The keys that each query of a batch may see: the first and one past the last. `[batch, q_len]`.
pub(crate) type KeyRanges = Arc<[(u32, u32)]>;

/// For every position of a batch: where its text begins in the row, and where it ends.
///
/// Attention keeps to it ([`AttentionMask::with_segments`](crate::AttentionMask::with_segments)): keys of other texts are skipped, as
/// those outside a window are. Padding is a text of its own, which is never read. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    batch: usize,
    seq: usize,
    /// First position and one past the last, `[batch, seq]`.
    bounds: KeyRanges,
}

impl Segments {
    /// From the position in its row at which each position's text begins.
    ///
    /// # Shapes
    ///
    /// - `starts`: `[batch, seq]`, row by row
    ///
    /// # Panics
    ///
    /// Where there are not `batch * seq` starts, or a text has a gap: the first position of a text is its own start, and every other
    /// one has the start of the position before it.
    pub fn new(starts: &[i32], [batch, seq]: [usize; 2]) -> Self {
        assert_eq!(starts.len(), batch * seq, "one start per position");
        let mut bounds = vec![(0, 0); batch * seq];
        for (starts, bounds) in starts.chunks(seq.max(1)).zip(bounds.chunks_mut(seq.max(1))) {
            let mut end = seq;
            for position in (0..seq).rev() {
                let is_first = starts[position] == position as i32;
                assert!(
                    is_first || (position > 0 && starts[position] == starts[position - 1]),
                    "a text with a gap"
                );
                bounds[position] = (starts[position] as u32, end as u32);
                if is_first {
                    end = position;
                }
            }
        }
        Self {
            batch,
            seq,
            bounds: bounds.into(),
        }
    }

    /// Rows of `seq` positions that hold one text each, with padding before or after it.
    ///
    /// # Panics
    ///
    /// Where a text is outside its row.
    pub fn of_padded(texts: &[Range<usize>], seq: usize) -> Self {
        let starts = texts.iter().flat_map(|text| {
            assert!(text.start <= text.end && text.end <= seq, "a text outside its row");
            (0..seq).map(|position| match position {
                position if position < text.start => 0,
                position if position < text.end => text.start as i32,
                _ => text.end as i32,
            })
        });
        Self::new(&starts.collect::<Vec<_>>(), [texts.len(), seq])
    }

    /// Rows and positions per row.
    pub fn dims(&self) -> [usize; 2] {
        [self.batch, self.seq]
    }

    /// First position and one past the last of each position's text, `[batch, seq]`.
    pub(crate) fn bounds(&self) -> &KeyRanges {
        &self.bounds
    }

    /// How far each position is into its text, `[batch, seq]`.
    pub fn positions(&self) -> Vec<i32> {
        let rows = (0..self.seq as i32).cycle();
        rows.zip(self.bounds.iter())
            .map(|(position, (start, _))| position - *start as i32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_its_own_bounds_and_positions() {
        let segments = Segments::new(&[0, 0, 2, 2, 2, 0, 1, 1, 1, 4], [2, 5]);
        let expected = [
            (0, 2),
            (0, 2),
            (2, 5),
            (2, 5),
            (2, 5),
            (0, 1),
            (1, 4),
            (1, 4),
            (1, 4),
            (4, 5),
        ];
        assert_eq!(segments.bounds()[..], expected);
        assert_eq!(segments.positions(), [0, 1, 0, 1, 2, 0, 0, 1, 2, 0]);
    }

    #[test]
    #[should_panic(expected = "a text with a gap")]
    fn a_text_with_a_gap_is_refused() {
        Segments::new(&[0, 1, 0], [1, 3]);
    }
}
