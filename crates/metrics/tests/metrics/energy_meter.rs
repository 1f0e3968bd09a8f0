//! The meter on sensors whose true energy is known.

use std::fs;
use std::path::Path;
use std::time::Duration;

use taal_metrics::energy::{
    Calibration, EnergyTotal, FakeMachine, FakeZone, Grid, KernelFiles, Meter, MeterOptions, Monitor, ReadError,
    Reading, Scope, SensorFiles, Source, SystemClock, has_nvidia_gpu, overhead, selftest,
};

use super::scratch;

fn metered(machine: &FakeMachine, options: MeterOptions, seconds: u32, ours: f64, others: f64) -> Reading {
    let mut meter = machine.meter(options);
    for _ in 0..seconds {
        machine.pass(1.0, ours, others);
        meter.sample();
    }
    meter.finish()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("written");
}

#[test]
fn faults_cost_at_most_one_interval_and_are_said() {
    let cases = selftest();
    assert!(cases.len() >= 15);
    for case in cases {
        assert!(case.is_right, "{case:#?}");
    }
}

#[test]
fn without_sensors_the_figure_is_an_estimate_with_bounds_and_never_zero() {
    let machine = FakeMachine::new();
    for path in ["proc/cpuinfo", "proc/meminfo"] {
        machine.set_file(path, "");
    }
    for (seconds, ours) in [(1, 0.0), (60, 0.0), (60, 0.01), (60, 4.0)] {
        let reading = metered(&machine, MeterOptions::default(), seconds, ours, 0.0);
        let total = reading.total();
        assert_eq!(reading.sources.to_string(), "estimated");
        assert!(
            total.low.0 > 0.0 && total.low <= total.joules && total.joules <= total.high,
            "{total:?}"
        );
    }
}

#[test]
fn our_share_does_not_depend_on_what_others_run() {
    // The same work of 240 CPU seconds: alone in 60 s, or in 120 s because others take half of every processor.
    let work = |machine: FakeMachine| {
        let alone = metered(&machine, MeterOptions::default(), 60, 4.0, 0.0);
        let beside = metered(&machine, MeterOptions::default(), 120, 2.0, 2.0);
        let (alone, beside) = (alone.total().joules.0, beside.total().joules.0);
        assert!(
            (beside / alone - 1.0).abs() < 0.05,
            "alone {alone}, beside others {beside}"
        );
    };
    work(FakeMachine::new());
    work(FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0)));
}

#[test]
fn a_process_never_has_more_than_its_machine() {
    for step in 0..=20 {
        let ours = f64::from(step) / 5.0;
        for others in [0.0, 0.5, 3.0] {
            let machine = FakeMachine::new();
            let of_process = metered(&machine, MeterOptions::default(), 10, ours, others);
            let machine = FakeMachine::new();
            let scope = Scope::Machine;
            let of_machine = metered(
                &machine,
                MeterOptions {
                    scope,
                    ..MeterOptions::default()
                },
                10,
                ours,
                others,
            );
            let (process, machine) = (of_process.total(), of_machine.total());
            assert!(
                process.joules.0 <= machine.joules.0 + 1e-6,
                "{ours} beside {others}: {process:?} {machine:?}"
            );
            assert!(process.high.0 <= machine.high.0 + 1e-6);
            assert!(of_process.machine.0 >= process.joules.0 - 1e-6);
        }
    }
}

#[test]
fn the_total_never_falls_and_the_mean_power_is_energy_over_time() {
    let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0).with_range(70_000_000));
    let mut meter = machine.meter(MeterOptions::default());
    let mut before = 0.0;
    for second in 0..100 {
        machine.pass(1.0, f64::from(second % 5), 0.5);
        meter.sample();
        let now = meter.reading().total().joules.0;
        assert!(now >= before, "{now} after {before}");
        before = now;
    }
    let reading = meter.finish();
    let watts = reading.mean_power().expect("time has passed").0;
    assert!((watts * reading.seconds - reading.total().joules.0).abs() < 1e-6);
    assert!((reading.seconds - 100.0).abs() < 1e-9);
}

