//! The keys and values of tokens already seen, so that a new token costs no recomputation.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use burn::tensor::{Device, Tensor};
use taal_kernels::{AttentionMask, Halves, Positions, attention, attention_of_halves, reorder_rows, write_rows};

use crate::AttentionError;
use crate::functional::AttentionOptions;
use crate::mask::attention_mask;

/// How a cache stores its numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats, on the CPU: half the bytes, rounded to 11 bits. Numbers above 65,504 become infinite.
    F16,
}

impl CacheType {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err("expected f32 or f16".to_owned()),
        }
    }
}

/// The keys or the values of a layer, `[batch, n_kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a cache has two of them per layer")]
enum Kept {
    Floats(Tensor<4>),
    Halves { halves: Halves, device: Device },
}

impl Kept {
    fn dims(&self) -> [usize; 4] {
        match self {
            Self::Floats(floats) => floats.dims(),
            Self::Halves { halves, .. } => halves.shape(),
        }
    }

    /// Puts the first tokens of rows of `new` at their places, `first` rows further down.
    fn put(&mut self, new: Tensor<4>, first: usize, places: &[Positions]) {
        match self {
            Self::Halves { halves, .. } => halves.write(new, first, places),
            // `inplace` moves the tensor into the write; a second owner would force a copy of the whole cache.
            Self::Floats(floats) => floats.inplace(|cache| write_rows(cache, new, first, places)),
        }
    }

    /// The first `len` tokens of some rows.
    fn first(&self, rows: Range<usize>, len: usize) -> Tensor<4> {
        let [_, heads, _, width] = self.dims();
        match self {
            Self::Floats(floats) => floats.clone().slice([rows, 0..heads, 0..len, 0..width]),
            Self::Halves { halves, device } => halves.read(rows, len, device),
        }
    }

    fn reorder(&mut self, parents: &[usize], lens: &[usize]) {
        match self {
            Self::Floats(floats) => floats.inplace(|cache| reorder_rows(cache, parents, lens)),
            Self::Halves { halves, .. } => halves.reorder_rows(parents, lens),
        }
    }

    /// Makes room for `capacity` tokens; the first `len` stay.
    fn grow(&mut self, capacity: usize, len: usize) {
        let [rows, heads, _, width] = self.dims();
        match self {
            Self::Floats(floats) => {
                let grown = Tensor::zeros([rows, heads, capacity, width], &floats.device());
                *floats = match len {
                    0 => grown,
                    _ => {
                        let first = floats.clone().narrow(2, 0, len);
                        grown.slice_assign([0..rows, 0..heads, 0..len, 0..width], first)
                    }
                };
            }
            Self::Halves { halves, .. } => *halves = halves.grown(capacity),
        }
    }

    fn copy_row(&mut self, row: usize, from: &Self, from_row: usize, len: usize) {
        let [_, heads, _, width] = self.dims();
        match (self, from) {
            (Self::Halves { halves, .. }, Self::Halves { halves: from, .. }) => {
                halves.copy_row(row, from, from_row, len);
            }
            (to, from) => {
                let row_of = from.first(from_row..from_row + 1, len); // [1, heads, len, width]
                let start = 0;
                match to {
                    Self::Floats(floats) => {
                        let place = [row..row + 1, 0..heads, 0..len, 0..width];
                        floats.inplace(|cache| cache.slice_assign(place, row_of));
                    }
                    Self::Halves { halves, device } => {
                        let mut alone = Halves::zeros([1, heads, len, width]);
                        let count = len;
                        alone.write(row_of.to_device(device), 0, &[Positions { row: 0, start, count }]);
                        halves.copy_row(row, &alone, 0, len);
                    }
                }
            }
        }
    }
}

/// Which rows have new tokens, and how many tokens the longest of them has now.
struct Added {
    rows: Range<usize>,
    len: usize,
}

/// Preallocated keys and values of one layer. Each row has its own length, so texts of different lengths can be continued together.
///
/// In single precision, new tokens are written in place and the filled part is handed out as a view, so a step copies only the new tokens
/// (on flex, as long as views of earlier steps have been dropped). In half precision [`attend`](Self::attend) converts a few lines at a
/// time, so that half the bytes come from memory.
#[derive(Debug, Clone)]
pub struct KvCache {
    keys: Kept,
    values: Kept,
    lens: Vec<usize>,
}

