//! The seam to Burn's autodiff: an operation as one step of its graph, with a backward pass written by hand.
//!
//! An operation implements [`Fused`]: numbers in, numbers out, and gradients on request. [`apply`] makes a Burn backend
//! extension of it, tracked where one of its inputs is. The rest turns flex's tensors into slices and back.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor, Flex, GradientCheckpointingStrategy};
use burn::tensor::{DType, Int, Shape, Tensor, TensorData};
use half::bf16;

use crate::cpu::matmul::bf16::{rounded, widened};
use crate::precision::Precision;
use crate::profile;

/// A tensor of a backend, with or without a place in the graph.
pub(crate) type Tracked<B> = FloatTensor<Autodiff<B>>;

/// An operation of `N` inputs on one backend; inputs that an instance does not use are empty.
pub(crate) trait Fused<const N: usize, B: Backend = Flex>: Clone + Debug + Send + 'static {
    /// Its name, and that of its backward pass, in [`profile`].
    const NAMES: [&'static str; 2];

    /// What the backward pass needs.
    type Saved: Clone + Debug + Send + 'static;

    /// The result, and what is to be saved where `is_tracked`.
    fn forward(&self, inputs: [FloatTensor<B>; N], is_tracked: bool) -> (FloatTensor<B>, Option<Self::Saved>);

    /// The gradient of each input that is wanted, given the result's.
    fn backward(&self, saved: Self::Saved, gradient: FloatTensor<B>, wanted: [bool; N]) -> [Option<FloatTensor<B>>; N];
}

/// One step of autodiff's graph.
#[derive(Debug)]
struct Step<F>(std::marker::PhantomData<F>);

impl<const N: usize, B: Backend, F: Fused<N, B>> Backward<B, N> for Step<F> {
    type State = (F, F::Saved);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let (operation, saved) = ops.state;
        let gradient = grads.consume::<B>(&ops.node);
        let wanted = std::array::from_fn(|i| ops.parents[i].is_some());
        let gradients = profile::count(F::NAMES[1], || operation.backward(saved, gradient, wanted));
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// An input of [`apply`].
pub(crate) struct Input<B: Backend> {
    tensor: Tracked<B>,
    /// Gradient checkpointing where the tensor is on a device with autodiff: passed on to the result. What a fused
    /// operation saves is the same either way.
    autodiff: Option<GradientCheckpointingStrategy>,
}

impl<B: Backend> Input<B>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    /// A tensor on the backend.
    pub(crate) fn new<const D: usize>(x: Tensor<D>) -> Self {
        let autodiff = x.gradient_checkpointing_strategy();
        let tensor = if autodiff.is_some() {
            x.with_gradient_checkpointing_strategy(GradientCheckpointingStrategy::Disabled)
                .try_into_primitive::<Autodiff<B>>()
                .expect("the caller saw that the tensor is on this backend")
        } else {
            Tracked::<B>::new(
                x.try_into_primitive::<B>()
                    .expect("the caller saw that the tensor is on this backend"),
            )
        };
        Self { tensor, autodiff }
    }
}

impl Input<Flex> {
    /// An optional tensor.
    pub(crate) fn optional<const D: usize>(x: Option<Tensor<D>>) -> Self {
        x.map_or_else(Self::absent, Self::new)
    }

    /// An input that this instance does not use.
    pub(crate) fn absent() -> Self {
        Self {
            tensor: Tracked::<Flex>::new(FlexTensor::empty(Shape::new([0]), DType::F32)),
            autodiff: None,
        }
    }
}

/// Runs an operation, as a step of the graph where an input is tracked.
pub(crate) fn apply<const N: usize, const D: usize, B: Backend, F: Fused<N, B>>(
    operation: F,
    inputs: [Input<B>; N],
) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let autodiff = inputs.iter().find_map(|input| input.autodiff);
    let forward = |inputs, is_tracked| profile::count(F::NAMES[0], || operation.forward(inputs, is_tracked));
    let Some(checkpointing) = autodiff else {
        let primitives = inputs.map(|input| input.tensor.into_primitive());
        return Tensor::from_primitive::<B>(forward(primitives, false).0);
    };
    let primitives = std::array::from_fn(|i| inputs[i].tensor.primitive().clone());
    let guards = inputs.map(|input| input.tensor.into_parts().1);
    let prepared = Step::<F>(std::marker::PhantomData)
        .prepare::<NoCheckpointing>(guards)
        .compute_bound()
        .stateful();
    let result = match prepared {
        OpsKind::Tracked(step) => {
            let (result, saved) = forward(primitives, true);
            let saved = saved.expect("a tracked forward saves what its backward needs");
            step.finish((operation.clone(), saved), result)
        }
        OpsKind::UnTracked(step) => step.finish(forward(primitives, false).0),
    };
    Tensor::from_primitive::<Autodiff<B>>(result).with_gradient_checkpointing_strategy(checkpointing)
}

/// A tensor of flex without autodiff as what flex itself works with.
pub(crate) fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
    x.without_autodiff()
        .try_into_primitive::<Flex>()
        .expect("the caller saw that this is flex")
}

/// An integer tensor of flex.
pub(crate) fn int_primitive<const D: usize>(x: Tensor<D, Int>) -> FlexTensor {
    x.without_autodiff()
        .try_into_primitive::<Flex>()
        .expect("integers are on flex, as the other inputs")
}

/// Numbers that a backward pass needs: as they are, or rounded to bfloat16 where that is what [`Precision`] says, which takes
/// half the memory.
#[derive(Debug, Clone)]
pub(crate) enum Kept {
    Single(FlexTensor),
    Half(Arc<Vec<bf16>>, Shape),
}

impl Kept {
    /// In the precision of this thread.
    pub(crate) fn new(x: FlexTensor) -> Self {
        if Precision::current() != Precision::Bf16 || !is_present(&x) {
            return Self::Single(x);
        }
        let [x] = contiguous([x]);
        Self::Half(Arc::new(rounded(numbers(&x))), dims(&x))
    }

    /// A tensor in single precision.
    pub(crate) fn into_tensor(self) -> FlexTensor {
        match self {
            Self::Single(x) => x,
            Self::Half(x, shape) => tensor(widened(&x), shape),
        }
    }
}

/// The numbers of a contiguous tensor.
pub(crate) fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice::<f32>().expect("made contiguous and in single precision")
}

/// A tensor of these numbers.
pub(crate) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The dimensions of a tensor.
pub(crate) fn dims(x: &FlexTensor) -> Shape {
    x.layout().shape().clone()
}

/// Whether an optional input was given.
pub(crate) fn is_present(x: &FlexTensor) -> bool {
    x.layout().num_elements() > 0
}

/// The numbers of an optional input.
pub(crate) fn optional(x: &FlexTensor) -> Option<&[f32]> {
    is_present(x).then(|| numbers(x))
}

/// All inputs contiguous.
pub(crate) fn contiguous<const N: usize>(inputs: [FlexTensor; N]) -> [FlexTensor; N] {
    inputs.map(|input| {
        if input.is_contiguous() {
            input
        } else {
            input.to_contiguous()
        }
    })
}
