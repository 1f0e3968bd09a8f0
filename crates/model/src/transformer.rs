//! The whole model: embeddings, a stack of layers, a head.

use std::ops::Range;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use taal_attention::{CacheType, Segments};
use taal_embeddings::Rotary;
use taal_kernels::{random, with_low_rank_dropout};

use crate::ModelError;
use crate::config::TransformerConfig;
use crate::embeddings::Embeddings;
use crate::head::Head;
use crate::pass::{Cache, ForwardOptions, Output, Pass, States, drop_at};
use crate::places::Places;
use crate::stack::{Blocks, Stack};
use crate::table::ParameterTable;

/// A language model, causal or bidirectional, of any family that [`TransformerConfig`] describes.
#[derive(Module, Debug)]
pub struct Transformer {
    /// Token ids to vectors.
    pub embeddings: Embeddings,
    /// The blocks that read the source, where the model is an encoder-decoder.
    pub encoder: Option<Blocks>,
    /// Blocks, or recurrent layers.
    pub stack: Stack,
    /// Hidden states to logits and losses.
    pub head: Head,
    #[module(skip)]
    config: TransformerConfig,
    /// The type of caches, where it was chosen.
    #[module(skip)]
    cache_type: Option<CacheType>,
}

impl TransformerConfig {
    /// An uninitialized model, to be drawn or filled from a file.
    pub fn empty(&self, device: &Device) -> Result<Transformer, ModelError> {
        self.validate()?;
        Ok(Transformer {
            embeddings: Embeddings::new(self, 0, device),
            encoder: match self.encoder_side() {
                Some(side) => Some(Blocks::new(&side, random::key(0, 0, "encoder"), device)?),
                None => None,
            },
            stack: Stack::new(self, 0, device)?,
            head: Head::new(self, 0, device),
            config: self.clone(),
            cache_type: None,
        })
    }
}

