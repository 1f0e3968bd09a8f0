//! The position-wise feed-forward network of a block, plain or gated.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use taal_kernels::{geglu, gelu, gelu_tanh, linear, linear_add, relu_squared, swiglu};

use crate::config::{Activation, TransformerConfig};

/// `down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` where the activation is gated.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d_model, d_ff]`
    pub up: Linear,
    /// `[d_model, d_ff]`, gated activations only.
    pub gate: Option<Linear>,
    /// `[d_ff, d_model]`
    pub down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl FeedForward {
    pub(crate) fn new(config: &TransformerConfig, device: &Device) -> Self {
        let [d_model, d_ff, bias] = [config.d_model, config.d_ff, config.ffn_bias as usize];
        Self {
            up: empty_linear(d_model, d_ff, bias == 1, device),
            gate: config
                .activation
                .is_gated()
                .then(|| empty_linear(d_model, d_ff, bias == 1, device)),
            down: empty_linear(d_ff, d_model, bias == 1, device),
            activation: config.activation,
        }
    }

    /// # Shapes
    ///
    /// - input and output: `[batch, seq, d_model]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        apply(&self.down, self.inner(x)) // [batch, seq, d_model]
    }

    /// [`forward`](Self::forward) added to a residual.
    ///
    /// # Shapes
    ///
    /// - `x`, `residual` and output: `[batch, seq, d_model]`
    pub fn forward_add(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let bias = self.down.bias.as_ref().map(|bias| bias.val());
        linear_add(self.inner(x), self.down.weight.val(), bias, residual)
    }

    /// What the down projection reads, `[batch, seq, d_ff]`.
    fn inner(&self, x: Tensor<3>) -> Tensor<3> {
        match (&self.gate, self.activation) {
            (Some(gate), Activation::GeGlu) => geglu(apply(gate, x.clone()), apply(&self.up, x)),
            (Some(gate), _) => swiglu(apply(gate, x.clone()), apply(&self.up, x)),
            (None, activation) => activate(apply(&self.up, x), activation),
        }
    }
}

/// The non-linearity without a gate; of a gated one, what its gate goes through.
pub(crate) fn activate(x: Tensor<3>, activation: Activation) -> Tensor<3> {
    match activation {
        Activation::Relu => burn::tensor::activation::relu(x),
        Activation::ReluSquared => relu_squared(x),
        Activation::Gelu | Activation::GeGlu => gelu(x),
        Activation::GeluTanh => gelu_tanh(x),
        Activation::SwiGlu => burn::tensor::activation::silu(x),
    }
}

/// A linear layer's product.
pub(crate) fn apply(layer: &Linear, x: Tensor<3>) -> Tensor<3> {
    linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

/// A linear layer of zeros: weights are drawn or read in one place, after the whole module stands.
pub(crate) fn empty_linear(d_input: usize, d_output: usize, bias: bool, device: &Device) -> Linear {
    Linear {
        weight: Param::from_tensor(Tensor::zeros([d_input, d_output], device)),
        bias: bias.then(|| Param::from_tensor(Tensor::zeros([d_output], device))),
    }
}
