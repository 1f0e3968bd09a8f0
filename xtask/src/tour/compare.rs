//! Compares the output of a command with the page: text must be equal, numbers nearly equal.

/// How two outputs are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    pub numbers: Numbers,
    /// Whether the output has words that a model chose. Processors with other instructions round sums differently, so
    /// after some hundred training steps the losses differ in their last digits, and another word may be the most
    /// probable.
    pub has_model_words: bool,
}

/// The tolerance of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Numbers {
    /// This share of the larger one, or one unit of the last decimal.
    Within(f64),
    /// Any number, since it depends on the machine's speed.
    Any,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            numbers: Numbers::Within(0.02),
            has_model_words: false,
        }
    }
}

/// Labels of lines with speed, time, memory or energy: shown on the page, never compared.
const OF_THE_MACHINE: [&str; 8] = [
    "tokens/s",
    "MFU",
    "time",
    "peak memory",
    "energy",
    "CO2e",
    "forecast",
    "with inherited",
];

/// The result of a comparison.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The differences from the page, as text.
    pub differences: Vec<String>,
    /// Whether all compared numbers have the same digits.
    pub is_to_the_digit: bool,
}

/// Compares line by line.
pub fn compare(expected: &[String], got: &[String], numbers: Numbers) -> Comparison {
    let mut found = Comparison {
        differences: Vec::new(),
        is_to_the_digit: true,
    };
    for index in 0..expected.len().max(got.len()) {
        let (old, new) = (expected.get(index), got.get(index));
        let same = match (old, new) {
            (Some(old), Some(new)) => same_line(old, new, numbers),
            _ => Same::No,
        };
        match same {
            Same::ToTheDigit => {}
            Same::Nearly => found.is_to_the_digit = false,
            Same::No => {
                found.is_to_the_digit = false;
                let shown = |mark: char, line: &String| format!("  {mark} {line}");
                found.differences.extend(old.map(|line| shown('-', line)));
                found.differences.extend(new.map(|line| shown('+', line)));
            }
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Same {
    No,
    Nearly,
    ToTheDigit,
}

fn same_line(expected: &str, got: &str, numbers: Numbers) -> Same {
    let label = |line: &str| {
        let has_label = |label: &&str| line.strip_prefix(*label).is_some_and(|rest| rest.starts_with("  "));
        OF_THE_MACHINE.into_iter().find(has_label)
    };
    if label(expected).is_some() && label(expected) == label(got) {
        return Same::ToTheDigit;
    }
    let (expected, got) = (pieces(expected), pieces(got));
    if expected.len() != got.len() {
        return Same::No;
    }
    let pairs = expected.iter().zip(&got);
    pairs
        .map(|(old, new)| same_piece(old, new, numbers))
        .min()
        .unwrap_or(Same::ToTheDigit)
}

fn same_piece(expected: &Piece, got: &Piece, numbers: Numbers) -> Same {
    match (expected, got, numbers) {
        (Piece::Text(old), Piece::Text(new), _) if old == new => Same::ToTheDigit,
        (Piece::Number(_), Piece::Number(_), Numbers::Any) => Same::ToTheDigit,
        (Piece::Number(old), Piece::Number(new), Numbers::Within(share)) => {
            // The last digits of two rounded numbers may differ by one. Whole numbers are counts.
            let digits = old.digits_behind_point.min(new.digits_behind_point);
            let unit = if digits == 0 { 0.0 } else { 1.01 * 0.1_f64.powi(digits) };
            let difference = (old.value - new.value).abs();
            if old == new {
                Same::ToTheDigit
            } else if difference <= unit.max(share * old.value.abs().max(new.value.abs())) {
                Same::Nearly
            } else {
                Same::No
            }
        }
        _ => Same::No,
    }
}

/// A part of a line.
#[derive(Debug, PartialEq)]
enum Piece {
    /// Text without numbers, with runs of white space and of bars as one space.
    Text(String),
    Number(Number),
}

#[derive(Debug, PartialEq)]
struct Number {
    value: f64,
    digits_behind_point: i32,
}

/// Splits a line into numbers and the text between them.
fn pieces(line: &str) -> Vec<Piece> {
    let is_bar = |c: char| ('\u{2580}'..='\u{259f}').contains(&c);
    let characters: Vec<char> = line
        .trim()
        .chars()
        .map(|c| if is_bar(c) || c.is_whitespace() { ' ' } else { c })
        .collect();
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while at < characters.len() {
        let c = characters[at];
        let length = number_length(&characters[at..]);
        // A sign belongs to the number if only a gap or a bracket precedes it.
        let is_sign = c == '-' && (text.is_empty() || text.ends_with([' ', '(', '[', ',']));
        let signed = match is_sign {
            true => number_length(&characters[at + 1..]),
            false => 0,
        };
        if length + signed > 0 {
            let end = at + length + if signed > 0 { signed + 1 } else { 0 };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Number(Number::read(&characters[at..end])));
            at = end;
        } else {
            if c != ' ' || !text.ends_with(' ') {
                text.push(c);
            }
            at += 1;
        }
    }
    let text = text.trim_end();
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
    // A gap at the end of a text depends on the width of the number after it.
    pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text == " "));
    pieces
}

