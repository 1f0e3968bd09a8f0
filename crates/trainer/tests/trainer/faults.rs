//! Fault injection: a crash at every file operation, full and broken disks, flipped bits, and non-finite numbers.
//!
//! `cargo xtask crash` runs these with more cases and prints their figures; `docs/faults.md` lists the guarantee that
//! each one tests. Everything runs on a file system in memory, so a case takes milliseconds and can be reproduced from
//! its numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use taal_kernels::DeviceSpec;
use taal_metrics::{Report, StepRecord};
use taal_store::{Dice, ErrorKind, Fate, Fault, FaultVfs, Manifest, with_vfs};
use taal_trainer::{
    Act, Checkpoints, Event, Outcome, Progress, Silent, StepFault, TrainError, TrainState, inject_step_faults, is_run,
    resolve, train,
};

use crate::watchers::{Notes, StopAfter};
use crate::{options, size, typed};

/// Four steps. Each is saved, every second one is evaluated; the newest and the best checkpoint are kept.
const RECIPE: &str = r#"
seed = 3
[data]
files = ["/text.txt"]
[tokenizer]
kind = "char"
[model]
preset = "qwen3"
n_layers = 1
n_heads = 2
n_kv_heads = 1
d_model = 16
dropout = 0.1
[train]
steps = 4
batch_size = 2
block_size = 8
accumulation = 2
optimizer = "muon"
lr = 1e-2
warmup_steps = 1
clip_norm = 1.0
[eval]
every = 2
[checkpoint]
every = 1
keep = 1
background = false
[sample]
max_tokens = 0
"#;

const RUN: &str = "/run";

/// A setting of `cargo xtask crash`: how many cases, from which seed.
fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: expected a number")),
        Err(_) => default,
    }
}

/// The seed of everything random here.
fn seed() -> u64 {
    setting("TAAL_CRASH_SEED", 1)
}

/// Passes figures to `cargo xtask crash`, which prints them.
fn figure(row: &str, cases: u64, what: &str) {
    if let Some(path) = std::env::var_os("TAAL_CRASH_FIGURES") {
        use std::io::Write;
        let line = serde_json::json!({ "row": row, "cases": cases, "result": what });
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

fn text() -> String {
    "de kat zat op de mat en de hond zat op de kat; ".repeat(5)
}

/// A machine: a disk with a text on it.
#[derive(Clone)]
struct Machine {
    disk: FaultVfs,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { disk: FaultVfs::new() };
        machine.on(|| taal_store::write_atomic(Path::new("/text.txt"), text().as_bytes()).unwrap());
        machine
    }

    /// The machine after a power cut.
    fn restarted(&self, fate: Fate, seed: u64) -> Self {
        Self {
            disk: self.disk.after_crash(fate, seed),
        }
    }

    fn on<T>(&self, work: impl FnOnce() -> T) -> T {
        with_vfs(Some(Arc::new(self.disk.clone())), work)
    }

    fn run(&self, sets: &[&str], is_resume: bool, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        // The recipe is resolved outside of the machine, whose operations are counted.
        let resolved = resolve(&typed("tiny", RECIPE), &crate::sets(sets))?;
        self.on(|| train(&resolved, RECIPE, &options(Path::new(RUN), is_resume), progress))
    }

    /// Runs or resumes to the end.
    fn finish(&self, sets: &[&str]) -> Report {
        let is_begun = self.on(|| is_run(Path::new(RUN)));
        match self.run(sets, is_begun, &mut Silent) {
            Ok(Outcome::Finished(report)) => report,
            other => panic!("the run did not finish: {other:?}"),
        }
    }

    fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        self.on(|| taal_store::read(path.as_ref(), 1 << 30).unwrap())
    }

    fn weights(&self, step: u64) -> Vec<u8> {
        self.read(
            Checkpoints::of(Path::new(RUN))
                .path(step)
                .join("model/model.safetensors"),
        )
    }

    fn state(&self, step: u64) -> TrainState {
        let path = Checkpoints::of(Path::new(RUN)).path(step).join("train_state.json");
        serde_json::from_slice(&self.read(path)).unwrap()
    }

    /// The log without values that depend on the clock.
    fn log(&self) -> Vec<(u64, u64, u64, u64, Option<u64>)> {
        let records: Vec<StepRecord> = self.on(|| taal_metrics::read_log(&Path::new(RUN).join("log.jsonl")).unwrap());
        let bits = |r: &StepRecord| {
            let val_loss = r.val_loss.map(f64::to_bits);
            (
                r.step,
                r.loss.to_bits(),
                r.lr.to_bits(),
                r.grad_norm.to_bits(),
                val_loss,
            )
        };
        records.iter().map(bits).collect()
    }

    /// Every visible checkpoint, and whether it is intact, byte for byte.
    fn checkpoints(&self) -> Vec<(u64, Result<Manifest, taal_store::Error>)> {
        let checkpoints = Checkpoints::of(Path::new(RUN));
        self.on(|| {
            let steps = checkpoints.steps().unwrap();
            steps
                .into_iter()
                .map(|step| (step, Manifest::verify(&checkpoints.path(step))))
                .collect()
        })
    }

    /// The newest step whose save was started; the save before it was reported as done.
    fn begun(&self) -> u64 {
        let step = |words: &String| {
            let place = words.strip_prefix("create directory /run/checkpoints/")?;
            let place = place.strip_prefix(".tmp-").unwrap_or(place);
            place.strip_prefix("step-")?.get(..8)?.parse().ok()
        };
        self.disk.trace().iter().filter_map(step).max().unwrap_or(0)
    }

    /// What must be true on every disk after any fault: everything visible is intact, and `model` links to an intact
    /// model.
    fn check_visible(&self, begun: u64, case: &str) {
        for (step, verdict) in self.checkpoints() {
            assert!(
                verdict.is_ok(),
                "{case}: step {step} is visible and not whole: {verdict:?}"
            );
        }
        if begun > 1 {
            let model = Path::new(RUN).join("model");
            let names = self.on(|| taal_store::list_dir(&model));
            // At the end of a run its card and its ledger come in addition.
            let needed = ["config.json", "model.safetensors", "text.json", "tokenizer.json"];
            let has = |name: &&str| names.as_ref().is_ok_and(|names| names.iter().any(|it| it == name));
            assert!(needed.iter().all(has), "{case}: `model` leads to {names:?}");
        }
    }

    /// What must be true after the last step: the bits are those of the run without faults, and nothing temporary is left.
    #[track_caller]
    fn check_ended(&self, unbroken: &Unbroken, case: &str) {
        assert_eq!(self.weights(4), unbroken.weights, "{case}: other weights");
        assert_eq!(self.log(), unbroken.log, "{case}: another log");
        let names = self.on(|| taal_store::list_dir(&Path::new(RUN).join("checkpoints")).unwrap());
        assert!(names.iter().all(|name| name.starts_with("step-")), "{case}: {names:?}");
    }
}

