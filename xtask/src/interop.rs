//! `cargo xtask interop`: opens models of Hugging Face's `transformers` with Taal, and Taal's with `transformers` and optionally
//! llama.cpp, and compares their logits; also compares `taal`'s outputs for texts with those of `transformers` and
//! `sentence-transformers`, and lets other programs ask `taal serve`.
//!
//! All files are in `interop` in the target folder: virtual environments of Python with the pinned packages of
//! `xtask/interop/requirements*.txt`, kept from one call to the next, and the models of the last call.

mod load;
mod talk;
mod texts;
mod weights;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::command::run;
use crate::workspace::Workspace;

/// The largest allowed difference of two logits, both computed in fp32 and of the order of 1.
const TOLERANCE: f32 = 1e-4;

/// The same for GPT-2 in llama.cpp, whose table of GELU has 16-bit floats.
const LLAMA_CPP_GELU_TOLERANCE: f32 = 1e-2;

/// The families that are compared with llama.cpp.
const LLAMA_CPP_FAMILIES: [&str; 4] = ["gpt2", "llama", "qwen2", "qwen3"];

/// The name of the comparison of texts among the families.
const TEXTS: &str = "texts";

/// The name of the comparison of weights in fewer bits among the families.
const WEIGHTS: &str = "weights";

/// The name of the comparison of servers under load among the families.
const LOAD: &str = "load";

/// The name of the programs that ask the server among the families.
const TALK: &str = "talk";

/// The families that are compared, and whether Taal writes them.
const FAMILIES: [(&str, bool); 9] = [
    ("gpt2", true),
    ("llama", true),
    ("mistral", true),
    ("qwen2", true),
    ("qwen3", true),
    ("bert", true),
    ("roberta", false),
    ("distilbert", false),
    ("modernbert", true),
];

/// Arguments of `cargo xtask interop`.
#[derive(Debug, Args)]
pub struct Interop {
    /// Families (default: all): gpt2, llama, mistral, qwen2, qwen3, bert, roberta, distilbert, modernbert; texts, for the
    /// outputs of the program `taal`; and, only if named, weights, for a model in fewer bits in Taal and llama.cpp:
    /// distance to fp32, perplexity, speed; load, for tokens per second of both servers with many clients; and talk, for
    /// the openai client, schemathesis and lm-evaluation-harness at `taal serve`
    families: Vec<String>,
    /// A Python that has the packages, instead of a new one in the target folder (PIP_EXTRA_INDEX_URL may name an index
    /// with smaller builds of torch)
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// A program `taal` to compare texts with, instead of building one
    #[arg(long, value_name = "PATH")]
    taal: Option<PathBuf>,
    /// Also open Taal's GGUF files with llama.cpp, whose Python package is built from source: some minutes the first
    /// time
    #[arg(long)]
    llama_cpp: bool,
    /// A Python that has llama-cpp-python and gguf, instead of a new one in the target folder
    #[arg(long, value_name = "PATH", requires = "llama_cpp")]
    llama_cpp_python: Option<PathBuf>,
    /// A folder with built libraries of llama.cpp; the Python then needs only the Python files of llama-cpp-python
    #[arg(long, value_name = "DIR", requires = "llama_cpp_python")]
    llama_cpp_libraries: Option<PathBuf>,
    /// The trained model for weights: a model or run directory of a family that llama.cpp has; for load a GGUF file
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The text for weights
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Leaves out the speeds of weights, which only an idle machine can measure
    #[arg(long)]
    without_speeds: bool,
    /// llama.cpp's server, for load; nothing of it is built here
    #[arg(long, value_name = "PATH")]
    llama_server: Option<PathBuf>,
    /// Threads of each server, for load
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
}

/// Which program wrote the models, and which opened them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    IntoTaal,
    OutToTransformers,
    OutToLlamaCpp,
}

