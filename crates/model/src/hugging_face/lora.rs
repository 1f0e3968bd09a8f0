//! Low-rank adapters (LoRA, Hu et al. 2022): which linear layers have one, by Hugging Face's names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use taal_kernels::{LowRankConfig, random};

use super::Family;
use super::layout::Layout;
use super::saved::saved_layers;
use crate::ModelError;
use crate::config::TransformerConfig;
use crate::layout::MatrixPlace;
use crate::parameters::{self, ParameterInfo, ParameterTable, Role};
use crate::precision::HEAD;
use crate::transformer::Transformer;

/// An adapter: its rank, its scale, and the layers that it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Columns of A and rows of B.
    pub rank: usize,
    /// The product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Multiply by `alpha / sqrt(rank)` instead (rsLoRA, Kalajdzievski 2023).
    pub is_rslora: bool,
    /// Probability of dropout on the input of A, in training.
    pub dropout: f64,
    /// The ends of the names of linear layers, such as `q_proj`; where empty, all but the output matrix have an adapter.
    pub targets: Vec<String>,
    /// The ends of the names of layers that are trained whole and kept with the adapter, see [`token_modules`](super::token_modules).
    pub modules_to_save: Vec<String>,
}

impl Lora {
    /// What the product of A and B is multiplied by.
    pub fn scale(&self) -> f64 {
        match self.is_rslora {
            true => self.alpha / (self.rank as f64).sqrt(),
            false => self.alpha / self.rank as f64,
        }
    }

    fn config(&self, name: &str, parts: Vec<Range<usize>>) -> LowRankConfig {
        LowRankConfig {
            rank: self.rank,
            scale: self.scale(),
            parts,
            dropout: self.dropout,
            site: random::key(0, 0, name),
        }
    }

    /// Whether a layer of this name has an adapter, as in PEFT: it is a target, or ends with one after a dot.
    fn is_target(&self, module: &str, is_head: bool) -> bool {
        match self.targets.is_empty() {
            true => !is_head,
            false => is_named(module, &self.targets),
        }
    }
}

/// Whether a layer has one of these names, or ends with one after a dot.
pub(super) fn is_named(module: &str, names: &[String]) -> bool {
    let ends = |name: &String| {
        module
            .strip_suffix(name.as_str())
            .is_some_and(|start| start.is_empty() || start.ends_with('.'))
    };
    names.iter().any(ends)
}

/// A linear layer of a family's file: its name there, and its outputs among those of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Linear {
    pub(super) module: String,
    pub(super) outputs: Range<usize>,
    /// Which half of the layer's outputs ours are, where another one of ours has the other half: see [`halves`](super::halves).
    pub(super) half: Option<usize>,
}

/// The linear layers of one of ours.
pub(super) fn linears(layout: &Layout, name: &str, [d_input, d_output]: [usize; 2]) -> Vec<Linear> {
    let parameter = layout.parameter(name, &[d_input, d_output]);
    let modules = parameter
        .parts
        .iter()
        .map(|part| part.name.trim_end_matches(".weight").to_string());
    let modules: Vec<String> = modules.collect();
    match parameter.whole_columns() {
        Some(columns) => {
            let linear = |(module, outputs)| Linear {
                module,
                outputs,
                half: None,
            };
            modules.into_iter().zip(columns).map(linear).collect()
        }
        None => {
            let places = parameter.matrix_places(false);
            let linear = |(module, place): (String, MatrixPlace)| Linear {
                module,
                half: Some(place.rows.start / d_output.max(1)),
                outputs: place.outputs,
            };
            modules.into_iter().zip(places).map(linear).collect()
        }
    }
}

/// The name of a layer without what distinguishes it from that of other blocks.
pub(super) fn short_name(module: &str) -> &str {
    let mut at = 0;
    let mut short = module;
    for part in module.split('.') {
        at += part.len() + 1;
        if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            short = module.get(at..).unwrap_or(module);
        }
    }
    short
}

