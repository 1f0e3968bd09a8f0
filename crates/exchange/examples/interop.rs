//! Taal's part of `cargo xtask interop`: computes logits of models that other programs wrote, and writes models for them to open.
//!
//! `interop open FOLDER` opens each `FOLDER/FAMILY/CASE`, a directory or with a `model.gguf`, and writes the logits of its `ids.json` (a list of samples with
//! `input_ids` and perhaps an `attention_mask`) to `taal.bin`: fp32, little-endian, 0 at padding; or `taal.error` if the
//! directory does not open. `interop make FOLDER FAMILY...` writes such directories with random weights, with `ids.json` and
//! `taal.bin`. `interop gguf FOLDER FAMILY...` writes `model.gguf` instead, for families that llama.cpp supports.

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use taal_exchange::gguf;
use taal_model::hugging_face::{self, Companions};
use taal_model::{
    Activation, ForwardOptions, ModelError, ModelSize, RopeScaling, Segments, Transformer, TransformerConfig,
    parameters,
};

/// The first id that is not special.
const FIRST_ORDINARY_ID: usize = 5;
const PADDING_ID: i32 = 1;

#[derive(Serialize, Deserialize)]
struct Sample {
    input_ids: Vec<Vec<i32>>,
    /// 0 for padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attention_mask: Option<Vec<Vec<u8>>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((verb, rest)) if verb == "open" && rest.len() == 1 => open_all(Path::new(&rest[0])),
        Some((verb, rest)) if verb == "make" && rest.len() > 1 => make_all(Path::new(&rest[0]), &rest[1..]),
        Some((verb, rest)) if verb == "gguf" && rest.len() > 1 => make_gguf(Path::new(&rest[0]), &rest[1..]),
        _ => Err("expected `interop open FOLDER`, or `interop make` or `gguf FOLDER FAMILY...`".into()),
    }
}

fn open_all(folder: &Path) -> Result<(), Box<dyn Error>> {
    for case in cases_in(folder)? {
        let file = case.join("model.gguf");
        let opened = match file.exists() {
            true => gguf::open(&file, &Device::flex()).map(|contents| contents.model),
            false => hugging_face::open(&case, &Device::flex()),
        };
        match opened {
            Ok(model) => {
                let samples: Vec<Sample> = serde_json::from_slice(&std::fs::read(case.join("ids.json"))?)?;
                write_logits(&case, &model, &samples)?;
            }
            // A directory that does not open is a row of the table; the others are still compared.
            Err(error) => std::fs::write(case.join("taal.error"), error.to_string())?,
        }
    }
    Ok(())
}

/// The folders two levels below.
fn cases_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    for family in std::fs::read_dir(folder)? {
        for case in std::fs::read_dir(family?.path())? {
            cases.push(case?.path());
        }
    }
    Ok(cases)
}

fn make_all(folder: &Path, families: &[String]) -> Result<(), Box<dyn Error>> {
    for family in families {
        std::fs::create_dir_all(folder.join(family))?;
        for (name, config) in configs(family) {
            let case = folder.join(family).join(name);
            let model = random_model(&config)?;
            let companions = Companions {
                bos_token_id: Some(2),
                eos_token_id: Some(3),
                pad_token_id: Some(PADDING_ID as u32),
                ..Companions::default()
            };
            hugging_face::save(&model, &case, companions)?;
            let samples = samples(&config);
            std::fs::write(case.join("ids.json"), serde_json::to_vec(&samples)?)?;
            write_logits(&case, &model, &samples)?;
        }
    }
    Ok(())
}

