//! The power of a machine without sensors, from its processor, its load, its frequency and its memory, with bounds.
//!
//! Power is taken as linear in the load between idle and full: `P(u) = idle + (full - idle) * u`. Measured machines lie above and below
//! that line, so the bounds bend to both sides; at rest and at full load they come from what is known of idle and full power.

use serde::{Deserialize, Serialize};

use super::codecarbon;
use super::figure::{Power, Source};
use super::machine::Machine;
use super::units::Watt;

/// Idle and full power as shares of the design power: value, lower and upper bound. Programs that use vectors little stay below the
/// design power for hours, and laptops exceed it for minutes.
const IDLE_SHARES: [f64; 3] = [0.1, 0.02, 0.35];
const FULL_SHARES: [f64; 3] = [1.0, 0.45, 1.3];

/// Watts per thread of a virtual machine's processor, or of one that is not in the table: servers draw 2.5 to 4 W per thread at full load
/// (350 W for 112 threads, 360 W for 192), desktops up to 10. The value at full load is codecarbon's.
const IDLE_PER_VIRTUAL_THREAD: [f64; 3] = [0.8, 0.2, 2.0];
const FULL_PER_VIRTUAL_THREAD: [f64; 3] = [4.0, 1.5, 8.0];
const IDLE_PER_UNKNOWN_THREAD: [f64; 3] = [0.4, 0.1, 3.0];
const FULL_PER_UNKNOWN_THREAD: [f64; 3] = [4.0, 1.5, 12.0];

/// Watts per gibibyte of memory, and the lower bound; the upper one is codecarbon's rule for modules. The value is Cloud Carbon Footprint's
/// 0.392 W per GB.
const MEMORY_PER_GIB: [f64; 2] = [0.4, 0.05];

/// The exponents of the load at the bounds.
const LOW_EXPONENT: f64 = 1.5;
const HIGH_EXPONENT: f64 = 0.6;

/// The same where two readings of a wall plug hold both ends, and how exact such a reading is.
const CALIBRATED_EXPONENTS: [f64; 2] = [1.3, 0.75];
const PLUG_ERROR: f64 = 0.03;

/// Frequencies above and below these multiples of the base frequency say nothing more.
const FREQUENCIES: (f64, f64) = (0.2, 1.5);

/// Two readings of a wall plug.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The machine at rest.
    pub idle: Watt,
    /// All processors at work.
    pub full: Watt,
}

/// The power of a machine by its load.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerModel {
    /// Processors, or with a calibration the whole machine.
    idle: Power,
    full: Power,
    /// Memory; nothing with a calibration, which has it already.
    memory: Power,
    exponents: [f64; 2],
    source: Source,
    basis: String,
}

impl PowerModel {
    /// From what is known of the machine.
    pub fn of(machine: &Machine) -> Self {
        let threads = machine.n_cpus as f64;
        let (idle, full, per, basis) = match machine.design_power_w() {
            Some(tdp) if !machine.is_virtual => {
                let each = match machine.n_sockets {
                    0 | 1 => String::new(),
                    sockets => format!("{sockets} x "),
                };
                let basis = format!("{tdp} W design power of {each}{}", machine.cpu_model);
                (IDLE_SHARES, FULL_SHARES, tdp, basis)
            }
            _ if machine.is_virtual => {
                let basis = "4 W per thread of a virtual machine".to_owned();
                (IDLE_PER_VIRTUAL_THREAD, FULL_PER_VIRTUAL_THREAD, threads, basis)
            }
            _ => {
                let basis = "4 W per thread of an unknown processor".to_owned();
                (IDLE_PER_UNKNOWN_THREAD, FULL_PER_UNKNOWN_THREAD, threads, basis)
            }
        };
        let times = |[value, low, high]: [f64; 3]| Power::new(value * per, low * per, high * per);
        // Memory of unknown size is taken for 8 GiB.
        let gib = if machine.memory_bytes > 0 {
            machine.memory_gib()
        } else {
            8.0
        };
        let modules = codecarbon::dimm_power(codecarbon::dimm_count(gib), machine.is_arm).0;
        let memory = MEMORY_PER_GIB.map(|watts| watts * gib);
        Self {
            idle: times(idle),
            full: times(full),
            memory: Power::new(memory[0].min(modules), memory[1].min(modules), modules.max(memory[0])),
            exponents: [LOW_EXPONENT, HIGH_EXPONENT],
            source: Source::Estimated,
            basis,
        }
    }

    /// From two readings of a wall plug.
    pub fn calibrated(calibration: &Calibration) -> Self {
        let power = |watts: Watt| Power {
            watts,
            low: watts * (1.0 - PLUG_ERROR),
            high: watts * (1.0 + PLUG_ERROR),
        };
        Self {
            idle: power(calibration.idle),
            full: power(calibration.full),
            memory: Power::default(),
            exponents: CALIBRATED_EXPONENTS,
            source: Source::Calibrated,
            basis: format!(
                "{} at rest and {} at full load, from a wall plug",
                calibration.idle, calibration.full
            ),
        }
    }

    /// Estimated or calibrated.
    pub fn source(&self) -> Source {
        self.source
    }

    /// What the figures rest on, in words.
    pub fn basis(&self) -> &str {
        &self.basis
    }

    /// The power at rest, without memory.
    pub fn idle(&self) -> Power {
        self.idle
    }

    /// The power of the memory.
    pub fn memory(&self) -> Power {
        self.memory
    }

    /// The power at a load in 0..=1, without memory.
    ///
    /// `frequency` is the processors' over the one that the design power is for. Dynamic power follows its first to third power, because the
    /// voltage rises with it more or less; the value takes the second.
    pub fn at(&self, utilization: f64, frequency: Option<f64>) -> Power {
        let load = utilization.clamp(0.0, 1.0);
        let [low_exponent, high_exponent] = self.exponents;
        let ratio = match self.source {
            Source::Calibrated => 1.0,
            _ => frequency.unwrap_or(1.0).clamp(FREQUENCIES.0, FREQUENCIES.1),
        };
        let (linear, cubic) = (ratio.min(ratio.powi(3)), ratio.max(ratio.powi(3)));
        let between = |idle: Watt, full: Watt, load: f64, ratio: f64| idle + (full - idle) * (load * ratio);
        // No processor exceeds its upper bound because its clock is fast.
        let high = between(self.idle.high, self.full.high, load.powf(high_exponent), cubic);
        let high = high.min(self.full.high.max(self.idle.high));
        let value = between(self.idle.watts, self.full.watts, load, ratio * ratio).min(high);
        let low = between(self.idle.low, self.full.low, load.powf(low_exponent), linear);
        Power {
            watts: value,
            low: low.min(value),
            high: high.max(value),
        }
    }

    /// The power at rest, memory included.
    pub fn at_rest(&self) -> Power {
        self.with_memory(0.0)
    }

    /// The power at full load, memory included.
    pub fn full(&self) -> Power {
        self.with_memory(1.0)
    }

    fn with_memory(&self, utilization: f64) -> Power {
        let (cpu, memory) = (self.at(utilization, None), self.memory);
        Power {
            watts: cpu.watts + memory.watts,
            low: cpu.low + memory.low,
            high: cpu.high + memory.high,
        }
    }
}
