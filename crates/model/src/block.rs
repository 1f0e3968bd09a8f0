//! One block of a stack: self-attention, attention to a source, feed-forward network.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_attention::{
    AttentionContext, CrossAttention, CrossAttentionConfig, CrossContext, MultiHeadAttention, MultiHeadAttentionConfig,
};
use taal_kernels::random;

use crate::ModelError;
use crate::config::{NormPlace, TransformerConfig};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::{Norm, NormConfig};
use crate::pass::drop_at;
use crate::table::{ParameterTable, Role};

/// One block: attention, attention to the source where there is one, then the feed-forward network, each around a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention's input (pre-norm) or of the sum after it (post-norm); a first block may have none (ModernBERT).
    pub attention_norm: Option<Norm>,
    /// Self-attention.
    pub attention: MultiHeadAttention,
    /// Attention to the source (the decoder of an encoder-decoder).
    pub cross: Option<Cross>,
    /// Norm of the feed-forward network's input (pre-norm) or of the sum after it (post-norm).
    pub feed_forward_norm: Norm,
    /// Position-wise feed-forward network.
    pub feed_forward: FeedForward,
    #[module(skip)]
    place: NormPlace,
    #[module(skip)]
    dropout: f64,
}

/// Attention to the source, with its norm.
#[derive(Module, Debug)]
pub struct Cross {
    /// Norm of the attention's input (pre-norm) or of the sum after it (post-norm).
    pub norm: Norm,
    /// Queries of the text, keys and values of the source.
    pub attention: CrossAttention,
}

/// The parts of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Its attention.
    pub attention: MultiHeadAttentionConfig,
    /// Its attention to a source, where there is one.
    pub cross: Option<CrossAttentionConfig>,
    /// Its feed-forward network.
    pub feed_forward: FeedForwardConfig,
    /// Its norms.
    pub norm: NormConfig,
    /// Before each sub-layer, or after each residual sum.
    pub norm_place: NormPlace,
    /// Whether the attention has a norm.
    pub has_attention_norm: bool,
    /// Probability of dropout on the outputs of the sub-layers.
    pub dropout: f64,
}

impl TransformerConfig {
    /// The parts of a block.
    pub fn block_config(&self, layer: usize) -> BlockConfig {
        BlockConfig {
            attention: MultiHeadAttentionConfig {
                d_model: self.d_model,
                n_heads: self.n_heads,
                n_kv_heads: self.n_kv_heads,
                head_dim: self.head_dim,
                qkv_bias: self.qkv_bias,
                output_bias: self.attention_output_bias,
                qk_norm: self.qk_norm.then_some(self.norm_eps),
            },
            cross: self.encoder.map(|_| CrossAttentionConfig {
                d_model: self.d_model,
                n_heads: self.n_heads,
                head_dim: self.head_dim,
                qkv_bias: self.qkv_bias,
                output_bias: self.attention_output_bias,
            }),
            feed_forward: FeedForwardConfig {
                d_model: self.d_model,
                d_ff: self.d_ff,
                activation: self.activation,
                bias: self.ffn_bias,
            },
            norm: self.norm_config(),
            norm_place: self.norm_place,
            has_attention_norm: !(layer == 0 && self.skip_first_norm),
            dropout: self.dropout,
        }
    }
}

impl BlockConfig {
    /// A fresh block drawn from the seed.
    ///
    /// # Errors
    ///
    /// [`ModelError::Attention`] where the sizes of the attention do not fit.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Block, ModelError> {
        self.attention.validate()?;
        if let Some(cross) = &self.cross {
            cross.validate()?;
        }
        Ok(Block {
            attention_norm: self.has_attention_norm.then(|| self.norm.init(device)),
            attention: self.attention.init(random::key(seed, 0, "attention"), device),
            cross: self.cross.map(|cross| Cross {
                norm: self.norm.init(device),
                attention: cross.init(random::key(seed, 0, "cross-attention"), device),
            }),
            feed_forward_norm: self.norm.init(device),
            feed_forward: self.feed_forward.init(random::key(seed, 0, "feed-forward"), device),
            place: self.norm_place,
            dropout: self.dropout,
        })
    }
}

impl Block {
    /// The residual stream after the block, and the attention weights if the context requests them. `dropout_key` turns dropout on.
    /// Attention to a source is left out: only a [`Transformer`](crate::Transformer) runs it.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, seq, d_model]`
    /// - weights: `[batch, n_heads, seq, kv_len]`
    ///
    /// # Errors
    ///
    /// As [`MultiHeadAttention::forward`].
    pub fn forward(
        &self,
        x: Tensor<3>,
        context: AttentionContext<'_>,
        dropout_key: Option<u64>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), ModelError> {
        let (x, weights) = self.attend(x, context, dropout_key)?;
        Ok((self.feed(x, dropout_key), weights))
    }

