//! The structure of a model: its layers as a tree with shapes, parameters and FLOPs, as text and as a drawing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use taal_draw::Layer;
use taal_model::{Mixer, Transformer, TransformerConfig, parameters};

/// Bytes of a 32-bit float.
const FLOAT: u64 = 4;

/// A part of a model, with its sub-parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The last segment of its parameters' names, or a description where it has none.
    pub name: String,
    /// The number of identical parts in sequence; [`parts`](Self::parts) are those of one of them.
    pub count: u64,
    /// The shape of its matrix or vector; empty for a part with sub-parts.
    pub shape: Vec<usize>,
    /// Parameters of all `count`. A tied output matrix has 0: its parameters are counted with the embedding.
    pub params: u64,
    /// Their size in bytes in memory.
    pub bytes: u64,
    /// The types of its matrices in memory, such as `Q4_K`, by name; empty for a part without parameters.
    #[serde(default)]
    pub types: BTreeSet<String>,
    /// Forward floating-point operations per token at full context, of all `count`; only matrix products count, as in
    /// `taal_metrics::flops`.
    pub flops_per_token: u64,
    /// Its sub-parts, in the order of the forward pass.
    pub parts: Vec<Part>,
}

impl Part {
    /// A part without parameters of its own.
    fn work(name: &str, shape: &[usize], flops_per_token: u64) -> Self {
        Self {
            name: name.to_string(),
            count: 1,
            shape: shape.to_vec(),
            params: 0,
            bytes: 0,
            types: BTreeSet::new(),
            flops_per_token,
            parts: Vec::new(),
        }
    }

    fn of(name: &str, parts: Vec<Part>) -> Self {
        let params = parts.iter().map(|part| part.params).sum();
        Self {
            name: name.to_string(),
            count: 1,
            shape: Vec::new(),
            params,
            bytes: parts.iter().map(|part| part.bytes).sum(),
            types: parts.iter().flat_map(|part| part.types.iter().cloned()).collect(),
            flops_per_token: parts.iter().map(|part| part.flops_per_token).sum(),
            parts,
        }
    }

    fn times(self, count: u64) -> Self {
        Self {
            count,
            params: count * self.params,
            bytes: count * self.bytes,
            flops_per_token: count * self.flops_per_token,
            ..self
        }
    }

    /// Its name, with its count.
    fn label(&self) -> String {
        match self.count {
            1 => self.name.clone(),
            count => format!("all {count} {}s (inside: one)", self.name),
        }
    }
}

/// A parameter in memory.
struct Held {
    shape: Vec<usize>,
    bytes: u64,
    types: BTreeSet<String>,
}

