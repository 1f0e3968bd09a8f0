//! Linear layers with a low-rank part (LoRA, Hu et al. 2022): `x W + scale (x A) B`, without forming `A B`.

mod autodiff;
pub(crate) mod reference;

use std::cell::RefCell;
use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::backend::Backend;
use crate::dropout::dropout;
use crate::param::{constant_param, normal_param};
use crate::{precision, random};

/// What fine-tuning learns next to a frozen weight: two thin matrices, or one pair for each of several ranges of outputs, such as queries,
/// keys and values.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[d_input, n_parts * rank]`: the columns of each part after those of the one before.
    pub a: Param<Tensor<2>>,
    /// `[rank, width]`, `width` being that of all parts: the columns of each part after those of the one before.
    pub b: Param<Tensor<2>>,
    #[module(skip)]
    config: LowRankConfig,
}

/// The sizes and constants of a [`LowRank`].
#[derive(Debug, Clone, PartialEq)]
pub struct LowRankConfig {
    /// Columns of A and rows of B in each part.
    pub rank: usize,
    /// What the product is multiplied by: `alpha / rank`, or `alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023).
    pub scale: f64,
    /// The outputs of each part, in order and without overlap.
    pub parts: Vec<Range<usize>>,
    /// Probability of dropout on the input of A, in training.
    pub dropout: f64,
    /// Distinguishes the dropout of this layer from that of others.
    pub site: u64,
}

impl LowRankConfig {
    /// A fresh pair: A normal with the variance of PEFT's uniform draw, `1 / (3 d_input)`, a function of `key`; B zero, so that the layer
    /// computes what it did before.
    pub fn init(self, d_input: usize, key: u64, device: &Device) -> LowRank {
        let std = (3.0 * d_input as f64).sqrt().recip();
        LowRank {
            a: normal_param([d_input, self.parts.len() * self.rank], std, key, device),
            b: constant_param([self.rank, self.width()], 0.0, device),
            config: self,
        }
    }

    /// A pair with these values of A and of B.
    ///
    /// # Panics
    ///
    /// Where they are not as many as the sizes say.
    pub fn with_values(self, d_input: usize, [a, b]: [Vec<f32>; 2], device: &Device) -> LowRank {
        let of_a = [d_input, self.parts.len() * self.rank];
        let of_b = [self.rank, self.width()];
        let param =
            |values, shape: [usize; 2]| Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device));
        LowRank {
            a: param(a, of_a),
            b: param(b, of_b),
            config: self,
        }
    }

    /// Outputs of all parts.
    pub fn width(&self) -> usize {
        self.parts.iter().map(Range::len).sum()
    }

    /// Of each part: its columns of A, its columns of B, and its outputs.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>, Range<usize>)> {
        let mut width = 0;
        self.parts.iter().enumerate().map(move |(index, outputs)| {
            let of_b = width..width + outputs.len();
            width = of_b.end;
            (index * self.rank..(index + 1) * self.rank, of_b, outputs.clone())
        })
    }
}

/// The matrices of a [`LowRank`] as tensors.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) a: Tensor<2>,
    pub(crate) b: Tensor<2>,
    pub(crate) config: LowRankConfig,
}

thread_local! {
    static CHOSEN: RefCell<Option<Vec<Option<usize>>>> = const { RefCell::new(None) };
}

/// Runs `work`, a forward pass, in which each row of the batch has the adapter of its number among those of
/// [`Dense::add_choice`](crate::Dense::add_choice), or none. Afterwards, also after a panic, it is what it was before.
pub fn with_adapters_of_rows<R>(rows: Vec<Option<usize>>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Vec<Option<usize>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.replace(self.0.take());
        }
    }
    let _restore = Restore(CHOSEN.replace(Some(rows)));
    work()
}

