//! Attention of queries, keys and values, and of projected tokens with QK-norm and rotary positions worked in.

use burn::backend::flex::FlexTensor;
use burn::tensor::{Shape as Dims, Tensor};

use super::cpu::{self, Attended, Bias, Gradients, Heads, Inputs, Preparation, Settings, Shape, View};
use super::{AttentionMask, AttentionSettings, Projection};
use crate::autodiff::{Fused, Input, Kept, apply, contiguous, dims, is_present, numbers, primitive, tensor};
use crate::cpu::uninitialized;
use crate::precision::Precision;
use crate::segments::KeyRanges;

/// With at most this many queries and no gradient, keys and values are read in place instead of packed: a step of decoding, also of the
/// candidates of a beam search, which are queries of one row where they attend to their source. Bits do not depend on it.
const FEW_QUERIES: usize = 16;

/// The same in bfloat16, where more queries are multiplied in that precision and fewer are not.
const FEW_QUERIES_BF16: usize = 4;

/// With at most how many queries keys and values are read in place, in the precision of this thread.
pub(super) fn few_queries() -> usize {
    match Precision::current() {
        Precision::Bf16 => FEW_QUERIES_BF16,
        Precision::Fp32 | Precision::F16 => FEW_QUERIES,
    }
}

/// What does not change between forward and backward.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) settings: Settings,
    /// Numbers to add to the scores, `[batch or 1, n_heads or 1, q_len or 1, kv_len]`.
    bias: Option<FlexTensor>,
    ranges: Option<KeyRanges>,
    /// Whether products are in bfloat16.
    is_half: bool,
}

/// The context, which products in bfloat16 do not need, and the logarithms of sums.
#[derive(Debug, Clone)]
struct SavedContext {
    context: Option<FlexTensor>,
    log_sums: FlexTensor,
}

impl Common {
    pub(super) fn new(mask: &AttentionMask, settings: &AttentionSettings, head_dim: usize) -> Self {
        Self {
            settings: Settings {
                scale: settings.scale_for(head_dim) as f32,
                is_causal: mask.is_causal(),
                window: mask.window(),
                softcap: settings.softcap.map(|cap| cap as f32),
                dropout: settings.dropout.filter(|(probability, _)| *probability > 0.0),
            },
            bias: mask.bias().map(|bias| {
                let [bias] = contiguous([primitive(bias.clone())]);
                bias
            }),
            ranges: mask.ranges().cloned(),
            is_half: Precision::current() == Precision::Bf16,
        }
    }

    fn forward(&self, inputs: &Inputs<'_>) -> Attended {
        match self.is_half {
            true => cpu::bf16::forward(inputs),
            false => cpu::forward(inputs),
        }
    }

    fn backward(
        &self,
        inputs: &Inputs<'_>,
        saved: &SavedContext,
        dcontext: &[f32],
        gradients: Gradients<'_>,
    ) -> (Vec<f32>, Vec<f32>) {
        let log_sums = numbers(&saved.log_sums);
        match &saved.context {
            Some(context) => cpu::backward(inputs, (numbers(context), log_sums), dcontext, gradients),
            None => cpu::bf16::backward(inputs, log_sums, dcontext, gradients),
        }
    }

    /// What the backward pass needs of the result.
    fn saved(&self, context: FlexTensor, log_sums: FlexTensor) -> SavedContext {
        SavedContext {
            context: (!self.is_half).then_some(context),
            log_sums,
        }
    }

    pub(super) fn ranges(&self) -> Option<&[(u32, u32)]> {
        self.ranges.as_deref()
    }

    pub(super) fn bias(&self) -> Option<Bias<'_>> {
        self.bias.as_ref().map(|bias| {
            let dims = dims(bias);
            let mut strides = [dims[1] * dims[2] * dims[3], dims[2] * dims[3], dims[3]];
            for (axis, stride) in strides.iter_mut().enumerate() {
                if dims[axis] == 1 {
                    *stride = 0;
                }
            }
            Bias {
                values: numbers(bias),
                strides,
            }
        })
    }
}

/// Rows that can be read in place, or a contiguous copy.
pub(crate) fn readable(x: FlexTensor) -> FlexTensor {
    let is_row_contiguous = x.layout().strides()[3] == 1 && x.layout().strides().iter().all(|stride| *stride >= 0);
    if is_row_contiguous { x } else { x.to_contiguous() }
}

/// The numbers of `[batch, heads, rows, width]` with their strides.
pub(crate) fn heads(x: &FlexTensor) -> Heads<'_> {
    let strides = x.layout().strides();
    Heads {
        values: x.storage::<f32>(),
        view: View {
            start: x.layout().start_offset(),
            batch_stride: strides[0] as usize,
            head_stride: strides[1] as usize,
            row_stride: strides[2] as usize,
        },
    }
}

