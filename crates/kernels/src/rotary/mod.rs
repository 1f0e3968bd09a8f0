//! Rotary positions of queries and keys that were projected on their own. Training projects and turns them in one operation,
//! [`projected_attention`](crate::projected_attention).

mod autodiff;
mod cpu;
pub(crate) mod reference;

use burn::tensor::Tensor;

use crate::backend::Backend;

/// Turns queries or keys: coordinate `i` and `i + head_dim / 2` are a pair (Su et al., 2021, in Hugging Face's layout). The tables get
/// no gradients.
///
/// # Shapes
///
/// - `x`: `[batch, heads, seq, head_dim]`; the result has the same
/// - `cos`, `signed_sin`: `[seq, head_dim]`, or `[batch * seq, head_dim]` where rows differ in their positions; the first half of each
///   row of `signed_sin` negated
pub fn rotary(x: Tensor<4>, cos: Tensor<2>, signed_sin: Tensor<2>) -> Tensor<4> {
    match Backend::of(&x) {
        Backend::Flex => autodiff::rotary(x, cos, signed_sin),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => reference::rotary(x, cos, signed_sin),
        Backend::Other => reference::rotary(x, cos, signed_sin),
    }
}
