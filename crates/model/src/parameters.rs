//! Listing, reading, drawing and replacing a model's parameters by its table.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::QuantizedMatrix;

use crate::ModelError;
pub use crate::config::Initialization;
use crate::config::{NormPlace, TransformerConfig};
use crate::precision::ENCODER;
pub use crate::table::{ParameterInfo, ParameterTable, Role};
use crate::transformer::Transformer;

impl ParameterTable {
    /// The table of a model.
    pub fn of(model: &Transformer) -> Self {
        let mut table = Self::default();
        model.list(&mut table);
        table
    }
}

/// The parameters of `model` in Burn's visiting order.
pub fn list(model: &Transformer) -> Vec<ParameterInfo> {
    ParameterTable::of(model).into_rows()
}

/// Calls `see` with every parameter's name, shape and values, one at a time.
pub fn read(model: &Transformer, see: impl FnMut(&str, &[usize], Vec<f32>)) {
    let table = ParameterTable::of(model);
    model.visit(&mut Reader { table, see });
}

/// The values of a parameter as a model holds them.
#[derive(Debug)]
pub enum Held<'a> {
    /// In single precision.
    Floats(Vec<f32>),
    /// In fewer bits: see [`Transformer::quantized`].
    Quantized(&'a [QuantizedMatrix]),
}

/// [`read`] without decoding what is in fewer bits.
pub fn read_held(model: &Transformer, mut see: impl FnMut(&str, &[usize], Held<'_>)) {
    let quantized = model.quantized();
    let table = ParameterTable::of(model);
    model.visit(&mut HeldReader {
        table,
        see: |name: &str, shape: &[usize], floats: &dyn Fn() -> Vec<f32>| match quantized.get(name) {
            Some(matrices) => see(name, shape, Held::Quantized(matrices)),
            None => see(name, shape, Held::Floats(floats())),
        },
    });
}

struct HeldReader<F> {
    table: ParameterTable,
    see: F,
}

impl<F: FnMut(&str, &[usize], &dyn Fn() -> Vec<f32>)> ModuleVisitor for HeldReader<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let row = self.table.row(param.id);
        (self.see)(&row.name, &row.shape, &|| to_vec(param.val()));
    }
}

struct Reader<F> {
    table: ParameterTable,
    see: F,
}

impl<F: FnMut(&str, &[usize], Vec<f32>)> ModuleVisitor for Reader<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let row = self.table.row(param.id);
        (self.see)(&row.name, &row.shape, to_vec(param.val()));
    }
}

/// Replaces every parameter by what `give` returns for its name and shape; the first error stops it and drops the model.
///
/// # Errors
///
/// Whatever `give` returns.
pub fn replace<E>(
    model: Transformer,
    mut give: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
) -> Result<Transformer, E> {
    replace_by_row(model, |row| give(&row.name, &row.shape))
}

/// Values for a parameter.
#[derive(Debug)]
pub enum Given {
    /// In single precision, in the parameter's order.
    Floats(Vec<f32>),
    /// In fewer bits: one matrix `[d_output, d_input]`, or several of different types below each other, for a parameter of which
    /// [`can_be_quantized`](crate::can_be_quantized) says so. On a GPU it is decoded.
    Quantized(Vec<QuantizedMatrix>),
}

/// [`replace`] by values of which some may be in fewer bits.
///
/// # Errors
///
/// Whatever `give` returns.
pub fn fill<E>(model: Transformer, mut give: impl FnMut(&str, &[usize]) -> Result<Given, E>) -> Result<Transformer, E> {
    let mut quantized = BTreeMap::new();
    let is_gpu = taal_kernels::is_gpu(&model.device());
    let mut model = replace_some(model, |row| {
        Ok(match give(&row.name, &row.shape)? {
            Given::Floats(values) => Some(values),
            Given::Quantized(matrices) if is_gpu => Some(crate::precision::values_of(&row.name, &matrices)),
            Given::Quantized(matrices) => {
                quantized.insert(row.name.clone(), matrices);
                None
            }
        })
    })?;
    model.take_quantized(quantized);
    Ok(model)
}

/// The same model with other values of some parameters, and as many rows of tokens as these have. Matrices in fewer bits stay so where they are
/// not replaced; adapters are lost.
///
/// # Errors
///
/// [`ModelError::Config`] where there cannot be so many tokens.
pub(crate) fn with_tokens(
    model: &Transformer,
    vocab_size: usize,
    replaced: BTreeMap<String, Vec<f32>>,
) -> Result<Transformer, ModelError> {
    let config = TransformerConfig {
        vocab_size,
        ..model.config().clone()
    };
    config.validate()?;
    let mut given: BTreeMap<String, Given> = replaced
        .into_iter()
        .map(|(name, values)| (name, Given::Floats(values)))
        .collect();
    read_held(model, |name, _, held| {
        if !given.contains_key(name) {
            let held = match held {
                Held::Floats(values) => Given::Floats(values),
                Held::Quantized(matrices) => Given::Quantized(matrices.to_vec()),
            };
            given.insert(name.to_owned(), held);
        }
    });
    fill(config.empty(&model.device())?, |name, _| {
        let values = given.remove(name);
        values.ok_or_else(|| ModelError::Input(format!("parameter `{name}` has no values")))
    })
}