impl Direction {
    fn folder(self) -> &'static str {
        match self {
            Self::IntoTaal => "to-taal",
            Self::OutToTransformers => "to-transformers",
            Self::OutToLlamaCpp => "to-llama.cpp",
        }
    }

    /// The program other than Taal, as in file names.
    fn other_side(self) -> &'static str {
        match self {
            Self::IntoTaal | Self::OutToTransformers => "transformers",
            Self::OutToLlamaCpp => "llama.cpp",
        }
    }

    fn tolerance(self, family: &str) -> f32 {
        match (self, family) {
            (Self::OutToLlamaCpp, "gpt2") => LLAMA_CPP_GELU_TOLERANCE,
            _ => TOLERANCE,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IntoTaal => "transformers -> Taal",
            Self::OutToTransformers => "Taal -> transformers",
            Self::OutToLlamaCpp => "Taal -> llama.cpp",
        })
    }
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    family: &'static str,
    direction: Direction,
    cases: usize,
    /// The largest difference and its case.
    largest: (f32, String),
    /// The errors, with their cases.
    wrong: Vec<String>,
}

/// Makes the models, opens them with the other program, prints the table and fails if a tolerance is exceeded.
pub fn interop(workspace: &Workspace, interop: &Interop) -> Result<()> {
    let chosen = chosen(&interop.families)?;
    let folder = workspace.metadata()?.target_directory.join("interop");
    if interop.families.iter().any(|family| family == WEIGHTS) {
        return in_fewer_bits(workspace, interop, &folder);
    }
    if interop.families.iter().any(|family| family == LOAD) {
        return under_load(workspace, interop);
    }
    if interop.families.iter().any(|family| family == TALK) {
        return by_others(workspace, interop, &folder);
    }
    let python = match &interop.python {
        Some(python) => python.clone(),
        None => environment(workspace, &folder, "venv", "requirements.txt")?,
    };
    let mut rows = Vec::new();
    if !chosen.is_empty() {
        rows = logits(workspace, interop, &folder, &python, &chosen)?;
        print!("{}", table(&rows));
    }
    let mut cases = Vec::new();
    if is_chosen(&interop.families, TEXTS) {
        let folder = folder.join(TEXTS);
        emptied(&folder)?;
        run(script(workspace, &python, "make_texts.py").arg(&folder))?;
        let taal = match &interop.taal {
            Some(taal) => fs::canonicalize(taal).with_context(|| format!("cannot find {}", taal.display()))?,
            None => program(workspace)?,
        };
        cases = texts::compare(&taal, &folder)?;
        print!("{}", texts::table(&cases));
    }
    let wrong = rows.iter().flat_map(|row| &row.wrong);
    let wrong: Vec<&str> = wrong
        .chain(cases.iter().filter_map(|case| case.wrong.as_ref()))
        .map(String::as_str)
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Opens the models of the chosen families with the other program, in both directions.
fn logits(
    workspace: &Workspace,
    interop: &Interop,
    folder: &Path,
    python: &Path,
    chosen: &[(&'static str, bool)],
) -> Result<Vec<Row>> {
    let taal = example(workspace)?;
    let [to_taal, to_transformers] = [Direction::IntoTaal, Direction::OutToTransformers].map(|direction| {
        let folder = folder.join(direction.folder());
        emptied(&folder).map(|()| folder)
    });
    let (to_taal, to_transformers) = (to_taal?, to_transformers?);

    let names: Vec<&str> = chosen.iter().map(|(family, _)| *family).collect();
    run(script(workspace, python, "make_models.py").arg(&to_taal).args(&names))?;
    run(Command::new(&taal).arg("open").arg(&to_taal))?;
    let written: Vec<&str> = chosen
        .iter()
        .filter(|(_, is_written)| *is_written)
        .map(|(family, _)| *family)
        .collect();
    if !written.is_empty() {
        run(Command::new(&taal).arg("make").arg(&to_transformers).args(&written))?;
        run(script(workspace, python, "open_models.py").arg(&to_transformers))?;
    }

    let mut rows = Vec::new();
    for (family, is_written) in chosen {
        rows.push(row(&to_taal, family, Direction::IntoTaal)?);
        if *is_written {
            rows.push(row(&to_transformers, family, Direction::OutToTransformers)?);
        }
    }
    if interop.llama_cpp {
        rows.extend(llama_cpp(workspace, interop, folder, &taal, &names)?);
    }
    Ok(rows)
}

/// Compares a trained model in fewer bits with llama.cpp.
fn in_fewer_bits(workspace: &Workspace, interop: &Interop, folder: &Path) -> Result<()> {
    ensure!(
        interop.llama_cpp && interop.families.len() == 1,
        "weights are compared alone, with --llama-cpp"
    );
    let (Some(model), Some(text)) = (&interop.model, &interop.text) else {
        bail!("weights need --model DIR of a trained model and --text FILE");
    };
    let python = llama_cpp_python(workspace, interop, folder)?;
    let taal = match &interop.taal {
        Some(taal) => taal.clone(),
        None => program(workspace)?,
    };
    let [taal, model, text] = [&taal, model, text]
        .map(|path| fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display())));
    let folder = folder.join(WEIGHTS);
    emptied(&folder)?;
    let programs = weights::Programs {
        taal: &taal?,
        example: &example(workspace)?,
        script: &|name| llama_cpp_script(workspace, interop, &python, name),
    };
    weights::compare(&programs, [&model?, &text?, &folder], !interop.without_speeds)
}

/// Compares `taal serve` with llama.cpp's server under the same load.
fn under_load(workspace: &Workspace, interop: &Interop) -> Result<()> {
    let (Some(llama_server), Some(model), 1) = (&interop.llama_server, &interop.model, interop.families.len()) else {
        bail!("load is compared alone, with --llama-server PATH and --model FILE.gguf");
    };
    let taal = match &interop.taal {
        Some(taal) => taal.clone(),
        None => program(workspace)?,
    };
    let found = |path: &Path| fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()));
    load::compare(&load::Load {
        taal: &found(&taal)?,
        llama_server: &found(llama_server)?,
        model: &found(model)?,
        threads: interop.threads.max(1),
    })
}

