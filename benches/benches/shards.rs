//! Building token shards of a text file on all cores, and opening them with every byte verified, in bytes per second.

use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::shakespeare;
use taal_data::{BuildOptions, Dataset, build_shards};
use taal_tokenizer::{Kind, TrainerConfig};

fn shards(c: &mut Criterion) {
    let mut group = c.benchmark_group("shards");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("tinyshakespeare.txt");
    std::fs::write(&text, shakespeare()).unwrap();
    let tokenizer = TrainerConfig::new(Kind::Bpe, 1000).train([shakespeare()]).unwrap();
    let build =
        |out: &Path| build_shards(&tokenizer, std::slice::from_ref(&text), out, &BuildOptions::default()).unwrap();

    group.throughput(Throughput::BytesDecimal(shakespeare().len() as u64));
    group.bench_function("build/bpe", |b| {
        // Returned so that the folder is removed outside of the measured time.
        b.iter_batched(
            || tempfile::tempdir().unwrap(),
            |folder| {
                build(&folder.path().join("shards"));
                folder
            },
            BatchSize::PerIteration,
        );
    });

    let out = folder.path().join("shards");
    let report = build(&out);
    // The ids of such a small vocabulary are stored in two bytes.
    group.throughput(Throughput::BytesDecimal(
        2 * (report.train_tokens + report.validation_tokens),
    ));
    group.bench_function("open", |b| b.iter(|| Dataset::open(&out).unwrap()));
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = shards);
criterion_main!(benches);
