//! Random numbers as pure functions: a value depends only on its key words, not on a generator's state, so that any step of any
//! run can be recomputed alone.

/// SplitMix64 (Steele, Lea and Flood, 2014): the output that follows state `value`. It is a bijection of 64-bit words.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 64 random bits for a list of key words; equal words always give equal bits.
pub(crate) fn bits(words: &[u64]) -> u64 {
    words.iter().fold(0, |state, &word| mix(state ^ word))
}

/// Maps 64 random bits to `0..limit` by multiplication, with a bias below `limit / 2^64`.
pub(crate) fn below(bits: u64, limit: u64) -> u64 {
    ((u128::from(bits) * u128::from(limit)) >> 64) as u64
}

/// Rounds of the Feistel network. Four give a pseudo-random permutation (Luby and Rackoff, 1988); two more are cheap and improve
/// the small domains of short texts.
const ROUNDS: u64 = 6;

/// The image of `index` in the permutation of `0..len` chosen by `key`.
///
/// A Feistel network permutes the smallest square power of two that holds `len`, and is repeated until the result is below `len`
/// (Black and Rogaway, 2002, "cycle walking"): it needs no table, so a permutation of a billion windows takes no memory.
pub(crate) fn permute(index: u64, len: u64, key: u64) -> u64 {
    debug_assert!(index < len, "{index} is outside 0..{len}");
    let domain_bits = (u64::BITS - (len - 1).leading_zeros()).max(2);
    let half_bits = domain_bits.div_ceil(2);
    let mask = (1u64 << half_bits) - 1;
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ (bits(&[key, round, right]) & mask));
        }
        value = (left << half_bits) | right;
        if value < len {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_gives_the_published_outputs_of_splitmix64() {
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(0x9E37_79B9_7F4A_7C15), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn a_permutation_visits_every_index_once() {
        for len in (1..70).chain([97, 1_000, 4_097]) {
            let mut visited = vec![false; len as usize];
            for index in 0..len {
                let target = permute(index, len, 7) as usize;
                assert!(!visited[target], "{target} of {len} is visited twice");
                visited[target] = true;
            }
        }
    }

    #[test]
    fn keys_choose_different_permutations() {
        let order = |key| (0..50).map(|i| permute(i, 50, key)).collect::<Vec<_>>();
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn every_position_is_reached_about_equally_often() {
        let mut counts = [0u32; 10];
        for key in 0..10_000 {
            counts[permute(0, 10, key) as usize] += 1;
        }
        // A uniform choice has mean 1000 and standard deviation 30.
        assert!(counts.iter().all(|&n| (850..1150).contains(&n)), "{counts:?}");
    }

    #[test]
    fn below_covers_its_range_and_stays_inside() {
        assert_eq!(below(0, 10), 0);
        assert_eq!(below(u64::MAX, 10), 9);
        assert_eq!(below(u64::MAX, 1), 0);
    }

    /// Checkpoints depend on these values: a change makes resumed runs read other data.
    #[test]
    fn the_order_never_changes_silently() {
        let order: Vec<u64> = (0..12).map(|i| permute(i, 12, 42)).collect();
        assert_eq!(order, FROZEN_ORDER);
        assert_eq!(bits(&[1337, 0, 0]), FROZEN_BITS);
    }

    const FROZEN_ORDER: [u64; 12] = [10, 7, 3, 6, 11, 1, 8, 4, 2, 5, 9, 0];
    const FROZEN_BITS: u64 = 6_539_462_552_462_136_227;
}