#[test]
fn readings_are_of_samples_so_that_their_differences_are_never_taken_back() {
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(2.0, 4.0, 0.0);
    let mut before = meter.reading();
    for step in 0..400 {
        // Full load and rest in turn: a power that went on would be far off.
        machine.pass(0.05, if step % 40 < 20 { 4.0 } else { 0.0 }, 0.0);
        let now = meter.reading();
        let (of_step, total) = (now.total(), before.total());
        assert!(of_step.joules >= total.joules && of_step.low >= total.low && of_step.high >= total.high);
        let joules = (of_step.joules - total.joules).0;
        assert!((of_step.low - total.low).0 <= joules + 1e-9 && joules <= (of_step.high - total.high).0 + 1e-9);
        before = now;
    }
}

#[test]
fn a_short_answer_has_the_energy_of_its_own_cpu_time() {
    // A server rests for 4 s and answers for 20 ms with all processors, 25 times.
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    let mut sum = 0.0;
    let begin = meter.reading_now();
    for _ in 0..25 {
        machine.pass(4.0, 0.0, 0.0);
        meter.sample();
        let begin = meter.reading_now();
        machine.pass(0.02, 4.0, 0.0);
        let of_answer = meter.reading_now().since(&begin);
        assert!(of_answer.low <= of_answer.joules && of_answer.joules <= of_answer.high && of_answer.low.0 > 0.0);
        // 15 W and the memory's 6.4 W.
        assert!((of_answer.joules.0 - 0.428).abs() < 0.01, "{of_answer:?}");
        sum += of_answer.joules.0;
    }
    assert!(sum <= meter.reading_now().since(&begin).joules.0);
}

#[test]
fn work_shorter_than_a_counters_step_is_not_free_and_the_total_stays_right() {
    // Counters of processors step once per millisecond, and those of GPUs once in 0.1 s.
    let machine = FakeMachine::new()
        .with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0).with_steps_of(0.001))
        .with_zone(
            FakeZone::new("intel-rapl:0:2", "dram", 4.0)
                .at(5e9)
                .with_steps_of(0.001),
        )
        .with_stepping_gpu(300.0, true, 0.1);
    let options = MeterOptions {
        scope: Scope::Machine,
        ..MeterOptions::default()
    };
    let mut meter = machine.meter(options);
    machine.pass(2.0, 4.0, 0.0);
    meter.sample();
    let mut elapsed_s = 2.0;
    for seconds in [0.0304, 0.0004].repeat(200) {
        machine.pass(0.0173, 4.0, 0.0);
        let begin = meter.reading_now();
        machine.pass(seconds, 4.0, 0.0);
        elapsed_s += 0.0173 + seconds;
        let end = meter.reading_after(&begin);
        let (all, gpu) = (end.since(&begin), end.gpu.since(begin.gpu));
        assert!(
            all.low.0 > 0.0 && all.low <= all.joules && all.joules <= all.high,
            "{all:?}"
        );
        // Also when the step came just after the first reading.
        assert!(gpu.joules.0 >= 0.4 * 300.0 * seconds, "{seconds} s: {gpu:?}");
        assert!(end.cpu.since(begin.cpu).joules.0 > 0.0, "{seconds} s");
    }
    let reading = meter.finish();
    assert_eq!(reading.sources.to_string(), "rapl+dram+nvml_counter");
    assert!((reading.gpu.joules.0 - 300.0 * elapsed_s).abs() <= 30.0, "{reading:?}");
    assert!((reading.cpu.joules.0 - 20.0 * elapsed_s).abs() <= 0.1, "{reading:?}");

    // Before its first step a counter says nothing, and the power is integrated.
    let machine = FakeMachine::new().with_stepping_gpu(300.0, true, 0.1);
    let mut meter = machine.meter(options);
    machine.pass(0.03, 4.0, 0.0);
    let reading = meter.finish();
    assert!((reading.gpu.joules.0 - 9.0).abs() < 1e-6, "{reading:?}");
    assert!(reading.sources.contains(Source::NvmlIntegrated), "{}", reading.sources);
}