/// The layers of a family that were seen, and which of them have an adapter.
#[derive(Default)]
struct Seen {
    names: BTreeSet<String>,
    modules: Vec<String>,
    n_chosen: usize,
}

impl Seen {
    /// The outputs of one of our layers that get an adapter.
    fn chosen(
        &mut self,
        lora: &Lora,
        layout: &Layout,
        name: &str,
        [d_input, d_output]: [usize; 2],
    ) -> Result<Vec<Range<usize>>, ModelError> {
        let is_head = name == HEAD;
        let mut chosen = Vec::new();
        for Linear { module, outputs, .. } in linears(layout, name, [d_input, d_output]) {
            self.note(&module);
            if !lora.is_target(&module, is_head) {
                continue;
            }
            if is_named(&module, &lora.modules_to_save) {
                let detail = format!("{module} is trained whole, because there are new tokens; leave it out");
                return Err(ModelError::config("lora.targets", detail));
            }
            let most = d_input.min(outputs.len());
            if !(1..=most).contains(&lora.rank) {
                return Err(ModelError::config(
                    "lora.rank",
                    format!(
                        "expected 1..={most}, the rank of {module} ({d_input} x {}), got {}",
                        outputs.len(),
                        lora.rank
                    ),
                ));
            }
            chosen.push(outputs);
        }
        self.n_chosen += chosen.len();
        Ok(chosen)
    }

    fn note(&mut self, module: &str) {
        self.names.insert(short_name(module).to_owned());
        self.modules.push(module.to_owned());
    }

    /// Every target must be a layer.
    fn check(&self, lora: &Lora) -> Result<(), ModelError> {
        for target in &lora.targets {
            let alone = Lora {
                targets: vec![target.clone()],
                ..lora.clone()
            };
            if !self.modules.iter().any(|module| alone.is_target(module, false)) {
                return Err(ModelError::config(
                    "lora.targets",
                    format!(
                        "{} is no linear layer of this model, which has {}",
                        super::shown(target),
                        self.known()
                    ),
                ));
            }
        }
        match self.n_chosen {
            0 => Err(ModelError::config(
                "lora",
                "the model has no linear layer that an adapter can be in",
            )),
            _ => Ok(()),
        }
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        names.join(", ")
    }
}

/// The values of an adapter of one of our layers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Values {
    /// The outputs of each part.
    pub(super) parts: Vec<Range<usize>>,
    /// `[d_input, n_parts * rank]`.
    pub(super) a: Vec<f32>,
    /// `[rank, width]`.
    pub(super) b: Vec<f32>,
}

impl Transformer {
    /// The same model with fresh adapters, drawn from the seed, in the layers that have these names in the family's files: it computes what
    /// it did before.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] for a rank that is larger than a matrix, a target that is no layer, and a layer that cannot have an adapter.
    pub fn with_lora(mut self, lora: &Lora, family: Family, seed: u64) -> Result<Self, ModelError> {
        let layout = Layout::new(self.config(), family);
        let device = self.device();
        let mut seen = Seen::default();
        for (name, dense) in self.dense_layers() {
            let [d_input, d_output] = dense.weight.lazy_shape().dims();
            let chosen = seen.chosen(lora, &layout, &name, [d_input, d_output])?;
            if !chosen.is_empty() {
                let key = random::key(seed, 0, &format!("{name}.lora_a"));
                dense.adapter = Some(lora.config(&name, chosen).init(d_input, key, &device));
            }
        }
        seen.check(lora)?;
        Ok(self)
    }

    /// The same model with adapters of these values, by the names of our layers' weights.
    pub(super) fn with_values(mut self, lora: &Lora, mut found: BTreeMap<String, Values>) -> Self {
        let device = self.device();
        for (name, dense) in self.dense_layers() {
            if let Some(Values { parts, a, b }) = found.remove(&name) {
                let [d_input, _] = dense.weight.lazy_shape().dims();
                dense.adapter = Some(lora.config(&name, parts).with_values(d_input, [a, b], &device));
            }
        }
        self
    }

