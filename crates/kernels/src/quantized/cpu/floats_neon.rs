//! Unpacking of 16-bit floats with NEON, eight at a time. Their products are plain loops that the compiler vectorizes.

use std::arch::aarch64::*;

use crate::quantized::WeightType;

/// Numbers that are unpacked at a time.
const LANES: usize = 8;

/// The values of a row of halves.
pub(super) fn unpack(kind: WeightType, bytes: &[u8], values: &mut [f32]) {
    assert!(bytes.len() == 2 * values.len(), "a row is not as long as its width");
    let whole = values.len() / LANES * LANES;
    let (vectors, rest) = values.split_at_mut(whole);
    // SAFETY: this function is only called where NEON is present, and the assertion keeps all reads within the row.
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
#[target_feature(enable = "neon")]
unsafe fn unpack_of<const IS_F16: bool>(bytes: *const u8, values: &mut [f32]) {
    for from in (0..values.len()).step_by(LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let halves = vreinterpretq_u16_u8(vld1q_u8(bytes.add(2 * from)));
            let out = values.as_mut_ptr().add(from);
            vst1q_f32(out, numbers::<IS_F16>(vget_low_u16(halves)));
            vst1q_f32(out.add(LANES / 2), numbers::<IS_F16>(vget_high_u16(halves)));
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn numbers<const IS_F16: bool>(halves: uint16x4_t) -> float32x4_t {
    if IS_F16 {
        vcvt_f32_f16(vreinterpret_f16_u16(halves))
    } else {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
    }
}
