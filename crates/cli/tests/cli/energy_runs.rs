//! The energy of a training: its log, report, table, page and card say the same, and a budget stops it.

use crate::energy::{json, taal};
use crate::{Place, done, fails};

/// Numbers of `energy` in a run's report.
pub fn report_figure(place: &Place, name: &str) -> f64 {
    json(&place.read("run/report.json"))["energy"][name]
        .as_f64()
        .expect(name)
}

/// Numbers of `energy.preparation` in a run's report.
fn preparation(place: &Place, name: &str) -> f64 {
    json(&place.read("run/report.json"))["energy"]["preparation"][name]
        .as_f64()
        .expect(name)
}

/// The table in codecarbon's columns has the energy of the report.
fn check_table(place: &Place) {
    let table = place.read("run/emissions.csv");
    let (header, row) = table.trim_end().split_once('\n').expect("two lines");
    let column = header.split(',').position(|name| name == "energy_consumed");
    // No field before it has a comma.
    let kwh: f64 = row
        .split(',')
        .nth(column.expect("a column"))
        .expect("a field")
        .parse()
        .expect("a number");
    let joules = report_figure(place, "joules");
    assert!((kwh * 3.6e6 / joules - 1.0).abs() < 1e-9, "{kwh} kWh of {joules} J");
}

/// The records add up to the report, and each lies between its bounds.
fn check_log(place: &Place) {
    let mut sums = [0.0; 3];
    for line in place.read("run/log.jsonl").lines() {
        let record = json(line);
        let names = ["energy_low_j", "energy_j", "energy_high_j"];
        let [Some(low), Some(joules), Some(high)] = names.map(|name| record[name].as_f64()) else {
            continue;
        };
        assert!(
            0.0 <= low && low <= joules && joules <= high && joules > 0.0,
            "{record}"
        );
        for (sum, part) in sums.iter_mut().zip([low, joules, high]) {
            *sum += part;
        }
    }
    for (sum, name) in sums.into_iter().zip(["low", "joules", "high"]) {
        let figure = report_figure(place, name);
        assert!((sum / figure - 1.0).abs() < 1e-9, "{name}: {sum} of {figure}");
    }
}

#[test]
fn every_run_says_what_it_took_and_resumed_runs_add_up() {
    let place = Place::new();
    let train = |more: &[&str]| {
        let arguments = [
            &["train", "--recipe", "tiny.toml", "--run-dir", "run", "--lang", "nl"],
            more,
        ]
        .concat();
        taal(&place, &arguments).output().expect("taal starts")
    };
    let output = train(&[]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Wh"),
        "progress says the energy"
    );
    let shown = done(output);
    assert!(
        shown.contains("energy") && shown.contains("per token") && shown.contains("WORLD, 475 g/kWh of 2018"),
        "{shown}"
    );
    let figure = |name: &str| report_figure(&place, name);
    let (joules, tokens) = (figure("joules"), 6.0 * 2.0 * 8.0);
    assert!(figure("low") > 0.0 && figure("low") <= joules && joules <= figure("high"));
    let before = preparation(&place, "joules");
    assert!(0.0 < before && before < joules, "{before} of {joules}");
    assert!(preparation(&place, "low") <= before && before <= preparation(&place, "high"));
    assert!((figure("per_token") / ((joules - before) / tokens) - 1.0).abs() < 1e-9);
    assert!(shown.contains("of it before the first step"), "{shown}");
    assert!((figure("co2e_g") / (joules / 3.6e6 * 475.0) - 1.0).abs() < 1e-9);
    let records = place.read("run/log.jsonl");
    let of_steps = records.lines().filter_map(|line| json(line)["energy_j"].as_f64());
    let sum: f64 = of_steps.sum();
    assert!((sum / joules - 1.0).abs() < 1e-9, "{sum} of {joules}");
    check_log(&place);
    let table = place.read("run/emissions.csv");
    assert!(
        table.starts_with("timestamp,project_name,") && table.lines().count() == 2,
        "{table}"
    );
    let page = place.read("run/report.html");
    assert!(page.contains("<dt>Energie</dt>") && page.contains("voor de eerste stap"));
    assert!(
        place
            .read("run/model/README.md")
            .contains("| daarvan voor de eerste stap |")
    );
    check_table(&place);
    let seconds = preparation(&place, "seconds");
    let wall_s = json(&place.read("run/report.json"))["wall_s"]
        .as_f64()
        .expect("a number");
    assert!(0.0 < seconds && seconds < wall_s, "{seconds} of {wall_s}");

    done(train(&["--resume", "--set", "train.steps=12"]));
    assert!(figure("joules") > joules, "both parts");
    assert!(preparation(&place, "joules") > before && preparation(&place, "seconds") > seconds);
    assert!(
        (figure("per_token") / ((figure("joules") - preparation(&place, "joules")) / (2.0 * tokens)) - 1.0).abs()
            < 1e-9
    );
    check_log(&place);
    check_table(&place);

    // A run that has nothing left to train has prepared all the same.
    let before = preparation(&place, "joules");
    done(train(&["--resume"]));
    assert!(preparation(&place, "joules") > before);
    check_log(&place);
    check_table(&place);
}

#[test]
fn a_budget_of_energy_stops_a_run_with_a_checkpoint() {
    let place = Place::new();
    let stopped = taal(
        &place,
        &[
            "train",
            "--recipe",
            "tiny.toml",
            "--run-dir",
            "run",
            "--energy-budget",
            "0.001J",
        ],
    )
    .output()
    .expect("taal starts");
    let words = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert_eq!(stopped.status.code(), Some(75), "{words}");
    assert!(
        words.contains("energy budget of") && words.contains("after step 1"),
        "{words}"
    );
    assert!(place.path("run/checkpoints/step-00000001").is_dir());
    let joules = report_figure(&place, "joules");
    done(
        taal(
            &place,
            &["train", "--resume", "--run-dir", "run", "--energy-budget", "1kWh"],
        )
        .output()
        .expect("taal starts"),
    );
    assert!(report_figure(&place, "joules") > joules);
    for (budget, reason) in [("0.05", "unit is missing"), ("5h", "unknown unit"), ("-1Wh", "above 0")] {
        let output = taal(&place, &["train", "--recipe", "tiny.toml", "--energy-budget", budget])
            .output()
            .expect("taal starts");
        fails(output, 2, &[reason]);
    }
}
