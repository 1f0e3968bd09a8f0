//! The layers between embeddings and head: blocks of attention and feed-forward network, or recurrent layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_attention::{
    AttentionContext, AttentionMask, AttentionOptions, CacheType, KvCache, MultiHeadAttention,
    MultiHeadAttentionConfig, attention_mask,
};
use taal_embeddings::Rotary;
use taal_kernels::random;

use crate::ModelError;
use crate::config::{Mixer, NormPlace, PositionKind, TransformerConfig};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::norm::{Norm, NormConfig};
use crate::pass::{Output, Pass, Site, drop_at};
use crate::places::Places;
use crate::recurrent::Recurrent;
use crate::table::{ParameterTable, Role};

/// Where positions exchange information.
#[derive(Module, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a model has one stack")]
pub enum Stack {
    /// A transformer's blocks.
    Blocks(Blocks),
    /// An LSTM's layers.
    Recurrent(Recurrent),
}

/// Blocks, and the norm after the last.
#[derive(Module, Debug)]
pub struct Blocks {
    /// First to last.
    pub blocks: Vec<Block>,
    /// Norm after the last block (pre-norm models).
    pub final_norm: Option<Norm>,
    /// Angles of the rotary positions; constants, not stored in files.
    rotary: Option<Rotary>,
    /// The angles of the blocks with a window, where they differ.
    local_rotary: Option<Rotary>,
    #[module(skip)]
    config: TransformerConfig,
}

/// One block: attention, then the feed-forward network, each around a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention's input (pre-norm) or of the sum after it (post-norm); a first block may have none (ModernBERT).
    pub attention_norm: Option<Norm>,
    /// Self-attention.
    pub attention: MultiHeadAttention,
    /// Norm of the feed-forward network's input (pre-norm) or of the sum after it (post-norm).
    pub feed_forward_norm: Norm,
    /// Position-wise feed-forward network.
    pub feed_forward: FeedForward,
    #[module(skip)]
    place: NormPlace,
    #[module(skip)]
    dropout: f64,
}

/// The parts of a [`Block`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockConfig {
    /// Its attention.
    pub attention: MultiHeadAttentionConfig,
    /// Its feed-forward network.
    pub feed_forward: FeedForwardConfig,
    /// Both norms.
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
        Ok(Block {
            attention_norm: self.has_attention_norm.then(|| self.norm.init(device)),
            attention: self.attention.init(random::key(seed, 0, "attention"), device),
            feed_forward_norm: self.norm.init(device),
            feed_forward: self.feed_forward.init(random::key(seed, 0, "feed-forward"), device),
            place: self.norm_place,
            dropout: self.dropout,
        })
    }
}

