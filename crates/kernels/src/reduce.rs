//! Reductions whose rounding does not depend on the number of threads.

use burn::tensor::Tensor;

/// How many squares are added in single precision before the partial sums are added in double precision.
const ROW: usize = 4096;

/// The sum of squares of all elements, for the global norm of gradients.
///
/// The elements are cut into fixed rows, each added on the device, the rows on the host in order: two runs give
/// equal bits. (Burn's `sum` over 4 Mi elements and more groups them by which thread was free.)
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> f64 {
    let len: usize = x.dims().iter().product();
    let flat: Tensor<1> = x.without_autodiff().reshape([len]);
    let full = len / ROW * ROW;
    let mut total = 0.0;
    if full > 0 {
        let rows = flat.clone().narrow(0, 0, full).reshape([full / ROW, ROW]);
        total += row_sums_of_squares(rows);
    }
    if full < len {
        let rest = flat.narrow(0, full, len - full).reshape([1, len - full]);
        total += row_sums_of_squares(rest);
    }
    total
}

fn row_sums_of_squares(rows: Tensor<2>) -> f64 {
    let sums = (rows.clone() * rows).sum_dim(1);
    sums.into_data().iter::<f64>().sum()
}
