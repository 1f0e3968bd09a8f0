//! From hidden states to logits and losses.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use taal_embeddings::TokenEmbedding;
use taal_kernels::{Dense, DenseConfig, Precision, random, with_precision};

use crate::config::{Activation, Initialization, TransformerConfig};
use crate::feed_forward::activate;
use crate::norm::Norm;
use crate::table::{ParameterTable, Role};

/// The output layers, applied after the last norm.
#[derive(Module, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "a model has one head")]
pub enum Head {
    /// The output matrix alone.
    LanguageModel(OutputMatrix),
    /// A transform before the output matrix, as BERT's masked language model has it.
    Masked(MaskedHead),
}

/// The output matrix: the token embedding unless the model is untied.
#[derive(Module, Debug)]
pub struct OutputMatrix {
    /// `[d_model, vocab_size]`, where it is not the token embedding.
    pub matrix: Option<Dense>,
    /// Bias of the logits, `[vocab_size]` (BERT).
    pub bias: Option<Param<Tensor<1>>>,
    /// A factor on the logits (T5).
    #[module(skip)]
    scale: Option<f64>,
    /// `c * tanh(logit / c)` (Gemma 2).
    #[module(skip)]
    softcap: Option<f64>,
}

/// The output matrix and the transform before it.
#[derive(Module, Debug)]
pub struct MaskedHead {
    /// Its result is the input of the output matrix.
    pub transform: HeadTransform,
    /// The output matrix.
    pub output: OutputMatrix,
}

/// `norm(activation(dense(x)))`: BERT's transform, so that the last block's space may differ from the token embedding's, which
/// the output matrix uses.
#[derive(Module, Debug)]
pub struct HeadTransform {
    /// `[d_model, d_model]`
    pub dense: Dense,
    /// The same kind as the model's other norms.
    pub norm: Norm,
    #[module(skip)]
    activation: Activation,
}

impl Head {
    pub(crate) fn new(config: &TransformerConfig, seed: u64, device: &Device) -> Self {
        let dense = |d_output, bias, purpose| {
            let config = DenseConfig {
                d_input: config.d_model,
                d_output,
                bias,
            };
            config.init(Initialization::default().std, random::key(seed, 0, purpose), device)
        };
        let output = OutputMatrix {
            matrix: (!config.tie_embeddings).then(|| dense(config.vocab_size, false, "output")),
            bias: config
                .output_bias
                .then(|| Param::from_tensor(Tensor::zeros([config.vocab_size], device))),
            scale: config.logit_scale,
            softcap: config.logit_softcap,
        };
        if !config.head_transform {
            return Self::LanguageModel(output);
        }
        let transform = HeadTransform {
            dense: dense(config.d_model, config.has_head_transform_bias(), "head transform"),
            norm: config.norm_config().init(device),
            activation: config.activation,
        };
        Self::Masked(MaskedHead { transform, output })
    }

    fn parts(&self) -> (Option<&HeadTransform>, &OutputMatrix) {
        match self {
            Self::LanguageModel(output) => (None, output),
            Self::Masked(head) => (Some(&head.transform), &head.output),
        }
    }

    /// The input of the output matrix, and the matrix.
    fn read(&self, hidden: Tensor<3>) -> (Tensor<3>, &OutputMatrix) {
        let (transform, output) = self.parts();
        let hidden = match transform {
            Some(transform) => transform.forward(hidden),
            None => hidden,
        };
        // Hidden states are smaller than logits, so they take the factor.
        match output.scale {
            Some(scale) => (hidden.mul_scalar(scale), output),
            None => (hidden, output),
        }
    }

    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - output: `[batch, seq, vocab_size]`
    pub fn logits(&self, hidden: Tensor<3>, tokens: &TokenEmbedding) -> Tensor<3> {
        let (hidden, output) = self.read(hidden);
        output.logits(hidden, tokens)
    }

    /// Mean cross-entropy in nats over the targets that are not `ignore_index`; 0 when all of them are. With the fused operation,
    /// the full logits are never held in memory. `smoothing` is the share of each target that is spread over all tokens.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - targets: `[batch * seq]`
    /// - output: `[1]`
    pub fn loss(
        &self,
        hidden: Tensor<3>,
        tokens: &TokenEmbedding,
        targets: Tensor<1, Int>,
        ignore_index: i32,
        smoothing: f64,
    ) -> Tensor<1> {
        let (hidden, output) = self.read(hidden);
        output.loss(hidden, tokens, targets, ignore_index, smoothing)
    }

    pub(crate) fn list(&self, table: &mut ParameterTable) {
        let (transform, output) = self.parts();
        if let Some(transform) = transform {
            table.dense("head_transform.dense", Role::HeadMatrix, &transform.dense);
            transform.norm.list("head_transform.norm", table);
        }
        if let Some(matrix) = &output.matrix {
            table.dense("head", Role::HeadMatrix, matrix);
        }
        if let Some(bias) = &output.bias {
            table.add("output_bias".to_owned(), Role::Bias, bias);
        }
    }
}

impl OutputMatrix {
    fn logits(&self, hidden: Tensor<3>, tokens: &TokenEmbedding) -> Tensor<3> {
        // As in the loss below: half precision is too coarse for differences between logits.
        let mut logits = with_precision(Precision::Fp32, || match &self.matrix {
            Some(matrix) => matrix.forward(hidden),
            None => tokens.logits(hidden),
        });
        if let Some(bias) = &self.bias {
            logits = logits + bias.val().unsqueeze::<3>();
        }
        match self.softcap {
            Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
            None => logits,
        }
    }

    fn loss(
        &self,
        hidden: Tensor<3>,
        tokens: &TokenEmbedding,
        targets: Tensor<1, Int>,
        ignore_index: i32,
        smoothing: f64,
    ) -> Tensor<1> {
        let [batch, seq, d_model] = hidden.dims();
        let is_quantized = match &self.matrix {
            Some(matrix) => !matrix.quantized().is_empty(),
            None => tokens.quantized().is_some(),
        };
        let matrix = self.matrix.as_ref();
        let is_more = matrix.is_some_and(|matrix| matrix.bias.is_some() || matrix.adapter.is_some());
        if self.softcap.is_some() || is_more || is_quantized {
            let logits = self.logits(hidden, tokens);
            let [_, _, vocab_size] = logits.dims();
            let logits = logits.reshape([batch * seq, vocab_size]);
            return taal_kernels::cross_entropy_smoothed(logits, targets, ignore_index, smoothing);
        }
        let mut hidden = hidden.reshape([batch * seq, d_model]);
        let (mut weight, is_transposed) = match &self.matrix {
            Some(matrix) => (matrix.weight(), false),
            None => (tokens.weight.val(), true),
        };
        if let Some(bias) = &self.bias {
            // The fused operation has no bias, so the bias becomes one more column of the matrix, with input 1. That
            // copies the matrix; all logits at once would be larger.
            let ones = Tensor::ones([batch * seq, 1], &hidden.device());
            hidden = Tensor::cat(vec![hidden, ones], 1); // [batch * seq, d_model + 1]
            let axis = usize::from(is_transposed);
            weight = Tensor::cat(vec![weight, bias.val().unsqueeze_dim(axis)], axis);
        }
        taal_kernels::linear_cross_entropy(hidden, weight, is_transposed, targets, ignore_index, smoothing)
    }
}

impl HeadTransform {
    /// # Shapes
    ///
    /// - input and output: `[batch, seq, d_model]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(activate(self.dense.forward(x), self.activation))
    }
}
