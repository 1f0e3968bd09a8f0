//! Suggestions for typos: the keys most similar to an unknown one, and common slips with TOML and shells.

use toml::{Table, Value};

use super::KEYS;
use super::settings::shortened;

/// The minimal Jaro-Winkler similarity of two names, from 0 to 1. It gives the beginning of a name more weight.
const ALIKE: f64 = 0.88;

/// The bonus for a name in the right section.
const SAME_SECTION: f64 = 0.06;

/// The maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// Longer names are not typos, and comparing them would be slow.
const MAX_NAME_BYTES: usize = 64;

/// Names that other programs use for a key.
const OTHER_NAMES: [(&str, &str); 22] = [
    ("batch", "train.batch_size"),
    ("block", "train.block_size"),
    ("clip", "train.clip_norm"),
    ("context", "train.block_size"),
    ("context_length", "train.block_size"),
    ("ctx", "train.block_size"),
    ("epochs", "train.steps"),
    ("grad_accum", "train.accumulation"),
    ("gradient_accumulation_steps", "train.accumulation"),
    ("heads", "model.n_heads"),
    ("hidden_size", "model.d_model"),
    ("intermediate_size", "model.d_ff"),
    ("iterations", "train.steps"),
    ("layers", "model.n_layers"),
    ("learning_rate", "train.lr"),
    ("max_iters", "train.steps"),
    ("n_embd", "model.d_model"),
    ("n_head", "model.n_heads"),
    ("n_layer", "model.n_layers"),
    ("prompt", "sample.prompts"),
    ("text", "data.files"),
    ("warmup", "train.warmup_steps"),
];

/// The keys most similar to a name, best first, in any section: `learning_rate` gives `train.lr`. Empty if none is
/// similar.
///
/// ```
/// assert_eq!(taal_trainer::nearest_keys("train.step"), ["train.steps"]);
/// ```
pub fn nearest_keys(typed: &str) -> Vec<String> {
    if typed.len() > MAX_NAME_BYTES {
        return Vec::new();
    }
    let (section, name) = typed.rsplit_once('.').unwrap_or(("", typed));
    let name = name.to_lowercase().replace('-', "_");
    if let Some((_, key)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
        return vec![(*key).to_string()];
    }
    let mut found: Vec<(f64, String)> = KEYS
        .iter()
        .filter_map(|key| {
            let alike = strsim::jaro_winkler(&name, key.name);
            let bonus = if key.section == section { SAME_SECTION } else { 0.0 };
            (alike + bonus >= ALIKE).then(|| (alike + bonus, key.path()))
        })
        .collect();
    found.sort_by(|left, right| right.0.total_cmp(&left.0));
    // If a name is right in some section, or nearly right in its own, then that is the suggestion. Names that are only
    // similar would distract.
    let is_exact = |score: f64| score >= 1.0;
    if found.first().is_some_and(|(score, _)| is_exact(*score)) {
        found.retain(|(score, _)| is_exact(*score));
    }
    found.into_iter().map(|(_, key)| key).take(MAX_SUGGESTIONS).collect()
}

/// A suggestion for the unknown key or section at `path` of a table; `None` if nothing is similar.
pub(super) fn did_you_mean(table: &Table, path: &str) -> Option<String> {
    let is_section = |name: &str| table.get(name).is_some_and(Value::is_table);
    let suggestions = match is_section(path) {
        true => nearest_sections(path, table.get(path).and_then(Value::as_table)?),
        false => nearest_keys(path),
    };
    let (last, others) = suggestions.split_last()?;
    Some(match others {
        [] => format!("did you mean {last}?"),
        others => format!("did you mean {} or {last}?", others.join(", ")),
    })
}

