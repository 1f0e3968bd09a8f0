//! Every fused operation next to its reference implementation, forward and with gradients, in floating-point operations and bytes
//! per second. `cargo xtask bench kernels` adds their share of the roofline.
//!
//! The work of a pass is counted from its sizes: a product of m x k x n takes 2 m k n operations, its gradients twice as
//! many more; an element-wise operation reads and writes each number once per pass. Exponentials count as one operation. The share of
//! products in bf16 and of integers is that of the peak in single precision, which they may pass.

#[path = "kernels/cached.rs"]
mod cached;
#[path = "kernels/crossing.rs"]
mod crossing;
#[path = "kernels/recurrent.rs"]
mod recurrent;
#[path = "kernels/updates.rs"]
mod updates;

use burn::module::Param;
use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use taal_kernels::random::{self, Generator};
use taal_kernels::{
    AttentionMask, AttentionSettings, DenseConfig, IGNORE_INDEX, LowRankConfig, Precision, QuantizedMatrix, WeightType,
    quantized_linear, reference, with_precision,
};

/// Rows and width: nanoGPT's CPU model, one with odd sizes, and nanoGPT's baby model.
const STREAMS: [[usize; 2]; 3] = [[768, 128], [257, 96], [4096, 384]];

/// What a pass computes and moves.
#[derive(Clone, Copy)]
struct Work {
    flops: usize,
    /// Numbers of four bytes.
    numbers: usize,
}

impl Work {
    /// An operation that reads `reads` numbers and writes one per element.
    fn elementwise(numbers: usize, flops: usize, reads: usize) -> Self {
        Self {
            flops: numbers * flops,
            numbers: numbers * (reads + 1),
        }
    }

    /// The same with its gradient, which reads the inputs and the gradient again.
    fn with_gradient(self) -> Self {
        Self {
            flops: 3 * self.flops,
            numbers: 3 * self.numbers,
        }
    }

    fn throughput(self) -> Throughput {
        Throughput::ElementsAndBytes {
            elements: self.flops as u64,
            bytes: 4 * self.numbers as u64,
        }
    }
}

fn random<const D: usize>(shape: [usize; D], name: &str, device: &Device) -> Tensor<D> {
    random::normal(shape, 1.0, random::key(1337, 0, name), device)
}

fn targets(rows: usize, vocab_size: usize, device: &Device) -> Tensor<1, Int> {
    let mut generator = Generator::new(random::key(1337, 0, "benchmark targets"));
    let targets: Vec<i32> = (0..rows).map(|_| generator.below(vocab_size as u64) as i32).collect();
    Tensor::from_data(TensorData::new(targets, [rows]), device)
}

/// The fused operation and its reference implementation on flex, without and with gradients.
fn fused_and_reference<I: Clone>(
    c: &mut Criterion,
    name: &str,
    size: &str,
    work: Work,
    inputs: impl Fn(&Device) -> I,
    implementations: [(&str, &dyn Fn(I) -> Tensor<1>); 2],
) {
    with_work(c, name, size, [work, work.with_gradient()], inputs, implementations);
}

/// [`fused_and_reference`] with the work of a forward pass, and of one with its gradients.
fn with_work<I: Clone>(
    c: &mut Criterion,
    name: &str,
    size: &str,
    [forward, both]: [Work; 2],
    inputs: impl Fn(&Device) -> I,
    implementations: [(&str, &dyn Fn(I) -> Tensor<1>); 2],
) {
    let mut group = c.benchmark_group(format!("kernels/{name}"));
    for (implementation, compute) in implementations {
        let values = inputs(&Device::flex());
        group.throughput(forward.throughput());
        group.bench_function(BenchmarkId::new(format!("forward/{implementation}"), size), |b| {
            b.iter(|| compute(values.clone()));
        });
        let tracked = inputs(&Device::flex().autodiff());
        group.throughput(both.throughput());
        group.bench_function(
            BenchmarkId::new(format!("forward_backward/{implementation}"), size),
            |b| {
                b.iter(|| compute(tracked.clone()).sum().backward());
            },
        );
    }
    group.finish();
}