impl KvCache {
    /// An empty cache for `capacity` tokens in single precision; values are as wide as keys.
    pub fn new(batch: usize, n_kv_heads: usize, capacity: usize, head_dim: usize, device: &Device) -> Self {
        Self::of(CacheType::F32, [batch, n_kv_heads, capacity, head_dim], device)
    }

    /// An empty cache of a type, `[batch, n_kv_heads, capacity, head_dim]`.
    pub fn of(kind: CacheType, shape: [usize; 4], device: &Device) -> Self {
        let kept = || match kind {
            CacheType::F32 => Kept::Floats(Tensor::zeros(shape, device)),
            CacheType::F16 => Kept::Halves {
                halves: Halves::zeros(shape),
                device: device.clone(),
            },
        };
        Self {
            keys: kept(),
            values: kept(),
            lens: vec![0; shape[0]],
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
        self.append_rows(keys, values, None, None)
    }

    /// [`append`](Self::append) to `rows` of the cache only, of the first `lengths[row]` new tokens of each; returns those rows.
    ///
    /// # Shapes
    ///
    /// As [`append`](Self::append), with a batch of the number of `rows`.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_rows(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        rows: Option<Range<usize>>,
        lengths: Option<&[usize]>,
    ) -> Result<(Tensor<4>, Tensor<4>), AttentionError> {
        let added = self.put_rows(keys, values, rows, lengths)?;
        let rows = added.rows;
        Ok((
            self.keys.first(rows.clone(), added.len),
            self.values.first(rows, added.len),
        ))
    }

    /// [`append_rows`](Self::append_rows), and attention of the new tokens to all of their rows.
    ///
    /// # Shapes
    ///
    /// - `q`: `[batch, n_heads, new, head_dim]`, as the result
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn attend(
        &mut self,
        q: Tensor<4>,
        [keys, values]: [Tensor<4>; 2],
        rows: Option<Range<usize>>,
        lengths: Option<&[usize]>,
        mask: Option<&AttentionMask>,
        options: &AttentionOptions,
    ) -> Result<Tensor<4>, AttentionError> {
        let Added { rows, len } = self.put_rows(keys, values, rows, lengths)?;
        let built;
        let mask = match mask {
            Some(mask) => mask,
            None => {
                built = attention_mask(q.dims()[2], len, None, None, options, &q.device());
                &built
            }
        };
        Ok(self.attend_to_first(q, rows, len, mask, options))
    }

    /// Attention of queries to the tokens that some rows hold already, as to the source of a translation.
    ///
    /// # Shapes
    ///
    /// - `q`: `[rows, n_heads, q_len, head_dim]`, as the result; the mask is for the longest of the rows
    ///
    /// # Errors
    ///
    /// [`AttentionError::CacheEmpty`] where none of the rows holds a token.
    pub fn attend_to_kept(
        &self,
        q: Tensor<4>,
        rows: Range<usize>,
        mask: &AttentionMask,
        options: &AttentionOptions,
    ) -> Result<Tensor<4>, AttentionError> {
        let len = self.len_of(rows.clone())?;
        Ok(self.attend_to_first(q, rows, len, mask, options))
    }

    /// The keys and values that some rows hold, up to the longest of them; the rest of a shorter row is undefined.
    ///
    /// # Shapes
    ///
    /// - results: `[rows, n_kv_heads, len, head_dim]`
    ///
    /// # Errors
    ///
    /// [`AttentionError::CacheEmpty`] where none of the rows holds a token.
    pub fn kept(&self, rows: Range<usize>) -> Result<[Tensor<4>; 2], AttentionError> {
        let len = self.len_of(rows.clone())?;
        Ok([&self.keys, &self.values].map(|kept| kept.first(rows.clone(), len)))
    }

    fn len_of(&self, rows: Range<usize>) -> Result<usize, AttentionError> {
        match self.lens[rows].iter().copied().max() {
            None | Some(0) => Err(AttentionError::CacheEmpty),
            Some(len) => Ok(len),
        }
    }

