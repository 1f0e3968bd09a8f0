//! Adapter directories as PEFT has them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The base model is named by the BLAKE3 hash of its weights, which is kept in the metadata of the safetensors file, where PEFT ignores
//! it. An adapter that PEFT wrote has no hash, and any base that its tensors fit is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use taal_kernels::Dense;

use super::adapter_config::AdapterConfig;
use super::halves::{Half, Whole, joined, patterns};
use super::layout::Layout;
use super::lora::{Linear, Lora, Values, linears, short_name};
use super::saved::saved_layers;
use super::shards::Shards;
use super::weights::{self, Stored, shown};
use super::{
    CONFIG_FILE, Companions, Family, INDEX_FILE, MAX_CONFIG_BYTES, WEIGHTS_FILE, companion_files, parse_config,
    read_config,
};
use crate::ModelError;
use crate::config::TransformerConfig;
use crate::parameters::{self, to_vec};
use crate::transformer::Transformer;

/// The file of an adapter directory that says what its tensors mean.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";
/// The tensors of an adapter.
pub const ADAPTER_WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The same as older versions of PEFT write them, as a pickle.
const PICKLED_WEIGHTS_FILE: &str = "adapter_model.bin";

/// What PEFT puts before a layer's name.
pub(super) const PREFIX: &str = "base_model.model.";
/// The key of the base's hash in the metadata of the weights.
const BASE_HASH: &str = "base_blake3";
/// Bytes hashed at a time.
const HASHED_BYTES: usize = 1 << 20;

/// The model that an adapter was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its directory.
    pub dir: PathBuf,
    /// The layout of its weights, which decides the names of the layers.
    pub family: Family,
    /// The BLAKE3 hash of its weights, see [`weights_hash`].
    pub blake3: String,
}

impl Base {
    /// The model of a directory.
    ///
    /// # Errors
    ///
    /// [`ModelError::Config`] where it is an adapter itself; [`ModelError::File`]; [`ModelError::Store`].
    pub fn open(dir: &Path) -> Result<Self, ModelError> {
        if is_adapter_dir(dir) {
            return Err(ModelError::Input(format!(
                "{} is an adapter, and an adapter needs a model with weights: taal adapter merge makes one of it",
                dir.display()
            )));
        }
        let (_, family) = read_config(dir)?;
        Ok(Self {
            dir: taal_store::resolve(dir)?,
            family,
            blake3: weights_hash(dir)?,
        })
    }
}

/// The BLAKE3 hash of the weights of a model directory: that of `model.safetensors`, or, where they are in several files, of the
/// concatenation of these in the order of their names; of an adapter directory, that of the adapter's.
///
/// # Errors
///
/// [`ModelError::File`] and [`ModelError::Store`] where the files cannot be read.
pub fn weights_hash(dir: &Path) -> Result<String, ModelError> {
    let name = if is_adapter_dir(dir) {
        ADAPTER_WEIGHTS_FILE
    } else {
        WEIGHTS_FILE
    };
    let path = dir.join(name);
    let is_sharded = !taal_store::exists(&path) && taal_store::exists(&dir.join(INDEX_FILE));
    let paths = match is_sharded {
        true => Shards::open(dir, &read_config(dir)?.0)?.paths(),
        false => vec![path],
    };
    let maps: Vec<taal_store::Map> = paths
        .iter()
        .map(|path| taal_store::Map::open(path))
        .collect::<Result<_, _>>()?;
    let parts = maps
        .iter()
        .flat_map(|map| map.chunks(HASHED_BYTES).map(move |part| (map, part)));
    Ok(taal_store::blake3_hex_of(parts.map(|(map, part)| {
        let copy = part.to_vec();
        map.release(part);
        copy
    })))
}

/// What an adapter directory says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterInfo {
    /// Rank, scale and targets.
    pub lora: Lora,
    /// The base model as the file names it: a path, or a name on Hugging Face.
    pub base: Option<String>,
    /// The hash of the base's weights; none where PEFT wrote the adapter.
    pub base_blake3: Option<String>,
    /// The numbers that it has.
    pub n_params: u64,
}

/// Whether a directory has an adapter and no weights of a whole model.
pub fn is_adapter_dir(dir: &Path) -> bool {
    let has = |name: &str| taal_store::exists(&dir.join(name));
    has(ADAPTER_CONFIG_FILE) && !has(WEIGHTS_FILE) && !has(INDEX_FILE)
}

