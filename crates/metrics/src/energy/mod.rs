//! Energy: what a piece of work took in joules and greenhouse gases, where the number comes from, and how sure it is.
//!
//! - [`Meter`] reads the sensors there are (the counters of processors and memory through Linux powercap, NVIDIA's GPUs, batteries) and
//!   estimates the rest; [`Monitor`] samples it every few seconds on one thread;
//! - [`PowerModel`]: the estimate for machines without sensors, which are most, with bounds;
//! - [`Grid`], [`HourlyGrid`], [`Footprint`], [`Embodied`]: greenhouse gases by country and year or by the hour, in three lines;
//! - [`TrainingPlan`], [`PRESETS`], [`bloom`]: what a training takes before it starts;
//! - [`UsageEnergy`]: what an answer of a server took;
//! - [`Settings`], [`Calibration`]: what is kept per machine;
//! - [`overhead`]: what metering itself takes of a processor;
//! - [`codecarbon`]: that program's formulas and its table;
//! - [`FakeMachine`], [`selftest`]: sensors made for tests, with faults.
//!
//! Every figure is an [`Energy`] with bounds and has [`Sources`]; a [`Reading`] says in [`Notes`] what it misses.
//!
//! # Example
//!
//! ```
//! use taal_metrics::energy::{Grid, Meter, MeterOptions};
//!
//! let mut meter = Meter::of_this_machine(MeterOptions::default());
//! let sum: f64 = (0..1_000_000).map(f64::from).sum();
//! let reading = meter.finish();
//! let total = reading.total();
//! assert!(sum > 0.0 && total.low <= total.joules && total.joules <= total.high);
//! println!("{} ({}), {}", total.joules, reading.sources, Grid::find("NLD")?.emissions(total.joules, 1.0));
//! # Ok::<(), taal_metrics::Error>(())
//! ```

mod battery;
mod clock;
pub mod codecarbon;
mod counter;
mod estimate;
mod fake;
mod figure;
mod files;
mod gpu;
mod grid;
mod hourly;
mod load;
mod machine;
mod meter;
mod monitor;
mod notes;
mod overhead;
mod powercap;
mod selftest;
mod settings;
mod total;
mod training;
mod units;
mod usage;

pub use clock::{Clock, Moment, SystemClock};
pub use counter::WrapCounter;
pub use estimate::{Calibration, PowerModel};
pub use fake::{FakeGpu, FakeMachine, FakeZone};
pub use figure::{Energy, Power, Source, Sources};
pub use files::{KernelFiles, ReadError, SensorFiles};
pub use gpu::{Gpus, has_nvidia_gpu, nvidia_gpus};
pub use grid::{Embodied, Footprint, Fuel, Grid, mix_g_per_kwh};
pub use hourly::HourlyGrid;
pub use load::Scope;
pub use machine::{Machine, tdp_watts};
pub use meter::{Meter, MeterOptions, Reading};
pub use monitor::Monitor;
pub use notes::Notes;
pub use overhead::{Overhead, overhead};
pub use powercap::Level;
pub use selftest::{SelftestCase, selftest};
pub use settings::{MachineSettings, SETTINGS_FILE, Settings, check_pue, machine_key};
pub use total::{EnergyFigures, EnergyTotal, Preparation, PreparationFigures};
pub use training::{
    ACCELERATOR_IDLE_SHARE, ACCELERATORS, Accelerator, Bloom, PRESETS, Preset, TrainingCost, TrainingPlan, bloom,
    bloom_grid, bloom_on, embodied_of_accelerators, find_accelerator, find_preset, training_flops,
};
pub use units::{GramCo2e, Joule, Watt, WattHour};
pub use usage::{MinMax, UsageCarbon, UsageEnergy};

impl Meter {
    /// A meter on this machine, with its kernel's files, its clocks and its GPUs.
    pub fn of_this_machine(options: MeterOptions) -> Self {
        let clock = Box::new(SystemClock::default());
        Self::new(Box::new(KernelFiles::default()), clock, nvidia_gpus(), options)
    }
}
