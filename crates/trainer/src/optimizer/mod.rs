//! Optimizers over whole models: AdamW, and Muon for the matrices of the blocks.
//!
//! State is kept by parameter name, so that its file can be inspected and does not depend on the order of fields.

mod adamw;
mod muon;

use std::collections::BTreeMap;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use taal_kernels::MuonMatrix;
use taal_model::{ParameterInfo, Transformer};

use crate::gradients::{self, ParameterUpdate};

pub use adamw::AdamW;
pub use muon::Muon;
use muon::momentum_key;

/// Which optimizer trains the matrices of the blocks; AdamW trains everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// AdamW for everything.
    #[serde(rename = "adamw")]
    AdamW,
    /// Muon for the matrices inside the blocks, AdamW for embeddings, output matrix, norms and biases.
    Muon,
}

/// An optimizer with its state.
#[derive(Debug, Clone)]
pub struct Optimizer {
    adamw: AdamW,
    muon: Option<Muon>,
    state: State,
}

/// Moments by name: `<parameter>.<moment>`, flat.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Updates made so far.
    pub(crate) step: u64,
    pub(crate) moments: BTreeMap<String, Tensor<1>>,
}

impl State {
    /// Takes a moment out; a new one is zeros, one per element of its parameter. Once taken out it is uniquely owned,
    /// so that the arithmetic on it works in place.
    pub(crate) fn take<const D: usize>(&mut self, key: &str, like: &Tensor<D>) -> Tensor<1> {
        match self.moments.remove(key) {
            Some(moment) => moment,
            None => Tensor::zeros([like.dims().iter().product::<usize>()], &like.device()),
        }
    }

    pub(crate) fn put(&mut self, key: String, moment: Tensor<1>) {
        self.moments.insert(key, moment);
    }
}

impl Optimizer {
    /// An optimizer without state. Weight decay acts on matrices only, as in nanoGPT.
    pub fn new(adamw: AdamW, muon: Option<Muon>) -> Self {
        Self {
            adamw,
            muon,
            state: State::default(),
        }
    }

    /// Updates made so far.
    pub fn step_count(&self) -> u64 {
        self.state.step
    }

    /// One update. `lr_factor` is the schedule's learning rate divided by its peak, so that both optimizers follow the
    /// same curve. `gradient_factor` multiplies every gradient (clipping).
    pub fn step(
        &mut self,
        model: Transformer,
        gradients: GradientsParams,
        lr_factor: f64,
        gradient_factor: f64,
    ) -> Transformer {
        self.state.step += 1;
        let by_muon = self.muon_update(&model, &gradients, lr_factor, gradient_factor);
        let mut update = Update {
            adamw: &self.adamw,
            by_muon,
            state: &mut self.state,
            lr_factor,
            gradient_factor,
        };
        gradients::update(model, gradients, &mut update)
    }

    /// The new values of the matrices that Muon trains, by name. They are computed together, as the kernel requires.
    fn muon_update(
        &mut self,
        model: &Transformer,
        gradients: &GradientsParams,
        lr_factor: f64,
        gradient_factor: f64,
    ) -> BTreeMap<String, Tensor<2>> {
        let Some(muon) = &self.muon else {
            return BTreeMap::new();
        };
        let mut names = Vec::new();
        let mut matrices = Vec::new();
        for (parameter, value, gradient) in gradients::hidden_matrices(model, gradients) {
            let momentum = self.state.take(&momentum_key(&parameter.name), &value);
            names.push(parameter.name);
            matrices.push(MuonMatrix {
                widths: parameter.parts,
                value,
                gradient,
                momentum,
            });
        }
        let updated = taal_kernels::muon(&muon.step(lr_factor, gradient_factor), matrices);
        let keep = |(name, (value, momentum)): (String, (Tensor<2>, Tensor<1>))| {
            self.state.put(momentum_key(&name), momentum);
            (name, value)
        };
        names.into_iter().zip(updated).map(keep).collect()
    }

    /// Every moment by name, flat and on its device, ordered by name.
    pub fn moments(&self) -> impl Iterator<Item = (&str, &Tensor<1>)> {
        self.state.moments.iter().map(|(name, moment)| (name.as_str(), moment))
    }

    /// Every moment's name and values, ordered by name.
    pub fn read_state(&self) -> Vec<(String, Vec<f32>)> {
        self.moments()
            .map(|(name, moment)| (name.to_string(), taal_model::parameters::to_vec(moment.clone())))
            .collect()
    }

