//! The position-wise feed-forward network of a block, plain or gated.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use taal_kernels::{Dense, DenseConfig, geglu, geglu_tanh, gelu, gelu_tanh, random, relu_squared, swiglu};

use crate::config::{Activation, Initialization};
use crate::table::{ParameterTable, Role};

/// `down(activation(up(x)))`, or `down(activation(gate(x)) * up(x))` where the activation is gated.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `[d_model, d_ff]`
    pub up: Dense,
    /// `[d_model, d_ff]`, gated activations only.
    pub gate: Option<Dense>,
    /// `[d_ff, d_model]`
    pub down: Dense,
    #[module(skip)]
    activation: Activation,
}

/// The sizes of a [`FeedForward`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedForwardConfig {
    /// Width of input and output.
    pub d_model: usize,
    /// Inner width.
    pub d_ff: usize,
    /// The non-linearity.
    pub activation: Activation,
    /// Whether its matrices have biases.
    pub bias: bool,
}

impl FeedForwardConfig {
    /// A fresh network: weights normal with standard deviation 0.02, a function of the seed; biases 0.
    pub fn init(&self, seed: u64, device: &Device) -> FeedForward {
        let dense = |[d_input, d_output]: [usize; 2], purpose| {
            let config = DenseConfig {
                d_input,
                d_output,
                bias: self.bias,
            };
            config.init(Initialization::default().std, random::key(seed, 0, purpose), device)
        };
        let (up, down) = ([self.d_model, self.d_ff], [self.d_ff, self.d_model]);
        FeedForward {
            up: dense(up, "feed-forward up"),
            gate: self.activation.is_gated().then(|| dense(up, "feed-forward gate")),
            down: dense(down, "feed-forward down"),
            activation: self.activation,
        }
    }
}

impl FeedForward {
    /// # Shapes
    ///
    /// - input and output: `[batch, seq, d_model]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.down.forward(self.inner(x)) // [batch, seq, d_model]
    }

    /// [`forward`](Self::forward) added to a residual.
    ///
    /// # Shapes
    ///
    /// - `x`, `residual` and output: `[batch, seq, d_model]`
    pub fn forward_add(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        self.down.forward_add(self.inner(x), residual)
    }

    /// The input of the down projection, `[batch, seq, d_ff]`.
    fn inner(&self, x: Tensor<3>) -> Tensor<3> {
        match (&self.gate, self.activation) {
            (Some(gate), Activation::GeGlu) => geglu(gate.forward(x.clone()), self.up.forward(x)),
            (Some(gate), Activation::GeGluTanh) => geglu_tanh(gate.forward(x.clone()), self.up.forward(x)),
            (Some(gate), _) => swiglu(gate.forward(x.clone()), self.up.forward(x)),
            (None, activation) => activate(self.up.forward(x), activation),
        }
    }

    pub(crate) fn list(&self, name: &str, table: &mut ParameterTable) {
        table.dense(&format!("{name}.up"), Role::Matrix, &self.up);
        if let Some(gate) = &self.gate {
            table.dense(&format!("{name}.gate"), Role::Matrix, gate);
        }
        table.dense(&format!("{name}.down"), Role::ResidualMatrix, &self.down);
    }
}

/// The non-linearity; for a gated one, the function applied to the gate.
pub(crate) fn activate(x: Tensor<3>, activation: Activation) -> Tensor<3> {
    match activation {
        Activation::Relu => burn::tensor::activation::relu(x),
        Activation::ReluSquared => relu_squared(x),
        Activation::Gelu | Activation::GeGlu => gelu(x),
        Activation::GeluTanh | Activation::GeGluTanh => gelu_tanh(x),
        Activation::Silu => taal_kernels::silu(x),
        Activation::SwiGlu => burn::tensor::activation::silu(x),
    }
}
