//! One summation order per number in inference: a row computes the same bits alone and in a batch of any size, and a query the same with any
//! number of queries, cached keys and padding.

use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::{
    AttentionMask, AttentionSettings, Halves, Positions, Projection, QuantizedMatrix, Segments, WeightType,
    quantized_linear, random,
};

/// Numbers of rows: below and above each limit at which another kernel computes.
const ROWS: [usize; 10] = [1, 2, 4, 5, 8, 9, 16, 17, 33, 200];
pub(super) const MOST: usize = 200;

pub(super) fn numbers<const D: usize>(shape: [usize; D], purpose: &str) -> Tensor<D> {
    let count = shape.iter().product();
    random::normal([count], 1.0, random::key(11, count as u64, purpose), &Device::flex()).reshape(shape)
}

pub(super) fn bits<const D: usize>(x: Tensor<D>) -> Vec<u32> {
    x.into_data().iter::<f32>().map(f32::to_bits).collect()
}

/// Compares the first rows of each batch with the same rows of the largest one, and the last row of the largest with itself alone, in pools of
/// one and three threads.
#[track_caller]
pub(super) fn assert_rows_are_independent(name: &str, of_rows: impl Fn(usize, usize) -> Tensor<2> + Sync) {
    assert_independent(name, MOST, &ROWS, of_rows);
}

/// The same for other numbers of rows.
#[track_caller]
pub(super) fn assert_independent(
    name: &str,
    most: usize,
    numbers: &[usize],
    of_rows: impl Fn(usize, usize) -> Tensor<2> + Sync,
) {
    let all = bits(of_rows(0, most));
    let width = all.len() / most;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for rows in numbers.iter().copied() {
            let found = pool.install(|| bits(of_rows(0, rows)));
            assert!(found == all[..rows * width], "{name}: {rows} rows, {threads} threads");
        }
        for row in [most - 1, most / 2] {
            let alone = pool.install(|| bits(of_rows(row, 1)));
            assert!(
                alone == all[row * width..][..width],
                "{name}: row {row} alone, {threads} threads"
            );
        }
    }
}

/// Inner dimensions and widths: less than a vector, several blocks of the inner dimension, widths that fill no panel.
const SIZES: [[usize; 2]; 6] = [[1, 1], [3, 40], [40, 67], [96, 2000], [800, 65], [768, 257]];

#[test]
fn a_row_of_a_linear_layer_does_not_depend_on_the_others() {
    of_linear_layers(MOST, &ROWS, &SIZES);
}

/// Linear layers of these inner dimensions and widths, without a bias, with one, with a residual, and with a transposed matrix: the output
/// matrix, if it is the table of the embedding.
pub(super) fn of_linear_layers(most: usize, fewer: &[usize], sizes: &[[usize; 2]]) {
    for [k, n] in sizes.iter().copied() {
        let x = numbers([most, k], "x");
        let residual = numbers([most, n], "residual");
        let weight = numbers([k, n], "weight");
        let transposed = numbers([n, k], "transposed");
        let bias = numbers([n], "bias");
        let rows = |x: &Tensor<2>, from, count| x.clone().narrow(0, from, count);
        assert_independent(&format!("{k} x {n}"), most, fewer, |from, count| {
            taal_kernels::linear(rows(&x, from, count), weight.clone(), None)
        });
        assert_independent(&format!("{k} x {n} with a bias"), most, fewer, |from, count| {
            taal_kernels::linear(rows(&x, from, count), weight.clone(), Some(bias.clone()))
        });
        assert_independent(
            &format!("{k} x {n} with bias and residual"),
            most,
            fewer,
            |from, count| {
                let residual = rows(&residual, from, count);
                taal_kernels::linear_add(rows(&x, from, count), weight.clone(), Some(bias.clone()), residual)
            },
        );
        assert_independent(&format!("{k} x {n} transposed"), most, fewer, |from, count| {
            taal_kernels::linear_transposed(rows(&x, from, count), transposed.clone())
        });
    }
}

