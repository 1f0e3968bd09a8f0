//! Products with weights in fewer bits against the same weights decoded, in single precision. That activations are rounded right, and that
//! all instructions give the bits of the loops, is tested next to them.

use burn::tensor::{Device, Tensor, TensorData};
use taal_kernels::{QuantizedMatrix, WeightType, quantized_linear};

use crate::fused::{assert_near, differentiate, normal};

#[test]
fn products_in_single_precision_and_their_gradients_are_those_of_the_decoded_weights() {
    for kind in WeightType::ALL {
        let (block, _) = kind.block();
        let [rows, k, n] = [7, if block == 1 { 40 } else { 2 * block }, 19];
        let weight = QuantizedMatrix::quantize(&normal(n * k, "weight"), kind, [n, k]).unwrap();
        let inputs = [normal(rows * k, "x"), normal(n, "bias"), normal(rows * n, "residual")];
        let split = |leaves: &[Tensor<1>]| {
            let [x, bias, residual] = <[Tensor<1>; 3]>::try_from(leaves.to_vec()).unwrap();
            (x.reshape([rows, k]), bias, residual.reshape([rows, n]))
        };
        let found = differentiate(&inputs, &|leaves| {
            let (x, bias, residual) = split(leaves);
            quantized_linear(x, &weight, Some(bias), Some(residual)).reshape([rows * n])
        });
        let expected = differentiate(&inputs, &|leaves| {
            let (x, bias, residual) = split(leaves);
            let decoded = TensorData::new(weight.dequantize(), [n, k]);
            let decoded = Tensor::<2>::from_data(decoded, &x.device());
            (x.matmul(decoded.transpose()) + bias.reshape([1, n]) + residual).reshape([rows * n])
        });
        let name = kind.to_string();
        assert_near(&name, &found.0, &expected.0);
        for (index, (found, expected)) in found.1.iter().zip(&expected.1).enumerate() {
            assert_near(&format!("{name}, gradient of input {index}"), found, expected);
        }

        // Without gradients the same is computed where it is asked for.
        let [x, bias, residual] = inputs.map(|values| {
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), &Device::flex())
        });
        let exact = weight.clone().with_exact_products(true);
        let y = quantized_linear(
            x.reshape([rows, k]),
            &exact,
            Some(bias),
            Some(residual.reshape([rows, n])),
        );
        let y: Vec<f32> = y.into_data().iter::<f32>().collect();
        assert_near(&format!("{name}, exact products"), &y, &expected.0);
    }
}
