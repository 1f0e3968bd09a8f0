//! Attention to another text as a layer: the decoder of a translation model attends to what the encoder made of the source.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_kernels::{AttentionMask, Dense, DenseConfig, projected_cross_attention, random, reference};

use crate::multi_head::INIT_STD;
use crate::{AttentionError, AttentionOptions, AttentionOutput, KvCache, scaled_dot_product_attention};

/// The sizes and switches of a [`CrossAttention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrossAttentionConfig {
    /// Width of the residual streams of both texts.
    pub d_model: usize,
    /// How many heads; each has its own keys and values.
    pub n_heads: usize,
    /// Width of a head; need not be `d_model / n_heads`.
    pub head_dim: usize,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
}

impl CrossAttentionConfig {
    /// Checks that no size is 0.
    ///
    /// # Errors
    ///
    /// An [`AttentionError`] that names the setting.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let sizes = [
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("head_dim", self.head_dim),
        ];
        match sizes.into_iter().find(|(_, size)| *size == 0) {
            Some((name, _)) => Err(AttentionError::Zero { name }),
            None => Ok(()),
        }
    }

    /// A fresh layer: weights normal with standard deviation 0.02, a function of the seed; biases 0. Each is drawn when first used.
    /// Assumes that [`validate`](Self::validate) passed.
    pub fn init(&self, seed: u64, device: &Device) -> CrossAttention {
        let dense = |d_input, d_output, bias, purpose| {
            let config = DenseConfig {
                d_input,
                d_output,
                bias,
            };
            config.init(INIT_STD, random::key(seed, 0, purpose), device)
        };
        let width = self.n_heads * self.head_dim;
        CrossAttention {
            query: dense(self.d_model, width, self.qkv_bias, "cross-attention query"),
            key_value: dense(self.d_model, 2 * width, self.qkv_bias, "cross-attention key and value"),
            output: dense(width, self.d_model, self.output_bias, "cross-attention output"),
            n_heads: self.n_heads,
        }
    }
}

/// Where the keys and values of a [`CrossAttention`] are.
#[derive(Debug, Clone)]
pub enum CrossSource<'a> {
    /// Made from the hidden states of the other texts, `[batch, source, d_model]`.
    Hidden(&'a Tensor<3>),
    /// Made before. Each row of the cache serves as many rows of the input as `shared_by` says, one after the other: the candidates
    /// of a beam search have the same source.
    Cached {
        /// Keys and values, in which [`CrossAttention::heads`] were put.
        cache: &'a KvCache,
        /// The rows of the cache.
        rows: Range<usize>,
        /// How many rows of the input each of them serves.
        shared_by: usize,
    },
}

/// The inputs of [`CrossAttention::forward`] other than `x`.
pub struct CrossContext<'a> {
    /// Keys and values.
    pub source: CrossSource<'a>,
    /// Which keys are real, by [`AttentionMask::of_keys`], built once per forward pass and shared by all layers. With a cache that
    /// rows share, it is for `shared_by * seq` queries per row of the cache.
    pub mask: &'a AttentionMask,
    /// How to attend; causality and window are not used.
    pub options: AttentionOptions,
    /// Reads and may replace the concatenated head outputs, `[batch, seq, n_heads * head_dim]`, before projection.
    pub heads: Option<&'a mut dyn FnMut(Tensor<3>) -> Tensor<3>>,
}

/// Multi-head attention whose queries are from one text and whose keys and values are from another (Vaswani et al., 2017).
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// `[d_model, n_heads * head_dim]`.
    pub query: Dense,
    /// `[d_model, 2 * n_heads * head_dim]`: the columns of keys, then values.
    pub key_value: Dense,
    /// `[n_heads * head_dim, d_model]`.
    pub output: Dense,
    n_heads: usize,
}

impl CrossAttention {
    /// Attends from the tokens of `x` to those of the source.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, seq, d_model]`; the output has the same. The weights are `[batch, n_heads, seq, source]`.
    ///
    /// # Errors
    ///
    /// [`AttentionError`] where the cache is empty or made for other sizes.
    pub fn forward(&self, x: Tensor<3>, context: CrossContext<'_>) -> Result<AttentionOutput, AttentionError> {
        let (attended, weights) = self.attended(x, context)?;
        Ok(AttentionOutput {
            output: self.output.forward(attended),
            weights,
        })
    }

