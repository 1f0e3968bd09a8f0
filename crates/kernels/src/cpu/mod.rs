//! What the fused CPU kernels have in common. They work on slices of numbers and know no tensor.
//!
//! Loops are ordinary Rust, compiled once for each kind of vector unit (AVX-512, AVX2, NEON, none) by the
//! `pulp` crate, which chooses when the program runs. Work is cut into pieces whose size depends on the shapes alone,
//! and sums over pieces are added in order, so results do not depend on the number of threads.

/// Declares a function whose loops are compiled for the widest vectors of the CPU it runs on.
macro_rules! vectorized {
    ($(
        $(#[$meta:meta])*
        fn $name:ident<'a>($($argument:ident: $kind:ty),* $(,)?) $(-> $output:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name<'a>($($argument: $kind),*) $(-> $output)? {
            struct Operation<'a> {
                $($argument: $kind,)*
                lifetime: std::marker::PhantomData<&'a ()>,
            }
            impl<'a> pulp::WithSimd for Operation<'a> {
                type Output = vectorized!(@output $($output)?);

                #[inline(always)]
                #[allow(unused_mut)]
                fn with_simd<S: pulp::Simd>(self, _simd: S) -> Self::Output {
                    let Self { $(mut $argument,)* .. } = self;
                    $body
                }
            }
            $crate::cpu::dispatch(Operation { $($argument,)* lifetime: std::marker::PhantomData })
        }
    )*};
    (@output $output:ty) => { $output };
    (@output) => { () };
}

pub(crate) mod f16;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod parallel;

use pulp::{Arch, WithSimd};

pub(crate) use vectorized;

/// Runs an operation compiled for the widest vectors this CPU has.
#[inline]
pub(crate) fn dispatch<Op: WithSimd>(operation: Op) -> Op::Output {
    Arch::new().dispatch(operation)
}

/// Whether this CPU has vectors and fused multiply-add; without them the reference implementations are faster.
pub(crate) fn has_vectors() -> bool {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }
    dispatch(Lanes) > 1
}

/// Numbers that are all written before they are read.
#[allow(clippy::uninit_vec)]
pub(crate) fn uninitialized(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there, every bit pattern is a number, and callers write each element before it is read.
    unsafe { values.set_len(len) };
    values
}
