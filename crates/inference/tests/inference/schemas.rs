//! Random JSON schemas, and whether a value is valid by one: only the keywords that the generator writes.

use serde_json::{Map, Value, json};

/// A small generator of numbers: equal seeds give equal schemas.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn is(&mut self) -> bool {
        self.below(2) == 1
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }
}

const NAMES: [&str; 8] = ["a", "naam", "b c", "é", "q\"x", "\\", "x-1", "longer_name"];

/// Whether a text has a pattern.
type Check = fn(&str) -> bool;

/// Patterns without escapes, of which a test can say whether a text matches.
const PATTERNS: [(&str, Check); 3] = [
    ("^[a-c]{2,4}$", |text| {
        (2..=4).contains(&text.chars().count()) && text.chars().all(|c| ('a'..='c').contains(&c))
    }),
    ("^(ja|nee)$", |text| ["ja", "nee"].contains(&text)),
    ("^[0-9]{3}-[0-9]$", |text| {
        let (left, right) = text.split_once('-').unwrap_or_default();
        left.len() == 3 && right.len() == 1 && [left, right].concat().chars().all(|c| c.is_ascii_digit())
    }),
];

/// A schema with definitions, one of them recursive.
pub fn schema(random: &mut Random) -> Value {
    let mut schema = of_depth(random, 3);
    let tree = json!({"type": "object", "additionalProperties": false, "required": ["value"], "properties": {
        "value": of_depth(random, 0),
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]},
    }});
    if let Some(keys) = schema.as_object_mut() {
        keys.insert("$defs".to_owned(), json!({"leaf": of_depth(random, 0), "tree": tree}));
    }
    schema
}

fn of_depth(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 8 } else { 13 }) {
        0 => json!({"type": "boolean"}),
        1 => json!({"type": ["null", "integer"]}),
        2 => {
            let (minimum, width) = (random.below(2000) as i64 - 1000, random.below(300) as i64);
            json!({"type": "integer", "minimum": minimum, "maximum": minimum + width})
        }
        3 => {
            let (minimum, width) = (random.below(100) as f64 / 8.0 - 5.0, random.below(90) as f64 / 4.0);
            json!({"type": "number", "minimum": minimum, "maximum": minimum + width})
        }
        4 => {
            let shortest = random.below(4);
            json!({"type": "string", "minLength": shortest, "maxLength": shortest + random.below(6)})
        }
        5 => json!({"type": "string", "pattern": PATTERNS[random.below(PATTERNS.len())].0}),
        6 => json!({"enum": [random.of(&NAMES), random.below(50), null, {"a": [random.is()]}]}),
        7 => json!({"const": [random.of(&NAMES), {"k": random.below(9)}]}),
        8 | 9 => {
            let least = random.below(3);
            json!({"type": "array", "items": of_depth(random, depth - 1), "minItems": least, "maxItems": least + random.below(3)})
        }
        10 => json!({"anyOf": [of_depth(random, depth - 1), of_depth(random, depth - 1)]}),
        11 => json!({"$ref": random.of(&["#/$defs/leaf", "#/$defs/tree"])}),
        _ => object(random, depth),
    }
}

fn object(random: &mut Random, depth: usize) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for _ in 0..random.below(4) {
        let name = random.of(&NAMES);
        properties.insert(name.to_owned(), of_depth(random, depth - 1));
        if random.is() && !required.contains(&name) {
            required.push(name);
        }
    }
    let additional = match random.below(4) {
        0 => of_depth(random, 0),
        _ => json!(false),
    };
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": additional})
}

/// Whether a value is valid by a schema of [`schema`]; `root` is the whole of it.
pub fn is_valid(schema: &Value, root: &Value, value: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return is_valid(root.pointer(&name[1..]).expect("a definition"), root, value);
    }
    let any_of = schema["anyOf"].as_array();
    let enumerated = schema["enum"].as_array();
    any_of.is_none_or(|all| all.iter().any(|schema| is_valid(schema, root, value)))
        && enumerated.is_none_or(|all| all.contains(value))
        && schema.get("const").is_none_or(|only| only == value)
        && has_type(&schema["type"], value)
        && match value {
            Value::Number(number) => is_between(schema, number.as_f64().expect("a number"), "minimum", "maximum"),
            Value::String(text) => {
                let matches = |pattern: &str| {
                    let known = PATTERNS.iter().find(|known| known.0 == pattern);
                    known.expect("a pattern of this file").1(text)
                };
                is_between(schema, text.chars().count() as f64, "minLength", "maxLength")
                    && schema["pattern"].as_str().is_none_or(matches)
            }
            Value::Array(items) => {
                is_between(schema, items.len() as f64, "minItems", "maxItems")
                    && schema
                        .get("items")
                        .is_none_or(|of| items.iter().all(|item| is_valid(of, root, item)))
            }
            Value::Object(fields) => is_valid_object(schema, root, fields),
            _ => true,
        }
}

fn is_valid_object(schema: &Value, root: &Value, fields: &Map<String, Value>) -> bool {
    let required = schema["required"].as_array().into_iter().flatten();
    let mut names = required.map(|name| name.as_str().expect("a name"));
    let is_valid_field = |(name, value): (&String, &Value)| match &schema["properties"][name] {
        Value::Null => match &schema["additionalProperties"] {
            Value::Bool(is_allowed) => *is_allowed,
            Value::Null => true,
            additional => is_valid(additional, root, value),
        },
        property => is_valid(property, root, value),
    };
    names.all(|name| fields.contains_key(name)) && fields.iter().all(is_valid_field)
}

fn is_between(schema: &Value, number: f64, least: &str, most: &str) -> bool {
    schema[least].as_f64().is_none_or(|least| number >= least)
        && schema[most].as_f64().is_none_or(|most| number <= most)
}

fn has_type(types: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    match types {
        Value::Null => true,
        Value::Array(names) => names.iter().any(|name| is(name.as_str().expect("a name"))),
        name => is(name.as_str().expect("a name")),
    }
}
