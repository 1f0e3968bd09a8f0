//! Translation: sources to texts in another language, several at once, by beam search.

mod copied;
mod doubt;
mod search;
mod sentences;
mod source;
mod words;
mod written;

use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::Serialize;
use taal_kernels::{Precision, with_precision};
use taal_model::hugging_face::TranslationFacts;
use taal_tokenizer::Tokenizer;

pub use self::doubt::{Doubt, Doubts};
use self::search::{Searcher, check_cancelled, limit};
pub use self::source::Line;
use self::source::{Part, Piece, Reader};
pub use self::words::WordAttention;
use crate::beam::search::Ended;
use crate::beam::{BeamOptions, EarlyStopping};
use crate::{InferenceError, LanguageModel, Result};

/// Sources that are searched together, by default.
const BATCH_SIZE: usize = 32;

/// The fewest sources that are worth a thread of their own.
const OF_A_THREAD: usize = 4;

/// The most sources that are searched together.
const MAX_BATCH_SIZE: usize = 4096;

/// Options of a [`Translator`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TranslateOptions {
    /// How many candidates are followed per source, and how they are scored. One candidate is the likeliest token each time.
    pub beam: BeamOptions,
    /// How many further translations are returned per source; below the number of candidates.
    pub alternatives: usize,
    /// The most tokens of a translation; `None`: twice those of its source and 50 more. It is never more than the model's context.
    pub max_tokens: Option<usize>,
    /// How many sources are searched together at most. The translations do not depend on it.
    pub batch_size: usize,
    /// Whether the attention of each word of the translation over those of the source is returned.
    pub with_attention: bool,
}

impl Default for TranslateOptions {
    /// Five candidates, scored by the mean log-probability of a token.
    fn default() -> Self {
        Self {
            beam: BeamOptions {
                width: 5,
                ..BeamOptions::default()
            },
            alternatives: 0,
            max_tokens: None,
            batch_size: BATCH_SIZE,
            with_attention: false,
        }
    }
}

impl TranslateOptions {
    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self::default().with_width(1)
    }

    /// The same with another number of candidates.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        self.beam.width = width;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// [`InferenceError::Setting`] names the setting.
    pub fn validate(&self) -> Result<()> {
        self.beam.validate()?;
        if self.alternatives >= self.beam.width {
            let (alternatives, width) = (self.alternatives, self.beam.width);
            let detail = format!("expected fewer than the {width} candidates that are followed, got {alternatives}");
            return Err(InferenceError::setting("alternatives", detail));
        }
        if self.max_tokens == Some(0) {
            return Err(InferenceError::setting(
                "max_tokens",
                "expected at least 1 token, got 0",
            ));
        }
        match (1..=MAX_BATCH_SIZE).contains(&self.batch_size) {
            true => Ok(()),
            false => Err(InferenceError::setting(
                "batch_size",
                format!("expected a number from 1 to {MAX_BATCH_SIZE}, got {}", self.batch_size),
            )),
        }
    }

    /// The beam search that is done: with one candidate the first complete translation is the result.
    fn beam(&self) -> BeamOptions {
        match self.beam.width {
            1 => BeamOptions {
                early_stopping: EarlyStopping::Filled,
                ..self.beam
            },
            _ => self.beam,
        }
    }
}

/// What ended a translation that did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// [`TranslateOptions::max_tokens`], or its default.
    MaxTokens,
    /// The model's context.
    Context,
}

/// A translation, in the form that `taal translate --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Translation {
    /// The source as it was given.
    pub source: String,
    /// Its translation; empty for a source without text.
    pub translation: String,
    /// The ids that were generated, of all parts one after the other, without those that end a text. Encoding the translation may give
    /// others.
    #[serde(skip)]
    pub token_ids: Vec<u32>,
    /// The log-probability divided by the number of tokens to the power of the length penalty.
    pub score: f64,
    /// The sum of the natural logarithms of the tokens' probabilities.
    pub logprob: f64,
    /// How many tokens were generated, with those that end a text.
    pub tokens: usize,
    /// Whether it ended by itself, not because it was as long as it may be.
    pub is_complete: bool,
    /// What ended it, or the first part that did not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_by: Option<Cut>,
    /// In how many parts the source was translated, see [`Translator`].
    pub parts: usize,
    /// How many tokens of the source the tokenizer does not know, or are of words of other scripts that were copied.
    pub unknown: usize,
    /// How many tokens the source has.
    pub source_tokens: usize,
    /// How many words of the source begin with a small letter, and how many of these are tokens; 0 for models whose
    /// [`OwnLoss`](taal_model::hugging_face::OwnLoss) is not known, see [`Doubts`].
    #[serde(skip)]
    pub source_words: [usize; 2],
    /// What the model read of a source that was translated in one part; it may differ from the source, see [`Translator`].
    #[serde(skip)]
    pub read: Option<String>,
    /// Other translations, the best first; of a source in several parts each differs from the translation in one part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// What each word of the translation attends to, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<WordAttention>,
}

