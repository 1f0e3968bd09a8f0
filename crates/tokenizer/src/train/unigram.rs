//! Training a unigram language model over pieces of words (Kudo 2018) with the library's expectation maximization.
//!
//! Unlike in SentencePiece, a space stays a space instead of becoming U+2581, so that texts with U+2581 are also restored exactly.

use std::collections::{BTreeMap, BTreeSet};

use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use super::subwords::for_each_piece;
use super::word_table::{LONG_WORD_BYTES, WordCost, WordCounts, WordTable};
use super::words::{compile, for_each_match};
use super::{Plan, Trained};
use crate::bytes::{fallback_byte, fallback_token};
use crate::file::{Decoder, File, Model, PostProcessor, PreTokenizer};
use crate::{Error, Result, patterns, special};

/// The memory of a word: the library builds a suffix array over all distinct words and a list of all their repeated substrings.
///
/// Words may take half of the memory, and candidate pieces the other half. The two are not needed at the same time, so training takes
/// a third to half of its limit; more words would make it slow, because it has one thread.
const COST: WordCost = WordCost {
    per_word: 120,
    per_byte: 110,
    per_long_byte: 0,
};

/// The memory of a candidate piece in the library's lists, hash tables and tries, of which two generations exist at a time.
const SEED_BYTES: u64 = 1100;

/// SentencePiece's number of candidate pieces.
const MAX_SEEDS: u64 = 1_000_000;

/// Longer words are split into pieces of this length.
const MAX_WORD_BYTES: usize = 128;

/// The most text in words of more than [`LONG_WORD_BYTES`] that is used. In text without spaces almost every such word is different,
/// and the library processes all of them about thirty times: 3 MB of DNA took 228 s. Ordinary text has far less of them.
const MAX_LONG_BYTES: usize = 512 << 10;

/// Characters of the byte tokens' names. They are always pieces, so that such a name in a text is spelled in characters and not
/// mistaken for a byte.
const BYTE_TOKEN_CHARACTERS: &str = "<>x0123456789ABCDEF";

/// The library adds 0.0001 for each character missing from its model; source: `UnigramTrainer::finalize`.
const MISSING_SCORE_STEP: f64 = 0.0001;

pub(super) fn train(plan: &Plan, chunks: impl Iterator<Item = Result<String>>, origin: &str) -> Result<Trained> {
    if let Some(token) = plan.special_tokens.iter().find(|token| fallback_byte(token).is_some()) {
        return Err(Error::setting(
            "special_tokens",
            "tokens that do not name a byte",
            format!("{token:?}"),
        ));
    }
    let least = BYTE_TOKEN_CHARACTERS.len() + 1;
    let room = plan.room(256 + least, &format!("256 bytes, {least} characters"))? - 256;
    let pattern = compile(patterns::SPACED)?;
    let mut table = WordTable::new(plan.word_memory_bytes / 2, COST);
    table.count(plan, chunks, |text, add| {
        for_each_match(&pattern, text, &mut |word| for_each_piece(word, MAX_WORD_BYTES, add));
    })?;
    let (mut counts, report) = table.finish(origin)?;
    counts.retain(|&(_, count)| count >= plan.min_frequency);
    let alphabet = choose_alphabet(&counts, room);
    let sentences = to_sentences(counts, &alphabet);
    let seeds = (plan.word_memory_bytes / 2 / SEED_BYTES).min(MAX_SEEDS);
    let pieces = learn(plan, sentences, &alphabet, room, seeds)?;
    let model = Model::Unigram {
        unk_id: (0..)
            .zip(&plan.special_tokens)
            .find(|(_, token)| is_unknown(token))
            .map(|(id, _)| id),
        vocab: vocabulary(plan, pieces),
        byte_fallback: true,
    };
    let template = PostProcessor::around(&plan.special_tokens, "<s>", "</s>");
    let pre_tokenizer = PreTokenizer::split(patterns::SPACED);
    Ok((
        File::new(
            &plan.special_tokens,
            pre_tokenizer,
            template,
            Decoder::bytes_then_text(),
            model,
        ),
        report,
    ))
}

