//! Parameters by name: visiting, drawing, reading out and replacing them.
//!
//! A name is the path of fields from the model down, `blocks.0.attention.qkv.weight`. It is what
//! optimizer state, gradients and files are keyed by, so renaming a field is a change of format.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{NormPlace, TransformerConfig};
use crate::transformer::Transformer;

/// The name and shape of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Path of fields from the model down.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// Keeps the path while a module is walked; shared by every visitor and mapper that needs names.
#[derive(Debug, Default)]
pub struct ParameterPath(Vec<String>);

impl ParameterPath {
    /// Call from `enter_module`.
    pub fn enter(&mut self, name: &str) {
        self.0.push(name.to_string());
    }

    /// Call from `exit_module`.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// The dotted name of the parameter that is visited now.
    pub fn name(&self) -> String {
        self.0.join(".")
    }
}

/// How weights are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Initialisation {
    /// Standard deviation of matrices and embeddings.
    pub std: f64,
    /// Standard deviation of the projections into the residual stream; `None` is nanoGPT's and GPT-2's
    /// `std / sqrt(2 * n_layers)`, and BERT's `std` where a norm follows each sum.
    pub residual_std: Option<f64>,
}

impl Default for Initialisation {
    fn default() -> Self {
        Self {
            std: 0.02,
            residual_std: None,
        }
    }
}

/// The parameters of `model` in the order in which it is walked.
pub fn list(model: &Transformer) -> Vec<ParameterInfo> {
    let mut lister = Lister::default();
    model.visit(&mut lister);
    lister.found
}

#[derive(Default)]
struct Lister {
    path: ParameterPath,
    found: Vec<ParameterInfo>,
}

impl ModuleVisitor for Lister {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(ParameterInfo {
            name: self.path.name(),
            shape: param.lazy_shape().to_vec(),
        });
    }
}

/// Calls `see` with every parameter's name, shape and values, one at a time.
pub fn read(model: &Transformer, see: impl FnMut(&str, &[usize], Vec<f32>)) {
    model.visit(&mut Reader {
        path: ParameterPath::default(),
        see,
    });
}

struct Reader<F> {
    path: ParameterPath,
    see: F,
}

impl<F: FnMut(&str, &[usize], Vec<f32>)> ModuleVisitor for Reader<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val();
        let shape = values.dims();
        (self.see)(&self.path.name(), &shape, to_vec(values));
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
    give: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
) -> Result<Transformer, E> {
    let mut replacer = Replacer {
        path: ParameterPath::default(),
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
    path: ParameterPath,
    give: F,
    error: Option<E>,
}

impl<E, F: FnMut(&str, &[usize]) -> Result<Vec<f32>, E>> ModuleMapper for Replacer<F, E> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let device = param.lazy_device();
        let shape = param.lazy_shape().to_vec();
        match (self.give)(&self.path.name(), &shape) {
            Ok(values) => {
                // Built anew under the same identity: mapping would first draw a lazy parameter's old value.
                let value = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
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
pub(crate) fn draw(model: Transformer, config: &TransformerConfig, seed: u64, how: Initialisation) -> Transformer {
    // A norm after the sum already keeps the residual stream from growing with depth.
    let usual = match config.norm_place {
        NormPlace::Pre => how.std / (2.0 * config.n_layers as f64).sqrt(),
        NormPlace::Post => how.std,
    };
    let residual_std = how.residual_std.unwrap_or(usual);
    let drawn = replace(model, |name, shape| -> Result<Vec<f32>, std::convert::Infallible> {
        let count = shape.iter().product();
        let key = taal_kernels::random::key(seed, 0, name);
        Ok(match Role::of(name) {
            Role::NormWeight => vec![1.0; count],
            Role::Bias => vec![0.0; count],
            Role::Residual => normal(count, residual_std, key),
            Role::Matrix => normal(count, how.std, key),
            Role::Gate => normal(count, (3.0 * config.d_model as f64).sqrt().recip(), key),
            Role::ForgetBias => vec![1.0; count],
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

/// What a parameter is for, told by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    NormWeight,
    Bias,
    /// A projection into the residual stream.
    Residual,
    Matrix,
    /// A matrix of an LSTM.
    Gate,
    /// The bias that decides how much an LSTM remembers at first.
    ForgetBias,
}

impl Role {
    fn of(name: &str) -> Self {
        if name.ends_with("forget_gate.input_transform.bias") {
            Self::ForgetBias
        } else if name.starts_with("recurrent.") && name.ends_with("weight") {
            Self::Gate
        } else if name.ends_with("bias") {
            Self::Bias
        } else if name.ends_with("norm.weight") || name.ends_with("q_norm") || name.ends_with("k_norm") {
            Self::NormWeight
        } else if name.ends_with("attention.output.weight") || name.ends_with("feed_forward.down.weight") {
            Self::Residual
        } else {
            Self::Matrix
        }
    }
}