/// The run without faults.
struct Unbroken {
    operations: u64,
    weights: Vec<u8>,
    log: Vec<(u64, u64, u64, u64, Option<u64>)>,
    trace: Vec<String>,
}

fn unbroken(sets: &[&str], last: u64) -> Unbroken {
    let machine = Machine::new();
    machine.finish(sets);
    Unbroken {
        operations: machine.disk.operations(),
        weights: machine.weights(last),
        log: machine.log(),
        trace: machine.disk.trace(),
    }
}

/// Rows 1, 2 and 14 of the fault table.
#[test]
fn after_a_crash_at_any_file_operation_the_run_resumes_at_the_newest_checkpoint_or_the_one_before() {
    let unbroken = unbroken(&[], 4);
    let first = Machine::new().disk.operations();
    let mut cases = 0;
    for operation in first..=unbroken.operations {
        let broken = Machine::new();
        broken.disk.fail_at(operation, Fault::Crash);
        let outcome = broken.run(&[], false, &mut Silent);
        assert_eq!(
            outcome.is_err(),
            operation < unbroken.operations,
            "operation {operation}"
        );
        let begun = broken.begun();
        let is_done = outcome.is_ok();
        for fate in Fate::ALL {
            let what = broken.disk.trace().last().cloned().unwrap_or_default();
            let case = format!(
                "crash at operation {operation} ({what}), unsynced data {fate:?}, seed {}",
                seed()
            );
            let machine = broken.restarted(fate, seed() ^ (operation << 8));
            machine.check_visible(begun, &case);
            let report = machine.finish(&[]);
            let resumed = report.resumed_from.unwrap_or(0);
            let least = if is_done { 4 } else { begun.saturating_sub(1) };
            assert!(resumed >= least, "{case}: resumed at {resumed}, but {least} was saved");
            machine.check_ended(&unbroken, &case);
            cases += 1;
        }
    }
    figure(
        "simulated crash after every file operation, unsynced data kept, dropped or torn",
        cases,
        "all resumed at the newest checkpoint or the one before, ended bit-equal",
    );
}

/// Row 1 with saves during training, which makes the order of operations non-deterministic.
#[test]
fn a_crash_while_a_save_runs_during_training_loses_no_more() {
    let sets = ["checkpoint.background=true"];
    let unbroken = unbroken(&sets, 4);
    let first = Machine::new().disk.operations();
    let mut dice = Dice(seed());
    let cases = setting("TAAL_CRASH_CASES", 30);
    for _ in 0..cases {
        let operation = first + dice.roll(unbroken.operations - first);
        let broken = Machine::new();
        broken.disk.fail_at(operation, Fault::Crash);
        // The last operation numbers may not be reached if a save and a log write swap their order.
        let _ = broken.run(&sets, false, &mut Silent);
        let fate = Fate::ALL[dice.roll(3) as usize];
        let case = format!(
            "crash at operation {operation}, unsynced data {fate:?}, seed {}",
            seed()
        );
        let machine = broken.restarted(fate, operation);
        machine.check_visible(broken.begun(), &case);
        let report = machine.finish(&sets);
        let least = broken.begun().saturating_sub(1);
        assert!(report.resumed_from.unwrap_or(0) >= least, "{case}");
        assert_eq!(machine.weights(4), unbroken.weights, "{case}: other weights");
        assert_eq!(machine.log(), unbroken.log, "{case}: another log");
    }
    figure(
        "simulated crash at random file operations while a save runs during training",
        cases,
        "all resumed at the newest checkpoint or the one before, ended bit-equal",
    );
}

/// Row 3.
#[test]
fn a_full_or_broken_disk_at_any_write_leaves_the_last_good_checkpoint() {
    let unbroken = unbroken(&[], 4);
    let first = Machine::new().disk.operations();
    let begin_of_save = |step: u64| {
        let name = format!(".tmp-step-{step:08}");
        let is_first = |words: &String| words.starts_with("create directory") && words.contains(&name);
        unbroken.trace.iter().position(is_first).unwrap() as u64
    };
    let survivable = begin_of_save(2)..begin_of_save(3);
    let mut cases = 0;
    for operation in first..unbroken.operations {
        for fault in [Fault::Full, Fault::FullForGood, Fault::Broken, Fault::ShortWrite] {
            let machine = Machine::new();
            machine.disk.fail_at(operation, fault);
            let outcome = machine.run(&[], false, &mut Silent);
            let case = format!(
                "{fault:?} at operation {operation} ({})",
                unbroken.trace[operation as usize]
            );
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), ErrorKind::Disk, "{case}: {error}");
            }
            let is_once = fault != Fault::FullForGood;
            if is_once && survivable.contains(&operation) {
                assert!(outcome.is_ok(), "{case}: one failed save ended the run: {outcome:?}");
            }
            machine.disk.heal();
            let begun = machine.begun();
            // Everything visible is intact, even now, with the files that the failure left.
            for (step, verdict) in machine.checkpoints() {
                assert!(
                    verdict.is_ok(),
                    "{case}: step {step} is visible and not whole: {verdict:?}"
                );
            }
            if machine.on(|| taal_store::exists(&Path::new(RUN).join("checkpoints/step-00000001"))) && begun == 2 {
                assert_eq!(machine.checkpoints()[0].0, 1, "{case}: the last good one is gone");
            }
            machine.finish(&[]);
            machine.check_ended(&unbroken, &case);
            cases += 1;
        }
    }
    figure(
        "disk full, broken or full half-way through a write, at every file operation",
        cases,
        "the last good checkpoint stayed, nothing half-written was visible, the resumed run ended bit-equal",
    );
}

