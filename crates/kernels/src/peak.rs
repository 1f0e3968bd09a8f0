//! The machine's measured peak, against which utilization is stated.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};

use crate::Precision;
use crate::cpu::matmul::{Operand, Sizes, Target, Write, bf16, matmul};

/// Side of the square matrices: large enough that packing and thread start-up vanish.
const SIDE: usize = 2048;

/// How long to keep measuring.
const BUDGET: Duration = Duration::from_millis(500);

/// Floating-point operations per second of a single-precision matrix product over all cores: the denominator of
/// model FLOPs utilization on a CPU.
///
/// Measured once per process, in about half a second, as the best of several products with the `gemm` crate, which
/// is what flex multiplies with. Measure while nothing else runs.
pub fn measured_peak_flops_per_s() -> f64 {
    static PEAK: OnceLock<f64> = OnceLock::new();
    *PEAK.get_or_init(measure)
}

/// The largest square product tried on a GPU.
const MAX_GPU_SIDE: usize = 8192;

/// Floating-point operations per second of a matrix product on a device: [`measured_peak_flops_per_s`] for the CPU's devices, with
/// [`Precision::Bf16`] the same of Taal's own product in bfloat16, and for a GPU the best of growing square products in single
/// precision, through the same operation that layers use. Takes about a second there, and some more the first time, when variants are
/// tried out.
pub fn measured_peak_flops_per_s_of(device: &Device, precision: Precision) -> f64 {
    let device = device.clone().inner();
    if !crate::is_gpu(&device) {
        return match multiplies_bf16(&device, precision) {
            true => measure_bf16(),
            false => measured_peak_flops_per_s(),
        };
    }
    let wait = || device.sync().ok();
    let mut best = 0.0_f64;
    let mut side = 512;
    while side <= MAX_GPU_SIDE {
        let matrix = Tensor::<2>::ones([side, side], &device);
        // The first product chooses the variant.
        drop(matrix.clone().matmul(matrix.clone()));
        wait();
        let mut took = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            drop(matrix.clone().matmul(matrix.clone()));
            wait();
            took = took.min(start.elapsed());
        }
        best = best.max(2.0 * (side as f64).powi(3) / took.as_secs_f64());
        // The next is eight times the work.
        if took > BUDGET / 8 {
            break;
        }
        side *= 2;
    }
    best
}

/// The same measured again, for a machine that turned out to be faster than a first measurement that other work disturbed.
pub fn peak_flops_per_s_measured_again(device: &Device, precision: Precision) -> f64 {
    let inner = device.clone().inner();
    match crate::is_gpu(&inner) || multiplies_bf16(&inner, precision) {
        true => measured_peak_flops_per_s_of(device, precision),
        false => measure(),
    }
}

fn multiplies_bf16(device: &Device, precision: Precision) -> bool {
    precision == Precision::Bf16 && *device == Device::flex() && crate::cpu::has_vectors()
}

fn measure() -> f64 {
    let lhs = vec![1.0_f32; SIDE * SIDE];
    let rhs = vec![1.0_f32; SIDE * SIDE];
    let mut product = vec![0.0_f32; SIDE * SIDE];
    best_of(&mut product, |product| multiply(&lhs, &rhs, product))
}

fn measure_bf16() -> f64 {
    let [lhs, rhs] = [(); 2].map(|()| bf16::rounded(&vec![1.0_f32; SIDE * SIDE]));
    let mut product = vec![0.0_f32; SIDE * SIDE];
    let sizes = Sizes {
        m: SIDE,
        n: SIDE,
        k: SIDE,
    };
    best_of(&mut product, |product| {
        let target = Target::row_major(product, SIDE, SIDE);
        let [a, b] = [&lhs, &rhs].map(|x| bf16::Matrix::half(x, SIDE, SIDE));
        // SAFETY: all have these sizes.
        unsafe { bf16::matmul(sizes, a, b, target, Write::Replace) };
    })
}