#[test]
fn an_answer_of_less_than_a_millisecond_is_not_free() {
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(1.0, 0.0, 0.0);
    let begin = meter.reading_now();
    machine.pass(0.0004, 1.0, 0.0);
    assert_eq!(meter.reading_now().since(&begin).joules.0, 0.0, "they share a reading");
    let of_answer = meter.reading_after(&begin).since(&begin);
    assert!(of_answer.low.0 > 0.0 && of_answer.joules.0 > 0.0, "{of_answer:?}");
}

#[test]
fn one_of_two_processors_that_cannot_be_read_from_the_start_is_estimated() {
    for error in [ReadError::Failed("Input/output error".to_owned()), ReadError::Denied] {
        let mut second = FakeZone::new("intel-rapl:1", "package-1", 20.0).at(7e9);
        second.fault = Some(error);
        let first = FakeZone::new("intel-rapl:0", "package-0", 20.0);
        let machine = FakeMachine::new().with_zone(first).with_zone(second);
        let mut meter = machine.meter(MeterOptions::default());
        let mut seconds = |count: u32| {
            for _ in 0..count {
                machine.pass(1.0, 4.0, 0.0);
                meter.sample();
            }
            meter.reading()
        };
        // Half of the model's 15 W.
        let reading = seconds(10);
        assert!((reading.cpu.joules.0 - 275.0).abs() < 1e-6, "{reading:?}");
        assert!(reading.sources.contains(Source::Estimated));
        assert!(
            reading.notes.mention("package-1 could not be read") && reading.notes.mention("; an estimate stands in"),
            "{:?}",
            reading.notes
        );
        // From the reading on that works it counts.
        machine.change_zone(1, |zone| zone.fault = None);
        let reading = seconds(11);
        assert!((reading.cpu.joules.0 - 702.5).abs() < 1e-6, "{reading:?}");
    }
    // The platform's zone that cannot be read gives way to the packages.
    let mut platform = FakeZone::new("intel-rapl:1", "psys", 30.0).at(7e9);
    platform.fault = Some(ReadError::Missing);
    let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0));
    let options = MeterOptions {
        level: taal_metrics::energy::Level::Platform,
        ..MeterOptions::default()
    };
    let reading = metered(&machine.with_zone(platform), options, 10, 4.0, 0.0);
    assert!(
        (reading.cpu.joules.0 - 200.0).abs() < 1e-6 && reading.sources.contains(Source::Rapl),
        "{reading:?}"
    );
    // Two names of one zone, of which one cannot be read.
    let mut mapped = FakeZone::new("intel-rapl-mmio:0", "package-0", 20.0);
    mapped.fault = Some(ReadError::Failed("Input/output error".to_owned()));
    let machine = FakeMachine::new().with_zone(mapped);
    let machine = machine.with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0));
    let reading = metered(&machine, MeterOptions::default(), 10, 4.0, 0.0);
    assert!((reading.cpu.joules.0 - 200.0).abs() < 1e-6, "{reading:?}");
}

#[test]
fn a_gpu_that_is_not_metered_is_said_to_be_missing() {
    let options = MeterOptions {
        uses_gpu: true,
        ..MeterOptions::default()
    };
    let is_missing = |machine: FakeMachine| {
        let notes = metered(&machine, options, 5, 4.0, 0.0).notes;
        notes.mention("the GPU's energy is missing")
    };
    assert!(is_missing(FakeMachine::new()));
    assert!(!is_missing(FakeMachine::new().with_gpu(100.0, true)));
    let machine = FakeMachine::new();
    assert!(!has_nvidia_gpu(&machine));
    machine.set_file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: some GPU\n");
    assert!(has_nvidia_gpu(&machine));
}

