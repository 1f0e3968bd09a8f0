//! What a transformer costs in floating-point operations, and how much of a machine it uses.
//!
//! A multiplication with an addition counts as two operations. Only matrix products count: norms, softmax and activations are below one
//! per cent of a model worth training. Attention counts all `seq_len`² scores, also where a causal mask hides half of them, which is
//! how PaLM (Chowdhery et al. 2022, appendix B) and nanoGPT count, so figures stay comparable.

/// A transformer as plain integers, without a tensor library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Transformer blocks.
    pub n_layers: u64,
    /// Query heads a block.
    pub n_heads: u64,
    /// Key and value heads a block; fewer than `n_heads` with grouped queries.
    pub n_kv_heads: u64,
    /// The width of one head.
    pub head_dim: u64,
    /// The width of the residual stream.
    pub d_model: u64,
    /// The inner width of the feed-forward layer.
    pub d_ff: u64,
    /// Rows of the output matrix.
    pub vocab_size: u64,
    /// Tokens a sequence.
    pub seq_len: u64,
    /// Whether the feed-forward layer has a gate (SwiGLU, GeGLU): two matrices in, one out.
    pub is_gated: bool,
    /// Whether LSTM layers stand in the place of the blocks: four gates, each with two products as wide as the model.
    pub is_recurrent: bool,
    /// Blocks of an encoder that reads a source of `seq_len` tokens, to which every block of the decoder attends; 0 without one.
    pub n_encoder_layers: u64,
    /// PaLM's N: all parameters, a tied output embedding counted once, without learned position embeddings.
    pub n_params: u64,
}

/// The forward pass of one sequence, operation by operation, in FLOPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpCounts {
    /// Queries, keys and values from the residual stream, one block.
    pub qkv: u64,
    /// Queries times keys, one block.
    pub scores: u64,
    /// Weights times values, one block.
    pub reduce: u64,
    /// Heads back to the residual stream, one block.
    pub projection: u64,
    /// The four above.
    pub attention: u64,
    /// Into the feed-forward layer, with the gate where there is one, one block.
    pub feed_forward_in: u64,
    /// Out of the feed-forward layer, one block.
    pub feed_forward_out: u64,
    /// The two above.
    pub feed_forward: u64,
    /// Input and state into the four gates, one LSTM layer; 0 in a transformer, as what is above is here.
    pub recurrent: u64,
    /// Attention to the source of one block: its projections, scores, weights times values; 0 without an encoder.
    pub cross: u64,
    /// Attention and feed-forward of one block, with attention to the source where there is one, or one LSTM layer.
    pub block: u64,
    /// All blocks of the encoder; 0 without one.
    pub encoder: u64,
    /// All blocks, with those of the encoder.
    pub transformer: u64,
    /// The output matrix.
    pub head: u64,
    /// The whole forward pass.
    pub forward: u64,
    /// Forward and backward; the backward pass costs twice the forward pass.
    pub forward_backward: u64,
}

