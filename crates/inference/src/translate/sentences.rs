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

/// What follows a period inside a word that is a file or an address, where it begins with a capital: node.Js, amazon.Com.
pub(super) const ENDINGS: [&str; 43] = [
    "app", "be", "biz", "cfg", "com", "conf", "cpp", "css", "csv", "doc", "docx", "edu", "eu", "exe", "gif", "gov",
    "htm", "html", "ini", "io", "java", "jpeg", "jpg", "js", "json", "md", "net", "nl", "odt", "org", "pdf", "php",
    "png", "pptx", "py", "rs", "svg", "tsx", "txt", "uk", "xlsx", "xml", "zip",
];

/// Words that begin sentences. After a capitalized word only these show that a period inside a word ends a sentence.
const OPENERS: [&str; 71] = [
    "alles", "also", "and", "because", "but", "daar", "dan", "dat", "de", "dit", "do", "dus", "een", "er", "everyone",
    "haar", "have", "he", "heb", "her", "het", "hier", "hij", "his", "hoe", "how", "i", "ik", "is", "it", "its", "je",
    "jij", "jullie", "maar", "mijn", "my", "nobody", "omdat", "onze", "our", "please", "she", "so", "that", "the",
    "their", "then", "there", "these", "they", "this", "those", "toen", "u", "waar", "waarom", "wat", "we", "what",
    "when", "where", "who", "why", "wie", "wij", "you", "your", "ze", "zij", "zijn",
];

/// Abbreviations of single letters after which a sentence may end.
const MAY_END: [&str; 6] = ["a.m", "a.u.b", "e.a", "e.d", "p.m", "s.v.p"];

/// The sentences of a text, without the white space between them. One ends with a mark such as a period, after which there may be closing
/// quotes and brackets, before white space; not where the next word begins with a small letter (unless the whole text is in small letters),
/// nor after abbreviations, initials and the number of a list. Without white space it ends before a capital letter, as in "I came.He left.",
/// where the word with the mark is not that of a file, an address or a name.
pub(super) fn sentences(text: &str) -> Vec<Range<usize>> {
    let is_small = !text.chars().any(char::is_uppercase);
    split(text, ends_inside, |sentence, word, next| {
        ends(sentence, word, next, is_small)
    })
}

