//! How sure a translator is of its own translations, so that programs that open it can tell a text in another language.

use taal_inference::{LanguageModel, own_loss};
use taal_model::Transformer;
use taal_model::hugging_face::{OwnLoss, SpecialIds, TranslationFacts};
use taal_tokenizer::Tokenizer;

use crate::TrainError;
use crate::answers::{item, source_item};
use crate::chat::Chat;
use crate::prepare::Corpus;

/// Held-out pairs that are translated at an evaluation: few, because each evaluation pays for them.
const PAIRS: usize = 24;

/// Held-out sources, and texts in the language that the model writes.
#[derive(Debug)]
pub(crate) struct Certainty {
    sources: Vec<String>,
    others: Vec<String>,
    facts: TranslationFacts,
    tokenizer: Tokenizer,
    special_ids: SpecialIds,
}

impl Certainty {
    /// Held-out pairs of a recipe that trains in a direction; `None` without a direction or a held-out part.
    ///
    /// # Errors
    ///
    /// The tokenizer's.
    pub(crate) fn of(tokenizer: &Tokenizer, chat: &Chat, corpus: &Corpus) -> Result<Option<Self>, TrainError> {
        let examples = match corpus {
            Corpus::Conversations(found) => found.validation.as_ref().map(|held_out| held_out.first(usize::MAX)),
            Corpus::Pairs(found) => found.validation.as_ref().map(|held_out| held_out.first(usize::MAX)),
            Corpus::Text(_) => None,
        };
        let has_encoder = matches!(corpus, Corpus::Pairs(_));
        let (Some(examples), Some(facts)) = (examples, chat.translation(has_encoder, None)) else {
            return Ok(None);
        };
        let (mut sources, mut others) = (Vec::new(), Vec::new());
        let count = examples.len().min(PAIRS);
        for index in 0..count {
            let example = &examples[index * examples.len() / count];
            let item = match has_encoder {
                true => source_item(example, tokenizer)?,
                false => item(example, tokenizer)?,
            };
            sources.push(item.prompt.trim_end().to_string());
            others.push(item.references.concat());
        }
        Ok(Some(Self {
            sources,
            others,
            facts,
            tokenizer: tokenizer.clone(),
            special_ids: chat.special_ids().cloned().unwrap_or_default(),
        }))
    }

    /// The mean losses; `None` where they cannot be measured, which matters for no step.
    pub(crate) fn measure(&self, model: &Transformer) -> Option<OwnLoss> {
        let lm = LanguageModel::with_special_ids(model.clone(), Some(self.tokenizer.clone()), self.special_ids.clone());
        let lm = lm.with_translation(self.facts.clone());
        let loss_of = |texts: &[String]| {
            own_loss(&lm, texts)
                .ok()
                .filter(|loss| loss.is_finite() && *loss >= 0.0)
        };
        Some(OwnLoss {
            usual: loss_of(&self.sources)?,
            other: loss_of(&self.others)?,
        })
    }
}
