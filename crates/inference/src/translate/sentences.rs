//! Where sentences end.

use std::ops::Range;

/// Abbreviations before names and examples, after which a sentence goes on, in lower case and without the period.
const GOES_ON: [&str; 47] = [
    "approx", "bijv", "bv", "ca", "capt", "col", "dept", "dhr", "dr", "drs", "ds", "evt", "excl", "gebr", "gen", "gov",
    "incl", "ing", "ir", "jhr", "lt", "mej", "messrs", "mevr", "mlle", "mme", "mr", "mrs", "ms", "mt", "mw", "ong",
    "pres", "prof", "rep", "resp", "rev", "sen", "sgt", "st", "ste", "supt", "univ", "viz", "vgl", "vs", "zgn",
];

/// Abbreviations before numbers.
const BEFORE_NUMBER: [&str; 16] = [
    "afb", "art", "blz", "ch", "fig", "hfst", "no", "nos", "nr", "nrs", "p", "par", "pp", "sec", "tel", "vol",
];

/// Abbreviations of single letters after which a sentence may end.
const MAY_END: [&str; 6] = ["a.m", "a.u.b", "e.a", "e.d", "p.m", "s.v.p"];

/// The sentences of a text, without the white space between them. One ends with a mark such as a period, after which there may be closing
/// quotes and brackets, before white space; not where the next word begins with a small letter (unless the whole text is in small letters),
/// nor after abbreviations, initials and the number of a list.
pub(super) fn sentences(text: &str) -> Vec<Range<usize>> {
    let is_small = !text.chars().any(char::is_uppercase);
    split(text, |sentence, word, next| ends(sentence, word, next, is_small))
}

/// The shortest parts that end with a mark before white space.
pub(super) fn marked_parts(text: &str) -> Vec<Range<usize>> {
    split(text, |_, word, _| without_closing(word).ends_with(is_mark))
}

/// The lines of a text that have words, without the white space around them.
pub(super) fn lines(text: &str) -> Vec<Range<usize>> {
    let place = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let lines = text.split(is_line_break).map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| place(line)..place(line) + line.len()).collect()
}

/// Line breaks of Unicode.
fn is_line_break(letter: char) -> bool {
    matches!(
        letter,
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// Splits after the words that end a sentence, given the sentence so far, its last word and the next one.
fn split(text: &str, is_end: impl Fn(&str, &str, &str) -> bool) -> Vec<Range<usize>> {
    let place = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let mut words = text.split_whitespace().peekable();
    let (mut found, mut start) = (Vec::new(), None);
    while let Some(word) = words.next() {
        let end = place(word) + word.len();
        let begin = *start.get_or_insert_with(|| place(word));
        let is_last = words.peek().is_none_or(|next| is_end(&text[begin..end], word, next));
        if is_last {
            found.push(begin..end);
            start = None;
        }
    }
    found
}

fn is_mark(letter: char) -> bool {
    matches!(letter, '.' | '!' | '?' | '…' | '。' | '！' | '？')
}

fn without_closing(word: &str) -> &str {
    word.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»', '“'])
}

fn without_opening(word: &str) -> &str {
    word.trim_start_matches(['"', '\'', '(', '[', '“', '‘', '„', '«', '¿', '¡'])
}

/// Whether the last word of a sentence so far ends it.
fn ends(sentence: &str, word: &str, next: &str, is_small: bool) -> bool {
    let bare = without_closing(word);
    if !bare.ends_with(is_mark) {
        return false;
    }
    // Dutch has words of one letter that stay small at the beginning: 's Ochtends.
    let is_clitic = ["'s", "'t", "'n", "’s", "’t", "’n"].contains(&next);
    let goes_on_small = !is_clitic && without_opening(next).starts_with(char::is_lowercase);
    let is_quoted = bare.len() < word.len();
    if goes_on_small && (!is_small || is_quoted) {
        return false;
    }
    let stem = bare.trim_end_matches('.');
    match bare.len() - stem.len() {
        0 => true,
        1 => ends_with_period(sentence.trim_end() == word, without_opening(stem), next),
        // Points of suspension.
        _ => !goes_on_small,
    }
}

/// Whether a period after `stem` ends a sentence.
fn ends_with_period(is_only_word: bool, stem: &str, next: &str) -> bool {
    if stem.is_empty() {
        return true;
    }
    if stem.chars().all(|letter| letter.is_ascii_digit()) {
        return !is_only_word;
    }
    let small = stem.to_lowercase();
    if GOES_ON.contains(&small.as_str()) {
        return false;
    }
    let is_before_number = next.starts_with(|letter: char| letter.is_ascii_digit());
    if is_before_number && BEFORE_NUMBER.contains(&small.as_str()) {
        return false;
    }
    let is_letter = |piece: &str| piece.chars().count() == 1 && piece.chars().all(char::is_alphabetic);
    if !stem.split('.').all(is_letter) {
        return true;
    }
    match stem.contains('.') {
        true => MAY_END.contains(&small.as_str()),
        // An initial; but: So do I.
        false => stem == "I" || !stem.chars().all(char::is_uppercase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, ranges: Vec<Range<usize>>) -> Vec<&str> {
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    /// Whether a text, written with `|` where sentences end, is split there and nowhere else.
    fn is_split(marked: &str) {
        let text = marked.replace('|', " ");
        assert_eq!(
            cut(&text, sentences(&text)),
            marked.split('|').collect::<Vec<_>>(),
            "{marked}"
        );
    }

    #[test]
    fn sentences_end_with_a_mark_before_white_space() {
        for text in [
            "Een.|Twee!|Drie?",
            "Hij zei: \"Ja.\"|Toen niets",
            "(Ja.)|Nee",
            "\"Come in.|Sit down.\"|He closed the door.",
            "Wait...|What?",
            "Zonder einde",
            "he went home.|he slept.|why?",
            "Ik slaap.|'s Ochtends werk ik.|'t Is laat.",
            "He was born in 1990.|She was not.",
        ] {
            is_split(text);
        }
        assert_eq!(
            cut("  Een.  Twee ", sentences("  Een.  Twee ")),
            ["Een.", "Twee"],
            "white space is between them"
        );
        assert!(sentences("  ").is_empty());
    }

    #[test]
    fn abbreviations_initials_numbers_and_quotes_do_not_end_a_sentence() {
        for text in [
            "I met Mr. Smith and Dr. Jones.|They left.",
            "Ik zag dhr. Jansen en mevr. De Vries.|Zij gingen weg.",
            "Fruit, e.g. apples, i.e. Dutch ones, d.w.z. Elstar.|It is good.",
            "Neem bijv. Amsterdam.|Of Rotterdam.",
            "J.R.R. Tolkien and J. Smith live in the U.S. Army base.|So do I.|Good.",
            "It costs 3.5 euros.|That is no. 5 of p. 12.|No.|I won't.",
            "1. Open the door.|2. Close it.",
            "\"Ja!\" zei hij.|\"Nee...\" zei zij.",
            "3.5 km ... verder",
            "He came at 5 p.m. and left.|At 6 p.m.|She slept.",
        ] {
            is_split(text);
        }
    }

    #[test]
    fn marked_parts_end_with_every_mark_and_lines_with_every_break() {
        let text = "Ong. drie. Mr. X!";
        assert_eq!(cut(text, marked_parts(text)), ["Ong.", "drie.", "Mr.", "X!"]);
        let text = " Een.\r\n\n Twee. Drie \u{2028}vier\n";
        assert_eq!(cut(text, lines(text)), ["Een.", "Twee. Drie", "vier"]);
    }
}
