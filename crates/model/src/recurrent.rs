//! A stack of LSTM layers, the predecessor of the transformer (Hochreiter and Schmidhuber 1997; as a language model Zaremba et
//! al. 2014). They read a text token by token and keep a state of fixed size.

use burn::module::Module;
use burn::nn::{GateController, Initializer, Lstm, LstmConfig, LstmState};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use taal_kernels::{linear, linear_add, random};

use crate::config::TransformerConfig;
use crate::pass::{Output, Pass, Site, States, drop_at};
use crate::places::Places;
use crate::table::{ParameterTable, Role};

/// LSTM layers, each as wide as the model; the first reads the embeddings, each other one the layer below it.
#[derive(Module, Debug)]
pub struct Recurrent {
    /// Burn's layers, first to last.
    pub layers: Vec<Lstm>,
    #[module(skip)]
    dropout: f64,
}

impl Recurrent {
    /// Layers of zeros, to be initialized or loaded.
    pub(crate) fn new(config: &TransformerConfig, device: &Device) -> Self {
        let layer = LstmConfig::new(config.d_model, config.d_model, true).with_initializer(Initializer::Zeros);
        Self {
            layers: (0..config.n_layers).map(|_| layer.init(device)).collect(),
            dropout: config.dropout,
        }
    }

    pub(crate) fn set_dropout(&mut self, dropout: f64) {
        self.dropout = dropout;
    }

    /// Continues from the cache's states, which the pass replaces; without states, and at the first token of each segment, a text
    /// begins. Causal by construction, so it needs no mask.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, d_model]`
    pub(crate) fn forward(&self, mut x: Tensor<3>, mut pass: Pass<'_, '_>) -> Output {
        let mut hidden_states: Vec<Tensor<3>> = pass.capture.hidden_states.then(|| x.clone()).into_iter().collect();
        let mut earlier = match &mut pass.cache {
            Some(cache) => cache.take_states(pass.rows.as_ref()).into_iter(),
            None => States::new().into_iter(),
        };
        let masks = state_masks(&pass.places, x.dims(), &x.device());
        let mut states = States::new();
        for (index, layer) in self.layers.iter().enumerate() {
            x = pass.visit(Site::BeforeBlock(index), x);
            let (output, state) = run_layer(layer, x, earlier.next(), &masks);
            states.push(state);
            let layer_key = pass.dropout_key.map(|key| random::key(key, index as u64, "layer"));
            x = pass.visit(
                Site::AfterBlock(index),
                drop_at(output, self.dropout, layer_key, "recurrent"),
            );
            hidden_states.extend(pass.capture.hidden_states.then(|| x.clone()));
        }
        if let Some(cache) = pass.cache {
            cache.put_states(states, pass.rows.as_ref());
        }
        Output {
            hidden: x,
            hidden_states,
            attention_weights: Vec::new(),
            cross_weights: Vec::new(),
        }
    }

    pub(crate) fn list(&self, table: &mut ParameterTable) {
        for (index, layer) in self.layers.iter().enumerate() {
            let gates = [
                ("input_gate", Some(&layer.input_gate)),
                ("forget_gate", layer.forget_gate.as_ref()),
                ("output_gate", Some(&layer.output_gate)),
                ("cell_gate", Some(&layer.cell_gate)),
            ];
            for (gate, controller) in gates {
                let Some(controller) = controller else { continue };
                let transforms = [
                    ("input_transform", &controller.input_transform),
                    ("hidden_transform", &controller.hidden_transform),
                ];
                for (transform, linear) in transforms {
                    let name = format!("recurrent.layers.{index}.{gate}.{transform}");
                    table.add(format!("{name}.weight"), Role::RecurrentMatrix, &linear.weight);
                    let is_forget = (gate, transform) == ("forget_gate", "input_transform");
                    let role = if is_forget { Role::ForgetBias } else { Role::Bias };
                    if let Some(bias) = &linear.bias {
                        table.add(format!("{name}.bias"), role, bias);
                    }
                }
            }
        }
    }
}