/// Another translation of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// Its text.
    pub translation: String,
    /// As [`Translation::score`].
    pub score: f64,
    /// As [`Translation::logprob`].
    pub logprob: f64,
}

/// Translates with an encoder-decoder, or with a model of one stack whose directory names the prompt of a source
/// ([`TranslationFacts`]).
///
/// The source is encoded with the special tokens that the tokenizer puts around a text. The translation ends with one of
/// [`LanguageModel::end_ids`]; other special tokens are never generated. The beam search is that of [`beam_search`](crate::beam_search):
/// the log-probability of `n` tokens is divided by `n` to the power of the length penalty. A source computes the same bits alone and in any
/// batch, so its translation does not depend on the others.
///
/// A source is translated line by line, and sentence by sentence where the model's directory says which languages it translates: such models
/// were trained on sentences. Another model gets a line whole, or in as few parts as it can read that end where sentences do. The white space
/// between parts stays as it is.
///
/// A character that the tokenizer does not know becomes its unknown token; where the translation has one, it is replaced by the text of the
/// source's unknown token with the highest attention. A tokenizer that spells in bytes knows all characters, but a model cannot write those
/// it never read: a word with a character above U+00FF of which no token has all bytes, such as 田中 or an emoji, is replaced by a name that
/// the source does not have, and the word takes the name's place in the translation. Where a translation does not have each name once, the
/// source is translated as it is; a sentence without other words stays as it is.
///
/// ```
/// use burn::tensor::Device;
/// use taal_inference::{LanguageModel, TranslateOptions, Translator};
/// use taal_model::hugging_face::TranslationFacts;
/// use taal_model::{ModelSize, TransformerConfig};
/// use taal_tokenizer::{Kind, TrainerConfig};
///
/// let tokenizer = TrainerConfig::new(Kind::Char, 100).train(["a rose is a rose\n"])?;
/// let size = ModelSize { vocab_size: tokenizer.vocab_size(), max_seq_len: 32, n_layers: 2, n_heads: 4, d_model: 32 };
/// let model = TransformerConfig::llama(size).init(42, &Device::flex())?;
/// let facts = TranslationFacts { from: "en".into(), to: "nl".into(), prompt: Some("{source}\n".into()), own_loss: None };
/// let lm = LanguageModel::new(model, Some(tokenizer)).with_translation(facts);
/// let translator = Translator::new(&lm, TranslateOptions { max_tokens: Some(5), ..TranslateOptions::default() })?;
/// let found = translator.translate(&["a rose", "", "is"])?;
/// assert_eq!((found.len(), found[1].translation.as_str()), (3, ""));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Translator<'a> {
    lm: &'a LanguageModel,
    tokenizer: &'a Tokenizer,
    options: TranslateOptions,
    reader: Reader<'a>,
    is_cancelled: Option<&'a AtomicBool>,
}

impl<'a> Translator<'a> {
    /// A translator of this model.
    ///
    /// # Errors
    ///
    /// [`InferenceError::NotTranslator`] where the model is none, [`InferenceError::NoTokenizer`], [`InferenceError::Setting`] for wrong
    /// options.
    pub fn new(lm: &'a LanguageModel, options: TranslateOptions) -> Result<Self> {
        options.validate()?;
        check_translator(lm)?;
        let tokenizer = lm
            .tokenizer
            .as_ref()
            .ok_or(InferenceError::NoTokenizer { purpose: "translating" })?;
        Ok(Self {
            lm,
            tokenizer,
            reader: Reader::new(lm, tokenizer),
            options,
            is_cancelled: None,
        })
    }

    /// The same with a flag that ends its work with [`InferenceError::Cancelled`] before the next token once it is set.
    #[must_use]
    pub fn with_cancel(mut self, is_cancelled: &'a AtomicBool) -> Self {
        self.is_cancelled = Some(is_cancelled);
        self
    }

