//! The claims of `rows.rs` for a thousand rows and for 4,096, the most that they are made for, at small widths: numbers of rows at
//! which work is divided among threads in another way, also by Burn.

use burn::tensor::{Device, Tensor};
use taal_kernels::{AttentionMask, AttentionSettings, Halves, Positions, Projection, Segments};

use crate::rows::{
    Text, assert_independent, bits, numbers, of_burns_activations, of_linear_layers, of_norms_and_activations,
    of_quantized_weights,
};

/// The most rows.
pub(super) const MOST: usize = 4_096;

/// Fewer than the most, to compare with.
const FEWER: [usize; 6] = [1, 9, 33, 200, 1_037, 4_095];

#[track_caller]
pub(super) fn assert_many_rows_are_independent(name: &str, of_rows: impl Fn(usize, usize) -> Tensor<2> + Sync) {
    assert_independent(name, MOST, &FEWER, of_rows);
}

#[test]
fn a_row_of_a_linear_layer_does_not_depend_on_thousands_of_others() {
    // Less than a vector; widths that threads divide by rows, and by columns; an inner dimension of two blocks.
    of_linear_layers(MOST, &FEWER, &[[3, 40], [40, 67], [400, 65], [24, 700]]);
}

#[test]
fn a_row_times_quantized_weights_does_not_depend_on_thousands_of_others() {
    // Columns of a panel and one more, several tasks per thread, and blocks of 256.
    of_quantized_weights(MOST, &FEWER, &[[32, 17], [32, 800], [256, 67]]);
}

#[test]
fn a_row_of_norms_and_activations_does_not_depend_on_thousands_of_others() {
    for width in [17, 257] {
        of_norms_and_activations(width, MOST, &FEWER);
    }
    // Burn divides work among threads from 2^18 numbers on, and otherwise again from 2^22 on.
    for width in [65, 1_025] {
        of_burns_activations(width, MOST, &FEWER);
    }
}

const LONG: Text = Text {
    len: MOST,
    heads: 2,
    kv_heads: 1,
    head_dim: 8,
};

/// Numbers as a cache in 16-bit floats has them.
fn halves(x: &Tensor<4>) -> Halves {
    let [batch, _, count, _] = x.dims();
    let mut halves = Halves::zeros(x.dims());
    let places: Vec<Positions> = (0..batch).map(|row| Positions { row, start: 0, count }).collect();
    halves.write(x.clone(), 0, &places);
    halves
}

#[test]
fn a_query_with_thousands_of_cached_keys_computes_what_it_computes_among_all() {
    let [q, k, v] = LONG.parts();
    let kept = [halves(&k), halves(&v)];
    let capped = AttentionSettings {
        softcap: Some(2.0),
        ..AttentionSettings::default()
    };
    let cases = [
        (AttentionSettings::default(), None),
        (AttentionSettings::default(), Some(1_000)),
        (capped, None),
    ];
    for (settings, window) in cases {
        for is_half in [false, true] {
            let attend = |q_len: usize, kv_len: usize| {
                let mask = AttentionMask::new(q_len, kv_len, true, window, &Device::flex());
                let q = q.clone().narrow(2, kv_len - q_len, q_len);
                let context = match is_half {
                    true => taal_kernels::attention_of_halves(q, [&kept[0], &kept[1]], 0..1, kv_len, &mask, &settings),
                    false => {
                        let [k, v] = [&k, &v].map(|x| x.clone().narrow(2, 0, kv_len));
                        taal_kernels::attention(q, k, v, &mask, &settings)
                    }
                }; // [1, heads, q_len, head_dim]
                bits(context.swap_dims(1, 2))
            };
            let all = attend(MOST, MOST);
            let row = all.len() / MOST;
            for q_len in [1, 16, 17, 49, 1_037, 4_095] {
                for kv_len in [(MOST + q_len) / 2, MOST] {
                    assert!(
                        attend(q_len, kv_len) == all[(kv_len - q_len) * row..kv_len * row],
                        "{q_len} queries at the end of {kv_len} keys, in 16 bits {is_half}, window {window:?}, {settings:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rows_of_a_cache_of_thousands_compute_what_each_computes_alone() {
    let [q, k, v] = LONG.parts();
    let lens = [MOST, 3, 1_037];
    let settings = AttentionSettings::default();
    for q_len in [1, 16, 17, 200] {
        let stacked = |x: &Tensor<4>| Tensor::cat(vec![x.clone(); lens.len()], 0);
        let starts = lens.map(|len: usize| len.saturating_sub(q_len));
        let lengths = [0, 1, 2].map(|row| lens[row] - starts[row]);
        let mask = AttentionMask::of_rows(&starts, &lengths, q_len, None, &Device::flex());
        let queries = Tensor::cat(starts.map(|start| q.clone().narrow(2, start, q_len)).to_vec(), 0);
        let found = taal_kernels::attention(queries, stacked(&k), stacked(&v), &mask, &settings);
        for (row, len) in lens.into_iter().enumerate() {
            let mask = AttentionMask::new(lengths[row], len, true, None, &Device::flex());
            let q = q.clone().narrow(2, starts[row], lengths[row]);
            let [k, v] = [&k, &v].map(|x| x.clone().narrow(2, 0, len));
            let alone = taal_kernels::attention(q, k, v, &mask, &settings);
            let own = found.clone().narrow(0, row, 1).narrow(2, 0, lengths[row]);
            assert!(bits(own) == bits(alone), "{q_len} queries, {len} keys");
        }
    }
}

#[test]
fn a_query_to_another_text_does_not_depend_on_thousands_of_others() {
    let shape = |len: usize| [1, 2, len, 8];
    let q = numbers(shape(MOST), "queries");
    let [k, v] = ["keys", "values"].map(|purpose| numbers(shape(70), purpose));
    let attend = |count: usize| {
        let mask = AttentionMask::of_keys(&[33], count, 70, &Device::flex());
        let q = q.clone().narrow(2, 0, count);
        taal_kernels::attention(q, k.clone(), v.clone(), &mask, &AttentionSettings::default())
    };
    let all = attend(MOST);
    for count in FEWER {
        assert!(
            bits(attend(count)) == bits(all.clone().narrow(2, 0, count)),
            "{count} queries"
        );
    }
}

#[test]
fn thousands_of_padding_tokens_change_no_bit_of_a_text() {
    let text = Text { len: 1_037, ..LONG };
    let projection = || Projection {
        n_heads: text.heads,
        n_kv_heads: text.kv_heads,
        norms: None,
        rotary: None,
    };
    let settings = AttentionSettings::default();
    let [_, _, width] = text.qkv().dims();
    for (is_causal, window) in [(true, None), (true, Some(400)), (false, None), (false, Some(300))] {
        let mask = |len| AttentionMask::new(len, len, is_causal, window, &Device::flex());
        let alone = taal_kernels::projected_attention(text.qkv(), projection(), &mask(text.len), &settings);
        let alone = bits(alone);
        for before in [0, 1_530, MOST - text.len] {
            let place = before..before + text.len;
            let padded = numbers([1, MOST, width], "padding").slice_assign([0..1, place.clone(), 0..width], text.qkv());
            let mask = mask(MOST).with_segments(Segments::of_padded(std::slice::from_ref(&place), MOST));
            let found = taal_kernels::projected_attention(padded, projection(), &mask, &settings);
            assert!(
                bits(found.narrow(1, before, text.len)) == alone,
                "after {before} of padding, causal {is_causal}, window {window:?}"
            );
        }
    }
}
