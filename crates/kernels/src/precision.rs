//! Mixed precision: matrix products of linear layers in half precision, everything around them in single precision.
//!
//! [`with_precision`] says for the time of a closure, and on its thread, what [`linear`](crate::linear),
//! [`linear_add`](crate::linear_add) and [`linear_transposed`](crate::linear_transposed) multiply in, as PyTorch's `autocast`
//! does.
//!
//! On the CPU bf16 has kernels of its own, which need a CPU that multiplies in it (AVX512-BF16 or AMX), also for the products of
//! attention and of [`linear_cross_entropy`](crate::linear_cross_entropy), and what operations keep for the backward pass is bf16.
//! Everything else (f16, and bf16 on a GPU) is casts around Burn's product of linear layers only.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device, FloatDType, Tensor, module};

use crate::KernelError;
use crate::cpu::matmul::bf16::Instructions;

/// What the products of linear layers are computed in. What goes in and comes out, weights and gradients included, is fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// 32-bit floats: 24 bits of precision, up to 3e38.
    #[default]
    Fp32,
    /// bfloat16: 8 bits of precision, up to 3e38.
    Bf16,
    /// IEEE 754 binary16: 11 bits of precision, up to 65504. Gradients need a loss scale, or the small ones become 0.
    F16,
}

thread_local! {
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::Fp32) };
}

/// Runs `work` with products in this precision; afterwards, also after a panic, it is what it was before. The backward pass of
/// what was computed inside is in the same precision, wherever it runs.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use taal_kernels::{Precision, linear, with_precision};
///
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0 + 2.0_f32.powi(-9)]], &device);
/// let one = Tensor::<2>::ones([1, 1], &device);
/// let product = |precision| with_precision(precision, || linear(x.clone(), one.clone(), None)).into_scalar::<f32>();
/// assert_eq!(product(Precision::F16), 1.0 + 2.0_f32.powi(-9));
/// assert_eq!(product(Precision::Bf16), 1.0); // 8 bits hold 1 + 2^-7 and nothing between
/// ```
pub fn with_precision<R>(precision: Precision, work: impl FnOnce() -> R) -> R {
    struct Restore(Precision);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(precision));
    work()
}

impl Precision {
    /// What holds on this thread now.
    pub fn current() -> Self {
        PRECISION.get()
    }

    /// Whether the device computes in it: with bf16, whether the CPU has instructions for it.
    pub fn is_supported(self, device: &Device) -> bool {
        if self == Self::Bf16 && *device == Device::flex() {
            return Instructions::of_this_cpu().is_native();
        }
        self.half()
            .is_none_or(|dtype| device.clone().inner().supports_dtype(dtype))
    }

    /// The type that operands are cast to, where they are.
    fn half(self) -> Option<FloatDType> {
        match self {
            Self::Fp32 => None,
            Self::Bf16 => Some(FloatDType::BF16),
            Self::F16 => Some(FloatDType::F16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Precision {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err(KernelError::UnknownPrecision { given: text.to_owned() }),
        }
    }
}

/// The type that products of this tensor are computed in, where that is not its own.
pub(crate) fn half_of<const D: usize>(x: &Tensor<D>) -> Option<FloatDType> {
    Precision::current().half().filter(|_| x.dtype() == DType::F32)
}

/// Whether products of this tensor are computed in bfloat16.
pub(crate) fn is_bf16<const D: usize>(x: &Tensor<D>) -> bool {
    half_of(x) == Some(FloatDType::BF16)
}

/// `x W (+ bias) (+ residual)`: the product in half precision, the sums in single precision.
///
/// The casts are steps of the graph, whose backward casts the gradient: both products of the backward pass are in half precision
/// too, and what is kept for them takes half the memory.
pub(crate) fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    half: FloatDType,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let product = module::linear(x.cast(half), weight.cast(half), None).cast(FloatDType::F32);
    let y = match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    };
    match residual {
        Some(residual) => residual + y,
        None => y,
    }
}
