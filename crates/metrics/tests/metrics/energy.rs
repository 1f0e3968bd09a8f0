//! Units, grids, published trainings, codecarbon's formulas, settings.

use taal_metrics::Error;
use taal_metrics::energy::codecarbon;
use taal_metrics::energy::{
    Calibration, EnergyTotal, FakeMachine, Fuel, Grid, Joule, Machine, MachineSettings, MeterOptions, PRESETS, Power,
    PowerModel, Settings, TrainingPlan, Watt, WattHour, WrapCounter, bloom, check_pue, find_preset, mix_g_per_kwh,
    training_flops,
};

use super::scratch;

fn relative(found: f64, expected: f64) -> f64 {
    (found - expected).abs() / expected
}

/// A server with a processor that the table has.
fn known_machine() -> Machine {
    Machine {
        cpu_model: "Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz".to_owned(),
        cpu_tdp_w: Some(15.0),
        n_cpus: 8,
        memory_bytes: 16 << 30,
        ..Machine::default()
    }
}

#[test]
fn published_trainings_are_reproduced() {
    // Computed from the inputs of table 4: MWh and t.
    let computed = [
        ("gpt3", 1287.06, 552.15),
        ("t5", 85.66, 46.68),
        ("meena", 231.69, 96.15),
        ("gshard", 24.16, 4.86),
        ("switch", 178.88, 72.09),
        ("evolved", 7.46, 3.21),
    ];
    assert_eq!(PRESETS.len(), computed.len());
    for (name, mwh, tonnes) in computed {
        let preset = find_preset(name).expect("a preset");
        let cost = preset.plan.cost();
        let found = (cost.energy.0 / 1e6, cost.co2e.0 / 1e6);
        assert!(
            relative(found.0, mwh) < 1e-3 && relative(found.1, tonnes) < 2e-3,
            "{name}: {found:?}"
        );
        // Published values are rounded.
        let bounds = if name == "gpt3" { (1e-4, 1e-3) } else { (0.006, 0.015) };
        assert!(relative(found.0, preset.published.0) < bounds.0, "{name}: {found:?}");
        assert!(relative(found.1, preset.published.1) < bounds.1, "{name}: {found:?}");
    }
    let gpt3 = find_preset("GPT3").expect("a preset").plan.cost();
    assert_eq!(gpt3.energy.to_string(), "1,287.06 MWh");
    assert_eq!(gpt3.co2e.to_string(), "552.15 t");
}

#[test]
fn gpt3_by_chip_days_by_parameters_and_on_the_dutch_grid() {
    let plan = find_preset("gpt3").expect("a preset").plan;
    let by_days = 10_000.0 * 0.330 * 14.8 * 24.0 * 1.10;
    assert!(relative(by_days / 1e3, 1289.4) < 1e-4);
    let by_parameters = TrainingPlan {
        flops: training_flops(175e9, 300e9),
        ..plan
    };
    assert!(relative(by_parameters.cost().energy.0 / 1e6, 1291.2) < 1e-4);
    let dutch = Grid::find("NLD").expect("a country");
    let tonnes = dutch.emissions(plan.cost().energy.joules(), 1.0).0 / 1e6;
    assert!(relative(tonnes, 344.4) < 1e-3, "{tonnes}");
}

#[test]
fn bloom_has_its_three_lines() {
    let bloom = bloom();
    assert!((bloom.dynamic.kwh() - 433_196.0).abs() < 0.5);
    let tonnes = |grams: taal_metrics::energy::GramCo2e| grams.0 / 1e6;
    assert!((tonnes(bloom.footprint.dynamic) - 24.69).abs() < 0.005);
    assert!((tonnes(bloom.footprint.idle) - 14.63).abs() < 0.005);
    // Published: 11.2 t embodied, 50.5 t in all.
    assert!(
        (tonnes(bloom.footprint.embodied) - 11.2).abs() < 0.05,
        "{:?}",
        bloom.footprint
    );
    assert!((tonnes(bloom.footprint.total()) - 50.5).abs() < 0.05);
}

