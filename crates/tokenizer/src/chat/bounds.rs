//! The limit of the texts that a template builds.
//!
//! minijinja takes fuel for every byte of a text, but of the text of a list or a dictionary only once it is there, and a list may be
//! one text a million times. So whatever makes a text of such a value takes the fuel first: filters, tests and functions here,
//! methods in the module `methods`, and the operators `~` and `in` by [`BOUNDED`].

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, State, Value, filters, tests};
use minijinja_contrib::filters as more_filters;

use super::functions::charge_lists;
use super::plain::{PLAIN, plain};
use super::wrap::wordwrap;

/// The filter that operands of `~` and `in` go through.
pub(super) const BOUNDED: &str = "__bounded__";

/// The filter that slices and products go through, which are lists in Python.
pub(super) const EAGER: &str = "__eager__";

/// Where Python's `splitlines` ends a line.
const LINE_ENDS: [char; 10] = [
    '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// Bytes for one unit of fuel, as minijinja counts them.
const BYTES_PER_FUEL: usize = 64;

/// Puts the limit on everything that makes a text of its arguments, and adds the filters that only minijinja's second crate has.
pub(super) fn add(environment: &mut Environment<'static>) {
    for (name, filter) in [
        ("capitalize", Value::from_function(filters::capitalize)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("filesizeformat", Value::from_function(more_filters::filesizeformat)),
        ("format", Value::from_function(filters::format)),
        ("join", Value::from_function(filters::join)),
        ("lines", Value::from_function(filters::lines)),
        ("lower", Value::from_function(filters::lower)),
        ("pprint", Value::from_function(filters::pprint)),
        ("safe", Value::from_function(filters::safe)),
        ("split", Value::from_function(filters::split)),
        ("striptags", Value::from_function(more_filters::striptags)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("truncate", Value::from_function(more_filters::truncate)),
        ("upper", Value::from_function(filters::upper)),
        ("urlencode", Value::from_function(filters::urlencode)),
        ("wordcount", Value::from_function(more_filters::wordcount)),
    ] {
        let paid = move |state: &mut State, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
            let args = args.into_values();
            charge_all(state, &args)?;
            filter.call(state, &args)
        };
        environment.add_filter(name, paid);
    }
    environment.add_filter("indent", indent);
    environment.add_filter("replace", replace);
    environment.add_filter("reverse", reverse);
    environment.add_filter("wordwrap", wordwrap);
    environment.add_filter(BOUNDED, bounded);
    environment.add_filter(EAGER, eager);
    environment.add_filter(PLAIN, plain);
    environment.add_test("in", is_in);
    // These are not Jinja's.
    environment.remove_filter("chain");
    environment.remove_filter("zip");
    environment.remove_test("endingwith");
    environment.remove_test("startingwith");
    environment.remove_global("debug");
}

/// Takes the fuel for the texts of all arguments that are none.
pub(super) fn charge_all(state: &State, args: &[Value]) -> Result<(), Error> {
    args.iter().try_for_each(|arg| charge_lists(state, arg))
}

/// Takes the fuel for bytes that will be written.
pub(super) fn charge_bytes(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / BYTES_PER_FUEL) as u64)
}

/// An operand whose text is paid for.
fn bounded(state: &State, value: Value) -> Result<Value, Error> {
    charge_lists(state, &value)?;
    Ok(value)
}

/// A list of what an iterator gives. An iterator over an iterator over another one takes time and stack for each of them, each time that
/// it is used.
fn eager(state: &State, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let items = value.try_iter()?.map(|item| -> Result<Value, Error> {
        state.consume_fuel(1)?;
        Ok(item)
    });
    Ok(Value::from(items.collect::<Result<Vec<Value>, Error>>()?))
}

/// `value | reverse`
fn reverse(state: &State, value: &Value) -> Result<Value, Error> {
    eager(state, filters::reverse(value)?)
}

/// `value is in(container)`
fn is_in(state: &State, value: &Value, container: &Value) -> Result<bool, Error> {
    if container.as_str().is_some() {
        charge_lists(state, value)?;
    }
    tests::is_in(state, value, container)
}

/// `text | replace(old, new, count=None)`
fn replace(state: &State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    charge_all(state, &args)?;
    let (text, old, new, count, options): (Cow<str>, Cow<str>, Cow<str>, Option<i64>, Kwargs) = from_args(&args)?;
    let count = count.or(options.get("count")?);
    options.assert_all_used()?;
    // A negative number is all of them, as in Python.
    let count = count
        .and_then(|count| usize::try_from(count).ok())
        .unwrap_or(usize::MAX);
    if new.len() > old.len() {
        let found = text.matches(&*old).take(count).count();
        charge_bytes(state, found.saturating_mul(new.len() - old.len()))?;
    }
    Ok(Value::from(text.replacen(&*old, &new, count)))
}

/// `text | indent(width=4, first=False, blank=False)`, where the width is a number of spaces or a text.
fn indent(state: &State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    charge_all(state, &args)?;
    let (text, width, first, blank, options): (Cow<str>, Option<Value>, Option<bool>, Option<bool>, Kwargs) =
        from_args(&args)?;
    let width = width.or(options.get("width")?);
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    let text = text.replace("\r\n", "\n");
    let unit = match &width {
        Some(width) => match width.as_str() {
            Some(unit) => Cow::Borrowed(unit),
            None => spaces(state, usize::try_from(width.clone())?)?,
        },
        None => spaces(state, 4)?,
    };
    charge_bytes(state, (text.matches(LINE_ENDS).count() + 1).saturating_mul(unit.len()))?;
    let mut out = String::new();
    for (index, line) in text.split(LINE_ENDS).enumerate() {
        let is_indented = match index {
            0 => first,
            _ => blank || !line.is_empty(),
        };
        if index > 0 {
            out.push('\n');
        }
        if is_indented {
            out.push_str(&unit);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

/// The lines of a text, as Python's `splitlines` has them.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, end) = rest.split_at(rest.find(LINE_ENDS).unwrap_or(rest.len()));
        rest = match end.strip_prefix("\r\n") {
            Some(after) => after,
            None => end.strip_prefix(LINE_ENDS).unwrap_or(end),
        };
        Some(line)
    })
}

fn spaces(state: &State, count: usize) -> Result<Cow<'static, str>, Error> {
    charge_bytes(state, count)?;
    Ok(Cow::Owned(" ".repeat(count)))
}
