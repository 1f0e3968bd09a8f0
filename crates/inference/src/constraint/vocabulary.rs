//! A tokenizer's vocabulary as llguidance reads it: the bytes of every token in a prefix tree.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::GrammarInit;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Logger, Matcher, ParserFactory};
use taal_tokenizer::Tokenizer;

use super::endless::is_endless;
use super::{Constraint, limits};
use crate::{InferenceError, LanguageModel, Result};

/// The name of the entry for the end of an answer; every token that ends texts stands for it.
const END: &str = "<|end_of_answer|>";

/// Entries of the prefix tree: one per token id, then one per token whose bytes differ at the beginning of a text, then the end.
pub(super) struct Vocabulary {
    factory: ParserFactory,
    /// The token ids that have another entry at the beginning of a text, and that entry, by id.
    first: Vec<(u32, u32)>,
    left_out: Vec<bool>,
    end: u32,
    /// The newest constraint, read: all answers of a request have the same.
    newest: Mutex<Option<(Constraint, Matcher)>>,
}

impl Vocabulary {
    fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let texts = tokenizer.token_texts()?.ok_or(InferenceError::NoTokenTexts)?;
        let ids = 0..tokenizer.vocab_size() as u32;
        let is_left_out = |id: u32| tokenizer.is_left_out(id);
        let name = |id: u32| match is_left_out(id) {
            // Grammars can name special tokens.
            true => tokenizer.id_to_token(id).map(|token| special(&token)),
            false => None,
        };
        let entry = |id: u32| name(id).unwrap_or_else(|| texts.later(id).to_vec());
        let mut words: Vec<Vec<u8>> = ids.clone().map(entry).collect();
        let mut first = Vec::new();
        for id in texts.differing() {
            first.push((id, words.len() as u32));
            words.push(texts.first(id).to_vec());
        }
        let end = words.len() as u32;
        words.push(special(END));
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        // Texts that follow from the grammar are not tokenized ahead: the model chooses among the tokens that spell them.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let capabilities = InferenceCapabilities::default();
        let factory = ParserFactory::new(&environment, capabilities, &SlicedBiasComputer::general_slices());
        let mut factory = factory.map_err(|error| InferenceError::Constraint {
            kind: "vocabulary",
            detail: error.to_string(),
        })?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self {
            factory,
            first,
            left_out: ids.map(is_left_out).collect(),
            end,
            newest: Mutex::new(None),
        })
    }

    /// The state of a constraint before an answer.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Constraint`] where it is invalid, or no answer ever ends.
    pub(super) fn matcher(&self, constraint: &Constraint) -> Result<Matcher> {
        let newest = || self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, matcher)) = newest().as_ref().filter(|(known, _)| known == constraint) {
            return Ok(matcher.clone());
        }
        let (grammar, properties) = constraint.grammar()?;
        let parser = self.factory.create_parser_from_init_ext(
            GrammarInit::Serialized(grammar),
            Logger::new(self.factory.buffer_log_level(), self.factory.stderr_log_level()),
            InferenceCapabilities::default(),
            limits::of(self.factory.limits(), properties),
        );
        let parser = parser.map_err(|error| constraint.invalid(&format!("{error:#}")))?;
        if is_endless(parser.parser.grammar()) {
            return Err(constraint.invalid("every answer would have to contain itself, and would never end"));
        }
        let matcher = Matcher::new(Ok(parser));
        *newest() = Some((constraint.clone(), matcher.clone()));
        Ok(matcher)
    }

    /// The entry of the end of an answer.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Whether a token is not part of the text.
    pub(super) fn is_left_out(&self, id: u32) -> bool {
        self.left_out.get(id as usize).copied().unwrap_or(true)
    }

    /// The entry of a token.
    pub(super) fn entry(&self, id: u32, is_first: bool) -> u32 {
        let differing = self.first.binary_search_by_key(&id, |(id, _)| *id);
        match differing {
            Ok(found) if is_first => self.first[found].1,
            _ => id,
        }
    }

    /// Whether a token is among the entries that may come next.
    pub(super) fn allows(&self, next: &SimpleVob, id: u32, is_first: bool) -> bool {
        let entry = match is_first {
            true => self.entry(id, true),
            false => id,
        };
        (id as usize) < self.left_out.len() && next.is_allowed(entry)
    }
}

/// The bytes of a special token, which no text has.
fn special(token: &str) -> Vec<u8> {
    [&[TokTrie::SPECIAL_TOKEN_MARKER], token.as_bytes()].concat()
}

/// A model's vocabulary, made when the first constraint needs it.
#[derive(Default)]
pub(crate) struct VocabularyCell(OnceLock<Arc<Vocabulary>>);

impl fmt::Debug for VocabularyCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VocabularyCell").field(&self.0.get().is_some()).finish()
    }
}

impl LanguageModel {
    pub(super) fn vocabulary(&self) -> Result<Arc<Vocabulary>> {
        if let Some(found) = self.vocabulary.0.get() {
            return Ok(found.clone());
        }
        let tokenizer = self.tokenizer.as_ref().ok_or(InferenceError::NoTokenizer {
            purpose: "an answer of a given form",
        })?;
        let made = Arc::new(Vocabulary::new(tokenizer)?);
        Ok(self.vocabulary.0.get_or_init(|| made).clone())
    }
}
