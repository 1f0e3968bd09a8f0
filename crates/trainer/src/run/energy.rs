//! The energy of a run: metered while it trains, added to that of its earlier parts.

use std::time::{Duration, Instant};

use taal_kernels::DeviceSpec;
use taal_metrics::StepRecord;
use taal_metrics::energy::{
    Energy, EnergyFigures, EnergyTotal, Grid, Joule, KernelFiles, Meter, MeterOptions, Monitor, SystemClock,
    nvidia_gpus,
};

/// Steps that follow each other faster share one reading of the meter, which costs 0.1 ms in a debug build.
pub const READING_INTERVAL: Duration = Duration::from_millis(200);

/// How a run is metered, and how much it may take.
#[derive(Debug, Clone)]
pub struct EnergyOptions {
    /// Sensors and calibration.
    pub meter: MeterOptions,
    /// The kernel's files.
    pub files: KernelFiles,
    /// The electricity.
    pub grid: Grid,
    /// Power usage effectiveness.
    pub pue: f64,
    /// The run, earlier parts included, saves and stops after the step that exceeds this.
    pub budget: Option<Joule>,
}

impl Default for EnergyOptions {
    fn default() -> Self {
        Self {
            meter: MeterOptions::default(),
            files: KernelFiles::default(),
            grid: Grid::default(),
            pue: 1.0,
            budget: None,
        }
    }
}

/// The meter of a run.
pub(super) struct RunEnergy<'a> {
    options: &'a EnergyOptions,
    monitor: Option<Monitor>,
    /// What the GPU's energy lacks, where it is not metered.
    missing: Option<String>,
    /// Of earlier parts of the run.
    before: EnergyTotal,
    asked: Option<Instant>,
    /// What the records so far have.
    recorded: Energy,
}

impl<'a> RunEnergy<'a> {
    /// Meters from now on.
    pub(super) fn start(options: &'a EnergyOptions, device: DeviceSpec, before: EnergyTotal) -> Self {
        let (files, meter) = (options.files.clone(), options.meter);
        let is_gpu = !matches!(device, DeviceSpec::Flex | DeviceSpec::NdArray);
        let make = move || {
            let gpus = if is_gpu { nvidia_gpus() } else { None };
            Meter::new(Box::new(files), Box::new(SystemClock::default()), gpus, meter)
        };
        let monitor = Monitor::start(make);
        let n_gpus = monitor.as_ref().map_or(0, |monitor| monitor.gpus().1);
        let missing = (is_gpu && n_gpus == 0).then(|| {
            "the GPU's energy is missing: it is read on NVIDIA's only, by a program built with the feature nvml"
                .to_owned()
        });
        Self {
            options,
            monitor,
            missing,
            recorded: before.energy,
            before,
            asked: None,
        }
    }

    /// Whether there is a meter.
    pub(super) fn is_metered(&self) -> bool {
        self.monitor.is_some()
    }

    /// The machine in words; empty without a meter.
    pub(super) fn machine(&self) -> String {
        self.monitor
            .as_ref()
            .map_or(String::new(), |monitor| monitor.machine().words())
    }

    /// What the whole run took so far; none without a meter.
    pub(super) fn total(&mut self) -> Option<EnergyTotal> {
        let monitor = self.monitor.as_ref()?;
        let mut total = self.before.clone();
        total.add(&EnergyTotal::of(&monitor.reading()?, monitor.machine()));
        total.notes.extend(self.missing.clone());
        self.asked = Some(Instant::now());
        Some(total)
    }

    /// The total with the energy of a step put into its record; none where the last reading is only just past.
    pub(super) fn count(&mut self, record: &mut StepRecord) -> Option<EnergyTotal> {
        if self.asked.is_some_and(|asked| asked.elapsed() < READING_INTERVAL) {
            return None;
        }
        let total = self.total()?;
        let of_step = total.energy.since(self.recorded);
        self.recorded = total.energy;
        record.energy_j = Some(of_step.joules.0);
        record.energy_low_j = Some(of_step.low.0);
        record.energy_high_j = Some(of_step.high.0);
        Some(total)
    }

    /// The budget, if the run has exceeded it.
    pub(super) fn exceeded_budget(&self, total: &EnergyTotal) -> Option<Joule> {
        self.options.budget.filter(|budget| total.energy.joules > *budget)
    }

    /// The figures for the report.
    pub(super) fn figures(&self, total: &EnergyTotal, tokens: u64) -> Option<EnergyFigures> {
        let is_known = self.monitor.is_some() || total.energy.joules > Joule::ZERO;
        is_known.then(|| total.figures(Some(tokens), &self.options.grid, self.options.pue))
    }
}
