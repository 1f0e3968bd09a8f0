//! Attention of projected tokens: to those of their own text, and to those of another one.

use burn::tensor::{Device, Tensor};
use criterion::Criterion;
use taal_kernels::{AttentionMask, AttentionSettings, Precision, Projection, reference, with_precision};

use super::{Work, fused_and_reference, random, tracked};

/// Projected tokens, and what is done to them first.
type Turned = (Tensor<3>, Projection);

/// Causal attention of queries, keys and values next to each other, with rotary positions.
pub(super) fn projected(c: &mut Criterion) {
    for [batch, heads, seq, head_dim] in [[12, 4, 64, 32], [3, 3, 96, 40], [16, 6, 256, 64]] {
        let inputs = |device: &Device| -> Turned {
            let [cos, sin] = ["cos", "sin"].map(|name| random([seq, head_dim], name, device));
            (
                tracked(random([batch, seq, 3 * heads * head_dim], "qkv", device)),
                Projection {
                    n_heads: heads,
                    n_kv_heads: heads,
                    norms: None,
                    rotary: Some((cos, sin)),
                },
            )
        };
        let mask = AttentionMask::new(seq, seq, true, None, &Device::flex());
        let settings = AttentionSettings::default();
        let size = format!("{batch}x{heads}x{seq}x{head_dim}");
        // A causal query sees half of the keys on average.
        let work = Work {
            flops: 2 * batch * heads * seq * (seq + 1) * head_dim,
            numbers: 4 * batch * heads * seq * head_dim,
        };
        fused_and_reference(
            c,
            "projected_attention",
            &size,
            work,
            inputs,
            [
                ("fused", &|(qkv, projection): Turned| {
                    taal_kernels::projected_attention(qkv, projection, &mask, &settings).flatten(0, 2)
                }),
                ("reference", &|(qkv, projection): Turned| {
                    reference::projected_attention(qkv, projection, &mask, &settings).flatten(0, 2)
                }),
            ],
        );
        fused_and_reference(
            c,
            "projected_attention_bf16",
            &size,
            work,
            inputs,
            [
                ("fused", &|(qkv, projection): Turned| {
                    with_precision(Precision::Bf16, || {
                        taal_kernels::projected_attention(qkv, projection, &mask, &settings)
                    })
                    .flatten(0, 2)
                }),
                ("reference", &|(qkv, projection): Turned| {
                    reference::attention_bf16(projection.heads(qkv), &mask, &settings).flatten(0, 3)
                }),
            ],
        );
    }
}

/// Attention of a decoder to its sources, of which each is a little shorter than the one before.
pub(super) fn crossed(c: &mut Criterion) {
    for [batch, heads, q_len, kv_len, head_dim] in [[64, 8, 33, 40, 32], [3, 3, 130, 75, 40], [16, 8, 128, 128, 64]] {
        let width = heads * head_dim;
        let inputs = |device: &Device| {
            let shapes = [
                ([batch, q_len, width], "queries"),
                ([batch, kv_len, 2 * width], "keys and values"),
            ];
            shapes.map(|(shape, name)| tracked(random(shape, name, device)))
        };
        let lengths: Vec<usize> = (0..batch).map(|row| kv_len - row % 8).collect();
        let seen: usize = lengths.iter().sum();
        let mask = AttentionMask::of_keys(&lengths, q_len, kv_len, &Device::flex());
        let settings = AttentionSettings::default();
        let size = format!("{batch}x{heads}x{q_len}x{kv_len}x{head_dim}");
        let work = Work {
            flops: 4 * heads * q_len * seen * head_dim,
            numbers: 2 * width * (batch * q_len + seen),
        };
        fused_and_reference(
            c,
            "projected_cross_attention",
            &size,
            work,
            inputs,
            [
                ("fused", &|[queries, keys_values]| {
                    taal_kernels::projected_cross_attention(queries, keys_values, heads, &mask, &settings).flatten(0, 2)
                }),
                ("reference", &|[queries, keys_values]| {
                    reference::projected_cross_attention(queries, keys_values, heads, &mask, &settings).flatten(0, 2)
                }),
            ],
        );
        fused_and_reference(
            c,
            "projected_cross_attention_bf16",
            &size,
            work,
            inputs,
            [
                ("fused", &|[queries, keys_values]| {
                    with_precision(Precision::Bf16, || {
                        taal_kernels::projected_cross_attention(queries, keys_values, heads, &mask, &settings)
                    })
                    .flatten(0, 2)
                }),
                ("reference", &|[queries, keys_values]| {
                    let [q] = reference::heads_of(queries, heads);
                    let [k, v] = reference::heads_of(keys_values, heads);
                    reference::attention_bf16([q, k, v], &mask, &settings).flatten(0, 3)
                }),
            ],
        );
    }
}
