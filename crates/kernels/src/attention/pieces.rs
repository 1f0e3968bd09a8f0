//! Attention whose backward pass computes the weights again, so that none are kept from the forward pass: memory
//! between the two grows linearly with the length (the idea of FlashAttention, Dao et al., 2022, without its tiles).

use std::marker::PhantomData;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, DispatchKindConversion, DispatchTensor};
use burn::tensor::Tensor;

use super::{AttentionMask, AttentionSettings};
use crate::autodiff::{Fused, Input, apply};
use crate::pieces::{join, pieces, primitive, tensor};
use crate::random;

/// What comes between the matrix products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    /// Weights from scores, whose factor is the last argument; the sequences begin at a number.
    pub(crate) weights: fn(Tensor<4>, &AttentionMask, usize, f64) -> Tensor<4>,
    /// The gradient of scores, from weights and their gradient, context and its gradient, and the factor.
    pub(crate) slopes: fn(Tensor<4>, Tensor<4>, Tensor<4>, Tensor<4>, f64) -> Tensor<4>,
}

#[cfg(test)]
impl Between {
    /// Composed of Burn's operations.
    pub(crate) const COMPOSED: Self = Self {
        weights: |scores, mask, start, scale| {
            let sequences = scores.dims()[0];
            let scores = scores.mul_scalar(scale);
            let scores = match mask.additive() {
                Some(additive) => scores + of_sequences(additive, start, sequences),
                None => scores,
            };
            let (numerator, sum) = crate::masked_exp(scores);
            numerator * sum.recip()
        },
        slopes: |weights, dweights, context, dcontext, scale| {
            let delta = (dcontext * context).sum_dim(3); // [batch, n_heads, q_len, 1]
            (weights * (dweights - delta)).mul_scalar(scale)
        },
    };
}

/// The numbers that a mask adds to the scores of some sequences.
pub(crate) fn of_sequences(additive: &Tensor<4>, start: usize, len: usize) -> Tensor<4> {
    let additive = additive.clone().without_autodiff();
    match additive.dims()[0] {
        1 => additive,
        _ => additive.narrow(0, start, len),
    }
}

#[derive(Debug, Clone)]
struct Attention<B> {
    mask: AttentionMask,
    settings: AttentionSettings,
    between: Between,
    /// How many sequences are worked on at a time.
    sequences: usize,
    backend: PhantomData<B>,
}

impl<B: Backend> Attention<B> {
    /// The weights of some sequences, the factor of their scores, and what a capped score changes where the score does.
    fn weights(&self, [q, k]: [Tensor<4>; 2], start: usize) -> (Tensor<4>, f64, Option<Tensor<4>>) {
        let [batch, n_heads, q_len, head_dim] = q.dims();
        let [_, n_kv_heads, kv_len, _] = k.dims();
        let scale = self.settings.scale_for(head_dim);
        // The queries of one key head are stacked, so that no key is copied for a second query head.
        let group_len = n_heads / n_kv_heads * q_len;
        let q = q.reshape([batch, n_kv_heads, group_len, head_dim]);
        let scores = q.matmul(k.swap_dims(2, 3)).reshape([batch, n_heads, q_len, kv_len]);
        let (scores, scale, cap_slope) = match self.settings.softcap {
            Some(cap) => {
                let bent = scores.mul_scalar(scale / cap).tanh();
                let slope = (bent.clone() * bent.clone()).neg().add_scalar(1.0).mul_scalar(scale);
                (bent.mul_scalar(cap), 1.0, Some(slope))
            }
            None => (scores, scale, None),
        };
        (
            (self.between.weights)(scores, &self.mask, start, scale),
            scale,
            cap_slope,
        )
    }

    /// Dropout on weights that begin at a sequence: elements are counted over all sequences, and drawn in pairs.
    fn with_dropout(&self, x: Tensor<4>, start: usize) -> Tensor<4> {
        let Some((probability, key)) = self.settings.dropout else {
            return x;
        };
        let [_, n_heads, q_len, kv_len] = x.dims();
        let before = start as u64 * (n_heads * q_len * kv_len) as u64;
        debug_assert!(before.is_multiple_of(2), "a piece begins with a pair");
        crate::dropout(x, probability, random::key_from(key, before / 2))
    }

