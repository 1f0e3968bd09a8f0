//! Muon's Newton-Schulz iteration, which is most of its additional cost over AdamW, in matrices per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_kernels::random;
use taal_trainer::{Muon, orthogonalize};

/// `[in, out]`: the feed-forward network of the recipe shakespeare-char, and a larger one, tall.
const SHAPES: [[usize; 2]; 2] = [[128, 352], [704, 256]];

fn muon(c: &mut Criterion) {
    let mut group = c.benchmark_group("muon/orthogonalize");
    group.throughput(Throughput::Elements(1));
    for (name, device) in taal_benches::devices() {
        for shape in SHAPES {
            let [rows, columns] = shape;
            let x = random::normal(shape, 1.0, random::key(1337, 0, "benchmark gradient"), &device);
            group.bench_function(BenchmarkId::new(name.to_string(), format!("{rows}x{columns}")), |b| {
                b.iter(|| orthogonalize(x.clone(), Muon::default().iterations));
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = muon);
criterion_main!(benches);
