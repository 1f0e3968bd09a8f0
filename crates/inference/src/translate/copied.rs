//! Words that a model cannot write, so a name that it copies stands for them while it translates: those whose characters the tokenizer only
//! spells in bytes, such as 田中 or an emoji, and addresses and numbers such as those of telephones.

use std::borrow::Cow;
use std::ops::Range;

use taal_tokenizer::Tokenizer;

use super::sentences::ENDINGS;

/// The fewest digits of a number that is copied: that of a telephone, an order or an account.
const MIN_DIGITS: usize = 6;

/// Names that are the same in most languages; a translation has them where the source had them.
const NAMES: [&str; 6] = ["Tom", "Jack", "Ken", "Bill", "Bob", "Emily"];

/// A word of a source and the name that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) name: &'static str,
    pub(super) word: String,
}

/// Whether a copied word is of a language that the tokenizer does not know: not a symbol, nor an address.
pub(super) fn is_unknown(word: &str) -> bool {
    word.contains(char::is_alphabetic) && !word.split_whitespace().any(is_address)
}

/// What is copied of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// Nothing, or there are more words to copy than names.
    Nothing,
    /// Every word; whether it has one that the tokenizer does not know.
    All { is_unknown: bool },
    /// Some words; the source with names in their places.
    Some { source: String, words: Vec<Copied> },
}

/// A source with the punctuation of a keyboard in the place of quotes, dashes and spaces that the tokenizer spells in bytes: the model
/// never read those, and they mean the same.
pub(super) fn with_plain_punctuation<'s>(tokenizer: &Tokenizer, source: &'s str) -> Cow<'s, str> {
    let is_unread = |letter: char| plain_of(letter).is_some() && is_spelled_in_bytes(tokenizer, letter);
    if !source.contains(is_unread) {
        return Cow::Borrowed(source);
    }
    let mut plain = String::with_capacity(source.len());
    for letter in source.chars() {
        match plain_of(letter).filter(|_| is_unread(letter)) {
            Some(text) => plain.push_str(text),
            None => plain.push(letter),
        }
    }
    Cow::Owned(plain)
}

/// What stands for typographic punctuation on a keyboard.
fn plain_of(letter: char) -> Option<&'static str> {
    Some(match letter {
        '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{b4}' => "'",
        '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{ab}' | '\u{bb}' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '\u{2026}' => "...",
        '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{a0}' => " ",
        _ => return None,
    })
}

/// Which words of a source are copied; addresses are only asked for.
pub(super) fn copied(tokenizer: &Tokenizer, source: &str, with_addresses: bool) -> Copies {
    let mut places = unspelled(source, |letter| is_spelled_in_bytes(tokenizer, letter));
    if with_addresses {
        let addresses = addresses(source);
        let is_apart = |place: &Range<usize>| {
            addresses
                .iter()
                .all(|it| place.end <= it.start || it.end <= place.start)
        };
        places.retain(is_apart);
        places.extend(addresses);
        places.sort_by_key(|place| place.start);
    }
    if places.is_empty() {
        return Copies::Nothing;
    }
    if !without(source, &places).contains(char::is_alphanumeric) {
        let is_unknown = places.into_iter().any(|place| is_unknown(&source[place]));
        return Copies::All { is_unknown };
    }
    let names: Vec<&str> = NAMES.into_iter().filter(|name| !source.contains(name)).collect();
    if names.len() < places.len() {
        return Copies::Nothing;
    }
    let (mut named, mut words, mut end) = (String::new(), Vec::new(), 0);
    for (place, name) in places.into_iter().zip(names) {
        named.push_str(&source[end..place.start]);
        // A symbol may touch a word; its name may not.
        if named.ends_with(char::is_alphanumeric) {
            named.push(' ');
        }
        named.push_str(name);
        end = place.end;
        if source[end..].starts_with(char::is_alphanumeric) {
            named.push(' ');
        }
        words.push(Copied {
            name,
            word: source[place].to_owned(),
        });
    }
    named.push_str(&source[end..]);
    Copies::Some { source: named, words }
}

