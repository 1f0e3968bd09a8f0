//! Every fused CPU kernel against its reference implementation: results and every gradient, at odd sizes, with masks on and
//! off, far out; the reference implementations against finite differences in double precision; and equal bits for every
//! number of threads.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use taal_kernels::{
    AdamWStep, AttentionMask, AttentionSettings, IGNORE_INDEX, MuonMatrix, MuonStep, Projection, Segments, profile,
    random, reference,
};

/// The largest difference, relative to the largest number of a tensor, that is put down to the order of sums.
const TOLERANCE: f32 = 3e-5;
/// Tensors whose largest number is below this are held to the same absolute difference: the inputs are of size 1, and
/// where a result is 0 but for rounding, both implementations give nothing but rounding.
const SMALLEST_SCALE: f32 = 1e-1;
/// The same between a gradient and finite differences in double precision.
const FINITE_DIFFERENCE_TOLERANCE: f64 = 2e-6;
/// Sizes that fill no vector, exactly one, and several with a rest.
const SIZES: [usize; 6] = [1, 3, 17, 40, 96, 257];

/// An operation of flat inputs with a flat result.
pub(super) type Operation<'a> = &'a dyn Fn(&[Tensor<1>]) -> Tensor<1>;

pub(super) fn normal(count: usize, purpose: &str) -> Vec<f32> {
    let values = random::normal([count], 1.0, random::key(7, count as u64, purpose), &Device::flex());
    values.into_data().iter::<f32>().collect()
}

/// The result, and the gradient of each input of a weighted sum of it.
pub(super) fn differentiate(inputs: &[Vec<f32>], operation: Operation<'_>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = Device::flex().autodiff();
    let leaves: Vec<Tensor<1>> = inputs
        .iter()
        .map(|values| Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), &device).require_grad())
        .collect();
    let result = operation(&leaves);
    let weights = normal(result.dims()[0], "weights of the sum");
    let weights = Tensor::<1>::from_data(TensorData::new(weights.clone(), [weights.len()]), &device);
    let gradients = (result.clone() * weights).sum().backward();
    let values = |x: Tensor<1>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
    let found = leaves
        .iter()
        .map(|leaf| leaf.grad(&gradients).map(values).unwrap_or_default())
        .collect();
    (values(result), found)
}

#[track_caller]
pub(super) fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let allowed = TOLERANCE * largest.max(SMALLEST_SCALE);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= allowed,
            "{what}, element {i}: {found} is not {expected} (largest {largest})"
        );
    }
}

/// Runs both and compares; the first must really have been fused.
#[track_caller]
pub(super) fn assert_equals_reference(name: &str, inputs: &[Vec<f32>], fused: Operation<'_>, reference: Operation<'_>) {
    let (result, gradients) = differentiate(inputs, fused);
    let (expected, expected_gradients) = differentiate(inputs, reference);
    assert_near(name, &result, &expected);
    for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_near(&format!("{name}, gradient of input {i}"), found, expected);
    }
}

/// Compares the gradient of a reference implementation, computed in double precision, with central differences.
#[track_caller]
fn assert_finite_differences(name: &str, inputs: &[Vec<f32>], operation: Operation<'_>) {
    const H: f64 = 1e-5;
    let device = Device::flex().autodiff();
    let tensor = |values: &[f64]| -> Tensor<1> {
        Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), (&device, DType::F64))
    };
    let mut values: Vec<Vec<f64>> = inputs
        .iter()
        .map(|x| x.iter().map(|x| f64::from(*x)).collect())
        .collect();
    let loss = |values: &[Vec<f64>]| -> (Tensor<1>, Vec<Tensor<1>>) {
        let leaves: Vec<Tensor<1>> = values.iter().map(|x| tensor(x).require_grad()).collect();
        let result = operation(&leaves);
        assert_eq!(result.dtype(), DType::F64, "{name} leaves double precision");
        let weights: Vec<f64> = normal(result.dims()[0], "weights of the sum")
            .iter()
            .map(|x| f64::from(*x))
            .collect();
        ((result * tensor(&weights)).sum(), leaves)
    };
    let scalar = |x: Tensor<1>| -> f64 { x.into_data().iter::<f64>().next().unwrap() };
    let (total, leaves) = loss(&values);
    let gradients = total.backward();
    for (input, leaf) in leaves.iter().enumerate() {
        let gradient: Vec<f64> = leaf.grad(&gradients).unwrap().into_data().iter::<f64>().collect();
        let largest = gradient.iter().fold(1e-3_f64, |max, x| max.max(x.abs()));
        for i in 0..gradient.len() {
            let x = values[input][i];
            values[input][i] = x + H;
            let above = scalar(loss(&values).0);
            values[input][i] = x - H;
            let below = scalar(loss(&values).0);
            values[input][i] = x;
            let expected = (above - below) / (2.0 * H);
            assert!(
                (gradient[i] - expected).abs() <= FINITE_DIFFERENCE_TOLERANCE * largest,
                "{name}, input {input}, element {i}: {} is not {expected}",
                gradient[i]
            );
        }
    }
}

/// The bits of results and gradients with one, two and four threads.
#[track_caller]
pub(super) fn assert_same_bits_for_any_threads(
    name: &str,
    inputs: &[Vec<f32>],
    operation: impl Fn(&[Tensor<1>]) -> Tensor<1> + Sync,
) {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| differentiate(inputs, &operation))
    };
    let bits = |(result, gradients): (Vec<f32>, Vec<Vec<f32>>)| -> Vec<Vec<u32>> {
        let all = std::iter::once(result).chain(gradients);
        all.map(|values| values.into_iter().map(f32::to_bits).collect())
            .collect()
    };
    let one = bits(with(1));
    assert!(bits(with(2)) == one, "{name} differs between one thread and two");
    assert!(bits(with(4)) == one, "{name} differs between one thread and four");
}

