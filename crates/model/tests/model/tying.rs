//! Whether the output matrix is the embedding: decided by the contents of the file.

use super::super::*;
use crate::size;

fn logits(model: &Transformer) -> Vec<f32> {
    let ids = Tensor::<2, Int>::from_ints([[3, 1, 4, 1, 5]], &model.device());
    model.forward(ids).unwrap().into_data().iter::<f32>().collect()
}

/// The `config.json` and the weights of a model directory.
fn saved(model: &Transformer) -> (String, Vec<u8>) {
    let mut files: std::collections::BTreeMap<_, _> = hugging_face::files(model, Companions::default())
        .unwrap()
        .into_iter()
        .collect();
    let config = String::from_utf8(files.remove("config.json").unwrap()).unwrap();
    (config, files.remove("model.safetensors").unwrap())
}

fn shapes(is_tied: bool) -> Vec<TransformerConfig> {
    [
        TransformerConfig::gpt2(size(11, 32, 2, 2, 16)),
        TransformerConfig::llama(size(11, 32, 2, 2, 16)),
        TransformerConfig::qwen3(size(11, 32, 2, 2, 16)),
        TransformerConfig::bert(size(11, 32, 2, 2, 16)),
        TransformerConfig::modernbert(size(11, 32, 2, 2, 16)),
    ]
    .into_iter()
    .map(|config| TransformerConfig {
        tie_embeddings: is_tied,
        ..config
    })
    .collect()
}

#[test]
fn report_6_an_output_matrix_in_the_file_is_used_although_the_configuration_says_tied() {
    for config in shapes(false) {
        let model = config.init(7, &Device::flex()).unwrap();
        let (json, weights) = saved(&model);
        let tied = json.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
        assert_ne!(tied, json, "{json}");
        let opened = hugging_face::from_bytes(&tied, &weights, &Device::flex()).unwrap();
        assert_eq!(logits(&opened), logits(&model), "{json}");
        // What is written from here on says so.
        assert!(!opened.config().tie_embeddings && saved(&opened).0 == json, "{json}");
    }
}

/// The name of the output matrix in a file of the shape, and of the table that it is tied to.
const NAMES: [(&str, &str); 5] = [
    ("lm_head.weight", "transformer.wte.weight"),
    ("lm_head.weight", "model.embed_tokens.weight"),
    ("lm_head.weight", "model.embed_tokens.weight"),
    (
        "cls.predictions.decoder.weight",
        "bert.embeddings.word_embeddings.weight",
    ),
    ("decoder.weight", "model.embeddings.tok_embeddings.weight"),
];

/// The weights with the embedding under the names of `names`.
fn with_embedding_as(weights: &[u8], embedding: &str, names: &[&str]) -> Vec<u8> {
    let file = safetensors::SafeTensors::deserialize(weights).unwrap();
    let mut views = file.tensors();
    let place = views
        .iter()
        .position(|(name, _)| name == embedding)
        .expect("the embedding");
    let (_, view) = views.remove(place);
    views.extend(names.iter().map(|name| ((*name).to_owned(), view.clone())));
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn report_6_of_two_tied_matrices_either_is_enough_and_equal_ones_stay_tied() {
    for (config, (head, embedding)) in shapes(true).into_iter().zip(NAMES) {
        let model = config.init(7, &Device::flex()).unwrap();
        let (json, weights) = saved(&model);
        for names in [&[head][..], &[embedding, head]] {
            let bytes = with_embedding_as(&weights, embedding, names);
            let opened = hugging_face::from_bytes(&json, &bytes, &Device::flex()).unwrap();
            assert_eq!(logits(&opened), logits(&model), "{names:?}");
            assert!(opened.config().tie_embeddings, "{names:?}");
        }
    }
}
