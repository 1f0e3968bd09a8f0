//! `taal doctor`: what this machine offers.

use std::path::Path;

use serde::Serialize;

use crate::arguments::DoctorArguments;
use crate::failure::Failure;
use crate::terminal;

/// What was found, in the form that `taal doctor --json` prints.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
    /// Threads that can run at once.
    cores: usize,
    simd: Vec<&'static str>,
    /// Measured over all cores.
    peak_flops_per_s: f64,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    devices: Vec<Device>,
}

#[derive(Serialize)]
struct Device {
    name: String,
    description: String,
    is_compiled: bool,
    /// Whether it opens.
    is_available: bool,
    /// What is known of a GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<Adapter>,
}

#[derive(Serialize)]
struct Adapter {
    name: String,
    kind: &'static str,
    memory_bytes: Option<u64>,
    max_buffer_bytes: u64,
    features: Vec<&'static str>,
}

/// Looks and reports.
pub fn run(arguments: &DoctorArguments) -> Result<(), Failure> {
    let findings = look();
    match *arguments.json {
        true => terminal::print_json(&findings)?,
        false => terminal::print(&findings.table())?,
    }
    Ok(())
}

fn look() -> Findings {
    let memory = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        (system.total_memory(), system.available_memory())
    });
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        simd: simd(),
        peak_flops_per_s: taal_kernels::measured_peak_flops_per_s(),
        memory_total_bytes: memory.map(|(total, _)| total),
        memory_available_bytes: memory.map(|(_, available)| available),
        disk_free_bytes: taal_store::free_space_bytes(Path::new(".")).ok(),
        devices: taal_kernels::available().into_iter().map(device).collect(),
    }
}

fn device(info: taal_kernels::DeviceInfo) -> Device {
    Device {
        name: info.spec.to_string(),
        is_compiled: info.is_compiled,
        is_available: info.is_compiled && info.is_present && info.spec.open().is_ok(),
        description: info.description,
        adapter: info.adapter.map(|adapter| Adapter {
            name: adapter.name,
            kind: adapter.kind,
            memory_bytes: adapter.memory_bytes,
            max_buffer_bytes: adapter.max_buffer_bytes,
            features: adapter.features,
        }),
    }
}

/// The vector instructions that matter for a matrix product, as this processor has them.
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        found.extend(std::is_x86_feature_detected!("avx512f").then_some("avx512f"));
        found.extend(std::is_x86_feature_detected!("avx2").then_some("avx2"));
        found.extend(std::is_x86_feature_detected!("fma").then_some("fma"));
    }
    #[cfg(target_arch = "aarch64")]
    found.extend(std::arch::is_aarch64_feature_detected!("neon").then_some("neon"));
    found
}

impl Adapter {
    /// Memory, largest buffer and features on one line.
    fn details(&self) -> String {
        let memory = self
            .memory_bytes
            .map(|bytes| format!("{} of memory, ", terminal::size(bytes)));
        let mut text = format!(
            "{}buffers up to {}",
            memory.unwrap_or_default(),
            terminal::size(self.max_buffer_bytes)
        );
        for feature in &self.features {
            text.push_str(", ");
            text.push_str(feature);
        }
        text
    }
}

impl Findings {
    fn table(&self) -> String {
        let size = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), terminal::size);
        let mut rows = vec![
            ("taal", format!("{} on {} {}", self.version, self.os, self.arch)),
            ("cores", self.cores.to_string()),
            (
                "SIMD",
                if self.simd.is_empty() {
                    "none found".to_string()
                } else {
                    self.simd.join(" ")
                },
            ),
            (
                "peak",
                format!("{}FLOP/s in fp32, measured", terminal::short(self.peak_flops_per_s)),
            ),
            ("memory", size(self.memory_total_bytes)),
            ("of it free", size(self.memory_available_bytes)),
            ("disk free", size(self.disk_free_bytes)),
        ];
        for device in &self.devices {
            let state = match (device.is_available, device.is_compiled) {
                (true, _) => "ready",
                (false, true) => "not found",
                (false, false) => "not compiled in",
            };
            rows.push((
                "device",
                format!("{:<8} {state:<16} {}", device.name, device.description),
            ));
            if let Some(adapter) = &device.adapter {
                rows.push(("", format!("{:<25} {}", "", adapter.details())));
            }
        }
        terminal::table(&rows)
    }
}