    /// The stream after self-attention, and its weights.
    pub(crate) fn attend(
        &self,
        x: Tensor<3>,
        context: AttentionContext<'_>,
        dropout_key: Option<u64>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), ModelError> {
        let drop = |x: Tensor<3>| drop_at(x, self.dropout, dropout_key, "attention");
        let normed = |x: Tensor<3>| match &self.attention_norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        Ok(match self.place {
            // Without dropout the projections are added to the residual stream as they are computed.
            NormPlace::Pre if !self.is_dropping(dropout_key) => {
                let attended = self.attention.forward_add(normed(x.clone()), x, context)?;
                (attended.output, attended.weights)
            }
            NormPlace::Pre => {
                let attended = self.attention.forward(normed(x.clone()), context)?;
                (x + drop(attended.output), attended.weights)
            }
            NormPlace::Post => {
                let attended = self.attention.forward(x.clone(), context)?;
                (normed(x + drop(attended.output)), attended.weights)
            }
        })
    }

    /// The stream after attention to the source, and its weights.
    pub(crate) fn attend_to_source(
        &self,
        cross: &Cross,
        x: Tensor<3>,
        context: CrossContext<'_>,
        dropout_key: Option<u64>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), ModelError> {
        let drop = |x: Tensor<3>| drop_at(x, self.dropout, dropout_key, "cross_attention");
        Ok(match self.place {
            NormPlace::Pre if !self.is_dropping(dropout_key) => {
                let attended = cross.attention.forward_add(cross.norm.forward(x.clone()), x, context)?;
                (attended.output, attended.weights)
            }
            NormPlace::Pre => {
                let attended = cross.attention.forward(cross.norm.forward(x.clone()), context)?;
                (x + drop(attended.output), attended.weights)
            }
            NormPlace::Post => {
                let attended = cross.attention.forward(x.clone(), context)?;
                (cross.norm.forward(x + drop(attended.output)), attended.weights)
            }
        })
    }

    /// The stream after the feed-forward network.
    pub(crate) fn feed(&self, x: Tensor<3>, dropout_key: Option<u64>) -> Tensor<3> {
        let drop = |x: Tensor<3>| drop_at(x, self.dropout, dropout_key, "feed_forward");
        match self.place {
            NormPlace::Pre if !self.is_dropping(dropout_key) => {
                let normed = self.feed_forward_norm.forward(x.clone());
                self.feed_forward.forward_add(normed, x)
            }
            NormPlace::Pre => {
                let fed = self.feed_forward.forward(self.feed_forward_norm.forward(x.clone()));
                x + drop(fed)
            }
            NormPlace::Post => {
                let fed = self.feed_forward.forward(x.clone());
                self.feed_forward_norm.forward(x + drop(fed))
            }
        }
    }

    fn is_dropping(&self, dropout_key: Option<u64>) -> bool {
        dropout_key.is_some() && self.dropout > 0.0
    }

    pub(crate) fn set_dropout(&mut self, dropout: f64) {
        self.dropout = dropout;
    }

    pub(crate) fn list(&self, name: &str, [query, key_value]: [usize; 2], table: &mut ParameterTable) {
        if let Some(norm) = &self.attention_norm {
            norm.list(&format!("{name}.attention_norm"), table);
        }
        let attention = &self.attention;
        let qkv = vec![query, key_value, key_value];
        table.dense_of_parts(&format!("{name}.attention.qkv"), qkv, &attention.qkv);
        table.dense(
            &format!("{name}.attention.output"),
            Role::ResidualMatrix,
            &attention.output,
        );
        for (part, norm) in [("q_norm", &attention.q_norm), ("k_norm", &attention.k_norm)] {
            if let Some(norm) = norm {
                table.add(format!("{name}.attention.{part}"), Role::NormWeight, norm);
            }
        }
        if let Some(Cross { norm, attention }) = &self.cross {
            norm.list(&format!("{name}.cross_norm"), table);
            table.dense(&format!("{name}.cross.query"), Role::Matrix, &attention.query);
            // As many key and value heads as query heads.
            table.dense_of_parts(
                &format!("{name}.cross.key_value"),
                vec![query, query],
                &attention.key_value,
            );
            table.dense(&format!("{name}.cross.output"), Role::ResidualMatrix, &attention.output);
        }
        self.feed_forward_norm.list(&format!("{name}.feed_forward_norm"), table);
        self.feed_forward.list(&format!("{name}.feed_forward"), table);
    }
}
