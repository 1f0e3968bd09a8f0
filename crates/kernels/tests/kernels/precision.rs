//! Linear layers in half precision against those in single precision, forwards and backwards, and where the choice holds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use burn::tensor::{Device, FloatDType, Tensor};
use taal_kernels::{
    DeviceSpec, KernelError, Precision, linear, linear_add, linear_transposed, on_pool, random, with_precision,
};

/// What rounding to a type can change of a number, at most, over the number: half a unit of the last bit (8 and 11 bits).
const ROUNDOFF: [(Precision, FloatDType, f32); 2] = [
    (Precision::Bf16, FloatDType::BF16, 1.0 / 256.0),
    (Precision::F16, FloatDType::F16, 1.0 / 2048.0),
];
/// With f16 both operands, the result, and flex's partial sums of long products are rounded: (1 + u)^4 - 1 of the sum of the terms'
/// sizes, with a little for the squares of u. With bf16 only the operands are, so that it is 2 u.
const ROUNDINGS: [f32; 2] = [2.1, 4.1];
/// What the order of a sum in single precision can change, over the largest result.
const SUMS: f32 = 3e-6;
/// Below 2^-14 the numbers of f16 have one distance, 2^-24.
const SUBNORMAL: f32 = 1e-6;

/// Rows, width in, width out.
const SIZES: [[usize; 3]; 5] = [[1, 3, 1], [3, 17, 40], [40, 96, 3], [17, 257, 96], [257, 40, 17]];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Linear,
    Transposed,
    Add,
}

