//! Training byte-level BPE and WordPiece, which use the same algorithm with different alphabets.

use std::collections::{BTreeMap, HashMap};

use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};

use super::merges::{Corpus, Learner};
use super::word_table::{WordCost, WordCounts, WordTable};
use super::words::{compile, for_each_match};
use super::{Plan, Trained};
use crate::bytes::byte_character;
use crate::file::{Decoder, File, Model, PostProcessor, PreTokenizer, Vocabulary};
use crate::{Error, Kind, Result, Unknown, patterns};

/// The memory of a word while merges are learned: its symbols (4 bytes each), their entries in the lists of pairs (4 bytes each,
/// twice for the growth of the lists, and again for the pairs that merges create), and its entries in two lists. A long piece has
/// unique pairs after a few merges, each with an entry, a list and a place in the queue.
const COST: WordCost = WordCost {
    per_word: 64,
    per_byte: 28,
    per_long_byte: 200,
};

/// Longer words add nothing but would take quadratic time; they are split into pieces of this length.
const MAX_WORD_BYTES: usize = 256;

/// BERT's limit: a word of more characters is unknown as a whole.
const MAX_WORDPIECE_CHARACTERS: usize = 100;

/// The marker of a piece that continues a word.
const CONTINUATION: &str = "##";

pub(super) fn train_bpe(plan: &Plan, chunks: impl Iterator<Item = Result<String>>, origin: &str) -> Result<Trained> {
    plan.room(256, "256 bytes")?;
    let mut alphabet: Vec<(char, u8)> = (0..=255).map(|byte| (byte_character(byte), byte)).collect();
    alphabet.sort_unstable();
    let mut tokens = plan.special_tokens.clone();
    let mut symbols = [0_u32; 256];
    for (character, byte) in alphabet {
        let token = String::from(character);
        if plan.special_tokens.contains(&token) {
            let expected = "tokens that are not a character of the byte alphabet";
            return Err(Error::setting("special_tokens", expected, format!("{token:?}")));
        }
        symbols[usize::from(byte)] = tokens.len() as u32;
        tokens.push(token);
    }
    let pattern = compile(patterns::GPT2)?;
    let mut table = WordTable::new(plan.word_memory_bytes, COST);
    table.count(plan, chunks, |text, add| {
        for_each_match(&pattern, text, &mut |word| for_each_piece(word, MAX_WORD_BYTES, add));
    })?;
    let (counts, report) = table.finish(origin)?;
    let mut corpus = Corpus::with_capacity(counts.len(), total_bytes(&counts));
    for (word, count) in counts {
        corpus.push(word.bytes().map(|byte| symbols[usize::from(byte)]), count);
    }
    let reserved = plan.special_tokens.len();
    let merges = Learner::new(corpus, &mut tokens, reserved, "").run(plan.vocab_size, plan.min_frequency);
    let model = Model::bpe(tokens, merges, false);
    let file = File::new(
        &plan.special_tokens,
        PreTokenizer::byte_level(),
        None,
        Decoder::byte_level(),
        model,
    );
    Ok((file, report))
}

pub(super) fn train_wordpiece(
    plan: &Plan,
    chunks: impl Iterator<Item = Result<String>>,
    origin: &str,
) -> Result<Trained> {
    let mut table = WordTable::new(plan.word_memory_bytes, COST);
    table.count(plan, chunks, |text, add| {
        for_each_bert_word(text, &mut |word| {
            if word.len() <= MAX_WORDPIECE_CHARACTERS || word.chars().count() <= MAX_WORDPIECE_CHARACTERS {
                add(word);
            }
        });
    })?;
    let (counts, report) = table.finish(origin).map_err(|error| match error {
        Error::Empty { origin, unit: "word" } => Error::NoWord {
            origin,
            kind: Kind::WordPiece,
            limit_characters: MAX_WORDPIECE_CHARACTERS,
        },
        other => other,
    })?;
    let mut tokens = plan.special_tokens.clone();
    let symbols = wordpiece_symbols(plan, &counts, &mut tokens)?;
    let mut corpus = Corpus::with_capacity(counts.len(), total_bytes(&counts));
    for (word, count) in counts {
        let ids = word
            .chars()
            .enumerate()
            .map(|(index, character)| symbols.get(&(character, index > 0)).copied());
        // A word with a character outside the vocabulary is unknown as a whole, so there is nothing to learn from it.
        if let Some(ids) = ids.collect::<Option<Vec<u32>>>() {
            corpus.push(ids.into_iter(), count);
        }
    }
    let reserved = plan.special_tokens.len();
    Learner::new(corpus, &mut tokens, reserved, CONTINUATION).run(plan.vocab_size, plan.min_frequency);
    let model = Model::WordPiece {
        unk_token: plan.unknown_token(),
        continuing_subword_prefix: CONTINUATION,
        max_input_chars_per_word: MAX_WORDPIECE_CHARACTERS,
        vocab: Vocabulary(tokens),
    };
    let template = PostProcessor::around(&plan.special_tokens, "[CLS]", "[SEP]");
    // The library's clean-up would rewrite texts (" do not" to " don't"), so it is off.
    let decoder = Decoder::WordPiece {
        prefix: CONTINUATION,
        cleanup: false,
    };
    Ok((
        File::new(&plan.special_tokens, PreTokenizer::Bert, template, decoder, model),
        report,
    ))
}