/// Lets programs of others ask `taal serve`.
fn by_others(workspace: &Workspace, interop: &Interop, folder: &Path) -> Result<()> {
    ensure!(interop.families.len() == 1, "talk is compared alone");
    let python = match &interop.python {
        Some(python) => python.clone(),
        None => environment(workspace, folder, "venv-talk", "requirements-talk.txt")?,
    };
    let taal = match &interop.taal {
        Some(taal) => fs::canonicalize(taal).with_context(|| format!("cannot find {}", taal.display()))?,
        None => program(workspace)?,
    };
    let folder = folder.join(TALK);
    emptied(&folder)?;
    talk::compare(&talk::Talk {
        taal: &taal,
        python: &python,
        workspace,
        folder: &folder,
    })
}

fn llama_cpp_python(workspace: &Workspace, interop: &Interop, folder: &Path) -> Result<PathBuf> {
    match &interop.llama_cpp_python {
        Some(python) => Ok(python.clone()),
        None => environment(workspace, folder, "venv-llama-cpp", "requirements-llama-cpp.txt"),
    }
}

fn llama_cpp_script(workspace: &Workspace, interop: &Interop, python: &Path, name: &str) -> Command {
    let mut command = script(workspace, python, name);
    if let Some(libraries) = &interop.llama_cpp_libraries {
        command.env("LLAMA_CPP_LIB_PATH", libraries);
    }
    command
}

