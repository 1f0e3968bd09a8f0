//! Encoding with each kind of tokenizer on one thread, and decoding, in bytes of text a second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::shakespeare;
use taal_tokenizer::{Kind, Tokenizer, TrainerConfig};

const VOCAB_SIZE: usize = 1000;
const TEXT_BYTES: usize = 256 << 10;

fn text() -> &'static str {
    &shakespeare()[..TEXT_BYTES]
}

fn tokenizer(kind: Kind) -> Tokenizer {
    TrainerConfig::new(kind, VOCAB_SIZE).train([text()]).unwrap()
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokenizer_encode");
    group.throughput(Throughput::BytesDecimal(TEXT_BYTES as u64));
    for kind in Kind::ALL {
        let tokenizer = tokenizer(kind);
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| tokenizer.encode(text()).unwrap());
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokenizer_decode");
    group.throughput(Throughput::BytesDecimal(TEXT_BYTES as u64));
    for kind in [Kind::Bpe, Kind::Char] {
        let tokenizer = tokenizer(kind);
        let ids = tokenizer.encode(text()).unwrap();
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| tokenizer.decode(&ids).unwrap());
        });
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = encode, decode);
criterion_main!(benches);