    /// What the model's files say about its languages.
    pub fn facts(&self) -> Option<&TranslationFacts> {
        self.lm.translation.as_ref()
    }

    /// The most tokens of a text that the model reads or writes, where it has a limit.
    pub fn context(&self) -> Option<usize> {
        self.lm.model.config().context_limit()
    }

    /// Reads a source: its tokens, in the parts that are translated.
    ///
    /// # Errors
    ///
    /// [`InferenceError::SentenceTooLong`], or the tokenizer's.
    pub fn read(&self, source: &str) -> Result<Line> {
        self.reader.read(source)
    }

    /// Translates sources; the translations are in their order.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), [`InferenceError::NotFinite`], [`InferenceError::Device`], or the model's.
    pub fn translate<T: AsRef<str>>(&self, sources: &[T]) -> Result<Vec<Translation>> {
        let lines = sources.iter().map(|source| self.read(source.as_ref()));
        self.translate_lines(lines.collect::<Result<_>>()?)
    }

    /// [`translate`](Self::translate) for sources that were read.
    ///
    /// # Errors
    ///
    /// As [`translate`](Self::translate).
    pub fn translate_lines(&self, mut lines: Vec<Line>) -> Result<Vec<Translation>> {
        let mut found = self.searched(&lines.iter().flat_map(Line::parts).collect::<Vec<_>>())?;
        let mut again = Vec::new();
        for (index, part) in lines.iter_mut().flat_map(Line::parts_mut).enumerate() {
            if part.copied.is_empty() || self.keep_whole(part, &mut found[index])? {
                continue;
            }
            if let Some(plain) = self.reader.plain(part)? {
                *part = plain;
                again.push(index);
            }
        }
        if !again.is_empty() {
            let parts: Vec<&Part> = lines.iter().flat_map(Line::parts).collect();
            let of_again: Vec<&Part> = again.iter().map(|index| parts[*index]).collect();
            for (index, ended) in again.iter().zip(self.searched(&of_again)?) {
                found[*index] = ended;
            }
        }
        let mut found = found.into_iter();
        let translation = |line: &Line| {
            let of_line: Vec<Vec<Ended>> = found.by_ref().take(line.n_parts()).collect();
            self.translation(line, &of_line)
        };
        lines.iter().map(translation).collect()
    }

    /// Leaves out the candidates that do not have the name of each copied word once; `false`, and all stay, where none has them.
    fn keep_whole(&self, part: &Part, found: &mut Vec<Ended>) -> Result<bool> {
        let mut whole = Vec::with_capacity(found.len());
        for ended in found.iter() {
            let text = self.tokenizer.of_targets().decode(&self.without_end(&ended.ids))?;
            if copied::with_words(&text, &part.copied).1 {
                whole.push(ended.clone());
            }
        }
        let is_some = !whole.is_empty();
        if is_some {
            *found = whole;
        }
        Ok(is_some)
    }