/// Row 3: three failures in a row, and steps trained meanwhile are not reported as saved.
#[test]
fn three_failed_saves_in_a_row_end_the_run_and_free_space_is_asked_for_first() {
    let machine = Machine::new();
    let mut stop = StopAfter::step(1);
    machine.run(&["train.steps=9"], false, &mut stop).unwrap();
    machine.disk.set_available_bytes(1000);
    let mut notes = Notes::default();
    let error = machine.run(&["train.steps=9"], true, &mut notes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disk);
    let message = error.to_string();
    assert!(
        message.contains("1000 bytes free") && message.contains("checkpoints"),
        "{message}"
    );
    assert_eq!(
        notes.0.iter().filter(|note| note.contains("is not saved")).count(),
        2,
        "{:?}",
        notes.0
    );
    assert_eq!(
        machine.checkpoints().iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [1]
    );
    machine.disk.set_available_bytes(u64::MAX);
    assert_eq!(machine.finish(&["train.steps=9"]).resumed_from, Some(1));
}

/// Every file below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in taal_store::list_dir(dir).unwrap() {
        let path = dir.join(name);
        if taal_store::is_dir(&path) {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Damages files with one bit flip or one truncation at a time, and counts the cases that `is_noticed` misses. The
/// files are restored each time.
fn undetected(machine: &Machine, files: &[PathBuf], flips: u64, is_noticed: &dyn Fn() -> bool) -> (u64, u64) {
    let mut dice = Dice(seed());
    let sizes: Vec<u64> = files.iter().map(|file| machine.read(file).len() as u64).collect();
    let (mut cases, mut missed) = (0, 0);
    let mut damage = |file: &Path, change: &mut dyn FnMut(&mut Vec<u8>)| {
        let whole = machine.read(file);
        machine.disk.damage(file, |bytes| change(bytes)).unwrap();
        cases += 1;
        missed += u64::from(!is_noticed());
        machine.disk.damage(file, |bytes| *bytes = whole).unwrap();
    };
    for _ in 0..flips {
        // Every byte of all files is equally likely, so that large files get their share.
        let mut place = dice.roll(sizes.iter().sum());
        let file = sizes.iter().position(|size| match place < *size {
            true => true,
            false => {
                place -= size;
                false
            }
        });
        let bit = dice.roll(8);
        damage(&files[file.unwrap()], &mut |bytes| bytes[place as usize] ^= 1 << bit);
    }
    for (file, size) in files.iter().zip(&sizes) {
        for length in (0..*size).step_by(4096) {
            damage(file, &mut |bytes| bytes.truncate(length as usize));
        }
    }
    (cases, missed)
}

/// Row 4.
#[test]
fn no_flipped_bit_and_no_cut_in_a_checkpoint_goes_unnoticed() {
    let machine = Machine::new();
    machine.finish(&[]);
    let dir = Checkpoints::of(Path::new(RUN)).path(4);
    // The card and the ledger are about the model; the manifest does not list them.
    let is_listed = |path: &PathBuf| !path.ends_with("README.md") && !path.ends_with("ledger.json");
    let files: Vec<PathBuf> = machine.on(|| files_below(&dir)).into_iter().filter(is_listed).collect();
    assert_eq!(files.len(), 8, "{files:?}");
    let is_noticed = || machine.on(|| Manifest::verify(&dir)).is_err();
    assert!(!is_noticed(), "a whole checkpoint is refused");
    let flips = setting("TAAL_CRASH_FLIPS", 1000);
    let (cases, missed) = undetected(&machine, &files, flips, &is_noticed);
    assert_eq!(missed, 0, "of {cases} damages");
    figure("bit flips and truncations of a checkpoint", cases, "0 undetected");
}

/// Row 5.
#[test]
fn no_flipped_bit_and_no_cut_in_token_shards_goes_unnoticed() {
    let machine = Machine::new();
    let shards = Path::new("/shards");
    machine.on(|| {
        let tokenizer = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::Char, 100)
            .train([text().as_str()])
            .unwrap();
        let inputs = [PathBuf::from("/text.txt")];
        taal_data::build_shards(&tokenizer, &inputs, shards, &taal_data::BuildOptions::default()).unwrap();
    });
    let files = machine.on(|| files_below(shards));
    let is_noticed = || {
        machine
            .on(|| taal_data::Dataset::open(shards).and_then(|_| taal_data::Dataset::open_tokenizer(shards).map(drop)))
            .is_err()
    };
    assert!(!is_noticed(), "whole shards are refused");
    let flips = setting("TAAL_CRASH_FLIPS", 1000);
    let (cases, missed) = undetected(&machine, &files, flips, &is_noticed);
    assert_eq!(missed, 0, "of {cases} damages of {files:?}");
    figure(
        "bit flips and truncations of a folder of token shards",
        cases,
        "0 undetected",
    );
}

