//! `--set key=value`: merges settings into a recipe, drops what contradicts them, and rewrites the parser's messages
//! for users.

use toml::{Table, Value};

use super::{KEYS, typos};
use crate::TrainError;

/// The maximum number of parts of a dotted key. Recipe keys have two; without a limit, the nested tables of a key with
/// 100,000 parts would overflow the stack.
const MAX_KEY_PARTS: usize = 8;

/// Messages quote at most this many characters of the input.
const MAX_SHOWN_CHARS: usize = 80;

/// The keys of `[data]`, exactly one of which a recipe has.
const SOURCES: [&str; 5] = ["corpus", "files", "shards", "conversations", "examples"];

/// Keys about rows of examples; the first eight are about those of one file or set.
const ROW_KEYS: &[&str] = &[
    "data.layout",
    "data.prompt_column",
    "data.completion_column",
    "data.rejected_column",
    "data.input_column",
    "data.messages_column",
    "data.from",
    "data.to",
    "data.chat_template",
    "eval.metric",
];

/// A section that is not a table. The parser would read a list as a section, key by key.
pub(super) fn wrong_section(table: &Table) -> Option<(&'static str, String)> {
    let mut sections = KEYS.iter().map(|key| key.section).filter(|section| !section.is_empty());
    sections.find_map(|section| {
        let value = table.get(section).filter(|value| !value.is_table())?;
        let got = shortened(&value.to_string());
        Some((
            section,
            format!("expected a section with keys, as in [{section}], got {got}"),
        ))
    })
}

/// The table of all settings. Each value is parsed as TOML, or else it is a string. If a list is expected, a single
/// value becomes a list.
pub(super) fn table(sets: &[String]) -> Result<Table, TrainError> {
    let mut table = Table::new();
    for setting in sets {
        apply(&mut table, setting)?;
    }
    Ok(table)
}

fn apply(table: &mut Table, setting: &str) -> Result<(), TrainError> {
    let (key, value) = setting.split_once('=').ok_or_else(|| {
        TrainError::recipe(
            "--set",
            &shortened(setting),
            "expected key=value, as in --set train.steps=100",
        )
    })?;
    let key = key.trim();
    let wrapped = format!("value = {value}");
    let value = match wrapped.parse::<Table>() {
        Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(Value::String(value.to_string())),
        _ => Value::String(value.to_string()),
    };
    let value = match value {
        Value::String(text) if typos::takes_list(key) => typos::unquoted_list(&text),
        value => value,
    };
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|last| !last.is_empty());
    let last = last.ok_or_else(|| TrainError::recipe("--set", &shortened(setting), "expected a key before the ="))?;
    if parts.len() >= MAX_KEY_PARTS {
        let detail = format!(
            "expected a key of at most {MAX_KEY_PARTS} parts, got {}",
            parts.len() + 1
        );
        return Err(TrainError::recipe(
            "--set",
            &format!("{}.{}...", parts[0], parts[1]),
            detail,
        ));
    }
    let mut at = table;
    for part in parts {
        let entry = at.entry(part).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| {
            TrainError::recipe(
                "--set",
                &shortened(key),
                format!("`{}` was set to a value before", shortened(part)),
            )
        })?;
    }
    at.insert(last.to_string(), value);
    Ok(())
}

/// Merges one table into another and overwrites values that are in both.
pub(super) fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The value at a dotted path.
pub(super) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
        None => table.get(key),
    }
}

/// Removes from a recipe what contradicts a setting and cannot be removed with `--set`: another data source, a
/// tokenizer or shape if the setting brings its own, a warm-up longer than the run. Returns a message for each.
pub(super) fn give_way(recipe: &mut Table, sets: &Table) -> Vec<String> {
    let mut way = Way {
        recipe,
        sets,
        notes: Vec::new(),
    };
    way.source();
    way.direction();
    way.tokenizer_and_shape();
    way.optimizer_and_objective();
    way.rates();
    way.notes
}

struct Way<'a> {
    recipe: &'a mut Table,
    sets: &'a Table,
    notes: Vec<String>,
}