#[test]
fn a_share_from_less_than_a_tick_has_bounds_as_wide() {
    let machine = FakeMachine::new();
    let options = MeterOptions {
        scope: Scope::Process,
        ..MeterOptions::default()
    };
    let mut meter = machine.meter(options);
    // Others use half of a processor, and we less than a tick.
    machine.pass(5.0, 0.0005, 0.5);
    let total = meter.finish().total();
    assert!(total.low.0 < 0.01 * total.joules.0 && total.low.0 > 0.0, "{total:?}");
    assert!(total.high.0 > 1.9 * total.joules.0, "{total:?}");
}

#[test]
fn a_meter_that_is_only_read_follows_the_power() {
    let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0));
    let mut meter = machine.meter(MeterOptions::default());
    let mut cpu = 0.0;
    for watts in [20.0, 60.0] {
        machine.change_zone(0, |zone| zone.watts = watts);
        for _ in 0..200 {
            machine.pass(0.05, 4.0, 0.0);
            cpu = meter.reading().cpu.joules.0;
        }
    }
    assert!(
        (cpu - 800.0).abs() < 60.0,
        "10 s at 20 W and 10 s at 60 W, found {cpu} J"
    );
}

#[test]
fn clocks_that_jump_are_said_and_time_does_not_run_back() {
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(10.0, 4.0, 0.0);
    meter.sample();
    let before = meter.reading().total().joules.0;
    machine.set_wall_clock_by(-86_400.0);
    machine.set_steady_clock_by(-5.0);
    let after = meter.finish();
    assert!(after.total().joules.0 >= before, "{after:?}");
    machine.set_steady_clock_by(5.0);
    machine.pass(1.0, 4.0, 0.0);
    let after = meter.finish();
    assert!(after.notes.mention("clock set back"), "{:?}", after.notes);
}

#[test]
fn missing_rights_are_said_with_a_way_out_and_estimated() {
    let mut zone = FakeZone::new("intel-rapl:0", "package-0", 20.0);
    zone.fault = Some(ReadError::Denied);
    let reading = metered(
        &FakeMachine::new().with_zone(zone),
        MeterOptions::default(),
        5,
        4.0,
        0.0,
    );
    assert_eq!(reading.sources.to_string(), "estimated");
    assert!(reading.notes.mention("chmod"), "{:?}", reading.notes);
}

#[test]
fn a_counter_that_stands_still_is_said_and_estimated_and_may_come_back() {
    let machine = FakeMachine::new()
        .with_zone(FakeZone::new("intel-rapl:0", "package-0", 0.0))
        .with_zone(FakeZone::new("intel-rapl:0:2", "dram", 4.0).at(5e9));
    let reading = metered(&machine, MeterOptions::default(), 10, 4.0, 0.0);
    assert_eq!(reading.sources.to_string(), "dram+estimated");
    assert!(
        reading.notes.mention("package-0 does not count") && reading.cpu.joules.0 > 100.0,
        "{reading:?}"
    );
    let cpu = reading.cpu;
    assert!(
        cpu.low < cpu.joules * 0.6 && cpu.high > cpu.joules * 1.2,
        "the estimate's bounds: {cpu:?}"
    );

    // Still for 10 s of 20 W, then 10 s that are counted: 400 J.
    let machine = FakeMachine::new().with_zone(FakeZone::new("intel-rapl:0", "package-0", 20.0));
    let mut meter = machine.meter(MeterOptions::default());
    let mut seconds = |count: u32, watts: f64| {
        machine.change_zone(0, |zone| zone.watts = watts);
        for _ in 0..count {
            machine.pass(1.0, 4.0, 0.0);
            meter.sample();
        }
    };
    seconds(10, 20.0);
    seconds(10, 0.0);
    seconds(10, 20.0);
    let joules = meter.finish().cpu.joules.0;
    assert!((joules - 600.0).abs() <= 20.0, "{joules}");
}

