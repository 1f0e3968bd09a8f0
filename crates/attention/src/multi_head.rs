//! Multi-head attention as a layer: project, attend, project back.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Int, Tensor};
use taal_embeddings::Rotary;
use taal_kernels::{
    AttentionMask, Projection, constant_param, linear, linear_add, normal_param, projected_attention, random,
};

use crate::{AttentionError, AttentionOptions, KvCache, attention_mask, scaled_dot_product_attention};

/// The standard deviation of fresh weights, as in GPT-2 and BERT.
const INIT_STD: f64 = 0.02;

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

    /// A fresh layer: weights normal with standard deviation 0.02, biases 0, norm weights 1, each made when first
    /// used. The numbers are always the same ones; a model that wants them to depend on its seed replaces them.
    /// Assumes that [`validate`](Self::validate) passed.
    pub fn init(&self, device: &Device) -> MultiHeadAttention {
        let qkv_width = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim;
        let norm = || constant_param([self.head_dim], 1.0, device);
        MultiHeadAttention {
            qkv: fresh_linear(self.d_model, qkv_width, self.qkv_bias, "attention qkv", device),
            output: fresh_linear(
                self.n_heads * self.head_dim,
                self.d_model,
                self.output_bias,
                "attention output",
                device,
            ),
            q_norm: self.qk_norm.map(|_| norm()),
            k_norm: self.qk_norm.map(|_| norm()),
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            qk_norm_eps: self.qk_norm.unwrap_or(0.0),
        }
    }
}

/// What a forward of [`MultiHeadAttention`] works with beside its input. The default attends everywhere, without
/// positions.
#[derive(Debug, Default)]
pub struct AttentionContext<'a> {
    /// Turns queries and keys by their positions.
    pub rotary: Option<&'a Rotary>,
    /// The mask for these lengths, built once a forward by [`attention_mask`](crate::attention_mask) and shared by
    /// layers; ALiBi's bias and padding are in it. Without it, causality and window of `options` apply.
    pub mask: Option<&'a AttentionMask>,
    /// How to attend.
    pub options: AttentionOptions,
    /// Keys and values of earlier tokens; the new ones are added.
    pub cache: Option<&'a mut KvCache>,
    /// Absolute position of the first token of the input: 0, or the length of the cache.
    pub start: usize,
    /// The position of each token in its own text, `[batch * seq]`, where several texts share a row: instead of `start`.
    pub positions: Option<Tensor<1, Int>>,
}

/// What [`MultiHeadAttention::forward`] gives.
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
    pub qkv: Linear,
    /// `[n_heads * head_dim, d_model]`.
    pub output: Linear,
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
        let (attended, weights) = self.attend(x, context)?;
        Ok(AttentionOutput {
            output: linear(attended, self.output.weight.val(), self.output_bias()),
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
        let (attended, weights) = self.attend(x, context)?;
        Ok(AttentionOutput {
            output: linear_add(attended, self.output.weight.val(), self.output_bias(), residual),
            weights,
        })
    }

    fn output_bias(&self) -> Option<Tensor<1>> {
        self.output.bias.as_ref().map(|bias| bias.val())
    }

    /// The heads' contexts beside each other, `[batch, seq, n_heads * head_dim]`, and the weights where asked for.
    fn attend(
        &self,
        x: Tensor<3>,
        context: AttentionContext<'_>,
    ) -> Result<(Tensor<3>, Option<Tensor<4>>), AttentionError> {
        let [batch, seq, _] = x.dims();
        let bias = self.qkv.bias.as_ref().map(|bias| bias.val());
        let qkv = linear(x, self.qkv.weight.val(), bias); // [batch, seq, (n_heads + 2 n_kv_heads) head_dim]
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
        // Weights are computed beside the output and not in its stead, so that asking for them changes no bit of it.
        let unseen = AttentionOptions {
            return_weights: false,
            ..options.clone()
        };
        if context.cache.is_none() {
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
        }
        let [q, mut k, mut v] = projection.heads(qkv);
        if let Some(cache) = context.cache {
            (k, v) = cache.append(k, v)?;
        }
        let weights = match options.return_weights {
            true => scaled_dot_product_attention(q.clone(), k.clone(), v.clone(), context.mask, options).1,
            false => None,
        };
        let (attended, _) = scaled_dot_product_attention(q, k, v, context.mask, &unseen);
        let [_, n_heads, _, head_dim] = attended.dims();
        let attended = attended
            .swap_dims(1, 2) // [batch, seq, n_heads, head_dim]
            .reshape([batch, seq, n_heads * head_dim]);
        Ok((attended, weights))
    }
}

fn fresh_linear(d_input: usize, d_output: usize, has_bias: bool, purpose: &str, device: &Device) -> Linear {
    let key = random::key(0, 0, purpose);
    Linear {
        weight: normal_param([d_input, d_output], INIT_STD, key, device),
        bias: has_bias.then(|| constant_param([d_output], 0.0, device)),
    }
}