fn activations(c: &mut Criterion) {
    type Function = fn(Tensor<2>) -> Tensor<2>;
    type Gate = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;
    let functions: [(&str, usize, Function, Function); 4] = [
        ("gelu", 20, taal_kernels::gelu, reference::gelu),
        ("gelu_tanh", 20, taal_kernels::gelu_tanh, reference::gelu_tanh),
        ("silu", 20, taal_kernels::silu, reference::silu),
        ("relu_squared", 2, taal_kernels::relu_squared, reference::relu_squared),
    ];
    let gates: [(&str, Gate, Gate); 3] = [
        ("swiglu", taal_kernels::swiglu, reference::swiglu),
        ("geglu", taal_kernels::geglu, reference::geglu),
        ("geglu_tanh", taal_kernels::geglu_tanh, reference::geglu_tanh),
    ];
    for [rows, width] in STREAMS {
        let shape = [rows, 4 * width];
        let size = format!("{rows}x{}", 4 * width);
        for (name, flops, fused, reference) in functions {
            fused_and_reference(
                c,
                name,
                &size,
                Work::elementwise(shape[0] * shape[1], flops, 1),
                |device| tracked(random(shape, "x", device)),
                [
                    ("fused", &|x| fused(x).flatten(0, 1)),
                    ("reference", &|x| reference(x).flatten(0, 1)),
                ],
            );
        }
        let pair = |device: &Device| {
            [
                tracked(random(shape, "gate", device)),
                tracked(random(shape, "up", device)),
            ]
        };
        for (name, fused, reference) in gates {
            fused_and_reference(
                c,
                name,
                &size,
                Work::elementwise(shape[0] * shape[1], 21, 2),
                pair,
                [
                    ("fused", &|[gate, up]| fused(gate, up).flatten(0, 1)),
                    ("reference", &|[gate, up]| reference(gate, up).flatten(0, 1)),
                ],
            );
        }
    }
}

fn norms(c: &mut Criterion) {
    for shape in STREAMS {
        let [rows, width] = shape;
        let inputs = |device: &Device| {
            let [weight, bias] = ["weight", "bias"].map(|name| tracked(random([width], name, device)));
            (tracked(random(shape, "x", device)), weight, bias)
        };
        let size = format!("{rows}x{width}");
        fused_and_reference(
            c,
            "layer_norm",
            &size,
            Work::elementwise(rows * width, 8, 1),
            inputs,
            [
                ("fused", &|(x, w, b)| {
                    taal_kernels::layer_norm(x, w, Some(b), 1e-5).flatten(0, 1)
                }),
                ("reference", &|(x, w, b)| {
                    reference::layer_norm(x, w, Some(b), 1e-5).flatten(0, 1)
                }),
            ],
        );
        fused_and_reference(
            c,
            "rms_norm",
            &size,
            Work::elementwise(rows * width, 5, 1),
            inputs,
            [
                ("fused", &|(x, w, _)| taal_kernels::rms_norm(x, w, 1e-6).flatten(0, 1)),
                ("reference", &|(x, w, _)| reference::rms_norm(x, w, 1e-6).flatten(0, 1)),
            ],
        );
    }
}

fn rotations(c: &mut Criterion) {
    const HEAD_DIM: usize = 32;
    for [rows, width] in STREAMS {
        let inputs = |device: &Device| {
            let [cos, sin] = ["cos", "sin"].map(|name| random([rows, HEAD_DIM], name, device));
            (tracked(random([rows, width], "x", device)), cos, sin)
        };
        // As a projection leaves them.
        let heads = |x: Tensor<2>| -> Tensor<4> { x.reshape([1, rows, width / HEAD_DIM, HEAD_DIM]).swap_dims(1, 2) };
        fused_and_reference(
            c,
            "rotary",
            &format!("{rows}x{width}"),
            Work::elementwise(rows * width, 3, 1),
            inputs,
            [
                ("fused", &|(x, cos, sin)| {
                    taal_kernels::rotary(heads(x), cos, sin).flatten(0, 3)
                }),
                ("reference", &|(x, cos, sin)| {
                    reference::rotary(heads(x), cos, sin).flatten(0, 3)
                }),
            ],
        );
    }
}