fn make_gguf(folder: &Path, families: &[String]) -> Result<(), Box<dyn Error>> {
    for family in families {
        for (name, config) in configs(family) {
            let case = folder.join(family).join(name);
            let model = random_model(&config)?;
            std::fs::create_dir_all(&case)?;
            match gguf::save(&model, None, None, name, &case.join("model.gguf")) {
                Ok(()) => {}
                Err(ModelError::Config { .. }) => {
                    std::fs::remove_dir(&case)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let samples = samples(&config);
            std::fs::write(case.join("ids.json"), serde_json::to_vec(&samples)?)?;
            write_logits(&case, &model, &samples)?;
        }
    }
    Ok(())
}

/// The shapes of a family that Taal can write, small and large, with every switch the family has.
fn configs(family: &str) -> Vec<(&'static str, TransformerConfig)> {
    let llama = TransformerConfig {
        n_kv_heads: 2,
        ..TransformerConfig::llama(ModelSize {
            vocab_size: 61,
            max_seq_len: 64,
            n_layers: 2,
            n_heads: 4,
            d_model: 32,
        })
    };
    let with = |change: fn(&mut TransformerConfig), base: &TransformerConfig| {
        let mut config = base.clone();
        change(&mut config);
        config
    };
    let untied: fn(&mut TransformerConfig) = |c| c.tie_embeddings = false;
    let tied: fn(&mut TransformerConfig) = |c| c.tie_embeddings = true;
    let no_biases: fn(&mut TransformerConfig) = |c| {
        [
            c.norm_bias,
            c.qkv_bias,
            c.attention_output_bias,
            c.ffn_bias,
            c.output_bias,
        ] = [false; 5];
    };
    let long_llama = TransformerConfig {
        n_kv_heads: 2,
        ..TransformerConfig::llama(ModelSize {
            vocab_size: 300,
            max_seq_len: 2048,
            n_layers: 4,
            n_heads: 8,
            d_model: 128,
        })
    };
    match family {
        "gpt2" => {
            let tiny = TransformerConfig::gpt2(ModelSize {
                vocab_size: 61,
                max_seq_len: 40,
                n_layers: 2,
                n_heads: 4,
                d_model: 32,
            });
            vec![
                ("tiny", tiny.clone()),
                ("untied", with(untied, &tiny)),
                (
                    "nanogpt",
                    TransformerConfig::nanogpt(ModelSize {
                        vocab_size: 61,
                        max_seq_len: 40,
                        n_layers: 2,
                        n_heads: 4,
                        d_model: 32,
                    }),
                ),
                ("relu", with(|c| c.activation = Activation::Relu, &tiny)),
                (
                    "long",
                    TransformerConfig::gpt2(ModelSize {
                        vocab_size: 300,
                        max_seq_len: 1024,
                        n_layers: 4,
                        n_heads: 8,
                        d_model: 128,
                    }),
                ),
            ]
        }
        "llama" => vec![
            ("tiny", llama.clone()),
            ("tied", with(tied, &llama)),
            ("wide-heads", with(|c| c.head_dim = 24, &llama)),
            (
                "biases",
                with(
                    |c| [c.qkv_bias, c.attention_output_bias, c.ffn_bias] = [true; 3],
                    &llama,
                ),
            ),
            ("long", long_llama.clone()),
            (
                "llama3",
                with(
                    |c| {
                        c.rope_theta = 500_000.0;
                        c.rope_scaling = Some(RopeScaling::Llama3 {
                            factor: 8.0,
                            low_freq_factor: 1.0,
                            high_freq_factor: 4.0,
                            original_max_position_embeddings: 256,
                        });
                    },
                    &long_llama,
                ),
            ),
            (
                "linear",
                with(
                    |c| c.rope_scaling = Some(RopeScaling::Linear { factor: 4.0 }),
                    &long_llama,
                ),
            ),
            (
                "dynamic",
                with(
                    |c| c.rope_scaling = Some(RopeScaling::Dynamic { factor: 4.0 }),
                    &long_llama,
                ),
            ),
            (
                "yarn",
                with(
                    |c| {
                        c.rope_scaling = Some(RopeScaling::Yarn {
                            factor: 4.0,
                            original_max_position_embeddings: 256,
                            attention_factor: None,
                            mscale: Some(0.7),
                            mscale_all_dim: Some(1.5),
                            beta_fast: 32.0,
                            beta_slow: 1.0,
                            truncate: true,
                        });
                    },
                    &long_llama,
                ),
            ),
        ],
        "mistral" => vec![
            ("tiny", with(|c| c.window = Some(9), &llama)),
            ("tied", with(|c| (c.window, c.tie_embeddings) = (Some(9), true), &llama)),
            ("long", with(|c| c.window = Some(100), &long_llama)),
        ],
        "qwen2" => vec![
            ("tiny", with(|c| c.qkv_bias = true, &llama)),
            ("long", with(|c| c.qkv_bias = true, &long_llama)),
        ],
        "qwen3" => {
            let tiny = TransformerConfig::qwen3(ModelSize {
                vocab_size: 61,
                max_seq_len: 64,
                n_layers: 2,
                n_heads: 4,
                d_model: 32,
            });
            vec![
                ("tiny", tiny.clone()),
                ("tied", with(tied, &tiny)),
                ("wide-heads", with(|c| [c.head_dim, c.n_kv_heads] = [24, 2], &tiny)),
                (
                    "biases",
                    with(|c| [c.qkv_bias, c.attention_output_bias] = [true; 2], &tiny),
                ),
                (
                    "long",
                    TransformerConfig::qwen3(ModelSize {
                        vocab_size: 300,
                        max_seq_len: 2048,
                        n_layers: 4,
                        n_heads: 8,
                        d_model: 128,
                    }),
                ),
            ]
        }
        "bert" => {
            let tiny = TransformerConfig::bert(ModelSize {
                vocab_size: 61,
                max_seq_len: 40,
                n_layers: 2,
                n_heads: 4,
                d_model: 32,
            });
            vec![
                ("tiny", tiny.clone()),
                ("untied", with(untied, &tiny)),
                ("no-biases", with(no_biases, &tiny)),
                ("tanh-gelu", with(|c| c.activation = Activation::GeluTanh, &tiny)),
                (
                    "long",
                    TransformerConfig::bert(ModelSize {
                        vocab_size: 300,
                        max_seq_len: 512,
                        n_layers: 4,
                        n_heads: 8,
                        d_model: 128,
                    }),
                ),
            ]
        }
        "modernbert" => {
            let tiny = TransformerConfig {
                window: Some(5),
                ..TransformerConfig::modernbert(ModelSize {
                    vocab_size: 61,
                    max_seq_len: 64,
                    n_layers: 4,
                    n_heads: 4,
                    d_model: 32,
                })
            };
            let global: fn(&mut TransformerConfig) = |c| {
                [c.window, c.global_every] = [None; 2];
                c.local_rope_theta = None;
                c.rope_theta = 10_000.0;
            };
            vec![
                ("tiny", tiny.clone()),
                ("untied", with(untied, &tiny)),
                ("encoder-preset", with(global, &tiny)),
                (
                    "all-local",
                    with(|c| (c.local_rope_theta, c.global_every) = (None, None), &tiny),
                ),
                (
                    "biases",
                    with(
                        |c| [c.norm_bias, c.qkv_bias, c.attention_output_bias, c.ffn_bias] = [true; 4],
                        &tiny,
                    ),
                ),
                ("head-bias-only", with(|c| c.head_transform_bias = Some(true), &tiny)),
                ("no-output-bias", with(|c| c.output_bias = false, &tiny)),
                ("silu", with(|c| c.activation = Activation::SwiGlu, &tiny)),
                ("every-second-global", with(|c| c.global_every = Some(2), &tiny)),
                (
                    "long",
                    TransformerConfig::modernbert(ModelSize {
                        vocab_size: 300,
                        max_seq_len: 2048,
                        n_layers: 7,
                        n_heads: 8,
                        d_model: 128,
                    }),
                ),
            ]
        }
        // RoBERTa and DistilBERT are read only.
        _ => Vec::new(),
    }
}

/// Every tensor random, norm weights and biases too, so that swapped or missing ones show; logits of the order of 1 at any width.
fn random_model(config: &TransformerConfig) -> Result<Transformer, Box<dyn Error>> {
    let device = Device::flex();
    let model = config.init(1, &device)?;
    parameters::replace(model, |name, shape| -> Result<Vec<f32>, Box<dyn Error>> {
        let is_norm_weight = name.ends_with("norm.weight") || name.ends_with("_norm");
        let (mean, std) = match shape.len() {
            1 if is_norm_weight => (1.0, 0.1),
            1 => (0.0, 0.2),
            _ => (0.0, (config.d_model as f64).sqrt().recip()),
        };
        let key = taal_kernels::random::key(1, 1, name);
        let noise = taal_kernels::random::normal([shape.iter().product()], std, key, &device);
        Ok(parameters::to_vec(noise.add_scalar(mean)))
    })
}

fn samples(config: &TransformerConfig) -> Vec<Sample> {
    let rows = |batch: usize, seq: usize| -> Vec<Vec<i32>> {
        let id =
            |i: usize| (FIRST_ORDINARY_ID + (i * 7919 + i * i % 13) % (config.vocab_size - FIRST_ORDINARY_ID)) as i32;
        (0..batch)
            .map(|row| (0..seq).map(|i| id(row * seq + i)).collect())
            .collect()
    };
    let whole = |input_ids| Sample {
        input_ids,
        attention_mask: None,
    };
    let mut samples = vec![whole(rows(2, 29)), whole(rows(1, config.max_seq_len.min(1000)))];
    if !config.is_causal {
        let mut input_ids = rows(2, 21);
        input_ids[1][14..].fill(PADDING_ID);
        let mask = input_ids
            .iter()
            .map(|row| row.iter().map(|id| u8::from(*id != PADDING_ID)).collect());
        samples.push(Sample {
            attention_mask: Some(mask.collect()),
            input_ids,
        });
    }
    samples
}

fn write_logits(case: &Path, model: &Transformer, samples: &[Sample]) -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    for sample in samples {
        let [batch, seq] = [sample.input_ids.len(), sample.input_ids.first().map_or(0, Vec::len)];
        let ids = TensorData::new(sample.input_ids.concat(), [batch, seq]);
        let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
        let padding = sample.attention_mask.as_ref().map(|mask| {
            let flags: Vec<bool> = mask.concat().iter().map(|flag| *flag == 0).collect();
            Tensor::<2, Bool>::from_data(TensorData::new(flags, [batch, seq]), &Device::flex())
        });
        let segments = sample.attention_mask.as_ref().map(|mask| {
            let texts: Vec<_> = mask
                .iter()
                .map(|row| 0..row.iter().filter(|flag| **flag == 1).count())
                .collect();
            Segments::of_padded(&texts, seq)
        });
        let options = ForwardOptions {
            segments: segments.as_ref(),
            ..ForwardOptions::default()
        };
        let mut logits = model.logits(model.forward_with(ids, options)?.hidden); // [batch, seq, vocab_size]
        if let Some(padding) = padding {
            let vocab_size = logits.dims()[2];
            logits = logits.mask_fill(padding.unsqueeze_dim::<3>(2).expand([batch, seq, vocab_size]), 0.0);
        }
        bytes.extend(parameters::to_vec(logits).into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(std::fs::write(case.join("taal.bin"), bytes)?)
}
