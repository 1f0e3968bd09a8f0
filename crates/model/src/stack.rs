//! The layers between embeddings and head: blocks of attention and feed-forward network, or recurrent layers.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_attention::{
    AttentionContext, AttentionMask, AttentionOptions, CacheType, CrossContext, KvCache, attention_mask,
};
use taal_embeddings::{RelativeBias, RelativeBiasConfig, Rotary};
use taal_kernels::random;

use crate::ModelError;
use crate::block::{Block, Cross};
use crate::config::{Mixer, NormPlace, PositionKind, TransformerConfig};
use crate::memory::Crossing;
use crate::norm::Norm;
use crate::pass::{Hook, Output, Pass, Site};
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
    /// What distances add to the scores of self-attention, in all blocks (T5).
    pub relative: Option<RelativeBias>,
    /// Norm after the last block (pre-norm models).
    pub final_norm: Option<Norm>,
    /// Angles of the rotary positions; constants, not stored in files.
    rotary: Option<Rotary>,
    /// The angles of the blocks with a window, where they differ.
    local_rotary: Option<Rotary>,
    #[module(skip)]
    config: TransformerConfig,
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
            Self::Blocks(blocks) => blocks.list("", table),
            Self::Recurrent(recurrent) => recurrent.list(table),
        }
    }

    /// The same with another probability of dropout in training.
    pub(crate) fn set_dropout(&mut self, dropout: f64) {
        match self {
            Self::Blocks(blocks) => blocks.set_dropout(dropout),
            Self::Recurrent(recurrent) => recurrent.set_dropout(dropout),
        }
    }
}

impl Blocks {
    pub(crate) fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Result<Self, ModelError> {
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
            relative: config.relative_positions().map(|relative| {
                let bias = RelativeBiasConfig {
                    buckets: relative.buckets,
                    max_distance: relative.max_distance,
                    n_heads: config.n_heads,
                    is_bidirectional: !config.is_causal,
                };
                bias.init(seed, device)
            }),
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
        let bias = |starts: &[usize], kv_len| match &self.relative {
            Some(relative) => Some(relative.forward(starts, seq, kv_len)),
            None if c.position == PositionKind::Alibi => {
                Some(taal_embeddings::alibi_bias_at(c.n_heads, starts, seq, kv_len, device))
            }
            None => None,
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
            scale: self.config.attention_scale,
            softcap: self.config.attention_softcap,
            window,
            ..AttentionOptions::default()
        }
    }

    pub(crate) fn set_dropout(&mut self, dropout: f64) {
        self.config.dropout = dropout;
        self.blocks.iter_mut().for_each(|block| block.set_dropout(dropout));
    }

    /// # Shapes
    ///
    /// - x: `[batch, seq, d_model]`
    pub(crate) fn forward(&self, mut x: Tensor<3>, mut pass: Pass<'_, '_>) -> Result<Output, ModelError> {
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
        let mut cross_weights = Vec::new();
        let crossing = pass.crossing.take();
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
            let mut heads = at_site(&mut pass.hook, Site::Heads(index));
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
            let (attended, weights) = block.attend(x, context, layer_key)?;
            drop(heads);
            x = attended;
            attention_weights.extend(weights);
            if let (Some(cross), Some(crossing)) = (&block.cross, &crossing) {
                let (attended, weights) = self.cross(x, (index, block, cross), crossing, &mut pass, layer_key)?;
                x = attended;
                cross_weights.extend(weights);
            }
            x = pass.visit(Site::AfterBlock(index), block.feed(x, layer_key));
        }
        if pass.capture.hidden_states {
            hidden_states.push(x.clone());
        }
        Ok(Output {
            hidden: self.normed(x),
            hidden_states,
            attention_weights,
            cross_weights,
        })
    }

    /// The stream after a block's attention to the source, and its weights if requested.
    fn cross(
        &self,
        x: Tensor<3>,
        (index, block, cross): (usize, &Block, &Cross),
        crossing: &Crossing<'_>,
        pass: &mut Pass<'_, '_>,
        layer_key: Option<u64>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), ModelError> {
        let dropout = layer_key.filter(|_| self.config.dropout > 0.0);
        let mut heads = at_site(&mut pass.hook, Site::CrossHeads(index));
        let cache = pass.cache.as_ref().and_then(|cache| cache.source.as_ref());
        let context = CrossContext {
            source: crossing.source(index, cache)?,
            mask: &crossing.mask,
            options: AttentionOptions {
                scale: self.config.attention_scale,
                softcap: self.config.attention_softcap,
                dropout: dropout.map(|key| (self.config.dropout, random::key(key, 0, "cross_attention_weights"))),
                return_weights: pass.capture.attention_weights,
                ..AttentionOptions::default()
            },
            heads: heads
                .as_mut()
                .map(|heads| heads as &mut dyn FnMut(Tensor<3>) -> Tensor<3>),
        };
        block.attend_to_source(cross, x, context, layer_key)
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

    /// Empty keys and values of sources, `[batch, source]`.
    pub(crate) fn source_caches(&self, kind: CacheType, [batch, source]: [usize; 2], device: &Device) -> Vec<KvCache> {
        let c = &self.config;
        let layer = |_: &Block| KvCache::of(kind, [batch, c.n_heads, source, c.head_dim], device);
        self.blocks.iter().map(layer).collect()
    }

    /// All parameters, whose names begin with `prefix`.
    pub(crate) fn list(&self, prefix: &str, table: &mut ParameterTable) {
        let query = self.config.n_heads * self.config.head_dim;
        let key_value = self.config.n_kv_heads * self.config.head_dim;
        for (index, block) in self.blocks.iter().enumerate() {
            block.list(&format!("{prefix}blocks.{index}"), [query, key_value], table);
        }
        if let Some(relative) = &self.relative {
            table.add(
                format!("{prefix}relative_bias.weight"),
                Role::Embedding,
                &relative.weight,
            );
        }
        if let Some(norm) = &self.final_norm {
            norm.list(&format!("{prefix}final_norm"), table);
        }
    }
}

/// The hook as a function of the tensor at one site.
fn at_site(hook: &mut Option<Hook<'_>>, site: Site) -> Option<impl FnMut(Tensor<3>) -> Tensor<3>> {
    hook.as_mut().map(move |hook| move |x| hook(site, x))
}
