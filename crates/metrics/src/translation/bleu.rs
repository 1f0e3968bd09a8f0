//! BLEU's counts and figure.

use super::N_COUNTS;
use super::ngrams::{is_space, ngrams, words};

/// The longest run of words.
const MAX_ORDER: usize = 4;

/// Length of the translation, length of the reference, matches of each order, runs of each order.
pub(super) fn counts(translation: &str, references: &[&str]) -> [u64; N_COUNTS] {
    let tokenized = tokenize_13a(translation);
    let said: Vec<&str> = words(&tokenized).collect();
    let references: Vec<String> = references.iter().map(|text| tokenize_13a(text)).collect();
    let references: Vec<Vec<&str>> = references.iter().map(|text| words(text).collect()).collect();
    // Of two lengths equally near the shorter one counts.
    let lengths = references.iter().map(Vec::len);
    let nearest = lengths.min_by_key(|length| (length.abs_diff(said.len()), *length));
    let mut counts = [0; N_COUNTS];
    counts[0] = said.len() as u64;
    counts[1] = nearest.unwrap_or(0) as u64;
    for order in 1..=MAX_ORDER {
        let of_references: Vec<_> = references.iter().map(|words| ngrams(words, order)).collect();
        for (run, count) in ngrams(&said, order) {
            let most = of_references.iter().filter_map(|found| found.get(run)).max();
            counts[1 + order] += count.min(most.copied().unwrap_or(0));
            counts[1 + MAX_ORDER + order] += count;
        }
    }
    counts
}

/// The geometric mean of the precisions times the brevity penalty, in percent. An order without a match counts as half a match, the next
/// one as a quarter (Chen and Cherry 2014, method 3). With `is_effective` orders that the text is too short for do not count; otherwise
/// the figure is 0 then.
pub(super) fn score(counts: &[u64; N_COUNTS], is_effective: bool) -> f64 {
    let (said, wanted) = (counts[0] as f64, counts[1] as f64);
    let matches = &counts[2..][..MAX_ORDER];
    let totals = &counts[2 + MAX_ORDER..][..MAX_ORDER];
    if matches.iter().all(|count| *count == 0) {
        return 0.0;
    }
    let (mut smoothing, mut sum, mut n_orders) = (1.0, 0.0, 0);
    for (count, total) in matches.iter().zip(totals) {
        if *total == 0 {
            break;
        }
        n_orders += 1;
        let count = match count {
            0 => {
                smoothing *= 2.0;
                1.0 / smoothing
            }
            count => *count as f64,
        };
        sum += (100.0 * count / *total as f64).ln();
    }
    if n_orders < MAX_ORDER && !is_effective {
        return 0.0;
    }
    let brevity = if said < wanted {
        (1.0 - wanted / said).exp()
    } else {
        1.0
    };
    brevity * (sum / n_orders as f64).exp()
}

/// The text with spaces between tokens: the tokenization of NIST's mteval-v13a, as sacrebleu's `13a`.
fn tokenize_13a(text: &str) -> String {
    let mut text = text.trim_end_matches(is_space).replace("<skipped>", "");
    text = text.replace("-\n", "").replace('\n', " ");
    if text.contains('&') {
        for (entity, letter) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            text = text.replace(entity, letter);
        }
    }
    let mut letters = vec![' '];
    for letter in text.chars() {
        match is_separate(letter) {
            true => letters.extend([' ', letter, ' ']),
            false => letters.push(letter),
        }
    }
    letters.push(' ');
    let is_stop = |letter: char| matches!(letter, '.' | ',');
    let is_digit = |letter: char| letter.is_ascii_digit();
    // A period or comma that does not follow a digit, then one that no digit follows, then a hyphen after a digit.
    letters = spaced(&letters, |a, b| !is_digit(a) && is_stop(b), |a, b| [a, ' ', b, ' ']);
    letters = spaced(&letters, |a, b| is_stop(a) && !is_digit(b), |a, b| [' ', a, ' ', b]);
    letters = spaced(&letters, |a, b| is_digit(a) && b == '-', |a, b| [a, ' ', b, ' ']);
    letters.into_iter().collect()
}

/// ASCII punctuation but apostrophe, comma, hyphen and period; and the space, as in the regular expression of sacrebleu.
fn is_separate(letter: char) -> bool {
    matches!(letter, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// Replaces two neighbors that fit, from left to right and without overlap, as `re.sub` does.
fn spaced(letters: &[char], fits: impl Fn(char, char) -> bool, with: impl Fn(char, char) -> [char; 4]) -> Vec<char> {
    let mut out = Vec::with_capacity(letters.len() + 16);
    let mut rest = letters;
    loop {
        match rest {
            [a, b, after @ ..] if fits(*a, *b) => {
                out.extend(with(*a, *b));
                rest = after;
            }
            [a, after @ ..] => {
                out.push(*a);
                rest = after;
            }
            [] => return out,
        }
    }
}
