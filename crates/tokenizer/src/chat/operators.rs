//! Operators of expressions that minijinja has otherwise than Jinja, or without a limit: they are written as filters.
//!
//! `"..." % value` formats. The operands of `~`, and the left one of `in`, may be lists whose text is much longer than they are in
//! memory; they go through a filter that takes the fuel first. Slices and products are lists, and not iterators over lists. The method
//! `changed` of loops is a function, which refuses what a loop cannot keep. All else stays as it is, and so does what is no expression.

use super::bounds::{BOUNDED, EAGER};
use super::plain::CHANGED;
use super::source::{end_of_tag, end_of_text, is_of_name};

/// The filter that a text followed by `%` calls.
pub(super) const PERCENT: &str = "__percent__";

/// Brackets within brackets. minijinja reads no more of them.
const MAX_DEPTH: usize = 150;

/// What is not an operand, although it looks like a name.
const WORDS: [&str; 7] = ["and", "else", "if", "in", "is", "not", "or"];

/// Operators that bind their operands more tightly than `~`.
const OF_PRODUCTS: [&str; 5] = ["**", "*", "//", "/", "%"];

/// The operators, brackets and words of a tag, which minijinja walks through one within the other.
pub(super) fn count(inside: &str) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(next) = inside[at..].chars().next() {
        match next {
            '"' | '\'' => at = end_of_text(inside, at) + 1,
            _ if is_of_name(next) => {
                let word = word_at(&inside[at..]);
                count += usize::from(WORDS.contains(&word));
                at += word.len();
            }
            _ => {
                count += usize::from(!next.is_whitespace() && !matches!(next, ',' | ':' | ')' | ']' | '}'));
                at += next.len_utf8();
            }
        }
    }
    count
}

/// What is between `{{` and `}}`, with filters instead of these operators.
pub(super) fn in_expression(inside: &str) -> String {
    let read = Reader::new(inside, 0).all(false);
    read.unwrap_or_else(|| inside.to_owned())
}

/// The same for what is between `{%` and `%}`.
pub(super) fn in_block(inside: &str) -> String {
    let mut reader = Reader::new(inside, 0);
    let begin = inside.find(is_of_name).unwrap_or(inside.len());
    reader.at = begin + word_at(&inside[begin..]).len();
    let head = &inside[..reader.at];
    // The names before the first `in` of a loop are those that it sets.
    let is_loop = &head[begin..] == "for";
    let read = reader.all(is_loop);
    read.map_or_else(|| inside.to_owned(), |rest| format!("{head}{rest}"))
}

/// What an operand is, as far as it is seen in the source.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A text as it is written, or one that is formatted.
    Literal,
    /// Another text.
    Text,
    Number,
    /// Perhaps a list.
    Other,
}

/// An operand, as it is written again.
struct Operand {
    text: String,
    kind: Kind,
}

impl Operand {
    /// The operand for an operator that makes a text of it.
    fn bounded(&self) -> String {
        match self.kind {
            Kind::Other => format!("({})|{BOUNDED}", self.text),
            _ => self.text.clone(),
        }
    }
}

