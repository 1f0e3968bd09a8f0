//! Whole runs of a tiny model: resuming, stopping, fine-tuning, and damaged run directories.

use std::path::{Path, PathBuf};

use taal_kernels::DeviceSpec;
use taal_metrics::{Report, StepRecord};
use taal_store::ErrorKind;
use taal_trainer::{Outcome, Progress, Silent, TrainError};

use crate::watchers::{Notes, StopAfter};
use crate::{finished, run_recipe, typed};

/// Dropout, accumulation, several epochs and Muon: everything that could differ after a resume.
const RECIPE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
vocab_size = 100
[model]
preset = "qwen3"
n_layers = 1
n_heads = 2
n_kv_heads = 1
d_model = 16
dropout = 0.1
[train]
steps = 12
batch_size = 3
block_size = 8
accumulation = 2
optimizer = "muon"
lr = 1e-2
warmup_steps = 2
clip_norm = 1.0
[eval]
every = 4
[checkpoint]
every = 3
keep = 20
[sample]
prompts = ["de "]
max_tokens = 8
"#;

struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "de kat zat op de mat en de hond zat op de kat; ".repeat(20);
        std::fs::write(folder.path().join("text.txt"), text).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        run_dir: &str,
        sets: &[&str],
        is_resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, TrainError> {
        let text = RECIPE.replace("TEXT", &self.path("text.txt").display().to_string());
        run_recipe(&typed("tiny", text), sets, &self.path(run_dir), is_resume, progress)
    }

    fn finish(&self, run_dir: &str, sets: &[&str], is_resume: bool) -> Report {
        finished(self.run(run_dir, sets, is_resume, &mut Silent))
    }

    fn weights(&self, run_dir: &str, step: u64) -> Vec<u8> {
        crate::weights_at(&self.path(run_dir), step)
    }

    /// The log without values that depend on the clock.
    fn log(&self, run_dir: &str) -> Vec<(u64, f64, f64, f64, Option<f64>)> {
        let records: Vec<StepRecord> = taal_metrics::read_log(&self.path(run_dir).join("log.jsonl")).unwrap();
        records
            .iter()
            .map(|r| (r.step, r.loss, r.lr, r.grad_norm, r.val_loss))
            .collect()
    }
}

