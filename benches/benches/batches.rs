//! Drawing batches from memory and from mapped shards, in tokens per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::{characters, shakespeare, shakespeare_characters};
use taal_data::{BatchPlan, BuildOptions, Dataset, Order, build_shards};
use tempfile::TempDir;

/// `batch x block`.
const SIZES: [[usize; 2]; 2] = [[12, 64], [64, 256]];

/// Tiny Shakespeare as shards, which exist as long as the folder.
fn shards() -> (Dataset, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("tinyshakespeare.txt");
    std::fs::write(&text, shakespeare()).unwrap();
    let out = folder.path().join("shards");
    build_shards(&characters(), &[text], &out, &BuildOptions::default()).unwrap();
    (Dataset::open(&out).unwrap(), folder)
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batches");
    let (mapped, _folder) = shards();
    for (place, dataset) in [("memory", shakespeare_characters()), ("shards", mapped)] {
        for order in [Order::Random, Order::Shuffled] {
            for [batch_size, block_size] in SIZES {
                group.throughput(Throughput::Elements((batch_size * block_size) as u64));
                let plan = BatchPlan::new(1337, batch_size, block_size).with_order(order);
                let id = BenchmarkId::new(format!("{order}/{place}"), format!("{batch_size}x{block_size}"));
                let mut step = 0;
                group.bench_function(id, |b| {
                    b.iter(|| {
                        step += 1;
                        plan.batch(&dataset.train, step).unwrap()
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = batches);
criterion_main!(benches);
