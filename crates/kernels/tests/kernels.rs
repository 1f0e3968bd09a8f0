//! Kernels against PyTorch's numbers and against what their documentation promises.

#[path = "kernels/bf16.rs"]
mod bf16;
#[path = "kernels/cross.rs"]
mod cross;
#[path = "kernels/fused.rs"]
mod fused;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[path = "kernels/gpu.rs"]
mod gpu;
#[path = "kernels/low_rank.rs"]
mod low_rank;
#[path = "kernels/many_rows.rs"]
mod many_rows;
#[path = "kernels/precision.rs"]
mod precision;
#[path = "kernels/quantized.rs"]
mod quantized;
#[path = "kernels/rows.rs"]
mod rows;

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_kernels::random::{self, Generator};
use taal_kernels::{
    DeviceSpec, IGNORE_INDEX, KernelError, available, cross_entropy, cross_entropy_smoothed, dropout, dropout_mask,
    gelu, gelu_tanh, layer_norm, masked_exp, measured_peak_flops_per_s, negative_log_likelihood, relu_squared,
    rms_norm, silu, softmax, sum_of_squares,
};

/// Absolute, against single-precision PyTorch printed with seven decimals.
const TOLERANCE: f32 = 2e-6;

fn flex() -> Device {
    Device::flex()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter().collect()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{got:?} against {expected:?}");
    for (index, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "element {index}: {a} is not {b} in {got:?}");
    }
}

fn logits(device: &Device) -> Tensor<2> {
    let rows = [
        [1.0, 2.0, 3.0, -1.0, 0.5],
        [0.0, -2.0, 4.0, 1.0, 1.0],
        [100.0, -100.0, 3.0, 0.0, 50.0],
    ];
    Tensor::from_floats(rows, device)
}

mod loss {
    use super::*;

