//! Prefill and decoding with a key/value cache, in tokens per second.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::{larger_model, model, recipe};
use taal_inference::Decoder;
use taal_model::Transformer;

/// New tokens per measurement.
const NEW_TOKENS: usize = 32;

/// A decoder with room for a prompt of half the context and the new tokens.
fn decoder(model: &Transformer) -> Decoder<'_> {
    let expected_len = model.config().max_seq_len / 2 + NEW_TOKENS;
    Decoder::new(model, true).unwrap().with_expected_len(expected_len)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (device_name, device) in taal_benches::devices() {
        let small = model(&recipe("shakespeare-char"), 65, &device);
        for (name, model) in [("shakespeare-char", small), ("llama-4x256", larger_model(&device))] {
            let vocab_size = model.config().vocab_size as u32;
            let prompt: Vec<u32> = (0..model.config().max_seq_len as u32 / 2)
                .map(|position| position % vocab_size)
                .collect();

            let mut reader = decoder(&model);
            group.throughput(Throughput::Elements(prompt.len() as u64));
            group.bench_function(BenchmarkId::new(format!("prefill/{device_name}"), name), |b| {
                b.iter(|| reader.prefill(&prompt).unwrap());
            });

            group.throughput(Throughput::Elements(NEW_TOKENS as u64));
            group.bench_function(BenchmarkId::new(format!("decode/{device_name}"), name), |b| {
                b.iter_batched(
                    || {
                        let mut writer = decoder(&model);
                        writer.prefill(&prompt).unwrap();
                        writer
                    },
                    |mut writer| {
                        for id in 0..NEW_TOKENS as u32 {
                            writer.decode(id % vocab_size).unwrap();
                        }
                        writer
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = decode);
criterion_main!(benches);
