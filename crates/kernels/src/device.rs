//! Which device computes: the meaning of `--device`.
//!
//! Burn's own `Device::default()` depends on which Cargo features happen to be on, so programs never call it:
//! they parse a [`DeviceSpec`].

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::KernelError;

/// A device by name, as given to `--device`; `cpu` is flex and `gpu` is wgpu.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceSpec {
    /// The CPU, in pure Rust. Always compiled in.
    #[default]
    Flex,
    /// The CPU through the `ndarray` crate, kept as a second opinion. Feature `ndarray`.
    NdArray,
    /// A GPU through wgpu (Vulkan, Metal, DirectX 12), by adapter number: the place in [`adapters`]. Feature `wgpu`.
    Wgpu(usize),
    /// A GPU of NVIDIA through CUDA, by number. Feature `cuda`.
    Cuda(usize),
}

/// A device and whether this program can open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device; where no adapter is known, number 0 means the kind.
    pub spec: DeviceSpec,
    /// Whether its backend is compiled into this program.
    pub is_compiled: bool,
    /// Whether this machine has it.
    pub is_present: bool,
    /// One line for people.
    pub description: String,
    /// What is known of a GPU.
    pub adapter: Option<Adapter>,
}

/// A graphics adapter as wgpu sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapter {
    /// Its name, as its driver gives it.
    pub name: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `software on the CPU` or `other`.
    pub kind: &'static str,
    /// Its memory, where the driver tells.
    pub memory_bytes: Option<u64>,
    /// The largest single buffer.
    pub max_buffer_bytes: u64,
    /// What matters for training in addition to single precision: `f16`, `bf16`, `subgroups`, `matrix units`.
    pub features: Vec<&'static str>,
}

/// Every device Taal knows, in the order of preference for a CPU; each adapter of wgpu is one.
pub fn available() -> Vec<DeviceInfo> {
    let mut found = vec![
        DeviceInfo {
            spec: DeviceSpec::Flex,
            is_compiled: true,
            is_present: true,
            description: "CPU, pure Rust, all cores".to_string(),
            adapter: None,
        },
        DeviceInfo {
            spec: DeviceSpec::NdArray,
            is_compiled: cfg!(feature = "ndarray"),
            is_present: true,
            description: "CPU through ndarray, slower, for comparison".to_string(),
            adapter: None,
        },
    ];
    let adapters = adapters();
    if adapters.is_empty() {
        found.push(DeviceInfo {
            spec: DeviceSpec::Wgpu(0),
            is_compiled: cfg!(feature = "wgpu"),
            is_present: false,
            description: "GPU through Vulkan, Metal or DirectX 12".to_string(),
            adapter: None,
        });
    }
    for (index, adapter) in adapters.into_iter().enumerate() {
        found.push(DeviceInfo {
            spec: DeviceSpec::Wgpu(index),
            is_compiled: true,
            is_present: true,
            description: format!("{}, {}", adapter.name, adapter.kind),
            adapter: Some(adapter),
        });
    }
    found.push(DeviceInfo {
        spec: DeviceSpec::Cuda(0),
        is_compiled: cfg!(feature = "cuda"),
        is_present: cfg!(feature = "cuda"),
        description: "GPU of NVIDIA through CUDA".to_string(),
        adapter: None,
    });
    found
}

/// The adapters that wgpu finds, those in software last; empty where the feature `wgpu` is off. `--device wgpu:N` is the
/// one at place N.
pub fn adapters() -> Vec<Adapter> {
    #[cfg(feature = "wgpu")]
    let found = wgpu::adapters();
    #[cfg(not(feature = "wgpu"))]
    let found = Vec::new();
    found
}

/// Whether a device has memory and a queue of its own, so that reading a number from it waits for all it was asked.
pub fn is_gpu(device: &Device) -> bool {
    #[cfg(feature = "cubecl")]
    let is_gpu = matches!(
        device.clone().inner().as_dispatch(),
        burn::backend::DispatchDevice::Cube(_)
    );
    #[cfg(not(feature = "cubecl"))]
    let is_gpu = {
        let _ = device;
        false
    };
    is_gpu
}

impl DeviceSpec {
    /// Whether it is a GPU, with memory and energy of its own.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Wgpu(_) | Self::Cuda(_))
    }

    /// Opens the device, without autodiff; call `.autodiff()` on it to train.
    ///
    /// # Errors
    ///
    /// [`KernelError::NotCompiled`] when the backend's feature is off, [`KernelError::NoAdapter`] when the machine has
    /// none, [`KernelError::NoSuchAdapter`] when the numbered adapter does not exist.
    pub fn open(&self) -> Result<Device, KernelError> {
        match *self {
            Self::Flex => Ok(Device::flex()),
            Self::NdArray => open_ndarray(),
            Self::Wgpu(index) => open_wgpu(index),
            Self::Cuda(index) => open_cuda(index),
        }
    }
}

