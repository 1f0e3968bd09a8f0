//! Several prompts continued together, one token each per step.

use std::sync::Arc;

use burn::tensor::Tensor;
use taal_model::{Cache, ForwardOptions};

use crate::generate::{Course, GenerateOptions, Generation, Prompt};
use crate::language_model::check_causal;
use crate::probe::{Probe, Rows, to_host};
use crate::sequence::OwnedStream;
use crate::{InferenceError, LanguageModel, Result};

/// Names a sequence of a [`Generator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// The result of a step for one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which sequence.
    pub id: SequenceId,
    /// The text that is certain now; may be empty.
    pub text: String,
    /// The whole generation, once the sequence has ended and its row is free.
    pub finished: Option<Generation>,
}

/// Continues several prompts of different lengths at once: each step adds a token to every one of them, and the weights are read
/// once for all. Sequences can be added or cancelled between any two steps, and do not influence each other: on the CPU each has the
/// bits that it has alone.
///
/// It owns its model, so it can be moved to another thread.
///
/// ```
/// use std::sync::Arc;
/// use burn::tensor::Device;
/// use taal_inference::{GenerateOptions, Generator, LanguageModel, Prompt};
/// use taal_model::{ModelSize, TransformerConfig};
///
/// let model = TransformerConfig::llama(ModelSize {
///     vocab_size: 50,
///     max_seq_len: 16,
///     n_layers: 2,
///     n_heads: 4,
///     d_model: 32,
/// }).init(42, &Device::flex())?;
/// let mut generator = Generator::new(Arc::new(LanguageModel::new(model, None)), 4)?;
/// let options = GenerateOptions { max_tokens: 3, ..GenerateOptions::default() };
/// generator.add(&Prompt::Ids(vec![1, 2, 3]), options.clone())?;
/// let second = generator.add(&Prompt::Ids(vec![4]), options)?;
/// generator.step()?;
/// let stopped = generator.cancel(second)?.expect("it was running");
/// assert_eq!(stopped.token_ids.len(), 1);
/// while generator.is_running() {
///     generator.step()?;
/// }
/// # Ok::<(), taal_inference::InferenceError>(())
/// ```
pub struct Generator {
    lm: Arc<LanguageModel>,
    rows: Vec<Option<Sequence>>,
    cache: Option<Cache>,
    next_id: u64,
}

/// A row of the cache and the text in it.
struct Sequence {
    id: SequenceId,
    course: Course,
    text: OwnedStream,
    /// The context of the next prediction.
    context: Vec<u32>,
    slid_tokens: usize,
    /// Whether the cache holds all of the context except its last token.
    is_read: bool,
}

impl Generator {
    /// A generator for up to `max_sequences` sequences at a time.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotCausal`], and [`InferenceError::Setting`] for 0 sequences.
    pub fn new(lm: Arc<LanguageModel>, max_sequences: usize) -> Result<Self> {
        check_causal(&lm.model, "generating text")?;
        if max_sequences == 0 {
            return Err(InferenceError::setting("max_sequences", "expected at least 1, got 0"));
        }
        Ok(Self {
            lm,
            rows: (0..max_sequences).map(|_| None).collect(),
            cache: None,
            next_id: 0,
        })
    }

    /// The model and its tokenizer.
    pub fn language_model(&self) -> &Arc<LanguageModel> {
        &self.lm
    }

    /// Whether there is room for one more sequence.
    pub fn has_room(&self) -> bool {
        self.rows.iter().any(Option::is_none)
    }

    /// Whether any sequence is running.
    pub fn is_running(&self) -> bool {
        self.rows.iter().any(Option::is_some)
    }

    /// Adds a sequence, which starts with the next step. Keys and values are always cached ([`GenerateOptions::use_cache`] is ignored).
    ///
    /// # Errors
    ///
    /// Invalid prompts or options, as for [`generate`](crate::generate()); [`InferenceError::Setting`] where there is no room.
    pub fn add(&mut self, prompt: &Prompt, options: GenerateOptions) -> Result<SequenceId> {
        let Some(free) = self.rows.iter().position(Option::is_none) else {
            let count = self.rows.len();
            let expected = format!("expected more than the {count} running sequences");
            return Err(InferenceError::setting("max_sequences", expected));
        };
        let (course, text) = OwnedStream::begun(self.lm.clone(), prompt, options)?;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        self.rows[free] = Some(Sequence {
            id,
            context: course.seen().to_vec(),
            course,
            text,
            slid_tokens: 0,
            is_read: false,
        });
        Ok(id)
    }

    /// Ends a sequence and returns it with its remaining text; `None` where it is not running.
    ///
    /// # Errors
    ///
    /// The tokenizer's.
    pub fn cancel(&mut self, id: SequenceId) -> Result<Option<Generation>> {
        let is_meant = |row: &Option<Sequence>| row.as_ref().is_some_and(|sequence| sequence.id == id);
        let Some(row) = self.rows.iter().position(is_meant) else {
            return Ok(None);
        };
        let ended = self.rows[row].take().map(|sequence| sequence.end(true));
        Ok(ended.transpose()?.map(|(_, generation)| generation))
    }