#[test]
fn the_public_functions_use_the_fused_kernels_on_flex() {
    profile::start();
    let x = Tensor::<2>::ones([4, 8], &Device::flex());
    let _ = taal_kernels::gelu(x.clone());
    let _ = reference::silu(x.clone());
    let mask = AttentionMask::of_keys(&[2], 4, 3, &Device::flex());
    let keys_values = Tensor::ones([1, 3, 16], &Device::flex());
    let _ = taal_kernels::projected_cross_attention(
        x.clone().unsqueeze::<3>(),
        keys_values,
        2,
        &mask,
        &AttentionSettings::default(),
    );
    let names: Vec<_> = profile::stop().into_iter().map(|(name, _)| name).collect();
    if std::env::var_os("TAAL_PLAIN_KERNELS").is_none() {
        assert!(names.contains(&"activation"), "{names:?}");
        assert!(names.contains(&"cross-attention"), "{names:?}");
    }
    // Double precision is left to Burn.
    let wide = x.cast(DType::F64);
    assert_eq!(taal_kernels::gelu(wide).dtype(), DType::F64);
}

#[test]
fn gradient_checkpointing_changes_no_gradient() {
    let gradient = |device: &Device| -> Vec<f32> {
        let x = Tensor::<2>::from_data(TensorData::new(normal(12 * 8, "x"), [12, 8]), device).require_grad();
        let weight = Tensor::<2>::from_data(TensorData::new(normal(8 * 8, "weight"), [8, 8]), device);
        // Burn's own exponential between two fused operations is what gets recomputed.
        let y = taal_kernels::linear(taal_kernels::gelu(x.clone()).exp(), weight, None);
        let gradients = taal_kernels::silu(y).sum().backward();
        x.grad(&gradients).unwrap().into_data().iter::<f32>().collect()
    };
    let device = Device::flex().autodiff();
    assert_eq!(gradient(&device.clone().gradient_checkpointing()), gradient(&device));
}

mod activations {
    use super::*;

    type Function = (&'static str, fn(Tensor<1>) -> Tensor<1>, fn(Tensor<1>) -> Tensor<1>);
    const FUNCTIONS: [Function; 4] = [
        ("gelu", taal_kernels::gelu, reference::gelu),
        ("gelu_tanh", taal_kernels::gelu_tanh, reference::gelu_tanh),
        ("silu", taal_kernels::silu, reference::silu),
        ("relu_squared", taal_kernels::relu_squared, reference::relu_squared),
    ];

    #[test]
    fn equal_their_references_at_odd_sizes() {
        for size in SIZES {
            let x = [normal(size, "x").iter().map(|x| 3.0 * x).collect()];
            for (name, fused, reference) in FUNCTIONS {
                assert_equals_reference(name, &x, &|x| fused(x[0].clone()), &|x| reference(x[0].clone()));
            }
        }
    }

    #[test]
    fn equal_their_references_far_out_and_for_denormals() {
        let x = [vec![
            0.0, -0.0, 1e-40, -1e-40, 1e-20, -12.0, 12.0, -80.0, 80.0, -1e4, 1e4,
        ]];
        for (name, fused, reference) in FUNCTIONS {
            let (result, gradients) = differentiate(&x, &|x| fused(x[0].clone()));
            assert!(
                result.iter().chain(&gradients[0]).all(|x| x.is_finite()),
                "{name}: {result:?} {gradients:?}"
            );
            assert_equals_reference(name, &x, &|x| fused(x[0].clone()), &|x| reference(x[0].clone()));
        }
    }

    #[test]
    fn gates_equal_their_references() {
        for size in SIZES {
            let inputs = [normal(size, "gate"), normal(size, "up")];
            assert_equals_reference(
                "swiglu",
                &inputs,
                &|x| taal_kernels::swiglu(x[0].clone(), x[1].clone()),
                &|x| reference::swiglu(x[0].clone(), x[1].clone()),
            );
            assert_equals_reference(
                "geglu",
                &inputs,
                &|x| taal_kernels::geglu(x[0].clone(), x[1].clone()),
                &|x| reference::geglu(x[0].clone(), x[1].clone()),
            );
            assert_equals_reference(
                "geglu with the approximation",
                &inputs,
                &|x| taal_kernels::geglu_tanh(x[0].clone(), x[1].clone()),
                &|x| reference::geglu_tanh(x[0].clone(), x[1].clone()),
            );
        }
    }

    #[test]
    fn references_have_the_gradient_of_finite_differences() {
        let x = [normal(17, "x")];
        // Squared ReLU has a kink in its slope at 0, far from these inputs.
        for (name, _, reference) in FUNCTIONS {
            assert_finite_differences(name, &x, &|x| reference(x[0].clone()));
        }
        let inputs = [normal(5, "gate"), normal(5, "up")];
        assert_finite_differences("swiglu", &inputs, &|x| reference::swiglu(x[0].clone(), x[1].clone()));
    }

    #[test]
    fn a_not_a_number_stays_visible() {
        for (name, fused, _) in FUNCTIONS {
            let x = Tensor::<1>::from_floats([f32::NAN, 1.0], &Device::flex());
            let y: Vec<f32> = fused(x).into_data().iter::<f32>().collect();
            assert!(y[0].is_nan() && y[1].is_finite(), "{name}: {y:?}");
        }
    }
}

mod norms {
    use super::*;