    /// The candidates of every part, the best first.
    fn searched(&self, parts: &[&Part]) -> Result<Vec<Vec<Ended>>> {
        let searcher = Searcher::new(self.lm, self.tokenizer, &self.options, self.is_cancelled);
        // Texts of one length together, the longest first, so that little is padding and memory is largest at the beginning.
        let mut order: Vec<usize> = (0..parts.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(parts[*index].ids.len()));
        let mut found = vec![Vec::new(); parts.len()];
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let (batch, after) = rest.split_at(searcher.at_once(parts[*first]).min(rest.len()));
            for (index, ended) in self.searched_at_once(&searcher, parts, batch)? {
                found[index] = ended;
            }
            rest = after;
        }
        Ok(found)
    }

    /// The candidates of some parts. On the CPU each thread has a search of its own: threads that computed every small product together
    /// would often wait for each other.
    fn searched_at_once(
        &self,
        searcher: &Searcher<'_>,
        parts: &[&Part],
        batch: &[usize],
    ) -> Result<Vec<(usize, Vec<Ended>)>> {
        let groups = match taal_kernels::is_gpu(&self.lm.model.device()) {
            true => 1,
            false => rayon::current_num_threads().min(batch.len() / OF_A_THREAD).max(1),
        };
        let precision = Precision::current();
        let search = |group: usize| {
            // Each has sources of all lengths.
            let these: Vec<usize> = batch.iter().skip(group).step_by(groups).copied().collect();
            let sources: Vec<&Part> = these.iter().map(|index| parts[*index]).collect();
            let found = with_precision(precision, || searcher.search(&sources))?;
            Ok(these.into_iter().zip(found).collect::<Vec<_>>())
        };
        if groups == 1 {
            // A GPU has a queue per thread, so the work stays on this one.
            return search(0);
        }
        let found = (0..groups).into_par_iter().with_max_len(1).map(search);
        Ok(found.collect::<Result<Vec<_>>>()?.concat())
    }

    /// The translation of a line from the candidates of its parts.
    fn translation(&self, line: &Line, found: &[Vec<Ended>]) -> Result<Translation> {
        let best: Vec<Ended> = found
            .iter()
            .map(|ended| ended.first().cloned().unwrap_or_default())
            .collect();
        let texts = line.parts().zip(&best).map(|(part, ended)| self.text(part, &ended.ids));
        let texts: Vec<String> = texts.collect::<Result<_>>()?;
        let (logprob, tokens) = best.iter().fold((0.0, 0), |(logprob, tokens), ended| {
            (logprob + ended.logprob, tokens + ended.ids.len())
        });
        let is_complete = |ended: &Ended| ended.ids.last().is_some_and(|id| self.lm.end_ids.contains(id));
        let cut = line.parts().zip(&best).find(|(_, ended)| !is_complete(ended));
        let attention = match self.options.with_attention {
            true => self.attention(line, &best)?,
            false => None,
        };
        Ok(Translation {
            source: line.text.clone(),
            translation: joined(line, &texts),
            token_ids: best.iter().flat_map(|ended| self.without_end(&ended.ids)).collect(),
            score: match tokens {
                0 => 0.0,
                _ => self.options.beam.score(logprob, tokens),
            },
            logprob,
            tokens,
            is_complete: cut.is_none(),
            cut_by: cut.map(|(part, _)| limit(self.lm, &self.options, part).1),
            parts: line.n_parts(),
            unknown: line.n_unknown,
            source_tokens: line.n_tokens,
            source_words: line.words,
            read: line.as_read().map(str::to_owned),
            alternatives: self.alternatives(line, found, &texts)?,
            attention,
        })
    }

    /// The next best translations, each with another candidate of one part.
    fn alternatives(&self, line: &Line, found: &[Vec<Ended>], texts: &[String]) -> Result<Vec<Alternative>> {
        let others = |(index, ended): (usize, &'_ Vec<Ended>)| {
            let of_others = found.iter().enumerate().filter(move |(other, _)| *other != index);
            let of_others = of_others.filter_map(|(_, ended)| ended.first());
            let (logprob, tokens) = of_others.fold((0.0, 0), |(logprob, tokens), ended| {
                (logprob + ended.logprob, tokens + ended.ids.len())
            });
            let with_others = move |other: &Ended| {
                let (logprob, tokens) = (logprob + other.logprob, tokens + other.ids.len());
                (self.options.beam.score(logprob, tokens), logprob)
            };
            let scored = move |other: &Ended| (with_others(other), index, other.ids.clone());
            ended.iter().skip(1).map(scored).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = found.iter().enumerate().flat_map(others).collect();
        all.sort_by(|((left, _), ..), ((right, _), ..)| right.total_cmp(left));
        let parts: Vec<&Part> = line.parts().collect();
        let alternative = |((score, logprob), index, ids): ((f64, f64), usize, Vec<u32>)| {
            let mut texts = texts.to_vec();
            texts[index] = self.text(parts[index], &ids)?;
            Ok(Alternative {
                translation: joined(line, &texts),
                score,
                logprob,
            })
        };
        all.into_iter()
            .take(self.options.alternatives)
            .map(alternative)
            .collect()
    }

    /// The attention of each part, one after the other; `None` without words.
    fn attention(&self, line: &Line, best: &[Ended]) -> Result<Option<WordAttention>> {
        let mut best = best.iter();
        let mut all: Option<WordAttention> = None;
        for piece in &line.pieces {
            check_cancelled(self.is_cancelled)?;
            let found = match piece {
                Piece::Kept(text) => WordAttention::none(text),
                Piece::Part(part) => {
                    let ids = best.next().map(|ended| self.without_end(&ended.ids));
                    words::attention(self.lm, self.tokenizer, part, &ids.unwrap_or_default())?
                }
            };
            match &mut all {
                Some(all) => all.append(found),
                None => all = Some(found),
            }
        }
        Ok(all)
    }

    fn without_end(&self, ids: &[u32]) -> Vec<u32> {
        let is_end = |id: &u32| self.lm.end_ids.contains(id);
        ids.iter().copied().filter(|id| !is_end(id)).collect()
    }

    /// The text of a part's translation, in which unknown tokens and copied words are those of the source.
    fn text(&self, part: &Part, ids: &[u32]) -> Result<String> {
        let ids = self.without_end(ids);
        let text = self.tokenizer.of_targets().decode(&ids)?;
        let text = match self.tokenizer.unk_id() {
            Some(unknown) if ids.contains(&unknown) => {
                words::with_unknown_of_source(self.lm, self.tokenizer, part, &ids, text)?
            }
            _ => text,
        };
        let text = copied::with_words(text.trim(), &part.copied).0;
        Ok(part.manner.of_translation(text, part.source()))
    }
}