#[cfg(feature = "ndarray")]
fn open_ndarray() -> Result<Device, KernelError> {
    // Deprecated upstream and frozen at 0.22.1; it stays as an independent reference for flex.
    #[allow(deprecated)]
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn open_ndarray() -> Result<Device, KernelError> {
    Err(not_compiled(DeviceSpec::NdArray, "ndarray"))
}

#[cfg(feature = "wgpu")]
fn open_wgpu(index: usize) -> Result<Device, KernelError> {
    let mut devices = wgpu::devices();
    if devices.is_empty() {
        return Err(KernelError::NoAdapter);
    }
    if index >= devices.len() {
        return Err(KernelError::NoSuchAdapter {
            device: DeviceSpec::Wgpu(index).to_string(),
            found: devices.len(),
        });
    }
    Ok(devices.swap_remove(index))
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(index: usize) -> Result<Device, KernelError> {
    Err(not_compiled(DeviceSpec::Wgpu(index), "wgpu"))
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Device, KernelError> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(index: usize) -> Result<Device, KernelError> {
    Err(not_compiled(DeviceSpec::Cuda(index), "cuda"))
}

#[cfg(not(all(feature = "ndarray", feature = "wgpu", feature = "cuda")))]
fn not_compiled(device: DeviceSpec, feature: &'static str) -> KernelError {
    KernelError::NotCompiled {
        device: device.to_string(),
        feature,
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use burn::backend::{CubeDevice, DispatchDevice, WgpuDeviceKind};
    use burn::tensor::{DType, Device, DeviceType};
    use burn_wgpu::WgpuDevice;

    use super::Adapter;

    /// Every adapter of the graphics API that wgpu settles on, those in software last.
    pub(super) fn devices() -> Vec<Device> {
        let mut found: Vec<Device> = Device::enumerate(DeviceType::Wgpu).into_iter().collect();
        found.sort_by_key(|device| wgpu_device(device).is_some_and(|device| device.kind == WgpuDeviceKind::Cpu));
        found
    }

    pub(super) fn adapters() -> Vec<Adapter> {
        let describe = |device: &Device| Some(adapter(device, &wgpu_device(device)?));
        devices().iter().filter_map(describe).collect()
    }

    fn wgpu_device(device: &Device) -> Option<WgpuDevice> {
        match device.as_dispatch() {
            DispatchDevice::Cube(CubeDevice::Wgpu(device)) => Some(device.clone()),
            _ => None,
        }
    }

    fn adapter(device: &Device, wgpu: &WgpuDevice) -> Adapter {
        let client = CubeDevice::Wgpu(wgpu.clone()).client();
        let properties = client.properties();
        let mut features = Vec::new();
        for (dtype, name) in [(DType::F16, "f16"), (DType::BF16, "bf16")] {
            features.extend(device.supports_dtype(dtype).then_some(name));
        }
        features.extend((!properties.features.plane.is_empty()).then_some("subgroups"));
        features.extend((!properties.features.matmul.cmma.is_empty()).then_some("matrix units"));
        Adapter {
            name: properties.identity.name.clone(),
            kind: match wgpu.kind {
                WgpuDeviceKind::DiscreteGpu(_) => "discrete GPU",
                WgpuDeviceKind::IntegratedGpu(_) => "integrated GPU",
                WgpuDeviceKind::VirtualGpu(_) => "virtual GPU",
                WgpuDeviceKind::Cpu => "software on the CPU",
                _ => "other",
            },
            memory_bytes: properties.memory.max_memory(),
            max_buffer_bytes: properties.memory.max_page_size,
            features,
        }
    }
}
impl fmt::Display for DeviceSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => formatter.write_str("flex"),
            Self::NdArray => formatter.write_str("ndarray"),
            Self::Wgpu(0) => formatter.write_str("wgpu"),
            Self::Wgpu(index) => write!(formatter, "wgpu:{index}"),
            Self::Cuda(0) => formatter.write_str("cuda"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || KernelError::UnknownDevice { given: text.to_owned() };
        let (kind, index) = match text.split_once(':') {
            None => (text, None),
            Some((kind, index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                (kind, Some(index.parse().map_err(|_| unknown())?))
            }
            Some(_) => return Err(unknown()),
        };
        match (kind, index) {
            ("flex" | "cpu", None) => Ok(Self::Flex),
            ("ndarray", None) => Ok(Self::NdArray),
            ("wgpu" | "gpu", index) => Ok(Self::Wgpu(index.unwrap_or(0))),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            _ => Err(unknown()),
        }
    }
}
