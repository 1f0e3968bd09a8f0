//! Words whose characters the tokenizer only spells in bytes, such as 田中 or an emoji: a model that never read them cannot write them, so
//! a name that it copies stands for them while it translates.

use std::borrow::Cow;
use std::ops::Range;

use taal_tokenizer::Tokenizer;

/// Names that are the same in most languages; a translation has them where the source had them.
const NAMES: [&str; 6] = ["Tom", "Jack", "Ken", "Bill", "Bob", "Emily"];

/// A word of a source and the name that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) name: &'static str,
    pub(super) word: String,
}

/// What is copied of a source.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// Nothing, or there are more words to copy than names.
    Nothing,
    /// Every word.
    All,
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
        '\u{2018}'..='\u{201b}' | '\u{2032}' => "'",
        '\u{201c}'..='\u{201f}' | '\u{2033}' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '\u{2026}' => "...",
        '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{a0}' => " ",
        _ => return None,
    })
}

/// Which words of a source are copied.
pub(super) fn copied(tokenizer: &Tokenizer, source: &str) -> Copies {
    let places = unspelled(source, |letter| is_spelled_in_bytes(tokenizer, letter));
    if places.is_empty() {
        return Copies::Nothing;
    }
    if !without(source, &places).contains(char::is_alphanumeric) {
        return Copies::All;
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
    fn typographic_punctuation_has_a_place_on_the_keyboard() {
        for (letters, plain) in [
            ("\u{2018}\u{2019}", "'"),
            ("\u{201c}\u{201d}\u{201e}", "\""),
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
