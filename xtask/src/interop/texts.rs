//! Greedy continuations, filled gaps and vectors of `taal` with models of `transformers` and `sentence-transformers`, compared
//! with theirs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The largest allowed difference of two probabilities or coordinates, both computed in fp32.
const TOLERANCE: f64 = 1e-5;

/// One call of `taal`, and its expected output; other keys are ignored.
#[derive(Debug, Deserialize)]
struct Run {
    arguments: Vec<String>,
    expected: Vec<Value>,
}

/// The result of a case.
#[derive(Debug)]
pub(super) struct Case {
    name: String,
    runs: usize,
    largest: f64,
    /// What is wrong in the first run with an error.
    pub(super) wrong: Option<String>,
}

/// Runs `taal` for every case of a folder.
pub(super) fn compare(taal: &Path, folder: &Path) -> Result<Vec<Case>> {
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    let mut folders: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.sort();
    ensure!(!folders.is_empty(), "no case in {}", folder.display());
    folders.iter().map(|folder| case(taal, folder)).collect()
}

fn case(taal: &Path, folder: &Path) -> Result<Case> {
    let path = folder.join("runs.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let runs: Vec<Run> = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    ensure!(!runs.is_empty(), "{} has no run", path.display());
    let name = folder.file_name().unwrap_or_default().display().to_string();
    let mut largest = 0.0;
    let mut wrong = None;
    for run in &runs {
        match one_run(taal, folder, run) {
            Ok(difference) => largest = difference.max(largest),
            Err(error) => {
                let words: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
                wrong = Some(format!("{name}: taal {}: {error:#}", words.join(" ")));
                break;
            }
        }
    }
    Ok(Case {
        name,
        runs: runs.len(),
        largest,
        wrong,
    })
}

/// The largest difference of a number.
fn one_run(taal: &Path, folder: &Path, run: &Run) -> Result<f64> {
    let output = Command::new(taal)
        .args(&run.arguments)
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot run {}", taal.display()))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let found: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("its output is not JSON")?;
    difference(&Value::Array(run.expected.clone()), &Value::Array(found), "")
}

/// The largest difference of a number, or an error with the position of another difference.
fn difference(expected: &Value, found: &Value, place: &str) -> Result<f64> {
    let mut largest = 0.0_f64;
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let place = format!("{place}.{key}");
                let Some(found) = found.get(key) else {
                    bail!("{place} is missing")
                };
                largest = largest.max(difference(value, found, &place)?);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                largest = largest.max(difference(expected, found, &format!("{place}[{index}]"))?);
            }
        }
        (Value::Number(expected), Value::Number(found)) if expected.is_f64() => {
            let numbers = expected.as_f64().zip(found.as_f64());
            largest = numbers.map_or(f64::NAN, |(expected, found)| (expected - found).abs());
            // NaN is not within the tolerance either.
            if !matches!(largest.partial_cmp(&TOLERANCE), Some(std::cmp::Ordering::Less)) {
                bail!("{place} is {found} and must be {expected}");
            }
        }
        _ if expected == found => {}
        _ => bail!("{place} is {found} and must be {expected}"),
    }
    Ok(largest)
}

pub(super) fn table(cases: &[Case]) -> String {
    let mut text = String::from("| texts | runs | largest difference |\n|---|---:|---:|\n");
    for case in cases {
        let result = match case.wrong {
            Some(_) => "broken".to_owned(),
            None => format!("{:.1e}", case.largest),
        };
        text += &format!("| {} | {} | {result} |\n", case.name, case.runs);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_reported_with_their_position() {
        let expected = json!({"text": "a", "ids": [1, 2], "gaps": [{"p": 0.5}]});
        let same = json!({"text": "a", "ids": [1, 2], "gaps": [{"p": 0.500001, "more": 1}], "more": null});
        let found = difference(&expected, &same, "").expect("equal enough");
        assert!(found > 0.0 && found < TOLERANCE, "{found}");
        for (key, other, place) in [
            ("text", json!("b"), ".text"),
            ("ids", json!([1, 3]), ".ids[1]"),
            ("ids", json!([1]), ".ids"),
            ("gaps", json!([{"p": 0.51}]), ".gaps[0].p"),
            ("gaps", json!([{"p": null}]), ".gaps[0].p"),
            ("gaps", json!([{}]), ".gaps[0].p"),
        ] {
            let mut other_value = same.clone();
            other_value[key] = other;
            let error = difference(&expected, &other_value, "").expect_err(place).to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }

    #[test]
    fn a_case_whose_program_fails_is_broken() {
        let folder = std::env::temp_dir().join(format!("taal-interop-texts-{}", std::process::id()));
        fs::create_dir_all(folder.join("one")).expect("a folder");
        fs::write(
            folder.join("one/runs.json"),
            r#"[{"arguments": ["generate"], "expected": [{"text": "a"}]}]"#,
        )
        .expect("a file");
        let cases = compare(Path::new("no such program"), &folder).expect("a case");
        fs::remove_dir_all(&folder).expect("a folder");
        let wrong = cases[0].wrong.as_deref().expect("it cannot be right");
        assert!(wrong.starts_with("one: taal generate: cannot run"), "{wrong}");
        assert!(table(&cases).contains("| one | 1 | broken |"));
    }
}