impl Held {
    fn count(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// One parameter: the rest of its name, and what it is.
type Named<'a> = (&'a [&'a str], &'a Held);

fn held(model: &Transformer) -> Vec<(String, Held)> {
    let quantized = model.quantized();
    let parameters = parameters::list(model).into_iter();
    let held = parameters.map(|info| {
        let count: u64 = info.shape.iter().map(|&size| size as u64).product();
        let matrices = quantized.get(&info.name).copied().unwrap_or_default();
        let types = matrices.iter().map(|matrix| matrix.kind().to_string()).collect();
        let held = match matrices.is_empty() {
            true => Held {
                shape: info.shape,
                bytes: FLOAT * count,
                types: BTreeSet::from(["F32".to_string()]),
            },
            false => Held {
                shape: info.shape,
                bytes: matrices.iter().map(|matrix| matrix.bytes().len() as u64).sum(),
                types,
            },
        };
        (info.name, held)
    });
    held.collect()
}

/// The parts of a model: `input`, `hidden` and `output`. Identical blocks are one part with a count.
pub fn anatomy(model: &Transformer) -> Part {
    let config = model.config();
    let found = held(model);
    let names: Vec<Vec<&str>> = found.iter().map(|(name, _)| name.split('.').collect()).collect();
    let all: Vec<Named<'_>> = names
        .iter()
        .zip(&found)
        .map(|(name, (_, held))| (name.as_slice(), held))
        .collect();
    let within = |tops: &[&str]| -> Vec<Named<'_>> {
        all.iter()
            .copied()
            .filter(|(name, _)| tops.contains(&name[0]))
            .collect()
    };

    let mut output = grouped(
        &within(&["final_norm", "head_transform", "head", "output_bias"]),
        config,
    );
    if config.tie_embeddings {
        let place = output.iter().position(|part| part.name == "output_bias");
        let work = 2 * (config.d_model * config.vocab_size) as u64;
        let tied = Part::work("head, the token_embedding", &[config.d_model, config.vocab_size], work);
        output.insert(place.unwrap_or(output.len()), tied);
    }
    let mut hidden = Vec::new();
    let encoder: Vec<Named<'_>> = within(&["encoder"])
        .into_iter()
        .map(|(name, held)| (&name[1..], held))
        .collect();
    if !encoder.is_empty() {
        let (blocks, others): (Vec<_>, Vec<_>) = encoder.into_iter().partition(|(name, _)| name[0] == "blocks");
        let mut parts = layers("block", &blocks, 1, config);
        parts.extend(grouped(&others, config));
        hidden.push(Part::of("encoder", parts));
    }
    hidden.extend(match config.mixer {
        Mixer::Attention => layers("block", &within(&["blocks"]), 1, config),
        Mixer::Lstm => layers("LSTM layer", &within(&["recurrent"]), 2, config),
    });
    hidden.extend(grouped(&within(&["relative_bias"]), config));
    Part::of(
        "model",
        vec![
            Part::of(
                "input",
                grouped(
                    &within(&["token_embedding", "position_embedding", "embedding_norm"]),
                    config,
                ),
            ),
            Part::of("hidden", hidden),
            Part::of("output", output),
        ],
    )
}

/// Groups parameters by the next segment of their names.
fn grouped(all: &[Named<'_>], config: &TransformerConfig) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = all;
    while let Some((name, _)) = rest.first() {
        let count = rest.iter().take_while(|(other, _)| other[0] == name[0]).count();
        let (these, others) = rest.split_at(count);
        parts.push(part(name[0], these, config));
        rest = others;
    }
    parts
}

fn part(name: &str, all: &[Named<'_>], config: &TransformerConfig) -> Part {
    let inside: Vec<Named<'_>> = all.iter().map(|&(name, held)| (&name[1..], held)).collect();
    // A weight and an optional bias.
    if inside.iter().all(|(name, _)| name.len() <= 1) {
        let weight = inside[0].1;
        let is_table = ["token_embedding", "position_embedding", "relative_bias"].contains(&name);
        let work = if weight.shape.len() == 2 && !is_table {
            2 * weight.count()
        } else {
            0
        };
        return Part {
            params: inside.iter().map(|(_, held)| held.count()).sum(),
            bytes: inside.iter().map(|(_, held)| held.bytes).sum(),
            types: weight.types.clone(),
            ..Part::work(name, &weight.shape, work)
        };
    }
    let mut parts = grouped(&inside, config);
    if name == "attention" || name == "cross" {
        // Queries times keys, and attention weights times values.
        let work = 4 * (config.max_seq_len * config.n_heads * config.head_dim) as u64;
        let scores = Part::work("scores and their sum", &[], work);
        let place = parts
            .iter()
            .position(|part| part.name == "output")
            .unwrap_or(parts.len());
        parts.insert(place, scores);
    }
    Part::of(name, parts)
}

/// Numbered layers; consecutive identical ones are one part. The number is the segment at `depth`.
fn layers(name: &str, all: &[Named<'_>], depth: usize, config: &TransformerConfig) -> Vec<Part> {
    let mut found: Vec<Part> = Vec::new();
    let mut rest = all;
    while let Some((first, _)) = rest.first() {
        let count = rest
            .iter()
            .take_while(|(other, _)| other[depth] == first[depth])
            .count();
        let (these, others) = rest.split_at(count);
        let inside: Vec<Named<'_>> = these.iter().map(|&(name, held)| (&name[depth + 1..], held)).collect();
        let layer = Part::of(name, grouped(&inside, config));
        match found.last_mut() {
            Some(last) if last.parts == layer.parts => {
                let count = last.count + 1;
                *last = layer.times(count);
            }
            _ => found.push(layer),
        }
        rest = others;
    }
    found
}

/// A row of the printed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its depth; the model itself is at 0.
    pub depth: usize,
    /// The branch lines before it.
    pub branches: String,
    /// Its name, with its count.
    pub label: String,
    /// The part.
    pub part: &'a Part,
}

/// The rows of the tree, from top to bottom.
pub fn rows(root: &Part) -> Vec<Row<'_>> {
    let mut found = Vec::new();
    add_rows(root, 0, "", "", &mut found);
    found
}

fn add_rows<'a>(part: &'a Part, depth: usize, branches: &str, below: &str, found: &mut Vec<Row<'a>>) {
    found.push(Row {
        depth,
        branches: branches.to_string(),
        label: part.label(),
        part,
    });
    for (index, child) in part.parts.iter().enumerate() {
        let is_last = index + 1 == part.parts.len();
        let (branch, further) = if is_last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        add_rows(
            child,
            depth + 1,
            &format!("{below}{branch}"),
            &format!("{below}{further}"),
            found,
        );
    }
}

/// The tree as an SVG file ([`taal_draw::Layer::svg`]), from the input at the top to the output.
pub fn svg(root: &Part) -> String {
    drawn(root).svg(&format!("The layers of a model with {} parameters", root.params))
}

fn drawn(part: &Part) -> Layer {
    let shape: Vec<String> = part.shape.iter().map(ToString::to_string).collect();
    let unless_0 = |number: u64, unit: &str| match number {
        0 => String::new(),
        number => format!("{} {unit}", taal_metrics::short(number as f64)),
    };
    Layer {
        name: part.label(),
        figures: [
            shape.join(" × "),
            unless_0(part.params, "parameters"),
            unless_0(part.flops_per_token, "FLOPs"),
        ],
        inside: part.parts.iter().map(drawn).collect(),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use taal_metrics::flops;
    use taal_model::WeightFormat;

    use super::*;
    use taal_model::ModelSize;

    fn of(config: &TransformerConfig) -> Part {
        anatomy(&config.init(1, &Device::flex()).expect("a valid shape"))
    }

    fn configs() -> Vec<TransformerConfig> {
        let (vocab, len, layers, heads, width) = (50, 16, 3, 4, 32);
        vec![
            TransformerConfig::gpt2(ModelSize {
                vocab_size: vocab,
                max_seq_len: len,
                n_layers: layers,
                n_heads: heads,
                d_model: width,
            }),
            TransformerConfig {
                n_kv_heads: 2,
                ..TransformerConfig::qwen3(ModelSize {
                    vocab_size: vocab,
                    max_seq_len: len,
                    n_layers: layers,
                    n_heads: heads,
                    d_model: width,
                })
            },
            TransformerConfig::lstm(ModelSize {
                vocab_size: vocab,
                max_seq_len: len,
                n_layers: layers,
                n_heads: 1,
                d_model: width,
            }),
            TransformerConfig::bert(ModelSize {
                vocab_size: vocab,
                max_seq_len: len,
                n_layers: layers,
                n_heads: heads,
                d_model: width,
            }),
            TransformerConfig::modernbert(ModelSize {
                vocab_size: vocab,
                max_seq_len: len,
                n_layers: layers,
                n_heads: heads,
                d_model: width,
            }),
        ]
    }

    #[test]
    fn parts_add_up_to_the_parameters_and_the_work_of_the_model() {
        for config in configs() {
            let root = of(&config);
            assert_eq!(root.params, config.n_params(), "{config:?}");
            assert_eq!(root.bytes, 4 * root.params);
            // `flops` does not count the transform before an encoder's output matrix.
            let transform = if config.head_transform { 2 * 32 * 32 } else { 0 };
            let counted = flops::count(&config.shape(config.max_seq_len)).forward / config.max_seq_len as u64;
            assert_eq!(root.flops_per_token, counted + transform, "{config:?}");
        }
    }

    #[test]
    fn parts_in_fewer_bits_show_their_types_and_bytes() {
        let config = TransformerConfig {
            d_model: 256,
            head_dim: 64,
            ..configs()[1].clone()
        };
        let model = config.init(1, &Device::flex()).expect("a valid shape");
        let model = model.with_weights(WeightFormat::Q4KM).expect("whole blocks");
        let root = anatomy(&model);
        assert_eq!(root.bytes, model.weight_bytes());
        assert_eq!(Vec::from_iter(&root.types), ["F32", "Q4_K", "Q6_K", "Q8_0"]);
        let embedding = &root.parts[0].parts[0];
        assert_eq!(Vec::from_iter(&embedding.types), ["Q4_K"]);
        assert_eq!(embedding.bytes, 50 * 144);
        let head = root.parts[2].parts.last().expect("an output matrix");
        assert_eq!(
            (Vec::from_iter(&head.types), head.bytes),
            (vec![&"Q6_K".to_string()], 50 * 210)
        );
    }

    #[test]
    fn identical_blocks_are_one_part_and_others_are_not() {
        let hidden = |config: &TransformerConfig| -> Vec<(String, u64)> {
            let parts = of(config).parts.remove(1).parts;
            parts.into_iter().map(|part| (part.name, part.count)).collect()
        };
        let configs = configs();
        assert_eq!(hidden(&configs[0]), [("block".to_string(), 3)]);
        assert_eq!(hidden(&configs[2]), [("LSTM layer".to_string(), 3)]);
        // ModernBERT's first block has no norm before its attention.
        assert_eq!(
            hidden(&configs[4]),
            [("block".to_string(), 1), ("block".to_string(), 2)]
        );
    }

    #[test]
    fn the_tree_and_the_drawing_have_every_part_once() {
        let root = of(&configs()[0]);
        let rows = rows(&root);
        let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!(labels[..4], ["model", "input", "token_embedding", "position_embedding"]);
        assert_eq!(rows[2].branches, "│  ├─ ");
        assert_eq!(
            rows.last().map(|row| row.label.as_str()),
            Some("head, the token_embedding")
        );
        let svg = svg(&root);
        assert_eq!(svg.matches("<rect class=\"box").count(), rows.len());
        assert_eq!(svg.matches("http").count(), 1, "only the name of the format");
    }
}
