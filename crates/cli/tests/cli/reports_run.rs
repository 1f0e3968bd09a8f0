//! Public reports about starting, resuming and finishing runs, each with its number in issue 15's list.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::{Place, done, fails, json, stderr, stdout};

#[test]
fn report_24_resume_never_starts_a_new_run() {
    let place = Place::new();
    fails(
        place.taal(&["train", "--resume"]),
        2,
        &["no run to resume", "leave --resume out"],
    );
    fails(place.train(&["--resume"]), 2, &["no run to resume"]);
    assert!(!place.path("runs").exists() && !place.path("run").exists());
    done(place.taal(&["train", "--recipe", "tiny.toml"]));
    let typo = ["train", "--resume", "--run-dir", "runs/tinny"];
    fails(place.taal(&typo), 2, &["runs/tinny", "runs/tiny (step 6)", "--run-dir"]);
    fails(
        place.taal(&["train", "--resume", "--recipe", "names"]),
        2,
        &["names", "runs/tiny (step 6)"],
    );
    assert!(!place.path("runs/tinny").exists() && !place.path("runs/names").exists());
}

#[test]
fn report_24_resume_without_a_name_takes_the_latest_run_whatever_its_recipe() {
    let place = Place::new();
    place.write("other.toml", place.read("tiny.toml"));
    for recipe in ["other.toml", "other.toml", "tiny.toml"] {
        done(place.taal(&["train", "--recipe", recipe]));
    }
    let resumed = place.taal(&["train", "--resume"]);
    assert!(stderr(&resumed).contains("runs/tiny\n"), "{}", stderr(&resumed));
    done(resumed);
    fs::remove_dir_all(place.path("runs/other")).expect("a run");
    let resumed = place.taal(&["train", "--resume", "--recipe", "other.toml", "--set", "train.steps=8"]);
    assert!(stderr(&resumed).contains("runs/other-2\n"), "{}", stderr(&resumed));
    done(resumed);
    // It is the latest now.
    let resumed = place.taal(&["train", "--resume"]);
    assert!(stderr(&resumed).contains("runs/other-2\n"), "{}", stderr(&resumed));
}

#[cfg(unix)]
#[test]
fn report_24_a_signal_before_the_first_step_leaves_nothing_behind() {
    let place = Place::new();
    // Reading this takes longer than a signal.
    place.write(
        "slow.toml",
        place
            .read("tiny.toml")
            .replace("kind = \"char\"", "kind = \"bpe\"\nvocab_size = 8000"),
    );
    let words: String = (0..400_000_u64)
        .map(|i| format!("w{} ", (i * 7919) % 300_007))
        .collect();
    place.write("text.txt", words);
    let mut child = place
        .command(&["train", "--recipe", "slow.toml"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("taal starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    assert!(lines.any(|line| line.contains("training slow in runs/slow")));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill starts").success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("an end").code(), Some(75), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("nothing was begun")), "{rest:?}");
    assert!(!place.path("runs").exists());
}