/// Opens Taal's models of the chosen families with llama.cpp.
fn llama_cpp(
    workspace: &Workspace,
    interop: &Interop,
    folder: &Path,
    taal: &Path,
    chosen: &[&str],
) -> Result<Vec<Row>> {
    let families: Vec<&str> = LLAMA_CPP_FAMILIES
        .into_iter()
        .filter(|family| chosen.contains(family))
        .collect();
    if families.is_empty() {
        return Ok(Vec::new());
    }
    let python = llama_cpp_python(workspace, interop, folder)?;
    let folder = folder.join(Direction::OutToLlamaCpp.folder());
    emptied(&folder)?;
    run(Command::new(taal).arg("gguf").arg(&folder).args(&families))?;
    run(llama_cpp_script(workspace, interop, &python, "open_gguf.py").arg(&folder))?;
    families
        .into_iter()
        .map(|family| row(&folder, family, Direction::OutToLlamaCpp))
        .collect()
}

fn chosen(families: &[String]) -> Result<Vec<(&'static str, bool)>> {
    for family in families {
        if ![TEXTS, WEIGHTS, LOAD, TALK].contains(&family.as_str()) && !FAMILIES.iter().any(|(name, _)| name == family)
        {
            bail!(
                "no family `{family}`; there are: {}, {TEXTS}, {WEIGHTS}, {LOAD}, {TALK}",
                FAMILIES.map(|(name, _)| name).join(", ")
            );
        }
    }
    let chosen = FAMILIES.into_iter().filter(|(name, _)| is_chosen(families, name));
    Ok(chosen.collect())
}

fn is_chosen(families: &[String], name: &str) -> bool {
    families.is_empty() || families.iter().any(|family| family == name)
}

/// The Python of a virtual environment with the pinned packages; set up if it is missing or has other packages.
fn environment(workspace: &Workspace, folder: &Path, name: &str, requirements: &str) -> Result<PathBuf> {
    let requirements = workspace.root().join("xtask/interop").join(requirements);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = folder.join(name);
    let python = match cfg!(windows) {
        true => venv.join("Scripts/python.exe"),
        false => venv.join("bin/python"),
    };
    // Written last, so an environment without it is incomplete.
    let stamp = venv.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|present| present == wanted) {
        return Ok(python);
    }
    let system = if cfg!(windows) { "python" } else { "python3" };
    run(Command::new(system).args(["-m", "venv", "--clear"]).arg(&venv))
        .context("this needs Python 3 with its module venv; or name one that has the packages with --python")?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&requirements))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// Builds Taal's side, the example `interop` of the exchange crate, and returns its path.
fn example(workspace: &Workspace) -> Result<PathBuf> {
    // The whole workspace is named because the features of Burn depend on the named packages, and those of the tests are already
    // built.
    run(workspace
        .cargo()
        .args(["build", "--workspace", "--example", "interop"])
        .args(workspace.features()))?;
    let name = format!("interop{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.metadata()?.target_directory.join("debug/examples").join(name))
}

/// Builds the program itself, and returns its path.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    run(workspace
        .cargo()
        .args(["build", "--workspace", "--bin", "taal"])
        .args(workspace.features()))?;
    let name = format!("taal{}", std::env::consts::EXE_SUFFIX);
    Ok(workspace.metadata()?.target_directory.join("debug").join(name))
}

fn script(workspace: &Workspace, python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    // Nothing is downloaded, even if a model asks for it, and nothing is written next to the scripts.
    command
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(workspace.root().join("xtask/interop").join(name));
    command
}

