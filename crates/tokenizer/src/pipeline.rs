//! Checks on the steps around the model of a `tokenizer.json`, so that with an untrusted file a short text cannot take hours or
//! gigabytes.
//!
//! Normalizers, pre-tokenizers and decoders run patterns and insert texts; post-processors insert tokens. All growth is bounded
//! here: patterns must run in a linear-time matcher, replacements and templates may not make a text much longer.

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Value};

use crate::charsmap::Table;

type Checked<T> = Result<T, String>;

/// The most steps of each part of the pipeline; published files have less than a dozen.
const MAX_STEPS: usize = 64;

/// The largest factor by which all replacements of a part together may lengthen a text; SentencePiece's space takes three bytes
/// for one.
const MAX_GROWTH: usize = 64;

/// Characters take up to four bytes, but those with the longest replacements in SentencePiece's tables take three.
const LONGEST_CHARACTER_BYTES: usize = 3;

/// The longest text that a step inserts before, after or between words, in bytes.
const MAX_AFFIX_BYTES: usize = 256;

/// The longest pattern, in bytes; the longest in public use have about 600.
const MAX_PATTERN_BYTES: usize = 4096;

/// The most character ranges and literals of all patterns of a file, with repetitions expanded; a matcher takes about 100 bytes
/// for each. Published files have less than 20 thousand.
const MAX_PATTERN_WEIGHT: u64 = 100_000;

/// The most entries of a template, and tokens per entry.
const MAX_TEMPLATE: usize = 64;

/// The longest word for WordPiece, in characters; the work grows with the square. Published files have 100.
const MAX_WORD_CHARS: u64 = 1000;

/// The only look-ahead in published patterns, GPT-2's rule for the last space before a word. It looks at one character, so it is
/// cheap as a top-level alternative.
const LAST_SPACE: &str = r"\s+(?!\S)";

/// Checks all parts of the pipeline of a parsed file.
pub(crate) fn check(file: &Map<String, Value>, vocab_size: usize) -> Checked<()> {
    let mut pattern_weight = 0;
    for part in ["normalizer", "pre_tokenizer", "decoder"] {
        if let Some(value) = file.get(part) {
            let mut walk = Walk {
                pattern_weight,
                steps: 0,
                growth: 1,
            };
            walk.visit(value, part)?;
            pattern_weight = walk.pattern_weight;
        }
    }
    if let Some(value) = file.get("post_processor") {
        check_post_processor(value, "post_processor", vocab_size)?;
    }
    match file.get("model").and_then(Value::as_object) {
        Some(model) => check_model(model),
        None => Ok(()),
    }
}

fn check_model(model: &Map<String, Value>) -> Checked<()> {
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        check_affix(model, key, "model")?;
    }
    let most = model.get("max_input_chars_per_word").and_then(Value::as_u64);
    match most.filter(|&most| most > MAX_WORD_CHARS) {
        Some(most) => Err(format!(
            "`model.max_input_chars_per_word`: expected at most {MAX_WORD_CHARS}, got {most}"
        )),
        None => Ok(()),
    }
}

fn check_affix(object: &Map<String, Value>, key: &str, path: &str) -> Checked<()> {
    match object.get(key).and_then(Value::as_str).map(str::len) {
        Some(bytes) if bytes > MAX_AFFIX_BYTES => Err(format!(
            "`{path}.{key}`: {bytes} bytes, but at most {MAX_AFFIX_BYTES} are accepted"
        )),
        _ => Ok(()),
    }
}

/// A walk over one part of the pipeline.
struct Walk {
    pattern_weight: u64,
    steps: usize,
    growth: usize,
}

