//! Sources as sentences are written: one space between words, a capital at the beginning, double quotes. A model that read only such
//! sentences spoils others, so it reads them like that, and its translation is written as the source was.

use taal_tokenizer::Tokenizer;

/// How a source was written, and so how its translation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manner {
    case: Case,
    /// Whether its quotes were single ones.
    has_single_quotes: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Case {
    /// As the model read it.
    #[default]
    AsRead,
    /// A small letter at the beginning.
    Small,
    /// Capitals only.
    Capitals,
}

impl Manner {
    /// A translation in the manner of its source, of which the model read `read`.
    pub(super) fn of_translation(self, text: String, read: &str) -> String {
        let text = match self.has_single_quotes {
            true => text.replace('"', "'"),
            false => text,
        };
        match self.case {
            Case::AsRead => text,
            Case::Small => with_small_beginning(text, read),
            Case::Capitals => text.to_uppercase(),
        }
    }

    /// That of words after the first one.
    pub(super) fn after_first(self) -> Self {
        match self.case {
            Case::Small => Self {
                case: Case::AsRead,
                ..self
            },
            _ => self,
        }
    }
}

/// A source in the language `from` as sentences are written; `None` where it is. `has_capitals` says whether the model knows words with a
/// capital.
pub(super) fn as_sentence(
    tokenizer: &Tokenizer,
    source: &str,
    from: &str,
    has_capitals: impl FnOnce() -> bool,
) -> Option<(String, Manner)> {
    let mut manner = Manner::default();
    let mut text = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = with_double_quotes(&text).filter(|quoted| is_known(tokenizer, quoted));
    if let Some(quoted) = quoted {
        text = quoted;
        manner.has_single_quotes = true;
    }
    let cased = cased(tokenizer, &text, from).filter(|(cased, _)| is_known(tokenizer, cased));
    if let Some((cased, case)) = cased.filter(|_| has_capitals()) {
        text = cased;
        manner.case = case;
    }
    (text != source).then_some((text, manner))
}

/// Whether a vocabulary has words with a capital: not where a model was trained on small letters only, or on single characters.
pub(super) fn has_capitals(tokenizer: &Tokenizer) -> bool {
    let vocab_size = tokenizer.vocab_size();
    let is_capitalized = |id: &u32| {
        let token = tokenizer.id_to_token(*id).unwrap_or_default();
        // Marks of the beginning of a word are no letters of ASCII.
        let mut letters = token
            .trim_start_matches(|letter: char| !letter.is_ascii_alphabetic())
            .chars();
        let is_capital = letters.next().is_some_and(|first| first.is_ascii_uppercase());
        is_capital && letters.next().is_some_and(|second| second.is_ascii_lowercase())
    };
    // Of the vocabulary of `translate-en-nl` it is one in seven.
    100 * (0..vocab_size as u32).filter(is_capitalized).count() >= vocab_size
}

/// Whether a tokenizer has every character of a text.
fn is_known(tokenizer: &Tokenizer, text: &str) -> bool {
    let ids = tokenizer.encode(text);
    ids.is_ok_and(|ids| tokenizer.unk_id().is_none_or(|unknown| !ids.contains(&unknown)))
}

fn is_opening(letter: char) -> bool {
    matches!(letter, '"' | '\'' | '(' | '[' | '¿' | '¡')
}

/// A text with double quotes in the place of single ones; `None` where it has double ones, where not every single quote has a partner, and
/// where one letter is between two, as in rock 'n' roll.
fn with_double_quotes(text: &str) -> Option<String> {
    if text.contains('"') || !text.contains('\'') {
        return None;
    }
    let letters: Vec<char> = text.chars().collect();
    let mut quoted = letters.clone();
    let (mut opened, mut is_found) = (None, false);
    for place in (0..letters.len()).filter(|place| letters[*place] == '\'') {
        let before = place.checked_sub(1).map(|before| letters[before]);
        let after = letters.get(place + 1).copied();
        let opens = before.is_none_or(|letter| letter == ' ' || is_opening(letter))
            && after.is_some_and(|letter| !letter.is_whitespace());
        let closes = before.is_some_and(|letter| letter != ' ') && after.is_none_or(|letter| !letter.is_alphanumeric());
        opened = match (opens, closes, opened) {
            // An apostrophe inside a word.
            (false, false, _) => continue,
            (true, false, None) => Some(place),
            (false, true, Some(start)) if place > start + 2 => None,
            // As in: the boys' room, or in '97.
            _ => return None,
        };
        is_found = true;
        quoted[place] = '"';
    }
    (is_found && opened.is_none()).then(|| quoted.into_iter().collect())
}