fn linears(c: &mut Criterion) {
    for [rows, width] in STREAMS {
        for [k, n] in [[width, 3 * width], [width, 4 * width], [4 * width, width]] {
            let inputs = |device: &Device| {
                let [x, weight] =
                    [([rows, k], "x"), ([k, n], "weight")].map(|(s, name)| tracked(random(s, name, device)));
                (x, weight, tracked(random([rows, n], "residual", device)))
            };
            let size = format!("{rows}x{k}x{n}");
            let work = Work {
                flops: 2 * rows * k * n,
                numbers: rows * k + k * n + 2 * rows * n,
            };
            fused_and_reference(
                c,
                "linear_add",
                &size,
                work,
                inputs,
                [
                    ("fused", &|(x, w, r)| {
                        taal_kernels::linear_add(x, w, None, r).flatten(0, 1)
                    }),
                    ("reference", &|(x, w, r)| {
                        reference::linear_add(x, w, None, r).flatten(0, 1)
                    }),
                ],
            );
            fused_and_reference(
                c,
                "linear_add_bf16",
                &size,
                work,
                inputs,
                [
                    ("fused", &|(x, w, r)| {
                        with_precision(Precision::Bf16, || taal_kernels::linear_add(x, w, None, r)).flatten(0, 1)
                    }),
                    ("reference", &|(x, w, r)| {
                        reference::linear_bf16(x, w, None, Some(r)).flatten(0, 1)
                    }),
                ],
            );
        }
    }
    // Decoding: one row, and eight.
    for rows in [1, 8] {
        let (k, n) = (768, 3072);
        let inputs = |device: &Device| {
            let shapes = [([rows, k], "x"), ([k, n], "weight")];
            shapes.map(|(shape, name)| tracked(random(shape, name, device)))
        };
        fused_and_reference(
            c,
            "linear",
            &format!("{rows}x{k}x{n}"),
            Work {
                flops: 2 * rows * k * n,
                numbers: rows * k + k * n + rows * n,
            },
            inputs,
            [
                ("fused", &|[x, w]| taal_kernels::linear(x, w, None).flatten(0, 1)),
                ("reference", &|[x, w]| reference::linear(x, w, None).flatten(0, 1)),
            ],
        );
    }
}

/// The tied output matrix: some rows of training, and one and eight of decoding.
fn tied_outputs(c: &mut Criterion) {
    for [rows, width, vocab_size] in [[768, 128, 65], [257, 96, 4096], [1, 768, 8192], [8, 768, 8192]] {
        let inputs = |device: &Device| {
            let shapes = [([rows, width], "x"), ([vocab_size, width], "embedding")];
            shapes.map(|(shape, name)| tracked(random(shape, name, device)))
        };
        fused_and_reference(
            c,
            "linear_transposed",
            &format!("{rows}x{width}x{vocab_size}"),
            Work {
                flops: 2 * rows * width * vocab_size,
                numbers: rows * width + width * vocab_size + rows * vocab_size,
            },
            inputs,
            [
                ("fused", &|[x, w]| taal_kernels::linear_transposed(x, w).flatten(0, 1)),
                ("reference", &|[x, w]| reference::linear_transposed(x, w).flatten(0, 1)),
            ],
        );
    }
}

