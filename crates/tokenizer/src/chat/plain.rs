//! What a template may put into a namespace or a loop: texts, numbers, and lists and dictionaries of them.
//!
//! These are the only values that a template can change: `{% set NAME.x = ... %}` puts a value into a namespace, and `loop.changed(...)`
//! keeps its arguments in the loop. So they alone could come to hold themselves, which no comparison survives and which keeps the whole
//! conversation in memory for ever, or grow by a level in each round of a loop.

use minijinja::value::{DynObject, Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};

use super::functions::MAX_TEXT_DEPTH;
use super::json;

/// The filter that values go through before they are set.
pub(super) const PLAIN: &str = "__plain__";

/// Items of a list for one unit of fuel.
const ITEMS_PER_FUEL: usize = 8;

/// The function that `VALUE.changed(...)` is written as: its value, and its arguments.
pub(super) const CHANGED: &str = "__changed__";

/// A value as a namespace may hold it. Iterators become lists, because they hold what they come from.
pub(super) fn plain(state: &State, value: Value) -> Result<Value, Error> {
    held(state, value, "a namespace can hold")
}

/// `loop.changed(...)`: whether the arguments are others than those of the last call.
pub(super) fn changed(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = args.into_values().into_iter();
    let looped = args.next().unwrap_or_default();
    let args = args.map(|arg| held(state, arg, "loop.changed can compare"));
    let args = args.collect::<Result<Vec<Value>, Error>>()?;
    looped.call_method(state, "changed", &args)
}

/// A value as it may be held by what `can` names.
fn held(state: &State, value: Value, can: &str) -> Result<Value, Error> {
    Ok(in_other_form(state, &value, can, 0)?.unwrap_or(value))
}

/// [`held`]; none where the value is that already.
fn in_other_form(state: &State, value: &Value, can: &str, depth: usize) -> Result<Option<Value>, Error> {
    let refused = |what: &str| {
        let message = format!("{can} {what} only");
        Err(Error::new(ErrorKind::InvalidOperation, message))
    };
    if depth > MAX_TEXT_DEPTH {
        return refused(&format!("values of at most {MAX_TEXT_DEPTH} levels"));
    }
    let mut is_same = true;
    let mut count = 0_usize;
    let mut item = |item: Value| -> Result<Value, Error> {
        if count.is_multiple_of(ITEMS_PER_FUEL) {
            state.consume_fuel(1)?;
        }
        count += 1;
        let other = in_other_form(state, &item, can, depth + 1)?;
        is_same &= other.is_none();
        Ok(other.unwrap_or(item))
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(item).collect::<Result<Vec<Value>, Error>>()?;
            let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
            let is_list = value.downcast_object_ref::<Vec<Value>>().is_some();
            Ok(match (is_tuple, is_tuple || is_list) {
                (_, true) if is_same => None,
                (true, _) => Some(Value::from_object(Tuple::from(items))),
                (false, _) => Some(Value::from(items)),
            })
        }
        ValueKind::Map if is_dictionary(value) => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                let entry = value.get_item(&key)?;
                entries.push((item(key)?, item(entry)?));
            }
            Ok((!is_same).then(|| Value::from_pairs(entries)))
        }
        ValueKind::Undefined
        | ValueKind::None
        | ValueKind::Bool
        | ValueKind::Number
        | ValueKind::String
        | ValueKind::Bytes => Ok(None),
        _ => refused("texts, numbers, lists and dictionaries"),
    }
}

/// Whether it is a dictionary, and not a namespace, a loop or a macro, which look like one.
fn is_dictionary(value: &Value) -> bool {
    let type_of = |value: &Value| value.as_object().map(DynObject::type_name);
    type_of(value) == type_of(&json::object([]))
}