#[test]
fn a_mix_of_fuels_has_the_mean_of_their_gases() {
    let mix = [
        (Fuel::Coal, 25.0),
        (Fuel::Petroleum, 35.0),
        (Fuel::Gas, 26.0),
        (Fuel::Nuclear, 14.0),
    ];
    assert!((mix_g_per_kwh(&mix) - 731.59).abs() < 1e-9);
}

#[test]
fn countries_have_figures_with_their_year() {
    let countries = [
        ("NLD", 267.622, 2023),
        ("BE", 138.107, 2023),
        ("Germany", 380.95, 2023),
        ("france", 56.039, 2023),
        ("USA", 369.473, 2023),
        ("SUR", 349.282, 2022),
        ("ABW", 561.224, 2022),
        ("world", 475.0, 2018),
    ];
    for (name, grams, year) in countries {
        let grid = Grid::find(name).expect(name);
        assert_eq!((grid.g_per_kwh, grid.year), (grams, Some(year)), "{name}");
    }
    // They exist and have no figure; the source has 0 for the Central African Republic.
    for name in ["CUW", "CAF", "LIE"] {
        let grid = Grid::find(name).expect(name);
        assert_eq!(grid.g_per_kwh, 475.0, "{name}");
        assert!(grid.is_world_average() && grid.name.contains("world average"), "{name}");
    }
    assert_eq!(Grid::find("120").expect("a number").g_per_kwh, 120.0);
    let error = Grid::find("Netherland").unwrap_err();
    assert!(matches!(error, Error::UnknownCountry { .. }));
    assert!(error.to_string().contains("Netherlands (NLD)"), "{error}");
    assert!(Grid::find("").is_err() && Grid::find("-5").is_err() && Grid::find("nan").is_err());
}

#[test]
fn small_runs_do_not_round_to_zero() {
    // mlco2/impact rounds at every step and gives 0.00 kg.
    let grid = Grid::find("NLD").expect("a country");
    let energy = Joule::parse("0.004kWh").expect("an amount");
    assert_eq!(grid.emissions(energy, 1.0).to_string(), "1.07 g");
    assert_eq!(energy.watt_hours(), WattHour(4.0));
    assert_eq!(grid.emissions(energy, 1.5).to_string(), "1.61 g");
    assert!(check_pue(0.9).is_err() && check_pue(f64::NAN).is_err() && check_pue(1.1).is_ok());
}

#[test]
fn memory_modules_take_the_power_that_codecarbon_gives_them() {
    for (count, watts) in [(1, 10.0), (2, 10.0), (4, 20.0), (8, 38.0), (16, 70.0), (32, 126.0)] {
        let found = codecarbon::dimm_power(count, false).0;
        assert!((found - watts).abs() < 1e-9, "{count} modules: {found}");
    }
    assert_eq!(codecarbon::dimm_power(1, true), Watt(3.0));
    let counts = [2.0, 4.0, 16.0, 17.0, 32.0, 64.0, 65.0, 128.0, 256.0, 1024.0, 8192.0].map(codecarbon::dimm_count);
    assert_eq!(counts, [1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 32]);
}

#[test]
fn load_curves_are_codecarbons() {
    let tdp = Watt(100.0);
    assert_eq!(codecarbon::constant_power(tdp), Watt(50.0));
    assert!((codecarbon::load_power(tdp, 0.5).0 - 21.25).abs() < 1e-9);
    assert_eq!(codecarbon::process_power(tdp, 0.5), Watt(50.0));
    assert_eq!(codecarbon::design_power(&known_machine()), Watt(15.0));
    let unknown = Machine {
        cpu_tdp_w: None,
        ..known_machine()
    };
    assert_eq!(codecarbon::design_power(&unknown), Watt(32.0));
}

/// What codecarbon computes; `golden/make_codecarbon.py` makes it.
fn codecarbon_golden() -> serde_json::Value {
    serde_json::from_str(include_str!("../golden/codecarbon.json")).expect("JSON")
}