/// A frozen linear layer with an adapter, next to three linear layers of Burn's.
fn low_rank(c: &mut Criterion) {
    const RANK: usize = 8;
    const SCALE: f64 = 2.0;
    for [rows, width] in STREAMS {
        let [k, n] = [width, 3 * width];
        let config = DenseConfig {
            d_input: k,
            d_output: n,
            bias: false,
        };
        let adapter = LowRankConfig {
            rank: RANK,
            scale: SCALE,
            parts: vec![0..width, width..2 * width, 2 * width..n],
            dropout: 0.0,
            site: 0,
        };
        let inputs = |device: &Device| {
            let mut dense = config.init(0.02, 0, device);
            dense.weight = Param::initialized(dense.weight.id, random([k, n], "weight", device));
            let mut part = adapter.clone().init(k, 0, device);
            part.a = Param::initialized(part.a.id, tracked(random([k, 3 * RANK], "a", device)));
            part.b = Param::initialized(part.b.id, tracked(random([RANK, n], "b", device)));
            dense.adapter = Some(part);
            (tracked(random([rows, k], "x", device)), dense)
        };
        let thin = 2 * rows * 3 * RANK * (k + width);
        let forward = Work {
            flops: 2 * rows * k * n + thin,
            numbers: rows * k + k * n + rows * n,
        };
        // The frozen weight has no gradient, so that its product is made once more and not twice.
        let both = Work {
            flops: 4 * rows * k * n + 3 * thin,
            numbers: 2 * forward.numbers,
        };
        let reference = |(x, dense): (Tensor<2>, taal_kernels::Dense)| {
            let y = reference::linear(x.clone(), dense.weight(), None);
            let part = dense.adapter.expect("an adapter");
            let (down, b) = (reference::linear(x, part.a.val(), None), part.b.val());
            let added = (0..3).map(|part| {
                let down = down.clone().narrow(1, part * RANK, RANK);
                reference::linear(down, b.clone().narrow(1, part * width, width), None)
            });
            (y + Tensor::cat(added.collect(), 1).mul_scalar(SCALE)).flatten(0, 1)
        };
        with_work(
            c,
            "linear_low_rank",
            &format!("{rows}x{k}x{n}"),
            [forward, both],
            inputs,
            [
                ("fused", &|(x, dense)| dense.forward(x).flatten(0, 1)),
                ("reference", &reference),
            ],
        );
    }
}

/// Products with weights in fewer bits, which only inference has, next to the same weights decoded and multiplied in single precision; and
/// rows of a token embedding, which are decoded.
fn quantized(c: &mut Criterion) {
    let (k, n) = (768, 3072);
    let device = Device::flex();
    let mut group = c.benchmark_group("kernels/quantized_linear");
    for kind in WeightType::ALL {
        let weight = QuantizedMatrix::of(random([n, k], "weight", &device), kind).expect("rows of whole blocks");
        let exact = weight.clone().with_exact_products(true);
        for rows in [1, 8, 128] {
            let x = random([rows, k], "x", &device);
            group.throughput(Throughput::ElementsAndBytes {
                elements: (2 * rows * k * n) as u64,
                bytes: (weight.bytes().len() + 4 * rows * (k + n)) as u64,
            });
            for (implementation, weight) in [("fused", &weight), ("reference", &exact)] {
                let name = format!("forward/{implementation}/{kind}");
                group.bench_function(BenchmarkId::new(name, format!("{rows}x{k}x{n}")), |b| {
                    b.iter(|| quantized_linear(x.clone(), weight, None, None));
                });
            }
        }
    }
    group.finish();
    let mut group = c.benchmark_group("kernels/quantized_embedding");
    for kind in WeightType::ALL {
        let table = QuantizedMatrix::of(random([n, k], "weight", &device), kind).expect("rows of whole blocks");
        for rows in [1, 128] {
            let ids = targets(rows, n, &device).reshape([1, rows]);
            group.throughput(Throughput::ElementsAndBytes {
                elements: (rows * k) as u64,
                bytes: (rows * (table.bytes().len() / n + 4 * k)) as u64,
            });
            let name = format!("forward/fused/{kind}");
            group.bench_function(BenchmarkId::new(name, format!("{rows} of {n}x{k}")), |b| {
                b.iter(|| table.rows_of(ids.clone()));
            });
        }
    }
    group.finish();
}

