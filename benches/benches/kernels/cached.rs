//! A key/value cache of single-precision and of 16-bit floats: a step of decoding reads it, new tokens are written into it, and rows move.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput};
use taal_kernels::{
    AttentionMask, AttentionSettings, Halves, Positions, attention_of_halves, reference, reorder_rows, write_rows,
};

use super::random;

/// Heads of 124M, and the cached tokens.
const HEADS: usize = 12;
const HEAD_DIM: usize = 64;
const LENGTH: usize = 512;

/// Bytes of a number in both kinds of cache.
const FLOAT: usize = 4;
const HALF: usize = 2;

/// The same numbers in 16-bit floats.
fn halves(x: Tensor<4>) -> Halves {
    let [rows, heads, len, width] = x.dims();
    let mut halves = Halves::zeros([rows, heads, len, width]);
    let places: Vec<Positions> = (0..rows).map(|row| at(row, 0, len)).collect();
    halves.write(x, 0, &places);
    halves
}

fn at(row: usize, start: usize, count: usize) -> Positions {
    Positions { row, start, count }
}

fn name(implementation: &str, kind: &str) -> String {
    format!("forward/{implementation}/{kind}")
}

/// Attention of the newest token of each row to all of its cache.
pub(super) fn attention(c: &mut Criterion) {
    let device = Device::flex();
    let mask = AttentionMask::new(1, LENGTH, true, None, &device);
    let settings = AttentionSettings::default();
    let mut group = c.benchmark_group("kernels/cached_attention");
    for rows in [1, 8] {
        let size = format!("{rows}x{HEADS}x{LENGTH}x{HEAD_DIM}");
        let cache = [rows, HEADS, LENGTH, HEAD_DIM];
        let q = random([rows, HEADS, 1, HEAD_DIM], "q", &device);
        let [k, v] = ["k", "v"].map(|name| random(cache, name, &device));
        let numbers: usize = cache.iter().product();
        let throughput = |bytes: usize| Throughput::ElementsAndBytes {
            elements: (4 * numbers) as u64,
            bytes: (2 * numbers * bytes + 2 * rows * HEADS * HEAD_DIM * FLOAT) as u64,
        };
        group.throughput(throughput(FLOAT));
        group.bench_function(BenchmarkId::new(name("fused", "f32"), &size), |b| {
            b.iter(|| taal_kernels::attention(q.clone(), k.clone(), v.clone(), &mask, &settings));
        });
        group.bench_function(BenchmarkId::new(name("reference", "f32"), &size), |b| {
            b.iter(|| reference::attention(q.clone(), k.clone(), v.clone(), &mask, &settings).0);
        });
        let (k, v) = (halves(k), halves(v));
        group.throughput(throughput(HALF));
        group.bench_function(BenchmarkId::new(name("fused", "f16"), &size), |b| {
            b.iter(|| attention_of_halves(q.clone(), [&k, &v], 0..rows, LENGTH, &mask, &settings));
        });
        group.bench_function(BenchmarkId::new(name("reference", "f16"), &size), |b| {
            b.iter(|| {
                let [k, v] = [&k, &v].map(|halves| halves.read(0..rows, LENGTH, &device));
                reference::attention(q.clone(), k, v, &mask, &settings).0
            });
        });
    }
    group.finish();
}

/// Eight rows: the newest token of each is written, and every other row continues the one before it.
pub(super) fn rows(c: &mut Criterion) {
    const ROWS: usize = 8;
    let device = Device::flex();
    let shape = [ROWS, HEADS, LENGTH, HEAD_DIM];
    let cache = random(shape, "cache", &device);
    let mut in_halves = halves(cache.clone());
    let new = random([ROWS, 1, HEADS, HEAD_DIM], "new", &device).swap_dims(1, 2); // [ROWS, HEADS, 1, HEAD_DIM]
    let places: Vec<Positions> = (0..ROWS).map(|row| at(row, LENGTH - 1, 1)).collect();
    let throughput = |numbers: usize, bytes: usize| Throughput::ElementsAndBytes {
        elements: numbers as u64,
        bytes: (numbers * bytes) as u64,
    };

    let size = format!("{ROWS}x{HEADS}x1x{HEAD_DIM}");
    let written = ROWS * HEADS * HEAD_DIM;
    let mut group = c.benchmark_group("kernels/write_rows");
    // Owned by one place at a time, so that it is changed in place.
    let mut state = Some(cache.add_scalar(0.0));
    group.throughput(throughput(written, 2 * FLOAT));
    group.bench_function(BenchmarkId::new(name("fused", "f32"), &size), |b| {
        b.iter(|| state = state.take().map(|cache| write_rows(cache, new.clone(), 0, &places)));
    });
    group.bench_function(BenchmarkId::new(name("reference", "f32"), &size), |b| {
        let at = [0..ROWS, 0..HEADS, LENGTH - 1..LENGTH, 0..HEAD_DIM];
        b.iter(|| state = state.take().map(|cache| cache.slice_assign(at.clone(), new.clone())));
    });
    group.throughput(throughput(written, FLOAT + HALF));
    group.bench_function(BenchmarkId::new(name("fused", "f16"), &size), |b| {
        b.iter(|| in_halves.write(new.clone(), 0, &places));
    });
    group.finish();

    let size = format!("{ROWS}x{HEADS}x{LENGTH}x{HEAD_DIM}");
    let parents: Vec<usize> = (0..ROWS).map(|row| row / 2 * 2).collect();
    let chosen: Vec<i32> = parents.iter().map(|parent| *parent as i32).collect();
    let chosen = Tensor::<1, Int>::from_data(TensorData::new(chosen, [ROWS]), &device);
    let lens = [LENGTH; ROWS];
    let moved = ROWS / 2 * HEADS * LENGTH * HEAD_DIM;
    let mut group = c.benchmark_group("kernels/reorder_rows");
    group.throughput(throughput(moved, 2 * FLOAT));
    group.bench_function(BenchmarkId::new(name("fused", "f32"), &size), |b| {
        b.iter(|| state = state.take().map(|cache| reorder_rows(cache, &parents, &lens)));
    });
    group.bench_function(BenchmarkId::new(name("reference", "f32"), &size), |b| {
        b.iter(|| state = state.take().map(|cache| cache.select(0, chosen.clone())));
    });
    group.throughput(throughput(moved, 2 * HALF));
    group.bench_function(BenchmarkId::new(name("fused", "f16"), &size), |b| {
        b.iter(|| in_halves.reorder_rows(&parents, &lens));
    });
    group.finish();
}
