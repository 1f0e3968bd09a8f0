//! A model of Taal in fewer bits, in Taal and in llama.cpp: how far the logits are from those in fp32, perplexity, and speed, of the same GGUF
//! files with the same number of threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::numbers;
use crate::command::run;

/// The types, with that of the key/value cache.
const TYPES: [(&str, &str); 5] = [
    ("f32", "f32"),
    ("f16", "f16"),
    ("q8_0", "f16"),
    ("q4_0", "f16"),
    ("q4_k_m", "f16"),
];

/// Tokens of a text in a window, or the model's context if it is shorter.
const WINDOW: usize = 256;

/// The most windows that are compared, and the most logits of each program and type; of these are 256 MiB.
const MAX_WINDOWS: usize = 64;
const MAX_LOGITS: usize = 1 << 26;

/// The lengths of the text before the tokens that are timed, and how many these are.
const DEPTHS: [usize; 2] = [16, 512];
const DECODED: usize = 32;

/// Times are taken in turn, this often; the median counts.
const TURNS: usize = 3;

/// The most that Taal's mean distance to fp32 may be, in multiples of llama.cpp's.
const MOST_DISTANCE: f64 = 1.2;

/// The most that Taal's perplexity may be, in multiples of llama.cpp's.
const MOST_PERPLEXITY: f64 = 1.002;

/// Distances below this, in nats, are rounding in single precision.
const LEAST_DISTANCE: f64 = 1e-6;

/// The programs.
pub(super) struct Programs<'a> {
    /// The program `taal`.
    pub(super) taal: &'a Path,
    /// The example `interop` of the exchange crate.
    pub(super) example: &'a Path,
    /// Starts a script of Python that has llama.cpp.
    pub(super) script: &'a dyn Fn(&str) -> Command,
}

/// One type in one program.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Quality {
    perplexity: f64,
    /// The mean Kullback-Leibler divergence from the same program's fp32, in nats.
    distance: f64,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    kind: &'static str,
    bytes: u64,
    ours: Quality,
    theirs: Quality,
    /// Prefill and decoding at each depth, tokens per second: Taal's and llama.cpp's.
    speeds: Vec<[[f64; 2]; 2]>,
}

#[derive(Deserialize)]
struct Encoded {
    ids: Vec<u32>,
}

