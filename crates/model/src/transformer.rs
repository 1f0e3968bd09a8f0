//! The transformer itself: embeddings, a stack of blocks, a final norm and the output matrix.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use taal_attention::{
    AttentionContext, AttentionOptions, KvCache, MultiHeadAttention, MultiHeadAttentionConfig, Segments, attention_mask,
};
use taal_embeddings::{LearnedPositions, LearnedPositionsConfig, Rotary, TokenEmbedding, TokenEmbeddingConfig};
use taal_kernels::{Precision, with_precision};

use crate::ModelError;
use crate::config::{Mixer, NormPlace, PositionKind, TransformerConfig};
use crate::feed_forward::{FeedForward, apply, empty_linear};
use crate::head::HeadTransform;
use crate::norm::Norm;
use crate::parameters::{self, Initialisation};
use crate::recurrent::{Recurrent, States};

/// A transformer language model, causal or bidirectional, of any family that [`TransformerConfig`] describes.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Token ids to vectors.
    pub token_embedding: TokenEmbedding,
    /// Learned positions, where the configuration has them.
    pub position_embedding: Option<LearnedPositions>,
    /// Norm of the summed embeddings (BERT).
    pub embedding_norm: Option<Norm>,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// What stands in the place of the blocks in a recurrent network.
    pub recurrent: Option<Recurrent>,
    /// Norm after the last block (pre-norm models).
    pub final_norm: Option<Norm>,
    /// What stands before the output matrix (BERT).
    pub head_transform: Option<HeadTransform>,
    /// The output matrix where it is not the token embedding, `[d_model, vocab_size]`.
    pub head: Option<Linear>,
    /// What is added to the logits, `[vocab_size]` (BERT).
    pub output_bias: Option<Param<Tensor<1>>>,
    /// Angles of the rotary positions; constants, in no file.
    rotary: Option<Rotary>,
    /// The angles of the blocks with a window, where they are others.
    local_rotary: Option<Rotary>,
    /// The sinusoidal positions, `[max_seq_len, d_model]`; constants, in no file.
    sinusoidal: Option<Tensor<2>>,
    #[module(skip)]
    config: TransformerConfig,
}

/// One block: attention, then the feed-forward network, each around a residual.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention's input (pre-norm) or of the sum after it (post-norm); a first block may have none (ModernBERT).
    pub attention_norm: Option<Norm>,
    /// Who listens to whom.
    pub attention: MultiHeadAttention,
    /// Norm of the feed-forward network's input (pre-norm) or of the sum after it (post-norm).
    pub feed_forward_norm: Norm,
    /// What each position makes of what it heard.
    pub feed_forward: FeedForward,
    #[module(skip)]
    place: NormPlace,
    #[module(skip)]
    dropout: f64,
}

/// What to compute beside the last hidden state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capture {
    /// The residual stream before the first block and after every block.
    pub hidden_states: bool,
    /// The attention weights of every layer.
    pub attention_weights: bool,
}

/// How to run a forward pass; the default is evaluation of unpadded rows without a cache.
#[derive(Debug, Default)]
pub struct ForwardOptions<'a> {
    /// `[batch, kv_len]`, true where a position is padding that nobody may attend to.
    pub padding: Option<Tensor<2, Bool>>,
    /// Turns dropout on; the mask of each site is a function of this key.
    pub dropout_key: Option<u64>,
    /// Keys and values of earlier positions; filled by the pass.
    pub cache: Option<&'a mut Cache>,
    /// Where several texts share a row: each is computed as if it were alone in it, and its positions begin with 0. Not with a cache.
    pub segments: Option<&'a Segments>,
    /// What to hand out.
    pub capture: Capture,
}

/// What a forward pass hands out.
#[derive(Debug, Clone)]
pub struct Output {
    /// After the final norm, `[batch, seq, d_model]`.
    pub hidden: Tensor<3>,
    /// The residual stream before the first block and after every block, or what each recurrent layer hands up,
    /// `[batch, seq, d_model]` each; empty unless asked for.
    pub hidden_states: Vec<Tensor<3>>,
    /// One `[batch, n_heads, seq, kv_len]` a layer; empty unless asked for. They are computed beside the output: no bit of `hidden`
    /// depends on whether they were asked for. A recurrent network has none.
    pub attention_weights: Vec<Tensor<4>>,
}

