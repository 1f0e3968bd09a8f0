//! What the result of a run depends on, as a hash: two runs with the same one need not both be made.

use std::path::{Path, PathBuf};

use taal_data::Content;
use taal_model::hugging_face::{self, TOKENIZER_FILE};
use taal_tokenizer::Tokenizer;
use taal_tokenizer::chat::ChatFiles;

use crate::TrainError;
use crate::recipe::{DataSource, Recipe, Resolved, TokenizerRecipe};
use crate::replay;

/// Bytes hashed at a time.
const HASHED_BYTES: usize = 1 << 20;

impl Resolved {
    /// The BLAKE3 hash of all values of the recipe, of the data, tokenizer and template that it names and of the weights that it starts
    /// from. The device is not a part of it.
    ///
    /// # Errors
    ///
    /// Those of the data crate and the store where a file cannot be read; the model crate's for the weights.
    pub fn identity(&self) -> Result<String, TrainError> {
        let recipe = &self.recipe;
        let mut parts = vec![taal_store::blake3_hex(self.text.as_bytes())];
        parts.extend(data(&recipe.data.source)?);
        if let TokenizerRecipe::File(path) = &recipe.tokenizer {
            parts.extend(tokenizer(path)?);
        }
        if let Some(path) = &recipe.data.chat_template {
            parts.push(file(path)?);
        }
        if let Some(dir) = recipe.init_from() {
            parts.extend(model(dir)?);
        }
        parts.extend(old_data(recipe));
        Ok(taal_store::blake3_hex_of(parts))
    }
}

/// Hashes of a model directory's weights, shape, tokenizer and chat template.
fn model(dir: &Path) -> Result<Vec<String>, TrainError> {
    let dir = taal_inference::model_dir(dir)?;
    let template = ChatFiles::open(&dir);
    let mut parts = vec![
        hugging_face::weights_hash(&dir)?,
        file(&dir.join(hugging_face::CONFIG_FILE))?,
        taal_store::blake3_hex(format!("{template:?}").as_bytes()),
    ];
    let path = dir.join(TOKENIZER_FILE);
    if taal_store::exists(&path) {
        parts.extend(tokenizer(&path)?);
    }
    Ok(parts)
}

/// Hashes of a tokenizer's file, and of the one for targets that belongs to it.
fn tokenizer(path: &Path) -> Result<Vec<String>, TrainError> {
    let target = Tokenizer::target_file(path);
    [Some(path), target.as_deref()]
        .into_iter()
        .flatten()
        .map(file)
        .collect()
}

/// Hashes of the old data; what stands in the way of reading them is a note or an error of the run.
fn old_data(recipe: &Recipe) -> Vec<String> {
    let found = replay::source(recipe).ok().flatten();
    found.and_then(|found| data(&found.source).ok()).unwrap_or_default()
}

/// Hashes of everything that is read of a source.
fn data(source: &DataSource) -> Result<Vec<String>, TrainError> {
    Ok(match source {
        DataSource::Corpus(name) => {
            let corpus = taal_data::corpus(name);
            let texts = corpus.as_ref().map(taal_data::Corpus::texts).unwrap_or_default();
            texts
                .iter()
                .map(|(_, text)| taal_store::blake3_hex(text.as_bytes()))
                .collect()
        }
        DataSource::Examples(name) => {
            let set = taal_data::example_set(name);
            let rows = set
                .map(|set| [set.train_rows(), set.held_out_rows()])
                .unwrap_or_default();
            rows.iter()
                .map(|rows| taal_store::blake3_hex(rows.as_bytes()))
                .collect()
        }
        DataSource::Files(paths) => files(paths, Content::Text)?,
        DataSource::Conversations(path) => files(std::slice::from_ref(path), Content::Conversations)?,
        DataSource::Shards(dir) => vec![taal_data::Dataset::open(dir)?.fingerprint()],
        DataSource::Texts(texts) => texts
            .iter()
            .map(|text| taal_store::blake3_hex(text.as_bytes()))
            .collect(),
        DataSource::Dataset(dataset) => vec![dataset.fingerprint()],
    })
}

fn files(paths: &[PathBuf], content: Content) -> Result<Vec<String>, TrainError> {
    let found = taal_data::find_files(paths, content)?.files;
    found.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> Result<String, TrainError> {
    let map = taal_store::Map::open(path)?;
    Ok(taal_store::blake3_hex_of(map.chunks(HASHED_BYTES).map(|part| {
        let copy = part.to_vec();
        map.release(part);
        copy
    })))
}
