//! Batches whose content is a pure function of a seed and a step.

use crate::error::{DataError, Result};
use crate::random::{below, bits, permute};
use crate::source::TokenSource;

/// The target of a position that has no loss, as in PyTorch's `cross_entropy`.
pub const IGNORE_INDEX: i32 = -100;

/// Limits of a plan, against mistakes such as a batch of a million rows.
const MAX_BATCH_SIZE: usize = 1 << 20;
const MAX_BLOCK_SIZE: usize = 1 << 24;

/// First key words, which separate the random numbers of different purposes.
const PURPOSE_OFFSET: u64 = u64::from_be_bytes(*b"\0\0offset");
const PURPOSE_GRID: u64 = u64::from_be_bytes(*b"\0\0\0\0grid");
const PURPOSE_ORDER: u64 = u64::from_be_bytes(*b"\0\0\0order");

/// Rows of token ids and, for each position, the id that follows it.
///
/// # Shapes
/// `inputs` and `targets` hold `[batch_size, seq_len]` row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids.
    pub inputs: Vec<i32>,
    /// The id to predict at each position, [`IGNORE_INDEX`] where there is no target.
    pub targets: Vec<i32>,
    /// Number of rows.
    pub batch_size: usize,
    /// Positions per row.
    pub seq_len: usize,
    /// Where several texts share a row: for each position, the position at which its text begins. A model computes each text as
    /// if it were alone. `None` where the rows are running text, or one text each.
    pub text_starts: Option<Vec<i32>>,
    /// What an encoder reads, where `inputs` are for a decoder.
    pub source: Option<SourceBatch>,
}

/// The texts that the encoder of an encoder-decoder reads: one per row of the [`Batch`].
///
/// # Shapes
/// `ids` holds `[batch_size, seq_len]` row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceBatch {
    /// Token ids, then padding.
    pub ids: Vec<i32>,
    /// Tokens of each row before its padding.
    pub lengths: Vec<usize>,
    /// Positions per row.
    pub seq_len: usize,
}

impl Batch {
    pub(crate) fn with_capacity(batch_size: usize, seq_len: usize) -> Self {
        let positions = batch_size * seq_len;
        Self {
            inputs: Vec::with_capacity(positions),
            targets: Vec::with_capacity(positions),
            batch_size,
            seq_len,
            text_starts: None,
            source: None,
        }
    }

    /// Replaces some rows with the same rows of another batch of the same shape.
    pub fn replace_rows(&mut self, other: &Self, rows: &[usize]) {
        let seq_len = self.seq_len;
        // Without marks, a row is one text, which begins at its first position.
        if self.text_starts.is_none() && other.text_starts.is_some() {
            self.text_starts = Some(vec![0; self.inputs.len()]);
        }
        for row in rows {
            let range = row * seq_len..(row + 1) * seq_len;
            self.inputs[range.clone()].copy_from_slice(&other.inputs[range.clone()]);
            self.targets[range.clone()].copy_from_slice(&other.targets[range.clone()]);
            if let Some(starts) = &mut self.text_starts {
                match &other.text_starts {
                    Some(others) => starts[range.clone()].copy_from_slice(&others[range]),
                    None => starts[range].fill(0),
                }
            }
        }
    }

    /// Positions that a model computes, padding included: those of the decoder, and those of the encoder where there is one.
    pub fn positions(&self) -> usize {
        self.inputs.len() + self.source.as_ref().map_or(0, |source| source.ids.len())
    }

    /// Positions that have a loss.
    pub fn counted_targets(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE_INDEX).count()
    }
}

/// Which windows of a text make up a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Every row starts at a uniformly random token, drawn each time: nanoGPT's `get_batch`.
    #[default]
    Random,
    /// Every window is visited once per epoch, in an order drawn for that epoch. The windows do not overlap, and their grid is
    /// shifted by a random offset each epoch, so that no token is always at the edge of a window. An epoch leaves out at most two
    /// blocks at the ends of the text.
    Shuffled,
}

impl std::str::FromStr for Order {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "random" => Ok(Self::Random),
            "shuffled" => Ok(Self::Shuffled),
            other => Err(DataError::Setting {
                key: "data.order",
                detail: format!("expected `random` or `shuffled`, got `{other}`"),
            }),
        }
    }
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Shuffled => "shuffled",
        })
    }
}

/// Which rows a step reads: a stateless function of the seed and the step, so that a resumed run continues exactly where the
/// interrupted one stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlan {
    /// Chooses the order among all orders.
    pub seed: u64,
    /// Rows per batch.
    pub batch_size: usize,
    /// Positions per row.
    pub block_size: usize,
    /// Which windows, in which order.
    pub order: Order,
}

/// A source of batches.
pub trait BatchSource {
    /// Checks that `plan` can draw from this source; then [`batch`](Self::batch) always succeeds.
    ///
    /// # Errors
    /// [`DataError::TooShort`], [`DataError::Setting`].
    fn check(&self, plan: &BatchPlan) -> Result<()>;

    /// The batch of one step. Steps are counted in batches: each micro-batch of an accumulated step has its own number.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn batch(&self, plan: &BatchPlan, step: u64) -> Result<Batch>;

    /// Batches after which a shuffled order has visited everything once, rounded up.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    fn batches_per_epoch(&self, plan: &BatchPlan) -> Result<u64>;
}

