//! Public reports about recipes, settings and run directories. Each test has the number of the report in the list of
//! issue 15.

use std::path::{Path, PathBuf};

use taal_kernels::DeviceSpec;
use taal_store::ErrorKind;
use taal_trainer::{
    Checkpoints, Claim, DataSource, Outcome, Progress, RecipeText, RunInfo, Silent, TokenizerRecipe, TrainError,
    is_run, latest, resolve, resolve_stored, stored_recipe, train,
};

use crate::watchers::{Notes, StopAfter};
use crate::{finished, options, run_recipe, sets};

fn typed(text: &str) -> RecipeText {
    crate::typed("test", text)
}

fn message(text: &str, settings: &[&str]) -> String {
    resolve(&typed(text), &sets(settings))
        .expect_err("a refusal")
        .to_string()
}

const NAMES: &str = "[data]\ncorpus = \"names\"\n[tokenizer]\nkind = \"char\"\nvocab_size = 100\n";

#[test]
fn report_23_a_setting_of_a_wrong_type_is_refused_in_words() {
    for (setting, words) in [
        ("train.lr=abc", "--set: train.lr: expected a number, got \"abc\""),
        (
            "train.steps=1.5",
            "--set: train.steps: expected a whole number of 0 or more, got 1.5",
        ),
        ("train=5", "--set: train: expected a section with keys"),
        ("data.files=5", "--set: data.files: expected a list"),
        ("train.schedule=step", "got \"step\""),
        ("model.qkv_bias=1", "expected true or false, got 1"),
    ] {
        let said = message(NAMES, &[setting]);
        assert!(said.contains(words), "{setting}: {said}");
    }
    // For every key and value, the message must not name a Rust type.
    for section in [
        "",
        "data.",
        "tokenizer.",
        "model.",
        "train.",
        "masking.",
        "eval.",
        "checkpoint.",
        "health.",
        "sample.",
    ] {
        let known = message(NAMES, &[&format!("{section}no_such_key=1")]);
        let keys: Vec<&str> = known
            .split_once("expected")
            .unwrap()
            .1
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        for key in keys {
            for value in ["abc", "1", "-1", "0.5", "true", "[1]", "{ a = 1 }"] {
                let Err(error) = resolve(&typed(NAMES), &sets(&[&format!("{section}{key}={value}")])) else {
                    continue;
                };
                let said = error.to_string();
                for word in [
                    "struct ",
                    "f64",
                    "u64",
                    "usize",
                    "u32",
                    "Raw",
                    "enum ",
                    "variant",
                    "string or table",
                ] {
                    assert!(!said.contains(word), "{section}{key}={value}: {said}");
                }
            }
        }
    }
}

#[test]
fn report_23_an_error_about_a_set_key_names_the_setting_and_not_the_recipe() {
    let said = message(NAMES, &["train.batch_size=0"]);
    assert!(
        said.starts_with("--set: train.batch_size: expected 1..=4096, got 0"),
        "{said}"
    );
    let said = message(&format!("{NAMES}[train]\nbatch_size = 0\n"), &[]);
    assert!(said.starts_with("test.toml: train.batch_size"), "{said}");
}