/// Result and gradients of input, weight, bias and residual.
struct Found {
    result: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

pub(super) fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn drawn(shape: [usize; 2], purpose: &str, device: &Device) -> Tensor<2> {
    let key = random::key(7, (shape[0] * shape[1]) as u64, purpose);
    random::normal(shape, 1.0, key, device)
}

/// Everything of one layer; with `is_absolute` of the sizes of all numbers, which bounds what roundings can add up to.
fn run(kind: Kind, [rows, d_input, d_output]: [usize; 3], is_absolute: bool) -> Found {
    let device = Device::flex().autodiff();
    let number = |shape: [usize; 2], purpose: &str| {
        let drawn = drawn(shape, purpose, &device);
        if is_absolute { drawn.abs() } else { drawn }
    };
    let x = number([rows, d_input], "x").require_grad();
    let weight = match kind {
        Kind::Transposed => number([d_output, d_input], "weight").require_grad(),
        Kind::Linear | Kind::Add => number([d_input, d_output], "weight").require_grad(),
    };
    let bias = number([1, d_output], "bias")
        .reshape([d_output])
        .detach()
        .require_grad();
    let residual = number([rows, d_output], "residual").require_grad();
    // Two halves of a batch, so that the rank is not that of the weight.
    let wide = x.clone().unsqueeze::<3>();
    let y = match kind {
        Kind::Linear => linear(wide, weight.clone(), None),
        Kind::Transposed => linear_transposed(wide, weight.clone()),
        Kind::Add => linear_add(wide, weight.clone(), Some(bias.clone()), residual.clone().unsqueeze()),
    };
    let slope = number([rows, d_output], "slope").unsqueeze::<3>();
    // Outside of the precision that the caller chose: the backward pass must not look at it.
    let gradients = with_precision(Precision::Fp32, || (y.clone() * slope).sum().backward());
    let mut found = vec![x.grad(&gradients).map(values), weight.grad(&gradients).map(values)];
    if kind == Kind::Add {
        found.extend([bias.grad(&gradients).map(values), residual.grad(&gradients).map(values)]);
    }
    Found {
        result: values(y),
        gradients: found
            .into_iter()
            .map(|gradient| gradient.expect("a gradient"))
            .collect(),
    }
}

#[test]
fn half_precision_is_within_its_roundoff_forwards_and_backwards() {
    for sizes in SIZES {
        for kind in [Kind::Linear, Kind::Transposed, Kind::Add] {
            let expected = run(kind, sizes, false);
            let sizes_of_terms = run(kind, sizes, true);
            for ((precision, _, roundoff), roundings) in ROUNDOFF.into_iter().zip(ROUNDINGS) {
                let found = with_precision(precision, || run(kind, sizes, false));
                let near = |what: &str, found: &[f32], expected: &[f32], terms: &[f32]| {
                    assert_eq!(found.len(), expected.len());
                    for ((found, expected), terms) in found.iter().zip(expected).zip(terms) {
                        let allowed = roundings * roundoff * terms + SUBNORMAL;
                        assert!(
                            (found - expected).abs() <= allowed,
                            "{precision}, {sizes:?}, {what}: {found} is not {expected}, allowed {allowed}"
                        );
                    }
                };
                near("result", &found.result, &expected.result, &sizes_of_terms.result);
                for (i, gradient) in found.gradients.iter().enumerate() {
                    let what = format!("gradient {i}");
                    near(&what, gradient, &expected.gradients[i], &sizes_of_terms.gradients[i]);
                }
            }
        }
    }
}

/// So the test above did not compare single precision with itself.
#[test]
fn products_and_their_gradients_in_f16_are_numbers_of_that_type() {
    let is_half = |numbers: &[f32]| {
        let x = Tensor::<1>::from_floats(numbers, &Device::flex());
        values(x.cast(FloatDType::F16).cast(FloatDType::F32)) == numbers
    };
    let in_f16 = |kind| with_precision(Precision::F16, || run(kind, [17, 40, 96], false));
    for kind in [Kind::Linear, Kind::Transposed] {
        let found = in_f16(kind);
        assert!(is_half(&found.result) && found.gradients.iter().all(|gradient| is_half(gradient)));
    }
    // Bias and residual are added in single precision, and their gradients pass no product.
    let found = in_f16(Kind::Add);
    let fp32 = run(Kind::Add, [17, 40, 96], false);
    let product = in_f16(Kind::Linear).result;
    let bias = values(drawn([1, 96], "bias", &Device::flex()));
    let residual = values(drawn([17, 96], "residual", &Device::flex()));
    let sums = product
        .iter()
        .enumerate()
        .map(|(i, x)| residual[i] + (x + bias[i % 96]));
    assert_eq!(found.result, sums.collect::<Vec<f32>>());
    assert!(is_half(&found.gradients[0]) && is_half(&found.gradients[1]));
    assert_eq!(found.gradients[3], fp32.gradients[3]);
}

/// Products and sums in single precision of what was rounded first: operands, and gradients on their way back.
#[test]
fn products_in_bf16_are_those_of_rounded_operands_in_fp32() {
    let round = |x: Tensor<2>| x.cast(FloatDType::BF16).cast(FloatDType::F32);
    for [rows, d_input, d_output] in SIZES {
        let sizes = [rows, d_input, d_output];
        let device = Device::flex();
        let drawn = |shape, purpose: &str| drawn(shape, purpose, &device);
        let (x, slope) = (drawn([rows, d_input], "x"), drawn([rows, d_output], "slope"));
        for kind in [Kind::Linear, Kind::Transposed, Kind::Add] {
            let weight = match kind {
                Kind::Transposed => drawn([d_output, d_input], "weight").transpose(),
                Kind::Linear | Kind::Add => drawn([d_input, d_output], "weight"),
            };
            let dweight = round(x.clone()).transpose().matmul(round(slope.clone()));
            let dweight = match kind {
                Kind::Transposed => dweight.transpose(),
                Kind::Linear | Kind::Add => dweight,
            };
            let mut y = round(x.clone()).matmul(round(weight.clone()));
            let mut expected = vec![round(slope.clone()).matmul(round(weight).transpose()), dweight];
            if kind == Kind::Add {
                let bias = drawn([1, d_output], "bias");
                y = y + bias + drawn([rows, d_output], "residual");
                // Neither passes a product, so neither is rounded.
                expected.extend([slope.clone().sum_dim(0), slope.clone()]);
            }
            let found = with_precision(Precision::Bf16, || run(kind, sizes, false));
            let near = |found: &[f32], expected: Tensor<2>| {
                let expected = values(expected);
                let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
                for (found, expected) in found.iter().zip(&expected) {
                    let allowed = SUMS * largest;
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{sizes:?}: {found} is not {expected}"
                    );
                }
            };
            near(&found.result, y);
            for (found, expected) in found.gradients.iter().zip(expected) {
                near(found, expected);
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_visible_in_bf16() {
    let device = Device::flex();
    let x = drawn([40, 33], "x", &device).slice_fill([39..40, 32..33], f32::NAN);
    let weight = drawn([33, 65], "weight", &device);
    let y = values(with_precision(Precision::Bf16, || linear(x, weight, None)));
    assert!(y[39 * 65..].iter().all(|y| y.is_nan()) && y[..39 * 65].iter().all(|y| y.is_finite()));
}

#[test]
fn fp32_changes_no_bit() {
    for kind in [Kind::Linear, Kind::Transposed, Kind::Add] {
        let without = run(kind, [17, 96, 40], false);
        let with = with_precision(Precision::F16, || {
            with_precision(Precision::Fp32, || run(kind, [17, 96, 40], false))
        });
        let bits = |found: &Found| -> Vec<u32> {
            let all = found.result.iter().chain(found.gradients.iter().flatten());
            all.map(|x| x.to_bits()).collect()
        };
        assert_eq!(bits(&with), bits(&without));
    }
}

#[test]
fn the_precision_holds_inside_and_is_what_it_was_afterwards() {
    assert_eq!(Precision::current(), Precision::Fp32);
    with_precision(Precision::F16, || {
        assert_eq!(Precision::current(), Precision::F16);
        with_precision(Precision::Bf16, || assert_eq!(Precision::current(), Precision::Bf16));
        assert_eq!(Precision::current(), Precision::F16);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            with_precision(Precision::Fp32, || panic!("on purpose"))
        }));
        assert!(panicked.is_err());
        assert_eq!(Precision::current(), Precision::F16);
        // Another thread's work is its own.
        let other = std::thread::spawn(Precision::current).join().unwrap();
        assert_eq!(other, Precision::Fp32);
    });
    assert_eq!(Precision::current(), Precision::Fp32);
}

#[test]
fn work_on_the_pool_has_its_callers_precision_and_not_that_of_the_work_around_it() {
    let device = DeviceSpec::Flex.open().unwrap();
    let on_the_pool = || on_pool(&device, Precision::current);
    assert_eq!(with_precision(Precision::Bf16, on_the_pool), Precision::Bf16);
    // A thread of the pool that waits may begin other work in the middle of its own. Here all of them do.
    let (waiting, is_done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            rayon::broadcast(|_| {
                with_precision(Precision::F16, || {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    while !is_done.load(Ordering::SeqCst) {
                        rayon::yield_now();
                    }
                });
            });
        });
        while waiting.load(Ordering::SeqCst) < rayon::current_num_threads() {
            std::thread::yield_now();
        }
        let found = on_the_pool();
        is_done.store(true, Ordering::SeqCst);
        found
    });
    assert_eq!(found, Precision::Fp32);
}

/// Whether the CPU has AVX512-BF16; one with AMX has it too.
fn is_bf16_native() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[test]
fn a_precision_has_a_name_and_a_device_says_whether_it_has_it() {
    for (name, precision) in [
        ("fp32", Precision::Fp32),
        ("bf16", Precision::Bf16),
        ("f16", Precision::F16),
    ] {
        assert_eq!(name.parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.to_string(), name);
        let is_native = precision != Precision::Bf16 || is_bf16_native();
        assert_eq!(precision.is_supported(&Device::flex().autodiff()), is_native);
    }
    let error = "half".parse::<Precision>().unwrap_err();
    assert!(matches!(error, KernelError::UnknownPrecision { .. }) && error.is_usage());
    assert_eq!(
        error.to_string(),
        "unknown precision \"half\": expected fp32, bf16 or f16"
    );
    let ndarray = DeviceSpec::NdArray.open();
    if let Ok(ndarray) = ndarray {
        assert!(Precision::Fp32.is_supported(&ndarray) && !Precision::F16.is_supported(&ndarray));
    }
}