#[test]
fn memory_of_any_size_takes_what_codecarbon_computes() {
    let golden = codecarbon_golden();
    for row in golden["memory"].as_array().expect("rows") {
        let [gib, count, x86, arm] = [0, 1, 2, 3].map(|index| row[index].as_f64().expect("a number"));
        let found = codecarbon::dimm_count(gib);
        assert_eq!(f64::from(found), count, "{gib} GiB");
        for (is_arm, watts) in [(false, x86), (true, arm)] {
            let power = codecarbon::dimm_power(found, is_arm).0;
            assert!((power - watts).abs() < 1e-9, "{gib} GiB: {power} instead of {watts}");
        }
    }
}

#[test]
fn a_minute_in_codecarbons_constant_mode_is_ours_to_1_percent_and_within_our_bounds() {
    let golden = codecarbon_golden();
    let run = |name: &str| golden["constant"][name].as_f64().expect(name);
    let machine = Machine {
        cpu_model: "Intel(R) Xeon(R) Processor".to_owned(),
        n_cpus: run("cpu_count") as usize,
        memory_bytes: (run("ram_total_size") * f64::from(1 << 30)) as u64,
        is_virtual: true,
        ..Machine::default()
    };
    let tdp = codecarbon::design_power(&machine);
    assert_eq!(tdp, Watt(run("design_watts")));
    let seconds = run("duration");
    let kwh = |watts: Watt| watts.over(seconds).watt_hours().kwh();
    let cpu = kwh(codecarbon::constant_power(tdp));
    let memory = kwh(codecarbon::memory_power(&machine));
    assert!(relative(cpu, run("cpu_energy")) < 0.01, "{cpu}");
    assert!(relative(memory, run("ram_energy")) < 0.01, "{memory}");
    let grid = Grid::find("NLD").expect("a country");
    let kilograms = grid.emissions(WattHour((cpu + memory) * 1e3).joules(), 1.0).0 / 1e3;
    assert!(relative(kilograms, run("emissions")) < 0.01, "{kilograms}");
    // Our bounds for a fully used machine contain both.
    let ours = PowerModel::of(&machine).full().over(seconds);
    for kwh in [run("energy_consumed"), cpu + memory] {
        let joules = WattHour(kwh * 1e3).joules();
        assert!(
            ours.low <= joules && joules <= ours.high,
            "{joules} outside of {ours:?}"
        );
    }
}

#[test]
fn the_estimate_holds_codecarbons_figure_and_its_own_in_its_bounds() {
    let machine = known_machine();
    let constant = codecarbon::constant_power(codecarbon::design_power(&machine)) + codecarbon::memory_power(&machine);
    let full = PowerModel::of(&machine).full();
    for machine in [
        machine.clone(),
        Machine {
            is_virtual: true,
            ..machine.clone()
        },
        Machine {
            cpu_tdp_w: None,
            ..machine.clone()
        },
    ] {
        let full = PowerModel::of(&machine).full();
        assert!(
            full.low > Watt::ZERO && full.low < full.watts && full.watts < full.high,
            "{full:?}"
        );
    }
    assert!(
        full.low <= constant && constant <= full.high,
        "{constant} outside of {full:?}"
    );
}

#[test]
fn estimated_power_rises_with_load_and_frequency_and_keeps_its_bounds() {
    let model = PowerModel::of(&known_machine());
    let is_ordered = |power: &Power| power.low > Watt::ZERO && power.low <= power.watts && power.watts <= power.high;
    let mut before = Power::default();
    for step in 0..=100 {
        let load = f64::from(step) / 100.0;
        let power = model.at(load, None);
        assert!(is_ordered(&power), "{load}: {power:?}");
        assert!(power.watts >= before.watts && power.low >= before.low && power.high >= before.high);
        for frequency in [0.1, 0.5, 1.0, 1.4, 9.0] {
            let scaled = model.at(load, Some(frequency));
            assert!(is_ordered(&scaled), "{load} at {frequency}: {scaled:?}");
            assert!((scaled.watts >= power.watts) == (frequency >= 1.0) || scaled.watts == power.watts);
        }
        before = power;
    }
}

