//! Scoring held-back text in windows of the model's context, in tokens per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::{model, recipe, shakespeare_characters};
use taal_evaluation::score_windows;

/// Tokens that are scored; contexts divide them.
const TOKENS: usize = 4096;

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluation");
    group.throughput(Throughput::Elements(TOKENS as u64));
    let dataset = shakespeare_characters();
    let text = &dataset.validation[0];
    for (device_name, device) in taal_benches::devices() {
        for name in ["nanogpt-cpu", "shakespeare-char"] {
            let recipe = recipe(name);
            let model = model(&recipe, dataset.vocab_size, &device);
            let window = model.config().max_seq_len;
            group.bench_function(BenchmarkId::new(device_name.to_string(), name), |b| {
                b.iter(|| {
                    let read = |range: std::ops::Range<usize>| text.read(range.start as u64, range.len());
                    // The first token is not scored.
                    score_windows(&model, TOKENS + 1, window, recipe.eval.batch_size, read).unwrap()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = evaluation);
criterion_main!(benches);
