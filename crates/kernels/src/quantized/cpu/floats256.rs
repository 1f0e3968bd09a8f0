//! Unpacking of 16-bit floats with AVX2 and F16C, eight at a time. Their products are plain loops that the compiler vectorizes.

use std::arch::x86_64::*;

use crate::quantized::WeightType;

/// Numbers of a vector.
const LANES: usize = 8;

/// The values of a row of halves.
pub(super) fn unpack(kind: WeightType, bytes: &[u8], values: &mut [f32]) {
    assert!(bytes.len() == 2 * values.len(), "a row is not as long as its width");
    let whole = values.len() / LANES * LANES;
    let (vectors, rest) = values.split_at_mut(whole);
    // SAFETY: this function is only called where AVX2 and F16C are present, and the assertion keeps all reads within the row.
    unsafe {
        match kind {
            WeightType::F16 => unpack_of::<true>(bytes.as_ptr(), vectors),
            _ => unpack_of::<false>(bytes.as_ptr(), vectors),
        }
    }
    kind.decode(&bytes[2 * whole..], rest);
}

/// F16, or else BF16, which is the upper half of single precision.
///
/// # Safety
///
/// As many halves must be readable as there are values, which must be whole vectors.
#[target_feature(enable = "avx2,f16c")]
unsafe fn unpack_of<const IS_F16: bool>(bytes: *const u8, values: &mut [f32]) {
    for from in (0..values.len()).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let halves = _mm_loadu_si128(bytes.add(2 * from).cast());
            let numbers = if IS_F16 {
                _mm256_cvtph_ps(halves)
            } else {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            };
            _mm256_storeu_ps(values.as_mut_ptr().add(from), numbers);
        }
    }
}
