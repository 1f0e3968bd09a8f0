//! A key of a recipe, as defined in the table of keys: which values it takes, and how that is described.

use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use toml::Value;

/// A key of a recipe.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section; empty at the top level.
    pub section: &'static str,
    /// The name inside the section.
    pub name: &'static str,
    pub(super) range: Range,
    pub(super) rust_type: &'static str,
    pub(super) default: Default,
    pub(super) doc: &'static str,
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Range {
    /// Any value of its type.
    Any,
    /// Whole numbers from the first to the second, inclusive.
    Whole(u64, u64),
    /// Finite numbers between the two.
    Number(Bound<f64>, Bound<f64>),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A range that depends on other keys, in words; the resolver and the model check it.
    Words(&'static str),
}

/// The default of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Default {
    Value(fn() -> String),
    /// A default that follows from other keys, or means off.
    Words(&'static str),
}

impl Key {
    /// `section.name`, as in `--set` and in messages.
    pub fn path(&self) -> String {
        match self.section {
            "" => self.name.to_string(),
            section => format!("{section}.{}", self.name),
        }
    }

    /// Its type, in TOML's words.
    pub fn type_words(&self) -> &'static str {
        match self.rust_type {
            "u64" | "u32" | "usize" => "integer",
            "f64" => "number",
            "bool" => "boolean",
            "PathBuf" => "path",
            "Vec<PathBuf>" => "list of paths",
            "Vec<String>" => "list of strings",
            "Vec<f64>" => "list of numbers",
            // A word of an enumeration is a string too.
            _ => "string",
        }
    }

    /// Its range, as Markdown; empty if the type is enough.
    pub fn range_words(&self) -> String {
        match self.range {
            Range::Any => String::new(),
            Range::Whole(least, u64::MAX) => format!("{least} or more"),
            Range::Whole(least, most) => format!("{} to {}", grouped(least), grouped(most)),
            Range::Number(Bound::Included(least), Bound::Included(most)) => format!("{least} to {most}"),
            Range::Number(Bound::Included(least), Bound::Excluded(most)) => format!("{least} to below {most}"),
            Range::Number(Bound::Excluded(least), Bound::Included(most)) => format!("above {least}, at most {most}"),
            Range::Number(Bound::Excluded(least), Bound::Excluded(most)) => format!("above {least}, below {most}"),
            Range::Number(Bound::Included(least), Bound::Unbounded) => format!("{least} or more"),
            Range::Number(Bound::Excluded(least), Bound::Unbounded) => format!("above {least}"),
            Range::Number(Bound::Unbounded, _) => String::new(),
            Range::OneOf(words) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Range::Words(words) => words.to_string(),
        }
    }

    /// Its default, as Markdown; `none` is off. Empty if it has no default.
    pub fn default_words(&self) -> String {
        match self.default {
            Default::Value(text) if matches!(self.range, Range::OneOf(_)) => format!("`{}`", text()),
            Default::Value(text) => text(),
            Default::Words(words) => words.to_string(),
        }
    }

    /// What it means, as Markdown.
    pub fn meaning(&self) -> &'static str {
        self.doc.trim()
    }

    /// The error of a value that has the right type but is out of range.
    pub(super) fn refusal(&self, value: &Value) -> Option<String> {
        match self.range {
            Range::Whole(least, most) => {
                let value = u64::try_from(value.as_integer()?).ok()?;
                let is_in = (least..=most).contains(&value);
                (!is_in).then(|| format!("expected {least}..={most}, got {value}"))
            }
            Range::Number(least, most) => {
                let value = super::settings::number(value)?;
                let is_in = value.is_finite() && (least, most).contains(&value);
                (!is_in).then(|| format!("expected {}, got {value}", interval(least, most)))
            }
            _ => None,
        }
    }
}

fn interval(least: Bound<f64>, most: Bound<f64>) -> String {
    let open = match least {
        Bound::Included(least) => format!("[{least}"),
        Bound::Excluded(least) => format!("({least}"),
        Bound::Unbounded => "(-inf".to_string(),
    };
    match most {
        Bound::Included(most) => format!("a number in {open}, {most}]"),
        Bound::Excluded(most) => format!("a number in {open}, {most})"),
        Bound::Unbounded => format!("a number above {}", &open[1..]),
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// A default as it would be typed, without quotes.
pub(super) fn typed(value: impl Serialize) -> String {
    match Value::try_from(value) {
        Ok(Value::String(text)) => text,
        Ok(Value::Float(number)) if number != 0.0 && number.abs() < 1e-2 => format!("{number:e}"),
        Ok(Value::Float(number)) => number.to_string(),
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}
