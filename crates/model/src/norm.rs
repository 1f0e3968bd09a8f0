//! Normalization layers: LayerNorm and RMSNorm as one type.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::config::{NormKind, TransformerConfig};
use crate::table::{ParameterTable, Role};

/// LayerNorm or RMSNorm over the last dimension.
#[derive(Module, Debug)]
pub struct Norm {
    /// Scale, `[width]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[width]`; LayerNorm only.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    #[module(skip)]
    eps: f64,
}

/// The kind and size of a [`Norm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Length of the normalized dimension.
    pub width: usize,
    /// LayerNorm or RMSNorm.
    pub kind: NormKind,
    /// Added to the variance or mean square.
    pub eps: f64,
    /// Whether there is a bias; LayerNorm only.
    pub bias: bool,
}

impl TransformerConfig {
    /// The norms of the model.
    pub fn norm_config(&self) -> NormConfig {
        NormConfig {
            width: self.d_model,
            kind: self.norm,
            eps: self.norm_eps,
            bias: self.norm_bias,
        }
    }
}

impl NormConfig {
    /// A fresh norm: weights 1, biases 0.
    pub fn init(&self, device: &Device) -> Norm {
        Norm {
            weight: Param::from_tensor(Tensor::ones([self.width], device)),
            bias: self
                .bias
                .then(|| Param::from_tensor(Tensor::zeros([self.width], device))),
            kind: self.kind,
            eps: self.eps,
        }
    }
}

impl Norm {
    /// Normalizes the last dimension.
    ///
    /// # Shapes
    ///
    /// - input and output: `[..., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.kind {
            NormKind::LayerNorm => taal_kernels::layer_norm(
                x,
                self.weight.val(),
                self.bias.as_ref().map(|bias| bias.val()),
                self.eps,
            ),
            NormKind::RmsNorm => taal_kernels::rms_norm(x, self.weight.val(), self.eps),
        }
    }

    pub(crate) fn list(&self, name: &str, table: &mut ParameterTable) {
        table.add(format!("{name}.weight"), Role::NormWeight, &self.weight);
        if let Some(bias) = &self.bias {
            table.add(format!("{name}.bias"), Role::Bias, bias);
        }
    }
}
