//! Attention, loss and activations in bf16 against their reference implementations, which round the inputs only: the kernels round
//! weights and gradients on their way too, so they differ by roundings of eight bits.

use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_kernels::{
    AttentionMask, AttentionSettings, IGNORE_INDEX, MuonMatrix, MuonStep, Precision, Projection, Segments, random,
    reference, with_precision,
};

use super::fused::{Operation, assert_same_bits_for_any_threads, differentiate, normal};
use super::precision::values;

/// The largest difference of a number, over the largest number of its tensor: some roundings of 2^-9 each.
const TOLERANCE: f32 = 2e-2;
/// The same of the whole tensor, root mean square over root mean square: roundings are as often up as down.
const RMS_TOLERANCE: f32 = 8e-3;
/// The same for Muon's change, which has gone through fifteen products whose roundings add up.
const MUON_RMS_TOLERANCE: f32 = 2e-2;
/// Tensors below this are compared as if they were as large: their numbers are what is left of terms that cancel.
const SMALLEST_SCALE: f32 = 1e-1;

fn rms(x: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = x.fold((0.0_f32, 0.0_f32), |(sum, count), x| (x.mul_add(x, sum), count + 1.0));
    (sum / count.max(1.0)).sqrt()
}

#[track_caller]
fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected
        .iter()
        .fold(0.0_f32, |max, x| max.max(x.abs()))
        .max(SMALLEST_SCALE);
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= TOLERANCE * largest,
            "{what}, element {i}: {found} is not {expected} (largest {largest})"
        );
    }
    let difference = rms(found.iter().zip(expected).map(|(found, expected)| found - expected));
    let size = rms(expected.iter().copied()).max(SMALLEST_SCALE);
    assert!(
        difference <= RMS_TOLERANCE * size,
        "{what}: off by {difference} of {size}"
    );
}

