//! `cargo xtask crash`: the fault tests with many cases and their figures, and the proof that they can fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::command::{run, show};
use crate::workspace::Workspace;

/// Arguments of `cargo xtask crash`.
#[derive(Debug, Args)]
pub struct Crash {
    /// SIGKILLs, and as many SIGTERMs and SIGINTs, of real training
    #[arg(long, default_value_t = 200)]
    kills: u64,
    /// Flipped bits of a checkpoint, and as many of a folder of shards
    #[arg(long, default_value_t = 10_000)]
    flips: u64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Break one guarantee at a time on purpose: each must make a test fail
    #[arg(long)]
    mutants: bool,
    /// Write the figures into docs/faults.md
    #[arg(long, conflicts_with = "mutants")]
    write: bool,
}

/// The test programs: their name as a target, and the tests in them.
const SIMULATED: (&str, &str) = ("trainer", "faults::");
const PROCESSES: (&str, &str) = ("faults", "");

/// Each guarantee that can be broken on purpose, with the test program and the test that must notice it.
const MUTANTS: [(&str, &str, &str); 19] = [
    ("file-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("file-dir-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("tree-file-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("tree-dir-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("tree-parent-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("create-dir-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("log-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("link-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("retire-fsync", "trainer", "after_a_crash_at_any_file_operation"),
    ("no-temporary", "trainer", "after_a_crash_at_any_file_operation"),
    ("prune-first", "trainer", "after_a_crash_at_any_file_operation"),
    ("manifest-check", "trainer", "in_a_checkpoint_goes_unnoticed"),
    ("shard-check", "trainer", "in_token_shards_goes_unnoticed"),
    ("lock", "faults", "exactly_one_runs"),
    ("multiply-bad-step", "trainer", "changes_no_bit_of_weights_and_moments"),
    ("save-non-finite", "trainer", "not_finite_is_never_saved"),
    ("data-check", "trainer", "a_text_that_changed"),
    ("no-second-save", "trainer", "a_full_or_broken_disk"),
    ("restart-data", "trainer", "stops_at_any_of_them"),
];

/// A figure from a test.
#[derive(Debug, Deserialize)]
struct Figure {
    row: String,
    cases: u64,
    result: String,
}

pub fn crash(workspace: &Workspace, crash: &Crash) -> Result<()> {
    let programs = Programs::build(workspace)?;
    if crash.mutants {
        return mutants(&programs, crash);
    }
    let began = Instant::now();
    let figures = programs.folder.join("crash-figures.jsonl");
    let _ = fs::remove_file(&figures);
    let mut outcome = Ok(());
    for program in [SIMULATED, PROCESSES] {
        let mut command = programs.command(program.0, program.1)?;
        command
            .env("TAAL_CRASH_SEED", crash.seed.to_string())
            .env("TAAL_CRASH_KILLS", crash.kills.to_string())
            .env("TAAL_CRASH_FLIPS", crash.flips.to_string())
            .env("TAAL_CRASH_CASES", "1000")
            .env("TAAL_CRASH_SAVES", "1000")
            .env("TAAL_CRASH_STEP_FAULTS", "100")
            .env("TAAL_CRASH_FIGURES", &figures);
        // All figures are useful, even when one test fails.
        outcome = outcome.and(run(&mut command));
    }
    let table = table(&figures, crash)?;
    println!("{table}\nseed {}, {:.0} s", crash.seed, began.elapsed().as_secs_f64());
    outcome?;
    if crash.write {
        write_between_marks(&workspace.root().join("docs/faults.md"), &table)?;
    }
    Ok(())
}

fn table(figures: &Path, crash: &Crash) -> Result<String> {
    let text = fs::read_to_string(figures).with_context(|| format!("no figures in {}", figures.display()))?;
    let mut rows: Vec<Figure> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| figures.display().to_string())?;
    // Tests run in parallel, so their order is random.
    rows.sort_by(|a, b| a.row.cmp(&b.row));
    let mut table = format!(
        "`cargo xtask crash --kills {} --flips {} --seed {}`:\n\n| fault | cases | result |\n|---|---:|---|\n",
        crash.kills, crash.flips, crash.seed
    );
    for row in rows {
        table.push_str(&format!("| {} | {} | {} |\n", row.row, grouped(row.cases), row.result));
    }
    Ok(table)
}

/// 12345 as `12,345`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const BEGIN: &str = "<!-- figures of cargo xtask crash -->\n";
const END: &str = "<!-- end of figures -->";

fn write_between_marks(path: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let marks = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) =
        marks.with_context(|| format!("{}: the marks around the figures are missing", path.display()))?;
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}

fn mutants(programs: &Programs, crash: &Crash) -> Result<()> {
    // Without mutants the same tests must pass: otherwise a failure proves nothing.
    for program in [SIMULATED, PROCESSES] {
        let mut command = programs.command(program.0, program.1)?;
        run(command
            .env("TAAL_CRASH_SEED", crash.seed.to_string())
            .env("TAAL_CRASH_FLIPS", "300"))?;
    }
    let mut survivors = Vec::new();
    for (mutant, program, test) in MUTANTS {
        let mut command = programs.command(program, test)?;
        command
            .env("TAAL_MUTANT", mutant)
            .env("TAAL_CRASH_SEED", crash.seed.to_string())
            .env("TAAL_CRASH_FLIPS", "300")
            .env("RUST_BACKTRACE", "0");
        show(&command);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("a test program does not start")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(!said.contains("running 0 tests"), "{mutant}: no test is called {test}");
        let is_noticed = !output.status.success() && said.contains("test result: FAILED");
        println!("{mutant}: {}", if is_noticed { "noticed" } else { "SURVIVED" });
        if !is_noticed {
            survivors.push(mutant);
        }
    }
    if !survivors.is_empty() {
        bail!("no test noticed {}", survivors.join(", "));
    }
    println!("all {} mutants were noticed", MUTANTS.len());
    Ok(())
}

/// The built test programs, and a folder for their output.
struct Programs {
    root: PathBuf,
    folder: PathBuf,
    built: Vec<(String, PathBuf, PathBuf)>,
}

/// A line of cargo's `--message-format=json`.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    target: Option<Target>,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    manifest_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Programs {
    fn build(workspace: &Workspace) -> Result<Self> {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--workspace"]).args(workspace.features());
        cargo.args(["--test", SIMULATED.0, "--test", PROCESSES.0, "--no-run"]);
        cargo.arg("--message-format=json-render-diagnostics");
        show(&cargo);
        let output = cargo
            .stderr(Stdio::inherit())
            .output()
            .context("cargo does not start")?;
        ensure!(output.status.success(), "the test programs do not build");
        let mut built = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let message: Message = serde_json::from_str(line).context("cargo printed something that is not JSON")?;
            if let (Some(target), Some(executable), Some(manifest)) =
                (message.target, message.executable, message.manifest_path)
                && target.kind == ["test"]
            {
                built.push((target.name, executable, manifest));
            }
        }
        Ok(Self {
            root: workspace.root().to_path_buf(),
            folder: workspace.metadata()?.target_directory,
            built,
        })
    }

    /// A test program as cargo runs it, from its package's folder.
    fn command(&self, name: &str, filter: &str) -> Result<Command> {
        let found = self.built.iter().find(|(built, _, _)| built == name);
        let (_, executable, manifest) = found.with_context(|| format!("cargo built no test program {name}"))?;
        let mut command = Command::new(executable);
        command.current_dir(manifest.parent().unwrap_or(&self.root));
        if !filter.is_empty() {
            command.arg(filter);
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_is_in_the_list_of_mutants() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let mut known = BTreeSet::new();
        for folder in ["store/src", "data/src", "trainer/src", "trainer/src/step"].map(|name| crates.join(name)) {
            for entry in fs::read_dir(&folder).expect("sources") {
                let path = entry.expect("a file").path();
                let text = fs::read_to_string(path).unwrap_or_default();
                let calls = text.split("is_broken(\"").skip(1);
                known.extend(calls.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
        let tested: BTreeSet<String> = MUTANTS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        assert_eq!(tested, known);
        assert_eq!(tested.len(), MUTANTS.len());
    }

    #[test]
    fn figures_replace_those_between_the_marks() {
        let dir = std::env::temp_dir().join(format!("xtask-crash-{}", std::process::id()));
        fs::write(&dir, format!("before\n{BEGIN}old\n{END}\nafter\n")).expect("a file");
        write_between_marks(&dir, "new").expect("marks");
        let text = fs::read_to_string(&dir).expect("a file");
        fs::remove_file(&dir).expect("no file");
        assert_eq!(text, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
