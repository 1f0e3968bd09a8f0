//! Attention between words: what each word of a translation attends to in its source.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use serde::Serialize;
use taal_model::{Capture, ForwardOptions};
use taal_tokenizer::Tokenizer;

use super::copied::with_words;
use super::source::Part;
use crate::probe::{Probe, Rows, to_host};
use crate::{LanguageModel, Result};

/// What each word of a translation attends to among the words of its source: the mean over the heads of the last layer but one, whose
/// weights agree best with alignments by hand (Garg et al. 2019); the mean over the tokens of the word, and the sum over those of the
/// word of the source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WordAttention {
    /// Words of the source, between white space.
    pub source: Vec<String>,
    /// Words of the translation.
    pub translation: Vec<String>,
    /// A row per word of the translation, a number per word of the source. A row sums to at most 1; the rest is attention to other
    /// tokens, such as the one that ends the source. Sentences that were translated alone attend to nothing of the others.
    pub weights: Vec<Vec<f32>>,
}

impl WordAttention {
    /// Of a text that is in the translation as it is in the source.
    pub(super) fn none(text: &str) -> Self {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Self {
            weights: vec![vec![0.0; words.len()]; words.len()],
            translation: words.clone(),
            source: words,
        }
    }

    /// Adds the words of the next part, which attend to their part only.
    pub(super) fn append(&mut self, next: Self) {
        let (before, after) = (self.source.len(), next.source.len());
        for row in &mut self.weights {
            row.resize(before + after, 0.0);
        }
        let moved = next.weights.into_iter().map(|row| [vec![0.0; before], row].concat());
        self.weights.extend(moved);
        self.source.extend(next.source);
        self.translation.extend(next.translation);
    }
}

/// The attention between the words of a part and its translation, `ids` without those that end it.
pub(super) fn attention(lm: &LanguageModel, tokenizer: &Tokenizer, part: &Part, ids: &[u32]) -> Result<WordAttention> {
    let source = part.source();
    let of_source = words_of(source);
    let (text, spans) = spelled(tokenizer.of_targets(), ids)?;
    let of_text = words_of(&text);
    let weights = token_weights(lm, part, ids)?;
    let columns: Vec<Option<usize>> = source_spans(tokenizer, part)?
        .into_iter()
        .map(|span| {
            // Of a prompt only the source counts.
            let (start, end) = (span.start.max(part.source.start), span.end.min(part.source.end));
            let first = part.source.start;
            (start <= end)
                .then(|| word_at(source, &of_source, start - first..end - first))
                .flatten()
        })
        .collect();
    let mut rows = vec![vec![0.0; of_source.len()]; of_text.len()];
    let mut counts = vec![0_usize; of_text.len()];
    for (span, weights) in spans.into_iter().zip(&weights) {
        let Some(row) = word_at(&text, &of_text, span) else {
            continue;
        };
        counts[row] += 1;
        for (column, weight) in columns.iter().zip(&weights[part.before..]) {
            if let Some(column) = column {
                rows[row][*column] += weight;
            }
        }
    }
    for (row, count) in rows.iter_mut().zip(counts) {
        row.iter_mut().for_each(|weight| *weight /= count.max(1) as f32);
    }
    let shown = with_unknown_of_source(lm, tokenizer, part, ids, text)?;
    let word = |text: &str, place: Range<usize>| with_words(&text[place], &part.copied).0;
    let of_shown = words_of(&shown).into_iter().enumerate();
    let written = of_shown.map(|(index, place)| {
        let manner = match index {
            0 => part.manner,
            _ => part.manner.after_first(),
        };
        manner.of_translation(word(&shown, place), source)
    });
    Ok(WordAttention {
        translation: written.collect(),
        source: of_source.into_iter().map(|place| word(source, place)).collect(),
        weights: rows,
    })
}

/// The text of a translation with the unknown tokens replaced, each by the text of the source's unknown token that it attends to most.
pub(super) fn with_unknown_of_source(
    lm: &LanguageModel,
    tokenizer: &Tokenizer,
    part: &Part,
    ids: &[u32],
    text: String,
) -> Result<String> {
    let Some(unknown) = tokenizer.unk_id().filter(|unknown| ids.contains(unknown)) else {
        return Ok(text);
    };
    let places = (0..ids.len()).filter(|place| ids[*place] == unknown);
    let name = tokenizer.of_targets().decode(&[unknown])?;
    let name = name.trim();
    let Some(spans) = tokenizer.spans(&part.text, part.inner()) else {
        return Ok(text);
    };
    // A text of other tokens that reads like the unknown token is left alone.
    if part.unknown.is_empty() || name.is_empty() || text.matches(name).count() != places.clone().count() {
        return Ok(text);
    }
    let weights = token_weights(lm, part, ids)?;
    let mut pieces = text.split(name);
    let mut replaced = pieces.next().unwrap_or_default().to_owned();
    for (place, piece) in places.zip(pieces) {
        let weight = |column: &&usize| weights[place][**column];
        let most = part.unknown.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)));
        let span = most.and_then(|column| spans.get(column - part.before));
        replaced.push_str(span.map_or("", |span| part.text[span.clone()].trim()));
        replaced.push_str(piece);
    }
    Ok(replaced)
}