/// The view of `[batch, heads, rows, width]` numbers without gaps.
fn dense_view(dims: &Dims) -> View {
    View {
        start: 0,
        batch_stride: dims[1] * dims[2] * dims[3],
        head_stride: dims[2] * dims[3],
        row_stride: dims[3],
    }
}

#[derive(Debug, Clone)]
struct Attention(Common);

impl Attention {
    fn inputs<'a>(&'a self, q: &'a FlexTensor, k: &'a FlexTensor, v: &'a FlexTensor) -> Inputs<'a> {
        let (q_dims, v_dims) = (dims(q), dims(v));
        Inputs {
            shape: Shape {
                batch: q_dims[0],
                n_heads: q_dims[1],
                n_kv_heads: v_dims[1],
                q_len: q_dims[2],
                kv_len: v_dims[2],
                head_dim: q_dims[3],
                value_dim: v_dims[3],
            },
            settings: self.0.settings,
            q: heads(q),
            k: heads(k),
            v: heads(v),
            bias: self.0.bias(),
            ranges: self.0.ranges(),
            preparation: Preparation::default(),
        }
    }
}

impl Fused<3> for Attention {
    const NAMES: [&'static str; 2] = ["attention", "attention backward"];

    /// Queries, keys and values; the context as `[batch, q_len, n_heads, value_dim]`.
    type Saved = ([Kept; 3], SavedContext);

    fn forward(&self, inputs: [FlexTensor; 3], is_tracked: bool) -> (FlexTensor, Option<Self::Saved>) {
        let [q, k, v] = inputs.map(readable);
        let inputs = self.inputs(&q, &k, &v);
        let Shape {
            batch,
            n_heads,
            q_len,
            value_dim,
            ..
        } = inputs.shape;
        let shape = Dims::new([batch, q_len, n_heads, value_dim]);
        if !is_tracked && q_len <= few_queries() && self.0.settings.dropout.is_none() {
            let context = tensor(cpu::decode(&inputs), shape);
            return (context.transpose(1, 2), None);
        }
        let Attended { context, log_sums } = self.0.forward(&inputs);
        let context = tensor(context, shape);
        let result = context.transpose(1, 2); // [batch, n_heads, q_len, value_dim]
        let log_sums = tensor(log_sums, Dims::new([batch, n_heads, q_len]));
        let saved = is_tracked.then(|| ([q, k, v].map(Kept::new), self.0.saved(context, log_sums)));
        (result, saved)
    }

    fn backward(
        &self,
        (saved, attended): Self::Saved,
        gradient: FlexTensor,
        _wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let [q, k, v] = saved.map(Kept::into_tensor);
        let [gradient] = contiguous([gradient.transpose(1, 2)]); // [batch, q_len, n_heads, value_dim]
        let inputs = self.inputs(&q, &k, &v);
        let shapes = [dims(&q), dims(&k), dims(&v)];
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| uninitialized(x.layout().num_elements()));
        let gradients = Gradients {
            q: (&mut dq, dense_view(&shapes[0])),
            k: (&mut dk, dense_view(&shapes[1])),
            v: (&mut dv, dense_view(&shapes[2])),
        };
        self.0.backward(&inputs, &attended, numbers(&gradient), gradients);
        let [q_shape, k_shape, v_shape] = shapes;
        [
            Some(tensor(dq, q_shape)),
            Some(tensor(dk, k_shape)),
            Some(tensor(dv, v_shape)),
        ]
    }
}

/// `softmax(q k^T * scale + mask) v`.
pub(crate) fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<4> {
    let common = Common::new(mask, settings, q.dims()[3]);
    apply(Attention(common), [Input::new(q), Input::new(k), Input::new(v)])
}

#[derive(Debug, Clone)]
struct ProjectedAttention {
    common: Common,
    n_heads: usize,
    n_kv_heads: usize,
    norm_eps: f32,
    /// Cosines and signed sines.
    rotary: Option<[FlexTensor; 2]>,
}