    fn reshape(x: &Tensor<1>, width: usize) -> Tensor<2> {
        let rows = x.dims()[0] / width;
        x.clone().reshape([rows, width])
    }

    #[test]
    fn equal_their_references_at_odd_sizes() {
        for rows in [1, 3, 40] {
            for width in SIZES {
                let inputs = [
                    normal(rows * width, "x"),
                    normal(width, "weight"),
                    normal(width, "bias"),
                ];
                assert_equals_reference(
                    &format!("layer_norm {rows} x {width}"),
                    &inputs,
                    &|x| {
                        taal_kernels::layer_norm(reshape(&x[0], width), x[1].clone(), Some(x[2].clone()), 1e-5)
                            .flatten(0, 1)
                    },
                    &|x| {
                        reference::layer_norm(reshape(&x[0], width), x[1].clone(), Some(x[2].clone()), 1e-5)
                            .flatten(0, 1)
                    },
                );
                assert_equals_reference(
                    &format!("rms_norm {rows} x {width}"),
                    &inputs[..2],
                    &|x| taal_kernels::rms_norm(reshape(&x[0], width), x[1].clone(), 1e-6).flatten(0, 1),
                    &|x| reference::rms_norm(reshape(&x[0], width), x[1].clone(), 1e-6).flatten(0, 1),
                );
            }
        }
    }

    #[test]
    fn references_have_the_gradient_of_finite_differences() {
        let inputs = [normal(3 * 5, "x"), normal(5, "weight"), normal(5, "bias")];
        assert_finite_differences("layer_norm", &inputs, &|x| {
            reference::layer_norm(reshape(&x[0], 5), x[1].clone(), Some(x[2].clone()), 1e-5).flatten(0, 1)
        });
        assert_finite_differences("rms_norm", &inputs[..2], &|x| {
            reference::rms_norm(reshape(&x[0], 5), x[1].clone(), 1e-6).flatten(0, 1)
        });
    }

    #[test]
    fn do_not_depend_on_the_number_of_threads() {
        let inputs = [normal(300 * 96, "x"), normal(96, "weight"), normal(96, "bias")];
        assert_same_bits_for_any_threads("layer_norm", &inputs, |x| {
            taal_kernels::layer_norm(reshape(&x[0], 96), x[1].clone(), Some(x[2].clone()), 1e-5).flatten(0, 1)
        });
    }
}

mod linear {
    use super::*;

    fn matrix(x: &Tensor<1>, columns: usize) -> Tensor<2> {
        let rows = x.dims()[0] / columns;
        x.clone().reshape([rows, columns])
    }

    #[test]
    fn equals_its_reference_at_odd_sizes_with_bias_and_residual() {
        for (m, k, n) in [
            (1, 3, 17),
            (3, 17, 1),
            (17, 40, 96),
            (40, 257, 3),
            (96, 96, 40),
            (257, 40, 65),
            (20, 800, 33),
        ] {
            let inputs = [
                normal(m * k, "x"),
                normal(k * n, "weight"),
                normal(n, "bias"),
                normal(m * n, "residual"),
            ];
            let name = format!("{m} x {k} x {n}");
            assert_equals_reference(
                &format!("linear {name}"),
                &inputs[..3],
                &|x| taal_kernels::linear(matrix(&x[0], k), matrix(&x[1], n), Some(x[2].clone())).flatten(0, 1),
                &|x| reference::linear(matrix(&x[0], k), matrix(&x[1], n), Some(x[2].clone())).flatten(0, 1),
            );
            assert_equals_reference(
                &format!("linear_add {name}"),
                &inputs,
                &|x| {
                    let [input, weight, residual] = [matrix(&x[0], k), matrix(&x[1], n), matrix(&x[3], n)];
                    taal_kernels::linear_add(input, weight, Some(x[2].clone()), residual).flatten(0, 1)
                },
                &|x| {
                    let [input, weight, residual] = [matrix(&x[0], k), matrix(&x[1], n), matrix(&x[3], n)];
                    reference::linear_add(input, weight, Some(x[2].clone()), residual).flatten(0, 1)
                },
            );
            assert_equals_reference(
                &format!("linear_transposed {name}"),
                &inputs[..2],
                &|x| taal_kernels::linear_transposed(matrix(&x[0], k), matrix(&x[1], k)).flatten(0, 1),
                &|x| reference::linear_transposed(matrix(&x[0], k), matrix(&x[1], k)).flatten(0, 1),
            );
        }
    }

    #[test]
    fn few_rows_without_gradient_equal_the_reference() {
        let device = Device::flex();
        for rows in [1, 2, 8] {
            for (k, n) in [(1, 1), (3, 40), (96, 257), (40, 2000)] {
                let tensor = |rows: usize, columns: usize, purpose: &str| -> Tensor<2> {
                    Tensor::from_data(
                        TensorData::new(normal(rows * columns, purpose), [rows, columns]),
                        &device,
                    )
                };
                let (x, weight, residual) = (
                    tensor(rows, k, "x"),
                    tensor(k, n, "weight"),
                    tensor(rows, n, "residual"),
                );
                let bias: Tensor<1> = Tensor::from_data(TensorData::new(normal(n, "bias"), [n]), &device);
                let values = |x: Tensor<2>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
                let found = taal_kernels::linear_add(x.clone(), weight.clone(), Some(bias.clone()), residual.clone());
                let expected = reference::linear_add(x.clone(), weight, Some(bias), residual);
                assert_near("few rows", &values(found), &values(expected));
                let weight = tensor(n, k, "transposed weight");
                let found = taal_kernels::linear_transposed(x.clone(), weight.clone());
                assert_near(
                    "few rows, transposed",
                    &values(found),
                    &values(reference::linear_transposed(x, weight)),
                );
            }
        }
    }