/// Row 4: a bad checkpoint is kept for inspection, and the run continues from the one before.
#[test]
fn a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken() {
    let sets = ["checkpoint.keep=9"];
    let unbroken = unbroken(&sets, 4);
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(3)).unwrap();
    let victim = Path::new(RUN).join("checkpoints/step-00000003/optimizer.safetensors");
    machine.disk.damage(&victim, |bytes| bytes[300] ^= 4).unwrap();
    let mut notes = Notes::default();
    let Outcome::Finished(report) = machine.run(&sets, true, &mut notes).unwrap() else {
        panic!("no stop was requested")
    };
    assert_eq!(report.resumed_from, Some(2));
    assert!(
        notes.0.iter().any(|note| note.contains("optimizer.safetensors")),
        "{:?}",
        notes.0
    );
    let aside = Path::new(RUN).join("checkpoints/step-00000003.damaged");
    assert!(machine.on(|| taal_store::is_dir(&aside)));
    assert_eq!(machine.weights(4), unbroken.weights);
}

/// Row 13: the recipe is the same, but the file that it names is not.
#[test]
fn a_text_that_changed_is_noticed_before_the_run_continues() {
    let machine = Machine::new();
    let unbroken = unbroken(&[], 4);
    machine.run(&[], false, &mut StopAfter::step(2)).unwrap();
    let path = Path::new("/text.txt");
    machine.disk.damage(path, |bytes| bytes[0] = b'e').unwrap();
    let error = machine.run(&[], true, &mut Silent).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("text changed since the checkpoint of step 2"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Usage);
    machine.disk.damage(path, |bytes| bytes[0] = b'd').unwrap();
    machine.finish(&[]);
    assert_eq!(machine.weights(4), unbroken.weights);
}

/// Rows 9 and 12. The text has 14 windows per epoch and a step uses 4, so epochs end both within and between steps.
#[test]
fn a_run_of_64_steps_that_stops_at_any_of_them_ends_with_equal_bits() {
    let sets = [
        "train.steps=64",
        "eval.every=9",
        "checkpoint.every=7",
        "checkpoint.background=true",
    ];
    let unbroken = unbroken(&sets, 64);
    for step in 1..64 {
        let machine = Machine::new();
        let stopped = machine.run(&sets, false, &mut StopAfter::step(step)).unwrap();
        let Outcome::Interrupted(report) = stopped else {
            panic!("step {step} did not stop")
        };
        assert_eq!(report.steps, step);
        let report = machine.finish(&sets);
        assert_eq!(report.resumed_from, Some(step));
        assert_eq!(
            machine.weights(64),
            unbroken.weights,
            "stopped at {step}: other weights"
        );
        assert_eq!(machine.log(), unbroken.log, "stopped at {step}: another log");
    }
    figure(
        "a run of 64 steps stopped at each of its 63 points (accumulation, epoch edges, broken-off evaluations)",
        63,
        "all ended with the same weights and log",
    );
}

/// Row 14.
#[test]
fn a_background_save_holds_the_state_of_its_step() {
    let steps = setting("TAAL_CRASH_SAVES", 60);
    let sets = [
        format!("train.steps={steps}"),
        "eval.every=1000000".to_string(),
        "checkpoint.keep=10000".to_string(),
    ];
    let run = |background: &str| {
        let machine = Machine::new();
        let mut sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        sets.push(background);
        machine.finish(&sets);
        machine
    };
    let [foreground, background] = ["checkpoint.background=false", "checkpoint.background=true"].map(run);
    for step in 1..=steps {
        for file in ["model/model.safetensors", "optimizer.safetensors"] {
            let path = Checkpoints::of(Path::new(RUN)).path(step).join(file);
            assert!(
                foreground.read(&path) == background.read(&path),
                "step {step}: {file} differs"
            );
        }
    }
    figure(
        "saves while training continues, one per step",
        steps,
        "every file equal to the one saved between steps",
    );
}

/// Injects faults into the steps of a run: `bad` maps the number of the attempt, counted from 1, to a fault.
fn inject_at(mut bad: impl FnMut(u64) -> Option<StepFault> + 'static) {
    let mut attempt = 0;
    inject_step_faults(move || {
        attempt += 1;
        bad(attempt)
    });
}

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Row 6. Uses its own learner, so that it can compare every bit before and after a step.
#[test]
fn a_step_that_is_not_finite_changes_no_bit_of_weights_and_moments() {
    use taal_data::{Batch, BatchPlan, TokenSource};
    use taal_trainer::{AdamW, Learner, MixedPrecision, Muon, Optimizer};

    let device = DeviceSpec::Flex.open().unwrap().autodiff();
    let config = taal_model::TransformerConfig {
        vocab_size: 17,
        ..taal_model::TransformerConfig::qwen3(size(17, 8, 1, 2, 16))
    };
    let model = config
        .init_with(
            1,
            taal_model::Initialization {
                std: 0.02,
                residual_std: None,
            },
            &device,
        )
        .unwrap();
    let optimizer = Optimizer::new(AdamW::default(), Some(Muon::default()));
    let mut learner = Learner {
        model,
        optimizer,
        clip_norm: Some(1.0),
        precision: MixedPrecision::default(),
    };
    let ids: Vec<u32> = (0..400).map(|i| (i * i + 3 * i) % 17).collect();
    let source = TokenSource::from_ids("numbers", ids, 400);
    let plan = BatchPlan::new(5, 2, 8);
    let bits = |learner: &Learner| {
        let mut bits = Vec::new();
        taal_model::parameters::read(&learner.model, |_, _, values| {
            bits.extend(values.iter().map(|x| x.to_bits()))
        });
        for (_, values) in learner.optimizer.read_state() {
            bits.extend(values.iter().map(|x| x.to_bits()));
        }
        bits.push(learner.optimizer.step_count() as u32);
        bits
    };
    let mut dice = Dice(seed());
    let cases = setting("TAAL_CRASH_STEP_FAULTS", 100);
    for case in 0..cases {
        let step = |learner: &mut Learner, index: u64| {
            let batch: Batch = plan.batch(&source, index).unwrap();
            learner.step(&[batch], &[], 1.0).unwrap()
        };
        inject_at(|_| None);
        for good in 0..dice.roll(3) {
            let before = bits(&learner);
            assert!(step(&mut learner, 10 * case + good).is_finite());
            assert!(bits(&learner) != before, "a good step changed nothing");
        }
        let value = BAD[dice.roll(3) as usize];
        let fault = match dice.roll(2) {
            0 => StepFault::Loss(value),
            _ => StepFault::Gradient(value),
        };
        inject_at(move |_| Some(fault));
        let before = bits(&learner);
        assert!(!step(&mut learner, 10 * case + 9).is_finite(), "{fault:?}");
        assert!(bits(&learner) == before, "{fault:?} changed weights or moments");
    }
    figure(
        "NaN or infinity in loss or gradient at random steps",
        cases,
        "weights and moments bit-equal before and after",
    );
}