#[test]
fn the_platform_that_is_missing_is_not_said_to_be_replaced_by_what_is_missing_too() {
    let options = MeterOptions {
        level: taal_metrics::energy::Level::Platform,
        ..MeterOptions::default()
    };
    let reading = metered(&FakeMachine::new(), options, 5, 4.0, 0.0);
    assert_eq!(reading.sources.to_string(), "estimated");
    assert!(
        reading.notes.mention("psys") && !reading.notes.mention("the packages are read"),
        "{:?}",
        reading.notes
    );
}

#[test]
fn processes_that_nobody_waits_for_keep_their_time_and_are_said() {
    let machine = FakeMachine::new();
    let set = |process: &str, own: u32, waited: u32| {
        let fields = " 0".repeat(10);
        machine.set_file(
            &format!("proc/{process}/stat"),
            &format!("1 (x) R{fields} {own} 0 {waited} 0"),
        );
    };
    let children = |numbers: &str| machine.set_file("proc/self/task/1/children", numbers);
    set("self", 0, 0);
    set("7", 0, 0);
    children("7");
    let options = MeterOptions {
        scope: Scope::Tree,
        ..MeterOptions::default()
    };
    let mut meter = machine.meter(options);
    let mut seconds = || {
        machine.pass(4.0, 0.0, 4.0);
        meter.sample();
        let reading = meter.reading();
        (reading.cpu_seconds, reading.notes.mention("nobody waited for"))
    };
    set("7", 300, 0);
    assert_eq!(seconds(), (3.0, false));
    // Process 7 ends and is waited for; 8 takes its place.
    machine.set_file("proc/7/stat", "");
    set("self", 100, 310);
    set("8", 0, 0);
    children("8");
    let (found, is_said) = seconds();
    assert!((found - 4.1).abs() < 1e-9 && !is_said, "{found}");
    set("8", 500, 0);
    let (found, is_said) = seconds();
    assert!((found - 9.1).abs() < 1e-9 && !is_said, "{found}");
    // Process 8 ends and nobody waits for it.
    machine.set_file("proc/8/stat", "");
    set("self", 300, 310);
    children("");
    let (found, is_said) = seconds();
    assert!((found - 11.1).abs() < 0.05 && is_said, "{found}");
}

#[cfg(target_os = "linux")]
#[test]
fn this_process_knows_its_time_more_exactly_than_in_ticks() {
    let files = KernelFiles::default();
    let before = files.process_cpu_s().expect("Linux has this clock");
    let sum = (0..200_000_u64).fold(1_u64, |sum, it| sum.wrapping_mul(31).wrapping_add(it));
    let spent = files.process_cpu_s().expect("Linux has this clock") - before;
    assert!(sum != 0 && spent > 0.0, "{spent}");
}

#[test]
fn a_battery_that_discharges_measures_the_whole_machine() {
    let machine = FakeMachine::new();
    let battery = "sys/class/power_supply/BAT0";
    for (file, text) in [
        ("type", "Battery"),
        ("status", "Discharging"),
        ("current_now", "1000000"),
        ("voltage_now", "12000000"),
    ] {
        machine.set_file(&format!("{battery}/{file}"), text);
    }
    let reading = metered(&machine, MeterOptions::default(), 10, 4.0, 0.0);
    assert_eq!(reading.sources.to_string(), "battery");
    assert!((reading.total().joules.0 - 120.0).abs() < 1e-6, "{reading:?}");

    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(1.0, 4.0, 0.0);
    meter.sample();
    machine.set_file(&format!("{battery}/status"), "Charging");
    machine.pass(1.0, 4.0, 0.0);
    let reading = meter.finish();
    assert!(reading.sources.contains(Source::Estimated) && reading.notes.mention("power plug was moved"));
}

