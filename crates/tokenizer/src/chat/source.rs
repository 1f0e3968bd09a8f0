//! The source of a template, with what minijinja does not have written in another way.

use super::operators::{self, in_block, in_expression};
use super::plain::PLAIN;

/// The function that a `{% generation %}` block calls.
pub(super) const GENERATION: &str = "__generation__";

/// The most operators, brackets and words of one tag, of which minijinja takes stack for each, ...
const MAX_OPERATORS: usize = 2_000;
/// ... and the most `elif` of a template, for the same reason.
const MAX_BRANCHES: usize = 1_000;

/// The source that minijinja reads: line ends as Jinja reads them; `{% generation %}` and `{% endgeneration %}` as calls, with the same
/// marks for white space; before `{% set NAME.x = ... %}` a branch that never runs and reads the name, so that a macro knows that it
/// uses it, and a filter for the value; some operators as filters.
///
/// # Errors
///
/// Why the source cannot be compiled on any stack, with the line.
pub(super) fn prepared(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut branches = 0;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let close = match tag.as_bytes().get(1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                text.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let end = match close {
            "#}" => tag[2..].find(close),
            _ => end_of_tag(&tag[2..], close),
        };
        let inside = &tag[2..end.map_or(tag.len(), |end| 2 + end)];
        branches += usize::from(close == "%}" && word(inside).starts_with("elif"));
        let line = || source[..source.len() - tag.len()].matches('\n').count() + 1;
        if close != "#}" && operators::count(inside) > MAX_OPERATORS {
            return Err(format!(
                "line {}: more than {MAX_OPERATORS} operators in one tag",
                line()
            ));
        }
        if branches > MAX_BRANCHES {
            return Err(format!("line {}: more than {MAX_BRANCHES} elif", line()));
        }
        let Some(end) = end else {
            rest = tag;
            break;
        };
        rest = &tag[end + 4..];
        match close {
            "#}" => text.push_str(&tag[..end + 4]),
            "}}" => text.extend(["{{", &in_expression(inside), "}}"]),
            _ if word(inside) == "raw" => {
                let end = rest.find("endraw").unwrap_or(rest.len());
                text.extend(["{%", inside, "%}", &rest[..end]]);
                rest = &rest[end..];
            }
            _ => push_block(&mut text, inside),
        }
    }
    Ok(text + rest)
}

/// What a block says, without its marks for white space.
fn word(inside: &str) -> &str {
    inside
        .trim_start_matches(['-', '+'])
        .trim_end_matches(['-', '+'])
        .trim()
}

fn push_block(text: &mut String, inside: &str) {
    let word = word(inside);
    let inside = match word {
        "generation" => inside.replace("generation", &format!("call {GENERATION}()")),
        "endgeneration" => inside.replace("endgeneration", "endcall"),
        _ if sets_attribute(word) => with_plain_value(&in_block(inside)),
        _ => in_block(inside),
    };
    let Some(name) = namespace(word) else {
        text.extend(["{%", &inside, "%}"]);
        return;
    };
    // The mark for the white space before the block belongs to the first of the two.
    let marks = inside.len() - inside.trim_start_matches(['-', '+']).len();
    let (mark, inside) = inside.split_at(marks);
    text.push_str(&format!(
        "{{%{mark} if false %}}{{{{ {name} }}}}{{% endif %}}{{%{inside}%}}"
    ));
}

/// Whether a block sets an attribute, perhaps together with other names.
fn sets_attribute(word: &str) -> bool {
    let target = word.strip_prefix("set").filter(|rest| !rest.starts_with(is_of_name));
    let target = target.unwrap_or_default();
    target[..target.find(['=', '|']).unwrap_or(target.len())].contains('.')
}

/// A block that sets an attribute, with the filter for what a namespace may hold. The value is the item of a list there, because a text
/// that goes through a filter takes fuel for each byte.
fn with_plain_value(inside: &str) -> String {
    let body = inside.trim_end_matches(['-', '+']);
    let mark = &inside[body.len()..];
    let at = body.find(['=', '|']).unwrap_or(body.len());
    let (target, value) = body.split_at(at);
    match value.strip_prefix('=') {
        Some(value) if !value.trim().is_empty() => format!("{target}= ([({value})]|{PLAIN})[0] {mark}"),
        None if !value.is_empty() => format!("{body}|{PLAIN} {mark}"),
        // What is between the tags is a text.
        _ => inside.to_owned(),
    }
}