/// Rows 6 and 7.
#[test]
fn three_bad_steps_in_a_row_send_the_run_back_and_on_with_later_batches() {
    let sets = [
        "train.steps=12",
        "eval.every=4",
        "checkpoint.every=4",
        "checkpoint.keep=9",
    ];
    let machine = Machine::new();
    inject_at(|attempt| (attempt == 3 || (7..10).contains(&attempt)).then_some(StepFault::Loss(f32::NAN)));
    let mut notes = Notes::default();
    let Outcome::Finished(report) = machine.run(&sets, false, &mut notes).unwrap() else {
        panic!("no stop was requested")
    };
    assert_eq!((report.steps, report.skipped_steps, report.rewinds), (12, 4, 1));
    assert!(report.train_loss.is_finite() && report.val_loss.unwrap().is_finite());
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("back to the checkpoint of step 4")),
        "{:?}",
        notes.0
    );
    let lines =
        machine.on(|| taal_store::AppendLog::read_lines(&Path::new(RUN).join("events.jsonl"), 1 << 20).unwrap());
    let events: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let acts: Vec<(u64, u64)> = events.iter().map(|event| (event.step, event.batch)).collect();
    assert_eq!(acts, [(3, 2), (7, 6), (8, 7), (9, 8)]);
    // The log has every step once; a step that was left out, and that the run did not go back past, is marked.
    let records = machine.on(|| taal_metrics::read_log(&Path::new(RUN).join("log.jsonl")).unwrap());
    assert_eq!(
        records.iter().map(|r| r.step).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    assert_eq!(
        records
            .iter()
            .filter(|r| r.is_skipped)
            .map(|r| r.step)
            .collect::<Vec<_>>(),
        [3]
    );
}

/// How a run in f16 treats overflows: compares every bit of a checkpoint, and the loss scale.
#[test]
fn an_overflow_in_f16_is_left_out_halves_the_loss_scale_and_is_resumed_with_equal_bits() {
    const STEPS: u64 = 12;
    // If an overflow were a bad step, the run would go back at the first one.
    let sets = [
        "train.precision=f16",
        "train.steps=12",
        "checkpoint.keep=99",
        "health.max_skips=1",
    ];
    let overflow_after = |steps: u64| {
        inject_at(move |attempt| {
            [3, 4, 7]
                .contains(&(attempt + steps))
                .then_some(StepFault::Gradient(f32::INFINITY))
        })
    };
    let unbroken = Machine::new();
    overflow_after(0);
    let report = unbroken.finish(&sets);
    assert_eq!((report.steps, report.skipped_steps, report.rewinds), (STEPS, 3, 0));
    let loss_scale = unbroken.state(STEPS).loss_scale.unwrap();
    assert_eq!((loss_scale.scale, loss_scale.good_steps), (8192.0, 5));
    let lines =
        unbroken.on(|| taal_store::AppendLog::read_lines(&Path::new(RUN).join("events.jsonl"), 1 << 20).unwrap());
    let events: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        events.iter().map(|event| (event.act, event.step)).collect::<Vec<_>>(),
        [(Act::Skip, 3), (Act::Skip, 4), (Act::Skip, 7)]
    );
    assert!(
        events[0].reason.contains("loss scale of 65536") && events[2].reason.contains("16384"),
        "{events:?}"
    );
    for file in ["model/model.safetensors", "optimizer.safetensors"] {
        let bytes = |step| unbroken.read(Checkpoints::of(Path::new(RUN)).path(step).join(file));
        assert!(bytes(2) == bytes(4) && bytes(4) != bytes(5), "{file}");
    }
    for stop in 1..STEPS {
        let machine = Machine::new();
        overflow_after(0);
        machine.run(&sets, false, &mut StopAfter::step(stop)).unwrap();
        overflow_after(stop);
        assert_eq!(machine.finish(&sets).resumed_from, Some(stop));
        assert_eq!(
            machine.weights(STEPS),
            unbroken.weights(STEPS),
            "stopped at {stop}: other weights"
        );
        assert_eq!(machine.log(), unbroken.log(), "stopped at {stop}: another log");
        assert_eq!(machine.state(STEPS).loss_scale, Some(loss_scale), "stopped at {stop}");
    }
    inject_at(|_| None);
}

/// The loss scale is part of the state that a run goes back to.
#[test]
fn going_back_in_f16_takes_the_loss_scale_of_the_checkpoint() {
    let sets = [
        "train.precision=f16",
        "train.steps=12",
        "checkpoint.every=4",
        "eval.every=4",
    ];
    let machine = Machine::new();
    inject_at(|attempt| match attempt {
        2 | 5 => Some(StepFault::Gradient(f32::INFINITY)),
        6..9 => Some(StepFault::Loss(f32::NAN)),
        _ => None,
    });
    let report = machine.finish(&sets);
    inject_at(|_| None);
    assert_eq!((report.steps, report.skipped_steps, report.rewinds), (12, 5, 1));
    // The scale was halved at step 2, before the checkpoint of step 4. The halving at step 5 was undone by going back.
    let loss_scale = machine.state(12).loss_scale.unwrap();
    assert_eq!((loss_scale.scale, loss_scale.good_steps), (32768.0, 10));
}

