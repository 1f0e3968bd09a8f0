//! The plain twins: every operation of this crate as an ordinary function on tensors, composed of Burn's own.
//!
//! They run and differentiate on every device. The functions of the crate's root take the fused road where a device
//! has one and these otherwise; tests compare the two, benchmarks time them side by side, and the environment
//! variable `TAAL_PLAIN_KERNELS` makes everything plain.

mod activation;
mod attention;
mod dropout;
mod linear;
mod loss;
mod norm;
mod optimizer;
mod rotary;
mod softmax;

pub use activation::{geglu, gelu, gelu_tanh, relu_squared, silu, swiglu};
pub(crate) use attention::attend_projected;
pub use attention::{attention, projected_attention};
pub use dropout::dropout;
pub use linear::{embedding, linear, linear_add, linear_cross_entropy, linear_transposed};
pub use loss::{cross_entropy, cross_entropy_smoothed, negative_log_likelihood};
pub use norm::{layer_norm, rms_norm};
pub use optimizer::{adamw, muon, orthogonalize, sum_of_squares, sum_of_squares_on_device};
pub use rotary::rotary;
pub use softmax::{masked_exp, softmax};