/// Exports the model in every type, compares and prints the table; what is worse than allowed is an error. Speeds are only measured if asked for.
pub(super) fn compare(programs: &Programs<'_>, [model, text, folder]: [&Path; 3], with_speeds: bool) -> Result<()> {
    let inspected = read_json(Command::new(programs.taal).arg("inspect").arg(model).arg("--json"))?;
    let context = inspected["config"]["max_seq_len"].as_u64().context("no context")? as usize;
    let vocabulary = inspected["config"]["vocab_size"].as_u64().context("no vocabulary")? as usize;
    let windows = windows(programs, model, text, [context.min(WINDOW), vocabulary])?;
    for (kind, _) in TYPES {
        let case = folder.join("model").join(kind);
        fs::create_dir_all(&case).with_context(|| format!("cannot create {}", case.display()))?;
        let out = case.join("model.gguf");
        let mut export = Command::new(programs.taal);
        export
            .arg("export")
            .arg(model)
            .args(["--to", "gguf", "--type", kind, "--out"]);
        run(export.arg(&out).stdout(Stdio::null()))?;
        let samples: Vec<Value> = windows.iter().map(|ids| json!({ "input_ids": [ids] })).collect();
        fs::write(case.join("ids.json"), serde_json::to_vec(&samples)?)?;
    }
    run(Command::new(programs.example).arg("open").arg(folder))?;
    run((programs.script)("open_gguf.py").arg(folder))?;
    let exact = ["taal", "llama.cpp"].map(|side| logits(&folder.join("model/f32"), side));
    let [our_exact, their_exact] = exact;
    let (our_exact, their_exact) = (our_exact?, their_exact?);
    let mut rows = Vec::new();
    for (kind, cache) in TYPES {
        let case = folder.join("model").join(kind);
        let file = case.join("model.gguf");
        rows.push(Row {
            kind,
            bytes: fs::metadata(&file)?.len(),
            ours: quality(&logits(&case, "taal")?, &our_exact, &windows)?,
            theirs: quality(&logits(&case, "llama.cpp")?, &their_exact, &windows)?,
            speeds: match with_speeds {
                true => speeds(programs, &file, cache, context)?,
                false => Vec::new(),
            },
        });
    }
    print!("{}", table(&rows));
    let wrong: Vec<String> = rows.iter().filter_map(worse).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The ids of the text, in windows.
fn windows(
    programs: &Programs<'_>,
    model: &Path,
    text: &Path,
    [length, vocabulary]: [usize; 2],
) -> Result<Vec<Vec<u32>>> {
    let most = (MAX_LOGITS / (length * vocabulary)).clamp(1, MAX_WINDOWS);
    let words = fs::read_to_string(text).with_context(|| format!("cannot read {}", text.display()))?;
    let words: String = words.chars().take(40 * length * most).collect();
    let short = std::env::temp_dir().join(format!("taal-interop-text-{}", std::process::id()));
    fs::write(&short, words)?;
    let mut encode = Command::new(programs.taal);
    encode
        .args(["tokenizer", "encode", "--json", "--tokenizer"])
        .arg(model)
        .arg("-");
    let encoded = read_json(encode.stdin(fs::File::open(&short)?));
    fs::remove_file(&short)?;
    let encoded: Encoded = serde_json::from_value(encoded?)?;
    let windows: Vec<Vec<u32>> = encoded
        .ids
        .chunks_exact(length)
        .take(most)
        .map(<[u32]>::to_vec)
        .collect();
    ensure!(!windows.is_empty(), "{} has fewer than {length} tokens", text.display());
    Ok(windows)
}

fn logits(case: &Path, side: &str) -> Result<Vec<f32>> {
    if let Ok(error) = fs::read_to_string(case.join(format!("{side}.error"))) {
        bail!("{side} does not open {}: {error}", case.display());
    }
    numbers(&case.join(format!("{side}.bin")))
}

/// Perplexity of the next ids, and the distance to the exact logits.
fn quality(logits: &[f32], exact: &[f32], windows: &[Vec<u32>]) -> Result<Quality> {
    let tokens: usize = windows.iter().map(Vec::len).sum();
    ensure!(
        logits.len() == exact.len() && logits.len().is_multiple_of(tokens),
        "logits of other tokens"
    );
    let width = logits.len() / tokens;
    let next = windows
        .iter()
        .flat_map(|ids| ids.iter().skip(1).map(Some).chain([None]));
    let (mut loss, mut scored, mut distance) = (0.0, 0_usize, 0.0);
    for ((row, exact), next) in logits.chunks_exact(width).zip(exact.chunks_exact(width)).zip(next) {
        let (found, expected) = (log_probabilities(row), log_probabilities(exact));
        distance += expected.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        if let Some(id) = next {
            loss -= found[*id as usize];
            scored += 1;
        }
    }
    Ok(Quality {
        perplexity: (loss / scored.max(1) as f64).exp(),
        distance: distance / tokens as f64,
    })
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = logits
        .iter()
        .map(|logit| f64::from(*logit) - f64::from(largest))
        .collect();
    let sum = shifted.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|logit| logit - sum).collect()
}

/// Prefill and decoding of both programs in turn, at each depth that fits the context.
fn speeds(programs: &Programs<'_>, file: &Path, cache: &str, context: usize) -> Result<Vec<[[f64; 2]; 2]>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).to_string();
    let depths = DEPTHS.iter().filter(|depth| **depth + DECODED < context);
    let one = |depth: &usize| {
        let (depth, decoded) = (depth.to_string(), DECODED.to_string());
        let mut turns: [Vec<[f64; 2]>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            let mut ours = Command::new(programs.taal);
            ours.args([
                "bench", "generate", "--json", "--batch", "1", "--cache", cache, "--model",
            ])
            .arg(file);
            ours.args(["--prompt-tokens", &depth, "--max-tokens", &decoded]);
            let ours = read_json(ours.env("RAYON_NUM_THREADS", &threads))?;
            let batch = &ours["batches"][0];
            turns[0].push([
                number(&batch["prefill_tokens_per_s"])?,
                number(&batch["decode_tokens_per_s"])?,
            ]);
            let mut theirs = (programs.script)("time_gguf.py");
            let theirs = read_json(theirs.arg(file).args([&threads, &depth, &decoded, cache]))?;
            turns[1].push([number(&theirs["prefill"])?, number(&theirs["decode"])?]);
        }
        Ok(turns.map(|turns| [0, 1].map(|index| median(turns.iter().map(|turn| turn[index]).collect()))))
    };
    depths.map(one).collect()
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(value: &Value) -> Result<f64> {
    value
        .as_f64()
        .with_context(|| format!("expected a number, got {value}"))
}

/// What a program prints.
fn read_json(command: &mut Command) -> Result<Value> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", PathBuf::from(command.get_program()).display()))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON"))
}

