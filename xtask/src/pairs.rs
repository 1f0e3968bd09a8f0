//! `cargo xtask bench --against REF`: the speed of two commits' `taal`, measured alternately.
//!
//! A machine's speed drifts by several percent within minutes, so the two programs alternate, in an order that changes from pair
//! to pair, and the ratio within a pair is compared.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::revision::Pair;
use crate::workspace::Workspace;

/// A speed is worse if the whole interval of its ratio is below this.
const WORSE: f64 = 0.97;

/// What is measured: a name, a command line of `taal`, and where in its JSON the speed is; without a pointer the speed is that of
/// the whole command, including startup.
const MEASUREMENTS: [(&str, &[&str], Option<&str>); 6] = [
    (
        "train, cpu shape",
        &["bench", "train", "--shape", "cpu", "--steps", "200", "--json"],
        Some("/tokens_per_s"),
    ),
    (
        "train, baby shape",
        &["bench", "train", "--shape", "baby", "--steps", "6", "--json"],
        Some("/tokens_per_s"),
    ),
    (
        "train, small shape",
        &["bench", "train", "--shape", "small", "--steps", "4", "--json"],
        Some("/tokens_per_s"),
    ),
    ("decode, GPT-2 124M", DECODE, Some("/batches/0/decode_tokens_per_s")),
    (
        "read a prompt, GPT-2 124M",
        DECODE,
        Some("/batches/0/prefill_tokens_per_s"),
    ),
    (
        "evaluate a text",
        &["eval", "--model", "model", "--json", "--text", "text.txt"],
        None,
    ),
];
const DECODE: &[&str] = &[
    "bench",
    "generate",
    "--batch",
    "1",
    "--prompt-tokens",
    "64",
    "--max-tokens",
    "32",
    "--json",
];

/// Measures `n_pairs` pairs of each and prints a table; fails if something became slower.
pub fn compare(workspace: &Workspace, revision: &str, n_pairs: usize) -> Result<()> {
    let home = workspace.metadata()?.target_directory.join("against");
    let pair = Pair::build(workspace, revision, &home)?;
    let folder = home.join("pairs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    prepare(&pair.before, &folder)?;
    println!("| measured | before | after | ratio | 95 % interval | |\n|---|---|---|---|---|---|");
    let mut worse = Vec::new();
    // Speeds of one command are measured together.
    let mut commands: Vec<&[&str]> = MEASUREMENTS.iter().map(|(_, command, _)| *command).collect();
    commands.dedup();
    for command in commands {
        let rows: Vec<_> = MEASUREMENTS.iter().filter(|(_, of, _)| *of == command).collect();
        let mut speeds = vec![(Vec::new(), Vec::new()); rows.len()];
        for turn in 0..n_pairs {
            // The order changes from pair to pair.
            let order = if turn % 2 == 0 { [true, false] } else { [false, true] };
            for is_before in order {
                let taal = if is_before { &pair.before } else { &pair.after };
                let (answer, seconds) = ask(taal, &folder, command)?;
                for ((_, _, pointer), (was, is)) in rows.iter().zip(&mut speeds) {
                    let speed = speed(&answer, seconds, *pointer)?;
                    if is_before { was.push(speed) } else { is.push(speed) }
                }
            }
        }
        for ((name, ..), (was, is)) in rows.iter().zip(&speeds) {
            let ratio = Ratio::of(was, is);
            let verdict = if ratio.high < WORSE { "WORSE" } else { "" };
            if ratio.high < WORSE {
                worse.push(*name);
            }
            println!(
                "| {name} | {:.1} | {:.1} | {:.3} | {:.3} to {:.3} | {verdict} |",
                median(was),
                median(is),
                ratio.mean,
                ratio.low,
                ratio.high
            );
        }
    }
    println!(
        "\n{n_pairs} pairs each; tokens per second, of the evaluation runs per second; medians, and the mean ratio after : before"
    );
    ensure!(worse.is_empty(), "slower than {revision}: {}", worse.join(", "));
    Ok(())
}

/// A small model and a text to be evaluated.
fn prepare(taal: &Path, folder: &Path) -> Result<()> {
    let text = "De kat zat op de mat, en buiten scheen de zon op het water van de gracht.\n".repeat(2000);
    fs::write(folder.join("text.txt"), text).context("cannot write text.txt")?;
    if folder.join("model").is_dir() {
        fs::remove_dir_all(folder.join("model")).context("cannot remove the earlier model")?;
    }
    ask(
        taal,
        folder,
        &[
            "train",
            "--recipe",
            "dutch-bpe",
            "--run-dir",
            "model",
            "--set",
            "train.steps=2",
        ],
    )?;
    Ok(())
}

/// The output of the command, and its time.
fn ask(taal: &Path, folder: &Path, command: &[&str]) -> Result<(Vec<u8>, f64)> {
    let began = Instant::now();
    let output = Command::new(taal)
        .current_dir(folder)
        .args(command)
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot run {}", taal.display()))?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(
        output.status.success(),
        "`taal {}` ended with {}: {}",
        command.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok((output.stdout, seconds))
}

fn speed(answer: &[u8], seconds: f64, pointer: Option<&str>) -> Result<f64> {
    let Some(pointer) = pointer else {
        return Ok(1.0 / seconds);
    };
    let answer: Value = serde_json::from_slice(answer).context("the output is not JSON")?;
    let speed = answer.pointer(pointer).and_then(Value::as_f64);
    speed.with_context(|| format!("the output has no number at {pointer}"))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The geometric mean of the ratios within pairs, and its 95 % interval (Student's t).
#[derive(Debug)]
struct Ratio {
    mean: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    fn of(before: &[f64], after: &[f64]) -> Self {
        let logs: Vec<f64> = before
            .iter()
            .zip(after)
            .map(|(before, after)| (after / before).ln())
            .collect();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let half = student(logs.len()) * (variance / n).sqrt();
        Self {
            mean: mean.exp(),
            low: (mean - half).exp(),
            high: (mean + half).exp(),
        }
    }
}

/// The 97.5 % quantile of Student's t for `n` values, by Cornish and Fisher's expansion; the error is 0.3 % at 5 values, less
/// with more.
fn student(n: usize) -> f64 {
    const Z: f64 = 1.959_964;
    let freedom = n.saturating_sub(1).max(1) as f64;
    let [z3, z5, z7] = [Z.powi(3), Z.powi(5), Z.powi(7)];
    Z + (z3 + Z) / (4.0 * freedom)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * freedom.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * freedom.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantile_equals_the_published_table() {
        // Ten values have nine degrees of freedom.
        assert!((student(10) - 2.262).abs() < 0.002, "{}", student(10));
        assert!((student(30) - 2.045).abs() < 0.001, "{}", student(30));
    }

    #[test]
    fn common_drift_does_not_widen_the_interval() {
        let before: Vec<f64> = (0..10).map(|turn| 100.0 + 10.0 * f64::from(turn)).collect();
        let after: Vec<f64> = before.iter().map(|speed| speed * 0.9).collect();
        let ratio = Ratio::of(&before, &after);
        assert!((ratio.mean - 0.9).abs() < 1e-12 && ratio.high < 0.901, "{ratio:?}");
    }
}