/// What is kept of the positions so far, so that decoding computes only the new ones: keys and values of all layers, or the states of
/// a recurrent network, which take the same room however long the text.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<KvCache>,
    states: States,
    len: usize,
    capacity: usize,
}

impl Cache {
    /// Positions held so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Positions that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets everything and keeps the memory.
    pub fn reset(&mut self) {
        self.layers.iter_mut().for_each(KvCache::reset);
        self.states.clear();
        self.len = 0;
    }
}

impl TransformerConfig {
    /// Builds a model with drawn weights: nanoGPT's initialisation, N(0, 0.02) with the projections into
    /// the residual stream scaled by `1 / sqrt(2 * n_layers)`, or BERT's, without that scale, where the norm stands
    /// after the sum. The draw is a function of the seed alone.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where the configuration cannot be.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Transformer, ModelError> {
        self.init_with(seed, Initialisation::default(), device)
    }

    /// [`init`](Self::init) with standard deviations of one's own.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where the configuration cannot be.
    pub fn init_with(&self, seed: u64, how: Initialisation, device: &Device) -> Result<Transformer, ModelError> {
        Ok(parameters::draw(self.empty(device)?, self, seed, how))
    }

    /// A model of zeros, to be filled from a file.
    pub(crate) fn empty(&self, device: &Device) -> Result<Transformer, ModelError> {
        self.validate()?;
        let attention = MultiHeadAttentionConfig {
            d_model: self.d_model,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            qkv_bias: self.qkv_bias,
            output_bias: self.attention_output_bias,
            qk_norm: self.qk_norm.then_some(self.norm_eps),
        };
        attention.validate()?;
        let (n_blocks, recurrent) = match self.mixer {
            Mixer::Attention => (self.n_layers, None),
            Mixer::Lstm => (0, Some(Recurrent::new(self, device))),
        };
        let blocks = (0..n_blocks)
            .map(|layer| Block::new(self, layer, &attention, device))
            .collect();
        let norm = || Norm::new(self, self.d_model, device);
        let constants = device.clone().inner();
        let rotary = |theta: Option<f64>| {
            let theta = theta.filter(|_| self.position == PositionKind::Rotary);
            let scaling = self.rope_scaling.map(|scaling| scaling.rotary(self.max_seq_len));
            theta
                .map(|theta| Rotary::scaled(self.head_dim, self.max_seq_len, theta, scaling, &constants))
                .transpose()
        };
        Ok(Transformer {
            token_embedding: TokenEmbeddingConfig {
                vocab_size: self.vocab_size,
                d_model: self.d_model,
            }
            .init(device),
            position_embedding: (self.position == PositionKind::Learned).then(|| {
                LearnedPositionsConfig {
                    max_len: self.max_seq_len,
                    d_model: self.d_model,
                }
                .init(device)
            }),
            embedding_norm: self.embedding_norm.then(norm),
            blocks,
            recurrent,
            final_norm: (self.norm_place == NormPlace::Pre).then(norm),
            head_transform: self.head_transform.then(|| HeadTransform::new(self, device)),
            head: (!self.tie_embeddings).then(|| empty_linear(self.d_model, self.vocab_size, false, device)),
            output_bias: self
                .output_bias
                .then(|| Param::from_tensor(Tensor::zeros([self.vocab_size], device))),
            rotary: rotary(Some(self.rope_theta))?,
            local_rotary: rotary(self.local_rope_theta)?,
            sinusoidal: (self.position == PositionKind::Sinusoidal)
                .then(|| taal_embeddings::sinusoidal(self.max_seq_len, self.d_model, &constants)),
            config: self.clone(),
        })
    }
}

impl Block {
    fn new(config: &TransformerConfig, layer: usize, attention: &MultiHeadAttentionConfig, device: &Device) -> Self {
        let has_no_norm = layer == 0 && config.skip_first_norm;
        Self {
            attention_norm: (!has_no_norm).then(|| Norm::new(config, config.d_model, device)),
            attention: attention.init(device),
            feed_forward_norm: Norm::new(config, config.d_model, device),
            feed_forward: FeedForward::new(config, device),
            place: config.norm_place,
            dropout: config.dropout,
        }
    }