/// Runs the operation in bf16 and the reference implementation, and compares results and gradients.
#[track_caller]
pub(super) fn assert_equals_reference(
    name: &str,
    inputs: &[Vec<f32>],
    operation: Operation<'_>,
    reference: Operation<'_>,
) {
    let (result, gradients) = differentiate(inputs, &|x| in_bf16(|| operation(x)));
    let (expected, expected_gradients) = differentiate(inputs, reference);
    assert_near(name, &result, &expected);
    for (i, (found, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
        assert_near(&format!("{name}, gradient of input {i}"), found, expected);
    }
    let (in_fp32, _) = differentiate(inputs, operation);
    assert!(in_fp32 != result || result.len() < 4, "{name} was computed in fp32");
}

fn in_bf16<R>(work: impl FnOnce() -> R) -> R {
    with_precision(Precision::Bf16, work)
}

/// Batch 2; query heads, key heads, queries, keys, widths of keys and values.
type Shape = [usize; 6];

fn inputs([heads, kv_heads, q_len, kv_len, head_dim, value_dim]: Shape) -> Vec<Vec<f32>> {
    vec![
        normal(2 * heads * q_len * head_dim, "q"),
        normal(2 * kv_heads * kv_len * head_dim, "k"),
        normal(2 * kv_heads * kv_len * value_dim, "v"),
    ]
}

fn tensors([heads, kv_heads, q_len, kv_len, head_dim, value_dim]: Shape, x: &[Tensor<1>]) -> [Tensor<4>; 3] {
    [
        x[0].clone().reshape([2, heads, q_len, head_dim]),
        x[1].clone().reshape([2, kv_heads, kv_len, head_dim]),
        x[2].clone().reshape([2, kv_heads, kv_len, value_dim]),
    ]
}

fn mask([_, _, q_len, kv_len, ..]: Shape, is_causal: bool, window: Option<usize>) -> AttentionMask {
    AttentionMask::new(q_len, kv_len, is_causal, window, &Device::flex())
}

#[track_caller]
fn check(shape: Shape, mask: AttentionMask, settings: AttentionSettings) {
    let name = format!(
        "{shape:?} {settings:?} causal {} window {:?}",
        mask.is_causal(),
        mask.window()
    );
    assert_equals_reference(
        &name,
        &inputs(shape),
        &|x| {
            let [q, k, v] = tensors(shape, x);
            taal_kernels::attention(q, k, v, &mask, &settings).flatten(0, 3)
        },
        &|x| reference::attention_bf16(tensors(shape, x), &mask, &settings).flatten(0, 3),
    );
}

#[test]
fn attention_equals_its_reference_at_odd_sizes() {
    for shape in [
        [1, 1, 1, 1, 1, 1],
        [4, 4, 3, 3, 3, 3],
        [2, 1, 40, 40, 17, 17],
        [6, 2, 50, 50, 40, 40],
        [2, 2, 96, 96, 64, 64],
        [2, 2, 130, 130, 16, 16],
        [4, 2, 33, 75, 24, 40],
    ] {
        for is_causal in [true, false] {
            check(shape, mask(shape, is_causal, None), AttentionSettings::default());
        }
    }
}

#[test]
fn attention_equals_its_reference_with_windows_caps_biases_segments_and_dropout() {
    let shape = [4, 2, 75, 75, 24, 24];
    let capped = AttentionSettings {
        softcap: Some(1.5),
        ..Default::default()
    };
    let dropped = AttentionSettings {
        dropout: Some((0.3, 9)),
        ..Default::default()
    };
    let bias = random::normal([1, 4, 75, 75], 1.0, 5, &Device::flex());
    let starts: Vec<i32> = (0..150).map(|i| if i % 75 < 20 { 0 } else { 20 }).collect();
    for settings in [AttentionSettings::default(), capped, dropped] {
        for window in [1, 7, 48] {
            check(shape, mask(shape, true, Some(window)), settings);
            check(shape, mask(shape, false, Some(window)), settings);
        }
        check(shape, mask(shape, true, None).with_bias(bias.clone()), settings);
        let segments = Segments::new(&starts, [2, 75]);
        check(shape, mask(shape, true, None).with_segments(segments), settings);
    }
}

#[test]
fn projected_attention_equals_its_reference_with_norms_and_rotary_positions() {
    let (heads, kv_heads, len, head_dim) = (4, 2, 70, 16);
    let width = (heads + 2 * kv_heads) * head_dim;
    // Cosines, and sines with the signs of a rotation of pairs half a row apart.
    let angles = |is_sine: bool| -> Tensor<2> {
        let number = |i: usize| {
            let (position, at) = (i / head_dim, i % head_dim);
            let angle = position as f32 * 0.1_f32.powi((at % (head_dim / 2)) as i32);
            match (is_sine, at < head_dim / 2) {
                (false, _) => angle.cos(),
                (true, true) => -angle.sin(),
                (true, false) => angle.sin(),
            }
        };
        let values: Vec<f32> = (0..len * head_dim).map(number).collect();
        Tensor::from_data(TensorData::new(values, [len, head_dim]), &Device::flex())
    };
    let projection = |x: &[Tensor<1>]| Projection {
        n_heads: heads,
        n_kv_heads: kv_heads,
        norms: Some((x[1].clone(), x[2].clone(), 1e-6)),
        rotary: Some((angles(false), angles(true))),
    };
    let near_one = |purpose: &str| normal(head_dim, purpose).into_iter().map(|x| 1.0 + 0.1 * x).collect();
    let inputs: [Vec<f32>; 3] = [normal(2 * len * width, "qkv"), near_one("q norm"), near_one("k norm")];
    let (mask, settings) = (mask([0, 0, len, len, 0, 0], true, None), AttentionSettings::default());
    let fused = |x: &[Tensor<1>]| {
        let qkv = x[0].clone().reshape([2, len, width]);
        taal_kernels::projected_attention(qkv, projection(x), &mask, &settings).flatten(0, 2)
    };
    assert_equals_reference("projected attention", &inputs, &fused, &|x| {
        let qkv = x[0].clone().reshape([2, len, width]);
        let context = reference::attention_bf16(projection(x).heads(qkv), &mask, &settings);
        context.swap_dims(1, 2).flatten(0, 3)
    });
    assert_same_bits_for_any_threads("projected attention", &inputs, |x| {
        let mask = AttentionMask::new(len, len, true, None, &Device::flex());
        let qkv = x[0].clone().reshape([2, len, width]);
        in_bf16(|| taal_kernels::projected_attention(qkv, projection(x), &mask, &settings).flatten(0, 2))
    });
}

#[test]
fn queries_that_see_nothing_get_zeros_and_give_none_on() {
    let shape = [2, 1, 5, 5, 16, 16];
    let hidden = Tensor::<4>::full([1, 1, 5, 5], f32::NEG_INFINITY, &Device::flex());
    let mask = AttentionMask::from_additive(hidden);
    let (result, gradients) = differentiate(&inputs(shape), &|x| {
        let [q, k, v] = tensors(shape, x);
        in_bf16(|| taal_kernels::attention(q, k, v, &mask, &AttentionSettings::default())).flatten(0, 3)
    });
    assert!(result.iter().chain(gradients.iter().flatten()).all(|x| *x == 0.0));
}

#[test]
fn what_is_not_a_number_stays_visible_in_attention_and_loss() {
    let shape = [1, 1, 40, 40, 16, 16];
    let mut values = inputs(shape);
    values[0][3 * 16] = f32::NAN;
    let (result, _) = differentiate(&values, &|x| {
        let [q, k, v] = tensors(shape, x);
        in_bf16(|| taal_kernels::attention(q, k, v, &mask(shape, true, None), &AttentionSettings::default()))
            .flatten(0, 3)
    });
    let is_row_nan = |row: usize| result[row * 16..][..16].iter().all(|x| x.is_nan());
    assert!(is_row_nan(3) && (0..80).filter(|row| *row != 3).all(|row| !is_row_nan(row)));
    let mut hidden = normal(20 * 16, "hidden");
    hidden[5] = f32::NAN;
    let (loss, _) = differentiate(&[hidden, normal(16 * 65, "weight")], &|x| loss(x, [20, 16, 65], false));
    assert!(loss[0].is_nan());
}

fn targets(rows: usize, vocab: usize, device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..rows)
        .map(|row| {
            if row % 5 == 3 {
                IGNORE_INDEX
            } else {
                (row * 7 % vocab) as i32
            }
        })
        .collect();
    Tensor::from_data(TensorData::new(ids, [rows]), device)
}

