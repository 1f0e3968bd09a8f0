//! The table of a model's parameters: what each is called and what it is for; and reading, drawing and replacing them by it.
//!
//! A name, as `blocks.0.attention.qkv.weight`, is what optimizer state, gradients and files are keyed by. It is written where a layer lists
//! its parameters and does not follow from the names of fields, which are free to change.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::Dense;

use crate::config::{NormPlace, TransformerConfig};
use crate::norm::Norm;
use crate::transformer::Transformer;

/// One parameter: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// What files and optimizer states call it; it never changes.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// The widths of the matrices that lie beside each other in this one, such as those of queries, keys and values; one otherwise.
    pub parts: Vec<usize>,
}

/// What a parameter is for: it decides how it is drawn, which optimizer trains it and whether it decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// A table of vectors, of tokens or of positions.
    Embedding,
    /// A matrix of a block.
    Matrix,
    /// A matrix of a block whose product is added to the residual stream.
    ResidualMatrix,
    /// A matrix of an LSTM.
    RecurrentMatrix,
    /// A matrix of the head.
    HeadMatrix,
    /// The scale of a norm.
    NormWeight,
    /// What is added to a product or to a normed value.
    Bias,
    /// The bias that decides how much an LSTM remembers at first.
    ForgetBias,
}

impl Role {
    /// Whether weight decay acts on it: on matrices and tables, not on vectors, as in nanoGPT.
    pub fn is_decayed(self) -> bool {
        !matches!(self, Self::NormWeight | Self::Bias | Self::ForgetBias)
    }

    /// Whether it is a matrix between the embeddings and the head, which Muon may train.
    pub fn is_hidden_matrix(self) -> bool {
        matches!(self, Self::Matrix | Self::ResidualMatrix | Self::RecurrentMatrix)
    }
}

/// A row for every parameter of a model, in the order in which Burn walks it.
#[derive(Debug, Default)]
pub struct ParameterTable {
    rows: Vec<ParameterInfo>,
    by_id: HashMap<ParamId, usize>,
}

impl ParameterTable {
    /// The table of a model.
    pub fn of(model: &Transformer) -> Self {
        let mut table = Self::default();
        model.list(&mut table);
        table
    }

    /// All rows.
    pub fn rows(&self) -> &[ParameterInfo] {
        &self.rows
    }

    /// The row of a parameter.
    ///
    /// # Panics
    ///
    /// Where the parameter is not of the table's model.
    pub fn row(&self, id: ParamId) -> &ParameterInfo {
        &self.rows[self.by_id[&id]]
    }

    pub(crate) fn add<const D: usize>(&mut self, name: String, role: Role, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().to_vec();
        self.by_id.insert(param.id, self.rows.len());
        self.rows.push(ParameterInfo {
            name,
            parts: shape.last().copied().into_iter().collect(),
            shape,
            role,
        });
    }

    pub(crate) fn dense(&mut self, name: &str, role: Role, dense: &Dense) {
        self.add(format!("{name}.weight"), role, &dense.weight);
        if let Some(bias) = &dense.bias {
            self.add(format!("{name}.bias"), Role::Bias, bias);
        }
    }

    /// A matrix that is several beside each other.
    pub(crate) fn dense_of_parts(&mut self, name: &str, parts: Vec<usize>, dense: &Dense) {
        let row = self.rows.len();
        self.dense(name, Role::Matrix, dense);
        self.rows[row].parts = parts;
    }

    pub(crate) fn norm(&mut self, name: &str, norm: &Norm) {
        self.add(format!("{name}.weight"), Role::NormWeight, &norm.weight);
        if let Some(bias) = &norm.bias {
            self.add(format!("{name}.bias"), Role::Bias, bias);
        }
    }
}

/// How weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Initialization {
    /// Standard deviation of matrices and embeddings.
    pub std: f64,
    /// Standard deviation of the projections into the residual stream; `None` is nanoGPT's and GPT-2's
    /// `std / sqrt(2 * n_layers)`, and BERT's `std` where a norm follows each sum.
    pub residual_std: Option<f64>,
}

impl Default for Initialization {
    fn default() -> Self {
        Self {
            std: 0.02,
            residual_std: None,
        }
    }
}

/// The parameters of `model` in the order in which it is walked.
pub fn list(model: &Transformer) -> Vec<ParameterInfo> {
    ParameterTable::of(model).rows
}

/// Calls `see` with every parameter's name, shape and values, one at a time.
pub fn read(model: &Transformer, see: impl FnMut(&str, &[usize], Vec<f32>)) {
    let table = ParameterTable::of(model);
    model.visit(&mut Reader { table, see });
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

/// Replaces every parameter by what `give` returns for its name and shape; the first error stops
/// the replacing, and the model is dropped with it.
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

fn replace_by_row<E>(
    model: Transformer,
    give: impl FnMut(&ParameterInfo) -> Result<Vec<f32>, E>,
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

impl<E, F: FnMut(&ParameterInfo) -> Result<Vec<f32>, E>> ModuleMapper for Replacer<F, E> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let device = param.lazy_device();
        let row = self.table.row(param.id);
        match (self.give)(row) {
            Ok(values) => {
                // Built anew under the same identity: mapping would first draw a lazy parameter's old value.
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

/// Draws all weights: norms are one, biases zero, everything else normal. The matrices of an LSTM get the variance of PyTorch's, one third
/// of the width's inverse, and its forget gates a bias of one, so that it begins by remembering (Jozefowicz et al. 2015). Each draw is a function of
/// the seed and the parameter's name, so the order of fields, the device and threads do not matter.
pub(crate) fn draw(model: Transformer, config: &TransformerConfig, seed: u64, how: Initialization) -> Transformer {
    // A norm after the sum already keeps the residual stream from growing with depth.
    let usual = match config.norm_place {
        NormPlace::Pre => how.std / (2.0 * config.n_layers as f64).sqrt(),
        NormPlace::Post => how.std,
    };
    let residual_std = how.residual_std.unwrap_or(usual);
    let drawn = replace_by_row(model, |row| -> Result<Vec<f32>, std::convert::Infallible> {
        let count = row.shape.iter().product();
        let key = taal_kernels::random::key(seed, 0, &row.name);
        Ok(match row.role {
            Role::NormWeight | Role::ForgetBias => vec![1.0; count],
            Role::Bias => vec![0.0; count],
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
