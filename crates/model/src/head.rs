//! What stands between the last hidden state and the output matrix in a masked language model.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};

use crate::config::{Activation, TransformerConfig};
use crate::feed_forward::{activate, apply, empty_linear};
use crate::norm::Norm;

/// `norm(activation(dense(x)))`: BERT's transform, so that the space of the output matrix, the token embedding's, need
/// not be that of the last block.
#[derive(Module, Debug)]
pub struct HeadTransform {
    /// `[d_model, d_model]`
    pub dense: Linear,
    /// Of the same kind as everywhere in the model.
    pub norm: Norm,
    #[module(skip)]
    activation: Activation,
}

impl HeadTransform {
    pub(crate) fn new(config: &TransformerConfig, device: &Device) -> Self {
        Self {
            dense: empty_linear(config.d_model, config.d_model, config.has_head_transform_bias(), device),
            norm: Norm::new(config, config.d_model, device),
            activation: config.activation,
        }
    }

    /// # Shapes
    ///
    /// - input and output: `[batch, seq, d_model]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(activate(apply(&self.dense, x), self.activation))
    }
}