fn total_bytes(counts: &WordCounts) -> usize {
    counts.iter().map(|(word, _)| word.len()).sum()
}

/// Calls `visit` with parts of at most `limit_bytes`, cut between characters.
pub(super) fn for_each_piece(word: &str, limit_bytes: usize, visit: &mut dyn FnMut(&str)) {
    let mut rest = word;
    while rest.len() > limit_bytes {
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(limit_bytes));
        visit(piece);
        rest = tail;
    }
    visit(rest);
}

/// Calls `visit` with the words that BERT's pre-tokenizer finds; whitespace is dropped and punctuation marks are separate words.
fn for_each_bert_word(text: &str, visit: &mut dyn FnMut(&str)) {
    for word in text.split_whitespace() {
        if word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            visit(word);
            continue;
        }
        let mut words = PreTokenizedString::from(word);
        if BertPreTokenizer.pre_tokenize(&mut words).is_ok() {
            for (word, _, _) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
                visit(word);
            }
        }
    }
}

/// Ids of characters at the start of a word (`false`) and inside it (`true`).
type Symbols = HashMap<(char, bool), u32>;

/// Gives ids to the most frequent characters: alone, and with the continuation marker where they occur inside a word.
///
/// Where rarer characters can become the unknown token, single characters take at most half of the vocabulary.
fn wordpiece_symbols(plan: &Plan, counts: &WordCounts, tokens: &mut Vec<String>) -> Result<Symbols> {
    let mut characters: BTreeMap<char, (u64, bool)> = BTreeMap::new();
    for (word, count) in counts {
        for (index, character) in word.chars().enumerate() {
            let (total, is_inside) = characters.entry(character).or_default();
            *total += count;
            *is_inside |= index > 0;
        }
    }
    let symbols_of = |is_inside: bool| 1 + usize::from(is_inside);
    let all: usize = characters.values().map(|&(_, is_inside)| symbols_of(is_inside)).sum();
    let limit = match plan.unknown {
        Unknown::Error => {
            let reason = format!("{all} for the text's characters; or set `unknown = token`");
            plan.room(all, &reason)?
        }
        Unknown::Token => (plan.room(2, "two for a character")? / 2).max(2),
    };
    let mut by_count: Vec<(char, u64, bool)> = characters
        .into_iter()
        .map(|(character, (count, is_inside))| (character, count, is_inside))
        .collect();
    // The sort is stable, so characters of equal count stay in code point order.
    by_count.sort_by_key(|&(_, count, _)| std::cmp::Reverse(count));
    let mut used = 0;
    by_count.retain(|&(_, _, is_inside)| {
        used += symbols_of(is_inside);
        used <= limit
    });
    by_count.sort_unstable();
    let mut symbols = Symbols::new();
    for is_continuation in [false, true] {
        for &(character, _, is_inside) in &by_count {
            if is_inside || !is_continuation {
                symbols.insert((character, is_continuation), tokens.len() as u32);
                let prefix = if is_continuation { CONTINUATION } else { "" };
                tokens.push(format!("{prefix}{character}"));
            }
        }
    }
    Ok(symbols)
}
