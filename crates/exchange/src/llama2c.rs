//! Model files of llama2.c: LLaMA in fp32 as Karpathy's `run.c` maps it into memory.
//!
//! Reads the first layout, seven integers and then the tensors, and version 1, which begins with `ak42`; writes the first, which
//! `run.c` opens. Quantized files (version 2) are refused: their weights are 8-bit integers, and Taal trains in fp32.
//!
//! The two coordinates of a rotary pair are adjacent in these files and half a head apart in Taal, as in Hugging Face's files;
//! rows of queries and keys are reordered.

use std::io::{Seek, SeekFrom};
use std::path::Path;

use burn::tensor::Device;
use taal_store::{AtomicFile, Map};

use taal_model::ModelError;
use taal_model::Transformer;
use taal_model::hugging_face::Family;
use taal_model::layout::{Parameter, Part};
use taal_model::parameters;
use taal_model::{MAX_DIMENSION, MAX_LAYERS, ModelSize, TransformerConfig};

/// The first bytes of a file of version 1 or later: `ak42` as a little-endian number.
const MAGIC: [u8; 4] = 0x616b_3432_u32.to_le_bytes();

/// Bytes of the first layout's header: seven 32-bit integers.
const LEGACY_HEADER_BYTES: usize = 28;

/// Bytes of the header of version 1.
const HEADER_BYTES: usize = 256;

/// Hard-coded in `run.c`.
const NORM_EPS: f64 = 1e-5;
/// Hard-coded in `run.c`.
const ROPE_THETA: f64 = 10_000.0;

/// Bytes of a number.
const FLOAT: usize = 4;

/// Whether a file begins as llama2.c's files do. The first layout has no magic number; its seven integers must be consistent.
pub fn is_llama2c(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || legacy_header(bytes).is_some_and(|header| header.check().is_ok())
}

/// Opens a file: the header is checked against the size of the file before it is used.
///
/// # Errors
///
/// [`ModelError::File`] names what is wrong with the header, or the tensor with a number that is not finite.
pub fn open(path: &Path, device: &Device) -> Result<Transformer, ModelError> {
    from_bytes(path, &Map::open(path)?, device)
}

/// Builds a model from the contents of a file; `path` is for messages.
///
/// # Errors
///
/// As [`open`].
pub fn from_bytes(path: &Path, bytes: &[u8], device: &Device) -> Result<Transformer, ModelError> {
    let bad = |detail: String| ModelError::file(path, detail);
    let sections = Sections::read(bytes).map_err(bad)?;
    let config = &sections.config;
    config.validate().map_err(|error| bad(error.to_string()))?;
    let model = config.empty(device)?;
    parameters::replace(model, |name, shape| {
        let parameter = place(config, name, shape);
        let mut values = vec![0.0; parameter.count()];
        for (index, part) in parameter.parts.iter().enumerate() {
            let (start, len) = sections
                .find(&part.name)
                .ok_or_else(|| bad(format!("`{}` has no place in such a file", part.name)))?;
            let (stored, _) = bytes[start..start + FLOAT * len].as_chunks::<FLOAT>();
            let stored: Vec<f32> = stored.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            if let Some(at) = stored.iter().position(|value| !value.is_finite()) {
                return Err(bad(format!(
                    "tensor `{}` holds {} at index {at}: these weights have diverged or are damaged",
                    part.name, stored[at]
                )));
            }
            parameter.place(index, 0, &stored, &mut values);
        }
        Ok(values)
    })
}