fn is_unknown(token: &str) -> bool {
    special::UNKNOWN.contains(&token)
}

/// The most frequent characters, which may take half of the pieces; the others will be spelled in bytes.
fn choose_alphabet(counts: &WordCounts, room: usize) -> BTreeSet<char> {
    let mut characters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for character in word.chars() {
            *characters.entry(character).or_default() += count;
        }
    }
    // The library separates words by NUL.
    characters.remove(&'\0');
    let mut by_count: Vec<(char, u64)> = characters.into_iter().collect();
    // The sort is stable, so characters of equal count stay in code point order.
    by_count.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut alphabet: BTreeSet<char> = BYTE_TOKEN_CHARACTERS.chars().collect();
    // One piece stays free, because the library loops forever if the characters fill the vocabulary exactly.
    let limit = (room / 2).max(alphabet.len()).min(room - 1);
    for (character, _) in by_count {
        if alphabet.len() >= limit {
            break;
        }
        alphabet.insert(character);
    }
    alphabet
}

/// Words without the characters that will be spelled in bytes, with counts whose sums fit the library's 32 bits.
fn to_sentences(counts: WordCounts, alphabet: &BTreeSet<char>) -> Vec<(String, u32)> {
    let total: u64 = counts.iter().map(|(word, count)| word.len() as u64 * count).sum();
    let divisor = total / u64::from(u32::MAX / 2) + 1;
    let mut sentences: BTreeMap<String, u32> = BTreeMap::new();
    for (word, count) in counts {
        let count = u32::try_from(count.div_ceil(divisor)).unwrap_or(u32::MAX);
        for part in word
            .split(|character| !alphabet.contains(&character))
            .filter(|part| !part.is_empty())
        {
            match sentences.get_mut(part) {
                Some(known) => *known = known.saturating_add(count),
                None => {
                    sentences.insert(part.to_owned(), count);
                }
            }
        }
    }
    sample_long(sentences.into_iter().collect())
}

/// Keeps only every n-th of the long words if there are more than [`MAX_LONG_BYTES`] of them, and counts these n times.
fn sample_long(mut sentences: Vec<(String, u32)>) -> Vec<(String, u32)> {
    let is_long = |sentence: &str| sentence.len() > LONG_WORD_BYTES;
    let lengths = sentences.iter().map(|(sentence, _)| sentence.len());
    let long_bytes: usize = lengths.filter(|&length| length > LONG_WORD_BYTES).sum();
    if long_bytes <= MAX_LONG_BYTES {
        return sentences;
    }
    let every = long_bytes.div_ceil(MAX_LONG_BYTES);
    let characters = sentences
        .iter()
        .map(|(sentence, count)| sentence.len() as u64 * u64::from(*count));
    // The library's sums must stay in 32 bits.
    let most = u64::from(u32::MAX / 2) / characters.sum::<u64>().max(1);
    let times = u32::try_from(most.clamp(1, every as u64)).unwrap_or(1);
    let mut seen = 0;
    sentences.retain_mut(|(sentence, count)| {
        if !is_long(sentence) {
            return true;
        }
        *count = count.saturating_mul(times);
        seen += 1;
        (seen - 1) % every == 0
    });
    sentences
}

