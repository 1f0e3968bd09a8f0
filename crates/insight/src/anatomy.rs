//! The structure of a model: its layers as a tree with shapes, parameters and FLOPs, as text and as a drawing.

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
    /// Their size in bytes in fp32.
    pub bytes: u64,
    /// Forward floating-point operations per token at full context, of all `count`; only matrix products count, as in
    /// `taal_metrics::flops`.
    pub flops_per_token: u64,
    /// Its sub-parts, in the order of the forward pass.
    pub parts: Vec<Part>,
}

impl Part {
    fn leaf(name: &str, shape: &[usize], params: u64, flops_per_token: u64) -> Self {
        Self {
            name: name.to_string(),
            count: 1,
            shape: shape.to_vec(),
            params,
            bytes: FLOAT * params,
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
            bytes: FLOAT * params,
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

/// One parameter: the rest of its name, and its shape.
type Named<'a> = (&'a [&'a str], &'a [usize]);

/// The parts of a model: `input`, `hidden` and `output`. Identical blocks are one part with a count.
pub fn anatomy(model: &Transformer) -> Part {
    let config = model.config();
    let found = parameters::list(model);
    let names: Vec<Vec<&str>> = found.iter().map(|info| info.name.split('.').collect()).collect();
    let all: Vec<Named<'_>> = names
        .iter()
        .zip(&found)
        .map(|(name, info)| (name.as_slice(), info.shape.as_slice()))
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
        let tied = Part::leaf(
            "head, the token_embedding",
            &[config.d_model, config.vocab_size],
            0,
            work,
        );
        output.insert(place.unwrap_or(output.len()), tied);
    }
    let hidden = match config.mixer {
        Mixer::Attention => layers("block", &within(&["blocks"]), 1, config),
        Mixer::Lstm => layers("LSTM layer", &within(&["recurrent"]), 2, config),
    };
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
    let inside: Vec<Named<'_>> = all.iter().map(|&(name, shape)| (&name[1..], shape)).collect();
    // A weight and an optional bias.
    if inside.iter().all(|(name, _)| name.len() <= 1) {
        let size = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
        let weight = inside[0].1;
        let is_table = ["token_embedding", "position_embedding"].contains(&name);
        let work = if weight.len() == 2 && !is_table {
            2 * size(weight)
        } else {
            0
        };
        return Part::leaf(name, weight, inside.iter().map(|(_, shape)| size(shape)).sum(), work);
    }
    let mut parts = grouped(&inside, config);
    if name == "attention" {
        // Queries times keys, and attention weights times values.
        let work = 4 * (config.max_seq_len * config.n_heads * config.head_dim) as u64;
        let scores = Part::leaf("scores and their sum", &[], 0, work);
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
        let inside: Vec<Named<'_>> = these.iter().map(|&(name, shape)| (&name[depth + 1..], shape)).collect();
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