/// Runs one layer token by token. Burn's own loop writes each output into one tensor, whose gradient is copied whole per token,
/// so its backward pass takes quadratic time.
fn run_layer(
    layer: &Lstm,
    x: Tensor<3>,
    mut state: Option<LstmState<2>>,
    masks: &StateMasks,
) -> (Tensor<3>, LstmState<2>) {
    let [batch, seq, width] = x.dims();
    let mut outputs = Vec::with_capacity(seq);
    let inference = (!x.is_autodiff()).then(|| InferenceGates::new(layer, &x));
    // One split instead of `seq` slices, for the same reason.
    for (position, token) in x.split(1, 1).into_iter().enumerate() {
        let mut earlier = state.take();
        if let Some(keep) = masks.carry.get(position).and_then(Option::as_ref) {
            earlier = earlier.map(|state| LstmState::new(state.cell * keep.clone(), state.hidden * keep.clone()));
        }
        let is_over = masks.frozen.get(position).and_then(Option::as_ref);
        let old = is_over.map(|_| {
            let device = layer.input_gate.input_transform.weight.device();
            earlier
                .clone()
                .unwrap_or_else(|| LstmState::initial([batch, width], &device))
        });
        let (output, mut next) = match &inference {
            Some(gates) => gates.step(position, earlier),
            None => layer.forward(token, earlier),
        };
        if let (Some(is_over), Some(old)) = (is_over, old) {
            let is_over = is_over.clone().expand([batch, width]);
            let stays = |old: Tensor<2>, new: Tensor<2>| new.mask_where(is_over.clone(), old);
            next = LstmState::new(stays(old.cell, next.cell), stays(old.hidden, next.hidden));
        }
        outputs.push(output);
        state = Some(next);
    }
    let state =
        state.unwrap_or_else(|| LstmState::initial([batch, width], &layer.input_gate.input_transform.weight.device()));
    (Tensor::cat(outputs, 1), state)
}

/// A layer without gradients: its products are Taal's, which sum the numbers of each row in one order, whatever the number of rows.
struct InferenceGates<'a> {
    layer: &'a Lstm,
    /// The part of each gate that follows from the input, for all tokens at once: input, forget, output and cell gate.
    inputs: [Tensor<3>; 4],
}

impl<'a> InferenceGates<'a> {
    fn new(layer: &'a Lstm, x: &Tensor<3>) -> Self {
        let inputs = Self::gates(layer).map(|gate| {
            let part = &gate.input_transform;
            linear(x.clone(), part.weight.val(), part.bias.as_ref().map(|bias| bias.val()))
        });
        Self { layer, inputs }
    }

    fn gates(layer: &Lstm) -> [&GateController; 4] {
        let forget_gate = layer
            .forget_gate
            .as_ref()
            .expect("`Recurrent::new` gives each layer one");
        [&layer.input_gate, forget_gate, &layer.output_gate, &layer.cell_gate]
    }

    /// What [`Lstm::forward`] computes for the token at `position`.
    fn step(&self, position: usize, earlier: Option<LstmState<2>>) -> (Tensor<3>, LstmState<2>) {
        let layer = self.layer;
        let [batch, _, width] = self.inputs[0].dims();
        let state = earlier.unwrap_or_else(|| LstmState::initial([batch, width], &self.inputs[0].device()));
        let gates = Self::gates(layer);
        let [input, forget, output, candidate] = std::array::from_fn(|i| {
            let part = &gates[i].hidden_transform;
            let of_input = self.inputs[i].clone().narrow(1, position, 1).squeeze_dim::<2>(1);
            let bias = part.bias.as_ref().map(|bias| bias.val());
            linear_add(state.hidden.clone(), part.weight.val(), bias, of_input)
        });
        let gate = |x| layer.gate_activation.forward::<2>(x);
        let cell = gate(forget) * state.cell + gate(input) * layer.cell_activation.forward(candidate);
        let hidden = gate(output) * layer.hidden_activation.forward(cell.clone());
        (hidden.clone().unsqueeze_dim(1), LstmState::new(cell, hidden))
    }
}

/// Which states carry over or are frozen at each position; empty where every row continues one text.
#[derive(Default)]
struct StateMasks {
    /// 1 for rows whose state carries over, 0 where a text begins, `[batch, 1]`; `None` where all carry over.
    carry: Vec<Option<Tensor<2>>>,
    /// True for the rows that have ended, whose states do not change, `[batch, 1]`; `None` where no row has ended.
    frozen: Vec<Option<Tensor<2, Bool>>>,
}

fn state_masks(places: &Places<'_>, [batch, seq, _]: [usize; 3], device: &Device) -> StateMasks {
    let rows = |is: &dyn Fn(usize) -> bool| (0..batch).map(is).collect::<Vec<bool>>();
    match places {
        Places::Together { .. } => StateMasks::default(),
        Places::Segments(segments) => {
            let positions = segments.positions();
            let carry = (0..seq).map(|position| {
                let begins = rows(&|row| positions[row * seq + position] == 0);
                let is_needed = position > 0 && begins.contains(&true);
                let keep = begins
                    .iter()
                    .map(|begins| if *begins { 0.0 } else { 1.0 })
                    .collect::<Vec<f32>>();
                is_needed.then(|| Tensor::from_data(TensorData::new(keep, [batch, 1]), device))
            });
            StateMasks {
                carry: carry.collect(),
                ..StateMasks::default()
            }
        }
        Places::Rows { lengths, .. } => {
            let frozen = (0..seq).map(|position| {
                let is_over = rows(&|row| position >= lengths[row]);
                let is_needed = is_over.contains(&true);
                is_needed.then(|| Tensor::from_data(TensorData::new(is_over, [batch, 1]), device))
            });
            StateMasks {
                frozen: frozen.collect(),
                ..StateMasks::default()
            }
        }
    }
}
