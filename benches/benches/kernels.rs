//! Norms, activations, softmax, dropout and cross-entropy, forward and with gradients, in elements a second.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_kernels::random::{self, Generator};
use taal_kernels::{IGNORE_INDEX, cross_entropy, dropout, gelu, gelu_tanh, layer_norm, rms_norm, silu, softmax};

/// Rows of the residual stream: 16 x 64 tokens of nanoGPT's CPU model.
const STREAM: [usize; 2] = [1024, 128];
/// The same rows inside the feed-forward network.
const INNER: [usize; 2] = [1024, 512];
/// Logits by characters, and of a BPE model.
const LOGITS: [[usize; 2]; 2] = [[1024, 65], [1024, 4096]];

fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    random::normal(shape, 1.0, random::key(1337, 0, "benchmark input"), device)
}

/// One operation on every device, without gradients and with them.
fn operation(c: &mut Criterion, name: &str, shape: [usize; 2], compute: impl Fn(Tensor<2>) -> Tensor<2>) {
    let mut group = c.benchmark_group(format!("kernels/{name}"));
    let [rows, columns] = shape;
    group.throughput(Throughput::Elements((rows * columns) as u64));
    let size = format!("{rows}x{columns}");
    for (device_name, device) in taal_benches::devices() {
        let x = random(shape, &device);
        group.bench_function(BenchmarkId::new(format!("forward/{device_name}"), &size), |b| {
            b.iter(|| compute(x.clone()));
        });

        let x = random(shape, &device.clone().autodiff()).require_grad();
        group.bench_function(
            BenchmarkId::new(format!("forward_backward/{device_name}"), &size),
            |b| {
                b.iter(|| compute(x.clone()).sum().backward());
            },
        );
    }
    group.finish();
}

fn norms(c: &mut Criterion) {
    let ones = |x: &Tensor<2>| Tensor::ones([STREAM[1]], &x.device());
    operation(c, "layer_norm", STREAM, |x| {
        let weight = ones(&x);
        layer_norm(x, weight, None, 1e-5)
    });
    operation(c, "rms_norm", STREAM, |x| {
        let weight = ones(&x);
        rms_norm(x, weight, 1e-6)
    });
}

fn activations(c: &mut Criterion) {
    operation(c, "gelu", INNER, gelu);
    operation(c, "gelu_tanh", INNER, gelu_tanh);
    operation(c, "silu", INNER, silu);
}

fn others(c: &mut Criterion) {
    operation(c, "softmax", INNER, softmax);
    operation(c, "dropout", INNER, |x| dropout(x, 0.1, 1337));
}

fn losses(c: &mut Criterion) {
    for shape in LOGITS {
        let [rows, vocab_size] = shape;
        let mut generator = Generator::new(random::key(1337, 0, "benchmark targets"));
        let targets: Vec<i32> = (0..rows).map(|_| generator.below(vocab_size as u64) as i32).collect();
        operation(c, "cross_entropy", shape, |logits| {
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [rows]), &logits.device());
            cross_entropy(logits, targets, IGNORE_INDEX).unsqueeze()
        });
    }
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = norms, activations, others, losses);
criterion_main!(benches);