    fn attend_to_first(
        &self,
        q: Tensor<4>,
        rows: Range<usize>,
        len: usize,
        mask: &AttentionMask,
        options: &AttentionOptions,
    ) -> Tensor<4> {
        let settings = options.settings();
        match (&self.keys, &self.values) {
            (Kept::Halves { halves: keys, .. }, Kept::Halves { halves: values, .. }) => {
                attention_of_halves(q, [keys, values], rows, len, mask, &settings)
            }
            (keys, values) => {
                let [k, v] = [keys, values].map(|kept| kept.first(rows.clone(), len));
                attention(q, k, v, mask, &settings)
            }
        }
    }

    fn put_rows(
        &mut self,
        keys: Tensor<4>,
        values: Tensor<4>,
        rows: Option<Range<usize>>,
        lengths: Option<&[usize]>,
    ) -> Result<Added, AttentionError> {
        let [batch, heads, capacity, width] = self.keys.dims();
        let rows = rows.unwrap_or(0..batch);
        let expected = [rows.len(), heads, width];
        for [batch, heads, _, width] in [keys.dims(), values.dims()] {
            let given = [batch, heads, width];
            if given != expected {
                return Err(AttentionError::CacheShape { expected, given });
            }
        }
        let lens = &mut self.lens[rows.clone()];
        let (len, seq) = (lens.iter().copied().max().unwrap_or(0), keys.dims()[2]);
        let added = |row: usize| lengths.map_or(seq, |lengths| lengths[row].min(seq));
        let ends = lens.iter().enumerate();
        let end = ends
            .map(|(row, len)| len.saturating_add(added(row)))
            .fold(seq, usize::max);
        if end > capacity {
            let added = end - len.min(end);
            return Err(AttentionError::CacheFull { len, added, capacity });
        }
        let places: Vec<Positions> = lens
            .iter()
            .enumerate()
            .map(|(row, start)| Positions {
                row,
                start: *start,
                count: added(row),
            })
            .filter(|place| place.count > 0)
            .collect();
        self.keys.put(keys, rows.start, &places);
        self.values.put(values, rows.start, &places);
        for place in places {
            lens[place.row] += place.count;
        }
        Ok(Added { rows, len: end })
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
            self.keys.copy_row(row, &from.keys, from_row, len);
            self.values.copy_row(row, &from.values, from_row, len);
        }
        self.lens[row] = len;
        Ok(())
    }

    /// Drops the tokens of every row from `len` on; does nothing to rows of at most `len`.
    pub fn truncate(&mut self, len: usize) {
        self.lens.iter_mut().for_each(|row| *row = len.min(*row));
    }

    /// Drops the tokens of one row from `len` on.
    pub fn truncate_row(&mut self, row: usize, len: usize) {
        self.lens[row] = len.min(self.lens[row]);
    }

    /// Replaces row `to` by the first `len` tokens of row `from`.
    pub fn copy_within(&mut self, from: usize, to: usize, len: usize) {
        let mut parents: Vec<usize> = (0..=to).collect();
        parents[to] = from;
        let mut lens = self.lens.clone();
        lens[from] = len.min(lens[from]);
        self.keys.reorder(&parents, &lens);
        self.values.reorder(&parents, &lens);
        self.lens[to] = lens[from];
    }

    /// Exchanges the tokens of two rows.
    pub fn swap_rows(&mut self, a: usize, b: usize) {
        let mut parents: Vec<usize> = (0..=a.max(b)).collect();
        parents.swap(a, b);
        self.reorder(&parents);
    }

    /// Makes row `i` what row `parents[i]` was, for the first rows: the candidates of a beam search continue from others. Only rows that
    /// change are copied.
    ///
    /// # Panics
    ///
    /// Where a row does not exist.
    pub fn reorder(&mut self, parents: &[usize]) {
        self.keys.reorder(parents, &self.lens);
        self.values.reorder(parents, &self.lens);
        let lens: Vec<usize> = parents.iter().map(|parent| self.lens[*parent]).collect();
        self.lens[..lens.len()].copy_from_slice(&lens);
    }

    /// Makes room for `capacity` tokens in each row, where there is less.
    pub fn grow(&mut self, capacity: usize) {
        if capacity > self.capacity() {
            let len = self.len();
            self.keys.grow(capacity, len);
            self.values.grow(capacity, len);
        }
    }

    /// Drops all tokens and keeps the memory.
    pub fn reset(&mut self) {
        self.lens.fill(0);
    }
}
