//! A user of the crate: trains one block with a custom head and Burn's optimizer: which digit of a row occurs twice?

use std::error::Error;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};
use taal_attention::{AttentionContext, MultiHeadAttentionConfig};
use taal_embeddings::{TokenEmbedding, TokenEmbeddingConfig};
use taal_model::{Activation, Block, BlockConfig, FeedForwardConfig, NormConfig, NormKind, NormPlace};

const DIGITS: usize = 8;
const ROW: usize = 6;
const WIDTH: usize = 32;

#[derive(Module, Debug)]
struct Finder {
    digits: TokenEmbedding,
    block: Block,
    head: Linear,
}

impl Finder {
    fn new(device: &Device) -> Result<Self, Box<dyn Error>> {
        let block = BlockConfig {
            attention: MultiHeadAttentionConfig {
                d_model: WIDTH,
                n_heads: 4,
                n_kv_heads: 4,
                head_dim: WIDTH / 4,
                qkv_bias: false,
                output_bias: false,
                qk_norm: None,
            },
            cross: None,
            feed_forward: FeedForwardConfig {
                d_model: WIDTH,
                d_ff: 4 * WIDTH,
                activation: Activation::Gelu,
                bias: false,
            },
            norm: NormConfig {
                width: WIDTH,
                kind: NormKind::RmsNorm,
                eps: 1e-6,
                bias: false,
            },
            norm_place: NormPlace::Pre,
            has_attention_norm: true,
            dropout: 0.0,
        };
        let digits = TokenEmbeddingConfig {
            vocab_size: DIGITS,
            d_model: WIDTH,
        };
        Ok(Self {
            digits: digits.init(1, device),
            block: block.init(2, device)?,
            head: LinearConfig::new(WIDTH, DIGITS).init(device),
        })
    }

    /// Logits of the digit, `[rows, DIGITS]`.
    fn forward(&self, rows: Tensor<2, Int>) -> Result<Tensor<2>, Box<dyn Error>> {
        let x = self.digits.forward(rows);
        let (x, _) = self.block.forward(x, AttentionContext::default(), None)?;
        Ok(self.head.forward(x.mean_dim(1).squeeze_dim::<2>(1)))
    }
}

/// Rows of different digits except one that occurs twice, and that digit.
fn rows(count: usize, seed: usize, device: &Device) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let (mut ids, mut twice) = (Vec::new(), Vec::new());
    for row in 0..count {
        let number = (row + seed * count).wrapping_mul(2_654_435_761) >> 8;
        let (first, step) = (number % DIGITS, [1, 3, 5, 7][number / DIGITS % 4]);
        let digit = |i: usize| ((first + i * step) % DIGITS) as i32;
        let again = number / 64 % (ROW - 1);
        ids.extend((0..ROW - 1).map(digit));
        ids.push(digit(again));
        twice.push(digit(again));
    }
    let rows = Tensor::from_data(TensorData::new(ids, [count, ROW]), device);
    (rows, Tensor::from_data(TensorData::new(twice, [count]), device))
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let mut model = Finder::new(&device)?;
    let mut optimizer = AdamConfig::new().init();
    for step in 0..150 {
        let (rows, twice) = rows(64, step, &device);
        let loss = CrossEntropyLossConfig::new()
            .init(&device)
            .forward(model.forward(rows)?, twice);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(3e-3, model, gradients);
    }
    let (rows, twice) = rows(200, 1000, &device.clone().inner());
    let found = model.valid().forward(rows)?.argmax(1).squeeze_dim::<1>(1);
    let right: i64 = found.equal(twice).int().sum().into_scalar();
    assert!(right > 150, "{right} of 200 found, chance is about 40");
    println!("block: {right} of 200 doubled digits found after 150 steps");
    Ok(())
}
