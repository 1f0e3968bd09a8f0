//! What a training takes before it is started: FLOPs, hours, energy and greenhouse gases, by Patterson et al. 2021 (arXiv 2104.10350).

use super::grid::{Embodied, Footprint, Grid};
use super::units::{GramCo2e, Watt, WattHour};

/// A training on accelerators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingPlan {
    /// Floating-point operations in all.
    pub flops: f64,
    /// What one accelerator achieves, in FLOP/s.
    pub flops_per_s: f64,
    /// The mean power of the system per accelerator.
    pub watts: Watt,
    /// Power usage effectiveness.
    pub pue: f64,
    /// Grams of CO2 equivalent per kilowatt-hour.
    pub g_per_kwh: f64,
}

/// What it takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingCost {
    /// Hours of one accelerator.
    pub accelerator_hours: f64,
    /// Energy, PUE included.
    pub energy: WattHour,
    /// Greenhouse gases.
    pub co2e: GramCo2e,
}

impl TrainingPlan {
    /// `hours = FLOPs / (achieved * 3600)`, `kWh = hours * kW * PUE`, `CO2e = kWh * intensity`.
    pub fn cost(&self) -> TrainingCost {
        let accelerator_hours = self.flops / (self.flops_per_s * 3600.0);
        let energy = WattHour(accelerator_hours * self.watts.0 * self.pue);
        TrainingCost {
            accelerator_hours,
            energy,
            co2e: GramCo2e(energy.kwh() * self.g_per_kwh),
        }
    }
}

/// FLOPs to train a model of so many parameters on so many tokens, `6 N D` (Kaplan et al. 2020).
pub fn training_flops(params: f64, tokens: f64) -> f64 {
    6.0 * params * tokens
}

/// A training whose figures were published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// The model and its accelerators.
    pub title: &'static str,
    /// The inputs of the estimate.
    pub plan: TrainingPlan,
    /// The published energy in MWh and gases in t.
    pub published: (f64, f64),
    /// Where they were published.
    pub paper: &'static str,
}

const PATTERSON: &str = "Patterson et al. 2021, arXiv 2104.10350, table 4";

#[rustfmt::skip]
#[allow(clippy::too_many_arguments, reason = "a row of the paper's table")]
const fn patterson(
    name: &'static str, title: &'static str, flops: f64, tflops: f64, watts: f64, pue: f64, kg_per_kwh: f64, published: (f64, f64),
) -> Preset {
    let plan = TrainingPlan { flops, flops_per_s: tflops * 1e12, watts: Watt(watts), pue, g_per_kwh: kg_per_kwh * 1e3 };
    Preset { name, title, plan, published, paper: PATTERSON }
}

/// The trainings of Patterson et al. 2021. GShard's and Switch's gases are gross, without what their owner compensates.
#[rustfmt::skip]
pub const PRESETS: [Preset; 6] = [
    patterson("gpt3", "GPT-3 175B, 10,000 V100", 3.14e23, 24.6, 330.0, 1.10, 0.429, (1287.0, 552.1)),
    patterson("t5", "T5 11B, 512 TPU v3", 4.05e22, 45.6, 310.0, 1.12, 0.545, (85.7, 46.7)),
    patterson("meena", "Meena 2.6B, 1,024 TPU v3", 1.12e23, 42.3, 289.0, 1.09, 0.415, (232.0, 96.4)),
    patterson("gshard", "GShard 600B, 1,024 TPU v3", 1.33e22, 48.0, 288.0, 1.09, 0.201, (24.1, 4.8)),
    patterson("switch", "Switch Transformer 1,500B, 1,024 TPU v3", 8.22e22, 34.4, 245.0, 1.10, 0.403, (179.0, 72.2)),
    patterson("evolved", "Evolved Transformer search, 200 P100", 2.91e21, 24.8, 208.0, 1.10, 0.431, (7.5, 3.2)),
];

/// Accelerators that share a server, as in BLOOM's training.
const ACCELERATORS_PER_SERVER: f64 = 8.0;

/// The power of an accelerator at rest over its design power: makers' cards draw 40 to 75 W of 300 to 700 W.
pub const ACCELERATOR_IDLE_SHARE: f64 = 0.13;