/// Reads the description of an adapter directory.
///
/// # Errors
///
/// [`ModelError::File`] names the file and the key that is missing, wrong or not supported.
pub fn open_adapter_info(dir: &Path) -> Result<AdapterInfo, ModelError> {
    let config = AdapterConfig::read(dir)?;
    let path = dir.join(ADAPTER_WEIGHTS_FILE);
    let map = open_weights(dir)?;
    let (tensors, base_blake3) = parse(&path, &map)?;
    // The table of tokens of a tied model is in the file a second time, as the output matrix.
    let is_table = |name: &str| !name.contains(".lora_");
    let mut tables = BTreeSet::new();
    let mut count = |name: &str, view: TensorView<'_>| {
        if config.ensure_weight_tying && is_table(name) && !tables.insert(view.data().to_vec()) {
            return 0;
        }
        let numbers = view.shape().iter().product::<usize>() as u64;
        // Half of the B of two matrices in one layer is zeros.
        let is_doubled = name.ends_with(".lora_B.weight") && view.shape().last() == Some(&(2 * config.r));
        numbers / if is_doubled { 2 } else { 1 }
    };
    let n_params = tensors.iter().map(|(name, view)| count(name, view)).sum();
    Ok(AdapterInfo {
        lora: config.lora(),
        base: config.base_model_name_or_path,
        base_blake3,
        n_params,
    })
}

/// The bytes of an adapter's weights.
fn open_weights(dir: &Path) -> Result<taal_store::Map, ModelError> {
    let (path, pickle) = (dir.join(ADAPTER_WEIGHTS_FILE), dir.join(PICKLED_WEIGHTS_FILE));
    if !taal_store::exists(&path) && taal_store::exists(&pickle) {
        let detail = format!(
            "a PyTorch pickle, which is never opened because reading it can run any code: of an adapter only \
             {ADAPTER_WEIGHTS_FILE} is read; save it again with PEFT's save_pretrained"
        );
        return Err(ModelError::file(pickle, detail));
    }
    Ok(taal_store::Map::open(&path)?)
}

/// The tensors, and the hash of the base where the file has it.
fn parse<'data>(path: &Path, bytes: &'data [u8]) -> Result<(SafeTensors<'data>, Option<String>), ModelError> {
    let tensors = weights::parse_within(path, bytes, weights::MAX_HEADER_BYTES)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
        ModelError::file(
            path,
            format!("not a whole safetensors file ({})", shown(&error.to_string())),
        )
    })?;
    let hash = metadata
        .metadata()
        .as_ref()
        .and_then(|pairs| pairs.get(BASE_HASH).cloned());
    Ok((tensors, hash))
}

/// Puts an adapter on a model, whose layers have the names of a family's files. Where the hash of the model's weights is given, it must be
/// that of the adapter's base.
///
/// # Errors
///
/// [`ModelError::File`] names the tensor or the key that does not fit, and both hashes where the base is another.
pub fn with_adapter(
    model: Transformer,
    family: Family,
    dir: &Path,
    base_blake3: Option<&str>,
) -> Result<Transformer, ModelError> {
    let config = AdapterConfig::read(dir)?;
    let lora = config.lora();
    let path = dir.join(ADAPTER_WEIGHTS_FILE);
    let map = open_weights(dir)?;
    let (tensors, made_for) = parse(&path, &map)?;
    if let (Some(made_for), Some(found)) = (&made_for, base_blake3)
        && made_for != found
    {
        let base = config.base_model_name_or_path.filter(|base| !base.is_empty());
        let then = base.map_or(String::new(), |base| {
            format!(", which was in {}", taal_store::excerpt(&base))
        });
        return Err(ModelError::file(
            dir,
            format!(
                "the adapter was made for a base model whose weights have the BLAKE3 hash {}, and those of this one have {found}; \
                 open it with the model that it was made for{then}",
                shown(made_for)
            ),
        ));
    }
    let reader = Reader {
        path: &path,
        tensors: &tensors,
        layout: Layout::new(model.config(), family),
        lora: &lora,
    };
    let mut left: BTreeSet<&str> = tensors.names().into_iter().collect();
    let model = match reader.saved(config.ensure_weight_tying, &mut left)? {
        Some((vocab_size, found)) => parameters::with_tokens(&model, vocab_size, found)?,
        None => model,
    };
    let found = reader.read(&model, left)?;
    Ok(model.with_values(&lora, found))
}

