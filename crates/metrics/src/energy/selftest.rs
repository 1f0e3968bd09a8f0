//! Faults on sensors whose true energy is known: what the meter makes of them. `taal energy selftest` shows it, and the tests hold it.

use serde::Serialize;

use super::fake::{FakeMachine, FakeZone};
use super::files::ReadError;
use super::load::Scope;
use super::meter::{Meter, MeterOptions, Reading};
use super::powercap::Level;

/// Seconds of a case, and the power of its sensors.
const SECONDS: u32 = 60;
const PACKAGE_WATTS: f64 = 20.0;
const MEMORY_WATTS: f64 = 4.0;

/// One case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelftestCase {
    /// What was done to the sensors.
    pub name: &'static str,
    /// The true energy in joules.
    pub expected: f64,
    /// What the meter says.
    pub found: f64,
    /// By how much it may be wrong: one sampling interval.
    pub tolerance: f64,
    /// Where the figure comes from.
    pub source: String,
    /// What the meter says about it.
    pub notes: Vec<String>,
    /// Whether it is right, and says what it should.
    pub is_right: bool,
}

/// Runs all cases.
pub fn selftest() -> Vec<SelftestCase> {
    let one_interval = PACKAGE_WATTS + MEMORY_WATTS;
    let both = one_interval * f64::from(SECONDS);
    let case = |name, expected: f64, tolerance: f64, source: &str, words: &str, reading: Reading| {
        let total = reading.total();
        let found = total.joules.0;
        let sources = reading.sources.to_string();
        let is_flagged = match words {
            "" => reading.notes.is_empty(),
            words => reading.notes.mention(words),
        };
        let is_bounded = total.low.0 > 0.0 && total.low <= total.joules && total.joules <= total.high;
        let is_right = (found - expected).abs() <= tolerance && sources == source && is_flagged && is_bounded;
        SelftestCase {
            name,
            expected,
            found,
            tolerance,
            source: sources,
            notes: reading.notes.sentences(),
            is_right,
        }
    };
    let exact = 0.01;
    vec![
        case(
            "counters that work",
            both,
            exact,
            "rapl+dram",
            "",
            metered(&sensors(), nothing),
        ),
        case(
            "a counter that wraps around",
            both,
            exact,
            "rapl+dram",
            "",
            metered(&wrapping(100_000_000), nothing),
        ),
        case(
            "several wraps between two readings",
            both,
            one_interval,
            "rapl+dram",
            "more often than it was read",
            several_wraps(),
        ),
        case(
            "one reading fails",
            both,
            exact,
            "rapl+dram+estimated",
            "could not be read",
            metered(&sensors(), |machine, second| {
                fault(
                    machine,
                    second == 20,
                    ReadError::Failed("Input/output error".to_owned()),
                );
            }),
        ),
        case(
            "readings fail for 10 s, among them a wrap",
            both,
            one_interval,
            "rapl+dram+estimated",
            "could not be read",
            metered(&wrapping(500_000_000), |machine, second| {
                fault(
                    machine,
                    (20..30).contains(&second),
                    ReadError::Failed("Input/output error".to_owned()),
                );
            }),
        ),
        case(
            "the right to read is lost",
            both,
            one_interval,
            "rapl+dram+estimated",
            "no permission",
            metered(&sensors(), |machine, second| {
                fault(machine, second >= 40, ReadError::Denied);
            }),
        ),
        case(
            "the zone vanishes",
            both,
            one_interval,
            "rapl+dram+estimated",
            "not there",
            metered(&sensors(), |machine, second| {
                fault(machine, second >= 40, ReadError::Missing);
            }),
        ),
        case(
            "the counter starts again at 0",
            both,
            one_interval,
            "rapl+dram+estimated",
            "started again",
            metered(&sensors(), |machine, second| {
                if second == 30 {
                    machine.change_zone(0, |zone| zone.energy_uj = 0.0);
                }
            }),
        ),
        case(
            "counters that stand still from the start",
            21.4 * f64::from(SECONDS),
            exact,
            "estimated",
            "stands still",
            metered(&still(), nothing),
        ),
        case(
            "a counter that stops",
            both,
            one_interval,
            "rapl+dram+estimated",
            "stands still",
            metered(&sensors(), |machine, second| {
                if second == 40 {
                    machine.change_zone(0, |zone| zone.watts = 0.0);
                }
            }),
        ),
        case(
            "a zone is there twice",
            both,
            exact,
            "rapl+dram",
            "twice",
            metered(&twice(), nothing),
        ),
        case(
            "a zone shows another one's counter",
            both,
            exact,
            "rapl+dram",
            "counted once",
            metered(&mirrored(), nothing),
        ),
        case(
            "cores and graphics inside of the package",
            both,
            exact,
            "rapl+dram",
            "",
            metered(&nested(), nothing),
        ),
        case(
            "a second run keeps the level",
            30.0 * f64::from(SECONDS),
            exact,
            "psys",
            "",
            second_run(),
        ),
        case(
            "a GPU with a counter",
            1500.0 * f64::from(SECONDS) / 10.0,
            exact,
            "nvml_counter",
            "",
            gpu(true),
        ),
        case(
            "a GPU without a counter",
            1500.0 * f64::from(SECONDS) / 10.0,
            exact,
            "nvml_integrated",
            "integrated",
            gpu(false),
        ),
        case(
            "the clock on the wall is set",
            both,
            exact,
            "rapl+dram",
            "slept or its clock was set forward",
            metered(&sensors(), |machine, second| {
                if second == 30 {
                    machine.set_wall_clock_by(3600.0);
                }
            }),
        ),
        case(
            "another load on the other half of the processors",
            both / 2.0,
            one_interval,
            "rapl+dram",
            "",
            beside_others(),
        ),
        case(
            "no sensor, full load",
            21.4 * f64::from(SECONDS),
            exact,
            "estimated",
            "",
            metered(&FakeMachine::new(), nothing),
        ),
    ]
}