/// The shortest parts that end with a mark before white space.
pub(super) fn marked_parts(text: &str) -> Vec<Range<usize>> {
    split(
        text,
        |_, _, _| None,
        |_, word, _| without_closing(word).ends_with(is_mark),
    )
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

/// Splits after the words that end a sentence, given the sentence so far, its last word and the next one; and in words in which one ends,
/// given what is before the word, the word, and whether another one follows.
fn split(
    text: &str,
    end_inside: impl Fn(&str, &str, bool) -> Option<usize>,
    is_end: impl Fn(&str, &str, &str) -> bool,
) -> Vec<Range<usize>> {
    let place = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let mut words = text.split_whitespace().peekable();
    let (mut found, mut start) = (Vec::new(), None);
    while let Some(mut word) = words.next() {
        let end = place(word) + word.len();
        let mut begin = *start.get_or_insert_with(|| place(word));
        if let Some(cut) = end_inside(&text[begin..place(word)], word, words.peek().is_some()) {
            let middle = place(word) + cut;
            found.push(begin..middle);
            (begin, word) = (middle, &text[middle..end]);
            start = Some(begin);
        }
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

/// Where a sentence ends inside a word, as in "came.He": after the mark, directly before a capital letter. `before` is the sentence so far.
fn ends_inside(before: &str, word: &str, has_next: bool) -> Option<usize> {
    let inner = without_opening(word);
    // Addresses, paths, code and numbers have other characters, and periods inside.
    let is_of_text = |letter: char| letter.is_alphabetic() || "'’-\"”)],;:!?.…".contains(letter);
    if !inner.chars().all(is_of_text) || inner.to_lowercase().starts_with("www.") {
        return None;
    }
    let bare = inner.trim_end_matches(|letter: char| !letter.is_alphabetic());
    let is_inside = |(place, _): &(usize, &str)| bare[place + 1..].starts_with(char::is_alphabetic);
    let mut marks = bare.match_indices(['.', '!', '?']).filter(is_inside);
    // Several are an abbreviation, or code.
    let ((place, mark), None) = (marks.next()?, marks.next()) else {
        return None;
    };
    let is_period = mark == ".";
    let left = match is_period {
        true => &bare[..place],
        false => bare[..place].trim_end_matches(['!', '?']),
    };
    let is_of_word = |letter: char| letter.is_alphabetic() || matches!(letter, '\'' | '’');
    let left = left.rsplit(|letter| !is_of_word(letter)).next().unwrap_or_default();
    let mut after = bare[place + 1..].split(|letter: char| !letter.is_alphabetic());
    let right = after.next().unwrap_or_default();
    // A last word without a mark, as in "Open file.Name", is not a sentence.
    let is_followed = has_next || bare.len() < inner.len();
    let is_long = left.chars().filter(|letter| letter.is_lowercase()).count() >= 2;
    let is_end = is_followed
        && is_long
        && begins_sentence(right)
        && (!is_period || ends_with_joined_period(before, &left.to_lowercase(), left, &right.to_lowercase()));
    is_end.then_some(word.len() - inner.len() + place + 1)
}

/// Whether a period between two words without white space ends a sentence, given both in small letters, and the first as it is written.
fn ends_with_joined_period(before: &str, small: &str, left: &str, right: &str) -> bool {
    if GOES_ON.contains(&small) || right.len() == 1 && BEFORE_NUMBER.contains(&small) {
        return false;
    }
    match small == left {
        // A sentence that is one word in small letters is none.
        true => !ENDINGS.contains(&right) && before.contains(char::is_alphabetic),
        // A name such as Node.Js is two words with capitals too.
        false => OPENERS.contains(&right),
    }
}

/// Whether a word begins with a capital and has no other one, or is one such as I.
fn begins_sentence(word: &str) -> bool {
    // Dutch writes IJ with two.
    let rest = word
        .strip_prefix("IJ")
        .or_else(|| word.strip_prefix(char::is_uppercase));
    rest.is_some_and(|rest| match rest {
        "" => matches!(word, "I" | "A" | "U"),
        _ => rest.chars().all(char::is_lowercase),
    })
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
    fn sentences_without_white_space_between_them_end_before_a_capital_letter() {
        for (text, wanted) in [
            ("I came.He left.", vec!["I came.", "He left."]),
            (
                "Ik kwam.Hij ging weg.Niemand bleef.",
                vec!["Ik kwam.", "Hij ging weg.", "Niemand bleef."],
            ),
            (
                "Did he come?No one knows!I don't.",
                vec!["Did he come?", "No one knows!", "I don't."],
            ),
            (
                "(Het was koud.IJs lag overal.) Ja.",
                vec!["(Het was koud.", "IJs lag overal.)", "Ja."],
            ),
            ("Dat is Tom.Hij lacht.", vec!["Dat is Tom.", "Hij lacht."]),
            (
                "I said no.He's gone, really?!Yes I did.",
                vec!["I said no.", "He's gone, really?!", "Yes I did."],
            ),
            (
                "Stuur een e-mail.U krijgt antwoord.",
                vec!["Stuur een e-mail.", "U krijgt antwoord."],
            ),
        ] {
            assert_eq!(cut(text, sentences(text)), wanted);
        }
    }

    #[test]
    fn files_addresses_names_and_abbreviations_are_one_word() {
        for text in [
            "He uses Node.Js and vue.Js here.",
            "See www.Taal.Nl or https://a.nl/x.Html and amazon.Com today.",
            "Mail jan.Jansen@example.nl now.",
            "Open readme.Txt or Verslag.Docx first.",
            "Fruit, e.g.Apples or bijv.Peren, dhr.Jansen and the U.S.Army.",
            "See fig.A and vol.I of it.",
            "Call math.Floor(x) and System.Out.Println now.",
            "Wait...What?",
            "The ID of foo.BAR is an object.ToString call.",
            "Open file.Name",
            "index.Page is a word.",
            "I came.he left.",
        ] {
            assert_eq!(cut(text, sentences(text)), [text]);
        }
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
