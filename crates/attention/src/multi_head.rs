//! Multi-head attention as a layer: project, attend, project back.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use taal_embeddings::Rotary;
use taal_kernels::{AttentionMask, Dense, DenseConfig, Projection, constant_param, projected_attention, random};

use crate::{AttentionError, AttentionOptions, KvCache, attention_mask, scaled_dot_product_attention};

/// The standard deviation of fresh weights, as in GPT-2 and BERT.
pub(crate) const INIT_STD: f64 = 0.02;

/// The sizes and switches of a [`MultiHeadAttention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiHeadAttentionConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// How many query heads.
    pub n_heads: usize,
    /// How many key and value heads: `n_heads` for plain, fewer for grouped, 1 for multi-query attention.
    pub n_kv_heads: usize,
    /// Width of a head; need not be `d_model / n_heads`.
    pub head_dim: usize,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub output_bias: bool,
    /// The epsilon of an RMS norm with weights over each head's queries and keys before positions (Qwen3), if any.
    pub qk_norm: Option<f64>,
}

impl MultiHeadAttentionConfig {
    /// Checks that the sizes fit together.
    ///
    /// # Errors
    ///
    /// An [`AttentionError`] that names the setting.
    pub fn validate(&self) -> Result<(), AttentionError> {
        let sizes = [
            ("d_model", self.d_model),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("head_dim", self.head_dim),
        ];
        for (name, size) in sizes {
            if size == 0 {
                return Err(AttentionError::Zero { name });
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(AttentionError::UnevenGroups {
                n_heads: self.n_heads,
                n_kv_heads: self.n_kv_heads,
            });
        }
        match self.qk_norm {
            Some(eps) if !(eps > 0.0 && eps.is_finite()) => Err(AttentionError::Epsilon { given: eps.to_string() }),
            _ => Ok(()),
        }
    }

    /// A fresh layer: weights normal with standard deviation 0.02, a function of the seed; biases 0, norm weights 1. Each is
    /// drawn when first used. Assumes that [`validate`](Self::validate) passed.
    pub fn init(&self, seed: u64, device: &Device) -> MultiHeadAttention {
        let dense = |d_input, d_output, bias, purpose| {
            let config = DenseConfig {
                d_input,
                d_output,
                bias,
            };
            config.init(INIT_STD, random::key(seed, 0, purpose), device)
        };
        let qkv_width = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim;
        let norm = || constant_param([self.head_dim], 1.0, device);
        MultiHeadAttention {
            qkv: dense(self.d_model, qkv_width, self.qkv_bias, "attention qkv"),
            output: dense(
                self.n_heads * self.head_dim,
                self.d_model,
                self.output_bias,
                "attention output",
            ),
            q_norm: self.qk_norm.map(|_| norm()),
            k_norm: self.qk_norm.map(|_| norm()),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            qk_norm_eps: self.qk_norm.unwrap_or(0.0),
        }
    }
}

/// The inputs of [`MultiHeadAttention::forward`] other than `x`. The default attends everywhere, without positions.
#[derive(Default)]
pub struct AttentionContext<'a> {
    /// Rotates queries and keys by their positions.
    pub rotary: Option<&'a Rotary>,
    /// The mask for these lengths, built once per forward pass by [`attention_mask`](crate::attention_mask) and shared by all
    /// layers; it includes ALiBi's bias and padding. Without it, `is_causal` and `window` of `options` apply.
    pub mask: Option<&'a AttentionMask>,
    /// How to attend.
    pub options: AttentionOptions,
    /// Keys and values of earlier tokens; the new ones are added.
    pub cache: Option<&'a mut KvCache>,
    /// Absolute position of the first token of the input: 0, or the length of the cache.
    pub start: usize,
    /// The position of each token in its text, `[batch * seq]`, where rows differ; replaces `start`.
    pub positions: Option<Tensor<1, Int>>,
    /// How many of the new tokens of each row are real, where rows with a cache differ; the others are padding at the end of the row.
    pub lengths: Option<&'a [usize]>,
    /// Which rows of the cache the rows of the input are; all of them by default.
    pub rows: Option<Range<usize>>,
    /// Reads and may replace the concatenated head outputs, `[batch, seq, n_heads * head_dim]`, before projection.
    pub heads: Option<&'a mut dyn FnMut(Tensor<3>) -> Tensor<3>>,
}

