//! The one linear layer of every model.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::error::KernelError;
use crate::linear::{linear, linear_add};
use crate::low_rank::{self, LowRank};
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
    /// What an adapter adds to the product.
    pub adapter: Option<LowRank>,
    /// Adapters of which each row of a batch may choose one, see [`with_adapters_of_rows`](crate::with_adapters_of_rows); none where one of
    /// them does not change this layer.
    #[module(skip)]
    choices: Vec<Option<LowRank>>,
    /// The weight in fewer bits, for inference: one matrix, or several of different types below each other. The parameter is made of them
    /// where something asks for its values.
    #[module(skip)]
    quantized: Vec<QuantizedMatrix>,
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
            adapter: None,
            choices: Vec::new(),
            quantized: Vec::new(),
        }
    }
}

impl Dense {
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; result: `[.., d_output]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.product(x, None)
    }

    /// [`forward`](Self::forward) added to a residual, in one operation.
    ///
    /// # Shapes
    ///
    /// - `x`: `[.., d_input]`; `residual` and result: `[.., d_output]`
    pub fn forward_add<const D: usize>(&self, x: Tensor<D>, residual: Tensor<D>) -> Tensor<D> {
        self.product(x, Some(residual))
    }

    fn product<const D: usize>(&self, x: Tensor<D>, residual: Option<Tensor<D>>) -> Tensor<D> {
        match self.choices.is_empty() {
            true => self.with_own_adapter(x, residual),
            false => {
                let y = self.with_own_adapter(x.clone(), residual);
                low_rank::add_chosen(y, x, &self.choices)
            }
        }
    }

    fn with_own_adapter<const D: usize>(&self, x: Tensor<D>, residual: Option<Tensor<D>>) -> Tensor<D> {
        match (self.quantized.as_slice(), &self.adapter) {
            ([], Some(adapter)) => adapter.linear(x, self.weight(), self.bias(), residual),
            ([], None) => match residual {
                Some(residual) => linear_add(x, self.weight(), self.bias(), residual),
                None => linear(x, self.weight(), self.bias()),
            },
            (matrices, Some(adapter)) => {
                let y = self.quantized_product(x.clone(), matrices, residual);
                adapter.add_to(y, x)
            }
            (matrices, None) => self.quantized_product(x, matrices, residual),
        }
    }

    fn quantized_product<const D: usize>(
        &self,
        x: Tensor<D>,
        matrices: &[QuantizedMatrix],
        residual: Option<Tensor<D>>,
    ) -> Tensor<D> {
        if let [weight] = matrices {
            return quantized_linear(x, weight, self.bias(), residual);
        }
        let bias = self.bias();
        let mut start = 0;
        let parts = matrices.iter().map(|weight| {
            let [width, _] = weight.shape();
            let bias = bias.clone().map(|bias| bias.narrow(0, start, width));
            let residual = residual.clone().map(|residual| residual.narrow(D - 1, start, width));
            start += width;
            quantized_linear(x.clone(), weight, bias, residual)
        });
        Tensor::cat(parts.collect(), D - 1)
    }

    /// The weight in fewer bits, where it is stored so: matrices `[.., d_input]` with `d_output` rows together. Otherwise none.
    pub fn quantized(&self) -> &[QuantizedMatrix] {
        &self.quantized
    }

    /// Rounds the weight to a type, for inference.
    ///
    /// # Errors
    ///
    /// As [`QuantizedMatrix::of`].
    pub fn quantize(&mut self, kind: WeightType) -> Result<(), KernelError> {
        let [_, d_output] = self.weight.lazy_shape().dims();
        self.quantize_parts(&[(d_output, kind)])
    }

    /// [`quantize`](Self::quantize) with a type for each of several ranges of outputs: how many, and their type.
    ///
    /// # Errors
    ///
    /// As [`QuantizedMatrix::of`].
    ///
    /// # Panics
    ///
    /// Where the ranges are not all outputs.
    pub fn quantize_parts(&mut self, parts: &[(usize, WeightType)]) -> Result<(), KernelError> {
        let transposed = self.weight().transpose(); // [d_output, d_input]
        let mut start = 0;
        let matrices = parts.iter().map(|(width, kind)| {
            start += width;
            QuantizedMatrix::of(transposed.clone().narrow(0, start - width, *width), *kind)
        });
        let matrices = matrices.collect::<Result<_, _>>()?;
        self.set_quantized(matrices);
        Ok(())
    }

    /// Takes a weight in fewer bits in place of its own: matrices `[.., d_input]` with `d_output` rows together.
    ///
    /// # Panics
    ///
    /// Where the shape is another.
    pub fn set_quantized(&mut self, matrices: Vec<QuantizedMatrix>) {
        let [d_input, d_output] = self.weight.lazy_shape().dims();
        let rows: usize = matrices.iter().map(|matrix| matrix.shape()[0]).sum();
        let is_as_wide = matrices.iter().all(|matrix| matrix.shape()[1] == d_input);
        assert!(is_as_wide && rows == d_output, "a weight of another shape");
        let made = matrices.clone();
        self.weight = made_when_used(&self.weight, move |device| {
            let parts = made.iter().map(|matrix| matrix.to_weight(device)).collect();
            Tensor::cat(parts, 1)
        });
        self.quantized = matrices;
    }

    /// Whether products with the weight in fewer bits are in single precision, see [`QuantizedMatrix::with_exact_products`].
    pub fn set_exact_products(&mut self, is_exact: bool) {
        let matrices = std::mem::take(&mut self.quantized).into_iter();
        self.quantized = matrices.map(|matrix| matrix.with_exact_products(is_exact)).collect();
    }

    /// Multiplies in single precision again: the values of the weight in fewer bits are made where they are first used.
    pub fn unpack(&mut self) {
        self.quantized.clear();
    }

    /// One more adapter that rows may choose; none where it does not change this layer.
    pub fn add_choice(&mut self, adapter: Option<LowRank>) {
        self.choices.push(adapter);
    }

    /// Adds the product of the adapter to the weight, which is in single precision from then on.
    pub fn merge(&mut self) {
        let Some(adapter) = self.adapter.take() else { return };
        let [_, d_output] = self.weight.lazy_shape().dims();
        let weight = self.weight().without_autodiff() + adapter.product(d_output);
        // Built again with the same id, on the device that the weight was on.
        let value = Tensor::from_data(weight.into_data(), &self.weight.lazy_device());
        let mut merged = Param::from_tensor(value);
        merged.id = self.weight.id;
        self.weight = merged;
        self.unpack();
    }

    /// The weight, `[d_input, d_output]`, without what an adapter adds.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(|bias| bias.val())
    }
}