#[test]
fn weights_are_equal_bits_with_one_thread_two_and_four() {
    let place = Workplace::new();
    // Wide enough that products are split among threads.
    let sets = [
        "model.d_model=96",
        "train.block_size=24",
        "train.batch_size=8",
        "train.steps=4",
        "model.preset=qwen3",
    ];
    let weights = |threads: usize| {
        let run = format!("threads-{threads}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| place.finish(&run, &sets, false));
        place.weights(&run, 4)
    };
    let one = weights(1);
    assert!(weights(2) == one, "two threads end with other weights than one");
    assert!(weights(4) == one, "four threads end with other weights than one");
}

#[test]
fn stopping_at_any_step_and_resuming_ends_with_equal_bits() {
    let place = Workplace::new();
    let unbroken = place.finish("unbroken", &[], false);
    assert_eq!((unbroken.steps, unbroken.tokens), (12, 12 * 2 * 3 * 8));
    for stop in 1..12 {
        let name = format!("stopped-{stop}");
        let mut watcher = StopAfter::step(stop);
        let Outcome::Interrupted(report) = place.run(&name, &[], false, &mut watcher).unwrap() else {
            panic!("step {stop} did not stop")
        };
        assert_eq!(report.steps, stop);
        let report = place.finish(&name, &[], true);
        assert_eq!(report.resumed_from, Some(stop));
        assert_eq!(
            place.weights(&name, 12),
            place.weights("unbroken", 12),
            "stopped at {stop}"
        );
        assert_eq!(place.log(&name), place.log("unbroken"), "stopped at {stop}");
        assert_eq!(
            (report.train_loss, report.val_loss),
            (unbroken.train_loss, unbroken.val_loss)
        );
        assert_eq!(report.samples, unbroken.samples);
    }
}

#[test]
fn a_recurrent_network_learns_and_resumes_to_equal_bits() {
    let place = Workplace::new();
    let sets = ["model.preset=lstm", "train.steps=40", "checkpoint.every=10"];
    let unbroken = place.finish("unbroken", &sets, false);
    let log = place.log("unbroken");
    assert!(log[39].1 < log[0].1 - 0.2, "{} {}", log[0].1, log[39].1);
    assert_eq!(unbroken.samples[0].text.chars().count(), 8);
    let mut watcher = StopAfter::step(17);
    assert!(matches!(
        place.run("stopped", &sets, false, &mut watcher).unwrap(),
        Outcome::Interrupted(_)
    ));
    let resumed = place.finish("stopped", &sets, true);
    assert_eq!(place.weights("stopped", 40), place.weights("unbroken", 40));
    assert_eq!(resumed.samples, unbroken.samples);
}

#[test]
fn equal_seeds_give_equal_bits_and_other_seeds_do_not() {
    let place = Workplace::new();
    place.finish("a", &[], false);
    place.finish("b", &[], false);
    place.finish("c", &["seed=4"], false);
    assert_eq!(place.weights("a", 12), place.weights("b", 12));
    assert_ne!(place.weights("a", 12), place.weights("c", 12));
}

#[test]
fn a_run_directory_holds_what_it_promises() {
    let place = Workplace::new();
    let report = place.finish("run", &[], false);
    for file in [
        "recipe.toml",
        "recipe.resolved.toml",
        "log.jsonl",
        "log.csv",
        "emissions.csv",
        "report.json",
        "report.html",
    ] {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(place.path("run/model").join(file).is_file(), "model/{file}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.path("run/report.json")).unwrap()).unwrap();
    for key in [
        "recipe",
        "device",
        "params",
        "steps",
        "tokens",
        "wall_s",
        "train_loss",
        "val_loss",
        "best_val_loss",
        "val_bits_per_byte",
        "tokens_per_s",
        "mfu",
        "peak_rss_bytes",
        "resumed_from",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["recipe"], "tiny");
    assert_eq!(report.samples.len(), 1);
    let evaluated: Vec<u64> = place.log("run").iter().filter(|r| r.4.is_some()).map(|r| r.0).collect();
    assert_eq!(evaluated, [4, 8, 12]);
    assert_eq!(place.log("run").last().unwrap().4, report.val_loss);
}

#[test]
fn the_validation_loss_is_what_scoring_the_held_back_text_gives() {
    let place = Workplace::new();
    let report = place.finish("run", &[], false);
    let text = std::fs::read_to_string(place.path("text.txt")).unwrap();
    let (_, held_back) = taal_data::split_text(&text, 0.1);
    let dir = place.path("run/checkpoints/step-00000012/model");
    let lm = taal_inference::LanguageModel::open(&dir, &DeviceSpec::Flex.open().unwrap()).unwrap();
    let score = taal_evaluation::evaluate_text(&lm, "held back", held_back).unwrap();
    let loss = score.nats / score.tokens as f64;
    assert_eq!(score.tokens, held_back.chars().count() as u64 - 1);
    assert!(
        (loss - report.val_loss.unwrap()).abs() < 1e-6,
        "{loss} is not {:?}",
        report.val_loss
    );
}

#[test]
fn a_run_directory_is_not_begun_twice_and_not_used_by_two() {
    let place = Workplace::new();
    place.finish("run", &[], false);
    let error = place.run("run", &[], false, &mut Silent).unwrap_err();
    assert!(
        matches!(error, taal_trainer::TrainError::Occupied { is_run: true, .. }),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Usage);
    let lock = taal_store::RunLock::acquire(&place.path("run")).unwrap();
    let error = place.run("run", &[], true, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    drop(lock);
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let place = Workplace::new();
    let unbroken = place.finish("unbroken", &[], false);
    assert!(matches!(
        place.run("run", &[], false, &mut StopAfter::step(7)).unwrap(),
        Outcome::Interrupted(_)
    ));
    let victim = place.path("run/checkpoints/step-00000007/model/model.safetensors");
    let mut bytes = std::fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let mut notes = Notes::default();
    let report = finished(place.run("run", &[], true, &mut notes));
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("step 7") && note.contains("model.safetensors")),
        "{:?}",
        notes.0
    );
    assert_eq!(report.resumed_from, Some(6));
    assert_eq!(report.train_loss, unbroken.train_loss);
    assert_eq!(place.weights("run", 12), place.weights("unbroken", 12));
}

#[test]
fn changed_file_times_change_nothing() {
    use std::time::{Duration, SystemTime};
    let place = Workplace::new();
    place.finish("unbroken", &[], false);
    let now = SystemTime::now();
    let times = [
        now - Duration::from_secs(86_400),
        now + Duration::from_secs(10 * 365 * 86_400),
        SystemTime::UNIX_EPOCH,
    ];
    for (run, time) in ["yesterday", "in ten years", "in 1970"].into_iter().zip(times) {
        place.run(run, &[], false, &mut StopAfter::step(7)).unwrap();
        // The older and the newer checkpoint, and the log, get different times.
        for (name, time) in [
            ("checkpoints/step-00000006", time),
            ("checkpoints/step-00000007", now),
            ("log.jsonl", time),
        ] {
            std::fs::File::open(place.path(run).join(name))
                .and_then(|file| file.set_modified(time))
                .unwrap();
        }
        assert_eq!(place.finish(run, &[], true).resumed_from, Some(7), "{run}");
        assert_eq!(place.weights(run, 12), place.weights("unbroken", 12), "{run}");
    }
}

#[test]
fn a_resumed_run_may_not_change_what_it_learns_and_may_change_how_often_it_saves() {
    let place = Workplace::new();
    place.run("run", &[], false, &mut StopAfter::step(5)).unwrap();
    for set in [
        "train.lr=0.5",
        "seed=9",
        "model.tie_embeddings=true",
        "train.batch_size=4",
        "train.precision=bf16",
    ] {
        let error = place.run("run", &[set], true, &mut Silent).unwrap_err();
        let key = set.split('=').next().unwrap();
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let mut notes = Notes::default();
    place.run("run", &["checkpoint.every=1"], true, &mut notes).unwrap();
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("checkpoint.every changes from 3 to 1")),
        "{:?}",
        notes.0
    );
    assert!(Path::new(&place.path("run/checkpoints/step-00000006")).is_dir());
}

#[test]
fn old_checkpoints_go_and_the_best_stays() {
    let place = Workplace::new();
    let report = place.finish("run", &["checkpoint.every=1", "checkpoint.keep=2"], false);
    let mut steps: Vec<String> = std::fs::read_dir(place.path("run/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    steps.sort();
    let best = report.best_step.unwrap();
    let mut expected: Vec<String> = [best, 11, 12].iter().map(|step| format!("step-{step:08}")).collect();
    expected.sort();
    expected.dedup();
    assert_eq!(steps, expected);
    let shown = std::fs::read(place.path("run/model/model.safetensors")).unwrap();
    assert_eq!(shown, place.weights("run", best));
}

#[test]
fn training_stops_early_when_patience_runs_out() {
    let place = Workplace::new();
    // This learning rate is so large that the loss gets worse at once.
    let sets = [
        "train.patience=1",
        "train.lr=5.0",
        "train.muon_lr=5.0",
        "eval.every=1",
        "train.warmup_steps=0",
    ];
    let report = place.finish("run", &sets, false);
    assert!(report.steps < 12, "{}", report.steps);
    assert_eq!(report.best_step, Some(report.steps - 1));
}

#[test]
fn a_pretrained_model_is_fine_tuned_with_its_own_tokenizer() {
    let place = Workplace::new();
    place.finish("base", &[], false);
    std::fs::write(place.path("domain.txt"), "de hond en de kat; ".repeat(30)).unwrap();
    let text = format!(
        "[data]\nfiles = [\"{}\"]\n[train]\ninit_from = \"{}\"\nsteps = 2\nblock_size = 8\nbatch_size = 2\n[sample]\nmax_tokens = 0\n",
        place.path("domain.txt").display(),
        place.path("base").display()
    );
    let source = typed("domain", text);
    let report = finished(run_recipe(&source, &[], &place.path("domain"), false, &mut Silent));
    // The first loss is that of a trained model, far below the ln(14) of a fresh one.
    let first = place.log("domain")[0].1;
    assert!(first < place.log("base")[0].1 - 0.2, "{first}");
    assert_eq!(report.steps, 2);
    let [base, domain] =
        ["base", "domain"].map(|run| std::fs::read(place.path(run).join("model/tokenizer.json")).unwrap());
    assert_eq!(base, domain);
}

#[test]
fn conversations_are_learned_from_their_completions() {
    let place = Workplace::new();
    let lines: String = (0..40)
        .map(|i| format!("{{\"prompt\": \"{i} en\", \"completion\": \" ja\"}}\n"))
        .collect();
    std::fs::write(place.path("chat.jsonl"), lines).unwrap();
    let text = format!(
        "[data]\nconversations = \"{}\"\n[tokenizer]\nkind = \"bpe\"\nvocab_size = 260\n[model]\nn_layers = 1\nn_heads = 2\nd_model = 16\n\
         [train]\nsteps = 30\nblock_size = 24\nbatch_size = 4\nlr = 1e-2\n",
        place.path("chat.jsonl").display()
    );
    let source = typed("chat", text);
    let report = finished(run_recipe(&source, &[], &place.path("chat"), false, &mut Silent));
    assert!(report.val_loss.unwrap() < 2.0, "{:?}", report.val_loss);
}

#[test]
fn a_text_shorter_than_a_block_is_refused_with_a_solution() {
    let place = Workplace::new();
    std::fs::write(place.path("text.txt"), "te kort om te leren").unwrap();
    let error = place
        .run("run", &["train.block_size=64"], false, &mut Silent)
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("text.txt") && message.contains("block_size"),
        "{message}"
    );
}

#[test]
fn a_recipe_that_could_not_start_does_not_block_its_corrected_version() {
    let place = Workplace::new();
    let error = place
        .run("run", &["data.files=[\"nowhere.txt\"]"], false, &mut Silent)
        .unwrap_err();
    assert!(error.to_string().contains("nowhere.txt"), "{error}");
    assert_eq!(place.finish("run", &[], false).steps, 12);
}