/// Atomically writes a model in the first layout.
///
/// # Errors
///
/// [`ModelError::Config`] names the field that `run.c` does not support; [`ModelError::Store`] where the path exists already, or
/// writing fails.
pub fn save(model: &Transformer, path: &Path) -> Result<(), ModelError> {
    let config = model.config();
    check_expressible(config)?;
    let sections = Sections::legacy(config.clone());
    if taal_store::exists(path) {
        return Err(taal_store::Error::AlreadyExists {
            path: path.to_path_buf(),
        }
        .into());
    }
    let mut file = AtomicFile::create(path)?;
    file.write_bytes(&header_bytes(config))?;
    let mut failure = None;
    let mut write = |name: &str, values: &[f32]| {
        if failure.is_none()
            && let Some((start, _)) = sections.find(name)
        {
            failure = write_at(&mut file, path, start, values).err();
        }
    };
    for (name, table) in ["freq_cis_real", "freq_cis_imag"].iter().zip(angles(config)) {
        write(name, &table);
    }
    parameters::read(model, |name, shape, values| {
        let parameter = place(config, name, shape);
        for (index, part) in parameter.parts.iter().enumerate() {
            write(&part.name, &parameter.part_values(index, &values));
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(file.commit()?),
    }
}

fn write_at(file: &mut AtomicFile, path: &Path, start: usize, values: &[f32]) -> Result<(), ModelError> {
    file.seek(SeekFrom::Start(start as u64))
        .map_err(|source| taal_store::Error::io("write", path, source))?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(file.write_bytes(&bytes)?)
}

/// Cosines and sines of the angles of every position, which old programs read from the file.
fn angles(config: &TransformerConfig) -> [Vec<f32>; 2] {
    let half = config.head_dim / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| {
            let exponent = (2 * i) as f32 / config.head_dim as f32;
            1.0 / ROPE_THETA.powf(f64::from(exponent)) as f32
        })
        .collect();
    let table = |function: fn(f32) -> f32| {
        let positions = 0..config.max_seq_len;
        positions
            .flat_map(|position| {
                frequencies
                    .iter()
                    .map(move |frequency| function(position as f32 * frequency))
            })
            .collect()
    };
    [table(f32::cos), table(f32::sin)]
}

/// The first field that keeps a model out of llama2.c's files.
fn check_expressible(c: &TransformerConfig) -> Result<(), ModelError> {
    let refuse = |field: &str, why: &str| Err(ModelError::config(field, format!("llama2.c {why}")));
    if c.encoder.is_some() {
        return refuse("encoder", "has no encoder");
    }
    if let Some(field) = Family::obstacle(c) {
        return refuse(field, "does not support this; it runs LLaMA models only");
    }
    match Family::of(c) {
        Family::Llama => {}
        Family::Mistral => return refuse("window", "has no sliding window"),
        Family::Qwen2 => return refuse("qkv_bias", "has no biases"),
        Family::Qwen3 => return refuse("qk_norm", "has no norm of queries and keys"),
        Family::Gpt2 => return refuse("norm", "runs LLaMA models only, and this one is a GPT-2"),
        _ => return refuse("is_causal", "runs causal models only"),
    }
    if c.qkv_bias || c.attention_output_bias {
        return refuse("qkv_bias", "has no biases");
    }
    if c.ffn_bias {
        return refuse("ffn_bias", "has no biases");
    }
    if c.n_heads * c.head_dim != c.d_model {
        return refuse("head_dim", "has heads of d_model / n_heads only");
    }
    if c.rope_scaling.is_some() {
        return refuse("rope_scaling", "has no scaled rotary positions");
    }
    if c.rope_theta != ROPE_THETA {
        return refuse(
            "rope_theta",
            &format!("has 10000 built in, and this model has {}", c.rope_theta),
        );
    }
    if c.norm_eps != NORM_EPS {
        return refuse(
            "norm_eps",
            &format!("has 1e-5 built in, and this model has {:e}", c.norm_eps),
        );
    }
    Ok(())
}

fn header_bytes(c: &TransformerConfig) -> Vec<u8> {
    let vocab_size = if c.tie_embeddings { 1 } else { -1 } * c.vocab_size as i32;
    let sizes = [c.d_model, c.d_ff, c.n_layers, c.n_heads, c.n_kv_heads];
    let sizes = sizes.into_iter().map(|size| size as i32);
    let numbers = sizes.chain([vocab_size, c.max_seq_len as i32]);
    numbers.flat_map(i32::to_le_bytes).collect()
}

/// The integers of a header, not checked yet.
#[derive(Debug, Clone, Copy)]
struct Header {
    dim: i32,
    hidden_dim: i32,
    n_layers: i32,
    n_heads: i32,
    n_kv_heads: i32,
    vocab_size: i32,
    seq_len: i32,
    is_tied: bool,
}

fn integers(bytes: &[u8]) -> Option<[i32; 7]> {
    let (numbers, _) = bytes.get(..LEGACY_HEADER_BYTES)?.as_chunks::<4>();
    let numbers: Vec<i32> = numbers.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    numbers.try_into().ok()
}

impl Header {
    fn new([dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len]: [i32; 7], is_tied: bool) -> Self {
        Self {
            dim,
            hidden_dim,
            n_layers,
            n_heads,
            n_kv_heads,
            vocab_size,
            seq_len,
            is_tied,
        }
    }

    fn check(self) -> Result<TransformerConfig, String> {
        let size = |name: &str, value: i32, most: usize| {
            usize::try_from(value)
                .ok()
                .filter(|size| (1..=most).contains(size))
                .ok_or_else(|| format!("its header has {name} = {value}; expected 1..={most}"))
        };
        let d_model = size("dim", self.dim, MAX_DIMENSION)?;
        let d_ff = size("hidden_dim", self.hidden_dim, MAX_DIMENSION)?;
        let n_layers = size("n_layers", self.n_layers, MAX_LAYERS)?;
        let n_heads = size("n_heads", self.n_heads, MAX_DIMENSION)?;
        let n_kv_heads = size("n_kv_heads", self.n_kv_heads, MAX_DIMENSION)?;
        let vocab_size = size("vocab_size", self.vocab_size, MAX_DIMENSION)?;
        let max_seq_len = size("seq_len", self.seq_len, MAX_DIMENSION)?;
        if !d_model.is_multiple_of(2 * n_heads) {
            return Err(format!(
                "its header has n_heads = {n_heads}; expected heads of an even width in dim = {d_model}"
            ));
        }
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(format!(
                "its header has n_kv_heads = {n_kv_heads}; expected a divisor of n_heads = {n_heads}"
            ));
        }
        Ok(TransformerConfig {
            d_ff,
            n_kv_heads,
            norm_eps: NORM_EPS,
            rope_theta: ROPE_THETA,
            tie_embeddings: self.is_tied,
            ..TransformerConfig::llama(ModelSize {
                vocab_size,
                max_seq_len,
                n_layers,
                n_heads,
                d_model,
            })
        })
    }
}