#[test]
fn a_row_times_quantized_weights_does_not_depend_on_the_others() {
    of_quantized_weights(MOST, &ROWS, &[[32, 1], [96, 67], [800, 65], [768, 257], [512, 67]]);
}

/// Weights of every type with these inner dimensions, where they are whole blocks, and widths.
pub(super) fn of_quantized_weights(most: usize, fewer: &[usize], sizes: &[[usize; 2]]) {
    for kind in WeightType::ALL {
        let has_whole_blocks = |[k, _]: &[usize; 2]| kind.row_bytes(*k).is_some();
        for [k, n] in sizes.iter().copied().filter(has_whole_blocks) {
            let x = numbers([most, k], "x");
            let residual = numbers([most, n], "residual");
            let bias = numbers([n], "bias");
            let weight = QuantizedMatrix::of(numbers([n, k], "weight"), kind).unwrap();
            assert_independent(&format!("{k} x {n} in {kind}"), most, fewer, |from, count| {
                let [x, residual] = [&x, &residual].map(|x| x.clone().narrow(0, from, count));
                quantized_linear(x, &weight, Some(bias.clone()), Some(residual))
            });
        }
    }
}

#[test]
fn a_row_of_norms_and_activations_does_not_depend_on_the_others() {
    for width in [1, 17, 65, 768] {
        of_norms_and_activations(width, MOST, &ROWS);
        of_burns_activations(width, MOST, &ROWS);
    }
}

type Operation<'a> = &'a (dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2> + Sync);

