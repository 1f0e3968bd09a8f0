//! Weights in fewer bits, for inference.

use taal_attention::MultiHeadAttention;
use taal_kernels::{Dense, KernelError, QuantizedMatrix, WeightType};

use crate::ModelError;
use crate::feed_forward::FeedForward;
use crate::head::Head;
use crate::stack::Stack;
use crate::transformer::Transformer;

impl Transformer {
    /// The same model with its matrices and its token embedding rounded to a type. Norms, biases, positions and an LSTM's
    /// matrices are unchanged. With Q4_0 the output matrix, or the token embedding if tied, is Q8_0, because it loses the most at
    /// four bits.
    ///
    /// Such a model is for inference: gradients flow through the rounded weights, and nothing trains them.
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where a width is not divisible by the type's block, a weight is too large for it, or the device is a GPU.
    pub fn with_weights(mut self, kind: WeightType) -> Result<Self, ModelError> {
        if kind == WeightType::F32 {
            return Ok(self);
        }
        if taal_kernels::is_gpu(&self.device()) {
            return Err(ModelError::Input(format!(
                "weights in {kind} are multiplied on the CPU only; a GPU needs them in F32"
            )));
        }
        let output = if kind == WeightType::Q4_0 {
            WeightType::Q8_0
        } else {
            kind
        };
        let named = |name: String| move |error: KernelError| ModelError::Input(format!("{name}: {error}"));
        for (name, dense) in self.dense_layers() {
            let is_output = name == "head";
            dense
                .quantize(if is_output { output } else { kind })
                .map_err(named(name))?;
        }
        let tokens = &mut self.embeddings.tokens;
        tokens.quantize(output).map_err(named("token_embedding".to_owned()))?;
        Ok(self)
    }

    /// The bytes of all parameters in memory.
    pub fn weight_bytes(&self) -> u64 {
        let dense = self.dense_layers_ref().into_iter().filter_map(Dense::quantized);
        let quantized = dense.chain(self.embeddings.tokens.quantized());
        let saved: u64 = quantized.map(saved_bytes).sum();
        4 * self.config().n_params() - saved
    }

    /// Every dense layer with its name in the table of parameters.
    fn dense_layers(&mut self) -> Vec<(String, &mut Dense)> {
        let mut layers = Vec::new();
        if let Stack::Blocks(blocks) = &mut self.stack {
            for (index, block) in blocks.blocks.iter_mut().enumerate() {
                let MultiHeadAttention { qkv, output, .. } = &mut block.attention;
                let FeedForward { up, gate, down, .. } = &mut block.feed_forward;
                let named = [("attention.qkv", Some(qkv)), ("attention.output", Some(output))];
                let named = named.into_iter().chain([
                    ("feed_forward.up", Some(up)),
                    ("feed_forward.gate", gate.as_mut()),
                    ("feed_forward.down", Some(down)),
                ]);
                layers.extend(named.filter_map(|(name, dense)| Some((format!("blocks.{index}.{name}"), dense?))));
            }
        }
        let (transform, output) = match &mut self.head {
            Head::LanguageModel(output) => (None, output),
            Head::Masked(head) => (Some(&mut head.transform.dense), &mut head.output),
        };
        layers.extend(transform.map(|dense| ("head_transform.dense".to_owned(), dense)));
        layers.extend(output.matrix.as_mut().map(|dense| ("head".to_owned(), dense)));
        layers
    }

    fn dense_layers_ref(&self) -> Vec<&Dense> {
        let mut layers = Vec::new();
        if let Stack::Blocks(blocks) = &self.stack {
            for block in &blocks.blocks {
                let FeedForward { up, gate, down, .. } = &block.feed_forward;
                layers.extend([&block.attention.qkv, &block.attention.output, up, down]);
                layers.extend(gate);
            }
        }
        let (transform, output) = match &self.head {
            Head::LanguageModel(output) => (None, output),
            Head::Masked(head) => (Some(&head.transform.dense), &head.output),
        };
        layers.extend(transform);
        layers.extend(&output.matrix);
        layers
    }
}

fn saved_bytes(matrix: &QuantizedMatrix) -> u64 {
    let [rows, columns] = matrix.shape();
    (4 * rows * columns - matrix.bytes().len()) as u64
}