    /// Restores what [`read_state`](Self::read_state) and [`step_count`](Self::step_count) returned.
    pub fn restore_state(&mut self, step: u64, moments: Vec<(String, Vec<f32>)>, device: &Device) {
        let device = device.clone().inner();
        let tensor = |values: Vec<f32>| {
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &device)
        };
        self.state.step = step;
        self.state.moments = moments
            .into_iter()
            .map(|(name, values)| (name, tensor(values)))
            .collect();
    }
}

struct Update<'a> {
    adamw: &'a AdamW,
    /// New values that Muon has computed.
    by_muon: BTreeMap<String, Tensor<2>>,
    state: &'a mut State,
    lr_factor: f64,
    gradient_factor: f64,
}

impl ParameterUpdate for Update<'_> {
    fn update<const D: usize>(
        &mut self,
        parameter: &ParameterInfo,
        value: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        if let Some(updated) = self.by_muon.remove(&parameter.name) {
            return updated.reshape(value.dims());
        }
        let (lr_factor, gradient_factor) = (self.lr_factor, self.gradient_factor);
        self.adamw
            .update(parameter, value, gradient, lr_factor, gradient_factor, self.state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn golden(text: &str) -> Vec<Value> {
        let value: Value = serde_json::from_str(text).unwrap();
        value["cases"].as_array().unwrap().clone()
    }

    fn numbers(value: &Value) -> Vec<f32> {
        match value.as_array() {
            Some(values) => values.iter().flat_map(numbers).collect(),
            None => vec![value.as_f64().unwrap() as f32],
        }
    }

    fn tensor(value: &Value, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(numbers(value), shape), &Device::flex())
    }

    fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
        let difference: f32 = (found - expected).abs().max().into_scalar();
        assert!(difference < 2e-5, "{difference}");
    }

    /// PyTorch decays vectors too, so its vector of six is a matrix here.
    #[test]
    fn adamw_equals_adamw_of_pytorch() {
        for case in golden(include_str!("../../tests/golden/adamw.json")) {
            let mut state = State::default();
            let parameter = ParameterInfo {
                name: "x".to_owned(),
                shape: vec![2, 3],
                role: taal_model::Role::Matrix,
                parts: vec![3],
            };
            let mut value = tensor(&case["initial"], [2, 3]);
            for step in case["steps"].as_array().unwrap() {
                state.step += 1;
                let gradient = tensor(&step["gradient"], [2, 3]);
                value = AdamW::default().update(&parameter, value, gradient, 1.0, 1.0, &mut state);
                assert_close(value.clone(), tensor(&step["parameter"], [2, 3]));
            }
        }
    }

    fn update(
        muon: &Muon,
        widths: &[usize],
        value: Tensor<2>,
        gradient: Tensor<2>,
        momentum: Tensor<1>,
    ) -> (Tensor<2>, Tensor<1>) {
        let matrix = MuonMatrix {
            widths: widths.to_vec(),
            value,
            gradient,
            momentum,
        };
        taal_kernels::muon(&muon.step(1.0, 1.0), vec![matrix]).remove(0)
    }

    /// PyTorch's weights are `[out, in]`, ours are `[in, out]`.
    #[test]
    fn muon_equals_keller_jordan_muon() {
        for case in golden(include_str!("../../tests/golden/muon.json")) {
            let shape = numbers(&case["shape"]);
            let [d_output, d_input] = [shape[0] as usize, shape[1] as usize];
            let muon = Muon {
                weight_decay: case["weight_decay"].as_f64().unwrap(),
                ..Muon::default()
            };
            let mut value = tensor(&case["initial"], [d_output, d_input]).transpose();
            let mut momentum = Tensor::zeros([d_output * d_input], &Device::flex());
            for step in case["steps"].as_array().unwrap() {
                let gradient = tensor(&step["gradient"], [d_output, d_input]).transpose();
                (value, momentum) = update(&muon, &[d_output], value, gradient, momentum);
                assert_close(
                    value.clone().transpose(),
                    tensor(&step["parameter"], [d_output, d_input]),
                );
            }
        }
    }

    #[test]
    fn muon_treats_query_key_and_value_as_three_matrices() {
        let muon = Muon::default();
        let gradient = taal_kernels::random::normal([6, 12], 1.0, 5, &Device::flex());
        let value = Tensor::zeros([6, 12], &Device::flex());
        let zeros = |count: usize| Tensor::zeros([count], &Device::flex());
        let (fused, _) = update(&muon, &[6, 3, 3], value, gradient.clone(), zeros(72));
        let mut from = 0;
        for width in [6, 3, 3] {
            let part = gradient.clone().narrow(1, from, width);
            let (alone, _) = update(&muon, &[width], part.zeros_like(), part, zeros(6 * width));
            assert_close(fused.clone().narrow(1, from, width), alone);
            from += width;
        }
    }
}