/// `[trian]` gives `[train]`, and `--set trian.steps=1` gives `train.steps`.
fn nearest_sections(typed: &str, inner: &Table) -> Vec<String> {
    if typed.len() > MAX_NAME_BYTES {
        return Vec::new();
    }
    let mut near: Vec<(f64, &str)> = Vec::new();
    for section in KEYS.iter().map(|key| key.section).filter(|section| !section.is_empty()) {
        let alike = strsim::jaro_winkler(typed, section);
        if alike >= ALIKE && near.last().is_none_or(|(_, last)| *last != section) {
            near.push((alike, section));
        }
    }
    near.sort_by(|left, right| right.0.total_cmp(&left.0));
    let only = inner.keys().next().filter(|_| inner.len() == 1);
    match (near.first(), only) {
        (Some((_, section)), Some(name)) if has_key(section, name) => vec![format!("{section}.{name}")],
        (Some((_, section)), _) => vec![format!("[{section}]")],
        (None, Some(name)) => nearest_keys(name),
        (None, None) => Vec::new(),
    }
}

fn has_key(section: &str, name: &str) -> bool {
    KEYS.iter().any(|key| key.section == section && key.name == name)
}

/// Whether a key takes a list of texts or paths.
pub(super) fn takes_list(path: &str) -> bool {
    KEYS.iter()
        .any(|key| key.type_words().starts_with("list of") && key.path() == path)
}

/// A list whose quotes a shell has removed, `[a.txt, b.txt]`, or a single text without brackets.
pub(super) fn unquoted_list(text: &str) -> Value {
    let text = text.trim();
    let unquoted = |item: &str| Value::String(item.trim().trim_matches(['"', '\'']).to_string());
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(items) => Value::Array(items.split(',').map(unquoted).collect()),
        None => Value::Array(vec![unquoted(text)]),
    }
}

/// What a number with a comma probably means: `0,001` is `0.001`.
pub(super) fn with_point(text: &str) -> Option<String> {
    let (whole, rest) = text.split_once(',')?;
    let is_whole = !whole.is_empty() && whole.trim_start_matches(['-', '+']).chars().all(|c| c.is_ascii_digit());
    let point = format!("{whole}.{rest}");
    (is_whole && point.parse::<f64>().is_ok()).then_some(point)
}

/// The error in a line of a recipe that is not valid TOML, if it is a common slip.
pub(super) fn slip(text: &str, error: &toml::de::Error) -> Option<String> {
    let at = error.span()?.start;
    let before = text.get(..at)?;
    let line = text[before.rfind('\n').map_or(0, |end| end + 1)..].lines().next()?;
    let value = line.split_once('=')?.1.trim();
    let number = value.split([' ', '#']).next().unwrap_or_default();
    if let Some(point) = with_point(number) {
        return Some(format!("decimals take a point: {point}"));
    }
    if value.contains('"') && value.contains('\\') {
        return Some(
            "in double quotes a backslash begins an escape: put the path in single quotes, or write / for \\"
                .to_string(),
        );
    }
    let is_word = value.starts_with(|c: char| c.is_alphabetic()) && !value.contains(['"', '\'']);
    is_word.then(|| format!("texts are in quotes: \"{}\"", shortened(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_programs_lead_to_keys_that_exist() {
        for (name, key) in OTHER_NAMES {
            assert!(KEYS.iter().any(|known| known.path() == key), "{name} leads to {key}");
            assert!(KEYS.iter().all(|known| known.name != name), "{name} is a key");
        }
    }

    #[test]
    fn the_last_part_of_a_key_finds_its_section() {
        for (typed, keys) in [
            ("steps", vec!["train.steps"]),
            ("train.step", vec!["train.steps"]),
            ("learning_rate", vec!["train.lr"]),
            ("train.learning-rate", vec!["train.lr"]),
            ("data.file", vec!["data.files", "tokenizer.file"]),
            ("batch_size", vec!["train.batch_size", "eval.batch_size"]),
            ("model.layers", vec!["model.n_layers"]),
            ("no_such_key", vec![]),
        ] {
            assert_eq!(nearest_keys(typed), keys, "{typed}");
        }
        assert_eq!(nearest_keys(&"steps".repeat(100_000)), Vec::<String>::new());
    }

    #[test]
    fn a_comma_in_a_number_is_seen_as_a_decimal_point() {
        for (typed, meant) in [
            ("0,001", Some("0.001")),
            ("-1,5e-3", Some("-1.5e-3")),
            ("1,2,3", None),
            ("a,b", None),
            (",5", None),
        ] {
            assert_eq!(with_point(typed).as_deref(), meant, "{typed}");
        }
    }
}
