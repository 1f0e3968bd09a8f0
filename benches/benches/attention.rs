//! Causal attention of queries, keys and values, forward and with gradients, in tokens per second.

use burn::tensor::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_attention::{AttentionMask, AttentionOptions, attention_mask, scaled_dot_product_attention};
use taal_kernels::random;

/// `batch x heads x seq x head_dim`: nanoGPT's CPU shape, its GPU shape with fewer rows, and one that no register divides.
const SHAPES: [[usize; 4]; 3] = [[12, 4, 64, 32], [16, 6, 256, 64], [3, 5, 97, 23]];

struct Inputs {
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: AttentionMask,
    options: AttentionOptions,
}

impl Inputs {
    /// The mask is built beforehand, as a model builds it once for all layers.
    fn new(shape: [usize; 4], device: &Device) -> Self {
        let [_, _, seq, _] = shape;
        let options = AttentionOptions {
            is_causal: true,
            ..AttentionOptions::default()
        };
        let draw = |name| random::normal(shape, 1.0, random::key(1337, 0, name), device);
        Self {
            q: draw("benchmark queries"),
            k: draw("benchmark keys"),
            v: draw("benchmark values"),
            mask: attention_mask(seq, seq, None, None, &options, &device.clone().inner()),
            options,
        }
    }

    fn require_grad(self) -> Self {
        Self {
            q: self.q.require_grad(),
            k: self.k.require_grad(),
            v: self.v.require_grad(),
            ..self
        }
    }

    fn attend(&self) -> Tensor<4> {
        let (q, k, v) = (self.q.clone(), self.k.clone(), self.v.clone());
        scaled_dot_product_attention(q, k, v, Some(&self.mask), &self.options).0
    }
}

fn attention(c: &mut Criterion) {
    let mut group = c.benchmark_group("attention");
    for (name, device) in taal_benches::devices() {
        for shape in SHAPES {
            let [batch, heads, seq, head_dim] = shape;
            group.throughput(Throughput::Elements((batch * seq) as u64));
            let size = format!("{batch}x{heads}x{seq}x{head_dim}");

            let inputs = Inputs::new(shape, &device);
            group.bench_function(BenchmarkId::new(format!("forward/{name}"), &size), |b| {
                b.iter(|| inputs.attend());
            });

            let inputs = Inputs::new(shape, &device.clone().autodiff()).require_grad();
            group.bench_function(BenchmarkId::new(format!("forward_backward/{name}"), &size), |b| {
                b.iter(|| inputs.attend().sum().backward());
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = attention);
criterion_main!(benches);