/// The result of [`MultiHeadAttention::forward`].
#[derive(Debug)]
pub struct AttentionOutput {
    /// `[batch, seq, d_model]`.
    pub output: Tensor<3>,
    /// `[batch, n_heads, seq, kv_len]` when `options.return_weights` asked for them.
    pub weights: Option<Tensor<4>>,
}

/// Multi-head attention (Vaswani et al., 2017) with grouped queries, optional QK-norm and rotary positions.
#[derive(Module, Debug)]
pub struct MultiHeadAttention {
    /// `[d_model, (n_heads + 2 * n_kv_heads) * head_dim]`: the columns of queries, then keys, then values.
    pub qkv: Dense,
    /// `[n_heads * head_dim, d_model]`.
    pub output: Dense,
    /// Weight of the RMS norm on queries, `[head_dim]`.
    pub q_norm: Option<Param<Tensor<1>>>,
    /// Weight of the RMS norm on keys, `[head_dim]`.
    pub k_norm: Option<Param<Tensor<1>>>,
    n_heads: usize,
    n_kv_heads: usize,
    qk_norm_eps: f64,
}

impl MultiHeadAttention {
    /// Attends among the tokens of `x`, and to those in the cache if there is one.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, seq, d_model]`; the output has the same.
    ///
    /// # Errors
    ///
    /// [`AttentionError`] when the cache is full or made for other sizes, or a position does not exist.
    pub fn forward(&self, x: Tensor<3>, context: AttentionContext<'_>) -> Result<AttentionOutput, AttentionError> {
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
        context: AttentionContext<'_>,
    ) -> Result<AttentionOutput, AttentionError> {
        let (attended, weights) = self.attended(x, context)?;
        Ok(AttentionOutput {
            output: self.output.forward_add(attended, residual),
            weights,
        })
    }

    /// [`attend`](Self::attend) with the hook on its result.
    fn attended(
        &self,
        x: Tensor<3>,
        mut context: AttentionContext<'_>,
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
        context: AttentionContext<'_>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), AttentionError> {
        let [batch, seq, _] = x.dims();
        let qkv = self.qkv.forward(x); // [batch, seq, (n_heads + 2 n_kv_heads) head_dim]
        let projection = Projection {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            norms: match (&self.q_norm, &self.k_norm) {
                (Some(q), Some(k)) => Some((q.val(), k.val(), self.qk_norm_eps)),
                _ => None,
            },
            rotary: match context.rotary {
                Some(rotary) => Some(match context.positions {
                    Some(positions) => rotary.rows_at(positions),
                    None => rotary.rows(context.start, seq)?,
                }),
                None => None,
            },
        };
        let options = &context.options;
        // Weights are computed in addition to the output, so requesting them changes no bit of it.
        let unseen = AttentionOptions {
            return_weights: false,
            ..options.clone()
        };
        let Some(cache) = context.cache else {
            let built;
            let mask = match context.mask {
                Some(mask) => mask,
                None => {
                    built = attention_mask(seq, seq, None, None, options, &qkv.device());
                    &built
                }
            };
            let weights = match options.return_weights {
                true => {
                    let [q, k, v] = projection.heads(qkv.clone());
                    scaled_dot_product_attention(q, k, v, Some(mask), options).1
                }
                false => None,
            };
            return Ok((projected_attention(qkv, projection, mask, &options.settings()), weights));
        };
        let [q, k, v] = projection.heads(qkv);
        let (rows, lengths) = (context.rows, context.lengths);
        let (attended, weights) = match options.return_weights {
            true => {
                let (k, v) = cache.append_rows(k, v, rows, lengths)?;
                let weights = scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), context.mask, options).1;
                (scaled_dot_product_attention(q, k, v, context.mask, &unseen).0, weights)
            }
            false => (cache.attend(q, [k, v], rows, lengths, context.mask, &unseen)?, None),
        };
        let [_, n_heads, _, head_dim] = attended.dims();
        let attended = attended
            .swap_dims(1, 2) // [batch, seq, n_heads, head_dim]
            .reshape([batch, seq, n_heads * head_dim]);
        Ok((attended, weights))
    }
}
