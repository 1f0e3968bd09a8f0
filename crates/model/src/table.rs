//! The table of a model's parameters: names and roles.
//!
//! Optimizer state, gradients and files are keyed by names such as `blocks.0.attention.qkv.weight`. They are written where a
//! layer lists its parameters, so fields may be renamed.

use std::collections::HashMap;

use burn::module::{Param, ParamId};
use burn::tensor::Tensor;
use taal_kernels::Dense;

/// One parameter: a row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// The name in files and optimizer states; it never changes.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Its role.
    pub role: Role,
    /// The widths of the matrices concatenated in this one, such as queries, keys and values; otherwise a single width.
    pub parts: Vec<usize>,
}

/// The role of a parameter: decides its initialization, its optimizer and whether it decays.
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
    /// The bias of a product or a norm.
    Bias,
    /// The bias of an LSTM's forget gate.
    ForgetBias,
    /// One of the two thin matrices that an adapter adds to a linear layer.
    LowRank,
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

/// A row for every parameter of a model, in Burn's visiting order.
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
    /// Where the parameter belongs to another model.
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
        if let Some(adapter) = &dense.adapter {
            self.add(format!("{name}.lora_a"), Role::LowRank, &adapter.a);
            self.add(format!("{name}.lora_b"), Role::LowRank, &adapter.b);
        }
    }

    /// Several matrices concatenated in one.
    pub(crate) fn dense_of_parts(&mut self, name: &str, parts: Vec<usize>, dense: &Dense) {
        let row = self.rows.len();
        self.dense(name, Role::Matrix, dense);
        self.rows[row].parts = parts;
    }
}