impl Part {
    /// The ids of the text, without special ones around it.
    fn inner(&self) -> &[u32] {
        &self.ids[self.before..][..self.n_tokens]
    }
}

/// What each token of a translation attends to among all ids of its source, by the position that predicts it.
fn token_weights(lm: &LanguageModel, part: &Part, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
    let Some((_, before_last)) = ids.split_last() else {
        return Ok(Vec::new());
    };
    let model = &lm.model;
    let capture = Capture {
        attention_weights: true,
        ..Capture::default()
    };
    let columns = part.ids.len();
    let weights = Probe::run(&model.device(), || {
        let probe = Probe::new(model);
        let (layers, first_row) = match model.is_encoder_decoder() {
            true => {
                let own: Vec<i32> = part.ids.iter().map(|id| *id as i32).collect();
                let source = Tensor::<2, Int>::from_data(TensorData::new(own, [1, columns]), &model.device());
                let memory = model.encode(source, &[columns], None)?;
                let start = model.config().decoder_start.into_iter();
                let read: Vec<u32> = start.chain(before_last.iter().copied()).collect();
                let options = ForwardOptions {
                    memory: Some(&memory),
                    capture,
                    ..ForwardOptions::default()
                };
                (probe.states(&Rows::new(&read, read.len()), options)?.cross_weights, 0)
            }
            false => {
                let read = [&part.ids[..], before_last].concat();
                let options = ForwardOptions {
                    capture,
                    ..ForwardOptions::default()
                };
                let output = probe.states(&Rows::new(&read, read.len()), options)?;
                (output.attention_weights, columns - 1)
            }
        };
        // A recurrent network has no attention.
        let Some(of_layer) = layers.get(layers.len().saturating_sub(2)) else {
            return Ok(vec![0.0; ids.len() * columns]);
        };
        let over_heads = of_layer.clone().mean_dim(1); // [1, 1, rows, columns]
        to_host(over_heads.narrow(2, first_row, ids.len()).narrow(3, 0, columns))
    })?;
    Ok(weights.chunks(columns).map(<[f32]>::to_vec).collect())
}

/// The part of the text that each token of the source is.
fn source_spans(tokenizer: &Tokenizer, part: &Part) -> Result<Vec<Range<usize>>> {
    if let Some(spans) = tokenizer.spans(&part.text, part.inner()) {
        return Ok(spans);
    }
    let (text, spans) = spelled(tokenizer, part.inner())?;
    // A text that decoding changes has other places.
    Ok(if text == part.text { spans } else { Vec::new() })
}

/// The text of ids, and the part of it that each of them is. A token that ends in the middle of a character is empty, where the character
/// begins.
fn spelled(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(String, Vec<Range<usize>>)> {
    let (mut text, mut spans) = (String::new(), Vec::with_capacity(ids.len()));
    let mut stream = tokenizer.decode_stream();
    for id in ids {
        let start = text.len();
        text.extend(stream.push(*id)?);
        spans.push(start..text.len());
    }
    text.push_str(&stream.finish()?);
    Ok((text, spans))
}

/// The words of a text, between white space.
fn words_of(text: &str) -> Vec<Range<usize>> {
    let start_of = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let words = text.split_whitespace();
    words.map(|word| start_of(word)..start_of(word) + word.len()).collect()
}

/// The word that a part of a text belongs to: that of its first letter.
fn word_at(text: &str, words: &[Range<usize>], span: Range<usize>) -> Option<usize> {
    let piece = &text[span.clone()];
    let spaces = piece.len() - piece.trim_start().len();
    // Of white space alone nothing is attended to; an empty part is where a character begins.
    if spaces == piece.len() && !piece.is_empty() {
        return None;
    }
    let place = span.start + spaces;
    words.iter().position(|word| word.contains(&place))
}

#[cfg(test)]
mod tests {
    use super::{word_at, words_of};

    #[test]
    fn a_token_belongs_to_the_word_of_its_first_letter() {
        let text = "De kat, ja.";
        let words = words_of(text);
        assert_eq!(words, [0..2, 3..7, 8..11]);
        for (span, word) in [
            (0..2, Some(0)),
            (2..6, Some(1)),
            (6..7, Some(1)),
            (7..8, None),
            (7..11, Some(2)),
            (8..8, Some(2)),
        ] {
            assert_eq!(word_at(text, &words, span.clone()), word, "{span:?}");
        }
    }
}