impl ProjectedAttention {
    fn inputs<'a>(&'a self, qkv: &'a FlexTensor, q_norm: &'a FlexTensor, k_norm: &'a FlexTensor) -> Inputs<'a> {
        let dims = dims(qkv);
        let [batch, seq, width] = [dims[0], dims[1], dims[2]];
        let head_dim = width / (self.n_heads + 2 * self.n_kv_heads);
        let view = |first_head: usize| Heads {
            values: numbers(qkv),
            view: self.view(seq, head_dim, first_head),
        };
        Inputs {
            shape: Shape {
                batch,
                n_heads: self.n_heads,
                n_kv_heads: self.n_kv_heads,
                q_len: seq,
                kv_len: seq,
                head_dim,
                value_dim: head_dim,
            },
            settings: self.common.settings,
            q: view(0),
            k: view(self.n_heads),
            v: view(self.n_heads + self.n_kv_heads),
            bias: self.common.bias(),
            ranges: self.common.ranges(),
            preparation: Preparation {
                norms: is_present(q_norm).then(|| (numbers(q_norm), numbers(k_norm), self.norm_eps)),
                rotary: self.rotary.as_ref().map(|[cos, sin]| (numbers(cos), numbers(sin))),
                rotary_stride: match &self.rotary {
                    Some([cos, _]) if crate::autodiff::dims(cos)[0] > seq => seq * head_dim,
                    _ => 0,
                },
            },
        }
    }

    /// The heads from `first_head` on among the columns of projected tokens.
    fn view(&self, seq: usize, head_dim: usize, first_head: usize) -> View {
        let width = (self.n_heads + 2 * self.n_kv_heads) * head_dim;
        View {
            start: first_head * head_dim,
            batch_stride: seq * width,
            head_stride: head_dim,
            row_stride: width,
        }
    }
}

impl Fused<3> for ProjectedAttention {
    const NAMES: [&'static str; 2] = ["attention", "attention backward"];

    /// Projected tokens, both norm weights, the context.
    type Saved = (Kept, [FlexTensor; 2], SavedContext);

    fn forward(&self, inputs: [FlexTensor; 3], is_tracked: bool) -> (FlexTensor, Option<Self::Saved>) {
        let [qkv, q_norm, k_norm] = contiguous(inputs);
        let inputs = self.inputs(&qkv, &q_norm, &k_norm);
        let Shape {
            batch,
            n_heads,
            q_len,
            value_dim,
            ..
        } = inputs.shape;
        let Attended { context, log_sums } = self.common.forward(&inputs);
        let context = tensor(context, Dims::new([batch, q_len, n_heads * value_dim]));
        let log_sums = tensor(log_sums, Dims::new([batch, n_heads, q_len]));
        let saved = is_tracked.then(|| {
            let attended = self.common.saved(context.clone(), log_sums);
            (Kept::new(qkv), [q_norm, k_norm], attended)
        });
        (context, saved)
    }

    fn backward(
        &self,
        (saved, [q_norm, k_norm], attended): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let qkv = saved.into_tensor();
        let [gradient] = contiguous([gradient]);
        let inputs = self.inputs(&qkv, &q_norm, &k_norm);
        let Shape { q_len, head_dim, .. } = inputs.shape;
        let mut dqkv = uninitialized(qkv.layout().num_elements());
        let whole = crate::cpu::parallel::Parts::new(&mut dqkv);
        let len = qkv.layout().num_elements();
        // SAFETY: the three views are those of different columns, so no number is written twice.
        let [dq, dk, dv] = [(); 3].map(|()| unsafe { whole.part(0, len) });
        let gradients = Gradients {
            q: (dq, self.view(q_len, head_dim, 0)),
            k: (dk, self.view(q_len, head_dim, self.n_heads)),
            v: (dv, self.view(q_len, head_dim, self.n_heads + self.n_kv_heads)),
        };
        let (dq_norm, dk_norm) = self.common.backward(&inputs, &attended, numbers(&gradient), gradients);
        let weight = Dims::new([head_dim]);
        [
            Some(tensor(dqkv, dims(&qkv))),
            wanted[1].then(|| tensor(dq_norm, weight.clone())),
            wanted[2].then(|| tensor(dk_norm, weight)),
        ]
    }
}

/// Attention of projected tokens `[batch, seq, (n_heads + 2 n_kv_heads) head_dim]`.
pub(crate) fn attend_projected(
    qkv: Tensor<3>,
    projection: Projection,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    let Projection {
        n_heads,
        n_kv_heads,
        norms,
        rotary,
    } = projection;
    let head_dim = qkv.dims()[2] / (n_heads + 2 * n_kv_heads);
    let (q_norm, k_norm, eps) = match norms {
        Some((q, k, eps)) => (Some(q), Some(k), eps),
        None => (None, None, 0.0),
    };
    let operation = ProjectedAttention {
        common: Common::new(mask, settings, head_dim),
        n_heads,
        n_kv_heads,
        norm_eps: eps as f32,
        rotary: rotary.map(|(cos, sin)| contiguous([primitive(cos), primitive(sin)])),
    };
    apply(
        operation,
        [Input::new(qkv), Input::optional(q_norm), Input::optional(k_norm)],
    )
}

/// Attention of projected tokens to those of another text.
#[derive(Debug, Clone)]
struct CrossAttention {
    common: Common,
    n_heads: usize,
}

impl CrossAttention {
    fn inputs<'a>(&'a self, queries: &'a FlexTensor, keys_values: &'a FlexTensor) -> Inputs<'a> {
        let (q_dims, kv_dims) = (dims(queries), dims(keys_values));
        let (q_len, kv_len, width) = (q_dims[1], kv_dims[1], q_dims[2]);
        let head_dim = width / self.n_heads;
        let of = |x: &'a FlexTensor, view: View| Heads {
            values: numbers(x),
            view,
        };
        let [q, k, v] = self.views(q_len, kv_len, head_dim);
        Inputs {
            shape: Shape {
                batch: q_dims[0],
                n_heads: self.n_heads,
                n_kv_heads: self.n_heads,
                q_len,
                kv_len,
                head_dim,
                value_dim: head_dim,
            },
            settings: self.common.settings,
            q: of(queries, q),
            k: of(keys_values, k),
            v: of(keys_values, v),
            bias: self.common.bias(),
            ranges: self.common.ranges(),
            preparation: Preparation::default(),
        }
    }

    /// The heads of queries among their columns, and of keys and values among theirs.
    fn views(&self, q_len: usize, kv_len: usize, head_dim: usize) -> [View; 3] {
        let width = self.n_heads * head_dim;
        let view = |start: usize, rows: usize, row_stride: usize| View {
            start,
            batch_stride: rows * row_stride,
            head_stride: head_dim,
            row_stride,
        };
        [
            view(0, q_len, width),
            view(0, kv_len, 2 * width),
            view(width, kv_len, 2 * width),
        ]
    }
}