/// Reads expressions from the left to the right. Its functions return none where there is no expression.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, depth: usize) -> Self {
        Self { text, at: 0, depth }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The white space that comes next.
    fn space(&self) -> &'t str {
        let rest = self.rest();
        &rest[..rest.len() - rest.trim_start().len()]
    }

    /// What comes after the white space.
    fn next(&self) -> Option<char> {
        self.rest().trim_start().chars().next()
    }

    /// Writes this many bytes as they are.
    fn copy(&mut self, out: &mut String, length: usize) {
        out.push_str(&self.rest()[..length]);
        self.at += length;
    }

    /// All of the text. `is_target` says whether it begins with the names that a loop sets.
    fn all(mut self, mut is_target: bool) -> Option<String> {
        let mut out = String::with_capacity(self.text.len());
        let mut is_right = false;
        while let Some(next) = self.next() {
            let space = self.space().len();
            self.copy(&mut out, space);
            match word_at(self.rest()) {
                "is" => self.test(&mut out)?,
                word if WORDS.contains(&word) => {
                    is_target &= word != "in";
                    self.copy(&mut out, word.len());
                }
                _ if begins_operand(next) => {
                    let sum = self.sum(is_right)?;
                    match !is_target && self.is_before_in() {
                        true => out.push_str(&sum.bounded()),
                        false => out.push_str(&sum.text),
                    }
                }
                _ => self.copy(&mut out, next.len_utf8()),
            }
            is_right = next == '~';
        }
        out.push_str(self.rest());
        Some(out)
    }

    fn is_before_in(&self) -> bool {
        let rest = self.rest().trim_start();
        match word_at(rest) {
            "in" => true,
            "not" => word_at(rest["not".len()..].trim_start()) == "in",
            _ => false,
        }
    }

    /// `is`, `not`, the name of a test, and its arguments in brackets.
    fn test(&mut self, out: &mut String) -> Option<()> {
        self.copy(out, "is".len());
        for is_name in [false, true] {
            let word = word_at(self.rest().trim_start());
            if is_name || word == "not" {
                let length = self.space().len() + word.len();
                self.copy(out, length);
            }
        }
        match self.rest().starts_with('(') {
            true => self.group(out),
            false => Some(()),
        }
    }

    /// Operands with `+` and `-` between them; the first one is the right one of a `~` where `is_right`.
    fn sum(&mut self, is_right: bool) -> Option<Operand> {
        let mut sum = self.concatenation(is_right)?;
        while let Some((before, operator, after)) = self.operator(&["+", "-"]) {
            let right = self.concatenation(false)?;
            sum.text = [&sum.text, before, operator, after, &right.text].concat();
            sum.kind = joined(sum.kind, right.kind);
        }
        Some(sum)
    }

    /// Operands with `~` between them.
    fn concatenation(&mut self, is_right: bool) -> Option<Operand> {
        let first = self.product()?;
        let Some((mut before, mut operator, mut after)) = self.operator(&["~"]) else {
            return Some(match is_right {
                true => Operand {
                    text: first.bounded(),
                    kind: Kind::Text,
                },
                false => first,
            });
        };
        let mut text = first.bounded();
        loop {
            let right = self.product()?.bounded();
            text = [&text, before, operator, after, &right].concat();
            match self.operator(&["~"]) {
                Some(next) => (before, operator, after) = next,
                None => return Some(Operand { text, kind: Kind::Text }),
            }
        }
    }

    /// Operands with `*`, `/`, `//`, `%` and `**` between them.
    fn product(&mut self) -> Option<Operand> {
        let mut product = self.operand()?;
        let mut may_be_list = product.kind == Kind::Other;
        let mut is_multiplied = false;
        while let Some((before, operator, after)) = self.operator(&OF_PRODUCTS) {
            let right = self.operand()?;
            may_be_list |= right.kind == Kind::Other;
            is_multiplied |= operator == "*";
            if operator == "%" && product.kind == Kind::Literal {
                product.text = format!("{}|{PERCENT}({})", product.text, right.text);
            } else {
                product.text = [&product.text, before, operator, after, &right.text].concat();
                product.kind = joined(product.kind, right.kind);
            }
        }
        if is_multiplied && may_be_list && product.kind == Kind::Other {
            product.text = format!("(({})|{EAGER})", product.text);
        }
        Some(product)
    }

    /// The white space before an operator, the operator and the white space after it, where an operand follows.
    fn operator(&mut self, all: &[&'t str]) -> Option<(&'t str, &'t str, &'t str)> {
        let before = self.space();
        let rest = &self.rest()[before.len()..];
        let operator = *all.iter().find(|operator| rest.starts_with(**operator))?;
        let rest = &rest[operator.len()..];
        let operand = rest.trim_start();
        // A sign at the end of a block is a mark for the white space after it.
        let is_followed = operand.trim_start_matches(['-', ' ']).starts_with(begins_operand);
        if !is_followed {
            return None;
        }
        let after = &rest[..rest.len() - operand.len()];
        self.at += before.len() + operator.len() + after.len();
        Some((before, operator, after))
    }

    /// A value with its sign, attributes, indices, calls and filters.
    fn operand(&mut self) -> Option<Operand> {
        let mut signs = String::new();
        while self.next() == Some('-') {
            let length = self.space().len() + 1;
            self.copy(&mut signs, length);
        }
        let space = self.space().len();
        self.copy(&mut signs, space);
        let mut text = String::new();
        let mut kind = match self.next()? {
            '"' | '\'' => {
                self.literals(&mut text)?;
                Kind::Literal
            }
            '(' | '[' | '{' => {
                self.group(&mut text)?;
                Kind::Other
            }
            next if next.is_ascii_digit() => {
                let length = number_at(self.rest());
                self.copy(&mut text, length);
                Kind::Number
            }
            next if is_of_name(next) => {
                let length = word_at(self.rest()).len();
                self.copy(&mut text, length);
                Kind::Other
            }
            _ => return None,
        };
        while let Some(next) = self.next() {
            let space = self.space().len();
            match next {
                '(' | '[' => {
                    self.copy(&mut text, space);
                    let is_slice = self.begins_slice();
                    self.group(&mut text)?;
                    if is_slice {
                        text = format!("({text}|{EAGER})");
                    }
                }
                '.' | '|' => {
                    let of = text.len();
                    let rest = &self.rest()[space + 1..];
                    let name = word_at(rest.trim_start());
                    let length = rest.len() - rest.trim_start().len() + name.len();
                    self.copy(&mut text, space + 1 + length);
                    if next == '.' && name == "changed" && self.next() == Some('(') {
                        text = self.changed(&text[..of])?;
                    }
                }
                _ => break,
            }
            kind = Kind::Other;
        }
        Some(Operand {
            text: signs + &text,
            kind,
        })
    }

    /// The function for the method `changed` of a value, whose arguments come next.
    fn changed(&mut self, value: &str) -> Option<String> {
        self.at += self.space().len();
        let mut args = String::new();
        self.group(&mut args)?;
        let args = &args[1..args.len() - 1];
        let comma = if args.trim().is_empty() { "" } else { ", " };
        Some(format!("{CHANGED}({value}{comma}{args})"))
    }

    /// Whether a slice comes next: brackets with a colon in them.
    fn begins_slice(&self) -> bool {
        let inner = self.rest().strip_prefix('[');
        let inner = inner.and_then(|inner| Some(&inner[..end_of_tag(inner, "]")?]));
        inner.is_some_and(|inner| end_of_tag(inner, ":").is_some())
    }

    /// Texts next to each other, which are one.
    fn literals(&mut self, out: &mut String) -> Option<()> {
        while let Some('"' | '\'') = self.next() {
            let space = self.space().len();
            self.copy(out, space);
            let end = end_of_text(self.text, self.at);
            let is_closed = end > self.at && self.text.as_bytes().get(end) == self.text.as_bytes().get(self.at);
            if !is_closed {
                return None;
            }
            self.copy(out, end + 1 - self.at);
        }
        Some(())
    }

    /// What is in brackets.
    fn group(&mut self, out: &mut String) -> Option<()> {
        let close = match self.rest().as_bytes().first()? {
            b'(' => ")",
            b'[' => "]",
            _ => "}",
        };
        let inner = &self.rest()[1..];
        let inner = &inner[..end_of_tag(inner, close)?];
        if self.depth == MAX_DEPTH {
            return None;
        }
        let written = Reader::new(inner, self.depth + 1).all(false)?;
        self.copy(out, 1);
        out.push_str(&written);
        self.at += inner.len();
        self.copy(out, 1);
        Some(())
    }
}

