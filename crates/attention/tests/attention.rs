//! Attention against a worked example, PyTorch's numbers, and an independent loop over every score.

use burn::module::Param;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use taal_attention::{
    AttentionContext, AttentionError, AttentionMask, AttentionOptions, CacheType, KvCache, MultiHeadAttention,
    MultiHeadAttentionConfig, attention_mask, scaled_dot_product_attention,
};
use taal_embeddings::{Rotary, alibi_bias};
use taal_kernels::random;

#[path = "attention/beams.rs"]
mod beams;
#[path = "attention/reference.rs"]
mod reference;
#[path = "attention/worked_example.rs"]
mod worked_example;

/// Absolute, between two single-precision ways to compute the same.
const TOLERANCE: f32 = 1e-5;

fn flex() -> Device {
    Device::flex()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter().collect()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (index, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "element {index}: {a} is not {b}");
    }
}

fn normal(shape: [usize; 4], key: u64) -> Tensor<4> {
    random::normal(shape, 1.0, key, &flex())
}

fn causal() -> AttentionOptions {
    AttentionOptions {
        is_causal: true,
        return_weights: true,
        ..Default::default()
    }
}

mod function {
    use super::*;

    /// `sin(0.7 i)` for i = 1, 2, ..: numbers that PyTorch can make too.
    fn wave(shape: [usize; 4], factor: f64, shift: f64, device: &Device) -> Tensor<4> {
        let len: usize = shape.iter().product();
        let values = (1..=len).map(|i| ((0.7 * i as f64).sin() * factor + shift) as f32);
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), device)
    }

    // torch 2.15, double precision: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).
    #[test]
    fn grouped_causal_attention_and_its_gradients_equal_pytorch() {
        let device = flex().autodiff();
        let q = wave([1, 4, 3, 2], 1.0, 0.0, &device).require_grad();
        let k = wave([1, 2, 3, 2], 1.3, 0.0, &device).require_grad();
        let v = wave([1, 2, 3, 5], 1.0, 0.5, &device).require_grad();
        let (context, _) = scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), None, &causal());
        let upstream: Vec<f32> = (1..=60).map(|i| (0.3 * f64::from(i)).cos() as f32).collect();
        let upstream = Tensor::from_data(TensorData::new(upstream, [1, 4, 3, 5]), &device);
        let gradients = (context.clone() * upstream).sum().backward();
        assert_close(&values(context), &reference::PYTORCH_CONTEXT, 2e-6);
        assert_close(&values(q.grad(&gradients).unwrap()), &reference::PYTORCH_D_Q, 2e-6);
        assert_close(&values(k.grad(&gradients).unwrap()), &reference::PYTORCH_D_K, 2e-6);
        assert_close(&values(v.grad(&gradients).unwrap()), &reference::PYTORCH_D_V, 2e-6);
    }

    #[test]
    fn every_option_equals_a_loop_over_scores_at_odd_sizes() {
        for (q_len, kv_len) in [(1, 1), (3, 3), (1, 17), (17, 17), (3, 40), (40, 96)] {
            for is_causal in [false, true] {
                for window in [None, Some(1), Some(5), Some(200)] {
                    for softcap in [None, Some(0.7)] {
                        let options = AttentionOptions {
                            is_causal,
                            window,
                            softcap,
                            scale: Some(0.4),
                            return_weights: true,
                            dropout: None,
                        };
                        check_against_loop(q_len, kv_len, &options);
                    }
                }
            }
        }
    }

    #[track_caller]
    fn check_against_loop(q_len: usize, kv_len: usize, options: &AttentionOptions) {
        let q = normal([2, 4, q_len, 6], 1);
        let k = normal([2, 2, kv_len, 6], 2);
        let v = normal([2, 2, kv_len, 3], 3);
        let expected = reference::attention(&q, &k, &v, options);
        let (context, weights) = scaled_dot_product_attention(q, k, v, None, options);
        assert_close(&values(context), &expected.0, TOLERANCE);
        let weights = values(weights.unwrap());
        assert_close(&weights, &expected.1, TOLERANCE);
        for (weight, expected) in weights.iter().zip(&expected.1) {
            assert!(*expected != 0.0 || *weight == 0.0, "a masked weight is {weight}");
        }
    }

    #[test]
    fn weights_are_probabilities() {
        for len in [1, 3, 17, 40, 96] {
            let (q, k) = (normal([2, 3, len, 8], 1), normal([2, 3, len, 8], 2));
            let (_, weights) = scaled_dot_product_attention(q, k.clone(), k, None, &causal());
            let weights = weights.unwrap();
            assert_close(&values(weights.clone().sum_dim(3)), &vec![1.0; 6 * len], 1e-5);
            assert!(values(weights).iter().all(|w| (0.0..=1.0 + 1e-6).contains(w)));
        }
    }

    #[test]
    fn grouped_queries_equal_repeated_heads() {
        let (q, k, v) = (
            normal([2, 6, 17, 8], 1),
            normal([2, 2, 17, 8], 2),
            normal([2, 2, 17, 5], 3),
        );
        let repeat = |x: &Tensor<4>| {
            let heads = [0, 0, 0, 1, 1, 1].map(|head| x.clone().narrow(1, head, 1));
            Tensor::cat(heads.to_vec(), 1)
        };
        let repeated = scaled_dot_product_attention(q.clone(), repeat(&k), repeat(&v), None, &causal());
        let grouped = scaled_dot_product_attention(q, k, v, None, &causal());
        assert_close(&values(grouped.0), &values(repeated.0), TOLERANCE);
        assert_close(&values(grouped.1.unwrap()), &values(repeated.1.unwrap()), TOLERANCE);
    }

    #[test]
    fn the_gradient_equals_finite_differences_under_every_mask() {
        let options = AttentionOptions {
            is_causal: true,
            window: Some(3),
            softcap: Some(2.0),
            ..Default::default()
        };
        let device = flex().autodiff();
        let shapes = [[1, 2, 5, 4], [1, 1, 7, 4], [1, 1, 7, 3]];
        let inputs = [1, 2, 3].map(|key| random::normal(shapes[key as usize - 1], 1.0, key, &flex()));
        let padding = || {
            let padded = [true, false, false, true, false, false, false];
            Tensor::<2, Bool>::from_data([padded], &device)
        };
        let upstream = random::normal([1, 2, 5, 3], 1.0, 9, &device);
        let objective = |inputs: [Tensor<4>; 3]| {
            let [q, k, v] = inputs;
            let mask = attention_mask(5, 7, Some(padding()), None, &options, &device);
            let (context, _) = scaled_dot_product_attention(q, k, v, Some(&mask), &options);
            (context * upstream.clone()).sum()
        };
        let tracked = inputs.clone().map(|x| x.autodiff().require_grad());
        let gradients = objective(tracked.clone()).backward();
        for (which, tracked) in tracked.iter().enumerate() {
            let gradient = values(tracked.grad(&gradients).unwrap());
            for (index, gradient) in gradient.iter().enumerate() {
                let at = |step: f32| {
                    let mut moved = inputs.clone();
                    let shape = moved[which].dims();
                    let mut data = values(moved[which].clone());
                    data[index] += step;
                    moved[which] = Tensor::from_data(TensorData::new(data, shape), &flex());
                    f64::from(values(objective(moved))[0])
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (difference - f64::from(*gradient)).abs() < 2e-3,
                    "input {which}, element {index}: {gradient} against {difference}"
                );
            }
        }
    }

    #[test]
    fn dropout_acts_on_weights_and_keeps_the_mean() {
        let (q, k) = (normal([1, 1, 96, 8], 1), normal([1, 1, 96, 8], 2));
        let ones = Tensor::ones([1, 1, 96, 1], &flex());
        let attend = |key| {
            let options = AttentionOptions {
                dropout: Some((0.25, key)),
                ..Default::default()
            };
            values(scaled_dot_product_attention(q.clone(), k.clone(), ones.clone(), None, &options).0)
        };
        let dropped = attend(7);
        let mean = dropped.iter().sum::<f32>() / 96.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert!(dropped.iter().any(|x| (x - 1.0).abs() > 0.01));
        assert_eq!(dropped, attend(7));
        assert_ne!(dropped, attend(8));
    }
}