fn attentions(c: &mut Criterion) {
    for [batch, heads, seq, head_dim] in [[12, 4, 64, 32], [3, 3, 96, 40], [16, 6, 256, 64], [1, 6, 2048, 64]] {
        let shape = [batch, heads, seq, head_dim];
        let inputs = |device: &Device| ["q", "k", "v"].map(|name| tracked(random(shape, name, device)));
        let mask = AttentionMask::new(seq, seq, true, None, &Device::flex());
        let settings = AttentionSettings::default();
        let size = format!("{batch}x{heads}x{seq}x{head_dim}");
        // A causal query sees half of the keys on average; gradients take five products, the result two.
        let work = Work {
            flops: 2 * batch * heads * seq * (seq + 1) * head_dim,
            numbers: 4 * batch * heads * seq * head_dim,
        };
        fused_and_reference(
            c,
            "attention",
            &size,
            work,
            inputs,
            [
                ("fused", &|[q, k, v]| {
                    taal_kernels::attention(q, k, v, &mask, &settings).flatten(0, 3)
                }),
                ("reference", &|[q, k, v]| {
                    reference::attention(q, k, v, &mask, &settings).0.flatten(0, 3)
                }),
            ],
        );
        fused_and_reference(
            c,
            "attention_bf16",
            &size,
            work,
            inputs,
            [
                ("fused", &|[q, k, v]| {
                    with_precision(Precision::Bf16, || taal_kernels::attention(q, k, v, &mask, &settings)).flatten(0, 3)
                }),
                ("reference", &|[q, k, v]| {
                    reference::attention_bf16([q, k, v], &mask, &settings).flatten(0, 3)
                }),
            ],
        );
    }
}

fn losses(c: &mut Criterion) {
    type Losses = fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>;
    for [rows, vocab_size] in [[768, 65], [257, 4096], [4096, 65]] {
        let shape = [rows, vocab_size];
        let ids = targets(rows, vocab_size, &Device::flex());
        let of_device = |x: &Tensor<2>| ids.clone().to_device(&x.device());
        fused_and_reference(
            c,
            "cross_entropy",
            &format!("{rows}x{vocab_size}"),
            Work::elementwise(rows * vocab_size, 4, 1),
            |device| tracked(random(shape, "logits", device)),
            [
                ("fused", &|x| {
                    let ids = of_device(&x);
                    taal_kernels::cross_entropy(x, ids, IGNORE_INDEX)
                }),
                ("reference", &|x| {
                    let ids = of_device(&x);
                    reference::cross_entropy(x, ids, IGNORE_INDEX)
                }),
            ],
        );
    }
    let mut group = c.benchmark_group("kernels/negative_log_likelihood");
    for [rows, vocab_size] in [[768, 65], [257, 4096]] {
        let logits = random([rows, vocab_size], "logits", &Device::flex());
        let ids = targets(rows, vocab_size, &Device::flex());
        group.throughput(
            Work {
                flops: 3 * rows * vocab_size,
                numbers: rows * vocab_size + rows,
            }
            .throughput(),
        );
        for (implementation, compute) in [
            ("fused", taal_kernels::negative_log_likelihood as Losses),
            ("reference", reference::negative_log_likelihood as Losses),
        ] {
            let name = format!("forward/{implementation}");
            group.bench_function(BenchmarkId::new(name, format!("{rows}x{vocab_size}")), |b| {
                b.iter(|| compute(logits.clone(), ids.clone()));
            });
        }
    }
    group.finish();
    for [rows, width, vocab_size] in [[768, 128, 65], [256, 96, 8192]] {
        let ids = targets(rows, vocab_size, &Device::flex());
        let of_device = |x: &Tensor<2>| ids.clone().to_device(&x.device());
        let inputs = |device: &Device| {
            let shapes = [([rows, width], "hidden"), ([width, vocab_size], "weight")];
            shapes.map(|(shape, name)| tracked(random(shape, name, device)))
        };
        let size = format!("{rows}x{width}x{vocab_size}");
        let work = Work {
            flops: 2 * rows * width * vocab_size,
            numbers: rows * width + width * vocab_size + 2 * rows * vocab_size,
        };
        fused_and_reference(
            c,
            "linear_cross_entropy",
            &size,
            work,
            inputs,
            [
                ("fused", &|[hidden, weight]| {
                    let ids = of_device(&hidden);
                    taal_kernels::linear_cross_entropy(hidden, weight, false, ids, IGNORE_INDEX, 0.0)
                }),
                ("reference", &|[hidden, weight]| {
                    let ids = of_device(&hidden);
                    reference::linear_cross_entropy(hidden, weight, false, ids, IGNORE_INDEX, 0.0)
                }),
            ],
        );
        fused_and_reference(
            c,
            "linear_cross_entropy_bf16",
            &size,
            work,
            inputs,
            [
                ("fused", &|[hidden, weight]| {
                    let ids = of_device(&hidden);
                    with_precision(Precision::Bf16, || {
                        taal_kernels::linear_cross_entropy(hidden, weight, false, ids, IGNORE_INDEX, 0.0)
                    })
                }),
                ("reference", &|[hidden, weight]| {
                    let ids = of_device(&hidden);
                    reference::linear_cross_entropy_bf16(hidden, weight, false, ids, IGNORE_INDEX, 0.0)
                }),
            ],
        );
    }
}

