//! Methods and tests of Python's values that minijinja and its compatibility module lack or have otherwise.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::bounds::charge_all;

/// A method of a value: those of this module first, then those of the compatibility module.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::String => {
            charge_all(state, args)?;
            of_text(state, value, method, args)?
        }
        ValueKind::Seq if method == "index" => {
            let (item,): (Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|found| found == item);
            Some(Value::from(place.ok_or_else(|| wrong("the item is not in the list"))?))
        }
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn wrong(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn of_text(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let text = value.as_str().unwrap_or_default();
    let part = || from_args::<(&str,)>(args).map(|(part,)| part);
    Ok(Some(match method {
        "format" => {
            // The widths are paid for before they are written.
            state.consume_fuel(widths(text) / 64)?;
            return Ok(None);
        }
        "index" | "rindex" => {
            let found = match method {
                "index" => text.find(part()?),
                _ => text.rfind(part()?),
            };
            let place = found.ok_or_else(|| wrong("the text has no such part"))?;
            Value::from(text[..place].chars().count())
        }
        "partition" => match text.split_once(part()?) {
            Some((before, after)) => tuple([before, part()?, after]),
            None => tuple([text, "", ""]),
        },
        "rpartition" => match text.rsplit_once(part()?) {
            Some((before, after)) => tuple([before, part()?, after]),
            None => tuple(["", "", text]),
        },
        "removeprefix" => Value::from(text.strip_prefix(part()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(part()?).unwrap_or(text)),
        "split" => {
            // The compatibility module does not know the names of the arguments.
            let (separator, most) = split_args(args)?;
            let args = [separator.map_or(Value::from(()), Value::from), Value::from(most)];
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, method, &args).map(Some);
        }
        "rsplit" => {
            let (separator, most) = split_args(args)?;
            let parts = rsplit(text, separator.as_deref(), usize::try_from(most).ok())?;
            state.consume_fuel(parts.len() as u64)?;
            parts.into_iter().map(Value::from).collect()
        }
        _ => return Ok(None),
    }))
}

/// The arguments of `split(sep=None, maxsplit=-1)`.
fn split_args(args: &[Value]) -> Result<(Option<String>, i64), Error> {
    let (separator, most, options): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(options.get("sep")?).map(str::to_owned);
    let most = most.or(options.get("maxsplit")?).unwrap_or(-1);
    options.assert_all_used()?;
    Ok((separator, most))
}

fn tuple(parts: [&str; 3]) -> Value {
    Value::from_object(Tuple::from(parts.map(Value::from)))
}

/// The parts of a text, cut at most `most` times, from the end.
fn rsplit<'t>(text: &'t str, separator: Option<&str>, most: Option<usize>) -> Result<Vec<&'t str>, Error> {
    let most = most.unwrap_or(usize::MAX - 1);
    let mut parts = Vec::new();
    match separator {
        Some("") => return Err(wrong("empty separator")),
        Some(separator) => parts.extend(text.rsplitn(most + 1, separator)),
        None => {
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let cut = rest
                    .char_indices()
                    .rev()
                    .find(|(_, character)| character.is_whitespace());
                let (at, space) = match cut.filter(|_| parts.len() < most) {
                    Some((at, space)) => (at, space.len_utf8()),
                    None => {
                        parts.push(rest);
                        break;
                    }
                };
                parts.push(&rest[at + space..]);
                rest = rest[..at].trim_end();
            }
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The sum of all numbers after a colon in braces, which are widths and precisions.
fn widths(format: &str) -> u64 {
    let fields = format.split('{').skip(1).filter_map(|field| field.split('}').next());
    let specs = fields.filter_map(|field| field.split_once(':')).map(|(_, spec)| spec);
    let numbers = specs.flat_map(|spec| spec.split(|character: char| !character.is_ascii_digit()));
    let width = |digits: &str| match digits.is_empty() {
        true => 0,
        // One that is no number is more than there is room for.
        false => digits.parse().unwrap_or(u64::MAX),
    };
    numbers.map(width).fold(0, u64::saturating_add)
}

/// `"..." % value`
pub(super) fn percent(state: &mut State, format: Value, value: Value) -> Result<Value, Error> {
    let mut args = vec![format];
    match value.downcast_object_ref::<Tuple>() {
        Some(values) => args.extend(values.iter().cloned()),
        None => args.push(value),
    }
    state.apply_filter("format", &args)
}

/// `value is iterable`
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// `value is sequence`: what has a length and items, as texts and dictionaries do in Python.
pub(super) fn is_sequence(value: &Value) -> bool {
    let kind = value.kind();
    matches!(
        kind,
        ValueKind::Undefined | ValueKind::Seq | ValueKind::String | ValueKind::Map
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_from_the_end_as_in_python() {
        let cut = |text, separator, most| rsplit(text, separator, most).expect("parts");
        assert_eq!(cut("a,b,c", Some(","), Some(1)), ["a,b", "c"]);
        assert_eq!(cut("a,b,c", Some(","), None), ["a", "b", "c"]);
        assert_eq!(cut("", Some(","), None), [""]);
        assert_eq!(cut("  a b\u{a0}c ", None, Some(1)), ["  a b", "c"]);
        assert_eq!(cut("  a b c ", None, None), ["a", "b", "c"]);
        assert_eq!(cut(" ", None, Some(0)), [""; 0]);
        assert!(rsplit("a", Some(""), None).is_err());
    }

    #[test]
    fn widths_are_the_numbers_after_colons() {
        assert_eq!(widths("12 {} {3} {a4} {:>5}{x:.6f}{:7.8f} 9"), 26);
        assert_eq!(widths("{:99999999999999999999999}"), u64::MAX);
    }
}