fn operands(x: &[Tensor<1>], [rows, width, vocab]: [usize; 3], is_transposed: bool) -> [Tensor<2>; 2] {
    let weight = if is_transposed { [vocab, width] } else { [width, vocab] };
    [x[0].clone().reshape([rows, width]), x[1].clone().reshape(weight)]
}

fn loss(x: &[Tensor<1>], sizes: [usize; 3], is_transposed: bool) -> Tensor<1> {
    let [hidden, weight] = operands(x, sizes, is_transposed);
    let targets = targets(sizes[0], sizes[2], &hidden.device());
    in_bf16(|| taal_kernels::linear_cross_entropy(hidden, weight, is_transposed, targets, IGNORE_INDEX, 0.1))
}

#[test]
fn linear_cross_entropy_equals_its_reference_and_does_not_depend_on_the_number_of_threads() {
    for sizes in [[1, 3, 2], [17, 40, 65], [96, 17, 257], [40, 96, 33]] {
        let [rows, width, vocab] = sizes;
        let inputs = [normal(rows * width, "hidden"), normal(width * vocab, "weight")];
        for is_transposed in [false, true] {
            let name = format!("{sizes:?} {is_transposed}");
            let (found, gradients) = differentiate(&inputs, &|x| loss(x, sizes, is_transposed));
            let (expected, expected_gradients) = differentiate(&inputs, &|x| {
                let [hidden, weight] = operands(x, sizes, is_transposed);
                let targets = targets(rows, vocab, &hidden.device());
                reference::linear_cross_entropy_bf16(hidden, weight, is_transposed, targets, IGNORE_INDEX, 0.1)
            });
            // The loss itself passes no rounding but that of its inputs.
            assert!(
                (found[0] - expected[0]).abs() <= 1e-5 * expected[0].abs(),
                "{name}: {found:?} {expected:?}"
            );
            for (found, expected) in gradients.iter().zip(&expected_gradients) {
                assert_near(&name, found, expected);
            }
            assert_same_bits_for_any_threads(&name, &inputs, |x| loss(x, sizes, is_transposed));
        }
    }
}

