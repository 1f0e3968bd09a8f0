//! The tensors of a model, in one safetensors file or in several with an index that says which tensor is where.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use taal_store::{ErrorKind, Map, RelPath};

use super::INDEX_FILE;
use super::blocks::is_blocks;
use super::weights::{Stored, header_limit_bytes, parse, refuse_too_few, shown};
use crate::ModelError;
use crate::config::TransformerConfig;

/// More files than any published model has; the largest have about 200.
const MAX_SHARDS: usize = 1024;

/// The tensors of one file or several, each name once.
pub(super) struct Weights<'data> {
    /// The file that lists all tensors: the only file, or the index.
    path: &'data Path,
    files: Vec<WeightsFile<'data>>,
    /// Which of the files holds a tensor.
    places: BTreeMap<String, usize>,
}

/// One of the files.
struct WeightsFile<'data> {
    path: &'data Path,
    tensors: SafeTensors<'data>,
    map: Option<&'data Arc<Map>>,
}

impl<'data> Weights<'data> {
    /// All tensors of one file that is mapped.
    pub(super) fn of_map(
        path: &'data Path,
        map: &'data Arc<Map>,
        config: &TransformerConfig,
    ) -> Result<Self, ModelError> {
        let mut weights = Self::of_bytes(path, map, config)?;
        weights.files.iter_mut().for_each(|file| file.map = Some(map));
        Ok(weights)
    }

    /// All tensors of one file.
    pub(super) fn of_bytes(
        path: &'data Path,
        bytes: &'data [u8],
        config: &TransformerConfig,
    ) -> Result<Self, ModelError> {
        let tensors = parse(path, bytes, config)?;
        let places = tensors.names().into_iter().map(|name| (name.to_string(), 0)).collect();
        let map = None;
        let weights = Self {
            path,
            files: vec![WeightsFile { path, tensors, map }],
            places,
        };
        refuse_too_few(path, weights.data_bytes(), config)?;
        Ok(weights)
    }

    fn data_bytes(&self) -> u64 {
        let tensors = self.files.iter().flat_map(|file| file.tensors.iter());
        tensors.map(|(_, view)| view.data().len() as u64).sum()
    }

    /// Whether some matrices are in blocks of small integers.
    pub(super) fn has_blocks(&self) -> bool {
        let mut tensors = self.files.iter().flat_map(|file| file.tensors.iter());
        tensors.any(|(_, view)| is_blocks(&view))
    }

    /// The file, or the index of several.
    pub(super) fn path(&self) -> &'data Path {
        self.path
    }

    /// Every tensor's name, in order, with the file that holds it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &'data Path)> {
        self.places
            .iter()
            .map(|(name, place)| (name.as_str(), self.files[*place].path))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// A tensor.
    pub(super) fn get(&self, name: &str) -> Option<Stored<'data>> {
        let file = &self.files[*self.places.get(name)?];
        Some(Stored {
            path: file.path,
            view: file.tensors.tensor(name).ok()?,
            map: file.map,
        })
    }
}

/// A directory's memory-mapped weights files and their index.
pub(super) struct Shards {
    index: PathBuf,
    files: Vec<Shard>,
    places: BTreeMap<String, usize>,
}

struct Shard {
    name: String,
    path: PathBuf,
    map: Arc<Map>,
}

