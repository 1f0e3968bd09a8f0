//! Products with weights in fewer bits, for inference: a step of decoding reads each weight once, so half the bytes are twice the speed.
//!
//! Weights of integers multiply activations that are rounded to eight bits per block of 32; 16-bit floats multiply them as they are. Each
//! number of a result is summed in one order, whatever the number of rows and threads, so a batch gives each of its rows what it gets alone.

mod activations;
mod blocks;
mod cpu;
mod finite;
mod five_bits;
mod k_types;
mod reference;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

pub use blocks::WeightType;
pub use five_bits::{encode_q5_0, q8_0_of_q5_0};

use crate::autodiff;
use crate::backend::Backend;
use crate::error::KernelError;

/// A matrix `[d_output, d_input]` whose rows are stored as a [`WeightType`] says: the transpose of a [`Dense`](crate::Dense) layer's weight, or an embedding.
///
/// Copies share the bytes.
#[derive(Clone)]
pub struct QuantizedMatrix {
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    kind: WeightType,
    rows: usize,
    columns: usize,
    is_exact: bool,
}

impl QuantizedMatrix {
    /// The matrix in these bytes, which may be those of a mapped file.
    ///
    /// # Errors
    ///
    /// [`KernelError::Quantize`] where a row is not whole blocks, or the bytes are not as many as the shape needs.
    pub fn from_bytes(
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
        kind: WeightType,
        [rows, columns]: [usize; 2],
    ) -> Result<Self, KernelError> {
        let needed = row_bytes(kind, columns)?.checked_mul(rows);
        let present = (*bytes).as_ref().len();
        if needed != Some(present) {
            return Err(KernelError::quantize(format!(
                "a matrix {rows} x {columns} in {kind} does not have {present} bytes"
            )));
        }
        Ok(Self {
            bytes,
            kind,
            rows,
            columns,
            is_exact: false,
        })
    }

    /// The same with products in single precision, for which the values are decoded each time, or with activations rounded as the type asks
    /// for: that is faster, and another result than in training.
    #[must_use]
    pub fn with_exact_products(self, is_exact: bool) -> Self {
        Self { is_exact, ..self }
    }

    /// Rounds values, row after row, to a type.
    ///
    /// # Errors
    ///
    /// [`KernelError::Quantize`] where a row is not whole blocks, or a value is too large for the type or not a number.
    pub fn quantize(values: &[f32], kind: WeightType, [rows, columns]: [usize; 2]) -> Result<Self, KernelError> {
        assert_eq!(values.len(), rows * columns, "values are not as many as the shape says");
        row_bytes(kind, columns)?;
        let encoded = kind
            .encode(values)
            .ok_or_else(|| KernelError::quantize(format!("a weight is too large for {kind} or not a number")))?;
        Self::from_bytes(Arc::new(encoded), kind, [rows, columns])
    }

    /// Rounds a tensor `[d_output, d_input]` to a type.
    ///
    /// # Errors
    ///
    /// As [`quantize`](Self::quantize).
    pub fn of(weight: Tensor<2>, kind: WeightType) -> Result<Self, KernelError> {
        let shape = weight.dims();
        let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
        Self::quantize(&values, kind, shape)
    }

    /// How its values are stored.
    pub fn kind(&self) -> WeightType {
        self.kind
    }

    /// `[d_output, d_input]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The bytes, row after row.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// The values in single precision, row after row.
    pub fn dequantize(&self) -> Vec<f32> {
        reference::dequantized(self.matrix())
    }

    /// The rows of these ids in single precision: a token embedding.
    ///
    /// # Shapes
    ///
    /// - `ids`: `[batch, seq]`; result: `[batch, seq, d_input]`
    ///
    /// # Panics
    ///
    /// When an id is outside of the matrix.
    pub fn rows_of(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let device = ids.device();
        let [batch, seq] = ids.dims();
        let mut values = vec![0.0; batch * seq * self.columns];
        let ids = ids.into_data();
        for (id, values) in ids.iter::<i64>().zip(values.chunks_exact_mut(self.columns)) {
            let id = usize::try_from(id).ok().filter(|id| *id < self.rows);
            let row = id.unwrap_or_else(|| panic!("an id is outside of the {} rows of the table", self.rows));
            self.kind.decode(self.matrix().row(row), values);
        }
        Tensor::from_data(TensorData::new(values, [batch, seq, self.columns]), &device)
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix {
            bytes: self.bytes(),
            kind: self.kind,
            rows: self.rows,
            columns: self.columns,
            row_bytes: self.kind.row_bytes(self.columns).expect("checked when it was made"),
        }
    }

