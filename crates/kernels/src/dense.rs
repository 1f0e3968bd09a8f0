//! The one linear layer of every model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::error::KernelError;
use crate::linear::{linear, linear_add};
use crate::param::{constant_param, made_when_used, normal_param};
use crate::quantized::{QuantizedMatrix, WeightType, quantized_linear};

/// `x W + bias`: every matrix of a model except its embeddings is such a layer. Nothing outside multiplies by the weight itself, except where
/// [`weight`](Self::weight) is asked for, so that a quantized weight or a low-rank part has one place to be.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[d_input, d_output]`.
    pub weight: Param<Tensor<2>>,
    /// `[d_output]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The weight in fewer bits, for inference. The parameter is made of it where something asks for its values.
    #[module(skip)]
    quantized: Option<QuantizedMatrix>,
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
            quantized: None,
        }
    }
}

impl Dense {
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; result: `[.., d_output]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.quantized {
            Some(weight) => quantized_linear(x, weight, self.bias(), None),
            None => linear(x, self.weight(), self.bias()),
        }
    }

    /// [`forward`](Self::forward) added to a residual, in one operation.
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; `residual` and result: `[.., d_output]`
    pub fn forward_add<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        match &self.quantized {
            Some(weight) => quantized_linear(x, weight, self.bias(), Some(residual)),
            None => linear_add(x, self.weight(), self.bias(), residual),
        }
    }

    /// The weight in fewer bits, where it is stored so.
    pub fn quantized(&self) -> Option<&QuantizedMatrix> {
        self.quantized.as_ref()
    }

    /// Rounds the weight to a type, for inference.
    ///
    /// # Errors
    ///
    /// As [`QuantizedMatrix::of`].
    pub fn quantize(&mut self, kind: WeightType) -> Result<(), KernelError> {
        let transposed = self.weight().transpose(); // [d_output, d_input]
        self.set_quantized(QuantizedMatrix::of(transposed, kind)?);
        Ok(())
    }

    /// Takes a weight in fewer bits, `[d_output, d_input]`, in place of its own.
    ///
    /// # Panics
    ///
    /// Where the shape is another.
    pub fn set_quantized(&mut self, weight: QuantizedMatrix) {
        let [d_output, d_input] = weight.shape();
        assert_eq!(
            self.weight.lazy_shape().to_vec(),
            [d_input, d_output],
            "a weight of another shape"
        );
        let made = weight.clone();
        self.weight = made_when_used(&self.weight, move |device| made.to_weight(device));
        self.quantized = Some(weight);
    }

    /// The weight, `[d_input, d_output]`.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }
}
