//! The energy of a run: metered from its start, with what comes before the first step, and added to that of its earlier parts.

use std::time::{Duration, Instant};

use taal_kernels::DeviceSpec;
use taal_metrics::StepRecord;
use taal_metrics::energy::{
    Clock, Energy, EnergyFigures, EnergyTotal, Grid, Joule, KernelFiles, Meter, MeterOptions, Monitor, Preparation,
    SystemClock, codecarbon, nvidia_gpus,
};

/// Steps that follow each other faster share one reading of the meter, which costs 0.1 ms in a debug build.
pub const READING_INTERVAL: Duration = Duration::from_millis(200);

/// The same after the first second.
const LATER_INTERVAL: Duration = Duration::from_secs(1);

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
pub(crate) struct RunEnergy<'a> {
    options: &'a EnergyOptions,
    monitor: Option<Monitor>,
    /// When this part of the run began.
    began: Instant,
    /// Of earlier parts of the run.
    before: EnergyTotal,
    /// What this part took before its first step; none until then.
    preparation: Option<Preparation>,
    /// When its steps began.
    started: Instant,
    asked: Option<Instant>,
    /// What the records of the log have together. The next one gets what is missing, so that their sum is the run's.
    recorded: Energy,
}

impl<'a> RunEnergy<'a> {
    /// Meters from now on, at the very beginning of a run: reading the data and opening the model may take more than the training.
    pub(crate) fn start(options: &'a EnergyOptions, device: DeviceSpec) -> Self {
        let began = Instant::now();
        let files = options.files.clone();
        let meter = MeterOptions {
            uses_gpu: device.is_gpu(),
            ..options.meter
        };
        let make = move || {
            let gpus = if meter.uses_gpu { nvidia_gpus() } else { None };
            Meter::new(Box::new(files), Box::new(SystemClock::default()), gpus, meter)
        };
        Self {
            options,
            monitor: Monitor::start(make),
            began,
            before: EnergyTotal::default(),
            preparation: None,
            started: began,
            asked: None,
            recorded: Energy::ZERO,
        }
    }

    /// When this part of the run began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Adds earlier parts of the run; `recorded` is what their log has.
    pub(super) fn continue_from(&mut self, before: EnergyTotal, recorded: Energy) {
        self.before = before;
        self.recorded = recorded;
    }

    /// Counts what this part took so far as its preparation; the total of the run, none without a meter.
    pub(super) fn end_preparation(&mut self) -> Option<EnergyTotal> {
        let part = self.part()?.prepared();
        self.preparation = Some(part.preparation);
        self.started = Instant::now();
        let mut total = self.before.clone();
        total.add(&part);
        Some(total)
    }

    /// Whether there is a meter.
    pub(super) fn is_metered(&self) -> bool {
        self.monitor.is_some()
    }

    /// The electricity, and power usage effectiveness.
    pub(super) fn electricity(&self) -> (&Grid, f64) {
        (&self.options.grid, self.options.pue)
    }

    /// The machine in words; empty without a meter.
    pub(super) fn machine(&self) -> String {
        self.monitor
            .as_ref()
            .map_or(String::new(), |monitor| monitor.machine().words())
    }

    /// What the whole run took so far; none without a meter.
    pub(super) fn total(&mut self) -> Option<EnergyTotal> {
        let mut total = self.before.clone();
        total.add(&self.part()?);
        self.asked = Some(Instant::now());
        Some(total)
    }

    /// What this part of the run took so far.
    fn part(&self) -> Option<EnergyTotal> {
        let monitor = self.monitor.as_ref()?;
        let mut part = EnergyTotal::of(&monitor.reading_now()?, monitor.machine());
        part.preparation = self.preparation.unwrap_or_default();
        Some(part)
    }

    /// The total with the energy of a step put into its record; none where the last reading is only just past. An evaluation always has one,
    /// because the cost of its loss is read from the log.
    pub(super) fn count(&mut self, record: &mut StepRecord) -> Option<EnergyTotal> {
        let interval = match self.started.elapsed() < LATER_INTERVAL {
            true => READING_INTERVAL,
            false => LATER_INTERVAL,
        };
        if record.val_loss.is_none() && self.asked.is_some_and(|asked| asked.elapsed() < interval) {
            return None;
        }
        let total = self.total()?;
        self.put(&total, record);
        Some(total)
    }

    /// Adds to a record what the log lacks of a total.
    pub(super) fn put(&mut self, total: &EnergyTotal, record: &mut StepRecord) {
        let (now, before) = (total.energy, self.recorded);
        let [low, joules, high] = [
            (now.low - before.low).0,
            (now.joules - before.joules).0,
            (now.high - before.high).0,
        ];
        // The log of an earlier version may have more than the run; what follows makes up for it.
        if !(low >= 0.0 && low <= joules && joules <= high && joules > 0.0) {
            return;
        }
        let add = |sum: &mut Option<f64>, joules: f64| *sum = Some(sum.unwrap_or(0.0) + joules);
        add(&mut record.energy_j, joules);
        add(&mut record.energy_low_j, low);
        add(&mut record.energy_high_j, high);
        self.recorded = now;
    }

    /// What the log has, after records were dropped from it.
    pub(super) fn set_recorded(&mut self, recorded: Energy) {
        self.recorded = recorded;
    }

    /// The row of the run in codecarbon's table; none without a meter.
    pub(super) fn csv(&self, total: &EnergyTotal, project: &str, run_id: &str) -> Option<String> {
        let monitor = self.monitor.as_ref()?;
        let run = codecarbon::CsvRun {
            ended_s: SystemClock::default().now().wall_s,
            project,
            run_id,
            machine: monitor.machine(),
            grid: &self.options.grid,
            pue: self.options.pue,
            gpus: monitor.gpus(),
        };
        Some(codecarbon::csv(total, &run))
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

/// The energy of all records.
pub(super) fn of_records(records: &[StepRecord]) -> Energy {
    let sum = |of: fn(&StepRecord) -> Option<f64>| Joule(records.iter().filter_map(of).sum());
    Energy {
        joules: sum(|record| record.energy_j),
        low: sum(|record| record.energy_low_j),
        high: sum(|record| record.energy_high_j),
    }
}
