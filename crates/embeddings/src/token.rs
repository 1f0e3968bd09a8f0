//! The table from token ids to vectors, and, when tied, from hidden states to logits.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use taal_kernels::{KernelError, QuantizedMatrix, WeightType, made_when_used, normal_param, quantized_linear, random};

/// The standard deviation of fresh weights, as in GPT-2 and BERT.
pub(crate) const INIT_STD: f64 = 0.02;

/// The size of a [`TokenEmbedding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenEmbeddingConfig {
    /// How many token ids there are.
    pub vocab_size: usize,
    /// The width of a vector.
    pub d_model: usize,
}

impl TokenEmbeddingConfig {
    /// A fresh table, normal with standard deviation 0.02, a function of the seed. It is drawn when first used, so that loading a
    /// checkpoint draws none.
    pub fn init(&self, seed: u64, device: &Device) -> TokenEmbedding {
        let key = random::key(seed, 0, "token embedding");
        TokenEmbedding {
            weight: normal_param([self.vocab_size, self.d_model], INIT_STD, key, device),
            quantized: None,
        }
    }
}

/// One trained vector per token id.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    /// `[vocab_size, d_model]`.
    pub weight: Param<Tensor<2>>,
    /// The table in fewer bits, for inference. The parameter is decoded from it when its values are needed.
    #[module(skip)]
    quantized: Option<QuantizedMatrix>,
}

impl TokenEmbedding {
    /// The vectors of the ids.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[batch, seq]`, each in `0..vocab_size`; result: `[batch, seq, d_model]`.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        match &self.quantized {
            Some(table) => table.rows_of(ids),
            None => taal_kernels::embedding(self.weight.val(), ids),
        }
    }

    /// The tied output layer (Press and Wolf, 2016): the dot product of each token's vector with each hidden state.
    ///
    /// # Shapes
    ///
    /// - `hidden`: `[.., d_model]`; result: `[.., vocab_size]`.
    pub fn logits<const D: usize>(&self, hidden: Tensor<D>) -> Tensor<D> {
        match &self.quantized {
            Some(table) => quantized_linear(hidden, table, None, None),
            None => taal_kernels::linear_transposed(hidden, self.weight.val()),
        }
    }

    /// The table in fewer bits, where it is stored so.
    pub fn quantized(&self) -> Option<&QuantizedMatrix> {
        self.quantized.as_ref()
    }

    /// Whether products with the table in fewer bits are in single precision, see [`QuantizedMatrix::with_exact_products`].
    pub fn set_exact_products(&mut self, is_exact: bool) {
        self.quantized = self.quantized.take().map(|table| table.with_exact_products(is_exact));
    }

    /// Reads and multiplies the table in single precision again: its values are made where they are first used.
    pub fn unpack(&mut self) {
        self.quantized = None;
    }

    /// Rounds the table to a type, for inference.
    ///
    /// # Errors
    ///
    /// As [`QuantizedMatrix::of`].
    pub fn quantize(&mut self, kind: WeightType) -> Result<(), KernelError> {
        self.set_quantized(QuantizedMatrix::of(self.weight.val(), kind)?);
        Ok(())
    }

    /// Replaces the table by one in fewer bits, `[vocab_size, d_model]`.
    ///
    /// # Panics
    ///
    /// Where the shape differs.
    pub fn set_quantized(&mut self, table: QuantizedMatrix) {
        assert_eq!(
            self.weight.lazy_shape().to_vec(),
            table.shape(),
            "a table of another shape"
        );
        let made = table.clone();
        self.weight = made_when_used(&self.weight, move |device| made.to_weight(device).transpose());
        self.quantized = Some(table);
    }
}
