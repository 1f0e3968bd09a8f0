//! The meter: reads every sensor there is, estimates what no sensor measures, and gives us our share.
//!
//! The share is a stated rule: in every interval we answer for the machine's energy in the proportion of our CPU seconds to those of
//! everything that ran. What others run beside us is theirs, and an idle machine that works for us alone is all ours. GPUs are counted
//! whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::battery::Batteries;
use super::clock::{Clock, Moment};
use super::estimate::{Calibration, PowerModel};
use super::figure::{Energy, Source, Sources};
use super::files::SensorFiles;
use super::gpu::{GpuMeter, Gpus};
use super::hourly;
use super::load::{LoadReader, Scope};
use super::machine::{Frequencies, Machine};
use super::notes::Notes;
use super::powercap::{Level, Powercap};
use super::units::{Joule, Watt};

/// The errors of RAPL, of a battery's gauge, and of what stands in for a failed reading, as shares.
const RAPL_ERROR: f64 = 0.05;
const BATTERY_ERROR: f64 = 0.1;
const STAND_IN_ERROR: f64 = 0.5;

/// Counters are read at most this often in seconds; ticks of CPU time are 10 ms, and GPUs count every 100 ms.
const MIN_INTERVAL_S: f64 = 0.1;

/// How often the sensors are read. Counters wrap after minutes and CPU times add up by themselves; only a power that is integrated needs
/// more. `taal bench meter` shows what this takes of a core.
const PERIOD: Duration = Duration::from_secs(4);
const PERIOD_OF_POWER: Duration = Duration::from_secs(1);

/// Seconds by which the clock on the wall may leave the steady one before it is mentioned.
const MAX_DRIFT_S: f64 = 5.0;

/// What to meter, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeterOptions {
    /// Whose work is ours.
    pub scope: Scope,
    /// Which level of the processors' counters is read.
    pub level: Level,
    /// Two readings of a wall plug, for a machine without sensors.
    pub calibration: Option<Calibration>,
}

/// Energy since the meter started: ours, by part, with what it misses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Processors.
    pub cpu: Energy,
    /// Memory.
    pub memory: Energy,
    /// What measures the whole machine at once: a wall plug's calibration, a battery, the platform's counter.
    pub whole: Energy,
    /// GPUs.
    pub gpu: Energy,
    /// The part of all this that the machine takes at rest.
    pub idle: Energy,
    /// The energy of the whole machine, of which ours is a share.
    pub machine: Joule,
    /// Ours by hours since 1970 in UTC, for electricity whose greenhouse gases are known by the hour.
    pub by_hour: BTreeMap<i64, Joule>,
    /// Seconds metered.
    pub seconds: f64,
    /// Our CPU seconds.
    pub cpu_seconds: f64,
    /// Seconds of the machine that are ours by the same rule as its energy.
    pub shared_seconds: f64,
    /// Where the figures come from.
    pub sources: Sources,
    /// What they miss.
    pub notes: Notes,
}

impl Reading {
    /// All parts together.
    pub fn total(&self) -> Energy {
        self.cpu + self.memory + self.whole + self.gpu
    }

    /// What the work took beyond the machine at rest.
    pub fn dynamic(&self) -> Energy {
        self.total().since(self.idle)
    }

    /// The mean power; none before the first interval.
    pub fn mean_power(&self) -> Option<Watt> {
        (self.seconds > 0.0).then(|| self.total().joules.mean_power(self.seconds))
    }

    fn add(&mut self, interval: &Interval, factor: f64) {
        self.cpu += interval.cpu * factor;
        self.memory += interval.memory * factor;
        self.whole += interval.whole * factor;
        self.gpu += interval.gpu * factor;
        self.idle += interval.idle * factor;
        self.machine += interval.machine * factor;
        self.seconds += interval.seconds * factor;
        self.cpu_seconds += interval.cpu_seconds * factor;
        self.shared_seconds += interval.shared_seconds * factor;
        let of_hour = self.by_hour.entry(interval.hour).or_default();
        *of_hour += (interval.cpu + interval.memory + interval.whole + interval.gpu).joules * factor;
    }
}

/// What one interval added.
#[derive(Debug, Clone, Copy, Default)]
struct Interval {
    cpu: Energy,
    memory: Energy,
    whole: Energy,
    gpu: Energy,
    idle: Energy,
    machine: Joule,
    seconds: f64,
    cpu_seconds: f64,
    shared_seconds: f64,
    /// The hour since 1970 in which it ended.
    hour: i64,
}