impl Walk {
    fn visit(&mut self, value: &Value, path: &str) -> Checked<()> {
        match value {
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    // Only objects matter, and their number is limited, so that no path is built for each of a million numbers.
                    if value.is_object() || value.is_array() {
                        self.visit(value, &format!("{path}[{index}]"))?;
                    }
                }
                Ok(())
            }
            Value::Object(object) => self.visit_step(object, path),
            _ => Ok(()),
        }
    }

    fn visit_step(&mut self, step: &Map<String, Value>, path: &str) -> Checked<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(format!("`{path}`: more than {MAX_STEPS} steps and settings"));
        }
        if let Some(pattern) = step.get("Regex").and_then(Value::as_str) {
            let weight = check_pattern(pattern).map_err(|detail| format!("`{path}.Regex`: {detail}"))?;
            self.pattern_weight = self.pattern_weight.saturating_add(weight);
            if self.pattern_weight > MAX_PATTERN_WEIGHT {
                return Err(format!(
                    "`{path}.Regex`: the patterns of this file are too large together"
                ));
            }
        }
        for key in ["content", "prepend", "replacement", "prefix", "suffix"] {
            check_affix(step, key, path)?;
        }
        let kind = step.get("type").and_then(Value::as_str).unwrap_or("");
        if kind == "FixedLength" && step.get("length").and_then(Value::as_u64) == Some(0) {
            return Err(format!("`{path}.length`: expected at least 1, got 0"));
        }
        let wrong = |detail: String| format!("`{path}.precompiled_charsmap`: {detail}");
        let table = step.get("precompiled_charsmap").and_then(Value::as_str);
        let table = table.map(Table::parse).transpose().map_err(wrong)?;
        if let Some(table) = &table {
            let longest = table.longest_replacement();
            self.growth = self
                .growth
                .saturating_mul(longest.div_ceil(LONGEST_CHARACTER_BYTES).max(1));
        }
        self.growth = self.growth.saturating_mul(growth(kind, step));
        if self.growth > MAX_GROWTH {
            return Err(format!(
                "`{path}`: its replacements together make a text more than {MAX_GROWTH} times longer"
            ));
        }
        if let Some(table) = &table {
            table.check_paths().map_err(wrong)?;
        }
        step.iter()
            .filter(|(_, value)| value.is_object() || value.is_array())
            .try_for_each(|(key, value)| self.visit(value, &format!("{path}.{key}")))
    }
}

/// The factor by which a step can lengthen a text.
fn growth(kind: &str, step: &Map<String, Value>) -> usize {
    if kind == "ByteLevel" {
        // A byte becomes a character of two bytes.
        return 2;
    }
    let (Some(content), Some(pattern)) = (step.get("content").and_then(Value::as_str), step.get("pattern")) else {
        return 1;
    };
    // Patterns that are not accepted are reported at their position.
    let shortest_match = if let Some(text) = pattern.get("String").and_then(Value::as_str) {
        text.len()
    } else if let Some(regex) = pattern.get("Regex").and_then(Value::as_str) {
        parse(regex).map_or(0, |hir| hir.properties().minimum_len().unwrap_or(0))
    } else {
        0
    };
    match shortest_match {
        0 => 1 + content.len(),
        bytes => content.len().div_ceil(bytes).max(1),
    }
}

/// Checks that a pattern takes linear time, and returns the size of its matcher.
///
/// The library uses a backtracking engine for patterns with look-around, back-references or possessive repetitions, which can
/// take exponential time, and a linear-time one for the others.
fn check_pattern(pattern: &str) -> Checked<u64> {
    Ok(weight(&parse(pattern)?))
}

fn parse(pattern: &str) -> Checked<Hir> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!(
            "{} bytes, but at most {MAX_PATTERN_BYTES} are accepted",
            pattern.len()
        ));
    }
    let plain = without_last_space_rule(pattern)?;
    if let Some(found) = engine_switch(&plain) {
        return Err(format!(
            "{found:?} makes a pattern that may take exponential time and is not accepted"
        ));
    }
    regex_syntax::parse(&plain).map_err(|_| {
        format!(
            "not a pattern that takes linear time: look-around (other than `{LAST_SPACE}` as an alternative by itself) \
             and back-references are not accepted"
        )
    })
}

/// The pattern with each `\s+(?!\S)` that is a whole alternative of it replaced by `\s+`.
fn without_last_space_rule(pattern: &str) -> Checked<String> {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once(LAST_SPACE) {
        plain.push_str(before);
        // The text before is a pattern by itself only if no group and no class is open.
        let is_first = plain.is_empty()
            || plain
                .strip_suffix('|')
                .is_some_and(|alternatives| regex_syntax::parse(alternatives).is_ok());
        if !is_first || !(after.is_empty() || after.starts_with('|')) {
            return Err(format!("`{LAST_SPACE}` is accepted as an alternative by itself only"));
        }
        plain.push_str(r"\s+");
        rest = after;
    }
    plain.push_str(rest);
    Ok(plain)
}

/// The first piece of a pattern that the linear-time parser reads differently than the library: possessive repetitions, and
/// boundaries that the library converts to look-around.
fn engine_switch(pattern: &str) -> Option<&str> {
    let bytes = pattern.as_bytes();
    let (mut at, mut classes, mut is_after_repetition) = (0, 0_usize, false);
    while at < bytes.len() {
        let here = &bytes[at..];
        match here {
            [b'\\', b'<' | b'>', ..] if classes == 0 => return Some(&pattern[at..at + 2]),
            [b'\\', b'b' | b'B', b'{', ..] if classes == 0 => return Some(&pattern[at..at + 3]),
            // The braces of a property or a code point are not a repetition.
            [b'\\', b'p' | b'P' | b'x' | b'u' | b'U', b'{', ..] => {
                at += here
                    .iter()
                    .position(|&byte| byte == b'}')
                    .map_or(here.len(), |end| end + 1);
                is_after_repetition = false;
                continue;
            }
            [b'\\', ..] => {
                at += 2;
                is_after_repetition = false;
                continue;
            }
            [b'[', ..] => classes += 1,
            [b']', ..] => classes = classes.saturating_sub(1),
            [b'+', ..] if classes == 0 && is_after_repetition => return Some(&pattern[at - 1..at + 1]),
            _ => {}
        }
        is_after_repetition = classes == 0 && matches!(here[0], b'*' | b'+' | b'?' | b'}');
        at += 1;
    }
    None
}