    /// The context of some sequences.
    fn context(&self, [q, k, v]: [Tensor<4>; 3], start: usize) -> Tensor<4> {
        let [batch, n_heads, q_len, _] = q.dims();
        let [_, n_kv_heads, kv_len, value_dim] = v.dims();
        let (weights, _, _) = self.weights([q, k], start);
        self.with_dropout(weights, start)
            .reshape([batch, n_kv_heads, n_heads / n_kv_heads * q_len, kv_len])
            .matmul(v)
            .reshape([batch, n_heads, q_len, value_dim])
    }

    /// The gradients of queries, keys and values of some sequences.
    fn slopes(
        &self,
        [q, k, v]: [Tensor<4>; 3],
        context: Tensor<4>,
        dcontext: Tensor<4>,
        start: usize,
    ) -> [Tensor<4>; 3] {
        let [batch, n_heads, q_len, head_dim] = q.dims();
        let [_, n_kv_heads, kv_len, value_dim] = v.dims();
        let group_len = n_heads / n_kv_heads * q_len;
        let of_groups = |x: Tensor<4>, width: usize| x.reshape([batch, n_kv_heads, group_len, width]);

        let (weights, scale, cap_slope) = self.weights([q.clone(), k.clone()], start);
        let grouped = of_groups(dcontext.clone(), value_dim);
        let dropped = of_groups(self.with_dropout(weights.clone(), start), kv_len);
        let dv = dropped.swap_dims(2, 3).matmul(grouped.clone());
        let dweights = grouped
            .matmul(v.swap_dims(2, 3))
            .reshape([batch, n_heads, q_len, kv_len]);
        let dweights = self.with_dropout(dweights, start);
        let dscores = (self.between.slopes)(weights, dweights, context, dcontext, scale);
        let dscores = match cap_slope {
            Some(slope) => dscores * slope,
            None => dscores,
        };
        let dscores = of_groups(dscores, kv_len);
        let dk = dscores.clone().swap_dims(2, 3).matmul(of_groups(q, head_dim));
        let dq = dscores.matmul(k);
        [dq.reshape([batch, n_heads, q_len, head_dim]), dk, dv]
    }
}

fn part(x: &Tensor<4>, start: usize, len: usize) -> Tensor<4> {
    x.clone().narrow(0, start, len)
}

impl<B: Backend> Fused<3, B> for Attention<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    const NAMES: [&'static str; 2] = ["attention", "attention backward"];

    /// Queries, keys, values and the result.
    type Saved = [FloatTensor<B>; 4];

    fn forward(&self, inputs: [FloatTensor<B>; 3], is_tracked: bool) -> (FloatTensor<B>, Option<[FloatTensor<B>; 4]>) {
        let inputs = inputs.map(|x| tensor::<4, B>(x));
        let batch = inputs[0].dims()[0];
        let parts = pieces(batch, self.sequences)
            .map(|(start, len)| {
                let inputs = inputs.each_ref().map(|x| part(x, start, len));
                self.context(inputs, start)
            })
            .collect();
        let context = primitive::<4, B>(join(parts));
        let saved = is_tracked.then(|| {
            let [q, k, v] = inputs.map(|x| primitive::<4, B>(x));
            [q, k, v, context.clone()]
        });
        (context, saved)
    }

    fn backward(
        &self,
        saved: [FloatTensor<B>; 4],
        gradient: FloatTensor<B>,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let [q, k, v, context] = saved.map(|x| tensor::<4, B>(x));
        let gradient = tensor::<4, B>(gradient);
        let mut slopes: [Vec<Tensor<4>>; 3] = Default::default();
        for (start, len) in pieces(q.dims()[0], self.sequences) {
            let inputs = [&q, &k, &v].map(|x| part(x, start, len));
            let [context, gradient] = [&context, &gradient].map(|x| part(x, start, len));
            let found = self.slopes(inputs, context, gradient, start);
            slopes
                .iter_mut()
                .zip(found)
                .for_each(|(slopes, found)| slopes.push(found));
        }
        let mut wanted = wanted.into_iter();
        slopes.map(|parts| {
            let is_wanted = wanted.next().unwrap_or(false);
            is_wanted.then(|| primitive::<4, B>(join(parts)))
        })
    }
}