#[test]
fn a_calibrated_machine_says_so() {
    let options = MeterOptions {
        calibration: Some(Calibration::new(10.0, 50.0).expect("a calibration")),
        ..MeterOptions::default()
    };
    let reading = metered(&FakeMachine::new(), options, 60, 4.0, 0.0);
    assert_eq!(reading.sources.to_string(), "calibrated");
    assert!((reading.total().joules.0 - 3000.0).abs() < 1e-6, "{reading:?}");
    assert!((reading.idle.joules.0 - 600.0).abs() < 1e-6);
}

#[test]
fn counters_are_read_from_a_directory_like_the_kernels() {
    let scratch = scratch();
    let zone = "class/powercap/intel-rapl:0";
    for (file, text) in [
        ("name", "package-0\n"),
        ("max_energy_range_uj", "65532610987\n"),
        ("energy_uj", "1000000\n"),
    ] {
        write(scratch.path(), &format!("{zone}/{file}"), text);
    }
    let files = KernelFiles::with_sys(scratch.path());
    if files.list("sys/class/powercap").is_empty() {
        // Only Linux has such directories.
        return;
    }
    let options = MeterOptions {
        scope: Scope::Machine,
        ..MeterOptions::default()
    };
    let mut meter = Meter::new(Box::new(files), Box::new(SystemClock::default()), None, options);
    write(scratch.path(), &format!("{zone}/energy_uj"), "1500000\n");
    let reading = meter.finish();
    assert!(reading.sources.contains(Source::Rapl), "{reading:?}");
    assert!((reading.cpu.joules.0 - 0.5).abs() < 1e-9, "{reading:?}");
}

#[test]
fn this_machine_has_a_figure_with_bounds_and_the_thread_ends() {
    let monitor = Monitor::start(|| Meter::of_this_machine(MeterOptions::default())).expect("a thread");
    let mut sum = 0_u64;
    let first = loop {
        sum = (0..200_000_u64).fold(sum, |sum, it| sum.wrapping_mul(31).wrapping_add(it));
        let reading = monitor.reading().expect("an answer");
        if reading.seconds > 0.02 {
            break reading;
        }
    };
    assert!(sum != 1);
    let last = monitor.finish().expect("an answer");
    for reading in [first, last] {
        let total = reading.total();
        assert!(
            total.low.0 > 0.0 && total.low <= total.joules && total.joules <= total.high,
            "{reading:?}"
        );
        assert!(!reading.sources.to_string().is_empty());
    }
}

#[test]
fn the_meter_says_what_it_takes_itself() {
    let make = || Meter::of_this_machine(MeterOptions::default());
    let found = overhead(make, Duration::from_millis(60), Duration::from_millis(5)).expect("a thread");
    assert!(found.readings > 0 && found.reading_s > 0.0, "{found:?}");
    assert!(found.seconds >= 0.06 && found.period_s >= 1.0, "{found:?}");
    assert!(!found.source.is_empty());
    let is_known = std::fs::read("/proc/self/schedstat").is_ok();
    assert_eq!(found.thread_share.is_some(), is_known, "{found:?}");
    if let (Some(thread), Some(share)) = (found.thread_share, found.share) {
        let readings = found.readings as f64 * found.reading_s / found.seconds;
        assert!((thread + readings - share).abs() < 1e-9, "{found:?}");
    }
}

#[test]
fn files_that_stay_open_show_new_numbers_and_their_successor_when_they_are_replaced() {
    let scratch = scratch();
    let files = KernelFiles::with_sys(scratch.path());
    if files.read("proc/stat").is_err() {
        // Only Linux has such files.
        return;
    }
    write(scratch.path(), "power", "1\n");
    assert_eq!(files.number("sys/power"), Ok(1));
    write(scratch.path(), "power", "22\n");
    assert_eq!(files.number("sys/power"), Ok(22));
    write(scratch.path(), "power", "3\n");
    assert_eq!(files.clone().number("sys/power"), Ok(3));
    assert!(files.number("sys/absent").is_err());
    write(scratch.path(), "absent", "4\n");
    assert_eq!(files.number("sys/absent"), Ok(4));
}

