//! Keys and values in 16-bit floats: half the bytes that a step of decoding reads of its context. Each number is rounded by itself, halves to
//! even, so what a batch stores of a row is what the row stores alone. The `half` crate converts with the CPU's instructions where it has them.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::attention::cpu::{Heads, View};
use crate::cached_rows;
use crate::cpu::parallel;

/// Below this many numbers, one thread converts them all.
const PARALLEL_NUMBERS: usize = 1 << 15;

/// Some positions of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// The row.
    pub row: usize,
    /// The first position.
    pub start: usize,
    /// How many.
    pub count: usize,
}

/// Numbers `[batch, heads, capacity, width]` in 16-bit floats.
#[derive(Debug, Clone)]
pub struct Halves {
    values: Vec<f16>,
    shape: [usize; 4],
}

impl Halves {
    /// Zeros.
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self {
            values: vec![f16::ZERO; shape.iter().product()],
            shape,
        }
    }

    /// `[batch, heads, capacity, width]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Rounds the first `count` positions of rows of `x` into these places, `first` rows further down.
    ///
    /// # Shapes
    ///
    /// - `x`: `[rows, heads, new, width]`
    ///
    /// # Panics
    ///
    /// Where the shapes do not fit each other.
    pub fn write(&mut self, x: Tensor<4>, first: usize, places: &[Positions]) {
        let [batch, heads, capacity, width] = self.shape;
        let [rows, x_heads, new, x_width] = x.dims();
        assert_eq!([heads, width], [x_heads, x_width], "numbers of another shape");
        assert!(first + rows <= batch, "rows that do not exist");
        let data = x.into_data();
        let x = data.as_slice::<f32>().expect("single precision");
        for Positions { row, start, count } in places {
            assert!(
                *count <= new && start + count <= capacity,
                "positions that do not exist"
            );
            for head in row * heads..(row + 1) * heads {
                let from = &x[head * new * width..][..count * width];
                let place = (first * heads + head) * capacity + start;
                let to = &mut self.values[place * width..][..count * width];
                to.convert_from_f32_slice(from);
            }
        }
    }

    /// The first `len` positions of some rows in single precision, `[rows, heads, len, width]`.
    pub fn read(&self, rows: Range<usize>, len: usize, device: &Device) -> Tensor<4> {
        let [_, heads, capacity, width] = self.shape;
        let mut values = crate::cpu::uninitialized(rows.len() * heads * len * width);
        let total = values.len();
        let out = parallel::Parts::new(&mut values);
        let head = |head: usize| {
            // SAFETY: heads are disjoint.
            let out = unsafe { out.part(head * len * width, len * width) };
            let from = (rows.start * heads + head) * capacity * width;
            crate::cpu::f16::widen(&self.values[from..][..len * width], out);
        };
        if total < PARALLEL_NUMBERS {
            (0..rows.len() * heads).for_each(head);
        } else {
            parallel::for_each(rows.len() * heads, head);
        }
        Tensor::from_data(TensorData::new(values, [rows.len(), heads, len, width]), device)
    }

    /// Where the numbers of the rows from `first` on are.
    pub(crate) fn heads(&self, first: usize) -> Heads<'_, f16> {
        let [_, heads, capacity, width] = self.shape;
        Heads {
            values: &self.values,
            view: View {
                start: first * heads * capacity * width,
                batch_stride: heads * capacity * width,
                head_stride: capacity * width,
                row_stride: width,
            },
        }
    }

    /// Copies the first `len` positions of a row of others of the same heads and width.
    ///
    /// # Panics
    ///
    /// Where they have other heads or widths.
    pub fn copy_row(&mut self, row: usize, from: &Self, from_row: usize, len: usize) {
        let ([_, heads, capacity, width], [_, from_heads, from_capacity, from_width]) = (self.shape, from.shape);
        assert_eq!([heads, width], [from_heads, from_width], "numbers of another shape");
        for head in 0..heads {
            let from = &from.values[(from_row * heads + head) * from_capacity * width..][..len * width];
            self.values[(row * heads + head) * capacity * width..][..len * width].copy_from_slice(from);
        }
    }

    /// As [`reorder_rows`](crate::reorder_rows).
    ///
    /// # Panics
    ///
    /// Where a row does not exist.
    pub fn reorder_rows(&mut self, parents: &[usize], lens: &[usize]) {
        cached_rows::reorder(&mut self.values, self.shape, parents, lens);
    }

    /// The same numbers with room for `capacity` positions, which are no fewer than before.
    ///
    /// # Panics
    ///
    /// Where they are fewer.
    #[must_use]
    pub fn grown(&self, capacity: usize) -> Self {
        let [batch, heads, old, width] = self.shape;
        let mut grown = Self::zeros([batch, heads, capacity, width]);
        for row in 0..batch {
            grown.copy_row(row, self, row, old);
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: [usize; 4]) -> Tensor<4> {
        crate::random::normal(shape, 1.0, 3, &Device::flex())
    }

    fn numbers(x: Tensor<4>) -> Vec<f32> {
        x.into_data().iter::<f32>().collect()
    }

    #[test]
    fn numbers_come_back_rounded_one_by_one() {
        // Widths that are no multiple of a vector, with views that are not contiguous.
        for width in [1, 7, 8, 40] {
            let x = drawn([3, 5, 2, width]).swap_dims(1, 2); // [3, 2, 5, width]
            let mut halves = Halves::zeros([3, 2, 9, width]);
            let all: Vec<Positions> = (0..3)
                .map(|row| Positions {
                    row,
                    start: 0,
                    count: 5,
                })
                .collect();
            halves.write(x.clone(), 0, &all);
            let expected: Vec<f32> = numbers(x.clone())
                .into_iter()
                .map(|x| f16::from_f32(x).to_f32())
                .collect();
            assert_eq!(numbers(halves.read(0..3, 5, &Device::flex())), expected, "{width}");
            // The same, token by token, in one row.
            let mut alone = Halves::zeros([1, 2, 5, width]);
            for position in 0..5 {
                let token = x.clone().slice([1..2, 0..2, position..position + 1, 0..width]);
                alone.write(
                    token,
                    0,
                    &[Positions {
                        row: 0,
                        start: position,
                        count: 1,
                    }],
                );
            }
            let row = halves.read(1..2, 5, &Device::flex());
            assert_eq!(numbers(alone.read(0..1, 5, &Device::flex())), numbers(row), "{width}");
            let mut copy = Halves::zeros([2, 2, 7, width]);
            copy.copy_row(1, &halves, 1, 5);
            assert_eq!(
                numbers(copy.read(1..2, 5, &Device::flex())),
                numbers(alone.read(0..1, 5, &Device::flex()))
            );
        }
    }

    #[test]
    fn many_numbers_are_converted_as_few_are() {
        let x = drawn([2, 3, 200, 64]);
        let mut halves = Halves::zeros([2, 3, 200, 64]);
        let all = [0, 1].map(|row| Positions {
            row,
            start: 0,
            count: 200,
        });
        halves.write(x, 0, &all);
        let [whole, few] = [200, 3].map(|len| halves.read(0..2, len, &Device::flex()));
        assert_eq!(numbers(whole.narrow(2, 0, 3)), numbers(few));
    }
}
