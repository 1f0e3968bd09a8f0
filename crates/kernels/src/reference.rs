//! The reference implementations: every operation of this crate as an ordinary function on tensors, composed of Burn's own.
//!
//! They run and differentiate on every device. The functions of the crate's root use a fused CPU kernel or a GPU kernel where
//! there is one for the tensor, and these otherwise; tests compare the two, benchmarks time both, and the environment
//! variable `TAAL_PLAIN_KERNELS` leaves only these.

pub use crate::activation::reference::{geglu, geglu_tanh, gelu, gelu_tanh, relu_squared, silu, swiglu};
pub use crate::attention::reference::{
    attention, attention_bf16, heads_of, projected_attention, projected_cross_attention,
};
pub use crate::dropout::reference::dropout;
pub use crate::embedding::reference::embedding;
pub use crate::linear::reference::{linear, linear_add, linear_bf16, linear_transposed};
pub use crate::loss::reference::{
    cross_entropy, cross_entropy_smoothed, linear_cross_entropy, linear_cross_entropy_bf16, negative_log_likelihood,
};
pub use crate::norm::reference::{layer_norm, rms_norm};
pub use crate::optimizer::reference::{adamw, muon, orthogonalize, sum_of_squares, sum_of_squares_on_device};
pub use crate::rotary::reference::rotary;
pub use crate::softmax::{masked_exp, softmax};
