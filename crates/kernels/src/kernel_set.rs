//! Which kernels compute on a device, by name: results have equal bits only where it is equal.

use burn::tensor::Device;

/// The kernels of a device: its architecture, and the vector instructions that the kernels choose by. A GPU's have one name, since what its
/// driver compiles is not known.
///
/// ```
/// use burn::tensor::Device;
/// use taal_kernels::kernel_set;
///
/// assert!(kernel_set(&Device::flex()).starts_with(std::env::consts::ARCH));
/// ```
pub fn kernel_set(device: &Device) -> String {
    if crate::is_gpu(device) {
        return "gpu".to_owned();
    }
    let mut parts = vec![std::env::consts::ARCH];
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    parts.extend(instructions());
    parts.join(" ")
}

/// The instructions that change how numbers are added up, as `cpu`, `quantized` and the crate `pulp` look for them.
#[cfg(target_arch = "x86_64")]
fn instructions() -> impl Iterator<Item = &'static str> {
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512cd", is_x86_feature_detected!("avx512cd")),
        ("avx512dq", is_x86_feature_detected!("avx512dq")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        // Next to the same instruction on wider vectors it is not used.
        (
            "avxvnni",
            is_x86_feature_detected!("avxvnni") && !is_x86_feature_detected!("avx512vnni"),
        ),
    ];
    all.into_iter()
        .filter(|(_, is_present)| *is_present)
        .map(|(name, _)| name)
}

/// The instructions that `quantized` and the crate `pulp` look for.
#[cfg(target_arch = "aarch64")]
fn instructions() -> Option<&'static str> {
    std::arch::is_aarch64_feature_detected!("neon").then_some("neon")
}