#[test]
fn report_23_fewer_steps_shorten_a_warm_up_that_the_recipe_wrote_for_more() {
    for name in ["nanogpt-cpu", "names", "dutch-mlm"] {
        let resolved = resolve(&RecipeText::find(name).unwrap(), &sets(&["train.steps=15"])).unwrap();
        assert_eq!(resolved.recipe.train.schedule.warmup_steps, 1, "{name}");
        assert!(
            resolved
                .notes
                .iter()
                .any(|note| note.contains("train.warmup_steps") && note.contains("train.steps was set to 15")),
            "{:?}",
            resolved.notes
        );
        assert!(
            resolved.text.contains("warmup_steps = 1 # default"),
            "{}",
            resolved.text
        );
    }
    // Values that do not contradict are kept, and so are values that were set together.
    let kept = resolve(&RecipeText::find("nanogpt-cpu").unwrap(), &sets(&["train.steps=150"])).unwrap();
    assert_eq!((kept.recipe.train.schedule.warmup_steps, kept.notes.len()), (100, 0));
    let said = message(NAMES, &["train.steps=50", "train.warmup_steps=60"]);
    assert!(
        said.starts_with("--set: train.warmup_steps: expected 0..=50, got 60"),
        "{said}"
    );
    let low = resolve(&RecipeText::find("nanogpt-cpu").unwrap(), &sets(&["train.lr=1e-5"])).unwrap();
    assert_eq!(low.recipe.train.schedule.min_lr, 1e-5 / 10.0);
}

#[test]
fn report_23_embedded_recipes_take_own_files_and_what_brings_a_tokenizer() {
    let own = sets(&["data.files=[\"mine.txt\"]"]);
    for (name, _) in taal_trainer::embedded() {
        let resolved = resolve(&RecipeText::find(name).unwrap(), &own);
        // An encoder reads what a decoder answers, which running text does not have.
        if name.starts_with("translate-") {
            let said = resolved.unwrap_err().to_string();
            assert!(said.contains("set data.conversations"), "{name}: {said}");
            continue;
        }
        let resolved = resolved.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            resolved.recipe.data.source,
            DataSource::Files(vec![PathBuf::from("mine.txt")]),
            "{name}"
        );
    }
    // 65 tokens are the characters of Shakespeare; other texts have others.
    let resolved = resolve(&RecipeText::find("shakespeare-char").unwrap(), &own).unwrap();
    assert!(matches!(
        resolved.recipe.tokenizer,
        TokenizerRecipe::Train { vocab_size: 4096, .. }
    ));
    assert!(resolved.recipe.sample.prompts.is_empty());
    for setting in [
        "data.shards=\"shards\"",
        "train.init_from=\"runs/x\"",
        "tokenizer.file=\"x.json\"",
        "train.optimizer=\"adamw\"",
    ] {
        let resolved = resolve(&RecipeText::find("shakespeare-char").unwrap(), &sets(&[setting]));
        let resolved = resolved.unwrap_or_else(|error| panic!("{setting}: {error}"));
        assert!(!resolved.notes.is_empty(), "{setting}");
        assert_eq!(
            resolve(&typed(&resolved.text), &[]).unwrap().recipe.train,
            resolved.recipe.train,
            "{setting}"
        );
    }
    let two = message(NAMES, &["data.files=[\"a.txt\"]", "data.shards=\"b\""]);
    assert!(two.contains("exactly one") && two.contains("got 2"), "{two}");
}

const RECIPE: &str = r#"
seed = 3
[data]
files = ["TEXT"]
[tokenizer]
kind = "char"
[model]
preset = "qwen3"
n_layers = 1
n_heads = 2
d_model = 16
[train]
steps = 20
batch_size = 3
block_size = 8
lr = 1e-2
[eval]
every = 100
[checkpoint]
every = 100
[sample]
max_tokens = 0
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
        settings: &[&str],
        is_resume: bool,
        progress: &mut dyn Progress,
    ) -> Result<Outcome, TrainError> {
        let source = typed(&RECIPE.replace("TEXT", &self.path("text.txt").display().to_string()));
        run_recipe(&source, settings, &self.path(run_dir), is_resume, progress)
    }

    fn rates(&self, run_dir: &str) -> Vec<f64> {
        let log = taal_metrics::read_log(&self.path(run_dir).join("log.jsonl")).unwrap();
        log.iter().map(|record| record.lr).collect()
    }
}

