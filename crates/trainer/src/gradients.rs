//! Gradients of a whole model: summed over micro-steps, measured and scaled together.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use taal_model::{ParameterInfo, ParameterTable, Transformer};

/// Adds `more` to `sum`, parameter by parameter.
pub(crate) fn add(model: &Transformer, sum: GradientsParams, more: GradientsParams) -> GradientsParams {
    if sum.is_empty() {
        return more;
    }
    let mut adder = Adder { sum, more };
    model.visit(&mut adder);
    adder.sum
}

struct Adder {
    sum: GradientsParams,
    more: GradientsParams,
}

impl ModuleVisitor for Adder {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let total = match (self.sum.remove::<D>(param.id), self.more.remove::<D>(param.id)) {
            (Some(sum), Some(more)) => sum + more,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return,
        };
        self.sum.register(param.id, total);
    }
}

/// The Euclidean norm of all gradients together, summed in double precision in a fixed order.
fn global_norm(model: &Transformer, gradients: &GradientsParams) -> f64 {
    let mut visitor = SquareSum { gradients, total: 0.0 };
    model.visit(&mut visitor);
    visitor.total.sqrt()
}

/// The losses weighted by their shares, summed, and [`global_norm`]. On a GPU both are read back together, because each
/// read-back synchronizes.
///
/// # Shapes
///
/// - `losses`: `[1]` each
pub(crate) fn loss_and_norm(
    model: &Transformer,
    gradients: &GradientsParams,
    losses: Vec<(f64, Tensor<1>)>,
) -> (f64, f64) {
    if !taal_kernels::is_gpu(&model.device()) {
        let loss = losses
            .into_iter()
            .map(|(share, loss)| share * f64::from(loss.into_scalar::<f32>()))
            .sum();
        return (loss, global_norm(model, gradients));
    }
    let (shares, losses): (Vec<f64>, Vec<Tensor<1>>) = losses.into_iter().unzip();
    let mut visitor = SquareSumsOnDevice {
        gradients,
        sums: losses,
    };
    model.visit(&mut visitor);
    let numbers: Vec<f64> = Tensor::cat(visitor.sums, 0).into_data().iter::<f64>().collect();
    let (losses, squares) = numbers.split_at(shares.len());
    let loss = shares.iter().zip(losses).map(|(share, loss)| share * loss).sum();
    (loss, squares.iter().sum::<f64>().sqrt())
}

struct SquareSumsOnDevice<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SquareSumsOnDevice<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push(taal_kernels::sum_of_squares_on_device(gradient));
        }
    }
}

struct SquareSum<'a> {
    gradients: &'a GradientsParams,
    total: f64,
}

impl ModuleVisitor for SquareSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.total += taal_kernels::sum_of_squares(gradient);
        }
    }
}

/// Multiplies every value of the first gradient by `factor`.
pub(crate) fn scale_first(model: &Transformer, gradients: &mut GradientsParams, factor: f32) {
    model.visit(&mut FirstGradient {
        gradients,
        factor: Some(factor),
    });
}

struct FirstGradient<'a> {
    gradients: &'a mut GradientsParams,
    factor: Option<f32>,
}

impl ModuleVisitor for FirstGradient<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.factor.is_some()
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            let factor = self.factor.take().unwrap_or(1.0);
            self.gradients.register(param.id, gradient.mul_scalar(factor));
        }
    }
}

/// What gradients are multiplied by so that their global norm is at most `max_norm`: PyTorch's
/// `clip_grad_norm_`, its 1e-6 included.
pub(crate) fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    match max_norm {
        Some(max_norm) => (max_norm / (norm + 1e-6)).min(1.0),
        None => 1.0,
    }
}

/// Reads every gradient with its parameter's name, for tests and for debugging.
pub(crate) fn read(model: &Transformer, gradients: &GradientsParams, see: impl FnMut(&str, &[usize], Vec<f32>)) {
    model.visit(&mut Reader {
        table: ParameterTable::of(model),
        gradients,
        see,
    });
}

struct Reader<'a, F> {
    table: ParameterTable,
    gradients: &'a GradientsParams,
    see: F,
}

impl<F: FnMut(&str, &[usize], Vec<f32>)> ModuleVisitor for Reader<'_, F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let shape = gradient.dims();
            (self.see)(
                &self.table.row(param.id).name,
                &shape,
                taal_model::parameters::to_vec(gradient),
            );
        }
    }
}

/// The values and gradients of the matrices between embeddings and head, without autodiff.
pub(crate) fn hidden_matrices(
    model: &Transformer,
    gradients: &GradientsParams,
) -> Vec<(ParameterInfo, Tensor<2>, Tensor<2>)> {
    let mut collector = MatrixCollector {
        table: ParameterTable::of(model),
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut collector);
    collector.found
}

struct MatrixCollector<'a> {
    table: ParameterTable,
    gradients: &'a GradientsParams,
    found: Vec<(ParameterInfo, Tensor<2>, Tensor<2>)>,
}

impl ModuleVisitor for MatrixCollector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let row = self.table.row(param.id);
        if !row.role.is_hidden_matrix() {
            return;
        }
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let shape = gradient.dims();
            let matrix = |x: Tensor<D>| -> Tensor<2> { x.reshape([shape[0], shape[1]]) };
            self.found.push((
                row.clone(),
                matrix(param.val().inner()),
                matrix(gradient.without_autodiff()),
            ));
        }
    }
}

/// Replaces each parameter by what `update` returns for it and its gradient.
pub(crate) fn update(model: Transformer, gradients: GradientsParams, update: &mut impl ParameterUpdate) -> Transformer {
    let table = ParameterTable::of(&model);
    model.map(&mut Updater {
        table,
        gradients,
        update,
    })
}

/// One parameter's change; generic over its rank because Burn's tensors are.
pub(crate) trait ParameterUpdate {
    /// The new value. Neither it nor `value` has autodiff.
    fn update<const D: usize>(&mut self, parameter: &ParameterInfo, value: Tensor<D>, gradient: Tensor<D>)
    -> Tensor<D>;
}

struct Updater<'a, U> {
    table: ParameterTable,
    gradients: GradientsParams,
    update: &'a mut U,
}

impl<U: ParameterUpdate> ModuleMapper for Updater<'_, U> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let row = self.table.row(param.id);
        let update = &mut *self.update;
        param.map(|value| {
            let is_trained = value.is_require_grad();
            Tensor::from_inner(update.update(row, value.inner(), gradient.inner())).set_require_grad(is_trained)
        })
    }
}