    #[test]
    fn weights_seen_through_a_view_are_read_right() {
        let inputs = [normal(17 * 40, "x"), normal(40 * 96, "weight")];
        let through_view = |x: &[Tensor<1>]| (matrix(&x[0], 40), matrix(&x[1], 40).transpose());
        assert_equals_reference(
            "a transposed view",
            &inputs,
            &|x| {
                let (x, weight) = through_view(x);
                taal_kernels::linear(x, weight, None).flatten(0, 1)
            },
            &|x| {
                let (x, weight) = through_view(x);
                reference::linear(x, weight, None).flatten(0, 1)
            },
        );
    }

    #[test]
    fn the_reference_has_the_gradient_of_finite_differences() {
        let inputs = [
            normal(6, "x"),
            normal(3 * 4, "weight"),
            normal(4, "bias"),
            normal(8, "residual"),
        ];
        assert_finite_differences("linear_add", &inputs, &|x| {
            let [input, weight, residual] = [matrix(&x[0], 3), matrix(&x[1], 4), matrix(&x[3], 4)];
            reference::linear_add(input, weight, Some(x[2].clone()), residual).flatten(0, 1)
        });
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() {
        for (m, k, n) in [(300, 96, 65), (257, 800, 192)] {
            let inputs = [normal(m * k, "x"), normal(k * n, "weight"), normal(n, "bias")];
            assert_same_bits_for_any_threads("linear", &inputs, |x| {
                taal_kernels::linear(matrix(&x[0], k), matrix(&x[1], n), Some(x[2].clone())).flatten(0, 1)
            });
        }
    }
}

mod losses {
    use super::*;

    fn targets(rows: usize, vocab: usize, ignores: bool, device: &Device) -> Tensor<1, Int> {
        let ids: Vec<i32> = (0..rows)
            .map(|i| {
                if ignores && i % 3 == 1 {
                    IGNORE_INDEX
                } else {
                    (i * 7 % vocab) as i32
                }
            })
            .collect();
        Tensor::from_data(TensorData::new(ids, [rows]), device)
    }

    #[test]
    fn cross_entropy_equals_its_reference() {
        for (rows, vocab) in [(1, 3), (3, 17), (40, 96), (17, 257), (300, 65)] {
            for (ignores, smoothing) in [(false, 0.0), (true, 0.0), (true, 0.1)] {
                let inputs = [normal(rows * vocab, "logits").iter().map(|x| 4.0 * x).collect()];
                assert_equals_reference(
                    &format!("cross_entropy {rows} x {vocab}"),
                    &inputs,
                    &|x| {
                        let logits = x[0].clone().reshape([rows, vocab]);
                        let targets = targets(rows, vocab, ignores, &logits.device());
                        taal_kernels::cross_entropy_smoothed(logits, targets, IGNORE_INDEX, smoothing)
                    },
                    &|x| {
                        let logits = x[0].clone().reshape([rows, vocab]);
                        let targets = targets(rows, vocab, ignores, &logits.device());
                        reference::cross_entropy_smoothed(logits, targets, IGNORE_INDEX, smoothing)
                    },
                );
            }
        }
    }

    #[test]
    fn linear_cross_entropy_equals_its_reference() {
        for (rows, width, vocab) in [(1, 3, 17), (40, 17, 96), (96, 40, 257)] {
            for is_transposed in [false, true] {
                let inputs = [normal(rows * width, "hidden"), normal(width * vocab, "weight")];
                let shape = if is_transposed { [vocab, width] } else { [width, vocab] };
                let parts = |x: &[Tensor<1>]| {
                    let hidden: Tensor<2> = x[0].clone().reshape([rows, width]);
                    let weight: Tensor<2> = x[1].clone().reshape(shape);
                    let targets = targets(rows, vocab, true, &hidden.device());
                    (hidden, weight, targets)
                };
                assert_equals_reference(
                    &format!("linear_cross_entropy {rows} x {width} x {vocab}"),
                    &inputs,
                    &|x| {
                        let (hidden, weight, targets) = parts(x);
                        taal_kernels::linear_cross_entropy(hidden, weight, is_transposed, targets, IGNORE_INDEX, 0.1)
                    },
                    &|x| {
                        let (hidden, weight, targets) = parts(x);
                        reference::linear_cross_entropy(hidden, weight, is_transposed, targets, IGNORE_INDEX, 0.1)
                    },
                );
            }
        }
    }

    #[test]
    fn huge_logits_stay_finite_and_divergence_stays_visible() {
        let device = Device::flex().autodiff();
        let loss = |logits: [f32; 3]| -> f32 {
            let logits = Tensor::<2>::from_floats([logits], &device);
            taal_kernels::cross_entropy(logits, Tensor::from_ints([0], &device), IGNORE_INDEX).into_scalar()
        };
        assert!((loss([-1e30, 1e30, 0.0]) - 2e30).abs() < 1e25);
        assert_eq!(loss([1e30, -1e30, 0.0]), 0.0);
        assert!(!loss([f32::NAN, 0.0, 0.0]).is_finite());
        assert!(!loss([f32::INFINITY, f32::INFINITY, 0.0]).is_finite());
        assert!(!loss([f32::NEG_INFINITY; 3]).is_finite());
    }

