//! Dropout whose factors are drawn on the device: the numbers of [`random::Dropout`], bit for bit.
//!
//! The generator works with 64 bits, which WGSL lacks, so each number is two halves.

// The products wrap, as they are to: the compiler sees them in an example that the macro makes of the kernel.
#![allow(arithmetic_overflow)]

use burn::tensor::Tensor as BurnTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::autodiff::{Fused, Input, apply};
use crate::gpu::{empty_like, launch_over};
use crate::random;

/// The upper half of a product of 32 bits each.
#[cube]
fn high_product(a: u32, b: u32) -> u32 {
    let a_low = a & 0xFFFFu32;
    let a_high = a >> 16u32;
    let b_low = b & 0xFFFFu32;
    let b_high = b >> 16u32;
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 16u32);
    let middle_low = a_low * b_high + (middle & 0xFFFFu32);
    a_high * b_high + (middle >> 16u32) + (middle_low >> 16u32)
}

/// The upper half of the lower 64 bits of a product of 64 bits each; the lower half is `a_low * b_low`.
#[cube]
fn wide_product_high(a_high: u32, a_low: u32, b_high: u32, b_low: u32) -> u32 {
    high_product(a_low, b_low) + a_low * b_high + a_high * b_low
}

/// `x * factor` of dropout for two neighboring elements per thread: SplitMix64 of `key + (pair + 1) * GAMMA`.
#[cube(launch)]
fn times_factors(
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
    count: usize,
    key_high: u32,
    key_low: u32,
    threshold: u32,
    is_all: u32,
    scale: f32,
) {
    let element = ABSOLUTE_POS * 2;
    if element >= count {
        terminate!();
    }
    let index = (ABSOLUTE_POS as u32) + 1u32;
    // key + index * GAMMA
    let step_low = index * 0x7F4A_7C15u32;
    let step_high = wide_product_high(0u32, index, 0x9E37_79B9u32, 0x7F4A_7C15u32);
    let mut low = key_low + step_low;
    let mut high = key_high + step_high;
    if low < step_low {
        high += 1u32;
    }
    // z ^= z >> 30
    let shifted_low = (low >> 30u32) | (high << 2u32);
    let shifted_high = high >> 30u32;
    low ^= shifted_low;
    high ^= shifted_high;
    // z *= 0xBF58_476D_1CE4_E5B9
    high = wide_product_high(high, low, 0xBF58_476Du32, 0x1CE4_E5B9u32);
    low *= 0x1CE4_E5B9u32;
    // z ^= z >> 27
    let shifted_low = (low >> 27u32) | (high << 5u32);
    let shifted_high = high >> 27u32;
    low ^= shifted_low;
    high ^= shifted_high;
    // z *= 0x94D0_49BB_1331_11EB
    high = wide_product_high(high, low, 0x94D0_49BBu32, 0x1331_11EBu32);
    low *= 0x1331_11EBu32;
    // z ^= z >> 31
    let shifted_low = (low >> 31u32) | (high << 1u32);
    let shifted_high = high >> 31u32;
    low ^= shifted_low;
    high ^= shifted_high;

    if low < threshold || is_all == 1u32 {
        y[element] = 0.0f32;
    } else {
        y[element] = x[element] * scale;
    }
    if element + 1 < count {
        if high < threshold || is_all == 1u32 {
            y[element + 1] = 0.0f32;
        } else {
            y[element + 1] = x[element + 1] * scale;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Drop {
    dropout: random::Dropout,
}

impl Drop {
    fn times_factors(&self, x: CubeTensor) -> CubeTensor {
        let x = into_contiguous(x);
        let count = x.meta.num_elements();
        let y = empty_like(&x, x.meta.shape().clone(), x.dtype);
        let (cubes, cube) = launch_over(count.div_ceil(2), &x);
        let (key, threshold, scale) = self.dropout.parts();
        times_factors::launch(
            &x.client,
            cubes,
            cube,
            x.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            count,
            (key >> 32) as u32,
            key as u32,
            // A probability of 1 has the threshold 2^32, which needs a word of its own.
            u32::try_from(threshold).unwrap_or(u32::MAX),
            u32::from(threshold > u64::from(u32::MAX)),
            scale,
        );
        y
    }
}

impl Fused<1, CubeBackend> for Drop {
    const NAMES: [&'static str; 2] = ["dropout", "dropout backward"];

    type Saved = ();

    fn forward(&self, [x]: [CubeTensor; 1], _is_tracked: bool) -> (CubeTensor, Option<()>) {
        (self.times_factors(x), Some(()))
    }

    fn backward(&self, (): (), gradient: CubeTensor, _wanted: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(self.times_factors(gradient))]
    }
}

/// `x` with elements dropped.
pub(crate) fn dropout<const D: usize>(x: BurnTensor<D>, probability: f64, key: u64) -> BurnTensor<D> {
    let dropout = random::Dropout::new(probability, key);
    apply(Drop { dropout }, [Input::new(x)])
}
