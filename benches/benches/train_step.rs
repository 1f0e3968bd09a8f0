//! Whole training steps of the embedded recipes, from the batch to the updated weights, in tokens per second.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::{batch_plan, learner, recipe, shakespeare_characters};

fn train_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("train_step");
    let dataset = shakespeare_characters();
    for (device_name, device) in taal_benches::devices() {
        for name in ["nanogpt-cpu", "shakespeare-char"] {
            let recipe = recipe(name);
            let plan = batch_plan(&recipe);
            let mut learner = learner(&recipe, dataset.vocab_size, &device);
            let mut step = 0;
            group.throughput(Throughput::Elements((plan.batch_size * plan.block_size) as u64));
            group.bench_function(BenchmarkId::new(device_name.to_string(), name), |b| {
                b.iter(|| {
                    let batch = plan.batch(&dataset.train, step).unwrap();
                    let lr_factor = recipe.train.schedule.at(step) / recipe.train.schedule.lr;
                    step += 1;
                    let outcome = learner.step(&[batch], &[], lr_factor).unwrap();
                    // A diverged step skips the update, so it would be faster.
                    assert!(outcome.is_finite(), "{name} diverged at step {step}: {outcome:?}");
                    outcome
                });
            });
        }
    }
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = train_step);
criterion_main!(benches);