/// What an operator makes of two operands, of which a text makes a text.
fn joined(left: Kind, right: Kind) -> Kind {
    let is_text = |kind: Kind| matches!(kind, Kind::Literal | Kind::Text);
    match is_text(left) || is_text(right) {
        true => Kind::Text,
        false => Kind::Other,
    }
}

fn begins_operand(character: char) -> bool {
    matches!(character, '"' | '\'' | '(' | '[' | '{') || is_of_name(character)
}

/// The name or word that a text begins with.
fn word_at(text: &str) -> &str {
    let end = text.find(|character: char| !is_of_name(character));
    &text[..end.unwrap_or(text.len())]
}

/// The length of the number that a text begins with.
fn number_at(text: &str) -> usize {
    let whole = word_at(text).len();
    let decimals = text[whole..].strip_prefix('.').map_or("", word_at);
    match decimals.starts_with(|character: char| character.is_ascii_digit()) {
        true => whole + 1 + decimals.len(),
        false => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_minijinja_has_otherwise_or_without_a_limit_is_a_filter() {
        for (inside, expected) in [
            (" '%s' % x ", " '%s'|__percent__(x) "),
            (
                " 'é' % x.y[0] | trim(1) + 1 ",
                " 'é'|__percent__(x.y[0] | trim(1)) + 1 ",
            ),
            (" '%s' '%s' % (a, 'b') ", " '%s' '%s'|__percent__((a, 'b')) "),
            (" 5 % 3 ~ 'a' * 2 ", " (5 % 3)|__bounded__ ~ 'a' * 2 "),
            ("- a ~ 'b' ~ c -", "- (a)|__bounded__ ~ 'b' ~ (c)|__bounded__ -"),
            (
                " a+b ~c.d(e ~ 1)['f'] | g(h) + i ",
                " a+(b)|__bounded__ ~(c.d((e)|__bounded__ ~ 1)['f'] | g(h))|__bounded__ + i ",
            ),
            (
                " x * -2 ~ - y ",
                " (((x * -2)|__eager__))|__bounded__ ~ (- y)|__bounded__ ",
            ),
            (" [1] * 2 ** x + 3 * 4 ", " (([1] * 2 ** x)|__eager__) + 3 * 4 "),
            (" x[1:] + y[0] ", " (x[1:]|__eager__) + y[0] "),
            (
                " - x[:1] [0] | f(y[::2]) ",
                " - (x[:1]|__eager__) [0] | f((y[::2]|__eager__)) ",
            ),
            (" x['a:b'][{'a': 1}['a']] ", " x['a:b'][{'a': 1}['a']] "),
            (" x[y[1:][0]] ", " x[(y[1:]|__eager__)[0]] "),
            (
                " x is divisibleby(a, b) ~ y ",
                " x is divisibleby(a, b) ~ (y)|__bounded__ ",
            ),
            (
                " not (x) in y and 'a' in b and z not  in c ",
                " not ((x))|__bounded__ in y and 'a' in b and (z)|__bounded__ not  in c ",
            ),
            (" 'a' + x in y ", " 'a' + x in y "),
            (
                " {'a': x ~ 1}['a'] if b is not none else [c][0] ",
                " {'a': (x)|__bounded__ ~ 1}['a'] if b is not none else [c][0] ",
            ),
            (" f(a=b ~ 1.5, *c) ", " f(a=(b)|__bounded__ ~ 1.5, *c) "),
            (
                " not loop . changed (a ~ 1, b[1:]) or loop.changed() ~ x.changed ",
                " not __changed__(loop, (a)|__bounded__ ~ 1, (b[1:]|__eager__)) or \
                 (__changed__(loop))|__bounded__ ~ (x.changed)|__bounded__ ",
            ),
            (" loop.index ~ \"\\\"~\" ", " (loop.index)|__bounded__ ~ \"\\\"~\" "),
            (" x.0 - 1 ", " x.0 - 1 "),
            // What is no expression stays as it is.
            (" a ~ ", " a ~ "),
            (" a ~ (b ", " a ~ (b "),
            (" a ~ 'b ", " a ~ 'b "),
            ("", ""),
        ] {
            assert_eq!(in_expression(inside), expected, "{inside}");
        }
        for (inside, expected) in [
            (
                "- for k, v in x.items() if k in y and v is string -",
                "- for k, v in x.items() if (k)|__bounded__ in y and v is string -",
            ),
            (" set x = 'a' ~ b ", " set x = 'a' ~ (b)|__bounded__ "),
            (" include (a) ~ b ", " include ((a))|__bounded__ ~ (b)|__bounded__ "),
            (" call loop.changed(x) -", " call __changed__(loop, x) -"),
            (" macro f(a, b='x' ~ c) ", " macro f(a, b='x' ~ (c)|__bounded__) "),
            (" endif ", " endif "),
        ] {
            assert_eq!(in_block(inside), expected, "{inside}");
        }
        let deep = format!("{}a ~ b{}", "(".repeat(1000), ")".repeat(1000));
        assert_eq!(in_expression(&deep), deep);
    }

    #[test]
    fn operators_brackets_and_words_are_counted_outside_texts() {
        for (inside, expected) in [
            ("", 0),
            (" a, 'b + \\'c', [1] ", 1),
            (" - not a.b(c|d) == e[1:2] if f is in g ", 11),
            (" 'open + ", 0),
            ("é+é", 1),
        ] {
            assert_eq!(count(inside), expected, "{inside}");
        }
    }
}
