//! Lists the devices this build can open and computes one loss on each:
//! `cargo run -p taal-kernels --example devices`.

use burn::tensor::{Int, Tensor};
use taal_kernels::{IGNORE_INDEX, available, cross_entropy, measured_peak_flops_per_s};

fn main() -> Result<(), taal_kernels::KernelError> {
    for info in available() {
        if !info.is_compiled {
            println!("{:8} not compiled in: {}", info.spec.to_string(), info.description);
            continue;
        }
        if !info.is_present {
            println!("{:8} not in this machine: {}", info.spec.to_string(), info.description);
            continue;
        }
        let device = info.spec.open()?;
        let logits = Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 0.0]], &device);
        let targets = Tensor::<1, Int>::from_ints([0, 1], &device);
        let loss: f32 = cross_entropy(logits, targets, IGNORE_INDEX).into_scalar();
        println!("{:8} {}: loss {loss:.4} nats", info.spec.to_string(), info.description);
    }
    println!("peak of the CPU: {:.0} GFLOP/s", measured_peak_flops_per_s() / 1e9);
    Ok(())
}
