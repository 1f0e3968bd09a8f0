//! The names of the position encodings.

use std::fmt;
use std::str::FromStr;

use crate::EmbeddingError;

/// How a model encodes the position of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// A trained vector per position is added to the embedding (GPT-2, BERT).
    Learned,
    /// A fixed wave per coordinate is added to the embedding (Vaswani et al., 2017).
    Sinusoidal,
    /// Queries and keys are rotated by their position (Su et al., 2021; LLaMA, Qwen).
    Rotary,
    /// Attention scores fall linearly with distance (Press, Smith and Lewis, 2021; BLOOM).
    Alibi,
    /// A trained number per head and range of distances is added to attention scores (Raffel et al., 2020; T5).
    Relative,
    /// No encoding: order follows from the causal mask alone.
    None,
}

impl Position {
    /// Every position, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Learned,
        Self::Sinusoidal,
        Self::Rotary,
        Self::Alibi,
        Self::Relative,
        Self::None,
    ];

    /// The name used in recipes and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Sinusoidal => "sinusoidal",
            Self::Rotary => "rotary",
            Self::Alibi => "alibi",
            Self::Relative => "relative",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Position {
    type Err = EmbeddingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|position| position.name() == text)
            .ok_or_else(|| EmbeddingError::UnknownPosition { given: text.to_owned() })
    }
}