#[test]
fn report_20_more_steps_keep_a_derived_warm_up() {
    let place = Workplace::new();
    place.run("run", &[], false, &mut Silent).unwrap();
    let before = place.rates("run");
    let mut notes = Notes::default();
    place.run("run", &["train.steps=60"], true, &mut notes).unwrap();
    assert!(
        notes.0.iter().any(|note| note.contains("train.warmup_steps stays 2")),
        "{:?}",
        notes.0
    );
    let after = place.rates("run");
    assert_eq!((&after[..20], after.len()), (&before[..], 60));
    let stored = stored_recipe(&place.path("run")).unwrap().text;
    assert!(stored.contains("warmup_steps = 2 # kept"), "{stored}");
    // Resumed again, with the same number the third time: what the run itself wrote is not refused.
    place.run("run", &["train.steps=70"], true, &mut Silent).unwrap();
    assert_eq!(place.rates("run").len(), 70);
}

#[test]
fn report_27_a_run_from_before_the_key_keeps_the_line_ends_of_its_text() {
    for is_by_recipe in [true, false] {
        let place = Workplace::new();
        let text = "de kat zat op de mat\r\nen de hond zat op de kat\r\n".repeat(20);
        std::fs::write(place.path("text.txt"), text).unwrap();
        let keep = "data.line_ends=keep";
        place.run("whole", &[keep], false, &mut Silent).unwrap();
        place.run("old", &[keep], false, &mut StopAfter::step(7)).unwrap();
        // As such a run left it, without the key.
        let run = place.path("old");
        let path = run.join("recipe.resolved.toml");
        let stored = std::fs::read_to_string(&path).unwrap();
        let without: Vec<&str> = stored.lines().filter(|line| !line.starts_with("line_ends")).collect();
        assert_eq!(without.len() + 1, stored.lines().count(), "{stored}");
        std::fs::write(&path, without.join("\n") + "\n").unwrap();

        let mut notes = Notes::default();
        if is_by_recipe {
            place.run("old", &[], true, &mut notes).unwrap();
            let said = |note: &String| note.contains("data.line_ends stays \"keep\"");
            assert!(notes.0.iter().any(said), "{:?}", notes.0);
        } else {
            let source = stored_recipe(&run).unwrap();
            let resolved = resolve_stored(&source, &[]).unwrap();
            train(&resolved, &source.text, &options(&run, true), &mut notes).unwrap();
        }
        let weights = |run: &str| std::fs::read(place.path(run).join("model/model.safetensors")).unwrap();
        assert_eq!(weights("old"), weights("whole"));
    }
}

#[test]
fn report_20_fewer_steps_than_done_are_noted() {
    let place = Workplace::new();
    place.run("run", &[], false, &mut Silent).unwrap();
    let mut notes = Notes::default();
    let report = finished(place.run("run", &["train.steps=5"], true, &mut notes));
    assert_eq!((report.steps, report.planned_steps), (20, 5));
    assert!(
        notes
            .0
            .iter()
            .any(|note| note.contains("step 20 is done already") && note.contains("train.steps = 5")),
        "{:?}",
        notes.0
    );
}

#[test]
fn report_20_a_folder_of_another_program_is_not_overwritten() {
    for name in [
        "recipe.toml",
        "report.html",
        "log.csv",
        "emissions.csv",
        "log.jsonl",
        "model",
        "report.json",
    ] {
        let place = Workplace::new();
        std::fs::create_dir(place.path("own")).unwrap();
        if name == "model" {
            std::fs::create_dir(place.path("own/model")).unwrap();
        } else {
            std::fs::write(place.path("own").join(name), "mine").unwrap();
        }
        let error = place.run("own", &[], false, &mut Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read_dir(place.path("own")).unwrap().count(), 1, "{name}");
    }
    // Files with other names do not matter.
    let place = Workplace::new();
    std::fs::create_dir(place.path("own")).unwrap();
    std::fs::write(place.path("own/notes.txt"), "mine").unwrap();
    place.run("own", &["train.steps=1"], false, &mut Silent).unwrap();
    assert!(place.path("own/notes.txt").exists() && is_run(&place.path("own")));
}