    #[test]
    fn the_reference_has_the_gradient_of_finite_differences() {
        let inputs = [normal(3 * 4, "hidden"), normal(4 * 5, "weight")];
        assert_finite_differences("linear_cross_entropy", &inputs, &|x| {
            let hidden: Tensor<2> = x[0].clone().reshape([3, 4]);
            let targets = targets(3, 5, true, &hidden.device());
            reference::linear_cross_entropy(hidden, x[1].clone().reshape([4, 5]), false, targets, IGNORE_INDEX, 0.1)
        });
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() {
        let inputs = [normal(300 * 40, "hidden"), normal(40 * 257, "weight")];
        assert_same_bits_for_any_threads("linear_cross_entropy", &inputs, |x| {
            let hidden: Tensor<2> = x[0].clone().reshape([300, 40]);
            let targets = targets(300, 257, true, &hidden.device());
            taal_kernels::linear_cross_entropy(
                hidden,
                x[1].clone().reshape([40, 257]),
                false,
                targets,
                IGNORE_INDEX,
                0.0,
            )
        });
    }
}

mod attentions {
    use super::*;

    /// The sizes of a case.
    #[derive(Clone, Copy, Debug)]
    struct Sizes {
        batch: usize,
        heads: usize,
        kv_heads: usize,
        q_len: usize,
        kv_len: usize,
        head_dim: usize,
        value_dim: usize,
    }

    impl Sizes {
        fn square(heads: usize, kv_heads: usize, len: usize, head_dim: usize) -> Self {
            Self {
                batch: 2,
                heads,
                kv_heads,
                q_len: len,
                kv_len: len,
                head_dim,
                value_dim: head_dim,
            }
        }

        fn inputs(&self) -> [Vec<f32>; 3] {
            [
                normal(self.batch * self.heads * self.q_len * self.head_dim, "q"),
                normal(self.batch * self.kv_heads * self.kv_len * self.head_dim, "k"),
                normal(self.batch * self.kv_heads * self.kv_len * self.value_dim, "v"),
            ]
        }

        fn tensors(&self, x: &[Tensor<1>]) -> [Tensor<4>; 3] {
            [
                x[0].clone()
                    .reshape([self.batch, self.heads, self.q_len, self.head_dim]),
                x[1].clone()
                    .reshape([self.batch, self.kv_heads, self.kv_len, self.head_dim]),
                x[2].clone()
                    .reshape([self.batch, self.kv_heads, self.kv_len, self.value_dim]),
            ]
        }
    }

    #[track_caller]
    fn check(sizes: Sizes, mask: &dyn Fn() -> AttentionMask, settings: AttentionSettings) {
        let name = format!(
            "{sizes:?} {settings:?} causal {} window {:?}",
            mask().is_causal(),
            mask().window()
        );
        assert_equals_reference(
            &name,
            &sizes.inputs(),
            &|x| {
                let [q, k, v] = sizes.tensors(x);
                taal_kernels::attention(q, k, v, &mask(), &settings).flatten(0, 3)
            },
            &|x| {
                let [q, k, v] = sizes.tensors(x);
                reference::attention(q, k, v, &mask(), &settings).0.flatten(0, 3)
            },
        );
    }

    fn mask(sizes: Sizes, is_causal: bool, window: Option<usize>) -> AttentionMask {
        AttentionMask::new(sizes.q_len, sizes.kv_len, is_causal, window, &Device::flex())
    }

    #[test]
    fn equals_its_reference_at_odd_lengths_causal_and_not() {
        for len in SIZES {
            let sizes = Sizes::square(2, 1, len, 17);
            for is_causal in [true, false] {
                check(sizes, &|| mask(sizes, is_causal, None), AttentionSettings::default());
            }
        }
    }

    #[test]
    fn equals_its_reference_at_odd_widths_and_groups() {
        for (heads, kv_heads, head_dim) in [(1, 1, 1), (4, 4, 3), (6, 2, 40), (4, 1, 96), (2, 2, 64)] {
            let sizes = Sizes::square(heads, kv_heads, 50, head_dim);
            check(sizes, &|| mask(sizes, true, None), AttentionSettings::default());
        }
    }

    #[test]
    fn equals_its_reference_with_windows_caps_biases_padding_and_a_scale() {
        let sizes = Sizes::square(4, 2, 75, 24);
        let with_bias = || {
            let bias = random::normal([1, 4, 75, 75], 1.0, 5, &Device::flex());
            mask(sizes, true, None).with_bias(bias)
        };
        let padded = || {
            // All of the second row's keys but the last two are padding, so with causality most queries see nothing.
            let hidden: Vec<bool> = (0..150).map(|i| (75..148).contains(&i)).collect();
            let padding = Tensor::from_data(TensorData::new(hidden, [2, 75]), &Device::flex());
            mask(sizes, true, None).with_padding(padding)
        };
        let capped = AttentionSettings {
            softcap: Some(1.5),
            ..Default::default()
        };
        for settings in [AttentionSettings::default(), capped] {
            for window in [1, 7, 48, 200] {
                check(sizes, &|| mask(sizes, true, Some(window)), settings);
                check(sizes, &|| mask(sizes, false, Some(window)), settings);
            }
            check(sizes, &with_bias, settings);
            check(sizes, &padded, settings);
        }
        check(
            sizes,
            &|| mask(sizes, true, None),
            AttentionSettings {
                scale: Some(0.7),
                ..Default::default()
            },
        );
    }

