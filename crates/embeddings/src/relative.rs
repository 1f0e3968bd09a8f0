//! Relative positions as T5 has them: a trained number per head and range of distances.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_kernels::{normal_param, random};

use crate::token::INIT_STD;

/// The sizes of a [`RelativeBias`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeBiasConfig {
    /// How many ranges of distances there are, a multiple of 4.
    pub buckets: usize,
    /// All distances from here on share the last range; more than half of the buckets.
    pub max_distance: usize,
    /// How many heads.
    pub n_heads: usize,
    /// Whether keys after a query have ranges of their own: half of them. Otherwise such keys are at distance 0.
    pub is_bidirectional: bool,
}

impl RelativeBiasConfig {
    /// A fresh table, normal with standard deviation 0.02, a function of the seed and drawn when first used.
    pub fn init(&self, seed: u64, device: &Device) -> RelativeBias {
        let key = random::key(seed, 0, "relative positions");
        RelativeBias {
            weight: normal_param([self.buckets, self.n_heads], INIT_STD, key, device),
            max_distance: self.max_distance,
            is_bidirectional: self.is_bidirectional,
        }
    }
}

/// Numbers to add to attention scores, by head and range of distances (Raffel et al., 2020, section 2.1): half of the ranges of a
/// direction are one distance each, the others grow with the logarithm of the distance.
#[derive(Module, Debug)]
pub struct RelativeBias {
    /// `[buckets, n_heads]`.
    pub weight: Param<Tensor<2>>,
    max_distance: usize,
    is_bidirectional: bool,
}

impl RelativeBias {
    /// What to add to the scores of `q_len` queries per row, the first of them at position `starts[row]`, over keys at the positions
    /// from 0 on.
    ///
    /// # Shapes
    ///
    /// - `starts`: `[batch]`; result: `[batch, n_heads, q_len, kv_len]`
    pub fn forward(&self, starts: &[usize], q_len: usize, kv_len: usize) -> Tensor<4> {
        let weight = self.weight.val();
        let [buckets, n_heads] = weight.dims();
        // A distance is looked up once, and its number copied to every pair of positions that is so far apart.
        let last = starts.iter().max().map_or(0, |start| start + q_len);
        let first = last.saturating_sub(1) as i64;
        let farthest = first + kv_len as i64;
        let ids: Vec<i32> = (0..farthest).map(|index| self.bucket(index - first, buckets)).collect();
        let mut places = Vec::with_capacity(starts.len() * q_len * kv_len);
        for query in starts.iter().flat_map(|start| *start..start + q_len) {
            places.extend((0..kv_len as i64).map(|key| (key - query as i64 + first) as i32));
        }
        let device = weight.device();
        let of = |ids: Vec<i32>| {
            let len = ids.len();
            Tensor::<1, Int>::from_data(TensorData::new(ids, [len]), &device)
        };
        weight
            .select(0, of(ids)) // [distances, n_heads]
            .select(0, of(places)) // [batch * q_len * kv_len, n_heads]
            .reshape([starts.len(), q_len, kv_len, n_heads])
            .permute([0, 3, 1, 2])
    }

    /// The range of the distance from a query to a key.
    fn bucket(&self, distance: i64, buckets: usize) -> i32 {
        let (ranges, first) = match self.is_bidirectional {
            true => (buckets / 2, if distance > 0 { buckets / 2 } else { 0 }),
            false => (buckets, 0),
        };
        let steps = match self.is_bidirectional {
            true => distance.unsigned_abs() as usize,
            false => distance.min(0).unsigned_abs() as usize,
        };
        let exact = ranges / 2;
        let range = if steps < exact {
            steps
        } else {
            // In single precision, as the authors' code.
            let ratio = (steps as f32 / exact as f32).ln() / (self.max_distance as f64 / exact as f64).ln() as f32;
            (exact + (ratio * (ranges - exact) as f32) as usize).min(ranges - 1)
        };
        (first + range) as i32
    }
}