fn nothing(_: &FakeMachine, _: u32) {}

/// A package and its memory.
fn sensors() -> FakeMachine {
    FakeMachine::new()
        .with_zone(FakeZone::new("intel-rapl:0", "package-0", PACKAGE_WATTS))
        .with_zone(FakeZone::new("intel-rapl:0:2", "dram", MEMORY_WATTS).at(5e9))
}

fn wrapping(range_uj: u64) -> FakeMachine {
    FakeMachine::new()
        .with_zone(FakeZone::new("intel-rapl:0", "package-0", PACKAGE_WATTS).with_range(range_uj))
        .with_zone(FakeZone::new("intel-rapl:0:2", "dram", MEMORY_WATTS).at(5e9))
}

/// Counters without power, as some virtual machines show them.
fn still() -> FakeMachine {
    FakeMachine::new()
        .with_zone(FakeZone::new("intel-rapl:0", "package-0", 0.0))
        .with_zone(FakeZone::new("intel-rapl:0:2", "dram", 0.0))
}

fn twice() -> FakeMachine {
    sensors().with_zone(FakeZone::new("intel-rapl-mmio:0", "package-0", PACKAGE_WATTS))
}

fn mirrored() -> FakeMachine {
    sensors().with_zone(FakeZone::new("intel-rapl:1", "package-1", PACKAGE_WATTS))
}

fn nested() -> FakeMachine {
    sensors()
        .with_zone(FakeZone::new("intel-rapl:0:0", "core", PACKAGE_WATTS * 0.7).at(3e9))
        .with_zone(FakeZone::new("intel-rapl:0:1", "uncore", PACKAGE_WATTS * 0.1).at(4e9))
        .with_zone(FakeZone::new("intel-rapl:1", "psys", PACKAGE_WATTS * 2.0).at(6e9))
}

fn fault(machine: &FakeMachine, is_there: bool, error: ReadError) {
    machine.change_zone(0, |zone| zone.fault = is_there.then_some(error));
}

/// A minute with all processors at work for us, sampled every second; `change` is called before every sample.
fn metered(machine: &FakeMachine, change: impl Fn(&FakeMachine, u32)) -> Reading {
    sampled(machine, &mut machine.meter(MeterOptions::default()), change)
}

fn sampled(machine: &FakeMachine, meter: &mut Meter, change: impl Fn(&FakeMachine, u32)) -> Reading {
    for second in 0..SECONDS {
        machine.pass(1.0, 4.0, 0.0);
        change(machine, second);
        meter.sample();
    }
    meter.finish()
}

/// The sampling thread does not run for 150 s, in which 3,000 J pass a counter that ends at 1,000 J.
fn several_wraps() -> Reading {
    let machine = wrapping(500_000_000);
    let mut meter = machine.meter(MeterOptions::default());
    for seconds in [1.0, 1.0, 1.0, 1.0, 1.0, 55.0] {
        machine.pass(seconds, 4.0, 0.0);
        meter.sample();
    }
    meter.finish()
}

/// Options that a first meter had must hold for a second one.
fn second_run() -> Reading {
    let machine = sensors().with_zone(FakeZone::new("intel-rapl:1", "psys", 30.0).at(6e9));
    let options = MeterOptions {
        level: Level::Platform,
        ..MeterOptions::default()
    };
    sampled(&machine, &mut machine.meter(options), nothing);
    sampled(&machine, &mut machine.meter(options), nothing)
}

/// The GPU's part of a machine whose processors are measured.
fn gpu(has_counter: bool) -> Reading {
    let machine = sensors().with_gpu(150.0, has_counter);
    let mut reading = metered(&machine, nothing);
    let of_gpu = [super::Source::NvmlCounter, super::Source::NvmlIntegrated];
    reading.sources = of_gpu
        .into_iter()
        .filter(|source| reading.sources.contains(*source))
        .collect();
    (reading.cpu, reading.memory) = Default::default();
    reading
}

/// Two of four processors work for us and two for others.
fn beside_others() -> Reading {
    let machine = sensors();
    let options = MeterOptions {
        scope: Scope::Process,
        ..MeterOptions::default()
    };
    let mut meter = machine.meter(options);
    for _ in 0..SECONDS {
        machine.pass(1.0, 2.0, 2.0);
        meter.sample();
    }
    meter.finish()
}