/// `y` with what the adapter of each row adds to it; rows that have the same one and are neighbors are computed together.
pub(crate) fn add_chosen<const D: usize>(y: Tensor<D>, x: Tensor<D>, choices: &[Option<LowRank>]) -> Tensor<D> {
    let Some(rows) = CHOSEN.with_borrow(Clone::clone) else {
        return y;
    };
    assert_eq!(
        rows.len(),
        y.dims()[0],
        "an adapter, or none, for every row of the batch"
    );
    if rows.iter().all(Option::is_none) {
        return y;
    }
    let mut parts = Vec::new();
    let mut start = 0;
    for run in rows.chunk_by(|one, other| one == other) {
        let part = y.clone().narrow(0, start, run.len());
        let adapter = run[0].and_then(|chosen| choices[chosen].as_ref());
        parts.push(match adapter {
            Some(adapter) => adapter.add_to(part, x.clone().narrow(0, start, run.len())),
            None => part,
        });
        start += run.len();
    }
    Tensor::cat(parts, 0)
}

thread_local! {
    static DROPOUT_KEY: RefCell<Option<u64>> = const { RefCell::new(None) };
}

/// Runs `work` with dropout on the inputs of low-rank parts, whose masks are functions of the key; without a key there is none.
/// Afterwards, also after a panic, it is what it was before.
pub fn with_low_rank_dropout<R>(key: Option<u64>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<u64>);
    impl Drop for Restore {
        fn drop(&mut self) {
            DROPOUT_KEY.replace(self.0);
        }
    }
    let _restore = Restore(DROPOUT_KEY.replace(key));
    work()
}

impl LowRank {
    /// Its sizes and constants.
    pub fn config(&self) -> &LowRankConfig {
        &self.config
    }

    /// `scale A B` of every part at its outputs, zero elsewhere: what a merged weight has in addition.
    ///
    /// # Shapes
    ///
    /// - result: `[d_input, d_output]`
    pub fn product(&self, d_output: usize) -> Tensor<2> {
        let (a, b) = (self.a.val().without_autodiff(), self.b.val().without_autodiff());
        let [d_input, _] = a.dims();
        let mut sum = Tensor::zeros([d_input, d_output], &a.device());
        for (of_a, of_b, outputs) in self.config.places() {
            let a = a.clone().narrow(1, of_a.start, of_a.len());
            let b = b.clone().narrow(1, of_b.start, of_b.len());
            let product = a.matmul(b).mul_scalar(self.config.scale);
            sum = sum.slice_assign([0..d_input, outputs], product);
        }
        sum
    }

    fn pair(&self) -> Pair {
        Pair {
            a: self.a.val(),
            b: self.b.val(),
            config: self.config.clone(),
        }
    }

    /// The input of A, where dropout makes it another than the layer's.
    fn dropped<const D: usize>(&self, x: &Tensor<D>) -> Option<Tensor<D>> {
        let key = DROPOUT_KEY.with_borrow(|key| *key)?;
        let probability = self.config.dropout;
        (probability > 0.0).then(|| dropout(x.clone(), probability, random::key(key, self.config.site, "lora")))
    }

    /// `x W + bias + residual` with this in addition.
    pub(crate) fn linear<const D: usize>(
        &self,
        x: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
        residual: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let input = self.dropped(&x);
        let is_half = precision::half_of(&x).is_some();
        match Backend::of(&x) {
            Backend::Flex if !is_half => autodiff::linear(x, weight, bias, residual, input, self.pair()),
            Backend::Flex => reference::linear(x, weight, bias, residual, input, self.pair()),
            #[cfg(feature = "cubecl")]
            Backend::Gpu => reference::linear(x, weight, bias, residual, input, self.pair()),
            Backend::Other => reference::linear(x, weight, bias, residual, input, self.pair()),
        }
    }

    /// What it adds to `y`, the result of the layer for `x` without it.
    pub(crate) fn add_to<const D: usize>(&self, y: Tensor<D>, x: Tensor<D>) -> Tensor<D> {
        let input = self.dropped(&x).unwrap_or(x);
        reference::add(y, input, self.pair())
    }
}