    #[test]
    fn equals_its_reference_with_dropout() {
        let sizes = Sizes::square(2, 1, 60, 16);
        let settings = AttentionSettings {
            dropout: Some((0.3, 99)),
            ..Default::default()
        };
        check(sizes, &|| mask(sizes, true, None), settings);
        let settings = AttentionSettings {
            softcap: Some(2.0),
            ..settings
        };
        check(sizes, &|| mask(sizes, false, None), settings);
    }

    #[test]
    fn equals_its_reference_with_fewer_queries_than_keys_and_other_value_widths() {
        for q_len in [1, 3, 5, 60] {
            let sizes = Sizes {
                batch: 2,
                heads: 4,
                kv_heads: 2,
                q_len,
                kv_len: 97,
                head_dim: 24,
                value_dim: 40,
            };
            check(sizes, &|| mask(sizes, true, None), AttentionSettings::default());
            check(sizes, &|| mask(sizes, true, Some(9)), AttentionSettings::default());
        }
    }

    #[test]
    fn queries_that_see_nothing_get_zeros_and_give_none_on() {
        let sizes = Sizes::square(1, 1, 5, 8);
        let nothing = || {
            let hidden = Tensor::<4>::full([1, 1, 5, 5], f32::NEG_INFINITY, &Device::flex());
            AttentionMask::from_additive(hidden)
        };
        let (result, gradients) = differentiate(&sizes.inputs(), &|x| {
            let [q, k, v] = sizes.tensors(x);
            taal_kernels::attention(q, k, v, &nothing(), &AttentionSettings::default()).flatten(0, 3)
        });
        assert!(result.iter().chain(gradients.iter().flatten()).all(|x| *x == 0.0));
    }

    #[test]
    fn large_scores_stay_finite() {
        let sizes = Sizes::square(2, 2, 40, 16);
        let inputs = sizes
            .inputs()
            .map(|x| x.into_iter().map(|x| 1e3 * x).collect::<Vec<f32>>());
        let (result, gradients) = differentiate(&inputs, &|x| {
            let [q, k, v] = sizes.tensors(x);
            taal_kernels::attention(q, k, v, &mask(sizes, true, None), &AttentionSettings::default()).flatten(0, 3)
        });
        assert!(result.iter().chain(gradients.iter().flatten()).all(|x| x.is_finite()));
    }

    #[test]
    fn decoding_reads_the_cache_as_the_reference_does() {
        for q_len in [1, 2, 4] {
            let sizes = Sizes {
                batch: 3,
                heads: 6,
                kv_heads: 2,
                q_len,
                kv_len: 130,
                head_dim: 40,
                value_dim: 40,
            };
            let tensors: Vec<Tensor<1>> = sizes
                .inputs()
                .into_iter()
                .map(|x| Tensor::from_data(TensorData::new(x.clone(), [x.len()]), &Device::flex()))
                .collect();
            let [q, k, v] = sizes.tensors(&tensors);
            for window in [None, Some(11)] {
                let mask = mask(sizes, true, window);
                let settings = AttentionSettings {
                    softcap: Some(3.0),
                    ..Default::default()
                };
                let found = taal_kernels::attention(q.clone(), k.clone(), v.clone(), &mask, &settings);
                let expected = reference::attention(q.clone(), k.clone(), v.clone(), &mask, &settings).0;
                let values = |x: Tensor<4>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
                assert_near("decoding", &values(found), &values(expected));
            }
        }
    }

    fn projection(
        x: &[Tensor<1>],
        heads: usize,
        kv_heads: usize,
        len: usize,
        head_dim: usize,
        with: [bool; 2],
    ) -> Projection {
        let angles = |purpose: &str| -> Tensor<2> {
            Tensor::from_data(
                TensorData::new(normal(len * head_dim, purpose), [len, head_dim]),
                &Device::flex(),
            )
        };
        Projection {
            n_heads: heads,
            n_kv_heads: kv_heads,
            norms: with[0].then(|| (x[1].clone(), x[2].clone(), 1e-6)),
            rotary: with[1].then(|| (angles("cos"), angles("sin"))),
        }
    }

    /// Two rows of texts of several lengths, other ones in each.
    fn segments(len: usize) -> Segments {
        let starts = |lengths: [usize; 3]| -> Vec<i32> {
            let mut starts = Vec::new();
            for length in lengths.into_iter().cycle() {
                let start = starts.len() as i32;
                starts.resize((starts.len() + length).min(len), start);
                if starts.len() == len {
                    return starts;
                }
            }
            starts
        };
        Segments::new(&[starts([1, 17, 60]), starts([9, 2, 33])].concat(), [2, len])
    }

    #[test]
    fn report_18_texts_that_share_a_row_equal_the_reference_implementation() {
        for len in [1, 3, 40, 75, 130] {
            let sizes = Sizes::square(4, 2, len, 24);
            for is_causal in [true, false] {
                for window in [None, Some(7)] {
                    let mask = || mask(sizes, is_causal, window).with_segments(segments(len));
                    check(sizes, &mask, AttentionSettings::default());
                    let capped = AttentionSettings {
                        softcap: Some(1.5),
                        dropout: Some((0.3, 9)),
                        ..Default::default()
                    };
                    check(sizes, &mask, capped);
                }
            }
        }
    }

