//! Real processes under real faults: `kill -9` and `kill` at random moments, a hundred starts at once, a file system that is full.
//!
//! `cargo xtask crash` runs these with more cases; see `docs/faults.md`. What a simulated machine can show is shown in the trainer's
//! own tests.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use taal_store::Manifest;
use tempfile::TempDir;

const TAAL: &str = env!("CARGO_BIN_EXE_taal");

/// Some seconds of training with a checkpoint now and then.
const RECIPE: &str = r#"
seed = 7
[data]
files = ["text.txt"]
[tokenizer]
kind = "char"
[model]
preset = "qwen3"
n_layers = 2
n_heads = 2
d_model = 32
dropout = 0.1
[train]
steps = 240
batch_size = 4
block_size = 16
accumulation = 2
optimizer = "muon"
[eval]
every = 40
[checkpoint]
every = 10
[sample]
max_tokens = 0
"#;

/// A setting of `cargo xtask crash`: how many cases, from which seed.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: expected a number")),
        Err(_) => default,
    }
}

/// Hands figures to `cargo xtask crash`, which prints them.
fn figure(row: &str, cases: u64, what: &str) {
    if let Some(path) = std::env::var_os("TAAL_CRASH_FIGURES") {
        use std::io::Write;
        let line = serde_json::json!({ "row": row, "cases": cases, "result": what });
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("figures");
        writeln!(file, "{line}").expect("figures");
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn new(salt: u64) -> Self {
        Self(setting("TAAL_CRASH_SEED", 1) ^ (salt << 32))
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let text = "de kat krabt de krullen van de trap, en de rat ziet het.\n".repeat(40);
        fs::write(dir.path().join("text.txt"), text).expect("a text");
        fs::write(dir.path().join("tiny.toml"), RECIPE).expect("a recipe");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&self, run_dir: &str, more: &[&str]) -> Child {
        // Before its first step there is no run to resume, and what a killed start left is taken over.
        let is_begun = self.path(run_dir).join("recipe.resolved.toml").exists();
        Command::new(TAAL)
            .args(["train", "--recipe", "tiny.toml", "--run-dir", run_dir])
            .args(is_begun.then_some("--resume"))
            .args(more)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("taal starts")
    }

    /// The run that nothing happens to, and how long it takes.
    fn unbroken(&self) -> (Vec<u8>, Vec<String>, Duration) {
        let began = Instant::now();
        let output = self.start("unbroken", &[]).wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        let took = began.elapsed();
        (self.weights("unbroken"), self.log("unbroken"), took)
    }

    fn weights(&self, run_dir: &str) -> Vec<u8> {
        let path = format!("{run_dir}/checkpoints/step-00000240/model/model.safetensors");
        fs::read(self.path(&path)).expect("the last weights")
    }

    /// Every record without what depends on the clock.
    fn log(&self, run_dir: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(run_dir).join("log.jsonl")).expect("a log");
        let record = |line: &str| {
            let mut record: serde_json::Value = serde_json::from_str(line).expect("a record");
            let members = record.as_object_mut().expect("an object");
            members
                .retain(|name, _| !["tokens_per_s", "wall_s"].contains(&name.as_str()) && !name.starts_with("energy_"));
            record.to_string()
        };
        text.lines().map(record).collect()
    }
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(child: &Child, name: &str) {
    // The process may have ended by itself meanwhile.
    let _ = Command::new("kill")
        .args([name, &child.id().to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("kill starts");
}

/// Row 1.
#[test]
fn runs_that_are_killed_at_random_moments_end_with_the_bits_of_the_unbroken_one() {
    let place = Place::new();
    let (weights, log, took) = place.unbroken();
    let wanted = setting("TAAL_CRASH_KILLS", 6);
    let mut dice = Dice::new(1);
    let (mut kills, mut runs, mut resumes) = (0, 0, 0);
    while kills < wanted {
        let run_dir = format!("killed-{runs}");
        loop {
            let mut child = place.start(&run_dir, &[]);
            if kills < wanted {
                std::thread::sleep(took.mul_f64(dice.roll(1000) as f64 / 1500.0));
                child.kill().expect("SIGKILL");
            }
            let output = child.wait_with_output().expect("an end");
            match output.status.code() {
                None => kills += 1,
                Some(0) => break,
                Some(code) => panic!("run {runs}, after {kills} kills: exit code {code}: {}", words(&output)),
            }
            resumes += 1;
        }
        assert!(place.weights(&run_dir) == weights, "run {runs}: other weights");
        assert_eq!(place.log(&run_dir), log, "run {runs}: another log");
        fs::remove_dir_all(place.path(&run_dir)).expect("a clean place");
        runs += 1;
    }
    figure(
        "SIGKILL at random moments of real training",
        kills,
        &format!("0 failed resumes in {resumes}, {runs} runs ended with bit-equal weights and log"),
    );
}

/// Row 9: also during saves and evaluations, and a second signal now and then.
#[test]
fn runs_that_are_asked_to_stop_at_random_moments_lose_no_step() {
    let place = Place::new();
    let (weights, log, took) = place.unbroken();
    let wanted = setting("TAAL_CRASH_KILLS", 6);
    let mut dice = Dice::new(2);
    let (mut signals, mut runs, mut at_once) = (0, 0, 0);
    let mut slowest = Duration::ZERO;
    while signals < wanted {
        let run_dir = format!("stopped-{runs}");
        let mut saved = None;
        loop {
            let child = place.start(&run_dir, &[]);
            let mut asked = None;
            if signals < wanted {
                std::thread::sleep(took.mul_f64(dice.roll(1000) as f64 / 1500.0));
                signal(&child, if dice.roll(2) == 0 { "-TERM" } else { "-INT" });
                asked = Some(Instant::now());
                if dice.roll(8) == 0 {
                    signal(&child, "-TERM");
                }
            }
            let output = child.wait_with_output().expect("an end");
            let said = words(&output);
            if let Some(step) = saved.take() {
                let expected = format!("resuming from the checkpoint of step {step}");
                // A signal before that is said is a signal before the first step.
                assert!(
                    said.contains(&expected) || output.status.code() != Some(0),
                    "{expected}: {said}"
                );
            }
            match output.status.code() {
                Some(0) => break,
                Some(75) => {
                    slowest = slowest.max(asked.expect("a signal").elapsed());
                    let report = fs::read(place.path(&run_dir).join("report.json")).ok();
                    if said.contains("stopped after step")
                        && let Some(report) = report
                    {
                        let report: serde_json::Value = serde_json::from_slice(&report).expect("a report");
                        saved = report["steps"].as_u64();
                        assert!(
                            said.contains(&format!("stopped after step {}", saved.unwrap_or(0))),
                            "{said}"
                        );
                    }
                }
                // Twice, or before the program listens.
                Some(130) | None => at_once += 1,
                Some(code) => panic!("run {runs}, after {signals} signals: exit code {code}: {said}"),
            }
            signals += 1;
        }
        assert!(place.weights(&run_dir) == weights, "run {runs}: other weights");
        assert_eq!(place.log(&run_dir), log, "run {runs}: another log");
        fs::remove_dir_all(place.path(&run_dir)).expect("a clean place");
        runs += 1;
    }
    assert!(slowest < Duration::from_secs(30), "it took {slowest:?} to stop");
    figure(
        "SIGTERM or SIGINT at random moments of real training",
        signals,
        &format!(
            "0 steps lost, slowest stop {:.2} s, {at_once} ended at once (a second signal, or before the program listened), {runs} runs ended bit-equal",
            slowest.as_secs_f64()
        ),
    );
}

/// Row 11.
#[test]
fn of_a_hundred_starts_in_one_run_directory_exactly_one_runs() {
    let place = Place::new();
    let starts = 100;
    let mut children: Vec<Child> = (0..starts)
        .map(|_| place.start("run", &["--set", "train.steps=1000000"]))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut codes = Vec::new();
    while codes.len() < starts - 1 && Instant::now() < deadline {
        children.retain_mut(|child| match child.try_wait().expect("a status") {
            Some(status) => {
                codes.push(status.code());
                false
            }
            None => true,
        });
        std::thread::sleep(Duration::from_millis(20));
    }
    let running = children.len();
    for child in &mut children {
        child.kill().expect("SIGKILL");
        child.wait().expect("an end");
    }
    assert_eq!(running, 1, "the others ended with {codes:?}");
    assert!(codes.iter().all(|code| *code == Some(77)), "{codes:?}");
    figure(
        "simultaneous starts in one run directory",
        starts as u64,
        "exactly 1 ran, all others exited with 77",
    );
}

/// A file system of a fixed size, where this user may mount one.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

/// Row 3.
#[test]
fn a_small_file_system_that_fills_up_keeps_whole_checkpoints_and_lets_the_run_go_on_later() {
    let row = "a real file system of 3 MiB that fills up";
    let Some(disk) = SmallDisk::mount("3m") else {
        figure(row, 0, "not run: this user may not mount one");
        return;
    };
    let place = Place::new();
    let (weights, log, _) = place.unbroken();
    let ballast = disk.dir.path().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).expect("room for the ballast");
    let run_dir = disk.dir.path().join("run").display().to_string();
    let sets = ["--set", "checkpoint.keep=1000"];
    let output = place.start(&run_dir, &sets).wait_with_output().expect("an end");
    let said = words(&output);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("no space left") && said.contains("bytes free"), "{said}");
    let checkpoints = Path::new(&run_dir).join("checkpoints");
    let mut whole = 0;
    for entry in fs::read_dir(&checkpoints).expect("checkpoints") {
        let path = entry.expect("an entry").path();
        Manifest::verify(&path).expect("a whole checkpoint");
        whole += 1;
    }
    assert!(whole > 0);
    fs::remove_file(&ballast).expect("no ballast");
    let output = place
        .start(&run_dir, &["--set", "checkpoint.keep=1"])
        .wait_with_output()
        .expect("an end");
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(place.weights(&run_dir) == weights, "other weights");
    assert_eq!(place.log(&run_dir), log);
    figure(
        row,
        1,
        &format!("exit code 74, {whole} checkpoints all whole, resumed bit-equal when there was room"),
    );
}
