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
/// Both operands, the result, and flex's partial sums of long products are rounded: (1 + u)^4 - 1 of the sum of the terms' sizes,
/// with a little for the squares of u.
const ROUNDINGS: f32 = 4.1;
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

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
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
            for (precision, _, roundoff) in ROUNDOFF {
                let found = with_precision(precision, || run(kind, sizes, false));
                let near = |what: &str, found: &[f32], expected: &[f32], terms: &[f32]| {
                    assert_eq!(found.len(), expected.len());
                    for ((found, expected), terms) in found.iter().zip(expected).zip(terms) {
                        let allowed = ROUNDINGS * roundoff * terms + SUBNORMAL;
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
fn products_and_their_gradients_are_numbers_of_the_half_type() {
    for (precision, dtype, _) in ROUNDOFF {
        let is_half = |numbers: &[f32]| {
            let x = Tensor::<1>::from_floats(numbers, &Device::flex());
            values(x.cast(dtype).cast(FloatDType::F32)) == numbers
        };
        for kind in [Kind::Linear, Kind::Transposed] {
            let found = with_precision(precision, || run(kind, [17, 40, 96], false));
            assert!(is_half(&found.result), "{precision}");
            assert!(found.gradients.iter().all(|gradient| is_half(gradient)), "{precision}");
        }
        // Bias and residual are added in single precision, and their gradients pass no product.
        let found = with_precision(precision, || run(Kind::Add, [17, 40, 96], false));
        let fp32 = run(Kind::Add, [17, 40, 96], false);
        let product = with_precision(precision, || run(Kind::Linear, [17, 40, 96], false)).result;
        let bias = values(drawn([1, 96], "bias", &Device::flex()));
        let residual = values(drawn([17, 96], "residual", &Device::flex()));
        let sums = product
            .iter()
            .enumerate()
            .map(|(i, x)| residual[i] + (x + bias[i % 96]));
        assert_eq!(found.result, sums.collect::<Vec<f32>>(), "{precision}");
        assert!(
            is_half(&found.gradients[0]) && is_half(&found.gradients[1]),
            "{precision}"
        );
        assert_eq!(found.gradients[3], fp32.gradients[3], "{precision}");
    }
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

#[test]
fn a_precision_has_a_name_and_a_device_says_whether_it_has_it() {
    for (name, precision) in [
        ("fp32", Precision::Fp32),
        ("bf16", Precision::Bf16),
        ("f16", Precision::F16),
    ] {
        assert_eq!(name.parse::<Precision>().unwrap(), precision);
        assert_eq!(precision.to_string(), name);
        assert!(precision.is_supported(&Device::flex().autodiff()));
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
