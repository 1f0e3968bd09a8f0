//! Whether sources are in the language that a model translates.

use std::fmt;

use taal_model::hugging_face::TranslationFacts;

use super::Translation;

/// Fewer tokens say nothing about a language.
const MIN_TOKENS: usize = 20;

/// The share of unknown tokens from which on a text is not what the tokenizer was made for.
const MAX_UNKNOWN: f64 = 0.2;

/// Why the sources may be in another language than the model's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Doubt {
    /// The model is less sure of its translations than is usual, in nats per token: nearer to what it is of texts in another language.
    Loss {
        /// Of these translations.
        found: f64,
        /// Of held-out sources.
        usual: f64,
    },
    /// The tokenizer does not know this share of the tokens.
    Unknown {
        /// 0 to 1.
        share: f64,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { found, usual } => write!(
                f,
                "the model's perplexity of its own translations is {:.1}, and {:.1} is usual",
                found.exp(),
                usual.exp()
            ),
            Self::Unknown { share } => write!(f, "its tokenizer does not know {:.0} % of the tokens", 100.0 * share),
        }
    }
}

/// Counts over translations from which a [`Doubt`] follows. The rule: a model that reads another language is less sure of what it writes
/// (Fomicheva et al. 2020 take a model's own log-probability as the quality of a translation). The mean loss of its own translations is
/// compared with that of held-out sources and of held-out texts in another language, where its directory has both
/// ([`OwnLoss`](taal_model::hugging_face::OwnLoss)); the limit is in the middle. Without them only unknown tokens count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doubts {
    nats: f64,
    tokens: usize,
    unknown: usize,
    source_tokens: usize,
}

impl Doubts {
    /// Adds a translation.
    pub fn add(&mut self, translation: &Translation) {
        self.nats -= translation.logprob;
        self.tokens += translation.tokens;
        self.unknown += translation.unknown;
        self.source_tokens += translation.source_tokens;
    }

    /// Why the sources may be in another language; `None` where nothing says so, or there is too little text.
    pub fn verdict(&self, facts: Option<&TranslationFacts>) -> Option<Doubt> {
        if self.source_tokens < MIN_TOKENS || self.tokens < MIN_TOKENS {
            return None;
        }
        let share = self.unknown as f64 / self.source_tokens as f64;
        if share > MAX_UNKNOWN {
            return Some(Doubt::Unknown { share });
        }
        let own_loss = facts?.own_loss?;
        let found = self.nats / self.tokens as f64;
        let usual = own_loss.usual;
        (found > own_loss.limit()?).then_some(Doubt::Loss { found, usual })
    }
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
        }
    }

    #[test]
    fn a_text_is_doubted_from_the_middle_between_usual_and_other_texts_on() {
        let facts = TranslationFacts {
            from: "en".to_owned(),
            to: "nl".to_owned(),
            prompt: None,
            own_loss: Some(OwnLoss { usual: 0.5, other: 1.5 }),
        };
        let found = doubts(44.0, 40, 0).verdict(Some(&facts));
        assert_eq!(found, Some(Doubt::Loss { found: 1.1, usual: 0.5 }));
        assert!(found.unwrap().to_string().contains("3.0, and 1.6 is usual"));
        assert_eq!(doubts(38.0, 40, 0).verdict(Some(&facts)), None);
        assert_eq!(doubts(44.0, 10, 0).verdict(Some(&facts)), None, "too little text");
        assert_eq!(doubts(44.0, 40, 0).verdict(None), None, "nothing is known");
        let found = doubts(10.0, 40, 20).verdict(None);
        assert_eq!(found, Some(Doubt::Unknown { share: 0.5 }));
    }
}
