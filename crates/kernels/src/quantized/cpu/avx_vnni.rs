//! Products of integers with AVX-VNNI, `vpdpbusd` on 32 bytes, on CPUs that do not have it on 64: all but the dot product is that of AVX2.

use std::arch::x86_64::*;

use super::avx2::{self, AT_ONCE, for_kind_and_rows, for_rows, products};
use super::kinds::{Q4_0, Q4K, Q5K, Q6K, Q8_0, has_minimum};
use super::panel::{Line, MINIMUM, SCALE, SECOND_SCALE, STRIDE};
use super::{COLUMNS, ROWS};
use crate::quantized::activations::Activations;
use crate::quantized::blocks::{BLOCK, WeightType};

pub(super) fn is_present() -> bool {
    avx2::is_present() && is_x86_feature_detected!("avxvnni")
}

/// The dot products of four weights without a sign and four activations, added to the lanes of `sum`.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn dot(sum: __m256i, weights: __m256i, activations: __m256i) -> __m256i {
    _mm256_dpbusd_avx_epi32(sum, weights, activations)
}

products!("avx2,fma,f16c,avxvnni", true);