impl Transformer {
    /// The configuration this model was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The same model with another probability of dropout in training.
    #[must_use]
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.config.dropout = dropout;
        if let Some(encoder) = &mut self.encoder {
            encoder.set_dropout(dropout);
        }
        self.stack.set_dropout(dropout);
        self
    }

    /// The same model with caches of another type.
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] for 16-bit floats on a GPU.
    pub fn with_cache(mut self, kind: CacheType) -> Result<Self, ModelError> {
        if kind == CacheType::F16 && taal_kernels::is_gpu(&self.device()) {
            return Err(ModelError::Input(
                "keys and values are cached in f16 on the CPU only: choose a cache in f32, or the device flex"
                    .to_owned(),
            ));
        }
        self.cache_type = Some(kind);
        Ok(self)
    }

    /// The type of the keys and values in a cache: what was chosen, or else 16-bit floats where weights are in fewer bits, and 32-bit ones
    /// otherwise.
    pub fn cache_type(&self) -> CacheType {
        self.cache_type.unwrap_or(match self.is_in_fewer_bits() {
            true => CacheType::F16,
            false => CacheType::F32,
        })
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embeddings.tokens.weight.lazy_device()
    }

    /// A cache of `capacity` positions in `batch` rows; a recurrent model's has no limit of positions.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Cache {
        let (layers, capacity) = match &self.stack {
            Stack::Blocks(blocks) => (
                blocks.caches(self.cache_type(), batch, capacity, &self.device().inner()),
                capacity,
            ),
            Stack::Recurrent(_) => (Vec::new(), usize::MAX),
        };
        Cache {
            layers,
            states: States::new(),
            source: None,
            lens: vec![0; batch],
            capacity,
        }
    }

    /// Logits of every position, in evaluation mode.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`
    /// - output: `[batch, seq, vocab_size]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the rows are longer than the model's context.
    pub fn forward(&self, ids: Tensor<2, Int>) -> Result<Tensor<3>, ModelError> {
        let output = self.forward_with(ids, ForwardOptions::default())?;
        Ok(self.logits(output.hidden))
    }

    /// The hidden states after the final norm, and the captures that the options request. Ids must be below `vocab_size`. Those of an
    /// encoder-decoder are the decoder's; the options have its memory or a cache that holds the sources.
    ///
    /// # Shapes
    ///
    /// - ids: `[batch, seq]`; with a cache, the new positions only
    /// - hidden: `[batch, seq, d_model]`
    ///
    /// # Errors
    ///
    /// [`ModelError::Input`] where the rows, with what the cache holds, are longer than the model's context, or an encoder-decoder has no
    /// source.
    pub fn forward_with(&self, ids: Tensor<2, Int>, options: ForwardOptions<'_>) -> Result<Output, ModelError> {
        let places = self.places(ids.dims(), &options)?;
        self.run(self.embeddings.tokens.forward(ids), places, options)
    }

    /// [`forward_with`](Self::forward_with) for vectors instead of ids: patches of an image, or token vectors whose gradients are
    /// needed. Positions are added as usual.
    ///
    /// # Shapes
    ///
    /// - vectors and hidden: `[batch, seq, d_model]`
    ///
    /// # Errors
    ///
    /// As [`forward_with`](Self::forward_with), and where the vectors are not `d_model` wide.
    pub fn forward_embedded(&self, vectors: Tensor<3>, options: ForwardOptions<'_>) -> Result<Output, ModelError> {
        let [batch, seq, width] = vectors.dims();
        if width != self.config.d_model {
            return Err(ModelError::Input(format!(
                "vectors of width {width} for a model of width {}",
                self.config.d_model
            )));
        }
        let places = self.places([batch, seq], &options)?;
        self.run(vectors, places, options)
    }

    fn run(&self, vectors: Tensor<3>, places: Places<'_>, options: ForwardOptions<'_>) -> Result<Output, ModelError> {
        let [batch, seq, _] = vectors.dims();
        let crossing = self.crossing([batch, seq], &options)?;
        let ForwardOptions {
            dropout_key,
            mut cache,
            lengths,
            rows,
            capture,
            hook,
            ..
        } = options;
        let embedded = self.embeddings.forward(vectors, &places)?;
        let x = drop_at(embedded, self.config.dropout, dropout_key, "embedding");
        let pass = Pass {
            places,
            dropout_key,
            cache: cache.as_deref_mut(),
            rows: rows.clone(),
            crossing,
            capture,
            hook,
        };
        let lora_key = dropout_key.map(|key| random::key(key, 0, "adapters"));
        let output = with_low_rank_dropout(lora_key, || self.stack.forward(x, pass))?;
        if let Some(cache) = cache {
            let rows = rows.unwrap_or(0..cache.lens.len());
            for (row, len) in cache.lens[rows].iter_mut().enumerate() {
                *len += lengths.map_or(seq, |lengths| lengths[row]);
            }
        }
        Ok(output)
    }

    /// The checked positions of the tokens of a pass.
    fn places<'a>(&self, [batch, seq]: [usize; 2], options: &ForwardOptions<'a>) -> Result<Places<'a>, ModelError> {
        let places = match (options.segments, &options.cache) {
            (Some(segments), cache) => {
                check_segments(segments, [batch, seq], cache.is_some())?;
                Places::Segments(segments)
            }
            (None, Some(cache)) => {
                let lens = &cache.lens[checked_rows(options.rows.clone(), batch, cache.lens.len())?];
                match options.lengths {
                    None if lens.iter().all(|len| *len == lens[0]) => Places::Together {
                        start: lens.first().copied().unwrap_or(0),
                    },
                    None => Places::rows(lens.to_vec(), vec![seq; batch], seq),
                    Some(lengths) => {
                        check_lengths(lengths, [batch, seq])?;
                        Places::rows(lens.to_vec(), lengths.to_vec(), seq)
                    }
                }
            }
            (None, None) => match options.lengths {
                None => Places::Together { start: 0 },
                Some(_) => {
                    return Err(ModelError::Input(
                        "lengths of rows need a cache; without one, mark padding with segments".to_owned(),
                    ));
                }
            },
        };
        self.check_length(places.end(seq))?;
        Ok(places)
    }

    /// The final norm on the residual stream, where the model has one: the input of [`logits`](Self::logits). On the stream after
    /// the last block this is [`Output::hidden`]; on an earlier one it is the logit lens (nostalgebraist, 2020).
    ///
    /// # Shapes
    ///
    /// - stream and output: `[batch, seq, d_model]`
    pub fn normed(&self, stream: Tensor<3>) -> Tensor<3> {
        match &self.stack {
            Stack::Blocks(blocks) => blocks.normed(stream),
            Stack::Recurrent(_) => stream,
        }
    }

    /// The logits of hidden states, by [`Head::logits`].
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - output: `[batch, seq, vocab_size]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        self.head.logits(hidden, &self.embeddings.tokens)
    }

    /// Mean cross-entropy in nats of the logits of `hidden` over the targets that are not `ignore_index`, by [`Head::loss`]; 0 when all
    /// of them are.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, d_model]`
    /// - targets: `[batch * seq]`
    /// - output: `[1]`
    pub fn loss(&self, hidden: Tensor<3>, targets: Tensor<1, Int>, ignore_index: i32) -> Tensor<1> {
        self.loss_smoothed(hidden, targets, ignore_index, 0.0)
    }

    /// [`loss`](Self::loss) against targets mixed with the uniform distribution (Szegedy et al., 2015; `label_smoothing` in PyTorch):
    /// `1 - smoothing` on the target, `smoothing / vocab_size` on every token. With 0 the bits are those of [`loss`](Self::loss).
    ///
    /// # Shapes
    ///
    /// As [`loss`](Self::loss).
    pub fn loss_smoothed(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<1, Int>,
        ignore_index: i32,
        smoothing: f64,
    ) -> Tensor<1> {
        let tokens = &self.embeddings.tokens;
        self.head.loss(hidden, tokens, targets, ignore_index, smoothing)
    }

    /// The vectors added to the token vectors at positions `start..start + seq`; `None` where the model encodes positions another way.
    ///
    /// # Shapes
    ///
    /// - output: `[seq, d_model]`
    ///
    /// # Errors
    ///
    /// [`ModelError`] where a position is outside the model's context.
    pub fn position_vectors(&self, start: usize, seq: usize) -> Result<Option<Tensor<2>>, ModelError> {
        self.check_length(start.saturating_add(seq))?;
        self.embeddings.position_vectors(start, seq)
    }

    /// The angles of the rotary positions, where the model has them.
    pub fn rotary(&self) -> Option<&Rotary> {
        match &self.stack {
            Stack::Blocks(blocks) => blocks.rotary(),
            Stack::Recurrent(_) => None,
        }
    }

    pub(crate) fn list(&self, table: &mut ParameterTable) {
        self.embeddings.list(table);
        if let Some(encoder) = &self.encoder {
            encoder.list("encoder.", table);
        }
        self.stack.list(table);
        self.head.list(table);
    }

    pub(crate) fn check_length(&self, length: usize) -> Result<(), ModelError> {
        let Some(limit) = self.config.context_limit() else {
            return Ok(());
        };
        if length > limit {
            return Err(ModelError::Input(format!(
                "{length} tokens do not fit the model's context of {limit}; shorten the text or train with a larger block_size"
            )));
        }
        Ok(())
    }
}

