//! What a JSON schema says that the library would not keep: it is refused here, with its place.

use serde_json::{Map, Value};

/// Properties that a schema may name. The library takes time quadratic in their number.
const MAX_PROPERTIES: usize = 2_000;

/// Patterns of keys. The library compares each with each other one.
const MAX_PATTERNS: usize = 64;

/// The largest whole number below which all have 64-bit floating point, in which the library computes.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Numbers below this one in size are read as whole numbers where they are written so.
const MAX_WHOLE: f64 = 9_223_372_036_854_775_808.0;

/// Keywords whose value is a schema, or a list of schemas.
const SCHEMAS: [&str; 15] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords whose value has schemas by name.
const MAPS: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// The schema as the library keeps it, where limits of numbers beyond 2^53 become 2^53, and how many properties it names.
///
/// # Errors
///
/// What cannot be kept, and its place.
pub(super) fn kept(mut schema: Value) -> Result<(Value, usize), String> {
    let mut size = Size::default();
    visit(&mut schema, "#", &mut size)?;
    for (count, what, most) in [
        (size.properties, "properties", MAX_PROPERTIES),
        (size.patterns, "patterns of properties", MAX_PATTERNS),
    ] {
        if count > most {
            return Err(format!(
                "it has {count} {what}, and at most {most} are read: divide it, or leave some out"
            ));
        }
    }
    Ok((schema, size.properties))
}

/// What a schema has, all its parts together.
#[derive(Default)]
struct Size {
    properties: usize,
    patterns: usize,
}

fn visit(schema: &mut Value, place: &str, size: &mut Size) -> Result<(), String> {
    let Some(keys) = schema.as_object_mut() else {
        return Ok(());
    };
    for key in ["const", "enum"] {
        if let Some(value) = keys.get(key) {
            check_exact(value, &format!("{place}/{key}"))?;
        }
    }
    limit_numbers(keys, place)?;
    check_fewest_properties(keys, place)?;
    for name in SCHEMAS {
        let place = format!("{place}/{name}");
        match keys.get_mut(name) {
            Some(Value::Array(all)) => {
                for (index, schema) in all.iter_mut().enumerate() {
                    visit(schema, &format!("{place}/{index}"), size)?;
                }
            }
            Some(schema) => visit(schema, &place, size)?,
            None => (),
        }
    }
    for name in MAPS {
        let Some(all) = keys.get_mut(name).and_then(Value::as_object_mut) else {
            continue;
        };
        match name {
            "properties" => size.properties += all.len(),
            "patternProperties" => size.patterns += all.len(),
            _ => (),
        }
        for (key, schema) in all {
            visit(schema, &format!("{place}/{name}/{key}"), size)?;
        }
    }
    Ok(())
}

/// Whether all numbers of a value survive in 64-bit floating point.
fn check_exact(value: &Value, place: &str) -> Result<(), String> {
    match value {
        Value::Number(number) => {
            let float = number.as_f64().unwrap_or(f64::INFINITY);
            let is_exact = match (number.as_i64(), number.as_u64()) {
                // The library negates numbers below zero.
                (Some(whole), _) => whole > i64::MIN && float as i128 == i128::from(whole),
                (None, Some(whole)) => float as i128 == i128::from(whole),
                // A whole number of so many digits has lost some of them when it was read.
                (None, None) => float.abs() < MAX_WHOLE,
            };
            match is_exact {
                true => Ok(()),
                false => Err(format!(
                    "{place}: the number {number} cannot be kept exactly, as numbers up to 2^53 can; use a text"
                )),
            }
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_exact(item, &format!("{place}/{index}"))),
        Value::Object(entries) => entries
            .iter()
            .try_for_each(|(key, entry)| check_exact(entry, &format!("{place}/{key}"))),
        _ => Ok(()),
    }
}

/// Limits that allow more than 2^53 become 2^53; those that require more are refused.
fn limit_numbers(keys: &mut Map<String, Value>, place: &str) -> Result<(), String> {
    for (key, sign) in [
        ("minimum", -1.0),
        ("exclusiveMinimum", -1.0),
        ("maximum", 1.0),
        ("exclusiveMaximum", 1.0),
    ] {
        let Some(limit) = keys.get(key).and_then(Value::as_f64) else {
            continue;
        };
        if limit * sign > EXACT {
            keys.insert(key.to_owned(), Value::from((EXACT * sign) as i64));
        } else if limit * sign <= -EXACT {
            return Err(format!(
                "{place}/{key}: {limit} would need numbers that cannot be kept exactly, as those up to 2^53 can"
            ));
        }
    }
    Ok(())
}

/// Keys that a schema does not name may come twice in an answer, and then count once.
fn check_fewest_properties(keys: &Map<String, Value>, place: &str) -> Result<(), String> {
    let fewest = keys.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
    let mut required: Vec<&str> = keys
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    required.sort_unstable();
    required.dedup();
    let has_patterns = keys
        .get("patternProperties")
        .and_then(Value::as_object)
        .is_some_and(|patterns| !patterns.is_empty());
    let is_closed = keys.get("additionalProperties") == Some(&Value::Bool(false)) && !has_patterns;
    match !is_closed && fewest > required.len() as u64 + 1 {
        true => Err(format!(
            "{place}/minProperties: {fewest} cannot be enforced where the schema does not name the keys: list them in \
             properties and required"
        )),
        false => Ok(()),
    }
}