fn replace_by_row<E>(
    model: Transformer,
    mut give: impl FnMut(&ParameterInfo) -> Result<Vec<f32>, E>,
) -> Result<Transformer, E> {
    replace_some(model, |row| give(row).map(Some))
}

/// Replaces the parameters for which there are values; the others stay as they are.
fn replace_some<E>(
    model: Transformer,
    give: impl FnMut(&ParameterInfo) -> Result<Option<Vec<f32>>, E>,
) -> Result<Transformer, E> {
    let mut replacer = Replacer {
        table: ParameterTable::of(&model),
        give,
        error: None,
    };
    let model = model.map(&mut replacer);
    match replacer.error {
        Some(error) => Err(error),
        None => Ok(model),
    }
}

struct Replacer<F, E> {
    table: ParameterTable,
    give: F,
    error: Option<E>,
}

impl<E, F: FnMut(&ParameterInfo) -> Result<Option<Vec<f32>>, E>> ModuleMapper for Replacer<F, E> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let device = param.lazy_device();
        let row = self.table.row(param.id);
        match (self.give)(row) {
            Ok(None) => param,
            Ok(Some(values)) => {
                // Built again with the same id: mapping would first draw a lazy parameter's old value.
                let value = Tensor::<D>::from_data(TensorData::new(values, row.shape.clone()), &device);
                let mut fresh = Param::from_tensor(value);
                fresh.id = param.id;
                fresh
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

impl TransformerConfig {
    /// Builds a model with drawn weights: nanoGPT's initialization, N(0, 0.02) with the projections into the residual stream scaled by
    /// `1 / sqrt(2 * n_layers)`, or BERT's, without that scale, where the norm comes after the sum. The draw depends only on the seed.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where the configuration is invalid.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Transformer, ModelError> {
        self.init_with(seed, Initialization::default(), device)
    }

    /// [`init`](Self::init) with other standard deviations.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where the configuration is invalid.
    pub fn init_with(&self, seed: u64, how: Initialization, device: &Device) -> Result<Transformer, ModelError> {
        Ok(draw(self.empty(device)?, self, seed, how))
    }
}

/// Draws all weights: norms are one, biases zero, everything else normal. The matrices of an LSTM get the variance of PyTorch's,
/// one third of the width's inverse, and its forget gates a bias of one, so that it initially keeps its state (Jozefowicz et al.
/// 2015). Each draw depends only on the seed and the parameter's name, not on the order of fields, the device or threads.
fn draw(model: Transformer, config: &TransformerConfig, seed: u64, how: Initialization) -> Transformer {
    // A norm after the sum already keeps the residual stream from growing with depth.
    let by_depth = |sums: usize| match config.norm_place {
        NormPlace::Pre => how.std / (sums as f64).sqrt(),
        NormPlace::Post => how.std,
    };
    // Attention to the source is a third sum in each block of a decoder.
    let sums = if config.is_encoder_decoder() { 3 } else { 2 } * config.n_layers;
    let residual_std = how.residual_std.unwrap_or(by_depth(sums));
    let encoder_sums = config.encoder.map_or(1, |encoder| 2 * encoder.n_layers);
    let encoder_std = how.residual_std.unwrap_or(by_depth(encoder_sums));
    let drawn = replace_by_row(model, |row| -> Result<Vec<f32>, std::convert::Infallible> {
        let count = row.shape.iter().product();
        let key = taal_kernels::random::key(seed, 0, &row.name);
        Ok(match row.role {
            Role::NormWeight | Role::ForgetBias => vec![1.0; count],
            Role::Bias | Role::LowRank => vec![0.0; count],
            Role::ResidualMatrix if row.name.starts_with(ENCODER) => normal(count, encoder_std, key),
            Role::ResidualMatrix => normal(count, residual_std, key),
            Role::Embedding | Role::Matrix | Role::HeadMatrix => normal(count, how.std, key),
            Role::RecurrentMatrix => normal(count, (3.0 * config.d_model as f64).sqrt().recip(), key),
        })
    });
    match drawn {
        Ok(model) => model,
        Err(never) => match never {},
    }
}

fn normal(count: usize, std: f64, key: u64) -> Vec<f32> {
    to_vec(taal_kernels::random::normal([count], std, key, &Device::flex()))
}

/// The values of a tensor on the host, in row-major order.
pub fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
