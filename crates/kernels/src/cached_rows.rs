//! Rows of a key/value cache: new tokens are written into them, and rows move where the candidates of a beam search continue from others.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Int, Tensor, TensorData};

use crate::attention::{heads, readable};
use crate::autodiff::{contiguous, dims, primitive};
use crate::backend::Backend;
use crate::cpu::parallel::{self, Parts};
use crate::halves::Positions;
use crate::profile;

/// Writes the first `count` positions of rows of `new` into their places, `first` rows further down. Memory that is not shared is
/// changed in place on flex.
///
/// # Shapes
///
/// - `cache`: `[rows, heads, capacity, width]`, as the result
/// - `new`: `[new rows, heads, seq, width]`
///
/// # Panics
///
/// Where the shapes do not fit each other, or a place does not exist.
pub fn write_rows(cache: Tensor<4>, new: Tensor<4>, first: usize, places: &[Positions]) -> Tensor<4> {
    match Backend::of(&cache) {
        Backend::Flex if !is_differentiated(&cache) && !is_differentiated(&new) => {
            let shape = cache.dims();
            let new = readable(primitive(new));
            let [mut cache] = contiguous([primitive(cache)]);
            profile::count("write", || {
                write(cache.storage_mut::<f32>(), shape, &new, first, places);
            });
            Tensor::from_primitive::<Flex>(cache)
        }
        Backend::Flex | Backend::Other => assigned(cache, new, first, places),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => assigned(cache, new, first, places),
    }
}

/// Whether a tensor may be part of a graph of gradients.
fn is_differentiated(x: &Tensor<4>) -> bool {
    x.gradient_checkpointing_strategy().is_some()
}

/// [`write_rows`] of Burn's operations.
fn assigned(cache: Tensor<4>, new: Tensor<4>, first: usize, places: &[Positions]) -> Tensor<4> {
    let [_, heads, _, width] = cache.dims();
    let [rows, _, seq, _] = new.dims();
    let start = places.first().map_or(0, |place| place.start);
    let is_even = places.len() == rows && places.iter().all(|place| place.start == start && place.count == seq);
    if is_even {
        return cache.slice_assign([first..first + rows, 0..heads, start..start + seq, 0..width], new);
    }
    places.iter().fold(cache, |cache, &Positions { row, start, count }| {
        let at = first + row;
        let these = new.clone().slice([row..row + 1, 0..heads, 0..count, 0..width]);
        cache.slice_assign([at..at + 1, 0..heads, start..start + count, 0..width], these)
    })
}

fn write(
    values: &mut [f32],
    [rows, n_heads, capacity, width]: [usize; 4],
    new: &FlexTensor,
    first: usize,
    places: &[Positions],
) {
    let [new_rows, new_heads, seq, new_width] = [0, 1, 2, 3].map(|axis| dims(new)[axis]);
    assert_eq!([n_heads, width], [new_heads, new_width], "numbers of another shape");
    assert!(first + new_rows <= rows, "rows that do not exist");
    let new = heads(new);
    for Positions { row, start, count } in places.iter().copied() {
        assert!(
            row < new_rows && count <= seq && start + count <= capacity,
            "positions that do not exist"
        );
        for head in 0..n_heads {
            let from = new.view.start + row * new.view.batch_stride + head * new.view.head_stride;
            let to = (((first + row) * n_heads + head) * capacity + start) * width;
            for position in 0..count {
                let from = &new.values[from + position * new.view.row_stride..][..width];
                values[to + position * width..][..width].copy_from_slice(from);
            }
        }
    }
}

/// Makes row `i` what row `parents[i]` was, for the first rows. Of row `r` only the first `lens[r]` positions mean anything; what lies
/// behind them is undefined afterwards. Memory that is not shared is changed in place on flex, and only rows that change are copied.
///
/// # Shapes
///
/// - `cache`: `[rows, heads, capacity, width]`, as the result
///
/// # Panics
///
/// Where a row does not exist.
pub fn reorder_rows(cache: Tensor<4>, parents: &[usize], lens: &[usize]) -> Tensor<4> {
    match Backend::of(&cache) {
        Backend::Flex => {
            let shape = cache.dims();
            let [mut cache] = contiguous([primitive(cache)]);
            profile::count("reorder", || {
                reorder(cache.storage_mut::<f32>(), shape, parents, lens);
            });
            Tensor::from_primitive::<Flex>(cache)
        }
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference(cache, parents, lens),
        Backend::Other => reference(cache, parents, lens),
    }
}

/// [`reorder_rows`] of Burn's operations.
fn reference(cache: Tensor<4>, parents: &[usize], lens: &[usize]) -> Tensor<4> {
    let [_, heads, _, width] = cache.dims();
    let len = parents.iter().map(|parent| lens[*parent]).max().unwrap_or(0);
    if len == 0 {
        return cache;
    }
    let count = parents.len();
    let chosen: Vec<i32> = parents.iter().map(|parent| *parent as i32).collect();
    let chosen = Tensor::<1, Int>::from_data(TensorData::new(chosen, [count]), &cache.device());
    let moved = cache.clone().narrow(2, 0, len).select(0, chosen);
    cache.slice_assign([0..count, 0..heads, 0..len, 0..width], moved)
}