    // torch 2.15: F.cross_entropy(logits, [2, -100, 4]) and its gradient.
    #[test]
    fn cross_entropy_and_its_gradient_equal_pytorch() {
        let device = flex().autodiff();
        let logits = logits(&device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([2, IGNORE_INDEX, 4], &device);
        let loss = cross_entropy(logits.clone(), targets, IGNORE_INDEX);
        let gradient = logits.grad(&loss.backward()).unwrap();
        assert_close(&values(loss), &[25.23613], TOLERANCE);
        let expected = [
            0.0421969, 0.1147031, -0.1882045, 0.0057107, 0.0255937, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, -0.5,
        ];
        assert_close(&values(gradient), &expected, TOLERANCE);
    }

    // torch 2.15: F.cross_entropy(logits, [2, -100, 4], label_smoothing=0.1).
    #[test]
    fn smoothed_cross_entropy_and_its_gradient_equal_pytorch() {
        let device = flex().autodiff();
        let logits = logits(&device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([2, IGNORE_INDEX, 4], &device);
        let loss = cross_entropy_smoothed(logits.clone(), targets, IGNORE_INDEX, 0.1);
        let gradient = logits.grad(&loss.backward()).unwrap();
        assert_close(&values(loss), &[27.30113], 4e-6);
        let expected = [
            0.0321969, 0.1047031, -0.1482045, -0.0042893, 0.0155937, 0.0, 0.0, 0.0, 0.0, 0.0, 0.49, -0.01, -0.01,
            -0.01, -0.46,
        ];
        assert_close(&values(gradient), &expected, TOLERANCE);
    }

    // torch 2.15: F.cross_entropy(..., reduction="none").
    #[test]
    fn negative_log_likelihood_equals_pytorch_per_position() {
        let targets = Tensor::<1, Int>::from_ints([2, 0, 4], &flex());
        let nll = negative_log_likelihood(logits(&flex()), targets);
        assert_close(&values(nll), &[0.472_260_7, 4.113_657_5, 50.0], TOLERANCE);
    }

    #[test]
    fn all_ignored_gives_zero_loss_and_zero_gradient() {
        let device = flex().autodiff();
        let logits = logits(&device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([IGNORE_INDEX; 3], &device);
        let loss = cross_entropy(logits.clone(), targets, IGNORE_INDEX);
        let gradient = logits.grad(&loss.backward()).unwrap();
        assert_eq!(values(loss), [0.0]);
        assert_eq!(values(gradient), [0.0; 15]);
    }

    #[test]
    fn an_ignored_position_does_not_pass_on_infinities() {
        let logits = Tensor::<2>::from_floats([[f32::INFINITY, 1.0], [0.0, 0.0]], &flex());
        let targets = Tensor::<1, Int>::from_ints([IGNORE_INDEX, 1], &flex());
        let loss = values(cross_entropy(logits, targets, IGNORE_INDEX));
        assert_close(&loss, &[2.0_f32.ln()], TOLERANCE);
    }

    #[test]
    fn huge_logits_stay_finite_and_divergence_stays_visible() {
        let logits = Tensor::<2>::from_floats([[1e30, 0.0], [-1e30, 0.0]], &flex());
        let targets = Tensor::<1, Int>::from_ints([0, 1], &flex());
        assert_eq!(values(cross_entropy(logits, targets, IGNORE_INDEX)), [0.0]);

        let diverged = Tensor::<2>::from_floats([[f32::NAN, 0.0]], &flex());
        let targets = Tensor::<1, Int>::from_ints([1], &flex());
        assert!(values(cross_entropy(diverged, targets, IGNORE_INDEX))[0].is_nan());
    }
}

mod norm {
    use super::*;

    const X: [[f32; 4]; 3] = [[1.0, -2.0, 0.5, 3.0], [0.0, 0.25, -1.0, 2.0], [10.0, -10.0, 5.0, -4.0]];
    const WEIGHT: [f32; 4] = [1.0, 0.5, -1.5, 2.0];
    const BIAS: [f32; 4] = [0.1, 0.2, -0.3, 0.0];
    /// What the gradient of the output is set to.
    const UPSTREAM: [[f32; 4]; 3] = [[1.0, 2.0, -1.0, 0.5], [0.3, -0.7, 1.0, 1.0], [-2.0, 1.0, 0.0, 1.5]];

    // torch 2.15: F.layer_norm(x, (4,), weight, bias, 1e-5).
    const LAYER_NORM: [f32; 12] = [
        0.3105584, -0.5369544, -0.1947208, 2.667073, -0.1891562, 0.1710844, 1.5216842, 3.1228871, 1.3567574,
        -0.4606032, -1.2183996, -1.0956346,
    ];

    #[test]
    fn layer_norm_and_its_gradients_equal_pytorch() {
        let device = flex().autodiff();
        let x = Tensor::<2>::from_floats(X, &device).require_grad();
        let weight = Tensor::<1>::from_floats(WEIGHT, &device).require_grad();
        let bias = Tensor::<1>::from_floats(BIAS, &device).require_grad();
        let y = layer_norm(x.clone(), weight.clone(), Some(bias.clone()), 1e-5);
        let gradients = (y.clone() * Tensor::from_floats(UPSTREAM, &device)).sum().backward();
        assert_close(&values(y), &LAYER_NORM, TOLERANCE);
        let d_x = [
            -0.0691489, -0.0774468, 0.2102126, -0.063617, 0.4997829, -0.3626934, -0.1216316, -0.015458, -0.1110292,
            -0.1889971, 0.0467139, 0.2533124,
        ];
        assert_close(&values(x.grad(&gradients).unwrap()), &d_x, TOLERANCE);
        let d_weight = [-2.3897033, -4.2285423, -1.144_27, 1.4064859];
        assert_close(&values(weight.grad(&gradients).unwrap()), &d_weight, TOLERANCE);
        assert_close(
            &values(bias.grad(&gradients).unwrap()),
            &[-0.7, 2.3, 0.0, 3.0],
            TOLERANCE,
        );
    }

    #[test]
    fn layer_norm_is_the_same_without_autodiff_and_without_bias() {
        let x = || Tensor::<2>::from_floats(X, &flex());
        let weight = || Tensor::<1>::from_floats(WEIGHT, &flex());
        let bias = Tensor::<1>::from_floats(BIAS, &flex());
        let y = layer_norm(x(), weight(), Some(bias.clone()), 1e-5);
        assert_close(&values(y), &LAYER_NORM, TOLERANCE);
        let without_bias = layer_norm(x(), weight(), None, 1e-5) + bias.unsqueeze();
        assert_close(&values(without_bias), &LAYER_NORM, TOLERANCE);
    }

    // torch 2.15: F.rms_norm(x, (4,), weight, 1e-6).
    #[test]
    fn rms_norm_and_its_gradients_equal_pytorch() {
        let device = flex().autodiff();
        let x = Tensor::<2>::from_floats(X, &device).require_grad();
        let weight = Tensor::<1>::from_floats(WEIGHT, &device).require_grad();
        let y = rms_norm(x.clone(), weight.clone(), 1e-6);
        let gradients = (y.clone() * Tensor::from_floats(UPSTREAM, &device)).sum().backward();
        let expected = [
            0.5298129, -0.5298129, -0.3973597, 3.1788774, 0.0, 0.1111111, 1.3333328, 3.5555542, 1.2883133, -0.6441566,
            -0.9662349, -1.0306506,
        ];
        assert_close(&values(y), &expected, TOLERANCE);
        let d_x = [
            0.4275683, 0.734302, 0.743597, 0.2230792, 0.2666666, -0.5486964, -0.382991, -0.1229064, -0.0598718,
            -0.1333752, 0.0988954, 0.3073776,
        ];
        assert_close(&values(x.grad(&gradients).unwrap()), &d_x, TOLERANCE);
        let d_weight = [-2.0468137, -3.5631204, -1.153795, 1.7995085];
        assert_close(&values(weight.grad(&gradients).unwrap()), &d_weight, TOLERANCE);
    }

    #[test]
    fn norms_of_a_zero_row_are_zero() {
        let ones = Tensor::<1>::ones([3], &flex());
        let zeros = Tensor::<3>::zeros([1, 2, 3], &flex());
        assert_eq!(values(rms_norm(zeros.clone(), ones.clone(), 1e-6)), [0.0; 6]);
        assert_eq!(values(layer_norm(zeros, ones, None, 1e-6)), [0.0; 6]);
    }
}

mod activation {
    use super::*;

    const X: [f32; 7] = [-4.0, -1.0, -0.5, 0.0, 0.3, 1.0, 2.5];

    /// Value and derivative against double-precision PyTorch 2.15.
    #[track_caller]
    fn check(function: fn(Tensor<1>) -> Tensor<1>, expected: [f32; 7], derivative: [f32; 7]) {
        let x = Tensor::<1>::from_floats(X, &flex().autodiff()).require_grad();
        let y = function(x.clone());
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        assert_close(&values(y), &expected, TOLERANCE);
        assert_close(&values(gradient), &derivative, TOLERANCE);
    }

    #[test]
    fn gelu_is_the_exact_one() {
        let expected = [-0.0001267, -0.1586553, -0.1542688, 0.0, 0.1853734, 0.8413447, 2.4844758];
        let derivative = [-0.0005036, -0.0833155, 0.1325049, 0.5, 0.7323278, 1.0833155, 1.0376111];
        check(gelu, expected, derivative);
    }

    #[test]
    fn gelu_tanh_is_gpt2s() {
        let expected = [-7.02e-05, -0.158808, -0.154286, 0.0, 0.1853709, 0.841192, 2.4849157];
        let derivative = [-0.0003351, -0.0829641, 0.1326301, 0.5, 0.7322955, 1.0829641, 1.0379516];
        check(gelu_tanh, expected, derivative);
    }

    #[test]
    fn silu_equals_pytorch() {
        let expected = [-0.0719448, -0.2689414, -0.1887703, 0.0, 0.1723328, 0.7310586, 2.3103545];
        let derivative = [-0.0526646, 0.0723295, 0.2600388, 0.5, 0.64778, 0.9276705, 1.0994011];
        check(silu, expected, derivative);
    }

    #[test]
    fn relu_squared_is_zero_below_zero_and_the_square_above() {
        check(
            relu_squared,
            [0.0, 0.0, 0.0, 0.0, 0.09, 1.0, 6.25],
            [0.0, 0.0, 0.0, 0.0, 0.6, 2.0, 5.0],
        );
    }

    #[test]
    fn activations_stay_finite_far_out() {
        for function in [gelu, gelu_tanh, silu] {
            let far = values(function(Tensor::<1>::from_floats([-1e4, 1e4], &flex())));
            assert_close(&far, &[0.0, 1e4], TOLERANCE);
        }
    }
}

mod softmaxes {
    use super::*;

    #[test]
    fn softmax_rows_sum_to_one_at_odd_sizes() {
        for n in [1, 3, 17, 40, 96] {
            let rows = softmax(random::normal([3, n], 5.0, 1, &flex())).sum_dim(1);
            assert_close(&values(rows), &[1.0; 3], 1e-5);
        }
    }

    #[test]
    fn masked_exp_divided_is_softmax_with_zero_rows_for_nothing() {
        let none = f32::NEG_INFINITY;
        let x = Tensor::<2>::from_floats([[1.0, none, 3.0], [none; 3], [-800.0, -800.0, none]], &flex());
        let (numerator, sum) = masked_exp(x);
        let got = values(numerator / sum);
        let (small, large) = ((-2.0_f32).exp(), 1.0);
        let total = small + large;
        let expected = [small / total, 0.0, large / total, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0];
        assert_close(&got, &expected, 1e-6);
        assert_eq!(got[1].to_bits() | got[8].to_bits(), 0, "masked is exactly zero");
    }

    #[test]
    fn masked_exp_has_softmaxs_gradient() {
        let device = flex().autodiff();
        let upstream = || random::normal([4, 17], 1.0, 7, &device);
        let x = || random::normal([4, 17], 2.0, 3, &device).require_grad();
        let (a, b) = (x(), x());
        let (numerator, sum) = masked_exp(a.clone());
        let gradients = (numerator / sum * upstream()).sum().backward();
        let expected = (softmax(b.clone()) * upstream()).sum().backward();
        let expected = values(b.grad(&expected).unwrap());
        assert_close(&values(a.grad(&gradients).unwrap()), &expected, 1e-6);
    }
}

mod randomness {
    use super::*;

    // The reference sequence of SplitMix64 for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64").
    #[test]
    fn the_generator_is_splitmix64() {
        let mut generator = Generator::new(1_234_567);
        let expected: [u64; 5] = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for (index, expected) in expected.into_iter().enumerate() {
            assert_eq!(generator.next_u64(), expected);
            assert_eq!(random::bits(1_234_567, index as u64), expected);
        }
    }

    #[test]
    fn keys_differ_by_seed_step_and_purpose_and_never_change() {
        let keys = [
            random::key(0, 0, "init"),
            random::key(1, 0, "init"),
            random::key(0, 1, "init"),
            random::key(0, 0, "dropout"),
            random::key(1, 1, "init"),
            random::key(0, 0, ""),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "key {index} repeats");
        }
        // Checkpoints of earlier releases depend on this number.
        assert_eq!(random::key(1337, 42, "dropout"), 15_956_238_088_237_508_305);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_a_normal_distribution() {
        let values = values(random::normal([101, 997], 2.0, 5, &flex()));
        let n = values.len() as f64;
        let moment = |power| values.iter().map(|&x| f64::from(x / 2.0).powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01);
        assert!((moment(2) - 1.0).abs() < 0.01);
        assert!(moment(3).abs() < 0.03);
        assert!((moment(4) - 3.0).abs() < 0.1);
    }

    #[test]
    fn uniform_numbers_fill_their_interval_evenly() {
        let values = values(random::uniform([100_001], -1.0, 3.0, 5, &flex()));
        assert!(values.iter().all(|x| (-1.0..3.0).contains(x)));
        for quarter in 0..4 {
            let low = -1.0 + quarter as f32;
            let count = values.iter().filter(|&&x| (low..low + 1.0).contains(&x)).count();
            assert!((24_000..26_000).contains(&count), "{count} in quarter {quarter}");
        }
    }

    #[test]
    fn a_tensor_is_a_function_of_its_key_for_any_number_of_threads() {
        let draw = || {
            let normal = values(random::normal([3, 33_333], 1.0, 9, &flex()));
            let dropped = values(dropout_mask([99_999], 0.3, 9, &flex()));
            (normal, dropped)
        };
        let expected = draw();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(draw) == expected);
        }
        let longer = values(random::normal([100_001], 1.0, 9, &flex()));
        assert_eq!(longer[..99_998], expected.0[..99_998]);
    }

    #[test]
    fn the_generator_draws_below_its_bound_evenly() {
        let mut generator = Generator::new(3);
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            counts[generator.below(6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(generator.below(1), 0);
        assert_eq!(generator.below(0), 0);
        assert!((0.0..1.0).contains(&generator.uniform()));
        assert!((0.0..1.0).contains(&generator.uniform_f32()));
        assert!(generator.normal().is_finite());
    }
}

mod dropouts {
    use super::*;

    #[test]
    fn dropout_keeps_the_mean_and_drops_the_asked_share() {
        let dropped = values(dropout(Tensor::<2>::ones([100, 999], &flex()), 0.2, 11));
        let zeros = dropped.iter().filter(|&&x| x == 0.0).count() as f64 / dropped.len() as f64;
        assert!((zeros - 0.2).abs() < 0.01, "{zeros} were dropped");
        assert!(dropped.iter().all(|&x| x == 0.0 || x == 1.25));
    }

    #[test]
    fn dropout_of_nothing_and_of_everything() {
        let x = || Tensor::<1>::from_floats([1.0, 2.0, 3.0], &flex());
        assert_eq!(values(dropout(x(), 0.0, 1)), [1.0, 2.0, 3.0]);
        assert_eq!(values(dropout(x(), 1.0, 1)), [0.0; 3]);
    }

    #[test]
    fn the_gradient_passes_where_the_value_passed() {
        let device = flex().autodiff();
        let x = Tensor::<1>::ones([40], &device).require_grad();
        let y = dropout(x.clone(), 0.5, 2);
        let gradient = x.grad(&y.clone().sum().backward()).unwrap();
        assert_eq!(values(gradient), values(y));
    }

    #[test]
    fn no_stretch_of_a_large_mask_repeats() {
        let mask = values(dropout_mask([1 << 16], 0.5, 3, &flex()));
        let normal = values(random::normal([1 << 16], 1.0, 3, &flex()));
        for len in [1 << 12, 1 << 13, 1 << 14, 1 << 15] {
            assert_ne!(mask[..len], mask[len..2 * len]);
            assert_ne!(normal[..len], normal[len..2 * len]);
        }
    }

    #[test]
    fn other_keys_drop_other_elements() {
        let mask = |key| values(dropout_mask([96], 0.5, key, &flex()));
        assert_eq!(mask(1), mask(1));
        assert_ne!(mask(1), mask(2));
    }
}

mod devices {
    use super::*;

    #[test]
    fn every_device_name_reads_back_as_written() {
        for name in ["flex", "ndarray", "wgpu", "wgpu:3", "cuda", "cuda:1"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        assert_eq!("wgpu:0".parse(), Ok(DeviceSpec::Wgpu(0)));
        assert_eq!("cpu".parse(), Ok(DeviceSpec::Flex));
        assert_eq!("gpu".parse(), Ok(DeviceSpec::Wgpu(0)));
        assert_eq!(DeviceSpec::default(), DeviceSpec::Flex);
    }

    #[test]
    fn an_unknown_device_is_refused_with_the_known_ones() {
        for name in [
            "", "tpu", "flex:1", "wgpu:", "cuda:x", "wgpu:-1", "wgpu:+1", "wgpu:x", "FLEX",
        ] {
            let error = name.parse::<DeviceSpec>().unwrap_err();
            assert!(error.is_usage());
            assert!(error.to_string().contains("flex, ndarray, wgpu"), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_compiled_in_names_its_feature() {
        for info in available().into_iter().filter(|info| !info.is_compiled) {
            let name = info.spec.to_string();
            let error = info.spec.open().unwrap_err();
            assert!(matches!(error, KernelError::NotCompiled { .. }));
            let message = error.to_string();
            let kind = name.split(':').next().expect("a kind");
            assert!(
                message.contains(&name) && message.contains(&format!("feature {kind:?}")),
                "{message}"
            );
        }
    }

    #[test]
    fn flex_is_always_there_and_computes() {
        let device = DeviceSpec::Flex.open().unwrap();
        let sum: f32 = Tensor::<1>::from_floats([1.0, 2.0], &device).sum().into_scalar();
        assert_eq!(sum, 3.0);
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn ndarray_gives_flexs_loss_and_random_numbers() {
        let device = DeviceSpec::NdArray.open().unwrap();
        let loss = |device: &Device| {
            let targets = Tensor::<1, Int>::from_ints([2, IGNORE_INDEX, 4], device);
            values(cross_entropy(logits(device), targets, IGNORE_INDEX))
        };
        assert_close(&loss(&device), &loss(&flex()), TOLERANCE);
        let draw = |device: &Device| values(random::normal([3, 5], 1.0, 1, device));
        assert_eq!(draw(&device), draw(&flex()));
    }
}

mod reductions {
    use super::*;

    #[test]
    fn sum_of_squares_is_exact_enough_and_repeatable_at_any_size() {
        for len in [1, 3, 4_095, 4_096, 4_097, 1_000_003] {
            let data = values(random::normal([len], 1.0, 4, &flex()));
            let expected: f64 = data.iter().map(|&x| f64::from(x).powi(2)).sum();
            let got = || sum_of_squares(Tensor::<1>::from_data(TensorData::new(data.clone(), [len]), &flex()));
            assert!((got() / expected - 1.0).abs() < 1e-6);
            assert_eq!(got().to_bits(), got().to_bits());
        }
    }

    #[test]
    fn sum_of_squares_does_not_depend_on_the_shape() {
        let x = random::normal([40, 300], 1.0, 4, &flex());
        assert_eq!(
            sum_of_squares(x.clone()).to_bits(),
            sum_of_squares(x.reshape([3, 40, 100])).to_bits()
        );
    }
}

#[test]
fn the_measured_peak_is_positive_and_measured_once() {
    let peak = measured_peak_flops_per_s();
    assert!(peak > 1e8 && peak < 1e15, "{peak}");
    assert_eq!(peak.to_bits(), measured_peak_flops_per_s().to_bits());
}
