//! What a template may put into a namespace: texts, numbers, and lists and dictionaries of them.
//!
//! A namespace is the only value that a template can change. So it alone could come to hold itself, which no comparison survives, or grow
//! by a level in each round of a loop.

use minijinja::value::{DynObject, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::functions::MAX_TEXT_DEPTH;
use super::json;

/// The filter that values go through before they are set.
pub(super) const PLAIN: &str = "__plain__";

/// Items of a list for one unit of fuel.
const ITEMS_PER_FUEL: usize = 8;

/// A value as a namespace may hold it. Iterators become lists, because they hold what they come from.
pub(super) fn plain(state: &State, value: Value) -> Result<Value, Error> {
    Ok(changed(state, &value, 0)?.unwrap_or(value))
}

/// [`plain`]; none where the value is that already.
fn changed(state: &State, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
    let refused = |message: String| Err(Error::new(ErrorKind::InvalidOperation, message));
    if depth > MAX_TEXT_DEPTH {
        return refused(format!("a namespace cannot hold more than {MAX_TEXT_DEPTH} levels"));
    }
    let mut is_same = true;
    let mut count = 0_usize;
    let mut item = |item: Value| -> Result<Value, Error> {
        if count.is_multiple_of(ITEMS_PER_FUEL) {
            state.consume_fuel(1)?;
        }
        count += 1;
        let changed = changed(state, &item, depth + 1)?;
        is_same &= changed.is_none();
        Ok(changed.unwrap_or(item))
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
        _ => refused("a namespace can hold texts, numbers, lists and dictionaries only".to_owned()),
    }
}

/// Whether it is a dictionary, and not a namespace, a loop or a macro, which look like one.
fn is_dictionary(value: &Value) -> bool {
    let type_of = |value: &Value| value.as_object().map(DynObject::type_name);
    type_of(value) == type_of(&json::object([]))
}