/// A run whose gradient is not finite with any loss scale has diverged, as it would in fp32.
#[test]
fn overflows_that_no_loss_scale_prevents_end_the_run() {
    let machine = Machine::new();
    inject_at(|attempt| (attempt > 2).then_some(StepFault::Gradient(f32::INFINITY)));
    let sets = [
        "train.precision=f16",
        "train.steps=99",
        "checkpoint.keep=99",
        "health.rewinds=0",
    ];
    let error = machine.run(&sets, false, &mut Silent).unwrap_err();
    inject_at(|_| None);
    assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    // 16 halvings from 65536 to 1, then the three bad steps that any run may have.
    assert!(error.to_string().starts_with("step 21:"), "{error}");
}

/// Row 6: if nothing helps, the run ends, and the last checkpoint is unchanged.
#[test]
fn a_run_that_stays_bad_stops_with_its_last_checkpoint_intact() {
    let sets = ["train.steps=12", "checkpoint.keep=9"];
    let machine = Machine::new();
    inject_at(|attempt| (attempt > 2).then_some(StepFault::Gradient(f32::INFINITY)));
    let error = machine.run(&sets, false, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
    assert!(error.to_string().contains("gradient norm"), "{error}");
    let checkpoints = machine.checkpoints();
    assert!(!checkpoints.is_empty());
    assert!(checkpoints.iter().all(|(_, verdict)| verdict.is_ok()));
    // The run went back to before the second one, which is set aside and not lost.
    let left = Path::new(RUN).join("checkpoints/step-00000002.left");
    assert!(machine.on(|| Manifest::verify(&left)).is_ok());
    inject_at(|_| None);
    machine.finish(&sets);
}

/// Row 4: a run that goes back does not skip a good checkpoint because of a bad one.
#[test]
fn going_back_takes_the_newest_undamaged_checkpoint() {
    let sets = ["train.steps=12", "checkpoint.keep=9", "eval.every=99"];
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(6)).unwrap();
    let disk = machine.disk.clone();
    inject_at(move |attempt| {
        if attempt == 1 {
            // Damaged after the start has verified it.
            let victim = Path::new(RUN).join("checkpoints/step-00000006/optimizer.safetensors");
            disk.damage(&victim, |bytes| bytes[400] ^= 1).unwrap();
        }
        (attempt < 4).then_some(StepFault::Loss(f32::NAN))
    });
    let report = machine.finish(&sets);
    inject_at(|_| None);
    assert_eq!((report.steps, report.rewinds), (12, 1));
    assert!(machine.checkpoints().iter().all(|(_, verdict)| verdict.is_ok()));
    assert!(machine.checkpoints().iter().any(|(step, _)| *step == 5));
}

/// Row 4: a run that must go back finds every checkpoint damaged. It reports this, sets them aside, and starts again
/// when resumed.
#[test]
fn report_30_a_run_that_must_go_back_and_has_nothing_whole_says_what_is_set_aside() {
    let sets = ["train.steps=8", "checkpoint.keep=9", "eval.every=99"];
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(3)).unwrap();
    let disk = machine.disk.clone();
    inject_at(move |attempt| {
        if attempt == 1 {
            // Damaged after the start has verified the newest.
            for step in 1..=3 {
                let victim = Checkpoints::of(Path::new(RUN)).path(step).join("optimizer.safetensors");
                disk.damage(&victim, |bytes| bytes[400] ^= 1).unwrap();
            }
        }
        Some(StepFault::Loss(f32::NAN))
    });
    let mut notes = Notes::default();
    let error = machine.run(&sets, true, &mut notes).unwrap_err();
    inject_at(|_| None);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(matches!(&error, TrainError::NothingWhole { step: 6, .. }), "{error:?}");
    let said = error.to_string();
    for word in [
        "/run/checkpoints",
        "every checkpoint is damaged",
        "the loss is NaN",
        "step 0",
    ] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    for step in 1..=3 {
        let aside = format!("/run/checkpoints/step-{step:08}.damaged");
        assert!(
            notes.0.iter().any(|note| note == &format!("it is now {aside}")),
            "{:?}",
            notes.0
        );
        assert!(machine.on(|| taal_store::is_dir(Path::new(&aside))));
    }
    assert!(!machine.on(|| taal_store::exists(&Path::new(RUN).join("model"))));
    // The solution that the error message names.
    let report = machine.finish(&sets);
    assert_eq!((report.steps, report.resumed_from), (8, None));
    machine.check_visible(8, "after starting again");
}

/// Row 4: the checkpoint that a run went back to before is better than none.
#[test]
fn going_back_again_takes_the_same_checkpoint_where_the_ones_before_are_damaged() {
    let sets = [
        "train.steps=8",
        "checkpoint.every=2",
        "checkpoint.keep=9",
        "eval.every=99",
    ];
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(4)).unwrap();
    let disk = machine.disk.clone();
    inject_at(move |attempt| {
        if attempt == 1 {
            let victim = Checkpoints::of(Path::new(RUN)).path(2).join("optimizer.safetensors");
            disk.damage(&victim, |bytes| bytes[400] ^= 1).unwrap();
        }
        (attempt <= 6).then_some(StepFault::Loss(f32::NAN))
    });
    let outcome = machine.run(&sets, true, &mut Silent);
    inject_at(|_| None);
    let Ok(Outcome::Finished(report)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((report.steps, report.rewinds), (8, 2));
}

/// Row 4: a damaged log does not prevent continuing from an undamaged checkpoint.
#[test]
fn a_damaged_log_is_set_aside_and_the_run_continues() {
    let sets = ["checkpoint.keep=9"];
    let unbroken = unbroken(&sets, 4);
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(3)).unwrap();
    machine
        .disk
        .damage(&Path::new(RUN).join("log.jsonl"), |bytes| bytes[3] = b'!')
        .unwrap();
    let mut notes = Notes::default();
    machine.run(&sets, true, &mut notes).unwrap();
    assert!(
        notes.0.iter().any(|note| note.contains("log.jsonl.damaged")),
        "{:?}",
        notes.0
    );
    assert_eq!(machine.weights(4), unbroken.weights);
}

