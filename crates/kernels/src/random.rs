//! Randomness as a function of a key and an index, equal on every device and for every number of threads.
//!
//! The bits come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)
//! used as a counter: number `index` of key `key` is `mix(key + (index + 1) * GAMMA)`, so any number can be had
//! without those before it. Numbers are made on the host and moved to the device.

use burn::tensor::{Device, Shape, Tensor, TensorData};
use rayon::prelude::*;

/// The odd constant closest to 2^64 divided by the golden ratio: SplitMix64's step.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// How many numbers one task makes. Even, because normal numbers come in pairs; fixed, so that the work is cut
/// the same way whatever the number of threads.
const CHUNK: usize = 1 << 14;

/// The key of one purpose at one step of one run, for example `key(seed, step, "dropout/block-3")`.
///
/// Different purposes and steps give unrelated numbers; equal arguments always give equal numbers.
pub fn key(seed: u64, step: u64, purpose: &str) -> u64 {
    // FNV-1a, 64 bits: stable across platforms and releases, unlike std's hashers.
    let purpose = purpose.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    mix(mix(mix(seed.wrapping_add(GAMMA)) ^ step.wrapping_mul(GAMMA)).wrapping_add(mix(purpose)))
}

/// The key whose number `index` is number `start + index` of this one.
#[cfg(any(feature = "cubecl", test))]
pub(crate) fn key_from(key: u64, start: u64) -> u64 {
    key.wrapping_add(start.wrapping_mul(GAMMA))
}

/// Number `index` of the stream named by `key`: 64 uniform bits.
pub fn bits(key: u64, index: u64) -> u64 {
    mix(key.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// SplitMix64's finalizer: a bijection of 64 bits in which each input bit flips about half of the output bits.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The stream of one key, in order, for host code that draws one number after another (sampling a token).
///
/// ```
/// use taal_kernels::random::{Generator, key};
///
/// let mut generator = Generator::new(key(1337, 0, "sample"));
/// let draw = generator.uniform();
/// assert!((0.0..1.0).contains(&draw));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generator {
    key: u64,
    index: u64,
}

impl Generator {
    /// The stream of `key`, from its first number.
    pub fn new(key: u64) -> Self {
        Self { key, index: 0 }
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let value = bits(self.key, self.index);
        self.index = self.index.wrapping_add(1);
        value
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        unit_f64(self.next_u64())
    }

    /// Uniform in [0, 1), with 24 random bits.
    pub fn uniform_f32(&mut self) -> f32 {
        unit_f32(self.next_u64())
    }

    /// Uniform in `0..bound`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    /// A `bound` of 0 gives 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let threshold = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(bound);
            if wide as u64 >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// A normal number of mean 0 and standard deviation 1; takes two numbers from the stream.
    pub fn normal(&mut self) -> f64 {
        let (first, second) = (self.next_u64(), self.next_u64());
        box_muller(first, second).0
    }
}

/// Uniform numbers in `[low, high)` as a tensor of any rank.
pub fn uniform<const D: usize>(shape: [usize; D], low: f64, high: f64, key: u64, device: &Device) -> Tensor<D> {
    let values = uniform_values(shape.iter().product(), low, high, key);
    Tensor::from_data(TensorData::new(values, Shape::new(shape)), device)
}

/// Normal numbers of mean 0 and standard deviation `std` as a tensor of any rank (Box and Muller, 1958).
pub fn normal<const D: usize>(shape: [usize; D], std: f64, key: u64, device: &Device) -> Tensor<D> {
    let values = normal_values(shape.iter().product(), std, key);
    Tensor::from_data(TensorData::new(values, Shape::new(shape)), device)
}

// The loops are outside the generic functions, which are compiled with their caller: in a development build
// only this crate is optimized.

fn uniform_values(len: usize, low: f64, high: f64, key: u64) -> Vec<f32> {
    fill(len, |start, chunk| {
        for (offset, value) in chunk.iter_mut().enumerate() {
            let unit = f64::from(unit_f32(bits(key, start + offset as u64)));
            *value = (low + (high - low) * unit) as f32;
        }
    })
}

fn normal_values(len: usize, std: f64, key: u64) -> Vec<f32> {
    fill(len, |start, chunk| {
        for (pair, values) in chunk.chunks_mut(2).enumerate() {
            let index = start + 2 * pair as u64;
            let (first, second) = box_muller(bits(key, index), bits(key, index + 1));
            values[0] = (std * first) as f32;
            if let Some(value) = values.get_mut(1) {
                *value = (std * second) as f32;
            }
        }
    })
}

/// `len` numbers, made in fixed chunks by all threads; `make` gets the index of the chunk's first number.
pub(crate) fn fill(len: usize, make: impl Fn(u64, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = vec![0.0_f32; len];
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| make((chunk * CHUNK) as u64, values));
    values
}

/// Dropout's factors: 0 with a probability, otherwise what keeps the mean, a function of a key and an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    key: u64,
    threshold: u64,
    scale: f32,
}

impl Dropout {
    pub(crate) fn new(probability: f64, key: u64) -> Self {
        let probability = probability.clamp(0.0, 1.0);
        Self {
            key,
            threshold: (probability * (1_u64 << 32) as f64) as u64,
            scale: if probability < 1.0 {
                (1.0 / (1.0 - probability)) as f32
            } else {
                0.0
            },
        }
    }

    /// Key, threshold (an element is dropped where its 32 bits are below it) and the factor of those that are kept.
    #[cfg(feature = "cubecl")]
    pub(crate) fn parts(&self) -> (u64, u64, f32) {
        (self.key, self.threshold, self.scale)
    }

    /// The factor of one element. Elements 2i and 2i + 1 share 64 bits: 32 are plenty to compare with a probability.
    #[inline(always)]
    pub(crate) fn factor(&self, index: u64) -> f32 {
        self.pair(index / 2)[(index % 2) as usize]
    }

    /// The factors of elements `2 * pair` and `2 * pair + 1`.
    #[inline(always)]
    pub(crate) fn pair(&self, pair: u64) -> [f32; 2] {
        let bits = mix(self.key.wrapping_add(pair.wrapping_add(1).wrapping_mul(GAMMA)));
        [bits & 0xFFFF_FFFF, bits >> 32].map(|half| if half < self.threshold { 0.0 } else { self.scale })
    }
}

fn unit_f64(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

fn unit_f32(bits: u64) -> f32 {
    (bits >> 40) as f32 * (1.0 / (1_u32 << 24) as f32)
}

fn box_muller(first: u64, second: u64) -> (f64, f64) {
    // 1 - u is in (0, 1], where the logarithm is finite.
    let radius = (-2.0 * (1.0 - unit_f64(first)).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit_f64(second)).sin_cos();
    (radius * cos, radius * sin)
}