fn emptied(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// Compares all cases of a family.
fn row(folder: &Path, family: &'static str, direction: Direction) -> Result<Row> {
    let folder = folder.join(family);
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    let mut cases: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    cases.sort();
    let mut row = Row {
        family,
        direction,
        cases: cases.len(),
        largest: (0.0, String::new()),
        wrong: Vec::new(),
    };
    ensure!(!cases.is_empty(), "no case in {}", folder.display());
    for case in cases {
        let name = case.file_name().unwrap_or_else(|| OsStr::new("")).display().to_string();
        match difference(&case, direction.other_side()) {
            Ok(difference) => {
                if difference.total_cmp(&direction.tolerance(family)).is_ge() {
                    row.wrong
                        .push(format!("{direction}: {family}/{name} differs by {difference:e}"));
                }
                if row.largest.1.is_empty() || difference.total_cmp(&row.largest.0).is_gt() {
                    row.largest = (difference, name);
                }
            }
            Err(error) => row.wrong.push(format!("{direction}: {family}/{name}: {error:#}")),
        }
    }
    Ok(row)
}

/// The largest difference of the two sides' logits of one case.
fn difference(case: &Path, other_side: &str) -> Result<f32> {
    let [taal, other] = ["taal", other_side].map(|side| {
        if let Ok(error) = fs::read_to_string(case.join(format!("{side}.error"))) {
            bail!("{side} does not open it: {error}");
        }
        numbers(&case.join(format!("{side}.bin")))
    });
    let (taal, other) = (taal?, other?);
    ensure!(
        taal.len() == other.len() && !taal.is_empty(),
        "Taal has {} logits and {other_side} {}",
        taal.len(),
        other.len()
    );
    Ok(largest_difference(&taal, &other))
}

/// The 32-bit floats of a file.
fn numbers(path: &Path) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (values, _) = bytes.as_chunks();
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// NaN if any logit is NaN; in the total order of floats it is above every number.
fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    let differences = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
    differences.max_by(f32::total_cmp).unwrap_or(0.0)
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| family | direction | cases | largest difference of logits | in |\n|---|---|---:|---:|---|\n");
    for row in rows {
        let (difference, case) = &row.largest;
        let broken = if row.wrong.is_empty() { "" } else { ", broken" };
        text += &format!(
            "| {} | {} | {} | {difference:.1e} | {case}{broken} |\n",
            row.family, row.direction, row.cases
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_not_a_number_stays_visible() {
        assert_eq!(largest_difference(&[1.0, 2.0], &[1.5, 2.25]), 0.5);
        assert!(largest_difference(&[1.0, f32::NAN], &[1.5, 2.25]).is_nan());
        assert!(largest_difference(&[f32::INFINITY, 1.0], &[f32::INFINITY, 1.0]).is_nan());
    }

    #[test]
    fn unknown_families_are_named() {
        let error = chosen(&["gpt3".to_owned()]).expect_err("no such family");
        assert!(error.to_string().contains("gpt3") && error.to_string().contains("gpt2, llama"));
        assert_eq!(chosen(&[]).expect("all").len(), FAMILIES.len());
        assert_eq!(chosen(&["bert".to_owned()]).expect("one"), [("bert", true)]);
    }

    #[test]
    fn a_case_that_does_not_open_or_differs_breaks_its_row() {
        let folder = std::env::temp_dir().join(format!("taal-interop-{}", std::process::id()));
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join("bert").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        };
        let one = 1.0_f32.to_le_bytes();
        for (name, bytes) in [
            ("equal/taal.bin", one),
            ("equal/transformers.bin", one),
            ("refused/taal.bin", one),
        ] {
            write(name, &bytes);
        }
        write("refused/transformers.error", b"no");
        write("other/taal.bin", &one);
        write("other/transformers.bin", &1.01_f32.to_le_bytes());
        let row = row(&folder, "bert", Direction::OutToTransformers).expect("a row");
        fs::remove_dir_all(&folder).expect("a folder");
        assert_eq!((row.cases, row.largest.1.as_str()), (3, "other"));
        assert_eq!(row.wrong.len(), 2, "{:?}", row.wrong);
        assert!(
            row.wrong[0].contains("bert/other differs") && row.wrong[1].contains("transformers does not open it: no")
        );
        assert!(table(&[row]).contains("| bert | Taal -> transformers | 3 | 1.0e-2 | other, broken |"));
    }
}
