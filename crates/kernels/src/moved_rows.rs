//! Rows of a key/value cache that move: the candidates of a beam search continue from others.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::tensor::{Int, Tensor, TensorData};

use crate::autodiff::{contiguous, primitive};
use crate::backend::Backend;
use crate::cpu::parallel::{self, Parts};
use crate::profile;

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
        let head = |head: usize| values[start(parent, head)..][..lens[parent] * width].iter().copied();
        (0..heads).flat_map(head).collect()
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
    #[should_panic(expected = "rows that do not exist")]
    fn a_row_that_does_not_exist_is_refused() {
        reorder_rows(cache(), &[5], &[1; 5]);
    }
}