/// A text with the words in the places of their names, and whether each name is there once.
pub(super) fn with_words(text: &str, words: &[Copied]) -> (String, bool) {
    let (mut text, mut is_whole) = (text.to_owned(), true);
    for Copied { name, word } in words {
        let places = places_of(&text, name);
        is_whole &= places.len() == 1;
        for place in places.into_iter().rev() {
            text.replace_range(place..place + name.len(), word);
        }
    }
    (text, is_whole)
}

/// Where a name is a word, or is one with a possessive s.
fn places_of(text: &str, name: &str) -> Vec<usize> {
    let is_word = |place: &usize| {
        let (before, after) = (&text[..*place], &text[place + name.len()..]);
        let after = after.strip_prefix('s').unwrap_or(after);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    };
    text.match_indices(name)
        .map(|(place, _)| place)
        .filter(is_word)
        .collect()
}

/// The words of a text that are addresses, names of files, or long numbers, without the punctuation around them.
fn addresses(source: &str) -> Vec<Range<usize>> {
    let place = |part: &str| part.as_ptr() as usize - source.as_ptr() as usize;
    let words = source.split_whitespace().map(without_punctuation);
    let found = words.filter(|word| is_address(word));
    found.map(|word| place(word)..place(word) + word.len()).collect()
}

fn without_punctuation(word: &str) -> &str {
    let is_closing = |letter: char| ".,:;!?)]>\"'…".contains(letter);
    word.trim_start_matches(['(', '[', '<', '"', '\''])
        .trim_end_matches(is_closing)
}

/// Whether a word is copied as it is: https://a.nl/b, www.a.nl, jan@a.nl, a-file.pdf, 06-12345678, NL91ABNA0417164300.
fn is_address(word: &str) -> bool {
    let word = without_punctuation(word);
    let small = word.to_lowercase();
    let has_name = |left: &str| left.chars().filter(|letter| letter.is_alphanumeric()).count() >= 2;
    let is_mail = || {
        word.split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
    };
    let is_file = || {
        let parts = small.rsplit_once('.');
        parts.is_some_and(|(left, ending)| has_name(left) && ENDINGS.contains(&ending))
    };
    let is_number = || {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let is_of_number =
            |letter: char| letter.is_ascii_digit() || letter.is_ascii_uppercase() || "+-".contains(letter);
        digits >= MIN_DIGITS && word.chars().all(is_of_number)
    };
    small.contains("://") || small.starts_with("www.") || is_mail() || is_file() || is_number()
}

fn without(source: &str, places: &[Range<usize>]) -> String {
    let starts = [0].into_iter().chain(places.iter().map(|place| place.end));
    let ends = places.iter().map(|place| place.start).chain([source.len()]);
    starts.zip(ends).map(|(start, end)| &source[start..end]).collect()
}