/// Segments cover whole rows, with positions counted from the beginning.
fn check_segments(segments: &Segments, dims: [usize; 2], has_cache: bool) -> Result<(), ModelError> {
    if has_cache {
        return Err(ModelError::Input(
            "texts that share a row cannot be continued with a cache; give each its own row".to_owned(),
        ));
    }
    if segments.dims() != dims {
        let ([batch, seq], [rows, len]) = (segments.dims(), dims);
        return Err(ModelError::Input(format!(
            "the segments are of {batch} rows of {seq} tokens, the ids of {rows} rows of {len}"
        )));
    }
    Ok(())
}

/// The rows of the cache that a pass of `batch` rows is for.
fn checked_rows(rows: Option<Range<usize>>, batch: usize, cached: usize) -> Result<Range<usize>, ModelError> {
    match rows {
        Some(rows) if rows.len() != batch || rows.end > cached => Err(ModelError::Input(format!(
            "rows of the cache: expected {batch} of its {cached}, got {rows:?}"
        ))),
        rows => Ok(rows.unwrap_or(0..cached)),
    }
}

fn check_lengths(lengths: &[usize], [batch, seq]: [usize; 2]) -> Result<(), ModelError> {
    match lengths.len() == batch && lengths.iter().all(|length| *length <= seq) {
        true => Ok(()),
        false => Err(ModelError::Input(format!(
            "lengths of rows: expected {batch} numbers of at most {seq}, got {lengths:?}"
        ))),
    }
}
