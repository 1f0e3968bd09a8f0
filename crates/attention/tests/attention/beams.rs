//! The key/value cache of beam search: rows that move, and a cache that grows.

use burn::tensor::{Device, Tensor};
use taal_attention::{CacheType, KvCache};
use taal_kernels::random;

const HEADS: usize = 2;
const WIDTH: usize = 4;

fn drawn(rows: usize, len: usize, key: u64) -> Tensor<4> {
    random::normal([rows, HEADS, len, WIDTH], 1.0, key, &Device::flex())
}

/// The keys and values of each row, in turn.
fn rows(cache: &KvCache) -> Vec<[Vec<f32>; 2]> {
    let row = |row: usize| {
        let kept = cache.kept(row..row + 1).expect("a row with tokens");
        kept.map(|numbers| numbers.into_data().iter::<f32>().collect())
    };
    (0..cache.lens().len()).map(row).collect()
}

#[test]
fn rows_move_and_a_cache_grows_without_a_change_of_what_it_holds() {
    for kind in [CacheType::F32, CacheType::F16] {
        let mut cache = KvCache::of(kind, [4, HEADS, 3, WIDTH], &Device::flex());
        let lengths = [1, 3, 2, 3];
        cache
            .append_rows(drawn(4, 3, 1), drawn(4, 3, 2), None, Some(&lengths))
            .expect("room for three tokens");
        let before = rows(&cache);
        cache.reorder(&[1, 0, 0]);
        assert_eq!(cache.lens(), [3, 1, 1, 3], "{kind}");
        let moved = [1, 0, 0, 3].map(|row: usize| before[row].clone());
        assert_eq!(rows(&cache), moved, "{kind}");

        assert!(
            cache.append(drawn(4, 1, 3), drawn(4, 1, 4)).is_err(),
            "{kind}: it is full"
        );
        cache.grow(5);
        cache.grow(2);
        assert_eq!((cache.capacity(), rows(&cache)), (5, moved.to_vec()), "{kind}");
        cache.append(drawn(4, 2, 3), drawn(4, 2, 4)).expect("room for two more");
        assert_eq!(cache.lens(), [5, 3, 3, 5], "{kind}");
    }
}