/// [`reorder_rows`] of contiguous numbers.
pub(crate) fn reorder<T: Copy + Send + Sync>(
    values: &mut [T],
    [rows, heads, capacity, width]: [usize; 4],
    parents: &[usize],
    lens: &[usize],
) {
    assert!(
        parents.len() <= rows && parents.iter().all(|parent| *parent < rows),
        "rows that do not exist"
    );
    let lens = &lens[..rows];
    assert!(lens.iter().all(|len| *len <= capacity), "positions that do not exist");
    let changes = |(row, parent): &(usize, &usize)| row != *parent && lens[**parent] > 0;
    let changed: Vec<(usize, usize)> = parents
        .iter()
        .enumerate()
        .filter(changes)
        .map(|(row, parent)| (row, *parent))
        .collect();
    let is_target = |row: &usize| changed.binary_search_by_key(row, |(target, _)| *target).is_ok();
    let start = |row: usize, head: usize| (row * heads + head) * capacity * width;
    // Rows that others continue and that are overwritten.
    let copied = |parent: usize| -> Vec<T> {
        let mut copy = Vec::with_capacity(heads * lens[parent] * width);
        for head in 0..heads {
            copy.extend_from_slice(&values[start(parent, head)..][..lens[parent] * width]);
        }
        copy
    };
    let sources = changed.iter().map(|(_, parent)| *parent).filter(is_target);
    let copies: BTreeMap<usize, Vec<T>> = sources.map(|parent| (parent, copied(parent))).collect();
    let parts = Parts::new(values);
    parallel::for_each(changed.len(), |change| {
        let (row, parent) = changed[change];
        let len = lens[parent] * width;
        for head in 0..heads {
            // SAFETY: each row is the target of one change, and no target is read here: those that are also sources were copied.
            let (target, source) = unsafe {
                let source = match copies.get(&parent) {
                    Some(copy) => &copy[head * len..][..len],
                    None => std::slice::from_raw_parts(parts.as_mut_ptr().add(start(parent, head)), len),
                };
                (parts.part(start(row, head), len), source)
            };
            target.copy_from_slice(source);
        }
    });
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    const SHAPE: [usize; 4] = [5, 2, 4, 3];

    fn cache() -> Tensor<4> {
        crate::random::normal(SHAPE, 1.0, 3, &Device::flex())
    }

    /// The first positions of each row.
    fn filled(cache: Tensor<4>, lens: &[usize]) -> Vec<Vec<f32>> {
        let row = |(row, len): (usize, &usize)| -> Vec<f32> {
            let these = cache.clone().narrow(0, row, 1).narrow(2, 0, *len);
            these.into_data().iter::<f32>().collect()
        };
        lens.iter().enumerate().map(row).collect()
    }

    #[test]
    fn rows_move_as_their_parents_were_in_both_implementations() {
        let lens = [3, 1, 4, 2, 4];
        for parents in [
            vec![0, 1, 2, 3, 4],
            // Rows that stay and have several children.
            vec![0, 0, 2, 2, 2],
            // A cycle, and a parent that is overwritten itself.
            vec![1, 2, 0, 1],
            vec![4, 3],
            vec![],
        ] {
            let old = filled(cache(), &lens);
            let mut expected_lens = lens;
            for (len, parent) in expected_lens.iter_mut().zip(&parents) {
                *len = lens[*parent];
            }
            let of = |row: usize| parents.get(row).copied().unwrap_or(row);
            let expected: Vec<Vec<f32>> = (0..lens.len()).map(|row| old[of(row)].clone()).collect();
            for moved in [
                reorder_rows(cache(), &parents, &lens),
                reference(cache(), &parents, &lens),
            ] {
                assert_eq!(filled(moved, &expected_lens), expected, "{parents:?}");
            }
        }
    }

    #[test]
    fn new_tokens_are_written_alike_by_both_implementations_and_nothing_else_changes() {
        // As a projection leaves them: heads beside each other.
        let new: Tensor<4> = crate::random::normal([3, 2, 2, 3], 1.0, 4, &Device::flex());
        let new = new.swap_dims(1, 2);
        let at = |row, start, count| Positions { row, start, count };
        let bits = |x: Tensor<4>| -> Vec<u32> { x.into_data().iter::<f32>().map(f32::to_bits).collect() };
        for (first, places) in [
            (0, vec![at(0, 1, 2), at(1, 1, 2), at(2, 1, 2)]),
            (2, vec![at(0, 0, 1), at(2, 2, 2)]),
            (1, vec![]),
        ] {
            let written = bits(write_rows(cache(), new.clone(), first, &places));
            assert_eq!(written, bits(assigned(cache(), new.clone(), first, &places)));
            let changed = bits(cache())
                .iter()
                .zip(&written)
                .filter(|(old, new)| old != new)
                .count();
            let expected: usize = places.iter().map(|place| place.count * 2 * 3).sum();
            assert_eq!(changed, expected);
        }
    }

    #[test]
    #[should_panic(expected = "positions that do not exist")]
    fn tokens_behind_the_capacity_are_refused() {
        let (row, start, count) = (0, 4, 1);
        write_rows(cache(), cache(), 0, &[Positions { row, start, count }]);
    }

    #[test]
    #[should_panic(expected = "rows that do not exist")]
    fn a_row_that_does_not_exist_is_refused() {
        reorder_rows(cache(), &[5], &[1; 5]);
    }
}
