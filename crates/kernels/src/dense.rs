//! The one linear layer of every model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::linear::{linear, linear_add};
use crate::param::{constant_param, normal_param};

/// `x W + bias`: all matrices of a model but its embeddings are such layers. Nothing outside multiplies by the weight itself, except where
/// [`weight`](Self::weight) is asked for, so that a quantized weight or a low-rank part has one place to be.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[d_input, d_output]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// The sizes of a [`Dense`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenseConfig {
    /// Width of what it reads.
    pub d_input: usize,
    /// Width of what it gives.
    pub d_output: usize,
    /// Whether something is added to the product.
    pub bias: bool,
}

impl DenseConfig {
    /// A layer with a weight from N(0, `std`), a function of `key`, and a bias of zeros, each made when first used.
    pub fn init(&self, std: f64, key: u64, device: &Device) -> Dense {
        Dense {
            weight: normal_param([self.d_input, self.d_output], std, key, device),
            bias: self.bias.then(|| constant_param([self.d_output], 0.0, device)),
        }
    }
}

impl Dense {
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; result: `[.., d_output]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, self.weight(), self.bias())
    }

    /// [`forward`](Self::forward) added to a residual, in one operation.
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; `residual` and result: `[.., d_output]`
    pub fn forward_add<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        linear_add(x, self.weight(), self.bias(), residual)
    }

    /// The weight, `[d_input, d_output]`.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }
}