/// The approximate number of states of a matcher.
fn weight(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Unicode(class)) => 2 * class.ranges().len() as u64,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() as u64,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(repetition.min).max(1);
            weight(&repetition.sub).saturating_mul(u64::from(times))
        }
        HirKind::Capture(capture) => weight(&capture.sub).saturating_add(1),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(weight).fold(1, u64::saturating_add),
    }
}

/// Checks that the tokens around a text are in the vocabulary, and their number.
fn check_post_processor(value: &Value, path: &str, vocab_size: usize) -> Checked<()> {
    let object = match value {
        Value::Array(values) => {
            if values.len() > MAX_TEMPLATE {
                return Err(format!(
                    "`{path}`: {} entries, but at most {MAX_TEMPLATE} are accepted",
                    values.len()
                ));
            }
            return values
                .iter()
                .enumerate()
                .try_for_each(|(index, value)| check_post_processor(value, &format!("{path}[{index}]"), vocab_size));
        }
        Value::Object(object) => object,
        _ => return Ok(()),
    };
    let check_id = |id: &Value, key: &str| match id.as_u64() {
        Some(id) if id < vocab_size as u64 => Ok(()),
        _ => Err(format!("`{path}.{key}`: {id} is not an id of the vocabulary")),
    };
    for key in ["sep", "cls"] {
        if let Some(id) = object.get(key).and_then(|pair| pair.get(1)) {
            check_id(id, key)?;
        }
    }
    if let Some(ids) = object.get("ids").and_then(Value::as_array) {
        ids.iter().try_for_each(|id| check_id(id, "ids"))?;
    }
    for key in ["single", "pair"] {
        check_affix(object, key, path)?;
    }
    object
        .iter()
        .try_for_each(|(key, value)| check_post_processor(value, &format!("{path}.{key}"), vocab_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patterns;

    #[test]
    fn published_patterns_are_accepted() {
        let published = [
            patterns::GPT2,
            patterns::CHARACTERS,
            patterns::WORDS,
            patterns::SPACED,
            // GPT-4, Llama 3 and Qwen 2.
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            // GPT-4o and Llama 4.
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            // DeepSeek V3.
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
            // BLOOM.
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            // T5 and CLIP.
            r" {2,}",
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        ];
        let mut all = 0;
        for pattern in published {
            all += check_pattern(pattern).unwrap_or_else(|detail| panic!("{pattern}: {detail}"));
        }
        assert!(all < MAX_PATTERN_WEIGHT / 2, "{all}");
    }

    #[test]
    fn patterns_that_may_take_exponential_time_are_refused() {
        for pattern in [
            r"(a+)+(?!b)",
            r"(a*)*\1",
            r"(\s+(?!\S))+x",
            r"(?:a|\s+(?!\S)|b)+c",
            r"[|\s+(?!\S)|]",
            r"\|\s+(?!\S)",
            r"a\s+(?!\S)",
            r"\s+(?!\S)+",
            r"(?<=a)b",
            r"(?>a+)b",
            r"a++b",
            r"(a+)+b?+c",
            r"\d{2}+",
            r"\p{L}++",
            r"a\>",
            r"\b{start}a",
            r"\Ga",
            r"(?(1)a|b)",
            r"\K",
            "(",
            "[a",
        ] {
            assert!(check_pattern(pattern).is_err(), "{pattern} was accepted");
        }
        for pattern in [r"[a+]+", r"\++", r"\}+", r"[*+]", r"a+?", r"\\<", r"\p{L}+"] {
            assert!(
                check_pattern(pattern).is_ok(),
                "{pattern}: {:?}",
                check_pattern(pattern)
            );
        }
    }

    #[test]
    fn a_pattern_weighs_as_much_as_it_expands_to() {
        assert_eq!(check_pattern("abc").unwrap(), 3);
        assert!(check_pattern(r"(?:(?:a{1000}){1000}){1000}").unwrap() > MAX_PATTERN_WEIGHT);
        assert!(check_pattern(r"\p{L}{1000}").unwrap() > MAX_PATTERN_WEIGHT);
    }
}