/// Row 6: saving NaN weights would eventually remove every good checkpoint.
#[test]
fn a_state_that_is_not_finite_is_never_saved() {
    for value in BAD {
        let machine = Machine::new();
        inject_at(move |attempt| (attempt == 3).then_some(StepFault::Update(value)));
        let Outcome::Finished(report) = machine
            .run(&["train.steps=6", "checkpoint.keep=9"], false, &mut Silent)
            .unwrap()
        else {
            panic!("no stop was requested")
        };
        assert_eq!(report.rewinds, 1);
        for step in [1, 2, 3, 4, 5, 6] {
            let path = Checkpoints::of(Path::new(RUN)).path(step);
            for file in ["model/model.safetensors", "optimizer.safetensors"] {
                let bytes = machine.read(path.join(file));
                let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                for (name, view) in tensors.tensors() {
                    let mut values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    assert!(values.all(f32::is_finite), "step {step}: {file}: {name}");
                }
            }
        }
    }
}

/// Row 7: three spikes before anything was saved.
#[test]
fn report_29_bad_steps_before_the_first_checkpoint_send_the_run_back_to_its_beginning() {
    let sets = ["train.steps=12", "eval.every=99", "checkpoint.every=99"];
    let machine = Machine::new();
    inject_at(|attempt| (4..7).contains(&attempt).then_some(StepFault::Loss(f32::NAN)));
    let mut notes = Notes::default();
    let outcome = machine.run(&sets, false, &mut notes);
    inject_at(|_| None);
    let Ok(Outcome::Finished(report)) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((report.steps, report.skipped_steps, report.rewinds), (12, 3, 1));
    assert!(
        notes.0.iter().any(|note| note.contains("back to the beginning")),
        "{:?}",
        notes.0
    );
    // The first step again, with the weights of the beginning and the batch after the last bad one.
    let state = machine.state(12);
    assert_eq!((state.health.batch_offset, state.health.rewound_to), (6, Some(0)));
    let log = machine.log();
    assert_eq!(
        log.iter().map(|record| record.0).collect::<Vec<_>>(),
        (1..=12).collect::<Vec<_>>()
    );
    assert!(log.iter().all(|record| f64::from_bits(record.1).is_finite()));
}

#[test]
fn report_29_a_run_that_stays_bad_says_whether_anything_was_saved() {
    let fail = |sets: &[&str]| {
        let machine = Machine::new();
        inject_at(|attempt| (attempt > 2).then_some(StepFault::Loss(f32::NAN)));
        let error = machine.run(sets, false, &mut Silent).unwrap_err();
        inject_at(|_| None);
        assert_eq!(error.kind(), ErrorKind::Diverged, "{error}");
        (machine, error.to_string())
    };
    let (machine, said) = fail(&["train.steps=12", "eval.every=99", "checkpoint.every=99"]);
    assert!(said.contains("no checkpoint had been saved"), "{said}");
    assert!(machine.checkpoints().is_empty());
    let (machine, said) = fail(&["train.steps=12", "checkpoint.keep=9"]);
    assert!(!machine.checkpoints().is_empty());
    assert!(said.contains("of step 1, are intact"), "{said}");
}

/// Row 4, with a crash at every file operation of a start that finds the newest checkpoint damaged: `model` links to an
/// undamaged one.
#[test]
fn report_30_model_links_to_an_undamaged_checkpoint_while_a_damaged_one_is_set_aside() {
    let sets = ["train.steps=5", "eval.every=99", "checkpoint.keep=9"];
    // Damaged: either the newest, which `model` links to as well, or an older one that it links to because it is the
    // best.
    for (victim, sets) in [
        (3, &sets[..]),
        (2, &["train.steps=5", "eval.every=2", "checkpoint.keep=9"]),
    ] {
        let prepared = || {
            let machine = Machine::new();
            machine.run(sets, false, &mut StopAfter::step(3)).unwrap();
            let link = machine.on(|| taal_store::resolve(&Path::new(RUN).join("model")).unwrap());
            let shown = format!("/run/checkpoints/step-{victim:08}/model");
            assert_eq!(link, Path::new(&shown));
            let file = Checkpoints::of(Path::new(RUN))
                .path(victim)
                .join("model/model.safetensors");
            machine.disk.damage(&file, |bytes| bytes[500] ^= 1).unwrap();
            machine
        };
        let whole = prepared();
        let first = whole.disk.operations();
        whole.run(sets, true, &mut Silent).unwrap();
        let last = whole.disk.operations();
        for operation in first..last {
            let broken = prepared();
            broken.disk.fail_at(operation, Fault::Crash);
            let _ = broken.run(sets, true, &mut Silent);
            for fate in Fate::ALL {
                let machine = broken.restarted(fate, seed() ^ (operation << 8));
                let case = format!("victim {victim}, crash at operation {operation}, {fate:?}");
                let model = Path::new(RUN).join("model");
                let target = machine
                    .on(|| taal_store::resolve(&model))
                    .unwrap_or_else(|error| panic!("{case}: {error}"));
                let checkpoint = target.parent().unwrap();
                let is_victim = checkpoint.ends_with(format!("step-{victim:08}"));
                // Until the start notices the damage, the link points to the damaged one. It never points to a missing
                // directory.
                let verdict = machine.on(|| Manifest::verify(checkpoint));
                assert!(verdict.is_ok() || is_victim, "{case}: {verdict:?}");
                let aside = format!("step-{victim:08}.damaged");
                let is_aside = machine.on(|| taal_store::exists(&Path::new(RUN).join("checkpoints").join(&aside)));
                assert!(!(is_aside && verdict.is_err()), "{case}: {verdict:?}");
            }
        }
    }
}

