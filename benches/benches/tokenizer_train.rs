//! Training each kind of tokenizer, in bytes of text per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::shakespeare;
use taal_tokenizer::{Kind, TrainerConfig};

const VOCAB_SIZE: usize = 1000;
const TEXT_BYTES: usize = 256 << 10;

fn train(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokenizer_train");
    let text = &shakespeare()[..TEXT_BYTES];
    group.throughput(Throughput::BytesDecimal(TEXT_BYTES as u64));
    for kind in Kind::ALL {
        let config = TrainerConfig::new(kind, VOCAB_SIZE);
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| config.train([text]).unwrap());
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = train);
criterion_main!(benches);