/// Meters a machine; [`sample`](Self::sample) reads the sensors.
pub struct Meter {
    files: Box<dyn SensorFiles>,
    clock: Box<dyn Clock>,
    machine: Machine,
    model: PowerModel,
    powercap: Option<Powercap>,
    batteries: Option<Batteries>,
    /// The battery's power at the last sample.
    battery_watts: Option<f64>,
    gpus: Option<GpuMeter>,
    load: LoadReader,
    frequencies: Frequencies,
    last: Moment,
    last_interval: Option<Interval>,
    total: Reading,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total = self.total.total();
        f.debug_struct("Meter").field("total", &total).finish_non_exhaustive()
    }
}

impl Meter {
    /// Finds the sensors and reads each once: energy is counted from now on.
    pub fn new(
        files: Box<dyn SensorFiles>,
        clock: Box<dyn Clock>,
        gpus: Option<Box<dyn Gpus>>,
        options: MeterOptions,
    ) -> Self {
        let now = clock.now();
        let machine = Machine::find(files.as_ref());
        let model = match &options.calibration {
            Some(calibration) => PowerModel::calibrated(calibration),
            None => PowerModel::of(&machine),
        };
        let mut total = Reading::default();
        let notes = &mut total.notes;
        let powercap = Powercap::find(files.as_ref(), options.level, now.steady_s, notes);
        let batteries = match powercap {
            Some(_) => None,
            None => Batteries::find(files.as_ref()),
        };
        let battery_watts = batteries.as_ref().and_then(|it| it.watts(files.as_ref()));
        let gpus = gpus.map(|gpus| GpuMeter::new(gpus, now.steady_s, notes));
        let frequencies = Frequencies::find(files.as_ref());
        let load = LoadReader::new(files.as_ref(), options.scope, machine.n_cpus);
        if !load.sees_us() {
            notes.set(
                "the system does not say whose CPU time it is: the machine counts as ours alone and as fully used",
            );
        } else if !load.sees_the_machine() {
            notes.set("the system does not say what else runs: the machine counts as ours alone");
        }
        Self {
            files,
            clock,
            machine,
            model,
            powercap,
            batteries,
            battery_watts,
            gpus,
            load,
            frequencies,
            last: now,
            last_interval: None,
            total,
        }
    }

    /// The machine that is metered.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What stands in where no sensor measures.
    pub fn model(&self) -> &PowerModel {
        &self.model
    }

    /// The names of the metered GPUs and their number.
    pub fn gpus(&self) -> (String, usize) {
        let gpus = self.gpus.as_ref();
        gpus.map_or((String::new(), 0), |gpus| (gpus.names(), gpus.count()))
    }

    /// How often the sensors should be read.
    pub fn period(&self) -> Duration {
        match self.gpus.is_some() || self.batteries.is_some() {
            true => PERIOD_OF_POWER,
            false => PERIOD,
        }
    }

    /// Reads the sensors, unless they were read less than 0.1 s ago.
    pub fn sample(&mut self) {
        let now = self.clock.now();
        if now.steady_s - self.last.steady_s >= MIN_INTERVAL_S {
            self.advance(now);
        }
    }

    /// Reads the sensors for the last time.
    pub fn finish(&mut self) -> Reading {
        let now = self.clock.now();
        if now.steady_s > self.last.steady_s {
            self.advance(now);
        }
        self.total.clone()
    }

    /// The energy until now. It reads the sensors if the last sample is a second old (or 0.1 s, in the first second); else the power of the
    /// last interval goes on, so that steps of milliseconds have a figure.
    pub fn reading(&mut self) -> Reading {
        let since_s = self.clock.now().steady_s - self.last.steady_s;
        let whole_s = PERIOD_OF_POWER.as_secs_f64();
        let due_s = if self.total.seconds < whole_s {
            MIN_INTERVAL_S
        } else {
            whole_s
        };
        let last_interval = self.last_interval.filter(|interval| interval.seconds > 0.0);
        let Some(interval) = last_interval.filter(|_| since_s < due_s) else {
            return self.finish();
        };
        let mut reading = self.total.clone();
        reading.add(&interval, since_s.max(0.0) / interval.seconds);
        reading
    }