/// No undamaged checkpoint is left: no link is better than a broken link.
#[test]
fn report_30_without_an_undamaged_checkpoint_there_is_no_broken_model_link() {
    let sets = ["train.steps=3", "eval.every=99", "checkpoint.keep=9"];
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(1)).unwrap();
    let file = Checkpoints::of(Path::new(RUN)).path(1).join("model/model.safetensors");
    machine.disk.damage(&file, |bytes| bytes[500] ^= 1).unwrap();
    let begin = machine.disk.operations();
    let aside = |words: &String| words.contains("rename /run/checkpoints/step-00000001 ");
    let whole = machine.clone();
    whole.run(&sets, true, &mut StopAfter::step(1)).unwrap();
    let trace = whole.disk.trace();
    let renamed = trace.iter().position(aside).unwrap();
    let removed = trace.iter().position(|words| words == "remove /run/model").unwrap();
    assert!(begin as usize <= removed && removed < renamed, "{removed}, {renamed}");
}

/// Row 6: also at the last step, after which no further step would notice.
#[test]
fn a_state_that_goes_bad_in_the_last_step_is_trained_again_from_the_checkpoint() {
    let machine = Machine::new();
    inject_at(|attempt| (attempt == 4).then_some(StepFault::Update(f32::INFINITY)));
    let Outcome::Finished(report) = machine.run(&["checkpoint.keep=9"], false, &mut Silent).unwrap() else {
        panic!("no stop was requested")
    };
    assert_eq!((report.steps, report.rewinds), (4, 1));
    assert!(report.val_loss.unwrap().is_finite() && report.best_val_loss.unwrap().is_finite());
    machine.check_visible(4, "after the end");
}

/// Row 6: the run goes back to a checkpoint that was saved during an evaluation, and the record of that step is still
/// logged.
#[test]
fn going_back_to_an_interrupted_evaluation_completes_it() {
    let sets = ["train.steps=8", "eval.every=4", "checkpoint.every=99"];
    let machine = Machine::new();
    machine.run(&sets, false, &mut StopAfter::step(4)).unwrap();
    inject_at(|attempt| (2..5).contains(&attempt).then_some(StepFault::Loss(f32::NAN)));
    let report = machine.finish(&sets);
    inject_at(|_| None);
    assert_eq!((report.resumed_from, report.rewinds), (Some(4), 1));
    let log = machine.log();
    assert_eq!(
        log.iter().map(|record| record.0).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
    assert!(log[3].4.is_some(), "step 4 was not evaluated");
}

/// Row 7: a harmful batch is left out, and the following steps are as if it did not exist.
#[test]
fn a_loss_spike_is_left_out_only_if_spike_detection_is_on() {
    let sets = ["train.steps=24", "health.spike_window=8", "checkpoint.every=99"];
    let spike = |attempt: u64| (attempt == 20).then_some(StepFault::Loss(1e4));
    let skipped = |sets: &[&str]| {
        let machine = Machine::new();
        inject_at(spike);
        let Outcome::Finished(report) = machine.run(sets, false, &mut Silent).unwrap() else {
            panic!("no stop was requested")
        };
        report.skipped_steps
    };
    assert_eq!(skipped(&sets), 1);
    assert_eq!(skipped(&[&sets[..], &["health.spike_sigma=0"]].concat()), 0);
}

/// Row 5: leaving out a shard is a setting, is noted, and is the same after a resume.
#[test]
fn a_damaged_shard_stops_the_run_unless_it_is_to_be_left_out() {
    let machine = Machine::new();
    let shards = Path::new("/shards");
    machine.on(|| {
        let tokenizer = taal_tokenizer::TrainerConfig::new(taal_tokenizer::Kind::Char, 100)
            .train([text().as_str()])
            .unwrap();
        let options = taal_data::BuildOptions {
            shard_tokens: 60,
            ..taal_data::BuildOptions::default()
        };
        let inputs: Vec<PathBuf> = (0..4).map(|i| PathBuf::from(format!("/{i}.txt"))).collect();
        for path in &inputs {
            taal_store::write_atomic(path, text().as_bytes()).unwrap();
        }
        taal_data::build_shards(&tokenizer, &inputs, shards, &options).unwrap();
    });
    let recipe = RECIPE
        .replace("files = [\"/text.txt\"]", "shards = \"/shards\"")
        .replace("[tokenizer]\nkind = \"char\"\n", "");
    let run = |run_dir: &str, sets: &[&str], is_resume: bool, progress: &mut dyn Progress| {
        let resolved = resolve(&typed("tiny", recipe.as_str()), &crate::sets(sets)).unwrap();
        machine.on(|| train(&resolved, &recipe, &options(Path::new(run_dir), is_resume), progress))
    };
    machine
        .disk
        .damage(&shards.join("train-00001.shard"), |bytes| bytes[130] ^= 1)
        .unwrap();
    let error = run("/stop", &[], false, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("train-00001.shard"), "{error}");

    let skip = ["data.damaged=skip"];
    let mut notes = Notes::default();
    run("/skip", &skip, false, &mut notes).unwrap();
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("left out of training") && note.contains("train-00001.shard")),
        "{:?}",
        notes.0
    );
    run("/again", &skip, false, &mut StopAfter::step(2)).unwrap();
    run("/again", &skip, true, &mut Silent).unwrap();
    let weights =
        |run_dir: &str| machine.read(Path::new(run_dir).join("checkpoints/step-00000004/model/model.safetensors"));
    assert!(
        weights("/skip") == weights("/again"),
        "a resumed run left out something else"
    );

    // Another shard is damaged while the run is stopped, so the data are not the same.
    run("/later", &skip, false, &mut StopAfter::step(2)).unwrap();
    machine
        .disk
        .damage(&shards.join("train-00002.shard"), |bytes| bytes[131] ^= 1)
        .unwrap();
    let error = run("/later", &skip, true, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("text changed"), "{error}");
}