/// The header of the first layout, in which a negative vocabulary means an untied output matrix.
fn legacy_header(bytes: &[u8]) -> Option<Header> {
    let mut numbers = integers(bytes)?;
    let is_tied = numbers[5] > 0;
    numbers[5] = numbers[5].checked_abs()?;
    Some(Header::new(numbers, is_tied))
}

/// Where every tensor is.
struct Sections {
    config: TransformerConfig,
    /// Name, offset in bytes, numbers per layer, and number of layers that have the tensor.
    all: Vec<(&'static str, usize, usize, usize)>,
}

impl Sections {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let is_versioned = bytes.starts_with(&MAGIC);
        let (header, start) = if is_versioned {
            (versioned_header(bytes)?, HEADER_BYTES)
        } else {
            let header = legacy_header(bytes).ok_or_else(|| {
                format!(
                    "not a whole llama2.c file: {} bytes, and its header has 28; copy it again",
                    bytes.len()
                )
            })?;
            (header, LEGACY_HEADER_BYTES)
        };
        let config = header
            .check()
            .map_err(|detail| format!("not a llama2.c file: {detail}"))?;
        let order = if is_versioned {
            version_1(&config)
        } else {
            version_0(&config)
        };
        // In more than 64 bits, since the size that the largest accepted header describes does not fit in 64.
        let counts = order.iter().map(|(_, count, layers)| *count as u128 * *layers as u128);
        let expected = start as u128 + FLOAT as u128 * counts.sum::<u128>();
        if expected != bytes.len() as u128 {
            return Err(format!(
                "its header describes {expected} bytes of llama2.c's layout, but the file has {}; copy it again",
                bytes.len()
            ));
        }
        Ok(Self::new(config, start, order))
    }

    fn legacy(config: TransformerConfig) -> Self {
        let order = version_0(&config);
        Self::new(config, LEGACY_HEADER_BYTES, order)
    }

    fn new(config: TransformerConfig, mut start: usize, order: Vec<(&'static str, usize, usize)>) -> Self {
        let mut all = Vec::with_capacity(order.len());
        for (name, count, layers) in order {
            all.push((name, start, count, layers));
            start += FLOAT * count * layers;
        }
        Self { config, all }
    }

    /// The first byte and the count of numbers of a tensor, named as in [`place`].
    fn find(&self, name: &str) -> Option<(usize, usize)> {
        let (name, layer) = match name.split_once('.') {
            Some((name, layer)) => (name, layer.parse().ok()?),
            None => (name, 0_usize),
        };
        let (_, start, count, layers) = *self.all.iter().find(|(section, ..)| *section == name)?;
        (layer < layers).then_some((start + FLOAT * count * layer, count))
    }
}

fn versioned_header(bytes: &[u8]) -> Result<Header, String> {
    let short = || {
        format!(
            "not a whole llama2.c file: {} bytes, and its header has {HEADER_BYTES}; copy it again",
            bytes.len()
        )
    };
    let header = bytes.get(..HEADER_BYTES).ok_or_else(short)?;
    let version = header[4..].first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes));
    match version {
        1 => {}
        2 => {
            return Err(
                "a llama2.c file of version 2, whose weights are 8-bit integers; export it again with \
                 `export.py --version 0` or 1, which keep all bits"
                    .to_string(),
            );
        }
        other => {
            return Err(format!(
                "a llama2.c file of version {other}; only version 1 and unversioned files are read"
            ));
        }
    }
    let is_tied = match header[8 + LEGACY_HEADER_BYTES] {
        0 => false,
        1 => true,
        other => {
            return Err(format!(
                "not a llama2.c file: its header has shared_classifier = {other}; expected 0 or 1"
            ));
        }
    };
    let numbers = integers(&header[8..]).ok_or_else(short)?;
    Ok(Header::new(numbers, is_tied))
}