/// The length of a number such as `12`, `1,234` or `0.5` at the start; 0 without one.
fn number_length(characters: &[char]) -> usize {
    let digits = |from: usize| {
        let rest = characters.get(from..).unwrap_or_default();
        rest.iter().take_while(|c| c.is_ascii_digit()).count()
    };
    let mut length = digits(0);
    if length == 0 {
        return 0;
    }
    while characters.get(length) == Some(&',') && digits(length + 1) == 3 {
        length += 4;
    }
    match characters.get(length) == Some(&'.') && digits(length + 1) > 0 {
        true => length + 1 + digits(length + 1),
        false => length,
    }
}

impl Number {
    fn read(characters: &[char]) -> Self {
        let text: String = characters.iter().filter(|c| **c != ',').collect();
        let digits = text.split_once('.').map_or(0, |(_, digits)| digits.len());
        Self {
            // A run of digits always parses.
            value: text.parse().unwrap_or(f64::NAN),
            digits_behind_point: i32::try_from(digits).unwrap_or(i32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(expected: &str, got: &str, numbers: Numbers) -> Comparison {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        compare(&lines(expected), &lines(got), numbers)
    }

    fn is_same(expected: &str, got: &str) -> bool {
        compared(expected, got, Numbers::Within(0.02)).differences.is_empty()
    }

    #[test]
    fn text_must_be_equal_except_white_space() {
        assert!(is_same("val loss    4.50 nats", "val loss 4.50 nats"));
        assert!(!is_same("De kat zat", "De kat zit"));
        assert!(!is_same("one\ntwo", "one"));
        assert!(!is_same("one", "one\ntwo"));
        assert!(!is_same("1 kat", "kat"));
    }

    #[test]
    fn numbers_may_differ_by_their_share_and_by_a_last_digit() {
        assert!(is_same("loss 4.50", "loss 4.58"));
        assert!(!is_same("loss 4.50", "loss 4.60"));
        assert!(is_same(" 0.02 %", " 0.03 %"));
        assert!(!is_same(" 0.02 %", " 0.04 %"));
        assert!(!is_same("-0.50", "0.50"));
        assert!(is_same("0.03 -0.00 ...", "0.03  0.01 ..."));
        assert!(is_same("1,234,567 ids", "1,240,000 ids"));
        assert!(!is_same("1,234 ids", "1,334 ids"));
    }

    #[test]
    fn whole_numbers_must_be_equal() {
        assert!(!is_same("4 layers", "5 layers"));
        assert!(!is_same("h1  3:zat", "h2  3:zat"));
        assert!(is_same("400 steps", "401 steps"));
    }

    #[test]
    fn speeds_are_not_compared_if_the_page_says_so_but_their_text_is() {
        assert!(compared("us 12.5", "us 99.0", Numbers::Any).differences.is_empty());
        assert!(!compared("us 12.5", "ms 12.5", Numbers::Any).differences.is_empty());
        assert!(is_same("time           1 min 12 s", "time           58 s"));
        assert!(!is_same("time and 12 s", "time and 58 s"));
        assert!(!is_same("time           58 s", "MFU            20 %"));
    }

    #[test]
    fn bars_are_not_compared_but_their_numbers_are() {
        assert!(is_same(
            "layer 1  5.00  \u{2588}\u{2588}\u{258c}",
            "layer 1  5.00  \u{2588}\u{2588}\u{2588}"
        ));
        assert!(!is_same("layer 1  5.00  \u{2588}", "layer 1  6.00  \u{2588}"));
    }

    #[test]
    fn equal_digits_and_near_numbers_are_distinguished() {
        let is_to_the_digit = |expected, got, numbers| compared(expected, got, numbers).is_to_the_digit;
        let near = Numbers::Within(0.02);
        assert!(is_to_the_digit("loss 4.5012", "loss 4.5012", near));
        assert!(!is_to_the_digit("loss 4.5012", "loss 4.5013", near));
        assert!(is_to_the_digit("time  3 s", "time  4 s", near));
        assert!(is_to_the_digit("us 3", "us 4", Numbers::Any));
    }

    #[test]
    fn a_difference_shows_both_lines() {
        let found = compared("a\nb 1\nc", "a\nb 2\nc\nd", Numbers::Within(0.02));
        assert_eq!(found.differences, ["  - b 1", "  + b 2", "  + d"]);
    }
}