/// Counts the matrix products of one sequence (nanoGPT's `transformer_sizing.ipynb`, with grouped queries and gates).
///
/// Counts that exceed 64 bits stay at the largest number.
pub fn count(shape: &Shape) -> OpCounts {
    // What an LSTM has not costs nothing.
    let by_attention = u64::from(!shape.is_recurrent);
    let shape = &Shape {
        n_heads: by_attention * shape.n_heads,
        n_kv_heads: by_attention * shape.n_kv_heads,
        d_ff: by_attention * shape.d_ff,
        ..*shape
    };
    let query_width = shape.n_heads.saturating_mul(shape.head_dim);
    let key_value_width = product(&[2, shape.n_kv_heads, shape.head_dim]);
    let tokens = shape.seq_len;
    let qkv = product(&[2, tokens, shape.d_model, query_width.saturating_add(key_value_width)]);
    let scores = product(&[2, tokens, tokens, query_width]);
    let reduce = scores;
    let projection = product(&[2, tokens, query_width, shape.d_model]);
    let n_matrices_in = if shape.is_gated { 2 } else { 1 };
    let feed_forward_out = product(&[2, tokens, shape.d_ff, shape.d_model]);
    let feed_forward_in = feed_forward_out.saturating_mul(n_matrices_in);
    let attention = sum(&[qkv, scores, reduce, projection]);
    let feed_forward = feed_forward_in.saturating_add(feed_forward_out);
    let recurrent = product(&[16, u64::from(shape.is_recurrent), tokens, shape.d_model, shape.d_model]);
    let cross = match shape.n_encoder_layers {
        0 => 0,
        // Queries and output, keys and values of as many tokens, scores, and weights times values.
        _ => sum(&[projection.saturating_mul(4), scores, reduce]),
    };
    let encoder = attention
        .saturating_add(feed_forward)
        .saturating_mul(shape.n_encoder_layers);
    let block = sum(&[attention, cross, feed_forward, recurrent]);
    let transformer = block.saturating_mul(shape.n_layers).saturating_add(encoder);
    let head = product(&[2, tokens, shape.d_model, shape.vocab_size]);
    let forward = transformer.saturating_add(head);
    OpCounts {
        qkv,
        scores,
        reduce,
        projection,
        attention,
        feed_forward_in,
        feed_forward_out,
        feed_forward,
        recurrent,
        cross,
        block,
        encoder,
        transformer,
        head,
        forward,
        forward_backward: forward.saturating_mul(3),
    }
}

/// FLOPs to train on one token by PaLM's formula, `6N + 12·L·H·Q·T`: parameters, layers, heads, head width, sequence length. With an
/// encoder, on one token of the decoder and one of the source; a block of the decoder then attends twice.
pub fn palm_per_token(shape: &Shape) -> u64 {
    let by_attention = u64::from(!shape.is_recurrent);
    let attentions = match shape.n_encoder_layers {
        0 => shape.n_layers,
        encoder => shape.n_layers.saturating_mul(2).saturating_add(encoder),
    };
    let attention = product(&[
        12,
        by_attention,
        attentions,
        shape.n_heads,
        shape.head_dim,
        shape.seq_len,
    ]);
    shape.n_params.saturating_mul(6).saturating_add(attention)
}

/// A model, and which of it a training changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Training {
    /// The model.
    pub shape: Shape,
    /// Parameters among the shape's whose gradients are not computed.
    pub n_frozen: u64,
    /// Numbers of low-rank adapters, which the shape does not count.
    pub n_low_rank: u64,
}

impl Training {
    /// All parameters are trained.
    pub fn whole(shape: Shape) -> Self {
        Self {
            shape,
            n_frozen: 0,
            n_low_rank: 0,
        }
    }

    /// FLOPs to train on one token: [`palm_per_token`] without the gradients of frozen weights, and with the adapters. Of the six operations per
    /// parameter two are the forward pass, two the gradient of the layer's input and two that of the weight, which a frozen weight lacks.
    pub fn flops_per_token(&self) -> u64 {
        let frozen = self.n_frozen.min(self.shape.n_params);
        palm_per_token(&self.shape)
            .saturating_sub(frozen.saturating_mul(2))
            .saturating_add(self.n_low_rank.saturating_mul(6))
    }
}

/// Model FLOPs utilization in training: PaLM's FLOPs for the tokens of a second over the peak of the machine, 1.0 being all of it.
pub fn utilization(tokens_per_s: f64, shape: &Shape, peak_flops_per_s: f64) -> f64 {
    tokens_per_s * palm_per_token(shape) as f64 / peak_flops_per_s
}

/// Like [`utilization`], from the exact count of [`count`] instead of PaLM's formula.
pub fn exact_utilization(tokens_per_s: f64, shape: &Shape, peak_flops_per_s: f64) -> f64 {
    let flops_per_token = count(shape).forward_backward as f64 / shape.seq_len as f64;
    tokens_per_s * flops_per_token / peak_flops_per_s
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |total, &factor| total.saturating_mul(factor))
}

fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |total, &term| total.saturating_add(term))
}
