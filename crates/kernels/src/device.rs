//! Which device computes: the meaning of `--device`.
//!
//! Burn's own `Device::default()` depends on which Cargo features happen to be on, so programs never call it:
//! they parse a [`DeviceSpec`].

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::KernelError;

/// A device by name, as given to `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceSpec {
    /// The CPU, in pure Rust. Always compiled in.
    #[default]
    Flex,
    /// The CPU through the `ndarray` crate, kept as a second opinion. Feature `ndarray`.
    NdArray,
    /// A GPU through wgpu, by adapter number. Feature `wgpu`.
    Wgpu(usize),
}

/// A device kind and whether this program can open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device; adapter 0 stands for the kind.
    pub spec: DeviceSpec,
    /// Whether its backend is compiled into this program.
    pub is_compiled: bool,
    /// One line for people.
    pub description: &'static str,
}

/// Every device kind Taal knows, in the order of preference for a CPU.
pub fn available() -> Vec<DeviceInfo> {
    vec![
        DeviceInfo {
            spec: DeviceSpec::Flex,
            is_compiled: true,
            description: "CPU, pure Rust, all cores",
        },
        DeviceInfo {
            spec: DeviceSpec::NdArray,
            is_compiled: cfg!(feature = "ndarray"),
            description: "CPU through ndarray, slower, for comparison",
        },
        DeviceInfo {
            spec: DeviceSpec::Wgpu(0),
            is_compiled: cfg!(feature = "wgpu"),
            description: "GPU through Vulkan, Metal or DirectX",
        },
    ]
}

impl DeviceSpec {
    /// Opens the device, without autodiff; call `.autodiff()` on it to train.
    ///
    /// # Errors
    ///
    /// [`KernelError::NotCompiled`] when the backend's feature is off, [`KernelError::NoSuchAdapter`] when the
    /// numbered adapter does not exist.
    pub fn open(&self) -> Result<Device, KernelError> {
        match *self {
            Self::Flex => Ok(Device::flex()),
            Self::NdArray => open_ndarray(),
            Self::Wgpu(index) => open_wgpu(index),
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
    Err(KernelError::NotCompiled {
        device: DeviceSpec::NdArray.to_string(),
        feature: "ndarray",
        hint: "build it in with `cargo xtask train --device ndarray` or `cargo build -p taal-cli --features ndarray`, \
               or use --device flex",
    })
}

#[cfg(feature = "wgpu")]
fn open_wgpu(index: usize) -> Result<Device, KernelError> {
    use burn::tensor::{DeviceKind, DeviceType};

    let devices: Vec<Device> = Device::enumerate(DeviceType::Wgpu).into_iter().collect();
    match devices.get(index) {
        Some(device) => Ok(device.clone()),
        // Software adapters are not listed, yet wgpu falls back to one when there is nothing else.
        None if index == 0 => Ok(Device::wgpu(DeviceKind::DefaultDevice)),
        None => Err(KernelError::NoSuchAdapter {
            device: DeviceSpec::Wgpu(index).to_string(),
            found: devices.len(),
        }),
    }
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(index: usize) -> Result<Device, KernelError> {
    Err(KernelError::NotCompiled {
        device: DeviceSpec::Wgpu(index).to_string(),
        feature: "wgpu",
        hint: "`taal` has no GPU build yet, only taal-kernels has the feature: use --device flex",
    })
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => formatter.write_str("flex"),
            Self::NdArray => formatter.write_str("ndarray"),
            Self::Wgpu(0) => formatter.write_str("wgpu"),
            Self::Wgpu(index) => write!(formatter, "wgpu:{index}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || KernelError::UnknownDevice { given: text.to_owned() };
        match text.split_once(':') {
            None => match text {
                "flex" => Ok(Self::Flex),
                "ndarray" => Ok(Self::NdArray),
                "wgpu" => Ok(Self::Wgpu(0)),
                _ => Err(unknown()),
            },
            Some(("wgpu", index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => {
                index.parse().map(Self::Wgpu).map_err(|_| unknown())
            }
            Some(_) => Err(unknown()),
        }
    }
}
