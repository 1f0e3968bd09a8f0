//! Attention to another text: the fused CPU kernels against the reference implementation, results and gradients, with more and fewer
//! queries than keys, padded rows and a single key.

use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::{AttentionMask, AttentionSettings, Precision, reference, with_precision};

use super::fused::{assert_equals_reference, assert_same_bits_for_any_threads, normal};

/// Batch, heads, queries, keys, width of a head.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    heads: usize,
    q_len: usize,
    kv_len: usize,
    head_dim: usize,
}

impl Sizes {
    fn of([batch, heads, q_len, kv_len, head_dim]: [usize; 5]) -> Self {
        Self {
            batch,
            heads,
            q_len,
            kv_len,
            head_dim,
        }
    }

    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn inputs(&self) -> [Vec<f32>; 2] {
        [
            normal(self.batch * self.q_len * self.width(), "queries"),
            normal(self.batch * self.kv_len * 2 * self.width(), "keys and values"),
        ]
    }

    fn tensors(&self, x: &[Tensor<1>]) -> [Tensor<3>; 2] {
        [
            x[0].clone().reshape([self.batch, self.q_len, self.width()]),
            x[1].clone().reshape([self.batch, self.kv_len, 2 * self.width()]),
        ]
    }

    /// The first row is whole, each other one shorter than the last, with at least one key.
    fn mask(&self) -> AttentionMask {
        let lengths: Vec<usize> = (0..self.batch)
            .map(|row| self.kv_len.saturating_sub(3 * row).max(1))
            .collect();
        AttentionMask::of_keys(&lengths, self.q_len, self.kv_len, &Device::flex())
    }

    fn fused(&self, x: &[Tensor<1>], mask: &AttentionMask, settings: &AttentionSettings) -> Tensor<1> {
        let [queries, keys_values] = self.tensors(x);
        taal_kernels::projected_cross_attention(queries, keys_values, self.heads, mask, settings).flatten(0, 2)
    }

    fn reference(&self, x: &[Tensor<1>], mask: &AttentionMask, settings: &AttentionSettings) -> Tensor<1> {
        let [queries, keys_values] = self.tensors(x);
        reference::projected_cross_attention(queries, keys_values, self.heads, mask, settings).flatten(0, 2)
    }
}

const SHAPES: [[usize; 5]; 7] = [
    [1, 1, 1, 1, 1],
    [3, 2, 5, 1, 8],
    [2, 3, 1, 17, 16],
    [3, 4, 40, 7, 24],
    [2, 1, 130, 75, 40],
    [2, 2, 33, 96, 64],
    [4, 2, 50, 11, 17],
];

#[test]
fn equals_its_reference_at_odd_sizes_with_padded_rows() {
    let capped = AttentionSettings {
        scale: Some(0.7),
        softcap: Some(1.5),
        dropout: None,
    };
    let dropped = AttentionSettings {
        dropout: Some((0.3, 99)),
        ..AttentionSettings::default()
    };
    for sizes in SHAPES.map(Sizes::of) {
        for settings in [AttentionSettings::default(), capped, dropped] {
            let mask = sizes.mask();
            assert_equals_reference(
                &format!("{sizes:?} {settings:?}"),
                &sizes.inputs(),
                &|x| sizes.fused(x, &mask, &settings),
                &|x| sizes.reference(x, &mask, &settings),
            );
        }
    }
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    let sizes = Sizes::of([3, 4, 70, 33, 16]);
    for precision in [Precision::Fp32, Precision::Bf16] {
        assert_same_bits_for_any_threads("cross-attention", &sizes.inputs(), |x| {
            with_precision(precision, || {
                sizes.fused(x, &sizes.mask(), &AttentionSettings::default())
            })
        });
    }
}

#[test]
fn padding_changes_no_bit_of_a_row() {
    let sizes = Sizes::of([2, 2, 9, 20, 16]);
    let of = |values: &[f32], shape: [usize; 3]| -> Tensor<3> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
    };
    let settings = AttentionSettings::default();
    let [queries, keys_values] = sizes.inputs();
    let width = sizes.width();
    let both = taal_kernels::projected_cross_attention(
        of(&queries, [2, 9, width]),
        of(&keys_values, [2, 20, 2 * width]),
        2,
        &AttentionMask::of_keys(&[20, 13], 9, 20, &Device::flex()),
        &settings,
    );
    let alone = taal_kernels::projected_cross_attention(
        of(&queries[9 * width..], [1, 9, width]),
        of(&keys_values[20 * 2 * width..][..13 * 2 * width], [1, 13, 2 * width]),
        2,
        &AttentionMask::of_keys(&[13], 9, 13, &Device::flex()),
        &settings,
    );
    let values = |x: Tensor<3>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
    assert!(values(both)[9 * width..] == values(alone)[..]);
}

/// With the tolerances of bfloat16: see `bf16.rs`.
#[test]
fn products_in_bf16_are_near_those_in_single_precision() {
    let sizes = Sizes::of([2, 2, 75, 33, 24]);
    let (mask, settings) = (sizes.mask(), AttentionSettings::default());
    super::bf16::assert_equals_reference(
        "cross-attention",
        &sizes.inputs(),
        &|x| sizes.fused(x, &mask, &settings),
        &|x| {
            let [queries, keys_values] = sizes.tensors(x);
            let [q] = reference::heads_of(queries, sizes.heads);
            let [k, v] = reference::heads_of(keys_values, sizes.heads);
            let context = reference::attention_bf16([q, k, v], &mask, &settings);
            context.swap_dims(1, 2).flatten(0, 3)
        },
    );
}