    fn advance(&mut self, now: Moment) {
        let seconds = now.steady_s - self.last.steady_s;
        if seconds < 0.0 {
            // No system does this; a figure of negative time would be worse than none.
            self.total.notes.add("the clock went back; the interval is left out");
            self.last = now;
            return;
        }
        let slept_s = now.wall_s - self.last.wall_s - seconds;
        if slept_s.abs() > MAX_DRIFT_S {
            let what = if slept_s > 0.0 {
                "slept or its clock was set forward"
            } else {
                "had its clock set back"
            };
            let missed = slept_s.abs().round();
            let sentence = format!("the machine {what} by {missed} s, which are not in the figures");
            self.total.notes.add(sentence);
        }
        let mut interval = self.interval(now.steady_s, seconds);
        interval.hour = hourly::hour_of(now.wall_s);
        self.last = now;
        self.total.add(&interval, 1.0);
        self.last_interval = Some(interval);
    }

    fn interval(&mut self, now_s: f64, seconds: f64) -> Interval {
        let load = self.load.advance(self.files.as_ref(), seconds);
        let mut of_machine = self.machine_energy(now_s, seconds, load.utilization);
        if let Some(gpus) = &mut self.gpus {
            of_machine.gpu = gpus.advance(now_s, &mut self.total.sources, &mut self.total.notes);
        }
        let host = of_machine.cpu + of_machine.memory + of_machine.whole;
        let idle = of_machine.idle;
        let idle = Energy {
            joules: idle.joules.min(host.joules),
            low: idle.low.min(host.low),
            high: idle.high.min(host.high),
        };
        Interval {
            cpu: of_machine.cpu * load.share,
            memory: of_machine.memory * load.share,
            whole: of_machine.whole * load.share,
            gpu: of_machine.gpu,
            idle: idle * load.share,
            machine: host.joules + of_machine.gpu.joules,
            seconds,
            cpu_seconds: load.ours_s,
            shared_seconds: seconds * load.share,
            hour: 0,
        }
    }

    /// The energy of the whole machine without GPUs, by the best sensor there is.
    fn machine_energy(&mut self, now_s: f64, seconds: f64, utilization: f64) -> Interval {
        let memory = self.model.memory().over(seconds);
        let idle_cpu = self.model.idle().over(seconds);
        let mut found = Interval {
            idle: idle_cpu + memory,
            ..Interval::default()
        };
        let sources = &mut self.total.sources;
        if let Some(powercap) = &mut self.powercap {
            let added = powercap.advance(self.files.as_ref(), now_s, &mut self.total.notes);
            if added.estimated > Joule::ZERO {
                sources.insert(Source::Estimated);
            }
            let all = added.processor + added.memory.unwrap_or_default();
            let stand_in = if all > Joule::ZERO {
                added.estimated.0 / all.0
            } else {
                0.0
            };
            let error = RAPL_ERROR * (1.0 - stand_in) + STAND_IN_ERROR * stand_in;
            let processor = Energy::measured(added.processor, error);
            if powercap.is_platform() {
                sources.insert(Source::Psys);
                found.whole = processor;
                return found;
            }
            sources.insert(Source::Rapl);
            found.cpu = processor;
            found.memory = match added.memory {
                Some(joules) => {
                    sources.insert(Source::Dram);
                    Energy::measured(joules, error)
                }
                None => {
                    sources.insert(Source::Estimated);
                    memory
                }
            };
            return found;
        }
        if let Some(watts) = self.battery(seconds) {
            self.total.sources.insert(Source::Battery);
            found.whole = Energy::measured(Watt(watts).over(seconds), BATTERY_ERROR);
            return found;
        }
        let frequency = self.frequencies.relative(self.files.as_ref());
        let modeled = self.model.at(utilization, frequency).over(seconds);
        self.total.sources.insert(self.model.source());
        match self.model.source() {
            Source::Calibrated => {
                found.whole = modeled;
                found.idle = idle_cpu;
            }
            _ => {
                found.cpu = modeled;
                found.memory = memory;
            }
        }
        found
    }

    /// The mean of the battery's power at both ends of the interval; none where it did not discharge at both.
    fn battery(&mut self, seconds: f64) -> Option<f64> {
        let batteries = self.batteries.as_ref()?;
        let now = batteries.watts(self.files.as_ref());
        let before = std::mem::replace(&mut self.battery_watts, now);
        match (before, now) {
            (Some(before), Some(now)) => Some((before + now) / 2.0),
            (None, None) => None,
            _ => {
                let sentence = format!("the power plug was moved; {seconds:.1} s around it are estimated");
                self.total.notes.set(sentence);
                None
            }
        }
    }
}
