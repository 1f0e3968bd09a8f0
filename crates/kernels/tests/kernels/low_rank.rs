//! Low-rank parts of linear layers: what they compute, and what they leave out.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::{Dense, DenseConfig, LowRankConfig, WeightType, with_low_rank_dropout};

use crate::fused::{assert_near, assert_same_bits_for_any_threads, differentiate, normal};
use crate::many_rows::{self, assert_many_rows_are_independent};
use crate::rows::{MOST, assert_rows_are_independent, numbers};

/// One part with all outputs.
fn whole(outputs: usize) -> Vec<std::ops::Range<usize>> {
    std::iter::once(0..outputs).collect()
}

/// Inputs, outputs, rank, and the outputs of each part.
type Case = (usize, usize, usize, Vec<std::ops::Range<usize>>);

/// Whole layers, and some of the outputs of one.
fn cases() -> Vec<Case> {
    vec![
        (1, 1, 1, whole(1)),
        (17, 40, 3, whole(40)),
        (40, 96, 8, vec![0..32, 32..64, 64..96]),
        (33, 70, 5, vec![3..20, 41..70]),
        (257, 65, 17, whole(65)),
    ]
}

fn config((_, _, rank, parts): &Case) -> LowRankConfig {
    LowRankConfig {
        rank: *rank,
        scale: 0.75,
        parts: parts.clone(),
        dropout: 0.25,
        site: 5,
    }
}

fn counts(case: &Case) -> [usize; 2] {
    let (d_input, _, rank, parts) = case;
    [d_input * rank * parts.len(), rank * config(case).width()]
}

/// A layer whose weight, bias, A and B are these leaves of a graph.
fn layer(case: &Case, [weight, bias, a, b]: [Tensor<1>; 4]) -> Dense {
    let (d_input, d_output, rank, parts) = case;
    let device = weight.device();
    let mut dense = DenseConfig {
        d_input: *d_input,
        d_output: *d_output,
        bias: true,
    }
    .init(0.02, 1, &device);
    let id = dense.weight.id;
    dense.weight = Param::initialized(id, weight.reshape([*d_input, *d_output]));
    dense.bias = Some(Param::initialized(burn::module::ParamId::new(), bias));
    let mut adapter = config(case).init(*d_input, 2, &device);
    adapter.a = Param::initialized(adapter.a.id, a.reshape([*d_input, rank * parts.len()]));
    adapter.b = Param::initialized(adapter.b.id, b.reshape([*rank, config(case).width()]));
    dense.adapter = Some(adapter);
    dense
}

/// `W + scale A B` of leaves, composed of Burn's own products.
fn whole_weight(case: &Case, weight: Tensor<1>, a: Tensor<1>, b: Tensor<1>) -> Tensor<2> {
    let (d_input, d_output, rank, parts) = case;
    let mut weight = weight.reshape([*d_input, *d_output]);
    let a = a.reshape([*d_input, rank * parts.len()]);
    let b = b.reshape([*rank, config(case).width()]);
    let mut first = 0;
    for (part, outputs) in parts.iter().enumerate() {
        let product = a
            .clone()
            .narrow(1, part * rank, *rank)
            .matmul(b.clone().narrow(1, first, outputs.len()))
            .mul_scalar(0.75);
        let before = weight.clone().narrow(1, outputs.start, outputs.len());
        weight = weight.slice_assign([0..*d_input, outputs.clone()], before + product);
        first += outputs.len();
    }
    weight
}

#[test]
fn a_layer_with_a_low_rank_part_has_results_and_gradients_of_the_sum_of_both_weights() {
    for case in cases() {
        let (d_input, d_output, ..) = case;
        let rows = 11;
        let [of_a, of_b] = counts(&case);
        let inputs = [
            normal(rows * d_input, "x"),
            normal(rows * d_output, "residual"),
            normal(d_input * d_output, "weight"),
            normal(d_output, "bias"),
            normal(of_a, "a"),
            normal(of_b, "b"),
        ];
        let split = |leaves: &[Tensor<1>]| -> [Tensor<1>; 6] { leaves.to_vec().try_into().unwrap() };
        let found = differentiate(&inputs, &|leaves| {
            let [x, residual, weight, bias, a, b] = split(leaves);
            let layer = layer(&case, [weight, bias, a, b]);
            let y = layer.forward_add(x.reshape([1, rows, d_input]), residual.reshape([1, rows, d_output]));
            y.reshape([rows * d_output])
        });
        let expected = differentiate(&inputs, &|leaves| {
            let [x, residual, weight, bias, a, b] = split(leaves);
            let weight = whole_weight(&case, weight, a, b);
            let y = x.reshape([rows, d_input]).matmul(weight) + bias.reshape([1, d_output]);
            (y + residual.reshape([rows, d_output])).reshape([rows * d_output])
        });
        let name = format!("{case:?}");
        assert_near(&name, &found.0, &expected.0);
        for (index, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
            assert_near(&format!("{name}, gradient of input {index}"), found, expected);
        }
    }
}

#[test]
fn a_merged_layer_computes_what_it_computed_before() {
    for case in cases() {
        let (d_input, d_output, ..) = case;
        let [of_a, of_b] = counts(&case);
        let leaf = |count: usize, purpose| {
            Tensor::<1>::from_data(TensorData::new(normal(count, purpose), [count]), &Device::flex())
        };
        let mut dense = layer(
            &case,
            [
                leaf(d_input * d_output, "weight"),
                leaf(d_output, "bias"),
                leaf(of_a, "a"),
                leaf(of_b, "b"),
            ],
        );
        let x = numbers([9, d_input], "x");
        let before: Vec<f32> = dense.forward(x.clone()).into_data().iter::<f32>().collect();
        dense.merge();
        assert!(dense.adapter.is_none());
        let after: Vec<f32> = dense.forward(x).into_data().iter::<f32>().collect();
        assert_near(&format!("{case:?}"), &after, &before);
    }
}