/// The words of a text that have a character which is spelled in bytes, and runs of symbols that have one. Words with only a space between
/// them are one.
fn unspelled(source: &str, is_spelled_in_bytes: impl Fn(char) -> bool) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut rest = source.char_indices().peekable();
    while let Some((start, letter)) = rest.next() {
        let kind = kind_of(letter);
        if kind == LetterKind::Other {
            continue;
        }
        let mut is_found = may_be_unknown(letter) && is_spelled_in_bytes(letter);
        let mut end = start + letter.len_utf8();
        while let Some((place, letter)) = rest.next_if(|(_, letter)| kind_of(*letter) == kind) {
            is_found |= may_be_unknown(letter) && is_spelled_in_bytes(letter);
            end = place + letter.len_utf8();
        }
        if !is_found {
            continue;
        }
        match found.last_mut() {
            Some(last) if &source[last.end..start] == " " => last.end = end,
            _ => found.push(start..end),
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LetterKind {
    Word,
    Symbol,
    Other,
}

fn kind_of(letter: char) -> LetterKind {
    match letter {
        // Combining marks belong to their letter.
        '\u{300}'..='\u{36f}' => LetterKind::Word,
        // The joiner and the variants of emoji.
        '\u{200d}' | '\u{fe0f}' => LetterKind::Symbol,
        _ if letter.is_alphanumeric() => LetterKind::Word,
        _ if may_be_unknown(letter) => LetterKind::Symbol,
        _ => LetterKind::Other,
    }
}

/// Letters and symbols that texts in Dutch or English hardly have. Those of Latin-1, such as è and ü, and punctuation are left to the model,
/// which translates the words around them.
fn may_be_unknown(letter: char) -> bool {
    let is_punctuation = matches!(
        letter,
        '\u{2b0}'..='\u{36f}' | '\u{2000}'..='\u{20cf}' | '\u{3000}'..='\u{303f}' | '\u{fe00}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff0f}'
    );
    letter > '\u{ff}' && !is_punctuation && !letter.is_whitespace()
}

/// Whether no token has all bytes of a letter. False of tokenizers that do not spell in bytes.
fn is_spelled_in_bytes(tokenizer: &Tokenizer, letter: char) -> bool {
    let text = letter.to_string();
    let Ok(ids) = tokenizer.encode(&text) else {
        return false;
    };
    let has_letter = |id: &u32| {
        let bytes = tokenizer.token_bytes(*id);
        bytes.is_none_or(|bytes| bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes()))
    };
    let unknown = tokenizer.unk_id();
    !ids.is_empty() && !ids.iter().any(|id| has_letter(id) || unknown == Some(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        let places = unspelled(source, |letter| letter != '猫');
        places.into_iter().map(|place| &source[place]).collect()
    }

    #[test]
    fn words_with_an_unknown_letter_and_runs_of_symbols_are_copied_whole() {
        for (source, wanted) in [
            ("I met 田中さん, and Dvořák's wife.", vec!["田中さん", "Dvořák"]),
            ("Nice 😀👍🏽! Москва it is", vec!["😀👍🏽", "Москва"]),
            ("Где он живёт now?", vec!["Где он живёт"]),
            ("it😀 is 👨‍👩‍👧 fun ❤️", vec!["😀", "👨‍👩‍👧", "❤️"]),
            ("“Eén café”, hè… Köln – €5", vec![]),
            ("the cat 猫 sat", vec![]),
        ] {
            assert_eq!(words(source), wanted, "{source}");
        }
    }

    #[test]
    fn addresses_and_long_numbers_are_copied_without_the_punctuation_around_them() {
        for (source, wanted) in [
            (
                "See https://taal.nl/a?b=1, www.a.nl (or taal.nl).",
                vec!["https://taal.nl/a?b=1", "www.a.nl", "taal.nl"],
            ),
            (
                "Mail \"jan@a.nl\" or call +31-612345678!",
                vec!["jan@a.nl", "+31-612345678"],
            ),
            (
                "Open Report.pdf of 2010-11-03: NL91ABNA0417164300.",
                vec!["Report.pdf", "2010-11-03", "NL91ABNA0417164300"],
            ),
            (
                "In 1989 at 5:30 p.m. I paid 1,250,000 of $15.99 @ home, e.g. now...",
                vec![],
            ),
        ] {
            let places = addresses(source).into_iter();
            assert_eq!(
                places.map(|place| &source[place]).collect::<Vec<_>>(),
                wanted,
                "{source}"
            );
        }
        assert_eq!(
            ["田中", "😀", "jan@a.nl", "06-12345678"].map(is_unknown),
            [true, false, false, false]
        );
    }

    #[test]
    fn typographic_punctuation_has_a_place_on_the_keyboard() {
        for (letters, plain) in [
            ("\u{2018}\u{2019}´", "'"),
            ("\u{201c}\u{201d}\u{201e}«»", "\""),
            ("\u{2013}\u{2014}", "-"),
            ("\u{2026}", "..."),
            ("\u{202f}\u{a0}", " "),
        ] {
            assert!(
                letters.chars().all(|letter| plain_of(letter) == Some(plain)),
                "{letters}"
            );
        }
        assert!("a'\"- .é€".chars().all(|letter| plain_of(letter).is_none()));
    }

    #[test]
    fn names_give_their_places_back_to_the_words() {
        let copied = |name, word: &str| Copied {
            name,
            word: word.to_owned(),
        };
        let words = [copied("Tom", "田中"), copied("Jack", "Москва")];
        let (text, is_whole) = with_words("Jacks huis is van Tom.", &words);
        assert_eq!((text.as_str(), is_whole), ("Москваs huis is van 田中.", true));
        assert!(!with_words("Het huis is van Tom.", &words).1, "one is missing");
        assert!(!with_words("Tom, Tom en Jack", &words).1, "one is there twice");
        assert!(!with_words("Tomaten van Jack", &words).1, "part of a word");
    }
}
