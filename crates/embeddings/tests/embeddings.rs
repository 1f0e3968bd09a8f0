//! Embeddings and positions against hand-computed numbers and those of transformers 5.23.

use burn::tensor::{Device, Int, Tensor};
use taal_embeddings::{
    EmbeddingError, LearnedPositionsConfig, Position, Rotary, RotaryScaling, TokenEmbeddingConfig, alibi_bias,
    alibi_slopes, sinusoidal,
};
use taal_kernels::random;

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

mod token {
    use super::*;

    #[test]
    fn forward_looks_up_rows_of_the_weight() {
        let embedding = TokenEmbeddingConfig {
            vocab_size: 17,
            d_model: 3,
        }
        .init(&flex());
        let ids = Tensor::<2, Int>::from_ints([[0, 16, 5], [5, 5, 1]], &flex());
        let rows = values(embedding.forward(ids));
        let weight = values(embedding.weight.val());
        for (row, id) in rows.chunks(3).zip([0, 16, 5, 5, 5, 1]) {
            assert_eq!(row, &weight[3 * id..3 * id + 3]);
        }
    }

    #[test]
    fn the_gradient_of_a_repeated_id_adds_up_and_others_get_none() {
        let device = flex().autodiff();
        let embedding = TokenEmbeddingConfig {
            vocab_size: 4,
            d_model: 2,
        }
        .init(&device);
        let ids = Tensor::<2, Int>::from_ints([[1, 1, 3]], &device);
        let gradients = embedding.forward(ids).sum().backward();
        let gradient = embedding.weight.val().grad(&gradients).unwrap();
        assert_eq!(values(gradient), [0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn logits_are_dot_products_with_every_row() {
        let embedding = TokenEmbeddingConfig {
            vocab_size: 40,
            d_model: 17,
        }
        .init(&flex());
        let hidden = random::normal([2, 3, 17], 1.0, 1, &flex());
        let logits = embedding.logits(hidden.clone());
        assert_eq!(logits.dims(), [2, 3, 40]);
        let (logits, hidden) = (values(logits), values(hidden));
        let weight = values(embedding.weight.val());
        for (index, logit) in logits.iter().enumerate() {
            let (row, token) = (index / 40, index % 40);
            let dot: f32 = (0..17).map(|i| hidden[17 * row + i] * weight[17 * token + i]).sum();
            assert!((logit - dot).abs() < TOLERANCE, "{logit} is not {dot}");
        }
        let flat = Tensor::<2>::from_data(embedding.weight.val().to_data(), &flex());
        assert_eq!(embedding.logits(flat).dims(), [40, 40]);
    }

    #[test]
    fn fresh_weights_are_small_and_always_the_same() {
        let config = TokenEmbeddingConfig {
            vocab_size: 96,
            d_model: 40,
        };
        let weight = values(config.init(&flex()).weight.val());
        assert_eq!(weight, values(config.init(&flex().autodiff()).weight.val()));
        let variance = weight.iter().map(|x| x * x).sum::<f32>() / weight.len() as f32;
        assert!((variance.sqrt() - 0.02).abs() < 0.001);
    }
}

mod learned {
    use super::*;

    #[test]
    fn positions_start_where_asked() {
        let positions = LearnedPositionsConfig {
            max_len: 17,
            d_model: 3,
        }
        .init(&flex());
        let all = values(positions.forward(17, 0).unwrap());
        assert_eq!(values(positions.forward(3, 14).unwrap()), all[42..]);
        assert_eq!(positions.forward(1, 16).unwrap().dims(), [1, 3]);
    }

    #[test]
    fn a_position_that_does_not_exist_is_an_error() {
        let positions = LearnedPositionsConfig {
            max_len: 17,
            d_model: 3,
        }
        .init(&flex());
        let expected = EmbeddingError::TooLong {
            start: 15,
            end: 18,
            max_len: 17,
        };
        assert_eq!(positions.forward(3, 15).unwrap_err(), expected);
        assert!(positions.forward(1, usize::MAX).is_err());
    }
}

// By hand from the paper's formula with d = 4: the second pair has frequency 1 / 10000^(2/4) = 0.01.
#[test]
fn sinusoidal_is_the_papers_formula_interleaved() {
    let table = values(sinusoidal(3, 4, &flex()));
    let expected = [
        0.0_f32,
        1.0,
        0.0,
        1.0, //
        0.841_470_96,
        0.540_302_3,
        0.009_999_833,
        0.999_95, //
        0.909_297_4,
        -0.416_146_84,
        0.019_998_667,
        0.999_8,
    ];
    assert_close(&table, &expected, 1e-6);
    assert_eq!(sinusoidal(1, 3, &flex()).dims(), [1, 3]);
}

mod rotary {
    use super::*;

    // transformers 5.23: apply_rotary_pos_emb on (arange(1, 25) / 10).reshape(1, 2, 2, 6), head_dim 6, theta
    // 10,000, positions 5 and 6.
    #[test]
    fn rotary_equals_transformers() {
        let rotary = Rotary::new(6, 17, 10_000.0, &flex()).unwrap();
        let x = Tensor::<1, Int>::arange(1..25, &flex()).float().div_scalar(10.0);
        let turned = rotary.apply(x.reshape([1, 2, 2, 6]), 5).unwrap();
        let expected = [
            0.4119359, 0.0796372, 0.2935194, 0.0175725, 0.5325955, 0.6031968, 0.9515347, 0.466776, 0.8844132,
            0.7645794, 1.2775446, 1.2115334, 1.9030397, 0.9714634, 1.4805235, -0.792742, 1.9764259, 1.8160535,
            2.4390376, 1.2906492, 2.0688014, 1.5814852, 2.7612, 2.4269447,
        ];
        assert_close(&values(turned), &expected, TOLERANCE);
    }

    // transformers 5.24: ROPE_INIT_FUNCTIONS on a LlamaConfig with head_dim 16 and theta 500.
    #[test]
    fn scaled_angles_equal_transformers() {
        let llama3 = RotaryScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_len: 64,
        };
        let linear = RotaryScaling::Linear { factor: 3.0 };
        let cases = [
            (
                llama3,
                [
                    1.0,
                    0.459_863_28,
                    0.097_616_63,
                    0.012_156_156,
                    0.005_590_17,
                    0.002_570_714,
                    0.001_182_177,
                    0.000_543_639_8,
                ],
            ),
            (
                linear,
                [
                    0.333_333_34,
                    0.153_287_75,
                    0.070_491_41,
                    0.032_416_414,
                    0.014_907_121,
                    0.006_855_238,
                    0.003_152_472,
                    0.001_449_706_2,
                ],
            ),
        ];
        for (scaling, expected) in cases {
            let rotary = Rotary::scaled(16, 2, 500.0, Some(scaling), &flex()).unwrap();
            let (_, sines) = rotary.rows(1, 1).unwrap();
            let angles: Vec<f32> = values(sines)[8..].iter().map(|sine| sine.asin()).collect();
            for (angle, expected) in angles.iter().zip(expected) {
                assert!((angle / expected - 1.0).abs() < 1e-6, "{angle} is not {expected}");
            }
        }
    }

    // transformers 5.24: LlamaRotaryEmbedding with the configuration of Llama 3.2 1B at its last position.
    #[test]
    fn the_farthest_angles_equal_transformers() {
        let scaling = RotaryScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_len: 8192,
        };
        let rotary = Rotary::scaled(64, 131_072, 500_000.0, Some(scaling), &flex()).unwrap();
        let (cosines, _) = rotary.rows(131_071, 1).unwrap();
        let expected = [
            -0.8179835, 0.7326389, -0.372722, 0.9564767, -0.5605309, -0.9996256, -0.9168654, 0.524542, -0.9951218,
            -0.861557, -0.9696459, 0.0116621, 0.6874918, 0.9571168, 0.9989442, 0.8811103, 0.9698352, 0.9874846,
            -0.8305308, -0.1216531, 0.4326989, 0.7347955, 0.8801259, 0.9466038, 0.9763675, 0.98957, 0.9954025,
            0.9979745, 0.9991079, 0.9996071, 0.999827, 0.9999238,
        ];
        assert_close(&values(cosines)[..32], &expected, 1e-6);
    }

    #[test]
    fn scores_depend_on_distance_only() {
        let rotary = Rotary::new(40, 96, 10_000.0, &flex()).unwrap();
        let q = random::normal([1, 1, 1, 40], 1.0, 1, &flex());
        let k = random::normal([1, 1, 1, 40], 1.0, 2, &flex());
        let score = |q_start, k_start| {
            let q = rotary.apply(q.clone(), q_start).unwrap();
            let k = rotary.apply(k.clone(), k_start).unwrap();
            values((q * k).sum_dim(3))[0]
        };
        assert!((score(7, 3) - score(95, 91)).abs() < 1e-4);
        assert!((score(7, 3) - score(7, 4)).abs() > 1e-3);
    }

    #[test]
    fn turning_in_parts_equals_turning_at_once_also_from_a_strided_view() {
        let rotary = Rotary::new(4, 17, 500.0, &flex()).unwrap();
        let x = random::normal([2, 17, 3, 4], 1.0, 1, &flex()).swap_dims(1, 2); // [2, 3, 17, 4]
        let whole = rotary.apply(x.clone(), 0).unwrap();
        let parts =
            [(0, 3), (3, 1), (4, 13)].map(|(start, len)| rotary.apply(x.clone().narrow(2, start, len), start).unwrap());
        assert_eq!(values(whole), values(Tensor::cat(parts.to_vec(), 2)));
    }

    // A rotation preserves lengths, so the gradient of |turned|^2 / 2 is x itself.
    #[test]
    fn the_gradient_turns_back() {
        let device = flex().autodiff();
        let rotary = Rotary::new(6, 40, 10_000.0, &device).unwrap();
        let x = random::normal([2, 3, 17, 6], 1.0, 1, &device).require_grad();
        let turned = rotary.apply(x.clone(), 20).unwrap();
        let gradients = (turned.clone() * turned).sum().div_scalar(2.0).backward();
        assert_close(&values(x.grad(&gradients).unwrap()), &values(x), 1e-5);
    }

    #[test]
    fn odd_widths_and_missing_positions_are_errors() {
        for head_dim in [0, 1, 17] {
            let error = Rotary::new(head_dim, 3, 1e4, &flex()).unwrap_err();
            assert_eq!(error, EmbeddingError::OddHeadDim { head_dim });
        }
        let rotary = Rotary::new(2, 3, 1e4, &flex()).unwrap();
        assert_eq!(rotary.max_len(), 3);
        let x = || Tensor::<4>::zeros([1, 1, 3, 2], &flex());
        assert!(rotary.apply(x(), 0).is_ok());
        let expected = EmbeddingError::TooLong {
            start: 1,
            end: 4,
            max_len: 3,
        };
        assert_eq!(rotary.apply(x(), 1).unwrap_err(), expected);
    }
}

mod alibi {
    use super::*;

    // The paper's own sequence for 8 heads; for 6 heads transformers' build_alibi_tensor.
    #[test]
    fn slopes_follow_the_paper_also_between_powers_of_two() {
        let eight = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625];
        assert_eq!(alibi_slopes(8), eight);
        assert_eq!(alibi_slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
        assert_eq!(alibi_slopes(1), [0.00390625]);
        assert_eq!(alibi_slopes(3), [0.0625, 0.00390625, 0.25]);
        assert!(alibi_slopes(0).is_empty());
    }

    #[test]
    fn the_bias_is_minus_slope_times_distance() {
        let bias = alibi_bias(8, 2, 3, &flex());
        assert_eq!(bias.dims(), [1, 8, 2, 3]);
        let bias = values(bias);
        // The queries stand at positions 1 and 2.
        assert_eq!(bias[..6], [-0.5, -0.0, -0.5, -1.0, -0.5, -0.0]);
        assert_eq!(bias[6..9], [-0.25, -0.0, -0.25]);
    }
}

#[test]
fn every_position_reads_back_as_written_and_others_are_refused() {
    for position in Position::ALL {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    let error = "relative".parse::<Position>().unwrap_err();
    assert!(error.to_string().contains("learned, sinusoidal, rotary, alibi or none"));
}