#[test]
fn a_calibration_narrows_the_bounds() {
    let machine = known_machine();
    let calibrated = PowerModel::calibrated(&Calibration::new(6.0, 28.0).expect("a calibration"));
    let width = |power: Power| (power.high.0 - power.low.0) / power.watts.0;
    for load in [0.0, 0.3, 0.5, 1.0] {
        let (narrow, wide) = (calibrated.at(load, None), PowerModel::of(&machine).at(load, None));
        assert!(width(narrow) < 0.5 * width(wide), "{load}: {narrow:?} {wide:?}");
    }
    assert_eq!(calibrated.at(0.5, None).watts, Watt(17.0));
    assert_eq!(calibrated.source().name(), "calibrated");
}

#[test]
fn calibrations_of_no_machine_are_refused() {
    for (idle, full, words) in [
        (30.0, 20.0, "not below full"),
        (20.0, 20.0, "not below full"),
        (0.0, 20.0, "idle power 0 W"),
        (-1.0, 20.0, "idle power -1 W"),
        (5.0, f64::NAN, "full power NaN W"),
        (5.0, 1e9, "at most 20000 W"),
    ] {
        let message = Calibration::new(idle, full).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn settings_are_kept_per_machine_and_checked_when_used() {
    let scratch = scratch();
    let path = scratch.path().join("taal/energy.json");
    assert_eq!(Settings::read(&path).expect("no file"), Settings::default());
    let mut settings = Settings::default();
    let of_one = MachineSettings {
        machine: "a laptop".to_owned(),
        calibration: Some(Calibration::new(6.0, 28.0).expect("a calibration")),
        country: Some("NL".to_owned()),
        pue: None,
    };
    settings.set("one", of_one.clone());
    settings.write(&path).expect("written");
    let read = Settings::read(&path).expect("read");
    assert_eq!(read.of("one"), of_one);
    assert_eq!(read.of("two"), MachineSettings::default());
    assert_eq!(read.of("one").grid().expect("a grid").code, "NLD");
    assert!(read.of("two").grid().expect("a grid").is_world_average());

    let text = std::fs::read_to_string(&path).expect("text");
    for (from, to) in [("28.0", "2.0"), ("\"NL\"", "\"XX\""), ("\"NL\"", "\"gone.csv\"")] {
        std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
        let read = Settings::read(&path).expect("it is settings");
        assert!(read.of("one").check().is_err(), "{to}");
        // What is wrong with one machine does not concern another, and can be forgotten.
        assert_eq!(read.of("two"), MachineSettings::default());
        let mut read = read;
        assert!(read.forget("one") && read.of("one").check().is_ok());
    }
    std::fs::write(&path, text.replacen('{', "[", 1)).expect("written");
    let error = Settings::read(&path).unwrap_err();
    assert!(matches!(error, Error::BadSettings { .. }), "{error}");
}

#[test]
fn counters_wrap_around_as_in_zeus() {
    let cumulative = |range: u64, readings: &[u64]| {
        let mut counter = WrapCounter::new(range);
        readings
            .iter()
            .map(|reading| counter.update(*reading))
            .collect::<Vec<u64>>()
    };
    assert_eq!(
        cumulative(1000, &[800, 200, 900, 50, 30]),
        [800, 1200, 1900, 2050, 3030]
    );
    assert_eq!(cumulative(1_000_000, &[500_000, 0]), [500_000, 1_000_000]);
    assert_eq!(cumulative(1_000_000, &[42_000, 42_000]), [42_000, 42_000]);
}

#[test]
fn parts_of_a_run_add_up() {
    let machine = FakeMachine::new();
    let part = |seconds: f64| {
        let mut meter = machine.meter(MeterOptions::default());
        machine.pass(seconds, 4.0, 0.0);
        EnergyTotal::of(&meter.finish(), meter.machine())
    };
    let mut sum = part(10.0);
    sum.add(&part(30.0));
    let whole = part(40.0);
    for (found, expected) in [
        (sum.energy.joules, whole.energy.joules),
        (sum.idle.joules, whole.idle.joules),
        (sum.cpu + sum.memory + sum.gpu, whole.energy.joules),
    ] {
        assert!(relative(found.0, expected.0) < 1e-9, "{found} {expected}");
    }
    assert_eq!((sum.seconds, sum.cpu_seconds), (whole.seconds, whole.cpu_seconds));
    // Each part has its own tick of CPU time by which its share may be off.
    for (found, expected) in [(sum.energy.low, whole.energy.low), (sum.energy.high, whole.energy.high)] {
        assert!(relative(found.0, expected.0) < 1e-3, "{found} {expected}");
    }
    assert!(relative(sum.embodied.0, whole.embodied.0) < 1e-9);
    let text = serde_json::to_string(&sum).expect("JSON");
    assert_eq!(serde_json::from_str::<EnergyTotal>(&text).expect("read back"), sum);

    let figures = sum.figures(Some(1000), &Grid::find("NL").expect("a country"), 1.2);
    assert_eq!(
        (figures.source.as_str(), figures.grid.as_str(), figures.year),
        ("estimated", "NLD", Some(2023))
    );
    assert!(relative(figures.per_token.expect("tokens"), figures.joules / 1000.0) < 1e-12);
    assert!(relative(figures.co2e_g, figures.joules / 3.6e6 * 1.2 * 267.622) < 1e-9);
    assert!(relative(figures.co2e_g, figures.co2e_dynamic_g + figures.co2e_idle_g) < 1e-9);
    assert!(figures.low > 0.0 && figures.low < figures.joules && figures.joules < figures.high);
}

#[test]
fn what_comes_before_the_work_is_in_its_total_and_not_in_its_tokens() {
    let machine = FakeMachine::new();
    let part = |seconds: f64| {
        let mut meter = machine.meter(MeterOptions::default());
        machine.pass(seconds, 4.0, 0.0);
        EnergyTotal::of(&meter.finish(), meter.machine())
    };
    let mut total = part(10.0).prepared();
    let before = total.energy;
    assert_eq!((total.preparation.energy, total.preparation.seconds), (before, 10.0));
    total.add(&part(30.0));
    // A resumed part prepares too.
    total.add(&part(5.0).prepared());
    let grid = Grid::find("NL").expect("a country");
    let figures = total.figures(Some(100), &grid, 1.0);
    let preparation = figures.preparation.expect("a preparation");
    assert_eq!((preparation.seconds, total.seconds), (15.0, 45.0));
    assert!(relative(preparation.joules, figures.joules / 3.0) < 1e-9);
    assert!(preparation.low <= preparation.joules && preparation.joules <= preparation.high);
    let of_tokens = (figures.joules - preparation.joules) / 100.0;
    assert!(relative(figures.per_token.expect("tokens"), of_tokens) < 1e-12);
    let text = serde_json::to_string(&total).expect("JSON");
    assert_eq!(serde_json::from_str::<EnergyTotal>(&text).expect("read back"), total);

    // What a report of the same run has besides is taken over with its preparation.
    let mut checkpoint = part(10.0).prepared();
    checkpoint.raise_to(&figures);
    let raised = checkpoint.figures(Some(100), &grid, 1.0);
    assert_eq!(
        (raised.joules, raised.preparation),
        (figures.joules, figures.preparation)
    );
    assert_eq!(raised.per_token, figures.per_token);
    // Of work without a preparation nothing is said, as in reports of before.
    let plain = part(1.0).figures(Some(1), &grid, 1.0);
    assert_eq!(plain.preparation, None);
    let text = serde_json::to_string(&plain).expect("JSON");
    assert!(!text.contains("preparation"), "{text}");
}

#[test]
fn the_table_has_codecarbons_columns() {
    let machine = FakeMachine::new();
    machine.set_file("proc/cpuinfo", "model name\t: A \"quoted\", odd name\n");
    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(60.0, 2.0, 0.0);
    let reading = meter.finish();
    let run = codecarbon::CsvRun {
        ended_s: 0.0,
        project: "taal",
        run_id: "run",
        machine: meter.machine(),
        grid: &Grid::find("NLD").expect("a country"),
        pue: 1.1,
        gpus: ("", 0),
    };
    let total = EnergyTotal::of(&reading, meter.machine());
    let text = codecarbon::csv(&total, &run);
    let (header, row) = text.trim_end().split_once('\n').expect("two lines");
    assert_eq!(header, include_str!("../golden/emissions_header.csv").trim_end());
    let row = row.replace("\"A \"\"quoted\"\", odd name\"", "name");
    let fields: Vec<&str> = row.split(',').collect();
    assert_eq!(fields.len(), codecarbon::CSV_COLUMNS.len());
    let number = |name: &str| -> f64 {
        let index = codecarbon::CSV_COLUMNS
            .iter()
            .position(|column| *column == name)
            .expect(name);
        fields[index].parse().expect(name)
    };
    let kwh = reading.total().joules.watt_hours().kwh() * 1.1;
    assert!(relative(number("energy_consumed"), kwh) < 1e-9);
    // As in codecarbon 3.3.2, the parts include PUE too.
    let parts = number("cpu_energy") + number("gpu_energy") + number("ram_energy");
    assert!(relative(parts, kwh) < 1e-9, "{parts} {kwh}");
    assert!(relative(number("emissions"), kwh * 0.267622) < 1e-9);
    assert!(relative(number("emissions_rate"), kwh * 0.267622 / 60.0) < 1e-9);
    assert!(relative(number("cpu_utilization_percent"), 50.0) < 1e-9);
    assert!(relative(number("cpu_energy") * 3.6e6 / 60.0, number("cpu_power")) < 1e-9);
}

#[test]
fn what_the_table_does_not_know_is_empty_and_not_zero() {
    let row = |machine: &FakeMachine, grid: &Grid, gpus: (&str, usize)| -> Vec<String> {
        let mut meter = machine.meter(MeterOptions::default());
        machine.pass(60.0, 2.0, 0.0);
        let total = EnergyTotal::of(&meter.finish(), meter.machine());
        let run = codecarbon::CsvRun {
            ended_s: 0.0,
            project: "taal",
            run_id: "run",
            machine: &Machine::default(),
            grid,
            pue: 1.0,
            gpus,
        };
        codecarbon::csv_row(&total, &run)
            .trim_end()
            .split(',')
            .map(str::to_owned)
            .collect()
    };
    let of = |fields: &[String], name: &str| {
        let index = codecarbon::CSV_COLUMNS
            .iter()
            .position(|column| *column == name)
            .expect(name);
        fields[index].clone()
    };
    let dutch = row(&FakeMachine::new(), &Grid::find("NL").expect("a country"), ("", 0));
    assert_eq!(of(&dutch, "country_iso_code"), "NLD");
    assert_eq!(of(&dutch, "gpu_utilization_percent"), "0", "there is none");
    for name in ["ram_utilization_percent", "ram_used_gb", "longitude", "region"] {
        assert_eq!(of(&dutch, name), "", "{name}");
    }
    let machine = FakeMachine::new().with_gpu(100.0, true);
    let with_gpu = row(&machine, &Grid::world(), ("GPU 0", 1));
    assert_eq!(of(&with_gpu, "gpu_utilization_percent"), "");
    assert!(of(&with_gpu, "gpu_energy").parse::<f64>().is_ok_and(|kwh| kwh > 0.0));
    for grid in [Grid::world(), Grid::custom(100.0).expect("a figure")] {
        let fields = row(&FakeMachine::new(), &grid, ("", 0));
        assert_eq!(of(&fields, "country_iso_code"), "", "{}", grid.code);
        assert_eq!(of(&fields, "country_name"), grid.name);
    }
}

#[test]
fn readings_on_constant_power_equal_the_plan() {
    // 20 W for 600 s of 1e9 FLOP/s each, predicted and metered.
    let zone = taal_metrics::energy::FakeZone::new("intel-rapl:0", "package-0", 20.0);
    let memory = taal_metrics::energy::FakeZone::new("intel-rapl:0:2", "dram", 4.0).at(5e9);
    let machine = FakeMachine::new().with_zone(zone).with_zone(memory);
    let mut meter = machine.meter(MeterOptions::default());
    for _ in 0..600 {
        machine.pass(1.0, 4.0, 0.0);
        meter.sample();
    }
    let plan = TrainingPlan {
        flops: 6e11,
        flops_per_s: 1e9,
        watts: Watt(24.0),
        pue: 1.0,
        g_per_kwh: 475.0,
    };
    let found = meter.finish().total().joules;
    assert!(relative(found.0, plan.cost().energy.joules().0) < 0.01, "{found}");
}

#[test]
fn two_sockets_have_twice_the_power_of_one() {
    let cpu_info = |ids: &[u32]| {
        let blocks = ids.iter().map(|id| {
            format!("processor\t: 0\nphysical id\t: {id}\nmodel name\t: Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz\n\n")
        });
        let machine = FakeMachine::new();
        machine.set_file("proc/cpuinfo", &blocks.collect::<String>());
        let meter = machine.meter(MeterOptions::default());
        meter.machine().clone()
    };
    let (one, two) = (cpu_info(&[0, 0, 0, 0]), cpu_info(&[0, 1, 0, 1]));
    assert_eq!((one.n_sockets, two.n_sockets), (1, 2));
    assert_eq!((one.design_power_w(), two.design_power_w()), (Some(15.0), Some(30.0)));
    let full = |machine: &Machine| PowerModel::of(machine).at(1.0, None).watts;
    assert_eq!(full(&two), full(&one) * 2.0);
    assert_eq!(codecarbon::design_power(&two), Watt(30.0));
    assert!(two.words().contains("2 x "), "{}", two.words());
}

#[test]
fn every_accelerator_was_made() {
    let of = |gpus: usize| {
        let machine = (0..gpus).fold(FakeMachine::new(), |machine, _| machine.with_gpu(100.0, true));
        let mut meter = machine.meter(MeterOptions::default());
        machine.pass(3600.0, 4.0, 0.0);
        EnergyTotal::of(&meter.finish(), meter.machine()).embodied.0
    };
    let (none, one, eight) = (of(0), of(1), of(8));
    assert!(none > 0.0 && one > none);
    assert!(
        relative(eight - none, 8.0 * (one - none)) < 1e-9,
        "{none} {one} {eight}"
    );
}

#[test]
fn the_table_counts_each_hour_with_its_own_electricity() {
    let scratch = scratch();
    let path = scratch.path().join("grid.csv");
    std::fs::write(&path, "time,g_per_kwh\n1970-01-01 00:00,100\n1970-01-01 01:00,900\n").expect("written");
    let grid = Grid::find(&path.display().to_string()).expect("a grid");
    let machine = FakeMachine::new();
    let mut meter = machine.meter(MeterOptions::default());
    machine.pass(60.0, 4.0, 0.0);
    let total = EnergyTotal::of(&meter.finish(), meter.machine());
    let run = codecarbon::CsvRun {
        ended_s: 60.0,
        project: "taal",
        run_id: "run",
        machine: meter.machine(),
        grid: &grid,
        pue: 1.0,
        gpus: ("", 0),
    };
    let row = codecarbon::csv_row(&total, &run);
    let kilograms: f64 = row.split(',').nth(5).expect("emissions").parse().expect("a number");
    let expected = total.energy.joules.watt_hours().kwh() * 0.1;
    assert!(relative(kilograms, expected) < 1e-9, "{kilograms} {expected}");
    assert!(relative(kilograms, total.figures(None, &grid, 1.0).co2e_g / 1e3) < 1e-9);
}