/// [`attention`](crate::attention) with a mask that has no gradient, of so many sequences at a time that their scores are at most
/// `max_numbers` where that is possible.
pub(crate) fn attend<B: Backend>(
    inputs: [Tensor<4>; 3],
    mask: &AttentionMask,
    settings: &AttentionSettings,
    between: Between,
    max_numbers: usize,
) -> Tensor<4>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B>>,
{
    let [_, n_heads, q_len, _] = inputs[0].dims();
    let scores = n_heads * q_len * inputs[1].dims()[2];
    let sequences = (max_numbers / scores.max(1)).max(1);
    let operation = Attention::<B> {
        mask: mask.clone(),
        settings: *settings,
        between,
        // An even number, so that dropout's pairs of elements stay together.
        sequences: if settings.dropout.is_some() {
            sequences.next_multiple_of(2)
        } else {
            sequences
        },
        backend: PhantomData,
    };
    apply(operation, inputs.map(Input::<B>::new))
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::{Bool, Device, TensorData};

    use super::*;
    use crate::reference;

    /// Result and gradients of queries, keys and values.
    fn run(shape: [usize; 6], function: impl Fn([Tensor<4>; 3], &Device) -> Tensor<4>) -> [Vec<f32>; 4] {
        let [batch, n_heads, n_kv_heads, q_len, kv_len, head_dim] = shape;
        let device = Device::flex().autodiff();
        let make = |heads, len, key| random::normal([batch, heads, len, head_dim], 1.0, key, &device).require_grad();
        let inputs = [
            make(n_heads, q_len, 1),
            make(n_kv_heads, kv_len, 2),
            make(n_kv_heads, kv_len, 3),
        ];
        let context = function(inputs.clone(), &device);
        let slope = random::normal(context.dims(), 1.0, 4, &device);
        let gradients = (context.clone() * slope).sum().backward();
        let numbers = |x: Tensor<4>| x.into_data().iter::<f32>().collect::<Vec<_>>();
        let [q, k, v] = inputs.map(|x| numbers(x.grad(&gradients).unwrap()));
        [numbers(context), q, k, v]
    }

    /// So many sequences at a time.
    fn compare(
        shape: [usize; 6],
        sequences: usize,
        settings: &AttentionSettings,
        mask: impl Fn(&Device) -> AttentionMask,
    ) {
        let [_, n_heads, _, q_len, kv_len, _] = shape;
        let max_numbers = sequences * n_heads * q_len * kv_len;
        let found = run(shape, |inputs, device| {
            let mask = mask(&device.clone().inner());
            attend::<Flex>(inputs, &mask, settings, Between::COMPOSED, max_numbers)
        });
        let expected = run(shape, |[q, k, v], device| {
            reference::attention(q, k, v, &mask(&device.clone().inner()), settings).0
        });
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
            }
        }
    }

    #[test]
    fn weights_computed_again_give_the_gradients_of_those_kept() {
        let settings = AttentionSettings::default();
        let capped = AttentionSettings {
            scale: Some(0.3),
            softcap: Some(2.0),
            dropout: Some((0.3, 9)),
        };
        compare([3, 4, 2, 5, 5, 6], 2, &settings, |device| {
            AttentionMask::new(5, 5, true, None, device)
        });
        compare([2, 2, 2, 3, 7, 4], 1, &settings, |device| {
            AttentionMask::new(3, 7, true, Some(2), device)
        });
        // With an odd number of weights per sequence, each alone would begin in the middle of a pair that dropout draws.
        for sequences in [1, 2, 5] {
            compare([5, 3, 1, 5, 5, 6], sequences, &capped, |device| {
                AttentionMask::new(5, 5, true, None, device)
            });
        }
    }

    #[test]
    fn each_piece_of_a_batch_has_its_own_padding() {
        let settings = AttentionSettings::default();
        compare([3, 2, 2, 4, 4, 4], 2, &settings, |device| {
            let is_padding = vec![
                false, false, true, true, true, true, true, true, false, true, false, false,
            ];
            let padding = Tensor::<2, Bool>::from_data(TensorData::new(is_padding, [3, 4]), device);
            AttentionMask::new(4, 4, false, None, device).with_padding(padding)
        });
    }
}