    /// Generates one token for every sequence.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotFinite`], [`InferenceError::Device`], or the model's; no sequence is lost then.
    pub fn step(&mut self) -> Result<Vec<Progress>> {
        let goes_on = |sequence: &Sequence| !sequence.course.is_over(sequence.options());
        let mut logits = Vec::with_capacity(self.rows.len());
        for row in 0..self.rows.len() {
            logits.push(match self.rows[row].as_ref().is_some_and(goes_on) {
                true => self.read(row)?,
                false => None,
            });
        }
        self.decode(&mut logits)?;
        let mut progress = Vec::new();
        for (row, logits) in self.rows.iter_mut().zip(logits) {
            let Some(sequence) = row else { continue };
            let mut text = match logits {
                Some(logits) => sequence.take(&logits)?,
                None => String::new(),
            };
            let mut finished = None;
            let id = sequence.id;
            if sequence.course.is_over(sequence.options())
                && let Some(sequence) = row.take()
            {
                let (rest, generation) = sequence.end(false)?;
                text.push_str(&rest);
                finished = Some(generation);
            }
            progress.push(Progress { id, text, finished });
        }
        Ok(progress)
    }

    /// Prefills a row's context alone where its cache cannot continue token by token; returns the logits after it. A full context
    /// keeps its last half, as in [`Decoder`](crate::Decoder).
    fn read(&mut self, row: usize) -> Result<Option<Vec<f32>>> {
        let Some(sequence) = &mut self.rows[row] else {
            return Ok(None);
        };
        let limit = self.lm.model.config().context_limit().unwrap_or(usize::MAX);
        if sequence.context.len() > limit {
            let slid = sequence.context.len() - (limit / 2).max(1);
            sequence.context.drain(..slid);
            sequence.slid_tokens += slid;
            sequence.is_read = false;
        }
        if sequence.is_read {
            return Ok(None);
        }
        let (context, len) = (sequence.context.clone(), sequence.context.len());
        let model = &self.lm.model;
        let mut own = model.new_cache(1, len);
        let logits = Probe::new(model).next_logits(&Rows::new(&context, len), Some(&mut own))?;
        let expected = sequence.course.expected_len(sequence.options()).min(limit);
        self.make_room(expected.max(len))?;
        if let (Some(cache), Some(sequence)) = (&mut self.cache, &mut self.rows[row]) {
            cache.copy_row(row, &own, 0)?;
            sequence.is_read = true;
        }
        Ok(Some(logits))
    }

    /// A cache for rows of `len` tokens.
    fn make_room(&mut self, len: usize) -> Result<()> {
        let capacity = self.cache.as_ref().map_or(0, Cache::capacity);
        if self.cache.is_none() || capacity < len {
            let mut larger = self.lm.model.new_cache(self.rows.len(), len.max(capacity));
            if let Some(cache) = &self.cache {
                for row in 0..self.rows.len() {
                    larger.copy_row(row, cache, row)?;
                }
            }
            self.cache = Some(larger);
        }
        Ok(())
    }

    /// The logits after the newest token of every row that has none yet.
    fn decode(&mut self, logits: &mut [Option<Vec<f32>>]) -> Result<()> {
        let goes_on = |(row, sequence): (usize, &Option<Sequence>)| {
            let is_over = |sequence: &Sequence| sequence.course.is_over(sequence.options());
            logits[row].is_none() && sequence.as_ref().is_some_and(|sequence| !is_over(sequence))
        };
        let lengths: Vec<usize> = self
            .rows
            .iter()
            .enumerate()
            .map(|row| usize::from(goes_on(row)))
            .collect();
        let Some(cache) = self.cache.as_mut().filter(|_| lengths.contains(&1)) else {
            return Ok(());
        };
        let newest = |row: &Option<Sequence>| row.as_ref().map_or(0, |sequence| sequence.course.last());
        let newest: Vec<u32> = self.rows.iter().map(newest).collect();
        let model = &self.lm.model;
        let all = Probe::run(&model.device(), || {
            let options = ForwardOptions {
                cache: Some(cache),
                lengths: Some(&lengths),
                ..ForwardOptions::default()
            };
            let hidden = Probe::new(model).states(&Rows::new(&newest, 1), options)?.hidden; // [rows, 1, d_model]
            let rows: Vec<Tensor<3>> = (0..lengths.len())
                .filter(|row| lengths[*row] == 1)
                .map(|row| hidden.clone().narrow(0, row, 1))
                .collect();
            to_host(model.logits(Tensor::cat(rows, 0)))
        })?;
        let width = model.config().vocab_size;
        let asked = lengths.iter().enumerate().filter(|(_, length)| **length == 1);
        for ((row, _), found) in asked.zip(all.chunks_exact(width)) {
            logits[row] = Some(found.to_vec());
        }
        Ok(())
    }
}

impl Sequence {
    fn options(&self) -> &GenerateOptions {
        self.text.options()
    }

    fn take(&mut self, logits: &[f32]) -> Result<String> {
        let text = self.text.take(&mut self.course, logits)?;
        self.context.push(self.course.last());
        Ok(text)
    }

    fn end(mut self, is_cancelled: bool) -> Result<(String, Generation)> {
        self.text.end(self.course, is_cancelled, self.slid_tokens)
    }
}
