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
use super::powercap::{Expected, Level, Powercap, ZoneSum};
use super::units::{Joule, Watt};

/// The error of a battery's gauge, as a share.
const BATTERY_ERROR: f64 = 0.1;

/// A sample reads the sensors at most this often in seconds; ticks of CPU time are 10 ms, and GPUs count every 100 ms.
const MIN_INTERVAL_S: f64 = 0.1;

/// What is read for a piece of work as short as an answer reads the sensors at most this often in seconds.
const SHORTEST_S: f64 = 0.001;

/// How often the sensors are read. Counters wrap after minutes and CPU times add up by themselves; only a power that is integrated needs
/// more, and so do processes that end without a parent that counts them. `taal bench meter` shows what this takes of a core.
const PERIOD: Duration = Duration::from_secs(4);
const PERIOD_OF_POWER: Duration = Duration::from_secs(1);

/// Seconds by which the clock on the wall may leave the steady one before it is mentioned.
const MAX_DRIFT_S: f64 = 5.0;

/// What a figure misses whose work is on a GPU that is not metered.
const NO_GPU: &str =
    "the GPU's energy is missing: it is read on NVIDIA's only, by a program built with the feature nvml";

/// What to meter, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MeterOptions {
    /// Whose work is ours.
    pub scope: Scope,
    /// Which level of the processors' counters is read.
    pub level: Level,
    /// Two readings of a wall plug, for a machine without sensors.
    pub calibration: Option<Calibration>,
    /// Whether the work may be on a GPU: where none is metered, a note says what the figures miss.
    pub uses_gpu: bool,
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
    /// GPUs that are metered.
    pub n_gpus: usize,
    /// By how much our share may be off, below and above: CPU times are counted in ticks. The error of one interval's end is taken back in
    /// the next one, so that of the sum is the largest of an interval.
    pub unsure: [Joule; 2],
    /// The same of the last interval.
    pub last_unsure: [Joule; 2],
    /// Where the figures come from.
    pub sources: Sources,
    /// What they miss.
    pub notes: Notes,
}

impl Reading {
    /// All parts together.
    pub fn total(&self) -> Energy {
        widened(self.parts(), self.unsure)
    }

    /// What was added since an earlier reading, as by an answer of a server.
    pub fn since(&self, earlier: &Self) -> Energy {
        match self.seconds > earlier.seconds {
            true => widened(self.parts().since(earlier.parts()), self.last_unsure),
            false => Energy::ZERO,
        }
    }

