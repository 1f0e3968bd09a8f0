//! Layers whose rows are tokens, which an adapter can have whole (PEFT's `modules_to_save`): new tokens need rows that no low-rank part gives them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::layout::Layout;
use super::lora::{Lora, is_named};
use super::peft::{PREFIX, Reader};
use super::{ADAPTER_CONFIG_FILE, Family, shown};
use crate::ModelError;
use crate::config::TransformerConfig;
use crate::precision::{HEAD, TOKENS};

/// A layer whose rows are tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenLayer {
    /// The name of our parameter.
    pub(super) ours: &'static str,
    /// The name of the layer in the family's files.
    pub(super) module: String,
}

impl TokenLayer {
    /// The shape of our parameter with this many tokens.
    pub(super) fn shape(&self, tokens: usize, width: usize) -> [usize; 2] {
        match self.ours == HEAD {
            true => [width, tokens],
            false => [tokens, width],
        }
    }
}

/// The embedding of tokens and, where it is another matrix, the output matrix.
pub(super) fn token_layers(layout: &Layout) -> Vec<TokenLayer> {
    let layer = |ours, tensor: String| TokenLayer {
        ours,
        module: tensor.trim_end_matches(".weight").to_owned(),
    };
    let embedding = layer(TOKENS, layout.embedding_name());
    let head = (!layout.is_tied()).then(|| layer(HEAD, layout.head_name()));
    std::iter::once(embedding).chain(head).collect()
}

/// Those that are kept with an adapter.
pub(super) fn saved_layers(layout: &Layout, lora: &Lora) -> Vec<TokenLayer> {
    let mut layers = token_layers(layout);
    layers.retain(|layer| is_named(&layer.module, &lora.modules_to_save));
    layers
}

/// The names of the layers whose rows are tokens, for [`Lora::modules_to_save`]: `embed_tokens` and `lm_head` in LLaMA's files.
pub fn token_modules(config: &TransformerConfig, family: Family) -> Vec<String> {
    let layers = token_layers(&Layout::new(config, family)).into_iter();
    let last = |layer: TokenLayer| layer.module.rsplit('.').next().unwrap_or_default().to_owned();
    layers.map(last).collect()
}

/// How many numbers the layers have that are kept with an adapter.
pub fn n_saved_params(config: &TransformerConfig, family: Family, lora: &Lora) -> u64 {
    let layers = saved_layers(&Layout::new(config, family), lora).len();
    (layers * config.vocab_size * config.d_model) as u64
}

/// A number of tokens, and the values of the layers that have a row for each, by our names.
type WholeLayers = (usize, BTreeMap<String, Vec<f32>>);