/// Runs the library's trainer on one thread: its floating-point sums depend on how words are distributed over threads.
fn learn(
    plan: &Plan,
    sentences: Vec<(String, u32)>,
    alphabet: &BTreeSet<char>,
    room: usize,
    seeds: u64,
) -> Result<Vec<(String, f64)>> {
    if sentences.is_empty() {
        // The library needs some text; without it, all characters are equally likely.
        return Ok(alphabet
            .iter()
            .map(|&character| (String::from(character), -1.0))
            .collect());
    }
    let library = |detail: String| Error::Library {
        action: "be trained",
        detail,
    };
    let mut builder = UnigramTrainer::builder();
    builder
        .show_progress(false)
        .vocab_size(room as u32)
        .seed_size(seeds as usize);
    builder.initial_alphabet(alphabet.iter().copied().collect());
    let trainer = builder.build().map_err(|error| library(error.to_string()))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .map_err(|error| library(error.to_string()))?;
    let mut model = Unigram::default();
    // The trainer panics on unexpected numbers.
    let trained = crate::tokenizer::guarded(|| pool.install(|| trainer.do_train(sentences, &mut model)));
    trained.map_err(library)?.map_err(|error| library(error.to_string()))?;
    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    settle_degenerate_scores(&mut pieces);
    settle_missing_characters(&mut pieces);
    pieces.retain(|(piece, _)| fallback_byte(piece).is_none() && !plan.special_tokens.contains(piece));
    pieces.sort_by(|(piece, score), (other, other_score)| other_score.total_cmp(score).then_with(|| piece.cmp(other)));
    // Characters are never dropped, so that only those outside the alphabet are spelled in bytes.
    let mut surplus = pieces.len().saturating_sub(room);
    for index in (0..pieces.len()).rev() {
        if surplus > 0 && pieces[index].0.chars().nth(1).is_some() {
            pieces.remove(index);
            surplus -= 1;
        }
    }
    Ok(pieces)
}

/// Replaces infinite scores, which the library gives for very small texts whose model has no piece left, by one below all others.
fn settle_degenerate_scores(pieces: &mut [(String, f64)]) {
    let lowest = pieces
        .iter()
        .map(|(_, score)| *score)
        .filter(|score| score.is_finite())
        .fold(0.0, f64::min);
    for (_, score) in pieces.iter_mut().filter(|(_, score)| !score.is_finite()) {
        *score = lowest - 1.0;
    }
}

/// Reassigns the scores of characters missing from the model in code point order.
///
/// The library assigns `lowest`, `lowest + 0.0001`, ... in the random order of a hash set, the only randomness here.
fn settle_missing_characters(pieces: &mut [(String, f64)]) {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let mut penalty = 0.0;
    let mut handed_out = BTreeSet::new();
    for _ in 0..pieces.len() {
        handed_out.insert((lowest + penalty).to_bits());
        penalty += MISSING_SCORE_STEP;
    }
    let is_missing =
        |(piece, score): &(String, f64)| piece.chars().nth(1).is_none() && handed_out.contains(&score.to_bits());
    let mut missing: Vec<String> = pieces
        .iter()
        .filter(|piece| is_missing(piece))
        .map(|(piece, _)| piece.clone())
        .collect();
    missing.sort_unstable();
    let mut scores: Vec<f64> = pieces
        .iter()
        .filter(|piece| is_missing(piece))
        .map(|(_, score)| *score)
        .collect();
    scores.sort_by(f64::total_cmp);
    let places: Vec<usize> = (0..pieces.len()).filter(|&index| is_missing(&pieces[index])).collect();
    for (place, (piece, score)) in places.into_iter().zip(missing.into_iter().zip(scores)) {
        pieces[place] = (piece, score);
    }
}

/// Special tokens, bytes, then pieces, with their scores.
fn vocabulary(plan: &Plan, pieces: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let lowest = pieces.iter().map(|(_, score)| *score).fold(0.0, f64::min);
    // A byte token must score below its own name spelled in six characters.
    let byte_score = round(8.0 * lowest - 64.0);
    let special = plan.special_tokens.iter().map(|token| (token.clone(), 0.0));
    let bytes = (0..=255).map(|byte| (fallback_token(byte), byte_score));
    let pieces = pieces.into_iter().map(|(piece, score)| (piece, round(score)));
    special.chain(bytes).chain(pieces).collect()
}

/// Nine decimals, which every JSON parser reads back exactly, even imprecise ones.
fn round(score: f64) -> f64 {
    (score * 1e9).round() / 1e9
}