fn embeddings(c: &mut Criterion) {
    for [rows, vocab_size, width] in [[768, 65, 128], [4096, 4096, 256]] {
        let ids = targets(rows, vocab_size, &Device::flex()).reshape([1, rows]);
        let of_device = |table: &Tensor<2>| ids.clone().to_device(&table.device());
        let forward = Work::elementwise(rows * width, 1, 1);
        // The gradient has the size of the whole table.
        let both = Work {
            flops: 2 * rows * width,
            numbers: forward.numbers + rows * width + vocab_size * width,
        };
        with_work(
            c,
            "embedding",
            &format!("{rows} of {vocab_size}x{width}"),
            [forward, both],
            |device| tracked(random([vocab_size, width], "table", device)),
            [
                ("fused", &|table| {
                    let ids = of_device(&table);
                    taal_kernels::embedding(table, ids).flatten(0, 2)
                }),
                ("reference", &|table| {
                    let ids = of_device(&table);
                    reference::embedding(table, ids).flatten(0, 2)
                }),
            ],
        );
    }
}

fn others(c: &mut Criterion) {
    for [rows, width] in STREAMS {
        let shape = [rows, width];
        fused_and_reference(
            c,
            "dropout",
            &format!("{rows}x{width}"),
            Work::elementwise(rows * width, 1, 1),
            |device| tracked(random(shape, "x", device)),
            [
                ("fused", &|x| taal_kernels::dropout(x, 0.1, 1337).flatten(0, 1)),
                ("reference", &|x| reference::dropout(x, 0.1, 1337).flatten(0, 1)),
            ],
        );
    }
}

/// A leaf of the autodiff graph, if the device has autodiff.
fn tracked<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.is_autodiff() { x.require_grad() } else { x }
}

criterion_group!(
    name = benches;
    config = taal_benches::criterion();
    targets = activations, norms, rotations, linears, tied_outputs, low_rank, quantized, attentions,
        crossing::projected, crossing::crossed, cached::attention, cached::rows, losses, embeddings, others,
        updates::adamw, updates::sum_of_squares, updates::muon, updates::orthogonalize, recurrent::lstm
);

fn main() {
    taal_benches::write_machine();
    // On a thread of the pool, as a training step runs.
    taal_kernels::on_pool(&Device::flex(), || {
        benches();
        Criterion::default().configure_from_args().final_summary();
    });
}