/// A text with capitals where sentences have them, and the case of the source; `None` where it has them.
fn cased(tokenizer: &Tokenizer, text: &str, from: &str) -> Option<(String, Case)> {
    let capitals = text.chars().filter(|letter| letter.is_uppercase()).count();
    let has_small = text.chars().any(char::is_lowercase);
    if capitals >= 2 && !has_small {
        let words: Vec<String> = text.split(' ').map(|word| in_small_letters(tokenizer, word)).collect();
        let small = with_capital_i(&words.join(" "), from);
        let sentence = with_capital(&small, from).unwrap_or(small);
        let length = |text: &str| tokenizer.encode(text).map(|ids| ids.len()).ok();
        // Abbreviations such as TV have as many tokens either way.
        return (length(&sentence)? < length(text)?).then_some((sentence, Case::Capitals));
    }
    let with_i = with_capital_i(text, from);
    if let Some(sentence) = with_capital(&with_i, from) {
        return Some((sentence, Case::Small));
    }
    let case = match text.starts_with('i') && with_i.starts_with('I') {
        true => Case::Small,
        false => Case::AsRead,
    };
    (with_i != text).then_some((with_i, case))
}

/// A word of capitals in small letters, or with a capital where the tokenizer knows it better like that, as a name.
fn in_small_letters(tokenizer: &Tokenizer, word: &str) -> String {
    let small = word.to_lowercase();
    let start = small.len() - small.trim_start_matches(is_opening).len();
    let capital = with_capital_at(&small, start, 1);
    let length = |word: &str| {
        tokenizer
            .encode(&format!(" {word}"))
            .map_or(usize::MAX, |ids| ids.len())
    };
    match length(&capital) < length(&small) {
        true => capital,
        false => small,
    }
}

