//! What work takes: metering a program, published trainings, what is kept per machine.

use std::process::Command;

use crate::energy_runs::report_figure;
use crate::{Place, TAAL, done, fails};

/// `taal` with its settings in the place, so that those of whoever runs the tests stay.
pub fn taal(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("XDG_CONFIG_HOME", place.path("config"));
    command.env("APPDATA", place.path("config"));
    command
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn gpt3_took_1287_megawatt_hours() {
    let place = Place::new();
    let shown = done(
        taal(&place, &["energy", "estimate", "--preset", "gpt3"])
            .output()
            .expect("taal starts"),
    );
    for words in ["1,287.06 MWh", "552.15 t", "330.00 W", "2104.10350"] {
        assert!(shown.contains(words), "no {words} in: {shown}");
    }
    let dutch = ["energy", "estimate", "--preset", "gpt3", "--grid", "NL", "--json"];
    let dutch = json(&done(taal(&place, &dutch).output().expect("taal starts")));
    let tonnes = dutch["co2e_g"].as_f64().expect("a number") / 1e6;
    assert!((tonnes - 344.4).abs() < 0.1, "{tonnes}");
    assert_eq!(
        (dutch["grid"].as_str(), dutch["year"].as_u64()),
        (Some("NLD"), Some(2023))
    );
    let arguments = ["energy", "estimate", "--preset", "gpt3", "--grid", "NL"];
    let dutch = done(taal(&place, &arguments).output().expect("taal starts"));
    assert!(
        dutch.contains("268 g CO2e/kWh, Netherlands 2023"),
        "the figure has its year: {dutch}"
    );
    assert!(shown.contains("429 g CO2e/kWh, as the paper has it"), "{shown}");
    let all = done(taal(&place, &["energy", "estimate"]).output().expect("taal starts"));
    for words in ["gpt3", "t5", "meena", "gshard", "switch", "evolved", "bloom", "24.69 t"] {
        assert!(all.contains(words), "no {words} in: {all}");
    }
    let bloom = done(
        taal(&place, &["energy", "estimate", "--preset", "bloom"])
            .output()
            .expect("taal starts"),
    );
    assert!(bloom.contains("24.69 t") && bloom.contains("14.63 t"), "{bloom}");
    fails(
        taal(&place, &["energy", "estimate", "--preset", "gpt5"])
            .output()
            .expect("taal starts"),
        2,
        &["expected one of gpt3"],
    );
}

#[test]
fn an_estimate_has_bounds_and_says_its_electricity() {
    let place = Place::new();
    let arguments = [
        "energy", "estimate", "--params", "124M", "--tokens", "2.3B", "--device", "a100", "--grid", "FRA", "--json",
    ];
    let found = json(&done(taal(&place, &arguments).output().expect("taal starts")));
    let number = |path: &str| {
        found
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .expect("a number")
    };
    assert!((number("/flops") - 6.0 * 124e6 * 2.3e9).abs() < 1e6);
    let hours = 6.0 * 124e6 * 2.3e9 / (312e12 * 0.4) / 3600.0;
    assert!((number("/hours") / hours - 1.0).abs() < 1e-9);
    assert!((number("/energy/joules") / (hours * 3600.0 * 400.0) - 1.0).abs() < 1e-9);
    assert!(number("/energy/low") < number("/energy/joules") && number("/energy/joules") <= number("/energy/high"));
    assert_eq!(
        (found["grid"].as_str(), found["year"].as_u64(), found["source"].as_str()),
        (Some("FRA"), Some(2023), Some("estimated"))
    );
    for (wrong, words) in [
        (["--params", "12x", "--tokens", "1B"], "124M"),
        (["--params", "1M", "--device", "a100"], "--tokens"),
        (["--preset", "gpt3", "--params", "1M"], "cannot be used with"),
    ] {
        let arguments = [&["energy", "estimate"][..], &wrong[..]].concat();
        fails(taal(&place, &arguments).output().expect("taal starts"), 2, &[words]);
    }
    let wrong = [
        "energy", "estimate", "--params", "1M", "--tokens", "1B", "--device", "abacus",
    ];
    fails(
        taal(&place, &wrong).output().expect("taal starts"),
        2,
        &["expected cpu or one of p100"],
    );
}

#[test]
fn a_watched_program_keeps_its_output_and_its_code() {
    let place = Place::new();
    let arguments = [
        "energy",
        "watch",
        "--grid",
        "NLD",
        "--pue",
        "1.1",
        "--json",
        "energy.json",
        "--csv",
        "emissions.csv",
        "--",
        TAAL,
        "glossary",
        "loss",
        "--lang",
        "en",
    ];
    let output = taal(&place, &arguments).output().expect("taal starts");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = done(output);
    assert!(shown.starts_with("loss\n") && !shown.contains("Wh"), "{shown}");
    for word in ["energy", "Wh", "CO2e", "embodied", "NLD, 268 g/kWh of 2023, PUE 1.1"] {
        assert!(words.contains(word), "no {word} in: {words}");
    }
    let found = json(&place.read("energy.json"));
    let number = |name: &str| found["energy"][name].as_f64().expect(name);
    assert!(
        number("low") > 0.0 && number("low") <= number("joules") && number("joules") <= number("high"),
        "{found}"
    );
    assert!((number("co2e_g") / (number("joules") / 3.6e6 * 1.1 * 267.622) - 1.0).abs() < 1e-9);
    assert!(!found["energy"]["source"].as_str().expect("a source").is_empty());
    let table = place.read("emissions.csv");
    assert!(
        table.starts_with("timestamp,project_name,run_id,") && table.lines().count() == 2,
        "{table}"
    );

    let output = taal(&place, &["energy", "watch", "--", TAAL, "glossary", "qwertyuiop"])
        .output()
        .expect("taal starts");
    assert_eq!(output.status.code(), Some(2), "the program's own code");
    fails(
        taal(&place, &["energy", "watch", "--", "no-such-program"])
            .output()
            .expect("taal starts"),
        2,
        &["cannot start no-such-program"],
    );
    fails(
        taal(&place, &["energy", "watch", "--grid", "Atlantis", "--", TAAL])
            .output()
            .expect("taal starts"),
        2,
        &["unknown country"],
    );
    fails(
        taal(&place, &["energy", "watch", "--pue", "0.5", "--", TAAL])
            .output()
            .expect("taal starts"),
        2,
        &["from 1 to 10"],
    );
    fails(
        taal(&place, &["energy", "watch"]).output().expect("taal starts"),
        2,
        &["COMMAND"],
    );
}

#[test]
fn a_table_gets_another_row_and_one_with_other_columns_is_refused_before_the_program_runs() {
    let place = Place::new();
    let watch = |more: &[&str]| {
        let arguments = [&["energy", "watch"], more, &["--", TAAL, "glossary", "loss"]].concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    done(watch(&["--csv", "emissions.csv", "--pue", "1.5"]));
    done(watch(&["--csv", "emissions.csv"]));
    let table = place.read("emissions.csv");
    assert_eq!(table.lines().count(), 3, "{table}");
    place.write("own.csv", "a,b\n1,2\n");
    for (file, words) in [("own.csv", "other columns"), ("nowhere/x.csv", "nowhere")] {
        for option in ["--csv", "--json"] {
            if (option, file) == ("--json", "own.csv") {
                continue;
            }
            let output = watch(&[option, file]);
            assert!(output.stdout.is_empty(), "the program did not run");
            fails(output, 2, &[words]);
        }
    }
    assert_eq!(place.read("own.csv"), "a,b\n1,2\n");
}

#[test]
fn options_without_their_training_are_refused() {
    let place = Place::new();
    for (arguments, words) in [
        (&["--grid", "NL"][..], "--preset NAME"),
        (&["--pue", "1.2"], "--preset NAME"),
        (&["--device", "nonsense"], "--params"),
        (&["--utilization", "7"], "--params"),
        (&["--watts", "7"], "--params"),
        (&["--preset", "bloom", "--pue", "0.5"], "from 1 to 10"),
        (&["--preset", "gpt3", "--pue", "0.5"], "from 1 to 10"),
        (&["--params", "1M", "--tokens", "1M", "--utilization", "7"], "at most 1"),
    ] {
        let arguments = [&["energy", "estimate"][..], arguments].concat();
        fails(taal(&place, &arguments).output().expect("taal starts"), 2, &[words]);
    }
    let dutch = ["energy", "estimate", "--preset", "bloom", "--grid", "NL", "--json"];
    let dutch = json(&done(taal(&place, &dutch).output().expect("taal starts")));
    let number = |name: &str| dutch[name].as_f64().unwrap_or_else(|| panic!("{name}: {dutch}"));
    assert!(
        (number("co2e_dynamic_g") / (433_196.0 * 267.622) - 1.0).abs() < 1e-6,
        "{dutch}"
    );
    assert!((number("dynamic_kwh") - 433_196.0).abs() < 0.5 && (number("idle_kwh") - 256_646.0).abs() < 0.5);
    assert_eq!(
        (dutch["grid"].as_str(), dutch["year"].as_u64()),
        (Some("NLD"), Some(2023))
    );
    // As of the other presets, energies include PUE.
    let arguments = ["energy", "estimate", "--preset", "bloom", "--pue", "1.2"];
    let housed = done(taal(&place, &arguments).output().expect("taal starts"));
    assert!(housed.contains("519.84 MWh, 29.63 t"), "{housed}");
    assert!(
        number("co2e_embodied_g") > 0.0
            && dutch["paper"]
                .as_str()
                .is_some_and(|paper| paper.contains("2211.02001"))
    );
}

#[test]
fn what_was_given_has_bounds_too_and_gases_have_three_lines() {
    let place = Place::new();
    let estimate = |more: &[&str]| {
        let arguments = [
            &[
                "energy", "estimate", "--params", "124M", "--tokens", "2.3B", "--device", "a100", "--json",
            ],
            more,
        ]
        .concat();
        json(&done(taal(&place, &arguments).output().expect("taal starts")))
    };
    let number = |found: &serde_json::Value, path: &str| {
        found
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_else(|| panic!("{path}: {found}"))
    };
    let width = |found: &serde_json::Value| {
        let [low, joules, high] = ["low", "joules", "high"].map(|name| number(found, &format!("/energy/{name}")));
        assert!(low < joules && joules < high, "{found}");
        high / low
    };
    let (plain, watts) = (estimate(&[]), estimate(&["--watts", "300"]));
    let both = estimate(&["--watts", "300", "--utilization", "0.4"]);
    assert!(width(&plain) > width(&watts) && width(&watts) > width(&both));
    assert!(number(&plain, "/hours_low") < number(&plain, "/hours"));
    let lines = number(&plain, "/co2e_dynamic_g") + number(&plain, "/co2e_idle_g");
    assert!((lines / number(&plain, "/co2e_g") - 1.0).abs() < 1e-9, "{plain}");
    assert!(number(&plain, "/co2e_embodied_g") > 0.0);
    let text = [
        "energy", "estimate", "--params", "124M", "--tokens", "2.3B", "--device", "a100",
    ];
    let text = done(taal(&place, &text).output().expect("taal starts"));
    for words in ["1.711e18", "dynamic", "idle", "embodied"] {
        assert!(text.contains(words), "no {words} in: {text}");
    }
}

/// Two processes that compute at once count, and so do those that they start.
#[cfg(unix)]
#[test]
fn programs_that_a_watched_one_starts_are_metered() {
    let place = Place::new();
    let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let command = format!("sh -c '{burn}' & sh -c '{burn}'; wait");
    let arguments = ["energy", "watch", "--json", "energy.json", "--", "sh", "-c", &command];
    done(taal(&place, &arguments).output().expect("taal starts"));
    let found = json(&place.read("energy.json"));
    assert!(found["cpu_seconds"].as_f64().expect("a number") > 0.02, "{found}");
}

/// A process that lost its parent, and one whose parent does not wait for it.
#[cfg(target_os = "linux")]
#[test]
fn detached_processes_of_a_watched_program_are_metered() {
    let place = Place::new();
    let burn = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo done > detached";
    // The shell in between ends at once, so the loop is nobody's child.
    let command = format!("sh -c '({burn}) & exit 0'; while [ ! -e detached ]; do sleep 0.02; done");
    let arguments = ["energy", "watch", "--json", "energy.json", "--", "sh", "-c", &command];
    done(taal(&place, &arguments).output().expect("taal starts"));
    let found = json(&place.read("energy.json"));
    assert!(found["cpu_seconds"].as_f64().expect("a number") > 0.05, "{found}");
}

#[cfg(unix)]
#[test]
fn a_watched_program_gets_the_signals_of_the_one_that_watches() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for (signal, code) in [(Signal::SIGTERM, 7), (Signal::SIGHUP, 8)] {
        let place = Place::new();
        let command = "trap 'exit 7' TERM; trap 'exit 8' HUP; echo > ready; while :; do sleep 0.02; done";
        let mut child = taal(&place, &["energy", "watch", "--", "sh", "-c", command])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("taal starts");
        while !place.path("ready").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // A signal that comes before the program's number is known is handed on as SIGTERM.
        std::thread::sleep(std::time::Duration::from_millis(300));
        kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal).expect("sent");
        assert_eq!(child.wait().expect("it ends").code(), Some(code));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn counters_that_stand_still_are_said_and_estimated() {
    let place = Place::new();
    for (zone, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram")] {
        let directory = format!("sys/class/powercap/{zone}");
        std::fs::create_dir_all(place.path(&directory)).expect("a directory");
        for (file, text) in [
            ("name", name),
            ("max_energy_range_uj", "65532610987"),
            ("energy_uj", "1000000"),
        ] {
            place.write(&format!("{directory}/{file}"), text);
        }
    }
    let command = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
    let mut command = taal(
        &place,
        &["energy", "watch", "--json", "energy.json", "--", "sh", "-c", command],
    );
    let command = command.env("TAAL_SYS", place.path("sys"));
    done(command.output().expect("taal starts"));
    let found = json(&place.read("energy.json"));
    assert_eq!(found["energy"]["source"], "estimated", "{found}");
    assert!(found["energy"]["joules"].as_f64() > Some(0.0), "{found}");
    assert!(
        found["energy"]["notes"]
            .to_string()
            .contains("package-0 does not count"),
        "{found}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn counters_of_another_sys_directory_are_read() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("sys/class/powercap/intel-rapl:0")).expect("a directory");
    for (file, text) in [
        ("name", "package-0\n"),
        ("max_energy_range_uj", "65532610987\n"),
        ("energy_uj", "1000000\n"),
    ] {
        place.write(&format!("sys/class/powercap/intel-rapl:0/{file}"), text);
    }
    let mut command = taal(
        &place,
        &[
            "energy",
            "watch",
            "--json",
            "energy.json",
            "--",
            "sh",
            "-c",
            "echo 2000000 > sys/class/powercap/intel-rapl:0/energy_uj",
        ],
    );
    done(
        command
            .env("TAAL_SYS", place.path("sys"))
            .output()
            .expect("taal starts"),
    );
    let found = json(&place.read("energy.json"));
    assert_eq!(found["energy"]["source"], "rapl+estimated", "{found}");
}

#[test]
fn calibrations_are_kept_shown_and_forgotten() {
    let place = Place::new();
    let calibrate = |more: &[&str]| {
        let arguments = [&["energy", "calibrate"][..], more].concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    assert!(done(calibrate(&[])).contains("estimated"));
    let shown = done(calibrate(&["--idle", "9", "--full", "41", "--grid", "NL"]));
    assert!(
        shown.contains("calibrated") && shown.contains("41.00 W") && shown.contains("Netherlands 2023"),
        "{shown}"
    );
    let kept = json(&done(calibrate(&["--json"])));
    assert_eq!(
        (kept["source"].as_str(), kept["grid"].as_str()),
        (Some("calibrated"), Some("NLD")),
        "{kept}"
    );
    let watched = taal(&place, &["energy", "watch", "--", TAAL, "--version"])
        .output()
        .expect("taal starts");
    let words = String::from_utf8_lossy(&watched.stderr).into_owned();
    assert!(
        words.contains("calibrated") || words.contains("rapl") || words.contains("battery"),
        "{words}"
    );
    assert!(words.contains("NLD"), "{words}");
    for (wrong, words) in [
        (&["--idle", "41", "--full", "9"][..], "not below full power"),
        (&["--idle", "41"], "--full"),
        (&["--grid", "Atlantis"], "unknown country"),
        (&["--idle", "-1", "--full", "9"], "idle power -1 W"),
    ] {
        fails(calibrate(wrong), 2, &[words]);
    }
    assert!(done(calibrate(&["--forget"])).contains("estimated"));
    std::fs::create_dir_all(place.path("config/taal")).expect("a directory");
    place.write("config/taal/energy.json", "[");
    fails(calibrate(&[]), 65, &["energy.json", "not the settings", "--forget"]);
    // An option that is given takes the place of what cannot be read.
    let watched = ["energy", "watch", "--grid", "NL", "--", TAAL, "--version"];
    let watched = taal(&place, &watched).output().expect("taal starts");
    assert_eq!(watched.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&watched.stderr).contains("NLD"));
    let forgotten = calibrate(&["--forget"]);
    let words = String::from_utf8_lossy(&forgotten.stderr).into_owned();
    assert!(done(forgotten).contains("estimated"));
    assert!(words.contains("energy.json.damaged"), "{words}");
    assert_eq!(place.read("config/taal/energy.json.damaged"), "[");
}

/// The file of a country that was kept may be gone; nothing else depends on it.
#[test]
fn a_setting_that_cannot_be_used_can_be_replaced_and_forgotten() {
    let place = Place::new();
    let energy = |arguments: &[&str]| {
        let arguments = [&["energy"][..], arguments].concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    let keep = || {
        place.write("grid.csv", "time,g_per_kwh\n2026-01-01 00:00,100\n");
        done(energy(&["calibrate", "--grid", "grid.csv", "--pue", "1.5"]));
        std::fs::remove_file(place.path("grid.csv")).expect("removed");
    };
    keep();
    fails(energy(&["calibrate"]), 2, &["grid.csv", "--grid"]);
    fails(energy(&["watch", "--", TAAL, "--version"]), 2, &["grid.csv", "--grid"]);
    assert!(done(energy(&["estimate", "--preset", "gpt3"])).contains("552.15 t"));
    let watched = energy(&["watch", "--grid", "NL", "--", TAAL, "--version"]);
    let words = String::from_utf8_lossy(&watched.stderr).into_owned();
    assert!(words.contains("NLD") && words.contains("PUE 1.5"), "{words}");
    // A training goes on with the other settings.
    let trained = taal(&place, &["train", "--recipe", "tiny.toml", "--run-dir", "run"])
        .output()
        .expect("taal starts");
    let words = String::from_utf8_lossy(&trained.stderr).into_owned();
    assert!(
        words.contains("grid.csv") && words.contains("world's average"),
        "{words}"
    );
    done(trained);
    assert_eq!(report_figure(&place, "pue"), 1.5);
    assert!(done(energy(&["calibrate", "--grid", "NL"])).contains("Netherlands"));
    keep();
    assert!(done(energy(&["calibrate", "--forget"])).contains("world average"));
}

#[test]
fn simulated_sensors_with_faults_are_metered_rightly() {
    let place = Place::new();
    let shown = done(taal(&place, &["energy", "selftest"]).output().expect("taal starts"));
    assert!(
        shown.lines().count() >= 15 && shown.lines().all(|line| line.starts_with("ok")),
        "{shown}"
    );
}

#[test]
fn a_generated_text_says_its_joules_per_thousand_tokens() {
    let place = Place::new();
    done(
        taal(&place, &["train", "--recipe", "tiny.toml", "--run-dir", "run"])
            .output()
            .expect("taal starts"),
    );
    let generate = |more: &[&str]| {
        let arguments = [
            &[
                "generate",
                "--model",
                "run",
                "--prompt-ids",
                "1,2",
                "--max-tokens",
                "40",
                "--energy",
            ],
            more,
        ]
        .concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    let found = json(&done(generate(&["--json"])));
    let number = |name: &str| {
        found["energy"][name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {found}"))
    };
    assert!(number("low") <= number("joules") && number("joules") <= number("high"));
    let tokens = found["token_ids"].as_array().expect("ids").len() as f64;
    assert!((number("per_1000_tokens") * tokens / 1e3 / number("joules") - 1.0).abs() < 1e-9);
    let words = generate(&[]);
    let words = String::from_utf8_lossy(&words.stderr).into_owned();
    assert!(
        words.contains("energy: ") && words.contains("per thousand tokens"),
        "{words}"
    );
}

#[test]
fn the_meter_shows_its_own_cost() {
    let place = Place::new();
    let bench = |seconds: &str, more: &[&str]| {
        let arguments = [&["bench", "meter", "--seconds", seconds], more].concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    let shown = done(bench("0.1", &[]));
    assert!(shown.contains("readings") && shown.contains("in all"), "{shown}");
    let found = json(&done(bench("0.1", &["--json"])));
    assert!(
        found["readings"].as_u64().is_some_and(|readings| readings > 0),
        "{found}"
    );
    assert!(
        found["period_s"].as_f64().is_some_and(|period| period >= 1.0),
        "{found}"
    );
    fails(bench("0", &[]), 2, &["above 0"]);
}

#[test]
fn models_and_their_exports_have_cards() {
    let place = Place::new();
    done(
        taal(&place, &["train", "--recipe", "tiny.toml", "--run-dir", "run"])
            .output()
            .expect("taal starts"),
    );
    let card = |arguments: &[&str]| {
        let arguments = [&["card", "--model"], arguments].concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    let shown = done(card(&["run", "--lang", "nl", "--print"]));
    assert!(
        shown.contains("## Energie en CO2") && shown.contains("Wat is het op te lossen probleem"),
        "{shown}"
    );
    assert!(place.read("run/model/README.md").contains("co2_eq_emissions:"));
    let written = json(&done(card(&["run", "--lang", "nl", "--json"])));
    assert!(written["kept"].is_null() && written["path"].as_str().is_some_and(|path| path.ends_with("README.md")));
    assert!(place.read("run/model/README.md").contains("## Energie en CO2"));

    let export = ["export", "--model", "run", "--to", "hf", "--out", "copy"];
    done(taal(&place, &export).output().expect("taal starts"));
    assert!(place.read("copy/README.md").contains("# run"));
    assert_eq!(place.read("copy/ledger.json"), place.read("run/model/ledger.json"));
    // A copy of a copy still knows its training.
    let import = ["import", "--from", "copy", "--out", "again"];
    done(taal(&place, &import).output().expect("taal starts"));
    assert!(place.read("again/README.md").contains("co2_eq_emissions:"));
    // So does a copy of a file.
    for arguments in [
        ["export", "--model", "run", "--to", "gguf", "--out", "run.gguf"].as_slice(),
        &["import", "--from", "run.gguf", "--out", "from-file"],
    ] {
        done(taal(&place, arguments).output().expect("taal starts"));
    }
    assert_eq!(place.read("from-file/ledger.json"), place.read("run/model/ledger.json"));
    assert!(place.read("from-file/README.md").contains("co2_eq_emissions:"));
    fails(card(&["nothing"]), 2, &["nothing"]);
}
