//! Every operation that a GPU has a kernel for, against what flex computes: results and every gradient.
//!
//! `cargo xtask parity` runs it with a GPU's feature on; `TAAL_PARITY_DEVICE` names the device, `wgpu` unless set.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use taal_kernels::{
    AdamWStep, AttentionMask, AttentionSettings, DeviceSpec, IGNORE_INDEX, embedding, geglu, gelu, gelu_tanh,
    layer_norm, linear_cross_entropy, random, relu_squared, rms_norm, silu, swiglu,
};

/// The largest difference, over the largest number of the result, that is put down to the order of sums.
const TOLERANCE: f32 = 1e-5;
/// The same for attention, whose sums go through three products.
const ATTENTION: f32 = 1e-4;

fn gpu() -> Device {
    let name = std::env::var("TAAL_PARITY_DEVICE").unwrap_or_else(|_| "wgpu".to_owned());
    let spec = name.parse::<DeviceSpec>().expect("TAAL_PARITY_DEVICE names a device");
    spec.open().expect("the device opens")
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

#[track_caller]
fn assert_alike(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0_f32, |max, x| max.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * largest,
            "{what}, element {i}: {found} instead of {expected}"
        );
    }
}

/// Inputs of a test: their sizes, and what is done with them.
type Operation<'a, const D: usize> = &'a dyn Fn(&[Tensor<D>]) -> Tensor<D>;

/// Result and gradients of an operation on `shapes`, each input normally distributed.
fn differentiate<const D: usize>(device: &Device, shapes: &[[usize; D]], operation: Operation<'_, D>) -> Vec<Vec<f32>> {
    let device = device.clone().autodiff();
    let inputs: Vec<Tensor<D>> = (1..)
        .zip(shapes)
        .map(|(key, shape)| random::normal(*shape, 1.0, key, &device).require_grad())
        .collect();
    let result = operation(&inputs);
    let slope = random::normal(result.dims(), 1.0, 99, &device);
    let gradients = (result.clone() * slope).sum().backward();
    let mut found = vec![numbers(result)];
    found.extend(inputs.iter().map(|x| numbers(x.grad(&gradients).expect("a gradient"))));
    found
}