impl Shards {
    /// Reads the index and maps every file that it names; all must be in the directory, or where Hugging Face's cache keeps the
    /// files of this model.
    pub(super) fn open(dir: &Path, config: &TransformerConfig) -> Result<Self, ModelError> {
        let index = dir.join(INDEX_FILE);
        let text = taal_store::read_text(&index, header_limit_bytes(config))?;
        let WeightMap(map) = serde_json::from_str::<IndexFile>(&text)
            .map_err(|error| {
                ModelError::file(
                    &index,
                    format!("not an index of weights: {}", shown(&error.to_string())),
                )
            })?
            .weight_map;
        let blobs = cached_blobs(dir);
        let mut numbers = BTreeMap::new();
        let mut files = Vec::new();
        let mut places = BTreeMap::new();
        for (tensor, file) in map {
            let number = match numbers.entry(file) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(_) if files.len() == MAX_SHARDS => {
                    let detail =
                        format!("names more than {MAX_SHARDS} files of weights; save the model in larger ones");
                    return Err(ModelError::file(index, detail));
                }
                Entry::Vacant(entry) => {
                    files.push(Shard::open(dir, blobs.as_deref(), &index, entry.key())?);
                    *entry.insert(files.len() - 1)
                }
            };
            places.insert(tensor, number);
        }
        Ok(Self { index, files, places })
    }

    /// The files, ordered by name.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.files.iter().map(|shard| shard.path.clone()).collect();
        paths.sort_unstable();
        paths
    }

    /// The tensors, each in exactly the file that the index names.
    pub(super) fn weights(&self, config: &TransformerConfig) -> Result<Weights<'_>, ModelError> {
        let mut files = Vec::with_capacity(self.files.len());
        for (number, shard) in self.files.iter().enumerate() {
            let tensors = parse(&shard.path, &shard.map, config)?;
            self.refuse_unlisted(number, &tensors)?;
            files.push(WeightsFile {
                path: &shard.path,
                tensors,
                map: Some(&shard.map),
            });
        }
        for (name, place) in &self.places {
            if files[*place].tensors.tensor(name).is_err() {
                let detail = format!("tensor `{}` is missing; {INDEX_FILE} has it here", shown(name));
                return Err(ModelError::file(files[*place].path, detail));
            }
        }
        let weights = Weights {
            path: &self.index,
            files,
            places: self.places.clone(),
        };
        refuse_too_few(&self.index, weights.data_bytes(), config)?;
        Ok(weights)
    }

    /// The index must list every tensor of a file under this file, so that no name is in two files.
    fn refuse_unlisted(&self, number: usize, tensors: &SafeTensors<'_>) -> Result<(), ModelError> {
        let mut names = tensors.names();
        names.sort_unstable();
        for name in names {
            let detail = match self.places.get(name) {
                Some(place) if *place == number => continue,
                Some(place) => format!(
                    "tensor `{}` is here, but {INDEX_FILE} has it in `{}`",
                    shown(name),
                    shown(&self.files[*place].name)
                ),
                None => format!("tensor `{}` is not in {INDEX_FILE}", shown(name)),
            };
            return Err(ModelError::file(&self.files[number].path, detail));
        }
        Ok(())
    }
}

impl Shard {
    fn open(dir: &Path, blobs: Option<&Path>, index: &Path, name: &str) -> Result<Self, ModelError> {
        let refuse = |error: taal_store::Error| {
            let detail = match error {
                taal_store::Error::NotFound { .. } => "is missing; copy it again".to_string(),
                taal_store::Error::UnsafePath { detail, .. } => format!("is refused: {}", shown(&detail)),
                error if error.kind() == ErrorKind::Usage => "is not a file".to_string(),
                error => return error.into(),
            };
            ModelError::file(index, format!("the file of weights `{}` {detail}", shown(name)))
        };
        let relative = RelPath::parse(name).map_err(refuse)?;
        let map = relative
            .resolve_or_in(dir, blobs)
            .and_then(|path| Map::open(&path))
            .map_err(refuse)?;
        Ok(Self {
            name: name.to_string(),
            path: relative.join(dir),
            map: Arc::new(map),
        })
    }
}

/// Where Hugging Face's cache keeps the files of a model whose names are in `dir`: `models--ORGANIZATION--NAME/blobs`, next to
/// `models--ORGANIZATION--NAME/snapshots/REVISION`. `None` where `dir` is another directory.
fn cached_blobs(dir: &Path) -> Option<PathBuf> {
    let snapshot = taal_store::resolve(dir).ok()?;
    let snapshots = snapshot.parent()?;
    let model = snapshots.parent()?;
    let is_cache = snapshots.file_name()? == "snapshots" && model.file_name()?.to_str()?.starts_with("models--");
    let blobs = model.join("blobs");
    // A symbolic link could lead anywhere.
    (is_cache && taal_store::resolve(&blobs).ok()? == blobs).then_some(blobs)
}

/// `model.safetensors.index.json`; its metadata, a total size that programs compute differently, is ignored.
#[derive(Deserialize)]
struct IndexFile {
    weight_map: WeightMap,
}

/// File by tensor. Duplicate tensors are refused: which file is meant must not depend on the reader.
struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;

        impl<'de> Visitor<'de> for Places {
            type Value = WeightMap;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors and the files that hold them")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut places = BTreeMap::new();
                while let Some(tensor) = map.next_key::<String>()? {
                    let file = map.next_value()?;
                    match places.entry(tensor) {
                        Entry::Vacant(entry) => entry.insert(file),
                        Entry::Occupied(entry) => {
                            let name = shown(entry.key());
                            return Err(A::Error::custom(format_args!("tensor `{name}` is there twice")));
                        }
                    };
                }
                Ok(WeightMap(places))
            }
        }

        deserializer.deserialize_map(Places)
    }
}
