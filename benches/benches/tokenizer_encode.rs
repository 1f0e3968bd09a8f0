//! Encoding with each kind of tokenizer on one thread, including texts that are hard for tokenizers, and decoding, in bytes of
//! text per second.

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

/// Texts on which other tokenizers are known to be slow, without safe cuts. Each must be at least a fifth as fast as English.
fn encode_pathological(c: &mut Criterion) {
    let texts = [
        ("letter", "a".repeat(TEXT_BYTES)),
        ("caret", "^".repeat(TEXT_BYTES)),
        ("space", " ".repeat(TEXT_BYTES)),
        ("newline", "\n".repeat(TEXT_BYTES)),
        ("marks", "\u{301}".repeat(TEXT_BYTES / 2)),
    ];
    let mut group = c.benchmark_group("tokenizer_encode_pathological");
    group.throughput(Throughput::BytesDecimal(TEXT_BYTES as u64));
    for kind in [Kind::Bpe, Kind::Unigram] {
        let tokenizer = tokenizer(kind);
        for (name, text) in &texts {
            group.bench_function(BenchmarkId::new(kind.name(), name), |b| {
                b.iter(|| tokenizer.encode(text).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = encode, encode_pathological, decode);
criterion_main!(benches);
