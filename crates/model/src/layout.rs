//! How a parameter of ours is stored in a file: in one tensor or in several, transposed or not, and in which row order.

use std::borrow::Cow;
use std::ops::Range;

/// One parameter of ours as the file has it: in one tensor, in some rows of one, or, for the fused query, key and value
/// matrix, in three.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    shape: Vec<usize>,
    is_transposed: bool,
    /// The tensors of the file that it is in.
    pub parts: Vec<Part>,
}

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Rows before ours, which belong to another parameter or are unused.
    first_row: usize,
    /// Columns of ours that it holds.
    width: usize,
    /// The width of a head whose rotary pairs are adjacent in the file; ours are half a head apart.
    interleaved_head_dim: Option<usize>,
}

/// Where a tensor of a file holds rows of a matrix in fewer bits, which is always stored as `[d_output, d_input]`, whatever the file's order of
/// floats is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixPlace {
    /// `[d_output, d_input]` of the whole tensor.
    pub shape: [usize; 2],
    /// Its rows that are ours.
    pub rows: Range<usize>,
    /// Which of our outputs they are.
    pub outputs: Range<usize>,
}

/// The name with each of `pairs` replaced: at its beginning, or anywhere where it begins with a dot.
pub fn rename(ours: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(ours.to_string(), |name, (from, to)| {
        let is_prefix = !from.starts_with('.');
        match name.strip_prefix(from) {
            Some(rest) if is_prefix => format!("{to}{rest}"),
            _ if is_prefix => name,
            _ => name.replacen(from, to, 1),
        }
    })
}

impl Part {
    /// A tensor with `width` of the columns of ours, whose dimensions are given.
    pub fn new(name: String, ours: &[usize], width: usize, is_transposed: bool) -> Self {
        let shape = match ours {
            [rows, _] if is_transposed => vec![width, *rows],
            [rows, _] => vec![*rows, width],
            _ => vec![width],
        };
        Self {
            name,
            shape,
            first_row: 0,
            width,
            interleaved_head_dim: None,
        }
    }

    /// The same, where the two coordinates of a rotary pair are adjacent in the file, as in Meta's LLaMA.
    pub fn with_interleaved_heads(mut self, head_dim: usize) -> Self {
        self.interleaved_head_dim = Some(head_dim);
        self
    }

    /// Values in a row of the file's tensor.
    pub fn row_len(&self) -> usize {
        self.shape[1..].iter().product()
    }

    /// Whole rows of the file's tensor, `row_bytes` each, in the order of our columns.
    pub fn in_our_order<'b>(&self, rows: &'b [u8], row_bytes: usize) -> Cow<'b, [u8]> {
        self.reordered(rows, row_bytes, |file, ours| [ours, file])
    }

    /// Rows in the order of our columns, `row_bytes` each, in that of the file's tensor.
    pub fn in_file_order<'b>(&self, rows: &'b [u8], row_bytes: usize) -> Cow<'b, [u8]> {
        self.reordered(rows, row_bytes, |file, ours| [file, ours])
    }

    /// `places` gives the target and the source of a row, from its number in the file and in ours.
    fn reordered<'b>(
        &self,
        rows: &'b [u8],
        row_bytes: usize,
        places: impl Fn(usize, usize) -> [usize; 2],
    ) -> Cow<'b, [u8]> {
        if self.interleaved_head_dim.is_none() {
            return Cow::Borrowed(rows);
        }
        let mut out = vec![0; rows.len()];
        for row in 0..rows.len() / row_bytes.max(1) {
            let [to, from] = places(row, self.our_column(row)).map(|row| row * row_bytes);
            out[to..to + row_bytes].copy_from_slice(&rows[from..from + row_bytes]);
        }
        Cow::Owned(out)
    }

    /// Our column, within this part, for the file's `column`.
    fn our_column(&self, column: usize) -> usize {
        match self.interleaved_head_dim {
            Some(head_dim) => {
                let (head, within) = (column / head_dim, column % head_dim);
                head * head_dim + within % 2 * (head_dim / 2) + within / 2
            }
            None => column,
        }
    }
}

impl Parameter {
    /// A parameter that is one tensor of the file.
    pub fn whole(name: String, shape: &[usize], is_transposed: bool) -> Self {
        let width = shape.last().copied().unwrap_or(1);
        let part = Part::new(name, shape, width, is_transposed);
        Self::cut(shape, is_transposed, vec![part])
    }

    /// A parameter whose columns are split over several tensors of the file.
    pub fn cut(shape: &[usize], is_transposed: bool, parts: Vec<Part>) -> Self {
        Self {
            shape: shape.to_vec(),
            is_transposed,
            parts,
        }
    }