/// What is worse than allowed.
fn worse(row: &Row) -> Option<String> {
    let Row { kind, ours, theirs, .. } = row;
    if ours.distance > (MOST_DISTANCE * theirs.distance).max(LEAST_DISTANCE) {
        return Some(format!(
            "{kind}: Taal is {:.2e} nats from fp32, llama.cpp {:.2e}",
            ours.distance, theirs.distance
        ));
    }
    (ours.perplexity > MOST_PERPLEXITY * theirs.perplexity).then(|| {
        format!(
            "{kind}: Taal's perplexity is {:.4}, llama.cpp's {:.4}",
            ours.perplexity, theirs.perplexity
        )
    })
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| type | MB | perplexity, Taal | llama.cpp | nats from fp32, Taal | llama.cpp | depth | prefill tok/s, Taal | llama.cpp | ratio \
         | decode tok/s, Taal | llama.cpp | ratio |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in rows {
        let quality = format!(
            "{:.1} | {:.4} | {:.4} | {:.2e} | {:.2e}",
            row.bytes as f64 / 1e6,
            row.ours.perplexity,
            row.theirs.perplexity,
            row.ours.distance,
            row.theirs.distance
        );
        for (depth, [ours, theirs]) in DEPTHS.iter().zip(&row.speeds) {
            let speed = |index: usize| {
                let (ours, theirs) = (ours[index], theirs[index]);
                format!("{ours:.1} | {theirs:.1} | {:.2}", ours / theirs)
            };
            text += &format!("| {} | {quality} | {depth} | {} | {} |\n", row.kind, speed(0), speed(1));
        }
        if row.speeds.is_empty() {
            text += &format!("| {} | {quality} | | | | | | | |\n", row.kind);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_have_no_distance_and_known_ones_the_known_one() {
        let windows = [vec![0, 1]];
        let exact = [0.0, 0.0, 1.0, -1.0];
        let same = quality(&exact, &exact, &windows).expect("as many");
        assert!(same.distance.abs() < 1e-12);
        // The first row says one half for the second id.
        assert!((same.perplexity - 2.0).abs() < 1e-12);
        // From one half each to e : 1.
        let other = quality(&[1.0, 0.0, 1.0, -1.0], &exact, &windows).expect("as many");
        let [p, q] = [1.0_f64.exp() / (1.0 + 1.0_f64.exp()), 1.0 / (1.0 + 1.0_f64.exp())];
        let expected = 0.5 * ((0.5 / p).ln() + (0.5 / q).ln()) / 2.0;
        assert!((other.distance - expected).abs() < 1e-12, "{other:?}");
        assert!(quality(&exact[..2], &exact, &windows).is_err());
    }

    #[test]
    fn what_is_worse_than_allowed_is_named() {
        let row = |distance: f64, perplexity: f64| Row {
            kind: "q8_0",
            bytes: 0,
            ours: Quality { perplexity, distance },
            theirs: Quality {
                perplexity: 10.0,
                distance: 1e-3,
            },
            speeds: Vec::new(),
        };
        assert_eq!(worse(&row(1.1e-3, 10.01)), None);
        assert!(worse(&row(1.3e-3, 10.0)).expect("too far").contains("nats from fp32"));
        assert!(worse(&row(1e-3, 10.03)).expect("too high").contains("perplexity"));
    }
}