impl Reader<'_> {
    /// The layers that the file has whole, by our names, and their number of tokens. Their tensors are taken from `left`.
    pub(super) fn saved(
        &self,
        is_tied_there: bool,
        left: &mut BTreeSet<&str>,
    ) -> Result<Option<WholeLayers>, ModelError> {
        let bad = |detail: String| ModelError::file(self.path, detail);
        let layers = token_layers(&self.layout);
        let head = self.layout.head_name();
        // A tied model has no layer of this name, and PEFT has.
        let modules = layers.iter().map(|layer| layer.module.as_str());
        let modules: Vec<&str> = modules.chain([head.trim_end_matches(".weight")]).collect();
        let is_unknown = |name: &&String| {
            !modules
                .iter()
                .any(|module| is_named(module, std::slice::from_ref(*name)))
        };
        if let Some(name) = self.lora.modules_to_save.iter().find(is_unknown) {
            let detail = format!(
                "key `modules_to_save`: {} is neither the embedding of tokens nor the output matrix, and no other layer can be kept whole; \
                 merge it with PEFT's merge_and_unload",
                shown(name)
            );
            return Err(ModelError::file(self.path.with_file_name(ADAPTER_CONFIG_FILE), detail));
        }
        let mut found = BTreeMap::new();
        let mut tokens = None;
        for layer in &layers {
            // PEFT may write the same values a second time, and those of the base.
            let copies =
                ["modules_to_save", "original_module"].map(|copy| format!("{PREFIX}{}.{copy}.weight", layer.module));
            left.retain(|name| !copies.iter().any(|copy| copy == name));
            match self.whole(&layer.module, left) {
                Some(name) => {
                    let (rows, values) = self.whole_values(layer, &name)?;
                    if *tokens.get_or_insert(rows) != rows {
                        return Err(bad(format!(
                            "tensor `{}` has rows for {rows} tokens, and another one has not",
                            shown(&name)
                        )));
                    }
                    found.insert(layer.ours.to_owned(), values);
                }
                None if is_named(&layer.module, &self.lora.modules_to_save) => {
                    return Err(bad(format!(
                        "tensor `{PREFIX}{}.weight` is missing, and `modules_to_save` names it",
                        layer.module
                    )));
                }
                None => {}
            }
        }
        let Some(tokens) = tokens else { return Ok(None) };
        if self.layout.is_tied() {
            self.check_tied(is_tied_there, left)?;
        }
        let has_all = found.len() == layers.len();
        match tokens.cmp(&self.layout.vocab_size()) {
            Ordering::Equal => Ok(Some((tokens, found))),
            Ordering::Greater if has_all => Ok(Some((tokens, found))),
            _ => Err(bad(format!(
                "has rows for {tokens} tokens, and the base model has {}: expected as many, or more in the embedding and the output matrix",
                self.layout.vocab_size()
            ))),
        }
    }

    /// The name of a layer's whole weight, which is taken from `left`.
    fn whole(&self, module: &str, left: &mut BTreeSet<&str>) -> Option<String> {
        let is_stored = |weight: &str| self.tensors.tensor(&format!("{PREFIX}{weight}")).is_ok();
        let stored = self.layout.stored_name(&format!("{module}.weight"), is_stored)?;
        let name = format!("{PREFIX}{stored}");
        left.remove(name.as_str());
        Some(name)
    }

    /// The number of tokens of a layer, and its values in our order.
    fn whole_values(&self, layer: &TokenLayer, name: &str) -> Result<(usize, Vec<f32>), ModelError> {
        let stored = self.stored(name)?;
        let width = self.layout.width();
        let shape = stored.view.shape();
        let parameter = |tokens: usize| self.layout.parameter(layer.ours, &layer.shape(tokens, width));
        let is_whole = |tokens: &usize| *tokens > 0 && parameter(*tokens).parts[0].shape == shape;
        let Some(tokens) = shape.iter().copied().find(is_whole) else {
            let detail = format!("has shape {shape:?}, but this model asks for {width} numbers per token");
            return Err(stored.bad(name, &detail));
        };
        let parameter = parameter(tokens);
        let mut values = vec![0.0; parameter.count()];
        parameter.place(0, 0, &stored.values(name, shape[1])?, &mut values);
        Ok((tokens, values))
    }

    /// An adapter for a model whose output matrix is its table of tokens must leave them one matrix.
    fn check_tied(&self, is_tied_there: bool, left: &mut BTreeSet<&str>) -> Result<(), ModelError> {
        let head = format!("{PREFIX}{}", self.layout.head_name());
        let table = format!("{PREFIX}{}", self.layout.embedding_name());
        let module = head.trim_end_matches(".weight");
        left.retain(|name| {
            ![".modules_to_save.weight", ".original_module.weight"]
                .iter()
                .any(|copy| name.strip_suffix(*copy) == Some(module))
        });
        left.remove(head.as_str());
        let bytes = |name: &str| self.tensors.tensor(name).ok().map(|view| view.data().to_vec());
        let is_one = match (bytes(&head), bytes(&table)) {
            (Some(head), Some(table)) => head == table,
            // PEFT without this setting trains a copy of the table alone.
            (None, Some(_)) => is_tied_there,
            _ => true,
        };
        match is_one {
            true => Ok(()),
            false => Err(ModelError::file(
                self.path,
                "trained the embedding of tokens apart from the output matrix, which are one matrix in this model; merge it with PEFT's \
                 merge_and_unload",
            )),
        }
    }
}