/// Names, counts of numbers and layers in the order of the first layout. The tables of angles were used by the first programs only.
fn version_0(c: &TransformerConfig) -> Vec<(&'static str, usize, usize)> {
    let mut order = vec![
        ("token_embedding", c.vocab_size * c.d_model, 1),
        ("attention_norm", c.d_model, c.n_layers),
    ];
    order.extend(attention(c));
    order.push(("ffn_norm", c.d_model, c.n_layers));
    order.extend(feed_forward(c));
    order.push(("final_norm", c.d_model, 1));
    let angles = c.max_seq_len * c.head_dim / 2;
    order.extend([("freq_cis_real", angles, 1), ("freq_cis_imag", angles, 1)]);
    order.extend(head(c));
    order
}

/// The same of version 1.
fn version_1(c: &TransformerConfig) -> Vec<(&'static str, usize, usize)> {
    let mut order = vec![
        ("attention_norm", c.d_model, c.n_layers),
        ("ffn_norm", c.d_model, c.n_layers),
        ("final_norm", c.d_model, 1),
        ("token_embedding", c.vocab_size * c.d_model, 1),
    ];
    order.extend(attention(c));
    order.extend(feed_forward(c));
    order.extend(head(c));
    order
}

fn attention(c: &TransformerConfig) -> [(&'static str, usize, usize); 4] {
    let queries = c.n_heads * c.head_dim * c.d_model;
    let keys = c.n_kv_heads * c.head_dim * c.d_model;
    [("wq", queries), ("wk", keys), ("wv", keys), ("wo", queries)].map(|(name, count)| (name, count, c.n_layers))
}

fn feed_forward(c: &TransformerConfig) -> [(&'static str, usize, usize); 3] {
    ["w1", "w2", "w3"].map(|name| (name, c.d_ff * c.d_model, c.n_layers))
}

fn head(c: &TransformerConfig) -> Option<(&'static str, usize, usize)> {
    (!c.tie_embeddings).then_some(("wcls", c.vocab_size * c.d_model, 1))
}

/// Where a parameter of ours is: the section of its tensors, and the layer after a dot.
fn place(c: &TransformerConfig, ours: &str, shape: &[usize]) -> Parameter {
    let mut fields = ours.split('.');
    let (name, layer) = match fields.next() {
        Some("blocks") => (ours.splitn(3, '.').nth(2).unwrap_or(ours), fields.next()),
        _ => (ours, None),
    };
    let whole = |section: &str, is_transposed: bool| {
        let name = match layer {
            Some(layer) => format!("{section}.{layer}"),
            None => section.to_string(),
        };
        Parameter::whole(name, shape, is_transposed)
    };
    match name {
        "token_embedding.weight" => whole("token_embedding", false),
        "final_norm.weight" => whole("final_norm", false),
        "head.weight" => whole("wcls", true),
        "attention_norm.weight" => whole("attention_norm", false),
        "feed_forward_norm.weight" => whole("ffn_norm", false),
        "attention.output.weight" => whole("wo", true),
        "feed_forward.gate.weight" => whole("w1", true),
        "feed_forward.down.weight" => whole("w2", true),
        "feed_forward.up.weight" => whole("w3", true),
        "attention.qkv.weight" => {
            let [queries, keys] = [c.n_heads, c.n_kv_heads].map(|heads| heads * c.head_dim);
            let part = |section: &str, width| {
                let name = format!("{section}.{}", layer.unwrap_or("0"));
                Part::new(name, shape, width, true)
            };
            let parts = vec![
                part("wq", queries).with_interleaved_heads(c.head_dim),
                part("wk", keys).with_interleaved_heads(c.head_dim),
                part("wv", keys),
            ];
            Parameter::cut(shape, true, parts)
        }
        _ => whole(name, false),
    }
}