    /// The same model of which the parameters that `is_frozen` says are not trained: their gradients are not computed.
    #[must_use]
    pub fn with_frozen(self, is_frozen: impl Fn(&ParameterInfo) -> bool) -> Self {
        let table = ParameterTable::of(&self);
        self.map(&mut Freezer { table, is_frozen })
    }

    /// The same model of which only the adapters are trained.
    #[must_use]
    pub fn with_adapters_only(self) -> Self {
        self.with_frozen(|row| row.role != Role::LowRank)
    }

    /// The same model of which only the adapters and the layers that are kept with them are trained.
    #[must_use]
    pub fn with_adapters_of(self, lora: &Lora, family: Family) -> Self {
        let layers = saved_layers(&Layout::new(self.config(), family), lora);
        let is_saved = |name: &str| layers.iter().any(|layer| layer.ours == name);
        self.with_frozen(|row| row.role != Role::LowRank && !is_saved(&row.name))
    }

    /// Whether any layer has an adapter.
    pub fn has_adapter(&self) -> bool {
        self.dense_layers_ref().iter().any(|(_, dense)| dense.adapter.is_some())
    }

    /// How many numbers the adapters have.
    pub fn n_adapter_params(&self) -> u64 {
        let rows = parameters::list(self).into_iter();
        let rows = rows.filter(|row| row.role == Role::LowRank);
        rows.map(|row| row.shape.iter().product::<usize>() as u64).sum()
    }

    /// What the adapters add to the weights, `[d_input, d_output]` in row-major order, by the weights' names.
    pub fn adapter_products(&self) -> BTreeMap<String, Vec<f32>> {
        let layers = self.dense_layers_ref().into_iter();
        let products = layers.filter_map(|(name, dense)| {
            let [_, d_output] = dense.weight.lazy_shape().dims();
            Some((name, parameters::to_vec(dense.adapter.as_ref()?.product(d_output))))
        });
        products.collect()
    }

    /// The weights of all layers that may have an adapter, in the model's order.
    pub fn adapter_layers(&self) -> impl Iterator<Item = (String, Vec<f32>)> {
        let layers = self.dense_layers_ref().into_iter();
        layers.map(|(name, dense)| (name, parameters::to_vec(dense.weight())))
    }

    /// The same model with the adapter of another one as a further choice of each row, see
    /// [`with_adapters_of_rows`](taal_kernels::with_adapters_of_rows).
    #[must_use]
    pub fn with_choice(mut self, mut adapted: Self) -> Self {
        for ((_, dense), (_, other)) in self.dense_layers().into_iter().zip(adapted.dense_layers()) {
            dense.add_choice(other.adapter.take());
        }
        self
    }

    /// The same model with its adapters added to its weights. Those that have one are in single precision afterwards.
    #[must_use]
    pub fn merged(mut self) -> Self {
        self.dense_layers().into_iter().for_each(|(_, dense)| dense.merge());
        self
    }
}

struct Freezer<F> {
    table: ParameterTable,
    is_frozen: F,
}

impl<F: Fn(&ParameterInfo) -> bool> ModuleMapper for Freezer<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.is_frozen)(self.table.row(param.id)) {
            true => param.set_require_grad(false),
            false => param,
        }
    }
}

/// How many numbers an adapter of a model of this shape has.
///
/// # Errors
///
/// As [`Transformer::with_lora`].
pub fn n_adapter_params(config: &TransformerConfig, family: Family, lora: &Lora) -> Result<u64, ModelError> {
    // Parameters are made where they are first used, so this takes no memory for them.
    let model = config.empty(&Device::flex())?.with_lora(lora, family, 0)?;
    Ok(model.n_adapter_params())
}