fn best_of(product: &mut [f32], mut multiply: impl FnMut(&mut [f32])) -> f64 {
    let mut best = Duration::MAX;
    let begin = Instant::now();
    // The first product also faults in the pages, so there are at least two.
    for run in 0.. {
        let start = Instant::now();
        multiply(product);
        best = best.min(start.elapsed());
        if run > 0 && begin.elapsed() > BUDGET {
            break;
        }
    }
    std::hint::black_box(&product);
    2.0 * (SIDE as f64).powi(3) / best.as_secs_f64()
}

fn multiply(lhs: &[f32], rhs: &[f32], product: &mut [f32]) {
    let side = SIDE as isize;
    assert!(lhs.len() == SIDE * SIDE && rhs.len() == SIDE * SIDE && product.len() == SIDE * SIDE);
    // SAFETY: the three slices hold SIDE x SIDE numbers, row-major (column stride 1, row stride SIDE), and the
    // exclusive borrow keeps `product` apart from the operands.
    unsafe {
        gemm::gemm(
            SIDE,
            SIDE,
            SIDE,
            product.as_mut_ptr(),
            1,
            side,
            false,
            lhs.as_ptr(),
            1,
            side,
            rhs.as_ptr(),
            1,
            side,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// Side of the square matrices that precisions are compared with: those of a layer, so that rounding and packing count.
const COMPARED_SIDE: usize = 512;

/// How long precisions are compared.
const COMPARED: Duration = Duration::from_millis(100);

/// How often at least.
const LEAST_TURNS: usize = 24;

/// How many times as fast a product in bf16 is as the same one in fp32 on this machine, rounding included; `None` where the device
/// has no kernels for bf16. Takes a tenth of a second. Measure while nothing else runs.
pub fn bf16_speedup(device: &Device) -> Option<f64> {
    if *device != Device::flex() || !crate::cpu::has_vectors() || !Precision::Bf16.is_supported(device) {
        return None;
    }
    let side = COMPARED_SIDE;
    let sizes = Sizes {
        m: side,
        n: side,
        k: side,
    };
    let (a, b) = (vec![1.0_f32; side * side], vec![1.0_f32; side * side]);
    let mut c = vec![0.0_f32; side * side];
    let mut best = [Duration::MAX; 2];
    let begin = Instant::now();
    let mut turns = 0;
    // In turn, so that what disturbs one disturbs the other; several times even where other programs take most of the time.
    while begin.elapsed() < COMPARED || turns < LEAST_TURNS {
        turns += 1;
        for (is_half, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            let target = Target::row_major(&mut c, side, side);
            // SAFETY: all have these sizes.
            unsafe {
                if is_half == 1 {
                    let a = bf16::rounded(&a);
                    let (a, b) = (bf16::Matrix::half(&a, side, side), bf16::Matrix::single(&b, side, side));
                    bf16::matmul(sizes, a, b, target, Write::Replace);
                } else {
                    let [a, b] = [&a, &b].map(|x| Operand::row_major(x, side, side));
                    matmul(sizes, a, b, target, Write::Replace);
                }
            }
            *best = start.elapsed().min(*best);
        }
    }
    std::hint::black_box(&c);
    let [single, half] = best.map(|best| best.as_secs_f64());
    Some(single / half)
}

/// How many numbers are read to measure the bandwidth: 256 MiB, more than any cache holds.
const STREAM: usize = 1 << 26;

/// Bytes per second at which all cores together read memory: what bounds decoding, which reads every weight for each token.
///
/// Measured once per process, in about half a second, as the best of several sums over 256 MiB. Measure while nothing
/// else runs.
pub fn measured_bandwidth_bytes_per_s() -> f64 {
    static BANDWIDTH: OnceLock<f64> = OnceLock::new();
    *BANDWIDTH.get_or_init(|| {
        let values = vec![1.0_f32; STREAM];
        let mut best = Duration::MAX;
        let begin = Instant::now();
        while begin.elapsed() < BUDGET {
            let start = Instant::now();
            std::hint::black_box(crate::optimizer::cpu::sum_of_squares(&values));
            best = best.min(start.elapsed());
        }
        (STREAM * size_of::<f32>()) as f64 / best.as_secs_f64()
    })
}
