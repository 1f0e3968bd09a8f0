//! The position-wise feed-forward network of a block, plain or gated.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

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
        let inner = match (&self.gate, self.activation) {
            (Some(gate), Activation::GeGlu) => taal_kernels::gelu(gate.forward(x.clone())) * self.up.forward(x),
            (Some(gate), _) => taal_kernels::silu(gate.forward(x.clone())) * self.up.forward(x),
            (None, Activation::Relu) => burn::tensor::activation::relu(self.up.forward(x)),
            (None, Activation::ReluSquared) => taal_kernels::relu_squared(self.up.forward(x)),
            (None, Activation::GeluTanh) => taal_kernels::gelu_tanh(self.up.forward(x)),
            (None, _) => taal_kernels::gelu(self.up.forward(x)),
        };
        self.down.forward(inner) // [batch, seq, d_model]
    }
}

/// A linear layer of zeros: weights are drawn or read in one place, after the whole module stands.
pub(crate) fn empty_linear(d_input: usize, d_output: usize, bias: bool, device: &Device) -> Linear {
    Linear {
        weight: Param::from_tensor(Tensor::zeros([d_input, d_output], device)),
        bias: bias.then(|| Param::from_tensor(Tensor::zeros([d_output], device))),
    }
}
