//! Saving and opening a model directory, which is a checkpoint without the optimizer, in bytes of weights per second.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use taal_benches::larger_model;
use taal_kernels::DeviceSpec;
use taal_model::hugging_face::{self, Companions};

fn model_directory(c: &mut Criterion) {
    let mut group = c.benchmark_group("model_directory");
    let device = DeviceSpec::Flex.open().unwrap();
    let model = larger_model(&device);
    group.throughput(Throughput::BytesDecimal(4 * model.config().n_params()));

    group.bench_function(BenchmarkId::new("save", "llama-4x256"), |b| {
        // Returned so that the folder is removed outside of the measured time.
        b.iter_batched(
            || tempfile::tempdir().unwrap(),
            |folder| {
                hugging_face::save(&model, &folder.path().join("model"), Companions::default()).unwrap();
                folder
            },
            BatchSize::PerIteration,
        );
    });

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("model");
    hugging_face::save(&model, &dir, Companions::default()).unwrap();
    group.bench_function(BenchmarkId::new("open", "llama-4x256"), |b| {
        b.iter(|| hugging_face::open(&dir, &device).unwrap());
    });
    // Every start and every save verifies a checkpoint, on one core.
    taal_store::Manifest::write(&dir, serde_json::json!({})).unwrap();
    group.bench_function(BenchmarkId::new("verify", "llama-4x256"), |b| {
        b.iter(|| taal_store::Manifest::verify(&dir).unwrap());
    });
    group.finish();
}

criterion_group!(name = benches; config = taal_benches::criterion(); targets = model_directory);
criterion_main!(benches);
