//! Whether sources are in the language that a model translates.

use std::collections::HashSet;
use std::fmt;

use taal_model::hugging_face::TranslationFacts;

use super::Translation;

/// Fewer tokens say nothing about a language.
const MIN_TOKENS: usize = 20;

/// Fewer words of translations say nothing about a language.
const MIN_WORDS: usize = 20;

/// The share of unknown tokens from which on a text is not what the tokenizer was made for.
const MAX_UNKNOWN: f64 = 0.2;

/// The share of words that are the source's from which on the source is in the language of the translation. Of 10 kinds of English and 8 of
/// Dutch it was at most 0.24 and at least 0.35.
const MAX_SHARED: f64 = 0.3;

/// The share of words that are tokens below which a text is hardly in a language that the tokenizer was made for, if the model is unsure of it as
/// well. Of everyday English it was 0.55 to 0.9, of manuals and news in English 0.5 to 0.65, of texts in 14 other languages 0 to 0.3.
const MIN_KNOWN: f64 = 0.45;

/// Why the sources may be in another language than the model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doubt {
    /// The translations have many words of their sources.
    Shared {
        /// 0 to 1.
        share: f64,
    },
    /// The model is much less sure of its translations than is usual, in nats per token: also of texts of another kind than it was trained on.
    Loss {
        /// Of these translations.
        found: f64,
        /// Of held-out sources.
        usual: f64,
    },
    /// The tokenizer does not know this share of the tokens, or they are of words that are copied.
    Unknown {
        /// 0 to 1.
        share: f64,
    },
}

impl Doubt {
    /// The doubt as a sentence about the languages of a model.
    pub fn sentence(&self, facts: Option<&TranslationFacts>) -> String {
        let from = facts.map_or("the model's language", |facts| &facts.from);
        match self {
            Self::Loss { .. } => {
                format!("{self}: this is not {from}, or of another kind than the texts that the model was trained on")
            }
            Self::Shared { .. } | Self::Unknown { .. } => format!("this does not look like {from}: {self}"),
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { share } => write!(f, "{:.0} % of the words of its translation are its own", 100.0 * share),
            Self::Loss { found, usual } => write!(
                f,
                "the model's perplexity of its own translations is {:.1}, and {:.1} is usual",
                found.exp(),
                usual.exp()
            ),
            Self::Unknown { share } => write!(f, "the model does not know {:.0} % of its tokens", 100.0 * share),
        }
    }
}

/// Counts over translations from which a [`Doubt`] follows. A model that reads the language it writes copies much of it: the share of the
/// translations' words that are in their sources tells the two languages apart, whatever the texts are about. Words that do not begin with
/// a small letter, such as names, do not count.
///
/// A third language shows only in how sure the model is of its translations (Fomicheva et al. 2020 take a model's own log-probability as the
/// quality of a translation), and so does an unusual text. Their mean loss is compared with that of held-out sources and of held-out texts
/// in the other language, where the model's directory has both ([`OwnLoss`](taal_model::hugging_face::OwnLoss)); less of it is enough where
/// few words of the sources are tokens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doubts {
    nats: f64,
    tokens: usize,
    unknown: usize,
    source_tokens: usize,
    words: usize,
    shared: usize,
    source_words: [usize; 2],
}

impl Doubts {
    /// Adds a translation.
    pub fn add(&mut self, translation: &Translation) {
        self.nats -= translation.logprob;
        self.tokens += translation.tokens;
        self.unknown += translation.unknown;
        self.source_tokens += translation.source_tokens;
        let counts = self.source_words.iter_mut().zip(translation.source_words);
        counts.for_each(|(sum, count)| *sum += count);
        let of_source: HashSet<String> = words(&translation.source).map(str::to_lowercase).collect();
        for word in words(&translation.translation).filter(|word| word.starts_with(char::is_lowercase)) {
            self.words += 1;
            self.shared += usize::from(of_source.contains(word));
        }
    }

    /// Why the sources may be in another language; `None` where nothing says so, or there is too little text.
    pub fn verdict(&self, facts: Option<&TranslationFacts>) -> Option<Doubt> {
        if self.source_tokens < MIN_TOKENS {
            return None;
        }
        let share = self.unknown as f64 / self.source_tokens as f64;
        if share > MAX_UNKNOWN {
            return Some(Doubt::Unknown { share });
        }
        let share = self.shared as f64 / self.words.max(1) as f64;
        if self.words >= MIN_WORDS && share > MAX_SHARED {
            return Some(Doubt::Shared { share });
        }
        let own_loss = facts?.own_loss?;
        let found = self.nats / self.tokens as f64;
        let usual = own_loss.usual;
        let limit = match self.has_few_known_words() {
            true => own_loss.limit()?.min(own_loss.other),
            false => own_loss.limit()?,
        };
        (self.tokens >= MIN_TOKENS && found > limit).then_some(Doubt::Loss { found, usual })
    }