/// The texts of the parts of a line with what is kept between them.
fn joined(line: &Line, texts: &[String]) -> String {
    let mut texts = texts.iter();
    let text = |piece: &Piece| match piece {
        Piece::Kept(text) => text.clone(),
        Piece::Part(_) => texts.next().cloned().unwrap_or_default(),
    };
    line.pieces.iter().map(text).collect()
}

/// Translates sources with a model; the translations are in their order. See [`Translator`].
///
/// # Errors
///
/// As [`Translator::new`] and [`Translator::translate`].
pub fn translate<T: AsRef<str>>(
    lm: &LanguageModel,
    sources: &[T],
    options: &TranslateOptions,
) -> Result<Vec<Translation>> {
    Translator::new(lm, *options)?.translate(sources)
}

/// The mean loss of a model's own translations of sources, in nats per token: low where it is sure of them. Half of
/// [`OwnLoss`](taal_model::hugging_face::OwnLoss) is this figure of held-out sources. NaN without a source.
///
/// # Errors
///
/// As [`translate`].
pub fn own_loss<T: AsRef<str>>(lm: &LanguageModel, sources: &[T]) -> Result<f64> {
    let found = translate(lm, sources, &TranslateOptions::greedy())?;
    let nats: f64 = found.iter().map(|translation| -translation.logprob).sum();
    let tokens: usize = found.iter().map(|translation| translation.tokens).sum();
    Ok(nats / tokens as f64)
}

/// Whether a model translates.
///
/// # Errors
///
/// [`InferenceError::NotTranslator`].
pub fn check_translator(lm: &LanguageModel) -> Result<()> {
    let config = lm.model.config();
    if lm.model.is_encoder_decoder() {
        return match config.decoder_start {
            Some(_) => Ok(()),
            None => Err(InferenceError::NotTranslator {
                why: "its config.json names no decoder_start_token_id",
            }),
        };
    }
    let why = match (config.is_causal, &lm.translation) {
        (true, Some(_)) => return Ok(()),
        (true, None) => {
            "it continues texts, and no translation.json in its directory says which languages it was trained for"
        }
        (false, _) => "it is a masked language model, which fills gaps",
    };
    Err(InferenceError::NotTranslator { why })
}

/// Checks the languages that were asked for against those of a model; `false` where its files do not say.
///
/// # Errors
///
/// [`InferenceError::Setting`] for other languages, with a way out.
pub fn check_languages(facts: Option<&TranslationFacts>, from: Option<&str>, to: Option<&str>) -> Result<bool> {
    let Some(facts) = facts else { return Ok(false) };
    for (key, asked, own) in [("from", from, &facts.from), ("to", to, &facts.to)] {
        let is_other = |asked: &str| primary(asked) != primary(own);
        if let Some(asked) = asked.filter(|asked| is_other(asked)) {
            let TranslationFacts { from, to, .. } = facts;
            let detail = format!(
                "this model translates {from} to {to}, got {}; leave it out, or use a model that was trained for it",
                taal_store::excerpt(asked)
            );
            return Err(InferenceError::setting(key, detail));
        }
    }
    Ok(true)
}

/// The language of a tag such as `en-GB`.
fn primary(tag: &str) -> String {
    let first = tag.split(['-', '_']).next().unwrap_or_default();
    first.trim().to_lowercase()
}
