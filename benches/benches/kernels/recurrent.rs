//! A layer of an LSTM: the model's loop over tokens, whose products are Taal's where there are no gradients, next to Burn's layer.

use burn::nn::{Lstm, LstmConfig};
use burn::tensor::{Device, Int, Tensor};
use criterion::Criterion;
use taal_model::{ForwardOptions, ModelSize, Transformer, TransformerConfig};

use super::{Work, fused_and_reference, random, targets, tracked};

/// Tokens of the vocabulary, of which each is one row of the embedding.
const VOCAB_SIZE: usize = 65;

/// Both implementations and what each reads.
type Inputs = (Transformer, Tensor<2, Int>, Lstm, Tensor<3>);

pub(super) fn lstm(c: &mut Criterion) {
    for [batch, seq, width] in [[12, 64, 128], [1, 64, 384]] {
        let config = TransformerConfig::lstm(ModelSize {
            vocab_size: VOCAB_SIZE,
            max_seq_len: seq,
            n_layers: 1,
            n_heads: 1,
            d_model: width,
        });
        let inputs = |device: &Device| -> Inputs {
            let ids = targets(batch * seq, VOCAB_SIZE, &device.clone().inner()).reshape([batch, seq]);
            (
                config.init(1337, device).expect("a valid shape"),
                ids.to_device(device),
                LstmConfig::new(width, width, true).init(device),
                tracked(random([batch, seq, width], "x", device)),
            )
        };
        // Two matrices per gate, which are read once per token of a row.
        let weights = 8 * width * width;
        let work = Work {
            flops: 2 * batch * seq * weights,
            numbers: seq * weights + 2 * batch * seq * width,
        };
        fused_and_reference(
            c,
            "lstm",
            &format!("{batch}x{seq}x{width}"),
            work,
            inputs,
            [
                ("fused", &|(model, ids, _, _): Inputs| {
                    let output = model.forward_with(ids, ForwardOptions::default());
                    output.expect("ids of the vocabulary").hidden.flatten(0, 2)
                }),
                ("reference", &|(_, _, layer, x): Inputs| {
                    layer.forward(x, None).0.flatten(0, 2)
                }),
            ],
        );
    }
}