#[test]
fn report_24_a_start_that_fails_leaves_no_files() {
    let place = Workplace::new();
    for setting in [
        "data.files=[\"nowhere.txt\"]",
        "train.block_size=5000",
        "model.head_dim=3",
    ] {
        assert!(
            place.run("runs/one", &[setting], false, &mut Silent).is_err(),
            "{setting}"
        );
        assert!(!place.path("runs").exists(), "{setting}");
    }
    // An existing folder is kept, with its contents.
    std::fs::create_dir(place.path("there")).unwrap();
    std::fs::write(place.path("there/notes.txt"), "mine").unwrap();
    assert!(
        place
            .run("there", &["data.files=[\"nowhere.txt\"]"], false, &mut Silent)
            .is_err()
    );
    let names = taal_store::list_dir(&place.path("there")).unwrap();
    assert_eq!(names, ["notes.txt"]);
}

#[test]
fn report_24_the_directory_of_a_killed_start_is_reused() {
    let place = Workplace::new();
    let base = place.path("runs");
    let claim = Claim::next(&base, "my").unwrap();
    assert_eq!(claim.dir(), base.join("my"));
    // Another start at the same time takes the next number.
    let second = Claim::next(&base, "my").unwrap();
    assert_eq!(second.dir(), base.join("my-2"));
    // As after a kill: locks are released, files remain.
    std::fs::write(base.join("my/log.jsonl"), "").unwrap();
    drop((claim, second));
    assert_eq!(Claim::next(&base, "my").unwrap().dir(), base.join("my"));
    assert!(!is_run(&base.join("my")));
    let error = Claim::resume(&base.join("my")).unwrap_err();
    assert!(error.to_string().contains("ended before its first step"), "{error}");
    // A folder of another program is not reused.
    std::fs::create_dir_all(base.join("own")).unwrap();
    std::fs::write(base.join("own/notes.txt"), "mine").unwrap();
    assert_eq!(Claim::next(&base, "own").unwrap().dir(), base.join("own-2"));
}

#[test]
fn report_24_each_of_many_simultaneous_starts_gets_its_own_directory() {
    let place = Workplace::new();
    let base = place.path("runs");
    let claims: Vec<Claim> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| Claim::next(&base, "my").unwrap()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let mut dirs: Vec<&Path> = claims.iter().map(Claim::dir).collect();
    dirs.sort();
    dirs.dedup();
    assert_eq!(dirs.len(), 20);
}