    /// The parameter is the rows of a larger tensor of the file from `first_row` on, which has `n_rows` of them.
    pub fn within_rows(mut self, first_row: usize, n_rows: usize) -> Self {
        for part in &mut self.parts {
            part.first_row = first_row;
            part.shape[0] = n_rows;
        }
        self
    }

    /// Where the rows of a matrix in fewer bits are, for each part. `is_table` where the parameter is a table of vectors, not a matrix that
    /// is multiplied.
    pub fn matrix_places(&self, is_table: bool) -> Vec<MatrixPlace> {
        let parts = self.parts.iter().zip(self.first_columns());
        parts
            .filter_map(|(part, first)| {
                let [rows, columns] = part.shape[..] else { return None };
                let (shape, n_rows) = match (is_table, self.is_transposed) {
                    (true, _) => ([rows, columns], rows),
                    (false, true) => ([rows, columns], part.width),
                    (false, false) => ([columns, rows], part.width),
                };
                Some(MatrixPlace {
                    shape,
                    rows: part.first_row..part.first_row + n_rows,
                    outputs: if is_table { 0..n_rows } else { first..first + n_rows },
                })
            })
            .collect()
    }

    /// The columns of ours that each part holds, where all of them have whole tensors and our order; otherwise none.
    pub fn whole_columns(&self) -> Option<Vec<Range<usize>>> {
        let is_plain = |part: &Part| {
            let rows = if self.is_transposed {
                part.width
            } else {
                self.rows_and_columns().0
            };
            part.interleaved_head_dim.is_none() && part.first_row == 0 && part.shape.first() == Some(&rows)
        };
        let columns = self.parts.iter().zip(self.first_columns());
        let columns = columns.map(|(part, first)| first..first + part.width);
        self.parts.iter().all(is_plain).then(|| columns.collect())
    }

    /// Whether the file stores the transpose of our matrix.
    pub fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// The range of a part's values in the file's tensor.
    pub fn range_of(&self, part: &Part) -> Range<usize> {
        let (rows, _) = self.rows_and_columns();
        let start = part.first_row * part.row_len();
        start..start + rows * part.width
    }

    /// The first of our columns of each part.
    fn first_columns(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().scan(0, |next, part| {
            let first = *next;
            *next += part.width;
            Some(first)
        })
    }

    /// Our values, `[rows, columns]` or `[columns]`, of one part, in the order of the file.
    pub fn part_values(&self, index: usize, values: &[f32]) -> Vec<f32> {
        let (rows, columns) = self.rows_and_columns();
        let part = &self.parts[index];
        let from = self.first_columns().nth(index).unwrap_or(0);
        let is_by_columns = self.is_transposed || rows == 1;
        if part.width == columns && !is_by_columns {
            return values.to_vec();
        }
        let mut out = Vec::with_capacity(rows * part.width);
        if is_by_columns {
            for column in (0..part.width).map(|column| from + part.our_column(column)) {
                out.extend((0..rows).map(|row| values[row * columns + column]));
            }
        } else {
            for row in values.chunks_exact(columns) {
                out.extend_from_slice(&row[from..from + part.width]);
            }
        }
        out
    }

    /// Copies whole rows of a part, after `start` values copied before, from the file's order to ours.
    pub fn place(&self, index: usize, start: usize, block: &[f32], values: &mut [f32]) {
        let (rows, columns) = self.rows_and_columns();
        let part = &self.parts[index];
        let width = part.width;
        let from = self.first_columns().nth(index).unwrap_or(0);
        if part.interleaved_head_dim.is_some() {
            for (column, stored) in block.chunks_exact(rows).enumerate() {
                let column = from + part.our_column(start / rows + column);
                for (row, value) in stored.iter().enumerate() {
                    values[row * columns + column] = *value;
                }
            }
        } else if rows == 1 || (width == columns && !self.is_transposed) {
            values[from + start..][..block.len()].copy_from_slice(block);
        } else if self.is_transposed {
            // Several rows of the file at a time, so that each write to ours covers several values.
            let first = from + start / rows;
            let n_columns = block.len() / rows;
            for (row, ours) in values.chunks_exact_mut(columns).enumerate() {
                let ours = &mut ours[first..first + n_columns];
                for (value, stored) in ours.iter_mut().zip(block[row..].iter().step_by(rows)) {
                    *value = *stored;
                }
            }
        } else {
            let ours = values.chunks_exact_mut(columns).skip(start / width);
            for (ours, stored) in ours.zip(block.chunks_exact(width)) {
                ours[from..from + width].copy_from_slice(stored);
            }
        }
    }

    /// The number of our values.
    pub fn count(&self) -> usize {
        let (rows, columns) = self.rows_and_columns();
        rows * columns
    }

    fn rows_and_columns(&self) -> (usize, usize) {
        match self.shape[..] {
            [rows, columns] => (rows, columns),
            [columns] => (1, columns),
            _ => (1, self.shape.iter().product()),
        }
    }
}
