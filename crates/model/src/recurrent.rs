//! What came before the transformer: a stack of LSTM layers (Hochreiter and Schmidhuber 1997; as a language model Zaremba et al. 2014),
//! which read a text token by token and carry all they know of it in a state of fixed size.

use burn::module::Module;
use burn::nn::{Initializer, Lstm, LstmConfig, LstmState};
use burn::tensor::{Device, Tensor, TensorData};
use taal_attention::Segments;

use crate::config::TransformerConfig;

/// LSTM layers, each as wide as the model; the first reads the embeddings, each other one the layer below it.
#[derive(Module, Debug)]
pub struct Recurrent {
    /// Burn's layers, first to last.
    pub layers: Vec<Lstm>,
}

/// What the layers remember of the text so far: cell and hidden state of each, `[batch, d_model]`.
pub(crate) type States = Vec<LstmState<2>>;

impl Recurrent {
    /// Layers of zeros, to be drawn or read.
    pub(crate) fn new(config: &TransformerConfig, device: &Device) -> Self {
        let layer = LstmConfig::new(config.d_model, config.d_model, true).with_initializer(Initializer::Zeros);
        Self {
            layers: (0..config.n_layers).map(|_| layer.init(device)).collect(),
        }
    }

    /// Reads on from the states, which the pass replaces; none is the beginning of a text, and so is the first token of each segment.
    /// `after_layer` sees and may change what each layer hands up.
    ///
    /// # Shapes
    ///
    /// - x and output: `[batch, seq, d_model]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        states: &mut States,
        segments: Option<&Segments>,
        mut after_layer: impl FnMut(usize, Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let mut earlier = std::mem::take(states).into_iter();
        let keeps = segments.map(|segments| keeps(segments, &x.device()));
        self.layers.iter().enumerate().fold(x, |x, (index, layer)| {
            let (heard, state) = read(layer, x, earlier.next(), keeps.as_deref());
            states.push(state);
            after_layer(index, heard)
        })
    }
}

/// One layer, one token after another: the layer's own loop writes each output into a tensor for all, whose gradient is copied whole
/// at each token, so that the way back would take time quadratic in the length.
fn read(
    layer: &Lstm,
    x: Tensor<3>,
    mut state: Option<LstmState<2>>,
    keeps: Option<&[Option<Tensor<2>>]>,
) -> (Tensor<3>, LstmState<2>) {
    let [batch, seq, width] = x.dims();
    let mut outputs = Vec::with_capacity(seq);
    // One split instead of `seq` slices, for the same reason.
    for (position, token) in x.split(1, 1).into_iter().enumerate() {
        let mut earlier = state.take();
        if let Some(Some(keep)) = keeps.map(|keeps| &keeps[position]) {
            earlier = earlier.map(|state| LstmState::new(state.cell * keep.clone(), state.hidden * keep.clone()));
        }
        let (output, next) = layer.forward(token, earlier);
        outputs.push(output);
        state = Some(next);
    }
    let state =
        state.unwrap_or_else(|| LstmState::initial([batch, width], &layer.input_gate.input_transform.weight.device()));
    (Tensor::cat(outputs, 1), state)
}

/// By position: 0 for the rows in which a text begins there, which forget what came before, and 1 for the others, `[batch, 1]`; none
/// where no row forgets anything.
fn keeps(segments: &Segments, device: &Device) -> Vec<Option<Tensor<2>>> {
    let [batch, seq] = segments.dims();
    let positions = segments.positions();
    let is_first = |row: usize, position: usize| positions[row * seq + position] == 0;
    (0..seq)
        .map(|position| {
            let values: Vec<f32> = (0..batch)
                .map(|row| if is_first(row, position) { 0.0 } else { 1.0 })
                .collect();
            let is_needed = position > 0 && values.contains(&0.0);
            is_needed.then(|| Tensor::from_data(TensorData::new(values, [batch, 1]), device))
        })
        .collect()
}