/// An English text with the pronoun I as a capital.
fn with_capital_i(text: &str, from: &str) -> String {
    if !is_language(from, "en") {
        return text.to_owned();
    }
    let word = |word: &str| {
        let bare = word.trim_start_matches(is_opening);
        let is_pronoun = |after: &str| after.starts_with('\'') || ["", ".", "?", "!"].contains(&after);
        match bare.strip_prefix('i').filter(|after| is_pronoun(after)) {
            Some(after) => format!("{}I{after}", &word[..word.len() - bare.len()]),
            None => word.to_owned(),
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A text with a capital at the beginning; `None` where it begins with one, or with anything but a word in small letters.
fn with_capital(text: &str, from: &str) -> Option<String> {
    let word = text.split(' ').next()?;
    let bare = word.trim_start_matches(is_opening);
    let stem = bare.trim_end_matches(|letter: char| !letter.is_alphanumeric());
    let is_small = |letter: char| letter.is_lowercase() || matches!(letter, '\'' | '-');
    // Dutch has words of one letter that stay small: 's Ochtends.
    let is_clitic = word.starts_with('\'') && stem.chars().count() == 1;
    if is_clitic || !stem.starts_with(char::is_lowercase) || !stem.chars().all(is_small) {
        return None;
    }
    let n_letters = match is_language(from, "nl") && stem.starts_with("ij") {
        true => 2,
        false => 1,
    };
    Some(with_capital_at(text, word.len() - bare.len(), n_letters))
}

/// A text with some letters at a place as capitals.
fn with_capital_at(text: &str, place: usize, n_letters: usize) -> String {
    let (before, after) = text.split_at(place);
    let end = after.char_indices().nth(n_letters).map_or(after.len(), |(end, _)| end);
    format!("{before}{}{}", after[..end].to_uppercase(), &after[end..])
}

/// A translation with a small letter at the beginning, unless it begins with a name or an abbreviation; `read` has names with a capital.
fn with_small_beginning(text: String, read: &str) -> String {
    let is_letter = |place: &usize| text[*place..].starts_with(char::is_alphabetic);
    let Some(place) = text.find(char::is_alphanumeric).filter(is_letter) else {
        return text;
    };
    let word = words(&text[place..]).next().unwrap_or_default();
    // Dutch writes IJ with two capitals.
    let rest = word
        .strip_prefix("IJ")
        .or_else(|| word.strip_prefix(char::is_uppercase));
    let is_name = words(read).skip(1).any(|of_source| of_source == word);
    match rest {
        Some(rest) if word != "I" && !is_name && rest.chars().all(char::is_lowercase) => {
            let end = place + word.len() - rest.len();
            format!("{}{}{}", &text[..place], text[place..end].to_lowercase(), &text[end..])
        }
        _ => text,
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_alphabetic());
    words.filter(|word| !word.is_empty())
}

/// Whether a tag such as `en-GB` is of a language.
fn is_language(tag: &str, language: &str) -> bool {
    tag.split(['-', '_'])
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(language))
}

#[cfg(test)]
mod tests {
    use taal_tokenizer::{Kind, TrainerConfig};

    use super::*;

    /// A vocabulary of the words of sentences.
    fn tokenizer() -> Tokenizer {
        let text = "Where is the dog? Tom is here. I am here. The dog and Tom. Stop! She said \"no\". ".repeat(20);
        TrainerConfig::new(Kind::Bpe, 320).train([text]).unwrap()
    }

    /// What the model reads, and how a translation is written.
    fn read(source: &str, from: &str, translation: &str) -> (String, String) {
        let found = as_sentence(&tokenizer(), source, from, || true);
        let (text, manner) = found.unwrap_or_else(|| (source.to_owned(), Manner::default()));
        let translation = manner.of_translation(translation.to_owned(), &text);
        (text, translation)
    }

    #[test]
    fn a_source_in_small_letters_is_read_with_a_capital_and_its_translation_begins_small() {
        for (source, wanted, written, small) in [
            ("where is Tom?", "Where is Tom?", "Waar is Tom?", "waar is Tom?"),
            ("is Tom here?", "Is Tom here?", "Tom is er?", "Tom is er?"),
            ("i'm here", "I'm here", "Ik ben hier", "ik ben hier"),
            ("so am i.", "So am I.", "Ik ook.", "ik ook."),
            ("\"the dog\"", "\"The dog\"", "\"De hond\"", "\"de hond\""),
            ("ice!", "Ice!", "IJs!", "ijs!"),
            ("tv?", "Tv?", "TV?", "TV?"),
            ("it  is\there", "It is here", "Het is hier", "het is hier"),
        ] {
            assert_eq!(read(source, "en", written), (wanted.to_owned(), small.to_owned()));
        }
        assert_eq!(read("ijs is koud", "nl", "Ice").0, "IJs is koud");
        assert_eq!(read("ik ook", "nl", "I do too").1, "I do too", "an English I stays");
        for source in [
            "'s ochtends",
            "iPhones",
            "3 dogs",
            "www.a.nl",
            "e.g. dogs",
            "Where is i, or j?",
        ] {
            assert_eq!(read(source, "nl", "Ja."), (source.to_owned(), "Ja.".to_owned()));
        }
    }

    #[test]
    fn a_source_in_capitals_is_read_as_a_sentence_and_its_translation_has_capitals() {
        for (source, wanted) in [
            ("WHERE IS THE DOG?", "Where is the dog?"),
            ("STOP!", "Stop!"),
            ("I AM HERE", "I am here"),
            ("WHERE IS TOM?", "Where is Tom?"),
        ] {
            assert_eq!(
                read(source, "en", "Ja, één."),
                (wanted.to_owned(), "JA, ÉÉN.".to_owned())
            );
        }
        // Nothing is known better in small letters.
        assert_eq!(read("XQ", "en", "XQ").0, "XQ");
        assert_eq!(read("I", "en", "Ik").1, "Ik");
        assert_eq!(read("Where IS Tom?", "en", "Waar is Tom?").1, "Waar is Tom?");
    }

    #[test]
    fn single_quotes_in_pairs_are_read_as_double_ones_and_apostrophes_stay() {
        let (text, translation) = read("'No,' she said. 'Don't!'", "en", "\"Nee,\" zei ze.");
        assert_eq!(text, "\"No,\" she said. \"Don't!\"");
        assert_eq!(translation, "'Nee,' zei ze.");
        for source in [
            "The boys' room",
            "In '97 it was",
            "'s Ochtends",
            "Don't",
            "\"It's 'no'\"",
            "'No' and b'",
            "Rock 'n' roll",
            "''No''",
        ] {
            assert_eq!(with_double_quotes(source), None, "{source}");
        }
    }

    #[test]
    fn a_vocabulary_without_capitals_is_of_a_model_that_reads_small_letters() {
        assert!(has_capitals(&tokenizer()));
        let train = |kind, text: &str| TrainerConfig::new(kind, 300).train([text.repeat(20)]).unwrap();
        assert!(!has_capitals(&train(Kind::Bpe, "where is the dog? ")));
        assert!(!has_capitals(&train(Kind::Char, "Where is the dog? ")));
        let none = as_sentence(&tokenizer(), "where is it?", "en", || false);
        assert_eq!(none, None, "nothing is changed then");
    }
}
