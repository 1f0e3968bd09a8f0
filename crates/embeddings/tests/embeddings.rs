//! Embeddings and positions against hand-computed numbers and those of transformers 5.23.

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_embeddings::{
    EmbeddingError, LearnedPositionsConfig, Position, RelativeBiasConfig, Rotary, RotaryScaling, TokenEmbeddingConfig,
    alibi_bias, alibi_slopes, sinusoidal, sinusoidal_halves,
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
        .init(0, &flex());
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
        .init(0, &device);
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
        .init(0, &flex());
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
        let weight = values(config.init(0, &flex()).weight.val());
        assert_eq!(weight, values(config.init(0, &flex().autodiff()).weight.val()));
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
        .init(0, &flex());
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
        .init(0, &flex());
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

// transformers 5.24: MarianSinusoidalPositionalEmbedding(4, 6).create_weight()[3].
#[test]
fn sinusoidal_halves_equals_transformers() {
    let table = values(sinusoidal_halves(4, 6, &flex()));
    let expected = [
        0.14112,
        0.138_798_1,
        0.006_463_3,
        -0.989_992_5,
        0.990_320_7,
        0.999_979_1,
    ];
    assert_close(&table[18..], &expected, 1e-6);
}

mod relative {
    use super::*;

    /// The range of a distance from a query to a key: what a table of the ranges' own numbers gives.
    fn ranges(buckets: usize, max_distance: usize, is_bidirectional: bool) -> impl Fn(i64) -> f32 {
        let config = RelativeBiasConfig {
            buckets,
            max_distance,
            n_heads: 1,
            is_bidirectional,
        };
        let mut bias = config.init(0, &flex());
        let numbers: Vec<f32> = (0..buckets).map(|number| number as f32).collect();
        bias.weight = Param::from_tensor(Tensor::from_data(TensorData::new(numbers, [buckets, 1]), &flex()));
        let found = values(bias.forward(&[300], 1, 801));
        move |distance| found[(distance + 300) as usize]
    }

    const DISTANCES: [i64; 26] = [
        -300, -128, -127, -97, -64, -50, -33, -20, -17, -16, -15, -9, -8, -1, 0, 1, 7, 8, 9, 11, 16, 31, 90, 127, 128,
        500,
    ];

    // transformers 5.24: T5Attention._relative_position_bucket.
    #[test]
    fn ranges_of_distances_equal_transformers() {
        let cases: [(usize, usize, bool, [i32; 26]); 3] = [
            (
                32,
                128,
                true,
                [
                    15, 15, 15, 15, 14, 13, 12, 10, 10, 10, 9, 8, 8, 1, 0, 17, 23, 24, 24, 24, 26, 27, 30, 31, 31, 31,
                ],
            ),
            (
                32,
                128,
                false,
                [
                    31, 31, 31, 29, 26, 24, 21, 17, 16, 16, 15, 9, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ],
            ),
            (
                8,
                12,
                true,
                [
                    3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 0, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                ],
            ),
        ];
        for (buckets, max_distance, is_bidirectional, expected) in cases {
            let range = ranges(buckets, max_distance, is_bidirectional);
            for (distance, expected) in DISTANCES.into_iter().zip(expected) {
                assert_eq!(
                    range(distance),
                    expected as f32,
                    "distance {distance} of {max_distance}"
                );
            }
        }
    }

    #[test]
    fn rows_begin_where_asked_and_every_head_has_its_numbers() {
        let config = RelativeBiasConfig {
            buckets: 8,
            max_distance: 20,
            n_heads: 3,
            is_bidirectional: false,
        };
        let bias = config.init(1, &flex());
        let whole = bias.forward(&[0], 9, 9);
        assert_eq!(whole.dims(), [1, 3, 9, 9]);
        let rows = bias.forward(&[2, 7], 2, 9);
        assert_eq!(rows.dims(), [2, 3, 2, 9]);
        let both = Tensor::cat(vec![whole.clone().narrow(2, 2, 2), whole.narrow(2, 7, 2)], 0);
        assert_eq!(values(rows), values(both));
    }
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

    /// The angle of every pair from one position to the next, and the cosines and sines of position 97.
    fn angles_and_tables(max_len: usize, theta: f64, scaling: RotaryScaling) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let rotary = Rotary::scaled(16, max_len, theta, Some(scaling), &flex()).unwrap();
        let row = |position: usize| {
            let (cosines, sines) = rotary.rows(position, 1).unwrap();
            (values(cosines)[8..].to_vec(), values(sines)[8..].to_vec())
        };
        let (cosines, sines) = row(1);
        let angles = cosines.iter().zip(sines).map(|(cosine, sine)| sine.atan2(*cosine));
        let (cosines, sines) = row(97.min(max_len - 1));
        (angles.collect(), cosines, sines)
    }

    const YARN: RotaryScaling = yarn(4.0, 1.138_629_436_111_989, [32.0, 1.0], 2048, true);

    const fn yarn(
        factor: f64,
        attention_factor: f64,
        [beta_fast, beta_slow]: [f64; 2],
        original_max_len: usize,
        truncate: bool,
    ) -> RotaryScaling {
        RotaryScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            original_max_len,
            truncate,
        }
    }

    // transformers 5.24: LlamaRotaryEmbedding with head_dim 16; `inv_freq`, and its forward at position 97.
    #[test]
    fn report_13_yarn_equals_transformers() {
        let usual = 1.138_629_436_111_989;
        let cases = [
            (
                10_000.0,
                yarn(4.0, usual, [32.0, 1.0], 32, true),
                [
                    1.0,
                    0.197_642_36,
                    0.025,
                    0.007_905_695,
                    0.0025,
                    0.000_790_569_47,
                    0.000_25,
                    0.000_079_056_95,
                ],
                [
                    -1.0534002, 1.080198, -0.8585813, 0.8199251, 1.1053139, 1.1352831, 1.1382947, 1.1385959,
                ],
                [
                    0.4322325, 0.3600684, 0.7478737, 0.7900632, 0.2734193, 0.0872305, 0.0276091, 0.0087315,
                ],
            ),
            (
                10_000.0,
                YARN,
                [
                    1.0,
                    0.316_227_76,
                    0.1,
                    0.025_693_506,
                    0.006_25,
                    0.001_383_496_6,
                    0.000_25,
                    0.000_079_056_95,
                ],
                [
                    -1.0534002, 0.8394331, -1.095777, -0.906911, 0.9357149, 1.1283919, 1.1382947, 1.1385959,
                ],
                [
                    0.4322325, -0.7693043, -0.3094344, 0.6884689, 0.6487794, 0.1523449, 0.0276091, 0.0087315,
                ],
            ),
            (
                10_000.0,
                yarn(4.0, usual, [32.0, 1.0], 2048, false),
                [
                    1.0,
                    0.316_227_76,
                    0.1,
                    0.023_870_196,
                    0.005_056_971_7,
                    0.000_811_290_46,
                    0.000_25,
                    0.000_079_056_95,
                ],
                [
                    -1.0534002, 0.8394331, -1.095777, -0.7716343, 1.0043681, 1.1351055, 1.1382947, 1.1385959,
                ],
                [
                    0.4322325, -0.7693043, -0.3094344, 0.8372917, 0.5363972, 0.0895122, 0.0276091, 0.0087315,
                ],
            ),
            (
                10_000.0,
                yarn(4.0, usual, [16.0, 2.0], 2048, true),
                [
                    1.0,
                    0.316_227_76,
                    0.1,
                    0.023_717_083,
                    0.005,
                    0.000_790_569_47,
                    0.000_25,
                    0.000_079_056_95,
                ],
                [
                    -1.0534002, 0.8394331, -1.095777, -0.7591144, 1.007_317, 1.1352831, 1.1382947, 1.1385959,
                ],
                [
                    0.4322325, -0.7693043, -0.3094344, 0.8486592, 0.5308385, 0.0872305, 0.0276091, 0.0087315,
                ],
            ),
            (
                10_000.0,
                yarn(40.0, 0.921_042_355_316_339_9, [32.0, 1.0], 2048, true),
                [
                    1.0,
                    0.316_227_76,
                    0.1,
                    0.023_914_725,
                    0.005_125,
                    0.000_849_862_2,
                    0.000_025,
                    0.000_007_905_694_5,
                ],
                [
                    -0.8521001, 0.6790211, -0.8863789, -0.6270981, 0.8095569, 0.9179146, 0.9210397, 0.9210421,
                ],
                [
                    0.3496348, -0.6222936, -0.2503029, 0.6745865, 0.4392456, 0.0758417, 0.0022335, 0.0007063,
                ],
            ),
            // No pair completes a turn in 4 positions: the mixture would begin and end before the first pair.
            (
                500.0,
                yarn(4.0, usual, [32.0, 1.0], 4, true),
                [
                    1.0,
                    0.114_965_82,
                    0.052_868_56,
                    0.024_312_312,
                    0.011_180_34,
                    0.005_141_428,
                    0.002_364_354,
                    0.001_087_279_6,
                ],
                [
                    -1.0534002, 0.1770309, 0.4599811, -0.8068214, 0.5321509, 0.99994, 1.1088157, 1.1323028,
                ],
                [
                    0.4322325, -1.124783, -1.0415826, 0.8034402, 1.0066242, 0.5446071, 0.2588528, 0.1198643,
                ],
            ),
        ];
        for (theta, scaling, expected, cosines, sines) in cases {
            let (angles, got_cosines, got_sines) = angles_and_tables(128, theta, scaling);
            for (angle, expected) in angles.iter().zip(expected) {
                let expected: f32 = expected;
                assert!(
                    (angle / expected - 1.0).abs() < 1e-6,
                    "{scaling:?}: {angle} is not {expected}"
                );
            }
            assert_close(&got_cosines, &cosines, 1e-6);
            assert_close(&got_sines, &sines, 1e-6);
        }
    }

    // transformers 5.24: dynamic scaling at various lengths in tokens; head_dim 16, theta 10,000, factor 4, trained on 64 tokens.
    #[test]
    fn report_13_dynamic_scaling_equals_transformers_and_changes_nothing_up_to_the_original_length() {
        let dynamic = RotaryScaling::Dynamic {
            factor: 4.0,
            original_max_len: 64,
        };
        let usual = [
            1.0,
            0.316_227_76,
            0.1,
            0.031_622_78,
            0.01,
            0.003_162_277_9,
            0.001,
            0.000_316_227_8,
        ];
        let cases = [
            (32, usual),
            (64, usual),
            (
                65,
                [
                    1.0,
                    0.313_500_85,
                    0.098_282_784,
                    0.030_811_736,
                    0.009_659_505,
                    0.003_028_263,
                    0.000_949_363_1,
                    0.000_297_626_13,
                ],
            ),
            (
                128,
                [
                    1.0,
                    0.251_273_75,
                    0.063_138_51,
                    0.015_865_048,
                    0.003_986_470_4,
                    0.001_001_695_4,
                    0.000_251_699_8,
                    0.000_063_245_55,
                ],
            ),
        ];
        for (max_len, expected) in cases {
            let (angles, ..) = angles_and_tables(max_len, 10_000.0, dynamic);
            for (angle, expected) in angles.iter().zip(expected) {
                let expected: f32 = expected;
                assert!(
                    (angle / expected - 1.0).abs() < 1e-6,
                    "{max_len}: {angle} is not {expected}"
                );
            }
        }
        let rotary = Rotary::scaled(16, 65, 10_000.0, Some(dynamic), &flex()).unwrap();
        let (cosines, _) = rotary.rows(64, 1).unwrap();
        let expected = [
            0.3918572, 0.3488069, 0.9999761, -0.3904817, 0.8149182, 0.9812778, 0.9981547, 0.9998186,
        ];
        assert_close(&values(cosines)[..8], &expected, 1e-6);
    }

    // Scores of queries and keys grow by the square of the attention factor; so do gradients through both.
    #[test]
    fn report_13_yarn_makes_queries_and_keys_longer() {
        let device = flex().autodiff();
        let rotary = Rotary::scaled(16, 8, 10_000.0, Some(YARN), &flex()).unwrap();
        let x = random::normal([1, 1, 8, 16], 1.0, 1, &device).require_grad();
        let turned = rotary.apply(x.clone(), 0).unwrap();
        let square = 1.138_629_4_f32 * 1.138_629_4;
        let length = |x: Tensor<4>| values((x.clone() * x).sum())[0];
        assert!((length(turned.clone().inner()) / length(x.clone().inner()) - square).abs() < 1e-5);
        let gradients = (turned.clone() * turned).sum().div_scalar(2.0).backward();
        let gradient = x.grad(&gradients).unwrap();
        assert_close(&values(gradient), &values(x.inner().mul_scalar(square)), 1e-5);
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
    fn rotating_in_parts_equals_rotating_at_once_also_from_a_strided_view() {
        let rotary = Rotary::new(4, 17, 500.0, &flex()).unwrap();
        let x = random::normal([2, 17, 3, 4], 1.0, 1, &flex()).swap_dims(1, 2); // [2, 3, 17, 4]
        let whole = rotary.apply(x.clone(), 0).unwrap();
        let parts =
            [(0, 3), (3, 1), (4, 13)].map(|(start, len)| rotary.apply(x.clone().narrow(2, start, len), start).unwrap());
        assert_eq!(values(whole), values(Tensor::cat(parts.to_vec(), 2)));
    }

    // A rotation preserves lengths, so the gradient of |rotated|^2 / 2 is x itself.
    #[test]
    fn the_gradient_is_the_inverse_rotation() {
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
        // The queries are at positions 1 and 2.
        assert_eq!(bias[..6], [-0.5, -0.0, -0.5, -1.0, -0.5, -0.0]);
        assert_eq!(bias[6..9], [-0.25, -0.0, -0.25]);
    }
}

#[test]
fn every_position_reads_back_as_written_and_others_are_refused() {
    for position in Position::ALL {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    let error = "absolute".parse::<Position>().unwrap_err();
    let all = "learned, sinusoidal, rotary, alibi, relative or none";
    assert!(error.to_string().contains(all));
}
