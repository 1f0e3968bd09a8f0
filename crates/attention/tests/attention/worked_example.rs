//! Sebastian Raschka's worked example, "Life is short, eat dessert first" (`tests/data/SOURCE.md`).

use burn::tensor::{Device, Tensor, TensorData};
use taal_attention::{AttentionOptions, scaled_dot_product_attention};

use super::{assert_close, values};

/// Against PyTorch's single precision, printed with seven decimals; contexts reach about 4.
const TOLERANCE: f32 = 1e-5;

#[test]
fn the_worked_example_gives_its_weights_and_context() {
    let text = include_str!("../data/example.json");
    let example: serde_json::Value = serde_json::from_str(text).unwrap();
    let matrix = |name: &str| -> (Vec<f32>, [usize; 2]) {
        let rows: Vec<Vec<f32>> = serde_json::from_value(example[name].clone()).unwrap();
        (rows.concat(), [rows.len(), rows[0].len()])
    };
    let tensor = |name: &str| -> Tensor<2> {
        let (values, shape) = matrix(name);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    };
    let embedded = tensor("embedded"); // [6 words, 16]
    let project = |name: &str| -> Tensor<4> { embedded.clone().matmul(tensor(name).transpose()).unsqueeze() };
    let options = AttentionOptions {
        return_weights: true,
        ..Default::default()
    };
    let (context, weights) =
        scaled_dot_product_attention(project("w_query"), project("w_key"), project("w_value"), None, &options);
    assert_eq!(context.dims(), [1, 1, 6, 28]);
    assert_close(&values(weights.unwrap()), &matrix("attention_weights").0, TOLERANCE);
    assert_close(&values(context), &matrix("context").0, TOLERANCE);
}