/// Checks operations on two tensors of rows.
fn check_operations(operations: &[(&str, Operation<'_>)], width: usize, most: usize, counts: &[usize]) {
    let [x, y] = ["x", "y"].map(|purpose| numbers([most, width], purpose));
    for (name, operation) in operations {
        assert_independent(&format!("{name} of {width}"), most, counts, |from, count| {
            let [x, y] = [&x, &y].map(|x| x.clone().narrow(0, from, count));
            operation(x, y)
        });
    }
}

pub(super) fn of_norms_and_activations(width: usize, most: usize, counts: &[usize]) {
    let [weight, bias] = ["weight", "bias"].map(|purpose| numbers([width], purpose));
    let operations: [(&str, Operation<'_>); 9] = [
        ("layer_norm", &|x, _| {
            taal_kernels::layer_norm(x, weight.clone(), Some(bias.clone()), 1e-5)
        }),
        ("rms_norm", &|x, _| taal_kernels::rms_norm(x, weight.clone(), 1e-6)),
        ("gelu", &|x, _| taal_kernels::gelu(x)),
        ("gelu_tanh", &|x, _| taal_kernels::gelu_tanh(x)),
        ("silu", &|x, _| taal_kernels::silu(x)),
        ("relu_squared", &|x, _| taal_kernels::relu_squared(x)),
        ("swiglu", &taal_kernels::swiglu::<2>),
        ("geglu", &taal_kernels::geglu::<2>),
        ("softmax", &|x, _| taal_kernels::softmax(x)),
    ];
    check_operations(&operations, width, most, counts);
}

/// Burn's own, which a head with a cap and a recurrent network use.
pub(super) fn of_burns_activations(width: usize, most: usize, counts: &[usize]) {
    let operations: [(&str, Operation<'_>); 3] = [
        ("tanh", &|x, _| x.tanh()),
        ("sigmoid", &|x, _| burn::tensor::activation::sigmoid(x)),
        ("sum", &|x, y| x * y.clone() + y),
    ];
    check_operations(&operations, width, most, counts);
}

/// Queries, keys and values of one text.
pub(super) struct Text {
    pub(super) len: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Text {
    pub(super) fn qkv(&self) -> Tensor<3> {
        let width = (self.heads + 2 * self.kv_heads) * self.head_dim;
        numbers([1, self.len, width], "qkv")
    }

    /// Queries, keys and values as `[1, heads, len, head_dim]`.
    pub(super) fn parts(&self) -> [Tensor<4>; 3] {
        let mut first = 0;
        [self.heads, self.kv_heads, self.kv_heads].map(|heads| {
            let width = heads * self.head_dim;
            let part = self.qkv().narrow(2, first, width);
            first += width;
            part.reshape([1, self.len, heads, self.head_dim]).swap_dims(1, 2)
        })
    }
}

const TEXTS: [Text; 4] = [
    Text {
        len: 200,
        heads: 2,
        kv_heads: 2,
        head_dim: 64,
    },
    Text {
        len: 200,
        heads: 4,
        kv_heads: 1,
        head_dim: 40,
    },
    Text {
        len: 131,
        heads: 6,
        kv_heads: 2,
        head_dim: 17,
    },
    Text {
        len: 9,
        heads: 1,
        kv_heads: 1,
        head_dim: 8,
    },
];

/// Scores with and without a cap.
fn settings() -> [AttentionSettings; 2] {
    [None, Some(2.0)].map(|softcap| AttentionSettings {
        softcap,
        ..AttentionSettings::default()
    })
}

/// ALiBi's numbers for queries at the end of `kv_len` positions.
fn distances(heads: usize, q_len: usize, kv_len: usize) -> Tensor<4> {
    let mut values = Vec::new();
    for head in 1..=heads {
        for query in kv_len - q_len..kv_len {
            values.extend((0..kv_len).map(|key| -0.1 * head as f32 * query.abs_diff(key) as f32));
        }
    }
    Tensor::from_data(TensorData::new(values, [1, heads, q_len, kv_len]), &Device::flex())
}

#[test]
fn a_query_with_a_cache_computes_what_it_computes_among_all() {
    for text in TEXTS {
        let [q, k, v] = text.parts();
        for (settings, window, has_bias) in settings().into_iter().flat_map(|settings| {
            [
                (settings, None, false),
                (settings, Some(50), false),
                (settings, None, true),
            ]
        }) {
            let attend = |q_len: usize, kv_len: usize| {
                let mut mask = AttentionMask::new(q_len, kv_len, true, window, &Device::flex());
                if has_bias {
                    mask = mask.with_bias(distances(text.heads, q_len, kv_len));
                }
                let q = q.clone().narrow(2, kv_len - q_len, q_len);
                let [k, v] = [&k, &v].map(|x| x.clone().narrow(2, 0, kv_len));
                let context = taal_kernels::attention(q, k, v, &mask, &settings); // [1, heads, q_len, head_dim]
                bits(context.swap_dims(1, 2))
            };
            let all = attend(text.len, text.len);
            let row = all.len() / text.len;
            for q_len in ROWS.into_iter().filter(|q_len| *q_len <= text.len) {
                for kv_len in [q_len, (text.len + q_len) / 2, text.len] {
                    assert!(
                        attend(q_len, kv_len) == all[(kv_len - q_len) * row..kv_len * row],
                        "{q_len} queries at the end of {kv_len} of {} keys, window {window:?}, {settings:?}",
                        text.len
                    );
                }
            }
            // Tokens that were projected together, without a cache.
            let mut mask = AttentionMask::new(text.len, text.len, true, window, &Device::flex());
            if has_bias {
                mask = mask.with_bias(distances(text.heads, text.len, text.len));
            }
            let projection = Projection {
                n_heads: text.heads,
                n_kv_heads: text.kv_heads,
                norms: None,
                rotary: None,
            };
            let projected = taal_kernels::projected_attention(text.qkv(), projection, &mask, &settings);
            assert!(
                bits(projected) == all,
                "projected together, window {window:?}, {settings:?}"
            );
        }
    }
}

#[test]
fn padding_on_either_side_changes_no_bit_of_a_text() {
    for text in TEXTS {
        let projection = || Projection {
            n_heads: text.heads,
            n_kv_heads: text.kv_heads,
            norms: None,
            rotary: None,
        };
        for (is_causal, window) in [(true, None), (true, Some(50)), (false, None), (false, Some(20))] {
            let settings = AttentionSettings::default();
            let mask = |len| AttentionMask::new(len, len, is_causal, window, &Device::flex());
            let alone = taal_kernels::projected_attention(text.qkv(), projection(), &mask(text.len), &settings);
            let alone = bits(alone);
            for [before, after] in [[1, 0], [0, 1], [37, 0], [3, 130], [100, 0]] {
                let seq = before + text.len + after;
                let [_, _, width] = text.qkv().dims();
                let padded = numbers([1, seq, width], "padding");
                let place = [0..1, before..before + text.len, 0..width];
                let padded = padded.slice_assign(place, text.qkv());
                let segments = Segments::of_padded(std::slice::from_ref(&(before..before + text.len)), seq);
                let mask = mask(seq).with_segments(segments);
                let found = taal_kernels::projected_attention(padded, projection(), &mask, &settings);
                assert!(
                    bits(found.narrow(1, before, text.len)) == alone,
                    "{} tokens after {before} and before {after} of padding, causal {is_causal}, window {window:?}",
                    text.len
                );
            }
        }
    }
}

#[test]
fn rows_of_a_cache_compute_what_each_computes_alone() {
    let text = &TEXTS[0];
    let [q, k, v] = text.parts();
    let lens = [200, 3, 70];
    for q_len in [1, 2, 4, 5, 9, 16, 17] {
        for window in [None, Some(13)] {
            let stacked = |x: &Tensor<4>| Tensor::cat(vec![x.clone(); lens.len()], 0);
            let starts = lens.map(|len: usize| len.saturating_sub(q_len));
            let lengths = [0, 1, 2].map(|row| lens[row] - starts[row]);
            let mask = AttentionMask::of_rows(&starts, &lengths, q_len, window, &Device::flex());
            let queries = Tensor::cat(starts.map(|start| q.clone().narrow(2, start, q_len)).to_vec(), 0);
            let found =
                taal_kernels::attention(queries, stacked(&k), stacked(&v), &mask, &AttentionSettings::default());
            for (row, len) in lens.into_iter().enumerate() {
                let mask = AttentionMask::new(lengths[row], len, true, window, &Device::flex());
                let q = q.clone().narrow(2, starts[row], lengths[row]);
                let [k, v] = [&k, &v].map(|x| x.clone().narrow(2, 0, len));
                let alone = taal_kernels::attention(q, k, v, &mask, &AttentionSettings::default());
                let own = found.clone().narrow(0, row, 1).narrow(2, 0, lengths[row]);
                assert!(
                    bits(own) == bits(alone),
                    "{q_len} queries, {len} keys, window {window:?}"
                );
            }
        }
    }
}

/// The candidates of a beam search are queries of one row, of which there may be more than keys.
#[test]
fn a_query_to_another_text_does_not_depend_on_how_many_there_are() {
    const BATCH: usize = 3;
    for [heads, keys, width] in [[2, 3, 8], [3, 17, 16], [2, 70, 40], [1, 200, 64]] {
        let shape = |len: usize| [BATCH, heads, len, width];
        let q = numbers(shape(MOST), "queries");
        let kept = ["keys", "values"].map(|purpose| numbers(shape(keys), purpose));
        let halves = kept.clone().map(|x| {
            let mut halves = Halves::zeros(shape(keys));
            let place = |row| Positions {
                row,
                start: 0,
                count: keys,
            };
            halves.write(x, 0, &[0, 1, 2].map(place));
            halves
        });
        let lengths = [keys, keys.div_ceil(2), 1];
        for settings in settings() {
            let attend = |count: usize, is_half: bool| {
                let mask = AttentionMask::of_keys(&lengths, count, keys, &Device::flex());
                let q = q.clone().narrow(2, 0, count);
                let [k, v] = kept.clone();
                match is_half {
                    true => {
                        taal_kernels::attention_of_halves(q, [&halves[0], &halves[1]], 0..BATCH, keys, &mask, &settings)
                    }
                    false => taal_kernels::attention(q, k, v, &mask, &settings),
                }
            };
            for is_half in [false, true] {
                let all = attend(MOST, is_half);
                for count in ROWS {
                    assert!(
                        bits(attend(count, is_half)) == bits(all.clone().narrow(2, 0, count)),
                        "{count} queries, {keys} keys, in 16 bits {is_half}, {settings:?}"
                    );
                }
            }
        }
    }
}

/// What a case of attention over a cache in 16-bit floats is.
#[derive(Debug, Clone, Copy)]
struct Cached {
    group: usize,
    q_len: usize,
    len: usize,
    width: usize,
    window: Option<usize>,
    softcap: Option<f64>,
}

/// The bits of a step over 16-bit floats, and over the same numbers in single precision.
fn of_a_cache(case: Cached) -> [Vec<u32>; 2] {
    const KV_HEADS: usize = 2;
    const FIRST: usize = 1;
    const ROWS: usize = 3;
    let Cached {
        group,
        q_len,
        len,
        width,
        window,
        softcap,
    } = case;
    let mut kept = ["keys", "values"].map(|purpose| {
        let x = numbers([ROWS + FIRST, KV_HEADS, len, width], purpose);
        let places: Vec<Positions> = (0..ROWS + FIRST)
            .map(|row| Positions {
                row,
                start: 0,
                count: len,
            })
            .collect();
        // Longer than what is in it, and other rows before those that are read.
        let mut halves = Halves::zeros([ROWS + FIRST, KV_HEADS, len + 5, width]);
        halves.write(x, 0, &places);
        halves
    });
    // What no query sees is not a number.
    let unseen = Tensor::full([1, KV_HEADS, 5, width], f32::NAN, &Device::flex());
    kept.iter_mut().for_each(|halves| {
        halves.write(
            unseen.clone(),
            FIRST,
            &[Positions {
                row: 0,
                start: len,
                count: 5,
            }],
        )
    });
    let [keys, values] = &kept;
    let q = numbers([ROWS, KV_HEADS * group, q_len, width], "queries");
    let settings = AttentionSettings {
        softcap,
        ..Default::default()
    };
    let (full, lengths) = (len - q_len, [q_len, q_len, q_len.min(1)]);
    // Rows of different lengths, the last without a cached token.
    let mask = AttentionMask::of_rows(&[full, full / 2, 0], &lengths, q_len, window, &Device::flex());
    let in_place =
        taal_kernels::attention_of_halves(q.clone(), [keys, values], FIRST..FIRST + ROWS, len, &mask, &settings);
    let [k, v] = [keys, values].map(|halves| halves.read(FIRST..FIRST + ROWS, len, &Device::flex()));
    [in_place, taal_kernels::attention(q, k, v, &mask, &settings)].map(bits)
}

#[test]
fn a_step_over_a_cache_in_16_bits_is_the_step_over_the_same_numbers_in_32() {
    for (q_len, len) in [
        (1, 1),
        (1, 17),
        (1, 64),
        (1, 200),
        (2, 65),
        (4, 130),
        (4, 4),
        (9, 40),
        (16, 70),
        (17, 70),
    ] {
        for (group, width) in [(1, 1), (1, 7), (3, 16), (2, 40), (1, 64), (1, 96)] {
            for (window, softcap) in [(None, None), (Some(3), None), (None, Some(5.0))] {
                let case = Cached {
                    group,
                    q_len,
                    len,
                    width,
                    window,
                    softcap,
                };
                let [in_place, converted] = of_a_cache(case);
                assert!(in_place == converted, "{case:?}");
            }
        }
    }
}