/// The name of the namespace that a block sets an attribute of.
fn namespace(word: &str) -> Option<&str> {
    let target = word.strip_prefix("set")?;
    let name = target.trim_start();
    let end = name
        .find(|character: char| !is_of_name(character))
        .unwrap_or(name.len());
    let is_attribute = name[end..].trim_start().starts_with('.');
    (name.len() < target.len() && end > 0 && is_attribute).then_some(&name[..end])
}

pub(super) fn is_of_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Where a tag ends: its end in a text or within brackets does not count.
pub(super) fn end_of_tag(text: &str, close: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if depth == 0 && text[at..].starts_with(close) {
            return Some(at);
        }
        match text.as_bytes()[at] {
            b'"' | b'\'' => at = end_of_text(text, at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => (),
        }
        at += 1;
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    None
}

/// The place of the quote that ends the text which begins at `start`, or the last place.
pub(super) fn end_of_text(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != bytes[start] {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_minijinja_does_not_have_is_written_in_another_way() {
        for (source, expected) in [
            ("a\r\nb\rc", "a\nb\nc"),
            ("{ {% if x %}é{% endif %} {", "{ {% if x %}é{% endif %} {"),
            ("{%- generation -%}", "{%- call __generation__() -%}"),
            (
                "{{ '}}%}' }}{# {% set a.b = 1 %} #}",
                "{{ '}}%}' }}{# {% set a.b = 1 %} #}",
            ),
            ("{% set a = 1 %}", "{% set a = 1 %}"),
            (
                "{%- set a.b = '%}' -%}",
                "{%- if false %}{{ a }}{% endif %}{% set a.b = ([( '%}' )]|__plain__)[0] -%}",
            ),
            (
                "{% set a, (b.c) = 1, x[1:] %}",
                "{% set a, (b.c) = ([( 1, (x[1:]|__eager__) )]|__plain__)[0] %}",
            ),
            (
                "{% set a.b | upper -%}",
                "{% if false %}{{ a }}{% endif %}{% set a.b | upper |__plain__ -%}",
            ),
            ("{% set a.b %}", "{% if false %}{{ a }}{% endif %}{% set a.b %}"),
            ("{% set a = b.c %}", "{% set a = b.c %}"),
            (
                "{% raw %}{% set a.b = 1 %}{% endraw %}",
                "{% raw %}{% set a.b = 1 %}{% endraw %}",
            ),
            ("{{ '%s' % x }}", "{{ '%s'|__percent__(x) }}"),
            (
                "{{ \"%s\\\"\" % (a, 'b') ~ {'a': {'b': '%'}} }}",
                "{{ \"%s\\\"\"|__percent__((a, 'b')) ~ ({'a': {'b': '%'}})|__bounded__ }}",
            ),
            (
                "{{ 'é' % x.y[0] | trim(1) + 1 }}",
                "{{ 'é'|__percent__(x.y[0] | trim(1)) + 1 }}",
            ),
            ("{% set x = 'a' %}{{ 5 % 3 }}", "{% set x = 'a' %}{{ 5 % 3 }}"),
            ("{{ 'open", "{{ 'open"),
            ("{{ 'a' % ", "{{ 'a' % "),
        ] {
            assert_eq!(prepared(source).as_deref(), Ok(expected), "{source}");
        }
        let many = "\n{{ 1".to_owned() + &" + 1".repeat(2001);
        for source in [many.clone(), many.clone() + " }}"] {
            assert_eq!(
                prepared(&source),
                Err("line 2: more than 2000 operators in one tag".to_owned())
            );
        }
        let many = "{% if a %}{% elif b %}\n".repeat(1001);
        assert_eq!(prepared(&many), Err("line 1001: more than 1000 elif".to_owned()));
    }
}
