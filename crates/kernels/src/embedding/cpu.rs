//! Rows of a table by id, and the gradient of the table.

use crate::cpu::{parallel, uninitialized};

/// How many columns of the table's gradient are one task.
const COLUMNS: usize = 64;

/// Fewer numbers than this are added on the calling thread.
const PARALLEL_NUMBERS: usize = 1 << 15;

/// The row of each id, `width` numbers each.
pub(crate) fn gather(table: &[f32], width: usize, ids: &[i32]) -> Vec<f32> {
    let rows = table.len() / width;
    let mut out = uninitialized(ids.len() * width);
    parallel::rows(&mut out, width, |first, out| {
        for (id, out) in ids[first..].iter().zip(out.chunks_exact_mut(width)) {
            out.copy_from_slice(&table[index(*id, rows) * width..][..width]);
        }
    });
    out
}

/// The gradient of a table of `rows` rows: the sum of the slopes of each id's places, in their order. Tasks divide
/// columns, so no two of them add to one number.
pub(crate) fn scatter_add(rows: usize, width: usize, ids: &[i32], slopes: &[f32]) -> Vec<f32> {
    assert_eq!(slopes.len(), ids.len() * width, "one row of slopes an id");
    let mut gradient = vec![0.0; rows * width];
    let parts = parallel::Parts::new(&mut gradient);
    let columns = if slopes.len() < PARALLEL_NUMBERS {
        width
    } else {
        COLUMNS
    };
    parallel::for_each(width.div_ceil(columns), |task| {
        let from = task * columns;
        let columns = columns.min(width - from);
        for (id, slopes) in ids.iter().zip(slopes.chunks_exact(width)) {
            // SAFETY: tasks have different columns.
            let sums = unsafe { parts.part(index(*id, rows) * width + from, columns) };
            for (sum, slope) in sums.iter_mut().zip(&slopes[from..]) {
                *sum += slope;
            }
        }
    });
    gradient
}

/// An id as a row; outside the table it is the caller's bug, found before anything is read.
fn index(id: i32, rows: usize) -> usize {
    let index = usize::try_from(id).unwrap_or(usize::MAX);
    assert!(index < rows, "id {id} is outside of a table of {rows} rows");
    index
}