/// The names of A and B of a layer.
fn low_rank_names(module: &str) -> [String; 2] {
    ["A", "B"].map(|kind| format!("{PREFIX}{module}.lora_{kind}.weight"))
}

/// Reads the tensors of an adapter for a model.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) tensors: &'a SafeTensors<'a>,
    pub(super) layout: Layout,
    pub(super) lora: &'a Lora,
}

impl Reader<'_> {
    /// The low-rank parts, which are all tensors that are left.
    fn read(&self, model: &Transformer, mut left: BTreeSet<&str>) -> Result<BTreeMap<String, Values>, ModelError> {
        let mut found = BTreeMap::new();
        for (name, dense) in model.dense_layers_ref() {
            if let Some(values) = self.layer(&name, dense, &mut left)? {
                found.insert(name, values);
            }
        }
        if let Some(name) = left.first() {
            let detail = format!("tensor `{}` has no place in this model", shown(name));
            return Err(ModelError::file(self.path, detail));
        }
        match found.is_empty() {
            true => Err(ModelError::file(self.path, "has no tensors")),
            false => Ok(found),
        }
    }

    /// The adapter of one of our layers, whose tensors are taken from `left`.
    fn layer(&self, name: &str, dense: &Dense, left: &mut BTreeSet<&str>) -> Result<Option<Values>, ModelError> {
        let [d_input, d_output] = dense.weight.lazy_shape().dims();
        let linears = linears(&self.layout, name, [d_input, d_output]);
        let mut parts = Vec::new();
        let mut matrices = Vec::new();
        for Linear { module, outputs, half } in linears {
            let Some(names) = self.names_of(&module) else { continue };
            let [a, b] = &names;
            left.remove(a.as_str());
            left.remove(b.as_str());
            matrices.push(match half {
                Some(half) => self.half(half, &names, [d_input, outputs.len()])?,
                None => [
                    self.matrix(a, [self.lora.rank, d_input])?,
                    self.matrix(b, [outputs.len(), self.lora.rank])?,
                ],
            });
            parts.push(outputs);
        }
        Ok((!parts.is_empty()).then(|| in_our_order(parts, &matrices, d_input, self.lora.rank)))
    }

    /// The names of A and B of a layer, where the file has one of them.
    fn names_of(&self, module: &str) -> Option<[String; 2]> {
        let has = |module: &str| {
            low_rank_names(module)
                .iter()
                .any(|name| self.tensors.tensor(name).is_ok())
        };
        let is_stored = |weight: &str| weight.strip_suffix(".weight").is_some_and(has);
        let stored = self.layout.stored_name(&format!("{module}.weight"), is_stored)?;
        stored.strip_suffix(".weight").map(low_rank_names)
    }

    pub(super) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>, ModelError> {
        let stored = self.stored(name)?;
        if stored.view.shape() != shape {
            let detail = format!(
                "has shape {:?}, but this model and a rank of {} ask for {shape:?}",
                stored.view.shape(),
                self.lora.rank
            );
            return Err(stored.bad(name, &detail));
        }
        stored.values(name, shape[1])
    }

    pub(super) fn stored(&self, name: &str) -> Result<Stored<'_>, ModelError> {
        let view = self.tensors.tensor(name).map_err(|_| {
            ModelError::file(
                self.path,
                format!("tensor `{}` is missing, and its pair is there", shown(name)),
            )
        })?;
        Ok(Stored {
            path: self.path,
            view,
            map: None,
        })
    }
}

/// A `[rank, d_input]` and B `[width, rank]` of each part, as one of our layers has them.
fn in_our_order(parts: Vec<Range<usize>>, matrices: &[[Vec<f32>; 2]], d_input: usize, rank: usize) -> Values {
    let of_a = |row: usize| {
        matrices
            .iter()
            .flat_map(move |[a, _]| (0..rank).map(move |r| a[r * d_input + row]))
    };
    let of_b = |r: usize| {
        matrices
            .iter()
            .flat_map(move |[_, b]| b.iter().skip(r).step_by(rank).copied())
    };
    Values {
        a: (0..d_input).flat_map(of_a).collect(),
        b: (0..rank).flat_map(of_b).collect(),
        parts,
    }
}