impl Way<'_> {
    fn is_set(&self, key: &str) -> bool {
        get(self.sets, key).is_some()
    }

    /// The number that a setting assigns to a key.
    fn set_number(&self, key: &str) -> Option<f64> {
        number(get(self.sets, key)?)
    }

    /// Removes a key or a section from the recipe.
    fn take(&mut self, key: &str) -> Option<Value> {
        match key.split_once('.') {
            Some((section, key)) => self.recipe.get_mut(section)?.as_table_mut()?.remove(key),
            None => self.recipe.remove(key),
        }
    }

    /// Removes a key that the recipe has and that was not set itself, and records a message.
    fn leave_out(&mut self, key: &str, because: &str) {
        if self.is_set(key) {
            return;
        }
        if let Some(value) = self.take(key) {
            let shown = match &value {
                Value::Table(_) => format!("[{key}]"),
                value => format!("{key} = {}", shortened(&value.to_string())),
            };
            self.notes
                .push(format!("{shown} of the recipe is left out, because {because}"));
        }
    }

    fn source(&mut self) {
        let Some(set) = SOURCES.into_iter().find(|key| self.is_set(&format!("data.{key}"))) else {
            return;
        };
        let because = format!("data.{set} was set");
        for key in SOURCES.into_iter().filter(|key| *key != set) {
            self.leave_out(&format!("data.{key}"), &because);
        }
        // Rows have layouts and answers, running text has neither.
        let of_rows: &[&str] = match set {
            "conversations" => &[],
            "examples" => &ROW_KEYS[..8],
            _ => ROW_KEYS,
        };
        for key in of_rows {
            self.leave_out(key, &because);
        }
        self.leave_out("data.weights", &because);
        let kind = get(self.sets, "tokenizer.kind").or_else(|| get(self.recipe, "tokenizer.kind"));
        if kind.and_then(Value::as_str) == Some("char") {
            // Both were chosen for the text of the recipe.
            self.leave_out("tokenizer.vocab_size", &because);
            self.leave_out("sample.prompts", &because);
        }
    }

    /// One key turns a direction round: the other language follows from it.
    fn direction(&mut self) {
        for (set, other) in [("data.from", "data.to"), ("data.to", "data.from")] {
            let is_same = get(self.sets, set).is_some_and(|language| get(self.recipe, other) == Some(language));
            if is_same && !self.is_set(other) {
                self.leave_out(other, &format!("{set} was set to it"));
            }
        }
    }

    fn tokenizer_and_shape(&mut self) {
        for giver in ["data.shards", "train.init_from"] {
            if self.is_set(giver) {
                let because = format!("{giver} was set, which brings its own");
                let adds = |table: &Table| get(table, "tokenizer.added_tokens").is_some();
                if giver == "train.init_from" && (adds(&*self.recipe) || adds(self.sets)) {
                    // What is added to the model's tokenizer stays.
                    let section = get(self.recipe, "tokenizer").and_then(Value::as_table);
                    let keys = section
                        .into_iter()
                        .flat_map(Table::keys)
                        .filter(|key| key.as_str() != "added_tokens");
                    let keys: Vec<String> = keys.map(|key| format!("tokenizer.{key}")).collect();
                    keys.iter().for_each(|key| self.leave_out(key, &because));
                } else {
                    self.leave_out("tokenizer", &because);
                }
            }
        }
        // These two go with a model that brings its shape.
        const KEPT: [&str; 2] = ["dropout", "encoder_layers"];
        let set = get(self.sets, "model").and_then(Value::as_table);
        let is_shape_set = set.is_some_and(|set| set.keys().any(|key| !KEPT.contains(&key.as_str())));
        if self.is_set("train.init_from") && !is_shape_set {
            let kept = KEPT.into_iter();
            let kept =
                kept.filter_map(|key| Some((key.to_string(), get(self.recipe, &format!("model.{key}"))?.clone())));
            let kept = Table::from_iter(kept);
            let model = self.recipe.get("model").and_then(Value::as_table);
            if model.is_some_and(|model| model.len() > kept.len()) {
                self.take("model");
                self.notes.push(
                    "[model] of the recipe is left out, because train.init_from was set, which brings its own"
                        .to_string(),
                );
                if !kept.is_empty() {
                    self.recipe.insert("model".to_string(), Value::Table(kept));
                }
            }
        }
        if self.is_set("tokenizer.file") {
            for key in ["tokenizer.kind", "tokenizer.vocab_size"] {
                self.leave_out(key, "tokenizer.file was set");
            }
        } else if self.is_set("tokenizer.kind") || self.is_set("tokenizer.vocab_size") {
            self.leave_out("tokenizer.file", "a tokenizer to be trained was set");
        }
    }

    fn optimizer_and_objective(&mut self) {
        let is = |key, word| get(self.sets, key).and_then(Value::as_str) == Some(word);
        let (is_adamw, is_next) = (is("train.optimizer", "adamw"), is("train.objective", "next_token"));
        if is_adamw {
            for key in ["train.muon_lr", "train.muon_momentum", "train.muon_weight_decay"] {
                self.leave_out(key, "train.optimizer was set to \"adamw\"");
            }
        }
        if is_next {
            self.leave_out("masking", "train.objective was set to \"next_token\"");
        }
    }

    /// Drops values that were chosen for a longer run or for a higher rate.
    fn rates(&mut self) {
        for (set, follower) in [("train.steps", "train.warmup_steps"), ("train.lr", "train.min_lr")] {
            let limit = self.set_number(set);
            let value = get(self.recipe, follower).and_then(number);
            if let (Some(limit), Some(value)) = (limit, value)
                && value > limit
            {
                self.leave_out(follower, &format!("{set} was set to {limit}; it follows from that"));
            }
        }
    }
}

