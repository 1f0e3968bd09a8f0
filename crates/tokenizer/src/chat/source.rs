//! The source of a template, with what minijinja does not have written in another way.

use super::operators::{in_block, in_expression};

/// The function that a `{% generation %}` block calls.
pub(super) const GENERATION: &str = "__generation__";

/// The source that minijinja reads: line ends as Jinja reads them; `{% generation %}` and `{% endgeneration %}` as calls, with the same
/// marks for white space; before `{% set NAME.x = ... %}` a branch that never runs and reads the name, so that a macro knows that it
/// uses it; some operators as filters.
pub(super) fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = String::with_capacity(source.len());
    let mut rest = source.as_str();
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
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let inside = &tag[2..2 + end];
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
    text + rest
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
                "{%- if false %}{{ a }}{% endif %}{% set a.b = '%}' -%}",
            ),
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
            assert_eq!(prepared(source), expected, "{source}");
        }
    }
}
