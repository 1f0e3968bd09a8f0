//! `cargo xtask bench`: criterion, the roofline of the kernels, and comparison of them with an earlier commit.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::Bench;
use crate::command::run;
use crate::pairs;
use crate::revision::{Worktree, resolve};
use crate::workspace::Workspace;

/// The file to which the kernels' benchmark writes the machine's peaks.
const MACHINE: &str = "machine.json";

/// Runs the benchmarks of the package `taal-benches`; with `--against`, those of another commit first, or without a filter both
/// programs alternately.
pub fn bench(workspace: &Workspace, bench: &Bench) -> Result<()> {
    if let (Some(revision), None) = (&bench.against, &bench.filter) {
        return pairs::compare(workspace, revision, bench.pairs.into());
    }
    let home = workspace.metadata()?.target_directory.join("criterion");
    match &bench.against {
        None => criterion(workspace, workspace.root(), &home, bench, &[])?,
        Some(revision) => {
            let commit = resolve(workspace, revision)?;
            let baseline = format!("commit-{commit}");
            let tree = Worktree::add(workspace, &commit)?;
            criterion(workspace, &tree.path, &home, bench, &["--save-baseline", &baseline])?;
            drop(tree);
            criterion(
                workspace,
                workspace.root(),
                &home,
                bench,
                &["--baseline-lenient", &baseline],
            )?;
        }
    }
    if let Some(table) = roofline(&home)? {
        print!("{table}");
    }
    Ok(())
}

fn criterion(workspace: &Workspace, root: &Path, home: &Path, bench: &Bench, more: &[&str]) -> Result<()> {
    let is_source = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let files = workspace.names_in("benches/benches", is_source)?;

    let mut command = workspace.cargo();
    command.current_dir(root).env("CRITERION_HOME", home);
    command.args(["bench", "--package", "taal-benches"]);
    if let Some(features) = &bench.features {
        command.args(["--features", features]);
    }
    // Naming bench targets excludes the library's test harness, which does not accept criterion's options.
    match &bench.filter {
        Some(file) if files.contains(file) => command.args(["--bench", file, "--"]),
        Some(filter) => command.args(["--bench", "*", "--", filter]),
        None => command.args(["--bench", "*", "--"]),
    };
    run(command.args(more).args(&bench.args))
}

/// The machine's peaks, as the benchmark measured them.
#[derive(Debug, Deserialize)]
struct Machine {
    flops_per_s: f64,
    bytes_per_s: f64,
}

#[derive(Debug, Deserialize)]
struct Description {
    full_id: String,
    throughput: Option<Throughput>,
}

/// The work and memory traffic of one pass of a kernel.
#[derive(Debug, Deserialize)]
struct Throughput {
    #[serde(rename = "ElementsAndBytes")]
    work: Option<Work>,
}

#[derive(Debug, Deserialize)]
struct Work {
    /// Floating-point operations.
    elements: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    /// Nanoseconds.
    point_estimate: f64,
}

/// A table of every kernel with known work and traffic: its rates, and its share of the roofline. `None` if no kernel was
/// measured.
fn roofline(home: &Path) -> Result<Option<String>> {
    let Ok(text) = fs::read_to_string(home.join(MACHINE)) else {
        return Ok(None);
    };
    let machine: Machine = serde_json::from_str(&text).with_context(|| format!("cannot read {MACHINE}"))?;
    let mut rows = Vec::new();
    collect(home, &machine, &mut rows)?;
    rows.sort();
    let mut table = format!(
        "\nroofline: {:.0} GFLOP/s, {:.0} GB/s\n{:<58} {:>10} {:>9} {:>7} {:>6}\n",
        machine.flops_per_s / 1e9,
        machine.bytes_per_s / 1e9,
        "kernel",
        "time",
        "GFLOP/s",
        "GB/s",
        "share"
    );
    rows.iter().for_each(|row| table.push_str(row));
    Ok(Some(table))
}

fn collect(folder: &Path, machine: &Machine, rows: &mut Vec<String>) -> Result<()> {
    let new = folder.join("new");
    if new.join("estimates.json").is_file() {
        let description: Description = read(&new.join("benchmark.json"))?;
        let estimates: Estimates = read(&new.join("estimates.json"))?;
        if let Some(work) = description.throughput.and_then(|throughput| throughput.work) {
            rows.push(row(
                &description.full_id,
                &work,
                estimates.median.point_estimate / 1e9,
                machine,
            ));
        }
        return Ok(());
    }
    for entry in folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry
            .with_context(|| format!("cannot list {}", folder.display()))?
            .path();
        if path.is_dir() {
            collect(&path, machine, rows)?;
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}

fn row(id: &str, work: &Work, seconds: f64, machine: &Machine) -> String {
    let (flops, bytes) = (work.elements as f64, work.bytes as f64);
    let bound = (flops / machine.flops_per_s).max(bytes / machine.bytes_per_s);
    format!(
        "{id:<58} {:>7.1} us {:>9.1} {:>7.1} {:>5.0}%\n",
        seconds * 1e6,
        flops / seconds / 1e9,
        bytes / seconds / 1e9,
        100.0 * bound / seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_that_of_the_tighter_bound() {
        let machine = Machine {
            flops_per_s: 100e9,
            bytes_per_s: 10e9,
        };
        // 1 us of computing, 2 us of memory, done in 4 us.
        let work = Work {
            elements: 100_000,
            bytes: 20_000,
        };
        let row = row("kernels/x", &work, 4e-6, &machine);
        assert!(
            row.contains("4.0 us") && row.contains("25.0") && row.contains("5.0") && row.ends_with("50%\n"),
            "{row}"
        );
    }
}
