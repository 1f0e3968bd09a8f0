//! Token embeddings and rotary positions, forward and with gradients, in tokens per second.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_embeddings::{Rotary, TokenEmbeddingConfig};
use taal_kernels::random::{self, Generator};

/// `batch x seq` ids of a vocabulary, as vectors of a width: nanoGPT's CPU shape by characters, and a larger one of a BPE
/// model, whose gradient is mostly zeros.
const TOKENS: [[usize; 4]; 2] = [[12, 64, 65, 128], [16, 256, 4096, 256]];

/// `batch x heads x seq x head_dim` of queries.
const HEADS: [[usize; 4]; 2] = [[12, 4, 64, 32], [16, 6, 256, 64]];

fn ids([batch, seq]: [usize; 2], vocab_size: usize, device: &Device) -> Tensor<2, Int> {
    let mut generator = Generator::new(random::key(1337, 0, "benchmark ids"));
    let ids = (0..batch * seq)
        .map(|_| generator.below(vocab_size as u64) as i32)
        .collect();
    Tensor::from_data(TensorData::new::<i32, _>(ids, [batch, seq]), device)
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("embedding/tokens");
    for (name, device) in taal_benches::devices() {
        for [batch, seq, vocab_size, d_model] in TOKENS {
            group.throughput(Throughput::Elements((batch * seq) as u64));
            let size = format!("{batch}x{seq} of {vocab_size}x{d_model}");
            let config = TokenEmbeddingConfig { vocab_size, d_model };

            let embedding = config.init(0, &device);
            let inputs = ids([batch, seq], vocab_size, &device);
            group.bench_function(BenchmarkId::new(format!("forward/{name}"), &size), |b| {
                b.iter(|| embedding.forward(inputs.clone()));
            });

            let device = device.clone().autodiff();
            let embedding = config.init(0, &device);
            let inputs = ids([batch, seq], vocab_size, &device);
            group.bench_function(BenchmarkId::new(format!("forward_backward/{name}"), &size), |b| {
                b.iter(|| embedding.forward(inputs.clone()).sum().backward());
            });
        }
    }
    group.finish();
}

fn rotary(c: &mut Criterion) {
    let mut group = c.benchmark_group("embedding/rotary");
    for (name, device) in taal_benches::devices() {
        for shape in HEADS {
            let [batch, heads, seq, head_dim] = shape;
            group.throughput(Throughput::Elements((batch * seq) as u64));
            let size = format!("{batch}x{heads}x{seq}x{head_dim}");
            let rotary = Rotary::new(head_dim, seq, 10_000.0, &device).unwrap();
            let key = random::key(1337, 0, "benchmark queries");

            let x = random::normal(shape, 1.0, key, &device);
            group.bench_function(BenchmarkId::new(format!("forward/{name}"), &size), |b| {
                b.iter(|| rotary.apply(x.clone(), 0).unwrap());
            });

            let x = random::normal(shape, 1.0, key, &device.clone().autodiff()).require_grad();
            group.bench_function(BenchmarkId::new(format!("forward_backward/{name}"), &size), |b| {
                b.iter(|| rotary.apply(x.clone(), 0).unwrap().sum().backward());
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = tokens, rotary);
criterion_main!(benches);