impl BatchPlan {
    /// A plan with nanoGPT's random order.
    pub fn new(seed: u64, batch_size: usize, block_size: usize) -> Self {
        Self {
            seed,
            batch_size,
            block_size,
            order: Order::Random,
        }
    }

    /// The same plan in another order.
    #[must_use]
    pub fn with_order(self, order: Order) -> Self {
        Self { order, ..self }
    }

    /// See [`BatchSource::batch`].
    ///
    /// # Errors
    /// As there.
    pub fn batch(&self, source: &(impl BatchSource + ?Sized), step: u64) -> Result<Batch> {
        source.batch(self, step)
    }

    /// See [`BatchSource::check`].
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, source: &(impl BatchSource + ?Sized)) -> Result<()> {
        source.check(self)
    }

    pub(crate) fn check_sizes(&self) -> Result<()> {
        for (key, value, limit) in [
            ("train.batch_size", self.batch_size, MAX_BATCH_SIZE),
            ("train.block_size", self.block_size, MAX_BLOCK_SIZE),
        ] {
            if !(1..=limit).contains(&value) {
                return Err(DataError::Setting {
                    key,
                    detail: format!("expected 1 to {limit}, got {value}"),
                });
            }
        }
        Ok(())
    }

    /// The number of a row, counted over all steps.
    pub fn position(&self, step: u64, row: usize) -> u128 {
        u128::from(step) * self.batch_size as u128 + row as u128
    }

    /// The epoch and the item of row number `position`, when each of `items` is shown once per epoch.
    pub fn shuffled(&self, position: u128, items: u64) -> (u64, u64) {
        let epoch = (position / u128::from(items)) as u64;
        let item = permute(
            (position % u128::from(items)) as u64,
            items,
            bits(&[PURPOSE_ORDER, self.seed, epoch]),
        );
        (epoch, item)
    }
}

/// Non-overlapping windows on a text: their number per epoch, and the number of offsets of their grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    windows: u64,
    offsets: u64,
}

impl Grid {
    /// The number of windows is the same for every offset, so that a step's epoch is one division. A window needs one
    /// token more than a block: the last target.
    fn over(len: u64, block_size: u64) -> Self {
        let windows = ((len - block_size) / block_size).max(1);
        Self {
            windows,
            offsets: (len - windows * block_size).min(block_size),
        }
    }
}

impl TokenSource {
    /// The windows of an epoch.
    pub(crate) fn windows(&self, plan: &BatchPlan) -> u64 {
        Grid::over(self.len(), plan.block_size as u64).windows
    }

    /// Appends the row of a step to a batch: in a shuffled order, the one that is number `position` of this source.
    pub(crate) fn push_row(&self, batch: &mut Batch, plan: &BatchPlan, (step, row): (u64, usize), position: u128) {
        let start = self.row_start(plan, (step, row), position);
        self.for_each(start, plan.block_size, |id| batch.inputs.push(id as i32));
        let first = batch.inputs.len() - plan.block_size;
        batch.targets.extend_from_slice(&batch.inputs[first + 1..]);
        self.for_each(start + plan.block_size as u64, 1, |id| batch.targets.push(id as i32));
    }

    fn row_start(&self, plan: &BatchPlan, (step, row): (u64, usize), position: u128) -> u64 {
        let block_size = plan.block_size as u64;
        match plan.order {
            Order::Random => below(
                bits(&[PURPOSE_OFFSET, plan.seed, step, row as u64]),
                self.len() - block_size,
            ),
            Order::Shuffled => {
                let grid = Grid::over(self.len(), block_size);
                let (epoch, window) = plan.shuffled(position, grid.windows);
                below(bits(&[PURPOSE_GRID, plan.seed, epoch]), grid.offsets) + window * block_size
            }
        }
    }
}

impl BatchSource for TokenSource {
    fn check(&self, plan: &BatchPlan) -> Result<()> {
        plan.check_sizes()?;
        let needed = plan.block_size as u64 + 1;
        if self.len() >= needed {
            return Ok(());
        }
        Err(DataError::TooShort {
            name: self.name().to_owned(),
            tokens: self.len(),
            block_size: plan.block_size,
            needed,
        })
    }

    fn batch(&self, plan: &BatchPlan, step: u64) -> Result<Batch> {
        self.check(plan)?;
        let mut batch = Batch::with_capacity(plan.batch_size, plan.block_size);
        for row in 0..plan.batch_size {
            self.push_row(&mut batch, plan, (step, row), plan.position(step, row));
        }
        Ok(batch)
    }

    fn batches_per_epoch(&self, plan: &BatchPlan) -> Result<u64> {
        self.check(plan)?;
        Ok(self.windows(plan).div_ceil(plan.batch_size as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_of_every_offset_is_inside_the_text() {
        for block_size in 1..9u64 {
            for len in block_size + 1..60 {
                let grid = Grid::over(len, block_size);
                assert!(
                    grid.windows >= 1 && (1..=block_size).contains(&grid.offsets),
                    "{len}, {block_size}"
                );
                let last_start = grid.offsets - 1 + (grid.windows - 1) * block_size;
                assert!(last_start + block_size < len, "len {len}, block {block_size}: {grid:?}");
                // Less than two blocks are left out.
                assert!(len - 1 - grid.windows * block_size < 2 * block_size);
            }
        }
    }
}