/// The files of an adapter directory, by name: PEFT's two, the base's `config.json` with the adapter's special ids, so that the directory can be
/// opened in its place, and the companions.
///
/// # Errors
///
/// [`ModelError::Input`] where the model has no adapter; [`ModelError::Store`] where the base cannot be read.
pub fn adapter_files(
    model: &Transformer,
    lora: &Lora,
    base: &Base,
    companions: Companions<'_>,
) -> Result<Vec<(String, Vec<u8>)>, ModelError> {
    let layout = Layout::new(model.config(), base.family);
    let mut tensors = BTreeMap::new();
    let mut modules = BTreeSet::new();
    let mut halves: BTreeMap<String, Vec<Half>> = BTreeMap::new();
    for (name, dense) in model.dense_layers_ref() {
        let Some(adapter) = &dense.adapter else { continue };
        let [d_input, d_output] = dense.weight.lazy_shape().dims();
        let linears = linears(&layout, &name, [d_input, d_output]);
        let (a, b) = (to_vec(adapter.a.val()), to_vec(adapter.b.val()));
        let config = adapter.config();
        let (rank, ranks, width) = (config.rank, config.rank * config.parts.len(), config.width());
        let mut first = 0;
        for (index, outputs) in config.parts.iter().enumerate() {
            let Some(linear) = linears.iter().find(|linear| linear.outputs == *outputs) else {
                continue;
            };
            let of_a = (0..rank).flat_map(|r| a.iter().skip(index * rank + r).step_by(ranks).copied());
            let of_b = (first..first + outputs.len()).flat_map(|column| b.iter().skip(column).step_by(width).copied());
            let (a, b): (Vec<f32>, Vec<f32>) = (of_a.collect(), of_b.collect());
            match linear.half {
                Some(index) => halves
                    .entry(linear.module.clone())
                    .or_default()
                    .push(Half { index, a, b }),
                None => {
                    let [name_a, name_b] = low_rank_names(&linear.module);
                    tensors.insert(name_a, ([rank, d_input], a));
                    tensors.insert(name_b, ([outputs.len(), rank], b));
                }
            }
            modules.insert(linear.module.clone());
            first += outputs.len();
        }
    }
    let mut doubled = BTreeSet::new();
    for (module, halves) in halves {
        let Whole { rank, a, b } = joined(halves, lora.rank);
        if rank > lora.rank {
            doubled.insert(short_name(&module).to_owned());
        }
        let [name_a, name_b] = low_rank_names(&module);
        tensors.insert(name_a, ([rank, a.len() / rank], a));
        tensors.insert(name_b, ([b.len() / rank, rank], b));
    }
    if tensors.is_empty() {
        return Err(ModelError::Input("the model has no adapter".to_string()));
    }
    let saved = saved_layers(&layout, lora);
    parameters::read(model, |name, shape, values| {
        if let Some(layer) = saved.iter().find(|layer| layer.ours == name) {
            let parameter = layout.parameter(name, shape);
            let values = parameter.part_values(0, &values);
            let shape = [parameter.parts[0].shape[0], parameter.parts[0].row_len()];
            if layout.is_tied() {
                // As PEFT does, so that a reader that does not tie them has the same matrix twice.
                tensors.insert(format!("{PREFIX}{}", layout.head_name()), (shape, values.clone()));
            }
            tensors.insert(format!("{PREFIX}{}.weight", layer.module), (shape, values));
        }
    });
    let config = config_json(model.config(), lora, base, &modules, &doubled);
    let mut files = vec![
        (
            CONFIG_FILE.to_string(),
            base_config(base, companions, model.config().vocab_size)?,
        ),
        (ADAPTER_CONFIG_FILE.to_string(), config),
        (ADAPTER_WEIGHTS_FILE.to_string(), weights_bytes(&tensors, base)?),
    ];
    let others = companion_files(companions).into_iter();
    files.extend(others.map(|(name, bytes)| (name.to_string(), bytes)));
    Ok(files)
}

