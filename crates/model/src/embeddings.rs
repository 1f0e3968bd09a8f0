//! From token ids to the vectors that the first layer reads.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_embeddings::{LearnedPositions, LearnedPositionsConfig, TokenEmbedding, TokenEmbeddingConfig};

use crate::ModelError;
use crate::config::{PositionKind, TransformerConfig};
use crate::norm::Norm;
use crate::places::Places;
use crate::table::{ParameterTable, Role};

/// Token vectors, plus position vectors and a norm where the model has them.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// Token ids to vectors.
    pub tokens: TokenEmbedding,
    /// Learned positions, where the configuration has them.
    pub positions: Option<LearnedPositions>,
    /// Norm of the summed embeddings (BERT).
    pub norm: Option<Norm>,
    /// The sinusoidal positions, `[max_seq_len, d_model]`; constants, not stored in files.
    sinusoidal: Option<Tensor<2>>,
    /// The factor on the token vectors (Marian).
    #[module(skip)]
    scale: Option<f64>,
}

impl Embeddings {
    pub(crate) fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Self {
        let (d_model, max_len) = (config.d_model, config.max_seq_len);
        let tokens = TokenEmbeddingConfig {
            vocab_size: config.vocab_size,
            d_model,
        };
        Self {
            tokens: tokens.init(seed, device),
            positions: (config.position == PositionKind::Learned)
                .then(|| LearnedPositionsConfig { max_len, d_model }.init(seed, device)),
            norm: config.embedding_norm.then(|| config.norm_config().init(device)),
            sinusoidal: (config.position == PositionKind::Sinusoidal).then(|| {
                let waves = match config.sinusoidal_halves {
                    true => taal_embeddings::sinusoidal_halves,
                    false => taal_embeddings::sinusoidal,
                };
                waves(max_len, d_model, &device.clone().inner())
            }),
            scale: config.scale_embeddings.then(|| (d_model as f64).sqrt()),
        }
    }

    /// The input of the first layer, from the token vectors.
    ///
    /// # Shapes
    ///
    /// - vectors and output: `[batch, seq, d_model]`
    pub(crate) fn forward(&self, vectors: Tensor<3>, places: &Places<'_>) -> Result<Tensor<3>, ModelError> {
        let [batch, seq, d_model] = vectors.dims();
        let mut x = match self.scale {
            Some(scale) => vectors.mul_scalar(scale),
            None => vectors,
        };
        if let Some(table) = self.position_vectors(places.first(), places.span(seq))? {
            let added = match places.positions(&table.device()) {
                Some(positions) => table.select(0, positions).reshape([batch, seq, d_model]),
                None => table.unsqueeze::<3>(),
            };
            x = x + added;
        }
        Ok(match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        })
    }

    /// The vectors that are added at positions `start..start + seq`, `[seq, d_model]`; `None` where the model encodes positions
    /// another way.
    pub(crate) fn position_vectors(&self, start: usize, seq: usize) -> Result<Option<Tensor<2>>, ModelError> {
        Ok(match (&self.positions, &self.sinusoidal) {
            (Some(positions), _) => Some(positions.forward(seq, start)?),
            (None, Some(table)) => Some(table.clone().narrow(0, start, seq)),
            (None, None) => None,
        })
    }

    pub(crate) fn list(&self, table: &mut ParameterTable) {
        table.add(
            "token_embedding.weight".to_owned(),
            Role::Embedding,
            &self.tokens.weight,
        );
        if let Some(positions) = &self.positions {
            table.add(
                "position_embedding.weight".to_owned(),
                Role::Embedding,
                &positions.weight,
            );
        }
        if let Some(norm) = &self.norm {
            norm.list("embedding_norm", table);
        }
    }
}
