//! The table of a model's parameters: what each is called and what it is for.
//!
//! A name, as `blocks.0.attention.qkv.weight`, is what optimizer state, gradients and files are keyed by. It is written where a layer lists
//! its parameters and does not follow from the names of fields, which are free to change.

use std::collections::HashMap;

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;
use taal_kernels::Dense;

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
    /// All rows.
    pub fn rows(&self) -> &[ParameterInfo] {
        &self.rows
    }

    pub(crate) fn into_rows(self) -> Vec<ParameterInfo> {
        self.rows
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
}