/// The base's `config.json` with the special ids and the number of tokens of the adapter.
fn base_config(base: &Base, companions: Companions<'_>, vocab_size: usize) -> Result<Vec<u8>, ModelError> {
    let path = base.dir.join(CONFIG_FILE);
    let text = taal_store::read_text(&path, MAX_CONFIG_BYTES)?;
    let has_more = parse_config(&path, &text)?.0.vocab_size != vocab_size;
    if companions.special_ids.is_none() && !has_more {
        return Ok(text.into_bytes());
    }
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).map_err(|error| ModelError::file(&path, format!("not valid JSON: {error}")))?;
    if let Some(special_ids) = companions.special_ids {
        config.extend(special_ids.config().clone());
    }
    if has_more {
        let set = |object: &mut Map<String, Value>| {
            if let Some(size) = object.get_mut("vocab_size") {
                *size = vocab_size.into();
            }
        };
        set(&mut config);
        if let Some(own) = config.get_mut("taal").and_then(Value::as_object_mut) {
            set(own);
        }
    }
    Ok(format!("{:#}\n", Value::Object(config)).into_bytes())
}

fn weights_bytes(tensors: &BTreeMap<String, ([usize; 2], Vec<f32>)>, base: &Base) -> Result<Vec<u8>, ModelError> {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let stored: Vec<(&String, [usize; 2], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, *shape, bytes(values)))
        .collect();
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    // The format writes its metadata in no fixed order where there is more than one key, so the hash is the only one.
    let metadata = Some([(BASE_HASH.to_string(), base.blake3.clone())].into());
    views
        .and_then(|views| safetensors::serialize(views, metadata))
        .map_err(|error| ModelError::Input(format!("the adapter cannot be written as safetensors: {error}")))
}

/// `adapter_config.json` with PEFT's keys in their order.
fn config_json(
    config: &TransformerConfig,
    lora: &Lora,
    base: &Base,
    modules: &BTreeSet<String>,
    doubled: &BTreeSet<String>,
) -> Vec<u8> {
    let [rank_pattern, alpha_pattern] = patterns(lora, doubled);
    let mut value = json!({
        "alpha_pattern": alpha_pattern,
        "auto_mapping": null,
        "base_model_name_or_path": base.dir.display().to_string(),
        "bias": "none",
        // GPT-2's Conv1D stores its weights as [in, out].
        "fan_in_fan_out": base.family == Family::Gpt2,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": rank_pattern,
        "revision": null,
        "target_modules": target_modules(modules),
        "task_type": match config.is_encoder_decoder() {
            true => Some("SEQ_2_SEQ_LM"),
            false => config.is_causal.then_some("CAUSAL_LM"),
        },
        "use_dora": false,
        "use_rslora": lora.is_rslora,
    });
    if !lora.modules_to_save.is_empty() {
        value["modules_to_save"] = json!(lora.modules_to_save);
        // Without it, PEFT trains and uses a copy of the table as the embedding alone.
        value["ensure_weight_tying"] = config.tie_embeddings.into();
    }
    format!("{value:#}\n").into_bytes()
}

/// The ends of names that select these layers: the last part, or, where layers of other kinds end with the same, the name within a block.
fn target_modules(modules: &BTreeSet<String>) -> Vec<String> {
    let last = |module: &str| module.rsplit('.').next().unwrap_or_default().to_string();
    let kinds: BTreeSet<&str> = modules.iter().map(|module| short_name(module)).collect();
    let is_alone = |kind: &str| kinds.iter().filter(|other| last(other) == last(kind)).count() == 1;
    let name = |kind: &&str| match is_alone(kind) {
        true => last(kind),
        false => (*kind).to_string(),
    };
    kinds.iter().map(name).collect()
}

/// The directory of the base model that an adapter names.
///
/// # Errors
///
/// [`ModelError::File`] where it names none, or one that is not there.
pub fn base_dir(dir: &Path) -> Result<PathBuf, ModelError> {
    let base = AdapterConfig::read(dir)?.base_model_name_or_path;
    let path = dir.join(ADAPTER_CONFIG_FILE);
    let Some(base) = base.filter(|base| !base.is_empty()) else {
        return Err(ModelError::file(
            path,
            "names no base model; pass the model with --model and this directory with --adapter",
        ));
    };
    let found = PathBuf::from(&base);
    match taal_store::exists(&found.join(CONFIG_FILE)) {
        true => Ok(found),
        false => Err(ModelError::file(
            path,
            format!(
                "the base model is {}, which is not there; pass the model with --model and this directory with --adapter",
                shown(&base)
            ),
        )),
    }
}
