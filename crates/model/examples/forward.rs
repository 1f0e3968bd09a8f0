//! Builds a small LLaMA, saves it as a Hugging Face directory, opens it and prints logits and attention.
//! `cargo run -p taal-model --example forward`

use burn::tensor::{Device, Int, Tensor};
use taal_model::hugging_face::{self, Companions};
use taal_model::{Capture, ForwardOptions, ModelSize, TransformerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    // 10 token ids, a context of 16, 2 layers of 4 heads, 32 wide; weights drawn from seed 42.
    let drawn = TransformerConfig::llama(ModelSize {
        vocab_size: 10,
        max_seq_len: 16,
        n_layers: 2,
        n_heads: 4,
        d_model: 32,
    })
    .init(42, &device)?;

    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("model");
    hugging_face::save(&drawn, &dir, Companions::default())?;
    let model = hugging_face::open(&dir, &device)?;
    println!("{} parameters saved and loaded again", model.config().n_params());

    let prompt = [3, 1, 4, 1, 5];
    let ids = Tensor::<2, Int>::from_ints([prompt], &device); // [batch, seq]
    let options = ForwardOptions {
        capture: Capture {
            attention_weights: true,
            ..Capture::default()
        },
        ..ForwardOptions::default()
    };
    let output = model.forward_with(ids, options)?;

    let last = output.hidden.slice_dim(1, prompt.len() - 1..prompt.len()); // [1, 1, d_model]
    let logits: Vec<f32> = model.logits(last).into_data().iter().collect();
    println!("\nlogits of the token after {prompt:?}");
    for (id, logit) in logits.iter().enumerate() {
        println!("{id:>4}  {logit:7.4}");
    }

    let head = output.attention_weights[0].clone().slice_dim(1, 0..1); // [1, 1, seq, seq]
    let weights: Vec<f32> = head.into_data().iter().collect();
    println!("\nattention of each token, layer 0, head 0");
    for (id, row) in prompt.iter().zip(weights.chunks(prompt.len())) {
        let row: Vec<String> = row.iter().map(|weight| format!("{weight:.3}")).collect();
        println!("{id:>4}  {}", row.join(" "));
    }
    Ok(())
}
