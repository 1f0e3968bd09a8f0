//! The functions and filters that transformers gives templates.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// The deepest value that is written as JSON, ...
const MAX_JSON_DEPTH: usize = 64;
/// ... and as Python's text. A value may hold itself.
pub(super) const MAX_TEXT_DEPTH: usize = 128;

/// The longest text of JSON; white space may be much longer than what is between it.
const MAX_JSON_BYTES: usize = 8 << 20;

/// Characters of white space per level of JSON.
const MAX_INDENT: usize = 64;

/// The message of a template that refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

/// `raise_exception(message)`
pub(super) fn raise_exception(state: &State, message: &Value) -> Result<Value, Error> {
    charge_lists(state, message)?;
    let message = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// Takes the fuel for a value that is written as text. A list may be one item a million times, which takes nothing until it is written.
pub(super) fn charge(state: &State, value: &Value) -> Result<(), Error> {
    charge_at(state, value, 0)
}

/// [`charge`] for what is not a text yet.
pub(super) fn charge_lists(state: &State, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(_) => Ok(()),
        None => charge(state, value),
    }
}

fn charge_at(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_TEXT_DEPTH {
        let message = format!("a value of more than {MAX_TEXT_DEPTH} levels cannot be written");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    match value.kind() {
        ValueKind::String => state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / 64),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                charge_at(state, &item, depth + 1)?;
            }
            Ok(())
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                state.consume_fuel(1)?;
                charge_at(state, &key, depth + 1)?;
                charge_at(state, &value.get_item(&key)?, depth + 1)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `value | string`
pub(super) fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    charge(state, value)?;
    Ok(Value::from(value.to_string()))
}

/// `{{ value }}`
pub(super) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.as_str().is_none() {
        charge(state, value)?;
    }
    minijinja::escape_formatter(out, state, value)
}

/// `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as Python's `json.dumps`.
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<Value>>("indent")?,
    };
    let mut layout = Layout {
        ensure_ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .or(ensure_ascii)
            .unwrap_or(false),
        indent: indent.as_ref().map(unit).transpose()?,
        separators: (", ".to_owned(), ": ".to_owned()),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    if layout.indent.is_some() {
        layout.separators.0 = ",".to_owned();
    }
    if let Some(given) = options
        .get::<Option<Value>>("separators")?
        .filter(|given| !given.is_none())
    {
        let part = |index: usize| -> Result<String, Error> {
            let part = given.get_item(&Value::from(index))?;
            let text = part.as_str().map(str::to_owned);
            text.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "separators are two texts"))
        };
        layout.separators = (part(0)?, part(1)?);
    }
    options.assert_all_used()?;
    charge(state, value)?;
    let mut out = String::new();
    write_json(&mut out, value, &layout, 0)?;
    Ok(out)
}

/// The white space of one level: a text, or that many spaces.
fn unit(indent: &Value) -> Result<String, Error> {
    match indent.as_str() {
        Some(text) => Ok(text.chars().take(MAX_INDENT).collect()),
        None => {
            let count = i64::try_from(indent.clone())?;
            // As in Python, where a negative number is like 0.
            Ok(" ".repeat(usize::try_from(count).unwrap_or(0).min(MAX_INDENT)))
        }
    }
}

struct Layout {
    ensure_ascii: bool,
    /// The white space of one level, where each item has a line.
    indent: Option<String>,
    separators: (String, String),
    sort_keys: bool,
}

fn write_json(out: &mut String, value: &Value, layout: &Layout, depth: usize) -> Result<(), Error> {
    let refused = |what: &str| Err(Error::new(ErrorKind::BadSerialization, format!("{what} is not JSON")));
    if depth > MAX_JSON_DEPTH {
        return refused("a value of more than 64 levels");
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default(), layout.ensure_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(out, ['[', ']'], items.len(), layout, depth, |out, index| {
                write_json(out, &items[index], layout, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if layout.sort_keys {
                keys.sort();
            }
            write_items(out, ['{', '}'], keys.len(), layout, depth, |out, index| {
                write_text(out, &keys[index].to_string(), layout.ensure_ascii);
                out.push_str(&layout.separators.1);
                write_json(out, &value.get_item(&keys[index])?, layout, depth + 1)
            })?;
        }
        kind => return refused(&kind.to_string()),
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    [open, close]: [char; 2],
    count: usize,
    layout: &Layout,
    depth: usize,
    mut write: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let new_line = |out: &mut String, depth: usize| {
        if let Some(unit) = &layout.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(unit.as_str(), depth));
        }
    };
    out.push(open);
    for index in 0..count {
        if index > 0 {
            out.push_str(&layout.separators.0);
        }
        new_line(out, depth + 1);
        write(out, index)?;
        if out.len() > MAX_JSON_BYTES {
            return Err(Error::from(ErrorKind::OutOfFuel));
        }
    }
    if count > 0 {
        new_line(out, depth);
    }
    out.push(close);
    Ok(())
}

fn write_number(out: &mut String, value: &Value) {
    match value.is_integer() {
        true => out.push_str(&value.to_string()),
        false => out.push_str(&python_float(f64::try_from(value.clone()).unwrap_or_default())),
    }
}

/// A floating-point number as Python prints it.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number:?}")
}

fn write_text(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            other if other < ' ' || (ensure_ascii && !other.is_ascii()) => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e15, "1500000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e-300, "-2.5e-300"),
        ] {
            assert_eq!(python_float(number), text);
        }
    }
}