#[test]
fn report_24_two_starts_of_one_recipe_at_once_both_train() {
    let place = Place::new();
    let start = || {
        let mut command = place.command(&["train", "--recipe", "tiny.toml"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("taal starts")
    };
    let starts: Vec<_> = (0..4).map(|_| start()).collect();
    for child in starts {
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    for run in ["runs/tiny", "runs/tiny-2", "runs/tiny-3", "runs/tiny-4"] {
        assert!(place.path(run).join("report.json").exists(), "{run}");
    }
}

#[test]
fn report_20_a_folder_with_own_files_is_refused_and_untouched() {
    let place = Place::new();
    fs::create_dir_all(place.path("mine/model")).expect("a folder");
    place.write("mine/report.html", "mine");
    fails(
        place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "mine"]),
        2,
        &["mine", "report.html, model", "--run-dir"],
    );
    assert_eq!(place.read("mine/report.html"), "mine");
    assert_eq!(fs::read_dir(place.path("mine")).expect("a folder").count(), 2);
}

#[cfg(unix)]
#[test]
fn report_21_links_in_a_circle_are_no_failing_disk() {
    let place = Place::new();
    std::os::unix::fs::symlink("b.toml", place.path("a.toml")).expect("a link");
    std::os::unix::fs::symlink("a.toml", place.path("b.toml")).expect("a link");
    let output = place.taal(&["train", "--recipe", "a.toml"]);
    assert!(!stderr(&output).contains("space"), "{}", stderr(&output));
    fails(output, 2, &["a.toml", "links form a loop"]);
    std::os::unix::fs::symlink("loop", place.path("loop")).expect("a link");
    let output = place.taal(&["train", "--recipe", "tiny.toml", "--run-dir", "loop/run"]);
    assert!(!stderr(&output).contains("space"), "{}", stderr(&output));
    fails(output, 2, &["loop"]);
}

#[test]
fn report_23_embedded_recipes_train_on_own_files() {
    let place = Place::new();
    place.write("own.txt", "Één mooie dag: ça va, señor ½ × 3 ≠ 4?\n".repeat(200));
    let output = place.taal(&[
        "train",
        "--recipe",
        "names",
        "--run-dir",
        "run",
        "--set",
        "data.files=[\"own.txt\"]",
        "--set",
        "train.steps=3",
        "--set",
        "model.d_model=16",
    ]);
    let said = stderr(&output).to_string();
    for word in [
        "note: data.corpus",
        "note: train.warmup_steps = 20",
        "times over the training text",
    ] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    done(output);
    let report: serde_json::Value = serde_json::from_str(&place.read("run/report.json")).expect("a report");
    assert!(report["epochs"].as_f64().is_some_and(|epochs| epochs > 0.1), "{report}");
    assert!(
        report["mfu"].as_f64().is_some_and(|mfu| (0.0..=1.0).contains(&mfu)),
        "{report}"
    );
}

#[test]
fn report_30_generate_says_that_a_checkpoint_is_damaged() {
    let place = Place::trained();
    let file = place.path("run/model/model.safetensors");
    let mut bytes = fs::read(&file).expect("weights");
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(&file, bytes).expect("weights");
    let generate = ["generate", "--model", "run", "--prompt", "de", "--max-tokens", "3"];
    fails(place.taal(&generate), 65, &["model.safetensors", "wrong hash"]);
    // The run goes on from the one before, and then there is a whole model again.
    done(place.taal(&["train", "--resume", "--run-dir", "run"]));
    assert!(!stdout(&place.taal(&generate)).is_empty());
    let shown = json(place.taal(&["inspect", "--model", "run", "--json"]));
    assert!(shown.is_object(), "{shown}");
}

#[cfg(unix)]
#[test]
fn report_26_a_model_is_taken_elsewhere_by_export_or_by_a_copy_that_follows_the_link() {
    let place = Place::trained();
    let copy = |option: &str, to: &str| {
        let status = Command::new("cp")
            .args([option, "run/model", to])
            .current_dir(place.path("."))
            .status();
        assert!(status.expect("cp starts").success());
    };
    copy("-rL", "whole");
    copy("-r", "link");
    let generate = |model: &str| place.taal(&["generate", "--model", model, "--prompt", "de", "--temperature", "0"]);
    fails(generate("link"), 2, &["link", "broken link", "taal export --to hf"]);
    done(place.taal(&["export", "--model", "run", "--out", "exported", "--to", "hf"]));
    assert_eq!(done(generate("whole")), done(generate("exported")));
    assert_eq!(done(generate("whole")), done(generate("run")));
}

#[cfg(unix)]
#[test]
fn report_25_no_line_of_a_run_says_more_than_all_of_the_peak() {
    let place = Place::new();
    let output = place.train(&["--set", "train.steps=40"]);
    let percents: Vec<f64> = [stderr(&output), stdout(&output)]
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            let rest = line.split_once("MFU")?.1.trim_start().trim_start_matches("at most ");
            rest.split_whitespace().next()?.parse().ok()
        })
        .collect();
    assert!(
        !percents.is_empty() && percents.iter().all(|percent| *percent <= 100.0),
        "{percents:?}"
    );
}