    #[test]
    fn report_18_every_row_has_its_own_rotary_positions() {
        let (heads, kv_heads, len, head_dim) = (4, 2, 75, 16);
        let width = (heads + 2 * kv_heads) * head_dim;
        let inputs = [
            normal(2 * len * width, "qkv"),
            normal(head_dim, "q norm"),
            normal(head_dim, "k norm"),
        ];
        let mask = AttentionMask::new(len, len, true, None, &Device::flex()).with_segments(segments(len));
        let settings = AttentionSettings::default();
        let angles = |purpose: &str| -> Tensor<2> {
            let values = normal(2 * len * head_dim, purpose);
            Tensor::from_data(TensorData::new(values, [2 * len, head_dim]), &Device::flex())
        };
        let projection = |x: &[Tensor<1>]| Projection {
            rotary: Some((angles("cos"), angles("sin"))),
            ..projection(x, heads, kv_heads, len, head_dim, [true, false])
        };
        assert_equals_reference(
            "projected attention with segments",
            &inputs,
            &|x| {
                let qkv = x[0].clone().reshape([2, len, width]);
                taal_kernels::projected_attention(qkv, projection(x), &mask, &settings).flatten(0, 2)
            },
            &|x| {
                let qkv = x[0].clone().reshape([2, len, width]);
                reference::projected_attention(qkv, projection(x), &mask, &settings).flatten(0, 2)
            },
        );
    }

    #[test]
    fn projected_attention_equals_its_reference_with_norms_and_rotary_positions() {
        for (heads, kv_heads, len, head_dim) in [(4, 2, 17, 16), (3, 3, 96, 40), (2, 1, 50, 2)] {
            for with in [[false, false], [true, false], [false, true], [true, true]] {
                let width = (heads + 2 * kv_heads) * head_dim;
                let mut inputs = vec![normal(2 * len * width, "qkv")];
                if with[0] {
                    inputs.extend([normal(head_dim, "q norm"), normal(head_dim, "k norm")]);
                }
                let mask = AttentionMask::new(len, len, true, None, &Device::flex());
                let settings = AttentionSettings::default();
                assert_equals_reference(
                    &format!("projected attention {heads} {kv_heads} {len} {head_dim} {with:?}"),
                    &inputs,
                    &|x| {
                        let projection = projection(x, heads, kv_heads, len, head_dim, with);
                        let qkv = x[0].clone().reshape([2, len, width]);
                        taal_kernels::projected_attention(qkv, projection, &mask, &settings).flatten(0, 2)
                    },
                    &|x| {
                        let projection = projection(x, heads, kv_heads, len, head_dim, with);
                        let qkv = x[0].clone().reshape([2, len, width]);
                        reference::projected_attention(qkv, projection, &mask, &settings).flatten(0, 2)
                    },
                );
            }
        }
    }

    #[test]
    fn the_reference_has_the_gradient_of_finite_differences() {
        let sizes = Sizes {
            batch: 1,
            heads: 2,
            kv_heads: 1,
            q_len: 3,
            kv_len: 4,
            head_dim: 3,
            value_dim: 2,
        };
        for softcap in [None, Some(1.5)] {
            let settings = AttentionSettings {
                softcap,
                ..Default::default()
            };
            assert_finite_differences("attention", &sizes.inputs(), &|x| {
                let [q, k, v] = sizes.tensors(x);
                reference::attention(q, k, v, &mask(sizes, true, Some(3)), &settings)
                    .0
                    .flatten(0, 3)
            });
        }
    }

    #[test]
    fn does_not_depend_on_the_number_of_threads() {
        let (heads, kv_heads, len, head_dim) = (4, 2, 70, 16);
        let width = (heads + 2 * kv_heads) * head_dim;
        let inputs = [
            normal(2 * len * width, "qkv"),
            normal(head_dim, "q norm"),
            normal(head_dim, "k norm"),
        ];
        assert_same_bits_for_any_threads("projected attention", &inputs, |x| {
            let projection = projection(x, heads, kv_heads, len, head_dim, [true, true]);
            let mask = AttentionMask::new(len, len, true, None, &Device::flex());
            let qkv = x[0].clone().reshape([2, len, width]);
            taal_kernels::projected_attention(qkv, projection, &mask, &AttentionSettings::default()).flatten(0, 2)
        });
    }
}

mod others {
    use super::*;

    #[test]
    fn dropout_equals_its_reference() {
        for size in SIZES {
            let x = [normal(size, "x")];
            assert_equals_reference("dropout", &x, &|x| taal_kernels::dropout(x[0].clone(), 0.3, 11), &|x| {
                reference::dropout(x[0].clone(), 0.3, 11)
            });
        }
    }

    #[test]
    fn rotary_has_the_bits_of_its_reference_with_angles_of_all_rows_and_of_each() {
        for (batch, heads, seq, width) in [(1, 1, 1, 2), (3, 2, 5, 6), (2, 5, 33, 64)] {
            for tables in [1, batch] {
                let x = [normal(batch * heads * seq * width, "x")];
                let table = |purpose: &str, device: &Device| -> Tensor<2> {
                    let numbers = normal(tables * seq * width, purpose);
                    Tensor::from_data(TensorData::new(numbers, [tables * seq, width]), device)
                };
                // Heads beside each other, as a projection leaves them.
                let view = |x: &Tensor<1>| x.clone().reshape([batch, seq, heads, width]).swap_dims(1, 2);
                let of =
                    |x: &[Tensor<1>], rotary: &dyn Fn(Tensor<4>, Tensor<2>, Tensor<2>) -> Tensor<4>| -> Tensor<1> {
                        let device = x[0].device();
                        rotary(view(&x[0]), table("cos", &device), table("sin", &device)).flatten(0, 3)
                    };
                let fused = |x: &[Tensor<1>]| of(x, &taal_kernels::rotary);
                let expected = |x: &[Tensor<1>]| of(x, &reference::rotary);
                assert_equals_reference("rotary", &x, &fused, &expected);
                let plain = [Tensor::from_data(
                    TensorData::new(x[0].clone(), [x[0].len()]),
                    &Device::flex(),
                )];
                let bits = |y: Tensor<1>| -> Vec<u32> { y.into_data().iter::<f32>().map(f32::to_bits).collect() };
                assert_eq!(bits(fused(&plain)), bits(expected(&plain)));
                assert_same_bits_for_any_threads("rotary", &x, fused);
            }
        }
    }