#[test]
fn activations_keep_their_inputs_rounded() {
    type Function = fn(Tensor<1>) -> Tensor<1>;
    let functions: [(&str, Function); 4] = [
        ("gelu", taal_kernels::gelu),
        ("gelu_tanh", taal_kernels::gelu_tanh),
        ("silu", taal_kernels::silu),
        ("relu_squared", taal_kernels::relu_squared),
    ];
    let round = |x: &[f32]| -> Vec<f32> { x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect() };
    for size in [1, 17, 40_000] {
        let (x, up) = (normal(size, "x"), normal(size, "up"));
        for (name, function) in functions {
            let (result, gradients) = differentiate(std::slice::from_ref(&x), &|x| in_bf16(|| function(x[0].clone())));
            // Forwards nothing is rounded; backwards it is as if the input had been a rounded one.
            assert_eq!(
                result,
                differentiate(std::slice::from_ref(&x), &|x| function(x[0].clone())).0,
                "{name}"
            );
            let (_, expected) = differentiate(&[round(&x)], &|x| function(x[0].clone()));
            assert_eq!(gradients, expected, "{name}");
        }
        let inputs = [x, up];
        let gated = |x: &[Tensor<1>]| taal_kernels::swiglu(x[0].clone(), x[1].clone());
        let (result, gradients) = differentiate(&inputs, &|x| in_bf16(|| gated(x)));
        assert_eq!(result, differentiate(&inputs, &gated).0);
        let (_, expected) = differentiate(&[round(&inputs[0]), round(&inputs[1])], &gated);
        assert_eq!(gradients, expected);
    }
}

/// Matrices of one and of several blocks of a symmetric product, wide, tall and cut. The iteration in single precision is the
/// reference: its result has singular values of 0.7 to 1.2, and that of bfloat16 differs by roundings.
#[test]
fn muon_in_bf16_is_near_muon_in_single_precision() {
    for (rows, widths) in [(3, &[17][..]), (40, &[96]), (300, &[140]), (140, &[140, 17, 17])] {
        let device = Device::flex();
        let columns: usize = widths.iter().sum();
        let tensor = |purpose: &str| -> Tensor<2> {
            Tensor::from_data(
                TensorData::new(normal(rows * columns, purpose), [rows, columns]),
                &device,
            )
        };
        let settings = MuonStep {
            lr: 1.0,
            momentum: 0.95,
            weight_decay: 0.0,
            iterations: 5,
            gradient_factor: 0.7,
        };
        let update = || {
            let matrix = MuonMatrix {
                widths: widths.to_vec(),
                value: Tensor::zeros([rows, columns], &device),
                gradient: tensor("gradient"),
                momentum: tensor("momentum").flatten::<1>(0, 1),
            };
            let (value, momentum) = taal_kernels::muon(&settings, vec![matrix]).remove(0);
            (values(value), values(momentum))
        };
        let [(change, momentum), (expected, expected_momentum)] = [in_bf16(update), update()];
        let difference = rms(change.iter().zip(&expected).map(|(found, expected)| found - expected));
        let share = difference / rms(expected.iter().copied());
        assert!(share < MUON_RMS_TOLERANCE, "{rows} x {widths:?}: off by {share}");
        assert!(share > 0.0, "{rows} x {widths:?} was computed in fp32");
        assert_eq!(momentum, expected_momentum, "{rows} x {widths:?}");
    }
}