    fn parts(&self) -> Energy {
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

    fn add(&mut self, interval: &Interval) {
        self.cpu += interval.cpu;
        self.memory += interval.memory;
        self.whole += interval.whole;
        self.gpu += interval.gpu;
        self.idle += interval.idle;
        self.machine += interval.machine;
        self.seconds += interval.seconds;
        self.cpu_seconds += interval.cpu_seconds;
        self.shared_seconds += interval.shared_seconds;
        let [below, above] = self.unsure;
        let [now_below, now_above] = interval.unsure;
        self.unsure = [below.max(now_below), above.max(now_above)];
        self.last_unsure = interval.unsure;
        let of_hour = self.by_hour.entry(interval.hour).or_default();
        *of_hour += (interval.cpu + interval.memory + interval.whole + interval.gpu).joules;
    }
}

/// Energy with bounds that are further apart.
fn widened(energy: Energy, [below, above]: [Joule; 2]) -> Energy {
    Energy {
        joules: energy.joules,
        low: (energy.low - below).max(Joule::ZERO),
        high: energy.high + above,
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
    unsure: [Joule; 2],
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
    scope: Scope,
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
        total.n_gpus = gpus.as_ref().map_or(0, GpuMeter::count);
        if options.uses_gpu && total.n_gpus == 0 {
            notes.set(NO_GPU);
        }
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
            scope: options.scope,
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

    /// What the figures miss so far.
    pub fn notes(&self) -> &Notes {
        &self.total.notes
    }

    /// The names of the metered GPUs and their number.
    pub fn gpus(&self) -> (String, usize) {
        let gpus = self.gpus.as_ref();
        gpus.map_or((String::new(), 0), |gpus| (gpus.names(), gpus.count()))
    }

    /// How often the sensors should be read.
    pub fn period(&self) -> Duration {
        let is_integrated = self.gpus.is_some() || self.batteries.is_some();
        match is_integrated || self.scope == Scope::Tree {
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

    /// The energy until the last sample. It reads the sensors if that is a second old (or 0.1 s, in the first second), so steps of
    /// milliseconds share a figure.
    pub fn reading(&mut self) -> Reading {
        let whole_s = PERIOD_OF_POWER.as_secs_f64();
        self.read_after(if self.total.seconds < whole_s {
            MIN_INTERVAL_S
        } else {
            whole_s
        })
    }

    /// The energy until now: it reads the sensors unless that was less than a millisecond ago. For work that is as short as an answer.
    pub fn reading_now(&mut self) -> Reading {
        self.read_after(SHORTEST_S)
    }

    /// The energy until now, of work that began with an earlier reading. It is as [`reading_now`](Self::reading_now), but never that reading
    /// again: work of less than a millisecond takes energy too.
    pub fn reading_after(&mut self, begin: &Reading) -> Reading {
        match self.total.seconds > begin.seconds {
            true => self.reading_now(),
            false => self.finish(),
        }
    }

    fn read_after(&mut self, due_s: f64) -> Reading {
        let since_s = self.clock.now().steady_s - self.last.steady_s;
        match self.total.seconds > 0.0 && since_s < due_s {
            true => self.total.clone(),
            false => self.finish(),
        }
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
        self.total.add(&interval);
    }

    fn interval(&mut self, now_s: f64, seconds: f64) -> Interval {
        let load = self.load.advance(self.files.as_ref(), seconds);
        if self.load.lost_s() > 0.0 {
            self.total.notes.set(
                "processes ended that nobody waited for; their last second may be missing, or all of one that was never seen",
            );
        }
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
            unsure: {
                let [least, most] = load.share_bounds;
                [
                    host.low * (load.share - least).max(0.0),
                    host.high * (most - load.share).max(0.0),
                ]
            },
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
        if let Some(powercap) = &mut self.powercap {
            let expected = Expected {
                // What a wall plug measures is more than its processors.
                processor: match self.model.source() {
                    Source::Calibrated => PowerModel::of(&self.machine).at(utilization, None),
                    _ => self.model.at(utilization, None),
                },
                memory: PowerModel::of(&self.machine).memory(),
            };
            let added = powercap.advance(self.files.as_ref(), now_s, &expected, &mut self.total.notes);
            let sources = &mut self.total.sources;
            let mut energy_of = |sum: ZoneSum, source: Source| {
                if sum.is_measured {
                    sources.insert(source);
                }
                if sum.is_estimated {
                    sources.insert(Source::Estimated);
                }
                sum.energy
            };
            if powercap.is_platform() {
                found.whole = energy_of(added.processor, Source::Psys);
                return found;
            }
            found.cpu = energy_of(added.processor, Source::Rapl);
            found.memory = match added.memory {
                Some(sum) => energy_of(sum, Source::Dram),
                None => {
                    sources.insert(Source::Estimated);
                    memory
                }
            };
            return found;
        }
        if let Some(watts) = self.battery() {
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
    fn battery(&mut self) -> Option<f64> {
        let batteries = self.batteries.as_ref()?;
        let now = batteries.watts(self.files.as_ref());
        let before = std::mem::replace(&mut self.battery_watts, now);
        match (before, now) {
            (Some(before), Some(now)) => Some((before + now) / 2.0),
            (None, None) => None,
            _ => {
                self.total.notes.add(
                    "the battery says its power at one end of an interval only: the power plug was moved, or it cannot be read; what it \
                     does not say is estimated",
                );
                None
            }
        }
    }
}
