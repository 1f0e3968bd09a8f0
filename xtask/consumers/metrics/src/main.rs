//! A user of the crate: the operations per token of training GPT-2 (without biases), and the meaning of a loss.

use taal_metrics::flops::{self, Shape};

fn main() {
    let gpt2 = Shape {
        n_layers: 12,
        n_heads: 12,
        n_kv_heads: 12,
        head_dim: 64,
        d_model: 768,
        d_ff: 3072,
        vocab_size: 50257,
        seq_len: 1024,
        is_gated: false,
        is_recurrent: false,
        n_encoder_layers: 0,
        n_params: 123_551_232,
    };
    let per_token = flops::palm_per_token(&gpt2);
    assert_eq!(
        per_token * gpt2.seq_len,
        875_062_886_400,
        "nanoGPT's count of one sequence"
    );

    let coin = std::f64::consts::LN_2;
    assert!(
        (taal_metrics::perplexity(coin) - 2.0).abs() < 1e-12,
        "a coin has perplexity 2"
    );
    assert!(
        (taal_metrics::bits_per_byte(8.0 * coin, 8) - 1.0).abs() < 1e-12,
        "and is worth a bit"
    );
    println!("metrics: training GPT-2 takes {per_token} operations per token");
}