mod masks {
    use super::*;

    fn additive(mask: AttentionMask) -> Vec<f32> {
        values(mask.additive().expect("there is something to mask").clone())
    }

    const NO: f32 = f32::NEG_INFINITY;

    #[test]
    fn a_causal_window_equals_the_mask_written_by_hand() {
        let options = AttentionOptions {
            window: Some(2),
            ..causal()
        };
        let mask = attention_mask(4, 4, None, None, &options, &flex());
        let by_hand = [
            0.0, NO, NO, NO, //
            0.0, 0.0, NO, NO, //
            NO, 0.0, 0.0, NO, //
            NO, NO, 0.0, 0.0,
        ];
        assert_eq!(additive(mask), by_hand);
    }

    #[test]
    fn with_a_cache_the_queries_come_last() {
        let mask = attention_mask(2, 5, None, None, &causal(), &flex());
        assert_eq!(additive(mask), [0.0, 0.0, 0.0, 0.0, NO, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn there_is_no_mask_where_every_query_sees_every_key() {
        let none = |q_len, kv_len, options: &AttentionOptions| {
            attention_mask(q_len, kv_len, None, None, options, &flex())
                .additive()
                .is_none()
        };
        assert!(none(1, 17, &causal()), "a step of decoding");
        assert!(none(17, 17, &AttentionOptions::default()), "a bidirectional model");
        assert!(none(
            1,
            3,
            &AttentionOptions {
                window: Some(3),
                ..causal()
            }
        ));
        assert!(!none(
            1,
            4,
            &AttentionOptions {
                window: Some(3),
                ..causal()
            }
        ));
    }

    #[test]
    fn an_empty_window_and_more_queries_than_keys_do_not_panic() {
        for is_causal in [false, true] {
            let options = AttentionOptions {
                is_causal,
                window: Some(0),
                ..Default::default()
            };
            let mask = attention_mask(3, 3, None, None, &options, &flex());
            assert_eq!(additive(mask), [NO; 9]);
        }
        let options = AttentionOptions {
            window: Some(1),
            ..Default::default()
        };
        let mask = attention_mask(3, 2, None, None, &options, &flex());
        assert_eq!(additive(mask), [0.0, NO, NO, 0.0, NO, NO]);
    }

    #[test]
    fn padding_and_causality_combine() {
        let padding = Tensor::<2, Bool>::from_data([[false, true, false], [true, false, false]], &flex());
        let mask = attention_mask(3, 3, Some(padding), None, &causal(), &flex());
        let expected = [
            [0.0, NO, NO, 0.0, NO, NO, 0.0, NO, 0.0],
            [NO, NO, NO, NO, 0.0, NO, NO, 0.0, 0.0],
        ];
        assert_eq!(additive(mask), expected.concat());
    }

    #[test]
    fn padded_keys_change_nothing() {
        let (q, k, v) = (
            normal([1, 2, 3, 4], 1),
            normal([1, 2, 5, 4], 2),
            normal([1, 2, 5, 4], 3),
        );
        let short = scaled_dot_product_attention(
            q.clone(),
            k.clone().narrow(2, 0, 3),
            v.clone().narrow(2, 0, 3),
            None,
            &AttentionOptions::default(),
        );
        let padding = Tensor::<2, Bool>::from_data([[false, false, false, true, true]], &flex());
        let options = AttentionOptions::default();
        let mask = attention_mask(3, 5, Some(padding), None, &options, &flex());
        // Not even numbers that would swamp the rest.
        let k = k.slice_fill([0..1, 0..2, 3..5, 0..4], 1e6_f32);
        let long = scaled_dot_product_attention(q, k, v, Some(&mask), &options);
        assert_close(&values(long.0), &values(short.0), TOLERANCE);
    }

    #[test]
    fn a_query_without_visible_keys_gets_zeros_forward_and_backward() {
        let device = flex().autodiff();
        let inputs = [1, 2, 3].map(|key| random::normal([2, 2, 3, 4], 1.0, key, &device).require_grad());
        let [q, k, v] = inputs.clone();
        // Left padding: the first queries of the second text see padding only.
        let padding = Tensor::<2, Bool>::from_data([[false; 3], [true, true, false]], &device);
        let mask = attention_mask(3, 3, Some(padding), None, &causal(), &device);
        let (context, weights) = scaled_dot_product_attention(q, k, v, Some(&mask), &causal());
        let gradients = context.clone().sum().backward();
        let lonely = context.slice([1..2, 0..2, 0..2, 0..4]);
        assert_eq!(values(lonely), [0.0; 16]);
        let lonely = weights.unwrap().slice([1..2, 0..2, 0..2, 0..3]);
        assert_eq!(values(lonely), [0.0; 12]);
        for (name, input) in ["q", "k", "v"].iter().zip(&inputs) {
            let gradient = values(input.grad(&gradients).unwrap());
            assert!(gradient.iter().all(|x| x.is_finite()), "d{name} = {gradient:?}");
        }
        let d_q = inputs[0].grad(&gradients).unwrap().slice([1..2, 0..2, 0..2, 0..4]);
        assert_eq!(values(d_q), [0.0; 16]);
    }

    #[test]
    fn alibi_lowers_scores_by_slope_times_distance() {
        // Equal scores, so the weights follow from the bias alone; a single head has slope 2^-8.
        let zeros = Tensor::<4>::zeros([1, 1, 3, 4], &flex());
        let bias = alibi_bias(1, 3, 3, &flex());
        let mask = attention_mask(3, 3, None, Some(bias), &causal(), &flex());
        let (_, weights) = scaled_dot_product_attention(zeros.clone(), zeros.clone(), zeros, Some(&mask), &causal());
        let [near, mid, far] = [0.0, 1.0, 2.0].map(|distance: f32| (-distance / 256.0).exp());
        let total = near + mid + far;
        let expected = [far / total, mid / total, near / total];
        assert_close(&values(weights.unwrap())[6..], &expected, 1e-6);
    }
}

mod cache {
    use super::*;

    #[test]
    fn the_cache_returns_all_tokens_and_drops_them_on_request() {
        let mut cache = KvCache::new(2, 3, 17, 4, &flex());
        assert!(cache.is_empty());
        assert_eq!(cache.capacity(), 17);
        let (k, v) = (normal([2, 3, 17, 4], 1), normal([2, 3, 17, 4], 2));
        let part = |x: &Tensor<4>, start, len| x.clone().narrow(2, start, len);
        for (start, len) in [(0, 3), (3, 1), (4, 13)] {
            let (all_k, all_v) = cache.append(part(&k, start, len), part(&v, start, len)).unwrap();
            assert_eq!(values(all_k), values(part(&k, 0, start + len)));
            assert_eq!(values(all_v), values(part(&v, 0, start + len)));
        }
        cache.truncate(40);
        assert_eq!(cache.len(), 17);
        cache.truncate(3);
        let (all_k, _) = cache.append(part(&k, 3, 1), part(&v, 3, 1)).unwrap();
        assert_eq!(values(all_k), values(part(&k, 0, 4)));
        cache.reset();
        assert!(cache.is_empty());
    }

    #[test]
    fn half_precision_gives_a_row_the_same_bits_in_any_batch() {
        let kind = CacheType::F16;
        let (k, v) = (normal([3, 2, 12, 8], 1), normal([3, 2, 12, 8], 2));
        let bits = |x: Tensor<4>| -> Vec<u32> { values(x).iter().map(|x| x.to_bits()).collect() };
        let mut whole = KvCache::of(kind, [3, 2, 12, 8], &flex());
        let (all_k, all_v) = whole.append(k.clone(), v.clone()).unwrap();
        // Rounded, and not by more than the last of 11 bits.
        let (rounded, exact) = (values(all_k.clone()), values(k.clone()));
        assert_ne!(rounded, exact);
        for (rounded, exact) in rounded.iter().zip(&exact) {
            assert!((rounded - exact).abs() <= exact.abs() / 2048.0, "{rounded} and {exact}");
        }
        for row in 0..3 {
            let of = |x: &Tensor<4>| x.clone().narrow(0, row, 1);
            let (expected_k, expected_v) = (bits(of(&all_k)), bits(of(&all_v)));
            // Token by token.
            let mut alone = KvCache::of(kind, [1, 2, 15, 8], &flex());
            for token in 0..12 {
                let part = |x: &Tensor<4>| of(x).narrow(2, token, 1);
                alone.append(part(&k), part(&v)).unwrap();
            }
            let nothing = || Tensor::<4>::zeros([1, 2, 1, 8], &flex());
            let (k_alone, v_alone) = alone.append_rows(nothing(), nothing(), None, Some(&[0])).unwrap();
            assert_eq!((bits(k_alone), bits(v_alone)), (expected_k.clone(), expected_v.clone()));
            // Next to rows of other lengths, and copied from one cache to another.
            let mut batch = KvCache::of(kind, [2, 2, 15, 8], &flex());
            batch.copy_row(1, &alone, 0).unwrap();
            let token = |value: f32| Tensor::<4>::full([2, 2, 1, 8], value, &flex());
            let (k_batch, _) = batch.append_rows(token(1.0), token(2.0), None, Some(&[1, 0])).unwrap();
            assert_eq!(bits(k_batch.narrow(0, 1, 1)), expected_k);
            assert_eq!(batch.lens(), [1, 12]);
        }
    }

    #[test]
    fn caches_of_both_types_copy_rows_of_each_other() {
        let x = normal([1, 2, 4, 8], 3);
        for (from, to) in [(CacheType::F16, CacheType::F32), (CacheType::F32, CacheType::F16)] {
            let mut first = KvCache::of(from, [1, 2, 4, 8], &flex());
            let mut second = KvCache::of(to, [2, 2, 6, 8], &flex());
            first.append(x.clone(), x.clone()).unwrap();
            second.copy_row(1, &first, 0).unwrap();
            let nothing = || Tensor::<4>::zeros([2, 2, 1, 8], &flex());
            let (k, v) = second.append_rows(nothing(), nothing(), None, Some(&[0, 0])).unwrap();
            let row = |x: Tensor<4>| values(x.narrow(0, 1, 1));
            assert_close(&row(k), &values(x.clone()), 2e-3);
            assert_close(&row(v), &values(x.clone()), 2e-3);
        }
    }

    #[test]
    fn a_view_handed_out_earlier_is_not_overwritten() {
        let mut cache = KvCache::new(1, 1, 3, 2, &flex());
        let token = |value: f32| Tensor::<4>::full([1, 1, 1, 2], value, &flex());
        let (first, _) = cache.append(token(1.0), token(1.0)).unwrap();
        cache.reset();
        cache.append(token(2.0), token(2.0)).unwrap();
        assert_eq!(values(first), [1.0, 1.0]);
    }

    #[test]
    fn a_full_cache_and_a_wrong_size_are_errors_that_change_nothing() {
        let mut cache = KvCache::new(1, 2, 3, 4, &flex());
        let tokens = |len| Tensor::<4>::ones([1, 2, len, 4], &flex());
        cache.append(tokens(2), tokens(2)).unwrap();
        let full = AttentionError::CacheFull {
            len: 2,
            added: 2,
            capacity: 3,
        };
        assert_eq!(cache.append(tokens(2), tokens(2)).unwrap_err(), full);
        let wrong = Tensor::<4>::ones([1, 1, 1, 4], &flex());
        let error = cache.append(tokens(1), wrong).unwrap_err();
        assert!(matches!(error, AttentionError::CacheShape { .. }), "{error}");
        assert_eq!(cache.len(), 2);
        assert!(cache.append(tokens(1), tokens(1)).is_ok());
    }
}

mod layer {
    use super::*;

    const CONFIG: MultiHeadAttentionConfig = MultiHeadAttentionConfig {
        d_model: 24,
        n_heads: 6,
        n_kv_heads: 2,
        head_dim: 10,
        qkv_bias: true,
        output_bias: true,
        qk_norm: Some(1e-6),
    };

    /// A layer whose weights are large enough to make attention uneven, biases and norms included.
    fn layer(config: MultiHeadAttentionConfig, device: &Device) -> MultiHeadAttention {
        let mut layer = config.init(0, device);
        let vector = |len, key| Param::from_tensor(random::normal([len], 0.5, key, device));
        let shape = layer.qkv.weight.val().dims();
        let [d_model, qkv_width] = shape;
        layer.qkv.weight = Param::from_tensor(random::normal(shape, 0.4, 21, device));
        layer.qkv.bias = layer.qkv.bias.map(|_| vector(qkv_width, 22));
        layer.output.bias = layer.output.bias.map(|_| vector(d_model, 23));
        layer.q_norm = layer.q_norm.map(|_| vector(config.head_dim, 24));
        layer.k_norm = layer.k_norm.map(|_| vector(config.head_dim, 25));
        layer
    }

    fn input(seq: usize, device: &Device) -> Tensor<3> {
        random::normal([2, seq, CONFIG.d_model], 1.0, 31, device)
    }

    fn rotary(device: &Device) -> Rotary {
        Rotary::new(CONFIG.head_dim, 96, 10_000.0, device).unwrap()
    }

    #[test]
    fn cached_attention_equals_full_attention() {
        let (layer, rotary) = (layer(CONFIG, &flex()), rotary(&flex()));
        for window in [None, Some(7)] {
            let options = AttentionOptions { window, ..causal() };
            let x = input(40, &flex());
            let context = AttentionContext {
                rotary: Some(&rotary),
                options: options.clone(),
                ..Default::default()
            };
            let full = layer.forward(x.clone(), context).unwrap();
            let mut cache = KvCache::new(2, CONFIG.n_kv_heads, 40, CONFIG.head_dim, &flex());
            let mut outputs = Vec::new();
            for (start, len) in [(0, 17), (17, 1), (18, 3), (21, 1), (22, 18)] {
                let context = AttentionContext {
                    rotary: Some(&rotary),
                    options: options.clone(),
                    cache: Some(&mut cache),
                    start,
                    ..Default::default()
                };
                let part = layer.forward(x.clone().narrow(1, start, len), context).unwrap();
                assert_eq!(part.weights.unwrap().dims(), [2, 6, len, start + len]);
                outputs.push(part.output);
            }
            assert_close(&values(Tensor::cat(outputs, 1)), &values(full.output), TOLERANCE);
        }
    }

    #[test]
    fn training_and_inference_compute_the_same() {
        for qkv_bias in [false, true] {
            let config = MultiHeadAttentionConfig { qkv_bias, ..CONFIG };
            let run = |device: &Device| {
                let rotary = rotary(device);
                let context = AttentionContext {
                    rotary: Some(&rotary),
                    options: causal(),
                    ..Default::default()
                };
                layer(config, device).forward(input(17, device), context).unwrap()
            };
            let (training, inference) = (run(&flex().autodiff()), run(&flex()));
            assert_close(&values(training.output), &values(inference.output), TOLERANCE);
        }
    }

    // The query, key and value columns of the fused projection, by a separate product with each head's columns.
    #[test]
    fn the_fused_projection_holds_queries_then_keys_then_values() {
        let config = MultiHeadAttentionConfig {
            qk_norm: None,
            ..CONFIG
        };
        let layer = layer(config, &flex());
        let x = input(17, &flex());
        let head = |index: usize| {
            let columns = index * 10..(index + 1) * 10;
            let weight = layer.qkv.weight.val().slice_dim(1, columns.clone());
            let bias = layer.qkv.bias.as_ref().unwrap().val().slice_dim(0, columns);
            (x.clone().matmul(weight.unsqueeze()) + bias.unsqueeze()).unsqueeze_dim::<4>(1)
        };
        let heads = |range: std::ops::Range<usize>| Tensor::cat(range.map(head).collect(), 1);
        let (context, _) = scaled_dot_product_attention(heads(0..6), heads(6..8), heads(8..10), None, &causal());
        let joined = context.swap_dims(1, 2).reshape([2, 17, 60]);
        let expected = layer.output.forward(joined);
        let context = AttentionContext {
            options: causal(),
            ..Default::default()
        };
        let got = layer.forward(x, context).unwrap();
        assert_close(&values(got.output), &values(expected), TOLERANCE);
    }

    #[test]
    fn a_mask_built_once_equals_the_mask_built_by_each_layer() {
        let layer = layer(CONFIG, &flex());
        let mask = attention_mask(17, 17, None, None, &causal(), &flex());
        let run = |mask: Option<&AttentionMask>| {
            let context = AttentionContext {
                mask,
                options: causal(),
                ..Default::default()
            };
            values(layer.forward(input(17, &flex()), context).unwrap().output)
        };
        assert_eq!(run(Some(&mask)), run(None));
    }

    #[test]
    fn a_later_token_never_changes_an_earlier_output() {
        let layer = layer(CONFIG, &flex());
        let run = |x| {
            let context = AttentionContext {
                options: causal(),
                ..Default::default()
            };
            layer.forward(x, context).unwrap().output.narrow(1, 0, 16)
        };
        let x = input(17, &flex());
        let changed = x.clone().slice_fill([0..2, 16..17], 9.0_f32);
        assert_eq!(values(run(x)), values(run(changed)));
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let device = flex().autodiff();
        let layer = layer(CONFIG, &device);
        let context = AttentionContext {
            options: causal(),
            ..Default::default()
        };
        let output = layer.forward(input(3, &device), context).unwrap().output;
        let gradients = (output.clone() * output).sum().backward();
        let is_alive = |gradient: Option<Vec<f32>>| {
            gradient.is_some_and(|g| g.iter().all(|x| x.is_finite()) && g.iter().any(|x| *x != 0.0))
        };
        for matrix in [&layer.qkv.weight, &layer.output.weight] {
            assert!(is_alive(matrix.val().grad(&gradients).map(values)));
        }
        for vector in [&layer.qkv.bias, &layer.output.bias, &layer.q_norm, &layer.k_norm] {
            let vector = vector.as_ref().unwrap().val();
            assert!(is_alive(vector.grad(&gradients).map(values)));
        }
    }

    #[test]
    fn qk_norm_makes_the_scale_of_the_input_irrelevant_to_the_weights() {
        let config = MultiHeadAttentionConfig {
            qkv_bias: false,
            ..CONFIG
        };
        let layer = layer(config, &flex());
        let weights = |factor: f64| {
            let context = AttentionContext {
                options: causal(),
                ..Default::default()
            };
            let x = input(17, &flex()).mul_scalar(factor);
            values(layer.forward(x, context).unwrap().weights.unwrap())
        };
        assert_close(&weights(1.0), &weights(50.0), 1e-4);
    }

    #[test]
    fn configurations_that_cannot_be_built_are_refused_by_name() {
        assert_eq!(CONFIG.validate(), Ok(()));
        let message = |config: MultiHeadAttentionConfig| config.validate().unwrap_err().to_string();
        let uneven = MultiHeadAttentionConfig {
            n_kv_heads: 4,
            ..CONFIG
        };
        assert!(message(uneven).contains("n_heads = 6 is not a multiple of n_kv_heads = 4"));
        let empty = MultiHeadAttentionConfig {
            n_kv_heads: 0,
            ..CONFIG
        };
        assert!(message(empty).contains("n_kv_heads: expected at least 1"));
        let empty = MultiHeadAttentionConfig { head_dim: 0, ..CONFIG };
        assert!(message(empty).contains("head_dim"));
        for eps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let config = MultiHeadAttentionConfig {
                qk_norm: Some(eps),
                ..CONFIG
            };
            assert!(message(config).contains("qk_norm"));
        }
    }

    #[test]
    fn positions_past_the_tables_are_an_error() {
        let (layer, rotary) = (layer(CONFIG, &flex()), rotary(&flex()));
        let context = AttentionContext {
            rotary: Some(&rotary),
            start: 95,
            ..Default::default()
        };
        let error = layer.forward(input(3, &flex()), context).unwrap_err();
        assert!(matches!(error, AttentionError::Position(_)), "{error}");
    }
}
