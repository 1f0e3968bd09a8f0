//! Normalisation layers: LayerNorm and RMSNorm behind one type.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::config::{NormKind, TransformerConfig};

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

impl Norm {
    pub(crate) fn new(config: &TransformerConfig, width: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([width], device)),
            bias: config
                .norm_bias
                .then(|| Param::from_tensor(Tensor::zeros([width], device))),
            kind: config.norm,
            eps: config.norm_eps,
        }
    }

    /// Normalises the last dimension.
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
}