    #[test]
    fn embedding_equals_its_reference_and_does_not_depend_on_the_number_of_threads() {
        for (vocab, width, count) in [(3, 1, 5), (17, 40, 96), (50, 257, 300)] {
            let table = [normal(vocab * width, "table")];
            let ids = |device: &Device| -> Tensor<2, Int> {
                let ids: Vec<i32> = (0..count).map(|i| (i * i % vocab) as i32).collect();
                Tensor::from_data(TensorData::new(ids, [1, count]), device)
            };
            let look_up = |x: &[Tensor<1>]| (x[0].clone().reshape([vocab, width]), ids(&x[0].device()));
            let fused = |x: &[Tensor<1>]| -> Tensor<1> {
                let (table, ids) = look_up(x);
                taal_kernels::embedding(table, ids).flatten(0, 2)
            };
            assert_equals_reference("embedding", &table, &fused, &|x| {
                let (table, ids) = look_up(x);
                reference::embedding(table, ids).flatten(0, 2)
            });
            assert_same_bits_for_any_threads("embedding", &table, fused);
        }
    }

    #[test]
    fn adamw_equals_its_reference_over_many_steps() {
        for size in SIZES {
            let device = Device::flex();
            let tensor =
                |purpose: &str| Tensor::<1>::from_data(TensorData::new(normal(size, purpose), [size]), &device);
            let zeros = || Tensor::<1>::zeros([size], &device);
            let mut fused = (tensor("value"), zeros(), zeros());
            let mut by_reference = fused.clone();
            for step in 1..=5 {
                let gradient = tensor(&format!("gradient {step}"));
                let settings = AdamWStep {
                    lr: 1e-2,
                    beta1: 0.9,
                    beta2: 0.99,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step,
                    gradient_factor: 0.7,
                };
                fused = taal_kernels::adamw(&settings, fused.0, gradient.clone(), fused.1, fused.2);
                by_reference = reference::adamw(&settings, by_reference.0, gradient, by_reference.1, by_reference.2);
            }
            let values = |x: Tensor<1>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
            assert_near("value", &values(fused.0), &values(by_reference.0));
            assert_near("first moment", &values(fused.1), &values(by_reference.1));
            assert_near("second moment", &values(fused.2), &values(by_reference.2));
        }
    }

    #[test]
    fn muon_equals_its_reference_for_wide_tall_and_cut_matrices() {
        for (rows, widths) in [
            (3, &[17][..]),
            (40, &[96]),
            (96, &[40]),
            (17, &[17]),
            (40, &[40, 17, 17]),
            (150, &[270]),
        ] {
            let device = Device::flex();
            let columns: usize = widths.iter().sum();
            let count = rows * columns;
            let tensor = |purpose: &str| -> Tensor<2> {
                Tensor::from_data(TensorData::new(normal(count, purpose), [rows, columns]), &device)
            };
            let zeros = Tensor::<1>::zeros([count], &device);
            let mut fused = (tensor("value"), zeros.clone());
            let mut by_reference = (tensor("value"), zeros);
            for step in 1..=3 {
                let gradient = tensor(&format!("gradient {step}"));
                let settings = MuonStep {
                    lr: 0.02,
                    momentum: 0.95,
                    weight_decay: 0.1,
                    iterations: 5,
                    gradient_factor: 0.7,
                };
                let matrix = |(value, momentum)| MuonMatrix {
                    widths: widths.to_vec(),
                    value,
                    gradient: gradient.clone(),
                    momentum,
                };
                fused = taal_kernels::muon(&settings, vec![matrix(fused)]).remove(0);
                by_reference = reference::muon(&settings, vec![matrix(by_reference)]).remove(0);
            }
            let values = |x: Tensor<2>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
            assert_near(
                &format!("muon {rows} x {widths:?}"),
                &values(fused.0),
                &values(by_reference.0),
            );
            let x = tensor("matrix");
            let found = taal_kernels::orthogonalize(x.clone(), 5);
            assert_near(
                "orthogonalized",
                &values(found),
                &values(reference::orthogonalize(x, 5)),
            );
        }
    }

    #[test]
    fn adamw_leaves_tensors_alone_that_somebody_else_holds() {
        let device = Device::flex();
        let value = Tensor::<1>::ones([10], &device);
        let held = value.clone();
        let settings = AdamWStep {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 1,
            gradient_factor: 1.0,
        };
        let zeros = || Tensor::<1>::zeros([10], &device);
        let (changed, _, _) = taal_kernels::adamw(&settings, value, Tensor::ones([10], &device), zeros(), zeros());
        let values = |x: Tensor<1>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
        assert_eq!(values(held), [1.0; 10]);
        assert!(values(changed).iter().all(|x| (x - 0.9).abs() < 1e-6));
    }

    #[test]
    fn the_sum_of_squares_equals_its_reference() {
        for size in [1, 17, 4096, 70_000] {
            let x = Tensor::<1>::from_data(TensorData::new(normal(size, "x"), [size]), &Device::flex());
            let (found, expected) = (taal_kernels::sum_of_squares(x.clone()), reference::sum_of_squares(x));
            assert!((found - expected).abs() < 1e-5 * expected, "{found} is not {expected}");
        }
    }
}
