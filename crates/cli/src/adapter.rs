//! `taal adapter`: lists adapters, merges one into its base, and shows what it changes.

use std::path::{Path, PathBuf};

use serde::Serialize;
use taal_exchange::{Merged, adapter_changes, merge_adapter};
use taal_inference::adapter_dir;
use taal_model::hugging_face::{self, AdapterInfo};

use crate::arguments::{AdapterDiffArguments, AdapterListArguments, AdapterMergeArguments, LanguageArgument};
use crate::columns::grid;
use crate::failure::Failure;
use crate::{card, signals, terminal};

/// Characters of a hash that tell two apart.
const SHOWN_HASH: usize = 12;

/// An adapter on disk.
#[derive(Debug, Serialize)]
struct Listed {
    dir: PathBuf,
    rank: usize,
    alpha: f64,
    rslora: bool,
    targets: Vec<String>,
    parameters: u64,
    base: Option<String>,
    base_blake3: Option<String>,
}

impl Listed {
    fn new(dir: &Path, info: AdapterInfo) -> Self {
        Self {
            dir: dir.to_path_buf(),
            rank: info.lora.rank,
            alpha: info.lora.alpha,
            rslora: info.lora.is_rslora,
            targets: info.lora.targets,
            parameters: info.n_params,
            base: info.base,
            base_blake3: info.base_blake3,
        }
    }

    fn row(&self) -> Vec<String> {
        let base = self.base.clone().unwrap_or_else(|| "-".to_string());
        let hash = self
            .base_blake3
            .as_deref()
            .map_or("-", |hash| hash.get(..SHOWN_HASH).unwrap_or(hash));
        vec![
            terminal::shown(&self.dir.display().to_string()).into_owned(),
            self.rank.to_string(),
            self.alpha.to_string(),
            terminal::grouped(self.parameters),
            hash.to_string(),
            terminal::shown(&base).into_owned(),
        ]
    }
}

/// `taal adapter list`
pub fn list(arguments: &AdapterListArguments) -> Result<(), Failure> {
    let mut found = Vec::new();
    for dir in &arguments.dirs {
        let is_default = dir == Path::new(crate::train::RUNS);
        if !taal_store::exists(dir) && !is_default {
            return Err(taal_store::Error::NotFound { path: dir.clone() }.into());
        }
        for dir in adapters_at(dir) {
            match hugging_face::open_adapter_info(&adapter_dir(&dir)?) {
                Ok(info) => found.push(Listed::new(&dir, info)),
                Err(error) => terminal::message(&format!("skipped {}: {error}", dir.display())),
            }
        }
    }
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    if found.is_empty() {
        terminal::message("no adapters here: taal finetune --model DIR --recipe R --set lora.rank=8 trains one");
        return Ok(());
    }
    let head = ["adapter", "rank", "alpha", "parameters", "base's hash", "base"];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    rows.extend(found.iter().map(Listed::row));
    Ok(terminal::print(&grid(&rows, 1))?)
}

/// The adapter at a path, or those one level below.
fn adapters_at(dir: &Path) -> Vec<PathBuf> {
    let is_adapter = |dir: &Path| adapter_dir(dir).is_ok();
    if is_adapter(dir) {
        return vec![dir.to_path_buf()];
    }
    let mut found = taal_store::list_paths(dir).unwrap_or_default();
    found.retain(|path| is_adapter(path));
    found.sort_unstable();
    found
}

/// `taal adapter merge`
pub fn merge(arguments: &AdapterMergeArguments) -> Result<(), Failure> {
    signals::clean_up(&arguments.out)?;
    let device = arguments.device.open()?;
    let merged = merge_adapter(
        &arguments.adapter,
        arguments.model.as_deref(),
        arguments.to,
        arguments.format,
        &arguments.out,
        &device,
    )?;
    for note in &merged.exported.notes {
        terminal::error("hint", note);
    }
    let sources = [merged.adapter.as_path(), merged.base.as_path()];
    card::after_merge(&sources, &arguments.out, LanguageArgument { lang: None }.language());
    if *arguments.json {
        return Ok(terminal::print_json(&merged)?);
    }
    Ok(terminal::print(&summary(&merged))?)
}

fn summary(merged: &Merged) -> String {
    let exported = &merged.exported;
    terminal::table(&[
        ("merged", exported.out.display().to_string()),
        ("base", merged.base.display().to_string()),
        ("adapter", merged.adapter.display().to_string()),
        ("format", exported.target.to_string()),
        ("matrices", exported.tensor_type.clone()),
        ("size", terminal::size(exported.bytes)),
        (
            "check",
            format!(
                "opened again, logits differ by {:.1e} of the largest; from the adapter on its base by {:.1e}",
                merged.difference, merged.rounding
            ),
        ),
    ])
}

/// `taal adapter diff`
pub fn diff(arguments: &AdapterDiffArguments) -> Result<(), Failure> {
    let device = arguments.device.open()?;
    let found = adapter_changes(
        &arguments.adapter,
        arguments.other.as_deref(),
        arguments.model.as_deref(),
        &device,
    )?;
    if *arguments.json {
        return Ok(terminal::print_json(&found)?);
    }
    let percent = |share: f64| format!("{:.3} %", 100.0 * share);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
    let mut head = vec!["layer".to_string(), "change".to_string()];
    if arguments.other.is_some() {
        head.extend(["other".to_string(), "cosine".to_string()]);
    }
    head.push(String::new());
    let mut rows = vec![head];
    for change in &found {
        let mut row = vec![
            change.layer.trim_end_matches(".weight").to_string(),
            percent(change.relative),
        ];
        if arguments.other.is_some() {
            row.push(or_none(change.other.map(percent)));
            row.push(or_none(change.cosine.map(|cosine| format!("{cosine:.3}"))));
        }
        rows.push(row);
    }
    Ok(terminal::print(&grid(&rows, 1))?)
}
