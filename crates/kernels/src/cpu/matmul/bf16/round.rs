//! Rounding to bfloat16.

use half::bf16;

use super::Instructions;
use crate::cpu::{parallel, uninitialized};

/// Numbers that one task rounds.
const CHUNK: usize = 1 << 15;

/// The nearest number of bfloat16, of two equally near ones the even one, as `vcvtneps2bf16` does it: numbers too small
/// for full precision become zero, and what is not a number stays so.
pub(crate) fn round(x: f32) -> bf16 {
    if x.is_subnormal() {
        return bf16::from_f32(0.0_f32.copysign(x));
    }
    bf16::from_f32(x)
}

/// Rounds with all threads.
#[allow(clippy::uninit_vec)]
pub(crate) fn rounded(x: &[f32]) -> Vec<bf16> {
    let mut out: Vec<bf16> = Vec::with_capacity(x.len());
    // SAFETY: the capacity is there, every bit pattern is a number, and each is written below before it is read.
    unsafe {
        out.set_len(x.len());
    }
    let parts = parallel::Parts::new(&mut out);
    parallel::for_each(x.len().div_ceil(CHUNK), |task| {
        let x = &x[task * CHUNK..];
        let x = &x[..x.len().min(CHUNK)];
        // SAFETY: tasks have different parts.
        let out = unsafe { parts.part(task * CHUNK, x.len()) };
        // SAFETY: both slices have as many numbers.
        unsafe { round_all(Instructions::of_this_cpu(), x.as_ptr(), out.as_mut_ptr(), x.len()) };
    });
    out
}

/// The same numbers in single precision.
pub(crate) fn widened(x: &[bf16]) -> Vec<f32> {
    let mut out = uninitialized(x.len());
    parallel::elementwise(&mut out, |start, out| widen(&x[start..start + out.len()], out));
    out
}

vectorized! {
    /// Numbers of bfloat16 are the upper halves of those in single precision.
    fn widen<'a>(x: &'a [bf16], out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }
}

/// Rounds numbers where they are: the first half of their bytes holds the result.
pub(crate) fn round_in_place(x: &mut [f32]) {
    let ptr = x.as_mut_ptr();
    // SAFETY: the result takes half the bytes, from the front to the back.
    unsafe { round_all(Instructions::of_this_cpu(), ptr, ptr.cast(), x.len()) };
}

/// # Safety
///
/// Both pointers must reach over `len` numbers; `to` may begin where `from` does.
pub(super) unsafe fn round_all(instructions: Instructions, from: *const f32, to: *mut bf16, len: usize) {
    // SAFETY: instructions are chosen where the CPU has them; the rest is the caller's promise.
    unsafe {
        match instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Amx | Instructions::Avx512 => super::avx512::round(from, to, len),
            Instructions::Portable => {
                for i in 0..len {
                    to.add(i).write(round(from.add(i).read()));
                }
            }
        }
    }
}