    /// # Shapes
    ///
    /// - x and output: `[batch, seq, d_model]`
    /// - weights: `[batch, n_heads, seq, kv_len]`
    fn forward(
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
                let heard = self
                    .attention
                    .forward_add(normed_for_attention(x.clone()), x, context)?;
                let normed = self.feed_forward_norm.forward(heard.output.clone());
                Ok((self.feed_forward.forward_add(normed, heard.output), heard.weights))
            }
            NormPlace::Pre => {
                let heard = self.attention.forward(normed_for_attention(x.clone()), context)?;
                let x = x + drop(heard.output, "attention");
                let thought = self.feed_forward.forward(self.feed_forward_norm.forward(x.clone()));
                Ok((x + drop(thought, "feed_forward"), heard.weights))
            }
            NormPlace::Post => {
                let heard = self.attention.forward(x.clone(), context)?;
                let x = normed_for_attention(x + drop(heard.output, "attention"));
                let thought = self.feed_forward.forward(x.clone());
                let x = self.feed_forward_norm.forward(x + drop(thought, "feed_forward"));
                Ok((x, heard.weights))
            }
        }
    }
}

impl Transformer {
    /// The configuration this model was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The same model with another probability of dropout in training.
    #[must_use]
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.config.dropout = dropout;
        self.blocks.iter_mut().for_each(|block| block.dropout = dropout);
        self
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.token_embedding.weight.lazy_device()
    }

    /// Room for the keys and values of `capacity` positions in `batch` rows; any number of them where the model is recurrent.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Cache {
        let device = self.device().inner();
        let c = &self.config;
        let layer = || KvCache::new(batch, c.n_kv_heads, capacity, c.head_dim, &device);
        Cache {
            layers: self.blocks.iter().map(|_| layer()).collect(),
            states: States::new(),
            len: 0,
            capacity: if self.recurrent.is_some() { usize::MAX } else { capacity },
        }
    }

    /// Logits of every position, in evaluation mode.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, vocab_size]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the rows are longer than the model's context.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Result<Tensor<3>, ModelError> {
        let output = self.forward_with(ids, ForwardOptions::default())?;
        Ok(self.logits(output.hidden))
    }

    /// The hidden states after the final norm, and whatever else the options ask for. Ids must be below
    /// `vocab_size`.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`; with a cache, the new positions only
    /// - hidden: `[batch, seq, d_model]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the rows, with what the cache holds, are longer than the model's context.
    pub fn forward_with(&self, ids: Tensor<2, Int>, options: ForwardOptions<'_>) -> Result<Output, ModelError> {
        let ForwardOptions {
            padding,
            dropout_key,
            mut cache,
            segments,
            capture,
        } = options;
        let [_, seq] = ids.dims();
        if let Some(segments) = segments {
            check_segments(segments, ids.dims(), cache.is_some())?;
        }
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        self.check_length(start + seq)?;
        let embedded = self.embed(ids, start, segments)?;
        let mut x = drop_at(embedded, self.config.dropout, dropout_key, "embedding");
        if let Some(recurrent) = &self.recurrent {
            return Ok(self.read_on(recurrent, x, dropout_key, cache, segments, capture));
        }
        let attention = AttentionOptions {
            is_causal: self.config.is_causal,
            softcap: self.config.attention_softcap,
            return_weights: capture.attention_weights,
            ..AttentionOptions::default()
        };
        let device = x.device().inner();
        let positions = segments.map(|segments| positions_of(segments, &device));
        let bias = (self.config.position == PositionKind::Alibi)
            .then(|| taal_embeddings::alibi_bias(self.config.n_heads, seq, start + seq, &device));
        let mask_of = |window| {
            let options = AttentionOptions { window, ..attention };
            let mask = attention_mask(seq, start + seq, padding.clone(), bias.clone(), &options, &device);
            match segments {
                Some(segments) => mask.with_segments(segments.clone()),
                None => mask,
            }
        };
        let global_mask = mask_of(None);
        let local_mask = self.config.window.map(|window| mask_of(Some(window)));

        let mut hidden_states = Vec::new();
        let mut attention_weights = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            if capture.hidden_states {
                hidden_states.push(x.clone());
            }
            let layer_key = dropout_key.map(|key| taal_kernels::random::key(key, index as u64, "layer"));
            let dropout = layer_key.filter(|_| self.config.dropout > 0.0);
            let window = self.config.window_of(index);
            let local_rotary = self.local_rotary.as_ref().filter(|_| window.is_some());
            let local_mask = local_mask.as_ref().filter(|_| window.is_some());
            let context = AttentionContext {
                rotary: local_rotary.or(self.rotary.as_ref()),
                mask: local_mask.or(Some(&global_mask)),
                options: AttentionOptions {
                    window,
                    dropout: dropout.map(|key| {
                        (
                            self.config.dropout,
                            taal_kernels::random::key(key, 0, "attention_weights"),
                        )
                    }),
                    ..attention
                },
                cache: cache.as_mut().map(|cache| &mut cache.layers[index]),
                start,
                positions: positions.clone(),
            };
            let (next, weights) = block.forward(x, context, layer_key)?;
            x = next;
            attention_weights.extend(weights);
        }
        if let Some(cache) = cache {
            cache.len += seq;
        }
        if capture.hidden_states {
            hidden_states.push(x.clone());
        }
        Ok(Output {
            hidden: self.normed(x),
            hidden_states,
            attention_weights,
        })
    }

    /// The pass of a recurrent network, which needs no mask: nothing that comes later can be heard.
    fn read_on(
        &self,
        recurrent: &Recurrent,
        x: Tensor<3>,
        dropout_key: Option<u64>,
        cache: Option<&mut Cache>,
        segments: Option<&Segments>,
        capture: Capture,
    ) -> Output {
        let mut hidden_states: Vec<Tensor<3>> = capture.hidden_states.then(|| x.clone()).into_iter().collect();
        let [_, seq, _] = x.dims();
        let mut fresh = States::new();
        let states = match cache {
            Some(cache) => {
                cache.len += seq;
                &mut cache.states
            }
            None => &mut fresh,
        };
        let hidden = recurrent.forward(x, states, segments, |layer, heard| {
            let layer_key = dropout_key.map(|key| taal_kernels::random::key(key, layer as u64, "layer"));
            let heard = drop_at(heard, self.config.dropout, layer_key, "recurrent");
            hidden_states.extend(capture.hidden_states.then(|| heard.clone()));
            heard
        });
        Output {
            hidden,
            hidden_states,
            attention_weights: Vec::new(),
        }
    }

    /// The final norm on the residual stream, where the model has one: what [`logits`](Self::logits) reads. On the stream after the last
    /// block this is [`Output::hidden`]; on an earlier one it is the logit lens (nostalgebraist, 2020).
    ///
    /// # Shapes
    ///
    /// - stream and output: `[batch, seq, d_model]`
    pub fn normed(&self, stream: Tensor<3>) -> Tensor<3> {
        match &self.final_norm {
            Some(norm) => norm.forward(stream),
            None => stream,
        }
    }

    /// The output matrix on hidden states, with the transform before it and the bias after it where there are such.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - output: `[batch, seq, vocab_size]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let hidden = self.transformed(hidden);
        // As in the loss below: what is compared are differences between logits, for which half precision is too coarse.
        let mut logits = with_precision(Precision::Fp32, || match &self.head {
            Some(head) => apply(head, hidden),
            None => self.token_embedding.logits(hidden),
        });
        if let Some(bias) = &self.output_bias {
            logits = logits + bias.val().unsqueeze::<3>();
        }
        match self.config.logit_softcap {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    /// Mean cross-entropy in nats of the logits of `hidden` over the targets that are not `ignore_index`; 0 when all
    /// of them are. Where the device has the fused operation, the logits never exist at once.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - targets: `[batch * seq]`
    /// - output: `[1]`
    pub fn loss(&self, hidden: Tensor<3>, targets: Tensor<1, Int>, ignore_index: i32) -> Tensor<1> {
        let [batch, seq, d_model] = hidden.dims();
        if self.config.logit_softcap.is_some() || self.head.as_ref().is_some_and(|head| head.bias.is_some()) {
            let logits = self.logits(hidden).reshape([batch * seq, self.config.vocab_size]);
            return taal_kernels::cross_entropy(logits, targets, ignore_index);
        }
        let mut hidden = self.transformed(hidden).reshape([batch * seq, d_model]);
        let (mut weight, is_transposed) = match &self.head {
            Some(head) => (head.weight.val(), false),
            None => (self.token_embedding.weight.val(), true),
        };
        if let Some(bias) = &self.output_bias {
            // The fused operation knows no bias, so it is one more column of the matrix, and its input is 1. That
            // copies the matrix; all logits at once would be larger.
            let ones = Tensor::ones([batch * seq, 1], &hidden.device());
            hidden = Tensor::cat(vec![hidden, ones], 1); // [batch * seq, d_model + 1]
            let axis = usize::from(is_transposed);
            weight = Tensor::cat(vec![weight, bias.val().unsqueeze_dim(axis)], axis);
        }
        taal_kernels::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, 0.0)
    }

    /// What the output matrix reads.
    fn transformed(&self, hidden: Tensor<3>) -> Tensor<3> {
        match &self.head_transform {
            Some(transform) => transform.forward(hidden),
            None => hidden,
        }
    }

    /// The vectors that are added to those of tokens at positions `start..start + seq`; none where the model knows places in another way.
    ///
    /// # Shapes
    ///
    /// - output: `[seq, d_model]`
    ///
    /// # Errors
    ///
    /// [`ModelError`] where a position lies outside the model's context.
    pub fn position_vectors(&self, start: usize, seq: usize) -> Result<Option<Tensor<2>>, ModelError> {
        self.check_length(start.saturating_add(seq))?;
        Ok(match (&self.position_embedding, &self.sinusoidal) {
            (Some(positions), _) => Some(positions.forward(seq, start)?),
            (None, Some(table)) => Some(table.clone().narrow(0, start, seq)),
            (None, None) => None,
        })
    }

    /// The angles of the rotary positions, where the model has such.
    pub fn rotary(&self) -> Option<&Rotary> {
        self.rotary.as_ref()
    }

    fn embed(&self, ids: Tensor<2, Int>, start: usize, segments: Option<&Segments>) -> Result<Tensor<3>, ModelError> {
        let [batch, seq] = ids.dims();
        let mut x = self.token_embedding.forward(ids); // [batch, seq, d_model]
        if let Some(vectors) = self.position_vectors(start, seq)? {
            let vectors = match segments {
                Some(segments) => {
                    let positions = positions_of(segments, &vectors.device());
                    vectors.select(0, positions).reshape([batch, seq, self.config.d_model])
                }
                None => vectors.unsqueeze::<3>(),
            };
            x = x + vectors;
        }
        Ok(match &self.embedding_norm {
            Some(norm) => norm.forward(x),
            None => x,
        })
    }

    fn check_length(&self, length: usize) -> Result<(), ModelError> {
        let Some(limit) = self.config.context_limit() else {
            return Ok(());
        };
        if length > limit {
            return Err(ModelError::Input(format!(
                "{length} tokens do not fit the model's context of {limit}; shorten the text or train with a larger block_size"
            )));
        }
        Ok(())
    }
}

/// How far each token is into its own text, `[batch * seq]`.
fn positions_of(segments: &Segments, device: &Device) -> Tensor<1, Int> {
    let [batch, seq] = segments.dims();
    Tensor::from_data(TensorData::new(segments.positions(), [batch * seq]), device)
}

/// Segments are of whole rows, whose positions are counted from the beginning.
fn check_segments(segments: &Segments, dims: [usize; 2], has_cache: bool) -> Result<(), ModelError> {
    if has_cache {
        return Err(ModelError::Input(
            "texts that share a row cannot be continued with a cache; give each its own row".to_owned(),
        ));
    }
    if segments.dims() != dims {
        let ([batch, seq], [rows, len]) = (segments.dims(), dims);
        return Err(ModelError::Input(format!(
            "the segments are of {batch} rows of {seq} tokens, the ids of {rows} rows of {len}"
        )));
    }
    Ok(())
}

/// Dropout at a named site of the network, off where there is no key.
fn drop_at<const D: usize>(x: Tensor<D>, probability: f64, key: Option<u64>, site: &str) -> Tensor<D> {
    match key {
        Some(key) if probability > 0.0 => {
            taal_kernels::dropout(x, probability, taal_kernels::random::key(key, 0, site))
        }
        _ => x,
    }
}
