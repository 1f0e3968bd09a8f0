//! The questions of a task, from rows of files and of sets that come along.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::Result;
use crate::lines::{TEST_LIMITS, bad_line, is_json_lines, json_lines, without_place};
use crate::task::TaskItem;

/// Every model that says nothing would be right.
pub(crate) const EMPTY_REFERENCE: &str = "a reference is empty: fill it, or leave the question out";

/// The right answers to a question.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(crate) enum References {
    One(String),
    Several(Vec<String>),
}

impl References {
    /// All of them.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// The columns of the rows of a task.
pub(crate) struct Columns<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) reference: &'a str,
}

/// A row of JSON Lines or of a table.
type JsonRow = serde_json::Map<String, serde_json::Value>;

impl Columns<'_> {
    /// The questions of a file.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<TaskItem>> {
        if is_json_lines(path) {
            let rows = json_lines::<JsonRow>(path, TEST_LIMITS)?;
            return rows.iter().map(|(line, row)| self.item(path, *line, row)).collect();
        }
        // A file that is missing is told in the store's words.
        if taal_store::file_size_bytes(path)? > TEST_LIMITS.bytes {
            let detail = format!(
                "more than {} MiB are not accepted here; is it the right file?",
                TEST_LIMITS.bytes >> 20
            );
            return Err(bad_line(path, 1, &detail));
        }
        let columns = taal_data::Columns {
            prompt: Some(self.prompt.to_owned()),
            completion: Some(self.reference.to_owned()),
            ..taal_data::Columns::default()
        };
        let rows = taal_data::read_table(path, &columns)?;
        if let Some((line, _)) = rows.get(TEST_LIMITS.lines) {
            let detail = format!(
                "more than {} rows are not accepted here; is it the right file?",
                TEST_LIMITS.lines
            );
            return Err(bad_line(path, usize::try_from(*line).unwrap_or(usize::MAX), &detail));
        }
        let keys: Vec<&str> = rows
            .first()
            .map(|(_, row)| row.keys().map(String::as_str).collect())
            .unwrap_or_default();
        // Names of columns were never told apart by their capitals here.
        let find = |name: &str| {
            let same = keys.iter().find(|key| **key == name);
            same.or_else(|| keys.iter().find(|key| key.to_lowercase() == name.to_lowercase()))
                .copied()
        };
        let (Some(prompt), Some(reference)) = (find(self.prompt), find(self.reference)) else {
            let wanted = if find(self.prompt).is_none() {
                self.prompt
            } else {
                self.reference
            };
            let detail = match keys.is_empty() {
                true => "no row follows the header".to_owned(),
                false => format!(
                    "no column `{wanted}` in the table, which has {}",
                    taal_store::excerpt(&keys.join(", "))
                ),
            };
            return Err(bad_line(path, 1, &detail));
        };
        let found = Columns { prompt, reference };
        let rows = rows.iter();
        rows.map(|(line, row)| found.item(path, usize::try_from(*line).unwrap_or(usize::MAX), row))
            .collect()
    }

    /// The questions of an embedded set, each with the references of all rows that have its prompt.
    pub(crate) fn read_embedded(&self, name: &str, rows: &str) -> Result<Vec<TaskItem>> {
        let path = Path::new(name);
        let mut items: Vec<TaskItem> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (index, line) in rows.lines().enumerate() {
            let line_number = index + 1;
            let row: JsonRow =
                serde_json::from_str(line).map_err(|error| bad_line(path, line_number, &without_place(&error)))?;
            let item = self.item(path, line_number, &row)?;
            let Some(place) = places.get(&item.prompt) else {
                places.insert(item.prompt.clone(), items.len());
                items.push(item);
                continue;
            };
            let known = &mut items[*place].references;
            for reference in item.references {
                if !known.contains(&reference) {
                    known.push(reference);
                }
            }
        }
        Ok(items)
    }

    /// The question of a row.
    fn item(&self, path: &Path, line: usize, row: &JsonRow) -> Result<TaskItem> {
        let take = |key: &str| {
            let missing = || {
                let keys: Vec<&str> = row.keys().map(String::as_str).collect();
                let detail = format!("column `{key}` is missing: the line has {}", keys.join(", "));
                bad_line(path, line, &detail)
            };
            row.get(key).cloned().ok_or_else(missing)
        };
        let wrong = |key: &str, detail: &str| bad_line(path, line, &format!("column `{key}`: {detail}"));
        let asked = take(self.prompt)?;
        let asked = asked.as_str().ok_or_else(|| wrong(self.prompt, "expected a text"))?;
        let references: References =
            serde_json::from_value(take(self.reference)?).map_err(|error| wrong(self.reference, &error.to_string()))?;
        let references = references.into_list();
        if references.iter().any(|text| text.trim().is_empty()) {
            return Err(wrong(self.reference, EMPTY_REFERENCE));
        }
        Ok(TaskItem {
            prompt: asked.to_owned(),
            prompt_ids: None,
            references,
            line: Some(line),
        })
    }
}