/// The greenhouse gases of making accelerators and their servers, for hours of one accelerator.
pub fn embodied_of_accelerators(hours: f64) -> GramCo2e {
    let servers = Embodied::SERVER.per_hour() * (hours / ACCELERATORS_PER_SERVER);
    servers + Embodied::ACCELERATOR.per_hour() * hours
}

/// BLOOM 176B by Luccioni et al. 2022 (arXiv 2211.02001): energy of the work and at rest, and the three lines of its gases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bloom {
    /// Hours of one A100.
    pub accelerator_hours: f64,
    /// Energy of the work.
    pub dynamic: WattHour,
    /// Energy of the machines at rest.
    pub idle: WattHour,
    /// Greenhouse gases.
    pub footprint: Footprint,
}

/// BLOOM's hours of accelerators, eight of them per server, and the energy of its machines at rest in kWh.
const BLOOM_HOURS: f64 = 1_082_990.0;
const BLOOM_IDLE_KWH: f64 = 256_646.0;

/// Reproduces BLOOM's figures: 0.4 kW per A100, 57 g/kWh, PUE not counted, servers and accelerators by the hour.
pub fn bloom() -> Bloom {
    bloom_on(&bloom_grid(), 1.0)
}

/// The electricity of BLOOM's training.
pub fn bloom_grid() -> Grid {
    Grid {
        code: "FRA".to_owned(),
        name: "France, as the paper has it".to_owned(),
        g_per_kwh: 57.0,
        year: Some(2022),
        hourly: None,
    }
}

/// BLOOM's training on other electricity, in another building.
pub fn bloom_on(grid: &Grid, pue: f64) -> Bloom {
    let dynamic = WattHour(BLOOM_HOURS * 400.0);
    let idle = WattHour(BLOOM_IDLE_KWH * 1e3);
    let embodied = embodied_of_accelerators(BLOOM_HOURS);
    Bloom {
        accelerator_hours: BLOOM_HOURS,
        dynamic,
        idle,
        footprint: Footprint::new(dynamic, idle, embodied, grid, pue),
    }
}

/// An accelerator: its name, peak of dense half-precision matrix products, design power, and where its maker states them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accelerator {
    /// Its name on the command line.
    pub name: &'static str,
    /// FLOP/s.
    pub peak_flops_per_s: f64,
    /// Design power.
    pub watts: Watt,
    /// The maker's page.
    pub url: &'static str,
}

const fn accelerator(name: &'static str, tflops: f64, watts: f64, url: &'static str) -> Accelerator {
    Accelerator {
        name,
        peak_flops_per_s: tflops * 1e12,
        watts: Watt(watts),
        url,
    }
}

/// Accelerators by name; sparse and tensor-float figures are not used.
#[rustfmt::skip]
pub const ACCELERATORS: [Accelerator; 9] = [
    accelerator("p100", 18.7, 250.0, "https://www.nvidia.com/en-us/data-center/tesla-p100/"),
    accelerator("v100-pcie", 112.0, 250.0, "https://www.nvidia.com/en-us/data-center/v100/"),
    accelerator("v100", 125.0, 300.0, "https://www.nvidia.com/en-us/data-center/v100/"),
    accelerator("t4", 65.0, 70.0, "https://www.nvidia.com/en-us/data-center/tesla-t4/"),
    accelerator("a100", 312.0, 400.0, "https://www.nvidia.com/en-us/data-center/a100/"),
    accelerator("h100-pcie", 756.0, 350.0, "https://www.nvidia.com/en-us/data-center/h100/"),
    accelerator("h100", 989.4, 700.0, "https://www.nvidia.com/en-us/data-center/h100/"),
    accelerator("h200", 989.4, 700.0, "https://www.nvidia.com/en-us/data-center/h200/"),
    accelerator("l4", 121.0, 72.0, "https://www.nvidia.com/en-us/data-center/l4/"),
];

/// An accelerator by its name.
pub fn find_accelerator(name: &str) -> Option<&'static Accelerator> {
    ACCELERATORS.iter().find(|it| it.name == name.to_lowercase())
}

/// A training by its name.
pub fn find_preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|it| it.name == name.to_lowercase())
}