/// A layer with an adapter on the device.
fn some_layer(case: &Case, device: &Device) -> Dense {
    let [of_a, of_b] = counts(case);
    let leaf = |count: usize, purpose| Tensor::<1>::from_data(TensorData::new(normal(count, purpose), [count]), device);
    let (d_input, d_output, ..) = case;
    layer(
        case,
        [
            leaf(d_input * d_output, "weight"),
            leaf(*d_output, "bias"),
            leaf(of_a, "a"),
            leaf(of_b, "b"),
        ],
    )
}

#[test]
fn a_frozen_weight_has_no_gradient_and_its_adapter_has_one() {
    let case: Case = (40, 96, 8, vec![0..32, 64..96]);
    let device = Device::flex().autodiff();
    let mut dense = some_layer(&case, &device);
    dense.weight = dense.weight.set_require_grad(false);
    dense.bias = dense.bias.map(|bias| bias.set_require_grad(false));
    let mut adapter = dense.adapter.take().unwrap();
    adapter.a = adapter.a.set_require_grad(true);
    adapter.b = adapter.b.set_require_grad(true);
    dense.adapter = Some(adapter);
    let x = Tensor::<2>::from_data(TensorData::new(normal(40 * 7, "x"), [7, 40]), &device);
    let gradients = dense.forward(x).sum().backward();
    assert!(dense.weight.val().grad(&gradients).is_none());
    assert!(dense.bias.as_ref().unwrap().val().grad(&gradients).is_none());
    let adapter = dense.adapter.as_ref().unwrap();
    assert!(adapter.a.val().grad(&gradients).is_some());
    assert!(adapter.b.val().grad(&gradients).is_some());
}

#[test]
fn dropout_of_the_low_rank_part_leaves_the_layer_itself_alone_and_is_a_function_of_the_key() {
    let case: Case = (40, 24, 4, whole(24));
    let dense = some_layer(&case, &Device::flex());
    let x = numbers([30, 40], "x");
    let y = |key| -> Vec<f32> {
        with_low_rank_dropout(key, || dense.forward(x.clone()))
            .into_data()
            .iter::<f32>()
            .collect()
    };
    assert_eq!(y(None), y(None));
    assert_eq!(y(Some(1)), y(Some(1)));
    assert_ne!(y(Some(1)), y(Some(2)));
    assert_ne!(y(Some(1)), y(None));
    // With B zero, dropout changes nothing.
    let mut without = dense.clone();
    let adapter = without.adapter.as_mut().unwrap();
    adapter.b = Param::initialized(adapter.b.id, Tensor::zeros([4, 24], &Device::flex()));
    let plain: Vec<f32> = without.forward(x.clone()).into_data().iter::<f32>().collect();
    let dropped: Vec<f32> = with_low_rank_dropout(Some(1), || without.forward(x.clone()))
        .into_data()
        .iter::<f32>()
        .collect();
    assert_eq!(plain, dropped);
}

/// The gradient goes through the quantized weight as through the same numbers in single precision.
#[test]
fn an_adapter_on_a_quantized_weight_computes_what_it_computes_on_the_decoded_one() {
    let case: Case = (64, 96, 8, vec![0..32, 32..64, 64..96]);
    let device = Device::flex().autodiff();
    for kind in [WeightType::Q8_0, WeightType::Q4_0, WeightType::F16] {
        let mut quantized = some_layer(&case, &device);
        quantized.quantize(kind).unwrap();
        let mut decoded = quantized.clone();
        decoded.unpack();
        let x = Tensor::<2>::from_data(TensorData::new(normal(64 * 5, "x"), [5, 64]), &device).require_grad();
        let run = |dense: &Dense| -> [Vec<f32>; 2] {
            let y = dense.forward(x.clone());
            let gradients = (y.clone() * y.clone()).sum().backward();
            let values = |x: Tensor<2>| x.into_data().iter::<f32>().collect();
            [values(y), values(x.grad(&gradients).unwrap())]
        };
        let (found, expected) = (run(&quantized), run(&decoded));
        for (found, expected) in found.iter().zip(&expected) {
            let largest = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-5 * largest,
                    "{kind}: {found} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn a_row_of_a_layer_with_an_adapter_does_not_depend_on_the_others() {
    for case in cases() {
        let dense = some_layer(&case, &Device::flex());
        let x = numbers([MOST, case.0], "x");
        assert_rows_are_independent(&format!("{case:?}"), |from, count| {
            dense.forward(x.clone().narrow(0, from, count))
        });
        let x = numbers([many_rows::MOST, case.0], "many");
        assert_many_rows_are_independent(&format!("{case:?}"), |from, count| {
            dense.forward(x.clone().narrow(0, from, count))
        });
    }
}

#[test]
fn a_layer_with_an_adapter_does_not_depend_on_the_number_of_threads() {
    let case: Case = (257, 512, 8, vec![0..256, 256..512]);
    let (d_input, d_output, ..) = case;
    let [of_a, of_b] = counts(&case);
    let rows = 300;
    let inputs = [
        normal(rows * d_input, "x"),
        normal(d_input * d_output, "weight"),
        normal(d_output, "bias"),
        normal(of_a, "a"),
        normal(of_b, "b"),
    ];
    assert_same_bits_for_any_threads("low-rank linear", &inputs, |leaves: &[Tensor<1>]| {
        let [x, weight, bias, a, b]: [Tensor<1>; 5] = leaves.to_vec().try_into().unwrap();
        let y = layer(&case, [weight, bias, a, b]).forward(x.reshape([rows, d_input]));
        y.reshape([rows * d_output])
    });
}