    /// [`forward`](Self::forward) with the output added to a residual.
    ///
    /// # Shapes
    ///
    /// - `x`, `residual`: `[batch, seq, d_model]`; the output has the same.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_add(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        context: CrossContext<'_>,
    ) -> Result<AttentionOutput, AttentionError> {
        let (attended, weights) = self.attended(x, context)?;
        Ok(AttentionOutput {
            output: self.output.forward_add(attended, residual),
            weights,
        })
    }

    /// The keys and values of a source, for a cache.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[batch, source, d_model]`; results: `[batch, n_heads, source, head_dim]`
    pub fn heads(&self, hidden: Tensor<3>) -> [Tensor<4>; 2] {
        reference::heads_of(self.key_value.forward(hidden), self.n_heads)
    }

    fn attended(
        &self,
        x: Tensor<3>,
        mut context: CrossContext<'_>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), AttentionError> {
        let hook = context.heads.take();
        let (attended, weights) = self.attend(x, context)?;
        Ok(match hook {
            Some(hook) => (hook(attended), weights),
            None => (attended, weights),
        })
    }

    /// The concatenated contexts of the heads, `[batch, seq, n_heads * head_dim]`, and the weights if requested.
    fn attend(
        &self,
        x: Tensor<3>,
        context: CrossContext<'_>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), AttentionError> {
        let queries = self.query.forward(x); // [batch, seq, n_heads * head_dim]
        let CrossContext {
            source, mask, options, ..
        } = context;
        match source {
            CrossSource::Hidden(hidden) => {
                let keys_values = self.key_value.forward(hidden.clone()); // [batch, source, 2 * n_heads * head_dim]
                // Weights are computed in addition to the output, so requesting them changes no bit of it.
                let weights = options.return_weights.then(|| {
                    let [q] = reference::heads_of(queries.clone(), self.n_heads);
                    let [k, v] = reference::heads_of(keys_values.clone(), self.n_heads);
                    scaled_dot_product_attention(q, k, v, Some(mask), &options).1
                });
                let settings = options.settings();
                let attended = projected_cross_attention(queries, keys_values, self.n_heads, mask, &settings);
                Ok((attended, weights.flatten()))
            }
            CrossSource::Cached { cache, rows, shared_by } => {
                self.attend_to_cache(queries, (cache, rows, shared_by), mask, &options)
            }
        }
    }

    fn attend_to_cache(
        &self,
        queries: Tensor<3>,
        (cache, rows, shared_by): (&KvCache, Range<usize>, usize),
        mask: &AttentionMask,
        options: &AttentionOptions,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), AttentionError> {
        let [batch, seq, width] = queries.dims();
        let (n_heads, head_dim, sources) = (self.n_heads, width / self.n_heads, rows.len());
        if batch != sources * shared_by {
            return Err(AttentionError::CacheShape {
                expected: [sources * shared_by, n_heads, head_dim],
                given: [batch, n_heads, head_dim],
            });
        }
        // Rows with the same source become queries of one row, so that its keys are read once.
        let q = queries
            .reshape([sources, shared_by * seq, n_heads, head_dim])
            .swap_dims(1, 2); // [sources, n_heads, shared_by * seq, head_dim]
        let weights = match options.return_weights {
            true => {
                let [k, v] = cache.kept(rows.clone())?;
                let [_, _, source, _] = k.dims();
                let weights = scaled_dot_product_attention(q.clone(), k, v, Some(mask), options).1;
                let by_row = |weights: Tensor<4>| {
                    weights
                        .reshape([sources, n_heads, shared_by, seq * source])
                        .swap_dims(1, 2) // [sources, shared_by, n_heads, seq * source]
                        .reshape([batch, n_heads, seq, source])
                };
                weights.map(by_row)
            }
            false => None,
        };
        let unseen = AttentionOptions {
            return_weights: false,
            ..options.clone()
        };
        let attended = cache
            .attend_to_kept(q, rows, mask, &unseen)? // [sources, n_heads, shared_by * seq, head_dim]
            .swap_dims(1, 2)
            .reshape([batch, seq, width]);
        Ok((attended, weights))
    }
}