    /// The matrix as a tensor `[d_input, d_output]` in single precision.
    pub fn to_weight(&self, device: &Device) -> Tensor<2> {
        Tensor::<2>::from_data(TensorData::new(self.dequantize(), [self.rows, self.columns]), device).transpose()
    }
}

impl fmt::Debug for QuantizedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuantizedMatrix({} x {}, {})", self.rows, self.columns, self.kind)
    }
}

fn row_bytes(kind: WeightType, columns: usize) -> Result<usize, KernelError> {
    kind.row_bytes(columns).ok_or_else(|| {
        let (block, _) = kind.block();
        KernelError::quantize(format!(
            "a width of {columns} is not divisible by {block}, the block of {kind}"
        ))
    })
}

/// `x W^T + bias + residual`, inference only: where `x` is tracked, or not on a CPU, or the matrix asks for it, the weight is multiplied in
/// single precision.
///
/// # Shapes
///
/// - `x`: `[.., d_input]`; `weight`: `[d_output, d_input]`; `bias`: `[d_output]`; `residual` and result: `[.., d_output]`
pub fn quantized_linear<const D: usize>(
    x: Tensor<D>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    match Backend::of(&x) {
        Backend::Flex if !x.is_autodiff() && !weight.is_exact => on_flex(x, weight, bias, residual),
        Backend::Flex => in_single_precision(x, weight, bias, residual),
        #[cfg(feature = "cubecl")]
        Backend::Gpu => in_single_precision(x, weight, bias, residual),
        Backend::Other => in_single_precision(x, weight, bias, residual),
    }
}

fn in_single_precision<const D: usize>(
    x: Tensor<D>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let weight = weight.to_weight(&x.device());
    match residual {
        Some(residual) => crate::linear_add(x, weight, bias, residual),
        None => crate::linear(x, weight, bias),
    }
}

/// The fused CPU kernel on tensors of flex.
fn on_flex<const D: usize>(
    x: Tensor<D>,
    weight: &QuantizedMatrix,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<D>>,
) -> Tensor<D> {
    let mut shape = x.shape();
    assert_eq!(shape[D - 1], weight.columns, "input rows must be as wide as the weight");
    shape[D - 1] = weight.rows;
    let x = autodiff::contiguous([autodiff::primitive(x)]);
    let bias = bias.map(|bias| autodiff::contiguous([autodiff::primitive(bias)]));
    let residual = residual.map(|residual| autodiff::contiguous([autodiff::primitive(residual)]));
    let bias = bias.as_ref().map(|[bias]| autodiff::numbers(bias));
    let residual = residual.as_ref().map(|[residual]| autodiff::numbers(residual));
    let epilogue = Epilogue {
        bias,
        residual,
        columns: weight.rows,
    };
    let x = autodiff::numbers(&x[0]);
    let mut y = crate::cpu::uninitialized(x.len() / weight.columns.max(1) * weight.rows);
    crate::profile::count("quantized linear", || {
        cpu::product(x, weight.matrix(), epilogue, &mut y)
    });
    Tensor::from_primitive::<burn::backend::Flex>(autodiff::tensor(y, shape))
}

/// A matrix that is read.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    bytes: &'a [u8],
    kind: WeightType,
    rows: usize,
    columns: usize,
    row_bytes: usize,
}

impl<'a> Matrix<'a> {
    fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes..][..self.row_bytes]
    }

    /// Where some rows begin, the first and how many; past the last of them it is the last one again, whose products nobody uses.
    fn lines<const N: usize>(&self, [first, count]: [usize; 2]) -> [*const u8; N] {
        std::array::from_fn(|i| self.row(first + i.min(count - 1)).as_ptr())
    }
}

/// What is added to a product: a bias per column, then a residual per number.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
    columns: usize,
}

impl Epilogue<'_> {
    /// The sums of some columns of a row, from column `first` on, with what is added to them.
    #[inline(always)]
    fn write(&self, sums: &[f32], row: usize, first: usize, out: &mut [f32]) {
        // Nearly all panels are whole, and loops of a length that is known are a few vectors.
        match <&[f32; 16]>::try_from(sums) {
            Ok(sums) => self.write_all(sums.as_slice(), row, first, out),
            Err(_) => self.write_all(sums, row, first, out),
        }
    }

    #[inline(always)]
    fn write_all(&self, sums: &[f32], row: usize, first: usize, out: &mut [f32]) {
        let out = &mut out[..sums.len()];
        out.copy_from_slice(sums);
        let residual = self.residual.map(|residual| &residual[row * self.columns..]);
        for addend in [self.bias, residual].into_iter().flatten() {
            for (out, addend) in out.iter_mut().zip(&addend[first..][..sums.len()]) {
                *out += addend;
            }
        }
    }
}