impl Stack {
    pub(crate) fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, ModelError> {
        Ok(match config.mixer {
            Mixer::Attention => Self::Blocks(Blocks::new(config, seed, device)?),
            Mixer::Lstm => Self::Recurrent(Recurrent::new(config, device)),
        })
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, d_model]`
    pub(crate) fn forward(&self, x: Tensor<3>, pass: Pass<'_, '_>) -> Result<Output, ModelError> {
        match self {
            Self::Blocks(blocks) => blocks.forward(x, pass),
            Self::Recurrent(recurrent) => Ok(recurrent.forward(x, pass)),
        }
    }

    pub(crate) fn list(&self, table: &mut ParameterTable) {
        match self {
            Self::Blocks(blocks) => blocks.list(table),
            Self::Recurrent(recurrent) => recurrent.list(table),
        }
    }

    /// The same with another probability of dropout in training.
    pub(crate) fn set_dropout(&mut self, dropout: f64) {
        match self {
            Self::Blocks(blocks) => {
                blocks.config.dropout = dropout;
                blocks.blocks.iter_mut().for_each(|block| block.dropout = dropout);
            }
            Self::Recurrent(recurrent) => recurrent.set_dropout(dropout),
        }
    }
}

impl Blocks {
    fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, ModelError> {
        let block = |layer| {
            let seed = random::key(seed, layer as u64, "block");
            config.block_config(layer).init(seed, device)
        };
        let rotary = |theta: Option<f64>| {
            let theta = theta.filter(|_| config.position == PositionKind::Rotary);
            let scaling = config.rope_scaling.map(|scaling| scaling.rotary(config.max_seq_len));
            let constants = device.clone().inner();
            theta
                .map(|theta| Rotary::scaled(config.head_dim, config.max_seq_len, theta, scaling, &constants))
                .transpose()
        };
        Ok(Self {
            blocks: (0..config.n_layers).map(block).collect::<Result<_, _>>()?,
            final_norm: (config.norm_place == NormPlace::Pre).then(|| config.norm_config().init(device)),
            rotary: rotary(Some(config.rope_theta))?,
            local_rotary: rotary(config.local_rope_theta)?,
            config: config.clone(),
        })
    }

    /// The angles of the rotary positions, where the model has them.
    pub(crate) fn rotary(&self) -> Option<&Rotary> {
        self.rotary.as_ref()
    }

    /// The masks of blocks without and with a window.
    fn masks(&self, seq: usize, places: &Places<'_>, device: &Device) -> [Option<AttentionMask>; 2] {
        let c = &self.config;
        let bias = |starts: &[usize], kv_len| {
            let is_alibi = c.position == PositionKind::Alibi;
            is_alibi.then(|| taal_embeddings::alibi_bias_at(c.n_heads, starts, seq, kv_len, device))
        };
        let mask_of = |window| match places {
            Places::Rows { starts, lengths, .. } => {
                let mask = AttentionMask::of_rows(starts, lengths, seq, window, device);
                match bias(starts, mask.kv_len()) {
                    Some(bias) => mask.with_bias(bias),
                    None => mask,
                }
            }
            _ => {
                let options = AttentionOptions {
                    window,
                    ..self.options(None)
                };
                let kv_len = places.end(seq);
                let bias = bias(&[places.first()], kv_len);
                let mask = attention_mask(seq, kv_len, None, bias, &options, device);
                match places {
                    Places::Segments(segments) => mask.with_segments((*segments).clone()),
                    _ => mask,
                }
            }
        };
        [Some(mask_of(None)), c.window.map(|window| mask_of(Some(window)))]
    }

    fn options(&self, window: Option<usize>) -> AttentionOptions {
        AttentionOptions {
            is_causal: self.config.is_causal,
            softcap: self.config.attention_softcap,
            window,
            ..AttentionOptions::default()
        }
    }

    fn forward(&self, mut x: Tensor<3>, mut pass: Pass<'_, '_>) -> Result<Output, ModelError> {
        let [_, seq, _] = x.dims();
        let device = x.device().inner();
        let positions = pass.places.positions(&device);
        let [global_mask, local_mask] = self.masks(seq, &pass.places, &device);
        let (start, lengths) = match &pass.places {
            Places::Rows { lengths, .. } => (0, Some(lengths.clone())),
            places => (places.first(), None),
        };
        let mut hidden_states = Vec::new();
        let mut attention_weights = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            x = pass.visit(Site::BeforeBlock(index), x);
            if pass.capture.hidden_states {
                hidden_states.push(x.clone());
            }
            let layer_key = pass.dropout_key.map(|key| random::key(key, index as u64, "layer"));
            let dropout = layer_key.filter(|_| self.config.dropout > 0.0);
            let window = self.config.window_of(index);
            let local_rotary = self.local_rotary.as_ref().filter(|_| window.is_some());
            let local_mask = local_mask.as_ref().filter(|_| window.is_some());
            let mut heads = pass.hook.as_mut().map(|hook| {
                let hook: &mut dyn FnMut(Site, Tensor<3>) -> Tensor<3> = &mut **hook;
                move |x| hook(Site::Heads(index), x)
            });
            let context = AttentionContext {
                rotary: local_rotary.or(self.rotary.as_ref()),
                mask: local_mask.or(global_mask.as_ref()),
                options: AttentionOptions {
                    dropout: dropout.map(|key| (self.config.dropout, random::key(key, 0, "attention_weights"))),
                    return_weights: pass.capture.attention_weights,
                    ..self.options(window)
                },
                cache: pass.cache.as_mut().map(|cache| cache.layer(index)),
                start,
                positions: positions.clone(),
                lengths: lengths.as_deref(),
                rows: pass.rows.clone(),
                heads: heads
                    .as_mut()
                    .map(|heads| heads as &mut dyn FnMut(Tensor<3>) -> Tensor<3>),
            };
            let (next, weights) = block.forward(x, context, layer_key)?;
            x = pass.visit(Site::AfterBlock(index), next);
            attention_weights.extend(weights);
        }
        if pass.capture.hidden_states {
            hidden_states.push(x.clone());
        }
        Ok(Output {
            hidden: self.normed(x),
            hidden_states,
            attention_weights,
        })
    }

    /// The final norm, where there is one.
    pub(crate) fn normed(&self, stream: Tensor<3>) -> Tensor<3> {
        match &self.final_norm {
            Some(norm) => norm.forward(stream),
            None => stream,
        }
    }

    pub(crate) fn caches(&self, kind: CacheType, batch: usize, capacity: usize, device: &Device) -> Vec<KvCache> {
        let c = &self.config;
        let layer = |_: &Block| KvCache::of(kind, [batch, c.n_kv_heads, capacity, c.head_dim], device);
        self.blocks.iter().map(layer).collect()
    }

    fn list(&self, table: &mut ParameterTable) {
        let kv = self.config.n_kv_heads * self.config.head_dim;
        let qkv = [self.config.n_heads * self.config.head_dim, kv, kv];
        for (index, block) in self.blocks.iter().enumerate() {
            block.list(&format!("blocks.{index}"), qkv, table);
        }
        if let Some(norm) = &self.final_norm {
            norm.list("final_norm", table);
        }
    }
}

impl Block {
    /// The residual stream after the block, and the attention weights if the context requests them. `dropout_key` turns dropout on.
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
        let drop = |x: Tensor<3>, site| drop_at(x, self.dropout, dropout_key, site);
        let is_dropping = dropout_key.is_some() && self.dropout > 0.0;
        let normed_for_attention = |x: Tensor<3>| match &self.attention_norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        match self.place {
            // Without dropout the projections are added to the residual stream as they are computed.
            NormPlace::Pre if !is_dropping => {
                let attended = self
                    .attention
                    .forward_add(normed_for_attention(x.clone()), x, context)?;
                let normed = self.feed_forward_norm.forward(attended.output.clone());
                Ok((self.feed_forward.forward_add(normed, attended.output), attended.weights))
            }
            NormPlace::Pre => {
                let attended = self.attention.forward(normed_for_attention(x.clone()), context)?;
                let x = x + drop(attended.output, "attention");
                let fed = self.feed_forward.forward(self.feed_forward_norm.forward(x.clone()));
                Ok((x + drop(fed, "feed_forward"), attended.weights))
            }
            NormPlace::Post => {
                let attended = self.attention.forward(x.clone(), context)?;
                let x = normed_for_attention(x + drop(attended.output, "attention"));
                let fed = self.feed_forward.forward(x.clone());
                let x = self.feed_forward_norm.forward(x + drop(fed, "feed_forward"));
                Ok((x, attended.weights))
            }
        }
    }

    fn list(&self, name: &str, qkv: [usize; 3], table: &mut ParameterTable) {
        if let Some(norm) = &self.attention_norm {
            norm.list(&format!("{name}.attention_norm"), table);
        }
        let attention = &self.attention;
        table.dense_of_parts(&format!("{name}.attention.qkv"), qkv.to_vec(), &attention.qkv);
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
        self.feed_forward_norm.list(&format!("{name}.feed_forward_norm"), table);
        self.feed_forward.list(&format!("{name}.feed_forward"), table);
    }
}