pub(super) fn number(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or_else(|| value.as_integer().map(|integer| integer as f64))
}

/// The parser's message about a value of a wrong type, rewritten without names of Rust types.
pub(super) fn in_words(message: &str) -> String {
    let Some(rest) = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|start| message.strip_prefix(start))
    else {
        return unknown_variant(message).unwrap_or_else(|| message.to_string());
    };
    // The last one, because the input may contain these words too.
    let Some((found, expected)) = rest.rsplit_once(", expected ") else {
        return message.to_string();
    };
    let (expected, found) = (expected_words(expected), found_words(found));
    let point = typos::with_point(found.trim_matches('"'));
    match point {
        Some(point) if expected == "a number" => {
            format!("expected {expected}, got {found}; decimals take a point: {point}")
        }
        Some(_) if expected.contains("number") => {
            format!("expected {expected}, got {found}; leave commas out")
        }
        _ => format!("expected {expected}, got {found}"),
    }
}

fn expected_words(expected: &str) -> &str {
    match expected {
        "f64" | "f32" => "a number",
        "u64" | "u32" | "u16" | "u8" | "usize" => "a whole number of 0 or more",
        "i64" | "i32" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list, as in [\"a\", \"b\"]",
        "a string" | "string" | "path string" | "a path string" => "a text in quotes",
        "a borrowed string" | "a character" => "a text in quotes",
        "a map" => "a section with keys",
        other if other.starts_with("struct ") => "a section with keys, as in [train]",
        "string only" => "a word in quotes",
        other if other.contains("identifier") || other.contains("string or table") || other.starts_with("enum ") => {
            "a word in quotes"
        }
        other
            if ["struct", "enum", "variant", "tuple"]
                .iter()
                .any(|word| other.contains(word)) =>
        {
            "something else"
        }
        other => other,
    }
}

/// `string "abc"`, `integer `3``, `floating point `0.5``, `map`, `sequence`.
fn found_words(found: &str) -> String {
    let value = ["string ", "integer ", "floating point ", "boolean "]
        .iter()
        .find_map(|start| found.strip_prefix(start));
    match (value, found) {
        (Some(value), _) => shortened(value.trim_matches('`')),
        (None, "map") => "a section or a table".to_string(),
        (None, "sequence") => "a list".to_string(),
        (None, other) => shortened(other),
    }
}

/// "unknown variant `step`, expected one of `constant`, `cosine`".
fn unknown_variant(message: &str) -> Option<String> {
    let (found, expected) = message.strip_prefix("unknown variant `")?.rsplit_once("`, expected ")?;
    let words: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let (last, others) = words.split_last()?;
    let words = match others {
        [] => (*last).to_string(),
        others => format!("{} or {last}", others.join(", ")),
    };
    Some(format!("expected {words}, got {:?}", shortened(found)))
}

/// The beginning of the input.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_23_messages_of_the_parser_name_no_type_of_the_program() {
        for (message, words) in [
            (
                "invalid type: string \"abc\", expected f64",
                "expected a number, got \"abc\"",
            ),
            (
                "invalid value: integer `-1`, expected u64",
                "expected a whole number of 0 or more, got -1",
            ),
            (
                "invalid type: integer `5`, expected struct RawTrain",
                "expected a section with keys, as in [train], got 5",
            ),
            (
                "invalid type: string \"x\", expected a sequence",
                "expected a list, as in [\"a\", \"b\"], got \"x\"",
            ),
            (
                "unknown variant `step`, expected one of `constant`, `cosine`, `linear`",
                "expected constant, cosine or linear, got \"step\"",
            ),
            (
                "invalid type: string \"a, expected f32\", expected a boolean",
                "expected true or false, got \"a, expected f32\"",
            ),
        ] {
            assert_eq!(in_words(message), words);
        }
        let long = in_words(&format!("invalid type: string {:?}, expected f64", "x".repeat(100_000)));
        assert!(long.len() < 200, "{} bytes", long.len());
    }
}