impl Fused<2> for CrossAttention {
    const NAMES: [&'static str; 2] = ["cross-attention", "cross-attention backward"];

    /// Queries, keys and values, the context.
    type Saved = ([Kept; 2], SavedContext);

    fn forward(&self, inputs: [FlexTensor; 2], is_tracked: bool) -> (FlexTensor, Option<Self::Saved>) {
        let [queries, keys_values] = contiguous(inputs);
        let inputs = self.inputs(&queries, &keys_values);
        let Shape {
            batch, n_heads, q_len, ..
        } = inputs.shape;
        let Attended { context, log_sums } = self.common.forward(&inputs);
        let context = tensor(context, dims(&queries));
        let log_sums = tensor(log_sums, Dims::new([batch, n_heads, q_len]));
        let saved = is_tracked.then(|| {
            let attended = self.common.saved(context.clone(), log_sums);
            ([queries, keys_values].map(Kept::new), attended)
        });
        (context, saved)
    }

    fn backward(
        &self,
        (saved, attended): Self::Saved,
        gradient: FlexTensor,
        _wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [queries, keys_values] = saved.map(Kept::into_tensor);
        let [gradient] = contiguous([gradient]);
        let inputs = self.inputs(&queries, &keys_values);
        let Shape {
            q_len,
            kv_len,
            head_dim,
            ..
        } = inputs.shape;
        let mut dq = uninitialized(queries.layout().num_elements());
        let len = keys_values.layout().num_elements();
        let mut dkv = uninitialized(len);
        let whole = crate::cpu::parallel::Parts::new(&mut dkv);
        // SAFETY: the two views are those of different columns, so no number is written twice.
        let [dk, dv] = [(); 2].map(|()| unsafe { whole.part(0, len) });
        let [q, k, v] = self.views(q_len, kv_len, head_dim);
        let gradients = Gradients {
            q: (&mut dq, q),
            k: (dk, k),
            v: (dv, v),
        };
        self.common.backward(&inputs, &attended, numbers(&gradient), gradients);
        [Some(tensor(dq, dims(&queries))), Some(tensor(dkv, dims(&keys_values)))]
    }
}

/// Attention of projected queries `[batch, q_len, n_heads head_dim]` to projected keys and values
/// `[batch, kv_len, 2 n_heads head_dim]`.
pub(crate) fn attend_crossed(
    queries: Tensor<3>,
    keys_values: Tensor<3>,
    n_heads: usize,
    mask: &AttentionMask,
    settings: &AttentionSettings,
) -> Tensor<3> {
    let ([batch, _, width], [kv_batch, _, kv_width]) = (queries.dims(), keys_values.dims());
    assert!(
        batch == kv_batch && kv_width == 2 * width && width.is_multiple_of(n_heads),
        "queries do not fit the keys and values"
    );
    let common = Common::new(mask, settings, width / n_heads);
    let operation = CrossAttention { common, n_heads };
    apply(operation, [Input::new(queries), Input::new(keys_values)])
}