    /// Whether few words of the sources are tokens; not where none is, because a tokenizer of characters has no words.
    fn has_few_known_words(&self) -> bool {
        let [all, known] = self.source_words;
        all >= MIN_WORDS && known > 0 && (known as f64) < MIN_KNOWN * all as f64
    }
}

/// Words of at least two letters.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_alphabetic());
    words.filter(|word| word.chars().nth(1).is_some())
}

#[cfg(test)]
mod tests {
    use taal_model::hugging_face::OwnLoss;

    use super::*;

    fn doubts(nats: f64, tokens: usize, unknown: usize) -> Doubts {
        Doubts {
            nats,
            tokens,
            unknown,
            source_tokens: 40,
            ..Doubts::default()
        }
    }

    fn facts() -> TranslationFacts {
        TranslationFacts {
            from: "en".to_owned(),
            to: "nl".to_owned(),
            prompt: None,
            own_loss: Some(OwnLoss { usual: 0.5, other: 1.5 }),
        }
    }

    #[test]
    fn a_text_is_doubted_where_the_model_is_much_less_sure_than_usual() {
        let found = doubts(104.0, 40, 0).verdict(Some(&facts()));
        assert_eq!(found, Some(Doubt::Loss { found: 2.6, usual: 0.5 }));
        let sentence = found.unwrap().sentence(Some(&facts()));
        assert!(
            sentence.contains("13.5, and 1.6 is usual") && sentence.contains("not en, or"),
            "{sentence}"
        );
        assert_eq!(doubts(96.0, 40, 0).verdict(Some(&facts())), None);
        assert_eq!(doubts(104.0, 10, 0).verdict(Some(&facts())), None, "too little text");
        assert_eq!(doubts(104.0, 40, 0).verdict(None), None, "nothing is known");
        for (source_words, is_doubted) in [([20, 6], true), ([20, 12], false), ([20, 0], false), ([10, 1], false)] {
            let found = Doubts {
                source_words,
                ..doubts(80.0, 40, 0)
            };
            let wanted = is_doubted.then_some(Doubt::Loss { found: 2.0, usual: 0.5 });
            assert_eq!(found.verdict(Some(&facts())), wanted, "{source_words:?}");
        }
        let found = doubts(10.0, 40, 20).verdict(None);
        assert_eq!(found, Some(Doubt::Unknown { share: 0.5 }));
    }

    #[test]
    fn a_text_in_the_language_of_the_translation_is_doubted_and_names_are_not() {
        let counted = |source: &str, translation: &str| {
            let mut doubts = Doubts::default();
            let translation = Translation {
                source: source.to_owned(),
                translation: translation.to_owned(),
                token_ids: Vec::new(),
                score: -0.1,
                logprob: -2.0,
                tokens: 30,
                is_complete: true,
                cut_by: None,
                parts: 1,
                unknown: 0,
                source_tokens: 30,
                source_words: [0; 2],
                read: None,
                alternatives: Vec::new(),
                attention: None,
            };
            doubts.add(&translation);
            assert!(
                !matches!(doubts.verdict(Some(&facts())), Some(Doubt::Shared { .. })),
                "too few words"
            );
            doubts.add(&translation);
            doubts.verdict(Some(&facts()))
        };
        let dutch = "De hond van mijn zus heeft gisteren de hele dag in de tuin gelegen.";
        let found = counted(dutch, "De hond van mijn zuster heeft gisteren de hele dag in de tuin.");
        assert!(
            matches!(found, Some(Doubt::Shared { share }) if share > 0.8),
            "{found:?}"
        );
        let sentence = found.unwrap().sentence(Some(&facts()));
        assert!(
            sentence.starts_with("this does not look like en: 92 % of"),
            "{sentence}"
        );
        let english = "Tom, Mary, Ken, Bill and Emily of Boston lay in the garden of Jack the whole day.";
        let found = counted(
            english,
            "Tom, Mary, Ken, Bill en Emily uit Boston hebben de hele dag in de tuin van Jack gelegen.",
        );
        assert_eq!(found, None);
    }
}
