//! What kind of model a card is about.

use super::Facts;

/// What a model does with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Continues,
    Fills,
    Translates,
}

impl Task {
    pub(super) fn of(facts: &Facts<'_>) -> Self {
        match facts.config {
            Some(config) if config.encoder.is_some() => Self::Translates,
            Some(config) if !config.is_causal => Self::Fills,
            _ => Self::Continues,
        }
    }

    /// Hugging Face's word for it.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::Continues => "text-generation",
            Self::Fills => "fill-mask",
            Self::Translates => "translation",
        }
    }
}
