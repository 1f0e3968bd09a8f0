//! The functions and filters that transformers gives templates.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};

/// The deepest value that is written as JSON.
const MAX_DEPTH: usize = 64;

/// The message of a template that refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

/// `raise_exception(message)`
pub(super) fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// Takes the fuel for a value that is written as text. A list may be one item a million times, which takes nothing until it is written.
pub(super) fn charge(state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::String => state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / 64),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                state.consume_fuel(1)?;
                charge(state, &item)?;
            }
            Ok(())
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                state.consume_fuel(1)?;
                charge(state, &value.get_item(&key)?)?;
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
    options: Kwargs,
) -> Result<String, Error> {
    let mut layout = Layout {
        ensure_ascii: options
            .get::<Option<bool>>("ensure_ascii")?
            .or(ensure_ascii)
            .unwrap_or(false),
        indent: options.get("indent")?,
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

struct Layout {
    ensure_ascii: bool,
    indent: Option<usize>,
    separators: (String, String),
    sort_keys: bool,
}

fn write_json(out: &mut String, value: &Value, layout: &Layout, depth: usize) -> Result<(), Error> {
    let refused = |what: &str| Err(Error::new(ErrorKind::BadSerialization, format!("{what} is not JSON")));
    if depth > MAX_DEPTH {
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
        if let Some(indent) = layout.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent.min(64) * depth));
        }
    };
    out.push(open);
    for index in 0..count {
        if index > 0 {
            out.push_str(&layout.separators.0);
        }
        new_line(out, depth + 1);
        write(out, index)?;
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

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment by C's `strftime`, in UTC and English; a directive that is not known stays as it is.
pub(super) fn strftime(now: SystemTime, format: &str) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let weekday = DAYS[(days as usize + 4) % 7];
    let month_name = MONTHS[month as usize - 1];
    let hour12 = (hour + 11) % 12 + 1;
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let Some(mut directive) = characters.next() else {
            text.push('%');
            break;
        };
        // `%-d` is `%d` without padding.
        let is_bare = directive == '-';
        if is_bare {
            directive = characters.next().unwrap_or('-');
        }
        let number = |number: u64, width: usize| match is_bare {
            true => number.to_string(),
            false => format!("{number:0>width$}"),
        };
        match directive {
            'Y' => text.push_str(&year.to_string()),
            'y' => text.push_str(&number(year % 100, 2)),
            'm' => text.push_str(&number(month, 2)),
            'd' => text.push_str(&number(day, 2)),
            'e' => text.push_str(&format!("{day:>2}")),
            'H' => text.push_str(&number(hour, 2)),
            'I' => text.push_str(&number(hour12, 2)),
            'M' => text.push_str(&number(minute, 2)),
            'S' => text.push_str(&number(second, 2)),
            'j' => text.push_str(&number(days - days_before(year) + 1, 3)),
            'p' => text.push_str(if hour < 12 { "AM" } else { "PM" }),
            'A' => text.push_str(weekday),
            'a' => text.push_str(&weekday[..3]),
            'B' => text.push_str(month_name),
            'b' | 'h' => text.push_str(&month_name[..3]),
            'F' => text.push_str(&format!("{year}-{month:02}-{day:02}")),
            'T' => text.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            'Z' => text.push_str("UTC"),
            'z' => text.push_str("+0000"),
            '%' => text.push('%'),
            other => text.extend(['%', other]),
        }
    }
    text
}

/// Year, month and day of a day counted from 1970.
fn date_of(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
    }
    (year, 12, 31)
}

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

fn days_before(year: u64) -> u64 {
    (1970..year).map(days_of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_python() {
        let at = |seconds: u64, format: &str| strftime(UNIX_EPOCH + Duration::from_secs(seconds), format);
        // datetime.fromtimestamp(..., timezone.utc).strftime(...)
        assert_eq!(at(0, "%Y-%m-%d %H:%M:%S %a %j"), "1970-01-01 00:00:00 Thu 001");
        assert_eq!(
            at(1_709_210_096, "%d %b %Y, %A %I:%M %p"),
            "29 Feb 2024, Thursday 12:34 PM"
        );
        assert_eq!(
            at(1_798_675_199, "%-d %B %y %T %j %% %Q%"),
            "30 December 26 23:59:59 364 % %Q%"
        );
        assert_eq!(at(4_102_444_800, "%F"), "2100-01-01");
    }

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