#[test]
fn report_20_the_newest_run_is_found_despite_gaps_and_similar_names() {
    let place = Workplace::new();
    let base = place.path("runs");
    let begin = |recipe: &str| {
        let claim = Claim::next(&base, recipe).unwrap();
        std::fs::write(claim.dir().join("recipe.resolved.toml"), "").unwrap();
        claim.dir().file_name().unwrap().to_str().unwrap().to_string()
    };
    let begun: Vec<String> = ["my", "my", "my-3", "my", "my"].map(begin).to_vec();
    // my-3.toml has its own directory, and the next run of my.toml gets another.
    assert_eq!(begun, ["my", "my-2", "my-3", "my-4", "my-5"]);
    assert_eq!(latest(&base, Some("my")), Some(base.join("my-5")));
    assert_eq!(latest(&base, Some("my-3")), Some(base.join("my-3")));
    std::fs::remove_dir_all(base.join("my-2")).unwrap();
    std::fs::remove_dir_all(base.join("my")).unwrap();
    assert_eq!(latest(&base, Some("my")), Some(base.join("my-5")));
    assert_eq!(begin("my"), "my-6");
    assert_eq!(begin("other"), "other");
    // The clock of a file system may not advance between two starts.
    let resolved = std::fs::File::options()
        .append(true)
        .open(base.join("other/recipe.resolved.toml"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    resolved.unwrap().set_modified(later).unwrap();
    assert_eq!(latest(&base, None), Some(base.join("other")));
    assert_eq!(latest(&base, Some("nothing")), None);
}

#[test]
fn report_24_resuming_nothing_is_an_error_that_lists_what_there_is() {
    let place = Workplace::new();
    let error = place.run("runs/tipo", &[], true, &mut Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("no run to resume here"), "{error}");
    place.run("runs/typo", &[], false, &mut StopAfter::step(3)).unwrap();
    let error = place.run("runs/tipo", &[], true, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("typo (step 3)"), "{error}");
    assert!(!place.path("runs/tipo").exists());
}

#[test]
fn report_26_a_run_that_was_moved_or_copied_continues_and_opens() {
    let place = Workplace::new();
    place.run("run", &[], false, &mut StopAfter::step(5)).unwrap();
    std::fs::create_dir(place.path("far")).unwrap();
    for copy in ["-r", "-rL"] {
        let to = place.path("far").join(copy.trim_start_matches('-'));
        let status = std::process::Command::new("cp")
            .arg(copy)
            .arg(place.path("run"))
            .arg(&to)
            .status()
            .unwrap();
        assert!(status.success());
    }
    std::fs::rename(place.path("run"), place.path("far/moved")).unwrap();
    let device = DeviceSpec::Flex.open().unwrap();
    for name in ["r", "rL", "moved"] {
        let run = format!("far/{name}");
        let open = || taal_inference::LanguageModel::open(&place.path(&run), &device).unwrap();
        open();
        place.run(&run, &[], true, &mut Silent).unwrap();
        assert_eq!(place.rates(&run).len(), 20, "{name}");
        open();
    }
    let weights = |name: &str| std::fs::read(place.path("far").join(name).join("model/model.safetensors")).unwrap();
    assert!(weights("r") == weights("moved") && weights("rL") == weights("moved"));
}

#[test]
fn report_30_opening_a_damaged_checkpoint_reports_the_damage() {
    let place = Workplace::new();
    place.run("run", &[], false, &mut Silent).unwrap();
    let file = Checkpoints::of(&place.path("run"))
        .path(20)
        .join("model/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    // The last mantissa bit of a weight: only the hash can detect this.
    let place_of_bit = bytes.len() - 4;
    bytes[place_of_bit] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let device = DeviceSpec::Flex.open().unwrap();
    for name in [
        "run",
        "run/model",
        "run/checkpoints/step-00000020",
        "run/checkpoints/step-00000020/model",
    ] {
        let error = taal_inference::LanguageModel::open(&place.path(name), &device).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}");
        let said = error.to_string();
        assert!(
            said.contains("wrong hash") && said.contains("step-00000020"),
            "{name}: {said}"
        );
    }
}

#[test]
fn report_30_a_model_opens_while_its_link_changes() {
    let place = Workplace::new();
    place
        .run("run", &["train.steps=2", "checkpoint.every=1"], false, &mut Silent)
        .unwrap();
    let run = place.path("run");
    let link = run.join("model");
    let checkpoints = Checkpoints::of(&run);
    // A trainer that saves, links and removes checkpoints as fast as it can. Each checkpoint is complete.
    let whole = place.path("whole");
    std::fs::rename(checkpoints.path(2), &whole).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 3.. {
                if is_done.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
                let next = checkpoints.path(step);
                std::fs::create_dir_all(next.join("model")).unwrap();
                for file in [
                    "MANIFEST.json",
                    "model/config.json",
                    "model/model.safetensors",
                    "model/text.json",
                    "model/tokenizer.json",
                    "model/tokenizer_config.json",
                ] {
                    std::fs::copy(whole.join(file), next.join(file)).unwrap();
                }
                taal_store::publish_link(&next.join("model"), &link).unwrap();
                taal_store::retire_dir(&checkpoints.path(step - 1)).unwrap();
            }
        });
        // Until the thread has linked its first one, there is none.
        while !link.join("config.json").exists() {
            std::thread::yield_now();
        }
        let device = DeviceSpec::Flex.open().unwrap();
        let opened: Vec<_> = (0..60)
            .map(|_| taal_inference::LanguageModel::open(&run, &device).map(drop))
            .collect();
        is_done.store(true, std::sync::atomic::Ordering::SeqCst);
        let failed: Vec<String> = opened
            .into_iter()
            .filter_map(|found| Some(found.err()?.to_string()))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    });
}