/// An operation on both devices, and twice on the GPU, which must give equal bits.
#[track_caller]
fn assert_same<const D: usize>(what: &str, shapes: &[[usize; D]], tolerance: f32, operation: Operation<'_, D>) {
    let gpu = gpu();
    let [found, again, expected] = [&gpu, &gpu, &Device::flex()].map(|device| differentiate(device, shapes, operation));
    assert_eq!(found, again, "{what}: two runs differ");
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let part = if i == 0 {
            "result".to_owned()
        } else {
            format!("gradient {i}")
        };
        assert_alike(&format!("{what}, {part}"), found, expected, tolerance);
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn norms_are_alike_at_every_width() {
    for (rows, width) in [(1, 1), (3, 7), (130, 48), (5, 257), (2, 1030)] {
        let shapes = [[rows, width], [1, width], [1, width]];
        let row = |x: &Tensor<2>| x.clone().reshape([width]);
        let what = format!("{rows} rows of {width}");
        assert_same(&format!("layer norm, {what}"), &shapes, TOLERANCE, &|x| {
            layer_norm(x[0].clone(), row(&x[1]), Some(row(&x[2])), 1e-5)
        });
        assert_same(
            &format!("layer norm without bias, {what}"),
            &shapes[..2],
            TOLERANCE,
            &|x| layer_norm(x[0].clone(), row(&x[1]), None, 1e-5),
        );
        assert_same(&format!("RMS norm, {what}"), &shapes[..2], TOLERANCE, &|x| {
            rms_norm(x[0].clone(), row(&x[1]), 1e-6)
        });
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn activations_are_alike_far_out_too() {
    type Unary = fn(Tensor<2>) -> Tensor<2>;
    type Binary = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;
    let one: [(&str, Unary); 4] = [
        ("gelu", gelu),
        ("gelu_tanh", gelu_tanh),
        ("silu", silu),
        ("relu_squared", relu_squared),
    ];
    for (name, function) in one {
        for scale in [1.0, 12.0, 1e4] {
            assert_same(&format!("{name}, scale {scale}"), &[[7, 37]], TOLERANCE, &|x| {
                function(x[0].clone().mul_scalar(scale))
            });
        }
    }
    let two: [(&str, Binary); 2] = [("swiglu", swiglu), ("geglu", geglu)];
    for (name, function) in two {
        assert_same(name, &[[7, 37], [7, 37]], TOLERANCE, &|x| {
            function(x[0].clone().mul_scalar(3.0), x[1].clone())
        });
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn cross_entropy_is_alike_with_what_is_ignored_and_smoothed() {
    for (rows, width, vocab, is_transposed, smoothing) in
        [(7, 5, 11, false, 0.0), (33, 16, 1000, true, 0.1), (1, 3, 2, false, 0.2)]
    {
        let weight = if is_transposed { [vocab, width] } else { [width, vocab] };
        let targets = (0..rows as i32)
            .map(|i| if i % 3 == 1 { IGNORE_INDEX } else { i * 7 % vocab as i32 })
            .collect::<Vec<_>>();
        let what = format!("{rows} rows, {vocab} tokens");
        assert_same(&what, &[[rows, width], weight], TOLERANCE, &|x| {
            let targets = TensorData::new(targets.clone(), [rows]);
            let targets = Tensor::<1, Int>::from_data(targets, &x[0].device());
            let loss = linear_cross_entropy(
                x[0].clone(),
                x[1].clone(),
                is_transposed,
                targets,
                IGNORE_INDEX,
                smoothing,
            );
            loss.reshape([1, 1])
        });
    }
}

/// A loss that is no number says so, huge logits have one, and ignored rows are 0 whatever is in them.
#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn cross_entropy_hides_nothing() {
    let device = gpu().autodiff();
    let run = |hidden: [f32; 2], target: i32| {
        let hidden = Tensor::<2>::from_floats([hidden, [1.0, 2.0]], &device).require_grad();
        let weight = Tensor::<2>::from_floats([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], &device);
        let targets = Tensor::<1, Int>::from_ints([target, 1], &device);
        let loss = linear_cross_entropy(hidden.clone(), weight, false, targets, IGNORE_INDEX, 0.0);
        let gradients = loss.clone().backward();
        (
            loss.into_scalar::<f32>(),
            numbers(hidden.grad(&gradients).expect("a gradient")),
        )
    };
    assert!(run([f32::NAN, 0.0], 0).0.is_nan());
    assert!(run([f32::INFINITY, 0.0], 0).0.is_nan());
    let (loss, slopes) = run([1e30, -1e30], 1);
    assert!(
        loss > 1e29 && slopes.iter().all(|x| x.is_finite()),
        "{loss}, {slopes:?}"
    );
    let (loss, slopes) = run([1e30, -1e30], IGNORE_INDEX);
    assert!(loss < 1.0 && slopes[..2] == [0.0, 0.0], "{loss}, {slopes:?}");
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn dropout_draws_the_same_elements() {
    let gpu = gpu();
    for (len, probability) in [(1, 0.5), (2, 0.1), (4097, 0.3), (100_000, 0.9), (7, 1.0)] {
        let make = |device: &Device| Tensor::<1>::ones([len], device);
        let key = random::key(3, 5, "parity");
        let expected = numbers(taal_kernels::dropout(make(&Device::flex()), probability, key));
        let found = numbers(taal_kernels::dropout(make(&gpu), probability, key));
        assert_eq!(found, expected, "{len} elements, {probability}");
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn embeddings_sum_the_gradients_of_repeated_tokens_in_their_order() {
    let gpu = gpu();
    for (vocab, width, batch, len) in [(5, 3, 2, 40), (1000, 7, 3, 33), (4, 64, 1, 1), (300, 48, 2, 257)] {
        let run = |device: &Device| {
            let device = device.clone().autodiff();
            let table = random::normal([vocab, width], 1.0, 1, &device).require_grad();
            let ids = (0..batch * len)
                .map(|i| ((i * 31 + i * i % 7) % vocab) as i32)
                .collect::<Vec<_>>();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [batch, len]), &device);
            let vectors = embedding(table.clone(), ids);
            let slope = random::normal(vectors.dims(), 1.0, 2, &device);
            let gradients = (vectors.clone() * slope).sum().backward();
            [numbers(vectors), numbers(table.grad(&gradients).expect("a gradient"))]
        };
        let [found, again, expected] = [&gpu, &gpu, &Device::flex()].map(run);
        assert_eq!(found, again, "two runs give equal bits");
        for (found, expected) in found.iter().zip(&expected) {
            assert_alike("embedding", found, expected, TOLERANCE);
        }
    }
}

#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn adamw_is_one_function() {
    let gpu = gpu();
    let step = AdamWStep {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 4,
        gradient_factor: 0.7,
    };
    let run = |device: &Device| {
        let make = |key| random::normal([37, 11], 1.0, key, device);
        let second = random::uniform([407], 0.0, 1.0, 4, device);
        let first = make(3).reshape([407]);
        let kept = make(1);
        let (value, first, second) = taal_kernels::adamw(&step, kept.clone(), make(2), first, second);
        // A value that is shared is left alone.
        [numbers(value), numbers(first), numbers(second), numbers(kept)]
    };
    let (found, expected) = (run(&gpu), run(&Device::flex()));
    for (found, expected) in found.iter().zip(&expected) {
        assert_alike("adamw", found, expected, 1e-6);
    }
}

/// Grouped queries, window, cap, scale, dropout, padding, bias, more keys than queries.
#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn attention_of_every_kind_is_alike() {
    let gpu = gpu();
    let capped = AttentionSettings {
        scale: Some(0.2),
        softcap: Some(3.0),
        dropout: Some((0.2, 11)),
    };
    for (q_len, kv_len, is_causal, window, settings) in [
        (40, 40, true, None, AttentionSettings::default()),
        (17, 40, true, Some(5), AttentionSettings::default()),
        (33, 33, false, Some(4), AttentionSettings::default()),
        (48, 48, true, None, capped),
        (1, 257, true, None, AttentionSettings::default()),
    ] {
        let run = |device: &Device| {
            let device = device.clone().autodiff();
            let make = |heads, len, key| random::normal([2, heads, len, 16], 1.0, key, &device).require_grad();
            let (q, k, v) = (make(4, q_len, 1), make(2, kv_len, 2), make(2, kv_len, 3));
            let mut mask = AttentionMask::new(q_len, kv_len, is_causal, window, &device);
            if !is_causal {
                let is_padding = (0..2 * kv_len)
                    .map(|i| i >= kv_len && i % kv_len > 20)
                    .collect::<Vec<bool>>();
                mask = mask.with_padding(Tensor::<2, Bool>::from_data(
                    TensorData::new(is_padding, [2, kv_len]),
                    &device,
                ));
            }
            let context = taal_kernels::attention(q.clone(), k.clone(), v.clone(), &mask, &settings);
            let slope = random::normal(context.dims(), 1.0, 4, &device);
            let gradients = (context.clone() * slope).sum().backward();
            let of = |x: Tensor<4>| numbers(x.grad(&gradients).expect("a gradient"));
            [numbers(context), of(q), of(k), of(v)]
        };
        let (found, expected) = (run(&gpu), run(&Device::flex()));
        for (what, (found, expected)) in ["context", "q", "k", "v"].iter().zip(found.iter().zip(&expected)) {
            assert_alike(&format!("{what} of {q_len} x {kv_len}"), found, expected, ATTENTION);
        }
    }
}

/// More and fewer queries than keys, a padded row, a single key.
#[test]
#[ignore = "needs a GPU: cargo xtask parity"]
fn attention_to_another_text_is_alike() {
    let gpu = gpu();
    for (q_len, lengths) in [(40, [17, 9]), (5, [33, 1]), (1, [7, 7]), (3, [1, 1])] {
        let kv_len = lengths[0];
        let run = |device: &Device| {
            let device = device.clone().autodiff();
            let queries = random::normal([2, q_len, 32], 1.0, 1, &device).require_grad();
            let keys_values = random::normal([2, kv_len, 64], 1.0, 2, &device).require_grad();
            let mask = AttentionMask::of_keys(&lengths, q_len, kv_len, &device);
            let settings = AttentionSettings::default();
            let context =
                taal_kernels::projected_cross_attention(queries.clone(), keys_values.clone(), 2, &mask, &settings);
            let slope = random::normal(context.dims(), 1.0, 4, &device);
            let gradients = (context.clone() * slope).sum().backward();
            let of = |x: Tensor<3>| numbers(x.grad(&gradients).expect("a gradient"));
            [numbers(context), of(queries), of(keys_values)]
        };
        let (found, expected) = (run(&gpu), run(&Device::flex()));
        for (what, (found, expected)) in ["context", "queries", "keys and values"]
            .iter()
            .zip(found.iter().zip(&expected))
        {
            assert_alike(&format!("{what} of {q_len} x {kv_len}"), found, expected, ATTENTION);
        }
    }
}
