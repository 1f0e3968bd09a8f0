//! Training a char tokenizer: the distinct characters of the text in code point order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Plan, Trained, TrainingReport};
use crate::file::{Decoder, File, Model, PreTokenizer, Vocabulary};
use crate::{Error, Result, Unknown, patterns};

pub(super) fn train(plan: &Plan, chunks: impl Iterator<Item = Result<String>>, origin: &str) -> Result<Trained> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    let mut report = TrainingReport::default();
    for chunk in chunks {
        let chunk = chunk?;
        report.bytes += chunk.len() as u64;
        count_characters(&chunk, &plan.special_tokens, &mut counts);
    }
    if counts.is_empty() {
        return Err(Error::Empty {
            origin: origin.to_owned(),
            unit: "character",
        });
    }
    report.occurrences = counts.values().sum();
    report.distinct = counts.len() as u64;
    let kept = choose(plan, &counts)?;
    let mut tokens = plan.special_tokens.clone();
    // A special token of one character already has an id.
    tokens.extend(
        kept.into_iter()
            .map(String::from)
            .filter(|token| !plan.special_tokens.contains(token)),
    );
    let model = Model::WordLevel {
        vocab: Vocabulary(tokens),
        unk_token: plan.unknown_token(),
    };
    let pre_tokenizer = PreTokenizer::split(patterns::CHARACTERS);
    Ok((
        File::new(&plan.special_tokens, pre_tokenizer, None, Decoder::Fuse, model),
        report,
    ))
}

fn count_characters(text: &str, special_tokens: &[String], counts: &mut BTreeMap<char, u64>) {
    super::word_table::for_each_plain_part(text, special_tokens, &mut |part| {
        // Most text is ASCII, where an array is many times faster than a map.
        let mut ascii = [0_u64; 128];
        for character in part.chars() {
            match ascii.get_mut(character as usize) {
                Some(count) => *count += 1,
                None => *counts.entry(character).or_default() += 1,
            }
        }
        for (byte, count) in (0_u8..).zip(ascii).filter(|&(_, count)| count > 0) {
            *counts.entry(char::from(byte)).or_default() += count;
        }
    });
}

/// The characters of the vocabulary: all, or the most frequent ones if the others can become the unknown token.
fn choose(plan: &Plan, counts: &BTreeMap<char, u64>) -> Result<BTreeSet<char>> {
    if plan.unknown == Unknown::Error {
        let reason = format!("{} distinct characters; or set `unknown = token`", counts.len());
        plan.room(counts.len(), &reason)?;
        return Ok(counts.keys().copied().collect());
    }
    let room = plan.room(1, "at least one character")?;
    let mut by_count: Vec<(char, u64)> = counts.iter().map(|(&character, &count)| (character, count)).collect();
    by_count.retain(|&(_, count)| count >= plan.min_frequency);
    // The sort is stable, so characters of equal count stay in code point order.
    by_count.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    Ok(by_count
        .into_iter()
        .take(room)
        .map(|(character, _)| character)
        .collect())
}
