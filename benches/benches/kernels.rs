//! Every fused operation next to its reference implementation, forward and with gradients, in floating-point operations and bytes
//! per second. `cargo xtask bench kernels` adds their share of the roofline.
//!
//! The work of a pass is counted from its sizes: a product of m x k x n takes 2 m k n operations, its gradients twice as
//! many more; an element-wise operation reads and writes each number once per pass. Exponentials count as one operation.

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use taal_kernels::random::{self, Generator};
use taal_kernels::{
    AdamWStep, AttentionMask, AttentionSettings, IGNORE_INDEX, Precision, QuantizedMatrix, WeightType,
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
    let mut group = c.benchmark_group(format!("kernels/{name}"));
    for (implementation, compute) in implementations {
        let values = inputs(&Device::flex());
        group.throughput(work.throughput());
        group.bench_function(BenchmarkId::new(format!("forward/{implementation}"), size), |b| {
            b.iter(|| compute(values.clone()));
        });
        let tracked = inputs(&Device::flex().autodiff());
        group.throughput(work.with_gradient().throughput());
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
    let functions: [(&str, Function, Function); 3] = [
        ("gelu", taal_kernels::gelu, reference::gelu),
        ("gelu_tanh", taal_kernels::gelu_tanh, reference::gelu_tanh),
        ("silu", taal_kernels::silu, reference::silu),
    ];
    for [rows, width] in STREAMS {
        let shape = [rows, 4 * width];
        let size = format!("{rows}x{}", 4 * width);
        for (name, fused, reference) in functions {
            fused_and_reference(
                c,
                name,
                &size,
                Work::elementwise(shape[0] * shape[1], 20, 1),
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
        fused_and_reference(
            c,
            "swiglu",
            &size,
            Work::elementwise(shape[0] * shape[1], 21, 2),
            pair,
            [
                ("fused", &|[gate, up]| taal_kernels::swiglu(gate, up).flatten(0, 1)),
                ("reference", &|[gate, up]| reference::swiglu(gate, up).flatten(0, 1)),
            ],
        );
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

/// Products with weights in fewer bits, which only inference has, next to the same weights decoded and multiplied in single precision. The
/// share is that of the peak in single precision, which products of integers may pass.
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
    for [rows, width, vocab_size] in [[768, 128, 65], [256, 96, 8192]] {
        let ids = targets(rows, vocab_size, &Device::flex());
        let of_device = |x: &Tensor<2>| ids.clone().to_device(&x.device());
        let inputs = |device: &Device| {
            let shapes = [([rows, width], "hidden"), ([width, vocab_size], "weight")];
            shapes.map(|(shape, name)| tracked(random(shape, name, device)))
        };
        fused_and_reference(
            c,
            "linear_cross_entropy",
            &format!("{rows}x{width}x{vocab_size}"),
            Work {
                flops: 2 * rows * width * vocab_size,
                numbers: rows * width + width * vocab_size + 2 * rows * vocab_size,
            },
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

/// One update of a matrix, moments included, in place.
fn adamw(c: &mut Criterion) {
    type Update = fn(&AdamWStep, Tensor<1>, Tensor<1>, Tensor<1>, Tensor<1>) -> (Tensor<1>, Tensor<1>, Tensor<1>);
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 10,
        gradient_factor: 0.5,
    };
    let mut group = c.benchmark_group("kernels/adamw");
    for len in [128 * 512, 99_999, 768 * 3072] {
        group.throughput(
            Work {
                flops: 12 * len,
                numbers: 7 * len,
            }
            .throughput(),
        );
        for (implementation, update) in [
            ("fused", taal_kernels::adamw as Update),
            ("reference", reference::adamw as Update),
        ] {
            let device = Device::flex();
            let gradient = random([len], "gradient", &device);
            let zeros = || Tensor::<1>::zeros([len], &device);
            let mut state = Some((random([len], "value", &device), zeros(), zeros()));
            group.bench_function(BenchmarkId::new(implementation, len), |b| {
                b.iter(|| {
                    let (value, first, second) = state.take().expect("put back below");
                    state = Some(update(&step, value, gradient.clone(), first, second));
                });
            });
        }
    }
    group.finish();
}

/// A leaf of the autodiff graph, if the device has autodiff.
fn tracked<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.is_autodiff() { x.require_grad() } else { x }
}

criterion_group!(
    name = benches;
    config = taal_benches::criterion();
    targets = activations, norms, rotations, linears, quantized, attentions, losses, others, adamw
);

fn main() {
    taal_benches::write_machine();
    // On a thread of the pool, as a training step runs.
    taal_kernels::on_pool(&Device::flex(), || {
        benches();
        Criterion::default().configure_from_args().final_summary();
    });
}