#[test]
fn report_24_opening_a_run_without_a_model_explains_why() {
    let place = Workplace::new();
    let device = DeviceSpec::Flex.open().unwrap();
    let said = |name: &str| {
        taal_inference::LanguageModel::open(&place.path(name), &device)
            .unwrap_err()
            .to_string()
    };
    drop(Claim::next(&place.path("runs"), "my").unwrap());
    assert!(
        said("runs/my").contains("ended before its first step"),
        "{}",
        said("runs/my")
    );
    std::fs::write(place.path("runs/my/recipe.resolved.toml"), "").unwrap();
    assert!(
        said("runs/my").contains("comes with the first checkpoint"),
        "{}",
        said("runs/my")
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("checkpoints/step-00000001/model", place.path("copied")).unwrap();
        assert!(
            said("copied").contains("broken link") && said("copied").contains("cp -rL"),
            "{}",
            said("copied")
        );
    }
}

#[test]
fn report_23_the_number_of_epochs_is_known_before_the_first_step_and_in_the_report() {
    #[derive(Default)]
    struct Watcher(Option<RunInfo>);
    impl Progress for Watcher {
        fn begin(&mut self, run: &RunInfo) {
            self.0 = Some(run.clone());
        }
    }
    let place = Workplace::new();
    let mut watcher = Watcher::default();
    let report = finished(place.run("run", &[], false, &mut watcher));
    let info = watcher.0.unwrap();
    let expected = (20 * 3 * 8) as f64 / info.train_tokens as f64;
    assert_eq!((info.epochs, report.epochs), (expected, expected));
    assert!(
        report.mfu > 0.0 && report.mfu <= 1.0 && report.peak_flops_per_s > 0.0,
        "{report:?}"
    );
}

#[test]
fn report_23_evaluation_is_limited_to_the_first_validation_tokens() {
    let place = Workplace::new();
    let outcome = |run_dir: &str, settings: &[&str], is_resume: bool| {
        finished(place.run(run_dir, settings, is_resume, &mut Silent))
    };
    let whole = outcome("whole", &[], false);
    let part = outcome("part", &["eval.max_tokens=30"], false);
    assert_eq!(whole.val_tokens.map(|tokens| tokens > 60), Some(true));
    // The first token has no token before it, in a part as in the whole.
    assert_eq!(part.val_tokens, Some(29));
    assert_eq!(part.train_loss, whole.train_loss);
    // The beginning of the validation text is scored, with its own number of bytes.
    let text = std::fs::read_to_string(place.path("text.txt")).unwrap();
    let (_, held_back) = taal_data::split_text(&text, 0.1);
    let lm = taal_inference::LanguageModel::open(&place.path("part"), &DeviceSpec::Flex.open().unwrap()).unwrap();
    let score = taal_evaluation::evaluate_text(&lm, "held back", &held_back[..30]).unwrap();
    assert!((score.nats / score.tokens as f64 - part.val_loss.unwrap()).abs() < 1e-6);
    // It may change on resume, as the other keys of [eval] may.
    let more = outcome("part", &["eval.max_tokens=50", "train.steps=22"], true);
    assert_eq!(more.val_tokens, Some(49));
    let said = message(NAMES, &["eval.max_tokens=1"]);
    assert!(said.contains("eval.max_tokens: expected 2..="), "{said}");
}