#[test]
fn electricity_by_the_hour_counts_with_the_energy_of_each_hour() {
    let scratch = scratch();
    let path = scratch.path().join("grid.csv");
    let grid = |text: &str| {
        fs::write(&path, text).expect("written");
        Grid::find(&path.display().to_string())
    };
    let found = grid(
        "Datetime (UTC),Zone,Carbon intensity gCO2eq/kWh (direct)\n1970-01-01 00:00,NL,100\n1970-01-01 01:00,NL,300\n",
    );
    let found = found.expect("a grid");
    assert_eq!(
        (found.code.as_str(), found.g_per_kwh, found.year),
        ("hourly", 200.0, Some(1970))
    );
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    for seconds in [3000.0, 1200.0] {
        machine.pass(seconds, 4.0, 0.0);
        meter.sample();
    }
    let total = EnergyTotal::of(&meter.finish(), meter.machine());
    let figures = total.figures(None, &found, 1.0);
    let expected = (3000.0 * 100.0 + 1200.0 * 300.0) / 4200.0;
    assert!((figures.g_per_kwh - expected).abs() < 1e-9, "{figures:?}");
    assert!((figures.co2e_g - figures.joules / 3.6e6 * expected).abs() < 1e-9);
    assert!((figures.co2e_dynamic_g + figures.co2e_idle_g - figures.co2e_g).abs() < 1e-9);
    assert!(figures.notes.is_empty(), "{:?}", figures.notes);

    let half = grid("time,g_per_kwh\n1970-01-01T00:00Z,100\n").expect("a grid");
    let notes = total.figures(None, &half, 1.0).notes;
    assert!(
        notes.iter().any(|note| note.contains("no row for the hours of 29 %")),
        "{notes:?}"
    );

    for (text, line, words) in [
        ("", "line 1", "expected a header"),
        ("time,price\n1970-01-01 00:00,3\n", "line 1", "g_per_kwh"),
        ("time,g_per_kwh\n", "line 2", "no rows"),
        ("time,g_per_kwh\n1970-01-01 00:00,1\nnoon,3\n", "line 3", "not a time"),
        ("time,g_per_kwh\n1970-01-01 00:00,-3\n", "line 2", "0 to 2000"),
        ("time,g_per_kwh\n1970-01-01 00:00\n", "line 2", "0 to 2000"),
        ("time,g_per_kwh\n1970-01-01 00:00,267,5\n", "line 2", "semicolons"),
        ("time;g_per_kwh\n1970-01-01 00:00;1.267,5\n", "line 2", "0 to 2000"),
        ("time,g_per_kwh\n1970-01-01 00:00,\"267,5\"\n", "line 2", "0 to 2000"),
    ] {
        let error = grid(text).expect_err("refused").to_string();
        assert!(
            error.contains("grid.csv") && error.contains(line) && error.contains(words),
            "{text}: {error}"
        );
    }
    assert!(Grid::find("missing.csv").is_err());
    for (text, grams) in [
        ("time;g_per_kwh\n1970-01-01 00:00;267,5\n", 267.5),
        ("time;price;g_per_kwh\n1970-01-01 00:00;45,87;267,5\n", 267.5),
        ("time,g_per_kwh,\n1970-01-01 00:00,267.5,\n", 267.5),
        ("time,g_per_kwh\n1970-01-01 00:00,267.5,,\n", 267.5),
        (
            "Datetime (UTC),Country,Carbon intensity gCO2eq/kWh (direct),Carbon intensity gCO2eq/kWh (Life cycle)\n\
             1970-01-01 00:00,NL,100,300\n",
            300.0,
        ),
    ] {
        assert_eq!(grid(text).expect(text).g_per_kwh, grams, "{text}");
    }
}
